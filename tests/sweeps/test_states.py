"""States out of results folders, to the bit; and runs that start from them."""

# pyright: reportArgumentType=false

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import haste
import jax
import numpy as np
import pytest

import gandyn
from gandyn.gan.state import REMEMBERED, State
from gandyn.results import manifest, store
from gandyn.sweeps import engines, ensemble, interrupts, training
from gandyn.sweeps.folders import groups_of, recorded


@pytest.fixture(scope="module", autouse=True)
def in_haste():
    with haste.everywhere():
        yield


# Everything that a run can remember: moments, past gradients, slow weights, a penalty's averages, statistics, averages.
CONFIG = gandyn.Config(
    rule="past_extragradient", lookahead=3, penalties=("lecam",), gen_average="uniform", gen_norm="batch", gen_width=4,
    disc_width=4, gen_depth=1, disc_depth=1, batch_size=8,
)  # fmt: skip
RING = gandyn.targets.ring(num_modes=4, std=0.1)
FAST = gandyn.MeasureConfig(measurements=("value",), num_nodes=64, num_density_nodes=64, keep_surface=3)
HPARAMS = [gandyn.HParams(lr_gen=rate) for rate in (0.01, 0.02)]


def run(config: gandyn.Config = CONFIG, **given: Any):
    defaults: dict[str, Any] = {
        "seeds": [3, 4],
        "num_steps": 10,
        "measure_every": 4,
        "measure_config": FAST,
        "progress": False,
        "hparams": HPARAMS,
    }
    return gandyn.run(RING, config, **(defaults | given))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Four runs in one group, measured at steps 0, 4, 8, 10."""
    folder = tmp_path_factory.mktemp("states") / "whole"
    run(out=folder)
    return folder


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def bits(state: State) -> list[bytes]:
    state = state.replace(key=jax.random.key_data(state.key))
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def differ(one: State, other: State) -> list[str]:
    """Where two states have other bits."""
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(one)[0]]
    return [name for name, a, b in zip(names, bits(one), bits(other), strict=True) if a != b]


# ---- out of a folder


def trained(folder: Path, run: int, step: int) -> State:
    """The state of a run that trains alone from its seed, with no folder's help."""
    setting, seed = groups_of(folder, recorded(folder, False)[1])[0].runs[run]
    plan, _ = training.plans(FAST, setting.target)
    many = ensemble.make_ensemble(setting.config, plan, 1, capacity=1)
    runs = many.place(ensemble.stack_runs([setting.game], [seed]))
    return many.one(many.advance(many.init(runs), runs, step), 0)


@pytest.mark.parametrize("step", [None, 10, 8, 5, 0])
@pytest.mark.quick(1)
def test_a_state_is_that_of_the_run_to_the_bit(whole, step):
    """Kept at the end; at other steps, measured or not, trained again."""
    found = gandyn.load_states(whole, 2, step)
    at = 10 if step is None else step
    assert int(found.state.step) == at
    assert found.origin == f"whole, run 2 (non_saturating + lecam, lr_gen=0.02, seed 3), step {at}"
    assert found.game.hparams.lr_gen == 0.02
    assert differ(found.state, trained(whole, 2, at)) == []


def test_runs_and_steps_have_states_of_their_own(whole):
    found = [gandyn.load_states(whole, run, step).state for run in (0, 1, 2) for step in (8, 10)]
    assert len({bits(state)[0] for state in found}) == len(found)


def test_without_checkpoints_it_is_trained_from_the_beginning(copy, whole):
    shutil.rmtree(copy / store.CHECKPOINTS)
    assert differ(gandyn.load_states(copy, 1).state, gandyn.load_states(whole, 1).state) == []


def test_of_a_sweep_that_was_stopped(whole, tmp_path, monkeypatch):
    """From the checkpoint that there is, and on from it."""
    out = stopped(tmp_path, monkeypatch)
    assert manifest.read(out)["status"] == "interrupted"
    for step in (2, 9):
        assert differ(gandyn.load_states(out, 3, step).state, gandyn.load_states(whole, 3, step).state) == []


