"""The truth beside the loss: the value function on quasi-random nodes, the generator's density, the best responses.

Of D by the density ratio, of G by a search over the plane; exact transport, and what a critic knows of it.
"""

from gandyn.truth.best_response import RESOLUTION, Bounded, bounded, cross_fitted, log_ratios
from gandyn.truth.derived import LossTruth, critic_of, truth_of
from gandyn.truth.duality import Extremes, Worst, duality_gap, extremes, worst_value
from gandyn.truth.lipschitz import critic_w1
from gandyn.truth.lipschitz import lower as lipschitz_lower
from gandyn.truth.lipschitz import upper as lipschitz_upper
from gandyn.truth.nodes import sobol_bits, uniforms
from gandyn.truth.pushforward import Kernels, kernels
from gandyn.truth.transport import w1, w1_bounds, w1_estimate, w1_extrapolated, w1_floor
from gandyn.truth.value import T_975, Estimate, estimate, value

__all__ = [
    "RESOLUTION",
    "T_975",
    "Bounded",
    "Estimate",
    "Extremes",
    "Kernels",
    "LossTruth",
    "Worst",
    "bounded",
    "critic_of",
    "critic_w1",
    "cross_fitted",
    "duality_gap",
    "estimate",
    "extremes",
    "kernels",
    "lipschitz_lower",
    "lipschitz_upper",
    "log_ratios",
    "sobol_bits",
    "truth_of",
    "uniforms",
    "value",
    "w1",
    "w1_bounds",
    "w1_estimate",
    "w1_extrapolated",
    "w1_floor",
    "worst_value",
]
