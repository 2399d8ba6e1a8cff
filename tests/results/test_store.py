"""The results store: what was written is there, whatever happened to the writer, and nothing else is touched."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import forged
import numpy as np
import pytest
import xarray as xr
import zarr.storage

from gandyn.results import arrays, locks, manifest, reading, store
from gandyn.results import files as files_
from gandyn.results import writer as writers
from gandyn.results.manifest import Progress
from gandyn.results.reading import open_recorded
from gandyn.results.spec import GroupSpec, StoredField

METRICS = {
    "value": {"long_name": "value function", "units": "nat"},
    "modes": {"long_name": "modes covered", "units": "1", "convention": "4 std, 1 sample"},
    "finite": {},
}
METADATA = {
    "title": "a sweep",
    "command": "gandyn run ring.toml",
    "configuration": 'loss = "ns"\n',
    "versions": {"jax": "0.10.1"},
    "device": "cpu",
    "precision": "float32",
    "commit": "abc",
    "coverage_convention": "4 std, 1 sample",
}

# What a process that writes or reads needs.
LOAD_STORE = """
import sys
import numpy as np
from gandyn.results import store
from gandyn.results.reading import open_recorded
from gandyn.results.spec import GroupSpec, StoredField
"""

FIELD: Any = StoredField  # of which the wrong is asked, too


def make_spec(
    runs=3,
    steps=(0, 10, 20, 40, 80),
    num_modes=4,
    num_samples=0,
    surface_size=0,
    metrics=METRICS,
    others=None,
    **coords,
):
    first = {"seed": list(range(runs)), "recipe": [f"r{i}" for i in range(runs)], "loss": ["ns"] * runs}
    constants = {
        "target_means": (("run", "mode", "xy"), np.arange(runs * num_modes * 2.0).reshape(runs, num_modes, 2), {}),
        "extent": (("run",), np.full(runs, 2.5), {"long_name": "half the side of the box"}),
    }
    every = first | coords
    fields: dict[str, Any] = {}
    axes: dict[str, Any] = {}
    if num_samples:
        fields["samples"] = StoredField(("sample", "xy"), (num_samples, 2), {"long_name": "generated samples"})
    if surface_size:
        fields["surface"] = StoredField(("surface_y", "surface_x"), (surface_size,) * 2, {})
        axes = dict.fromkeys(("surface_y", "surface_x"), np.linspace(-1, 1, surface_size).tolist())
    return GroupSpec(metrics, steps, every, constants, fields | (others or {}), axes)


def measurement(spec, step_index, offset=0.0):
    """Values that name their own place: metric, step and run."""
    runs = np.arange(spec.size)
    metrics = {name: offset + 1000 * i + 10 * step_index + runs for i, name in enumerate(spec.metrics)}
    fields = {}
    for name, field in spec.fields.items():
        parts = np.arange(np.prod(field.shape)).reshape(field.shape)
        fields[name] = (offset + 10 * step_index + runs).reshape(-1, *[1] * parts.ndim) + parts / 1000
    return {"metrics": metrics, "fields": fields}


def write_all(writer, specs, status="complete"):
    for group, spec in enumerate(specs):
        for step_index in range(len(spec.steps)):
            writer.write(group, step_index, **measurement(spec, step_index, 100_000 * group))
    writer.finish(status, 1.5)


def results(path, *specs, **kwargs):
    write_all(store.create(path, specs, METADATA, **kwargs), specs)
    return path


def files(folder: Path) -> dict[str, int]:
    """Path -> inode of every file: a file that is replaced by a rename gets another inode."""
    return {str(file.relative_to(folder)): file.stat().st_ino for file in folder.rglob("*") if file.is_file()}


# What is written is read


def test_round_trip(tmp_path):
    spec = make_spec(num_samples=5, surface_size=4, lr=[0.1, 0.2, 0.2], width=[128] * 3, kind=["a", "b", "é"])
    path = results(tmp_path / "made" / "with parents", spec)

    ds = open_recorded(path)

    assert dict(ds.sizes) == dict(run=3, step=5, sample=5, xy=2, surface_y=4, surface_x=4, mode=4)
    for i, name in enumerate(METRICS):
        assert ds[name].dtype == np.float32
        assert ds[name].dims == ("run", "step")
        assert ds[name].attrs == METRICS[name]
        np.testing.assert_array_equal(ds[name], 1000 * i + 10 * np.arange(5) + np.arange(3)[:, None])
    for step_index in range(5):
        fields = measurement(spec, step_index)["fields"]
        np.testing.assert_array_equal(ds.samples.isel(step=step_index), fields["samples"].astype(np.float32))
        np.testing.assert_array_equal(ds.surface.isel(step=step_index), fields["surface"].astype(np.float32))
    for name, (dims, values, attrs) in spec.constants.items():
        assert ds[name].dims == dims
        assert ds[name].attrs == attrs
        np.testing.assert_array_equal(ds[name], values)

    assert ds.run.values.tolist() == [0, 1, 2]
    assert ds.step.values.tolist() == [0, 10, 20, 40, 80]
    assert ds.surface_x.values.tolist() == pytest.approx([-1, -1 / 3, 1 / 3, 1])
    assert ds.seed.dtype == np.int64
    assert ds.lr.values.tolist() == [0.1, 0.2, 0.2]
    assert ds.kind.values.tolist() == ["a", "b", "é"]
    assert ds.loss.values.tolist() == ["ns"] * 3
    assert set(ds.coords) == {
        "run",
        "step",
        "surface_y",
        "surface_x",
        "seed",
        "recipe",
        "loss",
        "lr",
        "kind",
    }
    assert json.loads(ds.attrs["constant_fields"]) == {"width": 128}
    assert json.loads(ds.attrs["versions"]) == METADATA["versions"]
    assert {name: ds.attrs[name] for name in METADATA if name != "versions"}.items() <= METADATA.items()
    assert (ds.attrs["status"], ds.attrs["wall_time_s"], ds.attrs["format_version"]) == (
        "complete",
        1.5,
        manifest.FORMAT_VERSION,
    )
    assert ds.attrs["created"]


def test_groups_are_joined_and_what_one_lacks_is_nan(tmp_path):
    first = make_spec(2, (0, 10, 20), num_modes=4, beta=[0.0, 0.5], note=["x", "y"])
    other = {name: METRICS[name] for name in ("finite", "value")}
    second = make_spec(3, (0, 15, 20, 25), num_modes=2, num_samples=5, metrics=other, radius=[1, 1, 1])

    ds = open_recorded(results(tmp_path / "r", first, second))

    assert ds.step.values.tolist() == [0, 10, 15, 20, 25]
    assert ds.seed.values.tolist() == [0, 1, 0, 1, 2]
    assert ds.note.values.tolist() == ["x", "y", "", "", ""]
    np.testing.assert_array_equal(ds.beta, [0, 0.5, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(ds.radius, [np.nan, np.nan, 1, 1, 1])
    nan = np.nan
    np.testing.assert_array_equal(ds.value.isel(run=1), [1, 11, nan, 21, nan])
    np.testing.assert_array_equal(ds.value.isel(run=2), [101_000, nan, 101_010, 101_020, 101_030])
    assert ds.modes.isel(run=slice(2)).count() == 6
    assert ds.modes.isel(run=slice(2, None)).isnull().all()
    assert ds.samples.isel(run=slice(2)).isnull().all()
    assert ds.samples.sel(step=[0, 15, 20, 25]).isel(run=slice(2, None)).notnull().all()
    np.testing.assert_array_equal(ds.target_means.isel(run=4, mode=slice(2)), second.constants["target_means"][1][2])
    assert ds.target_means.isel(run=4, mode=slice(2, None)).isnull().all()


def test_samples_are_read_where_they_are_indexed(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "_FIELD_CHUNK_BYTES", 80)  # two runs a file
    specs = [make_spec(3, (0, 10, 20), num_samples=5), make_spec(4, (10, 20, 30), num_samples=5)]
    ds = open_recorded(results(tmp_path / "r", *specs))
    whole = ds.samples.values
    assert not isinstance(ds.samples.variable._data, np.ndarray)
    for run in (1, -1, slice(None), slice(5, 1, -2), [4, 0, 2], []):
        for step in (2, slice(1, 3), [3, 0]):
            for sample in (-2, slice(None, None, 2), [1, 1]):
                index = {"run": run, "step": step, "sample": sample, "xy": 1}
                xr.testing.assert_equal(ds.samples.isel(index), ds.samples.copy(data=whole).isel(index))


def test_in_memory_equals_on_disk(tmp_path):
    specs = [make_spec(num_samples=5, surface_size=3), make_spec(2, lr=[1.0, 2.0])]
    on_disk = open_recorded(results(tmp_path / "r", *specs))
    writer = store.create(None, specs, METADATA)
    write_all(writer, specs)
    in_memory = writer.dataset()
    in_memory.attrs["created"] = on_disk.attrs["created"]
    xr.testing.assert_identical(in_memory, on_disk)
    assert [entry.name for entry in tmp_path.iterdir()] == ["r"]


@pytest.mark.parametrize("in_memory", [True, False])
def test_what_is_written_is_the_stores_own(tmp_path, in_memory):
    spec = make_spec(2, (0,), num_samples=5)
    writer = store.create(None if in_memory else tmp_path / "r", [spec], METADATA)
    given = {"value": np.ones(2, np.float32), "modes": np.ones(2, np.float32), "finite": np.ones(2, np.float32)}
    samples = np.ones((2, 5, 2), np.float32)
    writer.write(0, 0, given, {"samples": samples})
    given["value"][:] = samples[:] = 7
    assert (writer.dataset().value == 1).all()
    assert (writer.dataset().samples == 1).all()


def test_rewriting_replaces_and_order_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "_METRIC_CHUNK_BYTES", 2 * 4 * 3 * 3)  # two steps a file
    spec = make_spec()
    writer = store.create(tmp_path / "r", [spec], METADATA)
    for step_index in (4, 0, 3, 1):
        writer.write(0, step_index, **measurement(spec, step_index))
    writer.write(0, 3, **measurement(spec, 3, 0.5))
    value = open_recorded(tmp_path / "r").value.isel(run=0)
    np.testing.assert_array_equal(value, [0, 10, np.nan, 30.5, 40])


def test_a_value_beyond_float32_is_recorded_as_infinite():
    spec = make_spec(1, (0,))
    writer = store.create(None, [spec], METADATA)
    writer.write(0, 0, {"value": np.array([1e300]), "modes": np.array([np.nan]), "finite": np.array([0])})
    assert writer.dataset().value.item() == np.inf


def test_a_group_opens_with_xarray_alone(tmp_path):
    path = results(tmp_path / "r", make_spec(num_samples=5))
    ds = xr.open_zarr(path / "group-000.zarr", consolidated=False, chunks=None)
    assert ds.metrics.dims == ("metric", "run", "step")
    assert set(ds) == {"metrics", "samples", "target_means", "extent"}


# Read later than it was opened


def test_what_was_opened_is_the_same_wherever_the_program_goes(tmp_path, monkeypatch):
    spec = make_spec(num_samples=5, surface_size=3)
    whole = open_recorded(results(tmp_path / "r", spec)).load()
    monkeypatch.chdir(tmp_path)
    ds = open_recorded("r")
    monkeypatch.chdir("/")
    xr.testing.assert_identical(ds.load(), whole)


def overwritten(path, spec):
    writer = store.create(path, [spec], METADATA, overwrite=True)
    for step_index in range(len(spec.steps)):
        writer.write(0, step_index, **measurement(spec, step_index, 0.5))
    writer.finish("complete", 1.5)


@pytest.mark.parametrize("field", ["samples", "surface"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (overwritten, "r was overwritten by another run since it was opened: .*r/group-000.zarr"),
        (lambda path, spec: path.rename(path.with_name("s")), "r was moved or removed since it was opened"),
        (lambda path, spec: shutil.rmtree(path), "r was moved or removed since it was opened"),
        (
            lambda path, spec: store.extend(path, [], {0: dataclasses.replace(spec, steps=[*spec.steps, 99])}, {}),
            "r was extended since it was opened, and is to be opened again",
        ),
    ],
)
def test_what_was_opened_is_what_it_was_or_says_what_happened(tmp_path, change, said, field):
    spec = make_spec(num_samples=5, surface_size=3)
    path = results(tmp_path / "r", spec)
    ds, whole = open_recorded(path), open_recorded(path).load()
    change(path, spec)
    with pytest.raises(OSError, match=said):
        ds[field].load()
    xr.testing.assert_identical(ds.drop_vars(["samples", "surface"]), whole.drop_vars(["samples", "surface"]))


def test_what_was_opened_while_it_was_written_does_not_change(tmp_path):
    spec = make_spec(num_samples=5)
    writer = store.create(tmp_path / "r", [spec], METADATA)
    for step_index in range(2):
        writer.write(0, step_index, **measurement(spec, step_index))
    ds, then = open_recorded(tmp_path / "r"), open_recorded(tmp_path / "r").load()
    for step_index in range(2, 5):
        writer.write(0, step_index, **measurement(spec, step_index))
    xr.testing.assert_identical(ds.load(), then)
    assert ds.samples.notnull().all(["run", "sample", "xy"]).values.tolist() == [True, True, False, False, False]


# Every file under every fault


def put(file, content):
    file.write_bytes(content)


def in_its_place(file, _):
    file.unlink()
    file.mkdir()


FAULTS = {
    "deleted": lambda file, _: file.unlink(),
    "truncated": lambda file, _: os.truncate(file, file.stat().st_size // 2),
    "one bit flipped": lambda file, _: damage(file),
    "replaced by another run's": put,
    "a folder in its place": in_its_place,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.quick(1)
def test_whatever_befalls_a_file_the_numbers_are_right_or_it_is_named_and_made_again(tmp_path, fault):
    spec = make_spec(2, (0, 10), num_samples=3, surface_size=2)
    path = results(tmp_path / "r", spec)
    store.reopen(path).note(0, Progress("complete", 10, 1.0))
    whole = open_recorded(path).load()
    other = make_spec(2, (0, 10), num_samples=3, surface_size=2, lr=[1, 2])
    writer = store.create(tmp_path / "other", [other], METADATA)
    for step_index in range(2):
        writer.write(0, step_index, **measurement(spec, step_index, 0.5))
    writer.finish("complete", 1.5)
    writer.note(0, Progress("complete", 10, 2.0))
    names = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
    assert len(names) == 18
    for name in names:
        copy = shutil.copytree(path, tmp_path / "copy")
        FAULTS[fault](copy / name, (tmp_path / "other" / name).read_bytes())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            said = ""
            try:
                assert open_recorded(copy).load().drop_attrs().identical(whole.drop_attrs()), name
            except (ValueError, OSError) as error:
                said = str(error)
            assert not said or str(copy / name) in said
            # As a resumption does.
            store.mend(copy)
            writer = store.reopen(copy)
            writer.note(0, writer.progress(0)._replace(status="running"))
            for step_index in np.flatnonzero(~writer.mend(0)).tolist():
                writer.write(0, step_index, **measurement(spec, step_index))
            writer.finish("complete", 1.5)
        assert all(str(copy / name) in str(one.message) for one in caught)
        xr.testing.assert_identical(open_recorded(copy).load(), whole)
        assert open_recorded(copy).attrs == whole.attrs
        shutil.rmtree(copy)


def test_steps_that_were_never_measured_are_nan_and_lost_ones_are_named(tmp_path):
    spec = make_spec(num_samples=5)
    writer = store.create(tmp_path / "r", [spec], METADATA)
    for step_index in range(3):
        writer.write(0, step_index, **measurement(spec, step_index))
    writer.finish("interrupted", 1.0)
    assert open_recorded(tmp_path / "r").samples.isel(step=slice(3, None)).isnull().all()
    (tmp_path / "r/group-000.zarr/samples/c.0.1.0.0").unlink()
    with pytest.raises(ValueError, match=r"samples/c\.0\.1\.0\.0 is gone: gandyn resume makes it again"):
        open_recorded(tmp_path / "r")
    with pytest.warns(RuntimeWarning, match=r"c\.0\.1\.0\.0 is gone: what it holds counts as not measured"):
        assert store.reopen(tmp_path / "r").recorded(0).tolist() == [True, False, True, False, False]


def test_many_lost_files_are_said_in_one_line(tmp_path):
    path = results(tmp_path / "r", make_spec(steps=range(20), num_samples=5))
    shutil.rmtree(path / "group-000.zarr/samples")
    with pytest.warns(RuntimeWarning, match=r"samples/zarr.json: damaged, gone"):
        store.mend(path)
    with pytest.warns(
        RuntimeWarning, match=r"c.0.4.0.0 is gone; and 15 files more: what they hold counts as"
    ) as caught:
        assert not store.reopen(path).recorded(0).any()
    assert len(caught) == 1
    with pytest.raises(ValueError, match=r"samples/c.0.0.0.0 is gone, with 19 more: gandyn resume makes it again"):
        open_recorded(path)


def test_samples_that_are_nan_throughout_are_measured_all_the_same(tmp_path):
    """Of runs that diverged: they take no file, and none is missed."""
    spec = make_spec(num_samples=5)
    nothing = np.full((3, 5, 2), np.nan, np.float32)
    writer = store.create(tmp_path / "r", [spec], METADATA)
    for step_index in range(5):
        values = measurement(spec, step_index)
        writer.write(0, step_index, values["metrics"], {"samples": nothing} if step_index == 3 else values["fields"])
    writer.finish("complete", 1.0)
    assert store.reopen(tmp_path / "r").recorded(0).all()
    assert open_recorded(tmp_path / "r").samples.isnull().all(["run", "sample", "xy"]).values.tolist() == [
        False, False, False, True, False,
    ]  # fmt: skip


def test_a_write_that_was_stopped_half_way_was_none(tmp_path, monkeypatch):
    """The journal comes first, then fields, then metrics: wherever a kill falls, the step before is whole."""
    spec = make_spec(num_samples=5)
    for stop in range(3):
        path = tmp_path / str(stop)
        writer = store.create(path, [spec], METADATA)
        writer.write(0, 0, **measurement(spec, 0))
        done, write = [], zarr.core.indexing.BlockIndex.__setitem__  # pyright: ignore

        def killed(self, place, values, done=done, write=write, stop=stop):
            if len(done) == stop:
                raise KeyboardInterrupt
            done.append(place)
            write(self, place, values)

        with monkeypatch.context() as patch:
            patch.setattr(zarr.core.indexing.BlockIndex, "__setitem__", killed)  # pyright: ignore
            if stop < 2:
                with pytest.raises(KeyboardInterrupt):
                    writer.write(0, 1, **measurement(spec, 1))
            else:
                writer.write(0, 1, **measurement(spec, 1))
        again = store.reopen(path)
        assert again.recorded(0).tolist() == [True, stop == 2, False, False, False]
        ds = open_recorded(path).load()
        assert ds.samples.isnull().all(["run", "sample", "xy"]).values.tolist()[2:] == [True] * 3
        again.mend(0)
        write_all(again, [spec])
        np.testing.assert_array_equal(
            open_recorded(path).samples[:, 1], measurement(spec, 1)["fields"]["samples"].astype("f4")
        )


def test_what_a_full_disk_leaves_of_a_line_spoils_none_after_it(tmp_path, monkeypatch):
    spec = make_spec(num_samples=5)
    writer = store.create(tmp_path / "r", [spec], METADATA)
    writer.write(0, 0, **measurement(spec, 0))
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, text: write(file, text[:20]))
        with pytest.raises(OSError, match="No space left"):
            writer.write(0, 1, **measurement(spec, 1))
    write_all(store.reopen(tmp_path / "r"), [spec])
    assert store.reopen(tmp_path / "r").recorded(0).all()
    assert open_recorded(tmp_path / "r").samples.notnull().all()


# Kills and early ends


def test_each_write_replaces_whole_aligned_files(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "_METRIC_CHUNK_BYTES", 2 * 4 * 3 * 3)  # two steps a file
    monkeypatch.setattr(arrays, "_FIELD_CHUNK_BYTES", 80)  # two runs a file
    spec = make_spec(num_samples=5)
    writer = store.create(tmp_path, [spec], METADATA)
    for step_index in range(5):
        before = files(tmp_path)
        writer.write(0, step_index, **measurement(spec, step_index))
        after = files(tmp_path)
        changed = {name for name in after if after[name] != before.get(name)}
        assert changed == {
            f"group-000.zarr/metrics/c.0.0.{step_index // 2}",
            f"group-000.zarr/samples/c.0.{step_index}.0.0",
            f"group-000.zarr/samples/c.1.{step_index}.0.0",
            *(["group-000.journal"] if step_index == 0 else []),  # which is then added to
        }
        assert before.keys() <= after.keys()


KILLED = """
runs, steps, samples = 64, 400, 300
coords = dict(seed=list(range(runs)), recipe=["r"] * runs, loss=["ns"] * runs)
fields = {"samples": StoredField(("sample", "xy"), (samples, 2), {})}
spec = GroupSpec({"a": {}, "b": {}}, range(steps), coords, {}, fields)
writer = store.create(sys.argv[1], [spec, spec], {})
print("ready", flush=True)
for i in range(steps):
    for group in range(2):
        value = np.full(runs, 1000.0 * group + i)
        writer.write(group, i, {"a": value, "b": -value}, {"samples": np.full((runs, samples, 2), i)})
        print("written", flush=True)
