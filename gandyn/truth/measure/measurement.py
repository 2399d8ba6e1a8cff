"""What a measurement is: `Measurement`, one object that is computed, stored, judged and drawn like any other."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from gandyn import checks
from gandyn.gan.config import Config
from gandyn.gan.game import Game

Attributes = Mapping[str, str]
"""Of a metric: `long_name`, `units`; where there is one, `convention`; and `failed`, the value that a failed run counts
as in statistics, where it counts as one."""


READS = ("networks", "objectives", "all")
"""How much of a GAN a measurement may read, from the least on."""


class FieldSpec(NamedTuple):
    """An array kept beside the metrics of a run at a step: names of its axes, their sizes, attributes."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    attrs: Attributes


class Subject(NamedTuple):
    """What is measured, as far as names and shapes depend on it.

    Attributes:
      game: of the GAN; of its numbers and target no value is read.
      options: how the truth is measured (`MeasureConfig`).
    """

    game: Game
    options: Any

    @property
    def config(self) -> Config:
        """Of the GAN."""
        return self.game.config

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Of a sample."""
        return self.game.event_shape

    @property
    def num_modes(self) -> int:
        """Of the target; 0 where it has none."""
        return self.game.num_modes


class HostView(NamedTuple):
    """One run as a measurement on the host sees it.

    Attributes:
      game: of the run, on one device.
      state: of the run, on one device.
      options: how the truth is measured.
      found: what the measurement's `compute` returned, as NumPy arrays.
    """

    game: Any
    state: Any
    options: Any
    found: Mapping[str, Any]


def _always(subject: Subject) -> bool:
    return True


@dataclasses.dataclass(frozen=True, eq=False)
class Measurement:
    """One measurement of one GAN at one moment, complete. Two are equal where they are one.

    Attributes:
      name: what it is asked for by.
      metrics: name -> attributes of each number that it records; or (`Subject`) -> that, where it depends on the GAN.
      compute: (`View`, key) -> name -> (), each number, and the fields. Traced, for one GAN, in float32; the key is its
        own, so what it draws moves no other measurement, and never training.
      fields: name -> `FieldSpec` of arrays that it records; or (`Subject`) -> that.
      axes: (options) -> coordinate values of the fields' axes, where they have any: name -> list.
      host: (`HostView`) -> more of its metrics and fields, run by run, for what only a library on the host solves. What
        `compute` returns and nothing records is for it alone. Taken in depth only.
      host_seconds: (`Subject`) -> seconds that `host` takes for one run, about: for plans.
      reads: what of the GAN it reads: "networks" (the players, their samples, V), "objectives" (what they minimize,
        too), "all" (the update rule and its memory, too). Runs that differ in nothing that is read share a program.
      applies: (`Subject`) -> whether there is such a thing; where not, it is absent from the results.
      needs_past: whether it compares with the parameters at the last deep measurement (`View.past`).
      text: what is measured, in one line.
    """

    name: str
    metrics: Mapping[str, Attributes] | Callable[[Subject], Mapping[str, Attributes]] = dataclasses.field(
        default_factory=dict
    )
    compute: Callable[..., Mapping[str, Any]] = lambda view, key: {}
    fields: Mapping[str, FieldSpec] | Callable[[Subject], Mapping[str, FieldSpec]] = dataclasses.field(
        default_factory=dict
    )
    axes: Callable[[Any], Mapping[str, Sequence[Any]]] = lambda options: {}
    host: Callable[[HostView], Mapping[str, Any]] | None = None
    host_seconds: Callable[[Subject], float] = lambda subject: 0.1
    reads: Literal["networks", "objectives", "all"] = "all"
    applies: Callable[[Subject], bool] = _always
    needs_past: bool = False
    text: str = ""

    def __repr__(self) -> str:
        return f"Measurement({self.name!r})"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise ValueError(f"measurement: got the name {self.name!r:.200}; allowed: a name such as 'spread'")
        checks.choice("reads", self.reads, READS)
        if not callable(self.metrics):
            self._check(self.metrics)

    def metrics_of(self, subject: Subject) -> Mapping[str, Attributes]:
        """Its metrics of a GAN; none where it does not apply."""
        if not self.applies(subject):
            return {}
        if not callable(self.metrics):
            return self.metrics
        found = self.metrics(subject)
        self._check(found)
        return found

    def _check(self, metrics: Mapping[str, Attributes]) -> None:
        """Raises ValueError for attributes that are not texts, and for a failed run's value that is no number."""
        for name, attrs in metrics.items():
            if not all(isinstance(text, str) for text in (name, *attrs, *attrs.values())):
                raise ValueError(f"measurement {self.name!r}: {name!r}: got {attrs!r:.200}; allowed: texts")
            try:
                float(attrs.get("failed", "nan"))
            except ValueError:
                failed = attrs["failed"]
                raise ValueError(
                    f"measurement {self.name!r}: {name}: got failed={failed!r:.100}; allowed: a number as text"
                ) from None

    def fields_of(self, subject: Subject) -> Mapping[str, FieldSpec]:
        """Its fields of a GAN; none where it does not apply."""
        if not self.applies(subject):
            return {}
        return self.fields(subject) if callable(self.fields) else self.fields


def axes_of_points(event_shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the axes of a sample in what is recorded: "xy" in the plane."""
    if event_shape == (2,):
        return ("xy",)
    if len(event_shape) == 1:
        return ("coordinate",)
    return tuple(f"coordinate_{i}" for i in range(len(event_shape)))


def in_the_plane(subject: Subject) -> bool:
    """Whether samples are points in the plane, as density grids and searches over a box need them."""
    return subject.event_shape == (2,)


def with_interval(name: str, attrs: Attributes, ends: Sequence[str] = ("low", "high")) -> dict[str, Attributes]:
    """The metrics of an estimate in its interval: name, name_se, and of name_low, name_high those that there are."""
    words = {"low": "lower end of its 95 % interval", "high": "upper end of its 95 % interval"}
    metrics: dict[str, Attributes] = {name: attrs}
    metrics[f"{name}_se"] = {"long_name": f"{attrs['long_name']}, standard error", "units": attrs["units"]}
    for end in ends:
        metrics[f"{name}_{end}"] = {**attrs, "long_name": f"{attrs['long_name']}, {words[end]}"}
    return metrics


def in_interval(name: str, found: Any, ends: Sequence[str] = ("low", "high")) -> dict[str, Any]:
    """Their values, from `truth.Bounded`."""
    beside = {f"{name}_{end}": getattr(found, end) for end in ends}
    return {name: found.mean, f"{name}_se": found.se, **beside}
