"""Networks of chosen runs at chosen steps as plain arrays, for whoever shows them: `snapshots`.

A sweep stores the last state of a run, not those on the way: the runs are trained again, side by side, to the same
bits.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

from gandyn import devices, environment
from gandyn.gan import networks, targets
from gandyn.gan.config import Config, loss_of, penalties_of, rule_of
from gandyn.gan.game import Game
from gandyn.gan.losses import LOSSES
from gandyn.gan.state import State
from gandyn.gan.step import init
from gandyn.results import manifest as manifests
from gandyn.results import store
from gandyn.results.files import folder_of
from gandyn.sweeps import compilation, interrupts, parts, training
from gandyn.sweeps.folders import groups_of, recorded, schedule_of
from gandyn.sweeps.progress import shown as show_progress
from gandyn.sweeps.states import find_run
from gandyn.sweeps.sweep import Group, Setting

MOMENTS_EVERY = 3
"""Of so many kept states one has what the optimizers remember, and the last one."""

_GRID = 32
_SAMPLES = 256


@environment.ours()
def snapshots(
    path: str | os.PathLike[str],
    runs: Sequence[int],
    room: int = 5_000_000,
    *,
    using: Iterable[Any] = (),
    anyway: bool = False,
    progress: bool = True,
) -> dict[int, dict[str, Any]]:
    """The networks of some runs at their measured steps, or at as many as fit.

    Args:
      path: the results folder.
      runs: numbers of runs in it.
      room: bytes that all of them may take as float16 in base64; each run has an equal share, and states evenly over
        its measurements, the first and the last among them.
      using: as of `resume`.
      anyway: as of `resume`.
      progress: as of `run`.

    Returns:
      run -> `config` (fields as texts and numbers), `numbers`, `target` (`arrays_of`), `networks` (of each player, as
      the page builds them; None where it cannot), `forks` (why it cannot train on; "" where it can), `seed`, and
      `states`: for each its `step` and `arrays`, float32, named "gen/params/Dense_0/kernel", "mu/disc/...", or, where
      the page cannot build the networks, "surface" and "samples".

    Raises:
      FileNotFoundError, ValueError: as `resume`; no such run.
    """
    folder = folder_of(path, "path")
    devices.prepare()
    _, sweep_ = recorded(folder, anyway, using)
    writer = store.reopen(folder)
    groups = groups_of(folder, sweep_)
    of_group: dict[int, list[int]] = {}
    for run in runs:
        of_group.setdefault(find_run(groups, run)[0], []).append(run)
    share, found = room // max(len(runs), 1), {}
    compilation.use_cache()
    last = sweep_.num_steps * len(runs)
    with interrupts.Stop() as stop, show_progress(last, progress) as report:
        for index, own in of_group.items():
            positions = [find_run(groups, run)[1] for run in own]
            group, schedule = groups[index], schedule_of(writer, index, sweep_)
            some = Group(group.config, tuple(group.runs[position] for position in positions), len(own))
            start = store.read_start(writer, index)
            rows = None if start is None else {name: leaf[positions] for name, leaf in start.items()}
            again = training.Training(some, schedule, lambda *_: None, report, stop, rows)
            done = writer.recorded(index)
            steps = [step for step, there in zip(schedule.steps, done, strict=True) if there]
            setting = some.runs[0][0]
            kept = evenly(steps, share // max(_size_of(setting.game), 1))
            for run, (one, seed) in zip(own, some.runs, strict=True):
                found[run] = described(one) | {"seed": seed, "states": []}
            for number, step in enumerate(kept):
                again.advance_to(step)
                moments, states = number % MOMENTS_EVERY == 0 or step == kept[-1], again.states()
                for position, run in enumerate(own):
                    game = some.runs[position][0].game
                    own_state = jax.tree.map(lambda leaf, position=position: leaf[position], states)
                    found[run]["states"].append({"step": step, "arrays": arrays_at(game, own_state, moments)})
    return {run: found[run] for run in runs}


def snapshots_or_why(
    path: str | os.PathLike[str],
    runs: Sequence[int],
    room: int,
    using: Iterable[Any] = (),
    anyway: bool = False,
    refuse: bool = False,
    progress: bool = True,
) -> tuple[dict[int, dict[str, Any]], tuple[str, ...]]:
    """As `snapshots`; where the runs cannot be trained again, nothing and a sentence that says why.

    Raises:
      ValueError: with `refuse`, in place of the sentence.
    """
    try:
        given = list(using)
        there = manifests.read(folder_of(path, "path"))["parts"]
        own = [*given, *parts.at_hand(there, parts.collect(given))]
        return snapshots(path, runs, room, using=own, anyway=anyway, progress=progress), ()
    except ValueError as error:
        if refuse:
            raise
        return {}, (f"No networks are in this page, for its runs cannot be trained again here: {error}",)


def evenly(steps: Sequence[int], number: int) -> list[int]:
    """At most `number` of the steps (two at least), evenly, with both ends."""
    if len(steps) <= max(number, 2):
        return list(steps)
    picked = np.rint(np.linspace(0, len(steps) - 1, max(number, 2))).astype(int)
    return [steps[i] for i in dict.fromkeys(picked.tolist())]


def _size_of(game: Game) -> int:
    """Bytes of text that one kept state takes, moments counted as often as they are kept."""
    if networks_of(game) is None:
        return int((_GRID**2 + 2 * _SAMPLES) * 2 * 1.4)
    shapes = jax.eval_shape(init, game, jax.random.key(0, impl="threefry2x32")).variables
    number = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))
    return int(number * (2 + 2 / MOMENTS_EVERY) * 1.3)


def described(setting: Setting) -> dict[str, Any]:
    """What the page has to know of a setting beside its arrays."""
    config = {f.name: parts.text_of(getattr(setting.config, f.name)) for f in dataclasses.fields(setting.config)}
    numbers = {name: float(value) for name, value in setting.hparams.as_dict().items()}
    return {
        "config": config,
        "numbers": numbers,
        "target": arrays_of(setting.target),
        "networks": networks_of(setting.game),
        "forks": why_it_cannot_fork(setting.config),
    }


def networks_of(game: Game) -> dict[str, Any] | None:
    """Both players as the page builds them: their fields; None where one is a module of a person's own, or not flat."""
    config = game.config
    if (
        config.gen is not None
        or config.disc is not None
        or game.event_shape != (2,)
        or config.minibatch_layer != "none"
    ):
        return None
    gen = {
        "net": config.gen_net,
        "width": config.gen_width,
        "depth": config.gen_depth,
        "activation": config.gen_activation,
        "norm": config.gen_norm,
        "fourier": config.gen_fourier,
        "inputs": config.latent_dim,
        "outputs": 2,
    }
    disc = {
        "net": config.disc_net,
        "width": config.disc_width,
        "depth": config.disc_depth,
        "activation": config.disc_activation,
        "norm": "none" if config.disc_norm == "spectral" else config.disc_norm,
        "fourier": config.disc_fourier,
        "inputs": 2 * config.packing,
        "outputs": 1,
        "projection": config.conditioning == "projection" and config.num_classes > 0,
    }
    shared = {"pieces": config.maxout_pieces, "epsilon": config.norm_epsilon, "classes": config.num_classes}
    return {"gen": gen | shared, "disc": disc | shared, "packing": config.packing}


