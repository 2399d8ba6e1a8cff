"""Measurements that are taken where they are asked for by name, and by default nowhere.

Each is complete here: a pattern for one's own.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import rel_entr

from gandyn import truth
from gandyn.gan.targets import GaussianMixture
from gandyn.truth.coverage import CONVENTIONS, nearest_mode
from gandyn.truth.measure.measurement import Attributes, Measurement, Subject, in_the_plane
from gandyn.truth.measure.view import View, replicates


def _valid_jsd_metrics(subject: Subject) -> Mapping[str, Attributes]:
    convention = CONVENTIONS[subject.options.convention]
    return {
        "valid_jsd": {
            "long_name": "Jensen-Shannon divergence over modes, high-quality samples alone",
            "units": "nat",
            "convention": f"{subject.options.convention}: {convention.reference}; {convention.num_samples} samples",
            "failed": repr(math.log(2)),
        }
    }


def _valid_jsd(view: View, key: jax.Array) -> Mapping[str, Any]:
    """JSD between the modes' weights w and their shares r of the high-quality samples.

        JSD(w, r) = 1/2 KL(w || (w + r) / 2) + 1/2 KL(r || (w + r) / 2),    r_k = n_k / sum_j n_j

    n_k samples are nearest to mode k and within `quality_radius` of it. What G makes elsewhere does not count at all
    (`high_quality` says how much that is), so this reads how the mass that is right is spread: 0 is evenly, log 2 in
    no mode that the target has, where no sample is of high quality, too. N real samples get about (K - 1) / (8 N).
    """
    target: Any = view.game.target
    convention = CONVENTIONS[view.options.convention]
    x, labels = view.samples[: convention.num_samples], view.drawn[1].labels
    own = None if labels is None else labels[: convention.num_samples]
    mode, distance = nearest_mode(x, target, own, view.game.config.num_classes)
    valid = distance <= convention.quality_radius
    count = jnp.sum(jax.nn.one_hot(mode, target.num_modes) * valid[:, None], axis=0)
    share, weights = count / jnp.maximum(jnp.sum(count), 1), jnp.asarray(target.mode_weights)
    middle = (share + weights) / 2
    jsd = (jnp.sum(rel_entr(share, middle)) + jnp.sum(rel_entr(weights, middle))) / 2
    return {"valid_jsd": jnp.where(jnp.any(valid), jsd, math.log(2))}


def _log_likelihood(view: View, key: jax.Array) -> Mapping[str, Any]:
    """Mean log density that G gives real samples, E_p log q, in nats: from above.

        E_p log q = E_p log p - KL(p || q),    KL(p || q) = max over T of E_p T - E_q exp(T) + 1

    The maximum is at T = log p/q (Nguyen et al. 2010, lemma 1), where E_q exp(T) = 1, and any T bounds KL from below:
    so the log ratios of the density's kernels give an upper bound of E_p log q, up to the standard error, evaluated on
    nodes that they were not made from. They are clipped at the logarithm of the number of kernels: where q
    misses a mode, E_p log q goes to -infinity, and this stays finite. exp(T) has heavy tails under q that lies off the
    data, and eight scrambles see little of them: off by 0.05 (3 standard errors) for Gaussians two std apart, by 0.004
    for up to one std. `log_likelihood_real` is E_p log p, which no q passes.
    """
    ratios = view.clean_log_ratios
    log_p = view.game.target.log_prob(view.response_nodes.real).reshape(
        ratios.shape[2], -1
    )  # of each scramble, as they are
    of_real = jnp.mean(log_p, axis=1)
    log_q, best = truth.estimate(of_real - replicates("f_kl", ratios[:1])), truth.estimate(of_real)
    return {"log_likelihood": log_q.mean, "log_likelihood_se": log_q.se, "log_likelihood_real": best.mean}


VALID_JSD = Measurement(
    "valid_jsd",
    _valid_jsd_metrics,
    _valid_jsd,
    reads="networks",
    applies=lambda subject: subject.num_modes > 0 and isinstance(subject.game.target, GaussianMixture),
    text="JSD between the modes' weights and their shares of the samples of high quality",
)
LOG_LIKELIHOOD = Measurement(
    "log_likelihood",
    {
        "log_likelihood": {"long_name": "log density of real samples under G, upper bound", "units": "nat"},
        "log_likelihood_se": {"long_name": "its standard error", "units": "nat"},
        "log_likelihood_real": {"long_name": "log density of real samples under the target", "units": "nat"},
    },
    _log_likelihood,
    reads="networks",
    # With labels the ratios are of points given their label, and so would the density have to be.
    applies=lambda subject: in_the_plane(subject) and not subject.config.num_classes,
    text="log density of real samples under G, bounded from above by the density ratio",
)
