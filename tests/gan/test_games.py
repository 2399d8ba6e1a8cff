"""Update rules and penalties on games that are solved in closed form: the Dirac-GAN, bilinear and linear fields.

Everything passes through `step.init` and `step.step`: a point as G, D(x) = psi . x, the data at the origin. Only the
first coordinate of theta and of psi is off zero; the second repeats the same game.
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

from gandyn.gan import step as gan
from gandyn.gan import targets
from gandyn.gan.config import Config, rule_of
from gandyn.gan.game import Game, make_game
from gandyn.gan.number import HParams
from gandyn.gan.rules import RULES, Rule, lookahead, replay_pool
from gandyn.gan.state import Players, State

ORIGIN = targets.mixture([[0.0, 0.0]], 1e-9)
DIRAC = Config(
    gen_net="point", disc_net="bilinear", latent_dim=1, batch_size=1, gen_optimizer="sgd", disc_optimizer="sgd"
)
BILINEAR = dataclasses.replace(DIRAC, loss="wasserstein")
"""D minimizes psi theta, G its negative: eigenvalues +-i."""


def point(value: float) -> dict[str, Any]:
    return {"kernel": jnp.asarray([[value, 0.0]])}


def both_rates(config: Config, rate: float, **numbers: float) -> Game:
    """The game at one learning rate of both players, all numbers in float32."""
    game = make_game(ORIGIN, config, HParams(lr_gen=rate, lr_disc=rate, **numbers))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), game)


def start(game: Game, theta: float = 1.0, psi: float = 1.0) -> State:
    state = gan.init(game, jax.random.key(0, impl="threefry2x32"))
    params = Players({"params": point(theta)}, {"params": {"Dense_0": {"kernel": point(psi)["kernel"].T}}})
    return state.replace(params=params, memory=rule_of(game.config).init(game, params))


def ends(state: State) -> list[float]:
    """theta, psi."""
    return [float(jax.tree.leaves(params)[0].ravel()[0]) for params in (state.params.gen, state.params.disc)]


def test_starts_at_the_given_point():
    game = make_game(ORIGIN, DIRAC)
    state = start(game, 0.25, -2.0)
    np.testing.assert_array_equal(game.generate(state.variables.gen, jnp.zeros((3, 1))), [[0.25, 0]] * 3)
    logits = game.discriminate(state.variables.disc, jnp.asarray([[1.0, 5.0], [-3.0, 7.0]]))
    np.testing.assert_array_equal(logits, [-2, 6])


@haste.jit
def course(game: Game, state: State, num_steps: jax.Array) -> State:
    return jax.lax.fori_loop(0, num_steps, lambda _, state: gan.step(game, state), state)


def _split(state: State):
    """Everything that a step reads and writes: leaves, their tree, which of them are real numbers."""
    leaves, tree = jax.tree.flatten((state.params, state.opt_state, state.memory))
    return leaves, tree, [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]


@functools.partial(haste.jit, static_argnums=2)
def jacobian(game: Game, state: State, num_steps: int) -> jax.Array:
    """Of the update map over `num_steps`."""
    leaves, tree, floats = _split(state)
    sizes = np.cumsum([leaf.size for leaf, f in zip(leaves, floats) if f])[:-1]

    def move(vector):
        parts = iter(jnp.split(vector, sizes))
        now = [next(parts).reshape(leaf.shape) if f else leaf for leaf, f in zip(leaves, floats)]
        params, opt_state, memory = jax.tree.unflatten(tree, now)
        moved = state.replace(params=params, opt_state=opt_state, memory=memory)
        for _ in range(num_steps):
            moved = gan.step(game, moved)
        return jnp.concatenate([leaf.ravel() for leaf, f in zip(_split(moved)[0], floats) if f])

    return jax.jacfwd(move)(jnp.concatenate([leaf.ravel() for leaf, f in zip(leaves, floats) if f]))


def eigenvalues(game: Game, num_steps: int = 1) -> np.ndarray:
    """Of the update map over `num_steps` at the equilibrium. Each comes twice, once a coordinate of the plane."""
    state = start(game, 0.0, 0.0)
    if game.config.rule in ("past_extragradient", "optimistic"):
        state = course(game, state, 1)  # what the rule remembers is then a gradient
    return np.linalg.eigvals(np.asarray(jacobian(game, state, num_steps), np.float64))


def assert_spectrum(got: np.ndarray, want: Any, tolerance: float = 2e-6) -> None:
    """Every expected eigenvalue (and its conjugate) is among those found; the others found are zero."""
    want = np.concatenate([np.atleast_1d(want), np.conj(np.atleast_1d(want))])
    distance = np.abs(got[:, None] - want[None, :])
    assert np.all(distance.min(axis=0) < tolerance), (got, want)
    assert np.all((distance.min(axis=1) < tolerance) | (np.abs(got) < 1e-3)), (got, want)


# ---- the Dirac-GAN: eigenvalues of the flow at the equilibrium, of Mescheder et al. 2018

FLOW: dict[str, tuple[dict[str, Any], dict[str, float], Any]] = {
    "minimax": ({"loss": "minimax"}, {}, 0.5j),
    "non-saturating": ({"loss": "non_saturating"}, {}, 0.5j),
    "relativistic": ({"loss": "relativistic"}, {}, 0.5j),
    "Wasserstein": ({"loss": "wasserstein"}, {}, 1j),
    "JS": ({"loss": "f_js"}, {}, 0.5j),
    "alpha at 1": ({"loss": "alpha"}, {}, 0.5j),
    # l'(1/2) of order a: (1/2)^((a - 1) / a) / 2 in place of 1/2.
    "alpha at 2": ({"loss": "alpha"}, {"alpha_disc": 2.0, "alpha_gen": 2.0}, None),
    "R1": ({"penalties": ("r1",)}, {"r1_weight": 0.6}, -0.3 + np.emath.sqrt(0.3**2 - 0.25)),
    "R1, overdamped": ({"penalties": ("r1",)}, {"r1_weight": 1.5}, -0.75 + np.emath.sqrt(0.75**2 - 0.25)),
    "R2": ({"penalties": ("r2",)}, {"r2_weight": 0.6}, -0.3 + np.emath.sqrt(0.3**2 - 0.25)),
    "R1 + R2": ({"penalties": ("r1", "r2")}, {"r1_weight": 0.3, "r2_weight": 0.3}, -0.3 + np.emath.sqrt(0.3**2 - 0.25)),
    "weight decay": ({"penalties": ("l2",)}, {"l2_weight": 0.6}, -0.3 + np.emath.sqrt(0.3**2 - 0.25)),
    "consensus": ({"rule": "consensus"}, {"adjustment": 0.4}, -0.4 / 4 + 0.5j),
    # G pays for D's gradient, which is theta / 2: w / 4 on G alone.
    "gradient norm, gen": (
        {"gradient_norm": "gen"}, {"gradient_norm_weight": 0.8}, -0.1 + np.emath.sqrt(0.1**2 - 0.25)
    ),
    "gradient norm, disc": (
        {"gradient_norm": "disc"}, {"gradient_norm_weight": 0.8}, -0.1 + np.emath.sqrt(0.1**2 - 0.25)
    ),
    "gradient norm, both": ({"gradient_norm": "both"}, {"gradient_norm_weight": 0.8}, -0.2 + 0.5j),
}  # fmt: skip


# Quick: one of each kind. The linear fields below hold every update rule.
_QUICK = ("non-saturating", "Wasserstein", "alpha at 2", "R1, overdamped", "R1 + R2", "gradient norm, both")


@pytest.mark.parametrize("case", [pytest.param(n, marks=[pytest.mark.slow] * (n not in _QUICK)) for n in FLOW])
@pytest.mark.quick(2)
def test_dirac_flow(case):
    fields, numbers, want = FLOW[case]
    config = dataclasses.replace(DIRAC, **({"rule": "simultaneous"} | fields))
    if want is None:
        slope = 0.5 * 0.5 ** ((numbers["alpha_disc"] - 1) / numbers["alpha_disc"])
        want = 1j * slope
    # A simultaneous step of rate 1 is w + (flow): its eigenvalues are those of the flow, plus one.
    got = eigenvalues(both_rates(config, 1.0, **numbers))
    # Of two real ones, the product is 1/4.
    pair = [want, np.conj(want)] if np.iscomplex(want) else [want, 0.25 / want]
    assert_spectrum(got, 1 + np.asarray(pair))


@pytest.mark.slow
@pytest.mark.parametrize("variance", [0.25, 1.0, 3.0])
def test_dirac_flow_under_instance_noise(variance):
    """-s2/4 +- sqrt(s2^2/16 - 1/4): over 2 * 2^17 draws, s2 is known to 0.3 % a sigma; five of them."""
    config = dataclasses.replace(DIRAC, rule="simultaneous", instance_noise="constant", batch_size=2**17)
    got = eigenvalues(both_rates(config, 1.0, noise_std=math.sqrt(variance)))
    first = -variance / 4 + np.emath.sqrt(variance**2 / 16 - 0.25)
    want = 1 + np.array([first, 0.25 / first])
    distance = np.abs(got[:, None] - want[None, :]).min(axis=1)
    assert np.all(distance < 0.02 * variance)


# Known values: final radius from (1, 1), step 0.2, 500 steps (alternating: G first; R1 as reg * psi in D's gradient).
# Their D maximizes f(psi theta), f(t) = -log(1 + exp(-t)): a psi of the other sign.
RADII = {
    ("minimax", 0.0): (3.096949, 1.421019),
    ("non_saturating", 0.0): (0.640207, 0.283923),
    ("minimax", 0.3): (2.642656e-06, 2.300913e-07),
    ("non_saturating", 0.3): (2.211960e-06, 1.499419e-07),
}


@pytest.mark.parametrize("rule", ["simultaneous", "alternating"])
@pytest.mark.parametrize(("loss", "reg"), RADII)
@pytest.mark.quick(2)
def test_dirac_final_radius(loss, reg, rule):
    config = dataclasses.replace(DIRAC, loss=loss, penalties=("r1",) if reg else (), rule=rule)
    if rule == "alternating":
        config = dataclasses.replace(config, first="gen")
    game = both_rates(config, 0.2, **({"r1_weight": reg} if reg else {}))
    end = course(game, start(game, 1.0, -1.0), 500)
    radius = math.hypot(*(float(jnp.linalg.norm(leaf)) for leaf in jax.tree.leaves(end.params)))
    # 500 roundings of 6e-8, and the data's own spread.
    assert radius == pytest.approx(RADII[loss, reg][rule == "alternating"], rel=1e-3 if reg else 2e-5)


@pytest.mark.parametrize("h", [0.5, 2.0, 3.9])
def test_dirac_alternating_neither_grows_nor_shrinks_up_to_step_4(h):
    assert np.abs(eigenvalues(both_rates(DIRAC, h))) == pytest.approx(1, abs=1e-5)


def test_dirac_alternating_diverges_past_step_4():
    assert np.abs(eigenvalues(both_rates(DIRAC, 4.1))).max() > 1.1


@pytest.mark.parametrize("h", [0.1, 1.0])
def test_dirac_simultaneous_diverges(h):
    got = eigenvalues(both_rates(dataclasses.replace(DIRAC, rule="simultaneous"), h))
    assert_spectrum(got, 1 + 0.5j * h)
    assert np.abs(got).min() > 1


# ---- linear fields: every update rule's multiplier where xi has the eigenvalues mu = e +- i


def _roots(*coefficients: complex) -> np.ndarray:
    return np.roots(coefficients)


def _alternating(h: float, e: float) -> np.ndarray:
    """theta' = (1 - h e) theta + h psi, psi' = (1 - h e) psi - h theta'."""
    keep = 1 - h * e
    return np.linalg.eigvals([[keep, h], [-h * keep, keep - h * h]])


