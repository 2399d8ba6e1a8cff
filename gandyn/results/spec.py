"""What a group of runs will record, checked before anything is written: `GroupSpec`.

Letters in shapes: R runs, S steps.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

ALWAYS = ("seed", "recipe", "loss")
"""Coordinates that every run has, and that stay coordinates where all runs share one value."""
METRIC_DIMS = ("metric", "run", "step")
_RESERVED = {"metrics", *METRIC_DIMS}
# Groups may differ along these, and are filled up with NaN: targets in their modes, networks in their eigenvalues.
_RAGGED = ("mode", "eigenvalue")


class StoredField(NamedTuple):
    """An array that each run has at each step, such as its samples.

    Attributes:
      dims: names of the axes after run and step.
      shape: their sizes.
      attrs: `long_name`, `units`, all text.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    attrs: Mapping[str, str]


@dataclasses.dataclass(frozen=True, eq=False)
class GroupSpec:
    """What one compile group of R runs will record.

    Args:
        metrics: name -> attributes (`long_name`, `units`, `convention`), all text.
        steps: every step that will be measured, increasing, (S,).
        coords: name -> one number or one text a run, (R,). `seed`, `recipe` and `loss` are required.
        constants: name -> (dims, array, attributes); `dims` starts with 'run', the array with R. Kept in float64.
        fields: name -> `StoredField`; what is kept beside the metrics.
        axes: coordinate values of the fields' dims, where they have any: name -> numbers or texts, one an entry.

    Raises:
        ValueError: a field is malformed, or two things would have the same name in the dataset.
    """

    metrics: Mapping[str, Mapping[str, str]]
    steps: Sequence[int]
    coords: Mapping[str, Sequence[Any]]
    constants: Mapping[str, tuple[tuple[str, ...], np.ndarray, Mapping[str, str]]]
    fields: Mapping[str, StoredField] = dataclasses.field(default_factory=dict)
    axes: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [name for name in ALWAYS if name not in self.coords]
        if missing:
            raise ValueError(f"coords lacks {', '.join(missing)}: every run has {', '.join(ALWAYS)}")
        if not self.metrics:
            raise ValueError("metrics is empty: a group records at least one metric")
        if self.size == 0:
            raise ValueError("coords['seed'] is empty: a group has at least one run")
        _check_names(self)
        _check_steps(self.steps)
        for name, attrs in self.metrics.items():
            _check_attributes(f"metrics[{name!r}]", attrs)
        for name, values in self.coords.items():
            if len(column(name, values)) != self.size:
                raise ValueError(f"coords[{name!r}] has {len(values)} values for {self.size} runs")
        _check_constants(self)
        _check_fields(self)

    @property
    def size(self) -> int:
        """R, the number of runs."""
        return len(self.coords["seed"])


def check_agreement(specs: Sequence[GroupSpec]) -> None:
    """Raises ValueError where groups give one name two meanings, so that they make no single dataset."""
    meanings: dict[str, Any] = {}
    for index, spec in enumerate(specs):
        for name, meaning in _meanings(spec):
            if meanings.setdefault(name, meaning) != meaning:
                raise ValueError(f"{name} is {meaning} in group {index} and {meanings[name]} in a group before it")


def _meanings(spec: GroupSpec) -> Iterable[tuple[str, Any]]:
    """Name -> what all groups that have it must agree on."""
    for name, attrs in spec.metrics.items():
        yield name, f"a metric with attributes {dict(attrs)}"
    for name, values in spec.coords.items():
        yield name, "a coordinate of text" if column(name, values).dtype == object else "a coordinate of numbers"
    for name, (dims, _, attrs) in spec.constants.items():
        yield name, f"a constant {tuple(dims)} with attributes {dict(attrs)}"
    for name, (dims, shape, attrs) in spec.fields.items():
        sizes = tuple(0 if dim in _RAGGED else size for dim, size in zip(dims, shape))
        yield name, f"kept as {dims} {sizes} with attributes {dict(attrs)}"
    for dim, values in spec.axes.items():
        yield dim, f"an axis with values {list(values)}"


