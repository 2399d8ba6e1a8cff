"""Mode coverage and sample quality, under named conventions.

The same generator scores differently under different conventions, so each number travels with its convention's name and
with the figure that as many real samples get. All of it needs a target that counts its modes (`num_modes` above 0).

A sample belongs to the mode of its nearest component. In an isotropic mixture the nearest is by Euclidean distance,
whatever the components' std; in one of full covariances by Mahalanobis', for along a thin mode many of its own samples
lie nearer to another's mean. Distances are counted in std of the component (Mahalanobis' again). Where components are
grouped into modes, a mode is what is within so many std of any of its components.

Shapes: N samples, d dimensions, K modes (G of groups).
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gandyn.gan.targets import GaussianMixture


class Convention(NamedTuple):
    """How modes and quality are counted.

    Attributes:
      quality_radius: a sample is of high quality within this many std of its nearest mode.
      cover_radius: a sample is valid for its nearest mode within this many std.
      cover_share: a mode is covered when at least this share of all samples, and at least one, is valid in it ...
      num_samples: samples to draw.
      reference: where it is used.
      cover_weight: ... and at least this share of the samples that its own weight is due.
    """

    quality_radius: float
    cover_radius: float
    cover_share: float
    num_samples: int
    reference: str
    cover_weight: float = 0.0


CONVENTIONS: dict[str, Convention] = {
    "mass": Convention(3, 3, 0.0, 2500, "within 3 std; a quarter of its own weight covers a mode", 0.25),
    "veegan": Convention(3, 3, 0.0, 2500, "within 3 std; one such sample covers a mode; VEEGAN 2017, PacGAN 2018"),
    "share": Convention(3, 3, 0.01, 10_000, "within 3 std; 1 % of all samples covers a mode"),
    "dyngan_1": Convention(1, 1, 0.0, 2500, "quality and cover within 1 std; DynGAN"),
    "dyngan_2": Convention(2, 1, 0.0, 2500, "quality within 2 std, cover within 1; DynGAN"),
    "dyngan_3": Convention(3, 1, 0.0, 2500, "quality within 3 std, cover within 1; DynGAN"),
    "top_k": Convention(4, 4, 0.0, 10_000, "within 4 std; top-k GAN"),
}


class Coverage(NamedTuple):
    """Coverage of one set of samples, scalars.

    Attributes:
      modes: number of covered modes.
      high_quality: share of samples of high quality. Above the mass that a Gaussian has within the radius
        (0.9889 at 3 std in the plane; another where components overlap) it means over-concentration.
      mode_tv: half the sum over modes of |p_k - w_k| plus half the invalid mass, in [0, 1].
      reverse_kl: KL(p || w) in nats of the distribution p of all samples over their nearest modes; infinite where a
        sample is not finite, for the target has no mass there.
      covered: (K,) bool, which modes are covered.
    """

    modes: jax.Array
    high_quality: jax.Array
    mode_tv: jax.Array
    reverse_kl: jax.Array
    covered: jax.Array


def nearest_mode(
    x: jax.Array, target: GaussianMixture, labels: jax.Array | None = None, num_classes: int = 0
) -> tuple[jax.Array, jax.Array]:
    """Index of the mode nearest to x (N, d) and the distance to its nearest component in that one's std: (N,), (N,).

    With labels (N,), the nearest among the modes of a sample's own class (mode k is of class k mod num_classes).
    """
    component, distance = nearest_component(x, target, labels, num_classes)
    return target.mode_of(component), distance


def nearest_component(
    x: jax.Array, target: GaussianMixture, labels: jax.Array | None = None, num_classes: int = 0
) -> tuple[jax.Array, jax.Array]:
    """As `nearest_mode`, with the index of the component: (N,), (N,)."""
    stds, squared = jnp.asarray(target.stds), target.squared(x)
    if target.shapes is not None:
        squared = squared / stds[None, :] ** 2
    if labels is not None:
        mode = target.mode_of(jnp.arange(target.num_components))
        squared = jnp.where(mode[None, :] % num_classes == labels[:, None], squared, jnp.inf)
    component = jnp.argmin(squared, axis=1)
    distance = jnp.sqrt(jnp.min(squared, axis=1))
    return component, distance / stds[component] if target.shapes is None else distance


def label_accuracy(x: jax.Array, target: GaussianMixture, labels: jax.Array, num_classes: int) -> jax.Array:
    """Share of samples x (N, d) whose nearest mode is of their own class, labels (N,)."""
    mode, distance = nearest_mode(x, target)
    return jnp.mean((mode % num_classes == labels) & jnp.isfinite(distance))


def coverage(
    x: jax.Array,
    target: GaussianMixture,
    convention: Convention,
    labels: jax.Array | None = None,
    num_classes: int = 0,
) -> Coverage:
    """Coverage of samples x (N, d). Samples that are not finite belong to no mode: they are invalid, not left out.

    With labels (N,), a sample counts for the modes of its own class alone.
    """
    num = x.shape[0]
    mode, distance = nearest_mode(x, target, labels, num_classes)
    member = jax.nn.one_hot(mode, target.num_modes) * jnp.isfinite(distance)[:, None]
    count = jnp.sum(member * (distance <= convention.cover_radius)[:, None], axis=0)
    valid = count / num
    weights = target.mode_weights
    due = jnp.ceil(jnp.round(convention.cover_weight * num * weights, 3))
    covered = count >= jnp.maximum(due, max(1, math.ceil(round(convention.cover_share * num, 6))))
    invalid = 1 - jnp.sum(valid)
    share = jnp.sum(member, axis=0) / num
    reverse_kl = jnp.sum(jax.scipy.special.rel_entr(share, weights))
    return Coverage(
        modes=jnp.sum(covered).astype(jnp.float32),
        high_quality=jnp.mean(distance <= convention.quality_radius),
        mode_tv=0.5 * (jnp.sum(jnp.abs(valid - weights)) + invalid),
        reverse_kl=jnp.where(jnp.all(jnp.isfinite(distance)), reverse_kl, jnp.inf),
        covered=covered,
    )


@functools.partial(jax.jit, static_argnames=("radius", "num_classes"))
def _valid(x: jax.Array, labels: jax.Array | None, target: GaussianMixture, radius: float, num_classes: int):
    """How many of x (N, d) are valid in each mode, (K,)."""
    mode, distance = nearest_mode(x, target, labels, num_classes)
    return jnp.zeros(target.num_modes).at[mode].add(distance <= radius)


def real_mass(
    x: jax.Array, target: GaussianMixture, radius: float, labels: jax.Array | None = None, num_classes: int = 0
) -> np.ndarray:
    """Share of real samples x (N, d) that is valid in each mode, (K,): what `mode_mass` is measured against.

    It is the mode's weight times what lies within the radius; where modes overlap, what is nearest to it.
    """
    count = np.zeros(target.num_modes)
    for start in range(0, len(x), _ROWS):
        own = None if labels is None else labels[start : start + _ROWS]
        count += np.asarray(_valid(x[start : start + _ROWS], own, target, radius, num_classes))
    return count / len(x)


_ROWS = 2**13