DAMPING = 0.4


def _ridge(h: float, e: float, damping: float = DAMPING) -> np.ndarray:
    """D also moves along -(e + damping)^-1 times G's step."""
    xi = np.array([[e, -1.0], [1.0, e]])
    return np.linalg.eigvals(np.eye(2) - h * (xi - [[0, 0], xi[0] / (e + damping)]))


def _stackelberg(h: float, e: float, damping: float = DAMPING) -> np.ndarray:
    """D's answer psi = -theta / (e + damping) turns G's -psi theta into theta^2 / (e + damping), half of it by psi."""
    return np.linalg.eigvals(np.eye(2) - h * np.array([[e + 1 / (e + damping), -1.0], [1.0, e]]))


# h, e, mu -> eigenvalues of the update.
MULTIPLIERS = {
    "alternating": lambda h, e, mu: _alternating(h, e),
    "simultaneous": lambda h, e, mu: 1 - h * mu,
    "extragradient": lambda h, e, mu: 1 - h * mu + (h * mu) ** 2,
    "past_extragradient": lambda h, e, mu: _roots(1, -(1 - 2 * h * mu), -h * mu),
    "optimistic": lambda h, e, mu: _roots(1, -(1 - 2 * h * mu), -h * mu),
    "consensus": lambda h, e, mu: 1 - h * (mu + 0.3 * abs(mu) ** 2),
    "symplectic": lambda h, e, mu: 1 - h * (mu - 0.3j * mu),
    "symplectic_aligned": lambda h, e, mu: 1 - h * (mu - 0.3j * mu),  # at a fixed point the sign is +
    "drift_cancelling": lambda h, e, mu: 1 - h * (mu - 0.3 * h / 2 * 1j * mu),
    "competitive": lambda h, e, mu: 1 - h * mu / (1 + 1j * h),
    "follow_the_ridge": lambda h, e, mu: _ridge(h, e),
    "stackelberg": lambda h, e, mu: _stackelberg(h, e),
    "heun": lambda h, e, mu: 1 - h * mu + (h * mu) ** 2 / 2,
    "runge_kutta": lambda h, e, mu: sum((-h * mu) ** k / math.factorial(k) for k in range(5)),
}
ELSEWHERE = {"unrolled", "best_response"}


