"""What every test runs under: strict jax, two virtual CPU devices, repeatable hypothesis examples."""

import os
from collections.abc import Iterator

os.environ.setdefault("MPLBACKEND", "Agg")
# Nothing is taken from, or left in, the user's cache of compiled programs; of processes that tests start, too.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "0"

import hypothesis
import jax
import pytest

NUM_CPU_DEVICES = 2

# Before the first use of jax: the number of devices is fixed when the backend starts. Under xdist every worker
# imports this file itself.
jax.config.update("jax_num_cpu_devices", NUM_CPU_DEVICES)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

hypothesis.settings.register_profile("gandyn", deadline=None, derandomize=True, database=None, max_examples=25)
hypothesis.settings.load_profile("gandyn")


@pytest.fixture(autouse=True)
def _room_for_programs() -> Iterator[None]:
    """Gives compiled programs up where many have gathered."""
    yield
    from gandyn.sweeps import compilation

    compilation.make_room()


@pytest.fixture
def key() -> jax.Array:
    """A new key object: the reuse checker follows key objects, so tests that share one would disturb each other."""
    return jax.random.key(0)
