"""Whatever befalls a sweep - kills, signals, full disks, damaged files - it ends with the bits of one that ran through.

The sweep trains two configurations, in two groups, for three seeds; it is measured in depth, with the path since the
last time, and keeps samples; its update rule, its penalty and the average of G remember what was before. Then it is
extended by a seed and by steps. The commands run in processes of their own, with programs compiled in haste and kept
between them.
"""

import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import forged
import haste
import numpy as np
import psutil
import pytest

import gandyn
from gandyn import report
from gandyn.results import arrays, locks, manifest, status, store
from gandyn.results.manifest import Progress
from gandyn.results.reading import open_recorded
from gandyn.results.writer import Writer
from gandyn.sweeps import engines, sweep_file, training

FILE = """
num_steps = 40
measure_every = 10
deep_every = 20
seeds = "0:3"
num_modes = 4
std = 0.1
gen_width = 8
disc_width = 8
batch_size = 16
track_path = true
rule = "past_extragradient"
lookahead = 3
penalties = ["lecam"]
gen_average = "uniform"
deep = ["transport", "path"]
num_nodes = 16
num_density_nodes = 64
num_deep_nodes = 16
num_deep_density_nodes = 64
num_transport = 8
keep_samples = 5

[product]
loss = ["non_saturating", "hinge"]
"""
pytestmark = pytest.mark.slow  # the parts are tested by themselves in test_checkpoints.py, test_locks.py, test_store.py

STEPS, MORE = 90, ["--seeds", "3", "--steps", "90"]

