"""Flax Linen modules of the two players. They know nothing of training.

Shapes: B batch, Z latent dimension.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "leaky_relu": lambda x: nn.leaky_relu(x, 0.2),
    "tanh": nn.tanh,
    "elu": nn.elu,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "softplus": nn.softplus,
}
"""Pointwise nonlinearities; `leaky_relu` has slope 0.2 as in DCGAN (Radford et al. 2016)."""

INITIALIZERS: dict[str, nn.initializers.Initializer] = {
    "he_normal": nn.initializers.he_normal(),
    "glorot_uniform": nn.initializers.glorot_uniform(),
    "orthogonal": nn.initializers.orthogonal(),
    "normal_0.02": nn.initializers.normal(0.02),
}
"""Kernel initializers; biases start at zero. `HParams.init_scale` multiplies every kernel."""

# A product with so few outputs leaves most of a matrix unit idle; as multiply-adds it fuses with its neighbours. Thin
# inputs gain nothing by it (benchmarks/NOTES.md).
_NARROW = 4


def _matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x (B, I) times kernel (I, O): (B, O)."""
    fan_out = kernel.shape[1]
    if fan_out <= _NARROW:
        return jnp.stack([jnp.sum(x * kernel[None, :, j], axis=1) for j in range(fan_out)], axis=1)
    return x @ kernel


class Dense(nn.Module):
    """An affine layer, (B, I) -> (B, features); `flax.linen.Dense` but for the thin products."""

    features: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return _matmul(x, kernel) + bias[None, :]


class MLP(nn.Module):
    """`depth` hidden layers of `width` units, then an affine layer: (B, I) -> (B, out)."""

    out: int
    width: int
    depth: int
    activation: Callable[[jax.Array], jax.Array]
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(self.depth):
            x = self.activation(Dense(self.width, self.kernel_init)(x))
        return Dense(self.out, self.kernel_init)(x)


def generator(width: int, depth: int, activation: str, initializer: str) -> nn.Module:
    """G: latents (B, Z) -> points (B, 2)."""
    return MLP(2, width, depth, ACTIVATIONS[activation], INITIALIZERS[initializer])


def discriminator(width: int, depth: int, activation: str, initializer: str) -> nn.Module:
    """D: points (B, 2) -> logits (B, 1). The output is a logit (or a critic's score), never squashed."""
    return MLP(1, width, depth, ACTIVATIONS[activation], INITIALIZERS[initializer])
