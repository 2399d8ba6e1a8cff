"""The truth beside the loss: the value function on quasi-random nodes, the generator's density, the best response."""

from gandyn.truth.best_response import best_value, log_ratios
from gandyn.truth.density import GridDensity, bin_linearly, grid_cells
from gandyn.truth.nodes import sobol_bits, uniforms
from gandyn.truth.value import Estimate, estimate, value

__all__ = [
    "Estimate",
    "GridDensity",
    "best_value",
    "bin_linearly",
    "estimate",
    "grid_cells",
    "log_ratios",
    "sobol_bits",
    "uniforms",
    "value",
]