# What a person who finds a sweep stopped, at whatever moment, would do to end it.
FINISH = f"""
import sys
from pathlib import Path
import gandyn
from gandyn.results import manifest
from gandyn.sweeps import sweep_file
file, out = sys.argv[1], Path(sys.argv[2])
options = dict(checkpoint_every=0, progress=False)
print("ready", flush=True)
try:
    manifest.read(out)
    gandyn.resume(out, **options)
except (FileNotFoundError, ValueError):
    gandyn.run_sweep(sweep_file.make(sweep_file.read(file)), out, overwrite=out.exists(), **options)
if not manifest.read(out)["ends"]:
    gandyn.extend(out, seeds=[3], num_steps={STEPS}, **options)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the sweep's file and the programs that are shared."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "sweep.toml").write_text(FILE)
    return folder


def environment(home):
    return os.environ | {
        "JAX_NUM_CPU_DEVICES": "2",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_ENABLE_COMPILATION_CACHE": "1",
        "JAX_COMPILATION_CACHE_DIR": str(home / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",  # XLA says a hundred thousand characters of each program that was kept
    }


def started(home, *arguments, python=("-m", "gandyn"), **options):
    command = [sys.executable, *python, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment(home), **(pipes | options))


def run(home, *arguments, **options):
    """(exit code, standard output, standard error) of `gandyn ARGUMENTS`."""
    with started(home, *arguments, **options) as process:
        output, errors = process.communicate(timeout=3_000)
    return process.returncode, output, errors


def begin(home, out):
    return "sweep", home / "sweep.toml", "--out", out, "--checkpoint-every", 0


def go_on(out):
    return "resume", out, "--checkpoint-every", 0


def content(out):
    """Everything that a finished sweep comes to: the bytes of each array, and of each state that is kept."""
    found = {}
    writer = store.reopen(out)
    for index, group in writer.groups.items():
        for name, array in group.arrays.items():
            found[index, name] = np.asarray(array[...]).tobytes()
        assert writer.recorded(index).all()
        assert writer.progress(index).status == "complete"
        folder = engines.checkpoint_folder(writer, index)
        (file,) = folder.iterdir()
        assert file.name == f"{group.spec.steps[-1]}.npz"
        with np.load(file, allow_pickle=False) as state:
            names = [name for name in state.files if name != "about"]  # which has the folder's id in it
            found |= {(index, "state", name): state[name].tobytes() for name in names}
    return found


def assert_same(out, whole):
    again = content(out)
    assert again.keys() == whole.keys()
    assert [name for name in whole if again[name] != whole[name]] == []
    assert manifest.read(out)["status"] == "complete"


# ---- kills


@pytest.fixture(scope="module")
def extended(home):
    """(content, seconds) of the sweep and its extension, undisturbed; the seconds without compiling."""
    for name in ("first", "second"):
        with started(home, home / "sweep.toml", home / name, python=("-c", FINISH)) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            start = time.monotonic()
            _, errors = process.communicate(timeout=3_000)
            assert process.returncode == 0, errors
            seconds = time.monotonic() - start
    whole = content(home / "first")
    assert_same(home / "second", whole)
    return whole, seconds


KILLS = int(os.environ.get("GANDYN_KILLS", "20"))
NAMES = ["r[1]", "two words", "Ümläut ß", "C:\\runs\\x", "[a-z]* ä\\ö (?)"]


def test_kills_at_random_change_no_bit_whatever_the_folder_is_called(home, extended, tmp_path):
    whole, seconds = extended
    moments = random.Random(0)
    kills, finished, out = 0, 0, tmp_path / NAMES[0]
    while kills < KILLS:
        with started(home, home / "sweep.toml", out, python=("-c", FINISH)) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            start = time.monotonic()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0, seconds))
            process.kill()
            _, errors = process.communicate()
        if process.returncode == -signal.SIGKILL:
            kills += 1
        else:
            assert process.returncode == 0, errors
            assert_same(out, whole)
            # Most of it was done before: the next ones are to be killed sooner.
            seconds = min(seconds, max(time.monotonic() - start, 3.0))
            finished += 1
            out = tmp_path / str(finished) / NAMES[finished % len(NAMES)]
    code, _, errors = run(home, home / "sweep.toml", out, python=("-c", FINISH))
    assert code == 0, errors
    assert_same(out, whole)
    print(f"{kills} kills in {finished + 1} sweeps")


# ---- signals


LONG = """
num_steps = 2_000_000
measure_every = 1_000_000
seeds = "0:3"
num_modes = 4
gen_width = 8
disc_width = 8
batch_size = 16
num_nodes = 16
num_density_nodes = 64
"""


@pytest.fixture(scope="module")
def whole(home):
    """The content of the sweep, undisturbed."""
    code, _, errors = run(home, *begin(home, home / "whole"))
    assert code == 0, errors
    return content(home / "whole")


def left_after(process, signum):
    """Seconds of one processor until a process has left after a signal: what else the machine does counts less."""
    used = lambda times: times.user + times.system  # noqa: E731
    ended = lambda: sum(os.times()[2:4])  # noqa: E731  of the processes that were waited for
    before = ended()
    try:
        so_far = used(psutil.Process(process.pid).cpu_times())
    except psutil.Error:
        so_far = 0.0
    process.send_signal(signum)
    process.wait(600)
    return (ended() - before - so_far) / 2


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_any_moment_is_obeyed_within_ten_seconds(home, whole, tmp_path, signum):
    moments = random.Random(signum)
    out, left, seconds = tmp_path / "r", [], 0.0
    while len(left) < 6:
        command = go_on(out) if (out / "manifest.json").exists() else begin(home, out)
        with started(home, *command) as process:
            start = time.monotonic()
            # Not before the program has been read in, when Python itself still decides what a signal does.
            while not locks.held(out) and process.poll() is None:
                time.sleep(0.01)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0, seconds or 4))
            if process.poll() is not None:
                seconds = time.monotonic() - start
                assert process.returncode == 0
                shutil.rmtree(out)
                continue
            left.append(left_after(process, signum))
            output, errors = process.communicate()
        if process.returncode == 0:  # it was done, and wrote its summary
            assert "results:" in output
            continue
        assert process.returncode in (128 + signum, -signum), errors  # the latter before training begins, or after
        with contextlib.suppress(ValueError):  # before it is made
            open_recorded(out)
    code, _, errors = run(home, *(go_on(out) if (out / "manifest.json").exists() else begin(home, out)))
    assert code == 0, errors
    assert_same(out, whole)
    print(f"left after {max(left):.2f} s at most")
    assert max(left) < 10


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_in_the_middle_of_a_long_chunk_a_checkpoint_is_taken(home, tmp_path, signum):
    (tmp_path / "long.toml").write_text(LONG)
    out = tmp_path / "r"
    with started(home, "sweep", tmp_path / "long.toml", "--out", out) as process:
        assert process.stderr is not None
        while "run-steps/s" not in process.stderr.readline():  # nothing is said before the first steps are made
            assert process.poll() is None
        time.sleep(1)
        seconds = left_after(process, signum)
        _, errors = process.communicate()
    assert process.returncode == 128 + signum, errors
    assert "gandyn resume goes on" in errors
    print(f"left after {seconds:.2f} s")
    assert seconds < 10
    progress = store.reopen(out).progress(0)
    assert progress.status == "interrupted"
    assert 0 < progress.step < 1_000_000
    (kept,) = (out / "checkpoints" / "group-000").iterdir()
    assert kept.name == f"{progress.step}.npz"


COMPILING = """
import sys
import jax
from gandyn import cli
from gandyn.sweeps import ensemble
def advance(*_):
    print("busy", flush=True)
    jax.block_until_ready(slow(jax.numpy.ones(())))  # as a compiler is: in one call, which returns to no handler
