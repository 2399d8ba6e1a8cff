"""Sweeps on more than one process: groups of runs spread over the processes of jax.distributed, or over a Ray cluster.

Both hand out whole groups, as `sweep.plan` cut them; a group trains on the local devices of one process, writes its own
store and keeps its own checkpoints, so its bits do not depend on where it trains. The folder must be on a file system
that all processes share. Whoever stops or is lost: `gandyn resume` goes on.
"""

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils

from gandyn import checks, devices, environment
from gandyn.results import manifest as manifests
from gandyn.results import store
from gandyn.results.writer import Writer
from gandyn.sweeps import interrupts, parts, progress, sweep_file
from gandyn.sweeps.engines import Engine, Failure, train_groups
from gandyn.sweeps.folders import groups_of
from gandyn.sweeps.sweep import Group, Sweep

_LOOK_SECONDS = 0.5
MAX_RETRIES = 20
"""Workers that a group may lose before it counts as failed."""


class Distributed(Engine):
    """Several processes that were started alike, one a host or a set of GPUs; each trains every n-th group.

    A process that dies takes the others with it (jax.distributed is not fault-tolerant): start them all again with
    `gandyn resume`.

    Args:
      address: host:port of process 0; "" under Slurm, Open MPI or on a TPU, where jax finds it.
      num_processes: how many; None likewise.
      process_id: which of them this is; None likewise.

    Raises:
      ValueError: jax finds no cluster, or refuses it.
    """

    def __init__(self, address: str = "", num_processes: int | None = None, process_id: int | None = None) -> None:
        if num_processes is not None:
            checks.whole("num_processes", num_processes)
            checks.whole("process_id", process_id, least=0, most=num_processes - 1)
        try:
            jax.distributed.initialize(address or None, num_processes, process_id)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"distributed: {error}".splitlines()[0]) from error
        devices.prepare()  # behind the line above, which comes before jax starts; in front of what starts it
        self.parts = jax.process_count()
        self.leads = jax.process_index() == 0

    def ready(self) -> None:
        """Returns once every process is here."""
        multihost_utils.sync_global_devices("gandyn")

    def train(
        self, writer: Writer, sweep_: Sweep, groups: Mapping[int, Group], shown: bool, checkpoint_every: float
    ) -> list[Exception]:
        """See `Engine`."""
        own = dict(list(groups.items())[jax.process_index() :: jax.process_count()])
        failures = super().train(writer, sweep_, own, shown, checkpoint_every)
        self.ready()
        return failures


class Ray(Engine):
    """A Ray cluster (the extra `ray`): a task a group, restarted elsewhere from its checkpoint where a worker is lost.

    Args:
      address: of the cluster, "auto" for the one that this machine is in; "" starts a local one.
      cpus: processors of a task, and the virtual devices (two at least) that it trains on.
      gpus: GPUs of a task.

    Raises:
      ValueError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, address: str = "", cpus: float = 1, gpus: float = 0) -> None:
        checks.number("cpus", cpus, 0, above=True)
        checks.number("gpus", gpus, 0)
        if importlib.util.find_spec("ray") is None:
            raise ValueError("engine: got 'ray', which is not installed: pip install 'gandyn[ray]'")
        import ray  # pyright: ignore[reportMissingImports]  an extra

        if not ray.is_initialized():
            try:
                ray.init(
                    address=address or "local",
                    include_dashboard=False,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                    ignore_reinit_error=True,
                )
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise ValueError(f"ray: {error}".splitlines()[0]) from error
        self._cpus, self._gpus = cpus, gpus
        workers = ray.cluster_resources().get("CPU", 1) / cpus
        if gpus:
            workers = min(workers, ray.cluster_resources().get("GPU", 0) / gpus)
        if workers < 1:
            raise ValueError(f"ray: no node has {cpus:g} processors and {gpus:g} GPUs for a task")
        self.parts = int(workers)

    def train(
        self, writer: Writer, sweep_: Sweep, groups: Mapping[int, Group], shown: bool, checkpoint_every: float
    ) -> list[Exception]:
        """See `Engine`."""
        import ray  # pyright: ignore[reportMissingImports]  an extra
        from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]  an extra

        assert writer.folder is not None
        num_devices = max(devices.MIN_CPU_DEVICES, int(self._cpus))
        variables = {"env_vars": {"JAX_NUM_CPU_DEVICES": str(num_devices)} if not self._gpus else {}}
        remote = ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_retries=MAX_RETRIES, runtime_env=variables)
        task, folder = remote(_train), str(writer.folder.absolute())
        own = [part.value for part in sweep_.parts]
        waiting = {task.remote(folder, index, checkpoint_every, own): index for index in groups}
        failures: list[Exception] = []
        try:
            with interrupts.Stop() as stop, _Watch(writer, groups, shown) as watch:
                while waiting:
                    done, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=_LOOK_SECONDS)
                    for one in done:
                        index = waiting.pop(one)
                        try:
                            failures += [Failure(text) for text in ray.get(one)]
                        except RayError as error:
                            failures.append(Failure(f"group {index} ({groups[index].label}): {error}"))
                    watch.look()
                    stop.check()
        finally:
            for one in waiting:
                ray.cancel(one, force=True)
        return failures


@environment.ours()
def _train(folder: str, index: int, checkpoint_every: float, own: list[Any]) -> list[str]:
    """What a task does: train one group from its last checkpoint, with a person's own parts. Returns what failed."""
    path = Path(folder)
    sweep_ = sweep_file.parse(manifests.read(path)["configuration"], parts.collect(own))
    group = groups_of(path, sweep_)[index]
    writer = store.reopen(path, index)
    return [str(failure) for failure in train_groups(writer, sweep_, {index: group}, False, checkpoint_every)]


class _Watch:
    """Reports what other processes note of their groups."""

    def __init__(self, writer: Writer, groups: Mapping[int, Group], shown: bool) -> None:
        self._writer, self._groups = writer, groups
        self._seen = dict.fromkeys(groups, 0)
        ends = {index: writer.groups[index].spec.steps[-1] for index in groups}
        self._report = progress.shown(sum(len(group.runs) * ends[index] for index, group in groups.items()), shown)
        self._first = True

    def __enter__(self) -> "_Watch":
        self._report.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._report.__exit__(*error)

    def look(self) -> None:
        """Reports what was done since the last look."""
        for index, group in self._groups.items():
            noted = self._writer.progress(index)
            if noted.step > self._seen[index]:
                self._report(group.label, (noted.step - self._seen[index]) * len(group.runs), anew=not self._first)
                self._seen[index] = noted.step
        self._first = False