def linear(**fields: Any) -> Config:
    """xi = (e theta - psi, e psi + theta): each player's own e is the weight of the other's gradient norm."""
    return dataclasses.replace(BILINEAR, gradient_norm="both", **fields)


def test_every_rule_is_held_to_a_closed_form():
    assert set(MULTIPLIERS) | ELSEWHERE == set(RULES)


@pytest.mark.parametrize(("h", "e"), [(0.1, 0.0), (0.6, 0.0), (0.2, 0.2), (0.2, 0.09), (0.5, 0.7)])
@pytest.mark.parametrize("rule", MULTIPLIERS)
@pytest.mark.quick(2)
def test_linear_field(rule, h, e):
    config = linear(rule=rule, **({"first": "gen"} if rule == "alternating" else {}))
    numbers = {
        name: {"adjustment": 0.3, "damping": DAMPING, "extrapolation": 1.0}[name] for name in RULES[rule].numbers
    }
    got = eigenvalues(both_rates(config, h, gradient_norm_weight=e, **numbers))
    assert_spectrum(got, MULTIPLIERS[rule](h, e, e + 1j))


def test_published_contractions():
    """The numbers themselves."""

    def largest(rule: str, h: float, e: float = 0.0) -> float:
        return float(np.abs(eigenvalues(both_rates(linear(rule=rule), h, gradient_norm_weight=e))).max())

    assert largest("simultaneous", 0.6) == pytest.approx(math.sqrt(1.36), abs=1e-6)
    assert largest("alternating", 1.9) == pytest.approx(1, abs=1e-5)
    assert largest("alternating", 2.1) > 1.1
    assert largest("extragradient", 0.6) == pytest.approx(0.877268, abs=2e-6)
    assert largest("optimistic", 0.1) == pytest.approx(0.994936, abs=2e-6)
    assert largest("optimistic", 0.57) < 1 < largest("optimistic", 0.585)
    assert largest("simultaneous", 0.2, 0.2) ** 2 == pytest.approx(0.9616, abs=2e-6)
    assert largest("simultaneous", 0.2, 0.09) ** 2 == pytest.approx(1.004324, abs=2e-6)