loop = lambda times, body: lambda _, x: jax.lax.fori_loop(0, times, body, x)
slow = jax.jit(lambda x: loop(10_000, loop(2**30, lambda _, y: y * 0.999))(0, x))
ensemble.Ensemble.advance = advance
cli.main(sys.argv[1:])
"""


def test_a_process_that_is_busy_in_compiled_code_is_ended(home, whole, tmp_path):
    out = tmp_path / "r"
    with started(home, *begin(home, out), python=("-c", COMPILING)) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "busy\n":
            assert process.poll() is None
        seconds = left_after(process, signal.SIGTERM)
        _, errors = process.communicate()
    assert process.returncode == 143
    assert "stopped while busy" in errors
    print(f"left after {seconds:.2f} s")
    assert seconds < 10
    code, _, errors = run(home, *go_on(out))
    assert code == 0, errors
    assert_same(out, whole)


TWICE = """
import os, signal, sys
import gandyn
from gandyn.results.writer import Writer
from gandyn.sweeps import sweep_file
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
write = Writer.write
def twice(self, *args):
    write(self, *args)
    if args[1] == 2:
        for _ in range(int(sys.argv[3])):
            os.kill(os.getpid(), signal.SIGINT)
        print("reached", flush=True)
Writer.write = twice
try:
    gandyn.run_sweep(sweep_file.make(sweep_file.read(sys.argv[1])), sys.argv[2], checkpoint_every=0, progress=False)
except KeyboardInterrupt as stop:
    print(type(stop).__name__)
assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
"""


@pytest.mark.parametrize(("times", "said"), [(1, ["reached", "Stopped"]), (2, ["KeyboardInterrupt"])])
def test_a_second_interrupt_is_immediate_and_the_handlers_of_a_script_come_back(home, whole, tmp_path, times, said):
    code, output, errors = run(home, home / "sweep.toml", tmp_path / "r", times, python=("-c", TWICE))
    assert (code, output.split()) == (0, said), errors
    assert manifest.read(tmp_path / "r")["status"] == "interrupted"
    code, _, errors = run(home, *go_on(tmp_path / "r"))
    assert code == 0, errors
    assert_same(tmp_path / "r", whole)


# ---- disks


@contextlib.contextmanager
def small_disk(path, size):
    """A file system of its own in memory."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def remount(path, options):
    subprocess.run(["mount", "-o", f"remount,{options}", str(path)], check=True)


