"""The Lipschitz constant of a discriminator, bounded from both sides, and what a critic then says about W1.

L = sup |D(x) - D(y)| / |x - y| over all of space; that of packs of m points has m times as many dimensions.

Shapes: N points of I coordinates.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

_COMPASS = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)


def climb(
    function: Callable[[jax.Array], jax.Array], points: jax.Array, step: jax.Array | float, num_steps: int
) -> tuple[jax.Array, jax.Array]:
    """Local maxima of a function from (N, I) to (N,), by pattern search (Hooke & Jeeves 1961).

    From each point (N, I) at once: eight directions in every coordinate plane (2i, 2i + 1), the best of them taken if
    it is better, else the step halved. It needs no gradient: the slope of a piecewise linear D is constant between its
    jumps.

    Returns:
      The points (N, I) and their values (N,), nowhere below those at the start.
    """
    num, size = points.shape
    directions = jnp.asarray(np.kron(np.eye(size // 2), _COMPASS), points.dtype)

    def move(carry: tuple[jax.Array, ...], _: None) -> tuple[tuple[jax.Array, ...], None]:
        points, values, step = carry
        around = points[:, None, :] + step[:, None, None] * directions[None, :, :]
        found = function(around.reshape(-1, size)).reshape(num, -1)
        best = jnp.argmax(found, axis=1)
        best_value = jnp.take_along_axis(found, best[:, None], axis=1)[:, 0]
        better = best_value > values
        points = jnp.where(better[:, None], around[jnp.arange(num), best], points)
        return (points, jnp.where(better, best_value, values), jnp.where(better, step, step / 2)), None

    start = points, function(points), jnp.full(num, step, points.dtype)
    (points, values, _), _ = jax.lax.scan(move, start, None, length=num_steps)
    return points, values


def lower(
    disc: Callable[[jax.Array], jax.Array], points: jax.Array, num_steps: int = 16, num_starts: int = 16
) -> jax.Array:
    """A lower bound of L: the largest gradient norm of D over points (N, I) and over a search from the steepest.

    NaN where a gradient is.

    Args:
      disc: (N, I) -> (N,), each output of its own point alone.
      points: where D may be steep: real and fake samples, and points between them.
      num_steps: of `climb`, each of which evaluates D's gradient at 4 I * num_starts points.
      num_starts: how many of the steepest points it starts from.
    """
    slope = lambda x: jnp.linalg.norm(jax.grad(lambda x: jnp.sum(disc(x)))(x), axis=1)  # noqa: E731
    slopes = slope(points)
    start = jax.lax.top_k(slopes, min(num_starts, len(points)))[1]
    spread = jnp.sqrt(jnp.mean(jnp.var(points, axis=0)))
    _, refined = climb(slope, points[start], spread / 2, num_steps)
    # The largest start is that of all points, unless one is NaN, which a search would not keep.
    return jnp.maximum(jnp.max(refined), jnp.max(slopes))


def upper(module: nn.Module, variables: Any) -> jax.Array:
    """An upper bound of L over all of space, from D's weights: what its module knows, else infinite.

    Args:
      module: of D; a method `lipschitz(variables)` gives the bound, as that of `networks.Discriminator` does.
      variables: all its collections.
    """
    known = getattr(module, "lipschitz", None)
    return jnp.asarray(jnp.inf) if known is None else known(variables)


def critic_w1(difference: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """What a critic says about W1: (E D(x) - E D(G(z))) / L with either bound in place of L.

    Args:
      difference: E D(x) - E D(G(z)).
      lower: of L.
      upper: of L.

    Returns:
      difference / upper, a certified lower bound of W1 (Kantorovich & Rubinstein; Villani 2009, remark 6.5), and
      difference / lower, what it would be if D were nowhere steeper than measured: no bound of W1 in either direction,
      and the better the closer the two are. Zero for a critic that tells nothing apart. Standard errors scale alike.
    """
    difference = jnp.asarray(difference)
    certified, optimistic = (jnp.where(difference == 0, 0.0, difference / bound) for bound in (upper, lower))
    return certified, optimistic
