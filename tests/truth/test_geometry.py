"""Gradients against closed forms and brute force; spectra, paths and shares on games that are solved by hand.

The Dirac-GAN and the linear games: a point as G, D(x) = psi . x, the data at the origin, in both coordinates of the
plane alike, so each eigenvalue comes twice.
"""

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
import scipy.special
from jax.flatten_util import ravel_pytree

from gandyn.gan import dynamics, gan, targets
from gandyn.gan.gan import Batch, Config, HParams, Players, State, Stream
from gandyn.gan.losses import LOSSES
from gandyn.gan.targets import GaussianMixture
from gandyn.truth import geometry

ORIGIN = targets.mixture([[0.0, 0.0]], 1e-9)
DIRAC = Config(
    gen_net="point", disc_net="bilinear", latent_dim=1, batch_size=1, gen_optimizer="sgd", disc_optimizer="sgd"
)
BILINEAR = dataclasses.replace(DIRAC, loss="wasserstein")
LINEAR = dataclasses.replace(BILINEAR, gradient_norm="both")
"""xi = (e theta - psi, e psi + theta), e the weight of the other's gradient norm."""


@pytest.fixture(scope="module", autouse=True)
def _in_haste():
    with haste.everywhere():
        yield


def new_key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed, impl="threefry2x32")


def numbers(**given: float) -> HParams:
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), HParams(**given))


def rates(h: float, **others: float) -> HParams:
    return numbers(lr_gen=h, lr_disc=h, **others)


def affine(matrix: Any, offset: Any) -> dict[str, Any]:
    kernel, bias = jnp.asarray(matrix, jnp.float32), jnp.asarray(offset, jnp.float32)
    return {"params": {"Dense_0": {"kernel": kernel, "bias": bias}}}


def critic(psi: Any) -> dict[str, Any]:
    return {"params": {"Dense_0": {"kernel": jnp.asarray(psi, jnp.float32).reshape(-1, 1)}}}


def point(theta: Any) -> dict[str, Any]:
    return {"params": {"kernel": jnp.asarray(theta, jnp.float32).reshape(1, 2)}}


@functools.cache
def _initial(config: Config):
    return jax.jit(functools.partial(gan.init, config))


def initial(config: Config, hparams: HParams, target: GaussianMixture, seed: int = 0) -> State:
    # What a start does not depend on shares one program.
    rule = config.dynamics if config.dynamics == "optimistic" else "simultaneous"
    plain = dataclasses.replace(
        config, loss="wasserstein", penalty="none", gradient_norm="none", dynamics=rule, batch_size=2
    )
    return _initial(plain)(hparams, target, new_key(seed))


def state_of(config: Config, gen: Any, disc: Any, hparams: HParams | None = None) -> State:
    state = initial(config, numbers() if hparams is None else hparams, ORIGIN)
    return dataclasses.replace(state, params=Players(gen, disc))


def at(config: Config, theta: Any = (0.0, 0.0), psi: Any = (0.0, 0.0), hparams: HParams | None = None) -> State:
    return state_of(config, point(theta), critic(psi), hparams)


@functools.cache
def stepper(config: Config):
    return jax.jit(functools.partial(dynamics.step, config))


def still(config: Config, num: int = 1) -> Batch:
    """A batch of the data at the origin, made by hand."""
    pairs = gan.Pairs(jnp.zeros((num, 2)), jnp.zeros((num, config.latent_dim)), None, None)
    return Batch(pairs, jnp.full((num, 3), 0.5))


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
    "R1": ({"penalty": "r1"}, {"penalty_weight": 0.6}, pair(-0.3 + 0.4j)),
    "R1, overdamped": ({"penalty": "r1"}, {"penalty_weight": 1.3}, pair(-0.65 + math.sqrt(0.65**2 - 0.25))),
    "R1 + R2": ({"penalty": "r1_r2"}, {"penalty_weight": 0.3}, pair(-0.3 + 0.4j)),
    "linear": ({"loss": "wasserstein", "gradient_norm": "both"}, {"gradient_norm_weight": 0.3}, [-0.3 + 1j, -0.3 - 1j]),
}