def fill(path, spare):
    """Fills a disk up to so many bytes, in one file."""
    disk = os.statvfs(path)
    # What is written meanwhile may take the room first.
    with contextlib.suppress(OSError), (path / "filling").open("wb") as file:
        file.write(b"\0" * max(0, disk.f_bavail * disk.f_frsize - spare))


FULL = """
import sys
from pathlib import Path
sys.path += ["tests", "tests/sweeps"]
from gandyn import cli
from gandyn.results import checkpoints
from gandyn.results.writer import Writer
from test_faults import fill
stage, spare, disk = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
owner, name = {
    "zarr": (Writer, "write"),
    "checkpoint": (checkpoints.Checkpoints, "save"),
    "json": (Writer, "note"),
}[stage]
whole, calls = getattr(owner, name), []
def full(*args):
    calls.append(args)
    if len(calls) == 4:
        fill(disk, spare)
    return whole(*args)
setattr(owner, name, full)
if stage == "json":
    from gandyn.sweeps import training
    training.NOTE_SECONDS = 0
cli.main(sys.argv[4:])
"""


@pytest.mark.parametrize(("stage", "spare"), [("zarr", 0), ("checkpoint", 0), ("checkpoint", 20_000), ("json", 0)])
def test_a_full_disk_is_said_and_room_is_all_that_is_needed(home, whole, tmp_path, stage, spare):
    with small_disk(tmp_path / "disk", "30m") as disk:
        arguments = (stage, spare, disk, *begin(home, disk / "r"))
        code, _, errors = run(home, *arguments, python=("-c", FULL), cwd=Path(__file__).parents[2])
        print(errors)
        assert code == 1
        said = [line for line in errors.splitlines() if line.startswith("gandyn:")]
        assert said
        assert "No space left on device" in said[-1]
        assert "Traceback" not in errors
        assert manifest.read(disk / "r")["status"] == "interrupted"
        code, _, errors = run(home, *go_on(disk / "r"))  # still full
        assert code == 1, errors
        assert "No space left on device" in errors
        (disk / "filling").unlink()
        code, _, errors = run(home, *go_on(disk / "r"))
        assert code == 0, errors
        assert_same(disk / "r", whole)


def test_a_disk_that_cannot_be_written_to_is_said_and_nothing_is_half_made(home, whole, tmp_path):
    with small_disk(tmp_path / "disk", "30m") as disk:
        shutil.copytree(home / "whole", disk / "r")
        remount(disk, "ro")
        new = [begin(home, disk / "new"), begin(home, disk / "new" / "deeper")]
        for command in (*new, go_on(disk / "r"), ("extend", disk / "r", *MORE)):
            code, _, errors = run(home, *command)
            print(errors)
            assert code in (1, 2)
            assert "Traceback" not in errors
            assert "Read-only file system" in errors or "not writable" in errors
        assert [entry.name for entry in disk.iterdir()] == ["r"]
        assert run(home, "status", disk / "r")[0] == 0
        assert run(home, "show", disk / "r")[0] == 0
        assert_same(disk / "r", whole)


# ---- in this process: damage, and what else a resume may find


@pytest.fixture(scope="module")
def in_haste():
    with haste.everywhere():
        yield


def sweep():
    return sweep_file.make(sweep_file.flatten({**TINY}, "here"))


TINY = {
    "num_steps": 40, "measure_every": 10, "deep_every": 20, "seeds": "0:2", "num_modes": 4, "gen_width": 4,
    "disc_width": 4, "batch_size": 8, "rule": "past_extragradient", "lookahead": 3, "penalties": ["lecam"],
    "gen_average": "ema", "measurements": ["coverage"], "deep": ["path"], "num_nodes": 16, "keep_samples": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def cut(in_haste, tmp_path_factory):
    """(a sweep that was stopped at step 30, with two checkpoints; the content of the whole of it)."""
    folder = tmp_path_factory.mktemp("cut")
    gandyn.run_sweep(sweep(), folder / "whole", progress=False)
    write = Writer.write

    def stopping(self, group, index, *what):
        write(self, group, index, *what)
        if index == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Writer, "write", stopping)
        with pytest.raises(KeyboardInterrupt):
            gandyn.run_sweep(sweep(), folder / "cut", progress=False, checkpoint_every=0)
    assert len(list((folder / "cut" / "checkpoints" / "group-000").iterdir())) == 2
    return folder / "cut", content(folder / "whole"), folder / "whole"