"""


@pytest.mark.parametrize("moment", [0, 1, 6, 41])
@pytest.mark.quick(2)
def test_a_kill_at_any_moment_keeps_what_was_written(tmp_path, moment):
    command = [sys.executable, "-W", "error", "-c", LOAD_STORE + KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        for _ in range(moment):
            assert child.stdout.readline() == "written\n"
        # The child goes on writing: the kill falls anywhere in a later write.
        child.kill()
        written = moment + child.stdout.read().count("written\n")
    assert child.returncode == -signal.SIGKILL

    ds = open_recorded(tmp_path)
    assert ds.attrs["status"] == "interrupted"  # it says running, but no process holds it
    assert np.isnan(ds.attrs["wall_time_s"])
    for group in range(2):
        runs = ds.isel(run=slice(64 * group, 64 * group + 64))
        count = int(runs.a.notnull().all("run").sum())
        assert count - (written + 1 - group) // 2 in (0, 1), "at most one write may have ended unreported"
        expected = np.where(np.arange(400) < count, 1000.0 * group + np.arange(400), np.nan)
        np.testing.assert_array_equal(runs.a, np.tile(expected, (64, 1)))
        np.testing.assert_array_equal(runs.b, -runs.a)
        whole = runs.samples.isel(step=slice(count)).values
        assert (whole == np.arange(count).reshape(1, -1, 1, 1)).all()


@pytest.mark.parametrize(("module", "stage"), [(store, "make_group"), (manifest, "write")])
def test_a_folder_left_half_made_says_so_and_can_be_overwritten(tmp_path, monkeypatch, module, stage):
    made = []
    whole = getattr(module, stage)

    def stops_at_second(*args):
        made.append(args)
        if len(made) == 2:
            raise KeyboardInterrupt
        return whole(*args)

    with monkeypatch.context() as patch:
        patch.setattr(module, stage, stops_at_second)
        with pytest.raises(KeyboardInterrupt):
            store.create(tmp_path / "r", [make_spec(), make_spec()], METADATA)
    with pytest.raises(ValueError, match="stopped while being made"):
        open_recorded(tmp_path / "r")
    assert open_recorded(results(tmp_path / "r", make_spec(), overwrite=True)).sizes["run"] == 3


def test_an_early_finish_leaves_nan(tmp_path):
    spec = make_spec()
    writer = store.create(tmp_path / "r", [spec], METADATA)
    writer.write(0, 0, **measurement(spec, 0))
    writer.finish("interrupted", 0.25)
    ds = open_recorded(tmp_path / "r")
    assert (ds.attrs["status"], ds.attrs["wall_time_s"]) == ("interrupted", 0.25)
    assert ds.value.notnull().sum("step").values.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="'done': expected 'running', 'complete', 'interrupted', 'failed'"):
        writer.finish("done", 1.0)


def test_a_fresh_process_opens_it(tmp_path):
    path = results(tmp_path / "r", make_spec(num_samples=5))
    script = LOAD_STORE + "print(open_recorded(sys.argv[1]).load().value.sum().item())"
    command = [sys.executable, "-W", "error", "-c", script, str(path)]
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(child.stdout) == 3 * 100 + 5 * 3
    assert child.stderr == ""


# Going on with results


def damage(file):
    """Changes one bit."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_reopened_results_are_gone_on_with(tmp_path):
    specs = [make_spec(num_samples=5), make_spec(2)]
    writer = store.create(tmp_path / "r", specs, METADATA)
    for step_index in range(2):
        writer.write(0, step_index, **measurement(specs[0], step_index))
    again = store.reopen(tmp_path / "r")
    assert sorted(again.groups) == [0, 1]
    assert again.recorded(0).tolist() == [True, True, False, False, False]
    assert not again.recorded(1).any()
    assert sorted(store.reopen(tmp_path / "r", 1).groups) == [1]
    with pytest.raises(ValueError, match="group is 0: expected one of"):
        store.reopen(tmp_path / "r", 1).write(0, 0, **measurement(specs[0], 0))
    write_all(again, specs)
    xr.testing.assert_equal(open_recorded(tmp_path / "r"), open_recorded(results(tmp_path / "whole", *specs)))


