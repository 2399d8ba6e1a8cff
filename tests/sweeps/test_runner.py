"""The host loop: what it records, what it refuses, what an interrupt leaves."""

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib

import haste
import jax
import numpy as np
import pytest
import xarray as xr

import gandyn
from gandyn import cli
from gandyn.gan.game import make_game
from gandyn.results import arrays, files, locks, status, store
from gandyn.sweeps import engines, interrupts, records, runner, sweep, sweep_file, training
from gandyn.truth.measure import metrics_of, plan_of


@pytest.fixture(scope="module", autouse=True)
def in_haste():
    with haste.everywhere():
        yield


TINY = gandyn.Config(gen_width=8, disc_width=8, batch_size=16)
FAST = gandyn.MeasureConfig(num_nodes=64, num_density_nodes=1024, keep_samples=7, keep_surface=5)
RING = gandyn.targets.ring(num_modes=4, std=0.1)
METRICS = metrics_of(plan_of(FAST, deep=False), make_game(RING, TINY))


def run(**given):
    defaults = {"seeds": range(3), "num_steps": 25, "measure_every": 10, "measure_config": FAST, "progress": False}
    return gandyn.run(given.pop("target", RING), given.pop("config", TINY), **(defaults | given))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return run(out=tmp_path_factory.mktemp("runs") / "first")


def test_results_have_every_metric_at_every_step(results):
    assert set(METRICS) <= set(results.data_vars)
    assert results.step.values.tolist() == [0, 10, 20, 25]
    assert results.seed.values.tolist() == [0, 1, 2]
    assert results.sizes["sample"] == 7
    assert results.sizes["surface_x"] == 5
    assert results.attrs["status"] == "complete"
    never_defined = {"loss_disc", "loss_gen", "loss_total", "penalty_term"}  # before the first update
    for name in METRICS:
        start = 1 if name in never_defined else 0
        assert np.isfinite(results[name].values[:, start:]).all(), name
    for name in never_defined:
        assert np.isnan(results[name].values[:, 0]).all()
    assert np.isfinite(results.samples.values).all()


def test_total_loss_and_lag_are_sums_of_their_parts(results):
    np.testing.assert_array_equal(results.loss_total, results.loss_disc + results.loss_gen)
    np.testing.assert_allclose(results.value_best, results.value + results.lag, atol=1e-6)  # of float32 of about 1


@pytest.mark.slow
def test_surface_is_the_discriminator_on_the_stated_grid():
    config = gandyn.Config(gen_width=8, disc_width=8, disc_depth=0, batch_size=16)  # affine: the grid can be solved
    surface = run(config=config, seeds=[1]).surface.values[0, -1]
    gaps_x, gaps_y = np.diff(surface, axis=1), np.diff(surface, axis=0)
    np.testing.assert_allclose(gaps_x, gaps_x[0, 0], rtol=1e-3, atol=1e-6)  # columns along x
    np.testing.assert_allclose(gaps_y, gaps_y[0, 0], rtol=1e-3, atol=1e-6)  # rows along y
    assert not np.isclose(gaps_x[0, 0], gaps_y[0, 0])


def test_in_memory_and_on_disk_are_the_same(results):
    xr.testing.assert_equal(run().load(), results.load())


def test_measuring_more_often_changes_no_training(results):
    dense = run(measure_every=5)
    common = dense.sel(step=[0, 10, 20, 25])
    for name in METRICS:
        np.testing.assert_array_equal(common[name], results[name], err_msg=name)
    np.testing.assert_array_equal(common.samples, results.samples)


@pytest.mark.slow
def test_settings_share_a_folder_and_keep_their_coordinates(tmp_path):
    out = tmp_path / "two"
    both = run(
        config=[TINY, gandyn.Config(loss="wasserstein", penalties=("clip",), gen_width=8, disc_width=8, batch_size=16)],
        hparams=[gandyn.HParams(lr_gen=1e-3), gandyn.HParams(lr_gen=2e-3)],
        seeds=[7],
        out=out,
    )
    assert both.recipe.values.tolist() == ["non_saturating", "wasserstein + clip"]
    assert both.lr_gen.values.tolist() == [1e-3, 2e-3]
    assert "batch_size" in json.loads(both.attrs["constant_fields"])
    np.testing.assert_allclose(both.equilibrium, [-2 * np.log(2), 0])
    # A critic bounded by the size of its weights: no function of the density ratio, so no lag is claimed.
    assert np.isnan(both.lag.values[1]).all()
    assert np.isfinite(both.jsd.values).all()
    stores = sorted(entry.name for entry in out.glob("*.zarr"))
    assert stores == ["group-000.zarr", "group-001.zarr"]