def resumed(folder):
    """Goes on with a folder; what it was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gandyn.resume(folder, progress=False, checkpoint_every=0)
    return [str(one.message) for one in caught if one.category is RuntimeWarning]


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut_short(file):
    os.truncate(file, file.stat().st_size // 2)


# ---- every file of a finished folder under every fault


SMALL = TINY | {"num_steps": 20, "deep_every": 0, "deep": [], "rule": "simultaneous", "lookahead": 0}
FAULTS = {
    "deleted": lambda file, _: file.unlink(),
    "truncated": lambda file, _: cut_short(file),
    "one bit flipped": lambda file, _: flip(file),
    "another run's": lambda file, other: shutil.copy(other, file),
    "a folder": lambda file, _: (file.unlink(), file.mkdir()),
}
if os.geteuid():  # root may read anything
    FAULTS["unreadable"] = lambda file, _: file.chmod(0)


def kind_of(name):
    """What a file of a results folder is."""
    if name.startswith("group-000.zarr"):
        array, _, file = name.removeprefix("group-000.zarr/").rpartition("/")
        kinds = {"metrics": "metrics", **dict.fromkeys(("samples", "mode_mass", "mode_offset", "mode_std"), "fields")}
        return "metadata of the store" if file == "zarr.json" else kinds.get(array, "constants")
    return "checkpoint" if name.startswith("checkpoints") else name


@pytest.fixture(scope="module")
def finished(in_haste, tmp_path_factory):
    """(a finished folder, one of other seeds, what each use of the first one gives)."""
    home = tmp_path_factory.mktemp("finished")
    for name, seeds in (("r", "0:2"), ("other", "2:4")):
        made = sweep_file.make(sweep_file.flatten({**SMALL, "seeds": seeds}, "here"))
        gandyn.run_sweep(made, home / name, progress=False, checkpoint_every=0)
    gives = {}
    for name, use in USES.items():
        gives[name] = use(shutil.copytree(home / "r", home / "at" / "r"))
        shutil.rmtree(home / "at")
    return home / "r", home / "other", gives


def bits(results):
    """All of a dataset: variables and coordinates as bytes, and the attributes that say what it is."""
    found = {str(name): np.asarray(values).astype(str if values.dtype == object else values.dtype).tobytes()
             for name, values in results.variables.items()}  # fmt: skip
    return found | {name: value for name, value in results.attrs.items() if name not in ("wall_time_s", "command")}


def page(folder):
    return report.write(gandyn.open_results(folder), folder / "report.html").read_text().replace(str(folder), "")


def gone_on(folder):
    gandyn.resume(folder, progress=False, checkpoint_every=0)
    return bits(gandyn.open_results(folder)) | states(folder)


def extended_by(folder):
    gandyn.extend(folder, seeds=[7], num_steps=40, progress=False, checkpoint_every=0)
    return bits(gandyn.open_results(folder)) | states(folder)


def states(folder):
    """Those that are kept: who adds nothing more may delete them."""
    return content(folder) if list(folder.glob("checkpoints/*/*")) else {}


USES = {
    "open": lambda folder: bits(gandyn.open_results(folder)),
    "show": lambda folder: report.summary(gandyn.open_results(folder)),
    "report": page,
    "resume": gone_on,
    "extend": extended_by,
}


def outcome(use, folder, want):
    """("right", "named" and right, "refused" or "WRONG"; what was said) of a use of a folder."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            gave, problem = use(folder), ""
        except (ValueError, OSError) as error:
            gave, problem = None, str(error)
    said = "\n".join([*(str(one.message) for one in caught if one.category is RuntimeWarning), problem])
    if problem:
        return "refused", said
    if gave != want:
        return "WRONG", said
    return ("named" if said.strip() else "right"), said


