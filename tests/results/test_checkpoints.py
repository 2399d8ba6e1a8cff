"""Checkpoints: what was saved comes back to the bit, or the one before it does, or nothing; never anything else."""

import os
import shutil
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from gandyn.results import checkpoints, files
from gandyn.results.checkpoints import Checkpoint, Checkpoints
from gandyn.sweeps import training


def tree(step):
    rng = np.random.default_rng(step)
    return {"0000": rng.normal(size=(3, 4)).astype(np.float32), "0001": rng.integers(0, 9, (3, 2)).astype(np.uint32)}


LIKE = {name: np.empty_like(leaf) for name, leaf in tree(0).items()}


def saved(folder, *steps, identity="me"):
    with checkpoints.opened(folder, identity) as kept:
        for step in steps:
            kept.save(Checkpoint(step, step // 10, tree(step)))
    return folder


def latest(folder, most_recorded=99, identity="me", **more):
    with checkpoints.opened(folder, identity) as kept:
        return kept.latest(LIKE, most_recorded, **more)


def assert_is(found, step):
    assert found is not None
    assert (found.step, found.recorded) == (step, step // 10)
    for name, leaf in tree(step).items():
        assert found.tree[name].dtype == leaf.dtype
        assert np.asarray(found.tree[name]).tobytes() == leaf.tobytes()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder with checkpoints of steps 20 and 30; copies of it are damaged."""
    return saved(tmp_path_factory.mktemp("checkpoints") / "two", 10, 20, 30)


def test_the_newest_two_are_kept_and_come_back_to_the_bit(two):
    assert sorted(entry.name for entry in two.iterdir()) == ["20.npz", "30.npz"]
    assert_is(latest(two), 30)
    assert_is(latest(two, at_most=29), 20)
    assert latest(two, at_most=19) is None
    assert latest(two.parent / "nowhere") is None
    assert not (two.parent / "nowhere").exists()


def test_one_that_is_ahead_of_the_results_is_not_used(two):
    with pytest.warns(RuntimeWarning, match=r"30.npz cannot be used .*counts on 3 measurements, of which 2 are there"):
        assert_is(latest(two, most_recorded=2), 20)


def test_one_of_another_configuration_is_not_used(two, tmp_path):
    with pytest.warns(RuntimeWarning, match=r"npz cannot be used .it is of another configuration") as caught:
        assert latest(two, identity="you") is None
    assert len(caught) == 2
    # That of other shapes is as little taken for one that is damaged.
    other = shutil.copytree(two, tmp_path / "other")
    with checkpoints.opened(other, "me") as kept, pytest.warns(RuntimeWarning, match=r"which it is not in these runs"):
        assert kept.latest({**LIKE, "0000": np.empty((7, 7), np.float32)}, 99) is None
    with checkpoints.opened(other, "me") as kept, pytest.warns(RuntimeWarning, match="holds other arrays"):
        assert kept.latest({"0000": LIKE["0000"]}, 99) is None


def test_a_checkpoint_under_another_step_is_not_used(two, tmp_path):
    other = shutil.copytree(two, tmp_path / "other")
    (other / "30.npz").rename(other / "31.npz")
    with pytest.warns(RuntimeWarning, match="31.npz cannot be used"):
        assert_is(latest(other), 20)


def test_where_a_newer_one_is_forgotten_the_next_one_takes_its_place(two, tmp_path):
    other = shutil.copytree(two, tmp_path / "other")
    with checkpoints.opened(other, "me") as kept:
        kept.forget(after=20)
        assert kept.steps() == [20]
        kept.save(Checkpoint(25, 2, tree(25)))
        kept.save(Checkpoint(30, 3, tree(30)))
        kept.keep_last()
        assert kept.steps() == [30]
    assert_is(latest(other), 30)


def test_one_that_counts_on_more_takes_the_place_of_that_of_the_same_step(two, tmp_path):
    other = shutil.copytree(two, tmp_path / "other")
    with checkpoints.opened(other, "me") as kept:
        kept.save(Checkpoint(30, 4, tree(40)))
    found = latest(other)
    assert found is not None
    assert (found.step, found.recorded) == (30, 4)
    np.testing.assert_array_equal(found.tree["0000"], tree(40)["0000"])


def flip(file: Path):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "deleted": Path.unlink,
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "emptied": lambda file: os.truncate(file, 0),
    "flipped": flip,
}


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_is_found_or_harms_nothing(two, tmp_path, how):
    copy = shutil.copytree(two, tmp_path / "copy")
    DAMAGES[how](copy / "30.npz")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert_is(latest(copy), 20)
    told = [str(one.message) for one in caught]
    assert [one for one in told if f"the checkpoint {copy / '30.npz'} cannot be used" in one] == told
    assert len(told) == (how != "deleted")


def test_no_bit_of_a_checkpoint_can_change_what_comes_back(two, tmp_path):
    copy, whole = shutil.copytree(two, tmp_path / "copy"), (two / "30.npz").read_bytes()
    found_out = 0
    for place in range(0, len(whole), 7):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        (copy / "30.npz").write_bytes(content)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert_is(latest(copy), 20 if caught else 30)
        found_out += bool(caught)
    assert found_out > 20


def test_damage_to_both_leaves_nothing(two, tmp_path):
    other = shutil.copytree(two, tmp_path / "other")
    for step in ("20", "30"):
        os.truncate(other / f"{step}.npz", 3)
    with pytest.warns(RuntimeWarning) as caught:
        assert latest(other) is None
    assert [step in str(one.message) for step, one in zip(("30", "20"), caught, strict=True)] == [True, True]


def test_a_reader_disturbs_no_writer(two, tmp_path):
    """What a writer has under way looks like what a killed process has left: only a writer clears it away."""
    other = shutil.copytree(two, tmp_path / "other")
    under_way = other / "40.npz.partial"
    under_way.write_bytes(b"half")
    assert_is(latest(other), 30)
    assert under_way.exists()
    saved(other, 50)
    assert not under_way.exists()
    assert_is(latest(other), 50)


@pytest.mark.parametrize("name", ["r[1]", "r*", "C:\\runs\\x", "gs:", "ä ö", os.fsdecode(b"\xff\xfe"), "~", "x" * 255])
def test_they_come_back_from_a_folder_of_any_name(tmp_path, name):
    assert_is(latest(saved(tmp_path / name, 10, 20, 30)), 30)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert sorted(entry.name for entry in (tmp_path / name).iterdir()) == ["20.npz", "30.npz"]


def test_one_that_claims_to_be_huge_is_refused_without_memory(two, tmp_path):
    other = shutil.copytree(two, tmp_path / "other")
    with np.load(two / "30.npz") as kept:
        content = {name: kept[name] for name in kept.files}
    np.savez_compressed(other / "30.npz", **content)
    with pytest.warns(RuntimeWarning, match="is compressed"):
        assert_is(latest(other), 20)
    whole = (two / "30.npz").read_bytes()
    (other / "30.npz").write_bytes(whole.replace(b"'shape': (3, 4), }        ", b"'shape': (3, 4000000000)}"))
    with pytest.warns(RuntimeWarning, match="cannot be used"):
        assert_is(latest(other), 20)


def test_a_link_out_of_the_folder_is_refused_and_nothing_behind_it_removed(two, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "2024.npz").write_text("do not lose")
    (tmp_path / "as-folder").symlink_to(mine)
    shutil.copytree(two, tmp_path / "as-step")
    (tmp_path / "as-step" / "2024.npz").symlink_to(mine / "2024.npz")
    for folder in (tmp_path / "as-folder", tmp_path / "as-step"):
        kept = Checkpoints(folder, "me")
        with pytest.raises(ValueError, match="is a link"):
            kept.latest(LIKE, 99)
        with pytest.raises(ValueError, match="is a link"):
            kept.forget()
        with pytest.raises(ValueError, match="is a link"):
            kept.save(Checkpoint(1, 0, tree(1)))
    assert (mine / "2024.npz").read_text() == "do not lose"


def test_a_clock_that_goes_back_changes_nothing(two, tmp_path, monkeypatch):
    other = shutil.copytree(two, tmp_path / "other")
    os.utime(other / "30.npz", (1, 1))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 10**8)
    assert_is(latest(other), 30)
    saved(other, 40)
    assert sorted(entry.name for entry in other.iterdir()) == ["30.npz", "40.npz"]
    assert_is(latest(other), 40)


def test_one_that_cannot_be_read_now_is_not_taken_for_one_that_is_damaged(two, monkeypatch):
    def refused(*_):
        raise MemoryError

    monkeypatch.setattr(Checkpoints, "_read", refused)
    with pytest.raises(MemoryError):
        latest(two)


# ---- where training goes back to


class Results:
    """Stands for a `Writer` and a `training.Training` of a group with checkpoints at 20 and 30."""

    def __init__(self, recorded):
        self._recorded = np.array(recorded, bool)
        self.at = None

    def mend(self, _):
        return self._recorded

    def like(self):
        return LIKE

    def restore(self, checkpoint):
        self.at = checkpoint.step


@pytest.mark.parametrize(
    ("recorded", "at", "left"),
    [
        ([1, 1, 1, 1, 1], 30, ["20.npz", "30.npz"]),
        ([1, 1, 1, 0, 0], 30, ["20.npz", "30.npz"]),
        ([1, 1, 0, 0, 0], 20, ["20.npz"]),
        ([1, 1, 0, 1, 1], 20, ["20.npz"]),  # what lies behind a gap is measured again
        ([1, 0, 0, 0, 0], None, []),
        ([0, 1, 1, 1, 1], None, []),
    ],
)
@pytest.mark.filterwarnings("ignore:the checkpoint .* cannot be used .it counts on:RuntimeWarning")
def test_training_goes_back_to_the_last_checkpoint_that_the_results_reach(two, tmp_path, recorded, at, left):
    other, results = shutil.copytree(two, tmp_path / "other"), Results(recorded)
    with checkpoints.opened(other, "me") as kept:
        training._go_back(results, 0, results, kept)  # pyright: ignore[reportArgumentType]
    assert results.at == at
    assert sorted(entry.name for entry in other.iterdir()) == left


@pytest.mark.parametrize("code", [28, 30, 5])
@pytest.mark.parametrize("told", ["save", "wait", "keep_last", "forget", "close"])
def test_what_the_disk_refuses_is_raised_by_whatever_comes_next(tmp_path, monkeypatch, code, told):
    def refused(_):
        raise OSError(code, os.strerror(code))

    kept = Checkpoints(tmp_path / "r", "me")
    kept.save(Checkpoint(1, 0, tree(1)))
    kept.wait()
    with monkeypatch.context() as patch:
        patch.setattr(files, "sync_file", refused)
        kept.save(Checkpoint(2, 0, tree(2)))
        with pytest.raises(OSError, match=os.strerror(code)) as caught:
            kept.save(Checkpoint(3, 0, tree(3))) if told == "save" else getattr(kept, told)()
    assert caught.value.errno == code
    # With room again, it goes on.
    kept.save(Checkpoint(2, 0, tree(2)))
    kept.close()
    assert sorted(entry.name for entry in (tmp_path / "r").iterdir()) == ["1.npz", "2.npz"]
