"""The best response: a certified lower bound of max_D V.

The log ratio of the target's density to the generator's (`density`) gives, by each loss's formula, a critic that is
nearly optimal. Any critic gives a lower bound of max_D V; so every candidate is evaluated in the true V on fresh
nodes, and the best is kept.

Shapes: A candidates, M scrambles, N nodes in each.
"""

import jax
import jax.numpy as jnp
import numpy as np

from gandyn.gan.targets import Target
from gandyn.truth.density import CELLS_PER_BLUR, INTERPOLATION_VARIANCE, GridDensity, bin_linearly
from gandyn.truth.value import Estimate, estimate


def log_ratios(
    x: jax.Array, points: jax.Array, target: Target, size: int, bandwidth: float, num_blurs: int
) -> jax.Array:
    """Candidates for log p/q, in nats, at x (N, 2): (A, N), A = 2 * num_blurs, or num_blurs of a target without blur.

    q is the density of `points`, blurred 1 ... num_blurs times (Gaussian blurs compose: k of them have k times the
    variance of one). Half of the candidates take p as it is; the other half blur p alike and extrapolate the ratio to
    no blur by the polynomial through the first k = 1 ... num_blurs of them: a blur's error is a power series in its
    variance, of which that cancels the first k - 1 terms (Richardson's extrapolation). What binning and look-up blur
    counts as part of it. A target that cannot be blurred exactly (it has no method `blur`) has the first half alone.

    Args:
      x: where.
      points: (N', 2), nodes pushed through G; not those that the candidates will be evaluated on.
      target: p.
      size: cells along each side of the grid, from `grid_cells` with the same bandwidth.
      bandwidth: std of one blur in units of the target's scale.
      num_blurs: how many blurs.

    Clipped at +-log(N'): no ratio further out can be told from that many points, and the bound limits what a
    wrong one can cost.
    """
    density = bin_linearly(points, target, size, bandwidth)
    bound = jnp.log(float(points.shape[0]))
    # Where no node is near, and off the grid, q is taken for one node's mass spread over the whole grid. (Near zero
    # instead, it would make a target's far tail look real wherever G's samples leave the box.)
    floor = 1 / (points.shape[0] * (size * density.cell) ** 2)
    log_p = target.log_prob(x)

    blur = getattr(target, "blur", None)

    def blurred(density: GridDensity, variance: jax.Array) -> tuple[GridDensity, tuple[jax.Array, ...]]:
        density = density.blur()
        log_q = jnp.log(jnp.maximum(density(x), floor))
        logs = [log_p] if blur is None else [log_p, blur(density.cell * jnp.sqrt(variance)).log_prob(x)]
        return density, tuple(one - log_q for one in logs)

    variances = CELLS_PER_BLUR**2 * np.arange(1, num_blurs + 1) + INTERPOLATION_VARIANCE  # of q, in cells squared
    _, (unblurred, *alike) = jax.lax.scan(blurred, density, jnp.asarray(variances, x.dtype))
    if not alike:
        return jnp.clip(unblurred, -bound, bound)
    # Row k - 1 weighs the values at the first k variances to the value at 0 of the polynomial through them.
    weights = np.zeros((num_blurs, num_blurs))
    for k in range(1, num_blurs + 1):
        weights[k - 1, :k] = np.linalg.inv(np.vander(variances[:k], increasing=True))[0]
    extrapolated = jnp.asarray(weights, x.dtype) @ alike[0]
    return jnp.clip(jnp.concatenate([unblurred, extrapolated]), -bound, bound)


def cross_fitted(values: jax.Array) -> jax.Array:
    """The largest V over candidate critics on each scramble, (M,); NaN where a candidate's V is.

    Args:
      values: (A, M), V of each candidate on each scramble (`value`).

    The candidate is chosen on one half of the scrambles and evaluated on the other, and the reverse, so that choosing
    the largest of several noisy values does not push the bound above the truth.
    """
    half = values.shape[1] // 2
    first, second = values[:, :half], values[:, half:]
    # argmax takes a NaN for the largest: what is undefined stays so.
    chosen = [first[jnp.argmax(jnp.mean(second, axis=1))], second[jnp.argmax(jnp.mean(first, axis=1))]]
    return jnp.concatenate(chosen)


def best_value(values: jax.Array) -> Estimate:
    """The largest V over candidate critics (A, M), `cross_fitted`, with its standard error."""
    return estimate(cross_fitted(values))