@pytest.mark.parametrize(("e", "theta", "sign"), [(0.3, 5.0, 1), (-0.3, 5.0, -1), (-0.3, 0.3, 1)])
def test_alignment_turns_the_symplectic_term_at_an_unstable_point_only(e, theta, sign):
    """J = e + A, so <xi, grad H> <A^T xi, grad H> / d = e (1 + e^2) ... |w|^4 / 4, of the sign of e; at least 1/10."""
    game = both_rates(linear(rule="symplectic_aligned"), 0.1, adjustment=0.3)
    # A weight that nobody would ask for.
    game = dataclasses.replace(game, hparams=game.hparams.replace(gradient_norm_weight=jnp.float32(e)))
    end = course(game, start(game, theta, 0.0), 1)
    jacobian = np.array([[e, -1.0], [1.0, e]])  # over (theta, psi)
    rotation = (jacobian - jacobian.T) / 2
    w = np.array([theta, 0.0])
    want = w - 0.1 * (np.eye(2) + sign * 0.3 * rotation.T) @ jacobian @ w
    np.testing.assert_allclose(ends(end), want, atol=2e-6)


def test_optimistic_course():
    """w_(t+1) = w_t - 2 h A w_t + h A w_(t-1), the first step plain; in float64 by hand."""
    h = 0.1
    field = np.array([[0.0, -1.0], [1.0, 0.0]])
    points = [np.array([1.0, 1.0])]
    points.append(points[0] - h * field @ points[0])
    for _ in range(48):
        points.append(points[-1] - 2 * h * field @ points[-1] + h * field @ points[-2])
    game = both_rates(dataclasses.replace(BILINEAR, rule="optimistic"), h)
    np.testing.assert_allclose(ends(course(game, start(game), 49)), points[-1], atol=2e-6)


