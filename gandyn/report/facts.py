"""What results are, in plain text: facts, what they lack, how they were made, and the table."""

import json
import textwrap
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from gandyn.analysis import reading, tables
from gandyn.text import duration, printable


def count(n: int, noun: str) -> str:
    """'1 run', '2 runs'."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def status(results: xr.Dataset) -> str:
    """Whether the results are complete, in the word that is recorded."""
    return str(results.attrs.get("status", "not recorded"))


def incompleteness(results: xr.Dataset) -> list[str]:
    """What these results lack, in sentences; empty where every run was measured to the last step."""
    state = status(results)
    last, steps = reading.last_step(results), np.asarray(results["step"].values)
    never = int((last < 0).sum())
    short = (last >= 0) & (last < steps.size - 1)
    lacking = [f"{count(never, 'run')} of {last.size:,} never measured."] if never else []
    if short.any():
        earliest = steps[last[short].min()]
        verb = "has" if short.sum() == 1 else "have"
        lacking.append(
            f"{count(int(short.sum()), 'run')} of {last.size:,} {verb} no measurement at the last step, {steps[-1]:,} "
            f"(the earliest end is step {earliest:,}); every number below is from each run's own last measurement."
        )
    return [f"These results are incomplete: their status is {state}.", *lacking] if state != "complete" else lacking


def _versions(results: xr.Dataset) -> str:
    text = str(results.attrs.get("versions", ""))
    try:
        versions = json.loads(text)
    except ValueError:
        return text
    return ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, dict) else text


def provenance(results: xr.Dataset) -> dict[str, str]:
    """How the results were made: name -> text, '' where it was not recorded."""
    attrs = results.attrs
    wall = attrs.get("wall_time_s")
    return {
        "device": str(attrs.get("device", "")),
        "precision": str(attrs.get("precision", "")),
        "wall time": duration(float(wall)) if isinstance(wall, int | float | np.number) else "",
        "created": str(attrs.get("created", "")),
        "versions": _versions(results),
        "commit": str(attrs.get("commit", "")),
        "coverage convention": str(attrs.get("coverage_convention", "")),
        "format version": str(attrs.get("format_version", "")),
    }


def facts(results: xr.Dataset) -> str:
    """How many runs of how many recipes were measured, and when."""
    names, steps = reading.recipes(results), np.asarray(results["step"].values)
    size = f"{count(results.sizes['run'], 'run')} of {count(len(names), 'recipe')}"
    return f"{size}, measured at {count(steps.size, 'step')} from {steps[0]:,} to {steps[-1]:,}"


def summary(results: xr.Dataset, width: int = 110) -> str:
    """The results in plain text: what they are, what they lack, and the table, in lines of `width` characters."""
    lines = [printable(str(results.attrs.get("title") or "Results of gandyn"))]
    lines.append(facts(results))
    made = provenance(results)
    lines += [f"{key}: {printable(made[key])}" for key in ("device", "wall time", "created") if made[key]]
    lines += [f"status: {printable(status(results))}", *map(printable, incompleteness(results)), ""]
    text = "\n".join([*lines, tables.format_table(tables.table(results), width)])
    told = verdict_lines(results, width)
    return "\n".join([text, "", *told]) if told else text


MOST_RUNS = 40
"""So many runs have a line of their own; of more, those of each recipe are counted."""


def verdict_lines(results: xr.Dataset, width: int = 110) -> list[str]:
    """What happened to the runs, in lines: how many had which verdict, and of each run (up to `MOST_RUNS`) why.

    Marked: * what would read otherwise, were the run measured more rarely.
    """
    told = reading.verdicts(results)
    if not told:
        return []
    worded = [printable(one.verdict).replace("_", " ") for one in told]
    lines = ["verdicts:"]
    for recipe in reading.recipes(results):
        runs = reading.runs_of(results, recipe)
        counts = Counter(worded[r] for r in runs).most_common()
        marked = sum(bool(told[r].fragile) for r in runs)
        listed = ", ".join(f"{n} {name}" for name, n in counts)
        lines.append(f"  {printable(recipe)}: {listed}" + (f" ({marked} of them fragile *)" if marked else ""))
    if len(told) <= MOST_RUNS:
        lines.append("")
        for one, name in zip(told, worded, strict=True):
            when = f", step {one.step:,.0f}" if np.isfinite(one.step) else ""
            why = "; ".join(filter(None, (one.reason, one.fragile and "* " + one.fragile)))
            line = f"run {one.run}: {name}{'*' if one.fragile else ''}{when}: {printable(why)}"
            lines += textwrap.wrap(line, width, initial_indent="  ", subsequent_indent="      ")
    if any(one.fragile for one in told):
        lines.append("* fragile: after it, what the verdict would be, were the run measured more rarely")
    return lines


def as_data(results: xr.Dataset) -> dict[str, Any]:
    """What `summary` says, for programs: plain numbers, texts, lists and dicts, None for what is undefined.

    ``recipes`` holds the table, a dict a recipe; there, under each name of ``columns``, value, low, high (95 %), count
    (runs behind it) and note. Shares are from 0 to 1. ``real`` is what as many real samples get, ``failed`` what a
    diverged run counts as.
    """
    rows, steps = tables.table(results), np.asarray(results["step"].values)
    return {
        "title": str(results.attrs.get("title", "")),
        "status": status(results),
        "incomplete": incompleteness(results),
        "runs": int(results.sizes["run"]),
        "steps": [int(step) for step in steps],
        **provenance(results),
        "columns": {key: {"heading": c.heading, "meaning": c.meaning} for key, c in tables.COLUMNS.items()},
        "recipes": [
            {"recipe": row.recipe, "loss": row.loss, "runs": row.runs, "measured": row.measured}
            | {key: _entry(entry) for key, entry in row.entries.items()}
            | {"real": _defined(row.real), "failed": _defined(row.failed)}
            for row in rows
        ],
        "verdicts": [one._asdict() | _defined({"step": one.step}) for one in reading.verdicts(results)],
    }


def _entry(entry: tables.Entry) -> dict[str, Any]:
    return _defined(entry.interval._asdict()) | {"count": entry.count, "note": entry.note}


def _defined(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """None for NaN and infinity, which JSON does not have."""
    return {name: float(number) if np.isfinite(number) else None for name, number in numbers.items()}


def table(results: xr.Dataset) -> pd.DataFrame:
    """The table as a data frame (`tables.frame`), which a notebook shows as one table; notes are in its ``attrs``."""
    return tables.frame(tables.table(results))
