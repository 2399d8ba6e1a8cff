"""A data set as a density: every point smoothed by a Gaussian."""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from gandyn import checks
from gandyn.gan.targets.arrangements import assemble, check_length
from gandyn.gan.targets.mixtures import GaussianMixture
from gandyn.gan.targets.protocol import Made


def from_samples(points: ArrayLike, std: float, name: str = "samples") -> GaussianMixture:
    """The Gaussian-smoothed data set 1/N sum_i N(x; points_i, std^2 I), no modes counted.

    The density is known exactly, and costs N terms a point: 10,000 samples take about as long as 10,000 modes would.

    Args:
      points: (N, d), up to 131,072 of them.
      std: of the smoothing, in the units of the data. It is the smallest length that the density resolves.
      name: what results call it.

    Raises:
      ValueError: points of another shape or not finite, too many of them, a std that is not above 0.
    """
    points = checks.numbers("points", points)
    if points.ndim != 2 or not points.size or not np.all(np.isfinite(points)):
        raise ValueError(f"points: got shape {points.shape}; allowed: (number of points, d), finite")
    check_length("std", std)
    target = assemble(points, std, groups=np.zeros((len(points), 0)))
    return dataclasses.replace(target, made=Made("from_samples", {"name": name, "num_points": len(points), "std": std}))
