"""Targets whose density is known in closed form: isotropic Gaussian mixtures in the plane.

Shapes: K modes, N points.
"""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp, ndtri
from numpy.typing import ArrayLike

from gandyn import checks
from gandyn.gan import sampling


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GaussianMixture:
    """p(x) = sum_k weights_k N(x; means_k, stds_k^2 I): an isotropic mixture in the plane, a pytree of three arrays.

    Attributes:
      means: (K, 2), in the units of the data.
      stds: (K,), per-mode standard deviation, same units.
      weights: (K,), positive, summing to one (zero for the modes that `of_class` leaves out).
    """

    means: jax.Array
    stds: jax.Array
    weights: jax.Array

    event_shape = (2,)
    num_uniforms = 3

    @property
    def num_modes(self) -> int:
        """K."""
        return self.means.shape[-2]

    def sample(self, key: jax.Array, num: int) -> jax.Array:
        """Independent samples, (num, 2)."""
        return self.transform(sampling.uniform(key, (num, 3)))

    def transform(self, uniform: jax.Array) -> jax.Array:
        """Samples (N, 2) from uniforms in (0, 1) (N, 3): one picks the mode, two become normals."""
        mode = self.pick(uniform[:, 0])
        return self.means[mode] + self.stds[mode][:, None] * ndtri(uniform[:, 1:])

    def pick(self, uniform: jax.Array) -> jax.Array:
        """The mode (N,) that each uniform in (0, 1) (N,) falls to, int32; in order, so that strata fill the modes."""
        upper = jnp.sum(jnp.tri(self.num_modes - 1, self.num_modes) * self.weights[None, :], axis=1)  # cumulative
        return jnp.sum(uniform[:, None] >= upper[None, :], axis=1)

    def of_class(self, label: jax.Array, num_classes: int) -> "GaussianMixture":
        """p(x | label): the modes of one class, weights scaled to sum to one. Mode k is of class k mod num_classes."""
        weights = jnp.where(jnp.arange(self.num_modes) % num_classes == label, self.weights, 0)
        return dataclasses.replace(self, weights=weights / jnp.sum(weights))

    def log_prob(self, x: jax.Array) -> jax.Array:
        """Log density in nats at x (N, 2): (N,)."""
        squared = jnp.sum((x[:, None, :] - self.means[None, :, :]) ** 2, axis=-1)
        variance = self.stds**2
        log_modes = jnp.log(self.weights) - jnp.log(2 * jnp.pi * variance)
        return logsumexp(log_modes[None, :] - 0.5 * squared / variance[None, :], axis=-1)

    def blur(self, std: jax.Array | float) -> "GaussianMixture":
        """The density convolved with N(0, std^2 I): again a mixture, exactly."""
        return dataclasses.replace(self, stds=jnp.sqrt(self.stds**2 + std**2))

    def box(self) -> tuple[jax.Array, jax.Array]:
        """(center (2,), half side) of the square that holds every mode with six standard deviations around it."""
        low = jnp.min(self.means - 6 * self.stds[:, None], axis=0)
        high = jnp.max(self.means + 6 * self.stds[:, None], axis=0)
        return (low + high) / 2, jnp.max(high - low) / 2


def check(target: GaussianMixture) -> None:
    """Raises ValueError for a mixture that `mixture` would not have made: weights that do not sum to one, say."""
    again = mixture(target.means, target.stds, target.weights)
    for name, values in vars(target).items():
        if not np.array_equal(values, getattr(again, name)):
            raise ValueError(
                f"{name}: got {np.asarray(values).tolist()!r:.200}; allowed: as targets.mixture makes them"
            )


# Their squares, and the inverses of those, are far from the ends of float32, which holds both exactly.
_NEAREST, _FARTHEST = 2.0**-30, 1e9
_LEAST_WEIGHT = 1e-9  # rarer than a mode that any run sees
_MOST_MODES = 1_024  # what is recorded of each run has all of them at every measurement
_MOST_TURNS = 1e6


def mixture(means: ArrayLike, stds: ArrayLike, weights: ArrayLike | None = None) -> GaussianMixture:
    """A checked mixture of means (K, 2), one std or K of them, and K positive weights.

    Weights are scaled to sum to one; None makes them equal.

    Raises:
      ValueError: a wrong shape, a std or weight that is not positive and finite.
    """
    means = checks.numbers("means", means)
    if means.ndim != 2 or means.shape[1] != 2 or not len(means) or not np.all(np.isfinite(means)):
        raise ValueError(f"means: got shape {means.shape}; allowed: (number of modes, 2), finite")
    num_modes = len(means)
    if num_modes > _MOST_MODES:
        raise ValueError(f"means: got {num_modes:,} modes; allowed: at most {_MOST_MODES:,}")
    stds = checks.numbers("std", stds)
    weights = np.ones(num_modes) if weights is None else checks.numbers("weights", weights)
    for name, values, shapes in (("std", stds, ((), (num_modes,))), ("weights", weights, ((num_modes,),))):
        if values.shape not in shapes:
            raise ValueError(f"{name}: got shape {values.shape}; allowed: one per mode, {num_modes}")
        checks.each(name, values, 0, above=True)
    checks.each("weights", weights, 0, _FARTHEST)
    # One to within float32 as float32 has them: left so, for a mixture read back from its own numbers has their bits.
    if abs(weights.astype(np.float32).sum(dtype=np.float64) - 1) >= 1e-6:
        weights = weights / weights.sum()
    # In float32, what it is computed in, where 1e-60 is zero and 1e60 infinite.
    with np.errstate(over="ignore", under="ignore"):
        means, weights, stds = (np.asarray(x, np.float32) for x in (means, weights, np.broadcast_to(stds, num_modes)))
    checks.each("means", means, -_FARTHEST, _FARTHEST)
    checks.each("std", stds, _NEAREST, _FARTHEST)
    checks.each("weights", weights, _LEAST_WEIGHT)
    return GaussianMixture(means=jnp.asarray(means), stds=jnp.asarray(stds), weights=jnp.asarray(weights))