@pytest.mark.parametrize("steps", [1, 5])
def test_unrolled_bilinear(steps):
    """psi_k = psi - k h theta, so G descends -theta psi + k h theta^2."""
    h = 0.1
    config = dataclasses.replace(BILINEAR, rule="unrolled", unroll_steps=steps)
    got = eigenvalues(both_rates(config, h))
    assert_spectrum(got, np.linalg.eigvals([[1 - 2 * steps * h * h, h], [-h, 1]]))


def test_best_response_is_to_its_tolerance():
    """D minimizes psi theta + w/2 psi^2: gradient theta + w psi, contraction 1 - h w; the cap is far."""
    config = dataclasses.replace(BILINEAR, rule="best_response", disc_steps=10_000, penalties=("l2",))
    game = both_rates(config, 0.1, l2_weight=0.5, disc_tolerance=1e-3)
    theta, psi = ends(course(game, start(game), 1))
    # 1 + 0.5 psi falls from 1.5 by 0.95 a step, and stops at the first value below the tolerance.
    slope = 1.5
    while slope > 1e-3:
        slope *= 0.95
    assert 1 + 0.5 * psi == pytest.approx(slope, abs=2e-6)
    assert theta == pytest.approx(1 + 0.1 * psi, abs=1e-6)  # then one update of G


@pytest.mark.parametrize("cap", [1, 7])
def test_best_response_stops_at_its_cap(cap):
    """The bilinear game has no best response: D moves h theta a step for as long as it may."""
    config = dataclasses.replace(BILINEAR, rule="best_response", disc_steps=cap)
    game = both_rates(config, 0.1)
    assert ends(course(game, start(game), 1))[1] == pytest.approx(1 - cap * 0.1, abs=1e-6)


