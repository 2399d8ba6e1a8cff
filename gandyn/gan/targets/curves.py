"""Curves as many narrow Gaussians side by side: moons, circles, ribbons. A mode is a whole curve, or there is none.

Shapes: K components, V vertices.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gandyn import checks
from gandyn.gan.targets.arrangements import assemble, check_length, check_turns, named
from gandyn.gan.targets.mixtures import MOST_MODES, GaussianMixture

_WIDEST_GAP = 2  # std between components: the density along a curve then ripples by 3 %, with twice that by a factor 4
_NUM_VERTICES = 513  # of a curve that is a function


def moons(
    num_components: int = 128, radius: float = 1.0, std: float = 0.05, weights: ArrayLike | None = None
) -> GaussianMixture:
    """Two interleaved half circles, two modes: the upper one open below, the lower one shifted by (radius, radius / 2).

    As scikit-learn's `make_moons`, centred on the origin; noise of `std` around each half circle.

    Args:
      num_components: Gaussians in all, half on each moon.
      radius: of both.
      std: of each Gaussian.
      weights: (2,), mass of each moon; None: equal.

    Raises:
      ValueError: gaps between Gaussians of over two std, which would be beads and no moon.
    """
    half = _halves(num_components)
    check_length("radius", radius)
    angle = np.pi * (np.arange(half) + 0.5) / half
    arc = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = radius * np.concatenate([arc - [0.5, 0.25], [0.5, 0.25] - arc])
    made = _curves(points, std, np.repeat([0, 1], half), weights, np.pi * radius / half)
    return named("moons", made, num_components=num_components, radius=radius, std=std, weights=weights)


def circles(
    num_components: int = 192,
    radius: float = 1.0,
    factor: float = 0.5,
    std: float = 0.05,
    weights: ArrayLike | None = None,
) -> GaussianMixture:
    """Two circles around the origin, two modes: the outer of `radius`, the inner of `factor` times that.

    Args:
      num_components: Gaussians in all, half on each circle.
      radius: of the outer circle.
      factor: radius of the inner circle over that of the outer, in (0, 1).
      std: of each Gaussian.
      weights: (2,), mass of each circle, the outer first; None: equal.

    Raises:
      ValueError: gaps between Gaussians of over two std, which would be beads and no circle.
    """
    half = _halves(num_components)
    check_length("radius", radius)
    checks.number("factor", factor, 0, 1, above=True, below=True)
    angle = 2 * np.pi * np.arange(half) / half
    circle = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.concatenate([circle, factor * circle])
    made = _curves(points, std, np.repeat([0, 1], half), weights, 2 * np.pi * radius / half)
    return named("circles", made, num_components=num_components, radius=radius, factor=factor, std=std, weights=weights)


def ribbon(
    curve: str | ArrayLike | Callable[[NDArray], ArrayLike] = "spiral",
    num_components: int = 256,
    radius: float = 1.0,
    turns: float = 2.0,
    std: float = 0.02,
    num_modes: int = 0,
) -> GaussianMixture:
    """A curve of even mass along its length and Gaussian across: no modes, for nobody counts any on it.

    Args:
      curve: "spiral", Archimedes' of `turns` turns that ends at `radius`; or the vertices (V, 2) of a line; or a
        function from V parameters in [0, 1] to such vertices (it is recorded by 513 of them).
      num_components: Gaussians, at equal steps along the curve.
      radius: of the spiral; other curves are taken `radius` times as large as they are.
      turns: of the spiral; other curves have none.
      std: of each Gaussian.
      num_modes: stretches of equal length to count as modes; 0 counts none.

    Raises:
      ValueError: gaps between Gaussians of over two std, which would be beads and no ribbon.
    """
    checks.whole("num_components", num_components, most=MOST_MODES)
    checks.whole("num_modes", num_modes, least=0, most=num_components)
    check_length("radius", radius)
    check_turns(turns)
    if isinstance(curve, str):
        checks.choice("curve", curve, ("spiral",))
        vertices = _spiral(turns)
    else:
        share = np.linspace(0, 1, _NUM_VERTICES)
        curve = vertices = checks.numbers("curve", curve(share) if callable(curve) else curve)
        if vertices.ndim != 2 or vertices.shape[1] != 2 or len(vertices) < 2 or not np.all(np.isfinite(vertices)):
            raise ValueError(f"curve: got shape {vertices.shape}; allowed: (at least 2 vertices, 2), finite")
    points, step = _along(radius * vertices, num_components)
    groups = np.arange(num_components) * num_modes // num_components if num_modes else ()
    made = _curves(points, std, groups, None, step)
    return named(
        "ribbon", made, curve=curve, num_components=num_components, radius=radius, turns=turns, std=std,
        num_modes=num_modes,
    )  # fmt: skip


def _halves(num_components: Any) -> int:
    checks.whole("num_components", num_components, least=2, most=MOST_MODES)
    if num_components % 2:
        raise ValueError(f"num_components: got {num_components}; allowed: an even number, half for each mode")
    return num_components // 2


def _spiral(turns: float) -> NDArray[np.float64]:
    """Vertices (V, 2) of an Archimedean spiral of radius 1, enough of them for its turns."""
    share = np.linspace(0, 1, 1 + 256 * max(4, int(np.ceil(min(turns, 64)))))
    angle = 2 * np.pi * turns * share
    return share[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _along(vertices: NDArray, num: int) -> tuple[NDArray, float]:
    """`num` points (num, 2) in the middles of equal steps along the line through the vertices (V, 2), and the step."""
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(vertices, axis=0), axis=1))])
    if not 0 < lengths[-1] < np.inf:
        raise ValueError(f"curve: got one of length {lengths[-1]}; allowed: above 0, finite")
    at = lengths[-1] * (np.arange(num) + 0.5) / num
    return np.stack([np.interp(at, lengths, axis) for axis in vertices.T], axis=1), float(lengths[-1] / num)


def _curves(points: NDArray, std: float, groups: ArrayLike, weights: ArrayLike | None, step: float) -> GaussianMixture:
    """Gaussians of one std at points (K, 2), `step` apart at most; weights (G,) are of the modes."""
    check_length("std", std)
    labels = np.asarray(groups, int)
    one_hot = np.eye(labels.max() + 1)[labels] if labels.size else np.zeros((len(points), 0))
    if step > _WIDEST_GAP * std:
        least = int(np.ceil(step * len(points) / (_WIDEST_GAP * std)))
        raise ValueError(
            f"num_components: got {len(points)}, {step / std:.3g} std apart; allowed: at most {_WIDEST_GAP} std apart, "
            f"so at least {least + least % 2} for std={std:.6g}"
        )
    if weights is not None:
        weights = checks.numbers("weights", weights)
        if weights.shape != one_hot.shape[1:]:
            raise ValueError(f"weights: got shape {weights.shape}; allowed: one per mode, {one_hot.shape[1]}")
        checks.each("weights", weights, 0, above=True)
        weights = weights[labels] / np.bincount(labels)[labels]
    return assemble(points, std, weights, groups=one_hot)
