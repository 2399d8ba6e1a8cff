# pyright: reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false

import itertools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gandyn.gan import networks
from gandyn.gan.networks import ACTIVATIONS, INITIALIZERS

EPS = float(np.finfo(np.float32).eps)

# Independently of flax, in float64. gelu is the tanh approximation, as flax has it.
NUMPY_ACTIVATIONS = {
    "relu": lambda x: np.where(x > 0, x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "leaky_relu_0.01": lambda x: np.where(x > 0, x, 0.01 * x),
    "leaky_relu_0.1": lambda x: np.where(x > 0, x, 0.1 * x),
    "leaky_relu_0.3": lambda x: np.where(x > 0, x, 0.3 * x),
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
@pytest.mark.quick(2)
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
@pytest.mark.quick(2)
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
@pytest.mark.quick(2)
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

    def test_pytorch(self):
        kernel, bound = self.kernel("pytorch"), 1 / np.sqrt(256)
        assert np.abs(kernel).max() <= bound * (1 + EPS)
        assert abs(kernel.std() / (bound / np.sqrt(3)) - 1) < self.SIGMA

    def test_haiku(self):
        kernel = self.kernel("haiku")  # cut at two standard deviations, and left so
        assert abs(kernel.std() * np.sqrt(256) / stats.truncnorm.std(-2, 2) - 1) < self.SIGMA
        assert 1.99 < np.abs(kernel).max() * np.sqrt(256) <= 2

    def test_lecun_normal(self):
        kernel = self.kernel("lecun_normal")  # cut at two standard deviations, then scaled back by 0.87963
        assert abs(kernel.std() * np.sqrt(256) - 1) < self.SIGMA
        assert np.abs(kernel).max() * np.sqrt(256) < 2 / 0.8796

    def test_orthogonal(self):
        kernel = self.kernel("orthogonal")
        np.testing.assert_allclose(kernel.T @ kernel, np.eye(256), atol=1e-5)

    @pytest.mark.parametrize(
        ("initializer", "bias", "want"),
        [
            ("pytorch", "matching", "pytorch"),
            ("he_normal", "matching", "zeros"),
            ("haiku", "matching", "zeros"),
            ("pytorch", "zeros", "zeros"),
            ("he_normal", "pytorch", "pytorch"),
            ("normal_0.02", "normal_0.02", "normal_0.02"),
        ],
    )
    @pytest.mark.quick(1)
    def test_biases(self, initializer, bias, want):
        """Each layer's by its own fan-in: 3 and 4,096."""
        module = networks.Generator("mlp", 4096, 1, "relu", initializer, bias, event_shape=(4096,))
        params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 3)))["params"]
        assert set(networks.BIAS_INITIALIZERS) == {"zeros", "pytorch", "normal_0.02"}
        for layer, fan_in in (("Dense_0", 3), ("Dense_1", 4096)):
            found, bound = np.asarray(params[layer]["bias"], np.float64), 1 / np.sqrt(fan_in)
            if want == "zeros":
                np.testing.assert_array_equal(found, 0)
            elif want == "pytorch":
                assert stats.kstest(found, stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
                assert np.abs(found).max() <= bound * (1 + EPS)
            else:
                assert stats.kstest(found, stats.norm(0, 0.02).cdf).pvalue > 1e-3

    def test_kernels_do_not_depend_on_the_biases(self):
        kernels = []
        for bias in networks.BIAS_INITIALIZERS:
            module = networks.Discriminator("mlp", 8, 2, "relu", "he_normal", bias)
            kernels.append(module.init(jax.random.key(0), jnp.zeros((1, 2)))["params"]["Dense_1"]["kernel"])
        np.testing.assert_array_equal(kernels[0], kernels[1])
        np.testing.assert_array_equal(kernels[0], kernels[2])

    def test_he_normal_counts_the_fan_in(self):
        # 2 -> 4,096 and 4,096 -> 2: std 1 and sqrt(2 / 4,096), each from 8,192 entries; five sigma.
        for shape in ((2, 4096), (4096, 2)):
            kernel = np.asarray(INITIALIZERS["he_normal"](jax.random.key(1), shape))
            assert abs(kernel.std() / np.sqrt(2 / shape[0]) - 1) < 5 / np.sqrt(2 * kernel.size)


class TestShapes:
    @pytest.mark.parametrize("event", [(), (1,), (3,), (4, 2, 3)])
    @pytest.mark.quick(2)
    def test_of_any_event(self, event):
        for net in networks.GENERATORS:
            gen = networks.Generator(net, 8, 2, "relu", "he_normal", event_shape=event)
            points, _ = jax.eval_shape(gen.init_with_output, jax.random.key(0), jnp.ones((5, 3)))
            assert points.shape == (5, *event)
        for net in networks.DISCRIMINATORS:
            disc = networks.Discriminator(net, 8, 2, "relu", "he_normal")
            logits, _ = jax.eval_shape(disc.init_with_output, jax.random.key(0), jnp.ones((5, *event)))
            assert logits.shape == (5,)

    def test_coordinates_keep_their_order(self):
        gen = networks.Generator("affine", 8, 0, "relu", "he_normal", event_shape=(2, 3))
        disc = networks.Discriminator("bilinear", 8, 0, "relu", "he_normal")
        kernel, slope = np.arange(6, dtype=np.float32), np.arange(1, 7, dtype=np.float32)
        dense = {"kernel": kernel[None, :], "bias": np.zeros(6, np.float32)}
        points = gen.apply({"params": {"Dense_0": dense}}, jnp.ones((1, 1)))
        np.testing.assert_array_equal(points, [[[0, 1, 2], [3, 4, 5]]])
        assert disc.apply({"params": {"Dense_0": {"kernel": slope[:, None]}}}, points) == kernel @ slope

    @pytest.mark.parametrize("num_classes", [0, 2])
    @pytest.mark.quick(1)
    def test_lipschitz_bound_holds_in_any_dimension(self, num_classes):
        disc = networks.Discriminator("mlp", 8, 2, "leaky_relu", "he_normal", num_classes=num_classes)
        x = np.random.default_rng(1).standard_normal((200, 2, 3)).astype(np.float32)
        labels = np.zeros(200, np.int32) if num_classes else None

        @jax.jit
        def both(x):
            variables = disc.init(jax.random.key(0), x, labels)
            slopes = jax.grad(lambda x: jnp.sum(disc.apply(variables, x, labels)))(x)
            return jnp.max(jnp.linalg.norm(slopes.reshape(200, -1), axis=1)), disc.lipschitz(variables)

        slope, bound = both(x)
        assert 0.1 * bound < slope <= bound


def collapsed(std: float, seed: int = 0):
    """256 points at (4, 4) + std N(0, I), float32."""
    return (4 + std * np.random.default_rng(seed).standard_normal((256, 2))).astype(np.float32)


def numpy_disc(params, x, normalize):
    """Logits of two hidden layers with a normalization and tanh, and the gradient of mean softplus(-logit) in x.

    `normalize`: x -> (centered, variance). In float64, the gradient by central differences of the whole.
    """

    def logits(x):
        for layer in range(2):
            dense, norm = (params[f"{kind}_{layer}"] for kind in ("Dense", KIND[normalize]))
            centered, var = normalize(x @ dense["kernel"].astype(np.float64) + dense["bias"])
            x = np.tanh(centered / np.sqrt(var + 1e-5) * norm["scale"].astype(np.float64) + norm["bias"])
        last = params["Dense_2"]
        return (x @ last["kernel"].astype(np.float64) + last["bias"])[:, 0]

    def loss(x):
        return np.mean(np.logaddexp(0, -logits(x)))

    x, step = x.astype(np.float64), 1e-6
    rows = range(4)  # of which the gradient is taken
    gradient = np.zeros((len(rows), x.shape[1]))
    for i in rows:
        for j in range(x.shape[1]):
            away = np.zeros_like(x)
            away[i, j] = step
            gradient[i, j] = (loss(x + away) - loss(x - away)) / (2 * step)
    return logits(x), gradient


def over_batch(x):
    return x - x.mean(axis=0), x.var(axis=0)


def over_features(x):
    return x - x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)


