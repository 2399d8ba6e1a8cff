"""The truth of a loss: best D, its value at q = p, what it reads on missing modes, and whether the game is sound.

Closed forms of the loss win. What it does not give is derived from `disc` and `gen` alone, where D's loss is a mean
over single samples, disc = E_p a(s) + E_q b(s): D's best output at log p/q = r then minimizes e^r a(s) + b(s)
(`best_output`), and max_D V is the integral of q phi(p/q), phi(t) = max_s -(t a(s) + b(s)). phi is convex, so max_D V
is least at q = p whatever a and b are. What may go wrong is said in `LossTruth.problems`: no best output, a V that does
not see q, a G that is pushed away from where p exceeds q, closed forms that `disc` contradicts.

All of it is in float32, by the very functions that a run measures with. Shapes: N outputs, R log ratios of a table.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gandyn.gan.loss import Loss, Outputs
from gandyn.gan.number import HParams
from gandyn.truth import best_output, separability
from gandyn.truth.best_output import ATTAINED, FALLING, LOG_RATIOS, UNDEFINED, Table
from gandyn.truth.separability import ROUNDING


@dataclass(frozen=True, eq=False)
class LossTruth:
    """What is known of a loss at given numbers: closed forms where it has them, else derived, else why not.

    Nothing is computed, or compiled, before it is asked for. `numbers` are concrete; what is traced goes to `critic`.
    """

    loss: Loss
    numbers: HParams

    @functools.cached_property
    def critic(self) -> Callable[..., jax.Array] | None:
        """D's best output, up to `scale`, or None: (log p/q of any shape, numbers = `self.numbers`) -> the same shape.

        Under jit and vmap, traced in the numbers. A derived one is NaN where there is no best output, and at numbers at
        which the loss is no mean over single samples. None: `source` says why.
        """
        closed, at = self.loss.critic, self.numbers
        if closed is not None:
            return lambda log_ratio, numbers=at: closed(log_ratio, numbers)
        found = self._findings
        if isinstance(found, str) or _why_no_critic(found):
            return None
        return _derived_critic(self.loss, at, found.table)

    @property
    def scale(self) -> Callable[..., Any] | None:
        """`Loss.scale`: (critic's outputs on real (N,), on fake samples (N,)) -> factor of the best D, or None."""
        return self.loss.scale

    @functools.cached_property
    def source(self) -> str:
        """Of the critic: "given", "derived", or why there is none."""
        if self.loss.critic is not None:
            return "given"
        return self._findings if isinstance(self._findings, str) else _why_no_critic(self._findings) or "derived"

    @functools.cached_property
    def equilibrium(self) -> float:
        """V at q = p under the best D; NaN where unknown."""
        if self.loss.equilibrium is not None:
            with jax.ensure_compile_time_eval():
                return _number(self.loss.equilibrium, self.numbers)
        if self.loss.critic is not None:
            return 0.0 - float(self.at_best([0.0], [0.0])[0])
        found = self._findings
        if isinstance(found, str) or found.table.excess[len(LOG_RATIOS) // 2] > _MISLED:
            return math.nan
        return 0.0 + float(found.equilibrium)

    @functools.cached_property
    def decision(self) -> float:
        """D's best output where real and fake are equally likely; NaN where unknown or known up to a constant."""
        if self.critic is None or self.loss.pairs or self.loss.couples:
            return math.nan
        with jax.ensure_compile_time_eval():
            return 0.0 + float(self.critic(jnp.zeros(())))

    @functools.cached_property
    def slope_bound(self) -> float:
        """`slope_bound` of the loss."""
        with jax.ensure_compile_time_eval():
            return float(_jitted_slope_bound(self.loss, self.numbers))

    @functools.cached_property
    def zero_sum(self) -> bool:
        """Whether gen is -disc's part of fake samples, up to a constant, at these numbers; else as the loss says."""
        found = self._findings
        return self.loss.zero_sum if isinstance(found, str) else bool(found.mirrored <= ROUNDING)

    @functools.cached_property
    def problems(self) -> tuple[str, ...]:
        """Sentences on what is unsound about the game, or contradicts what the loss claims."""
        found = self._findings
        if isinstance(found, str):
            declared = self.loss.aux or self.loss.couples or self.loss.pairs or self.loss.unbounded
            return () if declared else (f"{found}; what is meant so says couples=True or pairs=True",)
        why = _why_no_critic(found)
        claims = _of_claims(self.loss, found, self.numbers)
        return tuple(([why] if why else _of_disc(found) + _of_gen(found)) + claims)

    @functools.cached_property
    def _findings(self) -> "_Findings | str":
        """Of a loss that is a mean over single samples; of another why it is not."""
        # Asked for while a program is traced, too.
        with jax.ensure_compile_time_eval():
            reason = _UNBOUNDED if self.loss.unbounded else why_not_separable(self.loss, self.numbers)
            return reason or jax.tree.map(np.asarray, _examine(self.loss, self.numbers))

    def at_best(self, real_log_ratios: Any, fake_log_ratios: Any) -> np.ndarray:
        """(2,) disc and gen under the best D, from log p/q at real (N,) and at fake (N,) samples; NaN where unknown.

        max_D V is minus the first.
        """
        if self.critic is None:
            return np.full(2, np.nan)
        with jax.ensure_compile_time_eval():
            return self._read(self.critic(jnp.asarray(real_log_ratios)), self.critic(jnp.asarray(fake_log_ratios)))

    def of_modes(self, num_modes: int, packing: int = 1) -> np.ndarray:
        """What both losses read under the best D where G covers k = 1 ... K of K equal, disjoint modes evenly: (2, K).

        D's loss, then G's. A pack of m samples lies in covered modes alone with probability (k/K)^m. NaN where no best
        output is known, and where the loss has no finite value once a mode is missing.
        """
        found = np.full((2, num_modes), np.nan)
        if self.critic is None:
            return found
        # Where q is zero the ratio is infinite: two stand-ins, which a finite value does not tell apart.
        infinities = (40.0, 80.0)
        ratios = [packing * math.log(k / num_modes) for k in range(1, num_modes + 1)]
        with jax.ensure_compile_time_eval():
            outputs = np.asarray(self.critic(jnp.asarray([*ratios, *infinities], jnp.float32)))
        for k in range(1, num_modes + 1):
            total, covered = num_modes**packing, k**packing
            fake = np.full(total, outputs[k - 1])
            sides = [self._read(np.where(np.arange(total) < covered, fake, missed), fake) for missed in outputs[-2:]]
            found[:, k - 1] = np.where(np.isclose(*sides, rtol=1e-4, atol=1e-6), sides[1], np.nan)
        return found

    def _read(self, real: Any, fake: Any) -> np.ndarray:
        """disc and gen (2,) at outputs of `critic` (N,), (N,)."""
        with jax.ensure_compile_time_eval():
            real, fake = jnp.asarray(real), jnp.asarray(fake)
            factor = 1.0 if self.scale is None else self.scale(real, fake)
            real, fake = factor * real, factor * fake
            if self.loss.aux:
                # A critic is given, so disc reads logits alone.
                real, fake = Outputs(real, None, {}), Outputs(fake, None, {})
                return np.asarray([float(self.loss.disc(real, fake, self.numbers)), np.nan])
            return np.asarray([float(one(real, fake, self.numbers)) for one in (self.loss.disc, self.loss.gen)])


def truth_of(loss: Loss, numbers: HParams | None = None) -> LossTruth:
    """What is known of a loss at given numbers: closed forms where it has them, else derived, else why not.

    Args:
      loss: with `disc` and `gen`; its other fields as far as they are known.
      numbers: at least those that it declares, concrete; the defaults where left out.
    """
    numbers = loss.defaults if numbers is None else numbers
    return _truth(loss, tuple(float(getattr(numbers, name)) for name in loss.numbers))


@functools.lru_cache(maxsize=1024)
def _truth(loss: Loss, numbers: tuple[float, ...]) -> LossTruth:
    return LossTruth(loss, HParams(**dict(zip(loss.numbers, numbers, strict=True))))


def critic_of(loss: Loss) -> Callable[[jax.Array, HParams], jax.Array] | None:
    """(log p/q of any shape, numbers) -> D's best output, up to `loss.scale`; None where there is none at the defaults.

    To be traced in the numbers: a derived critic is tabulated once wherever this is called in a program, in 10 ms.
    """
    return loss.critic or truth_of(loss).critic


def separable(loss: Loss, numbers: HParams) -> bool:
    """Whether D's loss is a mean over single samples, E_p a(s) + E_q b(s); `why_not_separable` says what fails."""
    return not why_not_separable(loss, numbers)


_UNBOUNDED = "no finite optimum: V has a maximum over bounded D alone, which is a penalty's or a constraint's business"


def why_not_separable(loss: Loss, numbers: HParams) -> str:
    """Why D's loss is no mean over single samples, "" where it is: as declared, and tried on outputs from -20 to 20."""
    if loss.aux:
        return "the loss reads more of D than its output"
    if loss.couples:
        return "a sample's loss depends on the other samples of its batch: there is no best output of one sample"
    if loss.pairs:
        return "the loss is of pairs of a real and a fake sample: there is no best output of one sample"
    with jax.ensure_compile_time_eval():
        adds, averages = np.asarray(_jitted_residuals(loss.disc, numbers))
    return separability.why_not("disc", float(adds), float(averages))


_jitted_residuals = jax.jit(separability.residuals, static_argnums=0)


# ---- the largest slope of G's loss


def slope_bound(loss: Loss, numbers: HParams) -> jax.Array:
    """The largest |d gen / d D(G(z))| of a sample over all outputs of D, (); NaN where unbounded or unknown.

    As the loss gives it; where it does not and gen is a mean over single fake samples, derived: to 1e-6 where it is
    attained at an output of size below 1000. Traced in the numbers.
    """
    bound = loss.slope_bound
    if bound is None:
        return jnp.full((), jnp.nan) if loss.aux else _derived_slope_bound(loss.gen, numbers)
    return jnp.asarray(bound(numbers) if callable(bound) else bound, jnp.float32)


_jitted_slope_bound = jax.jit(slope_bound, static_argnums=0)


def _derived_slope_bound(gen: Callable[..., Any], numbers: HParams) -> jax.Array:
    """From the slopes on the grid of outputs and, about the largest of them, on a finer one."""
    grid = jnp.asarray(best_output.POINTS, jnp.float32)
    start = best_output.starting_point(gen, numbers, jnp.sinh(grid))
    slope = jax.vmap(lambda v: jnp.abs(jax.grad(lambda t: gen(start[None], t[None], numbers))(jnp.sinh(v))))
    # Outputs at which gen is not defined say nothing.
    defined = lambda found: jnp.where(jnp.isnan(found), -jnp.inf, found)  # noqa: E731
    found = defined(slope(grid))
    near = jnp.where(jnp.abs(grid) < math.asinh(1e3), found, -jnp.inf)
    closer = defined(slope(grid[jnp.argmax(near)] + jnp.linspace(-1, 1, 801) * best_output.STEP))
    inside = jnp.maximum(jnp.max(closer), jnp.max(near))
    bounded = jnp.isfinite(inside) & (jnp.max(found) <= 1.01 * inside)
    return jnp.where(bounded & jnp.all(separability.residuals(gen, numbers) <= ROUNDING), inside, jnp.nan)


# ---- what a separable loss says


class _Findings(NamedTuple):
    """Of a separable loss, at `LOG_RATIOS` (R,).

    Attributes:
      table: best outputs.
      equilibrium: () V at q = p.
      gain: (R,) what D gains by the best output over that of r = 0, as a share of the sizes of what is summed.
      gen_mixing: (2,) `separability.residuals` of gen.
      gen: (R,) G's loss of a fake sample at the best outputs.
      mirrored: () how far gen is from -disc's part of fake samples, relative.
      given: (R,) outputs of the critic that the loss gives, NaN where it gives none or one up to a factor.
      given_excess: (R,) what D loses by those, as `gain`.
    """

    table: Table
    equilibrium: jax.Array
    gain: jax.Array
    gen_mixing: jax.Array
    gen: jax.Array
    mirrored: jax.Array
    given: jax.Array
    given_excess: jax.Array


@functools.partial(jax.jit, static_argnums=0)
def _examine(loss: Loss, numbers: HParams) -> _Findings:
    """`_Findings` of a loss whose `disc` is separable."""
    table = best_output.tabulate(loss.disc, numbers)
    best = table.outputs
    ratios, start = jnp.asarray(LOG_RATIOS), jnp.full_like(best, 1) * table.start
    middle = best[len(LOG_RATIOS) // 2]
    height, sizes = best_output.integrand(loss.disc, numbers, ratios, best, table.start)
    excess = lambda outputs: (  # noqa: E731
        (best_output.integrand(loss.disc, numbers, ratios, outputs, table.start)[0] - height)
        / jnp.maximum(sizes, 1e-30)
    )
    given = jnp.full_like(best, jnp.nan)
    if loss.critic is not None and loss.scale is None:
        given = jnp.broadcast_to(jnp.asarray(loss.critic(ratios, numbers), best.dtype), best.shape)
    outputs = jnp.asarray(separability.TRIED)
    here = jnp.full_like(outputs, 1) * table.start
    of_disc, of_gen = (best_output.single(one, numbers, here, outputs) for one in (loss.disc, loss.gen))
    both, size = of_disc + of_gen, jnp.abs(of_disc) + jnp.abs(of_gen)
    finite = jnp.isfinite(both)
    origin = both[jnp.argmin(jnp.where(finite, jnp.abs(outputs), jnp.inf))]
    mirrored = jnp.max(jnp.where(finite, jnp.abs(both - origin) / jnp.maximum(size + jnp.abs(origin), 1e-30), 0))
    return _Findings(
        table,
        -loss.disc(middle[None], middle[None], numbers),
        excess(jnp.full_like(best, 1) * middle),
        separability.residuals(loss.gen, numbers),
        best_output.single(loss.gen, numbers, start, best),
        mirrored,
        given,
        excess(given),
    )


def _intervals(mask: np.ndarray) -> str:
    """Where, in words, of a mask over `LOG_RATIOS`; beyond +-30 nothing counts."""
    ratios = LOG_RATIOS[np.abs(LOG_RATIOS) <= 30]
    inside = mask[np.abs(LOG_RATIOS) <= 30]
    if np.mean(inside) > 0.995:
        return "at every log p/q"
    ends = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(int), [0]])))
    words = []
    for first, last in zip(ends[::2], ends[1::2] - 1):
        low, high = f"{ratios[first]:.2f}", f"{ratios[last]:.2f}"
        words.append(f"below {high}" if first == 0 else f"above {low}" if last == len(ratios) - 1 else f"{low}..{high}")
    return "where log p/q is " + " or ".join(words)


