"""Penalties against central finite differences of a NumPy float64 discriminator, and their conventions."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gandyn.gan import sampling
from gandyn.gan.penalties import PENALTIES, At, Penalty, lazy

WIDTH, BATCH = 6, 12
STEP = 1e-4  # of the central differences: errors of 1e-9 from truncation, 1e-12 from rounding

TERMS = [name for name, penalty in PENALTIES.items() if penalty.term is not None]


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


# Independently of gandyn/gan/penalties.py: from the input gradients (B, 2) at x = real = fake, and the parameters.
FORMULAS = {
    "r1": lambda gradient, params: 0.5 * np.mean(squares(gradient)),
    "r2": lambda gradient, params: 0.5 * np.mean(squares(gradient)),
    "zero_centred": lambda gradient, params: np.mean(squares(gradient)),
    "wgan_gp": lambda gradient, params: np.mean((np.sqrt(squares(gradient)) - 1) ** 2),
    "wgan_lp": lambda gradient, params: np.mean(np.maximum(np.sqrt(squares(gradient)) - 1, 0) ** 2),
    "dragan": lambda gradient, params: np.mean((np.sqrt(squares(gradient)) - 1) ** 2),
    "l2": lambda gradient, params: 0.5 * sum(np.sum(leaf**2) for leaf in params),
}
# Of D(x) = (3, 4) . x: |grad D| = 5 everywhere.
LINEAR = {
    "r1": 12.5, "r2": 12.5, "zero_centred": 25.0, "wgan_gp": 16.0, "wgan_lp": 16.0, "dragan": 16.0, "l2": 12.5,
}  # fmt: skip
# Of a D that is flat.
FLAT = dict.fromkeys(FORMULAS, 0.0) | {"wgan_gp": 1.0, "dragan": 1.0}


def at(disc: Any, params: Any, real: Any, fake: Any, seed: int = 0, **fields: Any) -> At:
    """Any D on samples (B, I)."""
    real, fake = jnp.asarray(real, jnp.float32), jnp.asarray(fake, jnp.float32)
    uniform = sampling.uniform(jax.random.key(seed), (len(real), real.shape[1] + 1))
    return At(disc, params, real, fake, disc(real), disc(fake), uniform, jnp.int32(0), None)._replace(**fields)


def of(
    name: str, disc: Any, params: Any, real: Any, fake: Any, seed: int = 0, weight: float = 1.0, moved: bool = True,
    **numbers: float,
) -> jax.Array:  # fmt: skip
    """The term of a penalty for any D; DRAGAN at the real samples themselves unless `moved`."""
    penalty = PENALTIES[name]
    assert penalty.term is not None
    there = at(disc, params, real, fake, seed)
    if name == "dragan" and not moved:
        there = there._replace(uniform=jnp.zeros_like(there.uniform))
    given = {f"{name}_weight": weight, **numbers}
    assert set(given) <= set(penalty.numbers)
    return penalty.term(there, penalty.defaults.replace(**{n: jnp.float32(value) for n, value in given.items()}))


def term(name: str, params: Any, real: Any, fake: Any, seed: int = 0, weight: float = 1.0, moved: bool = False):
    """The same for the MLP."""
    return of(name, lambda x: mlp(params, x, jnp), params, real, fake, seed, weight, moved)


def on_device(params) -> list[jax.Array]:
    return [jnp.asarray(leaf, jnp.float32) for leaf in params]


def test_every_gradient_penalty_has_a_formula_here():
    assert set(FORMULAS) | {"lecam"} == set(TERMS)  # `TestLecam` has the one that is of outputs alone


@pytest.mark.parametrize("name", FORMULAS)
class TestAgainstFiniteDifferences:
    """Where real = fake, the points of every penalty are known whatever is drawn between them."""

    @pytest.mark.quick(2)
    def test_value(self, name):
        params, x = make_params(), make_points()
        want = FORMULAS[name](input_gradient(params, x), params)
        assert float(term(name, on_device(params), x, x)) == pytest.approx(want, rel=1e-5)

    @pytest.mark.quick(2)
    def test_value_at_each_sample_alone(self, name):
        params, x = make_params(), make_points()
        gradient = input_gradient(params, x)
        function = jax.jit(lambda point: term(name, on_device(params), point, point))
        for i in range(BATCH):
            want = FORMULAS[name](gradient[i : i + 1], params)
            assert float(function(x[i : i + 1].astype(np.float32))) == pytest.approx(want, rel=1e-5, abs=1e-6)

    @pytest.mark.quick(2)
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

    @pytest.mark.quick(2)
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

    @pytest.mark.parametrize(("name", "below"), [("wgan_gp", 4.0), ("wgan_lp", 0.0)])
    def test_norms_other_than_one(self, name, below):
        """(|grad D| - norm)^2, the one-sided penalty above the norm alone."""
        x = jnp.zeros((4, 2))
        for slope, want in ((1.0, below), (3.0, 0.0), (7.0, 16.0)):
            disc = lambda x, slope=slope: slope * x[:, 0]  # noqa: E731
            value = of(name, disc, [], x, x, 0, 1.0, True, **{f"{name}_norm": 3.0})
            assert float(value) == pytest.approx(want, abs=1e-5)

    def test_wgan_gp_with_a_norm_of_zero_is_zero_centred(self):
        params, real, fake = on_device(make_params()), make_points(1), make_points(2)
        disc = lambda x: mlp(params, x, jnp)  # noqa: E731
        one = of("wgan_gp", disc, params, real, fake, seed=4, wgan_gp_norm=0.0)
        assert float(one) == pytest.approx(float(of("zero_centred", disc, params, real, fake, seed=4)), rel=1e-6)

    @pytest.mark.slow
    def test_zero_centred_is_uniform_on_the_segments(self):
        """D = x_1^2 / 2 on segments from 0 to (1, 0): |grad D|^2 = u^2, E u^2 = 1/3, E u^4 = 1/5. Five sigma."""
        n = 50_000
        real, fake = jnp.zeros((n, 2)).at[:, 0].set(1), jnp.zeros((n, 2))
        value = of("zero_centred", lambda x: x[:, 0] ** 2 / 2, [], real, fake, seed=5)
        assert abs(float(value) - 1 / 3) < 5 * np.sqrt((1 / 5 - 1 / 9) / n)

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
    @pytest.mark.quick(7)
    def test_finite_in_value_and_gradient(self, name, scale):
        params = [scale * leaf for leaf in on_device(make_params())]
        value, gradient = jax.value_and_grad(lambda p: term(name, p, make_points(), make_points(2)))(params)
        assert float(value) == pytest.approx(FLAT[name], abs=1e-6)
        chex.assert_tree_all_finite(gradient)

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
        clipped = project(params, PENALTIES["clip"].defaults.replace(clip_bound=jnp.asarray(bound)))
        chex.assert_trees_all_equal_structs(clipped, params)
        for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(clipped)):
            np.testing.assert_array_equal(after, np.clip(np.asarray(before), -np.float32(bound), np.float32(bound)))
        assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(clipped)) == np.float32(bound)

    def test_a_diverged_weight_is_not_repaired(self):
        project = PENALTIES["clip"].project
        assert project is not None
        numbers = PENALTIES["clip"].defaults.replace(clip_bound=1.0)
        assert np.isnan(np.asarray(project([jnp.asarray([jnp.nan, 5.0])], numbers)[0])[0])


def test_only_clip_projects_and_nothing_does_both():
    assert [name for name, penalty in PENALTIES.items() if penalty.project is not None] == ["clip"]
    assert PENALTIES["clip"].term is None


class TestLecam:
    """lecam_weight * (E (D(x) - m_fake)^2 + E (D(G(z)) - m_real)^2), m the decayed means of D's outputs so far."""

    def test_value_and_memory_over_steps(self):
        penalty = PENALTIES["lecam"]
        assert penalty.term is not None
        assert penalty.init is not None
        assert penalty.remember is not None
        weight, decay = 0.3, 0.8
        numbers = penalty.defaults.replace(lecam_weight=jnp.float32(weight), lecam_decay=jnp.float32(decay))
        memory, want = penalty.init(), [0.0, 0.0]
        for seed in range(6):
            params = make_params(seed)
            real, fake = make_points(seed), make_points(seed + 100)
            there = at(lambda x, params=params: mlp(on_device(params), x, jnp), params, real, fake, memory=memory)
            r, f = mlp(params, real, np), mlp(params, fake, np)
            value = weight * (np.mean((r - want[1]) ** 2) + np.mean((f - want[0]) ** 2))
            assert float(penalty.term(there, numbers)) == pytest.approx(value, rel=1e-5)
            memory = penalty.remember(there, numbers)
            want = [decay * old + (1 - decay) * new.mean() for old, new in zip(want, (r, f))]
            np.testing.assert_allclose(memory, want, rtol=1e-5, atol=1e-6)

    def test_gradient_in_the_outputs(self):
        """2 weight / B (D(x) - m_fake): the means over the past are constants, as are those of this batch to it."""
        penalty = PENALTIES["lecam"]
        assert penalty.term is not None
        logits = jnp.asarray([1.0, -2.0, 0.5, 4.0])
        there = at(
            lambda x: x[:, 0], [], jnp.zeros((4, 2)), jnp.zeros((4, 2)), memory=(jnp.float32(0.7), jnp.float32(-1.0))
        )
        term, numbers = penalty.term, penalty.defaults.replace(lecam_weight=3.0)
        slope = jax.grad(lambda s: term(there._replace(real_logits=s, fake_logits=jnp.zeros(4)), numbers))(logits)
        np.testing.assert_allclose(slope, 2 * 3 / 4 * (np.asarray(logits) + 1), rtol=1e-6)
        slope = jax.grad(lambda s: term(there._replace(real_logits=jnp.zeros(4), fake_logits=s), numbers))(logits)
        np.testing.assert_allclose(slope, 2 * 3 / 4 * (np.asarray(logits) - 0.7), rtol=1e-6)


