"""Spectra, paths and rotation shares on games that are solved by hand, and against brute force."""

import dataclasses
import functools
import math
from typing import Any

import haste
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.flatten_util import ravel_pytree
from measuring import affine, start, state_of
from small_games import BILINEAR, DIRAC, RING, SMALL, critic, game_of, new_key, point, still

from gandyn.gan.game import Game
from gandyn.gan.state import Batch, Players, State, Stream
from gandyn.gan.step import step
from gandyn.truth import gradients, jacobian

LINEAR = dataclasses.replace(BILINEAR, gradient_norm="both")
"""xi = (e theta - psi, e psi + theta), e the weight of the other's gradient norm."""
SIMULTANEOUS = dataclasses.replace(DIRAC, rule="simultaneous")
stepper = jax.jit(step)


@pytest.fixture(scope="module", autouse=True)
def _in_haste():
    with haste.everywhere():
        yield


def at(game: Game, theta: Any = (0.0, 0.0), psi: Any = (0.0, 0.0)) -> State:
    return state_of(game, point(theta), critic(psi))


def assert_same(got: np.ndarray, want: Any, tolerance: float) -> None:
    """The same numbers, however ordered: each expected one takes the nearest that is left."""
    left = list(got)
    for value in np.asarray(want, complex):
        left.sort(key=lambda other: abs(other - value))
        assert abs(left[0] - value) < tolerance, (got, want)
        left.pop(0)
    assert not left, (got, want)


def twice(values: Any) -> np.ndarray:
    return np.repeat(np.asarray(values, complex), 2)


def pair(first: complex) -> list[complex]:
    """Of -g/2 +- sqrt(g^2/4 - 1/4), from one of them: the other one, too (their product is 1/4)."""
    return [first, 0.25 / first]


# ---- the flow's spectrum: Mescheder et al. 2018

FLOW: dict[str, tuple[dict[str, Any], dict[str, float], Any]] = {
    "non-saturating": ({}, {}, [0.5j, -0.5j]),
    "minimax": ({"loss": "minimax"}, {}, [0.5j, -0.5j]),
    "relativistic": ({"loss": "relativistic"}, {}, [0.5j, -0.5j]),
    "Wasserstein": ({"loss": "wasserstein"}, {}, [1j, -1j]),
    "R1": ({"penalties": ("r1",)}, {"r1_weight": 0.6}, pair(-0.3 + 0.4j)),
    "R1, overdamped": ({"penalties": ("r1",)}, {"r1_weight": 1.3}, pair(-0.65 + math.sqrt(0.65**2 - 0.25))),
    "R1 + R2": ({"penalties": ("r1", "r2")}, {"r1_weight": 0.3, "r2_weight": 0.3}, pair(-0.3 + 0.4j)),
    "linear": ({"loss": "wasserstein", "gradient_norm": "both"}, {"gradient_norm_weight": 0.3}, [-0.3 + 1j, -0.3 - 1j]),
}


# Quick: one of each kind.
_QUICK = ("non-saturating", "Wasserstein", "R1, overdamped")


@pytest.mark.parametrize("case", [pytest.param(n, marks=[pytest.mark.slow] * (n not in _QUICK)) for n in FLOW])
def test_dirac_spectrum(case):
    fields, given, want = FLOW[case]
    game = game_of(dataclasses.replace(DIRAC, **fields), **given)
    got = jacobian.spectrum(game, at(game), still(game))
    assert_same(got, twice(want), 1e-6)
    assert jacobian.max_real(got) == pytest.approx(np.max(np.real(want)), abs=1e-6)
    assert np.all(np.diff(np.real(got)) < 1e-6)


def test_dirac_spectrum_under_instance_noise():
    """-s2/4 +- sqrt(s2^2/16 - 1/4); 4,096 Sobol nodes know s2 to about 1e-3 of it."""
    config = dataclasses.replace(DIRAC, instance_noise="constant")
    nodes = jax.jit(functools.partial(gradients.node_batch, num_nodes=4096))
    for variance in (1.0, 3.0):
        game = game_of(config, noise_std=math.sqrt(variance))
        state = at(game)
        got = jacobian.spectrum(game, state, nodes(game, state, new_key(7)))
        assert_same(got, twice(pair(-variance / 4 + np.emath.sqrt(variance**2 / 16 - 0.25))), 5e-3)


