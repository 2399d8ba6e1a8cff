"""Everything measured on ONE GAN at one moment: often and cheaply (`measure`), seldom and in depth (`measure_deep`).

Measuring draws from its own streams of randomness and changes nothing in training.
"""

from typing import Any

import numpy as np

from gandyn.gan.gan import Config
from gandyn.truth.measure.cheap import Measurement, fields_of, measure, metrics_of, node_bits, surface_axis, value_index
from gandyn.truth.measure.config import CHEAP, DEEP, MeasureConfig, check
from gandyn.truth.measure.deep import (
    PATH_ALPHA,
    DeepMeasurement,
    Past,
    deep_bits,
    deep_fields_of,
    deep_grids,
    deep_metrics_of,
    measure_deep,
    spectrum,
    transport,
)
from gandyn.truth.measure.game import NUM_SCRAMBLES

__all__ = [
    "CHEAP",
    "DEEP",
    "NUM_SCRAMBLES",
    "DeepMeasurement",
    "MeasureConfig",
    "Measurement",
    "Past",
    "axes_of",
    "check",
    "deep_bits",
    "deep_fields_of",
    "deep_grids",
    "deep_metrics_of",
    "fields_of",
    "measure",
    "measure_deep",
    "metrics_of",
    "named",
    "node_bits",
    "spectrum",
    "surface_axis",
    "transport",
    "value_index",
]


def named(config: Config, measure_config: MeasureConfig, metrics: Any) -> dict[str, Any]:
    """Cheap metrics (..., number of them) of a configuration by name."""
    return {name: metrics[..., i] for i, name in enumerate(metrics_of(config, measure_config))}


def axes_of(measure_config: MeasureConfig) -> dict[str, list]:
    """Coordinate values along the axes of the fields that are kept, where an axis has any."""
    surface = np.linspace(-1, 1, measure_config.keep_surface).tolist()  # in half extents of the target
    axes = {"surface_y": surface, "surface_x": surface} if surface else {}
    axes |= {"alpha": PATH_ALPHA.tolist()} if "path" in measure_config.deep else {}
    return axes | ({"part": ["real", "imaginary"]} if "spectrum" in measure_config.deep else {})
