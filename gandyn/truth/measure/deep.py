"""The measurements of ONE GAN that are taken seldom: what its losses hide.

`measure_deep` is one program for the device. What only a library on the host solves, exact transport and eigenvalues,
is `transport` and `spectrum`, which take its outputs and states.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gandyn import truth
from gandyn.gan import gan, sampling
from gandyn.gan.gan import Config, HParams, Players, State
from gandyn.gan.losses import LOSSES
from gandyn.gan.targets import GaussianMixture
from gandyn.truth import geometry, quality
from gandyn.truth.measure import game
from gandyn.truth.measure.config import FieldSpec, MeasureConfig

_KNN = ("precision", "recall", "density", "coverage")

DEEP_METRICS: dict[str, dict[str, dict[str, str]]] = {
    "best_response": {
        "value_best_deep": {"long_name": "best-response value, more nodes and bandwidths", "units": "value"},
        "value_best_deep_se": {"long_name": "its standard error", "units": "value"},
        "value_deep": {"long_name": "value V(D, G), more nodes", "units": "value"},
        "value_deep_se": {"long_name": "its standard error", "units": "value"},
        "lag_deep": {"long_name": "discriminator lag, more nodes and bandwidths", "units": "value"},
        "lag_deep_se": {"long_name": "its standard error", "units": "value"},
        "jsd_deep": {"long_name": "Jensen-Shannon divergence, lower bound, more nodes and bandwidths", "units": "nat"},
        "jsd_deep_se": {"long_name": "its standard error", "units": "nat"},
        "tv": {"long_name": "total variation distance, lower bound", "units": "1"},
        "tv_se": {"long_name": "its standard error", "units": "1"},
        "triangular": {"long_name": "triangular discrimination (symmetric chi2), lower bound", "units": "1"},
        "triangular_se": {"long_name": "its standard error", "units": "1"},
    },
    "gap": {
        "value_worst": {"long_name": "value against G's best response, upper bound of min_G V", "units": "value"},
        "value_worst_se": {"long_name": "its standard error", "units": "value"},
        "gap_gen": {"long_name": "G's part of the duality gap, V - min_G V", "units": "value"},
        "gap_gen_se": {"long_name": "its standard error", "units": "value"},
        "duality_gap": {"long_name": "duality gap max_D V - min_G V", "units": "value"},
        "duality_gap_se": {"long_name": "its standard error", "units": "value"},
    },
    "transport": {
        "w1": {"long_name": "Wasserstein distance W1 between samples, too large on average", "units": "data"},
        "w1_se": {"long_name": "its standard error", "units": "data"},
        "w1_low": {"long_name": "lower bound of W1 by a fitted potential on other samples", "units": "data"},
        "w1_low_se": {"long_name": "its standard error", "units": "data"},
        "w1_floor": {"long_name": "w1 between two sets of real samples", "units": "data"},
        "w1_floor_se": {"long_name": "its standard error", "units": "data"},
        "lipschitz_low": {"long_name": "largest gradient norm of D found, lower bound of L", "units": "1/data"},
        "lipschitz_high": {"long_name": "bound of D's Lipschitz constant L from its weights", "units": "1/data"},
        "critic_w1_low": {"long_name": "critic's W1 over the upper bound of L: certified", "units": "data"},
        "critic_w1_high": {"long_name": "critic's W1 over the lower bound of L", "units": "data"},
    },
    "gradients": geometry.GRADIENTS,
    "quality": {f"knn_{name}" if name in _KNN else name: attrs for name, attrs in quality.QUALITY.items()},
    "path": {
        f"{name}_{player}": geometry.GEOMETRY[f"{name}_{player}"]
        for name in ("moved", "displaced", "travelled")
        for player in ("gen", "disc")
    },
    "spectrum": {name: geometry.GEOMETRY[name] for name in ("spectral_radius", "max_real", "rotation_share")},
}
"""Measurement -> name -> attributes of each metric; docs/results.md says what each is."""

_MEMORIZING = ("memorization", "data_copying")
_TRAVELLED = ("travelled_gen", "travelled_disc")
PATH_ALPHA = np.round(np.linspace(-0.1, 1.1, 13), 3)
"""Where path angle and norm are taken: 0 is the state at the last deep measurement, 1 the present one."""
_GEOMETRY_NODES = 1024


def _layers(config: Config) -> dict[str, dict[str, str]]:
    """Per-layer gradient norms, in the order of `geometry.layers`: grad_norm_gen_dense_0, ..."""
    return {
        f"grad_norm_{player}_{layer.lower()}": {"long_name": f"norm of {who}'s true gradient, {layer}", "units": "loss"}
        for player, who in (("gen", "G"), ("disc", "D"))
        for layer in getattr(geometry.layers(config), player)
    }


def deep_metrics_of(config: Config, measure_config: MeasureConfig) -> dict[str, dict[str, str]]:
    """The deep metrics of a configuration, in the order of storage."""
    metrics = {}
    for name in measure_config.deep:
        metrics |= DEEP_METRICS[name]
        if name == "gradients":
            metrics |= _layers(config)
    left_out = (() if config.dataset_size else _MEMORIZING) + (() if config.track_path else _TRAVELLED)
    return {name: attrs for name, attrs in metrics.items() if name not in left_out}


def _num_params(config: Config) -> int:
    target = GaussianMixture(jnp.zeros((1, 2)), jnp.ones(1), jnp.ones(1))
    state = jax.eval_shape(lambda: gan.init(config, HParams(), target, jax.random.key(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(state.params))


def deep_fields_of(config: Config, measure_config: MeasureConfig) -> dict[str, FieldSpec]:
    """What is kept beside the deep metrics."""
    fields = {}
    if "path" in measure_config.deep:
        angle = {"long_name": "path angle: cosine of the flow with the way from the last state to this", "units": "1"}
        norm = {"long_name": "path norm: |flow| on that way", "units": "loss per parameter"}
        fields["path_angle"] = FieldSpec(("alpha",), PATH_ALPHA.shape, angle)
        fields["path_norm"] = FieldSpec(("alpha",), PATH_ALPHA.shape, norm)
    if "spectrum" in measure_config.deep:
        size = _num_params(config)
        num = size if size <= geometry.DENSE_SIZE else 2 * measure_config.num_eigenvalues
        attrs = {"long_name": "eigenvalues of the flow's Jacobian -d xi / d w", "units": "1"}
        fields["eigenvalues"] = FieldSpec(("eigenvalue", "part"), (num, 2), attrs)
    return fields


class Past(NamedTuple):
    """Parameters of both players at the start and at the last deep measurement."""

    start: Players
    last: Players


class DeepMeasurement(NamedTuple):
    """What `measure_deep` returns, with one more leading axis of runs when many are measured.

    Attributes:
      metrics: those that the device computes, name -> ().
      fields: those of `deep_fields_of` that it computes.
      samples: (2, M, num_transport, 2), real and G's on the nodes, for exact transport; None where not asked for.
    """

    metrics: dict[str, jax.Array]
    fields: dict[str, jax.Array]
    samples: jax.Array | None


def deep_bits(config: Config, measure_config: MeasureConfig):
    """The Sobol bits that `measure_deep` takes."""
    return game.node_bits(config, measure_config.num_deep_nodes, measure_config.num_deep_density_nodes)


def deep_grids(target: GaussianMixture, measure_config: MeasureConfig) -> tuple[int, ...]:
    """Cells along each side of the density grid for each of `deep_bandwidths`."""
    return tuple(truth.grid_cells(target, bandwidth) for bandwidth in measure_config.deep_bandwidths)


@jax.default_matmul_precision("float32")
def measure_deep(
    config: Config,
    measure_config: MeasureConfig,
    grid_sizes: tuple[int, ...],
    target: GaussianMixture,
    hparams: HParams,
    state: State,
    past: Past,
    bits: tuple[jax.Array, jax.Array],
) -> DeepMeasurement:
    """Measure one GAN: what `measure_config.deep` names, but for what `transport` and `spectrum` do on the host.

    Args:
      config: of the GAN.
      measure_config: how.
      grid_sizes: `deep_grids`.
      target: p.
      hparams: of the GAN.
      state: what is measured.
      past: earlier parameters, for paths.
      bits: `deep_bits`.
    """
    scheduled = gan.scheduled(config, hparams, state.step)
    key = jax.random.fold_in(jax.random.fold_in(state.key, gan.Stream.DEEP), state.step)
    value_key, density_key, gradient_key, sample_key, path_key = jax.random.split(key, 5)
    wanted, metrics, fields, samples = measure_config.deep, {}, {}, None
    if {"best_response", "gap", "transport"} & set(wanted):
        nodes = game.on_nodes(config, scheduled, target, state.variables, value_key, bits[0])
        if {"best_response", "gap"} & set(wanted):
            density_uniform = truth.uniforms(density_key, bits[1])[0]
            metrics |= _values(config, measure_config, grid_sizes, target, scheduled, state, nodes, density_uniform)
        if "transport" in wanted:
            metrics |= _critic(config, target, state, nodes)
            both = jnp.stack([nodes.real, nodes.fake]).reshape(2, game.NUM_SCRAMBLES, -1, 2)
            samples = both[:, :, : measure_config.num_transport]
    if "gradients" in wanted:
        # The schedules are applied in there.
        found = geometry.gradients(config, hparams, target, state, gradient_key, measure_config.num_gradients)
        metrics |= geometry.named(found)
        metrics |= dict(zip(_layers(config), jnp.concatenate(list(found.layer_norms)), strict=True))
    if "quality" in wanted:
        metrics |= _quality(config, measure_config, target, scheduled, state, sample_key)
    if "path" in wanted:
        batch = geometry.node_batch(config, hparams, target, state, path_key, _GEOMETRY_NODES)
        before = dataclasses.replace(state, params=past.last)
        path = geometry.path(config, hparams, before, state, batch, len(PATH_ALPHA), (PATH_ALPHA[0], PATH_ALPHA[-1]))
        fields |= {"path_angle": path.angle, "path_norm": path.norm}
        distances = {"moved": geometry.distance(past.last, state.params)}
        distances |= {"displaced": geometry.distance(past.start, state.params), "travelled": state.travelled}
        for name, players in distances.items():
            metrics |= {} if players is None else {f"{name}_gen": players.gen, f"{name}_disc": players.disc}
    metrics = {name: metrics[name] for name in deep_metrics_of(config, measure_config) if name in metrics}
    return DeepMeasurement(metrics, fields, samples)


def _values(
    config: Config,
    measure_config: MeasureConfig,
    grid_sizes: tuple[int, ...],
    target: GaussianMixture,
    hparams: HParams,
    state: State,
    nodes: game.Nodes,
    density_uniform: jax.Array,
) -> dict[str, jax.Array]:
    """Best responses of both players and the divergences."""
    loss, params = LOSSES[config.loss], gan.loss_params(hparams)
    blurs = tuple(
        game.Blurs(size, bandwidth, measure_config.num_blurs)
        for size, bandwidth in zip(grid_sizes, measure_config.deep_bandwidths, strict=True)
    )

    def log_ratios(points: jax.Array, noisy: bool) -> jax.Array:
        return game.log_ratios(
            config, hparams, target, state.variables.gen, nodes, points, density_uniform, blurs, noisy
        )

    noisy = config.instance_noise != "none"
    ratios = log_ratios(nodes.points, noisy)
    values = game.values(loss, params, nodes.logits, jnp.sum(ratios, axis=-1))
    replicates = truth.cross_fitted(values)
    best, value = truth.estimate(replicates), truth.estimate(values[-1])
    clean = log_ratios(jnp.concatenate([nodes.real, nodes.fake]), False) if noisy else ratios
    jsd, hinge, least_squares = (
        game.jensen_shannon(clean),
        game.divergence("hinge", clean),
        game.divergence("least_squares", clean),
    )
    metrics = {
        "value_best_deep": best.mean,
        "value_best_deep_se": best.se,
        "value_deep": value.mean,
        "value_deep_se": value.se,
        "lag_deep": best.mean - value.mean,
        "lag_deep_se": truth.estimate(replicates - values[-1]).se,  # of nodes that both share
        "jsd_deep": jsd.mean,
        "jsd_deep_se": jsd.se,
        "tv": 1 + hinge.mean / 2,  # V = 2 TV - 2
        "tv_se": hinge.se / 2,
        "triangular": 2 + 8 * least_squares.mean,  # V = -1/2 integral of pq / (p + q), and 2 - 4 of that
        "triangular_se": 8 * least_squares.se,
    }
    if config.num_classes or config.minibatch_layer != "none":
        # G's best response is a point for each label; where D judges batches, no single point.
        return metrics | dict.fromkeys(DEEP_METRICS["gap"], jnp.full((), jnp.nan))

    def at_point(x: jax.Array) -> jax.Array:
        return gan.discriminate(config, state.variables.disc, jnp.repeat(x, config.packing, axis=0))

    worst = truth.worst_value(loss, nodes.logits[0], truth.extremes(at_point, target.box()), params)
    gap, worst_value = truth.duality_gap(replicates, worst.values), truth.estimate(worst.values)
    gap_gen = truth.estimate(values[-1] - worst.values)
    return metrics | {
        "value_worst": worst_value.mean,
        "value_worst_se": worst_value.se,
        "gap_gen": gap_gen.mean,
        "gap_gen_se": gap_gen.se,
        "duality_gap": gap.mean,
        "duality_gap_se": gap.se,
    }


def _critic(config: Config, target: GaussianMixture, state: State, nodes: game.Nodes) -> dict[str, jax.Array]:
    """D as a critic of W1: the difference of its means over bounds of its Lipschitz constant."""
    names = ("lipschitz_low", "lipschitz_high", "critic_w1_low", "critic_w1_high")
    if config.packing > 1 or config.num_classes or config.minibatch_layer != "none":
        return dict.fromkeys(names, jnp.full((), jnp.nan))  # no function of a single point
    real, fake = nodes.points.reshape(2, -1, 2)[:, :1024]
    near = jnp.concatenate([real, fake, (real + fake) / 2])
    low = truth.lipschitz_lower(lambda x: gan.discriminate(config, state.variables.disc, x), near)
    high = truth.lipschitz_upper(gan.discriminator(config), state.variables.disc)
    # Either sign is a lower bound, for -D is as steep as D.
    bounds = truth.critic_w1(jnp.abs(jnp.mean(nodes.logits[0]) - jnp.mean(nodes.logits[1])), low, high)
    return dict(zip(names, (low, high, *bounds), strict=True))


def _quality(
    config: Config,
    measure_config: MeasureConfig,
    target: GaussianMixture,
    hparams: HParams,
    state: State,
    key: jax.Array,
) -> dict[str, jax.Array]:
    draw_key, fresh_key = jax.random.split(key)
    uniform = sampling.uniform(draw_key, (measure_config.num_quality, gan.pair_coordinates(config)))
    fake = game.generate(config, state.variables.gen, gan.draw_pairs(config, hparams, target, uniform))
    found = quality.quality(target.transform(uniform[:, :3]), fake, target)._asdict()
    if state.data is not None:
        fresh = target.sample(fresh_key, config.dataset_size)
        found |= quality.memorization(fake, state.data.points, fresh)._asdict()
    return {f"knn_{name}" if name in _KNN else name: value for name, value in found.items()}


# ---- on the host


def transport(
    config: Config, measure_config: MeasureConfig, samples: np.ndarray, targets: Sequence[GaussianMixture]
) -> dict[str, np.ndarray]:
    """Exact W1 of each run from samples (R, 2, M, N, 2), real and G's, and the floor of its target at this size."""
    names = ("w1", "w1_se", "w1_low", "w1_low_se", "w1_floor", "w1_floor_se")
    # Of nodes like the runs' own, but the same for every run and step: numbers must not depend on a run's company.
    key = jax.random.key(0, impl="threefry2x32")
    uniform = game.node_uniforms(config, key, jnp.asarray(deep_bits(config, measure_config)[0]))
    uniform = uniform.reshape(game.NUM_SCRAMBLES, -1, gan.pair_coordinates(config))[:, : samples.shape[3], :3]
    floors: dict[int, truth.Estimate] = {}
    rows = []
    for (real, fake), target in zip(samples, targets, strict=True):
        if id(target) not in floors:
            floors[id(target)] = truth.w1_floor(np.asarray(jax.vmap(target.transform)(uniform)))
        low, high = truth.w1_bounds(real, fake)
        rows.append((*high, *low, *floors[id(target)]))
    return dict(zip(names, np.asarray(rows, np.float32).T, strict=True))


