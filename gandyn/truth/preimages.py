"""The generator's density without a kernel: a change of variables over all latents that G sends to a point.

Where a latent has as many coordinates as a sample, q(x) is the sum over the preimages z of x of prior(z) / |det dG/dz|.
A trained G folds the latents many times into sheets far thinner than any kernel, and the largest error of a density
that is smoothed is there. Preimages are looked for from a mesh of latents: each triangle of the mesh whose image,
`GROWN`, holds x gives a start, and Newton's method goes on from there on G itself.

Shapes: Q points, S starts, n vertices along each side of the mesh.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gandyn.gan.game import Game

MESH = 256
"""Vertices along each side of the mesh of latents."""
REACH = 5.0
"""Where the mesh of a Gaussian prior ends, in its stds: 1.2e-6 of the mass lies further out."""
GROWN = 2.0
"""By how much a triangle's image is enlarged about its middle: between its vertices G is not affine. Of the own
preimages of G's samples 96 to 97 % are found so, at 1: 82 to 84 % (three trained GANs of width 64)."""
ROUNDS = 6
"""Newton's steps at most; a generator of ReLUs takes two or three."""
STRAYED = 4
"""Cells of the mesh from its start at which a search ends: what is there is found from nearer."""

_CHUNK = 2**14
_ITEMS = 2**21
_STEP = 0.1  # the longest of one step, in units of the latent: no further than the start can be wrong
_CLOSE = 1e-4  # a step so short has arrived
_SAME = 0.02  # two arrivals so near, on sheets alike, are one


class Density(NamedTuple):
    """G's density at points.

    Attributes:
      log_q: (Q,), float64; -inf where no preimage is known.
      log_q_found: (Q,), the same of what the search finds by itself, as though no latent were known: a function of the
        point alone, and so its critic's V a lower bound.
      found: share of the own latents that the search finds by itself; NaN where none were given.
      num_preimages: mean number of preimages of a point.
    """

    log_q: np.ndarray
    log_q_found: np.ndarray
    found: float
    num_preimages: float


def invertible(game: Game) -> bool:
    """Whether a latent has as many coordinates as a sample, in the plane, and nothing smooths G's samples after."""
    return game.event_shape == (2,) and game.config.latent_dim == 2


@jax.default_matmul_precision("float32")
def density(
    game: Game, gen: Any, points: np.ndarray, labels: np.ndarray | None = None, own: np.ndarray | None = None
) -> Density:
    """G's density at points, without instance noise.

    Args:
      game: one GAN's, `invertible`.
      gen: variables of G.
      points: (Q, 2).
      labels: (Q,), where conditional: the density is that given the label.
      own: (Q, 2), latents that are known to be sent to the points; NaN where none is.

    Raises:
      ValueError: a game that is not `invertible`.
    """
    if not invertible(game):
        raise ValueError(
            f"game: got latents of {game.config.latent_dim} coordinates and samples of shape {game.event_shape}; "
            "allowed: two, and (2,)"
        )
    if labels is None:
        return _of_label(game, gen, points, None, own)
    log_q, found, count = np.full((2, len(points)), -np.inf), [], 0
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        one = _of_label(game, gen, points[rows], label, None if own is None else own[rows])
        log_q[:, rows] = one.log_q, one.log_q_found
        found.append((one.found, len(one.log_q)))
        count += one.num_preimages * len(one.log_q)
    shares, weights = np.asarray(found, float).T
    return Density(log_q[0], log_q[1], float(np.average(shares, weights=weights)), count / len(points))


def _of_label(game: Game, gen: Any, points: np.ndarray, label: Any, own: np.ndarray | None) -> Density:
    points = np.asarray(points, float)
    axis = _axis(game)
    latents, index = starts(*_mesh(game, gen, label, axis), points)
    latents, log_det, arrived = _newton(game, gen, label, latents, points[index], STRAYED * (axis[1] - axis[0]))
    latents, log_det, index = latents[arrived], log_det[arrived], index[arrived]
    num_known, found = 0, math.nan
    if own is not None:
        mine = np.flatnonzero(np.isfinite(own).all(1))
        there = (np.abs(latents - own[index]) < _SAME).all(1)  # never of NaN
        num_known, found = len(mine), float(np.isin(mine, index[there]).mean()) if len(mine) else math.nan
        log_det = np.concatenate([_at_latents(game, gen, label, np.asarray(own[mine], float)), log_det])
        latents, index = np.concatenate([own[mine], latents]), np.concatenate([mine, index])
    searched = np.arange(len(index)) >= num_known
    mass = _masses(game, latents, log_det)

    def log_total(of: np.ndarray) -> np.ndarray:
        kept = of[_distinct(latents[of], log_det[of], index[of])]
        with np.errstate(divide="ignore"):
            return np.log(np.bincount(index[kept], mass[kept], minlength=len(points)))

    # Known latents stand first: of two that are one, the first is kept.
    log_q, log_q_found = log_total(np.arange(len(index))), log_total(np.flatnonzero(searched))
    return Density(log_q, log_q_found, found, np.sum(searched & (mass > 0)) / max(1, len(points)))