def _gen_mixes(found: _Findings) -> str:
    """Why gen is no mean over single samples, or ""."""
    return separability.why_not("gen", *map(float, found.gen_mixing))


_MISLED = 1e-3
"""Where disc is lower than at the best output by more than this share: its derivative does not lead there."""
_ORDINARY = np.abs(LOG_RATIOS) <= 8


def _why_no_critic(found: _Findings) -> str:
    """Why D has no best output, or ""."""
    kind = np.asarray(found.table.kind)
    counts = np.abs(LOG_RATIOS) <= 30
    if ((kind == UNDEFINED) & counts).any():
        return f"disc is a finite number at no output, {_intervals(kind == UNDEFINED)}"
    falling = kind == FALLING
    if (falling & counts).any():
        return (
            "no finite optimum: disc falls without end as D's outputs run to infinity or to a pole, unless they are "
            f"bounded, {_intervals(falling)}"
        )
    misled = np.asarray(found.table.excess) > _MISLED
    if (misled & _ORDINARY).any():
        return (
            f"the derivative of disc does not lead to its minimum, {_intervals(misled)}: no training by gradients "
            "finds the best D"
        )
    return ""


# Of what is summed: less than this is rounding.
_NOTHING = 1e-6


def _blind(found: _Findings) -> bool:
    """Whether D's best output does not depend on log p/q."""
    return bool(found.gain[_ORDINARY].max() <= _NOTHING)