@pytest.mark.parametrize("beta", [-0.5, 0.5])
@pytest.mark.parametrize("rule", ["alternating", "simultaneous"])
def test_momentum(rule, beta):
    """v' = beta v + g, w' = w - h v', written as a matrix over (theta, psi, v_theta, v_psi)."""
    h = 0.4
    fields = {"first": "gen"} if rule == "alternating" else {}
    config = dataclasses.replace(BILINEAR, rule=rule, gen_optimizer="momentum", disc_optimizer="momentum", **fields)
    unit = np.eye(4)
    v_theta = beta * unit[2] - unit[1]  # G's gradient is -psi
    theta = unit[0] - h * v_theta
    v_psi = beta * unit[3] + (theta if rule == "alternating" else unit[0])
    want = np.linalg.eigvals(np.stack([theta, unit[1] - h * v_psi, v_theta, v_psi]))
    got = eigenvalues(both_rates(config, h, beta1_gen=beta, beta1_disc=beta))
    assert_spectrum(got, want, 1e-5)
    if rule == "alternating":
        # Gidel et al. 2019, theorem 6: negative momentum makes the alternating bilinear game converge, positive not.
        assert (np.abs(want).max() < 1) == (beta < 0)


@pytest.mark.parametrize(("num", "rate"), [(5, 0.5), (2, 0.3), (3, 1.0)])
def test_lookahead(num, rate):
    """`num` simultaneous steps multiply by (1 - i h)^num; of the way there, a share `rate` is kept."""
    h = 0.3
    config = dataclasses.replace(BILINEAR, rule="simultaneous", lookahead=num)
    got = eigenvalues(both_rates(config, h, lookahead_rate=rate), num_steps=num)
    want = 1 + rate * ((1 - 1j * h) ** num - 1)
    assert_spectrum(got, want, 1e-5)


@pytest.mark.parametrize(("disc_steps", "gen_steps", "first"), [(3, 1, "disc"), (1, 3, "disc"), (2, 3, "gen")])
@pytest.mark.quick(1)
def test_turns(disc_steps, gen_steps, first):
    """Alternating k : k, either first: a product of single moves."""
    h = 0.2
    config = dataclasses.replace(BILINEAR, disc_steps=disc_steps, gen_steps=gen_steps, first=first)
    disc = np.linalg.matrix_power([[1, 0], [-h, 1]], disc_steps)
    gen = np.linalg.matrix_power([[1, h], [0, 1]], gen_steps)
    want = np.linalg.eigvals(gen @ disc)
    game = both_rates(config, h)
    assert_spectrum(eigenvalues(game), want)
    end = course(game, start(game, 1.0, 0.5), 1)
    np.testing.assert_allclose(ends(end), (gen @ disc if first == "disc" else disc @ gen) @ [1.0, 0.5], atol=1e-6)


# ---- what only parts made by a function have: two rates, several levels, a pool


@pytest.mark.parametrize("ahead", [0.0, 0.25, 2.0, 5.0])
def test_extragradient_with_a_rate_of_its_own_ahead(ahead):
    """w - h A (w - e h A w): 1 - h mu + e (h mu)^2, with e = 0 simultaneous."""
    h, e = 0.3, 0.2
    game = both_rates(linear(rule="extragradient"), h, gradient_norm_weight=e, extrapolation=ahead)
    move = h * (e + 1j)
    assert_spectrum(eigenvalues(game), 1 - move + ahead * move**2)


@pytest.mark.parametrize(("h", "e"), [(0.1, 0.5), (0.3, 1.5), (0.05, 0.2)])
@pytest.mark.quick(1)
def test_follow_the_ridge_without_damping_does_not_rotate(h, e):
    """Multipliers 1 - h e along D's ridge and 1 - h (e + 1/e) off it, both real: damping 0, equal rates."""
    game = both_rates(linear(rule="follow_the_ridge"), h, gradient_norm_weight=e, damping=0.0)
    assert_spectrum(eigenvalues(game), [1 - h * e, 1 - h * (e + 1 / e)])


