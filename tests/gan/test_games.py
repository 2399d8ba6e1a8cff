"""Update rules and penalties on games that are solved in closed form: the Dirac-GAN, bilinear and linear fields.

Everything passes through `gan.init` and `dynamics.step`: a point as G, D(x) = psi . x, the data at the origin. Only the
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

from gandyn.gan import dynamics, gan, targets
from gandyn.gan.dynamics import DYNAMICS
from gandyn.gan.gan import Config, HParams, Players, State

ORIGIN = targets.mixture([[0.0, 0.0]], 1e-9)
DIRAC = Config(
    gen_net="point", disc_net="bilinear", latent_dim=1, batch_size=1, gen_optimizer="sgd", disc_optimizer="sgd"
)
BILINEAR = dataclasses.replace(DIRAC, loss="wasserstein")
"""D minimizes psi theta, G its negative: eigenvalues +-i."""


def point(value: float) -> dict[str, Any]:
    return {"kernel": jnp.asarray([[value, 0.0]])}


def start(config: Config, hparams: HParams, theta: float = 1.0, psi: float = 1.0) -> State:
    state = gan.init(config, hparams, ORIGIN, jax.random.key(0, impl="threefry2x32"))
    params = Players({"params": point(theta)}, {"params": {"Dense_0": {"kernel": point(psi)["kernel"].T}}})
    return dataclasses.replace(state, params=params, slow=params if config.lookahead else None)


def test_starts_at_the_given_point():
    state = start(DIRAC, HParams(), 0.25, -2.0)
    np.testing.assert_array_equal(gan.generate(DIRAC, state.variables.gen, jnp.zeros((3, 1))), [[0.25, 0]] * 3)
    logits = gan.discriminate(DIRAC, state.variables.disc, jnp.asarray([[1.0, 5.0], [-3.0, 7.0]]))
    np.testing.assert_array_equal(logits, [-2, 6])


@functools.cache
def stepper(config: Config):
    def steps(hparams: HParams, state: State, num_steps: jax.Array) -> State:
        return jax.lax.fori_loop(0, num_steps, lambda _, state: dynamics.step(config, hparams, ORIGIN, state), state)

    return haste.jit(steps)


def both_rates(rate: float, **others: float) -> HParams:
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), HParams(lr_gen=rate, lr_disc=rate, **others))


def _split(state: State):
    """Everything that a step reads and writes: leaves, their tree, which of them are real numbers."""
    leaves, tree = jax.tree.flatten((state.params, state.opt_state, state.past, state.slow))
    return leaves, tree, [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]


@functools.cache
def jacobian(config: Config, num_steps: int):
    """Of the update map over `num_steps`, compiled once a configuration."""

    def at(hparams: HParams, state: State) -> jax.Array:
        leaves, tree, floats = _split(state)
        sizes = np.cumsum([leaf.size for leaf, f in zip(leaves, floats) if f])[:-1]

        def move(vector):
            parts = iter(jnp.split(vector, sizes))
            now = [next(parts).reshape(leaf.shape) if f else leaf for leaf, f in zip(leaves, floats)]
            params, opt_state, past, slow = jax.tree.unflatten(tree, now)
            moved = dataclasses.replace(state, params=params, opt_state=opt_state, past=past, slow=slow)
            for _ in range(num_steps):
                moved = dynamics.step(config, hparams, ORIGIN, moved)
            return jnp.concatenate([leaf.ravel() for leaf, f in zip(_split(moved)[0], floats) if f])

        return jax.jacfwd(move)(jnp.concatenate([leaf.ravel() for leaf, f in zip(leaves, floats) if f]))

    return haste.jit(at)


def eigenvalues(config: Config, hparams: HParams, num_steps: int = 1) -> np.ndarray:
    """Of the update map over `num_steps` at the equilibrium. Each comes twice, once a coordinate of the plane."""
    state = start(config, hparams, 0.0, 0.0)
    if config.dynamics in ("past_extragradient", "optimistic"):
        state = stepper(config)(hparams, state, 1)  # what the rule remembers is then a gradient
    return np.linalg.eigvals(np.asarray(jacobian(config, num_steps)(hparams, state), np.float64))


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
    "R1": ({"penalty": "r1"}, {"penalty_weight": 0.6}, -0.3 + np.emath.sqrt(0.3**2 - 0.25)),
    "R1, overdamped": ({"penalty": "r1"}, {"penalty_weight": 1.5}, -0.75 + np.emath.sqrt(0.75**2 - 0.25)),
    "R2": ({"penalty": "r2"}, {"penalty_weight": 0.6}, -0.3 + np.emath.sqrt(0.3**2 - 0.25)),
    "R1 + R2": ({"penalty": "r1_r2"}, {"penalty_weight": 0.3}, -0.3 + np.emath.sqrt(0.3**2 - 0.25)),
    "weight decay": ({"penalty": "weight_decay"}, {"penalty_weight": 0.6}, -0.3 + np.emath.sqrt(0.3**2 - 0.25)),
    "consensus": ({"dynamics": "consensus"}, {"adjustment": 0.4}, -0.4 / 4 + 0.5j),
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
def test_dirac_flow(case):
    fields, numbers, want = FLOW[case]
    config = dataclasses.replace(DIRAC, **({"dynamics": "simultaneous"} | fields))
    if want is None:
        slope = 0.5 * 0.5 ** ((numbers["alpha_disc"] - 1) / numbers["alpha_disc"])
        want = 1j * slope
    # A simultaneous step of rate 1 is w + (flow): its eigenvalues are those of the flow, plus one.
    got = eigenvalues(config, both_rates(1.0, **numbers))
    # Of two real ones, the product is 1/4.
    pair = [want, np.conj(want)] if np.iscomplex(want) else [want, 0.25 / want]
    assert_spectrum(got, 1 + np.asarray(pair))


@pytest.mark.slow
@pytest.mark.parametrize("variance", [0.25, 1.0, 3.0])
def test_dirac_flow_under_instance_noise(variance):
    """-s2/4 +- sqrt(s2^2/16 - 1/4): over 2 * 2^17 draws, s2 is known to 0.3 % a sigma; five of them."""
    config = dataclasses.replace(DIRAC, dynamics="simultaneous", instance_noise="constant", batch_size=2**17)
    got = eigenvalues(config, both_rates(1.0, noise_std=math.sqrt(variance)))
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
def test_dirac_final_radius(loss, reg, rule):
    config = dataclasses.replace(DIRAC, loss=loss, penalty="r1" if reg else "none", dynamics=rule)
    if rule == "alternating":
        config = dataclasses.replace(config, first="gen")
    hparams = both_rates(0.2, penalty_weight=reg)
    end = stepper(config)(hparams, start(config, hparams, 1.0, -1.0), 500)
    radius = math.hypot(*(float(jnp.linalg.norm(leaf)) for leaf in jax.tree.leaves(end.params)))
    # 500 roundings of 6e-8, and the data's own spread.
    assert radius == pytest.approx(RADII[loss, reg][rule == "alternating"], rel=1e-3 if reg else 2e-5)


@pytest.mark.parametrize("h", [0.5, 2.0, 3.9])
def test_dirac_alternating_neither_grows_nor_shrinks_up_to_step_4(h):
    assert np.abs(eigenvalues(DIRAC, both_rates(h))) == pytest.approx(1, abs=1e-5)


def test_dirac_alternating_diverges_past_step_4():
    assert np.abs(eigenvalues(DIRAC, both_rates(4.1))).max() > 1.1


@pytest.mark.parametrize("h", [0.1, 1.0])
def test_dirac_simultaneous_diverges(h):
    got = eigenvalues(dataclasses.replace(DIRAC, dynamics="simultaneous"), both_rates(h))
    assert_spectrum(got, 1 + 0.5j * h)
    assert np.abs(got).min() > 1


# ---- linear fields: every update rule's multiplier where xi has the eigenvalues mu = e +- i


def _roots(*coefficients: complex) -> np.ndarray:
    return np.roots(coefficients)


def _alternating(h: float, e: float) -> np.ndarray:
    """theta' = (1 - h e) theta + h psi, psi' = (1 - h e) psi - h theta'."""
    keep = 1 - h * e
    return np.linalg.eigvals([[keep, h], [-h * keep, keep - h * h]])


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
    "heun": lambda h, e, mu: 1 - h * mu + (h * mu) ** 2 / 2,
    "runge_kutta": lambda h, e, mu: sum((-h * mu) ** k / math.factorial(k) for k in range(5)),
}
ELSEWHERE = {"unrolled", "best_response"}