def _check_length(field: str, value: Any) -> None:
    checks.number(field, value, 0, above=True)
    checks.number(field, value, _NEAREST, _FARTHEST)


def ring(
    num_modes: int = 8, radius: float = 1.0, std: float = 0.02, weights: ArrayLike | None = None
) -> GaussianMixture:
    """`num_modes` modes evenly on a circle; the first at angle 0, and no mode twice."""
    checks.whole("num_modes", num_modes, most=_MOST_MODES)
    _check_length("radius", radius)
    angle = 2 * np.pi * np.arange(num_modes) / num_modes
    return mixture(radius * np.stack([np.cos(angle), np.sin(angle)], axis=1), std, weights)


def grid(
    num_modes: int = 25, spacing: float = 2.0, std: float = 0.05, weights: ArrayLike | None = None
) -> GaussianMixture:
    """A square grid of `num_modes` (a square number) modes, `spacing` apart, centred on the origin.

    The defaults are PacGAN's (Lin et al. 2018): 25 modes, spacing 2, std 0.05.
    """
    checks.whole("num_modes", num_modes, most=_MOST_MODES)
    _check_length("spacing", spacing)
    side = int(np.rint(np.sqrt(num_modes)))
    if side * side != num_modes:
        raise ValueError(f"num_modes: got {num_modes}; allowed for a grid: a square number (nearest: {side * side})")
    axis = spacing * (np.arange(side) - (side - 1) / 2)
    x, y = np.meshgrid(axis, axis)
    return mixture(np.stack([x.ravel(), y.ravel()], axis=1), std, weights)


def spiral(
    num_modes: int = 20, radius: float = 1.0, turns: float = 2.0, std: float = 0.02, weights: ArrayLike | None = None
) -> GaussianMixture:
    """Modes at equal steps of angle along an Archimedean spiral of `turns` turns that ends at `radius`."""
    checks.whole("num_modes", num_modes, most=_MOST_MODES)
    _check_length("radius", radius)
    checks.number("turns", turns, 0, above=True)
    checks.number("turns", turns, 0, _MOST_TURNS)
    share = (np.arange(num_modes) + 1) / num_modes
    angle = 2 * np.pi * turns * share
    return mixture(radius * share[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), std, weights)


def random(
    num_modes: int = 8, radius: float = 1.0, std: float = 0.02, layout_seed: int = 0, weights: ArrayLike | None = None
) -> GaussianMixture:
    """Modes uniform in the square [-radius, radius]^2, fixed by `layout_seed`."""
    checks.whole("num_modes", num_modes, most=_MOST_MODES)
    checks.whole("layout_seed", layout_seed, least=0)
    _check_length("radius", radius)
    return mixture(np.random.default_rng(layout_seed).uniform(-radius, radius, (num_modes, 2)), std, weights)


def line(
    num_modes: int = 5, spacing: float = 1.0, std: float = 0.1, weights: ArrayLike | None = None
) -> GaussianMixture:
    """A one-dimensional mixture embedded in the plane: modes on the first axis, `spacing` apart, centred."""
    checks.whole("num_modes", num_modes, most=_MOST_MODES)
    _check_length("spacing", spacing)
    x = spacing * (np.arange(num_modes) - (num_modes - 1) / 2)
    return mixture(np.stack([x, np.zeros(num_modes)], axis=1), std, weights)


TARGETS: dict[str, Callable[..., GaussianMixture]] = {
    "ring": ring,
    "grid": grid,
    "spiral": spiral,
    "random": random,
    "line": line,
}


def build(target: str = "ring", **options: Any) -> GaussianMixture:
    """A target by name: one of `TARGETS` with its options, or 'mixture' with means (x and y of each, flat) and stds.

    Raises:
      ValueError: no such target, an option that it does not take, a value that it cannot have.
    """
    checks.choice("target", target, (*TARGETS, "mixture"))
    constructor = _flat_mixture if target == "mixture" else TARGETS[target]
    known = inspect.signature(constructor).parameters
    for name in options:
        if name not in known:
            raise ValueError(f"{name}: not an option of target {target!r}; allowed: {', '.join(known)}")
    return constructor(**options)


def _flat_mixture(
    means: Sequence[float] = (), stds: Sequence[float] = (), weights: Sequence[float] | None = None
) -> GaussianMixture:
    flat = checks.numbers("means", means)
    if flat.ndim != 1 or flat.size % 2:
        raise ValueError(f"means: got shape {flat.shape}; allowed: x and y of each mode, one after the other")
    return mixture(flat.reshape(-1, 2), stds, weights)


Target = GaussianMixture