_FORKED_RULES = ("alternating", "simultaneous")
_FORKED_OPTIMIZERS = ("sgd", "momentum", "adam", "adamw", "rmsprop")
_FORKED_PENALTIES = ("r1", "r2", "wgan_gp", "wgan_lp", "zero_centred", "l2", "clip")


def why_it_cannot_fork(config: Config) -> str:
    """Why the page cannot train on from a state of this configuration: what it lacks, in words; "" where it can."""
    optimizers = {parts.text_of(config.gen_optimizer), parts.text_of(config.disc_optimizer)}
    reasons = {
        "networks of one's own": config.gen is not None or config.disc is not None,
        f"the loss {loss_of(config).name}": loss_of(config).aux or loss_of(config).name not in LOSSES,
        f"the rule {rule_of(config).name}": rule_of(config).name not in _FORKED_RULES,
        f"the optimizer {', '.join(sorted(map(str, optimizers)))}": not optimizers <= set(_FORKED_OPTIMIZERS),
        "penalties other than " + ", ".join(_FORKED_PENALTIES): any(
            penalty.name not in _FORKED_PENALTIES for penalty in penalties_of(config)
        ),
        "batch and spectral normalization": config.gen_norm == "batch" or config.disc_norm in ("batch", "spectral"),
        "layers that see the batch": config.minibatch_layer != "none",
        "packs": config.packing > 1,
        "labels": config.num_classes > 0,
        "a fixed data set": config.dataset_size > 0,
        "instance noise": config.instance_noise != "none",
        "penalties of the other player's gradient": config.gradient_norm != "none",
        "top-k training": config.top_k,
        "lookahead": config.lookahead > 0,
        "schedules of the learning rates": config.schedule != "constant",
        "stratified batches": config.real_batch != "iid",
        "both players on one batch": config.second_batch == "same",
        "truncated latents": config.prior == "truncated",
    }
    return ", ".join(reason for reason, holds in reasons.items() if holds)