def linear(**fields: Any) -> Config:
    """xi = (e theta - psi, e psi + theta): each player's own e is the weight of the other's gradient norm."""
    return dataclasses.replace(BILINEAR, gradient_norm="both", **fields)


def test_every_rule_is_held_to_a_closed_form():
    assert set(MULTIPLIERS) | ELSEWHERE == set(DYNAMICS)


@pytest.mark.parametrize(("h", "e"), [(0.1, 0.0), (0.6, 0.0), (0.2, 0.2), (0.2, 0.09), (0.5, 0.7)])
@pytest.mark.parametrize("rule", MULTIPLIERS)
def test_linear_field(rule, h, e):
    config = linear(dynamics=rule, **({"first": "gen"} if rule == "alternating" else {}))
    hparams = both_rates(h, gradient_norm_weight=e, adjustment=0.3)
    got = eigenvalues(config, hparams)
    assert_spectrum(got, MULTIPLIERS[rule](h, e, e + 1j))


def test_published_contractions():
    """The numbers themselves."""

    def largest(rule: str, h: float, e: float = 0.0) -> float:
        config = linear(dynamics=rule)
        return float(np.abs(eigenvalues(config, both_rates(h, gradient_norm_weight=e))).max())

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
    config, hparams = linear(dynamics="symplectic_aligned"), both_rates(0.1, adjustment=0.3)
    hparams = dataclasses.replace(hparams, gradient_norm_weight=jnp.float32(e))  # a weight that nobody would ask for
    end = stepper(config)(hparams, start(config, hparams, theta, 0.0), 1)
    jacobian = np.array([[e, -1.0], [1.0, e]])  # over (theta, psi)
    rotation = (jacobian - jacobian.T) / 2
    w = np.array([theta, 0.0])
    want = w - 0.1 * (np.eye(2) + sign * 0.3 * rotation.T) @ jacobian @ w
    got = [float(jax.tree.leaves(params)[0].ravel()[0]) for params in (end.params.gen, end.params.disc)]
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_optimistic_course():
    """w_(t+1) = w_t - 2 h A w_t + h A w_(t-1), the first step plain; in float64 by hand."""
    h = 0.1
    field = np.array([[0.0, -1.0], [1.0, 0.0]])
    course = [np.array([1.0, 1.0])]
    course.append(course[0] - h * field @ course[0])
    for _ in range(48):
        course.append(course[-1] - 2 * h * field @ course[-1] + h * field @ course[-2])
    config, hparams = dataclasses.replace(BILINEAR, dynamics="optimistic"), both_rates(h)
    end = stepper(config)(hparams, start(config, hparams), 49)
    got = [float(leaf.ravel()[0]) for leaf in jax.tree.leaves(end.params)]
    np.testing.assert_allclose(got, course[-1], atol=2e-6)


