"""What a person sets of jax moves no bit of gandyn's runs, is recorded where it must, and stays theirs beside gandyn.

docs/environment.md says which setting is which; every setting that jax has is in one of its tables.
"""

import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gandyn
from gandyn import environment
from gandyn.sweeps import records

ROOT = Path(__file__).parents[1]
CONFIG: Any = jax.config


def documented() -> dict[str, set[str]]:
    """Heading -> the settings below it, of docs/environment.md."""
    sections = re.split(r"^## ", (ROOT / "docs" / "environment.md").read_text(), flags=re.MULTILINE)[1:]
    row = re.compile(r"^\| (`.*?) \|", re.MULTILINE)
    return {
        section.splitlines()[0]: {name for cell in row.findall(section) for name in re.findall(r"`(\w+)`", cell)}
        for section in sections
    }


def test_every_setting_of_jax_is_in_one_table():
    tables = documented()
    fixed, yours, recorded = tables["Fixed"], tables["Yours"], tables["Recorded"]
    assert fixed == set(environment.FIXED)
    assert not fixed & yours | fixed & recorded | yours & recorded
    assert set(CONFIG.values) <= fixed | yours | recorded, "a version of jax has settings of which nothing is known"


def test_what_is_fixed_is_what_jax_does_by_itself():
    """In a process that nobody has set anything for; guards are allowed where jax has none."""
    code = "import jax, json; print(json.dumps({n: str(v) for n, v in jax.config.values.items()}))"
    own = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True)
    with environment.ours():
        inside = {name: str(value) for name, value in CONFIG.values.items()}
    for name, value in json.loads(done.stdout).items():
        if name in environment.FIXED and value != "None":
            assert inside[name] == value, name
        elif name in environment.FIXED:
            assert inside[name] in ("None", "allow"), name


def test_settings_are_gandyns_inside_and_a_persons_outside():
    with (
        jax.enable_x64(True),
        jax.debug_nans(True),
        jax.numpy_dtype_promotion("strict"),
        jax.threefry_partitionable(False),
    ):
        before = dict(CONFIG.values)
        seen: list[Any] = []
        with environment.ours():
            assert jnp.ones(2).dtype == np.float32
            assert (jnp.float32(1) + jnp.zeros(2, jnp.int32) / 0).shape == (2,)
            assert CONFIG.jax_threefry_partitionable
            other = threading.Thread(target=lambda: seen.append(CONFIG.jax_threefry_partitionable))
            other.start()
            other.join()
        assert dict(CONFIG.values) == before
        assert jnp.ones(2).dtype == np.float64
    assert seen == [True], "what another thread computes has jax's own default"
    with pytest.raises(RuntimeError), jax.enable_x64(True), environment.ours():
        raise RuntimeError
    assert not CONFIG.jax_enable_x64


def test_what_cannot_be_fixed_is_recorded(monkeypatch):
    for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE"):
        monkeypatch.delenv(name, raising=False)
    assert environment.recorded() == ""
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2 --xla_dump_to=/tmp/x")
    assert environment.recorded() == "", "neither moves a bit"
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_max_isa=AVX2  --xla_allow_excess_precision=false")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    found = "XLA_FLAGS=--xla_allow_excess_precision=false --xla_cpu_max_isa=AVX2, NVIDIA_TF32_OVERRIDE=0"
    assert environment.recorded() == found
    here = records.metadata(["highest"])
    assert here["environment"] == found
    assert records.what_changed(here) == []
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    (line,) = records.what_changed(here)
    assert line == f"environment {found} there, {found.partition(', ')[0]} here"