@functools.lru_cache(maxsize=64)
def _batch_program(config: Config) -> Any:
    return jax.jit(
        lambda hparams, target, state, key: geometry.node_batch(config, hparams, target, state, key, _GEOMETRY_NODES)
    )


@functools.lru_cache(maxsize=64)
def _rotation_program(config: Config) -> Any:
    return jax.jit(functools.partial(geometry.rotation_share, config))


def spectrum(
    config: Config, measure_config: MeasureConfig, target: GaussianMixture, hparams: HParams, state: State
) -> tuple[dict[str, float], np.ndarray]:
    """Of one run: the metrics of "spectrum", and the eigenvalues (E, 2), real and imaginary part, NaN-padded."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, gan.Stream.DEEP), state.step)
    batch_key, probe_key = jax.random.split(jax.random.fold_in(key, 1))
    batch = _batch_program(config)(hparams, target, state, batch_key)
    num = measure_config.num_eigenvalues
    flow = geometry.spectrum(config, hparams, state, batch, num)
    # Of the map on a larger minibatch: less of its noise.
    larger = config if gan.couples_the_batch(config) else dataclasses.replace(config, batch_size=_GEOMETRY_NODES)
    update = geometry.update_spectrum(larger, hparams, target, state, 2)
    metrics = {
        "spectral_radius": geometry.spectral_radius(update),
        "max_real": geometry.max_real(flow),
        "rotation_share": float(_rotation_program(config)(hparams, state, batch, probe_key)),
    }
    return metrics, np.stack([np.real(flow), np.imag(flow)], axis=1)
