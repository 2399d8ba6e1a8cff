"""What happened to each run, told from its recorded curves by stated rules.

A verdict is the first of `VERDICTS` whose rule holds. A rule that needs a metric which a run lacks is not applied to
it: the result says so, and the verdict is the first of the others. Each verdict says why (`verdict_detail`), and
whether it hangs on how often the run was measured (`verdict_fragile`).

Modes are judged against real samples. A mode is *held* where it has at least `Rules.mode_held` of the mass that as many
real samples put there (`mode_mass` over `mode_mass_real`), not all in one point. Whether *all* are held is asked of
what real samples themselves would hold: a mode so rare that they miss it at times is required of nobody. So neither
the convention by which the metric `modes` counts nor the number, size, weight or overlap of modes decides. Without
`mode_mass` the number of modes stands in, against `modes_real`. Of a target without modes JSD alone decides.

Windows are in steps, the last share of a run, and a run is read at `Rules.moments` moments: what was measured more
often is judged by the same steps, and reads the same. A run of which only a window is recorded is no run, and gets no
verdict.
Shapes: R runs, S steps, K modes.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.special
import scipy.stats
import xarray as xr
from numpy.typing import NDArray

from gandyn.analysis import reading


@dataclasses.dataclass(frozen=True)
class Rules:
    """The thresholds of `VERDICTS`."""

    window: float = 0.25
    """Share of a run's steps, the last ones, that is judged: the window."""
    least: int = 4
    """Measurements with which a run is not judged yet."""
    moments: int = 40
    """Equal parts of a run's steps of which the last measurement counts: those between are read by no rule."""
    share: float = 0.9
    """Share of the window's measurements at which a condition must hold to count as held throughout."""
    brief: float = 0.02
    """Share of a run's steps for which a condition may be broken, at several measurements, and still stay."""
    mode_held: float = 0.25
    """Share of the mass that real samples put into a mode from which it is held."""
    mode_point: float = 0.1
    """Std of the samples in a mode, as a share of real ones', below which they are a point, and it is not held."""
    jsd_converged: float = 0.05
    """JSD in nats up to which a run counts as converged. Losing one mode of eight costs 0.045, so modes count, too."""
    tv_converged: float = 0.1
    """Where no JSD is recorded: `mode_tv` above that of real samples up to which a run counts as converged."""
    jsd_large: float = 0.1
    """JSD in nats from which there is still something to learn, so that a gradient that is gone has vanished."""
    jsd_won: float = 0.65
    """JSD in nats from which D tells real from fake almost without error (log 2 = 0.693 is the most)."""
    lag_won: float = 0.1
    """Lag of a D that has won, at most, as a share of its best value above the value at equilibrium."""
    gradient_vanished: float = 0.01
    """Level at which G's gradient has vanished, as a share of its largest in the first quarter of the run."""
    gain_started: float = 0.2
    """What a G that has started has gained: JSD, as a share of the first; mass in modes, of that of real samples;
    modes, of all."""
    mass_in_modes: float = 0.5
    """Mass in modes, as a share of that of real samples, from which G's samples are in modes."""
    modes_collapsed: float = 0.5
    """Share of the modes up to which a run counts as collapsed."""
    jsd_change: float = 0.02
    """Change of JSD in nats, from the median of the window before to the window's, up to which a run is steady."""
    modes_change: float = 0.1
    """The same for modes, as a share of all modes."""
    noise: float = 1.3
    """Standard deviations within the two windows up to which a change is noise."""
    jsd_away: float = 0.1
    """Change of JSD in nats from the window's median to the last measurement at which a run ended away from it."""
    cycle_window: float = 0.5
    """Share of the steps, the last ones, in which cycling is looked for."""
    cycle_modes: float = 0.25
    """Share of the modes that must come and go."""
    cycle_swings: int = 3
    """How often each of them must change between there and gone."""
    mode_there: float = 0.5
    """Share of a mode's mass from which the mode is there."""
    mode_gone: float = 0.1
    """Share of a mode's mass below which the mode is gone."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ValueError(f"{field.name}: got {value!r}; allowed: a finite number of at least 0")
        for name in ("window", "share", "cycle_window"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}: got {getattr(self, name)}; allowed: above 0, at most 1")
        for name, least in (("least", 3), ("cycle_swings", 2), ("moments", 8)):
            if getattr(self, name) < least or getattr(self, name) != int(getattr(self, name)):
                raise ValueError(f"{name}: got {getattr(self, name)}; allowed: a whole number of at least {least}")
        if self.mode_gone >= self.mode_there:
            raise ValueError(f"mode_gone: got {self.mode_gone}; allowed: below mode_there, {self.mode_there}")


VERDICTS: dict[str, str] = {
    "diverged": "a parameter is no longer finite; from the first such measurement",
    "unmeasured": "not measured up to the last step (interrupted), or no more than {least} times",
    "window": "only a window of the run's steps is recorded, from which nothing is said of the run",
    "vanishing_gradient": (
        "G's gradient (grad_norm_gen, else sensitivity) is below {gradient_vanished:g} of its largest in the first "
        "quarter, while JSD is at least {jsd_large:g} nats, at {share:.0%} of the measurements in the last "
        "{window:.0%} of steps; from the first from which it stays so"
    ),
    "discriminator_won": (
        "no mode is held, JSD is at least {jsd_won:g} nats, and D lags at most {lag_won:g} of its best value above "
        "the value at equilibrium, at {share:.0%} of the measurements in the last {window:.0%} of steps; from the "
        "first from which it stays so"
    ),
    "cycling": (
        "in the last {cycle_window:.0%} of steps at least {cycle_modes:g} of the modes (one at least) change "
        "{cycle_swings} times or more between there (at least {mode_there:g} of the mass that real samples put there) "
        "and gone (below {mode_gone:g}); without mode_mass, the number of modes swings that often by so many; from the "
        "first change there"
    ),
    "converged": (
        "JSD is at most {jsd_converged:g} nats (where it is not recorded, mode_tv at most {tv_converged:g} above that "
        "of real samples) with every mode held at {share:.0%} of the measurements in the last {window:.0%} of steps; "
        "from the first from which it stays so"
    ),
    "never_started": (
        "at no measurement had G gained, on the first, {gain_started:.0%} of its JSD, {gain_started:.0%} of the mass "
        "in modes, or {gain_started:.0%} of the modes (half a mode at least), held or only reached; not asked where "
        "the players were carried over"
    ),
    "collapsed": (
        "at most {modes_collapsed:g} of the modes are held, with at least {mass_in_modes:g} of the mass that real "
        "samples have in modes (medians over the last {window:.0%} of steps), and no trend leads up; from the first "
        "from which so few stay, which is the first of all where more were never held. Samples that share one point of "
        "a mode (less than {mode_point:g} of its std) do not hold it: that is a collapse inside the mode"
    ),
    "spread": (
        "at most {modes_collapsed:g} of the modes are held, with less than {mass_in_modes:g} of the mass in modes, "
        "though samples reach more than {modes_collapsed:g} of those that so many in modes could reach (medians): "
        "between the modes rather than in them, and no trend leads up"
    ),
    "off_target": (
        "at most {modes_collapsed:g} of the modes are held, with less than {mass_in_modes:g} of the mass in modes, and "
        "samples reach no more than {modes_collapsed:g} of those that so many in modes could reach (medians), and no "
        "trend leads up; of a target without modes, JSD is at least {jsd_won:g} nats"
    ),
    "still_moving": (
        "from the window before to the last {window:.0%} of steps, the median of JSD changes by more than "
        "{jsd_change:g} nats, or that of the modes held by more than {modes_change:g} of all (half a mode at least), "
        "and by more than {noise:g} times the standard deviation within the two (of few measurements, by Student's "
        "99 % quantile)"
    ),
    "partial": (
        "more than {modes_collapsed:g} of the modes are held but not all (the median over the last {window:.0%} of "
        "steps), and nothing moves; from the first measurement from which their number stays"
    ),
    "imprecise": (
        "every mode is held (the median over the last {window:.0%} of steps), nothing moves, and JSD stays above "
        "{jsd_converged:g} nats"
    ),
    "undecided": (
        "none of the rules that could be applied holds; the reason says how near they came. (All rules read the last "
        "measurement in each of {moments} equal parts of the steps. What stays so is never "
        "broken at two measurements in a row that are more than {brief:.0%} of the steps apart. Ended away: the last "
        "measurement is more than {modes_change:g} of the modes or {jsd_away:g} nats from the median.)"
    ),
}
"""Name -> rule in words, in order of precedence; the thresholds are `Rules`, filled in by `in_words`.

