"""Penalties against central finite differences of a NumPy float64 discriminator, and their conventions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gandyn.gan import sampling
from gandyn.gan.penalties import PENALTIES

WIDTH, BATCH = 6, 12
STEP = 1e-4  # of the central differences: errors of 1e-9 from truncation, 1e-12 from rounding

GRADIENT_PENALTIES = [name for name, penalty in PENALTIES.items() if penalty.term is not None]


def make_params(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = [(2, WIDTH), (1, WIDTH), (WIDTH, WIDTH), (1, WIDTH), (WIDTH, 1), (1, 1)]
    return [0.8 * rng.standard_normal(shape).astype(np.float32).astype(np.float64) for shape in shapes]


def make_points(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((BATCH, 2)).astype(np.float32).astype(np.float64)


def mlp(params, x, xp):
    a, b, c, d, e, f = params
    return (xp.tanh(xp.tanh(x @ a + b) @ c + d) @ e + f)[:, 0]


def input_gradient(params, x: np.ndarray) -> np.ndarray:
    """Per sample, by central differences: (B, 2)."""
    columns = [(mlp(params, x + h, np) - mlp(params, x - h, np)) / (2 * STEP) for h in STEP * np.eye(2)[:, None, :]]
    return np.stack(columns, axis=1)


def squares(gradient: np.ndarray) -> np.ndarray:
    return np.sum(gradient**2, axis=1)


# Independently of gandyn/penalties.py: from the input gradients (B, 2) at x, where real = fake = x, and the parameters.
FORMULAS = {
    "r1": lambda gradient, params: 0.5 * np.mean(squares(gradient)),
    "r2": lambda gradient, params: 0.5 * np.mean(squares(gradient)),
    "r1_r2": lambda gradient, params: np.mean(squares(gradient)),
    "wgan_gp": lambda gradient, params: np.mean((np.sqrt(squares(gradient)) - 1) ** 2),
    "wgan_lp": lambda gradient, params: np.mean(np.maximum(np.sqrt(squares(gradient)) - 1, 0) ** 2),
    "dragan": lambda gradient, params: np.mean((np.sqrt(squares(gradient)) - 1) ** 2),
    "weight_decay": lambda gradient, params: 0.5 * sum(np.sum(leaf**2) for leaf in params),
}
# Of D(x) = (3, 4) . x: |grad D| = 5 everywhere.
LINEAR = {"r1": 12.5, "r2": 12.5, "r1_r2": 25.0, "wgan_gp": 16.0, "wgan_lp": 16.0, "dragan": 16.0, "weight_decay": 12.5}
# Of a D that is flat.
FLAT = dict.fromkeys(FORMULAS, 0.0) | {"wgan_gp": 1.0, "dragan": 1.0}


def of(name, disc, params, real, fake, seed=0, weight=1.0, moved=True):
    """The term of a penalty for any D; DRAGAN at the real samples themselves unless `moved`."""
    function = PENALTIES[name].term
    assert function is not None
    real, fake = jnp.asarray(real, jnp.float32), jnp.asarray(fake, jnp.float32)
    uniform = sampling.uniform(jax.random.key(seed), (len(real), real.shape[1] + 1))
    if name == "dragan" and not moved:
        uniform = jnp.zeros_like(uniform)
    return function(disc, params, real, fake, uniform, jnp.asarray(weight, jnp.float32))


def term(name, params, real, fake, seed=0, weight=1.0, moved=False):
    """The same for the MLP."""
    return of(name, lambda x: mlp(params, x, jnp), params, real, fake, seed, weight, moved)


def on_device(params) -> list[jax.Array]:
    return [jnp.asarray(leaf, jnp.float32) for leaf in params]


def test_every_gradient_penalty_has_a_formula_here():
    assert set(FORMULAS) == set(GRADIENT_PENALTIES)


@pytest.mark.parametrize("name", FORMULAS)
class TestAgainstFiniteDifferences:
    """Where real = fake, the points of every penalty are known whatever is drawn between them."""

    def test_value(self, name):
        params, x = make_params(), make_points()
        want = FORMULAS[name](input_gradient(params, x), params)
        assert float(term(name, on_device(params), x, x)) == pytest.approx(want, rel=1e-5)

    def test_value_at_each_sample_alone(self, name):
        params, x = make_params(), make_points()
        gradient = input_gradient(params, x)
        function = jax.jit(lambda point: term(name, on_device(params), point, point))
        for i in range(BATCH):
            want = FORMULAS[name](gradient[i : i + 1], params)
            assert float(function(x[i : i + 1].astype(np.float32))) == pytest.approx(want, rel=1e-5, abs=1e-6)

    def test_gradient_in_the_parameters(self, name):
        params, x = make_params(), make_points()
        got = jax.jit(jax.grad(lambda p: term(name, p, x, x)))(on_device(params))
        for i, leaf in enumerate(params):
            want = np.zeros_like(leaf)
            for j in np.ndindex(leaf.shape):
                sides = []
                for sign in (1, -1):
                    moved = [other.copy() for other in params]
                    moved[i][j] += sign * STEP
                    sides.append(FORMULAS[name](input_gradient(moved, x), moved))
                want[j] = (sides[0] - sides[1]) / (2 * STEP)
            np.testing.assert_allclose(got[i], want, rtol=1e-5, atol=5e-6)

    def test_strength_is_a_factor(self, name):
        params, x = make_params(), make_points()
        one, seven, zero = (float(term(name, on_device(params), x, x, weight=w)) for w in (1, 7, 0))
        assert seven == pytest.approx(7 * one, rel=1e-6)
        assert zero == 0

    def test_linear_discriminator_by_hand(self, name):
        psi = jnp.asarray([3.0, 4.0])
        for batch in (1, 16):  # a norm over the whole batch would grow with it
            x = jnp.zeros((batch, 2))
            assert float(of(name, lambda x: x @ psi, [psi], x, x + 1)) == pytest.approx(LINEAR[name], rel=1e-6)


class TestConventions:
    def test_r1_is_at_real_samples_only(self):
        params, real = on_device(make_params()), make_points(1)
        values = [float(term("r1", params, real, fake)) for fake in (real, make_points(2), 0 * real)]
        assert values[0] == values[1] == values[2]
        assert float(term("r1", params, make_points(2), real)) != values[0]

    def test_r2_is_at_fake_samples_only(self):
        params, fake = on_device(make_params()), make_points(1)
        values = [float(term("r2", params, real, fake)) for real in (fake, make_points(2), 0 * fake)]
        assert values[0] == values[1] == values[2] == pytest.approx(float(term("r1", params, fake, 0 * fake)))

    def test_both_is_their_sum(self):
        params, real, fake = on_device(make_params()), make_points(1), make_points(2)
        values = {name: float(term(name, params, real, fake)) for name in ("r1", "r2", "r1_r2")}
        assert values["r1_r2"] == pytest.approx(values["r1"] + values["r2"], rel=1e-6)

    @pytest.mark.parametrize(("name", "below"), [("wgan_gp", 0.5625), ("dragan", 0.5625), ("wgan_lp", 0.0)])
    def test_two_sided_or_one(self, name, below):
        x = jnp.zeros((4, 2))
        for slope, want in ((0.25, below), (1.0, 0.0), (2.0, 1.0)):
            value = of(name, lambda x, slope=slope: slope * x[:, 0], [], x, x)
            assert float(value) == pytest.approx(want, abs=1e-6)

    def test_gradient_penalty_is_uniform_on_the_segments(self):
        """D = 1.5 x_1^2 on segments from 0 to (1, 0): |grad D| = 3u, E (3u - 1)^2 = 1 for u uniform. Five sigma."""
        n = 50_000
        real, fake = jnp.zeros((n, 2)).at[:, 0].set(1), jnp.zeros((n, 2))
        value = of("wgan_gp", lambda x: 1.5 * x[:, 0] ** 2, [], real, fake, seed=5)
        sd = np.sqrt(11 / 5 - 1)  # E (3u - 1)^4 = 11/5
        assert abs(float(value) - 1) < 5 * sd / np.sqrt(n)

    def test_gradient_penalty_mixes_pairs_and_stays_on_the_segment(self):
        # D = x_2^2 / 2 is flat along every segment (x_2 alike at both ends): the norm is |x_2| whatever is drawn.
        height = jnp.linspace(0.5, 3.0, 8)
        real = jnp.stack([jnp.ones(8), height], axis=1)
        fake = jnp.stack([-jnp.ones(8), height], axis=1)
        value = of("wgan_gp", lambda x: x[:, 1] ** 2 / 2, [], real, fake)
        assert float(value) == pytest.approx(float(np.mean((np.linspace(0.5, 3, 8) - 1) ** 2)), rel=1e-5)

    def test_dragan_moves_up_to_half_the_batchs_std(self):
        """D = x_1^2 / 2 at x_1 = +-2, where the batch's std is 2: the norm is |x_1 + w|, w = a u of two uniforms.

        E w = 1/4, E w^2 = 1/9. Five sigma, of at most 1 each.
        """
        n = 50_000
        side = jnp.where(jnp.arange(n) % 2 == 0, 2.0, -2.0)
        real = jnp.stack([side, side], axis=1)
        value = float(of("dragan", lambda x: x[:, 0] ** 2 / 2, [], real, real, seed=3))
        # (|2 + w| - 1)^2 = (1 + w)^2 and (|-2 + w| - 1)^2 = (1 - w)^2, in equal parts.
        assert abs(value - (1 + 1 / 9)) < 5 / np.sqrt(n)

    def test_dragan_is_around_real_samples_only(self):
        params, real = on_device(make_params()), make_points(1)
        values = [float(term("dragan", params, real, fake, moved=True)) for fake in (real, make_points(2))]
        assert values[0] == values[1]
        assert values[0] != float(term("dragan", params, real, real))

    def test_gradient_penalty_draws_from_its_key(self):
        params = on_device(make_params())
        real, fake = make_points(1), make_points(2)
        one, again, other = (float(term("wgan_gp", params, real, fake, seed)) for seed in (0, 0, 1))
        assert one == again
        assert one != other


class TestZeroGradient:
    @pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-20, 1e-18])
    @pytest.mark.parametrize("name", FORMULAS)
    def test_finite_in_value_and_gradient(self, name, scale):
        params = [scale * leaf for leaf in on_device(make_params())]
        value, gradient = jax.value_and_grad(lambda p: term(name, p, make_points(), make_points(2)))(params)
        assert float(value) == pytest.approx(FLAT[name], abs=1e-6)
        assert all(np.isfinite(np.asarray(leaf)).all() for leaf in gradient)

    @pytest.mark.parametrize("name", ["wgan_gp", "wgan_lp", "dragan"])
    def test_dead_units_are_finite(self, name):
        # A ReLU discriminator that is flat at every sample: the norm is exactly zero.
        def penalty(weight):
            return of(name, lambda x: jax.nn.relu(x @ weight - 100)[:, 0], [], jnp.zeros((4, 2)), jnp.zeros((4, 2)))

        value, gradient = jax.value_and_grad(penalty)(jnp.ones((2, 1)))
        assert float(value) == FLAT[name]
        assert np.isfinite(np.asarray(gradient)).all()


def test_a_packs_norm_is_over_the_whole_pack():
    """D = (1, 2, 3, 4) . (x_1, x_2, y_1, y_2) of packs of two: |grad D|^2 = 30."""
    x = jnp.zeros((5, 4))
    assert float(of("r1", lambda x: x @ jnp.arange(1.0, 5.0), [], x, x)) == pytest.approx(15)


class TestClip:
    def test_projects_every_leaf(self):
        project = PENALTIES["clip"].project
        assert project is not None
        params = {"params": {f"leaf{i}": leaf for i, leaf in enumerate(on_device(make_params()))}}
        bound = 0.3
        clipped = project(params, jnp.asarray(bound))
        assert jax.tree.structure(clipped) == jax.tree.structure(params)
        for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(clipped)):
            np.testing.assert_array_equal(after, np.clip(np.asarray(before), -np.float32(bound), np.float32(bound)))
        assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(clipped)) == np.float32(bound)

    def test_a_diverged_weight_is_not_repaired(self):
        project = PENALTIES["clip"].project
        assert project is not None
        assert np.isnan(np.asarray(project([jnp.asarray([jnp.nan, 5.0])], jnp.asarray(1.0))[0])[0])


def test_only_clip_projects_and_nothing_does_both():
    assert [name for name, penalty in PENALTIES.items() if penalty.project is not None] == ["clip"]
    assert PENALTIES["none"].term is None
    assert PENALTIES["clip"].term is None