def test_status_is_running_only_while_a_process_holds_the_folder(tmp_path):
    store.create(tmp_path, [make_spec()], METADATA)
    assert manifest.read(tmp_path)["status"] == "interrupted"
    with locks.writer(tmp_path):
        assert open_recorded(tmp_path).attrs["status"] == "running"
    assert manifest.read(tmp_path)["status"] == "interrupted"


def test_a_folder_with_nothing_but_a_lock_is_as_good_as_empty(tmp_path):
    (tmp_path / "manifest.copy.json.partial").write_text("{")  # a kill at the first moment
    with locks.writer(tmp_path):
        store.check_output(tmp_path)
        results(tmp_path, make_spec())


def test_every_file_of_numbers_ends_with_a_checksum(tmp_path):
    path = results(tmp_path, make_spec(num_samples=5)) / "group-000.zarr"
    for name in ("metrics", "samples", "target_means", "extent"):
        codecs = json.loads((path / name / "zarr.json").read_text())["codecs"]
        assert [codec["name"] for codec in codecs] == ["bytes", "crc32c"]


@pytest.mark.parametrize("how", [damage, lambda file: os.truncate(file, 9), lambda file: os.truncate(file, 0)])
@pytest.mark.parametrize(
    ("file", "lost"), [("metrics/c.0.0.1", [2, 3]), ("metrics/c.0.0.2", [4]), ("samples/c.1.3.0.0", [3])]
)
@pytest.mark.quick(2)
def test_what_is_damaged_counts_as_not_recorded_until_it_is_written_again(tmp_path, monkeypatch, how, file, lost):
    monkeypatch.setattr(arrays, "_METRIC_CHUNK_BYTES", 2 * 4 * 3 * 3)  # two steps a file
    monkeypatch.setattr(arrays, "_FIELD_CHUNK_BYTES", 80)  # two runs a file
    spec = make_spec(num_samples=5)
    path = results(tmp_path / "r", spec)
    whole = open_recorded(path).load()
    how(path / "group-000.zarr" / file)
    writer = store.reopen(path)
    with pytest.warns(RuntimeWarning, match=f"{path}/group-000.zarr/{file} is damaged"):
        assert np.flatnonzero(~writer.recorded(0)).tolist() == lost
    for step_index in lost:
        writer.write(0, step_index, **measurement(spec, step_index))
    assert store.reopen(path).recorded(0).all()
    xr.testing.assert_identical(open_recorded(path).load(), whole)