def test_follow_the_ridge_stays_on_the_ridge():
    """psi = -theta / e is D's best response: G's step moves both along it, so one step is 1 - h (e + 1/e) of both."""
    h, e = 0.1, 0.5
    game = both_rates(linear(rule="follow_the_ridge"), h, gradient_norm_weight=e, damping=0.0)
    end = course(game, start(game, 1.0, -1 / e), 1)
    share = 1 - h * (e + 1 / e)
    np.testing.assert_allclose(ends(end), [share, -share / e], atol=2e-6)


@pytest.mark.parametrize("damping", [0.0, 1e-3, 0.1, 10.0])
def test_damping_of_follow_the_ridge(damping):
    h, e = 0.1, 0.5
    game = both_rates(linear(rule="follow_the_ridge"), h, gradient_norm_weight=e, damping=damping)
    assert_spectrum(eigenvalues(game), _ridge(h, e, damping), 5e-6)


@pytest.mark.slow
def test_follow_the_ridge_with_players_rates_apart():
    """psi' = psi - h_disc xi_disc + h_gen xi_gen / (e + damping): G's rate takes D along, whatever D's."""
    e, theta, psi = 0.5, 1.0, 0.25
    for lr_gen, lr_disc in ((0.1, 0.4), (0.2, 0.0), (0.0, 0.3), (0.0, 0.0)):
        numbers = {"lr_gen": lr_gen, "lr_disc": lr_disc, "gradient_norm_weight": e, "damping": 0.1}
        game = make_game(ORIGIN, linear(rule="follow_the_ridge"), HParams(**numbers))
        xi = e * theta - psi, e * psi + theta
        want = [theta - lr_gen * xi[0], psi - lr_disc * xi[1] + lr_gen * xi[0] / (e + 0.1)]
        np.testing.assert_allclose(ends(course(game, start(game, theta, psi), 1)), want, atol=2e-6)


@pytest.mark.slow
def test_follow_the_ridge_at_the_end_of_a_decay():
    """Both rates are zero there: nothing moves, and nothing is NaN."""
    config = dataclasses.replace(linear(rule="follow_the_ridge"), schedule="linear")
    game = both_rates(config, 0.1, gradient_norm_weight=0.5, decay_steps=3)
    before, after = (ends(course(game, start(game), num)) for num in (3, 8))
    assert before == after
    assert np.isfinite(after).all()


@pytest.mark.parametrize("damping", [0.0, 1e-3, 2.0])
def test_damping_of_stackelberg(damping):
    h, e = 0.1, 0.7
    game = both_rates(linear(rule="stackelberg"), h, gradient_norm_weight=e, damping=damping)
    assert_spectrum(eigenvalues(game), _stackelberg(h, e, damping), 5e-6)


NESTED: dict[str, tuple[Rule, Any]] = {
    "alternating": (RULES["alternating"], lambda w, h: np.array([w[0] + h * (w[1] - h * w[0]), w[1] - h * w[0]])),
    "simultaneous": (RULES["simultaneous"], lambda w, h: np.array([w[0] + h * w[1], w[1] - h * w[0]])),
}


@pytest.mark.parametrize("every", [(5, 10), (2, 6, 12), (3,)])
@pytest.mark.parametrize("name", NESTED)
@pytest.mark.quick(2)
def test_nested_lookahead(name, every):
    """Chavdarova et al. 2021, algorithm 6, as a plain loop: a copy a level, higher ones reset lower ones."""
    rule, move = NESTED[name]
    h, rate, num = 0.3, 0.4, 37
    w = np.array([1.0, 0.5])
    kept = {period: w for period in every}
    for step in range(1, num + 1):
        w = move(w, h)
        for period in every:
            if step % period == 0:
                w = kept[period] + rate * (w - kept[period])
                for lower in [p for p in every if p <= period]:
                    kept[lower] = w
    game = both_rates(dataclasses.replace(BILINEAR, rule=lookahead(rule, every)), h, lookahead_rate=rate)
    np.testing.assert_allclose(ends(course(game, start(game, 1.0, 0.5), num)), w, atol=3e-6)


