"""The measurements that are taken seldom: what a GAN's losses hide."""

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gandyn import truth
from gandyn.gan import sampling
from gandyn.gan.config import loss_of
from gandyn.gan.game import Game
from gandyn.gan.loss import Loss
from gandyn.gan.number import HParams
from gandyn.gan.state import Players
from gandyn.gan.step import init
from gandyn.truth import gradients as true_gradients
from gandyn.truth import jacobian, preimages, quality
from gandyn.truth.measure.measurement import (
    Attributes,
    FieldSpec,
    HostView,
    Measurement,
    Subject,
    in_interval,
    in_the_plane,
    with_interval,
)
from gandyn.truth.measure.view import (
    View,
    divergences,
    ends_of,
    generate,
    jensen_shannon,
    node_bits,
    node_uniforms,
    resolved,
    values,
)
from gandyn.truth.nodes import NUM_SCRAMBLES


def _with_error(name: str, long_name: str, units: str) -> dict[str, Attributes]:
    return {
        name: {"long_name": long_name, "units": units},
        f"{name}_se": {"long_name": "its standard error", "units": units},
    }


def _estimated(**estimates: truth.Estimate) -> dict[str, jax.Array]:
    """name, name_se of each."""
    return {f"{name}{end}": x for name, one in estimates.items() for end, x in zip(("", "_se"), one, strict=True)}


# ---- best responses


_BESTS: dict[str, Attributes] = {
    "value_best_deep": {"long_name": "best-response value max_D V", "units": "value"},
    "lag_deep": {"long_name": "discriminator lag, max_D V - V", "units": "value"},
    "jsd_deep": {"long_name": "Jensen-Shannon divergence", "units": "nat"},
    "tv": {"long_name": "total variation distance", "units": "1"},
    "triangular": {"long_name": "triangular discrimination (symmetric chi2)", "units": "1"},
}
_VALUE_DEEP = _with_error("value_deep", "value V(D, G), more nodes", "value")


def _exactly(subject: Subject) -> bool:
    """Whether G's density is known without a kernel (`gandyn.truth.preimages`)."""
    noisy = subject.config.instance_noise != "none"
    return resolved(subject.game, noisy) and not loss_of(subject.config).aux


def _best_metrics(subject: Subject) -> Mapping[str, Attributes]:
    exact, ends = _exactly(subject), ends_of(subject)
    of = "by a change of variables over G's preimages" if exact else "by more nodes and kernels"
    metrics = {
        key: text
        for name, attrs in _BESTS.items()
        for key, text in with_interval(name, {**attrs, "long_name": f"{attrs['long_name']}, {of}"}, ends).items()
    }
    if exact:
        text = "share of latents that are found again from where G sends them"
        metrics["preimages_found"] = {"long_name": text, "units": "share"}
    return metrics | _VALUE_DEEP


