"""Both bounds of the Lipschitz constant, where it is known and over every architecture."""

import dataclasses
import functools

import flax.linen as nn
import haste
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gandyn.gan import networks
from gandyn.gan.config import Config, discriminator_of
from gandyn.truth import lipschitz

SMALL = functools.partial(Config, disc_width=8)

FINITE = {
    "leaky_relu": SMALL(),
    "gelu": SMALL(disc_activation="gelu", disc_depth=1),
    "residual, label carried through": SMALL(disc_net="residual", disc_width=4, num_classes=2, disc_activation="tanh"),
    "maxout, batch": SMALL(disc_net="maxout", disc_norm="batch", maxout_pieces=3),
    "spectral, packs": SMALL(disc_norm="spectral", packing=2, disc_activation="silu"),
    "fourier, projection": SMALL(disc_fourier=4, num_classes=3, conditioning="projection", disc_activation="relu"),
}
MORE = {
    activation + ", " + net: SMALL(disc_activation=activation, disc_net=net, disc_depth=3)  # pyright: ignore[reportArgumentType]
    for activation in networks.ACTIVATIONS
    for net in ("mlp", "residual")
} | {
    "batch": SMALL(disc_norm="batch"),
    "residual, batch, fourier": SMALL(disc_net="residual", disc_norm="batch", disc_fourier=4),
    "spectral, label": SMALL(disc_norm="spectral", num_classes=3),
    "spectral, maxout": SMALL(disc_norm="spectral", disc_net="maxout", disc_depth=1),
    "maxout, packs": SMALL(disc_net="maxout", packing=3),
    "residual of packs as wide": SMALL(disc_net="residual", packing=4),
}
INFINITE = {
    "quadratic": SMALL(disc_net="quadratic"),
    "layer": SMALL(disc_norm="layer"),
    "stddev": SMALL(minibatch_layer="stddev"),
    "discrimination": SMALL(minibatch_layer="discrimination"),
}


def variables_of(config: Config, seed: int = 0):
    """D with random biases, scales and running statistics, too."""
    labels = jnp.zeros(1, jnp.int32) if config.num_classes else None
    start = jax.eval_shape(discriminator_of(config).init, jax.random.key(0), jnp.zeros((1, 2 * config.packing)), labels)
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key == "var":
            return jnp.asarray(rng.uniform(0.5, 2, leaf.shape), jnp.float32)
        return jnp.asarray(
            rng.normal(size=leaf.shape) / np.sqrt(max(1, leaf.shape[0] if leaf.ndim > 1 else 1)), leaf.dtype
        )

    return jax.tree_util.tree_map_with_path(draw, start)


def bounds(config: Config, variables, seed: int = 0, num_steps: int = 0) -> tuple[float, float]:
    """The largest slope around the origin, refined by a search where asked for, over all labels; and `upper`."""
    points = jnp.asarray(np.random.default_rng(seed).normal(size=(256, 2 * config.packing)), jnp.float32)

    def largest(variables, label):
        def disc(x):
            labels = jnp.full(len(x), label) if config.num_classes else None
            return networks.call(discriminator_of(config), variables, x, labels)[0]

        if num_steps:
            return lipschitz.lower(disc, points, num_steps)
        return jnp.max(jnp.linalg.norm(jax.grad(lambda x: jnp.sum(disc(x)))(points), axis=1))

    @haste.jit
    def both(variables):
        each = jax.lax.map(functools.partial(largest, variables), jnp.arange(max(1, config.num_classes)))
        return jnp.max(each), lipschitz.upper(discriminator_of(config), variables)

    low, high = both(variables)
    return float(low), float(high)


def check_order(config: Config, seed: int = 0, num_steps: int = 0) -> None:
    low, high = bounds(config, variables_of(config, seed), seed, num_steps)
    assert 0 < low <= high * (1 + 1e-5)
    assert np.isfinite(high)


