"""Sweeps on other numbers of devices, on several processes, on a cluster that loses a worker: the same bits."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import gandyn
from gandyn.gan.game import make_game
from gandyn.results import manifest
from gandyn.truth import measure

pytestmark = pytest.mark.slow

SWEEP = """
num_steps = {num_steps}
measure_every = 20
deep_every = 40
seeds = "0:6"
target = "ring"
num_modes = 4
std = 0.1
gen_width = 8
disc_width = 8
batch_size = 16
num_nodes = 64
num_density_nodes = 1024
num_deep_nodes = 64
num_deep_density_nodes = 1024
num_transport = 32
deep = ["gap", "transport", "path"]
keep_samples = 5

[product]
loss = ["hinge", "non_saturating"]
lr_gen = [1e-3, 3e-3]
"""


@pytest.fixture(scope="module", autouse=True)
def programs(tmp_path_factory):
    """Processes of these tests compile a program once."""
    cache = {"JAX_ENABLE_COMPILATION_CACHE": "1", "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}
    cache["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cache.items():
            patch.setenv(name, value)
        yield


def start(*arguments: object, devices: int = 2) -> subprocess.Popen:
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, "-m", "gandyn", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=3_000)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "sweep.toml"
    path.write_text(SWEEP.format(num_steps=80))
    return path


@pytest.fixture(scope="module")
def whole(file) -> dict:
    """The sweep by one process on two devices."""
    finish(start("sweep", file, "--out", file.parent / "whole"))
    return by_run(file.parent / "whole")


def by_run(folder: Path) -> dict:
    """(recipe, seed) -> every variable of that run."""
    results = gandyn.open_results(folder).load()
    assert results.attrs["status"] == "complete"
    names = [name for name, variable in results.data_vars.items() if "run" in variable.dims]
    runs = enumerate(zip(results.recipe.values, results.seed.values))
    return {key: {name: results[name].values[i] for name in names} for i, key in runs}


RING = gandyn.targets.ring(num_modes=4)
DEEP = measure.metrics_of(
    measure.plan_of(gandyn.MeasureConfig(deep=("gap", "transport", "path")), deep=True),
    make_game(RING, gandyn.Config()),
)


def assert_same(found: dict, expected: dict, deep_rtol: float = 0) -> None:
    """The same bits; of deep measurements, where asked for, the same but for a rounding."""
    assert found.keys() == expected.keys()
    for key, variables in expected.items():
        for name, values in variables.items():
            if deep_rtol and (name in DEEP or name.startswith("path_")):
                np.testing.assert_allclose(found[key][name], values, rtol=deep_rtol, atol=1e-7, err_msg=f"{key} {name}")
            else:
                np.testing.assert_array_equal(found[key][name], values, err_msg=f"{key} {name}")


def test_eight_devices(file, whole, tmp_path):
    finish(start("sweep", file, "--out", tmp_path / "out", devices=8))
    assert_same(by_run(tmp_path / "out"), whole)


def test_one_device(file, whole, tmp_path):
    """Which is never chosen on a CPU: training and cheap measurements to the bit, deep ones to a rounding."""
    finish(start("sweep", file, "--out", tmp_path / "out", devices=1))
    assert_same(by_run(tmp_path / "out"), whole, deep_rtol=1e-5)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_of_jax_distributed(file, whole, tmp_path):
    out, address = tmp_path / "out", f"127.0.0.1:{free_port()}"
    engine = ["--engine", "distributed", "--address", address, "--num-processes", 2]
    both = [start("sweep", file, "--out", out, *engine, "--process-id", process) for process in range(2)]
    lead, other = map(finish, both)
    assert "results:" in lead
    assert "results:" not in other
    assert_same(by_run(out), whole)
    assert len(manifest.read(out)["groups"]) == 4  # each kind cut in two


def test_two_processes_of_jax_distributed_extend(file, whole, tmp_path):
    out, address = tmp_path / "out", f"127.0.0.1:{free_port()}"
    finish(start("sweep", file, "--out", out, "--seeds", "0:4"))
    engine = ["--engine", "distributed", "--address", address, "--num-processes", 2]
    both = [start("extend", out, "--seeds", "4:6", *engine, "--process-id", process) for process in range(2)]
    for process in both:
        finish(process)
    assert_same(by_run(out), whole)


NUM_STEPS = 6_000


def test_ray_with_a_worker_that_is_killed(tmp_path):
    pytest.importorskip("ray")
    file, out = tmp_path / "sweep.toml", tmp_path / "out"
    file.write_text(SWEEP.format(num_steps=NUM_STEPS))
    sweep = start("sweep", file, "--out", out, "--engine", "ray", "--checkpoint-every", 1)
    killed = kill_a_worker(sweep, out)
    finish(sweep)
    assert killed
    again = tmp_path / "whole"
    finish(start("sweep", file, "--out", again))
    assert_same(by_run(out), by_run(again))


def kill_a_worker(sweep: subprocess.Popen, out: Path) -> bool:
    """Kills what trains while a group has a checkpoint and is not done; they are held while that is looked at."""
    while sweep.poll() is None:
        time.sleep(0.02)
        if not list(out.glob("checkpoints/group-*/*.npz")):
            continue
        held = []
        for process in psutil.Process(sweep.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "ray::_train" in " ".join(process.cmdline()):
                    process.suspend()
                    held.append(process)
        steps = [max(int(file.stem) for file in folder.glob("*.npz")) for folder in out.glob("checkpoints/group-*")]
        in_between = any(0 < step < NUM_STEPS for step in steps)
        for process in held:
            with contextlib.suppress(psutil.Error):
                process.kill() if in_between else process.resume()
        if held and in_between:
            return True
    return False
