"""Counts of many programs from traces of few.

A point is what a program is made from: fields and their values. Points that agree in all but whole numbers (of at
least 2; 0 and 1 are switches) are of one structure. A structure is traced at one point, and once more with each whole
number that varies within it changed by itself:

- Where the traces have the same operations, each factor of each term (a side of an array, the trips of a loop) is told
  apart by what moves it. It goes along with the numbers that it is proportional to, and by as much as it moved with
  those that it is not: of 2 B rows and W + 1 columns both are exact, at any width and batch size.
- Where they do not (another layer), the sums themselves go along, in a straight line.

Traces are bounded. First every structure gets one, those with values not seen before first; then, while any are left,
the numbers that vary. A structure without traces of its own takes the sizes of the one with the most fields in common,
times what its other values did to the sums elsewhere (a least-squares fit of the logarithms, one effect a value).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gandyn.sweeps.tracing import Term, Trace

Point = Mapping[str, Hashable]

_CHUNK = 512  # points at a time: their factors fit into a few megabytes


def counts(points: Sequence[Point], trace: Callable[[Point], Trace], most: int) -> dict[str, np.ndarray]:
    """Each feature of the programs of `points`: (points,) each.

    Args:
      points: with the same fields each.
      trace: of the program of a point; ValueError where there is none, for points that were not asked for.
      most: traces, at least one.
    """
    varied = [name for name in points[0] if any(point[name] != points[0][name] for point in points)]
    few = len(points) <= most
    structures: dict[Hashable, list[int]] = defaultdict(list)
    for i, point in enumerate(points):
        structures[tuple(value if few else _switch(value) for name in varied for value in (point[name],))].append(i)
    keys = _by_news(list(structures))
    numbers = {key: [] if few else _numbers(points, structures[key], varied) for key in keys}
    # Room is left for what varies within the first structure.
    own = keys[: max(1, most - len(numbers[keys[0]]))]
    budget = _Budget(trace, most)
    models: dict[Hashable, _Model] = {}
    for i, key in enumerate(own):
        rest = len(own) - i  # each of those to come, and itself, has one
        names = numbers[key] if budget.left - rest >= len(numbers[key]) else []
        models[key] = _model(points, structures[key], names, budget)
    effects = None
    if len(own) < len(keys):
        # Of sums at other sizes: what is left of them beside those of the first structure at these sizes.
        sizes = [models[keys[0]].at([models[key].base])[0] for key in own]
        effects = _Effects(own, [models[key].at_base / np.maximum(of, 1) for key, of in zip(own, sizes, strict=True)])
    total = np.zeros((len(points), len(models[keys[0]].features)))
    for key, indices in structures.items():
        its = [points[i] for i in indices]
        # Of two that are as near, the one of which more sizes are known.
        near = key if key in models and (models[key].names or not numbers[key]) else _nearest(key, own, models)
        found = models[near].at(its)
        if key in models and near != key:
            there = models[near].at([models[key].base])[0]
            here = models[key].at_base
            found = np.where(there > 0, found * here / np.maximum(there, 1e-9), here)
        elif effects is not None and key not in models:
            found *= effects.ratio(key, near)
        total[indices] = found
    return dict(zip(models[keys[0]].features, total.T, strict=True))


class _Budget:
    """Traces that may be taken: at least those that every structure of its own needs."""

    def __init__(self, trace: Callable[[Point], Trace], most: int) -> None:
        self._trace, self.left = trace, most

    def trace(self, point: Point) -> Trace:
        self.left -= 1
        return self._trace(point)


def _switch(value: Any) -> Any:
    """What a value says about the structure: of a whole number whether it is 0, 1 or more."""
    return (min(value, 2), "number") if _is_number(value) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _numbers(points: Sequence[Point], indices: Sequence[int], varied: Sequence[str]) -> list[str]:
    """The whole numbers that vary within a structure, the one with the widest range first."""
    spans = {}
    for name in varied:
        values = {points[i][name] for i in indices}
        if len(values) > 1:
            spans[name] = max(values) / max(1, min(values))  # pyright: ignore[reportArgumentType, reportOperatorIssue]
    return sorted(spans, key=lambda name: -spans[name])


def _by_news(keys: list[Hashable]) -> list[Any]:
    """Structures in an order in which each one shows as many values as possible that none before it did."""
    entries = {key: set(enumerate(key)) for key in keys}  # pyright: ignore[reportArgumentType]
    seen: set[Any] = set()
    ordered = []
    while entries and (not ordered or set().union(*entries.values()) - seen):
        key = max(entries, key=lambda key: len(entries[key] - seen))
        seen |= entries.pop(key)
        ordered.append(key)
    return [*ordered, *entries]


def _nearest(key: Any, own: Sequence[Any], models: Mapping[Any, "_Model"]) -> Any:
    alike = lambda other: sum(a == b for a, b in zip(key, other, strict=True))  # noqa: E731
    return max(own, key=lambda other: (bool(models[other].names), alike(other)))


class _Effects:
    """What each value of a structure does to ratios of sums: log ratio = a sum of one effect a value, of least norm."""

    def __init__(self, keys: Sequence[Any], ratios: Sequence[np.ndarray]) -> None:
        self._columns = {entry: i for i, entry in enumerate(dict.fromkeys(e for key in keys for e in enumerate(key)))}
        logs = np.log(np.maximum(np.stack(ratios), 1e-3))
        self._effects = np.linalg.lstsq(np.stack([self._row(key) for key in keys]), logs, rcond=None)[0]

    def _row(self, key: Any) -> np.ndarray:
        row = np.zeros(len(self._columns))
        row[[self._columns[entry] for entry in enumerate(key) if entry in self._columns]] = 1.0
        return row

    def ratio(self, key: Any, to: Any) -> np.ndarray:
        """Of two structures at the same sizes; 1 for values that were not seen."""
        row, other = self._row(key), self._row(to)
        for i, entry in enumerate(key):
            if (i, entry) not in self._columns:
                other[self._columns[i, to[i]]] = 0.0
        return np.exp((row - other) @ self._effects)


class _Model(NamedTuple):
    """The sums of one structure as functions of its whole numbers.

    Attributes:
      features: names of the sums, F.
      base: the point that was traced.
      at_base: (F,) its sums.
      names: of the numbers that vary.
      steps: (names,) how far each was moved.
      coefficients: (U,) of distinct terms.
      of: (U,) the feature that each is of, with a number behind it where the sum is the largest of several.
      factors: (U, D) at the base.
      shares: (names, U, D) whether a factor is proportional to a number.
      slopes: (names, U, D) by how much it changes for a unit of one that it is not.
    """

    features: tuple[str, ...]
    base: Point
    at_base: np.ndarray
    names: list[str]
    coefficients: np.ndarray
    of: list[str]
    factors: np.ndarray
    shares: np.ndarray
    slopes: np.ndarray

    def at(self, points: Sequence[Point]) -> np.ndarray:
        """(points, F)."""
        found = np.empty((len(points), len(self.features)))
        for first in range(0, len(points), _CHUNK):
            part = points[first : first + _CHUNK]
            values = np.array([[point[name] for name in self.names] for point in part], float)
            values = values.reshape(len(part), len(self.names))
            base = np.array([self.base[name] for name in self.names], float)
            moved = values - base
            factors = self.factors + np.einsum("pn,nud->pud", moved, self.slopes)
            terms = self.coefficients * np.prod(factors, axis=2)
            # Whole powers of the ratios of the numbers to those of the base, in logarithms.
            powers = self.shares.sum(axis=2)
            terms *= np.exp(np.log(np.maximum(values, 1) / np.maximum(base, 1)) @ powers)
            labels = dict.fromkeys(self.of)
            sums = {label: terms @ np.array([label == own for own in self.of], float) for label in labels}
            for i, feature in enumerate(self.features):
                own = [sums[label] for label in sums if label.split()[0] == feature]
                found[first : first + len(part), i] = np.max(own, axis=0) if own else 0.0
        return np.maximum(found, 0.0)


def _model(points: Sequence[Point], indices: Sequence[int], names: Sequence[str], budget: "_Budget") -> _Model:
    """Of the structure of some points, traced at one with each of its numbers moved."""
    # In the middle, by their product, of what is asked for.
    base = sorted((points[i] for i in indices), key=lambda p: math.prod(p[name] for name in names))[len(indices) // 2]  # pyright: ignore
    at_base = budget.trace(base)
    sums = at_base.counts()
    others = {name: found for name in names if (found := _moved(points, indices, name, base, at_base, budget))}
    names = list(others)
    alike = {name: trace for name, (_, trace) in others.items() if _alike(at_base, trace)}
    # The most that is held may be held elsewhere at other sizes: the largest of what each trace says.
    held = [at_base.alive, *(trace.alive for trace in alike.values())]
    terms = _terms(at_base, held)
    depth = 1 + max(len(term.factors) for term in terms)
    factors = _factors(terms, depth)
    shares, slopes = np.zeros((len(names), *factors.shape)), np.zeros((len(names), *factors.shape))
    more: list[tuple[Term, float, int]] = []
    for i, (name, (value, other)) in enumerate(others.items()):
        start: Any = base[name]
        if name in alike:
            moved = _factors(_terms(other, held), depth)
            shares[i] = (moved * start == factors * value) & (factors > 0)
            slopes[i] = np.where(shares[i], 0.0, (moved - factors) / (value - start))
        else:
            there, here = Counter(_terms(other, [other.alive])), Counter(_terms(at_base, held[:1]))
            differ = {term: there[term] - here[term] for term in there | here if there[term] != here[term]}
            more += [(term, times / (value - start), i) for term, times in differ.items()]
    if more:
        # As many more of an operation, of the sizes that it has at the base, for each unit of the number.
        place = {term: i for i, term in enumerate(terms)}
        rows = [place.get(term, -1) for term, _, _ in more]
        of_more = _factors([term for term, _, _ in more], depth)
        of_more[:, -1] = 0.0
        known = (np.array(rows) >= 0)[:, None]
        shares = np.concatenate([shares, np.where(known, shares[:, rows], 0.0)], axis=1)
        slopes = np.concatenate([slopes, np.where(known, slopes[:, rows], 0.0)], axis=1)
        for row, (_, _, i) in enumerate(more, start=len(terms)):
            slopes[i, row, -1] = 1.0
        factors = np.concatenate([factors, of_more])
        terms += [term._replace(coefficient=term.coefficient * times) for term, times, _ in more]
    labels = list(dict.fromkeys(term.feature for term in terms))
    index = np.array([labels.index(term.feature) for term in terms])
    whole = np.concatenate([index[:, None], factors, *shares, *slopes], axis=1)
    distinct, which = np.unique(whole, axis=0, return_inverse=True)
    coefficients = np.bincount(which.ravel(), [term.coefficient for term in terms])
    parts = distinct[:, 1:].reshape(len(distinct), 1 + 2 * len(names), depth).transpose(1, 0, 2)
    return _Model(
        tuple(sums), base, np.array(list(sums.values())), names, coefficients, [labels[int(i)] for i in distinct[:, 0]],
        parts[0], parts[1 : 1 + len(names)], parts[1 + len(names) :],
    )  # fmt: skip


def _terms(trace: Trace, held: Sequence[Sequence[int]]) -> list[Term]:
    """All terms of a trace, with one "peak" for each of the sets of values that may be held."""
    return [*trace.terms, *(Term(f"peak {i}", *trace.values[v]) for i, values in enumerate(held) for v in values)]


def _moved(
    points: Sequence[Point], indices: Sequence[int], name: str, base: Point, at_base: Trace, budget: "_Budget"
) -> tuple[int, Trace] | None:
    """Another value of a number, and the trace there: the same operations if the largest or the smallest has them."""
    values: set[Any] = {points[i][name] for i in indices} - {base[name]}
    found = None
    for value in sorted({min(values), max(values)}, key=lambda value: -abs(value - base[name])):  # pyright: ignore
        if not budget.left:
            break
        try:
            trace = budget.trace({**base, name: value})
        except ValueError:  # not allowed beside the base's other values
            continue
        if _alike(at_base, trace):
            return value, trace
        found = found or (value, trace)
    return found


def _alike(one: Trace, other: Trace) -> bool:
    """Whether two traces have the same operations, whatever their sizes."""
    of_terms = lambda t: [(term.feature, term.coefficient, len(term.factors)) for term in t.terms]  # noqa: E731
    of_values = lambda t: [(itemsize, len(shape)) for itemsize, shape in t.values]  # noqa: E731
    return of_terms(one) == of_terms(other) and of_values(one) == of_values(other)


def _factors(terms: Sequence[Term], depth: int) -> np.ndarray:
    """(terms, depth), filled up with ones."""
    return np.array([[*term.factors, *[1] * (depth - len(term.factors))] for term in terms], float).reshape(-1, depth)
