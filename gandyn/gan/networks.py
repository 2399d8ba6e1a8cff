"""Flax Linen modules of the two players. They know nothing of training.

A module keeps what is trained in the collection "params"; running means and variances, power-iteration vectors and
fixed random frequencies are in other collections. `train` decides only which statistics batch normalization uses:
those of the batch at hand, or the running ones. Shapes: B batch, Z latent dimension, C classes, W width.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    # Flax's values and derivatives, NaN at NaN too, in forms whose derivative is one operation (benchmarks/NOTES.md).
    "relu": lambda x: jnp.where(x <= 0, 0, x),
    "leaky_relu": lambda x: x * jnp.where(x >= 0, 1.0, 0.2),
    "tanh": nn.tanh,
    "elu": nn.elu,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "softplus": nn.softplus,
}
"""Pointwise nonlinearities; `leaky_relu` has slope 0.2 as in DCGAN (Radford et al. 2016)."""

INITIALIZERS: dict[str, nn.initializers.Initializer] = {
    "he_normal": nn.initializers.he_normal(),
    "he_uniform": nn.initializers.he_uniform(),
    "glorot_uniform": nn.initializers.glorot_uniform(),
    "lecun_normal": nn.initializers.lecun_normal(),
    "uniform_fan_in": nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
    "orthogonal": nn.initializers.orthogonal(),
    "normal_0.02": nn.initializers.normal(0.02),
}
"""Kernel initializers; biases start at zero. `HParams.init_scale` multiplies every kernel. `uniform_fan_in` is
PyTorch's default, uniform within +-1 / sqrt(fan-in)."""

GENERATORS: dict[str, str] = {
    "mlp": "hidden layers, then an affine one",
    "residual": "as mlp, each hidden layer after the first added to its input; He et al. 2016",
    "affine": "A z + b: Gaussian noise gives a Gaussian, exactly",
    "point": "one point theta whatever z is: the Dirac-GAN's; Mescheder et al. 2018, definition 2.1",
}

DISCRIMINATORS: dict[str, str] = {
    "mlp": "hidden layers, then an affine one",
    "residual": "as mlp, each hidden layer after the first added to its input; He et al. 2016",
    "maxout": "hidden layers of maxima over maxout_pieces affine maps; Goodfellow et al. 2013; PacGAN's",
    "bilinear": "psi . x, without bias: with a point as G, the Dirac-GAN and (Wasserstein) the bilinear game",
    "quadratic": "x A x + b x + c: holds the optimal logit between Gaussians; Feizi et al. 2017",
}

NORMS: dict[str, str] = {
    "none": "",
    "layer": "layer normalization before each nonlinearity; Ba et al. 2016",
    "batch": "batch normalization before each nonlinearity, real and fake batches apart; Ioffe & Szegedy 2015",
    "spectral": "D's kernels divided by their largest singular value, one power iteration a step; Miyato et al. 2018",
}

MINIBATCH_LAYERS: dict[str, str] = {
    "none": "",
    "stddev": "the batch's mean standard deviation of the last hidden features, as one more; Karras et al. 2018",
    "discrimination": "closeness to the batch under 8 learned maps to 4 dimensions; Salimans et al. 2016, section 3.2",
}

_NARROW = 4
"""Outputs of a product that has too few to fill a matrix unit."""


@jax.custom_jvp
def _matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x (B, I) times kernel (I, O): (B, O), with derivatives in the forms that are fastest (benchmarks/NOTES.md)."""
    return x @ kernel


@_matmul.defjvp
def _matmul_jvp(primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]) -> tuple:
    (x, kernel), (dx, dkernel) = primals, tangents
    y = _matmul(x, kernel)
    if kernel.shape[1] <= _NARROW:
        return y, _multiply_add(dx, kernel) + _multiply_add(x, dkernel)
    # The gradient by the kernel is then the product of a stored x^T. On CPU one that sums over the rows of both its
    # sides takes twice as long, and without the barrier the compiler makes that of it.
    transposed = jax.lax.optimization_barrier(x.T)
    return y, _matmul(dx, kernel) + jax.lax.dot_general(transposed, dkernel, (((0,), (0,)), ((), ())))


def _multiply_add(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same product as sums, whose transposes fuse with their neighbours."""
    return jnp.stack([jnp.sum(x * column[None, :], axis=1) for column in kernel.T], axis=1)