def _of_disc(found: _Findings) -> list[str]:
    """What is unsound about D's side of the game where its best output exists."""
    problems = []
    kind, gain = np.asarray(found.table.kind), np.asarray(found.gain)
    # Of outputs that large rounding may decide the sign of a slope.
    endless = ((kind != ATTAINED) | (np.abs(found.table.outputs) > 1e6)) & (np.abs(LOG_RATIOS) <= 1)
    if _blind(found):
        problems.append("max_D V is the same whatever q is: D's best output does not depend on log p/q")
    elif endless.sum() > 1:
        problems.append(
            f"D's best output runs to infinity {_intervals(endless)}; max_D V is finite and approached, not attained"
        )
    elif gain[np.abs(LOG_RATIOS) <= 0.5].max() <= _NOTHING:
        blind = np.abs(LOG_RATIOS)[gain > _NOTHING].min()
        problems.append(
            f"max_D V does not see log p/q within +-{blind:.2f} of zero: it is least at other q than p, too"
        )
    return problems


# Every eighth log ratio up to about 8, the middle one 0.
_EIGHTHS = len(LOG_RATIOS) // 2 + 8 * np.arange(-25, 26)


def _of_gen(found: _Findings) -> list[str]:
    """What is unsound about G's side under the best D: whether gen falls as log p/q rises."""
    if _blind(found):
        return []
    reason = _gen_mixes(found)
    if reason:
        return [f"{reason}: whether G seeks q = p is not judged"]
    loss = np.asarray(found.gen, float)[_EIGHTHS]
    if not np.isfinite(loss).all():
        return [f"gen is no finite number at D's best outputs, {_intervals(~np.isfinite(found.gen))}"]
    change = np.diff(loss)
    moves = np.abs(change) > _NOTHING * (np.abs(loss[1:]) + np.abs(loss[:-1]) + np.abs(loss).max())
    if not moves.any():
        return ["gen does not change with D's best output: G is told nothing"]
    rises, middle = moves & (change > 0), len(_EIGHTHS) // 2
    if rises[middle - 1 : middle + 1].any() and loss[middle + 1] > loss[middle - 1]:
        return ["gen rises with log p/q at zero under the best D: G is driven from the data, and q = p repels it"]
    if rises.any():
        # Of each log ratio the interval that it is in; of those beyond the last one that one.
        at = np.clip(np.searchsorted(_EIGHTHS, np.arange(len(LOG_RATIOS)), side="right") - 1, 0, len(rises) - 1)
        return [f"gen rises with log p/q under the best D {_intervals(rises[at])}: there G moves away from the data"]
    return []


