"""Quality of generated samples beyond counting modes: support, shape, distance, collapse inside a mode, memorizing.

Coverage (`gandyn.coverage`) counts modes; what stands here also sees a mode that is covered but too narrow, a modest
shift of mass, noise, modes that come and go, and copies of training points. docs/metrics.md says of each number what
real samples get, which way it moves, and what it cannot see.

Shapes: N samples, K components, G modes (K where components are not grouped), S measurements.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from numpy.typing import ArrayLike, NDArray

from gandyn import checks
from gandyn.gan.targets import GaussianMixture, Target
from gandyn.gan.targets.mixtures import MOST_MODES
from gandyn.truth.coverage import Convention, nearest_component

NUM_DIRECTIONS = 32
"""Directions of the sliced Wasserstein distance, equally spaced over half a turn."""

QUALITY: dict[str, dict[str, str]] = {
    "precision": {"long_name": "precision, k nearest neighbours", "units": "share"},
    "recall": {"long_name": "recall, k nearest neighbours", "units": "share"},
    "density": {"long_name": "density, k nearest neighbours", "units": "1"},
    "coverage": {"long_name": "coverage, k nearest neighbours", "units": "share"},
    "frechet": {"long_name": "squared Frechet distance of fitted Gaussians", "units": "data units squared"},
    "mmd": {"long_name": "squared maximum mean discrepancy, unbiased", "units": "1"},
    "sliced_w2": {"long_name": "sliced 2-Wasserstein distance", "units": "data units"},
    "memorization": {"long_name": "distance to training points over that to fresh points", "units": "1"},
    "data_copying": {"long_name": "Z score of distances to training points, data copying below 0", "units": "1"},
}
"""Name -> attributes of each scalar: the fields of `Quality` and of `Memorization`."""

MODE_STATS: dict[str, dict[str, str]] = {
    "mode_mass": {"long_name": "mass within the radius of each mode", "units": "share"},
    "mode_std": {"long_name": "std of samples in each mode", "units": "std of the mode"},
    "mode_offset": {"long_name": "distance of the samples' mean from each mode's", "units": "std of the mode"},
}
"""Name -> attributes of each field of `ModeStats`, an array over modes."""


class Quality(NamedTuple):
    """Fake samples against real ones and the target, scalars.

    Attributes:
      precision: share of fakes inside the k-nearest-neighbour ball of a real sample.
      recall: share of real samples inside the k-nearest-neighbour ball of a fake.
      density: number of real balls that a fake is in, mean over fakes, divided by k. Can be above one.
      coverage: share of real balls that hold a fake.
      frechet: squared Frechet distance of the Gaussians with the target's and the fakes' moments, data units^2.
      mmd: squared maximum mean discrepancy to the target; its estimate is unbiased, so it can be just below zero.
      sliced_w2: sliced 2-Wasserstein distance between real and fake samples, data units.
    """

    precision: jax.Array
    recall: jax.Array
    density: jax.Array
    coverage: jax.Array
    frechet: jax.Array
    mmd: jax.Array
    sliced_w2: jax.Array


class ModeStats(NamedTuple):
    """What the samples of each mode look like: those nearest to it and within the convention's `cover_radius`.

    Attributes:
      mass: (G,), their share of all samples.
      std: (G,), their root mean square std per coordinate over the mode's std, corrected for the cut at the radius: a
        perfect generator has 1. NaN for fewer than two samples.
      offset: (G,), distance of their mean from the mode's, in the mode's std. NaN where there is no sample.
    """

    mass: jax.Array
    std: jax.Array
    offset: jax.Array


class Memorization(NamedTuple):
    """Whether fakes lie on training points, scalars. NaN where a fake is not finite.

    Attributes:
      memorization: median distance of fakes to the nearest training point over the median distance of the same fakes to
        the nearest of as many fresh real samples. About 1 without memorizing, 0 for a generator that copies.
      data_copying: Z score of the Mann-Whitney statistic that compares fakes' distances to the training points with
        fresh samples' distances to them. About N(0, 1) without memorizing; far below 0: copies; far above: bad samples.
    """

    memorization: jax.Array
    data_copying: jax.Array


_PAIRS = 2**17  # pairs at a time: half a MiB, in cache. All 2,500 x 2,500 at once take three times as long on a CPU


def _in_rows(function: Callable[..., Any], x: jax.Array, others: int) -> Any:
    """`function` over chunks of rows of x (N, 2) that meet `others` points each: its outputs, (chunks, ...).

    The last chunk is filled up with NaN, which is near nothing.
    """
    size = min(len(x), max(1, _PAIRS // others))
    filled = jnp.pad(x, ((0, -len(x) % size), (0, 0)), constant_values=jnp.nan)
    return jax.lax.map(function, filled.reshape(-1, size, 2))


def _squared(x: jax.Array, y: jax.Array) -> jax.Array:
    """Squared distances of x (N, 2) and y (M, 2): (N, M). Differences first: |x|^2 - 2 xy + |y|^2 loses digits."""
    return (x[:, None, 0] - y[None, :, 0]) ** 2 + (x[:, None, 1] - y[None, :, 1]) ** 2


def _kth_other(distance: jax.Array, k: int) -> jax.Array:
    """The (k + 1)-th smallest in each row of squared distances (N, M) from one of the M points itself.

    NaN is left out; infinite where there are fewer. By k passes, each for the next larger value: many times faster
    than `top_k` on a CPU. Equal ones count each.
    """

    def next_larger(_: int, found: jax.Array) -> jax.Array:
        enough = jnp.sum(distance <= found[:, None], axis=1) > k
        larger = jnp.min(jnp.where(distance > found[:, None], distance, jnp.inf), axis=1)
        return jnp.where(enough, found, larger)

    return jax.lax.fori_loop(0, k, next_larger, jnp.zeros(len(distance), distance.dtype))


def _balls(centers: jax.Array, points: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Balls around centers (N, 2), each up to its k-th nearest other center, and points (M, 2) in them.

    Returns the number of balls that each point is in (M,), and of points that each ball holds (N,). A center without k
    finite others has no ball; on the rim counts as inside.
    """

    def of_rows(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        radius = _kth_other(_squared(rows, centers), k)
        radius = jnp.where(jnp.isfinite(radius), radius, -1)
        inside = _squared(rows, points) <= radius[:, None]
        return jnp.sum(inside, axis=0), jnp.sum(inside, axis=1)

    inside, holds = _in_rows(of_rows, centers, len(centers))
    return jnp.sum(inside, axis=0), holds.ravel()[: len(centers)]


_KernelMean = Callable[[jax.Array], jax.Array]


def _moments(target: GaussianMixture) -> tuple[jax.Array, jax.Array]:
    """Mean (2,) and covariance (2, 2) of the target."""
    weights = target.weights[:, None]
    mean = jnp.sum(weights * target.means, axis=0)
    away = target.means - mean[None, :]
    between = jnp.sum(weights[:, :, None] * away[:, :, None] * away[:, None, :], axis=0)
    if target.shapes is None:
        return mean, between + jnp.sum(target.weights * target.stds**2) * jnp.eye(2)
    return mean, between + jnp.sum(weights[:, :, None] * target.covariances(), axis=0)


def _sample_moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean (2,) and covariance (2, 2) of samples x (N, 2)."""
    mean = jnp.mean(x, axis=0)
    away = x - mean[None, :]
    return mean, jnp.sum(away[:, :, None] * away[:, None, :], axis=0) / (len(x) - 1)


def _frechet(fake: jax.Array, moments: tuple[jax.Array, jax.Array]) -> jax.Array:
    """|m - n|^2 + tr(S + T - 2 (S T)^(1/2)) for means m, n and covariances S, T.

    With tr A^(1/2) = (tr A + 2 (det A)^(1/2))^(1/2) of a 2 x 2 matrix with eigenvalues that are not negative.
    """
    mean, covariance = moments
    fake_mean, fake_covariance = _sample_moments(fake)

    def root_det(s: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.maximum(s[0, 0] * s[1, 1] - s[0, 1] * s[1, 0], 0))

    trace = jnp.sum(covariance * fake_covariance)
    cross = jnp.sqrt(jnp.maximum(trace + 2 * root_det(covariance) * root_det(fake_covariance), 0))
    squared = jnp.sum((fake_mean - mean) ** 2) + jnp.trace(covariance) + jnp.trace(fake_covariance) - 2 * cross
    # A maximum with zero alone would make -inf, what is left of an overflow, look perfect.
    return jnp.where(jnp.isfinite(squared), jnp.maximum(squared, 0), jnp.inf)


def bandwidths(target: GaussianMixture) -> jax.Array:
    """Bandwidths (2,) of `mmd`: the target's smallest length, and the whole target's std, (tr S / 2)^(1/2)."""
    return _bandwidths(target, _moments(target))


def _bandwidths(target: Target, moments: tuple[jax.Array, jax.Array]) -> jax.Array:
    return jnp.stack([jnp.asarray(target.scale()), jnp.sqrt(jnp.trace(moments[1]) / 2)])


def _kernel_means(fake: jax.Array, target: GaussianMixture) -> tuple[_KernelMean, _KernelMean]:
    """Means of exp(-|x - y|^2 / (2 h2)) as functions of h2: x, y of components k, l (K, K); x a fake, y of l (N, K)."""
    if target.shapes is None:
        apart = _squared(target.means, target.means)
        variance = target.stds**2
        both = variance[:, None] + variance[None, :]
        to_modes = _squared(fake, target.means)

        def blurred(squared: jax.Array, h2: jax.Array, blur: jax.Array) -> jax.Array:
            """The kernel exp(-squared / (2 h2)), averaged over Gaussian displacements of variance `blur`."""
            return h2 / (h2 + blur) * jnp.exp(-0.5 * squared / (h2 + blur))

        return lambda h2: blurred(apart, h2, both), lambda h2: blurred(to_modes, h2, variance[None, :])

    # Sums of squares alone: a c - b^2 of a thin covariance's entries would lose its thin side.
    cross = lambda u, v: u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]  # noqa: E731

    def displaced(away: jax.Array, h2: jax.Array, *columns: jax.Array) -> jax.Array:
        """h2 / det(B)^(1/2) exp(-away^T B^-1 away / 2), B = h2 I + sum of c c^T over columns c, for away (..., 2)."""
        minors = (cross(u, v) ** 2 for u, v in itertools.combinations(columns, 2))
        det = h2**2 + h2 * sum(jnp.sum(c**2, axis=-1) for c in columns) + sum(minors)
        squared = h2 * jnp.sum(away**2, axis=-1) + sum(cross(c, away) ** 2 for c in columns)
        return h2 / jnp.sqrt(det) * jnp.exp(-0.5 * squared / det)

    own = [target.stds[:, None] * target.shapes[:, :, i] for i in (0, 1)]  # C_k is the sum of c c^T over these
    pairs = [c[:, None] for c in own] + [c[None, :] for c in own]
    apart = target.means[:, None, :] - target.means[None, :, :]
    to_modes = fake[:, None, :] - target.means[None, :, :]
    return (
        lambda h2: displaced(apart, h2, *pairs),
        lambda h2: displaced(to_modes, h2, *(c[None, :] for c in own)),
    )


def _mmd(fake: jax.Array, target: GaussianMixture) -> jax.Array:
    """E k(x, x') - 2 E k(x, y) + E k(y, y'), x from the target (exact), y from the fakes (each pair of two once)."""
    weights = target.weights[:, None] * target.weights[None, :]
    among, across = _kernel_means(fake, target)

    def with_target(h2: jax.Array) -> jax.Array:
        real = jnp.sum(weights * among(h2))
        cross = jnp.sum(target.weights[None, :] * across(h2), axis=1)
        return real - 2 * jnp.mean(cross)

    h2 = bandwidths(target) ** 2
    return jnp.mean(jax.vmap(with_target)(h2)) + _among(fake, h2)


def _kernel_sums(x: jax.Array, y: jax.Array, h2: jax.Array) -> jax.Array:
    """Sum over y (M, 2) of the mean of both kernels, at each x (N, 2): (N,)."""

    def of_rows(rows: jax.Array) -> jax.Array:
        squared = _squared(rows, y)
        kernel = jnp.exp(-0.5 / h2[0] * squared) + jnp.exp(-0.5 / h2[1] * squared)
        return jnp.sum(kernel, axis=1) / 2

    return _in_rows(of_rows, x, len(y)).ravel()[: len(x)]


def _among(x: jax.Array, h2: jax.Array) -> jax.Array:
    """Mean kernel over pairs of two of the samples x (N, 2), not of a sample and itself."""
    return jnp.mean((_kernel_sums(x, x, h2) - 1) / (len(x) - 1))


def _mmd_of_samples(real: jax.Array, fake: jax.Array, h: jax.Array) -> jax.Array:
    """As `_mmd`, with samples of the target (N, 2) for the target: unbiased as well, and noisier."""
    across = jnp.mean(_kernel_sums(fake, real, h**2)) / len(real)
    return _among(real, h**2) - 2 * across + _among(fake, h**2)


def _sorted(x: jax.Array) -> jax.Array:
    """Rows of float32 (L, N) in order, NaN at either end. As integers of the same order: four times faster on a CPU."""

    def turned(bits: jax.Array) -> jax.Array:
        return jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)

    bits = jax.lax.sort(turned(jax.lax.bitcast_convert_type(x, jnp.int32)), dimension=1, is_stable=False)
    return jax.lax.bitcast_convert_type(turned(bits), jnp.float32)


def _sliced_w2(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Root of the mean over directions of the squared 2-Wasserstein distance of the projections."""
    # Off the axes by half a step: along the symmetries of a ring or a grid modes fall onto each other.
    angle = jnp.pi / NUM_DIRECTIONS * (jnp.arange(NUM_DIRECTIONS) + 0.5)
    cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
    real, fake = (_sorted(cos * x[None, :, 0] + sin * x[None, :, 1]) for x in (real, fake))
    return jnp.sqrt(jnp.mean((real - fake) ** 2))


def quality(real: jax.Array, fake: jax.Array, target: Target, k: int = 5) -> Quality:
    """`Quality` of fake samples (N, 2) against real ones (N, 2) and the target they are from.

    With B_k(x) the ball around x up to its k-th nearest other sample of its own kind:

        precision  = mean_j 1[fake_j in some B_k(real_i)]            recall   = mean_i 1[real_i in some B_k(fake_j)]
        density    = mean_j #{i: fake_j in B_k(real_i)} / k          coverage = mean_i 1[some fake_j in B_k(real_i)]
        frechet    = |m - n|^2 + tr(S + T - 2 (S T)^(1/2))           target's and fakes' mean and covariance
        mmd        = E k(x, x') - 2 E k(x, y) + E k(y, y')           x, x' from the target, y, y' fakes
        sliced_w2  = (mean_a W2^2(<a, real>, <a, fake>))^(1/2)       a on `NUM_DIRECTIONS` equally spaced directions

    The target's moments and both kernel means that it takes part in are exact for a `GaussianMixture` of up to 1,024
    components; of another target they are those of the real samples, with their sampling error. k(x, y) is the mean
    of two Gaussian kernels exp(-|x - y|^2 / (2 h^2)), with h of `bandwidths`.

    Fakes that are not finite match nothing: precision, density and coverage count them as outside every ball, and they
    have none themselves; the three distances are then infinite. Labels play no part.

    Args:
      real: (N, 2), samples of the target.
      fake: (N, 2), as many samples of the generator.
      target: p.
      k: of the nearest neighbours; static. 3 in the first paper, 5 in the second.

    Raises:
      ValueError: real and fake of different shapes; k not a whole number from 1 to N - 1.

    Kynkaanniemi et al. 2019 (precision, recall); Naeem et al. 2020 (density, coverage); Heusel et al. 2017, eq. 6;
    Gretton et al. 2012, lemma 6; Bonneel et al. 2015.
    """
    checks.whole("k", k)
    if real.ndim != 2 or real.shape != fake.shape or real.shape[1] != 2:
        raise ValueError(f"fake: got shape {fake.shape}; allowed: (N, 2), that of real, which is {real.shape}")
    if k >= len(real):
        raise ValueError(f"k: got {k}; allowed: below the number of samples, {len(real)}")
    # One program for both: balls of real samples and fakes in them, then the reverse.
    pairs = jnp.stack([real, fake]), jnp.stack([fake, real])
    inside, holds = jax.lax.map(lambda pair: _balls(pair[0], pair[1], k), pairs)
    finite = jnp.all(jnp.isfinite(fake))
    mixture = target if isinstance(target, GaussianMixture) and target.num_components <= MOST_MODES else None
    moments = _sample_moments(real) if mixture is None else _moments(mixture)
    mmd = _mmd_of_samples(real, fake, _bandwidths(target, moments)) if mixture is None else _mmd(fake, mixture)
    distances = jnp.stack([_frechet(fake, moments), mmd, _sliced_w2(real, fake)])
    frechet, mmd, sliced_w2 = jnp.where(finite & jnp.isfinite(distances), distances, jnp.inf)
    return Quality(
        precision=jnp.mean(inside[0] > 0),
        recall=jnp.mean(inside[1] > 0),
        density=jnp.mean(inside[0]) / k,
        coverage=jnp.mean(holds[0] > 0),
        frechet=frechet,
        mmd=mmd,
        sliced_w2=sliced_w2,
    )


def std_within(radius: float, dim: int = 2) -> float:
    """Std per coordinate of a standard Gaussian in `dim` dimensions cut at `radius`, c; in the plane

    E[|x|^2 | |x| <= c] / 2 = 1 - (c^2 / 2) e^(-c^2 / 2) / (1 - e^(-c^2 / 2)), and its root.
    """
    half = radius**2 / 2
    if dim == 2:
        return math.sqrt(1 - half / math.expm1(half))
    return math.sqrt(scipy.special.gammainc(dim / 2 + 1, half) / scipy.special.gammainc(dim / 2, half))


def mode_stats(
    x: jax.Array,
    target: GaussianMixture,
    convention: Convention,
    labels: jax.Array | None = None,
    num_classes: int = 0,
) -> ModeStats:
    """`ModeStats` of samples x (N, d): mass, width and place of what falls to each mode.

    Of the n samples x_i whose nearest component is of mode k, and within c = `convention.cover_radius` of that one's
    std, in the units in which the mode is a standard normal, y = s_k^-1 L_k^-1 (x - mean_k) (L_k = I if isotropic):

        mass = n / N,   offset = |mean y_i|,   std^2 = sum |y_i - mean y_i|^2 / (d (n - 1)) / `std_within(c)`^2

    The correction is that of a full Gaussian: a mode that is much narrower is not cut, and reads too wide by
    1 / `std_within(c)`: 2.6 % at 3 std, but a factor of 2.1 at 1 std. It takes modes to be at least 2 c std apart.
    A mode of several components has the mean and covariance of their mixture for mean_k and s_k^2 L_k L_k^T, and no
    correction: at 3 std the cut of its narrow components costs a perfect generator's std about 1 % at most.
    Samples that are not finite belong to no mode. With labels (N,), a sample counts for the modes of its own class.
    """
    component, distance = nearest_component(x, target, labels, num_classes)
    mode = target.mode_of(component)
    valid = distance <= convention.cover_radius
    member = (jax.nn.one_hot(mode, target.num_modes, dtype=bool) & valid[:, None])[:, :, None]
    count = jnp.sum(member[:, :, 0], axis=0)
    away, cut = _standardized(x, target, mode, convention)
    mean = jnp.sum(jnp.where(member, away[:, None, :], 0), axis=0) / jnp.maximum(count, 1)[:, None]
    squares = jnp.sum(jnp.where(member, (away[:, None, :] - mean[None, :, :]) ** 2, 0), axis=(0, 2))
    std = jnp.sqrt(squares / (x.shape[1] * jnp.maximum(count - 1, 1))) / cut
    return ModeStats(
        mass=count / len(x),
        std=jnp.where(count >= 2, std, jnp.nan),
        offset=jnp.where(count >= 1, jnp.sqrt(jnp.sum(mean**2, axis=1)), jnp.nan),
    )


def _standardized(
    x: jax.Array, target: GaussianMixture, mode: jax.Array, convention: Convention
) -> tuple[jax.Array, float]:
    """x (N, d) in the units in which each one's mode (N,) is a standard normal, and the std that the cut leaves."""
    cut = std_within(convention.cover_radius, x.shape[1])
    if target.groups is not None:
        means, lower = _group_factors(target)
        away = x - means[mode]
        return jax.lax.linalg.triangular_solve(lower[mode], away[:, :, None], left_side=True, lower=True)[:, :, 0], 1.0
    if target.shapes is not None:
        away = jnp.take_along_axis(target.away(x), mode[:, None, None], axis=1)[:, 0]
        return away / jnp.asarray(target.stds)[mode][:, None], cut
    return (x - jnp.asarray(target.means)[mode]) / jnp.asarray(target.stds)[mode][:, None], cut


def _group_factors(target: GaussianMixture) -> tuple[jax.Array, jax.Array]:
    """Mean (G, d) of the mixture that each mode is, and the Cholesky factor of its covariance (G, d, d)."""
    share = target.weights[:, None] * jnp.asarray(target.groups)
    share = share / jnp.sum(share, axis=0)[None, :]
    means = jnp.sum(share[:, :, None] * target.means[:, None, :], axis=0)
    away = target.means[:, None, :] - means[None, :, :]
    spread = target.covariances()[:, None] + away[:, :, :, None] * away[:, :, None, :]
    return means, jnp.linalg.cholesky(jnp.sum(share[:, :, None, None] * spread, axis=0))


def _held(mode_mass: ArrayLike, least: float) -> tuple[NDArray, NDArray]:
    """Whether each mode holds `least` (..., S, K), and which steps were measured (..., S)."""
    checks.number("least", least, 0, 1, above=True)
    mass = np.asarray(mode_mass, np.float64)
    return mass >= least, ~np.all(np.isnan(mass), axis=-1)


def modes_held(mode_mass: ArrayLike, least: float = 0.01) -> NDArray:
    """Number of modes that hold at least `least` of the mass, (..., S) from `ModeStats.mass` (..., S, K).

    NaN where a step was not measured (its mass is NaN for every mode); a mode with NaN beside others, as where runs
    differ in their number of modes, is no mode.

    Raises:
      ValueError: `least` not above 0 and at most 1.
    """
    held, measured = _held(mode_mass, least)
    return np.where(measured, held.sum(axis=-1), np.nan)


def modes_visited(mode_mass: ArrayLike, window: int, least: float = 0.01) -> NDArray:
    """Number of modes that held at least `least` of the mass at any of the last `window` measurements, (..., S).

    From `ModeStats.mass` (..., S, K). The present measurement is one of the window, so that `modes_visited` minus
    `modes_held` is the number of modes that were left within it: 0 for a generator that stands still, positive for
    one that cycles. At the start the window holds what there is. NaN at steps that were not measured; within a later
    step's window these hold nothing.

    Raises:
      ValueError: `window` not a whole number of at least 1; `least` not above 0 and at most 1.
    """
    checks.whole("window", window)
    held, measured = _held(mode_mass, least)
    times = np.cumsum(held, axis=-2)
    times[..., window:, :] -= times[..., :-window, :].copy()
    return np.where(measured, np.sum(times > 0, axis=-1), np.nan)


def _nearest(x: jax.Array, points: jax.Array) -> jax.Array:
    """Distance of each x (N, 2) to the nearest of points (M, 2): (N,)."""
    squared = _in_rows(lambda rows: jnp.min(_squared(rows, points), axis=1), x, len(points))
    return jnp.sqrt(squared.ravel()[: len(x)])


_NULL_SIZE = 4096  # fresh points whose own distances to the data are taken: all of a large set would be its square


def memorization(fake: jax.Array, data: jax.Array, fresh: jax.Array) -> Memorization:
    """`Memorization` of fakes (N, 2) that may copy the training points `data` (n, 2), with `fresh` (n, 2) real samples.

    With d(x, A) the distance of x to the nearest point of A:

        memorization = median d(fake, data) / median d(fake, fresh)
        data_copying = (U / (N n) - 1/2) / ((N + n + 1) / (12 N n))^(1/2)

    where U is the number of pairs (i, j) with d(fake_i, data) > d(fresh_j, data), and half a pair for each tie. Copies
    of training points alone give 0 and -(3 N n / (N + n + 1))^(1/2). Of more than 4,096 fresh points, so many are
    compared in data_copying, n being their number. The first compares the same fakes with two sets,
    so that bad fakes leave it at about 1; it has no standard error. The second has one, but takes fakes that lie where
    real samples are dense (narrow modes) for copies, and bad ones for the opposite.

    Raises:
      ValueError: data and fresh of different shapes.

    Meehan, Chaudhuri, Dasgupta 2020: data_copying is their Z_U over the whole plane, without cells and without the
    continuity correction of 1/2.
    """
    if data.shape != fresh.shape:
        raise ValueError(f"fresh: got shape {fresh.shape}; allowed: that of data, {data.shape}")
    to_data, to_fresh = _nearest(fake, data), _nearest(fake, fresh)
    null = jnp.sort(_nearest(fresh[:_NULL_SIZE], data))
    # Means of shares, not counts of pairs: these pass 2^24.
    below = (jnp.searchsorted(null, to_data, side="left") + jnp.searchsorted(null, to_data, side="right")) / 2
    share = jnp.mean(below / len(null))
    sd = math.sqrt((len(fake) + len(null) + 1) / (12 * len(fake) * len(null)))
    finite = jnp.all(jnp.isfinite(fake))
    return Memorization(
        memorization=jnp.where(finite, jnp.median(to_data) / jnp.median(to_fresh), jnp.nan),
        data_copying=jnp.where(finite, (share - 0.5) / sd, jnp.nan),
    )