A mode is held where it has at least `Rules.mode_held` of what real samples put there (see the module)."""

HELD = "a mode is held from {mode_held:g} of the mass that as many real samples put into it"


def in_words(rules: Rules | None = None) -> dict[str, str]:
    """`VERDICTS` with the numbers of the rules in them."""
    return {name: text.format(**dataclasses.asdict(rules or Rules())) for name, text in VERDICTS.items()}


class Finding(NamedTuple):
    """Whether a rule holds for a run, from which step (NaN for none), and why, or what it falls short by."""

    holds: bool
    step: float = math.nan
    detail: str = ""


# ---- a run


class _Run(NamedTuple):
    """One run's curves by name, each (S,); K = 0 without modes.

    mode_mass (S, K) without padding, real (K,) what real samples put there; num_samples of both; length of the run in
    steps. Of its curves, `_held` makes "held", "all", "in_modes" and "reached".
    """

    steps: NDArray
    curves: dict[str, NDArray]
    mode_mass: NDArray | None
    real: NDArray
    num_samples: float
    total: int
    equilibrium: float
    length: float
    carried: bool
    moments: int
    known: dict[Any, Any]

    def where(self, *names: str) -> tuple[NDArray, ...]:
        """The moments at which all of these were measured (`at`), then each curve there."""
        if names not in self.known:
            defined = np.logical_and.reduce([np.isfinite(self.curves[name]) for name in names])
            at = self.at(defined)
            self.known[names] = self.steps[at], *(self.curves[name][at] for name in names)
        return self.known[names]

    def at(self, defined: NDArray) -> NDArray:
        """Positions of the moments at which a run is read, of the measurements that are defined (S,) bool.

        The last in each of `moments` equal parts of its steps, and the first of all.
        """
        found = np.flatnonzero(defined)
        part = np.ceil(self.steps[found] * (self.moments / max(self.length, 1)) - 1e-9)
        return found[np.append(part[1:] != part[:-1], True)] if found.size else found


class _NotApplied(Exception):
    """What a rule lacks."""


_LACKING = {"held": "neither mode_mass nor modes", "all": "neither mode_mass nor modes"}


def _need(run: _Run, rules: Rules, *names: str) -> tuple[NDArray, ...]:
    """`_Run.where`, or `_NotApplied` where one is missing or they were not measured often enough together."""
    for name in names:
        if name not in run.curves:
            raise _NotApplied(f"{_LACKING[name]} is recorded" if name in _LACKING else f"{name} is not recorded")
    found = run.where(*names)
    if len(found[0]) <= rules.least:
        raise _NotApplied(f"{' and '.join(names)}: no more than {rules.least} measurements")
    return found


def _need_modes(run: _Run) -> None:
    if run.total == 0:
        raise _NotApplied("the target has no modes")


# ---- modes, against real samples


@functools.lru_cache(maxsize=4096)
def _required(real: tuple[float, ...], num_samples: float, held: float) -> tuple[NDArray, NDArray, float, float]:
    """What as many real samples hold: (K,) samples from which a mode is held, (K,) how often they hold it, and how many
    modes must be held among those that they hold in 95 % of draws and among the others.

    Rule: in each group the expected number, less three standard deviations and a half.
    """
    mass = np.asarray(real)
    due = np.maximum(np.ceil(np.round(held * num_samples * mass, 6)), 1)
    often = scipy.stats.binom.sf(due - 1, num_samples, np.minimum(mass, 1)) if math.isfinite(num_samples) else mass > 0
    often = np.asarray(often, float)
    required = []
    for group in (often >= 0.95, often < 0.95):
        p = often[group]
        required.append(max(0.0, math.ceil(p.sum() - 3 * math.sqrt((p * (1 - p)).sum()) - 0.5)))
    return due / num_samples if math.isfinite(num_samples) else held * mass, often, *required


def _held(run: _Run, mode_std: NDArray | None, rules: Rules) -> dict[str, NDArray]:
    """Curves (S,): held, the modes held, in units in which real samples hold K; all, 1 where they are as many as real
    samples hold, else 0; in_modes, the mass in modes over that of real samples; reached, the modes with any sample, and
    reachable, with how many as many samples in modes would be, were they spread as real ones are.
    """
    assert run.mode_mass is not None
    mass, defined = run.mode_mass, np.isfinite(run.mode_mass).all(axis=1)
    due, often, sure, rare = _required(tuple(run.real.tolist()), run.num_samples, rules.mode_held)
    held = (mass >= due - 1e-9) & (mass > 0)
    if mode_std is not None:
        held &= ~(mode_std < rules.mode_point)
    group = often >= 0.95
    found = {
        "held": held.sum(axis=1) * (run.total / max(often.sum(), 1e-9)),
        "all": ((held[:, group].sum(axis=1) >= sure) & (held[:, ~group].sum(axis=1) >= rare)).astype(float),
        "in_modes": mass.sum(axis=1) / max(run.real.sum(), 1e-9),
        "reached": (mass > 0).sum(axis=1).astype(float),
        "reachable": _reachable(mass.sum(axis=1), run),
    }
    return {name: np.where(defined, x, np.nan) for name, x in found.items()}


def _reachable(mass: NDArray, run: _Run) -> NDArray:
    """Modes (S,) that the samples in modes, mass (S,), would reach, drawn as real ones are; ten of them at least."""
    share = run.real / max(run.real.sum(), 1e-9)
    if not math.isfinite(run.num_samples):
        return np.full(len(mass), float((share > 0).sum()))
    drawn = np.maximum(np.nan_to_num(mass) * run.num_samples, _HANDFUL)
    return (1 - (1 - np.minimum(share, 1)) ** drawn[:, None]).sum(axis=1)


def _counted(run: _Run, real_modes: NDArray, real_quality: NDArray) -> dict[str, NDArray]:
    """The same from the number of modes alone, against that of real samples."""
    if not run.total:
        there = np.isfinite(run.curves["finite"])
        return {"held": np.where(there, 0.0, np.nan), "all": np.where(there, 1.0, np.nan)}
    if "modes" not in run.curves:
        return {}
    modes, known = run.curves["modes"], real_modes[np.isfinite(real_modes)]
    mean, sd = (known.mean(), known.std()) if known.size else (float(run.total), 0.0)
    least = math.ceil(mean - 3 * sd - 0.5)
    held = np.minimum(modes * (run.total / max(mean, 1e-9)), run.total)
    found = {"held": held, "all": np.where(np.isfinite(modes), modes >= least, np.nan), "reached": modes}
    quality = run.curves.get("high_quality")
    if quality is not None and np.isfinite(real_quality).any():
        found["in_modes"] = quality / max(float(np.nanmean(real_quality)), 1e-9)
    return found


# ---- windows


def window_start(steps: NDArray, rules: Rules, share: float | None = None) -> float:
    """The step from which a run (S,) is judged: the last share of its steps (`Rules.window`)."""
    return float(steps[-1]) * (1 - (rules.window if share is None else share))


def _judged(run: _Run, steps: NDArray, rules: Rules, share: float | None = None) -> NDArray:
    """Which of these measurements are in the window, (n,) bool.

    Raises:
      _NotApplied: fewer than two.
    """
    inside = steps >= window_start(run.steps, rules, share)
    if inside.sum() < 2:
        raise _NotApplied(f"{inside.sum()} measurements in the last {(share or rules.window):.0%} of steps")
    return inside


def _since(run: _Run, steps: NDArray, condition: NDArray, rules: Rules) -> float:
    """The first step from which a condition stays; NaN where it does not hold to the end.

    It stays where it is never broken by two measurements in a row that are further apart than `Rules.brief`: one alone
    is noise, and a share of all that follow would swallow the short time in which a run was better.
    """
    start, first = 0, None
    for i, holds in enumerate(condition):
        if holds:
            first = None
            continue
        first = i if first is None else first
        if steps[i] - steps[first] > rules.brief * run.length:
            start = i + 1
    stays = start + np.flatnonzero(condition[start:])
    return float(steps[stays[0]]) if stays.size else math.nan


def _settled(run: _Run, steps: NDArray, condition: NDArray, rules: Rules) -> tuple[Finding, float]:
    """Whether a condition holds throughout the window, from which step, and at which share of it."""
    share = float(condition[_judged(run, steps, rules)].mean())
    since = _since(run, steps, condition, rules)
    return Finding(share >= rules.share and not math.isnan(since), since), share


def _median(run: _Run, rules: Rules, name: str) -> float:
    """Of a curve over the window."""
    if ("median", name) not in run.known:
        steps, x = _need(run, rules, name)
        run.known["median", name] = float(np.median(x[_judged(run, steps, rules)]))
    return run.known["median", name]


def _trend(run: _Run, name: str, rules: Rules) -> tuple[float, bool]:
    """Change of a curve's median from the window before to the window, and whether it is beyond its scatter.

    That is no surer for more measurements, as a line's slope would be, for neighbours are not independent; but it is
    less sure for few: then the change must pass Student's 99 % quantile of a difference of two means, too.
    """
    if ("trend", name) in run.known:
        return run.known["trend", name]
    steps, x = _need(run, rules, name)
    inside = _judged(run, steps, rules)
    before = (steps >= window_start(run.steps, rules, 2 * rules.window)) & ~inside
    if before.sum() < 1:
        raise _NotApplied("no measurement in the window before the last: no trend can be told")
    free = int(inside.sum() + before.sum()) - 2
    std = math.sqrt(sum(((x[part] - x[part].mean()) ** 2).sum() for part in (inside, before)) / free)
    few = scipy.special.stdtrit(free, 0.995) * math.sqrt(1 / inside.sum() + 1 / before.sum())
    change = float(np.median(x[inside]) - np.median(x[before]))
    # The mean, too: a median of whole numbers jumps.
    surely = min(abs(change), abs(float(x[inside].mean() - x[before].mean()))) > max(rules.noise, few) * std
    run.known["trend", name] = change, bool(surely)
    return run.known["trend", name]


def _change_of_modes(run: _Run, rules: Rules) -> float:
    return max(0.5, rules.modes_change * run.total)


def _moving(run: _Run, rules: Rules) -> str:
    """What moves, and by how much; "" where nothing does."""
    found = []
    limits = (
        ("jsd", rules.jsd_change, "JSD by {:+.3f} nats"),
        ("held", _change_of_modes(run, rules), "modes by {:+.1f}"),
    )
    for name, limit, words in limits:
        change, beyond_noise = _trend(run, name, rules)
        found += [words.format(change)] if beyond_noise and abs(change) > limit else []
    return ", ".join(found)


def _stands(run: _Run, rules: Rules) -> bool:
    """Whether nothing is seen to move: where no trend can be told, none is seen."""
    try:
        return not _moving(run, rules)
    except _NotApplied:
        return True


def _rises(run: _Run, rules: Rules) -> bool:
    """Whether a trend leads up: more modes, or less JSD."""
    for name, limit, sign in (("held", _change_of_modes(run, rules), 1), ("jsd", rules.jsd_change, -1)):
        try:
            change, beyond_noise = _trend(run, name, rules)
        except _NotApplied:
            continue
        if beyond_noise and sign * change > limit:
            return True
    return False


def _of(number: float, run: _Run) -> str:
    return f"{number:.0f} of {run.total} modes"


# ---- the rules


def _diverged(run: _Run, rules: Rules) -> Finding:
    failed = np.flatnonzero(run.curves["finite"] == 0)
    if not failed.size:
        return Finding(False)
    return Finding(True, float(run.steps[failed[0]]), f"not finite from step {run.steps[failed[0]]:g} on")


def _unmeasured(run: _Run, rules: Rules) -> Finding:
    measured = np.isfinite(run.curves["finite"])
    if not measured.size or not measured[-1]:
        return Finding(True, detail="interrupted" if measured.any() else "never measured")
    few = int(measured.sum())
    return Finding(few <= rules.least, detail=f"too few measurements: {few}")


def _window(run: _Run, rules: Rules) -> Finding:
    first, last = float(run.steps[0]), float(run.steps[-1])
    return Finding(first > 0 or last < run.length, detail=f"steps {first:g} to {last:g} of {run.length:g}")


def _vanishing_gradient(run: _Run, rules: Rules) -> Finding:
    recorded = [name for name in ("grad_norm_gen", "sensitivity") if name in run.curves]
    if not recorded:
        raise _NotApplied("neither grad_norm_gen nor sensitivity is recorded")
    name = next((name for name in recorded if np.isfinite(run.curves[name]).any()), recorded[0])
    steps, gradient, jsd = _need(run, rules, name, "jsd")
    early = gradient[steps <= steps[-1] / 4]
    early = early.max() if early.size else gradient[0]
    gone = (gradient < rules.gradient_vanished * early) & (jsd >= rules.jsd_large)
    found, _ = _settled(run, steps, gone, rules)
    return found._replace(detail=f"{name} fell to {gradient[-1] / early if early else 0:.2g} of its early largest")


def _discriminator_won(run: _Run, rules: Rules) -> Finding:
    steps, jsd, held, lag, best = _need(run, rules, "jsd", "held", "lag", "value_best")
    if math.isnan(run.equilibrium):
        raise _NotApplied("the value at equilibrium is not recorded")
    won = (held == 0) & (jsd >= rules.jsd_won) & (lag <= rules.lag_won * (best - run.equilibrium))
    found, _ = _settled(run, steps, won, rules)
    inside = _judged(run, steps, rules)
    return found._replace(
        detail=f"no mode held, JSD {np.median(jsd[inside]):.3f} nats, lag {np.median(lag[inside]):.3f}"
    )


def _swings(x: NDArray, low: NDArray | float, high: NDArray | float) -> NDArray:
    """Where x (S, n) comes to be at least high after having been below low, or the reverse: (S, n) bool."""
    state = np.where(x >= high, 1, np.where(x < low, -1, 0))
    # Between the two, what it was last.
    known = np.maximum.accumulate(np.where(state != 0, np.arange(len(x))[:, None], 0), axis=0)
    state = np.take_along_axis(state, known, axis=0)
    return np.concatenate([np.zeros_like(state[:1], bool), state[1:] * state[:-1] == -1])


@functools.lru_cache(maxsize=4096)
def _resolved(real: tuple[float, ...], num_samples: float, gone: float) -> NDArray:
    """(K,) modes of which real samples would hardly ever be gone by chance."""
    mass = np.asarray(real)
    if not math.isfinite(num_samples):
        return mass > 0
    return scipy.stats.binom.cdf(np.ceil(gone * num_samples * mass) - 1, num_samples, np.minimum(mass, 1)) < 1e-3


def _comings(run: _Run, rules: Rules) -> tuple[NDArray, NDArray, float, str]:
    """Steps (n,) in the window of cycling, where each mode came or went (n, k), how many must, and by what."""
    need = max(1, math.ceil(rules.cycle_modes * run.total))
    if run.mode_mass is not None and np.isfinite(run.mode_mass).all(axis=1).sum() > rules.least:
        defined = np.asarray(np.isfinite(run.mode_mass).all(axis=1))
        seen = _resolved(tuple(run.real.tolist()), run.num_samples, rules.mode_gone)
        if not seen.any():
            raise _NotApplied("every mode is so rare that real samples miss it at times")
        at = run.at(np.asarray(defined))
        steps, x = run.steps[at], run.mode_mass[at][:, seen]
        low, high = rules.mode_gone * run.real[seen], rules.mode_there * run.real[seen]
        need, what = max(1, math.ceil(rules.cycle_modes * seen.sum())), "mode_mass"
        inside = _judged(run, steps, rules, rules.cycle_window)
        return steps[inside], _swings(x[inside], low, high), need, what
    steps, held = _need(run, rules, "held")
    inside = _judged(run, steps, rules, rules.cycle_window)
    steps, x = steps[inside], held[inside][:, None]
    if np.ptp(x) < need:
        return steps, np.zeros(x.shape, bool), 1, "modes"
    return steps, _swings(x, x.min() + np.ptp(x) / 4, x.max() - np.ptp(x) / 4), 1, "modes"


def _cycling(run: _Run, rules: Rules) -> Finding:
    _need_modes(run)
    steps, swings, need, what = _comings(run, rules)
    cycling = swings.sum(axis=0) >= rules.cycle_swings
    if cycling.sum() < need:
        return Finding(False, detail=f"{cycling.sum()} of {swings.shape[1]} come and go, by {what}")
    first = float(steps[swings[:, cycling].any(axis=1).argmax()])
    times = int(np.median(swings[:, cycling].sum(axis=0)))
    who = f"{cycling.sum()} of {run.total} modes" if what == "mode_mass" else "the number of modes"
    return Finding(True, first, f"{who} came or went {times} times at the median, by {what}")


def _converged(run: _Run, rules: Rules) -> Finding:
    if "jsd" not in run.curves and "mode_tv" in run.curves and run.total:
        name, limit, words = "mode_tv", rules.tv_converged + run.curves["mode_tv_real"][0], "mode TV"
    else:
        name, limit, words = "jsd", rules.jsd_converged, "JSD"
    steps, x, every = _need(run, rules, name, "all")
    found, share = _settled(run, steps, (x <= limit) & (every == 1), rules)
    typical = np.median(x[_judged(run, steps, rules)])
    return found._replace(detail=f"at {share:.0%} of the window's measurements, {words} {typical:.3f} at the median")


_HANDFUL = 10
"""Samples in modes of which nothing is told."""


def _more_in_modes(run: _Run) -> bool:
    """Whether ever so many samples were in modes that they tell anything: a handful reaches modes by chance."""
    (inside,) = run.where("in_modes")[1:] if "in_modes" in run.curves else (np.zeros(0),)
    if not math.isfinite(run.num_samples) or not inside.size:
        return True
    return bool(inside.max() * run.real.sum() * run.num_samples >= _HANDFUL)


def _never_started(run: _Run, rules: Rules) -> Finding:
    steps, _ = _need(run, rules, "held")
    if run.carried:
        raise _NotApplied("the run started from another's players")
    limits = {"jsd": -rules.gain_started, "in_modes": rules.gain_started, "held": rules.gain_started * run.total}
    limits["reached"] = limits["held"]
    gained = {}
    for name in [name for name in limits if name in run.curves and (run.total or name == "jsd")]:
        x = run.where(name)[1]
        if not x.size:
            continue
        best = float(np.min(x) - x[0]) if name == "jsd" else float(np.max(x) - x[0])
        limit = limits[name] * x[0] if name == "jsd" else max(limits[name], 0.5 if name in ("held", "reached") else 0.0)
        if abs(best) >= abs(limit) and (name != "reached" or _more_in_modes(run)):
            return Finding(False)
        gained[name] = best
    if not gained:
        raise _NotApplied("neither JSD nor the mass in modes is recorded")
    every = run.curves["all"]
    good = _median(run, rules, "jsd") <= rules.jsd_converged if "jsd" in run.curves else _median(run, rules, "all") == 1
    if good and every[np.isfinite(every)][-1] == 1:
        return Finding(False)
    words = {
        "jsd": "JSD fell by {:.3f} nats",
        "in_modes": "mass in modes rose by {:.3f}",
        "held": "modes held by {:.2g}",
    }
    words["reached"] = "modes reached by {:.2g}"
    told = ", ".join(words[name].format(abs(x)) for name, x in gained.items())
    return Finding(True, float(steps[0]), f"at best {told} since the first measurement")


def _few(run: _Run, rules: Rules) -> tuple[float, float, float]:
    """Medians over the window: modes held, share of the reachable modes reached, mass in modes (1 if not recorded)."""
    _need_modes(run)
    reachable = _median(run, rules, "reachable") if "reachable" in run.curves else float(run.total)
    return (
        _median(run, rules, "held"),
        _median(run, rules, "reached") / max(reachable, 1e-9),
        _median(run, rules, "in_modes") if "in_modes" in run.curves else 1.0,
    )


def _few_in_words(run: _Run, held: float, reached: float, inside: float) -> str:
    return f"{_of(held, run)} held, {inside:.0%} of the mass in modes, {reached:.0%} of the modes reached that it could"


def _collapsed(run: _Run, rules: Rules) -> Finding:
    held, _, inside = _few(run, rules)
    most = rules.modes_collapsed * run.total
    if held > most or inside < rules.mass_in_modes or _rises(run, rules):
        return Finding(False)
    steps, modes = _need(run, rules, "held")
    since = _since(run, steps, modes <= most, rules)
    what = f"{_of(held, run)} held"
    if held == 0 and run.mode_mass is not None:
        what += ", the samples in a mode nearly a point"
    before = steps < (math.inf if math.isnan(since) else since)
    if (modes[before] <= most).all():
        return Finding(True, float(steps[0]), f"from the start: {what}")
    return Finding(True, since, f"after {_of(modes[before].max(), run)}: {what}")


def _spread(run: _Run, rules: Rules) -> Finding:
    held, reached, inside = _few(run, rules)
    few = held <= rules.modes_collapsed * run.total and inside < rules.mass_in_modes
    holds = few and reached > rules.modes_collapsed and not _rises(run, rules)
    return Finding(holds, detail=_few_in_words(run, held, reached, inside))


def _off_target(run: _Run, rules: Rules) -> Finding:
    if not run.total:
        jsd = _median(run, rules, "jsd")
        return Finding(jsd >= rules.jsd_won and not _rises(run, rules), detail=f"JSD {jsd:.3f} nats")
    held, reached, inside = _few(run, rules)
    few = held <= rules.modes_collapsed * run.total and inside < rules.mass_in_modes
    holds = few and not reached > rules.modes_collapsed and not _rises(run, rules)
    return Finding(holds, detail=_few_in_words(run, held, reached, inside))


def _still_moving(run: _Run, rules: Rules) -> Finding:
    moving = _moving(run, rules)
    return Finding(bool(moving), detail=moving and f"from the window before: {moving}")


def _partial(run: _Run, rules: Rules) -> Finding:
    _need_modes(run)
    held, every = _median(run, rules, "held"), _median(run, rules, "all")
    if held <= rules.modes_collapsed * run.total or every == 1 or not _stands(run, rules):
        return Finding(False)
    steps, modes = _need(run, rules, "held")
    stays = np.abs(modes - held) <= _change_of_modes(run, rules)
    return Finding(True, _since(run, steps, stays, rules), _of(held, run))


def _imprecise(run: _Run, rules: Rules) -> Finding:
    every, typical = _median(run, rules, "all"), _median(run, rules, "jsd")
    return Finding(
        every == 1 and typical > rules.jsd_converged and _stands(run, rules), detail=f"JSD {typical:.3f} nats"
    )


_FIND: dict[str, Callable[[_Run, Rules], Finding]] = {
    "diverged": _diverged,
    "unmeasured": _unmeasured,
    "window": _window,
    "vanishing_gradient": _vanishing_gradient,
    "discriminator_won": _discriminator_won,
    "cycling": _cycling,
    "converged": _converged,
    "never_started": _never_started,
    "collapsed": _collapsed,
    "spread": _spread,
    "off_target": _off_target,
    "still_moving": _still_moving,
    "partial": _partial,
    "imprecise": _imprecise,
}
_NO_RUN = ("diverged", "unmeasured", "window")
"""After these nothing else is asked."""

_CURVES = ("finite", "jsd", "modes", "high_quality", "mode_tv", "lag", "value_best", "grad_norm_gen", "sensitivity")


# ---- reading them


def _runs(results: xr.Dataset, rules: Rules) -> list[_Run]:
    if "finite" not in results:
        raise ValueError("verdicts: the results have no metric 'finite'")
    steps = np.asarray(results["step"].values, float)
    found = {name: np.asarray(results[name].values, float) for name in _CURVES if name in results}
    read = lambda name: np.asarray(results[name].values, float) if name in results else None  # noqa: E731
    mass, std, lengths = read("mode_mass"), read("mode_std"), read("run_steps")
    none = np.full((results.sizes["run"], 0), np.nan)
    weights = read("target_weights") if "target_weights" in results else none
    assert weights is not None
    real, equilibrium = read("mode_mass_real"), read("equilibrium")
    num_samples = float(results["mode_mass_real"].attrs.get("num_samples", "inf")) if real is not None else math.inf
    references = {name: read(f"{name}_real") for name in ("modes", "high_quality", "mode_tv")}
    runs = []
    for r in range(len(weights)):
        there = np.isfinite(weights[r])
        curves = {name: curve[r] for name, curve in found.items()}
        length = float(lengths[r]) if lengths is not None else steps[-1] if steps.size else 0.0
        run = _Run(
            steps=steps,
            curves=curves,
            mode_mass=None if mass is None or not there.any() else mass[r][:, there],
            real=weights[r][there] if real is None else real[r][there],
            num_samples=num_samples,
            total=int(there.sum()),
            equilibrium=math.nan if equilibrium is None else float(equilibrium[r]),
            length=length,
            moments=rules.moments,
            known={},
            carried="init_from" in results.coords and bool(str(results["init_from"].values[r])),
        )
        of_real = {name: np.array([np.nan]) if x is None else x[r] for name, x in references.items()}
        if run.mode_mass is not None and np.isfinite(run.mode_mass).any():
            curves |= _held(run, None if std is None else std[r][:, there], rules)
        else:
            curves |= _counted(run._replace(mode_mass=None), of_real["modes"], of_real["high_quality"])
        known = of_real["mode_tv"][np.isfinite(of_real["mode_tv"])]
        curves["mode_tv_real"] = np.array([known.mean() if known.size else 0.0])
        runs.append(run)
    return runs


def _find(name: str, run: _Run, rules: Rules) -> Finding | str:
    """What a rule finds, or what it lacks."""
    try:
        return _FIND[name](run, rules)
    except _NotApplied as lack:
        return str(lack)


def _judge_run(run: _Run, rules: Rules, to_the_end: bool = True) -> tuple[str, Finding, dict[str, Finding | str]]:
    """The verdict, what its rule found, and what each rule did or lacks: all of them, or those up to the first."""
    first, found = None, {}
    for name in _FIND:
        one = found[name] = _find(name, run, rules)
        if isinstance(one, Finding) and one.holds:
            first = first or name
            if name in _NO_RUN or not to_the_end:
                break
    if first is None:
        return "undecided", Finding(True, detail=_why_undecided(run, found)), found
    return first, found[first], found  # pyright: ignore[reportReturnType]


def _why_undecided(run: _Run, found: dict[str, Finding | str]) -> str:
    """How near the rules came, and which could not be applied."""
    near = [
        f"not {name}: {one.detail}"
        for name, one in found.items()
        if isinstance(one, Finding) and one.detail and name in ("converged", "imprecise", "off_target")
    ]
    lacks = [f"{name} not applied: {one}" for name, one in found.items() if isinstance(one, str)]
    return "; ".join(near + [one for one in lacks if "gradient" not in one])


def _ended_away(run: _Run, name: str, rules: Rules) -> str:
    """Where a run's last measurement is far from the window that its verdict is of; "" where it is not."""
    if name in (*_NO_RUN, "cycling", "still_moving", "undecided"):
        return ""
    told = []
    for curve, limit, words in (
        ("held", _change_of_modes(run, rules), f"{{:.0f}} of {run.total} modes held"),
        ("jsd", rules.jsd_away, "JSD {:.3f} nats"),
    ):
        if curve not in run.curves or (curve == "held" and not run.total):
            continue
        steps, x = run.where(curve)
        inside = steps >= window_start(run.steps, rules)
        if inside.any() and abs(x[-1] - np.median(x[inside])) > limit:
            told.append(words.format(x[-1]))
    return f"ended away from it: {', '.join(told)} at the last measurement" if told else ""


