"""The measurements that are cheap enough to be taken often, and what each number means."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gandyn import truth
from gandyn.gan.loss import Outputs
from gandyn.gan.targets import GaussianMixture
from gandyn.truth import quality
from gandyn.truth.coverage import CONVENTIONS, coverage, label_accuracy
from gandyn.truth.measure.measurement import (
    Attributes,
    FieldSpec,
    Measurement,
    Subject,
    axes_of_points,
    in_interval,
    in_the_plane,
    with_interval,
)
from gandyn.truth.measure.view import View, ends_of, generate, jensen_shannon, judged, replicates

_LOSS_METRICS: dict[str, Attributes] = {
    "loss_disc": {"long_name": "discriminator loss, training minibatch", "units": "loss"},
    "loss_gen": {"long_name": "generator loss, training minibatch", "units": "loss"},
    "loss_total": {"long_name": "discriminator loss + generator loss", "units": "loss"},
    "penalty_term": {"long_name": "penalty term, training minibatch", "units": "loss"},
    "finite": {"long_name": "every parameter finite", "units": "1"},
}

_VALUE_METRICS: dict[str, Attributes] = {
    "value_batch": {"long_name": "minibatch value", "units": "value"},
    "value": {"long_name": "value V(D, G)", "units": "value"},
    "value_se": {"long_name": "standard error of the value", "units": "value"},
    "accuracy": {"long_name": "D's accuracy at its decision threshold", "units": "share"},
    "accuracy_se": {"long_name": "standard error of D's accuracy", "units": "share"},
    "accuracy_on_real": {"long_name": "share of real samples that D calls real", "units": "share"},
    "accuracy_on_fake": {"long_name": "share of G's samples that D calls fake", "units": "share"},
}

# A diverged generator has no samples: it covers nothing, and shares no mass with the target.
_NOTHING, _ALL, _JSD = {"failed": "0"}, {"failed": "1"}, {"failed": repr(math.log(2))}

_BESTS: dict[str, Attributes] = {
    "value_best": {"long_name": "best-response value max_D V", "units": "value"},
    "lag": {"long_name": "discriminator lag, max_D V - V", "units": "value"},
    "jsd": {"long_name": "Jensen-Shannon divergence", "units": "nat"} | _JSD,
    "accuracy_best": {"long_name": "best possible accuracy, (1 + TV) / 2", "units": "share"},
}
_JSD_AVERAGE: Attributes = {"long_name": "Jensen-Shannon divergence of G's average", "units": "nat"} | _JSD

_COVERAGE_METRICS: dict[str, Attributes] = {
    "modes": {"long_name": "modes covered", "units": "modes"} | _NOTHING,
    "high_quality": {"long_name": "high-quality samples", "units": "share"} | _NOTHING,
    "mode_tv": {"long_name": "total variation over modes", "units": "1"} | _ALL,
    "reverse_kl": {"long_name": "reverse KL over nearest modes", "units": "nat"},
}
_OF_WHOM = {"_real": "real samples", "_average": "G's average"}


def _losses(view: View, key: jax.Array) -> Mapping[str, Any]:
    logged = view.state.logged
    return {
        "loss_disc": logged.loss_disc,
        "loss_gen": logged.loss_gen,
        "loss_total": logged.loss_disc + logged.loss_gen,
        "penalty_term": logged.penalty,
        "finite": jnp.all(jnp.isfinite(ravel_pytree(view.state.params)[0])),
    }


def _decision(view: View) -> jax.Array:
    """D's output where the best D holds real and fake for equally likely; NaN where it has none (`LossTruth.decision`).

    From it on D calls a sample real.
    """

    def of(loss: Any) -> jax.Array:
        critic = None if loss.pairs or loss.couples else truth.critic_of(loss)
        return jnp.full((), jnp.nan) if critic is None else critic(jnp.zeros(()), view.game.hparams)

    return view.by_loss(of)


def _accuracy(view: View) -> dict[str, Any]:
    """How many real and fake samples (packs of them) D tells right, half of each; one that lies on it is half right."""
    above = (1 + jnp.sign(view.logits - _decision(view))) / 2
    right = jnp.mean(jnp.stack([above[0], 1 - above[1]]), axis=-1)
    both = truth.estimate(jnp.mean(right, axis=0))
    # A count of N nodes is no finer than 1 / N, and on Sobol nodes all scrambles may round alike.
    se = jnp.hypot(both.se, 1 / (math.sqrt(12) * above.shape[-1]))
    real, fake = jnp.mean(right, axis=-1)
    return {"accuracy": both.mean, "accuracy_se": se, "accuracy_on_real": real, "accuracy_on_fake": fake}


def _best_accuracy(view: View) -> truth.Bounded:
    """(1 + TV) / 2 of what D sees: the hinge loss reads V = 2 TV - 2. D's own calls are a candidate, too."""
    ratios = jnp.sum(view.log_ratios, axis=-1, keepdims=True)  # of a pack
    own = jnp.nan_to_num(view.response_nodes.logits - _decision(view))[None, ..., None]
    best, bound = (replicates("hinge", jnp.concatenate([ratios[one, None], own])) for one in (-1, 0))
    found = truth.bounded(1 + best / 4, 1 + bound / 4)
    # A count of n nodes is no finer than 1 / n.
    rounding = 1 / (math.sqrt(12) * ratios.shape[-2])
    wider = truth.T_975 * rounding
    return truth.Bounded(found.mean, jnp.hypot(found.se, rounding), found.low - wider, found.high + wider)


