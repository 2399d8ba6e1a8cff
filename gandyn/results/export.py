"""Results for other programs: a table of the runs, their curves, CSV, Parquet, TensorBoard (docs/exports.md).

Every function takes the dataset of `gandyn.open_results`. pyarrow and tensorboardX are imported when they are needed:
they are in the extras `parquet` and `tensorboard`.

Letters in shapes: R runs, S steps, M metrics.
"""

import contextlib
import importlib
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

# TensorBoard reads the files with "tfevents" in their name. Ours has no host name in it, as its own writers' have.
_EVENTS = "events.out.tfevents.0.gandyn"

# What a spreadsheet may take for a formula: also in full width, and after white space, which some cut off.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")


def final_table(results: xr.Dataset) -> pd.DataFrame:
    """One row a run: what it was, what happened to it, and its metrics at the end.

    Columns, in this order:
      run: its number.
      every coordinate and every variable over the runs alone: `seed`, `recipe`, `loss`, ..., `equilibrium`, `verdict`,
        `verdict_step`, `verdict_detail`.
      step: the last step at which the run was measured, that is, has `finite`; missing where it never was.
      oldest_step: the earliest step that a metric of this row is from; less than ``step`` where deep metrics are.
      every metric over (run, step), in its own type:
        of a run that is finite at ``step``, its last value that is not NaN, which for a deep metric is of the last
        step at which it was taken; NaN if it has none;
        of a run that diverged (``finite`` is 0), what was recorded at ``step`` itself, NaN and infinity included, so
        that nothing from before it diverged passes for its end.

    Raises:
      ValueError: for results without ``finite``.
    """
    measured, metrics = _measured(results), _metrics(results)
    steps = np.asarray(results["step"].values)
    rows, size = np.arange(len(measured)), measured.shape[1]
    last = _last(measured)
    never = np.asarray(~measured.any(axis=1))
    failed = metrics["finite"][rows, last] == 0
    oldest, values = last, {}
    for name, x in metrics.items():
        known = ~np.isnan(x)
        at = np.where(failed, last, _last(known))
        values[name] = x[rows, at]
        oldest = np.minimum(oldest, np.where(known[rows, at], at, size))
    ends = {
        "step": pd.arrays.IntegerArray(steps[last], never),
        "oldest_step": pd.arrays.IntegerArray(steps[oldest], never.copy()),
    }
    return pd.concat([_runs(results), pd.DataFrame(ends | values)], axis=1)


def curves_table(results: xr.Dataset) -> pd.DataFrame:
    """One row a run and step at which the run was measured, in the order of runs, then steps.

    Columns: run; every coordinate of the run; step; every metric over (run, step), NaN where it was not taken. What
    happened to the runs is in `final_table`, to be joined on ``run``.

    Raises:
      ValueError: for results without ``finite``.
    """
    measured = _measured(results)
    rows, columns = np.nonzero(measured)
    curves = {"step": np.asarray(results["step"].values)[columns]}
    curves |= {name: x[measured] for name, x in _metrics(results).items()}
    runs = _runs(results.coords.to_dataset()).iloc[rows].reset_index(drop=True)
    return pd.concat([runs, pd.DataFrame(curves)], axis=1)


def to_csv(results: xr.Dataset, path: str | os.PathLike[str], curves: bool = False, overwrite: bool = False) -> Path:
    """Writes `final_table`, or `curves_table` if ``curves``, as CSV in UTF-8, and returns the path.

    Numbers are the shortest decimals that read back as the same float32, `inf` and `-inf`; NaN is an empty cell. A
    text that a spreadsheet would run as a formula (it begins with = + - @) stands behind an apostrophe.

    Args:
      results: the dataset of `gandyn.open_results`.
      path: the file to write. It appears when it is whole; its folder is made where it is lacking.
      curves: every measurement instead of the last.
      overwrite: replace a file that is there.

    Raises:
      ValueError: the path is taken or cannot be written, or the results have no ``finite``.
    """
    with _beside(path, overwrite) as partial:
        table = _table(results, curves)
        texts = [name for name in table if table[name].dtype.kind == "O"]
        table = table.assign(**{name: table[name].map(_inert) for name in texts})
        # Of line breaks, the writer quotes those alone that end its lines: a label with another would start a row.
        table.rename(columns=_inert).to_csv(partial, index=False, encoding="utf-8", lineterminator="\r\n")
    return Path(path)


def to_parquet(
    results: xr.Dataset, path: str | os.PathLike[str], curves: bool = False, overwrite: bool = False
) -> Path:
    """Writes `final_table`, or `curves_table` if ``curves``, as Parquet, and returns the path.

    Types are kept: float32 metrics, integers, text as it is. NaN is null.

    Args:
      results: the dataset of `gandyn.open_results`.
      path: the file to write. It appears when it is whole; its folder is made where it is lacking.
      curves: every measurement instead of the last.
      overwrite: replace a file that is there.

    Raises:
      ValueError: pyarrow is not installed, the path is taken or cannot be written, or the results have no ``finite``.
    """
    _extra("pyarrow", "parquet")
    with _beside(path, overwrite) as partial:
        _table(results, curves).to_parquet(partial, engine="pyarrow", index=False)
    return Path(path)


