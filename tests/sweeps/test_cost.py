"""What a sweep will cost: bytes against shapes, sums of estimates, seconds against time."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import gandyn
from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import make_game
from gandyn.gan.step import init
from gandyn.sweeps import cost, ensemble
from gandyn.sweeps.sweep import Setting
from gandyn.truth import measure
from gandyn.truth.measure import MeasureConfig, Past

RING = targets.ring()
OFTEN, ALL = MeasureConfig(deep=()), MeasureConfig(deep=("best_response_deep", "gradients", "quality"))
# Measurements that trace in a moment.
LITTLE = MeasureConfig(measurements=(), deep=())
SGD: dict[str, Any] = {"gen_optimizer": "sgd", "disc_optimizer": "sgd"}


def setting(target: Any = RING, **fields: Any) -> Setting:
    game = make_game(target, Config(**fields))
    return Setting("one", target, game.config, game.hparams)


def work_of(measure_config: MeasureConfig = LITTLE, **fields: Any) -> cost.Work:
    return cost.works([setting(**fields)], measure_config)[0]


STATES: dict[str, dict[str, Any]] = {
    "default": {},
    "average": {"gen_average": "ema", "gen_norm": "batch", "disc_norm": "spectral"},
    "data": {"dataset_size": 100, "num_classes": 4},
    "past": {"rule": "past_extragradient", "lookahead": 5, "track_path": True},
}


@pytest.mark.parametrize("kind", STATES)
def test_bytes_of_a_state(kind: str) -> None:
    one = setting(**STATES[kind])
    key = jax.eval_shape(lambda: jax.random.key(0, impl="threefry2x32"))
    leaves = jax.tree.leaves(jax.eval_shape(init, one.game, key))
    expected = sum(
        8 if leaf.ndim == 0 and leaf.size == 1 and "key" in str(leaf.dtype) else leaf.size * 4 for leaf in leaves
    )
    flags = sum(3 * leaf.size for leaf in leaves if leaf.dtype == bool)
    assert cost.state_bytes([one]) == [expected - flags]


def test_states_of_many_sizes_take_a_few_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    trace = cost._trace_state
    monkeypatch.setattr(cost, "_trace_state", lambda kinds, point: asked.append(point) or trace(kinds, point))
    many = [setting(gen_width=width, disc_width=300 - width) for width in range(8, 72)]
    found = cost.state_bytes(many)
    assert len(asked) <= 3
    assert found[::20] == pytest.approx([cost.state_bytes([one])[0] for one in many[::20]], rel=1e-6)


class Own(nn.Module):
    """A discriminator of its own: four times as many products as one layer of its width has."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(self.width)(x)
        for _ in range(4):
            x = nn.Dense(self.width, use_bias=False, name=None)(jnp.sin(x))
        return nn.Dense(1)(x)[:, 0]


def test_parts_of_ones_own_cost_what_they_do() -> None:
    loss = gandyn.Loss(
        "mine",
        disc=lambda real, fake, numbers: jnp.mean(jnp.square(real - 1)) + numbers.gamma * jnp.mean(jnp.square(fake)),
        gen=lambda real, fake, numbers: jnp.mean(jnp.square(fake - 1)),
        numbers={"gamma": gandyn.Number(1.0)},
    )
    squares = lambda at, numbers: numbers.push_weight * jnp.mean(at.disc(at.real) ** 2)  # noqa: E731
    push = gandyn.Penalty("push", term=squares, numbers={"push_weight": gandyn.Number(1.0, low=0)})
    plain = work_of(loss=loss, disc=Own(32), batch_size=64).step
    wider = work_of(loss=loss, disc=Own(128), batch_size=64).step
    more = work_of(loss=loss, disc=Own(128), batch_size=64, penalties=(push,)).step
    layers = lambda width: 2 * 64 * (4 * width**2 + 3 * width)  # noqa: E731
    # D's gradient three passes of two minibatches, G's two of one.
    assert wider["flops"] - plain["flops"] == pytest.approx(8 * (layers(128) - layers(32)), rel=0.05)
    assert wider["calls"] > 5 * 4 * 64 * 128  # sines, forth and back
    # The penalty's way forth is the loss's, the same network on the same samples; its way back, two passes, is its own.
    assert more["flops"] - wider["flops"] == pytest.approx(2 * layers(128), rel=0.05)


# ---- sums


def estimate_of(work: cost.Work, **how: Any) -> cost.Estimate:
    given: dict[str, Any] = {"num_runs": 4, "num_steps": 100, "measure_every": 10}
    return cost.estimate(work, **given | how)