# ---- how often it was measured


THINNED = (2, 5, 10)
"""A verdict is taken again from every 2nd, 5th, 10th measurement."""


def thinned(steps: NDArray, every: int, offset: int = 0) -> NDArray:
    """Positions along ``step`` of every so-manieth measurement before the last, the first and the last always kept."""
    last = len(steps) - 1
    kept = {0, last} | set(range(last - offset, -1, -every)) if last >= 0 else set()
    return np.array(sorted(kept), int)


def _thinner(run: _Run, kept: NDArray) -> _Run:
    curves = {name: x[kept] if len(x) == len(run.steps) else x for name, x in run.curves.items()}
    mass = None if run.mode_mass is None else run.mode_mass[kept]
    return run._replace(steps=run.steps[kept], curves=curves, mode_mass=mass, known={})


def _fragile(run: _Run, name: str, rules: Rules) -> str:
    """What the verdict would be, were the run measured more rarely, and what its measurements do not resolve."""
    if name in _NO_RUN:
        return ""
    others: dict[str, list[str]] = {}
    for every in THINNED:
        for offset in dict.fromkeys((0, every // 2)):
            kept = thinned(run.steps, every, offset)
            if len(kept) <= rules.least:
                continue
            other = _judge_run(_thinner(run, kept), rules, to_the_end=False)[0]
            if other not in (name, "unmeasured"):
                others.setdefault(other, []).append(f"{every}")
    told = [f"{other} by one measurement in {' or '.join(dict.fromkeys(n))}" for other, n in others.items()]
    if name != "cycling" and run.total:
        try:
            _, swings, need, _ = _comings(run, rules)
        except _NotApplied:
            return "; ".join(told)
        moved = int((swings.sum(axis=0) > 1).sum())
        if moved >= need:
            told.append("modes came and went in the second half: more measurements may show cycling")
    return "; ".join(told)


def judge(results: xr.Dataset, rules: Rules | None = None) -> xr.Dataset:
    """The results with a verdict for each run.

    Added variables:
      verdict (run): the first of `VERDICTS` whose rule holds, as a string.
      verdict_step (run): the step at which it happened; NaN where the verdict has none.
      verdict_detail (run): why, such as "from the start: 2 of 8 modes held"; and whether the run ended away from it.
      verdict_fragile (run): what else it would be, were the run measured more rarely (`THINNED`); "" where it would be
        the same, so far as its measurements tell.
      verdict_holds (run, verdict_rule): 1 or 0 as the rule holds, by itself, NaN where it could not be applied. A run
        that diverged, was not measured, or is a window of one is judged by no later rule.

    Attributes of ``verdict``, each JSON: ``rule`` (name -> the rule in words with its numbers, in order of
    precedence), ``thresholds`` (`Rules`), ``not_applied`` (name -> why, and to how many runs, it could not be applied).

    Raises:
      ValueError: for results without ``finite``.
    """
    rules = rules or Rules()
    runs = _runs(results, rules)
    names = list(_FIND)
    holds = np.full((len(runs), len(names)), np.nan)
    chosen: list[tuple[str, float, str, str]] = []
    lacking: dict[str, dict[str, int]] = {}
    for r, run in enumerate(runs):
        verdict, why, found = _judge_run(run, rules)
        for name, one in found.items():
            if isinstance(one, str):
                lacking.setdefault(name, {}).setdefault(one, 0)
                lacking[name][one] += 1
            else:
                holds[r, names.index(name)] = one.holds
        detail = "; ".join(filter(None, (why.detail, _ended_away(run, verdict, rules))))
        chosen.append((verdict, why.step, detail, _fragile(run, verdict, rules)))
    not_applied = {
        name: "; ".join(f"{count} of {len(runs)} runs: {reason}" for reason, count in reasons.items())
        for name, reasons in lacking.items()
    }
    attrs = {
        "long_name": "verdict",
        "rule": json.dumps(in_words(rules)),
        "thresholds": json.dumps(dataclasses.asdict(rules)),
        "not_applied": json.dumps(not_applied),
        "held": HELD.format(**dataclasses.asdict(rules)),
    }
    columns = [np.array([one[i] for one in chosen], object) for i in range(4)]
    return results.assign(
        verdict=("run", columns[0], attrs),
        verdict_step=("run", columns[1].astype(float), {"long_name": "step of the verdict", "units": "step"}),
        verdict_detail=("run", columns[2], {"long_name": "why the verdict"}),
        verdict_fragile=("run", columns[3], {"long_name": "what it would be, measured more rarely"}),
        verdict_holds=(("run", "verdict_rule"), holds, {"long_name": "whether the rule holds"}),
    ).assign_coords(verdict_rule=("verdict_rule", np.array(names, object)))


def collapse_onset(results: xr.Dataset, rules: Rules | None = None) -> NDArray:
    """The step from which each run is collapsed, (R,) float64; NaN for a run that is not, or diverged.

    The rule ``collapsed`` alone, whatever comes before it in `VERDICTS`. A collapse from the start has the first step.

    Raises:
      ValueError: for results without ``modes``: whether a run collapsed would be a guess.
    """
    if "modes" not in results:
        raise ValueError("collapse_onset: the results have no metric 'modes'")
    rules = rules or Rules()
    onsets = []
    for run, failed in zip(_runs(results, rules), reading.diverged(results), strict=True):
        found = "" if failed else _find("collapsed", run, rules)
        onsets.append(found.step if isinstance(found, Finding) and found.holds else math.nan)
    return np.array(onsets, float)