def test_a_state_that_is_not_finite_has_no_spectrum():
    game = game_of(dataclasses.replace(DIRAC, penalties=("r1",)), r1_weight=1.3)
    got = jacobian.spectrum(game, at(game, psi=(np.nan, 0)), still(game))
    assert got.shape == (4,)
    assert np.all(np.isnan(got))
    assert math.isnan(jacobian.spectral_radius(got))
    assert math.isnan(jacobian.max_real(got))


# ---- the update map's


def updates(game: Game) -> np.ndarray:
    state = at(game)
    if game.config.rule == "optimistic":
        state = stepper(game, state)  # what the rule remembers is then a gradient
    return jacobian.update_spectrum(game, state)


@pytest.mark.parametrize("h", [0.1, 1.0])
def test_simultaneous_dirac_diverges(h):
    got = updates(game_of(SIMULTANEOUS, rate=h))
    assert_same(got, twice([1 + 0.5j * h, 1 - 0.5j * h]), 1e-6)
    assert jacobian.spectral_radius(got) == pytest.approx(math.hypot(1, h / 2), abs=1e-6)


def test_alternating_dirac_stays_on_its_circle_up_to_step_4():
    # Towards h = 4 the two eigenvalues meet at -1, where rounding counts under a root.
    for h, tolerance in ((0.5, 1e-6), (2.0, 1e-6), (3.9, 5e-6)):
        got = updates(game_of(DIRAC, rate=h))
        np.testing.assert_allclose(np.abs(got), 1, atol=tolerance)
        assert_same(got, twice(np.linalg.eigvals([[1, h / 2], [-h / 2, 1 - h * h / 4]])), 2 * tolerance)
    assert jacobian.spectral_radius(updates(game_of(DIRAC, rate=4.1))) > 1.1


@pytest.mark.slow
def test_consensus_dirac():
    """Consensus (weight c) adds -c/4 to the flow: 1 + h (-c/4 +- i/2)."""
    config = dataclasses.replace(DIRAC, rule="consensus")
    got = updates(game_of(config, rate=0.5, adjustment=0.4))
    assert_same(got, twice([1 + 0.5 * (-0.1 + 0.5j), 1 + 0.5 * (-0.1 - 0.5j)]), 1e-6)


@pytest.mark.parametrize(
    ("rule", "h", "want"),
    [("simultaneous", 0.6, math.sqrt(1.36)), ("extragradient", 0.6, 0.877268), ("optimistic", 0.1, 0.994936)],
)
def test_bilinear_contractions(rule, h, want):
    got = updates(game_of(dataclasses.replace(BILINEAR, rule=rule), rate=h))
    assert jacobian.spectral_radius(got) == pytest.approx(want, abs=1e-6)


@pytest.mark.slow
def test_lookahead_over_its_period():
    """Two simultaneous steps multiply by (1 + i h)^2; of the way there, half is kept."""
    game = game_of(dataclasses.replace(BILINEAR, rule="simultaneous", lookahead=2), rate=0.3)
    state = at(game)
    state = state.replace(memory=state.memory._replace(slow=(state.params,)))
    got = jacobian.update_spectrum(game, state, num_steps=2)
    moved = 1 + 0.5 * ((1 + 0.3j) ** 2 - 1)
    # The fast weights follow from the slow ones alone: as many zeros again.
    assert_same(got, [*twice([moved, moved.conjugate()]), 0, 0, 0, 0], 1e-6)


