"""The generator's density by push-forward kernels: Gaussians shaped like G's own image.

Around a latent z_i the generator is nearly affine, G(z_i + s n) = G(z_i) + s J_i n with J_i = dG/dz, so that the
mixture of N(x; G(z_i), s^2 J_i J_i^T + e^2 I) over latents of the prior is a density of G's samples, blurred along its
own sheets and not across them: exact where G is affine, for latents of any dimension. Centers are drawn in by the share
that s adds to the prior's variance.

Where a latent has as many coordinates as a sample, what G's own samples are worth is known exactly: the sheet on which
a sample lies has density prior(z) / |det J|, and only the sheets that cross it are left to the kernels.

Shapes: N' kernels, N points, Z coordinates of a latent.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gandyn.gan.game import Game
from gandyn.gan.targets import Target

WIDTHS = (0.015, 0.03, 0.06, 0.12, 0.25, 0.5)
"""Candidates for s, in stds of the latent."""
FLOOR = 0.05
"""The largest e, in units of the target's narrowest std: how wide a kernel is across a thin sheet."""
NEAR = 3.0
"""How far from a sample's own latent, in s, kernels lie on its own sheet."""

_POINTS = 4096  # at a time: what is summed stays in a core's cache
_UNROLLED = 8


class Kernels(NamedTuple):
    """Where G sends latents, and how it stretches them.

    Attributes:
      latents: (N', Z).
      images: (N', 2).
      jacobians: (N', 2, Z).
    """

    latents: jax.Array
    images: jax.Array
    jacobians: jax.Array


class Across(NamedTuple):
    """Variances, () each, that kernels have beside those of their sheets: the largest e^2, and of instance noise."""

    largest: jax.Array
    noise: jax.Array


class _Axes(NamedTuple):
    """Gaussians by their principal axes, (N',) each: ends of the first, then of the second, each over its std."""

    x: jax.Array
    y: jax.Array
    first: tuple[jax.Array, jax.Array]
    second: tuple[jax.Array, jax.Array]
    log_height: jax.Array
    latents: jax.Array


def kernels(generate: Callable[[jax.Array], jax.Array], latents: jax.Array) -> Kernels:
    """The kernels at latents (N', Z) of a map of rows (N', Z) -> (N', 2)."""

    def along(direction: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.jvp(generate, (latents,), (jnp.broadcast_to(direction, latents.shape),))

    images, slopes = jax.lax.map(along, jnp.eye(latents.shape[1], dtype=latents.dtype))
    return Kernels(latents, images[0], jnp.moveaxis(slopes, 0, -1))


def _principal(jacobians: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of J J^T the unit vector (2, N') along the larger principal axis, and both variances (N',).

    Each variance is a sum of squares along its axis: differences of products would lose the thin one in float32.
    """
    along_x, along_y = jacobians[:, 0], jacobians[:, 1]
    xx, yy, xy = (jnp.sum(a * b, axis=-1) for a, b in ((along_x, along_x), (along_y, along_y), (along_x, along_y)))
    angle = jnp.arctan2(2 * xy, xx - yy) / 2
    cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
    large = jnp.sum((cos * along_x + sin * along_y) ** 2, axis=-1)
    small = jnp.sum((cos * along_y - sin * along_x) ** 2, axis=-1)
    return jnp.stack([cos[:, 0], sin[:, 0]]), large, small


def log_own(game: Game, own: Kernels) -> jax.Array:
    """Log density of the sheets on which samples lie, (N,): prior(z) / |det J|, for a latent of two coordinates.

    Less what lies further off than `NEAR` of a sheet's own kernels: it is counted among the others.
    """
    _, large, small = _principal(own.jacobians)
    near = 1 - math.exp(-(NEAR**2) / 2)
    return game.log_prior(own.latents) - jnp.log(large) / 2 - jnp.log(small) / 2 + math.log(near)


def _axes(kernels: Kernels, width: jax.Array, across: Across) -> _Axes:
    """Gaussians of covariance width^2 J J^T + (e^2 + noise) I; e is at most half of a kernel's length."""
    (cos, sin), large, small = _principal(kernels.jacobians)
    variance = jnp.clip(width**2 * large / 4, 1e-6 * across.largest, across.largest) + across.noise
    large, small = width**2 * large + variance, width**2 * small + variance
    drawn_in = width**2 / (1 + jnp.sqrt(1 - width**2))
    x, y = (kernels.images - drawn_in * jnp.einsum("nez,nz->ne", kernels.jacobians, kernels.latents)).T
    log_height = -jnp.log(2 * jnp.pi * len(x)) - (jnp.log(large) + jnp.log(small)) / 2
    one, other = jnp.sqrt(large), jnp.sqrt(small)
    return _Axes(x, y, (cos / one, sin / one), (-sin / other, cos / other), log_height, kernels.latents)


def _weights(axes: _Axes, x: jax.Array, y: jax.Array) -> jax.Array:
    """What kernels (N',) add to the density at points (N,): (N', N)."""
    dx, dy = x[None, :] - axes.x[:, None], y[None, :] - axes.y[:, None]
    one, other = (a[:, None] * dx + b[:, None] * dy for a, b in (axes.first, axes.second))
    return jnp.exp(axes.log_height[:, None] - (one**2 + other**2) / 2)


def _summed(of: Callable[[_Axes], Any], axes: _Axes) -> Any:
    """The sum of `of` over kernels: a few at a time on a CPU, where a long row of points is what vectorizes."""

    def at_once(axes: _Axes) -> Any:
        return of(axes)

    def in_turn(axes: _Axes) -> Any:
        size = max(n for n in range(1, _UNROLLED + 1) if len(axes.x) % n == 0)
        few = jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), axes)
        start = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(of, axes))
        return jax.lax.scan(lambda total, one: (jax.tree.map(jnp.add, total, of(one)), None), start, few)[0]

    return jax.lax.platform_dependent(axes, cpu=in_turn, default=at_once)


