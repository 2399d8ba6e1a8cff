"""What is added to the discriminator's loss, or done to its weights. Penalties compose: each has a weight of its own.

Every gradient norm is taken per sample (per pack, where D sees packs). Strengths are traced, so a sweep over them is
one program. Shapes: B batch, I inputs of D (a sample's own shape; 2m numbers for packs of m points in the plane).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gandyn.gan.number import HParams, Number, defaults


class At(NamedTuple):
    """Where a penalty is taken: D on one minibatch.

    Attributes:
      disc: D with its parameters and labels bound: points (B, *I) -> logits (B,).
      params: parameters of D.
      real: (B, *I), D's real inputs.
      fake: (B, *I), its fake ones.
      real_logits: (B,), D's outputs there.
      fake_logits: (B,).
      uniform: (B, size of I + 1), uniforms in (0, 1) of its own.
      step: () int32, steps made.
      memory: what it remembers; None where it remembers nothing.
    """

    disc: Callable[[jax.Array], jax.Array]
    params: Any
    real: jax.Array
    fake: jax.Array
    real_logits: jax.Array
    fake_logits: jax.Array
    uniform: jax.Array
    step: jax.Array
    memory: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Penalty:
    """One penalty or constraint, complete. Two are equal where they are one.

    Attributes:
      name: in results.
      term: (`At`, numbers) -> scalar added to D's loss; None where nothing is.
      project: (parameters of D, numbers) -> parameters, after every update of D; None where nothing is done.
      numbers: what it declares, its own weight among them; read as `numbers.r1_weight`.
      per_sample: whether `term` takes gradients at single samples, so that D must not couple the samples of a batch.
      init: () -> what it remembers before the first update, a tree of arrays; None where it remembers nothing.
      remember: (`At`, numbers) -> what it remembers after an update.
      reference: formula, convention and paper.
    """

    name: str
    term: Callable[[At, HParams], jax.Array] | None = None
    project: Callable[[Any, HParams], Any] | None = None
    numbers: Mapping[str, Number] = dataclasses.field(default_factory=dict)
    per_sample: bool = True
    init: Callable[[], Any] | None = None
    remember: Callable[[At, HParams], Any] | None = None
    reference: str = ""

    def __repr__(self) -> str:
        return f"Penalty({self.name!r})"

    def __post_init__(self) -> None:
        if self.term is None and self.project is None:
            raise ValueError(f"penalty {self.name!r}: got neither term nor project; allowed: one of them, or both")
        if (self.init is None) != (self.remember is None):
            raise ValueError(f"penalty {self.name!r}: got one of init and remember; allowed: both, or neither")

    @property
    def defaults(self) -> HParams:
        """Its numbers' defaults."""
        return defaults(self.numbers)