@pytest.mark.parametrize("steps", [1, 5])
def test_unrolled_bilinear(steps):
    """psi_k = psi - k h theta, so G descends -theta psi + k h theta^2."""
    h = 0.1
    config = dataclasses.replace(BILINEAR, dynamics="unrolled", unroll_steps=steps)
    got = eigenvalues(config, both_rates(h))
    assert_spectrum(got, np.linalg.eigvals([[1 - 2 * steps * h * h, h], [-h, 1]]))


def test_best_response_is_to_its_tolerance():
    """D minimizes psi theta + w/2 psi^2: gradient theta + w psi, contraction 1 - h w; the cap is far."""
    config = dataclasses.replace(BILINEAR, dynamics="best_response", disc_steps=10_000, penalty="weight_decay")
    hparams = both_rates(0.1, penalty_weight=0.5, disc_tolerance=1e-3)
    end = stepper(config)(hparams, start(config, hparams), 1)
    psi, theta = (float(jax.tree.leaves(params)[0].ravel()[0]) for params in (end.params.disc, end.params.gen))
    # 1 + 0.5 psi falls from 1.5 by 0.95 a step, and stops at the first value below the tolerance.
    slope = 1.5
    while slope > 1e-3:
        slope *= 0.95
    assert 1 + 0.5 * psi == pytest.approx(slope, abs=2e-6)
    assert theta == pytest.approx(1 + 0.1 * psi, abs=1e-6)  # then one update of G


