"""Mixtures of Gaussians by how their modes are arranged, and the checks that every mixture passes.

Shapes: K components, G modes, d dimensions.
"""

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gandyn import checks
from gandyn.gan.targets.mixtures import MOST_MODES, GaussianMixture
from gandyn.gan.targets.protocol import Made

# Their squares, and the inverses of those, are far from the ends of float32, which holds both exactly.
NEAREST, FARTHEST = 2.0**-30, 1e9
MOST_COMPONENTS = 2**17
"""Of a mixture whose modes are not counted: a tenth of the points that one uniform of 23 digits tells apart."""

_LEAST_WEIGHT = 1e-9  # rarer than a mode that any run sees
_MOST_TURNS = 1e6
_THINNEST = 1e4  # the widest std of a component over its narrowest: beyond, float32 loses the narrow axis
_COINCIDENT = 0.01  # of a std: means nearer than that, of components alike to as much, are one


def mixture(
    means: ArrayLike,
    stds: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    covariances: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    merge: bool = False,
) -> GaussianMixture:
    """A checked mixture of means (K, d), with one std or K of them, or with covariances.

    Args:
      means: (K, d), d = 2 in the plane.
      stds: () or (K,), of isotropic components.
      weights: (K,), positive, scaled to sum to one; None makes them equal.
      covariances: (d, d) or (K, d, d), positive definite, in place of stds.
      groups: (K,), whole numbers from 0 to G - 1: the mode that each component belongs to. Empty: no modes are counted.
        None: each component is a mode.
      merge: whether modes that coincide (nearer to each other than 0.01 of their std along every axis, covariances and
        stds equal to 1 %) become one, with a warning that says which. Otherwise they are refused, for a count of modes
        would count one place twice.

    Raises:
      ValueError: a wrong shape, a std or weight that is not positive and finite, a covariance that is not positive
        definite, modes that coincide.
    """
    means = _checked_means(means)
    if stds is not None and covariances is None:
        shapes = None
    elif covariances is not None and stds is None:
        stds, shapes = _factors(covariances, *means.shape)
    else:
        raise ValueError(f"std: got {'none' if stds is None else 'stds and covariances'}; allowed: stds or covariances")
    modes = None if groups is None else one_hot(groups, len(means))
    made = assemble(means, stds, weights, shapes, modes)
    if merge:
        return _merged(made, list(_coincident(made)))
    check_apart(made)
    return made


def check_apart(target: GaussianMixture) -> None:
    """Raises ValueError for modes that coincide."""
    pair = next(_coincident(target), None)
    if pair is not None:
        raise ValueError(
            f"means: got modes {pair[0]} and {pair[1]} in one place, {np.asarray(target.means)[pair[0]].tolist()}; "
            f"allowed: at least {_COINCIDENT} std apart (targets.mixture merges such modes by merge=True)"
        )


