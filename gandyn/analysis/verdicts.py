"""What happened to each run, told from its recorded curves by stated rules.

A verdict is the first of `VERDICTS` whose rule holds. A rule that needs a metric which a run lacks is not applied to
it: the result says so, and the verdict is the first of the others. Of a target without modes every mode counts as
covered, so that JSD alone decides.
Shapes: R runs, S steps, K modes.
"""

import dataclasses
import json
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gandyn.analysis import reading


@dataclasses.dataclass(frozen=True)
class Rules:
    """The thresholds of `VERDICTS`."""

    window: float = 0.25
    """Share of a curve's measurements, the last ones, that are judged: the window."""
    least: int = 4
    """Measurements that a window has at least; a run with no more than that is unmeasured."""
    share: float = 0.9
    """Share of measurements at which a condition must hold to count as held throughout."""
    jsd_converged: float = 0.05
    """JSD in nats up to which a run counts as converged. Losing one mode of eight costs 0.045, so modes count, too."""
    jsd_large: float = 0.1
    """JSD in nats from which there is still something to learn, so that a gradient that is gone has vanished."""
    jsd_won: float = 0.65
    """JSD in nats from which D tells real from fake almost without error (log 2 = 0.693 is the most)."""
    lag_won: float = 0.1
    """Lag of a D that has won, at most, as a share of its best value above the value at equilibrium."""
    gradient_vanished: float = 0.01
    """Level at which G's gradient has vanished, as a share of its largest in the first quarter of the run."""
    modes_collapsed: float = 0.5
    """Share of the modes up to which a run counts as collapsed."""
    jsd_change: float = 0.02
    """Change of JSD in nats, along a line through the window, up to which a run is steady."""
    modes_change: float = 0.1
    """The same for modes, as a share of all modes."""
    noise: float = 3.0
    """Standard errors of that line's slope within which a change is noise."""
    cycle_window: float = 0.5
    """Share of the measurements, the last ones, in which cycling is looked for."""
    cycle_modes: float = 0.25
    """Share of the modes that must come and go."""
    cycle_swings: int = 3
    """How often each of them must change between there and gone."""
    mode_there: float = 0.5
    """Share of a mode's weight from which the mode is there."""
    mode_gone: float = 0.1
    """Share of a mode's weight below which the mode is gone."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ValueError(f"{field.name}: got {value!r}; allowed: a finite number of at least 0")
        for name in ("window", "share", "cycle_window"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}: got {getattr(self, name)}; allowed: above 0, at most 1")
        for name, least in (("least", 3), ("cycle_swings", 2)):
            if getattr(self, name) < least or getattr(self, name) != int(getattr(self, name)):
                raise ValueError(f"{name}: got {getattr(self, name)}; allowed: a whole number of at least {least}")
        if self.mode_gone >= self.mode_there:
            raise ValueError(f"mode_gone: got {self.mode_gone}; allowed: below mode_there, {self.mode_there}")


VERDICTS: dict[str, str] = {
    "diverged": "a parameter is no longer finite; from the first such measurement",
    "unmeasured": "not measured up to the last step (interrupted), or no more than {least} times",
    "vanishing_gradient": (
        "G's gradient (grad_norm_gen, else sensitivity) is below {gradient_vanished:g} of its largest in the first "
        "quarter, while JSD is at least {jsd_large:g} nats, at {share:.0%} of the last {window:.0%} of measurements; "
        "from the first from which it stays so"
    ),
    "discriminator_won": (
        "no mode is covered, JSD is at least {jsd_won:g} nats, and D lags at most {lag_won:g} of its best value above "
        "the value at equilibrium, at {share:.0%} of the last {window:.0%} of measurements; from the first from which "
        "it stays so"
    ),
    "cycling": (
        "in the last {cycle_window:.0%} of measurements at least {cycle_modes:g} of the modes (one at least) change "
        "{cycle_swings} times or more between there (mass at least {mode_there:g} of the mode's weight) and gone "
        "(below {mode_gone:g}); without mode_mass, the number of modes covered swings that often by so many; from the "
        "first change there"
    ),
    "collapsed": (
        "at most {modes_collapsed:g} of the modes are covered at {share:.0%} of the last {window:.0%} of measurements, "
        "and no trend leads up; from the first from which it stays so, which is the first of all where more were never "
        "covered"
    ),
    "converged": (
        "JSD is at most {jsd_converged:g} nats with every mode covered at {share:.0%} of the last {window:.0%} of "
        "measurements; from the first from which it stays so"
    ),
    "still_moving": (
        "a line through the last {window:.0%} of measurements changes JSD by more than {jsd_change:g} nats, or the "
        "modes covered by more than {modes_change:g} of all (half a mode at least), with a slope of more than "
        "{noise:g} standard errors"
    ),
    "partial": (
        "more than {modes_collapsed:g} of the modes are covered but not all (the median over the last {window:.0%} of "
        "measurements), and nothing moves; from the first measurement from which their number stays"
    ),
    "imprecise": (
        "every mode is covered (the median over the last {window:.0%} of measurements), nothing moves, and JSD stays "
        "above {jsd_converged:g} nats"
    ),
    "undecided": "none of the rules that could be applied holds",
}
"""Name -> rule in words, in order of precedence; the thresholds are `Rules`, filled in by `in_words`.

