"""The generator's density: nodes pushed through G, binned linearly on a fine grid, blurred with a Gaussian.

Shapes: N points, H grid cells along each side.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from gandyn.gan.targets import Target

CELLS_PER_BLUR = 2
"""Grid cells per standard deviation of one blur."""

INTERPOLATION_VARIANCE = 1 / 3
"""Variance, in cells squared and in each direction, by which linear binning and bilinear look-up blur: each is a
triangle two cells wide, of variance 1/6 on average over where points lie in their cells. (So it is known, and part of
what is extrapolated away.)"""

_REACH = 4 * CELLS_PER_BLUR
# One half of the kernel, from its centre; the whole sums to one.
_TAPS = np.exp(-0.5 * (np.arange(_REACH + 1) / CELLS_PER_BLUR) ** 2)
_TAPS /= _TAPS[0] + 2 * _TAPS[1:].sum()


class GridDensity(NamedTuple):
    """A density on a square grid.

    Attributes:
      values: (H, H), mass per unit area at the grid points; the first axis is x, the second y.
      origin: (2,), the position of values[0, 0].
      cell: (), the spacing.
    """

    values: jax.Array
    origin: jax.Array
    cell: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        """Bilinear look-up at x (N, 2): (N,); zero off the grid."""
        return map_coordinates(
            self.values, list(((x - self.origin[None, :]) / self.cell).T), order=1, mode="constant", cval=0.0
        )

    def blur(self) -> "GridDensity":
        """Convolved with a Gaussian of CELLS_PER_BLUR cells (cut at four standard deviations)."""
        return self._replace(values=_blur_axis(_blur_axis(self.values, 0), 1))


def _blur_axis(values: jax.Array, axis: int) -> jax.Array:
    """Convolution along one axis as a sum of shifted copies, which fuses into one pass over the grid."""
    size = values.shape[axis]
    padded = jnp.pad(values, [(_REACH, _REACH) if a == axis else (0, 0) for a in range(2)])
    shifted = [jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(2 * _REACH + 1)]
    blurred = float(_TAPS[0]) * shifted[_REACH]
    for distance in range(1, _REACH + 1):
        blurred += float(_TAPS[distance]) * (shifted[_REACH - distance] + shifted[_REACH + distance])
    return blurred


def grid_cells(target: Target, bandwidth: float, most: int = 1536) -> int:
    """H for a target: enough cells to hold its box when one blur is `bandwidth` * its scale, at most `most`.

    Where `most` binds, cells and blur grow with the box: the best response stays a lower bound, only a looser one.

    Raises:
      ValueError: a target that is not in the plane.
    """
    if target.event_shape != (2,):
        raise ValueError(f"target: got points of shape {target.event_shape}; allowed for a density on a grid: (2,)")
    _, half = target.box()
    cells = 2 * float(half) / (bandwidth * float(target.scale()) / CELLS_PER_BLUR)
    # Whole multiples of 64, so that targets of nearly one size share a program.
    return min(most, 64 * math.ceil((cells + 1) / 64))


def bin_linearly(points: jax.Array, target: Target, size: int, bandwidth: float) -> GridDensity:
    """Points (N, 2) on a grid of (size, size) over the target's box: each spreads 1/N over its four neighbours.

    What falls off the grid is lost. A blur of this grid has a std of `bandwidth` * the target's scale, or more where
    `size` cells of that fineness do not reach over the box.
    """
    center, half = map(jnp.asarray, target.box())
    cell = jnp.maximum(2 * half / (size - 1), bandwidth * target.scale() / CELLS_PER_BLUR)
    origin = center - cell * (size - 1) / 2
    position = (points - origin[None, :]) / cell
    corner = jnp.floor(position)
    share = position - corner
    index = corner.astype(jnp.int32)
    inside = jnp.all((corner >= 0) & (corner < size - 1), axis=1)
    mass = jnp.zeros((size, size), points.dtype)
    for dx in (0, 1):
        for dy in (0, 1):
            weight = jnp.abs(1 - dx - share[:, 0]) * jnp.abs(1 - dy - share[:, 1])
            mass = mass.at[index[:, 0] + dx, index[:, 1] + dy].add(jnp.where(inside, weight, 0), mode="drop")
    return GridDensity(mass / (points.shape[0] * cell**2), origin, cell)
