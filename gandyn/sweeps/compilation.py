"""Compiled programs: kept on disk between processes, and given up before a process holds too many of them."""

import gc
import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import jax

MOST_MAPS = 45_000
"""Pieces of memory that a process may map before its programs are given up. Each program maps some 300; Linux allows
65,530, and one more crashes the compiler."""

_MAPS = Path("/proc/self/maps")


def use_cache() -> None:
    """Keeps compiled programs in the user's cache folder, so that a second start need not compile them.

    Left alone where jax's own settings name a folder (JAX_COMPILATION_CACHE_DIR) or switch the cache off
    (JAX_ENABLE_COMPILATION_CACHE=0), and where the folder cannot be written to.
    """
    config: Any = jax.config  # whose fields type checkers do not know
    if config.jax_compilation_cache_dir is not None or not config.jax_enable_compilation_cache:
        return
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    # Programs for one processor may not run on another, and home folders are shared.
    # jax's keys do not tell programs that were compiled in haste from others, though their last digits differ.
    haste = "-in-haste" if config.values.get("jax_disable_most_optimizations") else ""
    folder = Path(base) / "gandyn" / f"programs-{_processor()}{haste}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _processor() -> str:
    """A short text that is the same for processors with the same instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        flags = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(flags.encode()).hexdigest()[:12]}"


def make_room() -> None:
    """Gives compiled programs up where the process holds so many that more might crash it."""
    if _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()