def arrays_at(game: Game, state: State, moments: bool) -> dict[str, np.ndarray]:
    """The arrays of both players, and of their optimizers' memories; of what the page cannot build, what it shows."""
    if networks_of(game) is None:
        return _shown(game, state)
    found = {
        f"{player}/{name}": leaf
        for player, variables in state.variables._asdict().items()
        for name, leaf in _leaves(variables)
        if not name.endswith(("/u", "/sigma"))
    }
    if game.config.disc_norm == "spectral":
        found |= _spectral(game, state)
    if moments:
        for player, memory in state.opt_state._asdict().items():
            found |= {f"{kind}/{player}/{name}": leaf for kind, name, leaf in _memory(memory)}
    return {name: np.asarray(leaf, np.float32) for name, leaf in found.items()}


def _leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        yield "/".join(str(part.key) for part in path), leaf


def _memory(opt_state: Any) -> Iterator[tuple[str, str, Any]]:
    for kind in ("mu", "nu", "trace"):
        for _, tree in optax.tree_utils.tree_get_all_with_path(opt_state, kind):
            if isinstance(tree, Mapping):
                yield from ((kind, name, leaf) for name, leaf in _leaves(tree))


def _spectral(game: Game, state: State) -> dict[str, Any]:
    """D's kernels as they are applied, divided by their norm: the page then needs no normalization."""
    variables: Any = state.variables.disc
    disc: Any = game.discriminator
    depth = 0 if game.config.disc_net in networks.WITHOUT_HIDDEN_LAYER else game.config.disc_depth
    found = {}
    for layer in range(depth + 1):
        kernel = variables["params"][f"Dense_{layer}"]["kernel"]
        found[f"disc/params/Dense_{layer}/kernel"] = disc._kernel(variables, layer, kernel.shape[0])
    return found


def _shown(game: Game, state: State) -> dict[str, np.ndarray]:
    """D's output on a grid over the target's box (rows along y), where D judges points one by one, and G's samples."""
    if game.event_shape != (2,):
        return {}
    config = game.config
    uniform = np.random.default_rng(0).uniform(2**-20, 1 - 2**-20, (_SAMPLES, config.latent_dim)).astype(np.float32)
    labels = jax.numpy.arange(_SAMPLES) % config.num_classes if config.num_classes else None
    found = {
        "samples": np.asarray(game.generate(state.variables.gen, game.latents(jax.numpy.asarray(uniform)), labels))
    }
    if config.packing == 1 and not game.judges_batches:
        center, half = (np.asarray(part, np.float32) for part in game.target.box())
        line = np.linspace(-1, 1, _GRID, dtype=np.float32) * half
        x, y = np.meshgrid(center[0] + line, center[1] + line)
        points = jax.numpy.asarray(np.stack([x.ravel(), y.ravel()], axis=1))
        labels = jax.numpy.zeros(len(points), int) if config.num_classes else None
        outputs = game.discriminate(state.variables.disc, points, labels)
        found["surface"] = np.asarray(outputs).reshape(_GRID, _GRID)
    return found


def arrays_of(target: Any) -> dict[str, Any]:
    """A target as the page draws and samples it: plain numbers; {} where it is not in the plane, or is not known."""
    if tuple(target.event_shape) != (2,):
        return {}
    center, half = target.box()
    box = {"center": [float(x) for x in np.asarray(center)], "half": float(half), "scale": float(target.scale())}
    if isinstance(target, targets.GaussianMixture):
        if target.num_components > 4_096:
            return {}
        made = {"kind": "mixture", **box}
        made |= {name: _flat(getattr(target, name)) for name in ("means", "stds", "weights")}
        if target.shapes is not None:
            made["shapes"] = _flat(target.shapes)
        if target.groups is not None:
            counted = target.num_modes > 0
            made["modes"] = np.argmax(np.asarray(target.groups), axis=1).tolist() if counted else []
        return made
    if isinstance(target, targets.TabulatedDensity):
        if np.size(target.log_density) > 2**14:
            return {}
        density = np.exp(np.asarray(target.log_density, float))
        return {
            "kind": "table",
            **box,
            "size": list(np.shape(target.log_density)),
            "density": [float(f"{x:.6g}") for x in density.ravel()],
            "origin": _flat(target.origin),
            "cell": _flat(target.cell),
        }
    return {}


def _flat(values: Any) -> list[float]:
    return [float(f"{x:.9g}") for x in np.asarray(values, np.float64).ravel()]


def known_targets() -> dict[str, dict[str, Any]]:
    """Every built-in target with its defaults: name -> `arrays_of`."""
    made = {name: arrays_of(make()) for name, make in targets.TARGETS.items()}
    return {name: arrays for name, arrays in made.items() if arrays}
