"""Targets: densities that are known, for a GAN to learn. Mixtures, curves, tables of any density, smoothed data sets.

`protocol.Target` says what a target is to the rest of the package; a class of one's own that has its methods is one.
"""

from gandyn.gan.targets.arrangements import grid, line, mixture, random, ring, spiral
from gandyn.gan.targets.curves import circles, moons, ribbon
from gandyn.gan.targets.mixtures import GaussianMixture
from gandyn.gan.targets.protocol import Made, Target
from gandyn.gan.targets.recording import TARGETS, build, check, fields_of, fingerprint, from_record, to_record
from gandyn.gan.targets.samples import from_samples
from gandyn.gan.targets.tabulated import TabulatedDensity, checkerboard, from_cells, from_image, from_log_prob

__all__ = [
    "TARGETS",
    "GaussianMixture",
    "Made",
    "TabulatedDensity",
    "Target",
    "build",
    "check",
    "checkerboard",
    "circles",
    "fields_of",
    "fingerprint",
    "from_cells",
    "from_image",
    "from_log_prob",
    "from_record",
    "from_samples",
    "grid",
    "line",
    "mixture",
    "moons",
    "random",
    "ribbon",
    "ring",
    "spiral",
    "to_record",
]
