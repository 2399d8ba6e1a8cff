"""`check`: which checks a part of each kind goes through."""

import functools
from collections.abc import Callable, Collection
from typing import Any, Literal

import flax.linen as nn

from gandyn import devices, environment
from gandyn.gan import networks
from gandyn.gan.loss import Loss
from gandyn.gan.number import HParams
from gandyn.gan.optimizers import Optimizer
from gandyn.gan.penalties import Penalty
from gandyn.gan.rules import Rule
from gandyn.sweeps import parts
from gandyn.sweeps.fingerprints import fingerprint
from gandyn.testing import densities, measuring, playing, pure
from gandyn.testing.playing import Context
from gandyn.testing.report import Report, Suite
from gandyn.truth.measure import Measurement


@environment.ours()
def check(
    part: Any,
    *,
    player: Literal["gen", "disc"] | None = None,
    target: Any = None,
    hparams: HParams = HParams(),  # noqa: B008 (frozen)
    play: bool = True,
    without: Collection[str] = (),
    raises: bool = True,
    **fields: Any,
) -> Report:
    """Whether a part does all that gandyn asks of one of its kind, alone and in a small game.

    A game of four-unit networks is built around it, two runs of which make a few steps: under jit and vmap as alone and
    uncompiled, in chunks as at once, with one program for all values of the part's numbers.

    Args:
      part: a Loss, Penalty, Rule, Optimizer, Measurement, target, or Linen module.
      player: which player a module is; by default found by trying.
      target: of the game; a ring of four.
      hparams: of the game; each number at its default.
      play: whether it is tried in a game, too, which takes seconds to compile.
      without: names of checks to leave out: "gradients" of a loss that stops one on purpose, say.
      raises: whether a failure raises; else it stands in the report.
      **fields: of the game's `Config`, where the part needs others: `num_classes=2`, say, or `disc=MyDisc()`.

    Returns:
      What was checked, and what was found.

    Raises:
      AssertionError: what failed, and why.
      ValueError: no such part, or a check to leave out that there is not.
    """
    devices.prepare()
    kind, name, of_kind = _kind_of(part, player)
    suite, context = Suite(kind, name, without), Context(target, hparams, dict(fields))
    of_kind(suite, part, context, play)
    suite.run("fingerprint", _fingerprint, kind, part)
    report = suite.report()
    if raises and report.failures:
        lines = "\n".join(f"  {failed.name}: {failed.detail}" for failed in report.failures)
        raise AssertionError(f"{kind} {name!r} fails {len(report.failures)} of {len(report.checks)} checks:\n{lines}")
    return report


def _kind_of(part: Any, player: str | None) -> tuple[str, str, Callable[..., None]]:
    """Kind, name, and the checks of the kind."""
    for own, kind, of_kind in _KINDS:
        if isinstance(part, own):
            return kind, part.name, of_kind
    if isinstance(part, nn.Module):
        return "network", type(part).__name__, functools.partial(_of_network, player=player)
    if not isinstance(part, type) and (hasattr(part, "log_prob") or hasattr(part, "transform")):
        named = getattr(part, "made", None) is not None and not densities.lacking(part)
        return "target", parts.target_name(part) if named else type(part).__name__, _of_target
    raise ValueError(
        f"part: got {part!r:.200}; allowed: a Loss, Penalty, Rule, Optimizer or Measurement, a target, or an instance "
        "of a flax.linen module"
    )


def _fingerprint(kind: str, part: Any) -> str:
    """What a results folder tells a part by is the same each time."""
    first, second = fingerprint(kind, part), fingerprint(kind, part)
    if first != second:
        raise AssertionError(f"got {first}, then {second}: it traces to another program each time (a random constant?)")
    return first


def _of_loss(suite: Suite, loss: Loss, context: Context, play: bool) -> None:
    context = context.with_fields(loss=loss)
    pure.check_loss(suite, loss, context)
    if play:
        playing.check_in_game(suite, context, loss.numbers)


def _of_penalty(suite: Suite, penalty: Penalty, context: Context, play: bool) -> None:
    context = context.with_fields(penalties=(penalty,))
    if pure.check_penalty(suite, penalty) and play:
        playing.check_in_game(suite, context, penalty.numbers)


def _of_rule(suite: Suite, rule: Rule, context: Context, play: bool) -> None:
    context = context.with_fields(rule=rule)
    if playing.check_abstractly(suite, context):
        suite.run("numbers are read", pure.rule_reads, rule, context)
        if play:
            playing.check_in_game(suite, context, rule.numbers, again=True)


def _of_optimizer(suite: Suite, optimizer: Optimizer, context: Context, play: bool) -> None:
    context = context.with_fields(gen_optimizer=optimizer, disc_optimizer=optimizer)
    numbers = {f"{name}_{who}": number for who in ("gen", "disc") for name, number in optimizer.numbers.items()}
    if pure.check_optimizer(suite, optimizer) and play:
        playing.check_in_game(suite, context, numbers)


def _of_network(suite: Suite, module: nn.Module, context: Context, play: bool, player: str | None) -> None:
    if "labels" in networks.accepted(type(module)):
        context = context.with_fields(num_classes=context.fields.get("num_classes", 2))
    player = player or pure.player_of(module, context)
    context = context.with_fields(**{player: module})
    if pure.check_network(suite, module, player, context) and play:
        playing.check_in_game(suite, context, {})


def _of_target(suite: Suite, target: Any, context: Context, play: bool) -> None:
    if densities.check_target(suite, target) and play:
        playing.check_in_game(suite, context._replace(target=target), {})


def _of_measurement(suite: Suite, measurement: Measurement, context: Context, play: bool) -> None:
    measuring.check_measurement(suite, measurement, context, play)


_KINDS = (
    (Loss, "loss", _of_loss),
    (Penalty, "penalty", _of_penalty),
    (Rule, "rule", _of_rule),
    (Optimizer, "optimizer", _of_optimizer),
    (Measurement, "measurement", _of_measurement),
)