def _value(view: View, key: jax.Array) -> Mapping[str, Any]:
    """V on a minibatch and on nodes, and D's accuracy there."""
    game, variables = view.game, view.state.variables
    pairs = game.draw(view.state, key).pairs
    seen = judged(pairs, generate(game, variables.gen, pairs))
    real, fake = (game.outputs(variables.disc, points, pairs.labels) for points in seen)

    def on_batch(loss: Any, real: Outputs, fake: Outputs) -> jax.Array:
        return -loss.disc(*((real, fake) if loss.aux else (real.logits, fake.logits)), game.hparams)

    value = truth.estimate(view.value)
    metrics = {"value_batch": view.by_loss(on_batch, real, fake), "value": value.mean, "value_se": value.se}
    return {**metrics, **_accuracy(view)}


def _best_metrics(subject: Subject) -> Mapping[str, Attributes]:
    ends = ends_of(subject)
    averaged = {"jsd_average": _JSD_AVERAGE} if subject.config.gen_average != "none" else {}
    return {
        key: text
        for name, attrs in (_BESTS | averaged).items()
        for key, text in with_interval(name, attrs, ends).items()
    }


def _best_response(view: View, key: jax.Array) -> Mapping[str, Any]:
    found = {"value_best": truth.bounded(*view.bests), "lag": truth.bounded(*view.lags)}
    found |= {"jsd": truth.bounded(*jensen_shannon(view.clean_log_ratios)), "accuracy_best": _best_accuracy(view)}
    if view.game.config.gen_average != "none":
        found["jsd_average"] = truth.bounded(*jensen_shannon(view.log_ratios_of(view.state.average)))
    ends = ends_of(Subject(view.unscheduled, view.options))
    return {key: x for name, one in found.items() for key, x in in_interval(name, one, ends).items()}


def _of_others(attrs: Attributes, suffix: str) -> Attributes:
    """The attributes of the same figure of other samples; real ones do not fail."""
    kept = {name: text for name, text in attrs.items() if name != "failed" or suffix != "_real"}
    return kept | {"long_name": f"{attrs['long_name']}, {_OF_WHOM[suffix]}"}


def _coverage_metrics(subject: Subject) -> Mapping[str, Attributes]:
    """The metrics with their convention beside what it defines."""
    suffixes = ("", "_real", *(("_average",) if subject.config.gen_average != "none" else ()))
    counted = {
        name + suffix: _of_others(attrs, suffix) if suffix else attrs
        for suffix in suffixes
        for name, attrs in _COVERAGE_METRICS.items()
    }
    counted |= {
        f"modes_class_{label}": {"long_name": f"modes covered, class {label}", "units": "modes"} | _NOTHING
        for label in range(subject.config.num_classes)
    }
    convention = CONVENTIONS[subject.options.convention]
    text = f"{subject.options.convention}: {convention.reference}; {convention.num_samples} samples"
    metrics = {name: {**attrs, "convention": text} for name, attrs in counted.items()}
    if subject.config.num_classes:
        metrics["label_accuracy"] = {"long_name": "samples nearest to a mode of their own class", "units": "share"}
    return metrics


def _coverage_fields(subject: Subject) -> Mapping[str, FieldSpec]:
    return {name: FieldSpec(("mode",), (subject.num_modes,), attrs) for name, attrs in quality.MODE_STATS.items()}


