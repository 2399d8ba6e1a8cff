"""Any run of any sweep replays bit for bit: alone or among others, in any grouping of steps, measured or not."""

import dataclasses
import functools
import logging
from typing import Any

import jax
import numpy as np
import pytest

from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import Game, make_game
from gandyn.gan.number import HParams
from gandyn.gan.state import State
from gandyn.sweeps import ensemble
from gandyn.truth.measure import MeasureConfig, metrics_of, plan_of

SMALL = Config(gen_width=16, disc_width=16, batch_size=32)
SHALLOW = dataclasses.replace(SMALL, gen_depth=1, disc_depth=1)  # quicker to compile, where blocks are vmapped
LARGE = Config(gen_width=128, disc_width=128, batch_size=256)
RING = targets.ring(num_modes=8, radius=1.0, std=0.1)
MEASURE = MeasureConfig(num_nodes=64, num_density_nodes=1024, keep_samples=8, keep_surface=4)
PLAN = plan_of(MEASURE, deep=False)
STEPS = 200
MANY = 64
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "collective-broadcast", "reduce-scatter")


def game_of(config: Config, seed: int) -> Game:
    """Every run has rates of its own, so that a mix-up of runs is seen."""
    return make_game(RING, config, HParams(lr_gen=1e-3 * (1 + seed / 100), lr_disc=2e-3 / (1 + seed / 100)))


@dataclasses.dataclass
class Many:
    """Runs of an ensemble in training, told by their seeds; `diverging` seeds get a learning rate that gives NaN."""

    config: Config
    seeds: list[int]
    block_size: int = 1
    num_devices: int = 2
    diverging: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        devices = jax.local_devices()[: self.num_devices]
        self.ensemble = ensemble.make_ensemble(self.config, PLAN, len(self.seeds), self.block_size, devices)
        diverging = make_game(RING, self.config, HParams(lr_gen=1e30, lr_disc=1e30))
        games = [diverging if seed in self.diverging else game_of(self.config, seed) for seed in self.seeds]
        self.runs = self.ensemble.place(ensemble.stack_runs(games, self.seeds))
        self.states: State = self.ensemble.init(self.runs)

    def advance(self, *steps: int) -> "Many":
        for num_steps in steps:
            self.states = self.ensemble.advance(self.states, self.runs, num_steps)
        return self

    def measure(self) -> dict[int, Any]:
        found = self.ensemble.trim(self.ensemble.measure(self.states, self.runs))
        names = metrics_of(PLAN, game_of(self.config, 0))
        metrics = {name: found.metrics[:, i] for i, name in enumerate(names)}
        found = found._asdict() | {"metrics": metrics}
        return {seed: jax.tree.map(lambda leaf, i=i: leaf[i], found) for i, seed in enumerate(self.seeds)}

    def bits(self) -> dict[int, list[np.ndarray]]:
        """Seed -> every array of its state."""
        states = dataclasses.replace(self.states, key=jax.random.key_data(self.states.key))
        leaves = jax.tree.leaves(self.ensemble.trim(states))
        return {seed: [leaf[i] for leaf in leaves] for i, seed in enumerate(self.seeds)}


def same(one: Any, other: Any) -> bool:
    """The same bits, NaN included."""
    one, other = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(one) == len(other) and all(
        a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True)
    )


def assert_same(got: dict[int, Any], want: dict[int, Any], but: tuple[int, ...] = ()) -> None:
    shared = [seed for seed in got if seed in want and seed not in but]
    assert shared
    differ = [seed for seed in shared if not same(got[seed], want[seed])]
    assert not differ, f"runs {differ} of {shared} have other bits"


@functools.cache
def reference() -> dict[int, list[np.ndarray]]:
    """64 runs at once, 200 steps in one call, two devices."""
    return Many(SMALL, list(range(MANY))).advance(STEPS).bits()


@functools.cache
def block_reference() -> dict[int, list[np.ndarray]]:
    """Eight runs in two blocks of four on one device."""
    return Many(SHALLOW, list(range(8)), block_size=4, num_devices=1).advance(50).bits()