def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **given: Any) -> Path:
    """A folder of what stops once its second measurement is recorded."""
    write = engines.Writer.write

    def stopping(self, group, index, *what):
        write(self, group, index, *what)
        if index == 1:
            monkeypatch.setattr(interrupts.Stop, "check", lambda self: (_ for _ in ()).throw(interrupts.Stopped(2)))

    with monkeypatch.context() as patch:
        patch.setattr(engines.Writer, "write", stopping)
        with contextlib.suppress(interrupts.Stopped):
            run(out=tmp_path / "stopped", **given)
    monkeypatch.undo()
    return tmp_path / "stopped"


def test_its_players_are_those_that_were_measured(whole):
    """D on the grid of the results is D as it is asked here, and G's shape is the data's."""
    results = gandyn.open_results(whole)
    players = gandyn.load_states(whole, 1)
    axis = results.extent.values[1] * results.surface_x.values
    grid = results.target_center.values[1] + np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    np.testing.assert_allclose(
        players.discriminate(grid).reshape(3, 3), results.surface.values[1, -1], rtol=1e-4, atol=1e-5
    )
    latents = np.random.default_rng(0).normal(size=(7, 2))
    assert players.generate(latents).shape == (7, 2)
    assert players.discriminate(players.generate(latents)).shape == (7,)
    np.testing.assert_allclose(players.generate(latents)[2:4], players.generate(latents[2:4]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "argument", "message"),
    [
        ("generate", np.zeros((5, 3)), r"latents: got shape \(5, 3\); allowed: \(N, 2\)"),
        ("generate", np.zeros(2), r"latents: got shape \(2,\); allowed: \(N, 2\)"),
        ("discriminate", np.zeros((5, 3)), r"points: got shape \(5, 3\); allowed: \(N, 2\)"),
        ("discriminate", np.zeros((1, 5, 2)), r"points: got shape \(1, 5, 2\); allowed: \(N, 2\)"),
    ],
)
@pytest.mark.quick(2)
def test_wrong_shapes(method, argument, message, whole):
    with pytest.raises(ValueError, match=message):
        getattr(gandyn.load_states(whole, 0), method)(argument)
    with pytest.raises(ValueError, match=r"labels: got some; allowed: none, for it is unconditional"):
        getattr(gandyn.load_states(whole, 0), method)(np.zeros((5, 2)), np.zeros(5, int))


@pytest.mark.parametrize(
    ("run", "step", "message"),
    [
        (4, None, "run: got 4; allowed: 0 to 3"),
        (-1, None, "run: got -1; allowed: 0 to 3"),
        (0, 11, "step: got 11; allowed: at most 10"),
        (0, -1, "step: got -1; allowed: a whole number of at least 0"),
        (0, 2.5, "step: got 2.5; allowed: a whole number"),
    ],
)
def test_what_there_is_not(run, step, message, whole):
    with pytest.raises(ValueError, match=message):
        gandyn.load_states(whole, run, step)


@pytest.mark.slow
def test_packs_and_classes(tmp_path):
    small: dict[str, Any] = {"gen_width": 4, "disc_width": 4, "batch_size": 8}
    run(gandyn.Config(packing=2, **small), hparams=gandyn.HParams(), out=tmp_path / "packs")
    packs = gandyn.load_states(tmp_path / "packs", 0)
    assert packs.discriminate(np.zeros((6, 2))).shape == (3,)
    with pytest.raises(ValueError, match=r"points: got 5; allowed: whole packs of 2"):
        packs.discriminate(np.zeros((5, 2)))
    run(gandyn.Config(num_classes=2, **small), hparams=gandyn.HParams(), out=tmp_path / "classes")
    classes = gandyn.load_states(tmp_path / "classes", 0)
    made = classes.generate(np.zeros((2, 2)), [0, 1])
    assert not np.allclose(made[0], made[1])
    assert classes.discriminate(np.zeros((3, 2)), [0, 1, 1]).shape == (3,)
    for labels, message in (
        (None, r"labels: got none; allowed: \(2,\), from 0 to 1"),
        ([0], r"labels: got shape \(1,\); allowed: \(2\)"),
        ([0, 2], r"labels: got .* allowed: at least 0, at most 1"),
    ):
        with pytest.raises(ValueError, match=message):
            classes.generate(np.zeros((2, 2)), labels)