class TestUpper:
    @pytest.mark.parametrize("name", FINITE)
    @pytest.mark.quick(2)
    def test_is_not_below_what_is_measured(self, name):
        check_order(FINITE[name])

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", [1, 2])
    @pytest.mark.parametrize("name", [*FINITE, *MORE])
    def test_is_not_below_what_is_measured_anywhere(self, name, seed):
        check_order((FINITE | MORE)[name], seed, num_steps=12)

    @pytest.mark.parametrize("name", INFINITE)
    def test_infinite(self, name):
        assert lipschitz.upper(discriminator_of(INFINITE[name]), {}) == np.inf

    def test_a_module_that_does_not_say_is_unbounded(self):
        assert lipschitz.upper(nn.Dense(1), {"params": {}}) == np.inf

    @pytest.mark.parametrize(
        "config",
        [
            SMALL(disc_net="bilinear", packing=2),
            SMALL(disc_depth=0, num_classes=3),
            SMALL(disc_depth=0, disc_norm="spectral"),
        ],
    )
    def test_linear_is_exact(self, config):
        low, high = bounds(config, variables_of(config))
        assert high == pytest.approx(low, rel=1e-6)

    def test_slopes(self):
        at = jnp.linspace(-6, 6, 6001)
        slopes = haste.jit(lambda: {name: jax.vmap(jax.grad(f))(at) for name, f in networks.ACTIVATIONS.items()})()
        for name, slope in slopes.items():
            low, high = map(np.float32, (networks.ACTIVATIONS[name].low, networks.ACTIVATIONS[name].high))
            assert low <= float(slope.min()) <= low + 0.01, name
            assert high - 0.01 <= float(slope.max()) <= high, name

    def test_known(self):
        cases = [
            # |x_1|: the product of the norms would be 2.
            (SMALL(disc_width=2, disc_activation="relu"), ([[1, -1], [0, 0]], [[1], [1]]), 1.0),
            # 2 tanh(3 x_1 + 4 x_2).
            (SMALL(disc_width=1, disc_activation="tanh"), ([[3], [4]], [[2]]), 10.0),
            # x_1 + relu(2 x_1).
            (SMALL(disc_width=2, disc_activation="relu", disc_net="residual"), ([[2, 0], [0, 2]], [[1], [0]]), 3.0),
            # max(3 x_1, -3 x_1): the norm of both pieces together would be 3 sqrt(2).
            (SMALL(disc_width=1, disc_net="maxout", maxout_pieces=2), ([[3, -3], [0, 0]], [[1]]), 3.0),
            # max(3 x_1, 4 x_2): the largest entries together would make it 5.
            (SMALL(disc_width=1, disc_net="maxout", maxout_pieces=2), ([[3, 0], [0, 4]], [[1]]), 4.0),
        ]

        @haste.jit
        def uppers():
            found = []
            for config, kernels, _ in cases:
                params = {f"Dense_{i}": {"kernel": jnp.asarray(kernels[i], jnp.float32)} for i in range(2)}
                module = discriminator_of(dataclasses.replace(config, disc_depth=1))
                found.append(lipschitz.upper(module, {"params": params}))
            return found

        np.testing.assert_allclose(uppers(), [known for *_, known in cases], rtol=1e-6)

    def test_fourier_is_exact_for_one_frequency(self):
        config = SMALL(disc_fourier=1, disc_depth=0)
        variables = {
            "params": {"Dense_0": {"kernel": jnp.asarray([[0.6], [0.8]]), "bias": jnp.zeros(1)}},
            "constants": {"FourierFeatures_0": {"frequency": jnp.asarray([[0.3], [0.4]])}},
        }
        assert bounds(config, variables)[1] == pytest.approx(np.pi, rel=1e-6)

    def test_is_at_most_the_product_of_norms(self):
        config = SMALL(disc_depth=3)
        variables = variables_of(config)
        product = np.prod([np.linalg.norm(layer["kernel"], 2) for layer in variables["params"].values()])
        assert bounds(config, variables)[1] < 0.7 * product

    def test_many_at_once_and_what_is_not_a_number(self):
        each = [variables_of(FINITE["leaky_relu"], seed) for seed in range(2)]
        each.append(jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), each[0]))
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
        upper = functools.partial(lipschitz.upper, discriminator_of(FINITE["leaky_relu"]))
        got, alone = map(np.asarray, haste.jit(lambda all, one: (jax.vmap(upper)(all), upper(one)))(stacked, each[1]))
        assert got[1] == pytest.approx(alone, rel=1e-5)
        assert got[0] != got[1]
        assert np.isnan(got[2])


