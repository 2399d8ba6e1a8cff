"""Figures of a results dataset.

Every function takes the dataset first and returns a matplotlib `Figure` that pyplot knows nothing of: nothing is
shown, nothing is left open, no global setting changes. Save one with ``figure.savefig(path)``. A figure that needs a
variable which the dataset lacks raises ValueError, with how to record it.
"""

from gandyn.report.figures._style import COLORS, STYLE
from gandyn.report.figures.dynamics import gradient_snr, spectrum
from gandyn.report.figures.losses import decomposition, gap_budget, implied_modes, loss_against_coverage, tracking
from gandyn.report.figures.recipes import VERDICT_MARKS, distributions, gallery, overview, verdict_mosaic
from gandyn.report.figures.samples import pick_covering_and_collapsed, samples_over_training

__all__ = [
    "COLORS",
    "STYLE",
    "VERDICT_MARKS",
    "decomposition",
    "distributions",
    "gallery",
    "gap_budget",
    "gradient_snr",
    "implied_modes",
    "loss_against_coverage",
    "overview",
    "pick_covering_and_collapsed",
    "samples_over_training",
    "spectrum",
    "tracking",
    "verdict_mosaic",
]
