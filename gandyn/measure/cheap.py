"""Everything measured on ONE GAN at one moment, and what each number means.

Measuring draws from its own stream of randomness and changes nothing in training. It always runs in full float32.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.scipy.special import ndtri

from gandyn import checks, gan, sampling, truth
from gandyn.coverage import CONVENTIONS, coverage, label_accuracy
from gandyn.gan import Config, HParams, Pairs, State
from gandyn.losses import LOSSES, Loss, LossParams
from gandyn.targets import GaussianMixture


@dataclasses.dataclass(frozen=True)
class MeasureConfig:
    """How the truth is measured. Static: one program per distinct value."""

    convention: Literal["veegan", "share", "dyngan_1", "dyngan_2", "dyngan_3", "top_k"] = "veegan"
    """How covered modes and high quality are counted (`gandyn list conventions`)."""
    num_nodes: int = 1024
    """Sobol nodes in each of eight scrambles (a power of two): the accuracy of `value`."""
    num_density_nodes: int = 2**15
    """Nodes pushed through G for its density (a power of two): the sharpness of `value_best` and `jsd`."""
    bandwidth: float = 0.5
    """Std of one blur of the density, in units of the target's narrowest std."""
    num_blurs: int = 3
    """Blurs of the density, of bandwidth * sqrt(1 ... num_blurs), and the order of extrapolation to none."""
    keep_samples: int = 0
    """Generated samples kept in the results at each measurement."""
    keep_surface: int = 0
    """Side of the square grid on which D's output is kept at each measurement."""

    def __post_init__(self) -> None:
        checks.choice("convention", self.convention, CONVENTIONS)
        for name in ("num_nodes", "num_density_nodes"):
            checks.whole(name, getattr(self, name), least=2)
            if getattr(self, name) & (getattr(self, name) - 1):
                raise ValueError(f"{name}: got {getattr(self, name)}; allowed: a power of two")
        for name in ("keep_samples", "keep_surface"):
            checks.whole(name, getattr(self, name), least=0)
        checks.whole("num_blurs", self.num_blurs)
        checks.number("bandwidth", self.bandwidth, 0, above=True)


NUM_SCRAMBLES = 8
"""Independent scrambles of the nodes: enough for a standard error with a usable t interval (7 degrees of freedom)."""

METRICS: dict[str, dict[str, str]] = {
    "loss_disc": {"long_name": "discriminator loss, training minibatch", "units": "loss"},
    "loss_gen": {"long_name": "generator loss, training minibatch", "units": "loss"},
    "loss_total": {"long_name": "discriminator loss + generator loss", "units": "loss"},
    "penalty_term": {"long_name": "penalty term, training minibatch", "units": "loss"},
    "value_batch": {"long_name": "minibatch value", "units": "value"},
    "value": {"long_name": "value V(D, G)", "units": "value"},
    "value_se": {"long_name": "standard error of the value", "units": "value"},
    "value_best": {"long_name": "best-response value, lower bound of max_D V", "units": "value"},
    "value_best_se": {"long_name": "standard error of the best-response value", "units": "value"},
    "lag": {"long_name": "discriminator lag, max_D V - V", "units": "value"},
    "jsd": {"long_name": "Jensen-Shannon divergence, lower bound", "units": "nat"},
    "jsd_se": {"long_name": "standard error of the Jensen-Shannon divergence", "units": "nat"},
    "modes": {"long_name": "modes covered", "units": "modes"},
    "high_quality": {"long_name": "high-quality samples", "units": "share"},
    "mode_tv": {"long_name": "total variation over modes", "units": "1"},
    "reverse_kl": {"long_name": "reverse KL over nearest modes", "units": "nat"},
    "modes_real": {"long_name": "modes covered by real samples", "units": "modes"},
    "high_quality_real": {"long_name": "high-quality real samples", "units": "share"},
    "mode_tv_real": {"long_name": "total variation over modes, real samples", "units": "1"},
    "reverse_kl_real": {"long_name": "reverse KL over nearest modes, real samples", "units": "nat"},
    "finite": {"long_name": "every parameter finite", "units": "1"},
}
"""Name -> attributes of each metric of every run; docs/results.md says what each is."""

