"""What a sweep will cost: operations against those of the compiled step, bytes against shapes, seconds against time."""

import functools
import math
import re
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from haste import OPTIONS

from gandyn import truth
from gandyn.gan import dynamics, gan, targets
from gandyn.gan.gan import Config, HParams
from gandyn.sweeps import cost, ensemble
from gandyn.truth import measure
from gandyn.truth.measure import MeasureConfig

RING = targets.ring()
SMALL: dict[str, Any] = {"gen_width": 48, "disc_width": 80, "batch_size": 96}
SGD: dict[str, Any] = {"gen_optimizer": "sgd", "disc_optimizer": "sgd"}


# ---- operations, against the products in the compiled step


def compiled(config: Config) -> str:
    """The compiled step of one run."""
    hparams = jax.tree.map(np.float32, HParams())
    state = jax.eval_shape(lambda key: gan.init(config, hparams, RING, key), jax.random.key(0))
    step = jax.jit(functools.partial(dynamics.step, config))
    return step.lower(hparams, RING, state).compile(OPTIONS).as_text() or ""


def operations(program: str, turns: int) -> float:
    """Floating-point operations of all matrix products; `turns` of each loop whose own the compiler does not know."""
    computations: dict[str, list[tuple[str, str]]] = {}
    name = entry = ""
    for line in program.splitlines():
        if found := re.match(r"(ENTRY )?(%[\w.-]+) .*\{$", line):
            name = found[2]
            computations[name] = []
            entry = name if found[1] else entry
        elif found := re.match(r"\s+(?:ROOT )?(%[\w.-]+) = (.*)$", line):
            computations[name].append((found[1], found[2]))

    def of(name: str) -> float:
        total, shapes = 0.0, {}
        for result, text in computations[name]:
            shape = re.match(r"\w+\[([\d,]*)\]", text)
            shapes[result] = [int(size) for size in shape[1].split(",")] if shape and shape[1] else []
            assert "custom-call(" not in text or "matmul" not in text, "products that are not counted"
            if found := re.search(r" dot\((%[\w.-]+), .*lhs_contracting_dims=\{([\d,]+)\}", text):
                inner = [shapes[found[1]][int(axis)] for axis in found[2].split(",")]
                total += 2.0 * math.prod(shapes[result]) * math.prod(inner)
            inside = sum(of(called) for called in re.findall(r"(?:calls|to_apply|body)=(%[\w.-]+)", text))
            if " while(" in text:
                known = re.search(r'known_trip_count":\{"n":"(\d+)"', text)
                inside *= int(known[1]) if known else turns
            total += inside
        return total

    return of(entry)


KINDS: dict[str, dict[str, Any]] = {
    "alternating": {},
    "several updates": {"disc_steps": 5, "gen_steps": 3},
    "same batch": {"second_batch": "same"},
    "extragradient": {"dynamics": "extragradient"},
    "runge_kutta": {"dynamics": "runge_kutta"} | SGD,
    "unrolled": {"dynamics": "unrolled", "unroll_steps": 3},
    "unrolled once": {"dynamics": "unrolled", "unroll_steps": 1, "penalty": "wgan_gp"},
    "zero-sum unrolled": {"dynamics": "unrolled", "unroll_steps": 2, "loss": "minimax"},
    "consensus": {"dynamics": "consensus", "penalty": "r1"},
    "symplectic": {"dynamics": "symplectic", "penalty": "r1"},
    "aligned": {"dynamics": "symplectic_aligned"},
    "drift_cancelling": {"dynamics": "drift_cancelling", "loss": "relativistic"},
    "competitive": {"dynamics": "competitive"} | SGD,
    "best_response": {"dynamics": "best_response", "disc_steps": 4},
    "gradient penalty": {"penalty": "wgan_gp", "disc_activation": "tanh"},
    "both gradient norms": {"gradient_norm": "both"},
    "norm in a field": {"gradient_norm": "disc", "dynamics": "drift_cancelling"},
    "relativistic": {"loss": "relativistic_average"},
    "packs": {"packing": 2, "minibatch_layer": "discrimination"},
    "maxout": {"disc_net": "maxout", "maxout_pieces": 3, "gen_norm": "batch"},
    "deep and labelled": {"gen_depth": 4, "disc_depth": 3, "num_classes": 4, "conditioning": "projection"},
    "features": {"gen_fourier": 4, "disc_fourier": 4, "disc_norm": "spectral"},
}
QUICK = ("gradient penalty",)


