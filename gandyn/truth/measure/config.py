"""How the truth is measured, and which measurements are taken when."""

import dataclasses
from typing import Literal, NamedTuple

from gandyn import checks
from gandyn.gan.gan import Config
from gandyn.truth.coverage import CONVENTIONS

CHEAP: dict[str, str] = {
    "value": "V(D, G) with its standard error, beside the minibatch value",
    "best_response": "a certified lower bound of max_D V from the density ratio; the lag; JSD",
    "coverage": "modes, high quality, mode TV, reverse KL, beside real samples; mass, std and offset of each mode",
}
"""Measurements that `measure_every` schedules: name -> what is measured. The losses are always recorded."""

DEEP: dict[str, str] = {
    "best_response": "max_D V, lag, JSD, TV and triangular discrimination, with more nodes at more bandwidths",
    "gap": "duality gap max_D V - min_G V, G's best response found by a search over the target's box",
    "transport": "exact Wasserstein distance W1 between samples; the critic's estimate over D's Lipschitz bounds",
    "gradients": "both players' true gradients, their cosine with the minibatch's, signal to noise, saturation",
    "quality": "precision, recall, density, coverage, Frechet, MMD, sliced W2; memorizing of a fixed data set",
    "path": "distance from the last deep measurement and from the start; path angle and norm on the way between",
    "spectrum": "eigenvalues of the game Jacobian and spectral radius of the update (seconds a run: few runs)",
}
"""Measurements that `deep_every` schedules: name -> what is measured."""


class FieldSpec(NamedTuple):
    """An array kept beside the metrics of a run at a step: names of its axes, their sizes, attributes."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    attrs: dict[str, str]


@dataclasses.dataclass(frozen=True)
class MeasureConfig:
    """How the truth is measured. Static: one program per distinct value."""

    cheap: tuple[Literal["value", "best_response", "coverage"], ...] = ("value", "best_response", "coverage")
    """What is measured every measure_every steps, beside the losses (`gandyn list cheap`)."""
    deep: tuple[
        Literal["best_response", "gap", "transport", "gradients", "quality", "path", "spectrum"], ...
    ] = ("best_response", "gap", "transport", "gradients", "quality", "path")  # fmt: skip
    """What is measured every deep_every steps (`gandyn list deep`)."""
    convention: Literal["veegan", "share", "dyngan_1", "dyngan_2", "dyngan_3", "top_k"] = "veegan"
    """How covered modes and high quality are counted (`gandyn list conventions`)."""
    num_nodes: int = 512
    """Sobol nodes in each of eight scrambles (a power of two): the accuracy of `value`."""
    num_density_nodes: int = 2**12
    """Nodes pushed through G for its density (a power of two): the sharpness of `value_best` and `jsd`."""
    bandwidth: float = 0.35
    """Std of one blur of the density, in units of the target's narrowest std."""
    num_blurs: int = 2
    """Blurs of the density, of bandwidth * sqrt(1 ... num_blurs), and the order of extrapolation to none."""
    num_deep_nodes: int = 4096
    """`num_nodes` of the deep measurements."""
    num_deep_density_nodes: int = 2**17
    """`num_density_nodes` of the deep measurements."""
    deep_bandwidths: tuple[float, ...] = (0.2, 0.4, 0.8)
    """Bandwidths of the deep best response."""
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
        for field, known in (("cheap", CHEAP), ("deep", DEEP)):
            names = getattr(self, field)
            if isinstance(names, str) or not isinstance(names, tuple | list):
                raise ValueError(f"{field}: got {names!r:.200}; allowed: a tuple of {', '.join(known)}")
            for name in names:
                checks.choice(field, name, known)
            # In one order, so that what is asked for in another is the same program.
            object.__setattr__(self, field, tuple(name for name in known if name in names))
        if "best_response" in self.cheap and "value" not in self.cheap:
            raise ValueError("cheap: got 'best_response' without 'value'; allowed: both (the lag is between the two)")
        checks.choice("convention", self.convention, CONVENTIONS)
        for name, (least, most) in _SIZES.items():
            checks.whole(name, getattr(self, name), least, most)
        for name in ("num_nodes", "num_density_nodes", "num_deep_nodes", "num_deep_density_nodes", "num_transport"):
            if getattr(self, name) & (getattr(self, name) - 1):
                raise ValueError(f"{name}: got {getattr(self, name)}; allowed: a power of two")
        if self.num_transport > self.num_deep_nodes:
            raise ValueError(
                f"num_transport: got {self.num_transport}; allowed: at most num_deep_nodes, {self.num_deep_nodes}"
            )
        if not isinstance(self.deep_bandwidths, tuple) or not 0 < len(self.deep_bandwidths) <= _MOST_BANDWIDTHS:
            raise ValueError(
                f"deep_bandwidths: got {self.deep_bandwidths!r:.200}; allowed: a tuple of numbers above 0, "
                f"{_MOST_BANDWIDTHS} at most"
            )
        for name, bandwidths in (("bandwidth", (self.bandwidth,)), ("deep_bandwidths", self.deep_bandwidths)):
            for bandwidth in bandwidths:
                checks.number(name, bandwidth, 0, above=True)
                checks.number(name, bandwidth, 1e-3, 1e3)


_SIZES: dict[str, tuple[int, int]] = {
    "num_nodes": (2, 2**22),
    "num_density_nodes": (2, 2**24),
    "num_blurs": (1, 8),  # the weights of the extrapolation reach 70 there, and so does its noise
    "num_deep_nodes": (2, 2**22),
    "num_deep_density_nodes": (2, 2**24),
    "num_transport": (2, 2**13),  # hours each
    "num_quality": (16, 2**16),
    "num_gradients": (2, 2**16),
    "num_eigenvalues": (2, 256),
    "keep_samples": (0, 2**20),
    "keep_surface": (0, 2**12),
}
"""Least and most of what is counted."""
_MOST_BANDWIDTHS = 16


def check(config: Config, measure_config: MeasureConfig) -> None:
    """Raises ValueError for what each of the two allows alone but not together."""
    if measure_config.keep_surface and config.minibatch_layer != "none":
        raise ValueError(
            f"keep_surface: got {measure_config.keep_surface}; allowed with minibatch_layer={config.minibatch_layer!r}:"
            " 0 (D's output at a point depends on the batch around it)"
        )
