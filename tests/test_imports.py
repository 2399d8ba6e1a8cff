"""What is imported and set by what: importing gandyn does nothing, and what answers at once has no need of jax."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gandyn

HEAVY = "jax", "jaxlib", "flax", "optax", "orbax", "xarray", "pandas", "zarr", "scipy", "matplotlib"


def loaded(script: str) -> list[str]:
    """Which of the heavy packages a new process has imported after a script."""
    end = f"\nprint('loaded', *(name for name in {HEAVY} if name in sys.modules))"
    shown = subprocess.run([sys.executable, "-c", "import sys\n" + script + end], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout.splitlines()[-1].split()[1:]


def test_importing_gandyn_imports_nothing_and_sets_nothing():
    script = """
import os, signal, threading, warnings
before = dict(os.environ), list(sys.path), list(warnings.filters), threading.active_count(), sys.excepthook
import gandyn
assert before == (dict(os.environ), list(sys.path), list(warnings.filters), threading.active_count(), sys.excepthook)
assert [name for name in sys.modules if name.startswith("gandyn")] == ["gandyn"]
"""
    assert loaded(script) == []


def test_jax_is_as_it_was_after_everything_is_imported():
    script = """
import os, jax
before = dict(os.environ), dict(jax.config.values)
import gandyn
for name in gandyn.__all__:
    getattr(gandyn, name)
from gandyn.sweeps import cluster, ensemble, runner
after = {name: jax.config.values[name] for name in before[1]}  # modules of jax bring flags of their own
assert before == (dict(os.environ), after)
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
"""
    assert "jax" in loaded(script)


def test_building_targets_starts_nothing():
    """A pool that is forked afterwards, and makes them itself, does not hang on a jax that its parent started."""
    script = """
import multiprocessing
import numpy as np
from gandyn import targets
from gandyn.gan.targets import TARGETS
def everything(_=None):
    made = [make() for make in TARGETS.values()]
    made.append(targets.from_samples(np.zeros((4, 2)) + np.arange(4)[:, None], 0.1))
    made.append(targets.from_image(np.eye(8)))
    return len(made)
everything()
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map_async(everything, range(2)).get(timeout=60) == [everything()] * 2
"""
    loaded(script)


@pytest.mark.parametrize(
    "arguments",
    ["", "--help", "--version", "list", "list losses", "list loses", "rum", "show", "run --help", "sweep --help",
     "resume --help", "export --help", "run --los hinge", "run --loss hinges", "run --lr-gen x", "sweep",
     "run --seeds 0:3 --title a --title b", "status none"],
)  # fmt: skip
@pytest.mark.quick(4)
def test_answers_that_need_no_jax(arguments):
    script = f"""
from gandyn.cli import main
try:
    main({arguments.split()})
except SystemExit as stop:
    assert stop.code in (0, 2)
"""
    allowed = ["zarr", "xarray", "pandas", "scipy"] if arguments.startswith("status") else []
    assert [name for name in loaded(script) if name not in allowed] == []


@pytest.mark.parametrize("room", ["results.store", "results.export", "results.status", "results.checkpoints"])
@pytest.mark.quick(2)
def test_results_need_no_jax(room):
    assert {"jax", "flax", "matplotlib"} & set(loaded(f"import gandyn.{room}")) == set()


ROOMS = {
    "gan": set(),
    "truth": {"gan"},
    "results": set(),
    "analysis": {"results"},
    "report": {"analysis", "results"},
    "sweeps": {"gan", "truth", "results", "analysis"},
}
NO_JAX = ("results", "analysis", "report", "cli")
PACKAGE = Path(gandyn.__file__).parent


def imported(file: Path) -> set[str]:
    """The modules that a file imports, anywhere in it, by their full names."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_know_only_what_they_may(room):
    for file in (PACKAGE / room).rglob("*.py"):
        rooms = {name.split(".")[1] for name in imported(file) if name.startswith("gandyn.")}
        assert rooms - {room, "checks", "devices", "environment", "text"} <= ROOMS[room], file


@pytest.mark.parametrize("room", NO_JAX)
def test_rooms_that_need_no_jax(room):
    for file in (PACKAGE / room).rglob("*.py"):
        assert not {"jax", "flax", "optax"} & {name.split(".")[0] for name in imported(file)}, file
