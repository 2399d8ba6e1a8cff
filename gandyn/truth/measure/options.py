"""How the truth is measured, and which measurements are taken when."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

from gandyn import checks
from gandyn.truth.coverage import CONVENTIONS
from gandyn.truth.measure import cheap as cheap_ones
from gandyn.truth.measure import deep as deep_ones
from gandyn.truth.measure import extra
from gandyn.truth.measure.measurement import Measurement

MEASUREMENTS: dict[str, Measurement] = {
    one.name: one
    for one in (
        cheap_ones.VALUE,
        cheap_ones.BEST_RESPONSE,
        cheap_ones.COVERAGE,
        deep_ones.BEST_RESPONSE,
        deep_ones.GAP,
        deep_ones.TRANSPORT,
        deep_ones.GRADIENTS,
        deep_ones.QUALITY,
        deep_ones.PATH,
        deep_ones.SPECTRUM,
        extra.VALID_JSD,
        extra.LOG_LIKELIHOOD,
    )
}
"""Those that can be asked for by name. The losses are always recorded; samples and surfaces where asked for by size."""


@dataclasses.dataclass(frozen=True)
class MeasureConfig:
    """How the truth is measured. Static: one program per distinct value."""

    measurements: "tuple[str | Measurement, ...]" = dataclasses.field(
        default=("value", "best_response", "coverage"), metadata={"parts": MEASUREMENTS}
    )
    """What is measured every measure_every steps, beside the losses (`gandyn list measurements`)."""
    deep: "tuple[str | Measurement, ...]" = dataclasses.field(
        default=("best_response_deep", "gap", "transport", "gradients", "quality", "path"),
        metadata={"parts": MEASUREMENTS},
    )
    """What is measured every deep_every steps: the same names, with more nodes."""
    convention: Literal["mass", "veegan", "share", "dyngan_1", "dyngan_2", "dyngan_3", "top_k"] = "mass"
    """How covered modes and high quality are counted (`gandyn list conventions`): of "veegan", that of most published
    tables, one sample covers a mode."""
    num_nodes: int = 512
    """Sobol nodes in each of eight scrambles (a power of two): the accuracy of `value`."""
    num_response_nodes: int = 128
    """Of each scramble's nodes those on which best responses are taken (a power of two)."""
    num_density_nodes: int = 2**12
    """Push-forward kernels of G's density (a power of two): the sharpness of `value_best` and `jsd`."""
    num_deep_nodes: int = 4096
    """`num_nodes` of the deep measurements."""
    num_deep_response_nodes: int = 2048
    """`num_response_nodes` of the deep measurements."""
    num_deep_density_nodes: int = 2**13
    """`num_density_nodes` of the deep measurements."""
    num_transport: int = 512
    """Samples of each side in one exact transport problem (eight are solved); its time grows as the cube."""
    num_quality: int = 2048
    """Samples of each side for the quality metrics."""
    num_gradients: int = 16
    """Minibatches on which gradients are compared with the true one."""
    num_eigenvalues: int = 8
    """Eigenvalues kept where the networks are too large for all of them: of largest modulus and largest real part."""
    keep_samples: int = 0
    """Generated samples kept in the results at each measurement."""
    keep_surface: int = 0
    """Side of the square grid on which D's output is kept at each measurement."""

    def __post_init__(self) -> None:
        for field in ("measurements", "deep"):
            object.__setattr__(self, field, _ordered(field, getattr(self, field)))
        both = set(names_of(self.measurements)) & set(names_of(self.deep))
        if both:
            raise ValueError(f"deep: got {', '.join(sorted(both))} in measurements, too; allowed: in one of them")
        for one in of_names(self.measurements):
            if one.host is not None or one.needs_past:
                raise ValueError(f"measurements: got {one.name!r}; allowed: in deep, for it is taken in depth alone")
        checks.choice("convention", self.convention, CONVENTIONS)
        for name, (least, most) in _SIZES.items():
            checks.whole(name, getattr(self, name), least, most)
        for name in (name for name in _SIZES if name.endswith(("_nodes", "_transport"))):
            if getattr(self, name) & (getattr(self, name) - 1):
                raise ValueError(f"{name}: got {getattr(self, name)}; allowed: a power of two")
        if self.num_transport > self.num_deep_nodes:
            raise ValueError(
                f"num_transport: got {self.num_transport}; allowed: at most num_deep_nodes, {self.num_deep_nodes}"
            )


_SIZES: dict[str, tuple[int, int]] = {
    "num_nodes": (2, 2**22),
    "num_response_nodes": (2, 2**22),
    "num_density_nodes": (2, 2**24),
    "num_deep_nodes": (2, 2**22),
    "num_deep_response_nodes": (2, 2**22),
    "num_deep_density_nodes": (2, 2**24),
    "num_transport": (2, 2**13),  # hours each
    "num_quality": (16, 2**16),
    "num_gradients": (2, 2**16),
    "num_eigenvalues": (2, 256),
    "keep_samples": (0, 2**20),
    "keep_surface": (0, 2**12),
}
"""Least and most of what is counted."""


def of_names(given: Iterable[str | Measurement]) -> tuple[Measurement, ...]:
    """Measurements by name, or as they are."""
    return tuple(MEASUREMENTS[one] if isinstance(one, str) else one for one in given)


def names_of(given: Iterable[str | Measurement]) -> tuple[str, ...]:
    """Their names."""
    return tuple(one if isinstance(one, str) else one.name for one in given)


def _ordered(field: str, given: Any) -> tuple[str | Measurement, ...]:
    """Measurements, checked, in one order: what is asked for in another is the same program."""
    if not isinstance(given, tuple | list):
        raise ValueError(
            f"{field}: got {given!r:.200}; allowed: a tuple of {', '.join(MEASUREMENTS)}, or a Measurement"
        )
    for one in given:
        if not isinstance(one, Measurement):
            checks.choice(field, one, MEASUREMENTS)
        elif one.name in _RESERVED or MEASUREMENTS.get(one.name, one) is not one:
            raise ValueError(f"{field}: got one named {one.name!r}; allowed: a name of its own")
    chosen = {one.name: one for one in of_names(given)}
    if len(chosen) < len(given):
        raise ValueError(f"{field}: got {', '.join(names_of(given))}; allowed: each once")
    built_in = [name for name in MEASUREMENTS if name in chosen]
    return (*built_in, *(chosen[name] for name in sorted(chosen.keys() - MEASUREMENTS.keys())))


_RESERVED = ("losses", "samples", "surface")