def test_a_file_that_cannot_be_read_is_not_taken_for_one_that_is_damaged(tmp_path, monkeypatch):
    path = results(tmp_path / "r", make_spec())
    writer = store.reopen(path)
    before = files(path)

    async def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")  # root may read anything

    monkeypatch.setattr(zarr.storage.LocalStore, "get", refused)
    for use in (lambda: writer.recorded(0), lambda: writer.write(0, 0, **measurement(make_spec(), 0))):
        with pytest.raises(PermissionError):
            use()
    assert files(path) == before


def test_results_are_extended_by_groups_and_by_steps(tmp_path):
    old, more = make_spec(num_samples=5), make_spec(2, (0, 10, 160))
    path = results(tmp_path / "r", old, make_spec(4))
    writer = store.reopen(path)
    writer.note(0, Progress("complete", 80, 2.0))
    longer = dataclasses.replace(writer.groups[0].spec, steps=[0, 10, 15, 20, 40, 80, 160])
    again = store.extend(path, [more], {0: longer}, {"ends": [80], "title": "longer"})

    entries = json.loads((path / "manifest.json").read_text())["groups"]
    assert [{name: entry[name] for name in ("name", "size", "unit")} for entry in entries] == [
        {"name": "group-002.zarr", "size": 3, "unit": 0},
        {"name": "group-001.zarr", "size": 4, "unit": 1},
        {"name": "group-003.zarr", "size": 2, "unit": 2},
    ]
    assert not (path / "group-000.zarr").exists()
    assert again.manifest["ends"] == [80]
    assert again.progress(0) == Progress("complete", 80, 2.0)
    assert again.progress(2) == Progress()
    assert [again.recorded(group).sum() for group in range(3)] == [5, 5, 0]
    ds = open_recorded(path)
    assert (ds.attrs["status"], ds.attrs["title"]) == ("interrupted", "longer")
    known = ds.sel(step=[0, 10, 20, 40, 80]).isel(run=slice(3))
    for step_index in range(5):
        want = measurement(old, step_index)
        np.testing.assert_array_equal(known.value[:, step_index], want["metrics"]["value"])
        np.testing.assert_array_equal(known.samples[:, step_index], want["fields"]["samples"].astype(np.float32))
    assert ds.value.sel(step=[15, 160]).isnull().all()