def test_adam_with_its_moments():
    """The simultaneous bilinear game under Adam, by differences of a float64 transcription of all six vectors.

    D's bias feels nothing under Wasserstein, so its gradient and its moments are zero: eigenvalues 1, beta1, beta2.
    """
    config = dataclasses.replace(
        BILINEAR, disc_net="mlp", disc_depth=0, rule="simultaneous", gen_optimizer="adam", disc_optimizer="adam"
    )
    b1, b2, h, eps = 0.5, 0.9, 0.05, 1e-3
    adam = {"beta1": b1, "beta2": b2, "eps": eps}
    both = {f"{name}_{player}": value for name, value in adam.items() for player in Players._fields}
    game = game_of(config, rate=h, **both)
    rows = np.array([(1.0, 0.5), (-0.7, 0.3), (0.3, -0.2), (-0.4, 0.5), (0.6, 0.1), (0.2, 0.7)])
    disc = [affine(row.reshape(2, 1), [0.0]) for row in rows[1::2]]
    state = state_of(game, point(rows[0]), disc[0])
    count = jnp.asarray(2, jnp.int32)
    moments = Players(
        state.opt_state.gen[0]._replace(count=count, mu=point(rows[2]), nu=point(rows[4])),
        state.opt_state.disc[0]._replace(count=count, mu=disc[1], nu=disc[2]),
    )
    opt_state = Players(*((own, *rest[1:]) for own, rest in zip(moments, state.opt_state)))
    state = state.replace(opt_state=opt_state)

    def move(w):
        theta, psi, m_theta, m_psi, v_theta, v_psi = w.reshape(6, 2)
        out = []
        for x, g, m, v in ((theta, -psi, m_theta, v_theta), (psi, theta, m_psi, v_psi)):
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            out.append((x - h * m / (1 - b1**3) / (np.sqrt(v / (1 - b2**3)) + eps), m, v))
        (theta, m_theta, v_theta), (psi, m_psi, v_psi) = out
        return np.concatenate([theta, psi, m_theta, m_psi, v_theta, v_psi])

    here, unit = rows.ravel(), 1e-6 * np.eye(12)
    matrix = np.stack([(move(here + u) - move(here - u)) / 2e-6 for u in unit], axis=1)
    got = jacobian.update_spectrum(game, state)
    assert_same(got, [*np.linalg.eigvals(matrix), 1, b1, b2], 1e-5)


# ---- nets

MIDDLE = dataclasses.replace(
    SMALL, gen_width=14, gen_depth=2, gen_activation="tanh", disc_net="mlp", disc_width=14, disc_activation="tanh"
)


@functools.cache
def middle() -> tuple[Game, State, Batch]:
    game = game_of(MIDDLE, RING, rate=0.2)
    state = start(game)
    for _ in range(100):
        state = stepper(game, state)
    return game, state, gradients.node_batch(game, state, new_key(7), 256)


@functools.cache
def small() -> tuple[Game, State, Batch]:
    """At its start, and on the minibatch of its next step."""
    game = game_of(SMALL, RING, rate=0.3)
    state = start(game)
    step_key = jax.random.fold_in(jax.random.fold_in(state.key, Stream.TRAIN), state.step)
    return game, state, jax.jit(lambda game, state, key: game.draw(state, key))(game, state, step_key)


@pytest.mark.slow
def test_a_simultaneous_step_is_one_plus_h_times_the_flow():
    game, state, batch = small()
    flow = jacobian.spectrum(game, state, batch)
    assert len(flow) == 12
    assert np.abs(np.imag(flow)).max() > 0.1
    assert_same(jacobian.update_spectrum(game, state), 1 + 0.3 * flow, 2e-5)


def dense(game: Game, state: State, batch: Batch) -> np.ndarray:
    size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    return jacobian._matrix(functools.partial(jacobian._flow_products, game, state, batch), size)


def test_the_matrix_is_that_of_finite_differences():
    game, state, batch = small()
    xi = jax.jit(lambda params: game.field(params, state.stats, batch).gradient)
    here, unravel = ravel_pytree(state.params)
    v = jax.random.normal(new_key(3), here.shape)
    ahead, behind = (np.asarray(ravel_pytree(xi(unravel(here + s * 1e-3 * v)))[0]) for s in (1, -1))
    want = -(ahead - behind) / 2e-3
    got = dense(game, state, batch) @ np.asarray(v)
    assert np.linalg.norm(got - want) < 3e-3 * np.linalg.norm(want)