# Quick: one of each kind.
_QUICK = ("non-saturating", "Wasserstein", "R1, overdamped")


@pytest.mark.parametrize("case", [pytest.param(n, marks=[pytest.mark.slow] * (n not in _QUICK)) for n in FLOW])
def test_dirac_spectrum(case):
    fields, given, want = FLOW[case]
    config, hparams = dataclasses.replace(DIRAC, **fields), numbers(**given)
    got = geometry.spectrum(config, hparams, at(config), still(config))
    assert_same(got, twice(want), 1e-6)
    assert geometry.max_real(got) == pytest.approx(np.max(np.real(want)), abs=1e-6)
    assert np.all(np.diff(np.real(got)) < 1e-6)


def test_dirac_spectrum_under_instance_noise():
    """-s2/4 +- sqrt(s2^2/16 - 1/4); 4,096 Sobol nodes know s2 to about 1e-3 of it."""
    config = dataclasses.replace(DIRAC, instance_noise="constant")
    nodes = jax.jit(functools.partial(geometry.node_batch, config, num_nodes=4096))
    for variance in (1.0, 3.0):
        hparams = numbers(noise_std=math.sqrt(variance))
        state = at(config, hparams=hparams)
        got = geometry.spectrum(config, hparams, state, nodes(hparams, ORIGIN, state, new_key(7)))
        assert_same(got, twice(pair(-variance / 4 + np.emath.sqrt(variance**2 / 16 - 0.25))), 5e-3)


def test_a_state_that_is_not_finite_has_no_spectrum():
    config = dataclasses.replace(DIRAC, penalty="r1")
    got = geometry.spectrum(config, numbers(penalty_weight=1.3), at(config, psi=(np.nan, 0)), still(config))
    assert got.shape == (4,)
    assert np.all(np.isnan(got))
    assert math.isnan(geometry.spectral_radius(got))
    assert math.isnan(geometry.max_real(got))


# ---- the update map's


def updates(config: Config, hparams: HParams, **more: Any) -> np.ndarray:
    state = at(config, hparams=hparams)
    if config.dynamics == "optimistic":
        state = stepper(config)(hparams, ORIGIN, state)  # what the rule remembers is then a gradient
    return geometry.update_spectrum(config, hparams, ORIGIN, state, **more)


SIMULTANEOUS = dataclasses.replace(DIRAC, dynamics="simultaneous")


@pytest.mark.parametrize("h", [0.1, 1.0])
def test_simultaneous_dirac_diverges(h):
    got = updates(SIMULTANEOUS, rates(h))
    assert_same(got, twice([1 + 0.5j * h, 1 - 0.5j * h]), 1e-6)
    assert geometry.spectral_radius(got) == pytest.approx(math.hypot(1, h / 2), abs=1e-6)


def test_alternating_dirac_stays_on_its_circle_up_to_step_4():
    # Towards h = 4 the two eigenvalues meet at -1, where rounding counts under a root.
    for h, tolerance in ((0.5, 1e-6), (2.0, 1e-6), (3.9, 5e-6)):
        got = updates(DIRAC, rates(h))
        np.testing.assert_allclose(np.abs(got), 1, atol=tolerance)
        assert_same(got, twice(np.linalg.eigvals([[1, h / 2], [-h / 2, 1 - h * h / 4]])), 2 * tolerance)
    assert geometry.spectral_radius(updates(DIRAC, rates(4.1))) > 1.1


@pytest.mark.slow
def test_consensus_dirac():
    """Consensus (weight c) adds -c/4 to the flow: 1 + h (-c/4 +- i/2)."""
    config = dataclasses.replace(DIRAC, dynamics="consensus")
    got = updates(config, rates(0.5, adjustment=0.4))
    assert_same(got, twice([1 + 0.5 * (-0.1 + 0.5j), 1 + 0.5 * (-0.1 - 0.5j)]), 1e-6)


