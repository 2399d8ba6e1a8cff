"""Deep measurements: closed forms on Gaussians, NaN where nothing is defined, the same bits alone and among others."""

import dataclasses
import functools
import math

import haste
import numpy as np
import pytest
import scipy.stats
from measuring import AFFINE, IDENTITY, NORMAL, affine, measured, start, state_of

import gandyn
from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import make_game
from gandyn.truth.measure import MeasureConfig
from gandyn.truth.value import T_975

RING = targets.ring(std=0.1)
SMALL = Config(gen_width=8, gen_depth=1, disc_width=8, disc_depth=1, batch_size=16)
QUICK = MeasureConfig(
    num_nodes=64, num_density_nodes=1024, num_deep_nodes=64, num_deep_density_nodes=1024,
    num_transport=32, num_quality=64, num_gradients=2,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["minimax", "hinge"])
@pytest.mark.parametrize("d", [0.5, 1.0, 2.0, 3.0])
def test_divergences_and_transport_of_gaussians(d, loss):
    """N((d, 0), I) against N(0, I): JSD, TV = 2 Phi(d/2) - 1, the integral of pq/(p + q), W1 = d; D is linear."""
    game = make_game(NORMAL, dataclasses.replace(AFFINE, loss=loss))
    state = state_of(game, affine(IDENTITY, [d, 0]), affine([[-0.5], [0]], [0.0]))
    got, _ = measured(game, state, MeasureConfig(deep=("best_response_deep", "gap", "transport")), deep=True)
    x = np.linspace(-12, 12 + d, 100_001)
    p, q = scipy.stats.norm.pdf(x), scipy.stats.norm.pdf(x, d)
    overlap = float(np.trapezoid(p * q / (p + q), x))
    jsd = 0.5 * float(np.trapezoid(p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q)), x))
    for name, want in (
        ("jsd_deep", jsd), ("tv", 2 * scipy.stats.norm.cdf(d / 2) - 1), ("triangular", 2 - 4 * overlap)
    ):  # fmt: skip
        assert got[name] == pytest.approx(want, abs=max(2e-3, T_975 * got[f"{name}_se"])), name
    best = {"minimax": 2 * jsd - 2 * math.log(2), "hinge": 2 * (2 * scipy.stats.norm.cdf(d / 2) - 1) - 2}[loss]
    assert got["value_best_deep"] == pytest.approx(best, abs=max(2e-3, T_975 * got["value_best_deep_se"]))
    # D is -x / 2, least and greatest at the box's edges x = 6 and -6. E over x in N(0, 1), once more numerically.
    on = scipy.stats.norm.pdf(x)
    extreme = {
        "minimax": lambda y: -float(np.trapezoid(on * np.log1p(np.exp(x / 2)), x)) - np.log1p(np.exp(y)),
        "hinge": lambda y: -float(np.trapezoid(on * np.maximum(0, 1 + x / 2), x)) - max(0, 1 + y),
    }[loss]
    worst = min(extreme(3.0), extreme(-3.0))
    assert got["value_worst"] == pytest.approx(worst, abs=1e-3 + T_975 * got["value_worst_se"])
    assert got["duality_gap"] == pytest.approx(best - worst, abs=3e-3 + T_975 * got["duality_gap_se"])
    assert got["lipschitz_low"] == pytest.approx(0.5, abs=1e-5)
    assert got["lipschitz_high"] == pytest.approx(0.5, abs=1e-5)
    assert got["critic_w1_low"] == pytest.approx(d, abs=2e-2)  # the mean of 2^15 Sobol nodes
    assert got["w1_low"] - T_975 * got["w1_low_se"] <= d <= got["w1"] + T_975 * got["w1_se"]
    assert got["w1"] == pytest.approx(d, abs=1.5e-2)


@pytest.mark.slow  # the anatomy's test takes most of them
def test_everything_is_measured_and_nothing_is_lacking():
    game = make_game(RING, dataclasses.replace(SMALL, dataset_size=50))
    # That metrics and fields are those that are declared, in shape too, is what `measured` and `measure` see to.
    metrics, fields = measured(game, start(game), QUICK, deep=True)
    assert {name for name, value in metrics.items() if not np.isfinite(value)} == set()
    assert {name: np.shape(value) for name, value in fields.items()} == {"path_angle": (13,), "path_norm": (13,)}
    assert metrics["moved_gen"] == metrics["displaced_disc"] == 0
    # As finely as float32 sums: the true gradient's norm is that of its layers.
    layers = [value for name, value in metrics.items() if name.startswith("grad_norm_gen_dense")]
    assert metrics["grad_norm_gen"] == pytest.approx(np.linalg.norm(layers), rel=1e-3)