class TestLazy:
    """Every k-th step, k times as strong."""

    def term(self, penalty: Penalty, step: Any, params: Any, weight: float = 1.0) -> jax.Array:
        assert penalty.term is not None
        there = at(lambda x: mlp(params, x, jnp), params, make_points(1), make_points(2), step=jnp.asarray(step))
        return penalty.term(there, penalty.defaults.replace(r1_weight=weight))

    @pytest.mark.parametrize("every", [2, 4, 16])
    def test_value(self, every):
        params = on_device(make_params())
        once = float(self.term(PENALTIES["r1"], 0, params, 0.7))
        mine = lazy(PENALTIES["r1"], every)
        at_step = jax.jit(lambda step: self.term(mine, step, params, 0.7))
        values = [float(at_step(step)) for step in range(2 * every)]
        want = [every * once if step % every == 0 else 0.0 for step in range(2 * every)]
        np.testing.assert_allclose(values, want, rtol=1e-6)
        # Over a whole round it is as strong as the penalty itself.
        assert np.mean(values[:every]) == pytest.approx(once, rel=1e-6)

    def test_gradient_in_the_parameters(self):
        """By central differences of the NumPy formula: five times R1's at step 5, nothing at step 6."""
        params, x = make_params(), make_points(1)
        mine = lazy(PENALTIES["r1"], 5)
        got = jax.jit(jax.grad(lambda p: self.term(mine, 5, p)))(on_device(params))
        for i, leaf in enumerate(params):
            want = np.zeros_like(leaf)
            for j in np.ndindex(leaf.shape):
                sides = []
                for sign in (1, -1):
                    moved = [other.copy() for other in params]
                    moved[i][j] += sign * STEP
                    sides.append(5 * FORMULAS["r1"](input_gradient(moved, x), moved))
                want[j] = (sides[0] - sides[1]) / (2 * STEP)
            np.testing.assert_allclose(got[i], want, rtol=1e-5, atol=3e-5)
        idle = jax.jit(jax.grad(lambda p: self.term(mine, 6, p)))(on_device(params))
        chex.assert_trees_all_equal(idle, jax.tree.map(jnp.zeros_like, idle))

    def test_is_a_part_of_its_own(self):
        mine = lazy(PENALTIES["r1"], 16)
        assert mine.name == "r1_every_16"
        assert mine.numbers == PENALTIES["r1"].numbers
        assert mine.per_sample

    @pytest.mark.parametrize(("name", "every"), [("clip", 2), ("r1", 1), ("r1", 0), ("r1", 2.0)])
    def test_refused(self, name, every):
        with pytest.raises(ValueError, match=f"lazy: got '{name}' every {every}; allowed: one with a term"):
            lazy(PENALTIES[name], every)


class TestPenalty:
    def test_must_do_something(self):
        with pytest.raises(ValueError, match="penalty 'idle': got neither term nor project"):
            Penalty("idle")

    def test_remembers_in_both_or_neither(self):
        with pytest.raises(ValueError, match="penalty 'half': got one of init and remember; allowed: both, or neither"):
            Penalty("half", term=lambda at, numbers: jnp.zeros(()), init=lambda: jnp.zeros(()))