@pytest.mark.parametrize("cap", [1, 7])
def test_best_response_stops_at_its_cap(cap):
    """The bilinear game has no best response: D moves h theta a step for as long as it may."""
    config = dataclasses.replace(BILINEAR, dynamics="best_response", disc_steps=cap)
    hparams = both_rates(0.1)
    end = stepper(config)(hparams, start(config, hparams), 1)
    assert float(jax.tree.leaves(end.params.disc)[0].ravel()[0]) == pytest.approx(1 - cap * 0.1, abs=1e-6)


@pytest.mark.parametrize("beta", [-0.5, 0.5])
@pytest.mark.parametrize("rule", ["alternating", "simultaneous"])
def test_momentum(rule, beta):
    """v' = beta v + g, w' = w - h v', written as a matrix over (theta, psi, v_theta, v_psi)."""
    h = 0.4
    fields = {"first": "gen"} if rule == "alternating" else {}
    config = dataclasses.replace(BILINEAR, dynamics=rule, gen_optimizer="momentum", disc_optimizer="momentum", **fields)
    unit = np.eye(4)
    v_theta = beta * unit[2] - unit[1]  # G's gradient is -psi
    theta = unit[0] - h * v_theta
    v_psi = beta * unit[3] + (theta if rule == "alternating" else unit[0])
    want = np.linalg.eigvals(np.stack([theta, unit[1] - h * v_psi, v_theta, v_psi]))
    got = eigenvalues(config, both_rates(h, beta1_gen=beta, beta1_disc=beta))
    assert_spectrum(got, want, 1e-5)
    if rule == "alternating":
        # Gidel et al. 2019, theorem 6: negative momentum makes the alternating bilinear game converge, positive not.
        assert (np.abs(want).max() < 1) == (beta < 0)


@pytest.mark.parametrize(("num", "rate"), [(5, 0.5), (2, 0.3), (3, 1.0)])
def test_lookahead(num, rate):
    """`num` simultaneous steps multiply by (1 - i h)^num; of the way there, a share `rate` is kept."""
    h = 0.3
    config = dataclasses.replace(BILINEAR, dynamics="simultaneous", lookahead=num)
    got = eigenvalues(config, both_rates(h, lookahead_rate=rate), num_steps=num)
    want = 1 + rate * ((1 - 1j * h) ** num - 1)
    assert_spectrum(got, want, 1e-5)


@pytest.mark.parametrize(("disc_steps", "gen_steps", "first"), [(3, 1, "disc"), (1, 3, "disc"), (2, 3, "gen")])
def test_turns(disc_steps, gen_steps, first):
    """Alternating k : k, either first: a product of single moves."""
    h = 0.2
    config = dataclasses.replace(BILINEAR, disc_steps=disc_steps, gen_steps=gen_steps, first=first)
    disc = np.linalg.matrix_power([[1, 0], [-h, 1]], disc_steps)
    gen = np.linalg.matrix_power([[1, h], [0, 1]], gen_steps)
    want = np.linalg.eigvals(gen @ disc)
    assert_spectrum(eigenvalues(config, both_rates(h)), want)
    hparams = both_rates(h)
    end = stepper(config)(hparams, start(config, hparams, 1.0, 0.5), 1)
    course = (gen @ disc if first == "disc" else disc @ gen) @ [1.0, 0.5]
    got = [float(leaf.ravel()[0]) for leaf in jax.tree.leaves(end.params)]
    np.testing.assert_allclose(got, course, atol=1e-6)