What stays so is never broken by two measurements in a row."""


def in_words(rules: Rules | None = None) -> dict[str, str]:
    """`VERDICTS` with the numbers of the rules in them."""
    return {name: text.format(**dataclasses.asdict(rules or Rules())) for name, text in VERDICTS.items()}


class Finding(NamedTuple):
    """Whether a rule holds for a run, from which step (NaN for none), and what else there is to say."""

    holds: bool
    step: float = math.nan
    detail: str = ""


class _Run(NamedTuple):
    """One run's curves by name, each (S,); mode_mass (S, K) and weights (K,) without padding, K = 0 without modes."""

    steps: NDArray
    curves: dict[str, NDArray]
    mode_mass: NDArray | None
    weights: NDArray
    equilibrium: float

    def where(self, *names: str) -> tuple[NDArray, ...]:
        """The steps at which all of these were measured, then each curve there."""
        defined = np.logical_and.reduce([np.isfinite(self.curves[name]) for name in names])
        return self.steps[defined], *(self.curves[name][defined] for name in names)


class _NotApplied(Exception):
    """What a rule lacks."""


def _need(run: _Run, rules: Rules, *names: str) -> tuple[NDArray, ...]:
    """`_Run.where`, or `_NotApplied` where one is missing or they were not measured often enough together."""
    for name in names:
        if name not in run.curves:
            raise _NotApplied(f"{name} is not recorded")
    found = run.where(*names)
    if len(found[0]) <= rules.least:
        raise _NotApplied(f"{' and '.join(names)}: no more than {rules.least} measurements")
    return found


def _need_modes(run: _Run) -> None:
    if run.weights.size == 0:
        raise _NotApplied("the target has no modes")


def window(size: int, rules: Rules, share: float | None = None) -> slice:
    """The last of so many measurements, as many as are judged: a share of them (`Rules.window`), at least `least`."""
    return slice(size - max(rules.least, math.ceil((rules.window if share is None else share) * size)), size)


def _settled(steps: NDArray, condition: NDArray, rules: Rules) -> Finding:
    """Whether a condition holds throughout the window, and the first step from which it stays.

    It stays where it is never broken by two measurements in a row: one alone is noise, and a share of all that follow
    would swallow the short time in which a run was better.
    """
    broken_twice = np.flatnonzero(~condition[:-1] & ~condition[1:])
    start = broken_twice[-1] + 2 if broken_twice.size else 0
    stays = start + np.flatnonzero(condition[start:])
    throughout = condition[window(condition.size, rules)].mean() >= rules.share
    return Finding(True, float(steps[stays[0]])) if throughout and stays.size else Finding(False)


def _trend(steps: NDArray, x: NDArray, rules: Rules) -> tuple[float, bool]:
    """Change of x along a line through the window, and whether its slope is beyond noise."""
    judged = window(x.size, rules)
    t, x = steps[judged] - steps[judged].mean(), x[judged] - x[judged].mean()
    slope = (t @ x) / (t @ t)
    error = math.sqrt(np.sum((x - slope * t) ** 2) / (x.size - 2) / (t @ t))
    return float(slope * np.ptp(t)), bool(abs(slope) > rules.noise * error)


def _change_of_modes(run: _Run, rules: Rules) -> float:
    return max(0.5, rules.modes_change * run.weights.size)


def _moves(run: _Run, rules: Rules) -> bool:
    steps, jsd, modes = _need(run, rules, "jsd", "modes")
    limits = (jsd, rules.jsd_change), (modes, _change_of_modes(run, rules))
    trends = [(*_trend(steps, x, rules), limit) for x, limit in limits]
    return any(beyond_noise and abs(change) > limit for change, beyond_noise, limit in trends)


def _diverged(run: _Run, rules: Rules) -> Finding:
    failed = np.flatnonzero(run.curves["finite"] == 0)
    return Finding(True, float(run.steps[failed[0]])) if failed.size else Finding(False)


