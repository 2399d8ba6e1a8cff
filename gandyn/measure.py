"""Everything measured on ONE GAN at one moment, and what each number means.

Measuring draws from its own stream of randomness and changes nothing in training. It always runs in full float32.
"""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from gandyn import checks, gan, sampling, truth
from gandyn.coverage import CONVENTIONS, coverage
from gandyn.gan import Config, State
from gandyn.losses import LOSSES, Loss
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
"""Name -> attributes of each metric, in the order of storage; docs/results.md says what each is."""

_COVERAGE = ("modes", "high_quality", "mode_tv", "reverse_kl")


def attributes(measure_config: MeasureConfig) -> dict[str, dict[str, str]]:
    """`METRICS` with the coverage convention written beside each number that it defines."""
    convention = CONVENTIONS[measure_config.convention]
    text = f"{measure_config.convention}: {convention.reference}; {convention.num_samples} samples"
    counted = {name + suffix for name in _COVERAGE for suffix in ("", "_real")}
    return {name: attrs | ({"convention": text} if name in counted else {}) for name, attrs in METRICS.items()}


def named(metrics: Any) -> dict[str, Any]:
    """Metrics (..., len(METRICS)) by name."""
    return {name: metrics[..., i] for i, name in enumerate(METRICS)}


class Measurement(NamedTuple):
    """What `measure` returns, with one more leading axis of runs when many are measured.

    Attributes:
      metrics: (len(METRICS),), in the order of `METRICS`; `named` gives them names.
      samples: (keep_samples, 2), generated.
      surface: (keep_surface, keep_surface), D's output in the target's box, rows along y.
    """

    metrics: jax.Array
    samples: jax.Array
    surface: jax.Array


_CHUNK = 2048  # layers of this many rows stay in a core's cache: 7.6 ms for G on 2^15 nodes, 35 ms in one piece


def _in_chunks(function, x: jax.Array) -> jax.Array:
    """`function` over the rows of x (N, ...), a chunk at a time; N is a power of two."""
    chunks = x.reshape(-1, min(_CHUNK, len(x)), *x.shape[1:])
    out = jax.lax.map(function, chunks)
    return out.reshape(-1, *out.shape[2:])


def node_bits(config: Config, measure_config: MeasureConfig):
    """The Sobol bits that `measure` takes: for the value (M, N, 3 + Z), for the density (1, N', Z)."""
    return (
        truth.sobol_bits(NUM_SCRAMBLES, measure_config.num_nodes, gan.pair_coordinates(config)),
        truth.sobol_bits(1, measure_config.num_density_nodes, config.latent_dim, seed=1),
    )


def surface_axis(size: int) -> jax.Array:
    """Positions of the surface's grid lines, in half sides of the target's box: (size,) in [-1, 1]."""
    return jnp.linspace(-1, 1, size)


def _values(loss: Loss, batch_logits: jax.Array, logits: jax.Array, ratios: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of one loss: the minibatch value (), and V of every critic on every scramble (A + 1, M), D itself the last.

    From D's outputs on a minibatch (2, B) and on the nodes (2, M, N), real then fake, and from candidates for the log
    density ratio on the nodes (A, 2, M, N). Where the optimal critic is no function of it, the A first are NaN.
    """
    critics = jnp.full_like(ratios, jnp.nan) if loss.critic is None else loss.critic(ratios)
    return -loss.disc(*batch_logits), truth.value(loss, jnp.concatenate([critics, logits[None]]))


@jax.default_matmul_precision("float32")
def measure(
    config: Config,
    measure_config: MeasureConfig,
    grid_size: int,
    target: GaussianMixture,
    state: State,
    loss_index: jax.Array,
    bits: tuple[jax.Array, jax.Array],
) -> Measurement:
    """Measure one GAN.

    Args:
      config: of the GAN; its `loss` is not read.
      measure_config: how.
      grid_size: cells along each side for the density (`truth.grid_cells`).
      target: p.
      state: whose parameters are measured; its optimizer states are not read.
      loss_index: () position in `LOSSES` of the loss whose V is measured. Traced: all losses share one program, for
        this is the program that takes longest to compile.
      bits: `node_bits`.
    """
    convention = CONVENTIONS[measure_config.convention]
    value_bits, density_bits = bits
    key = jax.random.fold_in(jax.random.fold_in(state.key, gan.Stream.MEASURE), state.step)
    batch_key, value_key, density_key, coverage_key = jax.random.split(key, 4)
    generate = lambda z: gan.generate(config, state.params.gen, z)  # noqa: E731
    discriminate = lambda x: gan.discriminate(config, state.params.disc, x)  # noqa: E731

    # D's outputs on what training would see, and on the nodes.
    batch = gan.draw_batch(config, batch_key, state.data, target)
    batch_logits = discriminate(jnp.concatenate([batch.real, generate(batch.latents)])).reshape(2, -1)
    uniform = truth.uniforms(value_key, value_bits).reshape(-1, value_bits.shape[-1])
    real, z = gan.draw_pairs(config, target, uniform)
    nodes = jnp.concatenate([real, _in_chunks(generate, z)])
    logits = _in_chunks(discriminate, nodes).reshape(2, *value_bits.shape[:2])

    # Critics from the density ratio, on the same nodes.
    z = gan.latents(config, truth.uniforms(density_key, density_bits)[0])
    points = _in_chunks(generate, z)
    ratios = truth.log_ratios(
        nodes, points, target, grid_size, measure_config.bandwidth, measure_config.num_blurs
    ).reshape(-1, *logits.shape)
    branches = [functools.partial(_values, loss) for loss in LOSSES.values()]
    value_batch, values = jax.lax.switch(loss_index, branches, batch_logits, logits, ratios)
    value = truth.estimate(values[-1])
    # D itself is a candidate too: the lag is never negative but for noise.
    best = truth.best_value(values)
    # The logistic loss bounds the divergence from below; a constant critic bounds it by zero.
    logistic = LOSSES["minimax"]
    jsd = truth.best_value(truth.value(logistic, jnp.concatenate([ratios, jnp.zeros_like(ratios[:1])])))

    # Coverage, and what as many real samples get.
    num_samples = max(convention.num_samples, measure_config.keep_samples)
    uniform = sampling.uniform(coverage_key, (num_samples, gan.pair_coordinates(config)))
    real, z = gan.draw_pairs(config, target, uniform)
    samples = jnp.stack([generate(z), real])
    covered = jax.vmap(lambda x: coverage(x, target, convention))(samples[:, : convention.num_samples])

    center, half = target.box()
    axis = center[None, :] + half * surface_axis(measure_config.keep_surface)[:, None]
    y, x = jnp.meshgrid(axis[:, 1], axis[:, 0], indexing="ij")
    surface = discriminate(jnp.stack([x.ravel(), y.ravel()], axis=1)).reshape(x.shape)

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
        "jsd": (jsd.mean - logistic.equilibrium) / 2,
        "jsd_se": jsd.se / 2,
        "finite": finite.astype(jnp.float32),
    }
    for name in _COVERAGE:
        metrics[name], metrics[name + "_real"] = getattr(covered, name)
    # One array rather than two dozen: over many runs it compiles faster.
    return Measurement(
        jnp.stack([metrics[name].astype(jnp.float32) for name in METRICS]),
        samples[0, : measure_config.keep_samples],
        surface,
    )
