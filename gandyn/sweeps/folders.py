"""Results folders as sweeps: what a folder was made by, its groups as they were planned, and when each is measured."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gandyn.results import manifest as manifests
from gandyn.results import store
from gandyn.results.writer import Writer
from gandyn.sweeps import parts, records, sweep_file
from gandyn.sweeps.sweep import Group, Sweep
from gandyn.sweeps.training import Schedule


class MissingPartsError(ValueError):
    """A folder was made with a person's own parts, which were not handed in."""


def recorded(folder: Path, anyway: bool, using: Iterable[Any] = ()) -> tuple[dict[str, Any], Sweep]:
    """The manifest of a folder, and the sweep that it was made by.

    Args:
      folder: of results.
      anyway: whether it is to be gone on with though what decides its runs' bits is otherwise here.
      using: the person's own parts that it was made with.

    Raises:
      ValueError: it cannot be gone on with here, with every reason.
    """
    manifest = manifests.read(folder)
    own = parts.collect(using)
    missing = parts.missing(manifest["parts"], own)
    if missing:
        raise MissingPartsError(
            f"{folder} was made with parts that are not at hand: {', '.join(missing)}. They go in as using=[...], on "
            "the command line as --using FILE.py"
        )
    try:
        sweep_ = sweep_file.parse(manifest["configuration"], own)
    except ValueError as error:
        raise ValueError(f"{folder} records no sweep that can be run: {error}") from error
    changed = [*records.what_changed(manifest), *parts.changed(manifest["parts"], parts.record(sweep_.parts))]
    if changed and not anyway:
        raise ValueError(
            f"{folder} was made otherwise: {'; '.join(changed)}. Its runs would go on otherwise, too; to do that all "
            "the same, pass anyway"
        )
    return manifest, sweep_


def groups_of(folder: Path, sweep_: Sweep) -> dict[int, Group]:
    """The groups of a results folder by their position, as they were planned."""
    settings = {setting.recipe: setting for setting in sweep_.settings}
    wanted = {(setting.recipe, seed) for setting in sweep_.settings for seed in sweep_.seeds}
    groups: dict[int, Group] = {}
    sizes: dict[Any, int] = {}
    for index, group in store.reopen(folder).groups.items():
        labels = list(zip(group.spec.coords["recipe"], group.spec.coords["seed"]))
        if not wanted.issuperset(labels):
            raise ValueError(f"{folder}: group {index} holds runs that its recorded configuration does not have")
        wanted -= set(labels)
        runs = tuple((settings[recipe], int(seed)) for recipe, seed in labels)
        config = runs[0][0].config
        if any(setting.config != config for setting, _ in runs):
            raise ValueError(f"{folder}: group {index} holds runs of more than one Config")
        groups[index] = Group(config, runs, len(runs))
        sizes[config] = max(len(runs), sizes.get(config, 0))
    if wanted:
        raise ValueError(f"{folder} lacks runs of its recorded configuration, such as {sorted(wanted)[0]}")
    return {index: group._replace(capacity=sizes[group.config]) for index, group in groups.items()}


def schedule_of(writer: Writer, index: int, sweep_: Sweep) -> Schedule:
    """When a group is measured: at every step of its store."""
    steps = list(writer.groups[index].spec.steps)
    ends = {*writer.manifest["ends"], sweep_.num_steps}
    every = sweep_.deep_every
    deep = frozenset(step for step in steps if step % every == 0 or step in ends) if every else frozenset()
    return Schedule(steps, deep, every, sweep_.measured)