def _responses(ratios: jax.Array) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Replicates (M,) of what candidates for log p/q (A, 2, M, N, m) of plain samples give: estimated, and a bound."""
    # V = 2 JSD - log 4; V = 2 TV - 2; V = -1/2 integral of pq / (p + q), and 2 - 4 of that.
    (tv, tv_bound), (triangular, triangular_bound) = divergences("hinge", ratios), divergences("least_squares", ratios)
    return {
        "jsd_deep": jensen_shannon(ratios),
        "tv": (1 + tv / 2, 1 + tv_bound / 2),
        "triangular": (2 + 8 * triangular, 2 + 8 * triangular_bound),
    }


def _best_response(view: View, key: jax.Array) -> Mapping[str, Any]:
    """D's best response, and the divergences; where G's density can be had exactly, what the host needs for that."""
    subject = Subject(view.unscheduled, view.options)
    found: dict[str, Any] = _estimated(value_deep=truth.estimate(view.value))
    if not _exactly(subject):
        bests = {"value_best_deep": view.bests, "lag_deep": view.lags} | _responses(view.clean_log_ratios)
        for name, (best, bound) in bests.items():
            found |= in_interval(name, truth.bounded(best, bound), ends_of(subject))
        return found
    nodes = view.response_nodes
    packs = lambda x: x.reshape(*nodes.logits.shape[1:], -1, *x.shape[1:])  # noqa: E731
    exact = {"points": jnp.stack([packs(nodes.real), packs(nodes.fake)]), "latents": packs(nodes.pairs.latents)}
    exact |= {"logits": nodes.logits, "value": view.value}
    if nodes.pairs.labels is not None:
        exact["labels"] = nodes.pairs.labels.reshape(nodes.logits.shape[1:])
    return found | {"exact": exact}


def _exact_response(view: HostView) -> Mapping[str, Any]:
    """The same of a density without a kernel.

    What the search alone finds gives a function of the point, so a lower bound; with the latents that are known beside,
    of G's samples alone, fewer sheets are missed where q counts than where p does: an upper estimate, and the nearer
    one of the two.
    """
    if "exact" not in view.found:
        return {}
    game, exact = view.game.at(view.state.step), view.found["exact"]
    points, labels = exact["points"], exact.get("labels")  # (2, M, N, m, 2), (M, N)
    own = np.stack([np.full_like(exact["latents"], np.nan), exact["latents"]]).reshape(-1, 2)
    each = None if labels is None else np.broadcast_to(labels[None, :, :, None], points.shape[:-1]).reshape(-1)
    q = preimages.density(game, view.state.variables.gen, points.reshape(-1, 2), each, own)
    log_p = _log_p(game, points.reshape(-1, 2), each)
    with np.errstate(invalid="ignore"):
        ratios = np.stack([np.nan_to_num(log_p - log_q, nan=0.0) for log_q in (q.log_q_found, q.log_q)])
    # What float32 cannot tell from 0 is 0: else hinge's step would tell how a density was computed, and find TV there.
    ratios = np.where(np.abs(ratios) < _NEAREST, 0, np.clip(ratios, -_FURTHEST, _FURTHEST))
    ratios = ratios.astype(np.float32).reshape(2, *points.shape[:-1])
    metrics: dict[str, Any] = {}
    for name, (best, bound) in _exact_values(loss_of(game.config), game.hparams, exact, ratios).items():
        metrics |= in_interval(name, truth.bounded(best, bound, resolution=0.0))
    return {name: np.asarray(x) for name, x in metrics.items()} | {"preimages_found": np.asarray(q.found)}


_NEAREST = 1e-3
_FURTHEST = 20 * math.log(2)
"""The largest |log p/q| of a density without a kernel: cut there, V of a bounded loss changes by less than 1e-5."""


def _log_p(game: Game, points: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """The target's log density at points (Q, 2), given labels (Q,) where there are any: (Q,)."""
    if labels is None:
        return np.asarray(game.target.log_prob(jnp.asarray(points)), float)
    of_classes: Any = game.target
    log_p = np.zeros(len(points))
    for label in np.unique(labels):
        rows = labels == label
        one = of_classes.of_class(int(label), game.config.num_classes)
        log_p[rows] = np.asarray(one.log_prob(jnp.asarray(points)), float)[rows]
    return log_p


