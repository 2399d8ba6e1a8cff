"""A researcher's own parts: found in a module, and known by their names."""

from types import ModuleType
from typing import Any

import flax.linen as nn

from gandyn.gan.losses import LOSSES, Loss
from gandyn.gan.penalties import PENALTIES, Penalty
from gandyn.gan.targets import GaussianMixture

_KINDS = (Loss, Penalty, GaussianMixture)


def collect(module: ModuleType) -> list[Any]:
    """The parts that a module defines: losses, penalties and targets that it names, and its own Linen modules.

    What comes with gandyn, and classes that the module only imports, are none of its own.
    """
    built_in = [*LOSSES.values(), *PENALTIES.values()]
    found: list[Any] = []
    for value in vars(module).values():
        own = isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module.__name__
        own = own or (isinstance(value, _KINDS) and not any(value is part for part in built_in))
        if own and not any(value is part for part in found):
            found.append(value)
    return found
