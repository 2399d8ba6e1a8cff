"""Exports: what other programs read is what was measured, no label does anything, and no half file is left."""

import csv
import dataclasses
import json
import math
import re
import runpy
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from synthetic import extended, make
from test_store import make_spec, measurement

import gandyn
from gandyn.results import export, store

DOC = Path(__file__).parents[2] / "docs" / "exports.md"
HOSTILE = [
    "../../../up",
    "/etc/passwd",
    "..",
    "<script>alert(1)</script>",
    "=HYPERLINK(1)",
    "a" * 5000,
    "C:\\x|nul",
    'quo"te,\r\nline',
    "",
]
HOSTILE_METRIC = "=1+jsd \ud800"  # half a pair of surrogates cannot be encoded


@pytest.fixture
def results() -> xr.Dataset:
    """Eight runs of 21 steps with deep metrics; run 1 diverges, 2 is interrupted, 3 was never measured."""
    made = extended(make(["minimax", "wasserstein, gradient penalty"], seeds=4, samples=3, surface=0))
    curves = [name for name, x in made.data_vars.items() if x.dims == ("run", "step")]
    for name in curves:
        made[name].values[2, 14:] = np.nan
        made[name].values[3] = np.nan
    made["noise_scale_gen"].values[0, -1] = np.inf
    made["loss_disc"].values[1, -1] = -np.inf
    made["lr_gen"] = ("run", np.geomspace(1e-4, 1, 8))
    return made.set_coords("lr_gen").assign(verdict_detail=("run", np.array([""] * 8, object)))


def hostile() -> xr.Dataset:
    made = make(["minimax"], seeds=len(HOSTILE), steps=5, samples=0, surface=0)
    made = made.assign_coords(recipe=("run", np.array(HOSTILE, object)))
    return made.rename({"jsd": HOSTILE_METRIC})


def metrics_of(results: xr.Dataset) -> list[str]:
    return [str(name) for name, x in results.data_vars.items() if x.dims == ("run", "step")]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# Tables


def test_final_table_by_its_definition(results):
    table = export.final_table(results)
    cell: Any = table.to_dict()
    steps = results.step.values
    assert list(table["run"]) == list(range(8))
    assert len(set(table.columns)) == len(table.columns)
    for r in range(8):
        measured = [s for s in range(21) if not math.isnan(results.finite.values[r, s])]
        if not measured:
            assert pd.isna(cell["step"][r])
            assert pd.isna(cell["oldest_step"][r])
            assert all(math.isnan(cell[name][r]) for name in metrics_of(results))
            continue
        last, oldest = measured[-1], measured[-1]
        for name in metrics_of(results):
            curve = results[name].values[r]
            known = [s for s in measured if not math.isnan(curve[s])]
            at = last if results.finite.values[r, last] == 0 or not known else known[-1]
            np.testing.assert_array_equal(cell[name][r], curve[at], err_msg=name)
            oldest = min([oldest, at] if known else [oldest])
        assert cell["step"][r] == steps[last]
        assert cell["oldest_step"][r] == steps[oldest]


def test_final_table_says_what_ended_how(results):
    table: Any = export.final_table(results)
    assert list(table["step"].fillna(-1)) == [4000, 4000, 2600, -1, 4000, 4000, 4000, 4000]
    # Deep metrics are taken every 800 steps: of the interrupted run, the last time at 2,400.
    assert table["oldest_step"][2] == 2400
    assert table["lag_deep"][2] == results.lag_deep.sel(run=2, step=2400)
    # The diverged run was healthy at 1,600: its end is not.
    assert np.isfinite(results.lag_deep.sel(run=1, step=1600))
    assert table["finite"][1] == 0
    assert np.isnan(table.loc[1, ["value", "jsd", "lag_deep"]].to_numpy(float)).all()
    assert table["loss_disc"][1] == -np.inf
    assert table["noise_scale_gen"][0] == np.inf
    assert table["verdict"][1] == "diverged"
    assert table["lr_gen"][7] == 1
    assert table["equilibrium"].tolist() == results.equilibrium.values.tolist()
    assert {table[name].dtype for name in metrics_of(results)} == {np.dtype(np.float32)}


def test_final_table_knows_no_order_of_dimensions(results):
    turned = results.transpose("step", ...)
    pd.testing.assert_frame_equal(export.final_table(turned), export.final_table(results))