class TestOneRunABlock:
    @pytest.mark.slow
    def test_runs_differ_from_one_another_and_from_their_start(self):
        start = Many(SMALL, list(range(MANY))).bits()
        first_leaves = {bits[0].tobytes() for bits in reference().values()}
        assert len(first_leaves) == MANY
        assert not any(same(reference()[seed][:2], start[seed][:2]) for seed in start)

    @pytest.mark.slow
    def test_again(self):
        assert_same(Many(SMALL, list(range(MANY))).advance(STEPS).bits(), reference())

    @pytest.mark.slow
    def test_however_the_steps_are_grouped(self):
        assert_same(Many(SMALL, list(range(MANY))).advance(1, 7, 92, 100).bits(), reference())
        assert_same(Many(SMALL, list(range(MANY))).advance(0, 199, 0, 1).bits(), reference())

    @pytest.mark.parametrize("seed", [0, 17, 63])
    @pytest.mark.quick(1)
    def test_alone(self, seed):
        assert_same(Many(SMALL, [seed]).advance(STEPS).bits(), reference())

    def test_alone_step_by_step(self):
        assert_same(Many(SMALL, [5]).advance(*[1] * STEPS).bits(), reference())

    def test_at_any_position(self):
        order = np.random.default_rng(0).permutation(MANY).tolist()
        assert_same(Many(SMALL, order).advance(STEPS).bits(), reference())

    @pytest.mark.parametrize("num_devices", [1, 2])
    @pytest.mark.slow
    def test_devices_and_padding(self, num_devices):
        # Three runs on two devices: padded to four.
        assert_same(Many(SMALL, [40, 2, 21], num_devices=num_devices).advance(STEPS).bits(), reference())

    def test_a_neighbour_that_diverges(self):
        seeds = list(range(MANY))
        many = Many(SMALL, seeds, diverging=(5, 63)).advance(STEPS)
        got = many.bits()
        assert_same(got, reference(), but=(5, 63))
        assert all(not np.isfinite(got[seed][0]).all() for seed in (5, 63))

    @pytest.mark.slow
    def test_a_diverged_run_is_flagged_and_its_neighbours_are_measured_alike(self):
        with_nan = Many(SMALL, [0, 1, 2, 3], diverging=(2,)).advance(20).measure()
        without = Many(SMALL, [0, 1, 2, 3]).advance(20).measure()
        assert_same(with_nan, without, but=(2,))
        assert [float(found["metrics"]["finite"]) for found in with_nan.values()] == [1, 1, 0, 1]

    @pytest.mark.slow
    def test_the_large_networks_too(self):
        want = Many(LARGE, [0, 1, 2, 3]).advance(12).bits()
        assert_same(Many(LARGE, [0, 1, 2, 3]).advance(1, 4, 7).bits(), want)
        assert_same(Many(LARGE, [3]).advance(12).bits(), want)
        assert_same(Many(LARGE, [2, 0, 1]).advance(5, 7).bits(), want)
        got = Many(LARGE, [1, 3, 0, 2], diverging=(3,)).advance(12).bits()
        assert_same(got, want, but=(3,))


# Between them everything that a run remembers from step to step: statistics, averages, slow weights, past gradients.
REMEMBERING = {
    "batch normalization, average, lookahead": {
        "gen_norm": "batch", "disc_norm": "batch", "gen_average": "ema", "lookahead": 3, "rule": "unrolled",
        "unroll_steps": 2, "schedule": "cosine",
    },
    "spectral, past gradients, noise, packs": {
        "disc_norm": "spectral", "rule": "past_extragradient", "instance_noise": "annealed", "packing": 2,
        "top_k": True, "real_batch": "stratified", "gen_optimizer": "optimistic_adam",
    },
    "classes, Fourier features, data set, best response": {
        "num_classes": 2, "conditioning": "projection", "disc_fourier": 8, "dataset_size": 50, "penalties": ("dragan",),
        "rule": "best_response", "disc_steps": 4,
    },
    "a penalty's averages, uniform average, lookahead over past gradients": {
        "penalties": ("lecam", "r1"), "gen_average": "uniform", "lookahead": 2, "rule": "past_extragradient",
        "track_path": True,
    },
    "competitive": {"rule": "competitive", "gen_optimizer": "sgd", "disc_optimizer": "sgd"},
}  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [pytest.param(each, id=label, marks=[pytest.mark.slow]) for label, each in REMEMBERING.items()],
)
def test_everything_that_is_remembered_replays(fields):
    """In one piece, in pieces, alone, elsewhere, beside a run that diverges, measured or not."""
    config = dataclasses.replace(SHALLOW, **fields)
    want = Many(config, [0, 1, 2, 3]).advance(24).bits()
    assert len({bits[0].tobytes() for bits in want.values()}) == 4
    assert_same(Many(config, [0, 1, 2, 3]).advance(1, 4, 19).bits(), want)
    assert_same(Many(config, [2]).advance(24).bits(), want)
    assert_same(Many(config, [3, 0, 1, 2], diverging=(1,)).advance(11, 13).bits(), want, but=(1,))


