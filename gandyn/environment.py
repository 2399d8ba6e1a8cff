"""jax's settings while gandyn's own programs run: those that could move a bit, or end a healthy run, are fixed.

They come from the environment (JAX_ENABLE_X64=1), from `jax.config`, or from a context of the caller. `ours` fixes them
for its thread and while it lasts, so what a person computes beside gandyn stays as it was asked for. What reaches the
compiler in other ways cannot be fixed: `recorded` says it, results folders keep it, and a difference is refused.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import jax

FIXED: dict[str, Any] = {
    # numbers: their types, their precision, and what is drawn
    "jax_enable_x64": False,
    "jax_explicit_x64_dtypes": "warn",
    "jax_numpy_dtype_promotion": "standard",
    "jax_default_matmul_precision": None,
    "jax_allow_f16_reductions": True,
    "jax_default_prng_impl": "threefry2x32",
    "jax_enable_custom_prng": False,
    "jax_legacy_prng_key": "allow",
    "jax_threefry_partitionable": True,
    "jax_threefry_gpu_kernel_lowering": False,
    "jax_random_seed_offset": 0,
    "jax_high_dynamic_range_gumbel": False,
    "jax_softmax_custom_jvp": False,
    # what is traced
    "check_vma": False,
    "eager_constant_folding": False,
    "jax_auto_pcast": True,
    "jax_check_static_indices": False,
    "jax_custom_jvp3": False,
    "jax_custom_vjp3": False,
    "jax_default_device": None,
    "jax_disable_bwd_checks": False,
    "jax_disable_jit": False,
    "jax_disable_vmap_shmap_error": False,
    "jax_disallow_mesh_context_manager": False,
    "jax_mutable_array_checks": True,
    "jax_no_execution": False,
    "jax_no_tracing": False,
    "jax_refs_to_pins": False,
    "jax_remat3": False,
    "jax_remat_barrier_no_cotangents": False,
    "jax_remove_size_one_mesh_axis_from_type": False,
    "jax_scan3": False,
    "jax_use_cpp_shard_args": False,
    "jax_use_direct_linearize": True,
    "jax_use_rgv3": True,
    "jax_use_simplified_jaxpr_constants": False,
    # how it is lowered and compiled
    "jax_bcoo_cusparse_lowering": False,
    "jax_compilation_cache_check_contents": False,  # two compilations of a program differ in what is no instruction
    "jax_compilation_cache_expect_pgle": False,
    "jax_compiler_enable_remat_pass": True,
    "jax_embedded_constants_max_bytes": 32,
    "jax_enable_pgle": False,
    "jax_exec_time_optimization_effort": 0.0,
    "jax_memory_fitting_effort": 0.0,
    "jax_memory_fitting_level": "O2",
    "jax_optimization_level": "UNKNOWN",
    "jax_ragged_dot_use_gpu_pallas_triton_lowering": False,
    "jax_ragged_dot_use_ragged_dot_instruction": True,
    "jax_use_hlo_logistic_lowering": None,
    "jax_use_magma": "auto",
    "jax_use_shardy_partitioner": True,
    "jax_xla_profile_version": 0,
    # what ends a run: here NaN is a value (a loss before the first step), and arrays come from the host
    "jax_array_garbage_collection_guard": "allow",
    "jax_check_tracer_leaks": False,
    "jax_debug_infs": False,
    "jax_debug_nans": False,
    "jax_error_checking_behavior_divide": "ignore",
    "jax_error_checking_behavior_nan": "ignore",
    "jax_error_checking_behavior_oob": "ignore",
    "jax_thread_guard": False,
    "jax_transfer_guard": "allow",
    "jax_transfer_guard_device_to_device": "allow",
    "jax_transfer_guard_device_to_host": "allow",
    "jax_transfer_guard_host_to_device": "allow",
}
"""Setting -> its value inside gandyn: jax's own default. A version of jax has some of them (docs/environment.md)."""

_DEBUGGING = ("jax_debug_nans", "jax_debug_infs", "jax_disable_jit", "jax_check_tracer_leaks")
"""Those that look for a fault, and find none inside gandyn: whoever asked for one is told."""


@contextlib.contextmanager
def ours() -> Iterator[None]:
    """A context, or decorator, in which jax's settings are those of gandyn's own programs, for this thread alone."""
    # `jax.config.update` would change other threads, and yield to a context that the caller is in.
    holders: dict[str, Any] = getattr(jax.config, "_value_holders")  # noqa: B009 (private: jax offers no other way)
    with contextlib.ExitStack() as stack:
        for name, value in FIXED.items():
            if name in holders:
                stack.enter_context(holders[name](value))
        yield


def unheard() -> list[str]:
    """The settings, among those that look for faults, that were asked for and do nothing inside gandyn."""
    return [name.upper() for name in _DEBUGGING if getattr(jax.config, name)]


_OF_DEVICES = ("--xla_force_host_platform_device_count", "--xla_dump_", "--xla_hlo_profile")
"""Flags that move no bit: how many devices there are, and what is written of programs."""

_VARIABLES = ("LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE", "JAX_PJRT_CLIENT_CREATE_OPTIONS")
"""Variables, beside XLA_FLAGS, that compilers and libraries of accelerators read by themselves."""


def recorded() -> str:
    """What of the environment may move bits and cannot be fixed, as NAME=value; '' where nothing does."""
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if not flag.startswith(_OF_DEVICES)]
    found = [f"XLA_FLAGS={' '.join(sorted(flags))}"] if flags else []
    found += [f"{name}={os.environ[name]}" for name in _VARIABLES if os.environ.get(name)]
    if jax.config.values.get("jax_disable_most_optimizations"):  # pyright: ignore[reportAttributeAccessIssue]
        found.append("JAX_DISABLE_MOST_OPTIMIZATIONS=1")
    devices = jax.local_devices()
    if len(devices) == 1 and devices[0].platform == "cpu":
        found.append("JAX_NUM_CPU_DEVICES=1")  # programs for one device are compiled otherwise: docs/decisions.md, 46
    return ", ".join(found)
