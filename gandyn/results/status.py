"""How far a results folder is, from what is noted beside its groups; nothing measured is read."""

import os
from collections import Counter

from gandyn.results import locks, manifest, store
from gandyn.results.files import folder_of
from gandyn.text import duration, printable

MOST_GROUPS = 40
"""Groups that are shown one by one."""


def status(path: str | os.PathLike[str]) -> str:
    """A results folder in plain text: how far each group of runs is, and what failed.

    Raises:
      FileNotFoundError, ValueError: as `gandyn.open_results`.
    """
    folder = folder_of(path, "path")
    about = manifest.read(folder)
    writer = store.reopen(folder)
    noted = {index: writer.progress(index) for index in writer.groups}
    held = locks.held(folder)
    rows, done, total, failed = [], 0, 0, []
    for index, group in writer.groups.items():
        spec, progress = group.spec, noted[index]
        state = progress.status
        if progress.step < spec.steps[-1] and state == "complete":
            state = "waiting"  # it was made longer
        elif state == "running" and not held:
            state = "interrupted"
        done, total = done + progress.step * spec.size, total + spec.steps[-1] * spec.size
        if progress.error:
            failed.append(progress.error)
        recipes = list(dict.fromkeys(spec.coords["recipe"]))
        label = "; ".join(recipes[:3]) + (f"; ... ({len(recipes)} recipes)" if len(recipes) > 3 else "")
        rows.append(
            (f"{index}", state, f"{spec.size}", f"{progress.step:,} of {spec.steps[-1]:,}",
             duration(progress.wall_time_s), printable(label))
        )  # fmt: skip
    counts = Counter(row[1] for row in rows)
    lines = [
        f"{printable(about['title']) or folder}: {about['status']}",
        f"{total and done / total:.0%} of {total:,} run-steps; groups: "
        + ", ".join(f"{count} {state}" for state, count in counts.most_common()),
        "",
    ]
    shown = rows if len(rows) <= MOST_GROUPS else [row for row in rows if row[1] not in ("complete", "waiting")]
    table = [("group", "status", "runs", "step", "time", "recipes"), *shown[:MOST_GROUPS]]
    widths = [max(len(row[column]) for row in table) for column in range(5)]
    lines += ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[5][:80]]) for row in table]
    if len(shown) < len(rows):
        lines.append(f"({len(rows) - len(shown[:MOST_GROUPS])} groups that are complete or waiting are not shown)")
    lines += ["", *(printable(error) for error in failed)] if failed else []
    if about["status"] in ("interrupted", "failed"):
        lines += ["", f"to go on: gandyn resume {folder}"]
    return "\n".join(lines)