# ---- to start from


@pytest.fixture(scope="module")
def started(whole, tmp_path_factory) -> Path:
    """Runs that start each from another run's end, in other order."""
    folder = tmp_path_factory.mktemp("started") / "started"
    run(out=folder, init_from=[gandyn.load_states(whole, run) for run in (3, 2, 1, 0)])
    return folder


def assert_players_of(state: State, origin: State) -> None:
    """Their parameters and statistics to the bit, and nothing else of the origin's."""
    assert differ(state.replace(params=origin.params), state) == []
    variables = jax.tree.leaves(state.variables), jax.tree.leaves(origin.variables)
    assert all(np.array_equal(a, b) for a, b in zip(*variables, strict=True))
    assert "batch_stats" in state.variables.gen
    # What remembers begins anew: at these parameters, not at those that the seed would have drawn.
    assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (state.average, origin.variables.gen))))
    assert all(
        np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (state.memory.slow, (origin.params,))), strict=True)
    )
    zero = [state.memory.inner, state.opt_state, state.stats.disc[REMEMBERED]]
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(zero))
    assert int(state.step) == 0


@pytest.mark.slow
def test_each_run_starts_from_what_it_was_given(whole, started):
    results, origins = gandyn.open_results(started), gandyn.open_results(whole)
    for run, origin in enumerate((3, 2, 1, 0)):
        given = gandyn.load_states(whole, origin)
        assert_players_of(gandyn.load_states(started, run, 0).state, given.state)
        assert results.init_from.values[run] == given.origin
        # The first measurement is of the players that were measured last: D's surface has no noise, V its own.
        np.testing.assert_array_equal(results.surface.values[run, 0], origins.surface.values[origin, -1])
        first, last = results.isel(run=run, step=0), origins.isel(run=origin, step=-1)
        assert abs(first.value - last.value) < 6 * np.hypot(first.value_se, last.value_se)
    assert np.isnan(results.loss_disc.values[:, 0]).all()
    assert (results.loss_disc.values[:, -1] != origins.loss_disc.values[:, -1]).all()


def test_one_for_all(whole, started):
    """In memory; data and latents are those of each run's seed, so the runs part."""
    given = gandyn.load_states(whole, 1, 4)
    results = run(init_from=given)
    assert json.loads(results.attrs["constant_fields"])["init_from"] == given.origin
    origin = gandyn.open_results(whole).surface.sel(step=4).values[1]
    for surface in results.surface.values[:, 0]:
        np.testing.assert_array_equal(surface, origin)
    assert len({surface.tobytes() for surface in results.surface.values[:, -1]}) == 4


def test_what_started_so_replays_to_the_bit(started):
    for run in (0, 3):
        again = gandyn.replay(started, run, progress=False)
        assert (again.compared, again.differences) == (4, {})
    origin = gandyn.open_results(started).init_from.values[3]
    assert json.loads(again.results.attrs["constant_fields"])["init_from"] == origin
    assert differ(gandyn.load_states(started, 3, 6).state, without_checkpoints(started)) == []


def without_checkpoints(started: Path) -> State:
    """Of run 3 at step 6, through a copy that keeps only what its runs start from."""
    copy = Path(shutil.copytree(started, started.parent / "bare"))
    shutil.rmtree(copy / store.CHECKPOINTS)
    return gandyn.load_states(copy, 3, 6).state


@pytest.mark.slow
def test_what_started_so_and_was_stopped_goes_on_to_the_bit(whole, started, tmp_path, monkeypatch):
    given = [gandyn.load_states(whole, run) for run in (3, 2, 1, 0)]
    out = stopped(tmp_path, monkeypatch, init_from=given)
    assert manifest.read(out)["status"] == "interrupted"
    resumed, want = gandyn.resume(out, progress=False), gandyn.open_results(started)
    for name in ("value", "loss_disc", "loss_gen", "surface"):
        np.testing.assert_array_equal(resumed[name].values, want[name].values, err_msg=name)
    assert resumed.init_from.values.tolist() == want.init_from.values.tolist()


