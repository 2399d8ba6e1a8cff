"""Which runs of a sweep tell most: of each verdict the median run and the two extremes."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gandyn.analysis import reading

_ORDER = ("jsd", "mode_tv", "modes", "value")
"""By what runs of one verdict are ordered: the first of these that was measured."""


def telling(results: xr.Dataset) -> list[int]:
    """Positions of the most telling runs: every verdict's median first, then every verdict's extremes.

    Without verdicts, runs of one recipe stand in for runs of one verdict. Runs that were never measured tell nothing.
    """
    rank = _rank(results)
    told = reading.verdicts(results)
    groups = [one.verdict for one in told] if told else [str(label) for label in results["recipe"].values]
    medians, extremes = [], []
    for group in dict.fromkeys(groups):
        runs = [r for r, own in enumerate(groups) if own == group and np.isfinite(rank[r])]
        runs.sort(key=lambda r: (rank[r], r))
        if runs:
            medians.append(runs[len(runs) // 2])
            extremes += [runs[0], runs[-1]]
    return list(dict.fromkeys([*medians, *extremes]))


def _rank(results: xr.Dataset) -> NDArray[np.float64]:
    """What each run is ordered by, (R,); NaN for one that was never measured."""
    measured = reading.last_step(results) >= 0
    found = [reading.final(results, name) for name in _ORDER if name in results]
    values = found[0] if found else np.zeros(results.sizes["run"])
    return np.where(measured, np.nan_to_num(values, nan=0.0), np.nan)


def positions(results: xr.Dataset, labels: Sequence[int]) -> list[int]:
    """Positions of runs with these numbers.

    Raises:
      ValueError: no such run.
    """
    known = {int(label): position for position, label in enumerate(results["run"].values)}
    for label in labels:
        if label not in known:
            raise ValueError(f"runs: got {label}; allowed: 0 to {max(known, default=0)}")
    return [known[label] for label in dict.fromkeys(labels)]