@pytest.mark.parametrize(
    ("module", "stage"), [(store, "make_group"), (store, "copy_group"), (store, "sync_file"), (manifest, "write")]
)
def test_an_extension_that_is_stopped_leaves_what_was_there_and_can_be_made_again(tmp_path, monkeypatch, module, stage):
    path = results(tmp_path / "r", make_spec())
    before = open_recorded(path).load()
    longer = {0: dataclasses.replace(store.reopen(path).groups[0].spec, steps=[0, 10, 20, 40, 80, 160])}

    def stops(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, stage, stops)
        with pytest.raises(KeyboardInterrupt):
            store.extend(path, [make_spec(2)], longer, {})
    xr.testing.assert_identical(open_recorded(path).load(), before)
    again = store.extend(path, [make_spec(2)], longer, {})
    assert [again.recorded(group).sum() for group in range(2)] == [5, 0]
    assert sorted(entry.name for entry in path.glob("*.zarr")) == ["group-001.zarr", "group-002.zarr"]


def test_an_extension_that_would_lose_something_is_refused(tmp_path):
    path = results(tmp_path / "r", make_spec())
    spec = store.reopen(path).groups[0].spec
    before = files(path)
    with pytest.raises(ValueError, match=r"steps lost: \[80\]"):
        store.extend(path, [], {0: dataclasses.replace(spec, steps=[0, 10, 20, 40, 160])}, {})
    with pytest.raises(ValueError, match="value is a metric with attributes"):
        store.extend(path, [make_spec(metrics={"value": {"units": "bit"}})], {}, {})
    assert files(path) == before


@pytest.mark.parametrize("how", [damage, Path.unlink])
def test_an_extension_leaves_out_what_is_lost_and_says_so(tmp_path, monkeypatch, how):
    monkeypatch.setattr(arrays, "_METRIC_CHUNK_BYTES", 2 * 4 * 3 * 3)  # two steps a file
    path = results(tmp_path / "r", make_spec(num_samples=5))
    spec = store.reopen(path).groups[0].spec
    how(path / "group-000.zarr/metrics/c.0.0.1")
    how(path / "group-000.zarr/samples/c.0.0.0.0")
    longer = dataclasses.replace(spec, steps=[0, 10, 20, 40, 80, 160])
    with pytest.warns(RuntimeWarning, match=r"metrics/c.0.0.1 is .*samples/c.0.0.0.0 is .* count.? as not measured"):
        writer = store.extend(path, [], {0: longer}, {})
    assert writer.recorded(0).tolist() == [False, True, False, False, True, False]
    assert open_recorded(path).value.isnull().all("run").values.tolist() == [True, False, True, True, False, True]


def test_progress_is_noted_beside_the_groups(tmp_path):
    writer = store.create(tmp_path / "r", [make_spec(), make_spec()], METADATA)
    assert writer.progress(1) == Progress("waiting", 0, 0.0, "")
    writer.note(1, Progress("failed", 40, 1.5, "no room"))
    assert store.reopen(tmp_path / "r").progress(1) == Progress("failed", 40, 1.5, "no room")
    assert json.loads((tmp_path / "r" / "group-001.json").read_text())["step"] == 40
    assert store.create(None, [make_spec()], METADATA).progress(0) == Progress()


@pytest.mark.parametrize(
    "noted",
    [
        {"step": float("nan")}, {"step": 10**400}, {"step": -1}, {"step": True}, {"wall_time_s": float("nan")},
        {"wall_time_s": float("inf")}, {"wall_time_s": 10**400}, {"status": "\x1b[2J"}, {"error": 1}, {"more": 1},
    ],
)  # fmt: skip
def test_progress_that_cannot_be_is_not_known(tmp_path, noted):
    writer = store.create(tmp_path, [make_spec()], METADATA)
    writer.note(0, Progress("running", 40, 1.5))
    forged.edit(tmp_path / "group-000.json", lambda about: about.update(noted))
    with pytest.warns(RuntimeWarning, match=r"group-000\.json is damaged"):
        assert writer.progress(0) == Progress()