def log_densities(
    kernels: Kernels, width: jax.Array, across: Across, points: jax.Array, latents: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Logs of the mixture's density at points (N, 2), and of what of it is not of a point's own sheet: (N,) each.

    -inf where it is nothing that float32 holds.

    Args:
      kernels: those of the mixture.
      width: (), s.
      across: how wide they are beside.
      points: where.
      latents: (N, Z), those that are sent to the points, infinite where none is known. None: nowhere.
    """
    axes, reach = _axes(kernels, width, across), (NEAR * width) ** 2

    def at(rows: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, own = rows

        def of(few: _Axes) -> tuple[jax.Array, jax.Array]:
            every = others = _weights(few, *x.T)
            if latents is not None:
                distance = sum((own[None, :, i] - few.latents[:, i, None]) ** 2 for i in range(own.shape[1]))
                others = jnp.where(distance > reach, every, 0)
            return jnp.sum(every, axis=0), jnp.sum(others, axis=0)

        return _summed(of, axes)

    size = max(n for n in range(1, _POINTS + 1) if len(points) % n == 0)
    rows = points if latents is None else latents
    found = jax.lax.map(at, (points.reshape(-1, size, 2), rows.reshape(-1, size, rows.shape[1])))
    return jax.tree.map(lambda q: jnp.log(q.ravel()), found)


def best_width(kernels: Kernels, across: Across, target: Target, real: jax.Array, fake: jax.Array) -> jax.Array:
    """Of `WIDTHS` that whose critic tells real from fake samples (P, 2) best by the logistic loss, ().

    The widest of those that are no worse by more than half a standard error: of a density that is broad many widths do,
    and wider kernels overlap more. The samples are for this alone: what is chosen on them bounds max_D V on others as
    any critic does.
    """
    points = jnp.concatenate([real, fake])
    log_p = target.log_prob(points)

    def told(width: jax.Array) -> jax.Array:
        ratios = log_ratio(log_p, log_densities(kernels, width, across, points)[0], kernels, target).reshape(2, -1)
        return jnp.stack([jax.nn.log_sigmoid(ratios[0]), jax.nn.log_sigmoid(-ratios[1])])

    widths = jnp.asarray(WIDTHS, points.dtype)
    scores = jax.lax.map(told, widths)  # (W, 2, P)
    behind = scores[jnp.argmax(jnp.mean(scores, axis=(1, 2)))][None] - scores
    se = jnp.sqrt(jnp.sum(jnp.var(behind, axis=2, ddof=1), axis=1) / len(real))
    good = jnp.sum(jnp.mean(behind, axis=2), axis=1) <= se / 2
    return jnp.max(jnp.where(good, widths, widths[0]))


def log_ratio(log_p: jax.Array, log_q: jax.Array, kernels: Kernels, target: Target) -> jax.Array:
    """log p/q (N,), clipped at +-log(N'): no ratio further out can be told from so many kernels.

    Where none is near, q is taken for one kernel's mass spread over the target's box: near zero instead, it would make
    a target's far tail look real wherever G's samples leave the box.
    """
    num, (_, half) = len(kernels.images), target.box()
    floor = -jnp.log(num * (2 * jnp.asarray(half)) ** 2)
    return jnp.clip(log_p - jnp.maximum(log_q, floor), -jnp.log(float(num)), jnp.log(float(num)))