def test_extremes_of_a_known_matrix():
    """40 rotations damped by -0.01 ... -0.4 at angular speeds 1 ... 40; nothing is rounded to float32 but v."""
    blocks = [np.array([[-0.01 * k, k], [-k, -0.01 * k]]) for k in range(1, 41)]
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(80, 80)))[0]
    matrix = turn @ scipy.linalg.block_diag(*blocks) @ turn.T
    products = lambda v: v @ matrix.T  # noqa: E731
    got = jacobian._eigenvalues(products, 80, 4, ("LM",), 0, 1e-6)
    assert_same(got, [-0.4 + 40j, -0.4 - 40j, -0.39 + 39j, -0.39 - 39j], 1e-4)
    both = jacobian._eigenvalues(products, 80, 2, ("LM", "LR"), 0, 1e-6)
    assert_same(both, [-0.4 + 40j, -0.4 - 40j, -0.01 + 1j, -0.01 - 1j], 1e-4)
    same = jacobian._eigenvalues(products, 80, 2, ("LM", "LI"), 0, 1e-6)
    assert_same(same[:2], [-0.4 + 40j, -0.4 - 40j], 1e-4)
    assert np.all(np.isnan(same[2:]))
    assert_same(jacobian._eigenvalues(products, 80, 4, ("LM",), 80, 1e-6), np.linalg.eigvals(matrix), 1e-4)


def test_a_matrix_that_is_zero_has_no_extremes_to_iterate_to():
    assert len(jacobian._extremes(lambda v: 0 * v, 700, 4, "LM", 1e-4)) == 0


@pytest.mark.slow
def test_extremes_are_those_of_the_dense_matrix():
    game, state, batch = middle()
    every = jacobian.spectrum(game, state, batch)
    assert len(every) == 549
    scale = np.abs(every).max()
    largest = every[np.argsort(-np.abs(every))]
    got = jacobian.spectrum(game, state, batch, num=5, which=("LM",), dense_size=0, tolerance=1e-6)
    assert_same(got, largest[:5], 1e-5 * scale)  # two pairs and a real one
    got = jacobian.spectrum(game, state, batch, num=3, which=("LR",), dense_size=0)
    assert got.shape == (3,)
    np.testing.assert_allclose(np.real(got), np.sort(np.real(every))[::-1][:3], atol=1e-3 * scale)
    both = jacobian.spectrum(game, state, batch, num=3, dense_size=0)
    assert both.shape == (6,)
    assert jacobian.max_real(both) == pytest.approx(np.real(every).max(), abs=1e-3 * scale)
    assert jacobian.spectral_radius(both) == pytest.approx(scale, rel=1e-3)


@pytest.mark.slow
def test_extreme_updates_are_those_of_the_dense_matrix():
    game, state, _ = middle()
    every = jacobian.update_spectrum(game, state)
    got = jacobian.update_spectrum(game, state, num=4, dense_size=0)
    assert got.shape == (4,)
    assert jacobian.spectral_radius(got) == pytest.approx(jacobian.spectral_radius(every), rel=1e-3)


def test_what_converged_is_kept(monkeypatch):
    """ARPACK stops: the rest is NaN, at the end."""

    def stops(*args, **kwargs):
        raise jacobian.ArpackNoConvergence("stopped", np.array([2.0 + 1j, 2 - 1j]), np.zeros((0, 0)))

    monkeypatch.setattr(jacobian, "eigs", stops)
    got = jacobian._eigenvalues(lambda v: v, 10, 3, ("LM",), 0, 1e-4)
    np.testing.assert_array_equal(got, [2 + 1j, 2 - 1j, complex(np.nan, np.nan)])


