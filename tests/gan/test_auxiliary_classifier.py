"""Both heads of the auxiliary classifier are affine in the same features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gandyn.gan.networks import AuxiliaryClassifier, calling

DISC = AuxiliaryClassifier(num_classes=3, width=5, depth=2)
X = np.random.default_rng(0).standard_normal((6, 2)).astype(np.float32)


def test_both_heads():
    variables = calling.init(DISC, jax.random.key(0), (2,), 3)
    assert set(variables) == {"params"}
    labels = jnp.zeros(6, jnp.int32)
    logits, said = calling.call(DISC, variables, jnp.asarray(X), labels, train=True, mutable=("aux",))
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    h = X.astype(np.float64)
    for layer in ("Dense_0", "Dense_1"):
        h = h @ params[layer]["kernel"] + params[layer]["bias"]
        h = np.where(h > 0, h, 0.2 * h)
    np.testing.assert_allclose(said["aux"]["features"], h, rtol=1e-5, atol=1e-6)
    for got, head in ((logits[:, None], "source"), (said["aux"]["class_logits"], "classes")):
        np.testing.assert_allclose(got, h @ params[head]["kernel"] + params[head]["bias"], rtol=1e-5, atol=1e-6)


def test_the_label_is_not_shown():
    variables = calling.init(DISC, jax.random.key(0), (2,), 3)
    one, two = (calling.call(DISC, variables, jnp.asarray(X), jnp.full(6, label), mutable=("aux",)) for label in (0, 2))
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_classes_can_be_learned():
    """The cross entropy of the head falls from about log 3 to nothing on three points of three classes."""
    x, labels = jnp.asarray([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]]), jnp.arange(3)
    variables = calling.init(DISC, jax.random.key(0), (2,), 3)

    def entropy(params):
        _, said = calling.call(DISC, {"params": params}, x, labels, mutable=("aux",))
        return -jnp.mean(jax.nn.log_softmax(said["aux"]["class_logits"])[jnp.arange(3), labels])

    step = jax.jit(lambda params: jax.tree.map(lambda p, g: p - 0.3 * g, params, jax.grad(entropy)(params)))
    params = variables["params"]
    blind = jax.tree.map(jnp.zeros_like, params)
    assert float(entropy(blind)) == pytest.approx(np.log(3), rel=1e-6)
    for _ in range(200):
        params = step(params)
    assert float(entropy(params)) < 0.05
