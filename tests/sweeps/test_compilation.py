"""The persistent cache of compiled programs, and giving programs up."""

import os
import subprocess
import sys

import jax
import pytest

import gandyn
from gandyn.sweeps import compilation

SCRIPT = """
import sys, gandyn, jax
from gandyn.sweeps import compilation
compilation.use_cache()
print(jax.config.jax_compilation_cache_dir)
gandyn.run(
    gandyn.targets.ring(num_modes=4, std=0.1), gandyn.Config(gen_width=8, disc_width=8, batch_size=16), seeds=[0, 1],
    num_steps=20, measure_every=10, out=sys.argv[1], progress=False,
    measure_config=gandyn.MeasureConfig(num_nodes=64, num_density_nodes=1024),
)
"""


@pytest.mark.slow
def test_programs_from_the_cache_give_the_same_bits(tmp_path):
    """Compiled afresh, compiled into the cache, and taken from it; and nothing is said of it."""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "JAX_NUM_CPU_DEVICES": "2"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # jax sets it in a process that imports jax first, as this one
    seen = []
    for number, enabled in enumerate(("0", "1", "1")):
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / f"out-{number}")]
        own = environment | {"JAX_ENABLE_COMPILATION_CACHE": enabled}
        done = subprocess.run(command, env=own, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        seen.append(done.stdout.strip())
    assert seen[0] == "None"
    assert seen[1].startswith(str(tmp_path / "cache" / "gandyn"))
    bits = lambda x: (x.astype(str) if x.dtype == object else x).tobytes()  # noqa: E731
    first, *others = (gandyn.open_results(tmp_path / f"out-{number}").load() for number in range(3))
    for other in others:
        for name in first.data_vars:
            assert bits(first[name].values) == bits(other[name].values), name
    assert len(list((tmp_path / "cache" / "gandyn").rglob("jit_everywhere-*-cache"))) == 3  # init, advance, measure


def test_the_cache_is_left_alone_where_it_is_switched_off():
    assert not jax.config.jax_enable_compilation_cache  # pyright: ignore[reportAttributeAccessIssue]
    compilation.use_cache()
    assert jax.config.jax_compilation_cache_dir is None  # pyright: ignore[reportAttributeAccessIssue]


def test_programs_are_given_up_where_there_are_too_many(monkeypatch):
    cleared = []
    monkeypatch.setattr(jax, "clear_caches", lambda: cleared.append(True))
    compilation.make_room()
    assert not cleared
    monkeypatch.setattr(compilation, "MOST_MAPS", 1)
    compilation.make_room()
    assert cleared