# ---- latents


def _reach(game: Game) -> float:
    """The largest coordinate of a latent; of a Gaussian one, that of the mesh."""
    if game.config.prior == "truncated":
        return float(game.hparams.truncation)
    return 1.0 if game.config.prior == "uniform" else REACH


def _axis(game: Game) -> np.ndarray:
    """Coordinates of the mesh's vertices along each axis, (n,)."""
    return np.linspace(-1, 1, MESH) * _reach(game)


def _masses(game: Game, latents: np.ndarray, log_det: np.ndarray) -> np.ndarray:
    """Prior density over |det| at latents (S, 2): (S,); infinite where a sheet has no width."""
    prior, reach = game.config.prior, _reach(game)
    if prior == "uniform":
        log_prior = np.full(len(latents), -2 * math.log(2))
    else:
        log_prior = -0.5 * np.sum(latents**2, axis=1) - math.log(2 * math.pi)
    if prior == "truncated":
        log_prior -= 2 * math.log(math.erf(reach / math.sqrt(2)))
    if prior != "gaussian":
        log_prior[np.abs(latents).max(axis=1, initial=0) > reach] = -np.inf
    with np.errstate(over="ignore"):
        return np.exp(log_prior - np.real(log_det))


def _mesh(game: Game, gen: Any, label: Any, axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The triangles of the mesh, in latents and as G sends them: (T, 3, 2) each."""
    latents = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    chunks = [np.asarray(_generated(game, gen, chunk, label)) for chunk in _padded(latents.reshape(-1, 2))]
    images = np.concatenate(chunks)[: latents.size // 2].reshape(latents.shape).astype(float)
    return _triangles(latents), _triangles(images)


def _triangles(corners: np.ndarray) -> np.ndarray:
    """Two triangles (T, 3, 2) for each cell of a grid (n, n, 2)."""
    a, b, c, d = corners[:-1, :-1], corners[1:, :-1], corners[:-1, 1:], corners[1:, 1:]
    return np.concatenate([np.stack(three, axis=-2).reshape(-1, 3, 2) for three in ((a, b, c), (d, c, b))])


def _padded(*arrays: np.ndarray) -> Iterator[Any]:
    """Rows of arrays (S, ...) as float32, _CHUNK at a time; the last ones are filled up with zeros."""
    for first in range(0, len(arrays[0]), _CHUNK):
        parts = [np.asarray(array[first : first + _CHUNK], np.float32) for array in arrays]
        parts = [np.pad(part, ((0, _CHUNK - len(part)), (0, 0))) for part in parts]
        yield parts[0] if len(parts) == 1 else parts


@jax.jit
def _generated(game: Game, gen: Any, latents: jax.Array, label: Any) -> jax.Array:
    labels = None if label is None else jnp.full(len(latents), label, jnp.int32)
    return game.generate(gen, latents, labels)


# ---- where to start


def starts(latents: np.ndarray, images: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Latents (S, 2) near which G may send to a point, and which point (S,): of each enlarged triangle that holds it.

    Points are sorted into strips of equal number along y, and along x in each; a triangle meets few of them.

    Args:
      latents: (T, 3, 2), triangles.
      images: (T, 3, 2), where G sends their vertices.
      points: (Q, 2).
    """
    strips = _Strips(points)
    middle = images.mean(axis=1, keepdims=True)
    grown = middle + GROWN * (images - middle)
    met = np.flatnonzero(strips.may_meet(grown))
    first, last = strips.of(grown[met, :, 1].min(axis=1)), strips.of(grown[met, :, 1].max(axis=1))
    spans = np.cumsum(last - first + 1)
    found = []
    begin = 0
    while begin < len(met):
        before = spans[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(spans, before + _ITEMS, side="right")))
        triangle, strip = _ranges(met[begin:end], first[begin:end], last[begin:end] + 1)
        low, high = strips.columns(grown[triangle], strip)
        triangle, position = _ranges(triangle, low, high)
        found.append(_inside(triangle, latents, images, points, strips.order[position]))
        begin = end
    if not found:
        return np.zeros((0, 2)), np.zeros(0, int)
    where, index, side = (np.concatenate(part) for part in zip(*found, strict=True))
    return _one_a_cell(where, index, side, np.ptp(latents[0], axis=0).max())


