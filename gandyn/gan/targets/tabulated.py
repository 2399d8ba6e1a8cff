"""Densities in the plane that are constant on each cell of a grid: of any function, of a picture, a checkerboard.

Shapes: W cells along x, H along y, N points.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri
from numpy.typing import ArrayLike, NDArray

from gandyn import checks, devices, environment
from gandyn.gan import sampling
from gandyn.gan.targets.arrangements import FARTHEST, NEAREST, check_length, plain
from gandyn.gan.targets.protocol import Made, of_numpy

MOST_CELLS = 2**20
"""Each run has a copy of its target: two numbers a cell."""

_PAIRS = 2**22  # points times cells of a side at a time
_ROUNDING = 2.0**-21  # of a coordinate, relative: four units in the last place

Box = Sequence[Sequence[float]]
"""((x low, x high), (y low, y high))."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["log_density", "columns", "cells", "origin", "cell"],
    meta_fields=[],
    drop_fields=["made"],
)
@dataclasses.dataclass(frozen=True)
class TabulatedDensity:
    """A density that is constant on each cell of a grid in a box and zero outside: known, and sampled, exactly.

    A pytree of arrays; `from_cells` makes checked ones. It has no modes.

    Attributes:
      log_density: (W, H), in nats, per unit area; -inf where there is no mass. The first axis is x, the second y.
      columns: (W,), cumulative mass of the columns of cells (those of one x), up to and with each.
      cells: (W, H), cumulative mass in each column, as a share of the column's, up to and with each cell.
      origin: (2,), the lower left corner of the box.
      cell: (2,), sides of a cell.
      made: what it was made from; not part of the pytree.
    """

    log_density: jax.Array
    columns: jax.Array
    cells: jax.Array
    origin: jax.Array
    cell: jax.Array
    made: Made | None = None

    @property
    def event_shape(self) -> tuple[int, ...]:
        """(2,)."""
        return (2,)

    @property
    def num_modes(self) -> int:
        """0: modes are not counted."""
        return 0

    @property
    def num_uniforms(self) -> int:
        """Two pick the cell, two the place in it."""
        return 4

    def sample(self, key: jax.Array, num: int) -> jax.Array:
        """Independent samples, (num, 2)."""
        return self.transform(sampling.uniform(key, (num, 4)))

    def transform(self, uniform: jax.Array) -> jax.Array:
        """Samples (N, 2) from uniforms in (0, 1) (N, 4), by the inverse of the cumulative mass.

        The first uniform picks the column of cells, so that its strata are strips of equal mass, the second the cell in
        it, the last two the place in the cell. One uniform for column and cell would have too few digits: of 2^16 cells
        it could tell apart the mass of each to 1 % only.
        """
        column = _first_above(jnp.asarray(self.columns)[None, :], jnp.zeros(len(uniform), jnp.int32), uniform[:, 0])
        row = _first_above(jnp.asarray(self.cells), column, uniform[:, 1])
        index = jnp.stack([column, row], axis=1)
        # Off the rim of the cell by what float32 rounds: a sample is never where the density is another cell's.
        end = self.origin + self.cell * np.array(self.log_density.shape, np.float32)
        margin = _ROUNDING * jnp.maximum(jnp.abs(self.origin), jnp.abs(end)) / self.cell
        place = margin[None, :] + (1 - 2 * margin)[None, :] * uniform[:, 2:]
        return self.origin[None, :] + self.cell[None, :] * (index + place)

    def log_prob(self, x: jax.Array) -> jax.Array:
        """Log density in nats at x (N, 2): (N,); -inf outside the box."""
        position = jnp.floor((x - self.origin[None, :]) / self.cell[None, :])
        size = np.array(self.log_density.shape)[None, :]
        inside = jnp.all((position >= 0) & (position < size), axis=1)
        index = jnp.where(inside[:, None], position, 0).astype(jnp.int32)
        return jnp.where(inside, jnp.asarray(self.log_density)[index[:, 0], index[:, 1]], -jnp.inf)

    def blur(self, std: jax.Array | float) -> "BlurredTable":
        """The density convolved with N(0, std^2 I), exactly."""
        return BlurredTable(dataclasses.replace(self, made=None), jnp.asarray(std, jnp.float32))

    def box(self) -> tuple[jax.Array, jax.Array]:
        """(center (2,), half side) of the square around the box of the cells, which holds all of the mass."""
        xp = np if of_numpy(self.origin, self.cell) else jnp
        half = self.cell * np.array(self.log_density.shape, np.float32) / 2
        return self.origin + half, xp.max(half)

    def scale(self) -> jax.Array:
        """The shorter side of a cell, ()."""
        return (np if of_numpy(self.cell) else jnp).min(self.cell)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BlurredTable:
    """A `TabulatedDensity` convolved with N(0, std^2 I), std above 0.

    Attributes:
      table: the density.
      std: ().
    """

    table: TabulatedDensity
    std: jax.Array

    @property
    def event_shape(self) -> tuple[int, ...]:
        """(2,)."""
        return (2,)

    @property
    def num_modes(self) -> int:
        """0: modes are not counted."""
        return 0

    @property
    def num_uniforms(self) -> int:
        """Those of the table; two become normals."""
        return self.table.num_uniforms + 2

    def sample(self, key: jax.Array, num: int) -> jax.Array:
        """Independent samples, (num, 2)."""
        return self.transform(sampling.uniform(key, (num, self.num_uniforms)))

    def transform(self, uniform: jax.Array) -> jax.Array:
        """Samples (N, 2) from uniforms in (0, 1) (N, 6)."""
        return self.table.transform(uniform[:, :-2]) + self.std * ndtri(uniform[:, -2:])

    def log_prob(self, x: jax.Array) -> jax.Array:
        """Log density in nats at x (N, 2): (N,), at least that of the smallest float32, -87, so that it is finite.

        sum_ij density_ij P(i | x) P(j | y), with P the mass that a Gaussian around x, or y, has between a cell's sides.
        """
        width, height = self.table.log_density.shape
        rows = max(1, _PAIRS // max(width, height))
        if len(x) > rows:
            return jax.lax.map(lambda point: self._log_prob(point[None, :])[0], x, batch_size=rows)
        return self._log_prob(x)

    def _log_prob(self, x: jax.Array) -> jax.Array:
        def share(axis: int) -> jax.Array:
            edges = self.table.origin[axis] + self.table.cell[axis] * jnp.arange(self.table.log_density.shape[axis] + 1)
            ends = (edges[None, :] - x[:, axis, None]) / self.std
            low, high = ends[:, :-1], ends[:, 1:]
            # On the side where both cumulative values are small, so that their difference keeps its digits.
            return jnp.where(low > 0, ndtr(-low) - ndtr(-high), ndtr(high) - ndtr(low))

        density = jnp.exp(jnp.asarray(self.table.log_density))
        along = jnp.matmul(share(0), density, precision=jax.lax.Precision.HIGHEST)
        return jnp.log(jnp.maximum(jnp.sum(along * share(1), axis=1), np.finfo(np.float32).tiny))

    def blur(self, std: jax.Array | float) -> "BlurredTable":
        """Convolved with N(0, std^2 I) once more: variances add."""
        return dataclasses.replace(self, std=jnp.sqrt(self.std**2 + std**2))

    def box(self) -> tuple[jax.Array, jax.Array]:
        """(center (2,), half side) of the table's square with six standard deviations around it."""
        center, half = self.table.box()
        return center, half + 6 * self.std

    def scale(self) -> jax.Array:
        """(cell^2 + std^2)^(1/2), ()."""
        return jnp.sqrt(self.table.scale() ** 2 + self.std**2)


def _first_above(upper: jax.Array, row: jax.Array, values: jax.Array) -> jax.Array:
    """Index (N,) of the first entry in the given row of `upper` (R, H), ascending, that is above each value (N,)."""
    size = upper.shape[1]
    index = jnp.zeros_like(row)
    for step in (2**power for power in reversed(range(max(1, (size - 1).bit_length())))):
        probe = index + step
        passed = (probe < size) & (upper[row, jnp.minimum(probe, size) - 1] <= values)
        index = jnp.where(passed, probe, index)
    return index


def from_cells(values: ArrayLike, box: Box = ((-1, 1), (-1, 1)), name: str = "cells") -> TabulatedDensity:
    """The density that is proportional to `values` (W, H) on the cells of a grid over the box.

    Args:
      values: (W, H), at least zero, the first axis x and the second y, both upwards; scaled so that the mass is one.
      box: ((x low, x high), (y low, y high)).
      name: what results call it.

    Raises:
      ValueError: a value below zero or not finite, none above zero, too many of them, a box without inside.
    """
    values = checks.numbers("values", values)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"values: got shape {values.shape}; allowed: (cells along x, cells along y)")
    target = _tabulated(values, _corners(box))
    shape = {"cells_x": values.shape[0], "cells_y": values.shape[1]}
    return dataclasses.replace(target, made=Made("from_cells", {"name": name, "box": _plain_box(box)} | shape))