KINDS = (
    "manifest.json", "manifest.copy.json", "group-000.json", "group-000.journal", "group-000.copy.npz", "metrics",
    "fields", "constants", "metadata of the store", "checkpoint", ".lock",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_store_under_every_fault(finished, tmp_path, kind):
    """Numbers are right, or the file is named; who goes on makes it again. Prints a table with counts."""
    folder, other, gives = finished
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    assert {kind_of(name) for name in names} == set(KINDS)
    counts, wrong = {}, []
    for name in (name for name in names if kind_of(name) == kind):
        for fault, befall in FAULTS.items():
            for use, act in USES.items():
                out = shutil.copytree(folder, tmp_path / "r")
                befall(out / name, other / name)
                no_states = (kind, fault, use) == ("checkpoint", "deleted", "resume")
                found, said = outcome(act, out, gives["open" if no_states else use])
                counts.setdefault((kind, fault), collections.Counter())[use, found] += 1
                unnamed = found in ("named", "refused") and name not in said
                stuck = found == "refused" and use in ("resume", "extend") and fault != "unreadable"
                if found == "WRONG" or unnamed or stuck:
                    wrong.append((name, fault, use, found, said))
                shutil.rmtree(out)
    print(*table_of(counts), sep="\n")
    assert wrong == []


def table_of(counts):
    yield f"{'file':24}{'fault':18}" + "".join(f"{use:24}" for use in USES)
    for (kind, fault), found in counts.items():
        cells = [", ".join(f"{n} {how}" for (of, how), n in found.items() if of == use) for use in USES]
        yield f"{kind:24}{fault:18}" + "".join(f"{cell:24}" for cell in cells)
    total = sum(counts.values(), collections.Counter())
    for use in USES:
        yield f"{use}: " + ", ".join(f"{n} {how}" for (of, how), n in sorted(total.items()) if of == use)


METRICS = "group-000.zarr/metrics/c.0.0.0"
SAMPLES = "group-000.zarr/samples/c.0.1.0.0"


@pytest.mark.parametrize("damage", [flip, cut_short, Path.unlink])
@pytest.mark.parametrize("file", [METRICS, SAMPLES])
@pytest.mark.parametrize("ended", [False, True])
def test_damaged_results_are_measured_again(cut, tmp_path, damage, file, ended):
    out = shutil.copytree(cut[2 if ended else 0], tmp_path / "r")
    damage(out / file)
    told = resumed(out)
    assert any(f"{out / file} is {'gone' if damage is Path.unlink else 'damaged'}" in line for line in told)
    assert_same(out, cut[1])


def newest(out):
    return max((out / "checkpoints" / "group-000").iterdir(), key=lambda entry: int(entry.stem))


@pytest.mark.parametrize("damage", [flip, cut_short, Path.unlink])
def test_damage_to_the_newest_checkpoint_changes_no_bit(cut, tmp_path, damage):
    out = shutil.copytree(cut[0], tmp_path / "r")
    damage(newest(out))
    told = resumed(out)
    assert all("30.npz" in line for line in told)  # a bit that says nothing, as of a date, harms nothing
    assert len(told) == 1 or damage is not cut_short
    assert_same(out, cut[1])


@pytest.mark.parametrize("what", ["damaged", "gone", "ahead", "all damaged"])
def test_a_checkpoint_that_cannot_be_used_is_gone_on_without(cut, tmp_path, what):
    out = shutil.copytree(cut[0], tmp_path / "r")
    kept = out / "checkpoints" / "group-000"
    if what == "gone":
        shutil.rmtree(out / "checkpoints")
    elif what == "ahead":
        (group,) = store.reopen(out).groups.values()
        metrics = arrays.read_metrics(group)
        metrics[:, :, 2:] = np.nan
        arrays.write_files(group, {("metrics", (0, 0, 0)): metrics})
        assert group.journal is not None
        group.journal.end()
    else:
        for entry in kept.iterdir() if what == "all damaged" else [newest(out)]:
            cut_short(entry)
    told = resumed(out)
    assert len(told) == {"damaged": 1, "gone": 0, "ahead": 1, "all damaged": 2}[what]
    assert_same(out, cut[1])


def test_the_checkpoint_of_another_run_is_gone_on_without(cut, tmp_path):
    out = shutil.copytree(cut[0], tmp_path / "r")
    shutil.copy(cut[2] / "checkpoints" / "group-000" / "40.npz", newest(out).with_name("35.npz"))
    shutil.copy(cut[2] / "checkpoints" / "group-000" / "40.npz", newest(out).with_name("40.npz"))
    told = resumed(out)
    assert len(told) == 2
    assert "40.npz cannot be used (it is of another configuration, or of another run's folder)" in told[0]
    assert "35.npz cannot be used" in told[1]
    assert_same(out, cut[1])


def test_a_kill_between_the_last_measurement_and_the_last_checkpoint(cut, tmp_path):
    """All is recorded then, and the state at the end is not: a longer run would start from an earlier one."""
    out = shutil.copytree(cut[0], tmp_path / "r")
    resumed(out)
    shutil.rmtree(out / "checkpoints")
    shutil.copytree(cut[0] / "checkpoints", out / "checkpoints")
    shutil.copy(cut[0] / "group-000.json", out / "group-000.json")
    assert resumed(out) == []
    assert_same(out, cut[1])


def test_a_clock_that_goes_back_changes_nothing(cut, tmp_path, monkeypatch):
    out = shutil.copytree(cut[0], tmp_path / "r")
    os.utime(newest(out), (1, 1))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: 2 * 10**8 - now())  # it runs backwards
    assert resumed(out) == []
    assert_same(out, cut[1])