def test_a_pipe_in_place_of_progress_is_not_waited_for(tmp_path):
    writer = store.create(tmp_path, [make_spec()], METADATA)
    os.mkfifo(tmp_path / "group-000.json")
    with pytest.warns(RuntimeWarning, match=r"group-000\.json is gone"):
        assert writer.progress(0) == Progress()


def test_sync_forces_what_was_written_since_the_last_time(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "_METRIC_CHUNK_BYTES", 2 * 4 * 3 * 3)  # two steps a file
    monkeypatch.setattr(arrays, "_FIELD_CHUNK_BYTES", 80)  # two runs a file
    spec = make_spec(num_samples=5)
    writer = store.create(tmp_path, [spec], METADATA)
    synced = []
    monkeypatch.setattr(writers, "sync_file", synced.append)
    for step_index in (1, 2):
        writer.write(0, step_index, **measurement(spec, step_index))
    writer.sync()
    names = {str(file.relative_to(tmp_path / "group-000.zarr")) for file in synced}
    samples = {f"samples/c.{rows}.{step}.0.0" for rows in (0, 1) for step in (1, 2)}
    assert names == samples | {"metrics/c.0.0.0", "metrics/c.0.0.1"}
    assert len(synced) == len(names)
    synced.clear()
    writer.sync()
    assert synced == []


def test_a_note_that_does_not_fit_on_the_disk_leaves_the_one_before(tmp_path, monkeypatch):
    writer = store.create(tmp_path, [make_spec()], METADATA)
    writer.note(0, Progress("running", 40, 1.5))
    before = set(files(tmp_path))

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files_, "sync_file", full)
    with pytest.raises(OSError, match="No space left"):
        writer.note(0, Progress("complete", 80, 2.0))
    assert writer.progress(0).step == 40
    assert set(files(tmp_path)) == before


@pytest.mark.parametrize("name", ["manifest.json.partial", "group-000.json.partial"])
def test_no_file_is_written_through_a_link(tmp_path, name):
    (tmp_path / "mine").write_text("do not lose")
    writer = store.create(tmp_path / "r", [make_spec()], METADATA)
    (tmp_path / "r" / name).symlink_to(tmp_path / "mine")
    writer.note(0, Progress("complete", 80, 2.0))
    writer.finish("complete", 2.0)
    assert (tmp_path / "mine").read_text() == "do not lose"
    assert writer.progress(0).step == 80


# Where results may be written


def test_overwriting_needs_to_be_asked_for_and_spares_other_files(tmp_path):
    path = results(tmp_path / "r", make_spec(5), make_spec(5))
    (path / "notes.txt").write_text("mine")
    for refuse in (store.check_output, lambda folder: store.create(folder, [make_spec()], METADATA)):
        with pytest.raises(ValueError, match="already holds results: go on with them"):
            refuse(path)
    assert open_recorded(path).sizes["run"] == 10

    store.check_output(path, overwrite=True)
    results(path, make_spec(2), overwrite=True)
    assert open_recorded(path).sizes["run"] == 2
    ours = {"manifest.json", "manifest.copy.json", "group-000.zarr", "group-000.journal", "group-000.copy.npz"}
    assert {entry.name for entry in path.iterdir()} == {*ours, "notes.txt"}


def make_foreign(folder, name, text):
    folder.mkdir()
    (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda tmp: make_foreign(tmp / "f", "thesis.tex", "") / "thesis.tex", "is not a folder"),
        (lambda tmp: make_foreign(tmp / "f", "thesis.tex", "") / "thesis.tex" / "r", "thesis.tex is not a folder"),
        (lambda tmp: make_foreign(tmp / "f", "thesis.tex", ""), "left alone"),
        (lambda tmp: make_foreign(tmp / "f", "manifest.json", '{"name": "a web page"}'), "left alone"),
        (lambda tmp: make_foreign(tmp / "f", "manifest.json", '{"format_version": 99}'), "left alone"),
        (lambda tmp: make_foreign(tmp / "f", "manifest.json", "{"), "left alone"),
    ],
)
def test_what_is_no_results_folder_is_never_touched(tmp_path, make, message, overwrite):
    path = make(tmp_path)
    before = files(tmp_path)
    for refuse in (store.check_output, lambda folder, over: store.create(folder, [make_spec()], METADATA, over)):
        with pytest.raises(ValueError, match=message):
            refuse(path, overwrite)
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", ["", "new", "new/deeper"])
def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(ValueError, match="not writable"):
        store.check_output(tmp_path / name)


def test_an_empty_folder_and_a_missing_one_are_fine(tmp_path):
    store.check_output(tmp_path)
    store.check_output(tmp_path / "new" / "deeper")
    assert list(tmp_path.iterdir()) == []


# What is refused when it is written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(metrics={}), "metrics is empty"),
        (dict(metrics={"loss": {}}), "coordinate 'loss' is also a metric"),
        (dict(metrics={"metrics": {}}), "metric 'metrics' is also a name of the format"),
        (dict(metrics={"samples": {}}, num_samples=5), "field 'samples' is also a metric"),
        (dict(metrics={"value": {"units": 1}}), "attribute 'units': 1"),
        (dict(runs=0), "at least one run"),
        (dict(steps=[]), "at least one integer"),
        (dict(steps=[0.5]), "at least one integer"),
        (dict(steps=[0, 10, 10]), "must increase"),
        (dict(steps=[-1, 10]), "must increase"),
        (dict(lr=[0.1]), r"coords\['lr'\] has 1 values for 3 runs"),
        (dict(lr=[0.1, "a", 0.2]), r"coords\['lr'\] must be all numbers or all text"),
        (dict(lr=[None] * 3), r"coords\['lr'\] must be all numbers or all text"),
        (dict(extent=[1, 2, 3]), "constant 'extent' is also a coordinate"),
        (dict(num_samples=-1), "has -1 along 'sample': expected an integer, 1 or more"),
        (dict(others={"f": FIELD(("a",), (1.5,), {})}), "has 1.5 along 'a': expected an integer"),
        (dict(others={"f": StoredField(("a",), (2, 3), {})}), "expected one an axis after run, step"),
        (dict(others={"f": StoredField((), (), {})}), "expected one an axis after run, step"),
        (dict(others={"f": StoredField(("step",), (2,), {})}), "dimension 'step' is also a name of the format"),
        (dict(others={"f": StoredField(("mode",), (3,), {})}), "has 3 along 'mode': expected 4"),
        (dict(others={"../f": StoredField(("a",), (3,), {})}), "letters, digits and underscores"),
        (dict(others={"value": StoredField(("a",), (3,), {})}), "field 'value' is also a metric"),
        (dict(others={"f": StoredField(("value",), (3,), {})}), "dimension 'value' is also a metric"),
        (dict(others={"f": FIELD(("a",), (3,), {"units": 1})}), "attribute 'units': 1"),
    ],
)
def test_a_bad_spec_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        make_spec(**change)


