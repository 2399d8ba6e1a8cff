"""The host loop of one group of runs: advance, measure, record and keep checkpoints while the devices work.

What the devices are given at once takes about a second, whatever the number of runs and steps: in between the loop
looks whether it is asked to stop, reports, and writes. How work is cut changes no bit (docs/decisions.md).
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from gandyn.gan.state import Players, State
from gandyn.gan.step import init
from gandyn.gan.targets import Target
from gandyn.results.checkpoints import Checkpoint, Checkpoints
from gandyn.results.manifest import Progress
from gandyn.results.writer import Writer
from gandyn.sweeps import cost, ensemble
from gandyn.sweeps.interrupts import Stop, Stopped
from gandyn.sweeps.parts import described
from gandyn.sweeps.sweep import Group
from gandyn.truth import measure
from gandyn.truth.measure import MeasureConfig, Measured, Past

PIECE_SECONDS = 1.0
"""What is given to the devices at once takes about so long."""

NOTE_SECONDS = 5.0
"""So often the progress of a group is noted beside its results."""


class Report(Protocol):
    """Is told what trains, and the run-steps done since the last call; `anew` is False for those done before."""

    def __call__(self, label: str, done: int, *, anew: bool = True) -> None:
        """Takes one report."""
        ...


class Schedule(NamedTuple):
    """When a group is measured, and how.

    Attributes:
      steps: every step that is measured, increasing; the last one ends training.
      deep_steps: those of them that are measured in depth.
      deep_every: the path is measured from the last multiple of it; 0 where nothing is measured in depth.
      measure_config: how.
    """

    steps: Sequence[int]
    deep_steps: Collection[int]
    deep_every: int
    measure_config: MeasureConfig


def plans(measure_config: MeasureConfig, target: Target) -> tuple[measure.Plan, measure.Plan | None]:
    """What is measured often, and in depth (None where nothing is): what a target fixes of the measuring programs."""
    deep = measure.plan_of(measure_config, deep=True) if measure_config.deep else None
    return measure.plan_of(measure_config, deep=False), deep


def identity(group: Group) -> str:
    """A short text that is another one for other runs, settings or seeds."""
    text = hashlib.sha256(described(group.config).encode())
    arrays: dict[int, bytes] = {}
    for setting, seed in group.runs:
        own = id(setting)
        if own not in arrays:
            numbers = [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(setting.game)]
            arrays[own] = b"".join(leaf.tobytes() for leaf in numbers)
        text.update(arrays[own] + seed.to_bytes(4))
    return text.hexdigest()[:32]


class _Pace:
    """How much work takes about `PIECE_SECONDS`: found by timing it."""

    def __init__(self) -> None:
        self._seconds: float | None = None
        self._compiled = False

    @property
    def known(self) -> bool:
        return self._seconds is not None

    def amount(self, left: int) -> int:
        """What to do next of what is left: one until it is known how long that takes."""
        if self._seconds is None:
            return 1
        return max(1, min(left, int(PIECE_SECONDS / max(self._seconds, 1e-9))))

    @contextlib.contextmanager
    def timed(self, amount: int) -> Iterator[None]:
        """Around work that is waited for."""
        start = time.perf_counter()
        yield
        if self._compiled:
            self._seconds = (time.perf_counter() - start) / amount
        self._compiled = True


class Training:
    """One group on its way.

    Args:
      group: what trains.
      schedule: when it is measured.
      record: takes (position of the step in the schedule, metrics, fields) of a measurement.
      report: is told of progress.
      stop: is asked whether to go on.
      start: what the players start from (`states.Start`); None draws them.
    """

    def __init__(
        self,
        group: Group,
        schedule: Schedule,
        record: Callable[[int, dict[str, np.ndarray], dict[str, np.ndarray]], None],
        report: Report,
        stop: Stop,
        start: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._group, self._schedule, self._report, self._stop = group, schedule, report, stop
        self._record_to = record
        first = group.runs[0][0]
        often, in_depth = plans(schedule.measure_config, first.target)  # as of all others
        self._many = ensemble.make_ensemble(
            group.config,
            often,
            len(group.runs),
            cost.block_size(first, schedule.measure_config),
            in_depth=in_depth if schedule.deep_every else None,
            capacity=group.capacity,
        )
        self._games = [setting.game for setting, _ in group.runs]
        self._runs = self._many.place(ensemble.stack_runs(self._games, [seed for _, seed in group.runs]))
        self._metrics = list(measure.metrics_of(often, first.game))
        self._deep_metrics = [] if in_depth is None else list(measure.metrics_of(in_depth, first.game))
        self._not_taken = dict.fromkeys(self._deep_metrics, np.full(len(group.runs), np.nan, np.float32))
        self._paces = {"advance": _Pace(), "measure": _Pace(), "deep": _Pace()}
        self._pending: tuple[int, Any, tuple[dict, dict]] | None = None
        report(group.label, 0)
        self._states: State = self._many.init(self._runs, None if start is None else self._given(start))
        self._past = Past(*[self._many.keep_params(self._states)] * 2) if schedule.deep_every else None
        self.step = 0
        self.recorded = 0

    def _given(self, start: Mapping[str, np.ndarray]) -> Players:
        """The variables of the players that the runs start from, on the devices."""
        shapes = jax.eval_shape(init, self._games[0], jax.random.key(0, impl="threefry2x32")).variables
        return self._many.place(jax.tree.unflatten(jax.tree.structure(shapes), [start[name] for name in sorted(start)]))

    def like(self) -> Any:
        """Arrays of the shapes and types that a checkpoint of this group has."""
        return self._tree()

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes to where a checkpoint was taken."""
        leaves, structure = jax.tree.flatten((self._states, self._past))
        host = jax.tree.unflatten(structure, [checkpoint.tree[name] for name in sorted(checkpoint.tree)])
        assert len(leaves) == len(checkpoint.tree)
        typed = ensemble.wrap_keys(host, (self._states, self._past))
        self._states, self._past = self._many.place(typed)
        self.step, self.recorded = checkpoint.step, checkpoint.recorded

    def state_of(self, run: int) -> State:
        """The state of one run, on the first device."""
        return self._many.one(self._states, run)

    def states(self) -> State:
        """The states of all runs, leaves (R, ...) as copies on the host; waits for the devices."""
        return self._many.trim(self._states)

    def checkpoint(self) -> Checkpoint:
        """All that is needed to go on from here, as copies on the host; waits for the devices."""
        return Checkpoint(self.step, self.recorded, self._tree())

    def _tree(self) -> dict[str, np.ndarray]:
        leaves = jax.tree.leaves(self._many.trim((self._states, self._past)))
        return {f"{index:04d}": leaf for index, leaf in enumerate(leaves)}

    def run(self, after_each: Callable[[], None]) -> None:
        """Trains and measures to the end.

        Args:
          after_each: called after each recorded measurement, where a checkpoint can be taken.

        Raises:
          Stopped: at a safe point, where a checkpoint can be taken.
        """
        for index in range(self.recorded, len(self._schedule.steps)):
            self.advance_to(self._schedule.steps[index])
            # The devices are busy with this chunk while the last measurement is written.
            measurement = self._measure()
            if self._flush():
                after_each()
            deep = self._measure_deep() if self.step in self._schedule.deep_steps else ({}, {})
            self._pending = index, measurement, deep
        self._flush()

    def advance_to(self, step: int) -> None:
        """Trains up to a step."""
        pace = self._paces["advance"]
        while self.step < step:
            self._stop.check()
            left = step - self.step
            piece = pace.amount(left)
            if piece < left:
                with pace.timed(piece):
                    self._states = jax.block_until_ready(self._many.advance(self._states, self._runs, piece))
            else:
                self._states = self._many.advance(self._states, self._runs, piece)
            self.step += piece
            self._report(self._group.label, piece * self._many.num_runs)

    def _measure(self) -> Measured | Callable[[], Measured]:
        """The cheap measurement: itself, or what waits for it where it was given to the devices in one piece."""
        self._stop.check()
        rows, pace = self._many.rows_measured, self._paces["measure"]
        if pace.known and pace.amount(rows) == rows:
            measurement = self._many.measure(self._states, self._runs)
            return lambda: self._many.trim(measurement)
        return self._in_parts("measure", lambda span: self._many.measure(self._states, self._runs, span))

    def _in_parts(self, what: str, program: Callable[[slice], Any]) -> Any:
        """What a program gives of all runs, as arrays on the host; it goes through their rows part by part."""
        pace, first, whole = self._paces[what], 0, None
        while first < self._many.rows_measured:
            self._stop.check()
            span = slice(first, first + pace.amount(self._many.rows_measured - first))
            with pace.timed(span.stop - span.start):
                part = self._many.trim(program(span))
            whole = part if whole is None else whole
            runs = self._many.runs_in(span)
            for to, of in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
                to[runs] = of[runs]
            first = span.stop
        return whole

    def _measure_deep(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The deep metrics (R,) and fields (R, ...) of every run: those of the devices, then those of the host."""
        many, past = self._many, self._past
        assert past is not None
        assert many.in_depth is not None
        taken = self._in_parts("deep", lambda span: many.measure(self._states, self._runs, span, past))
        metrics = {name: taken.metrics[:, i].copy() for i, name in enumerate(self._deep_metrics)}
        fields = dict(taken.fields)
        if taken.more:
            for run in range(many.num_runs):
                self._stop.check()
                more = jax.tree.map(lambda leaf, run=run: leaf[run], taken.more)
                state = many.one(self._states, run)
                for name, value in measure.host_metrics(many.in_depth, self._games[run], state, more).items():
                    whole = metrics if name in metrics else fields
                    if run == 0 and name not in metrics:
                        fields[name] = np.full((many.num_runs, *np.shape(value)), np.nan, np.float32)
                    whole[name][run] = value
        if self.step % self._schedule.deep_every == 0:
            # Not at an end between two multiples: a longer run does not measure there.
            self._past = past._replace(last=many.keep_params(self._states))
        return metrics, fields

    def _flush(self) -> bool:
        """Records the measurement that waits to be; False where none does."""
        if self._pending is None:
            return False
        index, measurement, (deep_metrics, deep_fields) = self._pending
        metrics, fields, _ = measurement() if callable(measurement) else measurement  # pyright: ignore
        named = {name: metrics[:, i] for i, name in enumerate(self._metrics)}
        self._record_to(index, named | self._not_taken | deep_metrics, fields | deep_fields)
        self._pending, self.recorded = None, index + 1
        return True

    def settle(self) -> None:
        """Records what waits to be, so that a checkpoint counts on all that was measured."""
        self._flush()


def train(
    writer: Writer,
    index: int,
    group: Group,
    schedule: Schedule,
    report: Report,
    stop: Stop,
    checkpoints: Checkpoints | None = None,
    checkpoint_every: float = 60.0,
    start: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Trains and records one group of a results folder, from its last checkpoint.

    Args:
      writer: of the folder (or of memory).
      index: of the group in it.
      group: what trains.
      schedule: when it is measured.
      report: is told of progress.
      stop: is asked whether to go on.
      checkpoints: where states are kept; None keeps none.
      checkpoint_every: seconds between them, at least; one is always taken at the end, and when stopped.
      start: what the players start from; None draws them.

    Raises:
      Stopped: after a checkpoint.
    """
    before, began = writer.progress(index), time.monotonic()
    training = Training(group, schedule, lambda i, *what: writer.write(index, i, *what), report, stop, start)
    last_checkpoint = last_note = began

    def note(status: str, step: int | None = None) -> None:
        spent = before.wall_time_s + time.monotonic() - began
        writer.note(index, Progress(status, training.step if step is None else step, spent))

    def save() -> None:
        nonlocal last_checkpoint
        if checkpoints is not None:
            writer.sync()
            checkpoints.save(training.checkpoint())
        last_checkpoint = time.monotonic()

    def after_each() -> None:
        nonlocal last_note
        now = time.monotonic()
        if now - last_checkpoint >= checkpoint_every:
            save()
        if now - last_note >= NOTE_SECONDS:
            note("running")
            last_note = now

    if checkpoints is not None:
        _go_back(writer, index, training, checkpoints)
        report(group.label, training.step * len(group.runs), anew=False)
    note("running")
    try:
        training.run(after_each)
    except Stopped:
        training.settle()
        save()
        if checkpoints is not None:
            checkpoints.wait()
        note("interrupted")
        raise
    save()
    if checkpoints is not None:
        checkpoints.keep_last()
    note("complete")


def _go_back(writer: Writer, index: int, training: Training, checkpoints: Checkpoints) -> None:
    """To the last checkpoint that the results reach, without a gap or damage; to the start where there is none."""
    recorded = writer.mend(index)
    in_a_row = len(recorded) if recorded.all() else int(np.argmin(recorded))
    found = checkpoints.latest(training.like(), in_a_row)
    checkpoints.forget(after=-1 if found is None else found.step)
    if found is not None:
        training.restore(found)