EMA_METRICS: dict[str, dict[str, str]] = {
    "jsd_ema": {"long_name": "Jensen-Shannon divergence of G's average, lower bound", "units": "nat"},
    "jsd_ema_se": {"long_name": "its standard error", "units": "nat"},
    "modes_ema": {"long_name": "modes covered by G's average", "units": "modes"},
    "high_quality_ema": {"long_name": "high-quality samples of G's average", "units": "share"},
    "mode_tv_ema": {"long_name": "total variation over modes, G's average", "units": "1"},
    "reverse_kl_ema": {"long_name": "reverse KL over nearest modes, G's average", "units": "nat"},
}
"""Of runs with `gen_ema`."""

CLASS_METRICS: dict[str, dict[str, str]] = {
    "label_accuracy": {"long_name": "samples nearest to a mode of their own class", "units": "share"},
}
"""Of conditional runs, beside `modes_class_0`, `modes_class_1`, ...: the modes covered in each class."""

_COVERAGE = ("modes", "high_quality", "mode_tv", "reverse_kl")


def metrics_of(config: Config) -> dict[str, dict[str, str]]:
    """The metrics of a configuration, in the order of storage."""
    metrics = METRICS | (EMA_METRICS if config.gen_ema else {}) | (CLASS_METRICS if config.num_classes else {})
    for label in range(config.num_classes):
        metrics[f"modes_class_{label}"] = {"long_name": f"modes covered, class {label}", "units": "modes"}
    return metrics


def attributes(config: Config, measure_config: MeasureConfig) -> dict[str, dict[str, str]]:
    """`metrics_of` with the coverage convention written beside each number that it defines."""
    convention = CONVENTIONS[measure_config.convention]
    text = f"{measure_config.convention}: {convention.reference}; {convention.num_samples} samples"
    counted = {name + suffix for name in _COVERAGE for suffix in ("", "_real", "_ema")}
    return {
        name: attrs | ({"convention": text} if name in counted or name.startswith("modes_class") else {})
        for name, attrs in metrics_of(config).items()
    }


def named(config: Config, metrics: Any) -> dict[str, Any]:
    """Metrics (..., number of them) of a configuration by name."""
    return {name: metrics[..., i] for i, name in enumerate(metrics_of(config))}


class Measurement(NamedTuple):
    """What `measure` returns, with one more leading axis of runs when many are measured.

    Attributes:
      metrics: (number of `metrics_of`,), in their order; `named` gives them names.
      samples: (keep_samples, 2), generated.
      surface: (keep_surface, keep_surface), D's output in the target's box, rows along y.
    """

    metrics: jax.Array
    samples: jax.Array
    surface: jax.Array


_CHUNK = 2048  # layers of this many rows stay in a core's cache: 7.6 ms for G on 2^15 nodes, 35 ms in one piece


def _in_chunks(function: Callable[..., jax.Array], *arrays: jax.Array | None, size: int = _CHUNK) -> jax.Array:
    """`function` over the rows of arrays (N, ...), some of which may be None, at most `size` rows at a time."""
    rows = len(jax.tree.leaves(arrays)[0])
    size = rows if rows <= size else math.gcd(rows, size)
    chunks = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), arrays)
    out = jax.lax.map(lambda chunk: function(*chunk), chunks)
    return out.reshape(-1, *out.shape[2:])


def node_bits(config: Config, measure_config: MeasureConfig):
    """The Sobol bits that `measure` takes: for the value (M, N, coordinates of a pack), for the density (1, N', Z)."""
    noise = 0 if config.instance_noise == "none" else 2
    return (
        truth.sobol_bits(NUM_SCRAMBLES, measure_config.num_nodes, config.packing * gan.pair_coordinates(config)),
        truth.sobol_bits(1, measure_config.num_density_nodes, config.latent_dim + noise, seed=1),
    )


def surface_axis(size: int) -> jax.Array:
    """Positions of the surface's grid lines, in half sides of the target's box: (size,) in [-1, 1]."""
    return jnp.linspace(-1, 1, size)


def check(config: Config, measure_config: MeasureConfig) -> None:
    """Raises ValueError for what each of the two allows alone but not together."""
    if measure_config.keep_surface and config.minibatch_layer != "none":
        raise ValueError(
            f"keep_surface: got {measure_config.keep_surface}; allowed with minibatch_layer={config.minibatch_layer!r}:"
            " 0 (D's output at a point depends on the batch around it)"
        )


