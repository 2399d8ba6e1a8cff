"""What jax is asked for before it starts: one virtual CPU device a core, and no pages about programs that it kept.

Importing gandyn sets nothing. `prepare` is called by whatever is about to run something, and by nothing before that.
"""

import functools
import logging
import os
import warnings
from typing import Any

import jax

from gandyn import environment

MIN_CPU_DEVICES = 2
"""Programs for one device pass through another part of the compiler, and round some deep measurements otherwise
(docs/decisions.md, 46)."""

_XLA_FLAG = "xla_force_host_platform_device_count"


@functools.cache
def prepare() -> None:
    """Starts jax's devices, on CPU one virtual device a core (`MIN_CPU_DEVICES` at least), once a process.

    What was asked for otherwise, by JAX_NUM_CPU_DEVICES, jax.config or XLA_FLAGS, stays. Where jax already runs with
    fewer devices than gandyn would ask for, or was asked for fewer than it needs, a RuntimeWarning says so.

    Raises:
      ValueError: jax cannot start with the settings of the environment.
    """
    config: Any = jax.config  # whose fields type checkers do not know
    asked = config.jax_num_cpu_devices
    if asked == 0 or asked < -1:  # -1 stands for nothing asked
        raise ValueError(f"JAX_NUM_CPU_DEVICES: got {asked}; allowed: at least {MIN_CPU_DEVICES}, or unset: one a core")
    chosen, running = asked > 0 or _XLA_FLAG in os.environ.get("XLA_FLAGS", ""), False
    if not chosen:
        try:
            jax.config.update("jax_num_cpu_devices", _wanted())
        except RuntimeError:  # jax takes no number once it runs
            running = True
    _say_nothing_of_kept_programs()
    unheard = environment.unheard()
    if unheard:
        warnings.warn(
            f"{', '.join(unheard)}: no effect inside gandyn, where NaN is a value and programs are compiled; what you "
            "compute beside it is looked at as before",
            RuntimeWarning,
            stacklevel=2,
        )
    try:
        devices = jax.local_devices()
    except (RuntimeError, AssertionError) as error:  # the latter, without a word, for a platform that is not there
        asked_for = {name: config.values.get(name) for name in ("jax_platforms", "jax_platform_name")}
        given = [f"{name.upper()}: got {value!r}" for name, value in asked_for.items() if value]
        platforms = given[0] if given else "jax"
        reason = f" ({str(error).splitlines()[0]})" if str(error) else ""
        raise ValueError(f"{platforms}; allowed: a platform that jax finds here, such as cpu{reason}") from None
    wanted = MIN_CPU_DEVICES if chosen else _wanted()
    if devices[0].platform == "cpu" and len(devices) < wanted:
        warnings.warn(
            f"jax {'was started before gandyn' if running else 'was asked for fewer'}: {len(devices)} CPU "
            f"device{'' if len(devices) == 1 else 's'}, and not {wanted}: sweeps use fewer cores"
            + (", and deep measurements may have other last digits" if len(devices) < MIN_CPU_DEVICES else "")
            + f". Set JAX_NUM_CPU_DEVICES={wanted} before the start, or run gandyn before anything else uses jax",
            RuntimeWarning,
            stacklevel=2,
        )


def _wanted() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(MIN_CPU_DEVICES, cores)


def _say_nothing_of_kept_programs() -> None:
    """Keeps jax 0.10 from reporting each program of its cache as another machine's, in ten thousand characters.

    It lists tuning hints of the compiler (prefer-no-gather) among the instructions that the processor should have. What
    does go wrong in XLA arrives as an exception. The environment variable TF_CPP_MIN_LOG_LEVEL is read when jax is
    imported, which may be long ago; jax's own logging level reaches the compiler at any time, and Python's loggers
    are given back as they were. A level that the user chose stays.
    """
    config: Any = jax.config
    chosen = config.jax_logging_level not in (None, "NOTSET") or os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") != "1"
    if jax.__version_info__ >= (0, 11) or chosen:  # jax itself sets 1
        return
    before, loggers = config.jax_logging_level, [logging.getLogger(name) for name in ("jax", "jaxlib")]
    levels = [logger.level for logger in loggers]
    jax.config.update("jax_logging_level", "CRITICAL")
    jax.config.update("jax_logging_level", before)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