class TestLower:
    @pytest.mark.slow
    def test_finds_the_largest_slope(self):
        axis = jnp.asarray([-1.0, 0.0, 1.0])
        points = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)

        @haste.jit
        @jax.vmap
        def lower(weights):
            def disc(x):
                smooth = jnp.tanh(2 * (x[:, 0] - 0.3))
                bump = jnp.exp(-0.5 * jnp.sum(x**2, axis=1))
                # Slope 5 in a strip that the points miss.
                linear = 5 * jnp.clip(x[:, 0] - 0.3, 0, 0.2) + jax.nn.relu(x[:, 0] - 0.5)
                return weights[0] * smooth + weights[1] * bump + weights[2] * linear

            return lipschitz.lower(disc, points, num_steps=20)

        known = np.array([2.0, np.exp(-0.5), 5.0])
        got = np.asarray(lower(jnp.eye(3)))
        assert np.all(got <= known * (1 + 1e-6))
        np.testing.assert_allclose(got, known, rtol=1e-4)

    def test_is_at_least_the_slope_at_every_point(self):
        points = jnp.asarray(np.random.default_rng(0).normal(size=(300, 2)), jnp.float32)
        disc = lambda x: jnp.sum(jnp.sin(3 * x) * x, axis=1)  # noqa: E731

        @haste.jit
        def found(points):
            slopes = jnp.linalg.norm(jax.grad(lambda x: jnp.sum(disc(x)))(points), axis=1)
            return jnp.max(slopes), lipschitz.lower(disc, points, 0), lipschitz.lower(disc, points)

        largest, none, some = map(float, found(points))
        assert none == pytest.approx(largest, rel=1e-6)
        assert some > 1.1 * largest

    def test_what_is_not_a_number_stays_so(self):
        disc = lambda x: jnp.where(x[:, 0] > 0.9, jnp.nan, 1.0) * x[:, 0]  # noqa: E731
        points = jnp.asarray([[0.0, 0.0], [1.0, 0.0], [0.5, 0.0]])
        assert np.isnan(haste.jit(functools.partial(lipschitz.lower, disc))(points))

    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
    def test_directions_reach_every_coordinate(self, size):
        directions = lipschitz._directions(size)
        np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0)
        for unit in (*np.eye(size), *-np.eye(size)):
            assert np.isclose(directions, unit, atol=1e-12).all(axis=1).any()

    @pytest.mark.parametrize("size", [1, 3, 4])
    def test_climb_never_goes_down(self, size):
        points = jnp.asarray(np.random.default_rng(0).normal(size=(20, size)), jnp.float32)
        function = lambda x: -jnp.sum((x - 1.0) ** 2, axis=1)  # noqa: E731
        found, values = haste.jit(lambda points: lipschitz.climb(function, points, 0.5, 40))(points)
        assert np.all(values >= function(points))
        np.testing.assert_allclose(found, 1.0, atol=1e-2)
        np.testing.assert_allclose(values, function(found), atol=1e-7)


class TestCriticW1:
    def test_steep_linear_critic_of_shifted_gaussians(self):
        # D = 3 x_1, p = N((2, 0), I), q = N(0, I): the difference is 6, and W1 is 2.
        critic = {"params": {"Dense_0": {"kernel": jnp.asarray([[3.0], [0.0]])}}}
        low, high = bounds(SMALL(disc_net="bilinear"), critic)
        assert [float(w1) for w1 in lipschitz.critic_w1(np.float32(6), np.float32(low), np.float32(high))] == [2.0, 2.0]

    def test_certified_is_the_smaller(self):
        certified, optimistic = lipschitz.critic_w1(*np.asarray([6.0, 2.0, 4.0]))
        assert (float(certified), float(optimistic)) == (1.5, 3.0)

    def test_nothing_told_apart_nothing_certified(self):
        assert [float(w1) for w1 in lipschitz.critic_w1(*np.zeros(3))] == [0.0, 0.0]
        assert float(lipschitz.critic_w1(np.float32(1), np.float32(1), np.float32(np.inf))[0]) == 0.0
