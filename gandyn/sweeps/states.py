"""States out of a results folder, and into new runs: `load_states`, and what `run(init_from=...)` starts from.

Shapes: R runs.
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gandyn import checks, environment
from gandyn.devices import prepare
from gandyn.gan.game import Game
from gandyn.gan.state import State
from gandyn.gan.step import init
from gandyn.results import manifest as manifests
from gandyn.results import store
from gandyn.results.files import folder_of
from gandyn.results.writer import Writer
from gandyn.sweeps import compilation, interrupts, parts, training
from gandyn.sweeps.engines import checkpoints_of
from gandyn.sweeps.folders import groups_of, recorded, schedule_of
from gandyn.sweeps.progress import shown as show_progress
from gandyn.sweeps.sweep import Group
from gandyn.text import printable


@dataclasses.dataclass(frozen=True)
class TrainedPlayers:
    """Both players of one run at one step.

    Attributes:
      game: the GAN.
      state: its state.
      origin: where they come from, in words.
    """

    game: Game
    state: State
    origin: str

    @environment.ours()
    def generate(self, latents: Any, labels: Any = None) -> jax.Array:
        """G's samples (N, *E) of latents (N, Z), under its running statistics; labels (N,) where conditional."""
        checks.shape("latents", latents, (None, self.game.config.latent_dim))
        labels = self._labels(labels, len(latents))
        return self.game.generate(self.state.variables.gen, jax.numpy.asarray(latents, np.float32), labels)

    @environment.ours()
    def discriminate(self, points: Any, labels: Any = None) -> jax.Array:
        """D's outputs (N,) at points (N, *E); (N / m,) where each m consecutive ones are a pack."""
        checks.shape("points", points, (None, *self.game.event_shape))
        if len(points) % self.game.config.packing:
            raise ValueError(f"points: got {len(points)}; allowed: whole packs of {self.game.config.packing}")
        labels = self._labels(labels, len(points))
        return self.game.discriminate(self.state.variables.disc, jax.numpy.asarray(points, np.float32), labels)

    def _labels(self, labels: Any, num: int) -> jax.Array | None:
        num_classes = self.game.config.num_classes
        if labels is None or not num_classes:
            if labels is not None or num_classes:
                allowed = f"({num},), from 0 to {num_classes - 1}" if num_classes else "none, for it is unconditional"
                raise ValueError(f"labels: got {'none' if labels is None else 'some'}; allowed: {allowed}")
            return None
        checks.shape("labels", labels, (num,))
        checks.each("labels", labels, 0, num_classes - 1)
        return jax.numpy.asarray(labels, np.int32)


@environment.ours()
def load_states(
    path: str | os.PathLike[str],
    run: int,
    step: int | None = None,
    *,
    using: Iterable[Any] = (),
    anyway: bool = False,
    progress: bool = False,
) -> TrainedPlayers:
    """The trained players of a run of a results folder.

    Args:
      path: the results folder.
      run: its number there.
      step: when; the last step if left out, whose state every finished run has. For others the run is trained again
        from the checkpoint before, to the same bits.
      using: as of `resume`; parts that this process has trained with need not be handed in again.
      anyway: as of `resume`.
      progress: as of `run`.

    Raises:
      FileNotFoundError, ValueError: as `resume`; no such run; a step that it does not have.
    """
    folder = folder_of(path, "path")
    prepare()
    given, there = list(using), manifests.read(folder)["parts"]
    _, sweep_ = recorded(folder, anyway, [*given, *parts.at_hand(there, parts.collect(given))])
    writer = store.reopen(folder)
    groups = groups_of(folder, sweep_)
    index, position = find_run(groups, run)
    group, schedule = groups[index], schedule_of(writer, index, sweep_)
    step = schedule.steps[-1] if step is None else step
    checks.whole("step", step, least=0, most=schedule.steps[-1])
    alone = Group(group.config, (group.runs[position],), 1)
    start = store.read_start(writer, index)
    own = None if start is None else {name: leaf[position : position + 1] for name, leaf in start.items()}
    compilation.use_cache()
    with interrupts.Stop() as stop, show_progress(step, progress) as report:
        again = training.Training(alone, schedule, lambda *_: None, report, stop, own)
        start_near(step, again, writer, index, group, position)
        again.advance_to(step)
    setting, seed = group.runs[position]
    return TrainedPlayers(
        setting.game,
        again.state_of(0),
        f"{printable(folder.name)}, run {run} ({setting.recipe}, seed {seed}), step {step}",
    )