def from_log_prob(
    log_prob: Callable[[Any], Any],
    box: Box = ((-3, 3), (-3, 3)),
    size: int = 128,
    name: str | None = None,
) -> TabulatedDensity:
    """Any density in the plane, tabulated on size x size cells of a box: exp(log_prob), scaled to a mass of one.

    The target is the tabulated density, exact in itself; it differs from exp(log_prob) by what varies inside a cell and
    what lies outside the box. A cell's mass is the mean of four points (Gauss-Legendre of order two in each axis).

    Args:
      log_prob: (N, 2) float32 -> (N,), in nats, up to a constant; -inf where there is no mass. It is called once, here;
        one of `jax.numpy` starts jax, whose devices are prepared before.
      box: ((x low, x high), (y low, y high)), which should hold the mass.
      size: cells along each side; each run keeps 8 bytes a cell in memory.
      name: what results call it; None: the function's own.

    Raises:
      ValueError: an output of another shape, NaN or +inf in it, no mass in the box.
    """
    checks.whole("size", size, most=math.isqrt(MOST_CELLS))
    corners = _corners(box)
    cell = (corners[1] - corners[0]) / size
    offsets = 0.5 + np.array([-1, 1]) / np.sqrt(12)
    axes = [corners[0, i] + cell[i] * (np.arange(size)[:, None] + offsets).ravel() for i in (0, 1)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float32)
    devices.prepare()
    with environment.ours():
        logs = np.asarray(log_prob(points))
    if logs.shape != (len(points),):
        raise ValueError(
            f"log_prob: got shape {logs.shape} for points {points.shape}; allowed: ({len(points)},). Of one point at a "
            "time: jax.vmap(log_prob)"
        )
    logs = logs.astype(np.float64)
    if np.any(np.isnan(logs)) or np.any(logs == np.inf):
        bad = points[~(logs < np.inf)][0].tolist()
        raise ValueError(f"log_prob: got NaN or +inf, at {bad}, say; allowed: finite, or -inf where there is no mass")
    if not np.any(logs > -np.inf):
        raise ValueError(f"log_prob: got -inf in all of the box {_plain_box(box)}; allowed: mass in the box")
    density = np.exp(logs - logs.max()).reshape(size, 2, size, 2).mean(axis=(1, 3))
    name = getattr(log_prob, "__name__", type(log_prob).__name__) if name is None else name
    made = Made("from_log_prob", {"name": name, "box": _plain_box(box), "size": size})
    return dataclasses.replace(_tabulated(density, corners), made=made)