@pytest.mark.parametrize(
    ("rule", "h", "want"),
    [("simultaneous", 0.6, math.sqrt(1.36)), ("extragradient", 0.6, 0.877268), ("optimistic", 0.1, 0.994936)],
)
def test_bilinear_contractions(rule, h, want):
    got = updates(dataclasses.replace(BILINEAR, dynamics=rule), rates(h))
    assert geometry.spectral_radius(got) == pytest.approx(want, abs=1e-6)


@pytest.mark.slow
def test_lookahead_over_its_period():
    """Two simultaneous steps multiply by (1 + i h)^2; of the way there, half is kept."""
    config = dataclasses.replace(BILINEAR, dynamics="simultaneous", lookahead=2)
    hparams = rates(0.3)
    state = at(config, hparams=hparams)
    state = dataclasses.replace(state, slow=state.params)
    got = geometry.update_spectrum(config, hparams, ORIGIN, state, num_steps=2)
    moved = 1 + 0.5 * ((1 + 0.3j) ** 2 - 1)
    # The fast weights follow from the slow ones alone: as many zeros again.
    assert_same(got, [*twice([moved, moved.conjugate()]), 0, 0, 0, 0], 1e-6)


def test_adam_with_its_moments():
    """The simultaneous bilinear game under Adam, by differences of a float64 transcription of all six vectors.

    D's bias feels nothing under Wasserstein, so its gradient and its moments are zero: eigenvalues 1, beta1, beta2.
    """
    config = dataclasses.replace(
        BILINEAR, disc_net="mlp", disc_depth=0, dynamics="simultaneous", gen_optimizer="adam", disc_optimizer="adam"
    )
    b1, b2, h, eps = 0.5, 0.9, 0.05, 1e-3
    hparams = rates(h, beta1_gen=b1, beta1_disc=b1, beta2_gen=b2, beta2_disc=b2, eps=eps)
    rows = np.array([(1.0, 0.5), (-0.7, 0.3), (0.3, -0.2), (-0.4, 0.5), (0.6, 0.1), (0.2, 0.7)])
    disc = [affine(row.reshape(2, 1), [0.0]) for row in rows[1::2]]
    state = state_of(config, point(rows[0]), disc[0], hparams)
    count = jnp.asarray(2, jnp.int32)
    moments = Players(
        state.opt_state.gen[0]._replace(count=count, mu=point(rows[2]), nu=point(rows[4])),
        state.opt_state.disc[0]._replace(count=count, mu=disc[1], nu=disc[2]),
    )
    opt_state = Players(*((own, *rest[1:]) for own, rest in zip(moments, state.opt_state)))
    state = dataclasses.replace(state, opt_state=opt_state)

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
    got = geometry.update_spectrum(config, hparams, ORIGIN, state)
    assert_same(got, [*np.linalg.eigvals(matrix), 1, b1, b2], 1e-5)


# ---- nets

RING = targets.ring(num_modes=4, std=0.1)
SMALL = Config(
    gen_depth=0, disc_net="quadratic", batch_size=32, dynamics="simultaneous", gen_optimizer="sgd", disc_optimizer="sgd"
)  # fmt: skip
"""Twelve parameters."""
MIDDLE = dataclasses.replace(
    SMALL, gen_width=14, gen_depth=2, gen_activation="tanh", disc_net="mlp", disc_width=14, disc_activation="tanh"
)


def trained(config: Config, hparams: HParams, num_steps: int, seed: int = 0) -> State:
    state = initial(config, hparams, RING, seed)
    for _ in range(num_steps):
        state = stepper(config)(hparams, RING, state)
    return state


@functools.cache
def middle() -> tuple[HParams, State, Batch]:
    hparams = rates(0.2)
    state = trained(MIDDLE, hparams, 100)
    return hparams, state, geometry.node_batch(MIDDLE, hparams, RING, state, new_key(7), 256)


@functools.cache
def small() -> tuple[HParams, State, Batch]:
    """At its start, and on the minibatch of its next step."""
    hparams = rates(0.3)
    state = initial(SMALL, hparams, RING)
    step_key = jax.random.fold_in(jax.random.fold_in(state.key, Stream.TRAIN), state.step)
    return hparams, state, jax.jit(functools.partial(gan.draw_batch, SMALL))(hparams, step_key, None, RING)


