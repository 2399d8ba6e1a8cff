"""The duality gap of a pair (D, G): max_D V(D, G) - min_G V(D, G), zero at an equilibrium and nowhere negative.

max_D is the best response (`best_response`). min_G puts all of G's mass at one point. Write q for G's distribution:

- Losses with a term a sample, and those on independent pairs, have a V that is linear in q; the relativistic averages
  have E_p f(D(x) - E_q D) + E_q f(E_p D - D(x)) with convex f as -V, so V is concave in q. Both are least at an extreme
  point of the distributions, a single point x0. (With packs of m, V is a polynomial of degree m in q: one point gives
  an upper bound of min_G V, and the gap is a lower bound.)
- V at a single point depends on y = D(x0) alone, and -V is convex in y or (logistic and alpha losses) monotone: over
  the range of D, V is least at D's largest or smallest output. So the search is for those two, whatever the loss.

G is restricted to a square, the target's box: over the whole plane most D are unbounded and min_G V is -infinity. As
long as p lies in that square the gap is not negative, for min_G V <= V(D, p) <= max_D V at q = p. With instance noise
G cannot put its mass at one point of D's input: the value is a lower bound of min_G V, and the gap an upper bound.

Shapes: M scrambles, N nodes in each, A candidates.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gandyn.gan.loss import Loss
from gandyn.gan.number import HParams
from gandyn.truth.best_response import cross_fitted
from gandyn.truth.lipschitz import climb
from gandyn.truth.value import Estimate, estimate

_BLOCKS = 8


class Extremes(NamedTuple):
    """Where D is largest and where it is smallest.

    Attributes:
      points: (2, 2), the two points.
      logits: (2,), D's outputs there.
    """

    points: jax.Array
    logits: jax.Array


class Worst(NamedTuple):
    """min_G V.

    Attributes:
      values: (M,), one replicate a scramble; `estimate(values)` is min_G V with its standard error.
      point: (2,), where all of G's mass lies.
      logit: (), D's output there.
    """

    values: jax.Array
    point: jax.Array
    logit: jax.Array


def extremes(
    discriminate: Callable[[jax.Array], jax.Array],
    box: tuple[jax.Array, jax.Array],
    size: int = 128,
    num_steps: int = 20,
) -> Extremes:
    """D's largest and smallest output in a square: on a grid, edges included, then by pattern search (`climb`).

    The search starts from the best points of the eight best of 8 x 8 blocks, so not all of them on one peak. What it
    finds is D's output at a point, so its error has one sign.

    Args:
      discriminate: D: (P, 2) -> (P,).
      box: centre (2,) and half side () of the square (`GaussianMixture.box`).
      size: grid points along each side, a multiple of 8.
      num_steps: of the pattern search.
    """
    center, half = box
    axis = jnp.linspace(-1, 1, size)
    grid = center[None, None, :] + half * jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), axis=-1)
    side = size // _BLOCKS
    blocks = grid.reshape(_BLOCKS, side, _BLOCKS, side, 2).swapaxes(1, 2).reshape(_BLOCKS**2, side**2, 2)
    found = jax.lax.map(discriminate, blocks)  # block by block: the layers of one stay in cache
    inside = lambda x: jnp.clip(x, (center - half)[None, :], (center + half)[None, :])  # noqa: E731

    def highest(sign: jax.Array) -> tuple[jax.Array, jax.Array]:
        best = jnp.argmax(sign * found, axis=1)
        chosen = jax.lax.top_k(jnp.max(sign * found, axis=1), _BLOCKS)[1]
        points, heights = climb(
            lambda x: sign * discriminate(inside(x)), blocks[chosen, best[chosen]], 2 * half / (size - 1), num_steps
        )
        first = jnp.argmax(heights)
        return inside(points)[first], sign * heights[first]

    return Extremes(*jax.vmap(highest)(jnp.asarray([1.0, -1.0])))


def worst_value(loss: Loss, real_logits: jax.Array, ends: Extremes, numbers: HParams) -> Worst:
    """min_G V over G with its samples in the box: V(D, point mass at x0), x0 where D is most fooled.

    Of D's two extremes the one at which V is less, chosen by cross-fitting (`cross_fitted`). The standard error is of
    the real samples; beyond it, `values` is too high by what the search for the extremes missed.

    Args:
      loss: whose V.
      real_logits: (M, N), D on real nodes.
      ends: from `extremes`.
      numbers: the loss's.
    """

    def at(logit: jax.Array) -> jax.Array:
        return jax.vmap(lambda real: -loss.disc(real, jnp.full_like(real, logit), numbers))(real_logits)

    values = jax.vmap(at)(ends.logits)
    least = jnp.argmin(jnp.mean(values, axis=1))
    return Worst(-cross_fitted(-values), ends.points[least], ends.logits[least])


def duality_gap(best: jax.Array, worst: jax.Array) -> Estimate:
    """max_D V - min_G V from replicates (M,) of each on the same scrambles.

    Their difference is taken scramble by scramble: what the two share, the real nodes, then cancels in the standard
    error as it does in the gap. A lower bound, for `best` is too low and `worst` too high but for noise.

    For the Wasserstein loss max_D V is L W1(p, q) over critics of D's own Lipschitz constant L, which `transport` and
    `lipschitz` give.

    Args:
      best: `cross_fitted` of the values of the candidate critics, D among them.
      worst: `worst_value(...).values`.
    """
    return estimate(best - worst)