def squared_norm(disc: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """|grad D|^2 at each of x (B, *I): (B,)."""
    # Each logit depends on its own point only, so the gradient of their sum holds that of each.
    slopes = jax.grad(lambda points: jnp.sum(disc(points)))(x)
    return jnp.sum(slopes**2, axis=tuple(range(1, x.ndim)))


def norm(disc: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """|grad D| at each of x (B, *I): (B,)."""
    squared = squared_norm(disc, x)
    # The norm has no gradient at zero; the smallest normal float32 keeps that point finite and changes no other.
    return jnp.sqrt(jnp.maximum(squared, jnp.finfo(squared.dtype).tiny))


def between(at: At) -> jax.Array:
    """A point uniform on the segment between each real and fake pair: (B, *I)."""
    share = at.uniform[:, 0].reshape(-1, *[1] * (at.real.ndim - 1))
    return share * at.real + (1 - share) * at.fake


def _r1(at: At, numbers: HParams) -> jax.Array:
    """r1_weight / 2 * E |grad D(x)|^2 over real x."""
    return 0.5 * numbers.r1_weight * jnp.mean(squared_norm(at.disc, at.real))


def _r2(at: At, numbers: HParams) -> jax.Array:
    """r2_weight / 2 * E |grad D(x)|^2 over fake x."""
    return 0.5 * numbers.r2_weight * jnp.mean(squared_norm(at.disc, at.fake))


def _wgan_gp(at: At, numbers: HParams) -> jax.Array:
    """wgan_gp_weight * E (|grad D(x)| - wgan_gp_norm)^2 over x uniform on the segments between pairs."""
    return numbers.wgan_gp_weight * jnp.mean((norm(at.disc, between(at)) - numbers.wgan_gp_norm) ** 2)


def _wgan_lp(at: At, numbers: HParams) -> jax.Array:
    """wgan_lp_weight * E max(0, |grad D(x)| - wgan_lp_norm)^2 over x uniform on the segments between pairs."""
    over = jax.nn.relu(norm(at.disc, between(at)) - numbers.wgan_lp_norm)
    return numbers.wgan_lp_weight * jnp.mean(over**2)


def _zero_centred(at: At, numbers: HParams) -> jax.Array:
    """zero_centred_weight * E |grad D(x)|^2 over x uniform on the segments between pairs."""
    return numbers.zero_centred_weight * jnp.mean(squared_norm(at.disc, between(at)))


def _dragan(at: At, numbers: HParams) -> jax.Array:
    """dragan_weight * E (|grad D(x + d)| - 1)^2, real x, d = a s u / 2: a, u uniform in [0, 1], s the batch's std."""
    # Two passes: the mean of squares less the square of the mean would lose a narrow batch far from the origin.
    shape = (-1, *at.real.shape[1:])
    share = at.uniform[:, 0].reshape(-1, *[1] * (at.real.ndim - 1))
    shift = 0.5 * jnp.std(at.real) * share * at.uniform[:, 1:].reshape(shape)
    return numbers.dragan_weight * jnp.mean((norm(at.disc, at.real + shift) - 1) ** 2)


def _l2(at: At, numbers: HParams) -> jax.Array:
    """l2_weight / 2 * the sum of the squares of all of D's weights and biases."""
    return 0.5 * numbers.l2_weight * optax.tree.norm(at.params, squared=True)


def _clip(params: Any, numbers: HParams) -> Any:
    """Every weight and bias of D clipped to [-clip_bound, clip_bound]."""
    bound = jnp.asarray(numbers.clip_bound)
    return jax.tree.map(lambda leaf: jnp.clip(leaf, -bound, bound), params)


def _lecam(at: At, numbers: HParams) -> jax.Array:
    """lecam_weight * (E (D(x) - mean past D(G(z)))^2 + E (D(G(z)) - mean past D(x))^2)."""
    mean_real, mean_fake = at.memory
    apart = jnp.mean((at.real_logits - mean_fake) ** 2) + jnp.mean((at.fake_logits - mean_real) ** 2)
    return numbers.lecam_weight * apart


def _lecam_remember(at: At, numbers: HParams) -> tuple[jax.Array, jax.Array]:
    means = jnp.mean(at.real_logits), jnp.mean(at.fake_logits)
    share = 1 - numbers.lecam_decay
    return tuple(old + share * (new - old) for old, new in zip(at.memory, means))  # pyright: ignore


def lazy(penalty: Penalty, every: int) -> Penalty:
    """A penalty taken at every `every`-th step alone, and so many times as strong there (Karras et al. 2020, 3.1).

    Raises:
      ValueError: a penalty without a term, or `every` below 2.
    """
    if penalty.term is None or not isinstance(every, int) or every < 2:
        raise ValueError(
            f"lazy: got {penalty.name!r} every {every!r}; allowed: one with a term, a whole number from 2 on"
        )
    once = penalty.term

    def term(at: At, numbers: HParams) -> jax.Array:
        zero = jnp.zeros((), at.real_logits.dtype)
        return jax.lax.cond(at.step % every == 0, lambda: every * once(at, numbers), lambda: zero)

    reference = f"{penalty.reference}; at every {every}th step, {every} times as strong (Karras et al. 2020)"
    return dataclasses.replace(penalty, name=f"{penalty.name}_every_{every}", term=term, reference=reference)


def _weight(text: str, default: float = 1.0) -> Number:
    return Number(default, 0, text=text)


_NORM = Number(1.0, 0, text="norm that D's gradient is drawn to")

_BUILT_IN = (
    Penalty(
        "r1",
        _r1,
        numbers={"r1_weight": _weight("gamma of R1, with the 1/2")},
        reference="r1_weight / 2 * E |grad D(x)|^2 over real x (with the 1/2); Mescheder et al. 2018, eq. 9",
    ),
    Penalty(
        "r2",
        _r2,
        numbers={"r2_weight": _weight("gamma of R2, with the 1/2")},
        reference="r2_weight / 2 * E |grad D(x)|^2 over fake x (with the 1/2); Mescheder et al. 2018, eq. 10",
    ),
    Penalty(
        "wgan_gp",
        _wgan_gp,
        numbers={"wgan_gp_weight": _weight("lambda of the gradient penalty"), "wgan_gp_norm": _NORM},
        reference="wgan_gp_weight * E (|grad D| - wgan_gp_norm)^2 between pairs, per sample, two-sided; "
        "Gulrajani et al. 2017, eq. 3",
    ),
    Penalty(
        "wgan_lp",
        _wgan_lp,
        numbers={"wgan_lp_weight": _weight("lambda of the one-sided gradient penalty"), "wgan_lp_norm": _NORM},
        reference="wgan_lp_weight * E max(0, |grad D| - wgan_lp_norm)^2 between pairs, per sample, one-sided; "
        "Petzka et al. 2018, eq. 8",
    ),
    Penalty(
        "zero_centred",
        _zero_centred,
        numbers={"zero_centred_weight": _weight("lambda of the penalty, without 1/2")},
        reference="zero_centred_weight * E |grad D|^2 between pairs, per sample; Thanh-Tung et al. 2019, eq. 9",
    ),
    Penalty(
        "dragan",
        _dragan,
        numbers={"dragan_weight": _weight("lambda of the penalty")},
        reference="dragan_weight * E (|grad D(x + d)| - 1)^2 around real x, d up to half the batch's std; "
        "Kodali et al. 2017",
    ),
    Penalty(
        "lecam",
        _lecam,
        numbers={
            "lecam_weight": _weight("lambda of the penalty", 0.01),
            "lecam_decay": Number(0.99, 0, 1, below=True, text="decay of the mean outputs, an update of D"),
        },
        per_sample=False,
        init=lambda: (jnp.zeros(()), jnp.zeros(())),
        remember=_lecam_remember,
        reference="lecam_weight * E |outputs of D - mean past output on the other half|^2; Tseng et al. 2021, eq. 4",
    ),
    Penalty(
        "l2",
        _l2,
        numbers={"l2_weight": _weight("weight of the squared norm, with the 1/2")},
        per_sample=False,
        reference="l2_weight / 2 * |parameters of D|^2, in the loss (decoupled: optimizer adamw)",
    ),
    Penalty(
        "clip",
        project=_clip,
        numbers={"clip_bound": Number(0.01, 0, above=True, text="bound on every weight and bias of D")},
        per_sample=False,
        reference="every weight and bias of D clipped to +-clip_bound after its update; Arjovsky et al. 2017",
    ),
)

PENALTIES: dict[str, Penalty] = {penalty.name: penalty for penalty in _BUILT_IN}
