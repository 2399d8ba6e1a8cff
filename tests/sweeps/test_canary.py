"""Does the installed jax compute right values on this backend?

Compares with NumPy in float64 what gandyn's programs are made of. It knows nothing of gandyn: when it fails, no
number that gandyn prints on this machine can be trusted.
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

EPS = float(np.finfo(np.float32).eps)


def _assert_close(got, want, scale, tolerance, what):
    """Check |got - want| <= tolerance * scale, element by element."""
    error = np.abs(np.asarray(got, np.float64) - want) / scale
    wrong = int((~(error <= tolerance)).sum())  # NaN counts as wrong
    device = jax.devices()[0]
    assert wrong == 0, (
        f"jax {jax.__version__} computes wrong values on {device.platform} ({device.device_kind}): {what}: {wrong} of"
        f" {error.size} elements are off, the worst by {np.max(error):.3g} of its scale (allowed {tolerance:.2g})."
        " jax 0.10.2 on CPU is known for this (https://github.com/jax-ml/jax/issues/39103). Install another jax:"
        " nothing that gandyn computes with this one can be trusted."
    )


# jax 0.10.2 goes wrong for 3 columns, 2 or 3 rows of the matrix, and 32,769 to about 50,000 vectors; the rest looks
# for its relatives.
@pytest.mark.parametrize(
    ("n", "rows", "columns"),
    [(32_769, 3, 3), (40_001, 3, 3), (40_001, 2, 3), (16_385, 3, 3), (65_537, 3, 3), (40_001, 2, 2), (8_193, 128, 2)],
)
def test_vmapped_matrix_vector_product_then_reduction(n, rows, columns):
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((rows, columns)).astype(np.float32)
    x = rng.standard_normal((n, columns)).astype(np.float32)

    with jax.default_matmul_precision("highest"):
        got = jax.jit(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)))(x)

    want = ((x.astype(np.float64) @ matrix.T.astype(np.float64)) ** 2).sum(axis=1)
    scale = ((np.abs(x).astype(np.float64) @ np.abs(matrix.T).astype(np.float64)) ** 2).sum(axis=1)
    _assert_close(got, want, scale, 16 * EPS, f"vmap(sum((matrix @ row)**2)), n={n}, matrix {rows}x{columns}")


def _mlp(params, x, xp):
    for weight, bias in params[:-1]:
        x = xp.tanh(x @ weight + bias[None])
    weight, bias = params[-1]
    return x @ weight + bias[None]


@pytest.mark.parametrize("width", [32, 128])
@pytest.mark.parametrize("runs", [1, 8])
@pytest.mark.quick(2)
def test_jit_scan_vmap_mlp(width, runs):
    steps, batch = 8, 256
    rng = np.random.default_rng(1)
    sizes = [2, width, width, 2]
    params = [
        (rng.standard_normal((runs, m, n)) / np.sqrt(m), 0.1 * rng.standard_normal((runs, n)))
        for m, n in pairwise(sizes)
    ]
    params = jax.tree.map(lambda a: a.astype(np.float32), params)
    x0 = rng.standard_normal((runs, batch, 2)).astype(np.float32)

    # The map is a mild contraction, so that float32 rounding does not grow from step to step.
    def move(params, x, xp):
        return 0.5 * x + 0.1 * _mlp(params, x, xp)

    @jax.jit
    def run(params, x0):
        def step(x, _):
            x = jax.vmap(lambda p, x: move(p, x, jnp))(params, x)
            return x, jnp.mean(x**2, axis=(1, 2))

        return jax.lax.scan(step, x0, None, length=steps)

    with jax.default_matmul_precision("highest"):
        got_x, got_energy = run(params, x0)

    want_x, want_energy = np.zeros((runs, batch, 2)), np.zeros((steps, runs))
    for r in range(runs):
        p = jax.tree.map(lambda a, r=r: a[r].astype(np.float64), params)
        x = x0[r].astype(np.float64)
        for s in range(steps):
            x = move(p, x, np)
            want_energy[s, r] = np.mean(x**2)
        want_x[r] = x

    what = f"jit(scan(vmap(mlp))), {runs} runs, width {width}"
    _assert_close(got_x, want_x, np.abs(want_x).max(), 16 * EPS, what + ", last state")
    _assert_close(got_energy, want_energy, want_energy, 16 * EPS, what + ", mean square at each step")