def test_lookahead_of_the_config_is_that_of_the_rule():
    h = 0.3
    simultaneous = dataclasses.replace(BILINEAR, rule="simultaneous")
    one = both_rates(dataclasses.replace(simultaneous, lookahead=4), h, lookahead_rate=0.3)
    other = both_rates(dataclasses.replace(BILINEAR, rule=lookahead(RULES["simultaneous"], 4)), h, lookahead_rate=0.3)
    assert ends(course(one, start(one), 11)) == ends(course(other, start(other), 11))


@pytest.mark.parametrize("every", [1, (), (5, 12), (4, 4), (10, 5)])
def test_lookahead_refuses_what_is_no_ladder(every):
    with pytest.raises(ValueError, match=r"lookahead: got every=.*; allowed: whole numbers from 2 on, each a multiple"):
        lookahead(RULES["simultaneous"], every)


@pytest.mark.parametrize("rule", ["past_extragradient", "optimistic", "extragradient"])
@pytest.mark.slow
def test_lookahead_keeps_the_memory_of_the_rule_inside(rule):
    """Before the first sync a lookahead is the rule itself, to the bit."""
    inside = both_rates(dataclasses.replace(BILINEAR, rule=rule), 0.2)
    around = both_rates(dataclasses.replace(BILINEAR, rule=rule, lookahead=9), 0.2)
    assert ends(course(inside, start(inside), 8)) == ends(course(around, start(around), 8))
    assert ends(course(inside, start(inside), 9)) != ends(course(around, start(around), 9))


class TestReplayPool:
    """G is a point and D linear, so D's move tells the mean of the fakes it saw."""

    def test_a_pool_of_one_is_the_last_step(self):
        """psi' = psi - h (theta_(t-1) + theta_t) / 2, theta_(-1) = theta_0; then G: theta' = theta + h psi'."""
        h, last, theta, psi = 0.2, 1.0, 1.0, 0.5
        config = dataclasses.replace(BILINEAR, rule=replay_pool(1), batch_size=2)
        game = both_rates(config, h)
        state = start(game, theta, psi)
        for _ in range(12):
            state = course(game, state, 1)
            psi -= h * (last + theta) / 2
            last, theta = theta, theta + h * psi
            np.testing.assert_allclose(ends(state), [theta, psi], atol=2e-6)

    def test_half_of_the_fakes_are_old(self):
        """What D saw is fresh in all but B // 2 of B, the others from the pool as it was; its rows are old fakes."""
        size, batch, h = 16, 5, 0.2
        game = both_rates(dataclasses.replace(BILINEAR, rule=replay_pool(size), batch_size=batch), h)
        state = start(game, 1.0, 0.5)
        thetas, pool = [], np.ones(size)
        for step in range(15):
            theta, psi = ends(state)
            thetas.append(theta)
            state = course(game, state, 1)
            seen = (psi - ends(state)[1]) / h  # the mean of the fakes
            old = batch * seen - (batch - batch // 2) * theta
            pairs = [a + b for a in pool for b in pool]
            assert np.min(np.abs(np.array(pairs) - old)) < 1e-4
            after = np.asarray(state.memory)[:, 0]
            changed = after != pool
            assert np.all(after[changed] == np.float32(theta))
            assert changed.sum() <= batch // 2
            assert step == 0 or changed.sum() >= 1  # two draws may fall on one place
            pool = after
        assert len(np.unique(pool)) > 4

    def test_starts_with_the_first_g(self):
        game = both_rates(dataclasses.replace(BILINEAR, rule=replay_pool(7), batch_size=2), 0.2)
        state = course(game, start(game, 0.75), 1)
        np.testing.assert_allclose(state.memory, np.tile([[0.75, 0.0]], (7, 1)))
