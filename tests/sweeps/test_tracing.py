"""Counts of traced programs: against counting by hand, and against the compiler's own analysis."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import make_game
from gandyn.gan.step import init, step
from gandyn.sweeps import tracing

B, W, Z = 96, 48, 2


def shape(*sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, np.float32)


def counts(function: Any, *args: Any) -> dict[str, float]:
    return tracing.trace(function, *args).counts()


def mlp(params: list[tuple[jax.Array, jax.Array]], x: jax.Array) -> jax.Array:
    for kernel, bias in params[:-1]:
        x = jnp.tanh(x @ kernel + bias[None])
    kernel, bias = params[-1]
    return x @ kernel + bias[None]


PARAMS = [(shape(Z, W), shape(W)), (shape(W, W), shape(W)), (shape(W, 1), shape(1))]
WEIGHTS = Z * W + W * W + W


def test_layers_by_hand() -> None:
    found = counts(mlp, PARAMS, shape(B, Z))
    assert found["flops"] == 2 * B * WEIGHTS
    assert found["curves"] == 2 * B * W
    assert found["elements"] == B * (W + W + 1)  # biases
    assert found["launches"] == 3
    assert found["moved"] == B * (Z + 2 * W + 1) + B * (W + W) + WEIGHTS  # inputs, outputs, kernels
    assert found["bits"] == found["calls"] == found["indexed"] == 0


def test_a_gradient_takes_three_passes_less_the_first_layers_input() -> None:
    found = counts(jax.grad(lambda params, x: jnp.sum(mlp(params, x))), PARAMS, shape(B, Z))
    # The last layer's output itself is not needed: it is summed.
    assert found["flops"] == 2 * B * (3 * WEIGHTS - Z * W - W)
    penalty = jax.grad(lambda params, x: jnp.sum(jax.grad(lambda x: jnp.sum(mlp(params, x)))(x) ** 2))
    second = counts(penalty, PARAMS, shape(B, Z))["flops"]
    assert 2 * B * 4 * WEIGHTS < second < 2 * B * 7 * WEIGHTS  # one forward, one back, and back through both


def test_loops_multiply() -> None:
    product = lambda x: jnp.tanh(x @ x)  # noqa: E731
    once = counts(product, shape(W, W))
    for turns in (1, 2, 7):
        scanned = counts(lambda x, n=turns: jax.lax.scan(lambda x, _: (product(x), None), x, None, n)[0], shape(W, W))
        assert scanned["flops"] == turns * once["flops"] == turns * 2 * W**3
        assert scanned["curves"] == turns * once["curves"]
        counted = counts(lambda x, n=turns: jax.lax.fori_loop(0, n, lambda _, x: product(x), x), shape(W, W))
        assert counted["flops"] == turns * once["flops"]
    nested = counts(
        lambda x: jax.lax.map(lambda x: jax.lax.fori_loop(0, 3, lambda _, x: product(x), x), x), shape(5, W, W)
    )
    assert nested["flops"] == 15 * once["flops"]
    assert nested["equations"] < 20  # the inside is compiled once


def test_loops_that_end_by_themselves() -> None:
    def until(bound: int | None) -> float:
        goes_on = lambda carry: (jnp.sum(carry[1]) > 0) & (True if bound is None else carry[0] < bound)  # noqa: E731
        loop = lambda x: jax.lax.while_loop(goes_on, lambda c: (c[0] + 1, c[1] @ c[1]), (0, x))  # noqa: E731
        return counts(loop, shape(W, W))["flops"] / (2 * W**3)

    assert until(6) == 6
    assert until(None) == tracing.TURNS


def test_calls_are_part_of_what_calls_them() -> None:
    inner = jax.jit(lambda x: jnp.tanh(x @ x))
    outer = jax.jit(lambda x: jax.checkpoint(inner)(x) + jax.vmap(jnp.sin)(x))
    found = counts(outer, shape(W, W))
    assert (found["flops"], found["curves"], found["calls"]) == (2 * W**3, W**2, W**2)


def test_what_is_computed_twice_or_not_read_counts_once_or_not() -> None:
    assert counts(lambda x: (x @ x) + (x @ x), shape(W, W))["flops"] == 2 * W**3
    assert counts(lambda x: (x @ x, x @ x.T)[0], shape(W, W))["flops"] == 2 * W**3
    assert counts(lambda x: (x @ x) + (x @ x.T), shape(W, W))["flops"] == 4 * W**3


def test_the_dearest_branch_counts() -> None:
    branches = [lambda x: x, lambda x: x @ x @ x, lambda x: x @ x]
    assert counts(lambda i, x: jax.lax.switch(i, branches, x), np.int32(0), shape(W, W))["flops"] == 4 * W**3


def test_random_words_and_what_is_looked_up() -> None:
    assert counts(lambda key: jax.random.uniform(key, (B, 3)), jax.random.key(0))["bits"] == 3 * B
    assert counts(lambda x, i: x[i], shape(1000, 2), np.zeros(B, np.int32))["indexed"] == 2 * B
    assert counts(lambda x, i: x.at[i].add(1.0), shape(1000), np.zeros(B, np.int32))["indexed"] == B


def test_bytes_held_at_once() -> None:
    # Both products wait for their sum; the three that go entry by entry are made inside of one another.
    assert counts(lambda x: jnp.tanh(-(x @ x)) + x @ x.T, shape(W, W))["peak"] == pytest.approx(
        3 * 4 * W**2, abs=4 * W**2
    )
    # What is kept for the way back: an activation a layer, however many layers there are.
    deep = lambda n: counts(  # noqa: E731
        jax.grad(lambda k, x: jnp.sum(jax.lax.scan(lambda x, k: (jnp.tanh(x @ k), None), x, k)[0])),
        shape(n, W, W),
        shape(B, W),
    )["peak"]
    assert 4 * B * W * 20 <= deep(40) - deep(20) <= 3 * 4 * (B * W + W * W) * 20


# ---- whole steps, against the compiler's analysis

RING = targets.ring()
SGD: dict[str, Any] = {"gen_optimizer": "sgd", "disc_optimizer": "sgd"}
# Of loops the compiler's analysis counts the inside once, so none here has one that turns.
STEPS: dict[str, dict[str, Any]] = {
    "alternating": {},
    "same batch": {"second_batch": "same"},
    "extragradient": {"rule": "extragradient"},
    "runge_kutta": {"rule": "runge_kutta"} | SGD,
    "consensus": {"rule": "consensus", "penalties": ("r1",)},
    "symplectic": {"rule": "symplectic"},
    "drift_cancelling": {"rule": "drift_cancelling", "loss": "relativistic"},
    "gradient penalty": {"penalties": ("wgan_gp",), "disc_activation": "tanh"},
    "both gradient norms": {"gradient_norm": "both"},
    "packs": {"packing": 2, "minibatch_layer": "discrimination"},
    "maxout": {"disc_net": "maxout", "maxout_pieces": 3, "gen_norm": "batch"},
    "deep and labelled": {"gen_depth": 4, "disc_depth": 3, "num_classes": 4, "conditioning": "projection"},
    "features": {"gen_fourier": 4, "disc_fourier": 4, "disc_norm": "spectral"},
}
QUICK = ("alternating", "gradient penalty")


@pytest.mark.parametrize("kind", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in STEPS])
def test_operations_of_a_step(kind: str) -> None:
    """Before the compiler shares and drops anything: never more than it counts, and 0.65 of it at least."""
    game = make_game(RING, Config(gen_width=48, disc_width=80, batch_size=96, **STEPS[kind]))
    game = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), np.float32), game)
    state = jax.eval_shape(init, game, jax.eval_shape(lambda: jax.random.key(0)))
    found = counts(step, game, state)
    analysis: Any = jax.jit(functools.partial(step)).lower(game, state).cost_analysis()
    assert 0.65 <= (found["flops"] + found["elements"]) / analysis["flops"] <= 1.05