def test_a_simultaneous_step_is_one_plus_h_times_the_flow():
    hparams, state, batch = small()
    flow = geometry.spectrum(SMALL, hparams, state, batch)
    assert len(flow) == 12
    assert np.abs(np.imag(flow)).max() > 0.1
    assert_same(geometry.update_spectrum(SMALL, hparams, RING, state), 1 + 0.3 * flow, 2e-5)


def dense(config: Config, hparams: HParams, state: State, batch: Batch) -> np.ndarray:
    size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    return geometry._matrix(functools.partial(geometry._flow_products(config), hparams, state, batch), size)


def test_the_matrix_is_that_of_finite_differences():
    hparams, state, batch = small()
    xi = jax.jit(lambda params: dynamics.field(SMALL, hparams, params, state.stats, batch).gradient)
    here, unravel = ravel_pytree(state.params)
    v = jax.random.normal(new_key(3), here.shape)
    ahead, behind = (np.asarray(ravel_pytree(xi(unravel(here + s * 1e-3 * v)))[0]) for s in (1, -1))
    want = -(ahead - behind) / 2e-3
    got = dense(SMALL, hparams, state, batch) @ np.asarray(v)
    assert np.linalg.norm(got - want) < 3e-3 * np.linalg.norm(want)


def test_extremes_of_a_known_matrix():
    """40 rotations damped by -0.01 ... -0.4 at angular speeds 1 ... 40; nothing is rounded to float32 but v."""
    blocks = [np.array([[-0.01 * k, k], [-k, -0.01 * k]]) for k in range(1, 41)]
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(80, 80)))[0]
    matrix = turn @ scipy.linalg.block_diag(*blocks) @ turn.T
    products = lambda v: v @ matrix.T  # noqa: E731
    got = geometry._eigenvalues(products, 80, 4, ("LM",), 0, 1e-6)
    assert_same(got, [-0.4 + 40j, -0.4 - 40j, -0.39 + 39j, -0.39 - 39j], 1e-4)
    both = geometry._eigenvalues(products, 80, 2, ("LM", "LR"), 0, 1e-6)
    assert_same(both, [-0.4 + 40j, -0.4 - 40j, -0.01 + 1j, -0.01 - 1j], 1e-4)
    same = geometry._eigenvalues(products, 80, 2, ("LM", "LI"), 0, 1e-6)
    assert_same(same[:2], [-0.4 + 40j, -0.4 - 40j], 1e-4)
    assert np.all(np.isnan(same[2:]))
    assert_same(geometry._eigenvalues(products, 80, 4, ("LM",), 80, 1e-6), np.linalg.eigvals(matrix), 1e-4)


def test_a_matrix_that_is_zero_has_no_extremes_to_iterate_to():
    assert len(geometry._extremes(lambda v: 0 * v, 700, 4, "LM", 1e-4)) == 0


@pytest.mark.slow
def test_extremes_are_those_of_the_dense_matrix():
    hparams, state, batch = middle()
    every = geometry.spectrum(MIDDLE, hparams, state, batch)
    assert len(every) == 549
    scale = np.abs(every).max()
    largest = every[np.argsort(-np.abs(every))]
    got = geometry.spectrum(MIDDLE, hparams, state, batch, num=5, which=("LM",), dense_size=0, tolerance=1e-6)
    assert_same(got, largest[:5], 1e-5 * scale)  # two pairs and a real one
    got = geometry.spectrum(MIDDLE, hparams, state, batch, num=3, which=("LR",), dense_size=0)
    assert got.shape == (3,)
    np.testing.assert_allclose(np.real(got), np.sort(np.real(every))[::-1][:3], atol=1e-3 * scale)
    both = geometry.spectrum(MIDDLE, hparams, state, batch, num=3, dense_size=0)
    assert both.shape == (6,)
    assert geometry.max_real(both) == pytest.approx(np.real(every).max(), abs=1e-3 * scale)
    assert geometry.spectral_radius(both) == pytest.approx(scale, rel=1e-3)