# docs/decisions.md, 25: to be mended.
@pytest.mark.slow
@pytest.mark.parametrize("fields", REMEMBERING.values(), ids=REMEMBERING)
def test_measuring_what_is_remembered(fields):
    """It changes nothing, and gives the same alone as among others."""
    config = dataclasses.replace(SHALLOW, **fields)
    want = Many(config, [0, 1, 2]).advance(24).bits()
    many = Many(config, [0, 1, 2]).advance(12)
    found = many.measure()
    assert_same(many.advance(12).bits(), want)
    assert_same(Many(config, [1]).advance(12).measure(), found)


class TestMeasuring:
    @pytest.mark.slow
    def test_changes_nothing_in_training_and_agrees_at_common_steps(self):
        often, seldom, never = (Many(SMALL, [0, 1, 2, 3]) for _ in range(3))
        found = [often.advance(10).measure() for _ in range(100)]
        once = seldom.advance(1000).measure()
        assert_same(found[-1], once)
        assert_same(often.bits(), seldom.bits())
        assert_same(seldom.bits(), never.advance(1000).bits())
        # Each step draws nodes of its own: no two measurements share their noise.
        assert len({float(each[0]["metrics"]["value_batch"]) for each in found}) == 100

    @pytest.mark.slow
    def test_again_gives_the_same(self):
        many = Many(SMALL, [0, 1, 2, 3]).advance(10)
        assert_same(many.measure(), many.measure())

    def test_among_others(self):
        want = Many(SMALL, [0, 1, 2, 3]).advance(10).measure()
        assert_same(Many(SMALL, [9, 2, 1]).advance(10).measure(), want)

    def test_alone(self):
        want = Many(SMALL, [0, 1, 2, 3]).advance(10).measure()
        for seed in want:
            assert_same(Many(SMALL, [seed]).advance(10).measure(), want)

    @pytest.mark.slow
    def test_devices(self):
        # The program is compiled for one device instead of two.
        want = Many(SMALL, [0, 1, 2, 3]).advance(10).measure()
        assert_same(Many(SMALL, [1, 3], num_devices=1).advance(10).measure(), want)


@pytest.mark.slow
class TestBlocksOfSeveralRuns:
    def block(self, seeds: list[int], diverging: tuple[int, ...] = (), num_devices: int = 1) -> dict[int, Any]:
        return Many(SHALLOW, seeds, 4, num_devices, diverging).advance(50).bits()

    def test_whatever_shares_the_block_and_wherever_in_it(self):
        want = block_reference()
        assert_same(self.block([7, 2, 0, 5]), want)
        assert_same(self.block([3, 6, 1, 4, 0, 2, 5, 7]), want)

    def test_padding_never_leaks(self):
        want = block_reference()
        for seeds in ([6], [1, 5], [4, 3, 2, 1, 0]):
            got = self.block(seeds)
            assert list(got) == seeds
            assert_same(got, want)

    def test_a_neighbour_in_the_block_that_diverges(self):
        got = self.block([0, 1, 2, 3], diverging=(1,))
        assert_same(got, block_reference(), but=(1,))
        assert not np.isfinite(got[1][0]).all()

    @pytest.mark.slow
    def test_devices(self):
        # Not the same bits: programs for one and for two devices pass through different compiler pipelines, which round
        # batched products differently. (With blocks of one run, the default on CPU, they agree bit for bit.)
        want = block_reference()
        for seed, leaves in self.block([0, 1, 2, 3, 4, 5], num_devices=2).items():
            for got, expected in zip(leaves, want[seed], strict=True):
                np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)

    def test_however_the_steps_are_grouped(self):
        assert_same(Many(SHALLOW, list(range(8)), 4, 1).advance(1, 7, 42).bits(), block_reference())

    @pytest.mark.slow
    def test_the_large_networks_too(self):
        want = Many(LARGE, list(range(8)), 4, 1).advance(6).bits()
        assert_same(Many(LARGE, [6, 2, 0, 7], 4, 1).advance(2, 4).bits(), want)
        assert_same(Many(LARGE, [5], 4, 1).advance(6).bits(), want)
        assert_same(Many(LARGE, [4, 1, 3, 0], 4, 1, diverging=(1,)).advance(6).bits(), want, but=(1,))