def test_curves_table_has_each_measurement_once(results):
    table = export.curves_table(results)
    measured = np.isfinite(results.finite.values)
    rows, columns = np.nonzero(measured)
    assert len(table) == 6 * 21 + 14
    np.testing.assert_array_equal(table["run"], rows)
    np.testing.assert_array_equal(table["step"], results.step.values[columns])
    np.testing.assert_array_equal(table["recipe"], results.recipe.values[rows])
    assert "verdict" not in table
    for name in metrics_of(results):
        np.testing.assert_array_equal(table[name], results[name].values[measured], err_msg=name)


def test_runs_keep_their_numbers(results):
    chosen = results.isel(run=[6, 4])
    assert export.final_table(chosen)["run"].tolist() == [6, 4]
    assert export.curves_table(chosen)["run"].unique().tolist() == [6, 4]


def test_results_without_finite_are_refused(results, tmp_path):
    for write in (export.to_csv, export.to_parquet, export.to_tensorboard):
        with pytest.raises(ValueError, match="no metric 'finite'"):
            write(results.drop_vars("finite"), tmp_path / "out")
    assert not files(tmp_path)


# CSV


@pytest.mark.parametrize("curves", [False, True])
def test_csv_round_trip(results, tmp_path, curves):
    table = (export.curves_table if curves else export.final_table)(results)
    path = export.to_csv(results, tmp_path / "new folder" / "out.csv", curves)
    assert path == tmp_path / "new folder" / "out.csv"
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == list(table.columns)
    assert len(rows) == len(table)
    for name, texts in zip(head, zip(*rows)):
        if table[name].dtype == np.float32:
            read = np.array([np.float32(text or "nan") for text in texts])
            np.testing.assert_array_equal(read, table[name], err_msg=name)
            # The shortest decimals, not those of the float64 beside it.
            assert max(map(len, texts)) <= len("-1.17549435e-38")
        elif table[name].dtype.kind == "O":
            assert list(texts) == list(table[name])
        else:
            assert [float(text or "nan") for text in texts] == pytest.approx(
                list(table[name].astype(float)), 0, 0, True
            )
    assert files(path.parent) == ["out.csv"]