def test_it_is_extended_by_steps_alone(started, tmp_path):
    copy = Path(shutil.copytree(started, tmp_path / "copy"))
    with pytest.raises(ValueError, match=r"seeds: .*copy started from given states; allowed: num_steps, or another"):
        gandyn.extend(copy, seeds=[9], progress=False)
    longer = gandyn.extend(copy, num_steps=14, progress=False)
    assert longer.step.values.tolist() == [0, 4, 8, 10, 12, 14]
    want = gandyn.open_results(started)
    np.testing.assert_array_equal(longer.value.sel(step=want.step).values, want.value.values)
    assert gandyn.replay(copy, 0, progress=False).differences == {}


def test_what_it_started_from_is_needed(started, tmp_path):
    copy = Path(shutil.copytree(started, tmp_path / "copy"))
    (file,) = copy.glob("start-*.npz")
    file.write_bytes(file.read_bytes()[:100])
    for damage in (lambda: None, file.unlink):
        damage()
        with pytest.raises(ValueError, match=r"start-000.npz: what its runs start from cannot be read"):
            gandyn.replay(copy, 0, progress=False)
        with pytest.raises(ValueError, match=r"start-000.npz"):
            gandyn.load_states(copy, 0, 2)


def test_a_new_sweep_in_its_place_starts_afresh(started, whole, tmp_path):
    copy = Path(shutil.copytree(started, tmp_path / "copy"))
    again = run(out=copy, overwrite=True)
    assert "init_from" not in again.coords
    assert not list(copy.glob("start-*"))
    np.testing.assert_array_equal(again.value.values, gandyn.open_results(whole).value.values)


@pytest.mark.slow
def test_another_game_may_start_from_the_same_players(whole):
    """Loss, penalties, rule, optimizers, averages and rates may be others: the networks are what must fit."""
    other = dataclasses.replace(
        CONFIG, loss="hinge", rule="alternating", lookahead=0, penalties=(), gen_average="none", disc_optimizer="sgd"
    )
    given = gandyn.load_states(whole, 0)
    results = run(other, hparams=gandyn.HParams(), seeds=[7], init_from=given)
    np.testing.assert_array_equal(results.surface.values[0, 0], gandyn.open_results(whole).surface.values[0, -1])
    assert np.isfinite(results.value.values).all()


WIDER, PLAIN = dataclasses.replace(CONFIG, gen_width=5), dataclasses.replace(CONFIG, gen_norm="none")


@pytest.mark.parametrize(
    ("config", "choose", "message"),
    [
        (WIDER, lambda given: given, r"run 0 .*\.gen\['batch_stats'\].* has shape \(4,\); allowed in .*: \(5,\)"),
        (PLAIN, lambda given: given, r"run 0 .*: its networks have more than those of .*; allowed: alike"),
        (CONFIG, lambda given: [given] * 3, r"init_from: got 3; allowed: what load_states gives, one or one a run, 4"),
        (CONFIG, lambda given: [given.state] * 4, r"init_from: got .*; allowed: what load_states gives"),
        (CONFIG, lambda given: given.state, r"init_from: got .*; allowed: what load_states gives"),
        (CONFIG, lambda given: 3, r"init_from: got 3; allowed: what load_states gives"),
    ],
)
@pytest.mark.quick(2)
def test_what_does_not_fit_is_refused_before_anything_is_written(config, choose, message, whole, tmp_path, monkeypatch):
    given = choose(gandyn.load_states(whole, 0))
    monkeypatch.setattr(engines, "train_groups", lambda *_: pytest.fail("training started"))
    with pytest.raises(ValueError, match=message):
        run(config, out=tmp_path / "none", init_from=given)
    assert not (tmp_path / "none").exists()
