"""A person's own measurement: complete as one object, taken beside the others, moving none of their numbers."""

import dataclasses
import functools
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import haste
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from measuring import AFFINE, IDENTITY, NORMAL, affine, measured, start, state_of, traced

import gandyn
from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import Game, make_game
from gandyn.gan.state import State, Stream
from gandyn.gan.step import step
from gandyn.truth import measure
from gandyn.truth.measure import FieldSpec, HostView, MeasureConfig, Measurement, Past, View

RING = targets.ring(std=0.1)
SMALL = Config(gen_width=8, gen_depth=1, disc_width=8, disc_depth=1, batch_size=16)
QUICK = MeasureConfig(
    num_nodes=64, num_density_nodes=1024, num_deep_nodes=64, num_deep_density_nodes=1024,
    num_transport=32, num_quality=64, num_gradients=2,
)  # fmt: skip
IN_DATA = {"long_name": "spread of G's samples", "units": "data"}


def _spread(view: View, key: jax.Array) -> dict[str, Any]:
    away = view.fake - jnp.mean(view.fake, axis=0)[None, :]
    return {"spread": jnp.sqrt(jnp.mean(away**2)), "drawn": jax.random.normal(key, (3,))}


SPREAD = Measurement(
    "spread",
    {"spread": IN_DATA},
    _spread,
    fields={"drawn": FieldSpec(("draw",), (3,), {"long_name": "draws", "units": "1"})},
    axes=lambda options: {"draw": [0, 1, 2]},
    reads="networks",
)


def _gathered(view: View, key: jax.Array) -> dict[str, Any]:
    return {"width": jnp.max(view.samples[:, 0]), "points": view.samples[:50]}


def _median(view: HostView) -> dict[str, Any]:
    return {"median": np.median(view.found["points"][:, 0]), "sorted": np.sort(view.found["points"][:, 0])}


ON_HOST = Measurement(
    "on_host",
    {"width": IN_DATA, "median": IN_DATA},
    _gathered,
    fields={"sorted": FieldSpec(("rank",), (50,), {})},
    host=_median,
)


def of(measurement: Measurement, deep: bool) -> MeasureConfig:
    """It alone, in one cadence."""
    return dataclasses.replace(QUICK, measurements=() if deep else (measurement,), deep=(measurement,) if deep else ())


class TestTaking:
    GAME = make_game(NORMAL, AFFINE)

    @pytest.mark.parametrize("deep", [False, True])
    def test_metrics_and_fields(self, deep):
        state = state_of(self.GAME, affine(1.7 * IDENTITY, [3, 4]))
        metrics, fields = measured(self.GAME, state, of(SPREAD, deep), deep)
        assert metrics["spread"] == pytest.approx(1.7, rel=2e-2)
        # Its key is its own: of the run, the cadence's stream, the step and its name.
        stream = Stream.DEEP if deep else Stream.MEASURE
        key = jax.random.fold_in(jax.random.fold_in(state.key, stream), state.step)
        want = jax.random.normal(jax.random.fold_in(key, zlib.crc32(b"spread")), (3,))
        np.testing.assert_array_equal(fields["drawn"], want)

    def test_a_part_on_the_host(self):
        metrics, fields = measured(self.GAME, state_of(self.GAME, affine(IDENTITY, [0, 0])), of(ON_HOST, True), True)
        assert metrics["median"] == np.median(fields["sorted"])
        assert np.all(np.diff(fields["sorted"]) >= 0)
        assert fields["sorted"][-1] <= metrics["width"]

    def test_axes_and_marks(self):
        plan = measure.plan_of(of(SPREAD, False), False)
        assert measure.axes_of(plan, self.GAME) == {"draw": [0, 1, 2]}
        found = measure.metrics_of(plan, self.GAME)
        assert found["spread"] == {**IN_DATA, "measurement": "spread"}  # who brought it
        assert "measurement" not in found["loss_disc"]