@pytest.mark.slow
def test_extreme_updates_are_those_of_the_dense_matrix():
    hparams, state, _ = middle()
    every = geometry.update_spectrum(MIDDLE, hparams, RING, state)
    got = geometry.update_spectrum(MIDDLE, hparams, RING, state, num=4, dense_size=0)
    assert got.shape == (4,)
    assert geometry.spectral_radius(got) == pytest.approx(geometry.spectral_radius(every), rel=1e-3)


def test_what_converged_is_kept(monkeypatch):
    """ARPACK stops: the rest is NaN, at the end."""

    def stops(*args, **kwargs):
        raise geometry.ArpackNoConvergence("stopped", np.array([2.0 + 1j, 2 - 1j]), np.zeros((0, 0)))

    monkeypatch.setattr(geometry, "eigs", stops)
    got = geometry._eigenvalues(lambda v: v, 10, 3, ("LM",), 0, 1e-4)
    np.testing.assert_array_equal(got, [2 + 1j, 2 - 1j, complex(np.nan, np.nan)])


def test_what_both_ends_share_is_given_once():
    got = geometry._union(np.array([5 + 1j, 5 - 1j, 3, 3]), np.array([5 - 1.001j, 3.001, 3, 3, 2]))
    np.testing.assert_array_equal(got, [5 + 1j, 5 - 1j, 3, 3, 3, 2])


@pytest.mark.parametrize(("given", "said"), [({"which": ("LT",)}, "which"), ({"num": 0}, "num"), ({"num": 11}, "num")])
def test_refuses(given, said):
    hparams, state, batch = small()
    with pytest.raises(ValueError, match=said):
        geometry.spectrum(SMALL, hparams, state, batch, **({"dense_size": 0} | given))


# ---- rotation


def test_rotation_share():
    """J = ((0, 1/2), (-1/2, -weight)): |A|^2 = 1/2, |S|^2 = weight^2."""
    config = dataclasses.replace(DIRAC, penalty="r1")
    # Every probe of +-1 gives the norms of this matrix exactly.
    both = lambda hparams, state, key: [  # noqa: E731
        geometry.rotation_share(config, hparams, state, still(config), each, 3) for each in (None, key)
    ]
    share = jax.jit(both)
    for weight, want in ((0.0, 1.0), (0.6, 0.5 / (0.5 + 0.36))):
        got = share(numbers(penalty_weight=weight), at(config), new_key(8))
        np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.slow
def test_rotation_share_by_probes():
    hparams, state, batch = middle()
    jacobian = dense(MIDDLE, hparams, state, batch)
    want = np.sum((jacobian - jacobian.T) ** 2) / (4 * np.sum(jacobian**2))
    one = lambda key: geometry.rotation_share(MIDDLE, hparams, state, batch, key, num_probes=64)  # noqa: E731
    got = np.asarray(jax.jit(lambda key: jax.lax.map(one, jax.random.split(key, 16)))(new_key(8)))
    assert abs(got.mean() - want) < 4 * got.std(ddof=1) / 4
    assert got.std(ddof=1) < 0.2 * want


# ---- paths and distances


along = jax.jit(functools.partial(geometry.path, LINEAR, num_points=8))


def test_path_to_the_centre_of_a_spiral():
    """v = -(e I + R) w: towards the centre the angle is e / sqrt(1 + e^2) and switches its sign there."""
    e = 0.5
    hparams = numbers(gradient_norm_weight=e)
    start, end = at(LINEAR, (1.0, 0.5), (-0.3, 0.8)), at(LINEAR)
    got = along(hparams, start, end, still(LINEAR), span=(-0.4, 1.7))
    np.testing.assert_allclose(got.alpha, np.linspace(-0.4, 1.7, 8), atol=1e-6)
    left = 1 - np.asarray(got.alpha)
    np.testing.assert_allclose(got.angle, np.sign(left) * e / math.hypot(1, e), atol=1e-6)
    radius = math.sqrt(1 + 0.25 + 0.09 + 0.64)
    np.testing.assert_allclose(got.norm, np.abs(left) * radius * math.hypot(1, e), rtol=1e-5)