def test_ctrl_c_after_the_last_safe_point_is_not_swallowed(cut, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    finish = training.train

    def last(*args):
        finish(*args)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(training, "train", last)
    with pytest.raises(KeyboardInterrupt):
        gandyn.run_sweep(sweep(), tmp_path / "r", progress=False)
    assert signal.getsignal(signal.SIGINT) is before
    assert resumed(tmp_path / "r") == []
    assert_same(tmp_path / "r", cut[1])


def test_a_second_writer_is_refused_readers_are_not_and_the_first_is_not_disturbed(cut, tmp_path, monkeypatch):
    """Two descriptions of one file stand against each other as two processes do."""
    out, write, tried = shutil.copytree(cut[0], tmp_path / "r"), Writer.write, []

    def second(self, *what):
        write(self, *what)
        for again in (
            lambda: gandyn.run_sweep(sweep(), out, overwrite=True, progress=False),
            lambda: gandyn.resume(out, progress=False),
            lambda: gandyn.extend(out, seeds=[7], progress=False),
        ):
            with pytest.raises(locks.Locked, match=f"written by process {os.getpid()} on {os.uname().nodename}"):
                again()
            tried.append(again)
        assert gandyn.open_results(out).attrs["status"] == "running"
        assert "running" in status.status(out)

    monkeypatch.setattr(Writer, "write", second)
    assert resumed(out) == []
    assert len(tried) >= 3
    monkeypatch.undo()
    assert_same(out, cut[1])


def test_a_second_process_is_told_of_the_first(home, whole, tmp_path):
    out = tmp_path / "r"
    with started(home, *begin(home, out)) as first:
        while not (out / "manifest.json").exists() or not json.loads((out / "manifest.json").read_text())["groups"]:
            time.sleep(0.02)
        first.send_signal(signal.SIGSTOP)  # for as long as the others take to start
        for command in ((*begin(home, out), "--overwrite"), go_on(out), ("extend", out, *MORE)):
            code, _, errors = run(home, *command)
            assert code == 2
            assert f"is being written by process {first.pid} on {os.uname().nodename} (" in errors
            assert "sweep.toml" in errors
        code, output, _ = run(home, "status", out)
        assert (code, "running" in output) == (0, True)
        first.send_signal(signal.SIGCONT)
        _, errors = first.communicate(timeout=1_200)
    assert first.returncode == 0, errors
    assert_same(out, whole)


# ---- folders from elsewhere

SCRIPT = "<script>alert(1)</script>\x1b[2J\x1b]0;owned\x07\x9b31m\r"


def test_what_a_folder_says_is_shown_inert(cut, tmp_path, capsys):
    out = shutil.copytree(cut[0], tmp_path / "r")
    forged.edit(
        out / "manifest.json", lambda about: about.update(title=SCRIPT, command=SCRIPT, device=SCRIPT, commit=SCRIPT)
    )
    forged.edit(out / "group-000.json", lambda about: about.update(status="failed", error=SCRIPT))
    labels = lambda about: about["attributes"]["coords"].update(recipe=[SCRIPT] * 2)  # noqa: E731
    forged.edit(out / "group-000.zarr" / "zarr.json", labels)
    from gandyn import cli

    for command in ("status", "show", "report"):
        cli.main([command, str(out)])
    shown = "".join(capsys.readouterr()).replace("\n", "")
    assert "alert(1)" in shown
    assert [c for c in shown if not c.isprintable()] == []
    page = (out / "report.html").read_text()
    assert "alert(1)" in page
    assert "<script>alert" not in page


@pytest.mark.parametrize(
    "noted",
    [
        {"step": float("nan")}, {"step": 10**400}, {"step": -1}, {"step": True}, {"wall_time_s": float("nan")},
        {"wall_time_s": float("inf")}, {"wall_time_s": 10**400}, {"status": "\x1b[2J"}, {"error": 1}, {"more": 1},
    ],
)  # fmt: skip
def test_progress_that_says_nothing_that_can_be_is_not_known(cut, tmp_path, noted):
    out = tmp_path / "r"
    shutil.copytree(cut[0], out)
    forged.edit(out / "group-000.json", lambda about: about.update(noted))
    with pytest.warns(RuntimeWarning, match=r"group-000\.json is damaged"):
        assert store.reopen(out).progress(0) == Progress()
    with pytest.warns(RuntimeWarning, match=r"group-000\.json is damaged"):
        assert "waiting" in status.status(out)


def test_links_out_of_a_folder_are_not_written_through(cut, tmp_path):
    mine = shutil.copytree(cut[0], tmp_path / "mine")
    before = {file: file.read_bytes() for file in mine.rglob("*") if file.is_file()}
    for name in ("group-000.zarr", "group-000.zarr/metrics", "checkpoints", "checkpoints/group-000"):
        out = shutil.copytree(cut[0], tmp_path / name.replace("/", "-"))
        shutil.rmtree(out / name)
        (out / name).symlink_to(mine / name)
        with pytest.raises((ValueError, ExceptionGroup)) as caught:
            resumed(out)
        failures = caught.value.exceptions if isinstance(caught.value, ExceptionGroup) else [caught.value]
        assert "is a link" in str(failures[0])
    assert {file: file.read_bytes() for file in mine.rglob("*") if file.is_file()} == before
    for name in ("manifest.json.partial", "group-000.json.partial"):
        (tmp_path / "thesis.txt").write_text("do not lose")
        out = shutil.copytree(cut[0], tmp_path / f"with-{name}")
        (out / name).symlink_to(tmp_path / "thesis.txt")
        resumed(out)
        assert_same(out, cut[1])
        assert (tmp_path / "thesis.txt").read_text() == "do not lose"
