"""Uniforms in the open interval (0, 1): what every random draw of the package is made of.

Minibatches and the truth's Sobol nodes differ only in where these uniforms come from; what turns them into data and
latents (`GaussianMixture.transform`, `gan.latents`) is the same code.
"""

import jax
import jax.numpy as jnp


def from_bits(bits: jax.Array) -> jax.Array:
    """uint32 -> float32 of the same shape: the 23 leading digits, at the middle of their cell, so never 0 or 1."""
    return (bits >> 9).astype(jnp.float32) * 2.0**-23 + 2.0**-24


def uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Independent uniforms in (0, 1), float32."""
    # Threefry makes two words at once; jax's default keeps their xor, one word, so that devices can share one draw.
    with jax.threefry_partitionable(False):
        return from_bits(jax.random.bits(key, shape, jnp.uint32))