def test_path_beside_the_centre():
    e = 0.2
    hparams = numbers(gradient_norm_weight=e)
    first, last = np.array([1.0, 0.5, -0.3, 0.8]), np.array([-0.2, 0.1, 0.4, 0.6])
    start, end = at(LINEAR, first[:2], first[2:]), at(LINEAR, last[:2], last[2:])
    got = along(hparams, start, end, still(LINEAR), span=(-0.1, 1.1))
    eye = np.eye(2)
    matrix = -np.block([[e * eye, -eye], [eye, e * eye]])
    way = last - first
    for alpha, angle, norm in zip(*got):
        v = matrix @ (first + float(alpha) * way)
        assert float(norm) == pytest.approx(np.linalg.norm(v), rel=1e-5)
        assert float(angle) == pytest.approx(way @ v / np.linalg.norm(way) / np.linalg.norm(v), abs=1e-5)


def test_travelled():
    got = geometry.distance(at(DIRAC, (1, 2), (0, 1)).params, at(DIRAC, (4, -2), (0, 0.5)).params)
    np.testing.assert_allclose([*got], [5, 0.5], rtol=1e-6)


# ---- gradients

FAR = targets.mixture([[0.5, -0.25]], 0.3)
AFFINE = Config(gen_depth=0, disc_net="bilinear", loss="wasserstein", batch_size=20)
NUM_KEYS = 250


@functools.cache
def measuring(config: Config, num_batches: int, num_nodes: int, num_keys: int):
    """`gradients` from several keys in turn."""

    def run(hparams: HParams, target: GaussianMixture, state: State, key: jax.Array) -> geometry.Gradients:
        one = lambda key: geometry.gradients(config, hparams, target, state, key, num_batches, num_nodes)  # noqa: E731
        return jax.lax.map(one, jax.random.split(key, num_keys))

    return jax.jit(run)


def of_affine(matrix: Any, offset: Any, psi: Any, seed: int) -> geometry.Gradients:
    state = state_of(AFFINE, affine(matrix, offset), critic(psi))
    found = measuring(AFFINE, 16, 64, NUM_KEYS)(numbers(), FAR, state, new_key(seed))
    return jax.tree.map(lambda x: np.asarray(x, np.float64), found)


def assert_mean(each: np.ndarray, want: float, tolerance: float = 0.0) -> None:
    """Within four standard errors, and a share of the value for what is not random."""
    assert abs(each.mean() - want) < 4 * each.std(ddof=1) / math.sqrt(len(each)) + tolerance * abs(want)


def test_gradients_of_affine_players():
    """Wasserstein, G(z) = A z + b, D(x) = psi . x, data N(m, s^2 I).

    D's gradient is A z + b - x on average over the minibatch, mean b - m, variance (|A|^2 + 2 s^2) / B. G's is -psi in
    b, and -psi z^T in A: mean 0, variance |psi|^2 Z / B.
    """
    matrix, offset, psi, s = np.array([[0.4, 0.1], [-0.2, 0.3]]), np.array([0.8, 0.2]), np.array([0.6, -0.9]), 0.3
    got = of_affine(matrix, offset, psi, 1)
    gap, spread, pull = np.array([0.3, 0.45]) @ [0.3, 0.45], np.sum(matrix**2) + 2 * s * s, psi @ psi
    assert_mean(got.grad_norm.disc, math.sqrt(gap), 1e-4)
    assert_mean(got.grad_norm.gen, math.sqrt(pull), 1e-4)
    # A ratio's mean is off by the squared error of what it is divided by.
    assert_mean(got.noise_scale.disc, spread / gap, 1e-3)
    assert_mean(got.noise_scale.gen, 2, 1e-3)
    assert_mean(got.grad_norm_batch.disc**2, gap + spread / 20)
    np.testing.assert_allclose(got.grad_snr.disc * got.noise_scale.disc, 20, rtol=1e-5)
    # The spread of noise_scale over keys is that of a mean of 16 squares of 2 dimensions.
    assert 0.1 < got.noise_scale.disc.std() / got.noise_scale.disc.mean() < 0.4
    np.testing.assert_allclose(got.sensitivity, 1, atol=1e-6)
    np.testing.assert_allclose(got.saturation, 0, atol=1e-6)


