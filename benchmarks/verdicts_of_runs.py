"""Verdicts of 128 trained GANs, measured more often, more rarely, and in part: the figures in docs/verdicts.md.

Each is measured 201 times; its verdict is that of every fifth of these. It is taken again from all of them, from every
2nd, 5th and 10th of those 41, and from three windows of the run. `python benchmarks/verdicts_of_runs.py` prints the
counts, in about ten minutes on two cores.
"""

import collections
from typing import Any

import numpy as np
import xarray as xr

import gandyn
from gandyn.analysis import verdicts
from gandyn.gan import targets

MEASURED = gandyn.MeasureConfig(num_nodes=128, num_density_nodes=2**12)
_R1 = {"penalties": ("r1",)}
_RING, _WIDE, _GRID = targets.ring(8, 1.0, 0.02), targets.ring(8, 1.0, 0.1), targets.grid(25, 2.0, 0.05)
_ANGLE = 2 * np.pi * np.arange(8) / 8
_UNEVEN = targets.mixture(
    np.stack([np.cos(_ANGLE), np.sin(_ANGLE)], 1), 0.05, weights=[0.005, 0.195, 0.2, 0.1, 0.1, 0.1, 0.15, 0.15]
)
_MIDDLE, _NINE = targets.ring(8, 1.0, 0.05), targets.grid(9, 1.0, 0.1)
SETS: dict[str, tuple[Any, dict[str, Any], dict[str, float], int]] = {
    "ring, non-saturating": (_RING, {}, {}, 2000),
    "ring, R1": (_RING, _R1, {"r1_weight": 1.0}, 2000),
    "ring, minimax": (_RING, {"loss": "minimax"}, {}, 2000),
    "ring, hinge": (_RING, {"loss": "hinge"}, {}, 2000),
    "ring, least squares": (_RING, {"loss": "least_squares"}, {}, 2000),
    "ring, a slow D": (_RING, {}, {"lr_disc": 1e-4}, 2000),
    "ring, a G that stands still": (_RING, {}, {"lr_gen": 0.0, "lr_disc": 3e-3}, 2000),
    "wide ring, R1": (_WIDE, _R1, {"r1_weight": 0.1}, 2000),
    "wide ring, minimax": (_WIDE, {"loss": "minimax"}, {}, 2000),
    "grid of 25, non-saturating": (_GRID, {}, {}, 2000),
    "grid of 25, hinge": (_GRID, {"loss": "hinge"}, {}, 2000),
    "grid of 25, R1": (_GRID, _R1, {"r1_weight": 0.1}, 2000),
    "uneven ring, R1": (_UNEVEN, _R1, {"r1_weight": 0.1}, 2000),
    "ring of std 0.05, R1": (_MIDDLE, _R1, {"r1_weight": 0.1, "lr_gen": 5e-4}, 6000),
    "ring of std 0.05, minimax": (_MIDDLE, {"loss": "minimax"}, {}, 6000),
    "grid of 9, non-saturating": (_NINE, {}, {}, 6000),
}
SEEDS = 8


def trained(name: str) -> xr.Dataset:
    """The runs of one setting, measured 201 times."""
    target, config, numbers, steps = SETS[name]
    return gandyn.run(
        target,
        gandyn.Config(**{"loss": "non_saturating", "gen_width": 32, "disc_width": 32, "batch_size": 128} | config),
        gandyn.HParams(**{"lr_gen": 1e-3, "lr_disc": 1e-3} | numbers),
        seeds=range(SEEDS),
        num_steps=steps,
        measure_every=steps // 200,
        measure_config=MEASURED,
        progress=False,
    )


def others(dense: xr.Dataset) -> dict[str, xr.Dataset]:
    """The same runs, otherwise measured."""
    base, last = dense.isel(step=slice(None, None, 5)), float(dense["step"].values[-1])
    found = {"five times as often": dense}
    found |= {f"every {n}th": base.isel(step=verdicts.thinned(base["step"].values, n)) for n in verdicts.THINNED}
    windows = {"first half": (0, 0.5), "second half": (0.5, 1), "middle half": (0.25, 0.75)}
    return found | {name: dense.sel(step=slice(a * last, b * last)) for name, (a, b) in windows.items()}


def main() -> None:
    """Prints what changed, and how much of it was marked."""
    counts: collections.Counter[str] = collections.Counter()
    for name in SETS:
        dense = trained(name)
        judged = verdicts.judge(dense.isel(step=slice(None, None, 5)))
        verdict, fragile = judged["verdict"].values, judged["verdict_fragile"].values != ""
        counts["runs"] += verdict.size
        counts["fragile"] += int(fragile.sum())
        print(f"{name}: {dict(collections.Counter(verdict))}, {fragile.sum()} fragile", flush=True)
        for how, part in others(dense).items():
            again = verdicts.judge(part)["verdict"].values
            none = np.isin(again, ["window", "unmeasured"])
            counts[f"{how}: changed"] += int(((again != verdict) & ~none).sum())
            counts[f"{how}: changed and not marked"] += int(((again != verdict) & ~none & ~fragile).sum())
            counts[f"{how}: no verdict"] += int(none.sum())
    print("\n".join(f"{what}: {n}" for what, n in counts.items()))


if __name__ == "__main__":
    main()
