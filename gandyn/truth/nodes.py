"""Quasi-random nodes: scrambled Sobol points, shifted afresh for every measurement.

Shapes: M scrambles, N nodes in each, C coordinates.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import qmc

from gandyn.gan import sampling

NUM_SCRAMBLES = 8
"""Independent scrambles of the nodes: enough for a standard error with a usable t interval (7 degrees of freedom)."""


@functools.lru_cache(maxsize=16)
def sobol_bits(num_scrambles: int, num_nodes: int, num_coordinates: int, seed: int = 0) -> np.ndarray:
    """(M, N, C) uint32: `num_scrambles` independently scrambled Sobol sets, as binary digits. N is a power of two.

    One point set carries every coordinate of the integrand jointly (mode, data noise, latents), so its halves are not
    correlated with one another: a real and a fake sample built from one node are an independent pair.
    """
    draws = [
        qmc.Sobol(num_coordinates, scramble=True, bits=32, rng=np.random.default_rng([seed, scramble])).random(
            num_nodes
        )
        for scramble in range(num_scrambles)
    ]
    bits = np.floor(np.stack(draws) * 2.0**32).astype(np.uint32)
    bits.flags.writeable = False
    return bits


def uniforms(key: jax.Array, bits: jax.Array) -> jax.Array:
    """(M, N, C) points in (0, 1): `bits` under a digital shift drawn from `key` for each scramble and coordinate.

    A digital shift makes every point uniform and keeps the set's structure (Owen 2003), so each measurement of each run
    has nodes of its own: errors are independent over runs and steps and average out as minibatch noise would.
    """
    return sampling.from_bits(bits ^ jax.random.bits(key, (bits.shape[0], 1, bits.shape[2]), jnp.uint32))