def _one_a_cell(where: np.ndarray, index: np.ndarray, side: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Of starts for one point in one cell, on sheets that face the same way, one: enlarged triangles overlap."""
    if not len(where):
        return where, index
    column, row = np.floor((where - where.min(axis=0)) / cell).astype(np.int64).T
    place = np.ravel_multi_index((index, column, row, side), (index.max() + 1, column.max() + 1, row.max() + 1, 2))
    kept = np.unique(place, return_index=True)[1]
    return where[kept], index[kept]


def _ranges(what: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each of `what` beside every whole number from low up to, not with, high."""
    count = np.maximum(high - low, 0)
    before = np.cumsum(count) - count
    return np.repeat(what, count), np.arange(count.sum()) - np.repeat(before - low, count)


def _inside(
    triangle: np.ndarray, latents: np.ndarray, images: np.ndarray, points: np.ndarray, index: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of triangles, and a point for each, those that hold it, enlarged.

    The latent that an affine G sends there, the point, and the side of the triangle that G turns up, 0 or 1.
    """
    corner = images[triangle, 0]
    one, other, towards = images[triangle, 1] - corner, images[triangle, 2] - corner, points[index] - corner
    (ax, ay), (bx, by), (x, y) = one.T, other.T, towards.T
    det = ax * by - ay * bx
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (x * by - y * bx) / det, (ax * y - ay * x) / det
        slack = (GROWN - 1) / 3
        held = (first >= -slack) & (second >= -slack) & (first + second <= 1 + slack)
    held &= det != 0
    corners = latents[triangle[held]]
    shares = np.stack([first[held], second[held]], axis=1)
    where = corners[:, 0] + np.einsum("sk,skd->sd", shares, corners[:, 1:] - corners[:, :1])
    return where, index[held], (det[held] > 0).astype(np.int64)


class _Strips:
    """Points (Q, 2), sorted into strips along y that hold equally many, and along x in each.

    Attributes:
      order: (Q,), which point stands at each place.
    """

    def __init__(self, points: np.ndarray) -> None:
        num = max(1, math.isqrt(len(points)))
        x, y = np.asarray(points, float).T
        rows = np.sort(y)
        edges = rows[np.arange(1, num) * len(points) // num]
        self._low, self._high = np.r_[rows[0], edges], np.r_[edges, rows[-1]]
        self._edges, self._left, self._right = edges, x.min(), x.max()
        # One sorted array for all: whole part the strip, fraction the place along x.
        place = self.of(y) + self._fraction(x)
        self.order = np.argsort(place, kind="stable")
        self._places = place[self.order]

    def _fraction(self, x: np.ndarray) -> np.ndarray:
        width = (self._right - self._left) * 1.001 + 1e-12
        return np.clip((x - self._left) / width, 0, 1 - 1e-9)

    def of(self, y: np.ndarray) -> np.ndarray:
        """Strips of ordinates."""
        return np.searchsorted(self._edges, y, side="right")

    def may_meet(self, triangles: np.ndarray) -> np.ndarray:
        """Whether triangles (T, 3, 2) reach into the box of all points: (T,)."""
        low, high = triangles.min(axis=1), triangles.max(axis=1)
        along_x = (high[:, 0] >= self._left) & (low[:, 0] <= self._right)
        return along_x & (high[:, 1] >= self._low[0]) & (low[:, 1] <= self._high[-1])

    def columns(self, triangles: np.ndarray, strip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places from where to where the points of a strip lie within a triangle's reach along x there: (T,) each."""
        low, high = self._low[strip], self._high[strip]
        left, right = np.full(len(strip), np.inf), np.full(len(strip), -np.inf)
        for i in range(3):
            (ax, ay), (bx, by) = triangles[:, i].T, triangles[:, (i + 1) % 3].T
            rise = np.where(ay == by, 1, by - ay)
            ends = np.clip(np.stack([(low - ay) / rise, (high - ay) / rise]), 0, 1)
            ends[:, ay == by] = np.array([[0.0], [1.0]])
            across = ax + ends * (bx - ax)
            met = (np.maximum(ay, by) >= low) & (np.minimum(ay, by) <= high)
            left = np.where(met, np.minimum(left, across.min(axis=0)), left)
            right = np.where(met, np.maximum(right, across.max(axis=0)), right)
        first = np.searchsorted(self._places, strip + self._fraction(left) - 1e-9, side="left")
        last = np.searchsorted(self._places, strip + self._fraction(right) + 1e-9, side="right")
        return first, np.where(left <= right, last, first)


# ---- Newton's method


def _newton(
    game: Game, gen: Any, label: Any, begun: np.ndarray, points: np.ndarray, strayed: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From starts (S, 2) to latents that are sent to points (S, 2): those, log det there, whether they arrived.

    The log determinants are complex: its sign is their imaginary part, 0 or pi.
    """
    latents, log_det = begun.copy(), np.zeros(len(begun), complex)
    arrived, going = np.zeros(len(latents), bool), np.arange(len(latents))
    noise = 4 * float(np.finfo(np.float32).eps) * (np.abs(points).max() if len(points) else 1.0)
    for _ in range(ROUNDS + 1):
        steps, dets, errors = _steps(game, gen, label, latents[going], points[going])
        length = np.hypot(*steps.T)
        # Where det = 0 there is no step. What is not a number has not arrived, and goes nowhere.
        close = ((length < _CLOSE) & np.isfinite(dets)) | (errors < noise)
        done = going[close]
        arrived[done], log_det[done] = True, dets[close]
        on = ~close & np.isfinite(dets) & np.isfinite(length)
        going, steps, length = going[on], steps[on], length[on]
        if not len(going):
            break
        latents[going] += steps * np.minimum(1, _STEP / np.maximum(length, 1e-30))[:, None]
        going = going[(np.abs(latents[going] - begun[going]) < strayed).all(1)]
    return latents, log_det, arrived


def _steps(
    game: Game, gen: Any, label: Any, latents: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Newton's steps (S, 2) in latents, the log determinants there (S,), and how far from the points G is (S,)."""
    parts = [[np.asarray(a) for a in _step(game, gen, z, x, label)] for z, x in _padded(latents, points)]
    if not parts:
        return np.zeros((0, 2)), np.zeros(0, complex), np.zeros(0)
    steps, det, error = (np.concatenate(part)[: len(latents)].astype(float) for part in zip(*parts, strict=True))
    return steps, _log(det), error


def _at_latents(game: Game, gen: Any, label: Any, latents: np.ndarray) -> np.ndarray:
    return _steps(game, gen, label, latents, np.zeros_like(latents))[1]


def _log(det: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.abs(det)) + 1j * np.pi * (det < 0)


@jax.jit
def _step(game: Game, gen: Any, latents: jax.Array, points: jax.Array, label: Any) -> tuple[jax.Array, ...]:
    labels = None if label is None else jnp.full(len(latents), label, jnp.int32)
    images, along = [], []
    for direction in np.eye(2, dtype=np.float32):
        tangent = jnp.broadcast_to(direction, latents.shape)
        image, slope = jax.jvp(lambda z: game.generate(gen, z, labels), (latents,), (tangent,))
        images.append(image)
        along.append(slope)
    (a, c), (b, d), (x, y) = (v.T for v in (*along, points - images[0]))
    det = a * d - b * c
    step = jnp.stack([d * x - b * y, a * y - c * x], axis=1) / jnp.where(det == 0, 1, det)[:, None]
    return step, det, jnp.maximum(jnp.abs(x), jnp.abs(y))


def _distinct(latents: np.ndarray, log_det: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Places of arrivals that differ: of those of a point near one another, on sheets alike, the first."""
    order = np.lexsort((latents[:, 0], index))
    z, det, which = latents[order], log_det[order], index[order]
    same = np.arange(len(order))  # the earliest arrival that each is, so far
    for lag in range(1, 12):
        alike = (which[lag:] == which[:-lag]) & (np.abs(z[lag:] - z[:-lag]) < _SAME).all(1)
        with np.errstate(invalid="ignore"):
            alike &= np.abs(det[lag:] - det[:-lag]) < 0.05  # of one sign, and within 5 %
        if not alike.any():
            continue
        same[lag:][alike] = np.minimum(same[lag:][alike], same[:-lag][alike])
    groups = np.full(len(order), len(order))
    np.minimum.at(groups, same, order)
    return np.sort(groups[groups < len(order)])