@functools.partial(jax.jit, static_argnums=0)
def _exact_values(
    loss: Loss, numbers: HParams, exact: Mapping[str, jax.Array], ratios: jax.Array
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Replicates (M,), estimates and bounds, from log ratios (2, 2, M, N, m): as found, and with the known beside."""
    labels = exact.get("labels")
    both = None if labels is None else jnp.stack([labels, labels])
    bound, best, played = values(loss, numbers, (exact["logits"], both, None), jnp.sum(ratios, axis=-1))
    lags = best - played, bound - played
    bests = exact["value"] + lags[0], exact["value"] + lags[1]
    return {"value_best_deep": bests, "lag_deep": lags} | _responses(ratios)


_GAP_METRICS: dict[str, Attributes] = (
    _with_error("value_worst", "value against G's best response, upper bound of min_G V", "value")
    | _with_error("gap_gen", "G's part of the duality gap, V - min_G V", "value")
    | _with_error("duality_gap", "duality gap max_D V - min_G V", "value")
)


def _gap(view: View, key: jax.Array) -> Mapping[str, Any]:
    game, loss = view.game, loss_of(view.game.config)
    if game.config.num_classes or game.judges_batches or loss.aux:
        # G's best response is a point for each label; where D judges batches, no single point.
        return dict.fromkeys(_GAP_METRICS, jnp.full((), jnp.nan))

    def at_point(x: jax.Array) -> jax.Array:
        return game.discriminate(view.state.variables.disc, jnp.repeat(x, game.config.packing, axis=0))

    worst = truth.worst_value(loss, view.logits[0], truth.extremes(at_point, game.target.box()), game.hparams)
    return _estimated(
        value_worst=truth.estimate(worst.values),
        gap_gen=truth.estimate(view.value - worst.values),
        duality_gap=truth.duality_gap(view.bests[0], worst.values),
    )


# ---- transport


_TRANSPORT_METRICS: dict[str, Attributes] = (
    _with_error("w1", "Wasserstein distance W1 between samples, too large on average", "data")
    | _with_error("w1_low", "lower bound of W1 by a fitted potential on other samples", "data")
    | _with_error("w1_floor", "w1 between two sets of real samples", "data")
    | {
        "lipschitz_low": {"long_name": "largest gradient norm of D found, lower bound of L", "units": "1/data"},
        "lipschitz_high": {"long_name": "bound of D's Lipschitz constant L from its weights", "units": "1/data"},
        "critic_w1_low": {"long_name": "critic's W1 over the upper bound of L: certified", "units": "data"},
        "critic_w1_high": {"long_name": "critic's W1 over the lower bound of L", "units": "data"},
    }
)
_CRITIC = ("lipschitz_low", "lipschitz_high", "critic_w1_low", "critic_w1_high")


def _critic(view: View, key: jax.Array) -> Mapping[str, Any]:
    """D as a critic of W1: the difference of its means over bounds of its Lipschitz constant; samples for the host."""
    game, nodes = view.game, view.nodes
    both = jnp.stack([view.real, view.fake]).reshape(2, NUM_SCRAMBLES, -1, *game.event_shape)
    samples = {"transport_samples": both[:, :, : view.options.num_transport]}
    if game.config.packing > 1 or game.config.num_classes or game.judges_batches:
        return samples | dict.fromkeys(_CRITIC, jnp.full((), jnp.nan))  # no function of a single point
    real, fake = nodes.points.reshape(2, -1, *game.event_shape)[:, :1024]
    near = jnp.concatenate([real, fake, (real + fake) / 2])
    variables = view.state.variables.disc
    low = truth.lipschitz_lower(lambda x: game.discriminate(variables, x), near)
    high = truth.lipschitz_upper(game.discriminator, variables)
    # Either sign is a lower bound, for -D is as steep as D.
    bounds = truth.critic_w1(jnp.abs(jnp.mean(view.logits[0]) - jnp.mean(view.logits[1])), low, high)
    return samples | dict(zip(_CRITIC, (low, high, *bounds), strict=True))


_FLOORS: dict[Any, truth.Estimate] = {}
"""`w1_floor` of targets seen lately, by all that decides it."""


def _transport(view: HostView) -> Mapping[str, Any]:
    """Exact W1 of a run, and the floor of its target at this size."""
    game, samples = view.game, view.found["transport_samples"]
    leaves, structure = jax.tree.flatten(game.target)
    own = (*(np.asarray(leaf).tobytes() for leaf in leaves), structure, samples.shape, view.options.num_deep_nodes)
    if own not in _FLOORS:
        if len(_FLOORS) > 256:
            _FLOORS.clear()
        # Of nodes like the runs' own, but the same for every run and step: numbers must not depend on a run's company.
        key = jax.random.key(0, impl="threefry2x32")
        bits = node_bits(game, view.options.num_deep_nodes, view.options.num_deep_density_nodes)[0]
        uniform = node_uniforms(game, key, jnp.asarray(bits)).reshape(NUM_SCRAMBLES, -1, game.pair_coordinates)
        uniform = uniform[:, : samples.shape[2], : game.target.num_uniforms]
        _FLOORS[own] = truth.w1_floor(np.asarray(jax.vmap(game.target.transform)(uniform)))
    low, high = truth.w1_bounds(*samples)
    return _estimated(w1=high, w1_low=low, w1_floor=_FLOORS[own])


# ---- gradients, quality, paths


_GRADIENTS_METRICS: dict[str, Attributes] = {
    "grad_norm_gen": {"long_name": "norm of G's true gradient", "units": "loss per parameter"},
    "grad_norm_disc": {"long_name": "norm of D's true gradient", "units": "loss per parameter"},
    "grad_cosine_gen": {"long_name": "cosine of G's minibatch gradient with the true one", "units": "1"},
    "grad_cosine_disc": {"long_name": "cosine of D's minibatch gradient with the true one", "units": "1"},
    "grad_snr_gen": {"long_name": "signal to noise of G's minibatch gradient, in power", "units": "1"},
    "grad_snr_disc": {"long_name": "signal to noise of D's minibatch gradient, in power", "units": "1"},
    "noise_scale_gen": {"long_name": "batch size at which G's gradient noise equals its signal", "units": "samples"},
    "noise_scale_disc": {"long_name": "batch size at which D's gradient noise equals its signal", "units": "samples"},
    "sensitivity": {"long_name": "mean slope of G's loss in D's output", "units": "1"},
    "saturation": {"long_name": "share of G's gradient lost to saturation", "units": "share"},
}


def _layers(game: Game) -> dict[str, Attributes]:
    """Per-layer gradient norms, in the order of the layers: grad_norm_gen_dense_0, ..."""
    found = true_gradients.layers(game)
    return {
        f"grad_norm_{player}_{re.sub(r'[^a-z0-9]+', '_', layer.lower())}": {
            "long_name": f"norm of {who}'s true gradient, {layer}",
            "units": "loss",
        }
        for player, who in (("gen", "G"), ("disc", "D"))
        for layer in getattr(found, player)
    }


def _gradients(view: View, key: jax.Array) -> Mapping[str, Any]:
    # The schedules are applied in there.
    found = true_gradients.gradients(view.unscheduled, view.state, key, view.options.num_gradients)
    metrics = {}
    for name in _GRADIENTS_METRICS:
        field, _, player = name.rpartition("_")
        metrics[name] = getattr(getattr(found, field), player) if player in Players._fields else getattr(found, name)
    return metrics | dict(zip(_layers(view.game), jnp.concatenate(list(found.layer_norms)), strict=True))


_KNN = ("precision", "recall", "density", "coverage")
_MEMORIZING = ("memorization", "data_copying")


def _quality_name(name: str) -> str:
    return f"knn_{name}" if name in _KNN else name


def _quality_metrics(subject: Subject) -> Mapping[str, Attributes]:
    left_out = () if subject.config.dataset_size else _MEMORIZING
    return {_quality_name(name): attrs for name, attrs in quality.QUALITY.items() if name not in left_out}


def _quality(view: View, key: jax.Array) -> Mapping[str, Any]:
    game, target = view.game, view.game.target
    draw_key, fresh_key = jax.random.split(key)
    uniform = sampling.uniform(draw_key, (view.options.num_quality, game.pair_coordinates))
    fake = generate(game, view.state.variables.gen, game.pairs(uniform))
    found = quality.quality(target.transform(uniform[:, : target.num_uniforms]), fake, target)._asdict()
    if view.state.data is not None:
        fresh = target.sample(fresh_key, game.config.dataset_size)
        found |= quality.memorization(fake, view.state.data.points, fresh)._asdict()
    return {_quality_name(name): value for name, value in found.items()}


PATH_ALPHA = np.round(np.linspace(-0.1, 1.1, 13), 3)
"""Where path angle and norm are taken: 0 is the state at the last deep measurement, 1 the present one."""
_GEOMETRY_NODES = 1024
_PATH_METRICS: dict[str, Attributes] = {
    "moved_gen": {"long_name": "distance of G from the last measurement, as the crow flies", "units": "parameter"},
    "moved_disc": {"long_name": "distance of D from the last measurement, as the crow flies", "units": "parameter"},
    "displaced_gen": {"long_name": "distance of G from its start", "units": "parameter"},
    "displaced_disc": {"long_name": "distance of D from its start", "units": "parameter"},
    "travelled_gen": {"long_name": "length of G's path since the start, step by step", "units": "parameter"},
    "travelled_disc": {"long_name": "length of D's path since the start, step by step", "units": "parameter"},
}


def _path_metrics(subject: Subject) -> Mapping[str, Attributes]:
    kept = _PATH_METRICS.items()
    return {name: attrs for name, attrs in kept if subject.config.track_path or not name.startswith("travelled")}


def _path(view: View, key: jax.Array) -> Mapping[str, Any]:
    state, past = view.state, view.past
    assert past is not None
    batch = true_gradients.node_batch(view.unscheduled, state, key, _GEOMETRY_NODES)
    before, span = state.replace(params=past.last), (PATH_ALPHA[0], PATH_ALPHA[-1])
    path = jacobian.path(view.unscheduled, before, state, batch, len(PATH_ALPHA), span)
    found = {"path_angle": path.angle, "path_norm": path.norm}
    distances = {"moved": jacobian.distance(past.last, state.params)}
    distances |= {"displaced": jacobian.distance(past.start, state.params), "travelled": state.travelled}
    for name, players in distances.items():
        found |= {} if players is None else {f"{name}_gen": players.gen, f"{name}_disc": players.disc}
    return found


_PATH_ANGLE = {"long_name": "path angle: cosine of the flow with the way from the last state to this", "units": "1"}
_PATH_NORM = {"long_name": "path norm: |flow| on that way", "units": "loss per parameter"}


# ---- the spectrum


_SPECTRUM_METRICS: dict[str, Attributes] = {
    "spectral_radius": {"long_name": "spectral radius of the update map", "units": "1"},
    "max_real": {"long_name": "largest real part of the flow's eigenvalues", "units": "1"},
    "rotation_share": {"long_name": "antisymmetric share of the game Jacobian, in power", "units": "share"},
}


def _num_params(game: Game) -> int:
    shapes = jax.eval_shape(lambda: init(game, jax.random.key(0)).params)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def _spectrum_fields(subject: Subject) -> Mapping[str, FieldSpec]:
    size = _num_params(subject.game)
    num = size if size <= jacobian.DENSE_SIZE else 2 * subject.options.num_eigenvalues
    attrs = {"long_name": "eigenvalues of the flow's Jacobian -d xi / d w", "units": "1"}
    return {"eigenvalues": FieldSpec(("eigenvalue", "part"), (num, 2), attrs)}


_node_batch = jax.jit(true_gradients.node_batch, static_argnums=3)
_rotation_share = jax.jit(jacobian.rotation_share)


def _spectrum(view: HostView) -> Mapping[str, Any]:
    """The eigenvalues (E, 2), real and imaginary part, NaN-padded, and what follows from them."""
    game, state = view.game, view.state
    batch_key, probe_key = view.found["spectrum_keys"]
    batch_key, probe_key = (jax.random.wrap_key_data(key, impl="threefry2x32") for key in (batch_key, probe_key))
    batch = _node_batch(game, state, batch_key, _GEOMETRY_NODES)
    flow = jacobian.spectrum(game, state, batch, view.options.num_eigenvalues)
    # Of the map on a larger minibatch: less of its noise.
    larger = game if game.couples else true_gradients.enlarged(game, _GEOMETRY_NODES)
    update = jacobian.update_spectrum(larger, state, 2)
    return {
        "spectral_radius": jacobian.spectral_radius(update),
        "max_real": jacobian.max_real(flow),
        "rotation_share": float(_rotation_share(game, state, batch, probe_key)),
        "eigenvalues": np.stack([np.real(flow), np.imag(flow)], axis=1),
    }


def _spectrum_keys(view: View, key: jax.Array) -> Mapping[str, Any]:
    return {"spectrum_keys": jax.random.key_data(jax.random.split(key))}


BEST_RESPONSE = Measurement(
    "best_response_deep",
    _best_metrics,
    _best_response,
    host=_exact_response,
    host_seconds=lambda subject: 5.0 if _exactly(subject) else 0.0,
    reads="networks",
    applies=in_the_plane,
    text="max_D V, lag, JSD, TV and triangular discrimination, each in its interval: exact for latents in the plane",
)
GAP = Measurement(
    "gap",
    _GAP_METRICS,
    _gap,
    reads="objectives",
    applies=in_the_plane,
    text="duality gap max_D V - min_G V, G's best response found by a search over the target's box",
)
TRANSPORT = Measurement(
    "transport",
    _TRANSPORT_METRICS,
    _critic,
    host=_transport,
    host_seconds=lambda subject: (subject.options.num_transport / 512) ** 3,
    reads="networks",
    applies=in_the_plane,
    text="exact Wasserstein distance W1 between samples; the critic's estimate over D's Lipschitz bounds",
)
GRADIENTS = Measurement(
    "gradients",
    lambda subject: _GRADIENTS_METRICS | _layers(subject.game),
    _gradients,
    reads="objectives",
    text="both players' true gradients, their cosine with the minibatch's, signal to noise, saturation",
)
QUALITY = Measurement(
    "quality",
    _quality_metrics,
    _quality,
    reads="networks",
    applies=in_the_plane,
    text="precision, recall, density, coverage, Frechet, MMD, sliced W2; memorizing of a fixed data set",
)
PATH = Measurement(
    "path",
    _path_metrics,
    _path,
    fields={
        "path_angle": FieldSpec(("alpha",), PATH_ALPHA.shape, _PATH_ANGLE),
        "path_norm": FieldSpec(("alpha",), PATH_ALPHA.shape, _PATH_NORM),
    },
    axes=lambda options: {"alpha": PATH_ALPHA.tolist()},
    reads="objectives",
    needs_past=True,
    text="distance from the last deep measurement and from the start; path angle and norm on the way between",
)
SPECTRUM = Measurement(
    "spectrum",
    _SPECTRUM_METRICS,
    _spectrum_keys,
    fields=_spectrum_fields,
    axes=lambda options: {"part": ["real", "imaginary"]},
    host=_spectrum,
    host_seconds=lambda subject: 1 + 1.5e-4 * _num_params(subject.game),  # some 450 products with the Jacobian
    text="eigenvalues of the game Jacobian and spectral radius of the update (seconds a run: few runs)",
)