@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_operations_of_a_step(kind: str) -> None:
    """Too high by 0 to 6 %: first layers pass no input gradient back, and last ones are no product to the compiler."""
    config = Config(**SMALL | KINDS[kind])
    turns = config.disc_steps if config.dynamics == "best_response" else cost.COMPETITIVE_ITERATIONS
    counted = operations(compiled(config), turns)
    assert 1.0 <= cost.flops(config) / counted <= 1.06


def test_products_are_sums_of_passes() -> None:
    assert cost.passes(Config()) == (4, 8)
    assert cost.products(Config(disc_steps=5)) == 4 + 4 + 5 * 6 + 2
    # 2 B (G's 4 passes over Z W + W^2 + 2 W weights + D's 8 over 2 W + W^2 + W), W = 128, Z = 2, B = 256.
    assert cost.flops(Config()) == 512 * (4 * (128**2 + 4 * 128) + 8 * (128**2 + 3 * 128))


# ---- bytes, against the shapes

STATES: dict[str, dict[str, Any]] = {
    "default": {},
    "plain and momentum": {"gen_optimizer": "sgd", "disc_optimizer": "momentum"},
    "rmsprop and adamw": {"gen_optimizer": "rmsprop", "disc_optimizer": "adamw"},
    "optimistic adam": {"gen_optimizer": "optimistic_adam"},
    "optimistic": {"dynamics": "optimistic"},
    "past": {"dynamics": "past_extragradient", "lookahead": 5, "track_path": True},
    "average": {"gen_ema": True, "gen_norm": "batch", "disc_norm": "layer"},
    "data": {"dataset_size": 100, "num_classes": 4},
    "projection": {"num_classes": 4, "conditioning": "projection", "disc_norm": "spectral"},
    "maxout": {"disc_net": "maxout", "disc_norm": "batch"},
    "discrimination": {"minibatch_layer": "discrimination", "disc_norm": "spectral"},
    "packs": {"minibatch_layer": "stddev", "packing": 3},
    "features": {"gen_fourier": 5, "disc_fourier": 7, "num_classes": 3},
    "point": {"gen_net": "point", "disc_net": "bilinear"},
    "quadratic": {"gen_net": "affine", "disc_net": "quadratic", "num_classes": 3},
    "no hidden layer": {
        "gen_depth": 0,
        "disc_depth": 0,
        "num_classes": 5,
        "disc_norm": "spectral",
        "conditioning": "projection",
    },
    "deep": {"gen_net": "residual", "gen_depth": 4, "disc_depth": 3, "gen_width": 17, "disc_width": 31},
}


@pytest.mark.parametrize("kind", STATES)
def test_bytes_of_a_state(kind: str) -> None:
    config = Config(**STATES[kind])
    key = jax.eval_shape(lambda: jax.random.key(0, impl="threefry2x32"))
    state = jax.eval_shape(lambda key: gan.init(config, HParams(), RING, key), key)
    assert cost.state_bytes(config) == sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert cost.num_params(config) == tuple(sum(leaf.size for leaf in jax.tree.leaves(each)) for each in state.params)


DEFAULT, MEASURED, GRIDS = Config(), MeasureConfig(), (320, (576, 320))


def estimate_of(config: Config = DEFAULT, measure_config: MeasureConfig = MEASURED, **how: Any) -> cost.Estimate:
    given: dict[str, Any] = {"num_runs": 4, "num_steps": 100, "measure_every": 10, "num_modes": 8, "grids": GRIDS}
    return cost.estimate(config, measure_config, **given | how)