def from_image(
    image: ArrayLike | str | Path, box: Box | None = None, dark: bool = True, name: str | None = None
) -> TabulatedDensity:
    """A density drawn as a picture: the darker a pixel, the denser.

    Args:
      image: (rows, columns), or with 3 or 4 channels (red, green, blue, opacity), of numbers from 0 to 1 or of bytes;
        or the path of a PNG (of other formats where Pillow reads them). The first row is the top.
      box: ((x low, x high), (y low, y high)); None: the longer side from -1 to 1, pixels square.
      dark: whether dark pixels have the mass, as ink on paper; False: bright ones. What is transparent has none.
      name: what results call it; None: the file's name, or "image".

    Raises:
      ValueError: another shape, numbers outside [0, 1], a picture without mass.
      OSError: no such file, or not one of a picture.
    """
    if isinstance(image, str | Path):
        import matplotlib.image

        name = Path(image).stem if name is None else name
        image = matplotlib.image.imread(image)
    pixels = np.asarray(image)
    if pixels.dtype == np.uint8:
        pixels = pixels / 255
    pixels = checks.numbers("image", pixels)
    if pixels.ndim not in (2, 3) or not pixels.size or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise ValueError(f"image: got shape {pixels.shape}; allowed: (rows, columns), or with 3 or 4 channels")
    if np.any(~(pixels >= 0) | (pixels > 1)):
        raise ValueError("image: got numbers outside [0, 1]; allowed: from 0 to 1, or bytes (uint8)")
    opacity = pixels[:, :, 3] if pixels.shape[2:] == (4,) else 1.0
    # Luma of ITU-R BT.601, as pictures are turned to gray.
    gray = pixels if pixels.ndim == 2 else pixels[:, :, :3] @ np.array([0.299, 0.587, 0.114])
    ink = opacity * (np.maximum(1 - gray, 0) if dark else gray)
    if not np.any(ink > 1e-6):
        raise ValueError(f"image: got a {'white' if dark else 'black'} one; allowed: with mass (see `dark`)")
    values = np.where(ink > 1e-6, ink, 0)[::-1].T
    if box is None:
        half = np.array(values.shape) / max(values.shape)
        box = ((-half[0], half[0]), (-half[1], half[1]))
    numbers = {"name": name or "image", "box": _plain_box(box), "dark": bool(dark)}
    return dataclasses.replace(_tabulated(values, _corners(box)), made=Made("from_image", numbers))


