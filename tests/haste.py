"""Programs compiled in haste: half the time to compile, slower to run. For tests of what stands around them."""

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

import jax

OPTIONS: dict[str, Any] = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

jit = functools.partial(jax.jit, compiler_options=OPTIONS)


@contextlib.contextmanager
def everywhere() -> Iterator[None]:
    """The same for every program that is compiled meanwhile, in processes that are started, too."""
    name = "jax_disable_most_optimizations"
    os.environ[name.upper()] = "1"
    jax.config.update(name, True)
    try:
        yield
    finally:
        jax.config.update(name, False)
        del os.environ[name.upper()]
