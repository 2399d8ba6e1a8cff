import math

import numpy as np
import pytest
import synthetic
import xarray as xr

from gandyn.analysis import reading


@pytest.fixture(scope="module")
def results() -> xr.Dataset:
    return synthetic.make(samples=0, surface=0)


def test_recipes_keep_their_order(results: xr.Dataset):
    assert reading.recipes(results) == list(synthetic.RECIPES)
    np.testing.assert_array_equal(reading.runs_of(results, "minimax"), np.arange(32, 48))


def test_wrong_names_are_refused_with_the_nearest(results: xr.Dataset):
    with pytest.raises(ValueError, match="did you mean 'minimax'"):
        reading.runs_of(results, "minmax")
    with pytest.raises(ValueError, match="did you mean 'modes'"):
        reading.values(results, "mode")


def test_a_diverged_run_counts_as_a_failure(results: xr.Dataset):
    assert list(np.flatnonzero(reading.diverged(results))) == [1]
    assert reading.final(results, "modes")[1] == 0
    assert reading.final(results, "high_quality")[1] == 0
    assert reading.final(results, "jsd")[1] == pytest.approx(math.log(2))
    assert reading.final(results, "mode_tv")[1] == 1
    assert math.isnan(reading.final(results, "lag")[1])
    assert math.isnan(reading.final(results, "loss_disc")[1])
    np.testing.assert_array_equal(reading.values(results, "modes")[1, 12:], 0)
    assert (reading.values(results, "modes")[1, 3:12] > 0).all()


def test_final_is_at_each_runs_last_measurement(results: xr.Dataset):
    cut = results.copy(deep=True)
    metrics = [str(name) for name, x in cut.data_vars.items() if x.dims == ("run", "step")]
    for name in metrics:
        cut[name].values[5, 10:] = np.nan
        cut[name].values[6] = np.nan
    assert reading.last_step(cut)[[0, 1, 5, 6]].tolist() == [20, 20, 9, -1]
    assert reading.final(cut, "value")[5] == results["value"].values[5, 9]
    assert math.isnan(reading.final(cut, "value")[6])
    # Never measured is not a failure.
    assert math.isnan(reading.final(cut, "modes")[6])


def test_number_of_modes_leaves_padding_out(results: xr.Dataset):
    padded = results.copy(deep=True)
    padded["target_weights"].values[3, 5:] = np.nan
    assert reading.num_modes(padded)[2:4].tolist() == [8, 5]


def test_what_a_failed_run_counts_as_is_the_metrics_attribute(results: xr.Dataset):
    mine = results.assign(spread=results["lag"].copy(), gain=results["lag"].copy())
    mine["spread"].attrs = {"failed": "2.5"}
    mine["gain"].attrs = {}
    np.testing.assert_array_equal(reading.values(mine, "spread")[1, 12:], 2.5)
    np.testing.assert_array_equal(reading.values(mine, "spread")[0], results["lag"].values[0])
    assert reading.final(mine, "spread")[1] == reading.failed_value(mine, "spread") == 2.5
    assert np.isnan(reading.values(mine, "gain")[1, 12:]).all()
    assert math.isnan(reading.failed_value(mine, "gain"))
    for text in ("often", "", [1]):
        mine["gain"].attrs = {"failed": text}
        with pytest.raises(ValueError, match="gain: attribute failed: got"):
            reading.values(mine, "gain")


def test_the_kinds_of_losses_are_read_from_the_dataset(results: xr.Dataset):
    wasserstein = results["loss"].values == "wasserstein"
    np.testing.assert_array_equal(reading.logistic(results), ~wasserstein)
    # A loss of any name: what it recorded counts.
    named = results.assign_coords(loss=("run", np.full(64, "mine", object))).assign(in_nats=("run", wasserstein * 1.0))
    np.testing.assert_array_equal(reading.in_nats(named), wasserstein)
    with pytest.raises(ValueError, match="hold no logistic"):
        reading.logistic(results.drop_vars("logistic"))


def test_a_target_without_modes_has_none(results: xr.Dataset):
    np.testing.assert_array_equal(reading.num_modes(results.drop_vars("target_weights")), 0)
