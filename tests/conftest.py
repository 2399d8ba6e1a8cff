"""What every test runs under: strict jax, two virtual CPU devices, repeatable hypothesis examples."""

import collections
import os
import signal
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


@pytest.hookimpl(tryfirst=True)  # before slow tests are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`@pytest.mark.quick(n)`: all but the first n of a test's parameter sets are slow."""
    seen: collections.Counter[str] = collections.Counter()
    for item in items:
        quick = item.get_closest_marker("quick")
        if quick is not None and item.get_closest_marker("slow") is None:
            test = item.nodeid.partition("[")[0]
            if seen[test] >= quick.args[0]:
                item.add_marker(pytest.mark.slow)
            seen[test] += 1


@pytest.fixture(scope="session", autouse=True)
def _own_signals() -> Iterator[None]:
    """Signals do what they do by default, here and in what tests start: a job in the background ignores some."""
    wanted = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {signum: signal.signal(signum, handler) for signum, handler in wanted.items()}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


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
