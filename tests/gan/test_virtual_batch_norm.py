"""Virtual batch normalization against the paper's arithmetic, written out one sample at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gandyn.gan.networks import VirtualBatchNormGenerator, calling

GEN = VirtualBatchNormGenerator(event_shape=(3,), width=6, depth=2, num_reference=7)


def numpy_generator(variables, z):
    """Each sample alone, in float64: the batch of which it takes its statistics is the reference batch and itself."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    reference = np.asarray(variables["constants"]["reference"], np.float64)
    out = []
    for x in np.asarray(z, np.float64):
        rows = reference
        for layer in range(2):
            dense, norm = params[f"Dense_{layer}"], params[f"VirtualBatchNorm_{layer}"]
            rows, x = rows @ dense["kernel"] + dense["bias"], x @ dense["kernel"] + dense["bias"]
            together = np.vstack([rows, x])
            x = (x - together.mean(axis=0)) / np.sqrt(together.var(axis=0) + 1e-5)
            rows = (rows - rows.mean(axis=0)) / np.sqrt(rows.var(axis=0) + 1e-5)
            rows, x = (np.maximum(each * norm["scale"] + norm["bias"], 0) for each in (rows, x))
        out.append(x @ params["Dense_2"]["kernel"] + params["Dense_2"]["bias"])
    return np.stack(out)


@pytest.mark.slow
def test_is_the_papers():
    variables = calling.init(GEN, jax.random.key(0), (2,))
    rng = np.random.default_rng(0)
    drawn = lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), jnp.float32)  # noqa: E731
    variables = variables | {"params": jax.tree.map(drawn, variables["params"])}
    z = rng.standard_normal((5, 2)).astype(np.float32)
    got = jax.jit(lambda z: calling.call(GEN, variables, z, train=True, player="gen", event_shape=(3,))[0])(z)
    np.testing.assert_allclose(got, numpy_generator(variables, z), rtol=1e-4, atol=1e-5)


def test_the_reference_batch_is_fixed_and_not_trained():
    variables = calling.init(GEN, jax.random.key(0), (2,))
    assert variables["constants"]["reference"].shape == (7, 2)
    assert set(variables) == {"params", "constants"}
    _, after = GEN.apply(variables, jnp.ones((3, 2)), mutable=True)
    np.testing.assert_array_equal(after["constants"]["reference"], variables["constants"]["reference"])