class Dense(nn.Module):
    """An affine layer, (B, I) -> (B, features); `flax.linen.Dense` but for the thin products."""

    features: int
    kernel_init: nn.initializers.Initializer
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        y = _matmul(x, kernel)
        if not self.use_bias:
            return y
        return y + self.param("bias", nn.initializers.zeros, (self.features,))[None, :]


class FourierFeatures(nn.Module):
    """(B, I) -> (B, 2 num): sines and cosines of 2 pi f . x at fixed normal f (Tancik et al. 2020, eq. 5)."""

    num: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        normal = lambda: jax.random.normal(self.make_rng("params"), (x.shape[-1], self.num))  # noqa: E731
        angle = 2 * jnp.pi * x @ self.variable("constants", "frequency", normal).value
        return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=1)


class MinibatchStddev(nn.Module):
    """(B, W) -> (B, W + 1): the standard deviation over the batch, averaged over features, beside each sample's own."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        stddev = jnp.mean(jnp.sqrt(jnp.var(x, axis=0) + 1e-8))  # 1e-8 as in the authors' code
        return jnp.concatenate([x, jnp.full((len(x), 1), stddev)], axis=1)


class MinibatchDiscrimination(nn.Module):
    """(B, W) -> (B, W + num): for each kernel, the sum over the batch of exp(-L1 distance) between samples' images."""

    kernel_init: nn.initializers.Initializer
    num: int = 8
    dim: int = 4

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        image = Dense(self.num * self.dim, self.kernel_init, use_bias=False)(x).reshape(len(x), self.num, self.dim)
        distance = jnp.sum(jnp.abs(image[:, None] - image[None, :]), axis=-1)
        return jnp.concatenate([x, jnp.sum(jnp.exp(-distance), axis=1)], axis=1)


class Embedding(nn.Module):
    """A row of a (C, features) kernel for each one-hot label (B, C)."""

    features: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, one_hot: jax.Array) -> jax.Array:
        return one_hot @ self.param("kernel", self.kernel_init, (one_hot.shape[-1], self.features))


class _Body(nn.Module):
    """What the two players share: the fields, and the hidden layers."""

    net: str
    width: int
    depth: int
    activation: str
    initializer: str
    norm: str = "none"
    fourier: int = 0
    maxout_pieces: int = 5
    num_classes: int = 0

    def _dense(self, features: int, x: jax.Array) -> jax.Array:
        layer = Dense(features, INITIALIZERS[self.initializer])
        if self.norm == "spectral":
            # Each call makes one power iteration from the stored vector; whether the new one is kept is the caller's
            # choice, so within an update D is one function.
            return nn.SpectralNorm(layer)(x, update_stats=self.is_mutable_collection("batch_stats"))
        return layer(x)

    def _hidden(self, x: jax.Array, train: bool) -> jax.Array:
        """(B, I) -> (B, W)."""
        pieces = self.maxout_pieces if self.net == "maxout" else 1
        for _ in range(self.depth):
            y = self._dense(pieces * self.width, x)
            if self.net == "maxout":
                # Not jnp.max, whose gradient divides by the number of entries that equal the maximum: where the
                # compiler computes the entries twice and rounds them differently, that is zero (seen on CPU).
                y = functools.reduce(jnp.maximum, jnp.split(y, pieces, axis=1))
            if self.norm == "batch":
                y = nn.BatchNorm(use_running_average=not train, momentum=0.9)(y)
            elif self.norm == "layer":
                y = nn.LayerNorm()(y)
            if self.net != "maxout":
                y = ACTIVATIONS[self.activation](y)
            x = x + y if self.net == "residual" and x.shape == y.shape else y
        return x

    def _input(self, x: jax.Array, one_hot: jax.Array | None) -> jax.Array:
        """The points, as Fourier features where asked for, and the label beside them."""
        if self.fourier:
            x = FourierFeatures(self.fourier)(x)
        return x if one_hot is None else jnp.concatenate([x, one_hot], axis=1)

    def _one_hot(self, labels: jax.Array | None) -> jax.Array | None:
        return None if labels is None else jax.nn.one_hot(labels, self.num_classes)


