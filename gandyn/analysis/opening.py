"""A results folder as it is read: what was recorded, and what follows from it."""

import os
from typing import Literal

import xarray as xr

from gandyn.analysis import loss_curves, verdicts
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

    `implied_modes_disc`, `implied_modes_gen` (run, step): `loss_curves.implied_modes`, where losses of k of K modes are
    recorded. `verdict` and what stands beside it: `verdicts.judge` under the default rules; judge again for others.
    """
    added = {}
    players: tuple[tuple[Literal["disc", "gen"], str], ...] = (("disc", "D"), ("gen", "G"))
    for player, who in players:
        if f"best_loss_{player}" in results:
            attrs = {"long_name": f"modes that {who}'s loss would mean, were D optimal", "units": "modes"}
            attrs["caution"] = "near equilibrium a weak D implies all modes, whatever is covered: read modes and lag"
            added[f"implied_modes_{player}"] = (("run", "step"), loss_curves.implied_modes(results, player), attrs)
    return verdicts.judge(results.assign(added))