def _of_claims(loss: Loss, found: _Findings, numbers: HParams) -> list[str]:
    """Closed forms and claims of the loss that its `disc` and `gen` contradict."""
    problems = []
    best, given = np.asarray(found.table.outputs), np.asarray(found.given)
    if loss.critic is not None and loss.scale is None:
        worse = _ORDINARY & np.isfinite(best) & ~(np.asarray(found.given_excess) <= 1e-4)
        if worse.any():
            at = np.flatnonzero(worse)[np.argmin(np.abs(LOG_RATIOS[worse]))]
            problems.append(
                f"critic: {given[at]:.5g} at log p/q = {LOG_RATIOS[at]:.2f}, where disc is lower at {best[at]:.5g}"
            )
    if loss.equilibrium is not None:
        claimed, derived = _number(loss.equilibrium, numbers), float(found.equilibrium)
        if math.isfinite(derived) and not abs(claimed - derived) <= 1e-4 * (1 + abs(derived)):
            problems.append(f"equilibrium: {claimed:.6g}, where -disc at D's best output for q = p is {derived:.6g}")
    if loss.zero_sum and not float(found.mirrored) <= ROUNDING:
        problems.append("zero_sum: gen is not -disc's part of fake samples")
    return problems


# ---- the critic


def _number(of: Callable[..., Any], numbers: HParams) -> float:
    return float(of(numbers))


_look_up = jax.jit(best_output.look_up, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def _solved(disc: Callable[..., jax.Array], numbers: HParams, log_ratio: jax.Array) -> jax.Array:
    """Best outputs at numbers of which no table is at hand."""
    outputs = best_output.look_up(disc, numbers, best_output.tabulate(disc, numbers), log_ratio)
    # A number may couple what is separable at its default.
    return jnp.where(jnp.all(separability.residuals(disc, numbers) <= ROUNDING), outputs, jnp.nan)


def _derived_critic(loss: Loss, at: HParams, table: Table) -> Callable[..., jax.Array]:
    """The critic of a loss that gives none: from the table at hand, or from one at other numbers."""

    def critic(log_ratio: jax.Array, numbers: HParams | None = None) -> jax.Array:
        if numbers is None:
            return _look_up(loss.disc, at, table, log_ratio)
        return _solved(loss.disc, HParams(**{name: getattr(numbers, name) for name in loss.numbers}), log_ratio)

    return critic