class TestPrograms:
    @pytest.mark.slow
    def test_a_sweep_over_rates_and_targets_compiles_once(self, caplog):
        config = dataclasses.replace(SHALLOW, batch_size=24)  # a program that no other test has

        def sweep(i: int, rate: float, radii: list[float]) -> list[str]:
            """What is compiled."""
            many = ensemble.make_ensemble(config, PLAN, 4, devices=jax.local_devices())
            rings = [targets.ring(num_modes=8, radius=radius, std=0.1) for radius in radii]
            games = [make_game(ring, config, HParams(lr_gen=rate, lr_disc=2 * rate)) for ring in rings]
            runs = many.place(ensemble.stack_runs(games, range(4)))
            states = many.init(runs)
            caplog.clear()
            with jax.log_compiles(), caplog.at_level(logging.DEBUG, "jax"):
                many.advance(states, runs, 1 + i)
            messages = [record.getMessage() for record in caplog.records]
            return [message for message in messages if "Compiling" in message]

        assert len(sweep(0, 1e-5, [1.0] * 4)) == 1
        for i, rate in enumerate(np.geomspace(1e-4, 1e-1, 9).tolist(), start=1):
            assert sweep(i, rate, [1.0] * 4) == []
        assert sweep(0, 1e-3, [0.5, 1.0, 1.5, 2.0]) == []

    @pytest.mark.parametrize("block_size", [1, 4])
    @pytest.mark.quick(1)
    def test_no_collective_operation_in_advance(self, block_size):
        config, seeds = (SMALL, range(4)) if block_size == 1 else (SHALLOW, range(8))
        many = Many(config, list(seeds), block_size)
        assert len(many.ensemble.devices) == 2
        program: Any = ensemble._advance_program(config.precision, many.ensemble.devices, block_size)
        text = program.lower(np.array([0, 1], np.int32), many.states, many.runs, np.int32(3)).compile().as_text()
        assert "while" in text
        assert [name for name in COLLECTIVES if name in text] == []

    def test_the_words_searched_for_are_those_of_a_program_that_communicates(self):
        mesh = jax.sharding.Mesh(np.array(jax.local_devices()[:2]), ("runs",))
        spec = jax.sharding.PartitionSpec("runs")
        summed = jax.shard_map(
            lambda x: x + jax.lax.psum(x, "runs"), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
        )
        text = jax.jit(summed).lower(np.ones(4, np.float32)).compile().as_text()
        assert "all-reduce" in str(text)

    def test_a_block_of_one_is_the_default_on_cpu_and_every_device_takes_part(self):
        many = ensemble.make_ensemble(SMALL, PLAN, 5)
        assert (many.block_size, many.rows.tolist(), len(many.devices)) == (1, [0, 1, 2, 3, 4, 5], 2)
        one = ensemble.make_ensemble(SMALL, PLAN, 1)
        assert (one.block_size, one.rows.tolist(), len(one.devices)) == (1, [0, 1, 1, 1], 2)

    @pytest.mark.parametrize("field", ["num_runs", "block_size"])
    @pytest.mark.parametrize("value", [0, -1, 2.5])
    def test_refusals(self, field, value):
        arguments: dict[str, Any] = {"num_runs": 4, "block_size": 1} | {field: value}
        with pytest.raises(ValueError, match=f"{field}: got {value}; allowed: a whole number of at least 1"):
            ensemble.make_ensemble(SMALL, PLAN, **arguments)


class TestKeys:
    @pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
    def test_threefry_whatever_the_default(self, impl):
        with jax.default_prng_impl(impl):
            runs = ensemble.stack_runs([game_of(SMALL, 0)] * 2, [0, 1])
            assert str(jax.random.key_impl(runs.key)) == "threefry2x32"

    def test_the_same_bits_under_another_default(self):
        want = Many(SMALL, [0, 1, 2, 3]).advance(3).bits()
        with jax.default_prng_impl("rbg"):
            assert_same(Many(SMALL, [0, 1, 2, 3]).advance(3).bits(), want)

    def test_a_seed_is_a_run(self):
        runs = ensemble.stack_runs([game_of(SMALL, 0)] * 3, [7, 8, 7])
        data = np.asarray(jax.random.key_data(runs.key))
        np.testing.assert_array_equal(data[0], data[2])
        assert not np.array_equal(data[0], data[1])

    def test_largest_seed(self):
        data = np.asarray(jax.random.key_data(ensemble.stack_runs([game_of(SMALL, 0)], [2**32 - 1]).key))
        np.testing.assert_array_equal(
            data[0], np.asarray(jax.random.key_data(jax.random.key(2**32 - 1, impl="threefry2x32")))
        )
