r"""GAN losses: what each player minimizes, as functions of the discriminator's outputs.

Conventions, for every entry of `LOSSES`:

- `disc` and `gen` take the logits of B real and B fake samples (pairs, for the relativistic loss) and return the mean
  over the batch, in nats for the logistic losses. Both are *minimized*; the value function is V(D, G) = -disc.
  (Accounts that write the Wasserstein critic's objective E D(x) - E D(G(z)) write the quantity that is maximized.)
- `gen` of "minimax" is E log(1 - D(G(z))), the *saturating* loss of Goodfellow et al. (2014), eq. 1;
  `gen` of "non_saturating" is -E log D(G(z)), their remedy in section 3. Some accounts swap the two names.
- The discriminator wants D(G(z)) low, the generator wants it high, in all of them.
- Logits are a raw output: D(x) = sigmoid(logit) for the logistic losses.
- What is a number in a loss (its target labels, its order alpha) is declared by it, and traced.

A file a family; a loss is one object (`Loss`).
"""

from gandyn.gan.loss import Loss
from gandyn.gan.losses.alpha import ALPHA
from gandyn.gan.losses.critics import CRITICS
from gandyn.gan.losses.divergences import DIVERGENCES
from gandyn.gan.losses.least_squares import LEAST_SQUARES
from gandyn.gan.losses.logistic import LOGISTIC
from gandyn.gan.losses.relativistic import RELATIVISTIC

__all__ = ["LOSSES", "Loss"]

_BUILT_IN = (*LOGISTIC, *CRITICS, *LEAST_SQUARES, *RELATIVISTIC, *ALPHA, *DIVERGENCES)

LOSSES: dict[str, Loss] = {loss.name: loss for loss in _BUILT_IN}