KIND = {over_batch: "BatchNorm", over_features: "LayerNorm"}


class TestNormalization:
    @pytest.mark.parametrize("std", [0.05, 0.01, 0.003])
    @pytest.mark.parametrize(("norm", "reference"), [("batch", over_batch), ("layer", over_features)])
    @pytest.mark.quick(2)
    def test_a_collapsed_batch_keeps_its_spread(self, norm, reference, std):
        """With E x^2 - (E x)^2 over the batch, logits are off by 0.04 / 0.8 / 6.7 %, the gradient by 0.1 / 1.8 / 11 %.

        Over features there is nothing to lose here: either form passes.
        """
        module = networks.Discriminator("mlp", 64, 2, "tanh", "he_normal", norm=norm)
        x = collapsed(std)
        variables = module.init(jax.random.key(0), x)

        @jax.jit
        def both(x):
            def loss(x):
                logits = module.apply(variables, x, train=True, mutable=["batch_stats"])[0]
                return jnp.mean(jax.nn.softplus(-logits)), logits

            (_, logits), gradient = jax.value_and_grad(loss, has_aux=True)(x)
            return logits, gradient[:4]

        params = jax.tree.map(np.asarray, variables["params"])
        for got, want in zip(both(x), numpy_disc(params, x, reference)):
            error = np.linalg.norm(got - want) / np.linalg.norm(want)
            assert error < 5e-4

    @pytest.mark.parametrize("unbiased", [False, True])
    def test_running_statistics(self, unbiased):
        """PyTorch: running <- 0.9 running + 0.1 batch, with n / (n - 1) of the batch's variance."""
        norm = networks.BatchNorm(momentum=0.75, unbiased=unbiased)
        x = 3 + 2 * np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32)
        variables = norm.init(jax.random.key(0), x)
        y, after = norm.apply(variables, x, mutable=["batch_stats"])
        np.testing.assert_allclose(y, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(after["batch_stats"]["mean"], 0.25 * x.mean(0), rtol=1e-5)
        np.testing.assert_allclose(after["batch_stats"]["var"], 0.75 + 0.25 * x.var(0, ddof=int(unbiased)), rtol=1e-5)
        running = networks.BatchNorm(use_running_average=True, epsilon=0.5)
        want = (x - 0.25 * x.mean(0)) / np.sqrt(after["batch_stats"]["var"] + 0.5)
        np.testing.assert_allclose(running.apply(variables | after, x), want, rtol=1e-5, atol=1e-6)

    def test_is_flaxs_elsewhere(self):
        ours, theirs = networks.BatchNorm(), nn.BatchNorm(use_running_average=False, momentum=0.9)
        x = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)
        variables = theirs.init(jax.random.key(0), x)
        assert jax.tree.structure(variables) == jax.tree.structure(ours.init(jax.random.key(0), x))
        got, want = (each.apply(variables, x, mutable=["batch_stats"]) for each in (ours, theirs))
        chex.assert_trees_all_close(got, want, rtol=1e-5, atol=1e-6)

    def test_minibatch_stddev_of_a_collapsed_batch(self):
        x = collapsed(1e-3)
        got = networks.MinibatchStddev().apply({}, x)[0, 2]
        assert got == pytest.approx(np.sqrt(x.astype(np.float64).var(axis=0) + 1e-8).mean(), rel=1e-4)

    def test_momentum_and_epsilon_reach_the_layers(self):
        kept = {}
        for player in (networks.Generator, networks.Discriminator):
            module = player("mlp", 8, 1, "relu", "he_normal", norm="batch", norm_momentum=0.5, norm_unbiased=True)
            x = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
            variables = module.init(jax.random.key(0), x)
            _, after = module.apply(variables, x, train=True, mutable=["batch_stats"])
            before = x @ variables["params"]["Dense_0"]["kernel"]
            kept = after["batch_stats"]["BatchNorm_0"]
            np.testing.assert_allclose(kept["mean"], 0.5 * before.mean(0), rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(kept["var"], 0.5 + 0.5 * before.var(0, ddof=1), rtol=1e-4)
            other = player("mlp", 8, 1, "relu", "he_normal", norm="batch", norm_epsilon=1.0)
            assert not np.allclose(other.apply(variables, x), module.apply(variables, x))


class TestFeatures:
    DISC = networks.Discriminator("mlp", 8, 2, "relu", "he_normal")

    def test_are_the_last_hidden_layers(self):
        x = np.random.default_rng(0).standard_normal((6, 2)).astype(np.float32)
        variables = self.DISC.init(jax.random.key(0), x)
        assert set(variables) == {"params"}
        logits, aux = networks.call(self.DISC, variables, jnp.asarray(x), mutable=("aux",))
        last = variables["params"]["Dense_2"]
        assert aux["aux"]["features"].shape == (6, 8)
        np.testing.assert_allclose(aux["aux"]["features"] @ last["kernel"][:, 0] + last["bias"][0], logits, rtol=1e-5)

    def test_cost_nothing_where_nobody_asks(self, monkeypatch):
        x = jnp.ones((6, 2))
        variables = self.DISC.init(jax.random.key(0), x)
        program = lambda: jax.jit(jax.value_and_grad(lambda v, x: jnp.sum(self.DISC.apply(v, x)))).lower(variables, x)  # noqa: E731
        silent = program().as_text()
        monkeypatch.setattr(nn.Module, "sow", lambda *args, **kwargs: False)
        assert program().as_text() == silent
