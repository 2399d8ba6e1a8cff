"""A results folder as it is read: what was recorded, and what follows from it."""

import os

import xarray as xr

from gandyn.analysis import stats, verdicts
from gandyn.results.reading import open_recorded


def open_results(path: str | os.PathLike[str]) -> xr.Dataset:
    """A results folder as one dataset over all its runs (docs/results.md), complete or not, with what follows from it.

    Raises:
        FileNotFoundError: there is no such folder, or a group of it is missing.
        ValueError: the folder holds no results, or results that are damaged or of another format version.
    """
    return derive(open_recorded(path))


def derive(results: xr.Dataset) -> xr.Dataset:
    """Recorded results with the modes that the losses imply, and a verdict for each run.

    `implied_modes_disc`, `implied_modes_gen` (run, step): `stats.implied_modes`. `verdict` and what stands beside it:
    `verdicts.judge` under the default rules; judge again for others.
    """
    attrs = lambda who: {"long_name": f"modes that {who}'s loss would mean, were D optimal", "units": "modes"}  # noqa: E731
    implied_disc, implied_gen = stats.implied_modes(results, "disc"), stats.implied_modes(results, "gen")
    return verdicts.judge(
        results.assign(
            implied_modes_disc=(("run", "step"), implied_disc, attrs("D")),
            implied_modes_gen=(("run", "step"), implied_gen, attrs("G")),
        )
    )