WORK = cost.Work(
    step={"flops": 1e9, "peak": 1e6, "state": 1e5, "params": 3e4, "equations": 500.0, "init": 50.0},
    often={"flops": 1e10, "peak": 5e6, "recorded": 20.0, "host": 0.0},
    deep={"flops": 1e11, "peak": 7e6, "recorded": 30.0, "host": 0.5},
    programs={("init", 1): 50.0, ("advance", 1): 500.0, ("often", 1): 1000.0, ("deep", 1): 4000.0},
)
for _counts in (WORK.step, WORK.often, WORK.deep):
    _counts.update({name: 0.0 for name in cost.Rates._fields if name not in _counts})


def test_seconds_of_a_group() -> None:
    flops = cost.REFERENCE.rates.flops
    base = estimate_of(WORK)
    assert base.run_steps == 400
    assert base.training == pytest.approx(2 * 100 * 1e9 * flops)
    assert base.measuring == pytest.approx(11 * (cost._CALL + 2 * 1e10 * flops))
    assert estimate_of(WORK, num_runs=3).training == base.training  # a device waits for the other
    blocks = cost.REFERENCE._replace(num_devices=1, block_size=128)
    assert estimate_of(WORK, num_runs=1, calibration=blocks).training == pytest.approx(128 * 100 * 1e9 * flops)
    slow = cost.REFERENCE._replace(rates=cost.Rates(*(2 * rate for rate in cost.REFERENCE.rates)), slower=2.0)
    assert estimate_of(WORK, calibration=slow).training == pytest.approx(2 * base.training)
    assert estimate_of(WORK, calibration=slow).compiling == pytest.approx(2 * base.compiling)
    deep = estimate_of(WORK, deep_every=50)
    assert deep.measuring - base.measuring == pytest.approx(3 * (cost._CALL + 2 * 1e11 * flops + 4 * 0.5))
    assert [name[0] for name in deep.programs] == ["init", "advance", "often", "deep"]
    assert [name[0] for name in base.programs] == ["init", "advance", "often"]
    assert deep.seconds == pytest.approx(deep.training + deep.measuring + deep.compiling)


def test_bytes_of_a_group() -> None:
    base, more = estimate_of(WORK), estimate_of(WORK, num_runs=104)
    assert base.disk_bytes == 4 * 4 * 20 * 11
    assert estimate_of(WORK, deep_every=50).disk_bytes == 4 * 4 * 50 * 11
    assert estimate_of(WORK, in_memory=True).host_bytes == base.disk_bytes > base.host_bytes
    assert more.device_bytes - base.device_bytes == pytest.approx(100 * (2.6 * 1e5 + 2 * 4 * 20))
    assert base.device_bytes > 2 * 2 * 7e6


def test_programs_are_shared_as_ensembles_share_them() -> None:
    kinds: tuple[dict[str, Any], ...] = (
        {},
        {"loss": "hinge"},
        {"gen_optimizer": "sgd"},
        {"batch_size": 64},
        {"gen_width": 64},
    )
    base, loss, optimizer, batch, width = (set(work_of(**fields).programs) for fields in kinds)
    names = lambda programs: sorted(name for name, _ in programs)  # noqa: E731
    assert names(base) == ["advance", "init", "often"]
    assert names(base & loss) == ["often"]
    assert names(base & optimizer) == ["often"]
    assert names(base & batch) == ["init"]
    assert not base & width


@pytest.mark.slow
def test_numbers_on_disk() -> None:
    measure_config = dataclasses.replace(ALL, keep_samples=10, keep_surface=4)
    one = setting(gen_width=16, disc_width=16)
    (work,) = cost.works([one], measure_config)
    for counts, deep in ((work.often, False), (work.deep, True)):
        plan = measure.plan_of(measure_config, deep=deep)
        fields = measure.fields_of(plan, one.game).values()
        expected = len(measure.metrics_of(plan, one.game)) + sum(math.prod(field.shape) for field in fields)
        assert counts["recorded"] == expected


