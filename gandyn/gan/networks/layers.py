"""What networks are made of: affine layers, normalizations, layers that see the batch, initializers, activations.

Shapes: B batch, I inputs, W width, C classes.
"""

import dataclasses
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

# ---- activations


@dataclasses.dataclass(frozen=True, eq=False)
class Activation:
    """A pointwise nonlinearity.

    Attributes:
      function: x -> y, of one shape.
      low, high: its least and largest slope, rounded outwards; infinite where there is none.
      piecewise_linear: whether its slope is constant but for jumps, so that D has no second derivative.
    """

    function: Callable[[jax.Array], jax.Array]
    low: float = -math.inf
    high: float = math.inf
    piecewise_linear: bool = False

    def __call__(self, x: jax.Array) -> jax.Array:
        """`function`."""
        return self.function(x)


# Flax's values and derivatives, NaN at NaN too, in forms whose derivative is one operation (benchmarks/NOTES.md).


def _leaky_relu(slope: float) -> Activation:
    return Activation(lambda x: x * jnp.where(x >= 0, 1.0, slope), slope, 1.0, piecewise_linear=True)


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(lambda x: jnp.where(x <= 0, 0, x), 0.0, 1.0, piecewise_linear=True),
    "leaky_relu": _leaky_relu(0.2),
    "leaky_relu_0.01": _leaky_relu(0.01),
    "leaky_relu_0.1": _leaky_relu(0.1),
    "leaky_relu_0.3": _leaky_relu(0.3),
    "tanh": Activation(nn.tanh, 0.0, 1.0),
    "elu": Activation(nn.elu, 0.0, 1.0),
    "gelu": Activation(nn.gelu, -0.1292, 1.1292),  # flax's, by tanh
    "silu": Activation(nn.silu, -0.0999, 1.0999),
    "softplus": Activation(nn.softplus, 0.0, 1.0),
}
"""Pointwise nonlinearities. `leaky_relu` has slope 0.2 as in DCGAN (Radford et al. 2016) and most GAN codes; 0.01 is
PyTorch's default, 0.3 that of Keras, 0.1 BourGAN's (Xiao et al. 2018)."""


# ---- initializers


def _haiku(key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
    return jax.random.truncated_normal(key, -2, 2, shape, dtype) / math.sqrt(shape[0])


INITIALIZERS: dict[str, nn.initializers.Initializer] = {
    "he_normal": nn.initializers.he_normal(),
    "he_uniform": nn.initializers.he_uniform(),
    "glorot_uniform": nn.initializers.glorot_uniform(),
    "lecun_normal": nn.initializers.lecun_normal(),
    "pytorch": nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
    "haiku": _haiku,
    "orthogonal": nn.initializers.orthogonal(),
    "normal_0.02": nn.initializers.normal(0.02),
}
"""Initializers of kernels (fan-in, fan-out). `pytorch` is torch.nn.Linear's, uniform within +-1 / sqrt(fan-in); `haiku`
is hk.Linear's (and Sonnet's), a normal of std 1 / sqrt(fan-in) cut at two of its stds, which leaves 0.880 of it, where
`lecun_normal` scales that back; `glorot_uniform` is Keras's and TensorFlow's. `HParams.init_scale` multiplies every
kernel, and no bias."""


def _uniform_fan_in(fan_in: int) -> nn.initializers.Initializer:
    bound = 1 / math.sqrt(fan_in)
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


BIAS_INITIALIZERS: dict[str, Callable[[int], nn.initializers.Initializer]] = {
    "zeros": lambda fan_in: nn.initializers.zeros,
    "pytorch": _uniform_fan_in,
    "normal_0.02": lambda fan_in: nn.initializers.normal(0.02),
}
"""Initializers of biases: the layer's fan-in -> its initializer. `pytorch` is torch.nn.Linear's, uniform within
+-1 / sqrt(fan-in) of the layer, as its kernel is. The name "matching" stands for the one that the kernels' framework
has beside them: `pytorch` with `pytorch`, else `zeros`."""


def bias_initializer(name: str, initializer: str) -> Callable[[int], nn.initializers.Initializer]:
    """The entry of `BIAS_INITIALIZERS`, with "matching" resolved by the name of the kernels' initializer."""
    if name == "matching":
        name = "pytorch" if initializer == "pytorch" else "zeros"
    return BIAS_INITIALIZERS[name]


# ---- affine layers

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
    """An affine layer, (B, I) -> (B, features); `flax.linen.Dense` but for the thin products.

    Attributes:
      features: outputs.
      kernel_init: of the kernel (I, features).
      bias_init: I -> initializer of the bias (features,), as in `BIAS_INITIALIZERS`.
      use_bias: whether there is one.
    """

    features: int
    kernel_init: nn.initializers.Initializer
    bias_init: Callable[[int], nn.initializers.Initializer] = BIAS_INITIALIZERS["zeros"]
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        y = _matmul(x, kernel)
        if not self.use_bias:
            return y
        return y + self.param("bias", self.bias_init(x.shape[-1]), (self.features,))[None, :]


class FourierFeatures(nn.Module):
    """(B, I) -> (B, 2 num): sines and cosines of 2 pi f . x at fixed normal f (Tancik et al. 2020, eq. 5)."""

    num: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        normal = lambda: jax.random.normal(self.make_rng("params"), (x.shape[-1], self.num))  # noqa: E731
        angle = 2 * jnp.pi * x @ self.variable("constants", "frequency", normal).value
        return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=1)


class Embedding(nn.Module):
    """A row of a (C, features) kernel for each one-hot label (B, C)."""

    features: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, one_hot: jax.Array) -> jax.Array:
        return one_hot @ self.param("kernel", self.kernel_init, (one_hot.shape[-1], self.features))


# ---- layers that see the batch


class BatchNorm(nn.Module):
    """(B, W) -> (B, W): each feature less its mean over its std, times a scale, plus a bias; Ioffe & Szegedy 2015.

    Mean and variance are those of the batch, or with `use_running_average` the running ones. The variance is the mean
    square *around the mean*: E x^2 - (E x)^2, which `flax.linen.BatchNorm` takes unless told otherwise, loses in
    float32 what a collapsed generator's batch has of it (mean 4, std 0.01: D's gradient is wrong by 3 %).

    Attributes:
      momentum: of the running statistics, running <- momentum * running + (1 - momentum) * batch. 0.9 is PyTorch's
        default (there called 0.1), 0.99 that of Keras.
      epsilon: added to the variance. 1e-5 is PyTorch's default, 1e-3 that of Keras.
      unbiased: whether the *running* variance takes B / (B - 1) of the batch's, as PyTorch's does. The batch at hand is
        normalized by the biased one in either case, as everywhere.
    """

    use_running_average: bool = False
    momentum: float = 0.9
    epsilon: float = 1e-5
    unbiased: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size = x.shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (size,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (size,))
        if self.use_running_average:
            centered, var = x - running_mean.value[None, :], running_var.value
        else:
            mean = jnp.mean(x, axis=0)
            centered = x - mean[None, :]
            var = jnp.mean(jnp.square(centered), axis=0)
            if not self.is_initializing() and self.is_mutable_collection("batch_stats"):
                keep, counted = self.momentum, len(x) / max(len(x) - 1, 1) if self.unbiased else 1
                running_mean.value = keep * running_mean.value + (1 - keep) * mean
                running_var.value = keep * running_var.value + (1 - keep) * counted * var
        scale = self.param("scale", nn.initializers.ones, (size,)) * jax.lax.rsqrt(var + self.epsilon)
        return centered * scale[None, :] + self.param("bias", nn.initializers.zeros, (size,))[None, :]


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
