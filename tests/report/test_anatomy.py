"""What the sentences of the anatomy say is what the analysis finds."""

import numpy as np
import pytest
import synthetic
import xarray as xr

from gandyn.analysis import intervals, loss_curves
from gandyn.report import anatomy


@pytest.fixture(scope="module")
def results() -> xr.Dataset:
    return synthetic.make(["non_saturating", "wasserstein, gradient penalty"], seeds=6, samples=0, surface=0)


def test_shares_of_movement_are_told_for_all_and_for_each_recipe(results: xr.Dataset):
    pooled, first, second = anatomy.what_moves_it(results)
    share = loss_curves.movement(results)["noise"][:6]
    mean = intervals.mean_over_seeds(share, results["seed"].values[:6])
    assert f"noise {100 * mean.value:.0f} % [{100 * mean.low:.0f}, {100 * mean.high:.0f}]" in pooled
    assert "over the 6 runs with a known best value" in pooled
    assert first.startswith("non_saturating: divergence")
    assert "no best value is known" in second


def test_what_a_converged_loss_hides_is_counted(results: xr.Dataset):
    found = anatomy.what_it_hides(results, tolerance=1e9)
    # Every measurement counts as near: the second half of all runs, but for what the diverged run has not.
    near = int(np.isfinite(results["loss_disc"].values[:, 10:]).sum())
    assert f"at {near:,} measurements of 12 runs" in found[0]
    assert anatomy.what_it_hides(results, tolerance=0.0)[0].endswith("never so near.")


def test_one_run_has_no_interval(results: xr.Dataset):
    answers = anatomy.answers(results.isel(run=[0, 6]))
    assert answers
    assert "nan" not in " ".join(answers)