def _value_nodes(config: Config, key: jax.Array, bits: jax.Array) -> jax.Array:
    """Uniforms (M, N, C) for the value: Sobol nodes, or independent draws where D judges a whole batch."""
    if config.minibatch_layer == "none":
        return truth.uniforms(key, bits)
    # Sobol points in a batch are spread more evenly than samples are, which such a D could see.
    num_scrambles, num_nodes, coordinates = bits.shape
    rows = config.batch_size * max(1, num_nodes // config.batch_size)
    return sampling.uniform(key, (num_scrambles, rows, coordinates))


def _values(
    loss: Loss, params: LossParams, batch_logits: jax.Array, logits: jax.Array, ratios: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Of one loss: the minibatch value (), and V of every critic on every scramble (A + 1, M), D itself the last.

    From D's outputs on a minibatch (2, B) and on the nodes (2, M, N), real then fake, and from candidates for the log
    density ratio on the nodes (A, 2, M, N). Where no optimal critic is known, the A first are NaN.
    """
    critics = jnp.full_like(ratios, jnp.nan) if loss.critic is None else loss.critic(ratios, params)
    scale = loss.scale
    if scale is not None:
        # One number from all nodes: what it adapts to their noise is of the order of 1 / (M N).
        factor = jax.vmap(lambda outputs: scale(outputs[0], outputs[1]))(critics.reshape(len(critics), 2, -1))
        critics = factor[:, None, None, None] * critics
    outputs = jnp.concatenate([critics, logits[None]])
    return -loss.disc(*batch_logits, params), truth.value(loss, outputs, params)


# Losses that differ in G's part alone have one V: the program holds each V once.
_BRANCHES = list({(loss.disc, loss.critic): loss for loss in LOSSES.values()}.values())


def value_index(loss: str) -> int:
    """What `measure` takes for the loss whose V is measured."""
    return [one.disc for one in _BRANCHES].index(LOSSES[loss].disc)


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
    """Measure one GAN.

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
    convention = CONVENTIONS[measure_config.convention]
    value_bits, density_bits = bits
    hparams = gan.scheduled(config, hparams, state.step)
    variables = state.variables
    key = jax.random.fold_in(jax.random.fold_in(state.key, gan.Stream.MEASURE), state.step)
    batch_key, value_key, density_key, coverage_key = jax.random.split(key, 4)
    noisy = config.instance_noise != "none"

    def generate(gen: Any, pairs: Pairs) -> jax.Array:
        return _in_chunks(functools.partial(gan.generate, config, gen), pairs.latents, pairs.labels)

    def discriminate(points: jax.Array, labels: jax.Array | None) -> jax.Array:
        return gan.discriminate(config, variables.disc, points, labels)

    def judged(pairs: Pairs, fake: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What D sees: real and fake points (N, 2) each, from G's samples."""
        return pairs.real, fake if pairs.noise is None else fake + pairs.noise

    # D's outputs on what training would see, and on the nodes.
    batch = gan.draw_batch(config, hparams, batch_key, state.data, target).pairs
    seen = judged(batch, generate(variables.gen, batch))
    batch_logits = jnp.stack([discriminate(points, batch.labels) for points in seen])
    uniform = _value_nodes(config, value_key, value_bits)
    num_scrambles, num_nodes, _ = uniform.shape
    uniform = uniform.reshape(-1, gan.pair_coordinates(config))
    pairs = gan.draw_pairs(config, hparams, target, uniform)
    fake = generate(variables.gen, pairs)
    points = jnp.concatenate(judged(pairs, fake))
    labels = None if pairs.labels is None else jnp.concatenate([pairs.labels, pairs.labels])
    rows = _CHUNK if config.minibatch_layer == "none" else config.batch_size
    logits = _in_chunks(
        lambda x, labels: discriminate(x.reshape(-1, 2), labels), gan.pack(config, points), labels, size=rows
    ).reshape(2, num_scrambles, num_nodes)

    # Log density ratios at the nodes, (A, 2, M, N, m): candidates for critics.
    density_uniform = truth.uniforms(density_key, density_bits)[0]
    density_latents = gan.latents(config, hparams, density_uniform[:, : config.latent_dim])
    density_noise = hparams.noise_std * ndtri(density_uniform[:, config.latent_dim :])

    def log_ratios(gen: Any, points: jax.Array, target: GaussianMixture, noise: bool) -> jax.Array:
        def against(target: GaussianMixture, label: jax.Array | None) -> jax.Array:
            own = None if label is None else jnp.full(len(density_latents), label)
            fake = generate(gen, Pairs(density_latents, density_latents, own, None))
            if noise:
                fake, target = fake + density_noise, target.blur(hparams.noise_std)
            return truth.log_ratios(points, fake, target, grid_size, measure_config.bandwidth, measure_config.num_blurs)

        if labels is None:
            ratios = against(target, None)
        else:
            of_class = lambda label: against(target.of_class(label, config.num_classes), label)  # noqa: E731
            each = jax.lax.map(of_class, jnp.arange(config.num_classes))
            ratios = jnp.take_along_axis(each, labels[None, None, :], axis=0)[0]
        return ratios.reshape(-1, 2, num_scrambles, num_nodes, config.packing)

    def divergence(ratios: jax.Array) -> truth.Estimate:
        """JSD of single samples: the logistic loss bounds it from below, and a constant critic by zero."""
        ratios = ratios.reshape(*ratios.shape[:3], -1)
        best = truth.best_value(truth.value(logistic, jnp.concatenate([ratios, jnp.zeros_like(ratios[:1])])))
        return truth.Estimate((best.mean - logistic.equilibrium()) / 2, best.se / 2)

    logistic = LOSSES["minimax"]
    ratios = log_ratios(variables.gen, points, target, noisy)
    clean_real = target.transform(uniform[:, :3])
    if noisy:
        jsd = divergence(log_ratios(variables.gen, jnp.concatenate([clean_real, fake]), target, False))
    else:
        jsd = divergence(ratios)

    # V of D and of every candidate; the log ratio of a pack is the sum of its samples'.
    branches = [functools.partial(_values, loss, gan.loss_params(hparams)) for loss in _BRANCHES]
    value_batch, values = jax.lax.switch(loss_index, branches, batch_logits, logits, jnp.sum(ratios, axis=-1))
    value = truth.estimate(values[-1])
    # D itself is a candidate too: the lag is never negative but for noise.
    best = truth.best_value(values)

    # Coverage, and what as many real samples get.
    num_samples = max(convention.num_samples, measure_config.keep_samples)
    uniform = sampling.uniform(coverage_key, (num_samples, gan.pair_coordinates(config)))
    drawn = gan.draw_pairs(config, hparams, target, uniform)
    sampled = {"": generate(variables.gen, drawn), "_real": target.transform(uniform[:, :3])}
    if config.gen_ema:
        sampled["_ema"] = generate(state.ema, drawn)
    samples = jnp.stack(list(sampled.values()))
    own = None if drawn.labels is None else drawn.labels[: convention.num_samples]
    covered = jax.vmap(lambda x: coverage(x, target, convention, own, config.num_classes))(
        samples[:, : convention.num_samples]
    )

    center, half = target.box()
    axis = center[None, :] + half * surface_axis(measure_config.keep_surface)[:, None]
    y, x = jnp.meshgrid(axis[:, 1], axis[:, 0], indexing="ij")
    # Packs of m times one point; where conditional, of label 0.
    alike = jnp.repeat(jnp.stack([x.ravel(), y.ravel()], axis=1), config.packing, axis=0)
    surface = discriminate(alike, jnp.zeros(len(alike), jnp.int32) if config.num_classes else None).reshape(x.shape)

    finite = jnp.all(jnp.isfinite(ravel_pytree(state.params)[0]))
    metrics = {
        "loss_disc": state.logged.loss_disc,
        "loss_gen": state.logged.loss_gen,
        "loss_total": state.logged.loss_disc + state.logged.loss_gen,
        "penalty_term": state.logged.penalty,
        "value_batch": value_batch,
        "value": value.mean,
        "value_se": value.se,
        "value_best": best.mean,
        "value_best_se": best.se,
        "lag": best.mean - value.mean,
        "jsd": jsd.mean,
        "jsd_se": jsd.se,
        "finite": finite.astype(jnp.float32),
    }
    for name in _COVERAGE:
        for i, suffix in enumerate(sampled):
            metrics[name + suffix] = getattr(covered, name)[i]
    if config.gen_ema:
        both = jnp.concatenate([clean_real, generate(state.ema, pairs)])
        metrics["jsd_ema"], metrics["jsd_ema_se"] = divergence(log_ratios(state.ema, both, target, False))
    if own is not None:
        metrics["label_accuracy"] = label_accuracy(
            samples[0, : convention.num_samples], target, own, config.num_classes
        )
        for label in range(config.num_classes):
            metrics[f"modes_class_{label}"] = jnp.sum(covered.covered[0, label :: config.num_classes])
    # One array rather than two dozen: over many runs it compiles faster.
    return Measurement(
        jnp.stack([metrics[name].astype(jnp.float32) for name in metrics_of(config)]),
        samples[0, : measure_config.keep_samples],
        surface,
    )