class Generator(_Body):
    """G: latents (B, Z) and, where conditional, labels (B,) -> points (B, 2)."""

    @nn.compact
    def __call__(self, z: jax.Array, labels: jax.Array | None = None, train: bool = False) -> jax.Array:
        kernel_init = INITIALIZERS[self.initializer]
        if self.net == "point":
            return jnp.broadcast_to(self.param("kernel", kernel_init, (1, 2)), (len(z), 2))
        x = self._input(z, self._one_hot(labels))
        return self._dense(2, x if self.net == "affine" else self._hidden(x, train))


class Discriminator(_Body):
    """D: points (B, I) and, where conditional, labels (B,) -> logits (B,), or a critic's scores; never squashed.

    I is 2, or 2m for packs of m points. With `projection` the label enters as the inner product of its embedding and
    the last hidden features (Miyato & Koyama 2018, eq. 4), else beside the points (Mirza & Osindero 2014).
    """

    minibatch: str = "none"
    projection: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array | None = None, train: bool = False) -> jax.Array:
        kernel_init = INITIALIZERS[self.initializer]
        if self.net == "bilinear":
            return Dense(1, kernel_init, use_bias=False)(x)[:, 0]
        one_hot = self._one_hot(labels)
        x = self._input(x, None if self.projection else one_hot)
        if self.net == "quadratic":
            products = x[:, :, None] * x[:, None, :]
            x = jnp.concatenate([x, products[:, *jnp.triu_indices(x.shape[1])]], axis=1)
        else:
            x = self._hidden(x, train)
        if one_hot is not None and self.projection:
            projected = jnp.sum(x * Embedding(x.shape[1], kernel_init)(one_hot), axis=1)
        else:
            projected = 0.0
        if self.minibatch == "stddev":
            x = MinibatchStddev()(x)
        elif self.minibatch == "discrimination":
            x = MinibatchDiscrimination(kernel_init)(x)
        return self._dense(1, x)[:, 0] + projected


# ---- any module


BIAS_INITIALIZERS = {"default": None}
WITHOUT_HIDDEN_LAYER = ("affine", "point", "bilinear", "quadratic")
WITHOUT_LABELS = ("point", "bilinear")


def generator(config, event_shape):
    if config.gen is not None:
        return config.gen
    return Generator(
        config.gen_net,
        config.gen_width,
        config.gen_depth,
        config.gen_activation,
        config.initializer,
        norm=config.gen_norm,
        fourier=config.gen_fourier,
        num_classes=config.num_classes,
    )


def discriminator(config):
    if config.disc is not None:
        return config.disc
    return Discriminator(
        config.disc_net,
        config.disc_width,
        config.disc_depth,
        config.disc_activation,
        config.initializer,
        norm=config.disc_norm,
        fourier=config.disc_fourier,
        maxout_pieces=config.maxout_pieces,
        num_classes=config.num_classes,
        minibatch=config.minibatch_layer,
        projection=config.conditioning == "projection",
    )


def init(module, key, x, labels=None):
    return module.init(key, x, labels)


def call(module, variables, x, labels=None, train=False, aux=False):
    if not train or "batch_stats" not in variables:
        return module.apply(variables, x, labels, train=train), {k: v for k, v in variables.items() if k != "params"}, {}
    out, updated = module.apply(variables, x, labels, train=True, mutable=["batch_stats"])
    return out, {k: v for k, v in variables.items() if k != "params"} | updated, {}


def check_output(player, module, out, shape):
    assert out.shape == shape, (out.shape, shape)


def couples(module, event_shape, train=True):
    return (train and getattr(module, "norm", "none") == "batch") or getattr(module, "minibatch", "none") != "none"
