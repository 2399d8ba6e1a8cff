"""What every test runs under: strict jax, two virtual CPU devices, repeatable hypothesis examples."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")

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


@pytest.fixture
def key() -> jax.Array:
    """A new key object: the reuse checker follows key objects, so tests that share one would disturb each other."""
    return jax.random.key(0)