def test_what_both_ends_share_is_given_once():
    got = jacobian._union(np.array([5 + 1j, 5 - 1j, 3, 3]), np.array([5 - 1.001j, 3.001, 3, 3, 2]))
    np.testing.assert_array_equal(got, [5 + 1j, 5 - 1j, 3, 3, 3, 2])


@pytest.mark.parametrize(("given", "said"), [({"which": ("LT",)}, "which"), ({"num": 0}, "num"), ({"num": 11}, "num")])
def test_refuses(given, said):
    game, state, batch = small()
    with pytest.raises(ValueError, match=said):
        jacobian.spectrum(game, state, batch, **({"dense_size": 0} | given))


# ---- rotation


def test_rotation_share():
    """J = ((0, 1/2), (-1/2, -weight)): |A|^2 = 1/2, |S|^2 = weight^2."""
    config = dataclasses.replace(DIRAC, penalties=("r1",))
    # Every probe of +-1 gives the norms of this matrix exactly.
    both = lambda game, state, key: [  # noqa: E731
        jacobian.rotation_share(game, state, still(game), each, 3) for each in (None, key)
    ]
    share = jax.jit(both)
    for weight, want in ((0.0, 1.0), (0.6, 0.5 / (0.5 + 0.36))):
        game = game_of(config, r1_weight=weight)
        got = share(game, at(game), new_key(8))
        np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.slow
def test_rotation_share_by_probes():
    game, state, batch = middle()
    matrix = dense(game, state, batch)
    want = np.sum((matrix - matrix.T) ** 2) / (4 * np.sum(matrix**2))
    one = lambda key: jacobian.rotation_share(game, state, batch, key, num_probes=64)  # noqa: E731
    got = np.asarray(jax.jit(lambda key: jax.lax.map(one, jax.random.split(key, 16)))(new_key(8)))
    assert abs(got.mean() - want) < 4 * got.std(ddof=1) / 4
    assert got.std(ddof=1) < 0.2 * want


# ---- paths and distances


along = jax.jit(functools.partial(jacobian.path, num_points=8))


def test_path_to_the_centre_of_a_spiral():
    """v = -(e I + R) w: towards the centre the angle is e / sqrt(1 + e^2) and switches its sign there."""
    e = 0.5
    game = game_of(LINEAR, gradient_norm_weight=e)
    got = along(game, at(game, (1.0, 0.5), (-0.3, 0.8)), at(game), still(game), span=(-0.4, 1.7))
    np.testing.assert_allclose(got.alpha, np.linspace(-0.4, 1.7, 8), atol=1e-6)
    left = 1 - np.asarray(got.alpha)
    np.testing.assert_allclose(got.angle, np.sign(left) * e / math.hypot(1, e), atol=1e-6)
    radius = math.sqrt(1 + 0.25 + 0.09 + 0.64)
    np.testing.assert_allclose(got.norm, np.abs(left) * radius * math.hypot(1, e), rtol=1e-5)


def test_path_beside_the_centre():
    e = 0.2
    game = game_of(LINEAR, gradient_norm_weight=e)
    first, last = np.array([1.0, 0.5, -0.3, 0.8]), np.array([-0.2, 0.1, 0.4, 0.6])
    begin, end = at(game, first[:2], first[2:]), at(game, last[:2], last[2:])
    got = along(game, begin, end, still(game), span=(-0.1, 1.1))
    eye = np.eye(2)
    matrix = -np.block([[e * eye, -eye], [eye, e * eye]])
    way = last - first
    for alpha, angle, norm in zip(*got):
        v = matrix @ (first + float(alpha) * way)
        assert float(norm) == pytest.approx(np.linalg.norm(v), rel=1e-5)
        assert float(angle) == pytest.approx(way @ v / np.linalg.norm(way) / np.linalg.norm(v), abs=1e-5)


def test_travelled():
    game = game_of(DIRAC)
    got = jacobian.distance(at(game, (1, 2), (0, 1)).params, at(game, (4, -2), (0, 0.5)).params)
    np.testing.assert_allclose([*got], [5, 0.5], rtol=1e-6)
