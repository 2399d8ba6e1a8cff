"""One writer a folder: a second one is refused and told of the first, readers are not, the dead hold nothing."""

import os
import signal
import subprocess
import sys

import pytest

from gandyn.results import locks

HOLD = """
import sys
from pathlib import Path
from gandyn.results import locks

with locks.writer(Path(sys.argv[1]), "gandyn sweep \\x1b[31mfile.toml"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "r")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_writer_is_refused_and_told_of_the_first(tmp_path, holder):
    assert locks.held(tmp_path / "r")
    before = (tmp_path / "r" / locks.NAME).read_bytes()
    with pytest.raises(locks.Locked) as caught, locks.writer(tmp_path / "r", "another"):
        pytest.fail("two writers")
    message = str(caught.value)
    assert f"process {holder.pid} on {os.uname().nodename} (gandyn sweep ?[31mfile.toml)" in message
    assert (tmp_path / "r" / locks.NAME).read_bytes() == before
    assert locks.held(tmp_path / "r")


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not locks.held(tmp_path / "r")
    with locks.writer(tmp_path / "r", "next"):
        assert locks.held(tmp_path / "r")
    assert not locks.held(tmp_path / "r")


def test_a_folder_that_was_made_for_nothing_is_removed(tmp_path):
    with pytest.raises(ZeroDivisionError), locks.writer(tmp_path / "new"):
        raise ZeroDivisionError
    assert not (tmp_path / "new").exists()
    with locks.writer(tmp_path / "new"):
        (tmp_path / "new" / "manifest.json").write_text("{}")
    assert sorted(entry.name for entry in (tmp_path / "new").iterdir()) == [locks.NAME, "manifest.json"]


def test_a_lock_that_is_a_link_is_refused_and_what_it_points_to_is_kept(tmp_path):
    (tmp_path / "mine").write_text("do not lose")
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / locks.NAME).symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match=locks.NAME), locks.writer(tmp_path / "r"):
        pytest.fail("a link was written to")
    assert not locks.held(tmp_path / "r")
    assert (tmp_path / "mine").read_text() == "do not lose"


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / locks.NAME)
    assert not locks.held(tmp_path)


def test_without_such_locks_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    with locks.writer(tmp_path / "r"), locks.writer(tmp_path / "r"):
        assert not locks.held(tmp_path / "r")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x", "host": 1, "command": ""}'])
@pytest.mark.quick(2)
def test_a_holder_that_does_not_say_who_it_is_holds_all_the_same(tmp_path, content):
    with locks.writer(tmp_path):
        (tmp_path / locks.NAME).write_text(content)
        with pytest.raises(locks.Locked, match="written by another process"), locks.writer(tmp_path):
            pytest.fail("two writers")


def test_a_full_disk_refuses_no_lock(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(locks.os, "pwrite", full)
    with locks.writer(tmp_path / "r"):
        assert locks.held(tmp_path / "r")