@pytest.mark.parametrize("kind", ["default", "average", "data", "point", "past", "projection", "discrimination"])
def test_numbers_on_disk(kind: str) -> None:
    """As many as the measurements name, which trace the networks for it."""
    config = Config(**STATES[kind])
    measure_config = MeasureConfig(deep=tuple(measure.DEEP), keep_samples=10, keep_surface=4)  # pyright: ignore
    fields = measure.fields_of(measure_config, 8) | measure.deep_fields_of(config, measure_config)
    metrics = measure.metrics_of(config, measure_config) | measure.deep_metrics_of(config, measure_config)
    numbers = len(metrics) + sum(math.prod(field.shape) for field in fields.values())
    found = estimate_of(config, measure_config, deep_every=50)
    assert found.disk_bytes == 4 * numbers * 4 * 11
    kept_in_memory = estimate_of(config, measure_config, deep_every=50, in_memory=True)
    assert kept_in_memory.host_bytes == found.disk_bytes > found.host_bytes


def test_device_memory_grows_with_runs_blocks_and_grids() -> None:
    base, states = estimate_of(num_runs=4), cost.state_bytes(Config())
    more = estimate_of(num_runs=104)
    recorded = base.disk_bytes / 4 / 11
    assert more.device_bytes - base.device_bytes == pytest.approx(100 * (2.6 * states + 2 * recorded))
    blocks = cost.REFERENCE._replace(num_devices=1, block_size=128)
    assert estimate_of(num_runs=1, calibration=blocks).device_bytes > 256 * 2.6 * states
    assert cost.work_bytes(Config(), MeasureConfig(), (1024, ()), 1) > 4 * 4 * 1024**2
    # D on real and on fake samples and G, two layers each, before and after their nonlinearities.
    wide = Config(batch_size=2**16)
    assert cost.work_bytes(wide, MeasureConfig(), (64, ()), 1) >= 4 * 2 * 3 * 2 * 128 * 2**16


# ---- seconds


def test_seconds_of_a_group() -> None:
    each = cost.seconds_per_step(Config())
    base = estimate_of()
    assert base.run_steps == 400
    assert base.training == pytest.approx(2 * 100 * each)
    assert base.measuring == pytest.approx(2 * 11 * cost.seconds_to_measure(Config(), MeasureConfig(), 320, 8))
    assert estimate_of(num_runs=3).training == base.training  # a device waits for the other
    blocks = cost.REFERENCE._replace(num_devices=1, block_size=128)
    assert estimate_of(num_runs=1, calibration=blocks).training == pytest.approx(128 * 100 * each)
    slower = cost.Calibration(2, 1, ((128, 14.2),), 130e-9)
    tenth = cost.REFERENCE._replace(gflops=((128, 142.0),))
    assert estimate_of(calibration=slower).training == pytest.approx(
        10 * estimate_of(calibration=tenth).training, rel=1e-6
    )
    deep = estimate_of(deep_every=50)
    on_device, on_host = cost.seconds_to_measure_deep(Config(), MeasureConfig(), GRIDS[1], 8)
    assert deep.measuring - base.measuring == pytest.approx(3 * (2 * on_device + 4 * on_host))
    assert deep.seconds == pytest.approx(deep.training + deep.measuring + deep.compiling)


def test_programs_are_shared_as_ensembles_share_them() -> None:
    def names(**fields: Any) -> set:
        return set(cost.programs(Config(**fields), MeasureConfig(), GRIDS, 8, deep=True))

    kinds = lambda programs: sorted(name[0] for name in programs)  # noqa: E731
    assert kinds(names()) == ["advance", "deep", "init", "measure"]
    assert kinds(names() & names(loss="hinge")) == ["init", "measure"]
    assert kinds(names() & names(gen_optimizer="sgd")) == ["deep", "measure"]
    assert kinds(names() & names(batch_size=64)) == ["init"]
    assert not names() & names(gen_width=64)
    assert len(cost.programs(Config(), MeasureConfig(), GRIDS, 8)) == 3


