"""The page of a results folder: results on one side, networks made again on the other, brought together."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gandyn.results.files import folder_of


def write_page(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    runs: Sequence[int] | None = None,
    every: bool = False,
    size: str = "8MB",
    replay: bool = True,
    using: Iterable[Any] = (),
    anyway: bool = False,
    progress: bool = True,
) -> Path:
    """Writes the page in which a results folder is looked into (docs/page.md), and returns its path.

    Args:
      folder: of results, complete or not.
      out: the HTML file; by default page.html in the folder.
      runs: numbers of the runs whose networks go in; by default the most telling ones (`report.interactive.telling`).
      every: all of them, as far as they fit.
      size: that the file has at most, if its curves leave that.
      replay: whether the chosen runs are trained again for their networks; else stored samples and surfaces are shown.
      using: as of `gandyn.resume`.
      anyway: as of `gandyn.resume`.
      progress: as of `gandyn.run`.

    Raises:
      FileNotFoundError, ValueError: no results; no such run; a size that cannot be meant; runs that were asked for and
        cannot be trained again (of the default ones the page says so).
    """
    from gandyn.analysis import opening
    from gandyn.report import interactive
    from gandyn.sweeps import snapshots

    folder, size_, given = folder_of(folder, "path"), _bytes(size), list(using)
    found = opening.open_results(folder)
    labels = _labels(found["run"].values.tolist(), interactive.telling(found), runs, every)
    chosen = interactive.positions(found, labels)
    kept, notes = {}, ("The runs were not trained again for this page: stored samples and surfaces are shown.",)
    if replay and labels:
        asked, room = bool(every or runs or anyway or given), interactive.room_for_networks(found, size_)
        kept, notes = snapshots.snapshots_or_why(folder, labels, room, given, anyway, asked, progress)
    players = {position: kept[label] for position, label in zip(chosen, labels, strict=True) if label in kept}
    targets = snapshots.known_targets()
    out = folder / "page.html" if out is None else out
    return interactive.write(found, out, players, chosen=chosen, known_targets=targets, notes=notes, size=size_)


def _labels(there: list[int], telling: list[int], runs: Sequence[int] | None, every: bool) -> list[int]:
    """Numbers of the runs that are chosen, the most telling first."""
    first = [there[position] for position in telling]
    if every:
        return list(dict.fromkeys([*first, *there]))
    return first if not runs else list(dict.fromkeys(runs))


def write_play(out: str | os.PathLike[str]) -> Path:
    """Writes the page without results, to train in, and returns its path."""
    from gandyn.report import interactive
    from gandyn.sweeps import snapshots

    return interactive.write_play(out, snapshots.known_targets())


_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def _bytes(text: str) -> int:
    """'20MB' as a number of bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMG]B|)", text.strip().upper())
    if found is None or float(found[1]) * _UNITS[found[2]] < 10**6:
        raise ValueError(f"size: got {text!r:.100}; allowed: at least 1MB, such as 8MB or 20MB")
    return int(float(found[1]) * _UNITS[found[2]])