def _unmeasured(run: _Run, rules: Rules) -> Finding:
    measured = np.isfinite(run.curves["finite"])
    if not measured.size or not measured[-1]:
        return Finding(True, detail="interrupted" if measured.any() else "never measured")
    return Finding(bool(measured.sum() <= rules.least), detail="too few measurements")


def _vanishing_gradient(run: _Run, rules: Rules) -> Finding:
    recorded = [name for name in ("grad_norm_gen", "sensitivity") if name in run.curves]
    if not recorded:
        raise _NotApplied("neither grad_norm_gen nor sensitivity is recorded")
    name = next((name for name in recorded if np.isfinite(run.curves[name]).any()), recorded[0])
    steps, gradient, jsd = _need(run, rules, name, "jsd")
    early = gradient[: max(1, gradient.size // 4)].max()
    gone = (gradient < rules.gradient_vanished * early) & (jsd >= rules.jsd_large)
    return _settled(steps, gone, rules)._replace(detail=name)


def _discriminator_won(run: _Run, rules: Rules) -> Finding:
    steps, jsd, modes, lag, best = _need(run, rules, "jsd", "modes", "lag", "value_best")
    if math.isnan(run.equilibrium):
        raise _NotApplied("the value at equilibrium is not recorded")
    won = (modes == 0) & (jsd >= rules.jsd_won) & (lag <= rules.lag_won * (best - run.equilibrium))
    return _settled(steps, won, rules)


def _swings(x: NDArray, low: NDArray | float, high: NDArray | float) -> NDArray:
    """Where x (S, n) comes to be at least high after having been below low, or the reverse: (S, n) bool."""
    state = np.where(x >= high, 1, np.where(x < low, -1, 0))
    # Between the two, what it was last.
    known = np.maximum.accumulate(np.where(state != 0, np.arange(len(x))[:, None], 0), axis=0)
    state = np.take_along_axis(state, known, axis=0)
    return np.concatenate([np.zeros_like(state[:1], bool), state[1:] * state[:-1] == -1])


def _cycling(run: _Run, rules: Rules) -> Finding:
    _need_modes(run)
    need = max(1, math.ceil(rules.cycle_modes * run.weights.size))
    if run.mode_mass is not None and np.isfinite(run.mode_mass).all(axis=1).sum() > rules.least:
        defined = np.isfinite(run.mode_mass).all(axis=1)
        steps, x = run.steps[defined], run.mode_mass[defined]
        low, high = rules.mode_gone * run.weights, rules.mode_there * run.weights
        detail = "mode_mass"
    else:
        steps, modes = _need(run, rules, "modes")
        x, detail = modes[:, None], "modes"
    judged = window(len(x), rules, rules.cycle_window)
    steps, x = steps[judged], x[judged]
    if detail == "modes":
        if np.ptp(x) < need:
            return Finding(False)
        low, high, need = x.min() + np.ptp(x) / 4, x.max() - np.ptp(x) / 4, 1
    swings = _swings(x, low, high)
    cycling = swings.sum(axis=0) >= rules.cycle_swings
    first = swings[:, cycling].any(axis=1).argmax()
    return Finding(bool(cycling.sum() >= need), float(steps[first]), detail)


def _collapsed(run: _Run, rules: Rules) -> Finding:
    _need_modes(run)
    steps, modes = _need(run, rules, "modes")
    few = modes <= rules.modes_collapsed * run.weights.size
    change, beyond_noise = _trend(steps, modes, rules)
    rises = beyond_noise and change > _change_of_modes(run, rules)
    found = _settled(steps, few, rules)
    if not found.holds or rises:
        return Finding(False)
    if few[steps < found.step].all():
        return Finding(True, float(steps[0]), "from the start")
    return found._replace(detail=f"after {modes[steps < found.step].max():g} of {run.weights.size} modes")


def _converged(run: _Run, rules: Rules) -> Finding:
    steps, jsd, modes = _need(run, rules, "jsd", "modes")
    there = (jsd <= rules.jsd_converged) & (modes >= run.weights.size)
    return _settled(steps, there, rules)


def _still_moving(run: _Run, rules: Rules) -> Finding:
    return Finding(_moves(run, rules))


def _partial(run: _Run, rules: Rules) -> Finding:
    _need_modes(run)
    steps, modes = _need(run, rules, "modes")
    last, total = float(np.median(modes[window(modes.size, rules)])), run.weights.size
    if _moves(run, rules) or not rules.modes_collapsed * total < last < total:
        return Finding(False)
    stays = np.abs(modes - last) <= _change_of_modes(run, rules)
    return Finding(True, _settled(steps, stays, rules).step, f"{last:g} of {total} modes")


def _imprecise(run: _Run, rules: Rules) -> Finding:
    _, jsd, modes = _need(run, rules, "jsd", "modes")
    judged = window(modes.size, rules)
    covered = bool(np.median(modes[judged]) >= run.weights.size)
    typical = float(np.median(jsd[judged]))
    return Finding(
        covered and typical > rules.jsd_converged and not _moves(run, rules), detail=f"JSD {typical:.3f} nats"
    )


_FIND: dict[str, Callable[[_Run, Rules], Finding]] = {
    "diverged": _diverged,
    "unmeasured": _unmeasured,
    "vanishing_gradient": _vanishing_gradient,
    "discriminator_won": _discriminator_won,
    "cycling": _cycling,
    "collapsed": _collapsed,
    "converged": _converged,
    "still_moving": _still_moving,
    "partial": _partial,
    "imprecise": _imprecise,
}

_CURVES = ("finite", "jsd", "modes", "lag", "value_best", "grad_norm_gen", "sensitivity")


def _runs(results: xr.Dataset) -> list[_Run]:
    if "finite" not in results:
        raise ValueError("verdicts: the results have no metric 'finite'")
    steps = np.asarray(results["step"].values, float)
    found = {name: np.asarray(results[name].values, float) for name in _CURVES if name in results}
    mass = np.asarray(results["mode_mass"].values, float) if "mode_mass" in results else None
    none = np.full((results.sizes["run"], 0), np.nan)
    weights = np.asarray(results["target_weights"].values, float) if "target_weights" in results else none
    equilibrium = results["equilibrium"].values if "equilibrium" in results else np.full(len(weights), np.nan)
    runs = []
    for r in range(len(weights)):
        there = np.isfinite(weights[r])
        curves = {name: curve[r] for name, curve in found.items()}
        if not there.any():
            curves["modes"] = np.where(np.isfinite(curves["finite"]), 0.0, np.nan)
        runs.append(
            _Run(steps, curves, None if mass is None else mass[r][:, there], weights[r][there], float(equilibrium[r]))
        )
    return runs


def _find(name: str, run: _Run, rules: Rules) -> Finding | str:
    """What a rule finds, or what it lacks."""
    try:
        return _FIND[name](run, rules)
    except _NotApplied as lack:
        return str(lack)


def judge(results: xr.Dataset, rules: Rules | None = None) -> xr.Dataset:
    """The results with a verdict for each run.

    Added variables:
      verdict (run): the first of `VERDICTS` whose rule holds, as a string.
      verdict_step (run): the step at which it happened; NaN where the verdict has none.
      verdict_detail (run): what else there is to say, such as "from the start"; often "".
      verdict_holds (run, verdict_rule): 1 or 0 as the rule holds, by itself, NaN where it could not be applied. A run
        that diverged or was not measured is judged by no later rule.

    Attributes of ``verdict``, each JSON: ``rule`` (name -> the rule in words with its numbers, in order of
    precedence), ``thresholds`` (`Rules`), ``not_applied`` (name -> why, and to how many runs, it could not be applied).

    Raises:
      ValueError: for results without ``finite``.
    """
    rules = rules or Rules()
    runs = _runs(results)
    names = list(_FIND)
    holds = np.full((len(runs), len(names)), np.nan)
    chosen: list[tuple[str, Finding]] = []
    lacking: dict[str, dict[str, int]] = {}
    for r, run in enumerate(runs):
        first: tuple[str, Finding] | None = None
        for i, name in enumerate(names):
            found = _find(name, run, rules)
            if isinstance(found, str):
                lacking.setdefault(name, {}).setdefault(found, 0)
                lacking[name][found] += 1
                continue
            holds[r, i] = found.holds
            if found.holds and first is None:
                first = name, found
            if found.holds and name in ("diverged", "unmeasured"):
                break
        chosen.append(first or ("undecided", Finding(True)))
    not_applied = {
        name: "; ".join(f"{count} of {len(runs)} runs: {reason}" for reason, count in reasons.items())
        for name, reasons in lacking.items()
    }
    attrs = {
        "long_name": "verdict",
        "rule": json.dumps(in_words(rules)),
        "thresholds": json.dumps(dataclasses.asdict(rules)),
        "not_applied": json.dumps(not_applied),
    }
    steps = np.array([found.step for _, found in chosen], float)
    return results.assign(
        verdict=("run", np.array([name for name, _ in chosen], object), attrs),
        verdict_step=("run", steps, {"long_name": "step of the verdict", "units": "step"}),
        verdict_detail=("run", np.array([found.detail for _, found in chosen], object)),
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
    for run, failed in zip(_runs(results), reading.diverged(results), strict=True):
        found = "" if failed else _find("collapsed", run, rules)
        onsets.append(found.step if isinstance(found, Finding) and found.holds else math.nan)
    return np.array(onsets, float)
