"""Figures of a results dataset, a file each.

Every function takes the dataset first and returns a matplotlib `Figure` that pyplot knows nothing of: nothing is left
open, no global setting changes. At the end of a notebook's cell it shows itself; ``figure.savefig(path)`` saves it.
A figure that needs a variable which the dataset lacks raises ValueError, with how to record it.
"""

from gandyn.report.figures.accuracy import accuracy
from gandyn.report.figures.curves import curves
from gandyn.report.figures.decomposition import decomposition
from gandyn.report.figures.distributions import distributions
from gandyn.report.figures.gallery import gallery
from gandyn.report.figures.gap_budget import gap_budget
from gandyn.report.figures.gradient_snr import gradient_snr
from gandyn.report.figures.implied_modes import implied_modes
from gandyn.report.figures.loss_against_coverage import loss_against_coverage
from gandyn.report.figures.overview import overview
from gandyn.report.figures.samples_over_training import pick_covering_and_collapsed, samples_over_training
from gandyn.report.figures.spectrum import spectrum
from gandyn.report.figures.style import COLORS, STYLE, Figure
from gandyn.report.figures.tracking import tracking
from gandyn.report.figures.verdict_mosaic import VERDICT_MARKS, verdict_mosaic

__all__ = [
    "COLORS",
    "STYLE",
    "VERDICT_MARKS",
    "Figure",
    "accuracy",
    "curves",
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
