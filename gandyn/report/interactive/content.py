"""What of a results dataset goes into the page: runs, curves, verdicts, targets, samples and surfaces.

Shapes: R runs, S steps, K modes, N samples.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gandyn.analysis import reading
from gandyn.report.facts import count, facts, incompleteness, provenance, status
from gandyn.report.figures.verdict_mosaic import VERDICT_MARKS
from gandyn.report.interactive.packing import Pack

FEW_NUMBERS = 6_000_000
"""Of so many numbers in all curves each keeps its float32; of more, those beside the first go as float16."""

EXACT = ("value", "value_batch", "value_best", "lag", "jsd", "modes", "finite")
"""Curves that are never rounded."""

_NOT_SWEPT = {"run", "seed", "recipe"}


def metrics(results: xr.Dataset) -> list[str]:
    """The curves: every float variable over (run, step) alone."""
    return [str(n) for n, x in results.data_vars.items() if x.dims == ("run", "step") and x.dtype.kind in "fiu"]


def runs(results: xr.Dataset) -> dict[str, Any]:
    """Number, seed, recipe and loss of each run, and every field that varies over them: name -> R values."""
    swept = {
        str(name): _plain(c.values)
        for name, c in results.coords.items()
        if c.dims == ("run",) and name not in _NOT_SWEPT and len({str(x) for x in c.values.tolist()}) > 1
    }
    return {
        "run": _plain(results["run"].values),
        "seed": _plain(results["seed"].values),
        "recipe": [str(x) for x in results["recipe"].values],
        "swept": swept,
    }


def _plain(values: NDArray[Any]) -> list[Any]:
    """As JSON has them: None for what is not finite."""
    listed = values.tolist()
    return [None if isinstance(x, float) and not np.isfinite(x) else x if type(x) in (int, float) else str(x)
            for x in listed]  # fmt: skip


def verdicts(results: xr.Dataset) -> dict[str, Any]:
    """Of each run its verdict, step, reason and fragility; the rules in words. Empty where none are recorded."""
    told = reading.verdicts(results)
    if not told:
        return {}
    try:
        rules = json.loads(results["verdict"].attrs.get("rule", "{}"))
    except (TypeError, ValueError):
        rules = {}
    rules = {str(k): str(v) for k, v in rules.items()} if isinstance(rules, dict) else {}
    steps = [one.step if np.isfinite(one.step) else None for one in told]
    return {
        "of": [one.verdict for one in told],
        "step": steps,
        "reason": [one.reason for one in told],
        "fragile": [one.fragile for one in told],
        "rules": rules,
        "not_applied": str(results["verdict"].attrs.get("not_applied", "")),
    }


def curves(results: xr.Dataset) -> tuple[Pack, dict[str, dict[str, Any]]]:
    """Every curve as (R, S), and what is said of each: long name, units, what a failed run counts as, rounded or not.

    Numbers are those of the dataset, to the bit where `rounded` is false, else to float16 (a relative 5e-4).
    """
    pack, about = Pack(), {}
    names = metrics(results)
    many = len(names) * results.sizes["run"] * results.sizes["step"] > FEW_NUMBERS
    for name in sorted(names, key=lambda n: (n not in EXACT, names.index(n))):
        values = np.asarray(results[name].transpose("run", "step").values, np.float32)
        if not np.isfinite(values).any() and name != "finite":
            continue
        rounded = many and name not in EXACT
        with np.errstate(over="ignore"):
            pack.add(name, values, "float16" if rounded else "float32")
        attrs = results[name].attrs
        about[name] = {
            "label": str(attrs.get("long_name", "")) or name,
            "units": str(attrs.get("units", "")),
            "failed": str(attrs.get("failed", "")),
            "note": str(attrs.get("caution", "")),
            "rounded": rounded,
        }
    for name in ("mode_mass",):
        if name in results:
            own = results[name].transpose("run", "step", "mode").values
            pack.add(name, own, "float16")
    for name in ("mode_mass_real", "best_loss_disc", "equilibrium", "decision", "in_nats", "extent", "target_center"):
        if name in results:
            pack.add(f"of_run_{name}", results[name].values, "float32")
    return pack, about


def targets(results: xr.Dataset) -> tuple[list[dict[str, Any]], list[int]]:
    """The distinct targets as they are recorded, and which of them each run has.

    A target has `means`, `stds`, `weights` where these are all of it, `points` (samples of it) where they are not; in
    the plane only, else neither.
    """
    number = results.sizes["run"]
    flat = "xy" in results.dims and results.sizes["xy"] == 2
    fields = [n for n in ("target_means", "target_stds", "target_weights", "target_samples") if n in results]
    if not flat or not fields:
        return [{}], [0] * number
    found: dict[bytes, int] = {}
    of_run, listed = [], []
    arrays = {name: results[name].values for name in fields}
    for r in range(number):
        key = b"".join(np.ascontiguousarray(arrays[name][r]).tobytes() for name in fields)
        if key not in found:
            found[key] = len(listed)
            listed.append(_target({name: arrays[name][r] for name in fields}))
        of_run.append(found[key])
    return listed, of_run


def _target(arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if "target_weights" in arrays:
        held = np.isfinite(arrays["target_weights"])
        made = {
            "means": arrays["target_means"][held].ravel().tolist(),
            "stds": arrays["target_stds"][held].tolist(),
            "weights": arrays["target_weights"][held].tolist(),
        }
        # In this form modes are drawn even where components stand behind them.
        made = {key: [round(float(x), 9) for x in value] for key, value in made.items()}
        if not held.any():
            made = {}
    points = arrays.get("target_samples")
    if points is not None and np.isfinite(points).any():
        made["points"] = [round(float(x), 5) for x in points[np.isfinite(points).all(axis=1)].ravel()]
    return made


def samples(results: xr.Dataset, run: int, most: int) -> NDArray[np.float32] | None:
    """Recorded samples of one run, (S, N, 2), at most `most` at a step; None where none are kept in the plane."""
    if "samples" not in results or "xy" not in results["samples"].dims or results.sizes["xy"] != 2:
        return None
    own = results["samples"].isel(run=run).transpose("step", "sample", "xy").values[:, :most]
    return np.asarray(own, np.float32) if np.isfinite(own).any() else None


def surface(results: xr.Dataset, run: int) -> NDArray[np.float32] | None:
    """D's recorded output on its grid, of one run: (S, H, W), rows along y; None where none is kept."""
    if "surface" not in results:
        return None
    own = results["surface"].isel(run=run).transpose("step", "surface_y", "surface_x").values
    return np.asarray(own, np.float32) if np.isfinite(own).any() else None