UNDEFINED = {
    "packs": ({"packing": 2}, {"lipschitz_low", "lipschitz_high", "critic_w1_low", "critic_w1_high"}),
    "classes": (
        {"num_classes": 2},
        {"lipschitz_low", "lipschitz_high", "critic_w1_low", "critic_w1_high", "value_worst", "value_worst_se",
         "gap_gen", "gap_gen_se", "duality_gap", "duality_gap_se"},
    ),
    "noise": ({"instance_noise": "constant"}, set()),
    "minibatch layer": (
        {"minibatch_layer": "stddev"},
        {"lipschitz_low", "lipschitz_high", "critic_w1_low", "critic_w1_high", "value_worst", "value_worst_se",
         "gap_gen", "gap_gen_se", "duality_gap", "duality_gap_se"},
    ),
    "Wasserstein": (
        {"loss": "wasserstein", "penalties": ("wgan_gp",)},
        {"value_best_deep", "value_best_deep_se", "value_best_deep_low", "value_best_deep_high", "lag_deep",
         "lag_deep_se", "lag_deep_low", "lag_deep_high", "duality_gap", "duality_gap_se"},
    ),
    "batch normalization": ({"gen_norm": "batch", "disc_norm": "batch", "gen_average": "ema"}, set()),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", UNDEFINED)
def test_what_is_not_defined_is_nan_and_nothing_else(case):
    fields, undefined = UNDEFINED[case]
    game = make_game(RING, dataclasses.replace(SMALL, **fields))
    metrics, _ = measured(game, start(game), QUICK, deep=True)
    assert {name for name, value in metrics.items() if np.isnan(value)} == undefined


def run(seeds, deep_every, deep_names=("best_response_deep", "gradients", "transport", "path"), **options):
    measure_config = dataclasses.replace(QUICK, deep=deep_names)
    return gandyn.run(
        RING, SMALL, seeds=seeds, num_steps=6, measure_every=2, deep_every=deep_every, measure_config=measure_config,
        progress=False, **options,
    )  # fmt: skip


@pytest.mark.slow
def test_schedules_and_bits(tmp_path):
    """Deep measurements stand at their steps alone, change nothing else, and are the same alone and among others."""
    with haste.everywhere():
        both = run(range(3), 4, out=tmp_path / "both")
        cheap = run(range(3), 0)
        alone = run([1], 4)
    steps = both.step.values.tolist()
    assert steps == [0, 2, 4, 6]
    for name in ("jsd_deep", "w1", "w1_floor", "grad_norm_gen", "moved_gen"):
        taken = np.isfinite(both[name].values)
        assert taken[:, [0, 2, 3]].all(), name
        assert not taken[:, 1].any(), name
    assert np.isfinite(both.path_norm.values[:, [0, 2, 3]]).all()
    assert np.isnan(both.path_angle.values[:, 0]).all()  # no way yet
    np.testing.assert_array_equal(both.displaced_gen.values[:, 2], both.moved_gen.values[:, 2])
    assert "jsd_deep" not in cheap
    for name in cheap.data_vars:
        if "step" in cheap[name].dims and cheap[name].dtype.kind == "f":
            np.testing.assert_array_equal(both[name], cheap[name], err_msg=str(name))
    for name in both.data_vars:
        if both[name].dims[:2] == ("run", "step"):
            np.testing.assert_array_equal(alone[name].values[0], both[name].values[1], err_msg=str(name))
    reopened = gandyn.open_results(tmp_path / "both")
    np.testing.assert_array_equal(reopened.path_norm, both.path_norm)


@pytest.mark.slow
def test_the_size_of_others_targets_changes_nothing():
    """Each size of grid is a group of its own: the largest of several would move cells, edges and floors."""
    small, large = targets.ring(std=0.05), targets.ring(radius=3.0, std=0.05)
    measure_config = dataclasses.replace(QUICK, measurements=("value", "best_response"))
    run_them = functools.partial(
        gandyn.run, config=SMALL, seeds=[0], num_steps=2, measure_every=1, measure_config=measure_config, progress=False
    )
    with haste.everywhere():
        alone, among = run_them(small), run_them([small, large])
    np.testing.assert_array_equal(among.jsd.values[0], alone.jsd.values[0])
    np.testing.assert_array_equal(among.value_best.values[0], alone.value_best.values[0])


@pytest.mark.slow
def test_settings_of_different_layers_share_a_folder():
    configs = [SMALL, dataclasses.replace(SMALL, disc_norm="layer", track_path=True)]
    measure_config = dataclasses.replace(QUICK, measurements=(), deep=("gradients", "path"))
    with haste.everywhere():
        results = gandyn.run(
            RING, configs, seeds=[0], num_steps=3, measure_every=1, deep_every=1, measure_config=measure_config,
            progress=False, recipes=["plain", "layer"],
        )  # fmt: skip
    assert np.isfinite(results.grad_norm_disc_layernorm_0.values[1]).all()
    assert np.isnan(results.grad_norm_disc_layernorm_0.values[0]).all()
    # One step between measurements: the path is as long as its chords.
    assert np.isnan(results.travelled_gen.values[0]).all()
    np.testing.assert_allclose(results.travelled_gen.values[1], np.cumsum(results.moved_gen.values[1]), rtol=1e-4)


@pytest.mark.slow
def test_spectrum_is_recorded():
    with haste.everywhere():
        results = run([0], 6, deep_names=("spectrum",))
    # 8 hidden units: 24 + 18 parameters of G, 24 + 9 of D; all of them are found.
    assert results.eigenvalues.dims == ("run", "step", "eigenvalue", "part")
    assert results.sizes["eigenvalue"] == 75
    found = results.eigenvalues.isel(run=0, step=-1)
    real = found.sel(part="real").values
    assert np.isfinite(real).all()
    assert float(results.max_real[0, -1]) == pytest.approx(real.max())
    assert found.sel(part="imaginary").values.sum() == pytest.approx(0, abs=1e-4)
    assert 0 <= float(results.rotation_share[0, -1]) <= 1
    assert np.isfinite(results.spectral_radius[0, -1])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: MeasureConfig(deep=("w1",)), "deep: got 'w1'; allowed: value, best_response, coverage"),
        (lambda: MeasureConfig(deep="path"), "deep: got 'path'; allowed: a tuple of"),  # pyright: ignore[reportArgumentType]
        (
            lambda: MeasureConfig(measurements=("transport",), deep=()),
            "measurements: got 'transport'; allowed: in deep",
        ),
        (lambda: MeasureConfig(measurements=("value", "gap")), "deep: got gap in measurements, too"),
        (lambda: MeasureConfig(num_deep_nodes=100), "num_deep_nodes: got 100; allowed: a power of two"),
        (lambda: MeasureConfig(num_transport=1), "num_transport: got 1; allowed: a whole number of at least 2"),
        (lambda: MeasureConfig(num_transport=8192), "num_transport: got 8192; allowed: at most num_deep_nodes, 4096"),
        (lambda: MeasureConfig(num_eigenvalues=300), "num_eigenvalues: got 300"),
        (
            lambda: gandyn.run(RING, deep_every=100, measure_config=MeasureConfig(deep=())),
            "deep_every: got 100; allowed where `deep` names nothing to measure: 0",
        ),
        (lambda: MeasureConfig(num_response_nodes=100), "num_response_nodes: got 100; allowed: a power of two"),
        (lambda: gandyn.run(RING, measure_every=100, deep_every=150), "deep_every: got 150; allowed: a multiple of"),
        (lambda: gandyn.run(RING, deep_every=-1), "deep_every: got -1"),
    ],
)
def test_refusals(wrong, message):
    with pytest.raises(ValueError) as caught:
        wrong()
    assert message in str(caught.value)


def test_names_are_kept_in_one_order():
    assert MeasureConfig(deep=("path", "gap")) == MeasureConfig(deep=("gap", "path"))
    assert MeasureConfig(deep=("path", "gap")).deep == ("gap", "path")