def test_a_gradient_of_zero_has_no_signal_on_average():
    """D's true gradient vanishes where G's mean is the data's; |t|^2 alone would be its own error."""
    got = of_affine(0.3 * np.eye(2), (0.5, -0.25), (1, 1), 3)
    snr = got.grad_snr.disc
    assert_mean(snr, 0)
    assert 0.2 < np.mean(snr < 0) < 0.8
    assert np.all(np.isinf(got.noise_scale.disc[snr < 0]))
    assert np.all(got.grad_norm.disc[snr < 0] == 0)


def test_gradients_without_noise():
    """Where A = 0 and D(x) = 0, G has neither signal nor noise; D's fake half has none."""
    got = of_affine(np.zeros((2, 2)), (0.8, 0.2), (0, 0), 2)
    assert np.all(got.grad_norm.gen == 0)
    assert np.all(np.isnan(got.grad_snr.gen))
    assert_mean(got.noise_scale.disc, 2 * 0.3**2 / (0.3**2 + 0.45**2), 1e-3)


def test_names_are_those_of_the_attributes():
    got = geometry.named(of_affine(np.eye(2), (0.8, 0.2), (3, -4), 2))
    assert list(got) == list(geometry.GRADIENTS)
    assert all(x.shape == (NUM_KEYS,) for x in got.values())
    np.testing.assert_allclose(got["grad_norm_gen"], 5, rtol=5e-2)
    assert np.all(got["grad_norm_disc"] < 1)
    for attrs in (*geometry.GRADIENTS.values(), *geometry.GEOMETRY.values()):
        assert set(attrs) == {"long_name", "units"}


NET = Config(gen_width=8, gen_depth=1, disc_width=8, disc_depth=1, batch_size=16)
WITH_R1 = dataclasses.replace(NET, penalty="r1")
COUPLED = dataclasses.replace(NET, gen_norm="batch", disc_norm="batch")


def brute(config: Config, hparams: HParams, state: State, num: int) -> dict[str, float]:
    """From `num` minibatches, in float64."""

    def one(key):
        batch = gan.draw_batch(config, hparams, key, state.data, RING)
        gradient = dynamics.field(config, hparams, state.params, state.stats, batch).gradient
        return [ravel_pytree(part)[0] for part in gradient]

    every = jax.jit(lambda key: jax.lax.map(one, jax.random.split(key, num)))(new_key(99))
    found = {}
    for player, g in zip(Players._fields, every):
        g = np.asarray(g, np.float64)
        mean = g.mean(axis=0)
        noise = np.sum((g - mean) ** 2) / (num - 1)
        signal = mean @ mean - noise / num
        cosine = g @ mean / np.linalg.norm(g, axis=1) / math.sqrt(signal)
        found |= {f"grad_norm_{player}": math.sqrt(signal), f"grad_cosine_{player}": cosine.mean()}
        found |= {f"grad_snr_{player}": signal / noise, f"noise_scale_{player}": config.batch_size * noise / signal}
    return found


@functools.cache
def of_net(config: Config) -> tuple[HParams, State, geometry.Gradients]:
    hparams = rates(0.2, penalty_weight=0.1)
    state = initial(config, hparams, RING)
    return hparams, state, measuring(config, 32, 128, 24)(hparams, RING, state, new_key(4))


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        pytest.param(NET, marks=pytest.mark.slow),
        pytest.param(WITH_R1, marks=pytest.mark.slow),
        pytest.param(COUPLED, marks=pytest.mark.slow),
    ],
    ids=["small", "nets", "nets, R1", "minibatches"],
)
def test_gradients_against_brute_force(config):
    """4,000 minibatches know signal and noise to 1.5 % a sigma; beside it the estimates' own standard error."""
    hparams, state, found = of_net(config)
    got = geometry.named(found)
    for name, value in brute(config, hparams, state, 4000).items():
        each = np.asarray(got[name], np.float64)
        assert abs(each.mean() - value) < 4 * math.hypot(each.std(ddof=1) / math.sqrt(24), 0.015 * value), name