def find_run(groups: Mapping[int, Group], run: int) -> tuple[int, int]:
    """The group that a run of the results is in, and its position there."""
    first = 0
    for index, group in groups.items():
        if first <= run < first + len(group.runs):
            return index, run - first
        first += len(group.runs)
    raise ValueError(f"run: got {run}; allowed: 0 to {first - 1}")


def start_near(step: int, again: training.Training, writer: Writer, index: int, group: Group, position: int) -> None:
    """Goes to the last checkpoint at or before a step, where there is one."""
    like = {
        name: np.empty((len(group.runs), *leaf.shape[1:]), leaf.dtype) for name, leaf in again.checkpoint().tree.items()
    }
    with checkpoints_of(writer, index, group) as kept:
        found = kept.latest(like, len(writer.groups[index].spec.steps), at_most=step) if kept is not None else None
    if found is not None:
        row = slice(position, position + 1)
        again.restore(found._replace(recorded=0, tree={name: leaf[row] for name, leaf in found.tree.items()}))


# ---- to start from


class Start(NamedTuple):
    """What the runs of a group start from.

    Attributes:
      arrays: leaves of their players' variables (`State.variables`), (R, ...), by their numbers.
      origins: where they come from, one text a run.
    """

    arrays: Mapping[str, np.ndarray]
    origins: list[str]

    def of(self, run: int) -> "Start":
        """That of one run alone."""
        return Start({name: leaf[run : run + 1] for name, leaf in self.arrays.items()}, [self.origins[run]])


def starts_of(given: TrainedPlayers | Sequence[TrainedPlayers] | None, groups: Sequence[Group]) -> dict[int, Start]:
    """What each group of runs starts from, by its position; empty where nothing is given.

    Raises:
      ValueError: neither one nor one a run; players of other shapes than the runs have.
    """
    if given is None:
        return {}
    num_runs = sum(len(group.runs) for group in groups)
    listed = [given] * num_runs if isinstance(given, TrainedPlayers) else given
    if not isinstance(listed, Sequence) or not all(isinstance(one, TrainedPlayers) for one in listed):
        raise ValueError(f"init_from: got {listed!r:.100}; allowed: what load_states gives, one or one a run")
    if len(listed) != num_runs:
        raise ValueError(f"init_from: got {len(listed)}; allowed: what load_states gives, one or one a run, {num_runs}")
    found, first = {}, 0
    for index, group in enumerate(groups):
        own = listed[first : first + len(group.runs)]
        first += len(group.runs)
        wanted = jax.eval_shape(init, group.runs[0][0].game, jax.random.key(0, impl="threefry2x32"))
        for one in own:
            _check_fits(one, wanted, group)
        rows = [[np.asarray(leaf) for leaf in jax.tree.leaves(one.state.variables)] for one in own]
        arrays = {f"{number:04d}": np.stack(leaves) for number, leaves in enumerate(zip(*rows, strict=True))}
        found[index] = Start(arrays, [one.origin for one in own])
    return found


def _check_fits(given: TrainedPlayers, wanted: State, group: Group) -> None:
    ours = jax.tree_util.tree_flatten_with_path(wanted.variables)[0]
    theirs = dict(jax.tree_util.tree_flatten_with_path(given.state.variables)[0])
    for path, leaf in ours:
        shape = np.shape(theirs[path]) if path in theirs else None
        if shape != leaf.shape:
            name = jax.tree_util.keystr(path)
            raise ValueError(
                f"init_from: {given.origin}: {name} has shape {shape}; allowed in {group.label}: {leaf.shape}"
            )
    if len(theirs) != len(ours):
        raise ValueError(
            f"init_from: {given.origin}: its networks have more than those of {group.label}; allowed: alike"
        )