def test_a_plan_of_many_traces_few(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    for name in ("_trace_step", "_trace_measure"):
        trace = getattr(cost, name)
        monkeypatch.setattr(cost, name, lambda *args, name=name, trace=trace: asked.append(name) or trace(*args))
    many = [setting(gen_width=8 + i, disc_width=8 + j) for i in range(30) for j in range(30)]
    found = cost.works(many, LITTLE)
    assert asked.count("_trace_step") == 3
    assert asked.count("_trace_measure") <= 5
    assert found[-1].step["flops"] > 4 * found[0].step["flops"]
    assert len({name for work in found for name in work.programs}) == 3 * 900


def test_calibration_is_kept() -> None:
    found = cost.calibrate()
    assert cost.calibrate() is found
    assert found.num_devices == len(jax.local_devices())
    assert all(0.02 < rate / known < 50 for rate, known in zip(found.rates, cost.REFERENCE.rates, strict=True))


# ---- seconds, against the clock

TIMED: dict[str, dict[str, Any]] = {
    "reference": {"gen_width": 64, "disc_width": 64},
    "wide": {"gen_width": 160, "disc_width": 96, "batch_size": 192},
    "narrow": {"gen_width": 20, "disc_width": 40, "batch_size": 64},
    "penalty, D deep": {"gen_width": 32, "disc_width": 64, "disc_depth": 4, "penalties": ("wgan_gp",), "disc_steps": 3},
    "second order": {"gen_width": 48, "disc_width": 48, "rule": "consensus"} | SGD,
    "packs of maxout": {"gen_width": 32, "disc_width": 32, "disc_net": "maxout", "packing": 3, "gen_norm": "batch"},
    "unrolled": {"gen_width": 40, "disc_width": 40, "rule": "unrolled", "unroll_steps": 4, "loss": "minimax"},
    "runge_kutta": {"gen_width": 96, "disc_width": 96, "rule": "runge_kutta", "penalties": ("r1",)} | SGD,
    "tanh, residual": {"gen_net": "residual", "gen_width": 64, "disc_width": 64, "disc_activation": "tanh"},
    "own network": {"gen_width": 64, "disc": Own(64), "penalties": ("r1", "l2")},
}


MOST_ROUNDS = 100


def seconds_of(call: Callable[[], object]) -> float:
    """Of the processor on each device, so that what else the machine does counts less."""
    start = time.process_time()
    jax.block_until_ready(call())
    return (time.process_time() - start) / len(jax.local_devices())


@pytest.mark.slow
def test_seconds_of_steps_and_measurements() -> None:
    """Ratios to the reference within a factor of 2: of steps, and of measurements, often and in depth."""
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    expected: dict[tuple[str, str], float] = {}
    settings = {label: setting(**fields) for label, fields in TIMED.items()}
    for label, one in settings.items():
        measured = ALL if label in ("reference", "wide") else LITTLE
        (work,) = cost.works([one], measured)
        often, deep = (
            measure.plan_of(measured, deep=d) if d in (False, bool(measured.deep)) else None for d in (False, True)
        )
        assert often is not None
        many = ensemble.make_ensemble(one.config, often, 2, in_depth=deep)
        runs = many.place(ensemble.stack_runs([one.game] * 2, range(2)))
        held = [many.advance(many.init(runs), runs, 1)]
        each = cost.REFERENCE.seconds(work.step)
        num_steps = max(10, int(0.05 / each))

        def advance(many=many, runs=runs, held=held, num_steps=num_steps) -> object:
            held[0] = many.advance(held[0], runs, num_steps)
            return held[0].step

        calls[label, "steps"], expected[label, "steps"] = advance, num_steps * each
        if deep is not None:
            frozen = many.advance(many.init(runs), runs, 50)
            past = Past(*[many.keep_params(frozen)] * 2)
            calls[label, "often"] = lambda many=many, runs=runs, s=frozen: many.measure(s, runs)
            calls[label, "deep"] = lambda many=many, runs=runs, s=frozen, past=past: many.measure(s, runs, past=past)
            expected[label, "often"] = cost.REFERENCE.seconds(work.often)
            expected[label, "deep"] = cost.REFERENCE.seconds(work.deep)
    for call in calls.values():
        seconds_of(call)
    taken = dict.fromkeys(calls, float("inf"))
    for number in range(MOST_ROUNDS):  # the least of many is what an idle machine takes: a busy one needs more of them
        taken = {name: min(taken[name], seconds_of(call)) for name, call in calls.items()}
        ratios = {name: expected[name] / taken[name] for name in calls}
        middle = statistics.median(ratios.values())
        if number >= 6 and all(0.5 < ratio / middle < 2 for ratio in ratios.values()):
            break
    print({name: round(ratio / middle, 2) for name, ratio in ratios.items()}, round(middle, 2))
    for name, ratio in ratios.items():
        assert 0.5 < ratio / middle < 2, name