@functools.cache
def everything(
    extra: tuple[Measurement, ...], deep: bool, compiler: Callable
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """All that is measured after three steps."""
    game = make_game(RING, dataclasses.replace(SMALL, gen_average="ema", track_path=True))
    names = QUICK.deep if deep else QUICK.measurements
    options = dataclasses.replace(QUICK, **{"deep" if deep else "measurements": (*names, *extra)})
    state = start(game)
    past = Past(state.params, state.params)
    for _ in range(3):
        state = _step(traced(game), state)
    return measured(game, state, options, deep, past, compiler)


_step = haste.jit(step)
NAMED = Measurement("aaa", {"aaa": {}}, lambda view, key: {"aaa": jnp.mean(view.real)})  # before all others, and "all"


@pytest.mark.parametrize(
    ("extra", "deep", "compiler"),
    [
        ((SPREAD,), False, haste.jit),
        # As programs are compiled in use.
        pytest.param((SPREAD,), False, jax.jit, marks=pytest.mark.slow),
        pytest.param((SPREAD, NAMED, ON_HOST), True, jax.jit, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_another_measurement_moves_no_number(extra, deep, compiler):
    """To the bit, whatever it draws, shares and reads."""
    plain, plain_fields = everything((), deep, compiler)
    both, both_fields = everything(extra, deep, compiler)
    assert both.keys() - plain.keys() == {"spread"} | ({"aaa", "width", "median"} if deep else set())
    for name, value in plain.items():
        np.testing.assert_array_equal(both[name], value, err_msg=name)
    for name, value in plain_fields.items():
        np.testing.assert_array_equal(both_fields[name], value, err_msg=name)


@pytest.mark.slow
def test_in_a_sweep(tmp_path):
    """Both cadences, through storage; training and all other numbers are the same to the bit."""

    def run(out, often, deep):
        options = dataclasses.replace(QUICK, measurements=("value", *often), deep=("gradients", *deep))
        return gandyn.run(
            RING, SMALL, seeds=[0, 1], num_steps=4, measure_every=2, deep_every=4, measure_config=options,
            progress=False, out=tmp_path / out,
        )  # fmt: skip

    with haste.everywhere():
        plain, both = run("plain", (), ()), run("both", (SPREAD,), (ON_HOST,))
    for name in plain.data_vars:
        np.testing.assert_array_equal(both[name], plain[name], err_msg=str(name))
    assert both.spread.dims == ("run", "step")
    assert both.spread.attrs["measurement"] == "spread"
    assert np.isfinite(both.spread).all()
    assert both.drawn.dims == ("run", "step", "draw")
    np.testing.assert_array_equal(both.draw, [0, 1, 2])
    assert np.unique(both.drawn).size == both.drawn.size  # each run and step draws its own
    taken = np.isfinite(both["median"].values)
    np.testing.assert_array_equal(taken, [[True, False, True]] * 2)
    np.testing.assert_array_equal(both["median"].values[taken], np.median(both.sorted.values[taken], axis=-1))
    reopened = gandyn.open_results(tmp_path / "both")
    np.testing.assert_array_equal(reopened.spread, both.spread)


# ---- what is refused


def mine(compute=lambda view, key: {"mine": jnp.zeros(())}, name="mine", metrics=None, **more) -> Measurement:
    return Measurement(name, {"mine": {}} if metrics is None else metrics, compute, **more)


GAP = FieldSpec(("a",), (2,), {})
WRONG_DECLARATIONS = {
    "missing": (mine(lambda view, key: {}), "measurement 'mine': mine: declared, but not computed"),
    "extra": (
        mine(lambda view, key: {"mine": 0.0, "other": 0.0}),
        "measurement 'mine': other: computed, but not declared",
    ),
    "shape of a metric": (
        mine(lambda view, key: {"mine": jnp.zeros(3)}),
        r"measurement 'mine': mine: got shape \(3,\); allowed: \(\), as declared",
    ),
    "shape of a field": (
        mine(lambda view, key: {"mine": 0.0, "field": jnp.zeros(3)}, fields={"field": GAP}),
        r"measurement 'mine': field: got shape \(3,\); allowed: \(2,\), as declared",
    ),
    "missing on the host": (
        mine(lambda view, key: {"points": view.samples}, host=lambda view: {}),
        "measurement 'mine': mine: declared, but not computed",
    ),
    "extra on the host": (
        mine(host=lambda view: {"other": 1.0}),
        "measurement 'mine': other: computed, but not declared",
    ),
    "shape on the host": (
        mine(lambda view, key: {}, host=lambda view: {"mine": np.zeros(2)}),
        r"measurement 'mine': mine: got shape \(2,\); allowed: \(\), as declared",
    ),
    "attributes": (
        mine(metrics=lambda subject: {"mine": {"units": 1}}),
        "measurement 'mine': 'mine': got {'units': 1}",
    ),
    "twice": (
        mine(metrics={"grad_norm_gen": {}}),
        "measurement 'mine': grad_norm_gen: another measurement records it, too",
    ),
}


@pytest.mark.parametrize("case", WRONG_DECLARATIONS)
def test_what_is_not_as_declared_is_refused(case):
    wrong, message = WRONG_DECLARATIONS[case]
    options = dataclasses.replace(QUICK, measurements=(), deep=("gradients", wrong) if case == "twice" else (wrong,))
    game = make_game(NORMAL, AFFINE)
    with pytest.raises(ValueError, match=message):
        measured(game, start(game), options, deep=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: mine(name="my own"), "measurement: got the name 'my own'"),
        (lambda: mine(metrics={"mine": {"units": 1}}), "measurement 'mine': 'mine': got {'units': 1}; allowed: texts"),
        (lambda: mine(reads="nets"), "reads: got 'nets'; allowed: networks, objectives, all"),
        (
            lambda: mine(metrics={"mine": {"failed": "nothing"}}),
            "measurement 'mine': mine: got failed='nothing'; allowed: a number as text",
        ),
        (lambda: MeasureConfig(measurements=(mine(name="value"),)), "measurements: got one named 'value'; allowed:"),
        (lambda: MeasureConfig(deep=(mine(name="losses"),)), "deep: got one named 'losses'; allowed:"),
        (lambda: MeasureConfig(measurements=(SPREAD, mine(name="spread"))), "measurements: got spread, spread;"),
        (lambda: MeasureConfig(measurements=(SPREAD,), deep=(SPREAD,)), "deep: got spread in measurements, too"),
        (lambda: MeasureConfig(measurements=(ON_HOST,)), "measurements: got 'on_host'; allowed: in deep"),
        (lambda: MeasureConfig(measurements=("coverge",)), "did you mean 'coverage'"),  # pyright: ignore
        (lambda: MeasureConfig(measurements=SPREAD), "measurements: got Measurement("),  # pyright: ignore
    ],
)  # fmt: skip
def test_refusals(wrong, message):
    with pytest.raises(ValueError) as caught:
        wrong()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("often", "deep", "message"),
    [
        ((mine(), mine(name="other")), (), "measurement 'other': mine: another measurement records it, too"),
        ((mine(),), (mine(name="other"),), "deep: mine: a measurement that is taken often records it, too"),
    ],
)
def test_two_that_record_one_metric_are_refused_before_anything_runs(often, deep, message):
    options = dataclasses.replace(QUICK, measurements=often, deep=deep)
    with pytest.raises(ValueError, match=message):
        gandyn.run(RING, SMALL, num_steps=2, measure_every=1, measure_config=options, progress=False)


# ---- where there is no such thing


def recorded(target: Any, deep: bool) -> set[str]:
    return set(measure.metrics_of(measure.plan_of(MeasureConfig(), deep), make_game(target, AFFINE)))


def test_without_modes_there_is_no_coverage():
    uncounted, counted = targets.mixture([[0, 0], [3, 0]], 1.0, groups=()), targets.mixture([[0, 0], [3, 0]], 1.0)
    lost = recorded(counted, False) - recorded(uncounted, False)
    assert lost == {
        f"{name}{end}" for name in ("modes", "high_quality", "mode_tv", "reverse_kl") for end in ("", "_real")
    }
    assert recorded(counted, True) == recorded(uncounted, True)


SPACE = targets.mixture([[0, 0, 0], [2, 0, 1]], 0.5)


def test_out_of_the_plane_densities_transport_and_quality_are_absent():
    often, deep = recorded(SPACE, False), recorded(SPACE, True)
    assert {"loss_disc", "value_batch", "value", "value_se", "modes"} <= often
    assert not [name for name in often | deep if "best" in name or "jsd" in name or "gap" in name or "w1" in name]
    assert {"grad_norm_gen", "moved_gen"} <= deep
    assert not {"mmd", "frechet", "knn_recall"} & deep


def train_in_space(deep: tuple[str | Measurement, ...], out: Path | None = None) -> xr.Dataset:
    config = dataclasses.replace(SMALL, latent_dim=3)
    options = dataclasses.replace(QUICK, deep=deep, keep_samples=5)
    with haste.everywhere():
        return gandyn.run(
            SPACE, config, seeds=[0, 1], num_steps=4, measure_every=2, deep_every=4 if deep else 0,
            measure_config=options, progress=False, out=out,
        )  # fmt: skip


@pytest.mark.slow
def test_points_in_space_train_and_are_measured():
    results = train_in_space(())
    for name in ("loss_disc", "loss_gen"):
        assert np.isfinite(results[name].values[:, 1:]).all()
    for name in ("value", "value_se", "modes", "high_quality"):
        assert np.isfinite(results[name]).all(), name
    assert "jsd" not in results
    assert results.samples.dims == ("run", "step", "sample", "coordinate")
    assert results.samples.shape == (2, 3, 5, 3)
    assert results.target_means.shape == (2, 2, 3)


@pytest.mark.slow
def test_points_in_space_in_depth_and_in_a_report(tmp_path):
    results = train_in_space(QUICK.deep, tmp_path / "space")
    for name in ("grad_norm_gen", "path_norm"):
        assert np.isfinite(results[name].values[:, [0, 2]]).all(), name
    assert "w1" not in results
    gandyn.report.write(gandyn.open_results(tmp_path / "space"), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "How much of a gradient is signal" in page
    assert "Generated samples" not in page  # of which there are no pictures but in the plane


@pytest.mark.slow
def test_value_in_space():
    """G affine, D(x) = w . x: E log sigmoid(D) + E log sigmoid(-D) by quadrature over a normal on a line."""
    target = targets.mixture(np.zeros((1, 3)), 1.0)
    game = make_game(target, dataclasses.replace(AFFINE, loss="minimax", latent_dim=3))
    state = state_of(game, affine(np.eye(3), [1.0, 0, 0]), affine([[-1.0], [0.5], [0.0]], [0.2]))
    got, _ = measured(game, state, MeasureConfig())
    t = np.linspace(-10, 10, 20_001)
    normal = np.exp(-0.5 * t**2) / np.sqrt(2 * np.pi) * (t[1] - t[0])
    slope = np.hypot(1.0, 0.5)
    want = -np.sum(normal * (np.logaddexp(0, -(0.2 + slope * t)) + np.logaddexp(0, 0.2 - 1 + slope * t)))
    assert got["value"] == pytest.approx(want, abs=3.5 * got["value_se"])
    assert got["value_se"] < 2e-3


# ---- programs are shared


TRACES: list[str] = []


def counting(reads: Any) -> Measurement:
    def compute(view: View, key: jax.Array) -> dict[str, Any]:
        TRACES.append(reads)
        return {"counted": jnp.mean(view.samples)}

    return Measurement(f"counting_{reads}", {"counted": {}}, compute, reads=reads)


GAMES: dict[str, dict[str, Any]] = {
    "plain": {},
    "loss": {"loss": "hinge"},
    "numbers": {"loss": "least_squares"},
    "rule": {"rule": "optimistic"},
    "penalties": {"penalties": ("r1", "r2")},
    "optimizer": {"gen_optimizer": "sgd", "disc_optimizer": "adamw"},
    "steps": {"disc_steps": 3, "schedule": "cosine"},
}
SHARING = {"networks": 1, "objectives": 5, "all": len(GAMES)}


@pytest.mark.parametrize("reads", SHARING)
@pytest.mark.quick(1)
def test_programs_are_shared_as_far_as_is_read(reads):
    """One for all where networks alone are read; one a loss, penalty or schedule where objectives are; else each."""
    options = dataclasses.replace(QUICK, measurements=(counting(reads),))
    plan, before = measure.plan_of(options, False), len(TRACES)
    take = haste.jit(functools.partial(measure.measure, plan))

    def run(game: Game, state: State, seen: list[float]) -> None:
        found = take(
            measure.program_game(plan, game),
            measure.program_state(plan, state),
            None,
            np.int32(measure.loss_index(plan, game.config)),
            measure.bits_of(plan, game),
        )
        seen.append(float(found.metrics[list(measure.metrics_of(plan, game)).index("counted")]))

    seen: list[float] = []
    for fields in GAMES.values():
        game = traced(make_game(NORMAL, dataclasses.replace(AFFINE, **fields)))
        run(game, state_of(game, affine(IDENTITY, [0.5, 0])), seen)
    assert TRACES[before:] == [reads] * SHARING[reads]
    assert len(set(seen)) == 1
