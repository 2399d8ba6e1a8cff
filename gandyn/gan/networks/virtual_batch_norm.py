"""Virtual batch normalization: a generator whose samples are normalized by a fixed reference batch.

Salimans et al. 2016, section 3.2. Each sample is normalized by the statistics of a reference batch of latents, chosen
once and fixed at the start of training, and of itself, so that no sample depends on the others of its minibatch.

Shapes: B batch, Z latent dimension, M reference latents, W width.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from gandyn.gan.networks.layers import Dense


class VirtualBatchNorm(nn.Module):
    """(M + B, W) -> (M + B, W): the first M rows are the reference batch.

    With the mean m and variance v of the M reference rows and c = 1 / (M + 1), a sample x has the mean and variance of
    the reference batch with x added, as in the authors' code:

        mean = (1 - c) m + c x,    variance = (1 - c) v + c (1 - c) (x - m)^2

    The reference rows are normalized by m and v alone.
    """

    num_reference: int
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        reference = x[: self.num_reference]
        mean, var = jnp.mean(reference, axis=0)[None, :], jnp.var(reference, axis=0)[None, :]
        share = jnp.where(jnp.arange(len(x)) < self.num_reference, 0.0, 1 / (self.num_reference + 1))[:, None]
        away = x - mean
        variance = (1 - share) * var + share * (1 - share) * away**2
        scale = self.param("scale", nn.initializers.ones, (x.shape[1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[1],))
        return (1 - share) * away * jax.lax.rsqrt(variance + self.epsilon) * scale[None, :] + bias[None, :]


class VirtualBatchNormGenerator(nn.Module):
    """G: latents (B, Z) -> points (B, *event_shape), hidden layers virtually batch-normalized.

    Attributes:
      event_shape: of a point.
      width, depth: units in each hidden layer, hidden layers.
      num_reference: M; the reference latents are a collection of their own, drawn with the parameters' key.
      prior: (key, shape) -> latents, what the reference batch is drawn from.
    """

    event_shape: tuple[int, ...] = (2,)
    width: int = 128
    depth: int = 2
    num_reference: int = 128
    prior: Callable[[jax.Array, tuple[int, ...]], jax.Array] = jax.random.normal
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    couples = False

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        draw = lambda: self.prior(self.make_rng("params"), (self.num_reference, z.shape[1]))  # noqa: E731
        x = jnp.concatenate([self.variable("constants", "reference", draw).value, z])
        for _ in range(self.depth):
            x = Dense(self.width, self.kernel_init)(x)
            x = nn.relu(VirtualBatchNorm(self.num_reference)(x))
        points = Dense(math.prod(self.event_shape), self.kernel_init)(x[self.num_reference :])
        return points.reshape(len(z), *self.event_shape)
