"""Counts interpolated between a few traces, against traces of each."""

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import make_game
from gandyn.gan.step import init, step
from gandyn.sweeps import interpolation, tracing

Point = dict[str, Any]


def of_product(point: Any) -> tracing.Trace:
    """Of `layers` products of (rows, width) by (width, width), and one of (rows, width) by (width, extra + 3)."""
    x = jax.ShapeDtypeStruct((point["rows"], point["width"]), np.float32)
    square = jax.ShapeDtypeStruct((point["width"], point["width"]), np.float32)
    last = jax.ShapeDtypeStruct((point["width"], point["extra"] + 3), np.float32)

    def run(x: Any, square: Any, last: Any) -> Any:
        for _ in range(point["layers"]):
            x = np.tanh(1.0) * (x @ square) if point["scaled"] else x @ square
        return x @ last

    return tracing.trace(run, x, square, last)


class Counted:
    """Counts its calls, and refuses points for which `allowed` is false."""

    def __init__(self, trace: Callable[[Any], tracing.Trace], allowed: Callable[[Any], bool] = lambda point: True):
        self._trace, self._allowed, self.calls = trace, allowed, 0

    def __call__(self, point: Any) -> tracing.Trace:
        self.calls += 1
        if not self._allowed(point):
            raise ValueError("not allowed")
        return self._trace(point)


def points(number: int, **choices: list[Any]) -> list[Point]:
    rng = random.Random(0)
    base: Point = {"rows": 64, "width": 32, "extra": 5, "layers": 2, "scaled": False}
    return [base | {name: rng.choice(values) for name, values in choices.items()} for _ in range(number)]


SUMS = tuple(name for name in tracing.FEATURES if name != "peak")


def largest_error(asked: list[Point], trace: Any, most: int, features: tuple[str, ...] = SUMS) -> float:
    found = interpolation.counts(asked, trace, most)
    direct = [trace(point).counts() for point in asked]
    return max(abs(found[f][i] - own[f]) / max(own[f], 1.0) for i, own in enumerate(direct) for f in features)


def test_sizes_are_exact():
    many = points(60, rows=list(range(8, 500)), width=list(range(5, 300)), extra=list(range(2, 50)))
    trace = Counted(of_product)
    interpolation.counts(many, trace, 10)
    assert trace.calls == 1 + 3
    assert largest_error(many, of_product, 10) < 1e-9


def test_what_is_held_at_once_is_the_largest_of_what_each_trace_says():
    many = points(60, rows=list(range(8, 500)), width=list(range(5, 300)))
    found = interpolation.counts(many, of_product, 10)["peak"]
    direct = [of_product(point).counts()["peak"] for point in many]
    assert all(0.5 < ratio <= 1.0 + 1e-9 for ratio in found / direct)


def test_layers_that_come_and_go_are_exact_where_nothing_else_has_their_sizes():
    many = points(60, rows=list(range(8, 500)), width=list(range(35, 300)), layers=[2, 3, 4, 5, 6])
    assert largest_error(many, of_product, 10, ("flops", "moved", "launches", "equations")) < 1e-9


def test_few_points_are_each_traced():
    few = points(5, rows=[8, 16, 64], layers=[1, 2, 3], scaled=[True, False])
    trace = Counted(of_product)
    interpolation.counts(few, trace, 5)
    assert trace.calls == 5
    assert largest_error(few, of_product, 5) == 0


def test_structures_have_models_of_their_own_while_traces_last():
    many = points(60, width=list(range(5, 300)), scaled=[True, False])
    trace = Counted(of_product)
    interpolation.counts(many, trace, 4)
    assert trace.calls == 4
    assert largest_error(many, of_product, 4) < 1e-9
    trace = Counted(of_product)
    interpolation.counts(many, trace, 3)
    assert trace.calls == 3
    assert largest_error(many, of_product, 3, ("flops", "moved", "launches", "equations")) < 1e-9


def test_values_that_are_refused_are_left_out():
    many = points(30, rows=list(range(8, 500)), width=list(range(5, 300)))
    trace = Counted(of_product, lambda point: point["rows"] < 450)
    found = interpolation.counts([point for point in many if point["rows"] < 450], trace, 10)
    assert np.all(np.isfinite(found["flops"]))


RING = targets.ring()


def of_step(point: Any) -> tracing.Trace:
    game = make_game(RING, Config(**point))
    game = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), np.float32), game)
    return tracing.trace(step, game, jax.eval_shape(init, game, jax.eval_shape(lambda: jax.random.key(0))))


KINDS: dict[str, dict[str, Any]] = {
    "alternating": {},
    "packs": {"packing": 2, "minibatch_layer": "discrimination"},
    "unrolled": {"rule": "unrolled", "penalties": ("wgan_gp",)},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_random_sizes_of_a_step(kind):
    """Within 5 % of each one's own trace, in all that takes time."""
    rng = random.Random(1)
    fields = {field.name: field.default for field in dataclasses.fields(Config)} | KINDS[kind]
    sizes = {"gen_width": (16, 300), "disc_width": (16, 300), "batch_size": (8, 600), "disc_depth": (2, 4)}
    many = [fields | {name: rng.randint(*span) for name, span in sizes.items()} for _ in range(40)]
    found = interpolation.counts(many, of_step, 8)
    for i in rng.sample(range(40), 4):
        own = of_step(many[i]).counts()
        assert {f: found[f][i] for f in own if f != "peak"} == pytest.approx(
            {f: own[f] for f in own if f != "peak"}, 0.05
        )


@pytest.mark.slow
def test_many_structures_within_a_factor_of_two():
    """96 structures, each with its widths, of twelve traces."""
    rng = random.Random(2)
    fields = {field.name: field.default for field in dataclasses.fields(Config)}
    choices: dict[str, list[Any]] = {
        "loss": ["hinge", "minimax", "wasserstein", "least_squares"],
        "penalties": [(), ("r1",), ("wgan_gp",)],
        "rule": ["alternating", "extragradient", "consensus", "unrolled"],
        "gen_norm": ["none", "batch"],
        "gen_width": list(range(16, 256)),
    }
    many = [fields | {name: rng.choice(values) for name, values in choices.items()} for _ in range(300)]
    found = interpolation.counts(many, of_step, 12)
    for i in rng.sample(range(300), 6):
        assert 0.5 < found["flops"][i] / of_step(many[i]).counts()["flops"] < 2
