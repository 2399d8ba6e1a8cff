"""Programs that are compiled in haste: several times faster to compile and slower to run."""

import functools
from typing import Any

import jax

OPTIONS: dict[str, Any] = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

jit = functools.partial(jax.jit, compiler_options=OPTIONS)