def assemble(
    means: ArrayLike,
    stds: ArrayLike,
    weights: ArrayLike | None = None,
    shapes: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> GaussianMixture:
    """A `GaussianMixture` of these arrays, each checked, as float32; modes may coincide.

    Raises:
      ValueError: as `mixture`; shapes that are not lower triangular with a positive diagonal and determinant one.
    """
    means = _checked_means(means)
    num_components, dim = means.shape
    groups = None if groups is None else _checked_groups(groups, num_components)
    counted = groups is None or groups.shape[1] > 0
    most, what = (MOST_MODES, "modes") if counted else (MOST_COMPONENTS, "components")
    if num_components > most:
        raise ValueError(f"means: got {num_components:,} {what}; allowed: at most {most:,}")
    stds = checks.numbers("std", stds)
    weights = np.ones(num_components) if weights is None else checks.numbers("weights", weights)
    for name, values, allowed in (("std", stds, ((), (num_components,))), ("weights", weights, ((num_components,),))):
        if values.shape not in allowed:
            raise ValueError(f"{name}: got shape {values.shape}; allowed: one per mode, {num_components}")
        checks.each(name, values, 0, above=True)
    checks.each("weights", weights, 0, FARTHEST)
    # One to within float32 as float32 has them: left so, for a mixture read back from its own numbers has their bits.
    if abs(weights.astype(np.float32).sum(dtype=np.float64) - 1) >= 1e-6:
        weights = weights / weights.sum()
    # In float32, what it is computed in, where 1e-60 is zero and 1e60 infinite.
    with np.errstate(over="ignore", under="ignore"):
        stds = np.broadcast_to(stds, num_components)
        means, weights, stds = (np.array(x, np.float32) for x in (means, weights, stds))  # copies, of nobody else
    checks.each("means", means, -FARTHEST, FARTHEST)
    checks.each("std", stds, NEAREST, FARTHEST)
    checks.each("weights", weights, _LEAST_WEIGHT)
    shapes = None if shapes is None else _checked_shapes(shapes, num_components, dim)
    rest = (None if values is None else values.astype(np.float32) for values in (shapes, groups))
    return GaussianMixture(means, stds, weights, *rest)  # pyright: ignore[reportArgumentType]: NumPy's until traced


def _checked_means(means: ArrayLike) -> NDArray[np.float64]:
    means = checks.numbers("means", means)
    if means.ndim != 2 or not means.size or not np.all(np.isfinite(means)):
        raise ValueError(f"means: got shape {means.shape}; allowed: (number of modes, d), finite; d = 2 in the plane")
    return means


def _checked_shapes(shapes: ArrayLike, num_components: int, dim: int) -> NDArray[np.float64]:
    shapes = checks.numbers("shapes", shapes)
    if shapes.shape != (num_components, dim, dim):
        raise ValueError(f"shapes: got shape {shapes.shape}; allowed: {(num_components, dim, dim)}")
    diagonal = np.diagonal(shapes, axis1=1, axis2=2)
    alike = np.all(np.isfinite(shapes)) and np.all(np.triu(shapes, 1) == 0) and np.all(diagonal > 0)
    if not alike or np.any(np.abs(np.prod(diagonal, axis=1) - 1) > 1e-5):
        raise ValueError("shapes: got other matrices; allowed: lower triangular, diagonal above 0, determinant 1")
    return shapes


def _checked_groups(groups: ArrayLike, num_components: int) -> NDArray[np.float64]:
    groups = np.zeros((num_components, 0)) if np.size(groups) == 0 else checks.numbers("groups", groups)
    binary = groups.ndim == 2 and len(groups) == num_components and np.all((groups == 0) | (groups == 1))
    if not binary or (groups.shape[1] and not (np.all(groups.sum(axis=1) == 1) and np.all(groups.sum(axis=0) > 0))):
        raise ValueError(f"groups: got shape {groups.shape}; allowed: ({num_components}, G), one-hot, no mode empty")
    return groups


def one_hot(groups: ArrayLike, num_components: int) -> NDArray[np.float64]:
    """(K, G) from the number of each component's mode (K,), or from none: (K, 0).

    Raises:
      ValueError: other numbers.
    """
    if np.size(groups) == 0:
        return np.zeros((num_components, 0))
    labels = checks.numbers("groups", groups)
    if labels.shape != (num_components,) or set(labels.tolist()) != set(range(len(set(labels.tolist())))):
        raise ValueError(
            f"groups: got {labels.tolist()!r:.200}; allowed: for each of {num_components} components the number of its "
            "mode, from 0 on without a gap"
        )
    return np.eye(len(set(labels.tolist())))[labels.astype(int)]


def _factors(covariances: ArrayLike, num_components: int, dim: int) -> tuple[NDArray, NDArray]:
    """stds (K,) and shapes (K, d, d) of covariances (d, d) or (K, d, d)."""
    matrices = checks.numbers("covariances", covariances)
    if matrices.shape not in ((dim, dim), (num_components, dim, dim)):
        raise ValueError(
            f"covariances: got shape {matrices.shape}; allowed: {(dim, dim)}, or one per mode, "
            f"{(num_components, dim, dim)}"
        )
    matrices = np.broadcast_to(matrices, (num_components, dim, dim))
    size = np.abs(matrices).max(axis=(1, 2), keepdims=True)
    if not np.all(np.isfinite(matrices)) or np.any(np.abs(matrices - np.swapaxes(matrices, 1, 2)) > 1e-6 * size):
        raise ValueError(f"covariances: got {matrices.tolist()!r:.200}; allowed: finite, symmetric")
    variances = np.linalg.eigvalsh(matrices)
    if np.any(variances <= 0):
        raise ValueError(
            f"covariances: got one with variances {variances[variances.min(axis=1).argmin()].tolist()} along its axes; "
            "allowed: above 0 (positive definite)"
        )
    checks.each("covariances: std along an axis", np.sqrt(variances), NEAREST, FARTHEST)
    thinnest = float(np.sqrt(variances[:, -1] / variances[:, 0]).max())
    if thinnest > _THINNEST:
        raise ValueError(
            f"covariances: got one whose widest std is {thinnest:.3g} times its narrowest; allowed: at most "
            f"{_THINNEST:,.0f} times"
        )
    lower = np.linalg.cholesky(matrices)
    stds = np.exp(np.log(np.diagonal(lower, axis1=1, axis2=2)).mean(axis=1))
    return stds, lower / stds[:, None, None]


def _coincident(target: GaussianMixture) -> Iterator[tuple[int, int]]:
    """Pairs of components, of different modes, that are one place by `_COINCIDENT`; the lower index first."""
    if not target.num_modes:
        return
    stds = np.asarray(target.stds, np.float64)
    reach = stds if target.shapes is None else stds * np.linalg.norm(target.shapes, axis=(1, 2))  # at least the widest
    squared = sum((x[:, None] - x[None, :]) ** 2 for x in np.asarray(target.means, np.float64).T)
    near = np.triu(squared < (_COINCIDENT * np.minimum(reach[:, None], reach[None, :])) ** 2, 1)
    for first, second in np.argwhere(near).tolist():
        if _alike(target, first, second):
            yield first, second


def _alike(target: GaussianMixture, first: int, second: int) -> bool:
    """Whether two components are one place: means nearer than `_COINCIDENT` std, covariances equal to that."""
    one, two = ({name: _row(value, i) for name, value in arrays(target).items()} for i in (first, second))
    if one["groups"] is not None and np.array_equal(one["groups"], two["groups"]):
        return False  # one mode already
    if abs(two["stds"] / one["stds"] - 1) > _COINCIDENT:
        return False
    away = (two["means"] - one["means"]) / one["stds"]
    if one["shapes"] is not None:
        if np.abs(np.linalg.solve(one["shapes"], two["shapes"]) - np.eye(len(away))).max() > _COINCIDENT:
            return False
        away = np.linalg.solve(one["shapes"], away)
    return bool(np.linalg.norm(away) < _COINCIDENT)


def _row(values: Any, index: int) -> Any:
    return None if values is None else np.asarray(values[index], np.float64)


def arrays(target: GaussianMixture) -> dict[str, Any]:
    """Name -> array, or None, of each leaf."""
    return {field.name: getattr(target, field.name) for field in dataclasses.fields(target) if field.name != "made"}


def _merged(target: GaussianMixture, pairs: list[tuple[int, int]]) -> GaussianMixture:
    """With each mode that coincides with an earlier one given to it, weights added."""
    if not pairs:
        return target
    if target.groups is not None:
        raise ValueError("merge: got True with groups; allowed with groups: False. Put what coincides into one group")
    into = list(range(target.num_components))
    for first, second in pairs:
        into[second] = min(into[second], into[first])
    kept = sorted(set(into))
    weights = np.bincount(into, weights=np.asarray(target.weights, np.float64))[kept]
    lost = ", ".join(f"{i} into {first}" for i, first in enumerate(into) if i != first)
    warnings.warn(
        f"means: modes in one place are merged, {lost:.200}; {len(kept)} of {len(into)} modes are left", stacklevel=3
    )
    shapes = None if target.shapes is None else np.asarray(target.shapes)[kept]
    return assemble(np.asarray(target.means)[kept], np.asarray(target.stds)[kept], weights, shapes)


def named(kind: str, target: GaussianMixture, **numbers: Any) -> GaussianMixture:
    """`target`, with what it was made from."""
    return dataclasses.replace(target, made=Made(kind, {name: plain(value) for name, value in numbers.items()}))


def plain(value: Any) -> Any:
    """A number, text, None or (nested) array of numbers, as plain Python, arrays as tuples."""
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__"):
        value = np.asarray(value).tolist()
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


def check_length(field: str, value: Any) -> None:
    """`value` is a length that float32 can square.

    Raises:
      ValueError: it is not.
    """
    checks.number(field, value, 0, above=True)
    checks.number(field, value, NEAREST, FARTHEST)


def check_turns(turns: Any) -> None:
    """`turns` is a number of turns of a spiral.

    Raises:
      ValueError: it is not.
    """
    checks.number("turns", turns, 0, above=True)
    checks.number("turns", turns, 0, _MOST_TURNS)


def ring(
    num_modes: int = 8, radius: float = 1.0, std: float = 0.02, weights: ArrayLike | None = None
) -> GaussianMixture:
    """`num_modes` modes evenly on a circle; the first at angle 0, and no mode twice."""
    checks.whole("num_modes", num_modes, most=MOST_MODES)
    check_length("radius", radius)
    angle = 2 * np.pi * np.arange(num_modes) / num_modes
    made = mixture(radius * np.stack([np.cos(angle), np.sin(angle)], axis=1), std, weights)
    return named("ring", made, num_modes=num_modes, radius=radius, std=std, weights=weights)


def grid(
    num_modes: int = 25, spacing: float = 2.0, std: float = 0.05, weights: ArrayLike | None = None
) -> GaussianMixture:
    """A square grid of `num_modes` (a square number) modes, `spacing` apart, centred on the origin.

    The defaults are PacGAN's (Lin et al. 2018): 25 modes, spacing 2, std 0.05.
    """
    checks.whole("num_modes", num_modes, most=MOST_MODES)
    check_length("spacing", spacing)
    side = int(np.rint(np.sqrt(num_modes)))
    if side * side != num_modes:
        raise ValueError(f"num_modes: got {num_modes}; allowed for a grid: a square number (nearest: {side * side})")
    axis = spacing * (np.arange(side) - (side - 1) / 2)
    x, y = np.meshgrid(axis, axis)
    made = mixture(np.stack([x.ravel(), y.ravel()], axis=1), std, weights)
    return named("grid", made, num_modes=num_modes, spacing=spacing, std=std, weights=weights)


def spiral(
    num_modes: int = 20, radius: float = 1.0, turns: float = 2.0, std: float = 0.02, weights: ArrayLike | None = None
) -> GaussianMixture:
    """Modes at equal steps of angle along an Archimedean spiral of `turns` turns that ends at `radius`."""
    checks.whole("num_modes", num_modes, most=MOST_MODES)
    check_length("radius", radius)
    check_turns(turns)
    share = (np.arange(num_modes) + 1) / num_modes
    angle = 2 * np.pi * turns * share
    made = mixture(radius * share[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), std, weights)
    return named("spiral", made, num_modes=num_modes, radius=radius, turns=turns, std=std, weights=weights)


def random(
    num_modes: int = 8, radius: float = 1.0, std: float = 0.02, layout_seed: int = 0, weights: ArrayLike | None = None
) -> GaussianMixture:
    """Modes uniform in the square [-radius, radius]^2, fixed by `layout_seed`."""
    checks.whole("num_modes", num_modes, most=MOST_MODES)
    checks.whole("layout_seed", layout_seed, least=0)
    check_length("radius", radius)
    made = mixture(np.random.default_rng(layout_seed).uniform(-radius, radius, (num_modes, 2)), std, weights)
    return named("random", made, num_modes=num_modes, radius=radius, std=std, layout_seed=layout_seed, weights=weights)


def line(
    num_modes: int = 5, spacing: float = 1.0, std: float = 0.1, weights: ArrayLike | None = None
) -> GaussianMixture:
    """A one-dimensional mixture embedded in the plane: modes on the first axis, `spacing` apart, centred."""
    checks.whole("num_modes", num_modes, most=MOST_MODES)
    check_length("spacing", spacing)
    x = spacing * (np.arange(num_modes) - (num_modes - 1) / 2)
    made = mixture(np.stack([x, np.zeros(num_modes)], axis=1), std, weights)
    return named("line", made, num_modes=num_modes, spacing=spacing, std=std, weights=weights)