def test_recorded_configuration_reproduces_the_results(results, tmp_path):
    """The configuration that the results carry, given to the command line, gives the same bits."""
    file = tmp_path / "again.toml"
    file.write_text(results.attrs["configuration"])
    tomllib.loads(file.read_text())
    cli.main(["run", str(file), "--out", str(tmp_path / "again")])
    again = gandyn.open_results(tmp_path / "again")
    for name in METRICS:
        np.testing.assert_array_equal(again[name], results[name], err_msg=name)


@pytest.mark.slow
def test_diverged_run_is_flagged_and_its_neighbours_are_not():
    rates = [gandyn.HParams(lr_disc=1e-3), gandyn.HParams(lr_disc=1e30)]
    config = gandyn.Config(gen_width=8, disc_width=8, batch_size=16, disc_optimizer="sgd", gen_optimizer="sgd")
    both = run(config=config, hparams=rates, seeds=[0])
    assert both.finite.values.tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
    alone = run(config=config, hparams=rates[0], seeds=[0])
    for name in METRICS:
        np.testing.assert_array_equal(both[name].values[0], alone[name].values[0], err_msg=name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"measure_every": 0}, "measure_every: got 0; allowed: a whole number of at least 1"),
        ({"num_steps": 0}, "num_steps: got 0"),
        ({"num_steps": 10.5}, "num_steps: got 10.5"),
        ({"seeds": [0.5]}, "seeds: got 0.5"),
        ({"config": "hinge"}, "config: got 'hinge'"),
        ({"hparams": gandyn.HParams(lr_gen=-1.0)}, "lr_gen: got -1.0; allowed: at least 0, finite"),
        ({"hparams": gandyn.HParams(clip_bound=0.1)}, "clip_bound: got 0.1, and nothing chosen reads it"),
        ({"seeds": range(300_000), "num_steps": 10**6}, "disk: 300000 runs need about"),
        ({"config": gandyn.Config(gen_width=60_000)}, "memory: 3 runs need about"),
    ],
)
@pytest.mark.quick(2)
def test_bad_input_is_refused_before_anything_is_written_or_compiled(given, message, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "train_groups", lambda *_: pytest.fail("training started"))
    with pytest.raises(ValueError, match=message):
        run(out=tmp_path / "none", **given)
    assert not (tmp_path / "none").exists()


def test_an_engine_of_other_processes_needs_a_folder_where_they_meet():
    class Elsewhere(engines.Engine):
        pass

    settings = sweep.make_settings(gandyn.targets.ring(), gandyn.Config(), gandyn.HParams(), None)
    with pytest.raises(ValueError, match="out: got None; allowed with engine=Elsewhere: a folder"):
        runner.run_sweep(sweep.Sweep(settings, [0], 10), engine=Elsewhere())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gandyn.Config(loss="hinges"), r"loss: got 'hinges'; allowed: .*did you mean 'hinge'"),  # pyright: ignore
        (lambda: gandyn.Config(batch_size=0), "batch_size: got 0; allowed: a whole number of at least 1"),
        (lambda: gandyn.Config(batch_size=True), "batch_size: got True"),
        (lambda: gandyn.Config(rule="simultaneous", disc_steps=2), "disc_steps: got 2"),
        (lambda: make_game(RING, TINY, gandyn.HParams(lr_gen=-1.0)), "lr_gen: got -1.0; allowed: at least 0, finite"),
        (lambda: make_game(RING, TINY, gandyn.HParams(lr_gen=float("nan"))), "lr_gen: got nan"),
        (
            lambda: make_game(RING, TINY, gandyn.HParams(beta1_gen=1.0)),
            "beta1_gen: got 1.0; allowed: above -1, below 1",
        ),
        (lambda: make_game(RING, TINY, gandyn.HParams(lr_gen="fast")), "lr_gen: got 'fast'; allowed: a number"),
        (
            lambda: make_game(RING, gandyn.Config(penalties=("clip",)), gandyn.HParams(clip_bound=0.0)),
            "clip_bound: got 0.0; allowed: above 0",
        ),
        (lambda: gandyn.targets.ring(std=-0.1), "std: got -0.1; allowed: above 0"),
        (lambda: gandyn.MeasureConfig(num_nodes=100), "num_nodes: got 100; allowed: a power of two"),
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_is_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.slow
def test_other_folders_are_never_written_to(tmp_path, results):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not lose")
    with pytest.raises(ValueError, match="left alone"):
        run(out=tmp_path / "mine", overwrite=True)
    run(out=tmp_path / "runs", seeds=[0])
    with pytest.raises(ValueError, match="already holds results"):
        run(out=tmp_path / "runs", seeds=[0])
    assert run(out=tmp_path / "runs", seeds=[1], overwrite=True).seed.values.tolist() == [1]


