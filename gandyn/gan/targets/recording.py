"""Targets by name, and how one is recorded: by what it was made from, so that it is made again to the same bits.

Shapes: K components, G modes, d dimensions.
"""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from gandyn import checks
from gandyn.gan.targets import arrangements, curves, tabulated
from gandyn.gan.targets.arrangements import arrays, assemble
from gandyn.gan.targets.mixtures import GaussianMixture
from gandyn.gan.targets.protocol import Made
from gandyn.gan.targets.tabulated import TabulatedDensity

TARGETS: dict[str, Callable[..., Any]] = {
    "ring": arrangements.ring,
    "grid": arrangements.grid,
    "spiral": arrangements.spiral,
    "random": arrangements.random,
    "line": arrangements.line,
    "moons": curves.moons,
    "circles": curves.circles,
    "ribbon": curves.ribbon,
    "checkerboard": tabulated.checkerboard,
}
"""Name -> function that makes the target from its options: numbers and text."""

_MEMBERS = ("event_shape", "num_uniforms", "transform", "sample", "log_prob", "box", "scale")


def build(target: str = "ring", **options: Any) -> Any:
    """A target by name: one of `TARGETS` with its options, or 'mixture' with its arrays.

    A mixture takes means (K, d), or x and y of each mode in one flat list, stds, weights, shapes and groups (the number
    of each component's mode).

    Raises:
      ValueError: no such target, an option that it does not take, a value that it cannot have.
    """
    checks.choice("target", target, (*TARGETS, "mixture"))
    constructor = _from_lists if target == "mixture" else TARGETS[target]
    known = inspect.signature(constructor).parameters
    for name in options:
        if name not in known:
            raise ValueError(
                f"{name}: not an option of target {target!r}; allowed: {', '.join(known)}{checks.nearest(name, known)}"
            )
    return constructor(**options)


def _from_lists(
    means: ArrayLike = (),
    stds: ArrayLike = (),
    weights: Sequence[float] | None = None,
    shapes: ArrayLike | None = None,
    groups: Sequence[int] | None = None,
) -> GaussianMixture:
    flat = checks.numbers("means", means)
    if flat.ndim == 1:
        if flat.size % 2:
            raise ValueError(f"means: got shape {flat.shape}; allowed: x and y of each mode, one after the other")
        flat = flat.reshape(-1, 2)
    if shapes is None:
        return arrangements.mixture(flat, stds, weights, groups=groups)
    return assemble(flat, stds, weights, shapes, None if groups is None else arrangements.one_hot(groups, len(flat)))


def check(target: Any) -> None:
    """Checks a target that was made outside: weights that do not sum to one, a method that is not there.

    Raises:
      ValueError: for what `mixture` or `from_cells` would not have made, or what is no `Target`.
    """
    if isinstance(target, GaussianMixture):
        again = assemble(**arrays(target))
        for name, values in arrays(target).items():
            remade = getattr(again, name)
            if values is not None and not np.array_equal(values, remade):
                raise ValueError(
                    f"{name}: got {np.asarray(values).tolist()!r:.200}; allowed: as targets.mixture makes them"
                )
        arrangements.check_apart(target)
    elif isinstance(target, TabulatedDensity):
        tabulated.check_tabulated(target)
    else:
        _check_protocol(target)


def _check_protocol(target: Any) -> None:
    missing = [name for name in _MEMBERS if not hasattr(target, name)]
    if missing or isinstance(target, type):
        lacking = f", without {', '.join(missing)}" if missing else ", a class"
        raise ValueError(
            f"target: got {target!r:.200}{lacking}; allowed: one of gandyn.targets, or an object with "
            f"{', '.join(_MEMBERS)}"
        )
    event_shape = target.event_shape
    if not isinstance(event_shape, tuple) or not all(isinstance(size, int) and size > 0 for size in event_shape):
        raise ValueError(f"target: event_shape: got {event_shape!r:.200}; allowed: a tuple of whole numbers above 0")
    checks.whole("target: num_uniforms", target.num_uniforms)
    uniform = jax.ShapeDtypeStruct((3, target.num_uniforms), np.float32)
    points = jax.ShapeDtypeStruct((3, *event_shape), np.float32)
    for name, argument, want in (("transform", uniform, points.shape), ("log_prob", points, (3,))):
        got = jax.eval_shape(getattr(target, name), argument)
        if getattr(got, "shape", None) != want:
            raise ValueError(
                f"target: {name}: got shape {getattr(got, 'shape', got)} for {argument.shape}; allowed: {want}"
            )


def fields_of(target: Any) -> dict[str, float | int | str]:
    """What results record of a target as coordinates: its kind, and each number or text that it was made from.

    Of a mixture made by hand: kind 'mixture', num_modes and target_std, its narrowest std. Of another object: its
    class's name and target_std.
    """
    made = getattr(target, "made", None)
    if made is not None:
        numbers = {name: value for name, value in made.numbers.items() if type(value) in (int, float, str)}
        return {"target": made.kind} | numbers
    modes = {"num_modes": target.num_modes} if isinstance(target, GaussianMixture) else {}
    return {"target": _kind(target)} | modes | {"target_std": float(target.scale())}


def to_record(target: Any) -> Made:
    """What to write of a target: kind and numbers, plain Python as JSON takes it. `from_record` makes it again.

    Of a target that was made from a person's function or arrays, or is an object of theirs: the numbers that it was
    made with and `fingerprint`, the SHA-256 of its arrays; only the object itself can be used again. (But a mixture is
    always recorded whole, by its arrays if need be, unless it is of samples.)
    """
    made = getattr(target, "made", None)
    if made is not None and made.kind in TARGETS:
        return made
    if made is None and isinstance(target, GaussianMixture):
        kept = {name: arrangements.plain(value) for name, value in arrays(target).items() if value is not None}
        if target.groups is not None:
            kept["groups"] = tuple(np.argmax(target.groups, axis=1).tolist()) if target.num_modes else ()
        return Made("mixture", kept)
    kind, numbers = made or Made(_kind(target), {"name": getattr(target, "name", _kind(target))})
    return Made(kind, numbers | {"fingerprint": fingerprint(target)})


def from_record(kind: str, numbers: dict[str, Any]) -> Any:
    """The target that `to_record` gave these of, to the same bits.

    Raises:
      ValueError: one that was made from a person's function or arrays, or of a class of theirs; what `build` refuses.
    """
    if kind not in (*TARGETS, "mixture"):
        name = numbers.get("name", kind) if isinstance(numbers, dict) else kind
        raise ValueError(
            f"target: got {kind!r} named {name!r:.200}, which is not written down as numbers; allowed: the object "
            f"itself, or one of {', '.join((*TARGETS, 'mixture'))}"
        )
    return build(kind, **numbers)


def fingerprint(target: Any) -> str:
    """SHA-256, in hexadecimal, of a target's arrays: names, shapes, types and bytes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(target)[0]:
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _kind(target: Any) -> str:
    return "mixture" if isinstance(target, GaussianMixture) else type(target).__name__
