"""Optimizers of one player: optax transformations made of traced numbers, so that no value recompiles."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import optax

from gandyn.gan.number import Number


@dataclasses.dataclass(frozen=True, eq=False)
class Optimizer:
    """One optimizer. Two are equal where they are one.

    Attributes:
      name: in results.
      make: (learning rate, **numbers) -> optax transformation, whose updates are added to the parameters. Where it has
        the number eps, `make` also takes `eps_root`, which gives a root a derivative where a gradient is zero.
      numbers: what it declares; each player has its own, `beta1` of G is `beta1_gen`.
      reference: what it is, and paper.
      optimistic: whether its step looks ahead by the last one.
    """

    name: str
    make: Callable[..., optax.GradientTransformation]
    numbers: Mapping[str, Number] = dataclasses.field(default_factory=dict)
    reference: str = ""
    optimistic: bool = False

    def __repr__(self) -> str:
        return f"Optimizer({self.name!r})"


_BETA1 = Number(0.5, -1, 1, above=True, below=True, text="decay of the first moment; momentum")
_BETA2 = Number(0.999, 0, 1, below=True, text="decay of the second moment")
_EPS = Number(1e-8, 0, above=True, text="added to the root of the second moment")
_MOMENTS = {"beta1": _BETA1, "beta2": _BETA2, "eps": _EPS}


def _adam(lr: Any, beta1: Any, beta2: Any, eps: Any, eps_root: Any = 0.0) -> optax.GradientTransformation:
    return optax.adam(lr, b1=beta1, b2=beta2, eps=eps, eps_root=eps_root)


def _adamw(
    lr: Any, beta1: Any, beta2: Any, eps: Any, weight_decay: Any, eps_root: Any = 0.0
) -> optax.GradientTransformation:
    return optax.adamw(lr, b1=beta1, b2=beta2, eps=eps, eps_root=eps_root, weight_decay=weight_decay)


def _optimistic_adam(lr: Any, beta1: Any, beta2: Any, eps: Any, eps_root: Any = 0.0) -> optax.GradientTransformation:
    last = optax.scale_by_optimistic_gradient()
    # Algorithm 1 starts from a last step of zero, where optax repeats the first one in its place.
    from_zero = optax.GradientTransformation(
        lambda params: last.init(params)._replace(is_initial_step=jnp.array(False)),  # pyright: ignore
        last.update,
    )
    adam = optax.scale_by_adam(b1=beta1, b2=beta2, eps=eps, eps_root=eps_root)
    return optax.chain(adam, from_zero, optax.scale_by_learning_rate(lr))


def _rmsprop(lr: Any, beta2: Any, eps: Any, eps_root: Any = 0.0) -> optax.GradientTransformation:
    # eps outside the root, as PyTorch has it.
    return optax.rmsprop(lr, decay=beta2, eps=eps, eps_in_sqrt=False)


def _rmsprop_tf1(lr: Any, beta2: Any, eps: Any, eps_root: Any = 0.0) -> optax.GradientTransformation:
    return optax.rmsprop(lr, decay=beta2, eps=eps, eps_in_sqrt=True, initial_scale=1.0)


_BUILT_IN = (
    Optimizer("sgd", optax.sgd, reference="plain gradient descent"),
    Optimizer(
        "momentum",
        lambda lr, beta1: optax.sgd(lr, momentum=beta1),
        {"beta1": _BETA1},
        "heavy ball: trace decay beta1; negative momentum (Gidel et al. 2019) where beta1 < 0",
    ),
    Optimizer(
        "rmsprop",
        _rmsprop,
        {"beta2": dataclasses.replace(_BETA2, default=0.99), "eps": _EPS},
        "squared-gradient decay beta2 from zero, eps outside the root; PyTorch's",
    ),
    Optimizer(
        "rmsprop_tf1",
        _rmsprop_tf1,
        {"beta2": dataclasses.replace(_BETA2, default=0.9), "eps": dataclasses.replace(_EPS, default=1e-10)},
        "squared-gradient decay beta2 from one, eps inside the root; TensorFlow 1's",
    ),
    Optimizer("adam", _adam, _MOMENTS, "decays beta1, beta2, epsilon eps; Kingma & Ba 2015"),
    Optimizer(
        "adamw",
        _adamw,
        _MOMENTS | {"weight_decay": Number(1e-4, 0, text="decoupled decay of the weights, times the learning rate")},
        "adam with decoupled decay weight_decay; Loshchilov & Hutter 2019",
    ),
    Optimizer(
        "optimistic_adam",
        _optimistic_adam,
        _MOMENTS,
        "adam's step twice, less the last one, the first of which is zero; Daskalakis et al. 2018, algorithm 1",
        optimistic=True,
    ),
)

OPTIMIZERS: dict[str, Optimizer] = {optimizer.name: optimizer for optimizer in _BUILT_IN}


def clipped(optimizer: Optimizer, default: float = 1.0) -> Optimizer:
    """The same on gradients whose norm over all parameters is clipped to `max_norm` (Pascanu et al. 2013)."""

    def clip(max_norm: Any) -> optax.GradientTransformation:
        def update(updates: Any, params: Any = None) -> Any:
            # Unlike optax's, with a derivative where all of it is zero: `unrolled` goes through it.
            squared = jnp.asarray(optax.tree.norm(updates, squared=True))
            norm = jnp.sqrt(jnp.maximum(squared, jnp.finfo(squared.dtype).tiny))
            return optax.tree.scale(1 / jnp.maximum(norm / max_norm, 1), updates)

        return optax.stateless(update)

    @functools.wraps(optimizer.make)  # which says whether it takes eps_root
    def make(lr: Any, max_norm: Any, **numbers: Any) -> optax.GradientTransformation:
        return optax.chain(clip(max_norm), optimizer.make(lr, **numbers))

    bound = Number(default, 0, above=True, text="largest norm of a gradient")
    reference = f"{optimizer.reference}; gradients clipped to a norm of max_norm (Pascanu et al. 2013)"
    numbers = {**optimizer.numbers, "max_norm": bound}
    return dataclasses.replace(
        optimizer, name=f"{optimizer.name}_clipped", make=make, numbers=numbers, reference=reference
    )