def test_an_estimate_traces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("traced")

    for name in ("eval_shape", "jit", "make_jaxpr"):
        monkeypatch.setattr(jax, name, refuse)
    monkeypatch.setattr(gan, "init", refuse)
    for kind in KINDS.values():
        config = Config(gen_width=37, disc_width=41, **kind)
        everything = MeasureConfig(deep=tuple(measure.DEEP))  # pyright: ignore[reportArgumentType]
        found = estimate_of(config, everything, deep_every=20)
        assert all(0 < number < math.inf for number in (found.seconds, found.host_bytes, found.device_bytes))


def test_calibration_is_of_four_widths_and_kept() -> None:
    configs = [Config(gen_width=2**i, disc_width=2**i) for i in range(3, 9)]
    found = cost.calibrate(configs)
    assert [width for width, _ in found.gflops] == [8, 32, 64, 256]
    assert cost.calibrate(reversed(configs)) is found
    assert found.num_devices == len(jax.local_devices())
    assert all(0.01 < rate < 1e6 for _, rate in found.gflops)
    assert 1e-12 < found.seconds_per_normal < 1e-5
    between = found._replace(gflops=((16, 10.0), (64, 30.0)))
    assert [between.flops_per_second(width) for width in (8, 32, 64, 512)] == pytest.approx([1e10, 2e10, 3e10, 3e10])


# ---- seconds, against the clock

TIMED: dict[str, dict[str, Any]] = {
    "reference": {"gen_width": 64, "disc_width": 64},
    "wide": {"gen_width": 128, "disc_width": 128},
    "narrow": {"gen_width": 16, "disc_width": 32, "batch_size": 64},
    "penalty, D deep": {"gen_width": 32, "disc_width": 64, "disc_depth": 4, "penalty": "wgan_gp", "disc_steps": 3},
    "second order": {"gen_width": 64, "disc_width": 64, "dynamics": "consensus"} | SGD,
    "packs of maxout": {"gen_width": 32, "disc_width": 32, "disc_net": "maxout", "packing": 3, "gen_norm": "batch"},
}


def seconds_of(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


@pytest.mark.slow
def test_seconds_of_steps_and_measurements() -> None:
    """Ratios to the reference within a factor of 2: of steps, and of measurements, cheap and deep."""
    measure_config = MeasureConfig(deep=("best_response", "gradients", "quality"), num_deep_density_nodes=2**14)
    grids = truth.grid_cells(RING, measure_config.bandwidth), measure.deep_grids(RING, measure_config)
    configs = {label: Config(**fields) for label, fields in TIMED.items()}
    calibration = cost.calibrate(configs.values())
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    expected: dict[tuple[str, str], float] = {}
    for label, config in configs.items():
        many = ensemble.make_ensemble(config, measure_config, grids[0], 2, deep_grids=grids[1])
        runs = many.place(ensemble.stack_runs([RING] * 2, [HParams()] * 2, range(2)))
        held = [many.advance(many.init(runs), runs, 1)]
        each = cost.seconds_per_step(config, calibration)
        num_steps = max(10, int(0.05 / each))

        def advance(many=many, runs=runs, held=held, num_steps=num_steps) -> object:
            held[0] = many.advance(held[0], runs, num_steps)
            return held[0].step

        calls[label, "steps"], expected[label, "steps"] = advance, num_steps * each
        if label in ("reference", "wide"):
            frozen = many.advance(many.init(runs), runs, 50)
            past = measure.Past(*[many.keep_params(frozen)] * 2)
            calls[label, "cheap"] = lambda many=many, runs=runs, s=frozen: many.measure(s, runs)
            calls[label, "deep"] = lambda many=many, runs=runs, s=frozen, past=past: many.measure_deep(s, runs, past)
            expected[label, "cheap"] = cost.seconds_to_measure(config, measure_config, grids[0], 8, calibration)
            expected[label, "deep"] = cost.seconds_to_measure_deep(config, measure_config, grids[1], 8, calibration)[0]
    for call in calls.values():
        seconds_of(call)
    taken = {name: statistics.median(seconds_of(call) for _ in range(5)) for name, call in calls.items()}
    ratios = {name: expected[name] / taken[name] for name in calls}
    print({name: round(ratio, 2) for name, ratio in ratios.items()})
    for name, ratio in ratios.items():
        assert 0.5 < ratio / ratios["reference", "steps"] < 2, name
