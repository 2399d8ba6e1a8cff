"""Update rules: one step of one GAN, State -> State. A file a family; a rule is one object (`Rule`).

In formulas w = (w_gen, w_disc) are the parameters, xi = (grad_gen L_gen, grad_disc L_disc) is the field that both
players descend, J its Jacobian, h the learning rates.
"""

from gandyn.gan.rules.looking_ahead import (
    EXTRAGRADIENT,
    HEUN,
    OPTIMISTIC,
    PAST_EXTRAGRADIENT,
    RUNGE_KUTTA,
    SIMULTANEOUS,
    UNROLLED,
    lookahead,
)
from gandyn.gan.rules.rule import Rule
from gandyn.gan.rules.second_order import (
    COMPETITIVE,
    CONSENSUS,
    DRIFT_CANCELLING,
    FOLLOW_THE_RIDGE,
    STACKELBERG,
    SYMPLECTIC,
    SYMPLECTIC_ALIGNED,
)
from gandyn.gan.rules.turns import ALTERNATING, BEST_RESPONSE, replay_pool

__all__ = ["RULES", "Rule", "lookahead", "replay_pool"]

_BUILT_IN = (
    ALTERNATING, SIMULTANEOUS, BEST_RESPONSE, EXTRAGRADIENT, PAST_EXTRAGRADIENT, OPTIMISTIC, UNROLLED, CONSENSUS,
    SYMPLECTIC, SYMPLECTIC_ALIGNED, DRIFT_CANCELLING, COMPETITIVE, FOLLOW_THE_RIDGE, STACKELBERG, HEUN, RUNGE_KUTTA,
)  # fmt: skip

RULES: dict[str, Rule] = {rule.name: rule for rule in _BUILT_IN}
