"""Gaussian mixtures: isotropic or with full covariances, in any dimension, components one by one or grouped into modes.

Shapes: K components, G modes, d dimensions, N points.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp, ndtri

from gandyn.gan import sampling
from gandyn.gan.targets.protocol import Made, of_numpy

MOST_MODES = 1_024
"""What is recorded of each run has all of them at every measurement."""

_PAIRS = 2**22  # points times components at a time, where there are more components than that


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["means", "stds", "weights", "shapes", "groups"],
    meta_fields=[],
    drop_fields=["made"],
)
@dataclasses.dataclass(frozen=True)
class GaussianMixture:
    """p(x) = sum_k weights_k N(x; means_k, C_k), C_k = stds_k^2 shapes_k shapes_k^T: a pytree of arrays.

    Isotropic without shapes: C_k = stds_k^2 I. `targets.mixture` makes checked ones.

    Attributes:
      means: (K, d), in the units of the data.
      stds: (K,), standard deviation of each component, same units; with shapes the geometric mean over its axes,
        det(C_k)^(1 / (2 d)).
      weights: (K,), positive, summing to one (zero for the components that `of_class` leaves out).
      shapes: (K, d, d), lower triangular of determinant one with a positive diagonal; None: isotropic.
      groups: (K, G), one-hot: the mode that each component belongs to; with G = 0 no modes are counted. None: each
        component is a mode.
      made: what it was made from; not part of the pytree.
    """

    means: jax.Array
    stds: jax.Array
    weights: jax.Array
    shapes: jax.Array | None = None
    groups: jax.Array | None = None
    made: Made | None = None

    @property
    def event_shape(self) -> tuple[int, ...]:
        """(d,)."""
        return (self.means.shape[-1],)

    @property
    def num_uniforms(self) -> int:
        """One picks the component, d become normals."""
        return 1 + self.means.shape[-1]

    @property
    def num_components(self) -> int:
        """K."""
        return self.means.shape[-2]

    @property
    def num_modes(self) -> int:
        """K, or G of groups; 0 where no modes are counted."""
        return self.num_components if self.groups is None else self.groups.shape[-1]

    @property
    def mode_weights(self) -> jax.Array:
        """Mass of each mode, (G,)."""
        if self.groups is None:
            return self.weights
        return jnp.sum(self.weights[:, None] * self.groups, axis=0)

    @property
    def mode_means(self) -> jax.Array:
        """Mean of each mode, (G, d)."""
        if self.groups is None:
            return self.means
        return self.groups.T @ (self.weights[:, None] * self.means) / self.mode_weights[:, None]

    @property
    def mode_stds(self) -> jax.Array:
        """Of each mode the root mean square distance of its mass from its mean, over sqrt(d): (G,)."""
        if self.groups is None:
            return self.stds
        dim = self.means.shape[-1]
        spread = jnp.trace(self.covariances(), axis1=1, axis2=2) / dim
        apart = jnp.sum((self.means - self.groups @ self.mode_means) ** 2, axis=1) / dim
        return jnp.sqrt(self.groups.T @ (self.weights * (spread + apart)) / self.mode_weights)

    def sample(self, key: jax.Array, num: int) -> jax.Array:
        """Independent samples, (num, d)."""
        return self.transform(sampling.uniform(key, (num, self.num_uniforms)))

    def transform(self, uniform: jax.Array) -> jax.Array:
        """Samples (N, d) from uniforms in (0, 1) (N, 1 + d): one picks the component, d become normals."""
        component = self.pick(uniform[:, 0])
        normal = ndtri(uniform[:, 1:])
        if self.shapes is not None:
            normal = jnp.sum(jnp.asarray(self.shapes)[component] * normal[:, None, :], axis=-1)
        return jnp.asarray(self.means)[component] + jnp.asarray(self.stds)[component][:, None] * normal

    def pick(self, uniform: jax.Array) -> jax.Array:
        """The component (N,) that each uniform in (0, 1) (N,) falls to, int32; in order, so that strata fill them."""
        if self.num_components > MOST_MODES:
            return jnp.searchsorted(jnp.cumsum(self.weights)[:-1], uniform, side="right")
        cumulative = jnp.tri(self.num_components - 1, self.num_components) * self.weights[None, :]
        upper = jnp.sum(cumulative, axis=1)
        return jnp.sum(uniform[:, None] >= upper[None, :], axis=1)

    def mode_of(self, component: jax.Array) -> jax.Array:
        """The mode of each component index, same shape.

        Raises:
          ValueError: no modes are counted.
        """
        if self.groups is None:
            return component
        self._need_modes("mode_of")
        return jnp.argmax(self.groups, axis=-1)[component]

    def of_class(self, label: jax.Array | int, num_classes: int) -> "GaussianMixture":
        """p(x | label): the modes of one class, weights scaled to sum to one. Mode k is of class k mod num_classes.

        Raises:
          ValueError: no modes are counted.
        """
        self._need_modes("of_class")
        mode = self.mode_of(jnp.arange(self.num_components))
        weights = jnp.where(mode % num_classes == label, self.weights, 0)
        return dataclasses.replace(self, weights=weights / jnp.sum(weights), made=None)

    def _need_modes(self, method: str) -> None:
        if not self.num_modes:
            raise ValueError(f"target: got one whose modes are not counted; allowed in `{method}`: one with modes")

    def log_prob(self, x: jax.Array) -> jax.Array:
        """Log density in nats at x (N, d): (N,)."""
        if self.num_components <= MOST_MODES:
            return self._log_prob(x)
        # All pairs at once do not fit a memory.
        rows = max(1, _PAIRS // self.num_components)
        return jax.lax.map(lambda point: self._log_prob(point[None, :])[0], x, batch_size=rows)

    def _log_prob(self, x: jax.Array) -> jax.Array:
        squared, variance = self.squared(x), self.stds**2
        log_components = jnp.log(self.weights) - self.event_shape[0] / 2 * jnp.log(2 * jnp.pi * variance)
        return logsumexp(log_components[None, :] - 0.5 * squared / variance[None, :], axis=-1)

    def squared(self, x: jax.Array) -> jax.Array:
        """Squared distance of x (N, d) to each mean, in data units squared: (N, K). Mahalanobis' is this over stds^2.

        Euclidean where the mixture is isotropic, else |shapes_k^-1 (x - means_k)|^2.
        """
        return jnp.sum(self.away(x) ** 2, axis=-1)

    def away(self, x: jax.Array) -> jax.Array:
        """x - means_k, or shapes_k^-1 (x - means_k), at x (N, d): (N, K, d). Under p_k it is N(0, stds_k^2 I)."""
        away = x[:, None, :] - self.means[None, :, :]
        if self.shapes is None:
            return away
        # Forward substitution: no inverse is formed, which would lose the digits of a thin shape.
        solved: list[jax.Array] = []
        for i in range(self.event_shape[0]):
            known = sum(self.shapes[None, :, i, j] * solved[j] for j in range(i))
            solved.append((away[:, :, i] - known) / self.shapes[None, :, i, i])
        return jnp.stack(solved, axis=-1)

    def blur(self, std: jax.Array | float) -> "GaussianMixture":
        """The density convolved with N(0, std^2 I): again a mixture, exactly."""
        if self.shapes is None:
            return dataclasses.replace(self, stds=jnp.sqrt(self.stds**2 + std**2), made=None)
        # R^T R = A^T A = C_k + std^2 I for A = [stds_k shapes_k^T; std I]: the sum itself, squared, is never formed.
        dim = self.event_shape[0]
        own = self.stds[:, None, None] * jnp.swapaxes(jnp.asarray(self.shapes), -1, -2)
        added = jnp.broadcast_to(std * jnp.eye(dim), own.shape)
        lower = jnp.swapaxes(jnp.linalg.qr(jnp.concatenate([own, added], axis=1), mode="r"), -1, -2)
        diagonal = jnp.diagonal(lower, axis1=-2, axis2=-1)
        stds = jnp.exp(jnp.mean(jnp.log(jnp.abs(diagonal)), axis=-1))
        shapes = lower * jnp.sign(diagonal)[:, None, :] / stds[:, None, None]
        return dataclasses.replace(self, stds=stds, shapes=shapes, made=None)

    def covariances(self) -> jax.Array:
        """C_k, (K, d, d)."""
        variance = (self.stds**2)[:, None, None]
        if self.shapes is None:
            return variance * jnp.eye(self.event_shape[0])[None]
        return variance * jnp.sum(self.shapes[:, :, None, :] * self.shapes[:, None, :, :], axis=-1)

    def box(self) -> tuple[jax.Array, jax.Array]:
        """(center (d,), half side) of the cube that holds every component with six standard deviations around it."""
        xp = np if of_numpy(self.means, self.stds, self.shapes) else jnp
        reach = 6 * self.stds[:, None]
        if self.shapes is not None:
            reach = reach * xp.sqrt(xp.sum(self.shapes**2, axis=-1))
        low = xp.min(self.means - reach, axis=0)
        high = xp.max(self.means + reach, axis=0)
        return (low + high) / 2, xp.max(high - low) / 2

    def scale(self) -> jax.Array:
        """The narrowest component's std along its narrowest axis, ()."""
        xp = np if of_numpy(self.stds, self.shapes) else jnp
        if self.shapes is None:
            return xp.min(self.stds)
        if self.event_shape[0] != 2:
            return xp.min(self.stds * xp.linalg.svd(self.shapes, compute_uv=False)[:, -1])
        # Singular values s >= 1 / s: with f = s^2 + 1 / s^2 = sum of squares, s = ((f + 2)^(1/2) + (f - 2)^(1/2)) / 2.
        squares = xp.sum(self.shapes**2, axis=(-2, -1))
        widest = (xp.sqrt(squares + 2) + xp.sqrt(xp.maximum(squares - 2, 0))) / 2
        return xp.min(self.stds / widest)