def lacking(results: xr.Dataset) -> list[str]:
    """What these results do not let the page show, in sentences."""
    said = incompleteness(results)
    gone = int(reading.diverged(results).sum())
    if gone:
        said.append(f"{count(gone, 'run')} diverged: from then on nothing is drawn, and each metric counts as it says.")
    if "samples" not in results:
        said.append("No samples were kept (MeasureConfig.keep_samples): only runs with stored players show any.")
    elif "xy" not in results["samples"].dims:
        said.append("The target is not in the plane: there are curves, but no picture of samples or of D.")
    if "value" not in results:
        said.append("The value was not measured: there is no loss budget.")
    if "modes" not in results:
        said.append("Coverage was not measured: modes are not marked.")
    return said


def header(results: xr.Dataset, about: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the page knows beside its arrays."""
    listed, of_run = targets(results)
    return {
        "title": str(results.attrs.get("title") or "Results of gandyn"),
        "facts": f"{facts(results)}; {status(results)}",
        "lacking": lacking(results),
        "runs": runs(results),
        "steps": [int(s) for s in results["step"].values],
        "metrics": about,
        "verdicts": verdicts(results),
        "targets": listed,
        "target_of": of_run,
        "command": str(results.attrs.get("command", "not recorded")),
        "configuration": str(results.attrs.get("configuration", "not recorded")),
        "provenance": provenance(results),
        "marks": VERDICT_MARKS,
    }


def kept_samples(results: xr.Dataset, chosen: Sequence[int], room: int) -> dict[int, int]:
    """How many samples a step each run keeps so that all fit into `room` bytes of text: position -> number."""
    if "samples" not in results or "xy" not in results["samples"].dims:
        return {}
    there, each = results.sizes["sample"], results.sizes["step"] * 5.4  # two 16-bit numbers, in base64
    first = {run: min(there, 256) for run in chosen}
    left = room - sum(first.values()) * each
    others = [run for run in range(results.sizes["run"]) if run not in first]
    number = int(min(there, 128, left / max(each * len(others), 1))) if left > 0 else 0
    return first | (dict.fromkeys(others, number) if number >= 16 else {})