def column(name: str, values: Sequence[Any]) -> np.ndarray:
    """Coordinate values as an array (R,): of numbers, or of objects that are all text."""
    items = [value.item() if hasattr(value, "item") else value for value in values]
    if all(isinstance(item, str) for item in items):
        return np.array(items, dtype=object)
    if all(isinstance(item, int | float) for item in items):
        column = np.array(items)
        if column.dtype.kind in "biuf":
            return column
    raise ValueError(f"coords[{name!r}] must be all numbers or all text, got {values!r:.200}")


def _check_names(spec: GroupSpec) -> None:
    """Raises ValueError where two things of a group would share a name in the dataset."""
    seen: dict[str, str] = {name: "a name of the format" for name in _RESERVED}
    kinds = {"metric": spec.metrics, "coordinate": spec.coords, "constant": spec.constants, "field": spec.fields}
    kinds |= {"dimension": {dim for field in spec.fields.values() for dim in field.dims}}
    for kind, names in kinds.items():
        for name in names:
            if not isinstance(name, str) or not name:
                raise ValueError(f"the name of a {kind} is {name!r}: expected text")
            if name in seen:
                raise ValueError(f"the {kind} {name!r} is also {seen[name]}: one of them needs another name")
            seen[name] = f"a {kind}"


def _check_steps(steps: Sequence[int]) -> None:
    values = np.asarray(steps)
    if values.ndim != 1 or not len(values) or values.dtype.kind not in "iu":
        raise ValueError(f"steps is {steps!r}: expected at least one integer")
    if values[0] < 0 or (np.diff(values) <= 0).any():
        raise ValueError("steps must increase from 0 or more")


def _check_attributes(owner: str, attrs: Mapping[str, str]) -> None:
    for name, value in attrs.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ValueError(f"{owner} has the attribute {name!r}: {value!r}; expected text")


def _check_constants(spec: GroupSpec) -> None:
    """Raises ValueError unless every constant is an array of numbers (run, ...) with one size a dimension."""
    sizes = {"run": spec.size, "xy": 2}
    for name, (dims, values, attrs) in spec.constants.items():
        # The name becomes a folder of the store.
        if not name.isidentifier():
            raise ValueError(f"the constant {name!r} needs a name made of letters, digits and underscores")
        shape = np.shape(values)
        if not dims or dims[0] != "run" or len(dims) != len(shape) or len(set(dims)) != len(dims) or "step" in dims:
            raise ValueError(f"constants[{name!r}] has dims {dims}, shape {shape}: expected 'run' first, one an axis")
        for dim, size in zip(dims, shape):
            if sizes.setdefault(dim, size) != size:
                raise ValueError(f"constants[{name!r}] has {size} along {dim!r}: expected {sizes[dim]}")
        if np.asarray(values).dtype.kind not in "biuf":
            raise ValueError(f"constants[{name!r}] holds {np.asarray(values).dtype}: expected numbers")
        _check_attributes(f"constants[{name!r}]", attrs)


def _check_fields(spec: GroupSpec) -> None:
    """Raises ValueError unless every field has named axes of one size each, and every axis' values its size."""
    sizes = {"xy": 2} | {
        dim: n for dims, values, _ in spec.constants.values() for dim, n in zip(dims, np.shape(values))
    }
    for name, (dims, shape, attrs) in spec.fields.items():
        if not all(isinstance(text, str) and text.isidentifier() for text in (name, *dims)):
            raise ValueError(f"the field {name!r} {dims}: its names must be made of letters, digits and underscores")
        if not dims or len(dims) != len(shape) or len({"run", "step", *dims}) != len(dims) + 2:
            raise ValueError(
                f"fields[{name!r}] has dims {dims} and shape {shape}: expected one an axis after run, step"
            )
        for dim, size in zip(dims, shape):
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"fields[{name!r}] has {size!r} along {dim!r}: expected an integer, 1 or more")
            if sizes.setdefault(dim, size) != size:
                raise ValueError(f"fields[{name!r}] has {size} along {dim!r}: expected {sizes[dim]}")
        _check_attributes(f"fields[{name!r}]", attrs)
    for dim, values in spec.axes.items():
        if dim not in sizes or len(column(dim, values)) != sizes[dim]:
            raise ValueError(f"axes[{dim!r}] has {len(values)} values: expected one an entry of a field's axis")