def test_a_second_run_with_other_numbers_compiles_nothing(caplog):
    run(seeds=[0])
    with jax.log_compiles(), caplog.at_level("WARNING"):
        run(hparams=gandyn.HParams(lr_gen=0.123), target=gandyn.targets.ring(4, radius=1.02, std=0.1), seeds=[5])
    compiled = [record.message for record in caplog.records if "Finished XLA compilation" in record.message]
    assert [message for message in compiled if "everywhere" in message] == []


# ---- gone on with, extended, replayed


def assert_same_runs(found: xr.Dataset, expected: xr.Dataset) -> None:
    """Every variable of every run, told by recipe and seed, is the same to the bit at the steps of `expected`."""
    rows = {key: i for i, key in enumerate(zip(found.recipe.values, found.seed.values))}
    assert rows.keys() == set(zip(expected.recipe.values, expected.seed.values))
    order = [rows[key] for key in zip(expected.recipe.values, expected.seed.values)]
    found = found.isel(run=order).sel(step=expected.step.values)
    for name, variable in expected.data_vars.items():
        np.testing.assert_array_equal(found[name].values, variable.values, err_msg=str(name))


BOTH = gandyn.sweep.make_settings(
    RING, [TINY, gandyn.Config(loss="hinge", gen_width=8, disc_width=8, batch_size=16)], gandyn.HParams()
)
# The path remembers the last deep measurement (test_faults.py has them all).
DEEP = dataclasses.replace(FAST, deep=("path",), num_deep_nodes=64, num_transport=64)
SWEEP = gandyn.Sweep(BOTH, range(3), 60, 10, measure_config=FAST)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a sweep that nothing disturbed."""
    folder = tmp_path_factory.mktemp("sweep") / "whole"
    gandyn.run_sweep(SWEEP, folder, progress=False)
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.slow
def test_a_sweep_that_is_stopped_again_and_again(whole, tmp_path, monkeypatch):
    """A stop at every 17th safe point: a checkpoint, and on from there."""
    out, looks = tmp_path / "out", itertools.count(1)
    check = interrupts.Stop.check

    def sometimes(stop):
        stop.signum = signal.SIGTERM if next(looks) % 17 == 0 else 0
        check(stop)

    monkeypatch.setattr(interrupts.Stop, "check", sometimes)
    stops = 0
    with contextlib.suppress(interrupts.Stopped):
        stops += 1
        gandyn.run_sweep(SWEEP, out, progress=False, checkpoint_every=0)
    while gandyn.open_results(out).attrs["status"] != "complete":
        assert gandyn.open_results(out).attrs["status"] == "interrupted"
        assert "gandyn resume" in status.status(out)
        with contextlib.suppress(interrupts.Stopped):
            stops += 1
            gandyn.resume(out, progress=False, checkpoint_every=0)
        assert stops < 50
    assert stops > 2
    assert_same_runs(gandyn.open_results(out), gandyn.open_results(whole))


@pytest.mark.slow
def test_more_seeds_and_more_steps(copy, tmp_path):
    """The extended folder is that of the larger sweep; old measurements stay, runs keep their numbers."""
    before = gandyn.open_results(copy).load()
    extended = gandyn.extend(copy, seeds=[7], num_steps=75, progress=False)
    larger = dataclasses.replace(SWEEP, seeds=(0, 1, 2, 7), num_steps=75)
    assert_same_runs(extended, gandyn.run_sweep(larger, tmp_path / "larger", progress=False))
    np.testing.assert_array_equal(extended.seed.values[:6], before.seed.values)
    assert extended.attrs["status"] == "complete"
    assert not list(copy.glob("group-000.zarr"))  # copied to a longer one
    assert sweep_file.parse(extended.attrs["configuration"]).seeds == (0, 1, 2, 7)


@pytest.mark.slow
def test_an_end_off_the_grid_stays_when_the_runs_go_on(tmp_path):
    short = gandyn.Sweep(BOTH[:1], [4], 25, 10, 20, DEEP)
    gandyn.run_sweep(short, tmp_path / "short", progress=False)
    longer = gandyn.extend(tmp_path / "short", num_steps=60, progress=False)
    assert longer.step.values.tolist() == [0, 10, 20, 25, 30, 40, 50, 60]
    whole = gandyn.run_sweep(dataclasses.replace(short, num_steps=60), progress=False)
    judged = [name for name in whole.data_vars if str(name).startswith("verdict")]  # of the curves as a whole
    assert_same_runs(longer.drop_vars(judged), whole.drop_vars(judged))
    assert np.isfinite(longer.displaced_gen.sel(step=25)).all()


@pytest.mark.parametrize("made", [[], ["manifest.json.partial"], ["manifest.json", "manifest.copy.json"]])
@pytest.mark.quick(1)
def test_a_folder_that_is_being_made_is_said_to_be_in_use(whole, tmp_path, made):
    """By a second thread, say: what the first has made so far is no results yet."""
    out = tmp_path / "r"
    with locks.writer(out, "gandyn run"):
        for name in made:
            about = json.loads((whole / "manifest.json").read_text())
            (out / name).write_text(json.dumps(files.signed(about | {"groups": []})))
        before = sorted(file.name for file in out.iterdir())
        for use in (
            lambda: gandyn.run_sweep(SWEEP, out, progress=False),
            lambda: gandyn.run_sweep(SWEEP, out, overwrite=True, progress=False),
            lambda: gandyn.resume(out),
            lambda: gandyn.extend(out, seeds=[9]),
            lambda: gandyn.open_results(out),
        ):
            with pytest.raises(locks.Locked, match=f"written by process {os.getpid()} on .* .gandyn run.: wait"):
                use()
        assert sorted(file.name for file in out.iterdir()) == before


@pytest.mark.parametrize("name", ["x" * 300, "gs:/b", "", "~nobody-at-all/x"])
def test_what_names_no_folder_is_refused_in_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for use in (
        lambda: gandyn.run_sweep(SWEEP, name, progress=False),
        lambda: cli.main(["run", "--num-steps", "20", f"--out={name}"]),
    ):
        with pytest.raises((ValueError, SystemExit)) as caught:
            use()
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_replay_does_not_write_over_what_it_reads_or_what_another_writes(copy, tmp_path):
    with pytest.raises(ValueError, match=r"out: got .*copy, which is what is replayed; allowed: another folder"):
        gandyn.replay(copy, 0, out=copy, overwrite=True, progress=False)
    with locks.writer(tmp_path / "used"), pytest.raises(locks.Locked, match="is being written by process"):
        gandyn.replay(copy, 0, out=tmp_path / "used", progress=False)


def test_replay_of_one_run(whole):
    again = gandyn.replay(whole, 4, measure_every=1, steps=(25, 45), progress=False)
    assert again.results.step.values.tolist() == list(range(25, 46))
    assert (again.compared, again.differences) == (2, {})
    assert again.results.seed.values.tolist() == [1]
    assert again.results.loss.values.tolist() == ["hinge"]
    assert np.isfinite(again.results.value).all()


def test_replay_finds_what_is_not_the_same(copy):
    writer = store.reopen(copy)
    position = list(writer.groups[0].spec.metrics).index("jsd")
    values = arrays.read_metrics(writer.groups[0])
    values[position, 1, 3] = np.nextafter(values[position, 1, 3], 1)
    arrays.write_files(writer.groups[0], {("metrics", (0, 0, 0)): values})
    again = gandyn.replay(copy, 1, progress=False)
    assert again.differences == {"jsd": 30}


def test_what_cannot_be_gone_on_with(copy, monkeypatch):
    with pytest.raises(ValueError, match=r"seeds: got 0:2, which .* has"):
        gandyn.extend(copy, seeds=[0, 1, 9])
    with pytest.raises(ValueError, match="num_steps: got 60; allowed: more than the 60"):
        gandyn.extend(copy, num_steps=60)
    with pytest.raises(ValueError, match="nothing to add"):
        gandyn.extend(copy)
    with pytest.raises(ValueError, match="run: got 6; allowed: 0 to 5"):
        gandyn.replay(copy, 6)
    with pytest.raises(ValueError, match=r"another sweep: seeds: \(0, 1, 2\) there, \(5,\) here"):
        gandyn.run_sweep(dataclasses.replace(SWEEP, seeds=[5]), copy)
    versions = records._versions()
    monkeypatch.setattr(records, "_versions", lambda: versions | {"jaxlib": "9.9"})
    with pytest.raises(ValueError, match=f"jaxlib {versions['jaxlib']} there, 9.9 here"):
        gandyn.resume(copy)
    assert gandyn.resume(copy, anyway=True, progress=False).attrs["status"] == "complete"


@pytest.mark.slow
def test_a_group_that_fails_does_not_stop_the_rest(whole, tmp_path, monkeypatch):
    out, trained = tmp_path / "out", training.train

    def train(writer, index, *rest, **more):
        if index == 0:
            raise RuntimeError("out of luck")
        trained(writer, index, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train", train)
        with (
            pytest.warns(RuntimeWarning, match="going on with the others"),
            pytest.raises(ExceptionGroup, match="1 of 2 groups") as caught,
        ):
            gandyn.run_sweep(SWEEP, out, progress=False)
    assert "out of luck" in str(caught.value.exceptions[0])
    results = gandyn.open_results(out)
    assert results.attrs["status"] == "failed"
    assert np.isnan(results.value.values[:3]).all()
    assert np.isfinite(results.value.values[3:]).all()
    assert "out of luck" in status.status(out)
    assert_same_runs(gandyn.resume(out, progress=False), gandyn.open_results(whole))


LONG = """
import gandyn, sys
gandyn.run(
    gandyn.targets.ring(num_modes=4, std=0.1),
    gandyn.Config(gen_width=8, disc_width=8, batch_size=16),
    seeds=range(3), num_steps=20_000, measure_every=10, out=sys.argv[1], progress=False,
    measure_config=gandyn.MeasureConfig(num_nodes=64, num_density_nodes=1024, keep_samples=7, keep_surface=5),
)
"""


@pytest.mark.slow  # a kill while the store writes is in test_store.py
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_leaves_everything_measured_so_far(how, tmp_path):
    out = tmp_path / "cut"
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2"}
    with subprocess.Popen([sys.executable, "-c", LONG, str(out)], env=environment, stderr=subprocess.PIPE) as process:
        seen = 0
        while seen < 3:
            assert process.poll() is None
            time.sleep(0.1)
            with contextlib.suppress(FileNotFoundError, ValueError):  # until all groups are there
                cut = gandyn.open_results(out)  # a folder that is being written opens, too
                seen = int(np.isfinite(cut.value.values).all(axis=0).sum())
        process.send_signal(how)
        _, errors = process.communicate(timeout=600)
    assert process.returncode != 0
    cut = gandyn.open_results(out)
    assert cut.attrs["status"] == "interrupted"
    done = np.isfinite(cut.value.values).all(axis=0)
    count = int(done.sum())
    assert seen <= count < cut.sizes["step"]
    assert done[:count].all()
    if how == signal.SIGINT:
        assert b"gandyn.sweeps.interrupts.Stopped: SIGINT" in errors
    # What was measured is what an undisturbed run measures.
    whole = run(num_steps=20, seeds=range(3))
    for name in METRICS:
        np.testing.assert_array_equal(cut[name].values[:, :3], whole[name].values[:, :3], err_msg=name)