def test_saturation_is_what_the_outputs_say():
    """Non-saturating: the slope at s is sigmoid(-s), here at G's own samples."""
    _, state, found = of_net(SMALL)
    gen, disc = (jax.tree.map(np.asarray, params["params"]["Dense_0"]) for params in state.params)
    x = np.random.default_rng(11).normal(size=(20_000, 2)) @ gen["kernel"] + gen["bias"]
    features = np.stack([x[:, 0], x[:, 1], x[:, 0] ** 2, x[:, 0] * x[:, 1], x[:, 1] ** 2], axis=1)
    slopes = scipy.special.expit(-(features @ disc["kernel"] + disc["bias"])[:, 0])
    each = np.asarray(found.sensitivity, np.float64)
    assert abs(each.mean() - slopes.mean()) < 4 * math.hypot(each.std() / math.sqrt(24), slopes.std() / math.sqrt(2e4))
    np.testing.assert_allclose(found.saturation, 1 - each, rtol=1e-5)
    assert slopes.std() > 0.01


def test_layers_in_the_order_of_a_sample():
    config = Config(gen_norm="batch", disc_norm="layer", num_classes=2, conditioning="projection", gen_depth=1)
    assert geometry.layers(config) == Players(
        ("Dense_0", "BatchNorm_0", "Dense_1"),
        ("Dense_0", "LayerNorm_0", "Dense_1", "LayerNorm_1", "Embedding_0", "Dense_2"),
    )
    deep = geometry.layers(Config(gen_depth=11))
    assert deep.gen == tuple(f"Dense_{i}" for i in range(12))
    assert geometry.layers(BILINEAR) == Players(("kernel",), ("Dense_0",))


@pytest.mark.slow
def test_layers_make_up_the_whole():
    got = of_net(NET)[2]
    assert [x.shape for x in got.layer_norms] == [(24, 2), (24, 2)]
    for norm, parts in zip(got.grad_norm, got.layer_norms):
        np.testing.assert_allclose(norm, np.linalg.norm(parts, axis=1), rtol=1e-4)


# ---- saturation


def test_sensitivity_of_the_saturating_loss():
    """D says s of everything: G's slope is sigmoid(s)."""
    config = Config(loss="minimax", gen_depth=0, disc_depth=0)
    params = Players(affine(np.eye(2), [0, 0]), affine([[0], [0]], [1.5]))
    slope = jax.jit(lambda params: geometry._sensitivity(config, numbers(), params, Players({}, {}), still(config, 8)))
    assert float(slope(params)) == pytest.approx(scipy.special.expit(1.5), abs=1e-6)


ORDERS = (0.5, 1.0, 3.0)


@functools.cache
def largest_slopes() -> dict[str, np.ndarray]:
    """The largest |d gen / d fake output| over outputs of D in +-40 for the orders of alpha."""
    outputs = jnp.asarray(np.concatenate([np.linspace(-3, 3, 1201), np.linspace(-40, 40, 81)]), jnp.float32)

    def largest(name: str, order: jax.Array) -> jax.Array:
        params = gan.loss_params(numbers())._replace(alpha_gen=order)
        slope = jax.grad(lambda fake, real: LOSSES[name].gen(real[None], fake[None], params))
        at_fake = jax.vmap(slope, in_axes=(0, None))
        return jnp.max(jnp.abs(jax.vmap(at_fake, in_axes=(None, 0))(outputs, jnp.asarray([-40.0, 0, 40]))))

    every = jax.jit(lambda orders: {name: jax.vmap(functools.partial(largest, name))(orders) for name in LOSSES})
    return {name: np.asarray(found) for name, found in every(jnp.asarray(ORDERS)).items()}


@pytest.mark.parametrize("loss", LOSSES)
def test_supremum_of_every_loss(loss):
    """Where there is none, the slope keeps growing."""
    for order, largest in zip(ORDERS, largest_slopes()[loss]):
        got = float(geometry.supremum(Config(loss=loss), numbers(alpha_gen=order)))
        assert got == pytest.approx(largest, rel=1e-5) if largest < 5 else math.isnan(got), (order, largest)
