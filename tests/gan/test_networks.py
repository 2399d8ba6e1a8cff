import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gandyn.gan import networks
from gandyn.gan.networks import ACTIVATIONS, INITIALIZERS

EPS = float(np.finfo(np.float32).eps)

# Independently of flax, in float64. gelu is the tanh approximation, as flax has it.
NUMPY_ACTIVATIONS = {
    "relu": lambda x: np.where(x > 0, x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "tanh": np.tanh,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
}


def random_params(module, size: int, seed: int = 0):
    """Parameters of the module's own structure with biases that are not zero."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, size)))
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32) / np.sqrt(len(leaf)), shapes)


def numpy_mlp(params, x, activation):
    x = x.astype(np.float64)
    layers = [params["params"][f"Dense_{i}"] for i in range(len(params["params"]))]
    for layer in layers[:-1]:
        x = activation(x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64))
    return x @ np.asarray(layers[-1]["kernel"], np.float64) + np.asarray(layers[-1]["bias"], np.float64)


# Thin on either side, on both, on none; the code's border is at 4.
@pytest.mark.parametrize(
    ("fan_in", "fan_out"), [(1, 1), (1, 7), (2, 64), (4, 4), (5, 1), (64, 2), (64, 4), (5, 5), (64, 64)]
)
def test_dense_is_x_kernel_plus_bias(fan_in, fan_out):
    dense = networks.Dense(fan_out, INITIALIZERS["he_normal"])
    params = random_params(dense, fan_in)
    x = np.random.default_rng(1).standard_normal((33, fan_in)).astype(np.float32)
    cotangent = np.random.default_rng(2).standard_normal((33, fan_out)).astype(np.float32)

    @jax.jit
    def both(params, x):
        y, back = jax.vjp(dense.apply, params, x)
        return y, back(cotangent)

    y, (params_gradient, x_gradient) = both(params, x)
    kernel = params["params"]["kernel"].astype(np.float64)
    x64, c64 = x.astype(np.float64), cotangent.astype(np.float64)

    def close(got, a, b, extra=0.0):
        scale = np.abs(a) @ np.abs(b) + np.abs(extra)
        np.testing.assert_array_less(np.abs(np.asarray(got) - (a @ b + extra)), 16 * EPS * scale)

    close(y, x64, kernel, params["params"]["bias"].astype(np.float64))
    close(x_gradient, c64, kernel.T)
    close(params_gradient["params"]["kernel"], x64.T, c64)
    close(params_gradient["params"]["bias"], np.ones((1, 33)), c64)


def test_every_activation_has_a_formula_here():
    assert set(NUMPY_ACTIVATIONS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_mlp_is_numpys(name):
    modules = {
        2: networks.Discriminator("mlp", 16, 2, name, "he_normal"),
        3: networks.Generator("mlp", 16, 3, name, "he_normal"),
    }
    for size, module in modules.items():
        params = random_params(module, size)
        x = 3 * np.random.default_rng(1).standard_normal((50, size)).astype(np.float32)
        got = np.asarray(jax.jit(module.apply)(params, x))
        want = numpy_mlp(params, x, NUMPY_ACTIVATIONS[name])
        want = want[:, 0] if size == 2 else want  # D's logits have one axis
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_and_its_slope_are_finite_far_out(name):
    x = jnp.asarray([-1e4, -100.0, 0.0, 100.0, 1e4])
    value, slope = jax.vmap(jax.value_and_grad(ACTIVATIONS[name]))(x)
    assert np.isfinite(np.asarray(value)).all()
    assert np.isfinite(np.asarray(slope)).all()
    if name != "silu":  # its formula here overflows
        np.testing.assert_allclose(value, NUMPY_ACTIVATIONS[name](np.asarray(x, np.float64)), rtol=1e-6, atol=1e-6)


def test_depth_zero_is_affine():
    module = networks.Generator("mlp", width=99, depth=0, activation="relu", initializer="he_normal")
    params = random_params(module, 2)
    assert {leaf.shape for leaf in jax.tree.leaves(params)} == {(2, 2), (2,)}
    a, b = np.random.default_rng(1).standard_normal((2, 20, 2)).astype(np.float32)
    apply = jax.jit(module.apply)
    halfway = np.asarray(apply(params, (a + b) / 2))
    np.testing.assert_allclose(halfway, (np.asarray(apply(params, a)) + np.asarray(apply(params, b))) / 2, atol=1e-6)
    np.testing.assert_allclose(apply(params, a), numpy_mlp(params, a, None), atol=1e-6)


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_depth_counts_hidden_layers(depth):
    module = networks.Discriminator("mlp", 8, depth, "relu", "he_normal")
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 2)))["params"]
    sizes = [2] + [8] * depth + [1]
    assert [shapes[f"Dense_{i}"]["kernel"].shape for i in range(depth + 1)] == list(itertools.pairwise(sizes))


class TestInitializers:
    """Kernels of 256 x 256: 65,536 entries, so a standard deviation is known to 1 / sqrt(2 * 65,536) of itself."""

    SIGMA = 5 / np.sqrt(2 * 256 * 256)

    def kernel(self, name) -> np.ndarray:
        module = networks.Dense(256, INITIALIZERS[name])
        params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 256)))["params"]
        np.testing.assert_array_equal(params["bias"], 0)
        return np.asarray(params["kernel"], np.float64)

    def test_every_one_is_checked(self):
        assert set(INITIALIZERS) == {
            name for name in INITIALIZERS if hasattr(self, "test_" + name.removesuffix("_0.02"))
        }

    def test_he_normal(self):
        kernel = self.kernel("he_normal")
        assert abs(kernel.std() / np.sqrt(2 / 256) - 1) < self.SIGMA
        assert abs(kernel.mean()) < 5 * np.sqrt(2 / 256) / 256

    def test_normal(self):
        assert abs(self.kernel("normal_0.02").std() / 0.02 - 1) < self.SIGMA

    def test_glorot_uniform(self):
        kernel = self.kernel("glorot_uniform")
        bound = np.sqrt(6 / 512)
        assert np.abs(kernel).max() <= bound * (1 + EPS)
        assert abs(kernel.std() / (bound / np.sqrt(3)) - 1) < self.SIGMA

    def test_he_uniform(self):
        kernel, bound = self.kernel("he_uniform"), np.sqrt(6 / 256)
        assert np.abs(kernel).max() <= bound * (1 + EPS)
        assert abs(kernel.std() / (bound / np.sqrt(3)) - 1) < self.SIGMA

    def test_uniform_fan_in(self):
        kernel, bound = self.kernel("uniform_fan_in"), 1 / np.sqrt(256)
        assert np.abs(kernel).max() <= bound * (1 + EPS)
        assert abs(kernel.std() / (bound / np.sqrt(3)) - 1) < self.SIGMA

    def test_lecun_normal(self):
        kernel = self.kernel("lecun_normal")  # cut at two standard deviations, then scaled back by 0.87963
        assert abs(kernel.std() * np.sqrt(256) - 1) < self.SIGMA
        assert np.abs(kernel).max() * np.sqrt(256) < 2 / 0.8796

    def test_orthogonal(self):
        kernel = self.kernel("orthogonal")
        np.testing.assert_allclose(kernel.T @ kernel, np.eye(256), atol=1e-5)

    def test_he_normal_counts_the_fan_in(self):
        # 2 -> 4,096 and 4,096 -> 2: std 1 and sqrt(2 / 4,096), each from 8,192 entries; five sigma.
        for shape in ((2, 4096), (4096, 2)):
            kernel = np.asarray(INITIALIZERS["he_normal"](jax.random.key(1), shape))
            assert abs(kernel.std() / np.sqrt(2 / shape[0]) - 1) < 5 / np.sqrt(2 * kernel.size)