def to_tensorboard(results: xr.Dataset, folder: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Writes one TensorBoard log directory a run into ``folder``, and returns the folder.

    A directory is called by run, recipe and seed, such as `00012-hinge-seed-3`, with '_' for all but letters and digits
    of ASCII, '.', '=' and '-'. Each metric is a scalar of its own name at its steps, one event a step; NaN is left out,
    infinity is not. Coordinates and verdicts of the runs are the HParams tab. The wall time is that of the export.

    Args:
      results: the dataset of `gandyn.open_results`.
      folder: the folder to write. It appears when it is whole.
      overwrite: replace a folder that is there, where it holds nothing but what this function wrote.

    Raises:
      ValueError: tensorboardX is not installed, the folder is taken or cannot be written, or the results have no
        ``finite``.
    """
    _extra("tensorboardX", "tensorboard")
    folder = Path(folder).absolute()
    with _readable_errors(folder):
        _check_folder(folder, overwrite)
        partial = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.partial")
        try:
            _write_events(results, partial)
            if folder.exists():
                shutil.rmtree(folder)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


# What the results hold


def _measured(results: xr.Dataset) -> NDArray:
    """Which runs were measured at which steps, (R, S) bool."""
    if "finite" not in results:
        raise ValueError("export: the results have no metric 'finite'")
    return ~np.isnan(np.asarray(results["finite"].transpose("run", "step").values))


def _metrics(results: xr.Dataset) -> dict[str, NDArray]:
    """Name -> (R, S)."""
    return {
        _text(name): np.asarray(x.transpose("run", "step").values)
        for name, x in results.data_vars.items()
        if set(x.dims) == {"run", "step"}
    }


def _runs(results: xr.Dataset) -> pd.DataFrame:
    """`run`, and the coordinates and variables over the runs alone."""
    columns = {"run": np.asarray(results["run"].values)}
    for name, x in {**results.coords, **results.data_vars}.items():
        if x.dims == ("run",) and name != "run":
            column = np.asarray(x.values)
            columns[_text(name)] = np.array([*map(_text, column)], object) if column.dtype.kind in "OU" else column
    return pd.DataFrame(columns)


def _table(results: xr.Dataset, curves: bool) -> pd.DataFrame:
    return curves_table(results) if curves else final_table(results)


def _last(condition: NDArray) -> NDArray:
    """The last position at which a condition (R, S) holds, (R,); the last of all where it never does."""
    return condition.shape[1] - 1 - np.argmax(condition[:, ::-1], axis=1)


def _text(value: Any) -> str:
    """Text that can be encoded: JSON may hold halves of surrogate pairs, which no file format takes."""
    return str(value).encode("utf-8", "replace").decode()


def _inert(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) else text


# TensorBoard


def _write_events(results: xr.Dataset, folder: Path) -> None:
    make_event = importlib.import_module("tensorboardX.proto.event_pb2").Event
    open_writer = importlib.import_module("tensorboardX.record_writer").RecordWriter
    summary = importlib.import_module("tensorboardX.summary")
    now = time.time()

    def event(**content: Any) -> bytes:
        return make_event(wall_time=now, **content).SerializeToString()

    measured, steps, metrics = _measured(results), np.asarray(results["step"].values).tolist(), _metrics(results)
    table = _runs(results)
    # TensorBoard takes the columns of all runs from any one of them, so each names them all.
    kinds = {name: "" if table[name].dtype.kind == "O" else table[name].dtype.type(0).item() for name in table}
    experiment, _, end = summary.hparams(kinds, dict.fromkeys(metrics))
    folder.mkdir(parents=True)
    for r, run in enumerate(table.to_dict("records")):
        place = folder / _directory(run)
        place.mkdir()
        # NaN has no place in the hyperparameters' JSON.
        own = {name: x for name, x in run.items() if isinstance(x, str) or math.isfinite(x)}
        _, start, _ = summary.hparams(own, {})
        curves = np.stack([x[r] for x in metrics.values()], axis=1)
        with contextlib.closing(open_writer(str(place / _EVENTS))) as writer:
            writer.write(event(file_version="brain.Event:2"))
            for content in (experiment, start, end):
                writer.write(event(summary=content))
            for s in np.flatnonzero(measured[r]):
                values = [
                    summary.Summary.Value(tag=name, simple_value=x)
                    for name, x in zip(metrics, curves[s].tolist())
                    if not math.isnan(x)
                ]
                # All metrics of a step in one event: one apiece takes ten times as long.
                writer.write(event(step=steps[s], summary=summary.Summary(value=values)))


def _directory(run: dict[str, Any]) -> str:
    """The name of a run's log directory: one component of a path, whatever the labels say."""
    safe = lambda value: re.sub(r"[^A-Za-z0-9.=-]+", "_", str(value))[:60]  # noqa: E731
    return f"{run['run']:05d}-{safe(run['recipe'])}-seed-{safe(run['seed'])}"


# Places on disk


def _extra(module: str, extra: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError:
        raise ValueError(f"this export needs {module}: pip install 'gandyn[{extra}]'") from None


@contextlib.contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _beside(path: str | os.PathLike[str], overwrite: bool) -> Iterator[Path]:
    """A file beside ``path`` to write to, which takes its place once it is whole."""
    path = Path(path)
    with _readable_errors(path):
        if path.is_dir():
            raise ValueError(f"{path} is a folder: expected the name of a file")
        if os.path.lexists(path) and not overwrite:
            raise ValueError(f"{path} already exists: pass overwrite or choose another name")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _check_folder(folder: Path, overwrite: bool) -> None:
    """Raises ValueError unless the folder is missing, empty, or one of ours that may go."""
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise ValueError(f"{folder} exists and is no folder: choose another name")
    entries = list(folder.iterdir())
    if not all(map(_is_log, entries)):
        raise ValueError(f"{folder} holds other files, and is left alone: choose another name")
    if entries and not overwrite:
        raise ValueError(f"{folder} already exists: pass overwrite or choose another name")


def _is_log(entry: Path) -> bool:
    return not entry.is_symlink() and entry.is_dir() and [file.name for file in entry.iterdir()] == [_EVENTS]
