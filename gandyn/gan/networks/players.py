"""`Generator` and `Discriminator`: the networks that a `Config` builds by name.

A module keeps what is trained in the collection "params"; running means and variances, power-iteration vectors and
fixed random frequencies are in other collections. `train` decides only which statistics batch normalization uses:
those of the batch at hand, or the running ones. The last hidden features are sown into the collection "aux": nothing
happens unless a caller makes it mutable.

Points have any shape: G's output has `event_shape`, D flattens what it is given. Shapes: B batch, Z latent dimension,
C classes, W width.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gandyn.gan.networks import layers
from gandyn.gan.networks.layers import (
    ACTIVATIONS,
    INITIALIZERS,
    BatchNorm,
    Dense,
    Embedding,
    FourierFeatures,
    MinibatchDiscrimination,
    MinibatchStddev,
)

GENERATORS: dict[str, str] = {
    "mlp": "hidden layers, then an affine one",
    "residual": "as mlp, each hidden layer after the first added to its input; He et al. 2016",
    "affine": "A z + b: Gaussian noise gives a Gaussian, exactly",
    "point": "one point theta whatever z is: the Dirac-GAN's; Mescheder et al. 2018, definition 2.1",
}

DISCRIMINATORS: dict[str, str] = {
    "mlp": "hidden layers, then an affine one",
    "residual": "as mlp, each hidden layer after the first added to its input; He et al. 2016",
    "maxout": "hidden layers of maxima over maxout_pieces affine maps; Goodfellow et al. 2013; PacGAN's",
    "bilinear": "psi . x, without bias: with a point as G, the Dirac-GAN and (Wasserstein) the bilinear game",
    "quadratic": "x A x + b x + c: holds the optimal logit between Gaussians; Feizi et al. 2017",
}

WITHOUT_HIDDEN_LAYER = ("affine", "point", "bilinear", "quadratic")
"""Of the names in `GENERATORS` and `DISCRIMINATORS`."""
WITHOUT_LABELS = ("point", "bilinear")
"""Those that have nowhere to put a label."""

NORMS: dict[str, str] = {
    "none": "",
    "layer": "layer normalization before each nonlinearity; Ba et al. 2016",
    "batch": "batch normalization before each nonlinearity; Ioffe & Szegedy 2015",
    "spectral": "D's kernels divided by their largest singular value, one power iteration a step; Miyato et al. 2018",
}

MINIBATCH_LAYERS: dict[str, str] = {
    "none": "",
    "stddev": "the batch's mean standard deviation of the last hidden features, as one more; Karras et al. 2018",
    "discrimination": "closeness to the batch under 8 learned maps to 4 dimensions; Salimans et al. 2016, section 3.2",
}


class _Body(nn.Module):
    """What the two players share: the fields, and the hidden layers.

    Attributes:
      net: a name in `GENERATORS` or `DISCRIMINATORS`.
      width, depth: units in each hidden layer, hidden layers.
      activation: a name in `ACTIVATIONS`.
      initializer: of kernels, a name in `INITIALIZERS`.
      bias_initializer: of biases, a name in `BIAS_INITIALIZERS`, or "matching": what comes with the kernels'.
      norm: a name in `NORMS`.
      norm_momentum, norm_unbiased: of batch normalization's running statistics (see `BatchNorm`).
      norm_epsilon: added to a variance, of batch and layer normalization.
      fourier: frequencies of Fourier features of the input; 0 takes the input itself.
      maxout_pieces: affine maps to a maxout unit.
      num_classes: C; 0 is unconditional.
    """

    net: str
    width: int
    depth: int
    activation: str
    initializer: str
    bias_initializer: str = "matching"
    norm: str = "none"
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    norm_unbiased: bool = False
    fourier: int = 0
    maxout_pieces: int = 5
    num_classes: int = 0

    def _affine(self, features: int, *, use_bias: bool = True) -> Dense:
        bias_init = layers.bias_initializer(self.bias_initializer, self.initializer)
        return Dense(features, INITIALIZERS[self.initializer], bias_init, use_bias)

    def _dense(self, features: int, x: jax.Array) -> jax.Array:
        layer = self._affine(features)
        if self.norm == "spectral":
            # Each call makes one power iteration from the stored vector; whether the new one is kept is the caller's
            # choice, so within an update D is one function.
            return nn.SpectralNorm(layer)(x, update_stats=self.is_mutable_collection("batch_stats"))
        return layer(x)

    def _normalized(self, y: jax.Array, train: bool) -> jax.Array:
        if self.norm == "batch":
            return BatchNorm(not train, self.norm_momentum, self.norm_epsilon, self.norm_unbiased)(y)
        if self.norm == "layer":
            # Around the mean, for the reason that `BatchNorm` gives.
            return nn.LayerNorm(epsilon=self.norm_epsilon, use_fast_variance=False)(y)
        return y

    def _hidden(self, x: jax.Array, train: bool) -> jax.Array:
        """(B, I) -> (B, W)."""
        pieces = self.maxout_pieces if self.net == "maxout" else 1
        for _ in range(self.depth):
            y = self._dense(pieces * self.width, x)
            if self.net == "maxout":
                # Not jnp.max, whose gradient divides by the number of entries that equal the maximum: where the
                # compiler computes the entries twice and rounds them differently, that is zero (seen on CPU).
                y = functools.reduce(jnp.maximum, jnp.split(y, pieces, axis=1))
            y = self._normalized(y, train)
            if self.net != "maxout":
                y = ACTIVATIONS[self.activation](y)
            x = x + y if self.net == "residual" and x.shape == y.shape else y
        if not self.is_initializing():  # everything is mutable then, and what is made is kept
            self.sow("aux", "features", x, init_fn=lambda: None, reduce_fn=lambda _, new: new)
        return x

    def _input(self, x: jax.Array, one_hot: jax.Array | None) -> jax.Array:
        """The points, as Fourier features where asked for, and the label beside them."""
        if self.fourier:
            x = FourierFeatures(self.fourier)(x)
        return x if one_hot is None else jnp.concatenate([x, one_hot], axis=1)

    def _one_hot(self, labels: jax.Array | None) -> jax.Array | None:
        return None if labels is None else jax.nn.one_hot(labels, self.num_classes)


class Generator(_Body):
    """G: latents (B, Z) and, where conditional, labels (B,) -> points (B, *event_shape)."""

    event_shape: tuple[int, ...] = (2,)

    @property
    def couples(self) -> bool:
        """Whether in training the output at a sample depends on the others in its batch."""
        return self.norm == "batch"

    @nn.compact
    def __call__(self, z: jax.Array, labels: jax.Array | None = None, train: bool = False) -> jax.Array:
        size = math.prod(self.event_shape)
        if self.net == "point":
            points = jnp.broadcast_to(self.param("kernel", INITIALIZERS[self.initializer], (1, size)), (len(z), size))
        else:
            x = self._input(z, self._one_hot(labels))
            points = self._dense(size, x if self.net == "affine" else self._hidden(x, train))
        return points.reshape(len(z), *self.event_shape)


class Discriminator(_Body):
    """D: points (B, *event) and, where conditional, labels (B,) -> logits (B,), or a critic's scores; never squashed.

    A sample's I coordinates are those of one event, or m times as many for packs of m. With `projection` the label
    enters as the inner product of its embedding and the last hidden features (Miyato & Koyama 2018, eq. 4), else beside
    the points (Mirza & Osindero 2014).
    """

    minibatch: str = "none"
    projection: bool = False

    @property
    def couples(self) -> bool:
        """Whether in training the output at a sample depends on the others in its batch."""
        return self.norm == "batch" or self.minibatch != "none"

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array | None = None, train: bool = False) -> jax.Array:
        kernel_init = INITIALIZERS[self.initializer]
        x = x.reshape(len(x), -1)
        if self.net == "bilinear":
            return self._affine(1, use_bias=False)(x)[:, 0]
        one_hot = self._one_hot(labels)
        x = self._input(x, None if self.projection else one_hot)
        if self.net == "quadratic":
            products = x[:, :, None] * x[:, None, :]
            x = jnp.concatenate([x, products[:, *jnp.triu_indices(x.shape[1])]], axis=1)
        else:
            x = self._hidden(x, train)
        if one_hot is not None and self.projection:
            projected = jnp.sum(x * Embedding(x.shape[1], kernel_init)(one_hot), axis=1)
        else:
            projected = 0.0
        if self.minibatch == "stddev":
            x = MinibatchStddev()(x)
        elif self.minibatch == "discrimination":
            x = MinibatchDiscrimination(kernel_init)(x)
        return self._dense(1, x)[:, 0] + projected

    @nn.nowrap
    def lipschitz(self, variables: Mapping[str, Any]) -> jax.Array:
        """An upper bound of sup |D(x) - D(y)| / |x - y| over all of space, from the weights, to float32 rounding: ().

        At every point D's gradient is a product of kernels and diagonal matrices of activation slopes in
        [c - r, c + r]. Each of those is c plus something of norm at most r, which makes the product a sum; spectral
        norms of products of kernels bound its terms. For one hidden layer: |K1 K2| c + |K1| |K2| r. It is at most the
        product of the layers' norms (Szegedy et al. 2014, section 4.3), and less where kernels partly cancel; for relu,
        c = r = 1/2, it is the bound of Combettes & Pesquet (2020, theorem 4.2). Exact for nets without a hidden layer.

        Residual layers add the identity to what goes through. Fourier features: exactly 2 pi |F|, F the frequencies.
        Maxout: |max_i k_i d| is at most the root of the sum of the squares, and at most max_i |k_i| |d|, entry by
        entry; the smaller of the two norms. Batch normalization: its running statistics, under which it is affine;
        spectral: the norm by which the kernel is really divided. Labels are fixed: beside the points they do not count,
        and with projection the largest of the C bounds is taken.

        Infinite where no finite bound holds (quadratic D), where D depends on the batch (minibatch layers), and for
        layer normalization, whose bound 1 / sqrt(epsilon) a layer says nothing.

        Args:
          variables: all collections.
        """
        if self.net == "quadratic" or self.norm == "layer" or self.minibatch != "none":
            return jnp.asarray(jnp.inf)
        params = variables["params"]
        beside = 0 if self.projection else self.num_classes
        bound = jnp.ones(())
        num_inputs = len(params["Dense_0"]["kernel"]) - beside
        if self.fourier:
            bound = 2 * jnp.pi * _norm(variables["constants"]["FourierFeatures_0"]["frequency"])
        depth = 0 if self.net == "bilinear" else self.depth
        activation = ACTIVATIONS[self.activation]
        c, r = (activation.high + activation.low) / 2, (activation.high - activation.low) / 2
        # Each path: what bounds its start, and the product of kernels since.
        paths = [(bound, jnp.eye(num_inputs))]
        for layer in range(depth):
            kernel = self._kernel(variables, layer, paths[-1][1].shape[1])
            if self.net == "maxout":
                paths = [(paths[0][0] * self._maxout_norm(kernel), jnp.eye(self.width))]
                continue
            bound = sum((weight * _norm(product @ kernel) for weight, product in paths), jnp.zeros(()))
            # Labels beside the points are carried through, too, where the width is that of both together.
            skips = self.net == "residual" and len(params[f"Dense_{layer}"]["kernel"]) == self.width
            skip = jnp.eye(kernel.shape[0], kernel.shape[1]) * skips
            through = [(weight, product @ (skip + c * kernel)) for weight, product in paths]
            paths = [*through, (r * bound, jnp.eye(self.width))]
        last = self._kernel(variables, depth, paths[-1][1].shape[1])
        if self.num_classes and self.projection:
            last = last + params["Embedding_0"]["kernel"].T
        each = sum((weight * jnp.linalg.norm(product @ last, axis=0) for weight, product in paths), jnp.zeros(()))
        return jnp.max(each)

    @nn.nowrap
    def _maxout_norm(self, kernel: jax.Array) -> jax.Array:
        pieces = kernel.reshape(len(kernel), self.maxout_pieces, self.width)
        return jnp.minimum(_norm(kernel), _norm(jnp.max(jnp.abs(pieces), axis=1)))

    @nn.nowrap
    def _kernel(self, variables: Mapping[str, Any], layer: int, num_inputs: int) -> jax.Array:
        """The kernel that a layer applies, without the rows of the label, normalization included."""
        kernel = variables["params"][f"Dense_{layer}"]["kernel"]
        if self.norm == "spectral":
            # What flax.linen.SpectralNorm does: one power iteration from the stored vector.
            u = variables["batch_stats"][f"SpectralNorm_{layer}"][f"Dense_{layer}/kernel/u"][0]
            v = _unit(kernel @ u)
            sigma = v @ kernel @ _unit(v @ kernel)
            kernel = kernel / jnp.where(sigma != 0, sigma, 1)
        elif self.norm == "batch" and layer < self.depth:
            name = f"BatchNorm_{layer}"
            var = variables["batch_stats"][name]["var"]
            scale = variables["params"][name]["scale"] / jnp.sqrt(var + self.norm_epsilon)
            kernel = kernel * jnp.tile(scale, kernel.shape[1] // len(scale))[None, :]
        return kernel[:num_inputs]


def _norm(matrix: jax.Array) -> jax.Array:
    """Largest singular value."""
    return jnp.linalg.norm(matrix, ord=2)


def _unit(vector: jax.Array) -> jax.Array:
    return vector * jax.lax.rsqrt(jnp.sum(vector**2) + 1e-12)
