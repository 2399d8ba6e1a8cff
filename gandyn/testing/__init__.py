"""The conformity suite: what a part must keep to be trained, swept, measured, stored and replayed like a built-in one.

    gandyn.testing.check(gandyn.Loss("mine", disc=disc, gen=gen))

The tests of the package run it over every built-in part.
"""

from gandyn.testing.report import Check, Report
from gandyn.testing.suite import check

__all__ = ["Check", "Report", "check"]