def test_csv_runs_nothing(tmp_path):
    labels = ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "  =1", "＝1", "1-1", "'=1", "a=b", "a\r=1", "a\n=1"]
    made = make(["minimax"], seeds=len(labels), steps=5, samples=0, surface=0).rename({"jsd": "=1+jsd"})
    made = made.assign_coords(recipe=("run", np.array(labels, object)))
    made["value"].values[:, -1] = -0.5
    path = export.to_csv(made, tmp_path / "out.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["recipe"] for row in rows] == ["'" + label for label in labels[:9]] + labels[9:]
    assert "'=1+jsd" in rows[0]
    # A negative number is a number.
    assert rows[0]["value"] == "-0.5"


# Parquet


@pytest.mark.parametrize("curves", [False, True])
def test_parquet_round_trip(results, tmp_path, curves):
    pq = pytest.importorskip("pyarrow.parquet")
    table = (export.curves_table if curves else export.final_table)(results)
    path = export.to_parquet(results, tmp_path / "out.parquet", curves)
    kinds = {field.name: str(field.type) for field in pq.read_schema(path)}
    assert list(kinds) == list(table.columns)
    assert {kinds[name] for name in metrics_of(results)} == {"float"}
    assert (kinds["run"], kinds["seed"], kinds["step"], kinds["lr_gen"]) == ("int64", "int64", "int64", "double")
    assert kinds["recipe"] in ("string", "large_string")
    columns = pq.read_table(path).to_pydict()
    for name in table:
        expected = [None if x is pd.NA or x != x else x for x in table[name].tolist()]
        assert columns[name] == expected, name
    assert files(tmp_path) == ["out.parquet"]


def test_parquet_has_labels_as_they_are(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    columns = pq.read_table(export.to_parquet(hostile(), tmp_path / "out.parquet")).to_pydict()
    assert columns["recipe"] == HOSTILE
    assert "=1+jsd ?" in columns


# TensorBoard


def events(path: Path):
    """The events of a TFRecord file: length, its masked CRC, the event, its masked CRC."""
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto import event_pb2
    from tensorboardX.record_writer import masked_crc32c

    data, at = path.read_bytes(), 0
    while at < len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        record = data[at + 12 : at + 12 + size]
        assert struct.unpack_from("<I", data, at + 8) == (masked_crc32c(data[at : at + 8]),)
        assert struct.unpack_from("<I", data, at + 12 + size) == (masked_crc32c(record),)
        yield event_pb2.Event.FromString(record)  # pyright: ignore
        at += 16 + size


def scalars(path: Path) -> dict[tuple[str, int], float]:
    found = [
        ((value.tag, event.step), value.simple_value)
        for event in events(path)
        for value in event.summary.value
        if not value.tag.startswith("_hparams_/")
    ]
    assert len(dict(found)) == len(found)
    return dict(found)


def hyperparameters(path: Path):
    """The columns that the experiment names, the run's own values, and the metrics it names."""
    from tensorboardX.proto import plugin_hparams_pb2

    named, own, metrics = [], {}, []
    for event in events(path):
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "hparams":
                content = plugin_hparams_pb2.HParamsPluginData.FromString(value.metadata.plugin_data.content)  # pyright: ignore
                named += [info.name for info in content.experiment.hparam_infos]
                metrics += [info.name.tag for info in content.experiment.metric_infos]
                kinds = content.session_start_info.hparams.items()
                own |= {name: getattr(x, x.WhichOneof("kind")) for name, x in kinds}
    return named, own, metrics


def test_tensorboard_round_trip(results, tmp_path):
    pytest.importorskip("tensorboardX")
    folder = export.to_tensorboard(results, tmp_path / "logs")
    assert folder == tmp_path / "logs"
    assert files(tmp_path)[:1] == ["logs"]
    logs = sorted(folder.iterdir())
    assert [log.name for log in logs[3:5]] == [
        "00003-minimax-seed-3",
        "00004-wasserstein_gradient_penalty-seed-0",
    ]
    assert len(logs) == 8
    steps = results.step.values.tolist()
    for r, log in enumerate(logs):
        (file,) = log.iterdir()
        assert "tfevents" in file.name
        assert next(events(file)).file_version == "brain.Event:2"
        expected = {
            (name, steps[s]): float(x)
            for name in metrics_of(results)
            for s, x in enumerate(results[name].values[r])
            if not math.isnan(x)
        }
        assert scalars(file) == expected
        named, own, metrics = hyperparameters(file)
        assert metrics == metrics_of(results)
        assert {"seed", "recipe", "lr_gen", "verdict", "verdict_step"} <= set(named)
        assert own["seed"] == results.seed.values[r]
        assert own["recipe"] == results.recipe.values[r]
        assert own["verdict"] == results.verdict.values[r]
        # NaN has no place in JSON: a run without the step of a verdict lacks it.
        assert ("verdict_step" in own) == np.isfinite(results.verdict_step.values[r])


def test_no_label_leaves_the_folder(tmp_path):
    pytest.importorskip("tensorboardX")
    (tmp_path / "in").mkdir()
    folder = export.to_tensorboard(hostile(), tmp_path / "in" / "logs")
    logs = sorted(folder.iterdir())
    assert len(logs) == len(HOSTILE)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["logs"]
    for r, (log, label) in enumerate(zip(logs, HOSTILE)):
        assert re.fullmatch(rf"{r:05d}-[A-Za-z0-9_.=-]{{0,60}}-seed-{r}", log.name)
        (file,) = log.iterdir()
        assert hyperparameters(file)[1]["recipe"] == label
        assert ("=1+jsd ?", 0) in scalars(file)


# Places on disk


@pytest.mark.parametrize("write", [export.to_csv, export.to_parquet])
def test_a_file_is_replaced_when_asked(results, tmp_path, write):
    path = tmp_path / "out"
    path.write_text("mine")
    with pytest.raises(ValueError, match="already exists: pass overwrite"):
        write(results, path)
    assert path.read_text() == "mine"
    write(results, path, overwrite=True)
    assert path.stat().st_size > 1000
    assert files(tmp_path) == ["out"]
    with pytest.raises(ValueError, match="is a folder"):
        write(results, tmp_path, overwrite=True)
    with pytest.raises(ValueError, match="cannot be written"):
        write(results, path / "below a file")
    with pytest.raises(ValueError, match="cannot be written"):
        write(results, tmp_path / ("x" * 300))


@pytest.mark.parametrize("write", [export.to_csv, export.to_parquet])
def test_no_half_file_is_left(results, tmp_path, monkeypatch, write):
    def stopped(table, place, **_):
        Path(place).write_text("half")
        raise KeyboardInterrupt

    path = write(results, tmp_path / "out")
    whole = path.read_bytes()
    monkeypatch.setattr(pd.DataFrame, write.__name__, stopped)
    for place in (path, tmp_path / "other"):
        with pytest.raises(KeyboardInterrupt):
            write(results, place, overwrite=True)
    assert files(tmp_path) == ["out"]
    assert path.read_bytes() == whole


def test_a_folder_is_replaced_where_it_is_ours(results, tmp_path):
    pytest.importorskip("tensorboardX")
    folder = tmp_path / "logs"
    folder.mkdir()
    export.to_tensorboard(results, folder)
    with pytest.raises(ValueError, match="already exists: pass overwrite"):
        export.to_tensorboard(results, folder)
    export.to_tensorboard(results.isel(run=[5]), folder, overwrite=True)
    assert [log.name for log in folder.iterdir()] == ["00005-wasserstein_gradient_penalty-seed-1"]
    (folder / "notes.txt").write_text("mine")
    before = files(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="holds other files, and is left alone"):
            export.to_tensorboard(results, folder, overwrite=overwrite)
    with pytest.raises(ValueError, match="is no folder"):
        export.to_tensorboard(results, folder / "notes.txt", overwrite=True)
    with pytest.raises(ValueError, match="cannot be written"):
        export.to_tensorboard(results, tmp_path / ("x" * 300))
    assert files(tmp_path) == before


def test_no_half_folder_is_left(results, tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX")
    from tensorboardX import record_writer

    export.to_tensorboard(results, tmp_path / "logs")
    before = files(tmp_path)

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(record_writer.RecordWriter, "write", stopped)
    for name in ("logs", "other"):
        with pytest.raises(KeyboardInterrupt):
            export.to_tensorboard(results, tmp_path / name, overwrite=True)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("write", "module", "extra"),
    [(export.to_parquet, "pyarrow", "parquet"), (export.to_tensorboard, "tensorboardX", "tensorboard")],
)
def test_a_missing_extra_is_named(results, tmp_path, monkeypatch, write, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"needs {module}: pip install 'gandyn\[{extra}\]'$"):
        write(results, tmp_path / "out")
    assert not files(tmp_path)


def test_extras_are_imported_when_needed(results, tmp_path, monkeypatch):
    # pandas found pyarrow when it was imported, and loads the rest of it at its first use.
    export.to_csv(results, tmp_path / "before.csv")
    for module in ("pyarrow", "tensorboardX"):
        monkeypatch.setitem(sys.modules, module, None)
    again = runpy.run_path(export.__file__)
    assert again["to_csv"](results, tmp_path / "out.csv").stat().st_size > 1000


# Without gandyn


def test_the_store_opens_without_gandyn(tmp_path):
    """The very lines of the document, in a process that has no gandyn."""
    metrics = {name: {} for name in ("value", "loss_disc", "loss_gen", "finite")}
    best = {f"best_loss_{player}": (("run", "mode"), np.arange(12.0).reshape(3, 4), {}) for player in ("disc", "gen")}
    best["target_weights"] = (("run", "mode"), np.full((3, 4), 0.25), {})
    specs = [
        dataclasses.replace(spec, constants={**spec.constants, **best})
        for spec in (
            make_spec(metrics=metrics, lr=[0.1, 0.2, 0.3]),
            make_spec(metrics=metrics, steps=(0, 20, 30), num_samples=4, lr=[0.4, 0.5, 0.6]),
        )
    ]
    writer = store.create(tmp_path / "runs" / "first", specs, {"title": "two groups"})
    for group, spec in enumerate(specs):
        # Without the last step, as of an interrupted run.
        for s in range(len(spec.steps) - 1):
            writer.write(group, s, **measurement(spec, s, 1000 * group))
    (snippet,) = re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    ending = """
import sys
found = [
    {"coords": {name: group[name].values.tolist() for name in ("seed", "recipe", "loss", "lr", "step")},
     "dtypes": sorted({str(x.dtype) for x in group.values()}),
     "metrics": {name: x.transpose("run", "step").values.tolist() for name, x in group.items()}}
    for group in groups
]
assert not [name for name in sys.modules if name.partition(".")[0] in ("gandyn", "jax")]
print(json.dumps(found))
"""
    script = tmp_path / "script.py"
    script.write_text(snippet + ending, encoding="utf-8")
    command = [sys.executable, "-W", "error", str(script)]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert printed.returncode == 0, printed.stderr
    found = json.loads(printed.stdout)

    results = gandyn.open_results(tmp_path / "runs" / "first")
    assert len(found) == 2
    for group, runs in zip(found, (slice(0, 3), slice(3, 6))):
        own = results.isel(run=runs).sel(step=group["coords"]["step"])
        assert group["dtypes"] == ["float32"]
        assert list(group["metrics"]) == list(metrics)
        for name, values in group["metrics"].items():
            np.testing.assert_array_equal(np.array(values, np.float32), own[name].values)
        for name in ("seed", "recipe", "loss", "lr"):
            assert group["coords"][name] == own[name].values.tolist()
    assert np.isfinite(found[1]["metrics"]["value"]).sum() == 6