def test_who_looks_for_faults_is_told_that_none_are_found_here():
    code = "import gandyn; gandyn.devices.prepare(); gandyn.devices.prepare()"
    code = code.replace("import gandyn", "import gandyn.devices")
    own = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    own |= {"JAX_DEBUG_NANS": "1", "JAX_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True)
    assert done.stderr.count("RuntimeWarning: JAX_DEBUG_NANS, JAX_DISABLE_JIT: no effect inside gandyn") == 1


# ---- every setting, in small

SMALL = {
    "target": "gandyn.targets.ring(num_modes=4, std=0.1)",
    "config": "gandyn.Config(gen_width=8, disc_width=8, batch_size=16)",
    "measure": "gandyn.MeasureConfig(num_nodes=64, num_density_nodes=1024)",
}
RUN = f"""
import hashlib, json, sys
import jax, numpy as np
import gandyn, gandyn.environment

def digest():
    found = gandyn.run({SMALL["target"]}, {SMALL["config"]}, seeds=range(2), num_steps=4, measure_every=2,
                       measure_config={SMALL["measure"]}, progress=False)
    text = hashlib.sha256()
    for name in sorted(found.data_vars):
        x = np.asarray(found[name].values)
        text.update(f"{{name}} {{x.dtype}}".encode())
        text.update(x.tobytes() if x.dtype.kind in "fiub" else repr(x.tolist()).encode())
    return text.hexdigest()
"""
PLAIN = RUN + 'print("", digest(), sep="\\t")'
EACH = (
    RUN
    + """
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
digest()
AT_START = ("jax_platforms", "jax_num_cpu_devices", "jax_cpu_collectives_implementation")  # read when jax starts

def others(name):
    kind, _, more = jax.config.meta[name]
    value = jax.config.values[name]
    if kind is bool:
        return [one for one in (False, True) if one is not value]
    if kind == "enum":
        return [one for one in more["enum_values"] if one != value]
    return [one for one in type(value) if one != value] if kind == "enum_class" else []

for name in sorted(jax.config.values):
    if name in AT_START or name not in jax.config.meta or name == "jax_disable_most_optimizations":
        continue
    before = jax.config.values[name]
    for value in others(name):
        if name not in gandyn.environment.FIXED:
            jax.clear_caches()  # what is fixed gives the program that is there
        jax.config.update(name, getattr(value, "name", value).lower() if hasattr(value, "name") else value)
        try:
            print(f"{name}={value}", digest(), sep="\\t", flush=True)
        except Exception as error:
            print(f"{name}={value}", repr(error)[:300].replace("\\n", " "), sep="\\t", flush=True)
        finally:
            jax.config.update(name, before)
"""
)


def ran(code: str, **variables: str) -> dict[str, str]:
    """What a process prints: case -> digest, or the error."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    own["JAX_ENABLE_COMPILATION_CACHE"] = "0"  # the person's own programs are none of the tests'
    done = subprocess.run([sys.executable, "-c", code], env=own | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(line.split("\t") for line in done.stdout.splitlines() if "\t" in line)


@pytest.fixture(scope="module")
def plain() -> str:
    """The digest of a run in a process that nobody has set anything for."""
    return ran(PLAIN)[""]


@pytest.mark.slow
def test_every_other_value_of_every_setting_gives_the_same_bits(plain, tmp_path):
    found = ran(EACH, JAX_ENABLE_COMPILATION_CACHE="1", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "programs"))
    assert len(found) > 100
    assert {case: got for case, got in found.items() if got != plain} == {}


NOT_ALL = ("jax_no_tracing", "jax_no_execution")  # without which jax itself, and what it comes with, is not imported


@pytest.mark.slow
def test_all_that_is_fixed_at_once_from_the_environment(plain):
    """As a process starts: what is made of arrays at import is there, too."""
    variables = {}
    for name, value in environment.FIXED.items():
        if name in CONFIG.meta and name not in NOT_ALL and CONFIG.meta[name][0] is bool:
            variables[name.upper()] = str(int(not value))
    variables |= {
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
        "JAX_DEFAULT_PRNG_IMPL": "rbg",
        "JAX_RANDOM_SEED_OFFSET": "7",
        "JAX_TRANSFER_GUARD": "disallow",
        "JAX_OPTIMIZATION_LEVEL": "O0",
    }
    assert len(variables) > 35
    assert ran(PLAIN, **variables)[""] == plain


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [
        {"JAX_CPU_ENABLE_ASYNC_DISPATCH": "0", "JAX_SORT_DEVICES_BY_PROCESS_INDEX": "0"},
        {"JAX_CPU_COLLECTIVES_IMPLEMENTATION": "mpi"},
        {"JAX_NO_TRACING": "1"},
        {"JAX_NO_EXECUTION": "1"},
        {"JAX_NUM_CPU_DEVICES": "3"},
        {"JAX_PLATFORMS": "cpu"},
        {"NPROC": "1"},
    ],
)
def test_what_is_read_when_jax_starts(variables, plain):
    assert ran(PLAIN, **variables)[""] == plain


# ---- from the command line


def command(*arguments: Any, **variables: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    own["JAX_ENABLE_COMPILATION_CACHE"] = "0"  # the person's own programs are none of the tests'
    words = [sys.executable, "-m", "gandyn", *map(str, arguments)]
    return subprocess.run(words, env=own | variables, capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Made without optimizations, so that it differs from what is made with them."""
    root = tmp_path_factory.mktemp("environment")
    text = "num_steps=4\nmeasure_every=2\nseeds='0:2'\nnum_modes=4\nstd=0.1\ngen_width=8\ndisc_width=8\nbatch_size=16"
    (root / "small.toml").write_text(f"{text}\nnum_nodes=64\nnum_density_nodes=1024\n")
    assert tomllib.loads(text)
    made = command("run", root / "small.toml", "--out", root / "runs", JAX_DISABLE_MOST_OPTIMIZATIONS="1")
    assert made.returncode == 0, made.stderr
    return root / "runs"


@pytest.mark.slow
def test_other_compiler_flags_are_refused_in_one_line(folder):
    assert gandyn.open_results(folder).attrs["environment"] == "JAX_DISABLE_MOST_OPTIMIZATIONS=1"
    for variables, here in (
        ({}, "plain"),
        ({"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"}, "XLA_FLAGS=--xla_cpu_ena"),
    ):
        refused = command("extend", folder, "--steps", 6, **variables)
        assert refused.returncode == 2
        assert refused.stderr.count("\n") == 1
        assert f"environment JAX_DISABLE_MOST_OPTIMIZATIONS=1 there, {here}" in refused.stderr


@pytest.mark.slow
def test_a_folder_extended_under_other_settings_replays_to_the_bit(folder):
    """JAX_THREEFRY_PARTITIONABLE=0 drew other numbers from there on, and nothing said so."""
    same = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    others = {"JAX_THREEFRY_PARTITIONABLE": "0", "JAX_ENABLE_X64": "1", "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16"}
    extended = command("extend", folder, "--steps", 8, **same, **others)
    assert extended.returncode == 0, extended.stderr
    replayed = command("replay", folder, "--run", 0, **same)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert "the same to the bit at all 5 measurements" in replayed.stdout