def _coverage(view: View, key: jax.Array) -> Mapping[str, Any]:
    """Coverage of G's samples and of as many real ones, and of each mode."""
    game, state = view.game, view.state
    target: Any = game.target  # a mixture, as is every target whose modes are counted
    convention, num_classes = CONVENTIONS[view.options.convention], game.config.num_classes
    uniform, drawn = view.drawn
    sampled = {"": view.samples, "_real": target.transform(uniform[:, : target.num_uniforms])}
    if game.config.gen_average != "none":
        sampled["_average"] = generate(game, state.average, drawn)
    judged = jnp.stack([x[: convention.num_samples] for x in sampled.values()])
    own = None if drawn.labels is None else drawn.labels[: convention.num_samples]
    covered = jax.vmap(lambda x: coverage(x, target, convention, own, num_classes))(judged)
    metrics = {name + s: getattr(covered, name)[i] for name in _COVERAGE_METRICS for i, s in enumerate(sampled)}
    if own is not None:
        metrics["label_accuracy"] = label_accuracy(judged[0], target, own, num_classes)
        for label in range(num_classes):
            metrics[f"modes_class_{label}"] = jnp.sum(covered.covered[0, label::num_classes])
    stats = quality.mode_stats(judged[0], target, convention, own, num_classes)
    return metrics | {f"mode_{name}": value for name, value in stats._asdict().items()}


def surface_axis(size: int) -> np.ndarray:
    """Positions of the surface's grid lines, in half sides of the target's box: (size,) in [-1, 1]."""
    return np.linspace(-1, 1, size)


def _surface(view: View, key: jax.Array) -> Mapping[str, Any]:
    """D's output (size, size) in the target's box, rows along y."""
    config = view.game.config
    center, half = view.game.target.box()
    axis = center[None, :] + half * jnp.asarray(surface_axis(view.options.keep_surface), jnp.float32)[:, None]
    y, x = jnp.meshgrid(axis[:, 1], axis[:, 0], indexing="ij")
    # Packs of m times one point; where conditional, of label 0.
    alike = jnp.repeat(jnp.stack([x.ravel(), y.ravel()], axis=1), config.packing, axis=0)
    labels = jnp.zeros(len(alike), jnp.int32) if config.num_classes else None
    return {"surface": view.game.discriminate(view.state.variables.disc, alike, labels).reshape(x.shape)}


def _surface_axes(options: Any) -> Mapping[str, list[float]]:
    axis = surface_axis(options.keep_surface).tolist()
    return {"surface_y": axis, "surface_x": axis}


def _samples_fields(subject: Subject) -> Mapping[str, FieldSpec]:
    axes, shape = ("sample", *axes_of_points(subject.event_shape)), (subject.options.keep_samples, *subject.event_shape)
    return {"samples": FieldSpec(axes, shape, {"long_name": "generated samples", "units": "data"})}


LOSSES = Measurement("losses", _LOSS_METRICS, _losses, reads="networks", text="what a training log shows: always taken")
VALUE = Measurement(
    "value",
    _VALUE_METRICS,
    _value,
    reads="networks",
    text="V(D, G) with its standard error, beside the minibatch value; D's accuracy at its decision threshold",
)
BEST_RESPONSE = Measurement(
    "best_response",
    _best_metrics,
    _best_response,
    reads="networks",
    applies=in_the_plane,
    text="max_D V, the lag, JSD and the best possible accuracy from the density ratio, each in its interval",
)
COVERAGE = Measurement(
    "coverage",
    _coverage_metrics,
    _coverage,
    fields=_coverage_fields,
    reads="networks",
    applies=lambda subject: subject.num_modes > 0 and isinstance(subject.game.target, GaussianMixture),
    text="modes, high quality, mode TV, reverse KL, beside real samples; mass, std and offset of each mode",
)
SAMPLES = Measurement(
    "samples",
    compute=lambda view, key: {"samples": view.samples[: view.options.keep_samples]},
    fields=_samples_fields,
    reads="networks",
    applies=lambda subject: subject.options.keep_samples > 0,
    text="G's samples: taken where keep_samples says how many",
)
SURFACE = Measurement(
    "surface",
    compute=_surface,
    fields=lambda subject: {
        "surface": FieldSpec(
            ("surface_y", "surface_x"), (subject.options.keep_surface,) * 2, {"long_name": "discriminator output"}
        )
    },
    axes=_surface_axes,
    reads="networks",
    applies=lambda subject: subject.options.keep_surface > 0 and in_the_plane(subject),
    text="D's output on a grid: taken where keep_surface says how fine",
)