def checkerboard(num_squares: int = 4, radius: float = 1.0, cells: int = 16) -> TabulatedDensity:
    """Uniform on every other square of a board of num_squares x num_squares, in [-radius, radius]^2.

    The square at the lower left has mass.

    Args:
      num_squares: along a side, at least 2.
      radius: half of the board's side.
      cells: of the grid along each square's side: how finely its sharp edges are resolved by what measures it.

    Raises:
      ValueError: too many cells.
    """
    checks.whole("num_squares", num_squares, least=2, most=64)
    checks.whole("cells", cells, most=256)
    check_length("radius", radius)
    square = np.arange(num_squares * cells) // cells
    target = _tabulated(1.0 - (square[:, None] + square[None, :]) % 2, np.array([[-1, -1], [1, 1]]) * radius)
    numbers = {"num_squares": num_squares, "radius": radius, "cells": cells}
    made = Made("checkerboard", {name: plain(value) for name, value in numbers.items()})
    return dataclasses.replace(target, made=made)


def check_tabulated(target: TabulatedDensity) -> None:
    """Raises ValueError for a table that `from_cells` would not have made: masses that do not sum to one, say."""
    size = np.shape(target.log_density)
    shapes = {"log_density": size, "columns": size[:1], "cells": size, "origin": (2,), "cell": (2,)}
    values = {name: np.asarray(getattr(target, name), np.float64) for name in shapes}
    for name, shape in shapes.items():
        if values[name].shape != shape or len(size) != 2:
            raise ValueError(f"{name}: got shape {values[name].shape}; allowed: as targets.from_cells makes it")
    mass = np.exp(values["log_density"]) * np.prod(values["cell"])
    columns = mass.sum(axis=1)
    within = np.diff(values["cells"], axis=1, prepend=0) * columns[:, None]
    for name, got, want in (
        ("log_density", mass.sum(), 1),
        ("columns", np.diff(values["columns"], prepend=0), columns),
        ("cells", within, mass),
    ):
        if not np.allclose(got, want, rtol=1e-4, atol=1e-5) or np.any(np.isnan(got)):
            raise ValueError(f"{name}: got mass that is not its cells'; allowed: as targets.from_cells makes it")


def _corners(box: Box) -> NDArray[np.float64]:
    """[[x low, y low], [x high, y high]]."""
    sides = checks.numbers("box", box)
    if sides.shape != (2, 2) or not np.all(np.isfinite(sides)) or np.any(sides[:, 0] >= sides[:, 1]):
        raise ValueError(f"box: got {box!r:.200}; allowed: ((x low, x high), (y low, y high)), finite, low below high")
    checks.each("box", sides, -FARTHEST, FARTHEST)
    return sides.T


def _plain_box(box: Box) -> Any:
    return plain(checks.numbers("box", box))


def _tabulated(values: NDArray, corners: NDArray) -> TabulatedDensity:
    checks.each("values", values, 0)
    if values.size > MOST_CELLS:
        raise ValueError(f"size: got {values.shape[0]:,} x {values.shape[1]:,} cells; allowed: at most {MOST_CELLS:,}")
    if not np.any(values > 0):
        raise ValueError("values: got no mass; allowed: some above 0")
    cell = (corners[1] - corners[0]) / values.shape
    checks.each("box: side of a cell", cell, NEAREST, FARTHEST)
    if np.any(_ROUNDING * np.abs(corners).max(axis=0) > 0.01 * cell):
        raise ValueError(
            f"box: got {corners.T.tolist()} with cells of {cell.tolist()}; allowed: cells that float32 tells apart"
        )
    mass = values / values.max()
    mass = mass / mass.sum()
    columns = mass.sum(axis=1)
    with np.errstate(divide="ignore"):
        log_density = np.log(mass) - np.log(np.prod(cell))
    within = mass / np.where(columns > 0, columns, 1)[:, None]
    leaves = log_density, _cumulative(columns), _cumulative(within), corners[0], cell
    return TabulatedDensity(*(leaf.astype(np.float32) for leaf in leaves))  # pyright: ignore[reportArgumentType]


def _cumulative(mass: NDArray) -> NDArray:
    """Cumulative mass along the last axis; one from the last cell with mass on, so that no uniform passes it."""
    total = np.cumsum(mass, axis=-1)
    rest = np.flip(np.cumsum(np.flip(mass, axis=-1), axis=-1), axis=-1) - mass
    return np.where(rest > 0, np.minimum(total, 1), 1)
