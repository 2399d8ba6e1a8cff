"""How any Linen module is made and called as a player: a user's own as well as those of `players`.

A module's `__call__` takes the input as its first argument and, if it has arguments of these names, `labels` (B,) and
`train`; it returns one array. Two things that only a module can know it may declare, as a property
or a field `couples` and a method `lipschitz(variables)`; the first is found by trying where it is not declared.

Shapes: B batch, C classes.
"""

import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import DenyList

_OURS = ("labels", "train")
_NOT_STATE = DenyList(("aux", "intermediates"))
"""What a module says in passing, which is no part of a player's state."""


@functools.cache
def accepted(kind: type[nn.Module]) -> frozenset[str]:
    """Which of "labels" and "train" a module's `__call__` takes.

    Raises:
      ValueError: it has no `__call__`, takes no input, or needs something else as well.
    """
    if "__call__" not in dir(kind):
        raise ValueError(f"{kind.__name__}: got a module without __call__; allowed: __call__(self, x)")
    parameters = list(inspect.signature(kind.__call__).parameters.values())[1:]  # without self
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    takes_input = parameters and parameters[0].kind in (*positional, inspect.Parameter.VAR_POSITIONAL)
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters[1:] if p.default is p.empty and p.kind not in variadic and p.name not in _OURS]
    if not takes_input or needed:
        signature = ", ".join(map(str, parameters))
        raise ValueError(
            f"{kind.__name__}: got __call__(self{', ' * bool(signature)}{signature}); allowed: an input, and of what "
            f"has no default at most {', '.join(_OURS)}"
        )
    if any(p.kind == inspect.Parameter.VAR_KEYWORD for p in parameters):
        return frozenset(_OURS)
    by_name = [p.name for p in parameters[1:] if p.kind != inspect.Parameter.POSITIONAL_ONLY]
    return frozenset(by_name) & frozenset(_OURS)


def call(
    module: nn.Module,
    variables: Mapping[str, Any],
    x: jax.Array,
    labels: jax.Array | None = None,
    train: bool = False,
    mutable: Sequence[str] = (),
    *,
    player: str = "disc",
    event_shape: tuple[int, ...] = (),
) -> tuple[jax.Array, dict[str, Any]]:
    """One player on a batch.

    Args:
      module: any Linen module; labels and train are handed on if it takes them.
      variables: all its collections.
      x: (B, ...), latents or points.
      labels: (B,) int32, or None where unconditional.
      train: whether it is in training: batch normalization then uses the batch's own statistics.
      mutable: collections that come back as they are after the call: "batch_stats", "aux".
      player: "gen" or "disc", for the message.
      event_shape: of one sample's output: () of D's, the target's of G's.

    Returns:
      The output (B, *event_shape) and those of the `mutable` collections that it has.

    Raises:
      ValueError: the output is not one floating array of that shape, or there are labels that it does not take.
    """
    if labels is not None and "labels" not in accepted(type(module)):
        raise ValueError(
            f"{player}: {type(module).__name__} takes no labels; allowed with num_classes above 0: a module with "
            "__call__(self, x, labels)"
        )
    keywords = _keywords(module, labels, train)
    if mutable:
        out, after = module.apply(variables, x, **keywords, mutable=list(mutable))
    else:
        out, after = module.apply(variables, x, **keywords), {}
    _check_output(module, player, out, (len(x), *event_shape))
    return out, dict(after)  # pyright: ignore[reportArgumentType, reportReturnType]


def _check_output(module: nn.Module, player: str, out: Any, shape: tuple[int, ...]) -> None:
    allowed = ", ".join(("B", *map(str, shape[1:])))
    allowed = f"({allowed}), one point a latent" if shape[1:] else "(B,), one output a sample"
    name = f"{player}: {type(module).__name__} returned"
    if not isinstance(out, jax.Array):
        raise ValueError(f"{name} a {type(out).__name__}; allowed: an array of shape {allowed}")
    try:
        chex.assert_shape(out, shape)
    except AssertionError:
        sizes = ["B" if out.shape[0] == shape[0] else str(out.shape[0]), *map(str, out.shape[1:])] if out.ndim else []
        got = f"({', '.join(sizes)}{',' * (out.ndim == 1)})"
        raise ValueError(f"{name} shape {got}; allowed: {allowed}") from None
    try:
        chex.assert_type(out, float)
    except AssertionError:
        raise ValueError(f"{name} {out.dtype}; allowed: floating point") from None


def init(module: nn.Module, key: jax.Array, input_shape: tuple[int, ...], num_classes: int = 0) -> dict[str, Any]:
    """A module's variables before training: all collections but what it sows in passing.

    Args:
      module: any Linen module.
      key: () typed key.
      input_shape: of one sample: (Z,) of G, the points' (or a pack's) of D.
      num_classes: above 0, labels are handed on if it takes them.
    """
    labels = jnp.zeros(1, jnp.int32) if num_classes else None
    return dict(
        module.init(key, jnp.zeros((1, *input_shape)), **_keywords(module, labels, train=False), mutable=_NOT_STATE)
    )


def _keywords(module: nn.Module, labels: jax.Array | None, train: bool) -> dict[str, Any]:
    """Those that it takes."""
    given = {"labels": labels, "train": train}
    return {name: given[name] for name in _OURS if name in accepted(type(module))}


@functools.lru_cache(maxsize=256)
def couples(module: nn.Module, input_shape: tuple[int, ...], num_classes: int = 0, train: bool = True) -> bool:
    """Whether the output at one sample depends on the others in its batch, in training or else in use.

    What the module declares as `couples` (of training); else by trying: of four samples the last is NaN, and an output
    at another one that is NaN has seen it. A module that hides NaN from its outputs must declare it.
    """
    declared = getattr(module, "couples", None)
    if declared is not None and (train or not declared):
        return bool(declared)
    with jax.ensure_compile_time_eval():
        key = jax.random.key(0)
        variables = init(module, key, input_shape, num_classes)
        x = jax.random.normal(jax.random.fold_in(key, 1), (4, *input_shape)).at[-1].set(jnp.nan)
        labels = jnp.zeros(4, jnp.int32) if num_classes else None
        out, _ = module.apply(variables, x, **_keywords(module, labels, train=train), mutable=True)
        leaves = [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(out)]
        return any(bool(jnp.isnan(leaf[:-1]).any()) for leaf in leaves)


@functools.lru_cache(maxsize=256)
def layer_names(module: nn.Module, input_shape: tuple[int, ...], num_classes: int = 0) -> tuple[str, ...]:
    """The layers with parameters in the order in which a sample passes them; `layer_at` finds each.

    A layer is the innermost module that holds parameters, named by its path ("Dense_0", "net/layers_1"); a parameter
    that lies beside modules, or in the outermost one, is a layer of its own.
    """
    found = []

    def record(key: jax.Array) -> None:
        # While it is traced the dict is in the order of the calls; jax hands dicts back sorted.
        found.extend(_layers(init(module, key, input_shape, num_classes).get("params", {})))

    jax.eval_shape(record, jax.random.key(0))
    return tuple(found)


def _layers(params: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[str]:
    if path and not any(isinstance(value, Mapping) for value in params.values()):
        yield "/".join(path)
        return
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from _layers(value, (*path, name))
        else:
            yield "/".join((*path, name))


def layer_at(params: Mapping[str, Any], name: str) -> Any:
    """What the collection "params", or a gradient of its structure, holds for one of `layer_names`."""
    return functools.reduce(lambda tree, part: tree[part], name.split("/"), params)
