"""The Lipschitz constant of a discriminator, bounded from both sides, and what a critic then says about W1.

L = sup |D(x) - D(y)| / |x - y| over the plane. For packs of m points the plane has 2m dimensions.

Shapes: N points of I coordinates (2, or 2m for packs), W width, C classes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


# Least and largest slope of each activation, rounded outwards; gelu is flax's, by tanh.
_SLOPES = {
    "relu": (0.0, 1.0),
    "leaky_relu": (0.2, 1.0),
    "tanh": (0.0, 1.0),
    "elu": (0.0, 1.0),
    "gelu": (-0.1292, 1.1292),
    "silu": (-0.0999, 1.0999),
    "softplus": (0.0, 1.0),
}

_COMPASS = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)


def climb(
    function: Callable[[jax.Array], jax.Array], points: jax.Array, step: jax.Array | float, num_steps: int
) -> tuple[jax.Array, jax.Array]:
    """Local maxima of a function from (N, I) to (N,), by pattern search (Hooke & Jeeves 1961).

    From each point (N, I) at once: eight directions in every coordinate plane (2i, 2i + 1), the best of them taken if
    it is better, else the step halved. It needs no gradient: the slope of a piecewise linear D is constant between its
    jumps.

    Returns:
      The points (N, I) and their values (N,), nowhere below those at the start.
    """
    num, size = points.shape
    directions = jnp.asarray(np.kron(np.eye(size // 2), _COMPASS), points.dtype)

    def move(carry: tuple[jax.Array, ...], _: None) -> tuple[tuple[jax.Array, ...], None]:
        points, values, step = carry
        around = points[:, None, :] + step[:, None, None] * directions[None, :, :]
        found = function(around.reshape(-1, size)).reshape(num, -1)
        best = jnp.argmax(found, axis=1)
        best_value = jnp.take_along_axis(found, best[:, None], axis=1)[:, 0]
        better = best_value > values
        points = jnp.where(better[:, None], around[jnp.arange(num), best], points)
        return (points, jnp.where(better, best_value, values), jnp.where(better, step, step / 2)), None

    start = points, function(points), jnp.full(num, step, points.dtype)
    (points, values, _), _ = jax.lax.scan(move, start, None, length=num_steps)
    return points, values


def lower(
    disc: Callable[[jax.Array], jax.Array], points: jax.Array, num_steps: int = 16, num_starts: int = 16
) -> jax.Array:
    """A lower bound of L: the largest gradient norm of D over points (N, I) and over a search from the steepest.

    NaN where a gradient is.

    Args:
      disc: (N, I) -> (N,), each output of its own point alone.
      points: where D may be steep: real and fake samples, and points between them.
      num_steps: of `climb`, each of which evaluates D's gradient at 4 I * num_starts points.
      num_starts: how many of the steepest points it starts from.
    """
    slope = lambda x: jnp.linalg.norm(jax.grad(lambda x: jnp.sum(disc(x)))(x), axis=1)  # noqa: E731
    slopes = slope(points)
    start = jax.lax.top_k(slopes, min(num_starts, len(points)))[1]
    spread = jnp.sqrt(jnp.mean(jnp.var(points, axis=0)))
    _, refined = climb(slope, points[start], spread / 2, num_steps)
    # The largest start is that of all points, unless one is NaN, which a search would not keep.
    return jnp.maximum(jnp.max(refined), jnp.max(slopes))


def upper(module: Any, variables: Any) -> jax.Array:
    return module.lipschitz(variables) if hasattr(module, "lipschitz") else jnp.asarray(jnp.inf)


def _upper_old(config: Any, variables: Any) -> jax.Array:
    """An upper bound of L over the whole plane, from D's weights; to float32 rounding.

    At every point D's gradient is a product of kernels and diagonal matrices of activation slopes in [c - r, c + r].
    Each of those is c plus something of norm at most r, which makes the product a sum; spectral norms of products of
    kernels bound its terms. For one hidden layer: |K1 K2| c + |K1| |K2| r. It is at most the product of the layers'
    norms (Szegedy et al. 2014, section 4.3), and less where kernels partly cancel; for relu, c = r = 1/2, it is the
    bound of Combettes & Pesquet (2020, theorem 4.2). Exact for nets without a hidden layer.

    Residual layers add the identity to what goes through. Fourier features: exactly 2 pi |F|, F the frequencies.
    Maxout: |max_i k_i d| is at most the root of the sum of the squares, and at most max_i |k_i| |d|, entry by entry;
    the smaller of the two norms. Batch normalization: its running statistics, under which it is affine; spectral: the
    norm by which the kernel is really divided. Labels are fixed: beside the points they do not count, and with
    projection the largest of the C bounds is taken.

    Infinite where no finite bound holds (quadratic D), where D depends on the batch (minibatch layers), and for layer
    normalization, whose bound 1/sqrt(1e-6) a layer says nothing.

    Args:
      config: of the GAN.
      variables: of its D, all collections, as `gan.discriminate` takes them.
    """
    if config.disc_net == "quadratic" or config.disc_norm == "layer" or config.minibatch_layer != "none":
        return jnp.asarray(jnp.inf)
    params = variables["params"]
    bound = jnp.ones(())
    num_inputs = 2 * config.packing
    if config.disc_fourier:
        bound = 2 * jnp.pi * _norm(variables["constants"]["FourierFeatures_0"]["frequency"])
        num_inputs = 2 * config.disc_fourier
    depth = 0 if config.disc_net == "bilinear" else config.disc_depth
    low, high = _SLOPES[config.disc_activation]
    c, r = (high + low) / 2, (high - low) / 2
    # Each path: what bounds its start, and the product of kernels since.
    paths = [(bound, jnp.eye(num_inputs))]
    for layer in range(depth):
        kernel = _kernel(config, variables, layer, paths[-1][1].shape[1])
        if config.disc_net == "maxout":
            paths = [(paths[0][0] * _maxout_norm(config, kernel), jnp.eye(config.disc_width))]
            continue
        bound = sum((weight * _norm(product @ kernel) for weight, product in paths), jnp.zeros(()))
        # Labels beside the points are carried through, too, where the width is that of both together.
        skips = config.disc_net == "residual" and len(params[f"Dense_{layer}"]["kernel"]) == config.disc_width
        skip = jnp.eye(kernel.shape[0], kernel.shape[1]) * skips
        through = [(weight, product @ (skip + c * kernel)) for weight, product in paths]
        paths = [*through, (r * bound, jnp.eye(config.disc_width))]
    last = _kernel(config, variables, depth, paths[-1][1].shape[1])
    if config.num_classes and config.conditioning == "projection":
        last = last + params["Embedding_0"]["kernel"].T
    each = sum((weight * jnp.linalg.norm(product @ last, axis=0) for weight, product in paths), jnp.zeros(()))
    return jnp.max(each)


def critic_w1(difference: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """What a critic says about W1: (E D(x) - E D(G(z))) / L with either bound in place of L.

    Args:
      difference: E D(x) - E D(G(z)).
      lower: of L.
      upper: of L.

    Returns:
      difference / upper, a certified lower bound of W1 (Kantorovich & Rubinstein; Villani 2009, remark 6.5), and
      difference / lower, what it would be if D were nowhere steeper than measured: no bound of W1 in either direction,
      and the better the closer the two are. Zero for a critic that tells nothing apart. Standard errors scale alike.
    """
    difference = jnp.asarray(difference)
    certified, optimistic = (jnp.where(difference == 0, 0.0, difference / bound) for bound in (upper, lower))
    return certified, optimistic


def _norm(matrix: jax.Array) -> jax.Array:
    """Largest singular value."""
    return jnp.linalg.norm(matrix, ord=2)


def _maxout_norm(config: Any, kernel: jax.Array) -> jax.Array:
    pieces = kernel.reshape(len(kernel), config.maxout_pieces, config.disc_width)
    return jnp.minimum(_norm(kernel), _norm(jnp.max(jnp.abs(pieces), axis=1)))


def _kernel(config: Any, variables: Any, layer: int, num_inputs: int) -> jax.Array:
    """The kernel that a layer of D applies, without the rows of the label, normalization included."""
    kernel = variables["params"][f"Dense_{layer}"]["kernel"]
    if config.disc_norm == "spectral":
        # What flax.linen.SpectralNorm does: one power iteration from the stored vector.
        u = variables["batch_stats"][f"SpectralNorm_{layer}"][f"Dense_{layer}/kernel/u"][0]
        v = _unit(kernel @ u)
        sigma = v @ kernel @ _unit(v @ kernel)
        kernel = kernel / jnp.where(sigma != 0, sigma, 1)
    elif config.disc_norm == "batch" and layer < config.disc_depth:
        name = f"BatchNorm_{layer}"
        scale = variables["params"][name]["scale"] / jnp.sqrt(variables["batch_stats"][name]["var"] + 1e-5)
        kernel = kernel * jnp.tile(scale, kernel.shape[1] // len(scale))[None, :]
    return kernel[:num_inputs]


def _unit(vector: jax.Array) -> jax.Array:
    return vector * jax.lax.rsqrt(jnp.sum(vector**2) + 1e-12)
