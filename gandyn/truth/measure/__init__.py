"""Everything measured on ONE GAN at one moment: often and cheaply, or seldom and in depth.

A measurement is one object (`Measurement`); what several need is shared by the `View` that they are handed. Measuring
draws from its own streams of randomness and changes nothing in training. It always runs in full float32.
"""

from gandyn.truth.measure.measurement import FieldSpec, HostView, Measurement, Subject, axes_of_points
from gandyn.truth.measure.options import MEASUREMENTS, MeasureConfig
from gandyn.truth.measure.taking import (
    Measured,
    Plan,
    axes_of,
    bits_of,
    check,
    fields_of,
    host_metrics,
    loss_index,
    measure,
    metrics_of,
    not_read,
    plan_of,
    program_game,
    program_state,
)
from gandyn.truth.measure.view import Past, View

__all__ = [
    "MEASUREMENTS",
    "FieldSpec",
    "HostView",
    "MeasureConfig",
    "Measured",
    "Measurement",
    "Past",
    "Plan",
    "Subject",
    "View",
    "axes_of",
    "axes_of_points",
    "bits_of",
    "check",
    "fields_of",
    "host_metrics",
    "loss_index",
    "measure",
    "metrics_of",
    "not_read",
    "plan_of",
    "program_game",
    "program_state",
]
