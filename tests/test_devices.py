"""What is set before jax starts, when, and what is said where it was set otherwise. Each case has a process."""

import os
import subprocess
import sys

import pytest

from gandyn import devices

CORES = len(os.sched_getaffinity(0))
PREPARE = """
import warnings
import jax
{before}
from gandyn import devices
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    try:
        for _ in range(3):
            devices.prepare()
        print(len(jax.local_devices()))
    except ValueError as error:
        print(error)
for warning in said:
    print(warning.message)
"""


def prepared(before: str = "", **environment: str) -> list[str]:
    """What a new process prints: the number of devices or the error, then every warning."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_", "TF_CPP"))}
    command = [sys.executable, "-c", PREPARE.format(before=before)]
    done = subprocess.run(command, env=own | environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_one_device_a_core_and_two_at_least():
    assert prepared() == [str(max(devices.MIN_CPU_DEVICES, CORES))]


@pytest.mark.parametrize(
    ("before", "environment"),
    [
        ("", {"JAX_NUM_CPU_DEVICES": "3"}),
        ("jax.config.update('jax_num_cpu_devices', 3)", {}),
        ("", {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}),
        ("jax.config.update('jax_num_cpu_devices', 3); jax.devices()", {}),
    ],
)
@pytest.mark.quick(2)
def test_a_number_that_was_asked_for_stays(before, environment):
    assert prepared(before, **environment) == ["3"]


SWEEP = """
import gandyn
target, config = gandyn.targets.ring(), gandyn.Config(gen_width=8, disc_width=8)
gandyn.Sweep(gandyn.sweep.make_settings(target, config, gandyn.HParams()), seeds=range(2))
"""


@pytest.mark.slow
def test_a_sweep_starts_no_fewer_devices():
    """What checks it starts jax: `gandyn.run` in a script trained on one device, and said that jax had been started."""
    assert prepared(SWEEP) == [str(max(devices.MIN_CPU_DEVICES, CORES))]


def test_what_runs_already_is_said_once_with_what_to_do():
    (number, warning) = prepared("jax.devices()")
    assert number == "1"
    assert warning.startswith(f"jax was started before gandyn: 1 CPU device, and not {max(2, CORES)}: ")
    assert f"Set JAX_NUM_CPU_DEVICES={max(2, CORES)} before the start" in warning
    (number, warning) = prepared(JAX_NUM_CPU_DEVICES="1")
    assert number == "1"
    assert warning.startswith("jax was asked for fewer: 1 CPU device, and not 2: ")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"JAX_NUM_CPU_DEVICES": "0"}, "JAX_NUM_CPU_DEVICES: got 0; allowed: at least 2, or unset: one a core"),
        ({"JAX_NUM_CPU_DEVICES": "-4"}, "JAX_NUM_CPU_DEVICES: got -4; allowed: at least 2"),
        (
            {"JAX_PLATFORM_NAME": "nonsense"},
            "JAX_PLATFORM_NAME: got 'nonsense'; allowed: a platform that jax",
        ),
        ({"JAX_PLATFORMS": "nonsense"}, "JAX_PLATFORMS: got 'nonsense'; allowed: a platform that jax finds here"),
        ({"JAX_PLATFORMS": "rocm"}, "JAX_PLATFORMS: got 'rocm'; allowed: a platform that jax finds here, such as cpu"),
    ],
)
@pytest.mark.quick(2)
def test_what_jax_cannot_start_with_is_one_line(environment, message):
    (line,) = prepared(**environment)
    assert line.startswith(message)


KEPT = """
import logging, sys
import jax, jax.numpy as jnp
from gandyn import devices
logs = lambda: [(log.level, log.handlers) for log in map(logging.getLogger, ("jax", "jaxlib"))]
before = logs(), jax.config.jax_logging_level
devices.prepare()
assert (logs(), jax.config.jax_logging_level) == before
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
print(float(jax.jit(lambda x: jnp.sin(x @ x).sum())(jnp.ones((64, 64)))))
"""


def test_programs_from_the_cache_are_loaded_without_a_word(tmp_path):
    """Though jax was imported first, so that TF_CPP_MIN_LOG_LEVEL comes too late (10,000 characters each on 0.10)."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_", "TF_CPP"))}
    command = [sys.executable, "-c", KEPT, str(tmp_path)]
    first, second = (subprocess.run(command, env=own, capture_output=True, text=True, check=True) for _ in range(2))
    assert len(list(tmp_path.iterdir())) > 0
    assert first.stderr == second.stderr == ""
    assert first.stdout == second.stdout