@pytest.mark.parametrize(
    ("name", "constant", "message"),
    [
        ("../c", (("run",), np.zeros(2), {}), "name made of letters"),
        ("c", (("mode", "run"), np.zeros((2, 2)), {}), "'run' first"),
        ("c", (("run", "mode"), np.zeros(2), {}), "'run' first"),
        ("c", (("run", "step"), np.zeros((2, 2)), {}), "'run' first"),
        ("c", (("run",), np.zeros(3), {}), "has 3 along 'run': expected 2"),
        ("c", (("run", "xy"), np.zeros((2, 3)), {}), "has 3 along 'xy': expected 2"),
        ("c", (("run",), np.array(["a", "b"]), {}), "expected numbers"),
        ("c", (("run",), np.array([None, None]), {}), "expected numbers"),
        ("c", (("run",), np.zeros(2), {"units": None}), "attribute 'units': None"),
    ],
)
def test_a_bad_constant_is_refused(name, constant, message):
    good = make_spec(2)
    with pytest.raises(ValueError, match=message):
        GroupSpec(good.metrics, good.steps, good.coords, {name: constant})


def test_fields_over_modes_are_filled_up_where_a_target_has_fewer(tmp_path):
    field = lambda num: {"mode_mass": StoredField(("mode",), (num,), {"units": "share"})}  # noqa: E731
    specs = [make_spec(2, num_modes=4, others=field(4)), make_spec(3, num_modes=2, others=field(2))]
    ds = open_recorded(results(tmp_path / "r", *specs))
    assert ds.mode_mass.dims == ("run", "step", "mode")
    assert np.isnan(ds.mode_mass[2:, :, 2:]).all()
    for group, rows in ((0, slice(0, 2)), (1, slice(2, 5))):
        num = specs[group].fields["mode_mass"].shape[0]
        want = measurement(specs[group], 1, 100_000 * group)["fields"]["mode_mass"]
        np.testing.assert_array_equal(ds.mode_mass[rows, 1, :num], want.astype(np.float32))
    np.testing.assert_array_equal(ds.mode_mass.isel(run=4, mode=[1, 3]).values[:, 1], [np.nan] * 5)


def test_a_coordinate_that_every_run_has_cannot_be_left_out():
    with pytest.raises(ValueError, match="coords lacks recipe: every run has seed, recipe, loss"):
        GroupSpec(METRICS, [0], {"seed": [0], "loss": ["ns"]}, {})


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (dict(num_samples=6), "samples is kept as"),
        (dict(surface_size=3), "surface is kept as"),
        (dict(lr=["high"] * 3), "lr is a coordinate of text in group 1"),
        (dict(metrics={"value": {"units": "bit"}}), "value is a metric with attributes"),
        (dict(metrics={"lr": {}}), "lr is a metric"),
    ],
)
def test_groups_that_contradict_each_other_are_refused_before_anything_is_written(tmp_path, other, message):
    first = make_spec(num_samples=5, surface_size=4, lr=[0.1] * 3)
    with pytest.raises(ValueError, match=message):
        store.create(tmp_path / "r", [first, make_spec(**other)], METADATA)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"titel": "a"}, "metadata: got 'titel'; allowed: title, command"),
        ({"title": 3}, "title is 3"),
        ({"versions": {"jax": 1}}, "versions is {'jax': 1}"),
    ],
)
def test_bad_metadata_is_refused_before_anything_is_written(tmp_path, metadata, message):
    with pytest.raises(ValueError, match=message):
        store.create(tmp_path / "r", [make_spec()], metadata)
    with pytest.raises(ValueError, match="at least one group"):
        store.create(tmp_path / "r", [], METADATA)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda call: call["metrics"].update(valeu=np.zeros(3)),
            "metrics: got 'valeu'; allowed: value, .*did you mean 'value'",
        ),
        (lambda call: call["metrics"].update(zzz=np.zeros(3)), "metrics: got 'zzz'; allowed: value, modes, finite"),
        (lambda call: call["metrics"].pop("modes"), "metrics lacks modes"),
        (lambda call: call["metrics"].update(modes=np.zeros(2)), r"'modes' has shape \(2,\): expected \(3,\)"),
        (lambda call: call["metrics"].update(modes=1.0), r"'modes' has shape \(\): expected \(3,\)"),
        (
            lambda call: call["fields"].update(samples=np.zeros((3, 4, 2))),
            r"samples has shape .*: expected \(3, 5, 2\)",
        ),
        (lambda call: call["fields"].update(surface=np.zeros((3, 4, 4))), "surface given, but the group keeps none"),
        (lambda call: call.update(group=1), "group is 1: expected one of 0 to 0"),
        (lambda call: call.update(step_index=5), "step_index is 5: group 0 has 0 to 4"),
        (lambda call: call.update(step_index=-1), "step_index is -1"),
    ],
)
def test_a_bad_write_is_refused_and_writes_nothing(tmp_path, change, message):
    spec = make_spec(num_samples=5)
    writer = store.create(tmp_path, [spec], METADATA)
    before = files(tmp_path)
    call = {"group": 0, "step_index": 0, **measurement(spec, 0)}
    change(call)
    with pytest.raises(ValueError, match=message):
        writer.write(**call)
    assert files(tmp_path) == before


# What is refused when it is read


def test_a_missing_folder_and_a_foreign_one_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist: expected a results folder"):
        open_recorded(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"is no results folder: expected manifest\.json"):
        open_recorded(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(parts="mine"), "parts is 'mine', expected objects with kind, name, fingerprint"),
        (dict(parts=[{"kind": "loss", "name": "mine"}]), "expected objects with kind, name, fingerprint"),
        (dict(format_version=1), "format_version is 1, this gandyn reads 5"),
        (dict(groups=[{"name": "../other/group-000.zarr", "size": 3}]), "not of the form"),
        (dict(groups=[{"name": "/group-000.zarr", "size": 3}]), "not of the form"),
        (dict(groups=[{"name": "group-000.zarr\n", "size": 3}]), "not of the form"),
        (dict(groups=[{"name": ["group-000.zarr"], "size": 3}]), "not of the form"),
        (dict(groups=[{"name": "group-000.zarr", "size": "3"}]), "size of group-000.zarr is '3'"),
        (dict(groups=[{"name": "group-000.zarr", "size": 3, "unit": 0, "sum": 0}] * 2), "twice"),
        (dict(groups=["group-000.zarr"]), "no list of objects"),
        (dict(groups=None), "no list of objects"),
        (dict(groups=[{"name": "group-000.zarr", "size": 3, "unit": "../x"}]), "unit of group-000.zarr is '../x'"),
        (dict(groups=[{"name": "group-000.zarr", "size": 3, "unit": -1, "sum": 0}]), "unit of group-000.zarr is -1"),
        (
            dict(groups=[{"name": f"group-00{i}.zarr", "size": 3, "unit": 0, "sum": 0} for i in (0, 1)]),
            "lists a unit twice",
        ),
        (dict(ends=None), "ends is None"),
        (dict(ends=["10"]), r"ends is \['10'\]"),
        (dict(ends=[float("nan")]), r"ends is \[nan\]"),
        (dict(wall_time_s=float("nan")), "wall_time_s is nan"),
        (dict(wall_time_s=10**400), "wall_time_s is 1000"),
        (dict(status="won"), "status is 'won'"),
        (dict(title=None), "title is None"),
        (dict(wall_time_s="long"), "wall_time_s is 'long'"),
        (dict(versions=["jax"]), "versions is"),
    ],
)
def test_a_hostile_manifest_is_refused(tmp_path, change, message):
    file = results(tmp_path, make_spec()) / "manifest.json"
    forged.edit(file, lambda about: about.update(change))
    with pytest.raises(ValueError, match=message) as caught:
        open_recorded(tmp_path)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b'{"format_version": 1', b"\xff\xfe", b"[" * 100_000, b"[]", b"null"])
