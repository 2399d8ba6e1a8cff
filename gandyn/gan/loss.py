"""What one GAN loss is: `Loss`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from gandyn.gan.number import HParams, Number, defaults


class Outputs(NamedTuple):
    """What a loss with `aux` is given of each half of a batch.

    Attributes:
      logits: (B,), D's outputs.
      labels: (B,) int32; None where unconditional.
      aux: what D's module has sown into its collection "aux", by name, such as "features" (B, W).
    """

    logits: jax.Array
    labels: jax.Array | None
    aux: Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Loss:
    """One GAN loss, complete: all that other rooms ask about it is a field here. Two are equal where they are one.

    Attributes:
      name: in results.
      disc: (real_logits (B,), fake_logits (B,), numbers) -> what D minimizes, a scalar; V = -disc.
      gen: the same for G.
      numbers: what it declares; `disc` and `gen` read them as `numbers.gamma`.
      critic: (log density ratio log p/q, numbers) -> output of the optimal discriminator, up to `scale`, elementwise;
        None where no formula is given (`truth.derived` then looks for one).
      scale: where the optimum has a factor that is an integral over p and q: (critic's real (N,), fake outputs (N,))
        -> that factor; None where the critic needs none.
      equilibrium: (numbers) -> V at q = p under the optimal discriminator; None where it is not given.
      optimum: what max_D V measures, in words.
      reference: paper and equation.
      zero_sum: whether G minimizes V itself (of which `gen` is the part that moves with G's samples).
      couples: whether the loss of a sample depends on the others in its batch.
      pairs: whether D's outputs count by their differences alone, and so are known up to a constant.
      units: of the losses: "nat" where they are logarithms of probabilities, else "value".
      logistic: whether sigmoid(logit) is D's estimate of p / (p + q).
      slope_bound: largest |d gen / d D(G(z))| of a sample over all outputs of D, or (numbers) -> it; NaN where it is
        unbounded, None where it is not given (`truth.derived` then looks for it).
      unbounded: whether V has a finite maximum only over bounded D, which a penalty or a constraint is to see to; then
        there is no best output of a sample.
      aux: whether `disc` and `gen` take `Outputs` in place of logits.
    """

    name: str
    disc: Callable[..., jax.Array]
    gen: Callable[..., jax.Array]
    numbers: Mapping[str, Number] = dataclasses.field(default_factory=dict)
    critic: Callable[..., jax.Array] | None = None
    scale: Callable[[jax.Array, jax.Array], jax.Array] | None = None
    equilibrium: Callable[[HParams], jax.Array] | None = None
    optimum: str = ""
    reference: str = ""
    zero_sum: bool = False
    couples: bool = False
    pairs: bool = False
    units: str = "value"
    logistic: bool = False
    slope_bound: float | Callable[[HParams], Any] | None = None
    unbounded: bool = False
    aux: bool = False

    def __repr__(self) -> str:
        return f"Loss({self.name!r})"

    @property
    def defaults(self) -> HParams:
        """Its numbers' defaults."""
        return defaults(self.numbers)
