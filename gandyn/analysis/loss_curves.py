"""What a loss curve is made of and what it implies: noise, movement, the modes it would mean, nearness to equilibrium.

Shapes: R runs, S steps, K modes.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import scipy.interpolate
import xarray as xr
from numpy.typing import NDArray

from gandyn.analysis.reading import final, num_modes, values

_NAN = float("nan")


def sampling_noise(results: xr.Dataset) -> NDArray:
    """Minibatch value minus value at the same parameters, (R, S) float64: what a loss curve shows beside the value.

    NaN from a divergence on, and where nothing was measured.
    """
    return values(results, "value_batch") - values(results, "value")


def movement(results: xr.Dataset) -> dict[str, NDArray]:
    """What moves a minibatch value over the steps of a run: shares of its variance, name -> (R,) float64.

    value_batch = value_best - lag + noise at the same parameters, so Var(value_batch), over steps, is the sum of the
    three terms' covariances with it. `divergence`, `lag` and `noise` are those covariances over the variance: they sum
    to one, and a share is negative where its term moves against the sum. `known` is the first two together, V itself.

    NaN for a run with fewer than three measurements up to a divergence or a value that never moves; the first two are
    NaN where no best value is known.
    """
    batch, value = values(results, "value_batch"), values(results, "value")
    best = values(results, "value_best") if "value_best" in results else np.full_like(value, _NAN)
    terms = {"divergence": best, "lag": value - best, "noise": batch - value, "known": value}
    shares = {name: np.full(len(batch), _NAN) for name in terms}
    for r in range(len(batch)):
        used = np.isfinite(batch[r]) & np.isfinite(value[r])
        known = np.isfinite(best[r])
        # The steps of all terms alike, so that the shares sum to one.
        used &= known if known.any() else True
        if used.sum() >= 3 and np.ptp(batch[r, used]) > 0:
            for name, term in terms.items():
                covariance = np.cov(term[r, used], batch[r, used])
                shares[name][r] = covariance[0, 1] / covariance[1, 1]
    return shares


def _inverse(curve: NDArray) -> Callable[[NDArray], NDArray] | None:
    """The number of modes as a function of a loss, from the losses (K,) of k = 1 ... K; None where there is none."""
    rises = np.diff(curve)
    if curve.size < 2 or not np.isfinite(curve).all() or not ((rises > 0).all() or (rises < 0).all()):
        return None
    order = np.argsort(curve)
    inverse = scipy.interpolate.PchipInterpolator(curve[order], 1.0 + order)
    return lambda loss: inverse(np.clip(loss, curve.min(), curve.max()))


def implied_modes(results: xr.Dataset, player: Literal["disc", "gen"]) -> NDArray:
    """How many modes a player's loss says G covers, were D optimal and G even over its modes: (R, S) float64.

    The k in [1, K] at which ``best_loss_disc`` or ``best_loss_gen`` equals the training loss, by monotone cubic
    interpolation of k over the K losses (Fritsch & Carlson 1980): the alarm that needs no samples. A loss beyond the
    ends of the curve counts as the end, exactly 1 or K: a D that lags raises D's loss past all K modes.

    NaN where the loss was not measured, from a divergence on, and for a run whose curve is unknown, has one point, or
    is not strictly monotone (hinge's generator loss is the same for every k < K).

    Raises:
      ValueError: for another player, or results without the curve or the loss.
    """
    if player not in ("disc", "gen"):
        raise ValueError(f"player: got {player!r}; allowed: 'disc', 'gen'")
    if f"best_loss_{player}" not in results:
        raise ValueError(f"implied_modes: the results have no best_loss_{player}")
    loss, curves = values(results, f"loss_{player}"), np.asarray(results[f"best_loss_{player}"].values, float)
    # Runs of one target and loss share their curve.
    sharing: dict[bytes, list[int]] = {}
    for run, (curve, k) in enumerate(zip(curves, num_modes(results), strict=True)):
        sharing.setdefault(curve[:k].tobytes(), []).append(run)
    implied = np.full(loss.shape, _NAN)
    for curve, runs in sharing.items():
        inverse = _inverse(np.frombuffer(curve))
        if inverse is not None:
            implied[runs] = inverse(loss[runs])
    return implied


def implied_disagreement(results: xr.Dataset) -> NDArray:
    """`implied_modes` of G's loss minus that of D's, (R, S) float64, in modes; NaN where either is.

    Zero where D is optimal and G even over the modes it covers; away from zero one of the two fails. Both are cut at
    1 and K, so that it is never more than K - 1, and two losses beyond the same end agree.
    """
    return implied_modes(results, "gen") - implied_modes(results, "disc")


def near_equilibrium(results: xr.Dataset, tolerance: float = 0.05) -> NDArray:
    """Whether D's minibatch loss is within `tolerance` (in its own units) of its value at equilibrium, (R, S) bool.

    For the logistic losses of log 4: what "the loss has converged" looks like at a step.
    """
    equilibrium = np.asarray(results["equilibrium"].values, float)[:, None]
    return np.abs(values(results, "loss_disc") + equilibrium) <= tolerance


def looks_converged(results: xr.Dataset, tolerance: float = 0.05) -> NDArray:
    """Whether a run's final minibatch loss of D is near its value at equilibrium, (R,) bool.

    |loss_disc + equilibrium| <= tolerance * |equilibrium|: what a reader of the loss curve would call converged. False
    for a run that diverged, and where the value at equilibrium is 0 (nothing to be relative to).
    """
    equilibrium = np.asarray(results["equilibrium"].values, float)
    near = np.abs(final(results, "loss_disc") + equilibrium) <= tolerance * np.abs(equilibrium)
    return near & (equilibrium != 0)
