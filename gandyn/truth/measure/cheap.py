"""The measurements of ONE GAN that are taken often, and what each number means.

Measuring draws from its own stream of randomness and changes nothing in training. It always runs in full float32.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from gandyn import truth
from gandyn.gan import gan, sampling
from gandyn.gan.gan import Config, HParams, State
from gandyn.gan.losses import LOSSES
from gandyn.gan.targets import GaussianMixture
from gandyn.truth import quality
from gandyn.truth.coverage import CONVENTIONS, coverage, label_accuracy
from gandyn.truth.measure import game
from gandyn.truth.measure.config import FieldSpec, MeasureConfig

METRICS: dict[str, dict[str, str]] = {
    "loss_disc": {"long_name": "discriminator loss, training minibatch", "units": "loss"},
    "loss_gen": {"long_name": "generator loss, training minibatch", "units": "loss"},
    "loss_total": {"long_name": "discriminator loss + generator loss", "units": "loss"},
    "penalty_term": {"long_name": "penalty term, training minibatch", "units": "loss"},
    "finite": {"long_name": "every parameter finite", "units": "1"},
}
"""Name -> attributes of what is recorded of every run, whatever is measured; docs/results.md says what each is."""

VALUE_METRICS: dict[str, dict[str, str]] = {
    "value_batch": {"long_name": "minibatch value", "units": "value"},
    "value": {"long_name": "value V(D, G)", "units": "value"},
    "value_se": {"long_name": "standard error of the value", "units": "value"},
}

BEST_METRICS: dict[str, dict[str, str]] = {
    "value_best": {"long_name": "best-response value, lower bound of max_D V", "units": "value"},
    "value_best_se": {"long_name": "standard error of the best-response value", "units": "value"},
    "lag": {"long_name": "discriminator lag, max_D V - V", "units": "value"},
    "lag_se": {"long_name": "standard error of the lag", "units": "value"},
    "jsd": {"long_name": "Jensen-Shannon divergence, lower bound", "units": "nat", "failed": repr(math.log(2))},
    "jsd_se": {"long_name": "standard error of the Jensen-Shannon divergence", "units": "nat"},
}

COVERAGE_METRICS: dict[str, dict[str, str]] = {
    "modes": {"long_name": "modes covered", "units": "modes", "failed": "0"},
    "high_quality": {"long_name": "high-quality samples", "units": "share", "failed": "0"},
    "mode_tv": {"long_name": "total variation over modes", "units": "1", "failed": "1"},
    "reverse_kl": {"long_name": "reverse KL over nearest modes", "units": "nat"},
    "modes_real": {"long_name": "modes covered by real samples", "units": "modes"},
    "high_quality_real": {"long_name": "high-quality real samples", "units": "share"},
    "mode_tv_real": {"long_name": "total variation over modes, real samples", "units": "1"},
    "reverse_kl_real": {"long_name": "reverse KL over nearest modes, real samples", "units": "nat"},
}

EMA_METRICS: dict[str, dict[str, str]] = {
    "jsd_ema": {"long_name": "Jensen-Shannon divergence of G's average, lower bound", "units": "nat"},
    "jsd_ema_se": {"long_name": "its standard error", "units": "nat"},
    "modes_ema": {"long_name": "modes covered by G's average", "units": "modes"},
    "high_quality_ema": {"long_name": "high-quality samples of G's average", "units": "share"},
    "mode_tv_ema": {"long_name": "total variation over modes, G's average", "units": "1"},
    "reverse_kl_ema": {"long_name": "reverse KL over nearest modes, G's average", "units": "nat"},
}
"""Of runs with `gen_ema`, where the best response (JSD) or coverage (the others) is measured."""

CLASS_METRICS: dict[str, dict[str, str]] = {
    "label_accuracy": {"long_name": "samples nearest to a mode of their own class", "units": "share"},
}
"""Of conditional runs, beside `modes_class_0`, `modes_class_1`, ...: the modes covered in each class."""

_COVERAGE = ("modes", "high_quality", "mode_tv", "reverse_kl")


def metrics_of(config: Config, measure_config: MeasureConfig) -> dict[str, dict[str, str]]:
    """The cheap metrics of a configuration, in the order of storage, with the convention beside what it defines."""
    metrics = dict(METRICS)
    ema = EMA_METRICS if config.gen_ema else {}
    if "value" in measure_config.cheap:
        metrics |= VALUE_METRICS
    if "best_response" in measure_config.cheap:
        metrics |= BEST_METRICS | {name: attrs for name, attrs in ema.items() if name.startswith("jsd")}
    if "coverage" in measure_config.cheap:
        counted = COVERAGE_METRICS | {name: attrs for name, attrs in ema.items() if not name.startswith("jsd")}
        counted |= {
            f"modes_class_{label}": {"long_name": f"modes covered, class {label}", "units": "modes"}
            for label in range(config.num_classes)
        }
        convention = CONVENTIONS[measure_config.convention]
        text = f"{measure_config.convention}: {convention.reference}; {convention.num_samples} samples"
        metrics |= {name: attrs | {"convention": text} for name, attrs in counted.items()}
        metrics |= CLASS_METRICS if config.num_classes else {}
    return metrics


def fields_of(measure_config: MeasureConfig, num_modes: int) -> dict[str, FieldSpec]:
    """What `measure` keeps beside the metrics."""
    fields = {}
    if "coverage" in measure_config.cheap:
        fields = {name: FieldSpec(("mode",), (num_modes,), attrs) for name, attrs in quality.MODE_STATS.items()}
    if measure_config.keep_samples:
        shape = (measure_config.keep_samples, 2)
        fields["samples"] = FieldSpec(("sample", "xy"), shape, {"long_name": "generated samples", "units": "data"})
    if measure_config.keep_surface:
        shape = (measure_config.keep_surface, measure_config.keep_surface)
        fields["surface"] = FieldSpec(("surface_y", "surface_x"), shape, {"long_name": "discriminator output"})
    return fields


class Measurement(NamedTuple):
    """What a measurement returns, with one more leading axis of runs when many are measured.

    Attributes:
      metrics: (number of `metrics_of`,), in their order.
      fields: those of `fields_of`.
    """

    metrics: jax.Array
    fields: dict[str, jax.Array]


def surface_axis(size: int) -> jax.Array:
    """Positions of the surface's grid lines, in half sides of the target's box: (size,) in [-1, 1]."""
    return jnp.linspace(-1, 1, size)


# Losses that differ in G's part alone have one V: the program holds each V once.
_BRANCHES = list({(loss.disc, loss.critic): loss for loss in LOSSES.values()}.values())


def value_index(loss: str) -> int:
    """What `measure` takes for the loss whose V is measured."""
    return [one.disc for one in _BRANCHES].index(LOSSES[loss].disc)


def node_bits(config: Config, measure_config: MeasureConfig):
    """The Sobol bits that `measure` takes."""
    return game.node_bits(config, measure_config.num_nodes, measure_config.num_density_nodes)


@jax.default_matmul_precision("float32")
def measure(
    config: Config,
    measure_config: MeasureConfig,
    grid_size: int,
    target: GaussianMixture,
    hparams: HParams,
    state: State,
    loss_index: jax.Array,
    bits: tuple[jax.Array, jax.Array],
) -> Measurement:
    """Measure one GAN: what `measure_config.cheap` names.

    V is that of the game being played: of packs where D judges packs, of noisy samples at the present level of
    instance noise; JSD and coverage are always of G's samples against the target's. Normalization uses its running
    statistics.

    Args:
      config: of the GAN; its `loss` is not read.
      measure_config: how.
      grid_size: cells along each side for the density (`truth.grid_cells`).
      target: p.
      hparams: of the GAN.
      state: whose parameters are measured; its optimizer states are not read.
      loss_index: () `value_index` of the loss whose V is measured. Traced: all losses share one program, for this is
        the program that takes longest to compile.
      bits: `node_bits`.
    """
    hparams = gan.scheduled(config, hparams, state.step)
    key = jax.random.fold_in(jax.random.fold_in(state.key, gan.Stream.MEASURE), state.step)
    batch_key, value_key, density_key, coverage_key = jax.random.split(key, 4)
    metrics = {
        "loss_disc": state.logged.loss_disc,
        "loss_gen": state.logged.loss_gen,
        "loss_total": state.logged.loss_disc + state.logged.loss_gen,
        "penalty_term": state.logged.penalty,
        "finite": jnp.all(jnp.isfinite(ravel_pytree(state.params)[0])),
    }
    fields = {}
    if "value" in measure_config.cheap:
        metrics |= _value(
            config, measure_config, grid_size, target, hparams, state, loss_index, bits,
            (batch_key, value_key, density_key),
        )  # fmt: skip
    if "coverage" in measure_config.cheap or measure_config.keep_samples:
        counted, fields = _coverage(config, measure_config, target, hparams, state, coverage_key)
        metrics |= counted
    if measure_config.keep_surface:
        fields["surface"] = _surface(config, measure_config, target, state)
    # What is asked for of all that; one array rather than two dozen: over many runs it compiles faster.
    wanted = metrics_of(config, measure_config)
    fields = {name: fields[name] for name in fields_of(measure_config, target.num_modes)}
    return Measurement(jnp.stack([metrics[name].astype(jnp.float32) for name in wanted]), fields)


def _value(
    config: Config,
    measure_config: MeasureConfig,
    grid_size: int,
    target: GaussianMixture,
    hparams: HParams,
    state: State,
    loss_index: jax.Array,
    bits: tuple[jax.Array, jax.Array],
    keys: tuple[jax.Array, jax.Array, jax.Array],
) -> dict[str, jax.Array]:
    """V on a minibatch and on nodes, and where asked for the best response and JSD."""
    batch_key, value_key, density_key = keys
    value_bits, density_bits = bits
    variables = state.variables
    batch = gan.draw_batch(config, hparams, batch_key, state.data, target).pairs
    seen = game.judged(batch, game.generate(config, variables.gen, batch))
    batch_logits = jnp.stack([gan.discriminate(config, variables.disc, points, batch.labels) for points in seen])
    nodes = game.on_nodes(config, hparams, target, variables, value_key, value_bits)

    best_response = "best_response" in measure_config.cheap
    if best_response:
        density_uniform = truth.uniforms(density_key, density_bits)[0]
        blurs = (game.Blurs(grid_size, measure_config.bandwidth, measure_config.num_blurs),)
        both = jnp.concatenate([nodes.real, nodes.fake])
        noisy = config.instance_noise != "none"

        def log_ratios(gen, points, noisy):
            return game.log_ratios(config, hparams, target, gen, nodes, points, density_uniform, blurs, noisy)

        ratios = log_ratios(variables.gen, nodes.points, noisy)
    else:
        ratios = jnp.zeros((0, *nodes.logits.shape, config.packing))

    # V of D and of every candidate; the log ratio of a pack is the sum of its samples'.
    params = gan.loss_params(hparams)
    pack_ratios = jnp.sum(ratios, axis=-1)
    branches = [
        lambda batch_logits, logits, ratios, loss=loss: (
            -loss.disc(*batch_logits, params),
            game.values(loss, params, logits, ratios),
        )
        for loss in _BRANCHES
    ]
    value_batch, values = jax.lax.switch(loss_index, branches, batch_logits, nodes.logits, pack_ratios)
    value = truth.estimate(values[-1])
    metrics = {"value_batch": value_batch, "value": value.mean, "value_se": value.se}
    if best_response:
        # D itself is a candidate too: the lag is never negative but for noise.
        replicates = truth.cross_fitted(values)
        best, lag_se = truth.estimate(replicates), truth.estimate(replicates - values[-1]).se
        jsd = game.jensen_shannon(log_ratios(variables.gen, both, False) if noisy else ratios)
        metrics |= {"value_best": best.mean, "value_best_se": best.se, "lag": best.mean - value.mean, "lag_se": lag_se}
        metrics |= {"jsd": jsd.mean, "jsd_se": jsd.se}
        if config.gen_ema:
            both = jnp.concatenate([nodes.real, game.generate(config, state.ema, nodes.pairs)])
            jsd = game.jensen_shannon(log_ratios(state.ema, both, False))
            metrics |= {"jsd_ema": jsd.mean, "jsd_ema_se": jsd.se}
    return metrics


def _coverage(
    config: Config,
    measure_config: MeasureConfig,
    target: GaussianMixture,
    hparams: HParams,
    state: State,
    key: jax.Array,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Coverage of G's samples and of as many real ones, and those of `fields_of` that are made of samples."""
    convention = CONVENTIONS[measure_config.convention]
    num_samples = max(convention.num_samples, measure_config.keep_samples)
    uniform = sampling.uniform(key, (num_samples, gan.pair_coordinates(config)))
    drawn = gan.draw_pairs(config, hparams, target, uniform)
    sampled = {
        "": game.generate(config, state.variables.gen, drawn),
        "_real": target.transform(uniform[:, :3]),
    }
    if config.gen_ema:
        sampled["_ema"] = game.generate(config, state.ema, drawn)
    judged = jnp.stack([x[: convention.num_samples] for x in sampled.values()])
    own = None if drawn.labels is None else drawn.labels[: convention.num_samples]
    covered = jax.vmap(lambda x: coverage(x, target, convention, own, config.num_classes))(judged)
    metrics = {name + suffix: getattr(covered, name)[i] for name in _COVERAGE for i, suffix in enumerate(sampled)}
    if own is not None:
        metrics["label_accuracy"] = label_accuracy(judged[0], target, own, config.num_classes)
        for label in range(config.num_classes):
            metrics[f"modes_class_{label}"] = jnp.sum(covered.covered[0, label :: config.num_classes])
    stats = quality.mode_stats(judged[0], target, convention, own, config.num_classes)
    fields = {f"mode_{name}": value for name, value in stats._asdict().items()}
    return metrics, fields | {"samples": sampled[""][: measure_config.keep_samples]}


def _surface(config: Config, measure_config: MeasureConfig, target: GaussianMixture, state: State) -> jax.Array:
    """D's output (size, size) in the target's box, rows along y."""
    center, half = target.box()
    axis = center[None, :] + half * surface_axis(measure_config.keep_surface)[:, None]
    y, x = jnp.meshgrid(axis[:, 1], axis[:, 0], indexing="ij")
    # Packs of m times one point; where conditional, of label 0.
    alike = jnp.repeat(jnp.stack([x.ravel(), y.ravel()], axis=1), config.packing, axis=0)
    labels = jnp.zeros(len(alike), jnp.int32) if config.num_classes else None
    return gan.discriminate(config, state.variables.disc, alike, labels).reshape(x.shape)
