import math
from typing import Literal

import numpy as np
import pytest
import synthetic
import xarray as xr

from gandyn.analysis import loss_curves, reading

NAN = float("nan")


@pytest.fixture(scope="module")
def results() -> xr.Dataset:
    return synthetic.make(samples=0, surface=0)


def test_looks_converged(results: xr.Dataset):
    near = loss_curves.looks_converged(results)
    loss = reading.final(results, "loss_disc")
    np.testing.assert_array_equal(near[:48], np.abs(loss[:48] / (2 * math.log(2)) - 1) <= 0.05)
    assert near.any()
    assert not near[1]
    assert not near[48:].any()


def two_curves(name: str, num_modes: int, loss: np.ndarray, player: str) -> xr.Dataset:
    """A run that reads these losses, of a loss by name with its curves."""
    disc, gen = synthetic.of_modes(name, num_modes)
    return xr.Dataset(
        {
            f"loss_{player}": (("run", "step"), np.asarray(loss, float)[None]),
            "finite": (("run", "step"), np.ones((1, len(loss)))),
            "target_weights": (("run", "mode"), np.full((1, num_modes), 1 / num_modes)),
            "best_loss_disc": (("run", "mode"), disc[None]),
            "best_loss_gen": (("run", "mode"), gen[None]),
        }
    )


class TestMovement:
    def test_shares_of_known_terms(self):
        """A value of three independent terms with variances 4 : 1 : 1/4: shares of each, and they sum to one."""
        results = synthetic.make(samples=0, surface=0, steps=4001, seeds=2, recipes=["non_saturating"], diverged=False)
        rng = np.random.default_rng(0)
        best, lag, noise = (scale * rng.normal(size=results["value"].shape) for scale in (2, 1, 0.5))
        results = results.assign(
            value_best=results["value"].copy(data=best),
            value=results["value"].copy(data=best - lag),
            value_batch=results["value"].copy(data=best - lag + noise),
        )
        shares = loss_curves.movement(results)
        # Of 4,001 steps a correlation is known to 0.016: five sigma.
        for name, want in (("divergence", 4), ("lag", 1), ("noise", 0.25), ("known", 5)):
            np.testing.assert_allclose(shares[name], want / 5.25, atol=0.08 * math.sqrt(want))
        np.testing.assert_allclose(shares["divergence"] + shares["lag"] + shares["noise"], 1)
        np.testing.assert_allclose(shares["divergence"] + shares["lag"], shares["known"])

    def test_undefined_where_nothing_moves_or_no_best_value_is_known(self, results: xr.Dataset):
        shares = loss_curves.movement(results)
        wasserstein = results["loss"].values == "wasserstein"
        assert np.isnan(shares["divergence"][wasserstein]).all()
        assert np.isfinite(shares["noise"][wasserstein]).all()
        still = results.assign(value_batch=0 * results["value_batch"])
        assert all(np.isnan(share).all() for share in loss_curves.movement(still).values())
        assert all(np.isnan(share).all() for share in loss_curves.movement(results.isel(step=slice(2))).values())


def test_near_equilibrium_is_in_the_losses_own_units(results: xr.Dataset):
    near = loss_curves.near_equilibrium(results, 0.05)
    loss = reading.values(results, "loss_disc")
    logistic = results["loss"].values == "non_saturating"
    np.testing.assert_array_equal(near[logistic], np.abs(loss[logistic] - math.log(4)) <= 0.05)
    assert near.any()
    assert not near[np.isnan(loss)].any()


class TestImpliedModes:
    @pytest.mark.parametrize("player", ["disc", "gen"])
    def test_against_the_closed_form_between_whole_numbers(self, player: Literal["disc", "gen"]):
        k = np.linspace(1, 8, 29)
        loss = {"disc": k / 8 * np.log1p(8 / k) + np.log1p(k / 8), "gen": np.log1p(8 / k)}[player]
        found = loss_curves.implied_modes(two_curves("non_saturating", 8, loss, player), player)[0]
        # Monotone cubics through eight points; the ends, where their slope is a guess, are the worst.
        np.testing.assert_allclose(found, k, atol=0.03)
        np.testing.assert_allclose(found[::4], k[::4], atol=1e-5)

    def test_beyond_the_ends_is_the_end(self):
        results = two_curves("non_saturating", 8, np.array([0.0, 0.3, 1.4, 2.0, NAN]), "disc")
        np.testing.assert_allclose(loss_curves.implied_modes(results, "disc"), [[1, 1, 8, 8, NAN]], atol=1e-12)

    def test_unknown_where_the_loss_does_not_tell(self):
        # Hinge: G's loss under the best D is 1 for every k < K. Wasserstein has no curve. One mode is no curve.
        assert np.isnan(loss_curves.implied_modes(two_curves("hinge", 8, np.ones(3), "gen"), "gen")).all()
        assert np.isnan(loss_curves.implied_modes(two_curves("wasserstein", 8, np.ones(3), "disc"), "disc")).all()
        assert np.isnan(loss_curves.implied_modes(two_curves("non_saturating", 1, np.ones(3), "disc"), "disc")).all()
        hinge = loss_curves.implied_modes(two_curves("hinge", 8, np.array([0.5, 1.25]), "disc"), "disc")
        np.testing.assert_allclose(hinge, [[2, 5]], atol=1e-5)

    def test_padding_is_no_mode(self):
        results = two_curves("non_saturating", 4, np.array([1.2, 1.3]), "disc")
        padded = results.pad({"mode": (0, 3)})
        np.testing.assert_array_equal(
            loss_curves.implied_modes(padded, "disc"), loss_curves.implied_modes(results, "disc")
        )

    def test_disagreement(self, results: xr.Dataset):
        # The synthetic D lags, and G's loss is lowered by as much: D's loss implies more modes, and G's too.
        found = loss_curves.implied_disagreement(results)
        np.testing.assert_array_equal(
            found, loss_curves.implied_modes(results, "gen") - loss_curves.implied_modes(results, "disc")
        )
        assert np.isnan(found[1, 12:]).all()
        assert np.isnan(found[48:]).all()
        no_lag = results.copy(deep=True)
        modes = np.maximum(no_lag["modes"].values, 1).astype(float)
        no_lag["loss_disc"].values[:] = modes / 8 * np.log1p(8 / modes) + np.log1p(modes / 8)
        no_lag["loss_gen"].values[:] = np.log1p(8 / modes)
        np.testing.assert_allclose(loss_curves.implied_disagreement(no_lag)[2:32], 0, atol=1e-4)

    def test_refused(self, results: xr.Dataset):
        with pytest.raises(ValueError, match="player: got 'both'"):
            loss_curves.implied_modes(results, "both")  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match="no best_loss_gen"):
            loss_curves.implied_modes(results.drop_vars("best_loss_gen"), "gen")
        with pytest.raises(ValueError, match="no metric 'loss_gen'"):
            loss_curves.implied_modes(results.drop_vars("loss_gen"), "gen")