def test_a_corrupted_manifest_is_refused(tmp_path, content):
    file = results(tmp_path, make_spec()) / "manifest.json"
    for one in (file, file.with_name(manifest.COPY)):
        one.write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest\.json is "):
        open_recorded(tmp_path)


def test_a_manifest_of_a_hundred_megabytes_is_refused_unread(tmp_path):
    file = results(tmp_path, make_spec()) / "manifest.json"
    for one in (file, file.with_name(manifest.COPY)):
        os.truncate(one, 10**8)
    start = time.process_time()
    with pytest.raises(ValueError, match="100000000 bytes, expected at most"):
        open_recorded(tmp_path)
    assert time.process_time() - start < 1


def cut(chunk_shape):
    """Array metadata: into files of this shape."""
    return {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk_shape}}}


CLAIMS = {
    # What metadata says, in a store that is otherwise as it was: (name of the array, its change, change of the group).
    "huge field": (
        "samples",
        dict(shape=[3, 5, 10**14, 2]),
        dict(fields={"samples": [["sample", "xy"], [10**14, 2], {}]}),
    ),
    "huge file": (
        "samples",
        dict(shape=[3, 5, 10**10, 2], **cut([1, 1, 10**10, 2])),
        dict(fields={"samples": [["sample", "xy"], [10**10, 2], {}]}),
    ),
    "huge constant": ("extent", dict(shape=[10**15]), {}),
    "huge constant in one file": (
        "extent",
        dict(shape=[10**15], **cut([10**15])),
        {},
    ),
    "constant in many files": (
        "target_means", dict(**cut([1, 1, 1])), {},
    ),
    "zeros where nothing was measured": ("metrics", dict(fill_value=0.0), {}),
    "steps in one file": (
        "samples", dict(**cut([3, 5, 5, 2])), {},
    ),
    "runs in many files": (
        "metrics", dict(**cut([3, 1, 5])), {},
    ),
    "text": ("samples", dict(data_type="string", codecs=[{"name": "vlen-utf8"}], fill_value=""), {}),
    "objects": ("samples", dict(data_type="object"), {}),
    "pickles": ("samples", dict(codecs=[{"name": "numcodecs.pickle", "configuration": {}}]), {}),
    "compressed": ("metrics", dict(codecs=[{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 1}}]), {}),
    "no checksum": ("metrics", dict(codecs=[{"name": "bytes", "configuration": {"endian": "little"}}]), {}),
    "group in its place": ("metrics", dict(node_type="group"), {}),
}  # fmt: skip


@pytest.mark.parametrize("claim", CLAIMS)
def test_hostile_metadata_is_refused_at_once_and_without_memory(tmp_path, claim):
    path = results(tmp_path, make_spec(num_samples=5))
    name, array, group = CLAIMS[claim]
    forged.edit(path / "group-000.zarr" / name / "zarr.json", lambda about: about.update(array))
    forged.edit(path / "group-000.zarr" / "zarr.json", lambda about: about["attributes"].update(group))
    start = time.process_time()
    for use in (open_recorded, store.reopen):
        with pytest.raises(ValueError, match="is damaged or no group of results"):
            use(path)
    assert time.process_time() - start < 1


def test_many_small_groups_that_make_a_huge_dataset_are_refused(tmp_path, monkeypatch):
    path = results(tmp_path, make_spec(1, range(400)), make_spec(400, (0,)))
    open_recorded(path)
    memory = type("Memory", (), {"total": 4 * 3 * 401 * 400 - 1})
    monkeypatch.setattr(reading.psutil, "virtual_memory", memory)
    with pytest.raises(ValueError, match="its metrics take"):
        open_recorded(path)


@pytest.mark.parametrize("name", ["group-000.zarr", "group-000.zarr/metrics"])
def test_results_with_links_in_them_are_not_written_to(tmp_path, name):
    path = results(tmp_path / "r", make_spec())
    (path / name).rename(tmp_path / "mine")
    (path / name).symlink_to(tmp_path / "mine")
    with pytest.raises(ValueError, match="is a link"):
        store.reopen(path)
    open_recorded(path)  # reading harms nothing


def replace_extent(group, **kwargs):
    zarr.open_group(group).create_array("extent", overwrite=True, dimension_names=["run"], **kwargs)
    forged.sign_groups(group.parent)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda group: (group / "zarr.json").unlink(), "damaged"),
        (lambda group: (group / "metrics" / "zarr.json").unlink(), "damaged"),
        (lambda group: (group / "metrics" / "zarr.json").write_text("{"), "damaged"),
        (lambda group: os.truncate(group / "metrics/c.0.0.0", 7), "damaged"),
        (lambda group: forged.edit(group / "zarr.json", lambda about: about["attributes"].clear()), "damaged"),
        (lambda group: forged.edit(group / "zarr.json", lambda about: about["attributes"].update(evil=1)), "evil"),
        (
            lambda group: forged.edit(group / "zarr.json", lambda about: about["attributes"]["steps"].append(99)),
            "metrics is float32",
        ),
        (lambda group: forged.edit(group.parent / "manifest.json", lambda m: m["groups"][0].update(size=4)), "says 4"),
        (lambda group: replace_extent(group, data=np.ones(3), chunks=(3,)), "uncompressed"),
        (lambda group: replace_extent(group, shape=3, chunks=(3,), dtype="bool", compressors=None), "extent is bool"),
    ],
)
def test_a_damaged_group_is_refused(tmp_path, damage, message):
    path = results(tmp_path / "r", make_spec())
    damage(path / "group-000.zarr")
    with pytest.raises(ValueError, match=message) as caught:
        open_recorded(path)
    assert str(path) in str(caught.value)


def test_a_group_that_is_gone_is_named(tmp_path):
    path = results(tmp_path / "r", make_spec(), make_spec())
    (path / "group-001.zarr").rename(path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"group-001\.zarr does not exist"):
        open_recorded(path)
