"""What an update rule is: `Rule`, a pair of functions as optax has them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from gandyn.gan.number import HParams, Number, defaults


@dataclasses.dataclass(frozen=True, eq=False)
class Rule:
    """One update rule, complete. Two are equal where they are one.

    Attributes:
      name: in results.
      step: (game, state, key) -> state: one step. The game has the numbers in force; the key is the step's own, and
        all that the rule draws comes from it. `State.step` is counted, and averages are kept, by who calls it.
      init: (game, params) -> what the rule remembers from step to step (`State.memory`), a tree of arrays or None.
      numbers: what it declares; read as `game.hparams.adjustment`.
      options: the fields of `Config` that it reads, of those that only rules read.
      own_steps: whether it makes its own steps of the learning rates, so that only plain gradient descent goes with it.
      optimistic: whether its step looks ahead by the last one.
      reference: paper and equation.
    """

    name: str
    step: Callable[..., Any]
    init: Callable[..., Any] = lambda game, params: None
    numbers: Mapping[str, Number] = dataclasses.field(default_factory=dict)
    options: tuple[str, ...] = ()
    own_steps: bool = False
    optimistic: bool = False
    reference: str = ""

    def __repr__(self) -> str:
        return f"Rule({self.name!r})"

    @property
    def defaults(self) -> HParams:
        """Its numbers' defaults."""
        return defaults(self.numbers)
