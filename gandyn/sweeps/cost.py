"""What a sweep will cost, before it starts: operations, bytes, and seconds on this machine.

Everything is plain arithmetic on a `Config`, cached by it; nothing here traces or compiles a GAN. What depends on the
machine is in a `Calibration`, which takes a fraction of a second.

Passes are counted, not guessed. In units of one forward pass of a network on a minibatch (a layer I -> O costs
2 B I O operations in it, and as much for its kernel's gradient and for its input's):

- D's gradient takes one pass of G, and three (forward, kernels, inputs) of D on real and on fake samples: 1 and 6.
  G's takes three of G, and two of D (whose parameters need none): 3 and 2. Both on one minibatch share G's pass and
  D's on fake samples.
- An input gradient (gradient penalties) takes one pass back and two through it, and where it is not taken at a
  minibatch that D sees anyway, one forward. A smooth activation bends, which sends two more back.
- A product with the game's Jacobian goes through each of a field's passes twice, less what it shares with the field.
- Unrolling goes forward through each of D's updates and back through them, three times D's gradient.

The whole numbers for rules of second order are those of the compiled step (XLA shares what it can, which no formula
foresees): tests/test_cost.py counts them again.
"""

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gandyn.gan import networks
from gandyn.gan.gan import Config, Players
from gandyn.gan.losses import LOSSES
from gandyn.sweeps import ensemble
from gandyn.truth import geometry, measure
from gandyn.truth.coverage import CONVENTIONS
from gandyn.truth.measure import NUM_SCRAMBLES, MeasureConfig

Layers = tuple[tuple[int, int], ...]

# ---- passes and operations

# Passes through D of a penalty's input gradients: where it is taken, and how many of those places need one forward.
_INPUT_GRADIENTS = {"r1": (1, 0), "r2": (1, 0), "r1_r2": (2, 0), "wgan_gp": (1, 1), "wgan_lp": (1, 1), "dragan": (1, 1)}
_PIECEWISE_LINEAR = tuple(name for name, of in networks.ACTIVATIONS.items() if of.piecewise_linear)
_AFFINE_NORMS = ("layer", "batch")
_MINIBATCH_KERNELS, _MINIBATCH_DIM = networks.MinibatchDiscrimination.num, networks.MinibatchDiscrimination.dim

COMPETITIVE_ITERATIONS = 1
"""Of the linear solver in a step of competitive descent: measured at learning rates of 1e-3, where its system is nearly
the identity. Larger rates take more."""


def _bends(config: Config) -> bool:
    """Whether D's input gradient changes smoothly with D's input."""
    linear = config.disc_net == "maxout" or config.disc_activation in _PIECEWISE_LINEAR
    return config.disc_depth > 0 and (not linear or config.disc_norm == "layer")


def _penalty(config: Config) -> tuple[int, int]:
    """Passes through D that the penalty adds to its gradient: (all, those behind the forward ones)."""
    places, forward = _INPUT_GRADIENTS.get(config.penalty, (0, 0))
    behind = places * (5 if _bends(config) else 3)
    return behind + forward, behind


class _Jacobian(NamedTuple):
    """What products with the Jacobian add to the field: passes, and how often they go through a penalty's."""

    gen: int
    disc: int
    penalty: float


_JACOBIAN = {
    "consensus": _Jacobian(16, 32, 4),
    "symplectic": _Jacobian(16, 37, 8 / 3),
    "symplectic_aligned": _Jacobian(22, 47, 14 / 3),
    "drift_cancelling": _Jacobian(8, 16, 2),
    # Only across the players, where the input gradient of a piecewise linear D does not change.
    "competitive": _Jacobian(8 * (1 + COMPETITIVE_ITERATIONS), 16 * (1 + COMPETITIVE_ITERATIONS), 0),
}
_FIELDS = {"extragradient": 2, "heun": 2, "runge_kutta": 4}


def _plus(*terms: tuple[float, Players]) -> Players:
    """The sum of so many times each."""
    return Players(*(sum(factor * each[i] for factor, each in terms) for i in range(2)))


@functools.lru_cache(maxsize=4096)
def passes(config: Config) -> Players:
    """Forward passes of each player on B rows that the matrix products of one step amount to.

    With packs of m, G makes m B samples, and its passes count m. best_response: at most; competitive: with
    `COMPETITIVE_ITERATIONS`.
    """
    penalty, behind = _penalty(config)
    relativistic = int("relativistic" in config.loss)
    # Whether D's, and G's, objective holds the norm of the other's gradient.
    in_disc, in_gen = (float(config.gradient_norm in (name, "both")) for name in ("disc", "gen"))
    disc = _plus((1, Players(1, 6 + penalty)), (in_disc, Players(4, 5 + 2 * relativistic)))
    gen = _plus((1, Players(3, 2 + relativistic)), (in_gen, Players(2, 9 + relativistic)))
    field = _plus((1, Players(3, 7 + penalty)), (in_disc + in_gen, Players(2, 4)))
    if config.dynamics == "alternating":
        # A G that has not moved has made the samples already.
        known = config.second_batch == "same" and config.first == "disc" and config.disc_steps == 1
        found = _plus((config.disc_steps, disc), (config.gen_steps, gen), (-known, Players(1, 0)))
    elif config.dynamics == "best_response":
        found = _plus((1 + config.disc_steps, disc), (1, gen), (-config.disc_steps, Players(1, 0)))
    elif config.dynamics == "unrolled":
        found = _unrolled(config, penalty, behind, relativistic, in_disc, in_gen)
    elif config.dynamics in _JACOBIAN:
        products = _JACOBIAN[config.dynamics]
        share = products.gen / 8
        more = Players(products.gen, products.disc + products.penalty * behind + 2 * share * relativistic)
        found = _plus((1, field), (1, more), (share * in_disc, Players(8, 10)), (share * in_gen, Players(4, 18)))
    else:
        found = _plus((_FIELDS.get(config.dynamics, 1), field))
    return Players(config.packing * found.gen, found.disc)


def _unrolled(config: Config, penalty: int, behind: int, relativistic: int, in_disc: float, in_gen: float) -> Players:
    """D's own gradient, and G's through `unroll_steps` of it and back."""
    steps = config.unroll_steps
    # In a zero-sum game, and in one of pairs, real samples are G's to move, too.
    real = 3 * (LOSSES[config.loss].zero_sum or relativistic)
    own = _plus((1, Players(3, 9 + penalty + real)), (in_disc, Players(4, 5)), (in_gen, Players(2, 9)))
    if steps == 1:
        # D's first update starts from parameters without G in them: it is D's own gradient, and a part of it back.
        return _plus((1, own), (1, Players(2, 4)), (in_disc, Players(14, 18)))
    return _plus((1, own), (steps, Players(2, 18 + penalty + 2 * behind)), (steps * in_disc, Players(14, 18)))


def products(config: Config) -> float:
    """The matrix products of one step, in units of one forward pass of a network on a minibatch: G's and D's."""
    return sum(passes(config))


@functools.lru_cache(maxsize=4096)
def layers(config: Config) -> Players:
    """(inputs, outputs) of each player's kernels, in the order in which a sample passes them."""
    gen_in = (2 * config.gen_fourier or config.latent_dim) + config.num_classes
    gen = _body(gen_in, config.gen_width, 0 if config.gen_net == "affine" else config.gen_depth, 2)
    if config.gen_net == "point":
        gen = ()
    beside = config.num_classes if config.conditioning == "concat" else 0
    disc_in = (2 * config.disc_fourier or 2 * config.packing) + beside
    if config.disc_net in ("bilinear", "quadratic"):
        inputs = disc_in if config.disc_net == "bilinear" else disc_in + disc_in * (disc_in + 1) // 2
        return Players(gen, ((inputs, 1),))
    pieces = config.maxout_pieces if config.disc_net == "maxout" else 1
    extra = {"none": 0, "stddev": 1, "discrimination": _MINIBATCH_KERNELS}[config.minibatch_layer]
    disc = _body(disc_in, config.disc_width, config.disc_depth, 1, pieces, extra)
    hidden = config.disc_width if config.disc_depth else disc_in
    if config.minibatch_layer == "discrimination":
        disc = (*disc[:-1], (hidden, _MINIBATCH_KERNELS * _MINIBATCH_DIM), disc[-1])
    if config.conditioning == "projection":
        disc = (*disc[:-1], (config.num_classes, hidden), disc[-1])
    return Players(gen, disc)


def _body(inputs: int, width: int, depth: int, outputs: int, pieces: int = 1, extra: int = 0) -> Layers:
    sizes = [inputs, *[width] * depth]
    return (*((i, pieces * o) for i, o in itertools.pairwise(sizes)), (sizes[-1] + extra, outputs))


def _weights(config: Config) -> Players:
    return Players(*(sum(i * o for i, o in each) for each in layers(config)))


def flops(config: Config) -> float:
    """Floating-point operations of the matrix products of one step: passes x 2 B x weights, summed over the players.

    At most 6 % more than the compiled step has (tests/test_cost.py), for first layers pass no input gradient back; more
    where their inputs are many beside the width.
    """
    pairs = zip(passes(config), _weights(config), strict=True)
    return sum(2.0 * config.batch_size * count * weights for count, weights in pairs)


# ---- bytes

_MOMENTS = {"sgd": 0, "momentum": 1, "rmsprop": 1, "adam": 2, "adamw": 2, "optimistic_adam": 3}


@functools.lru_cache(maxsize=4096)
def num_params(config: Config) -> Players:
    """Trained numbers of each player."""
    gen, disc = layers(config)
    norms = Players(
        2 * config.gen_width * config.gen_depth * (config.gen_net != "affine") * (config.gen_norm in _AFFINE_NORMS),
        2 * config.disc_width * config.disc_depth * (config.disc_norm in _AFFINE_NORMS),
    )
    # Every kernel has a bias but those of the bilinear D, of minibatch discrimination and of the projected labels.
    bias = sum(o for _, o in disc) if config.disc_net != "bilinear" else 0
    if config.minibatch_layer == "discrimination":
        bias -= _MINIBATCH_KERNELS * _MINIBATCH_DIM
    if config.conditioning == "projection":
        bias -= disc[-2][1]
    point = 2 if config.gen_net == "point" else 0
    weights = _weights(config)
    return Players(weights.gen + sum(o for _, o in gen) + norms.gen + point, weights.disc + bias + norms.disc)


def _num_stats(config: Config) -> Players:
    """Numbers in the other collections: running statistics, power-iteration vectors, frequencies."""
    gen = config.latent_dim * config.gen_fourier
    disc = 2 * config.packing * config.disc_fourier
    if config.gen_norm == "batch":
        gen += 2 * config.gen_width * config.gen_depth
    if config.disc_norm == "batch":
        disc += 2 * config.disc_width * config.disc_depth
    elif config.disc_norm == "spectral":
        disc += sum(o + 1 for _, o in layers(config).disc)
        if config.minibatch_layer == "discrimination":
            disc -= _MINIBATCH_KERNELS * _MINIBATCH_DIM + 1
        if config.conditioning == "projection":
            disc -= layers(config).disc[-2][1] + 1
    return Players(gen, disc)


@functools.lru_cache(maxsize=4096)
def state_bytes(config: Config) -> int:
    """Of one run's `gan.State`, in closed form (the target has no part in it)."""
    params, stats = num_params(config), _num_stats(config)
    numbers = sum(params) + sum(stats)
    for count, name in zip(params, (config.gen_optimizer, config.disc_optimizer), strict=True):
        numbers += _MOMENTS[name] * count + ("adam" in name)  # adam counts its steps
    flags = sum(name == "optimistic_adam" for name in (config.gen_optimizer, config.disc_optimizer))
    if config.dynamics == "optimistic":
        numbers, flags = numbers + sum(params), flags + 2
    numbers += params.gen + stats.gen if config.gen_ema else 0
    numbers += sum(params) * (bool(config.lookahead) + (config.dynamics == "past_extragradient"))
    numbers += 2 * config.track_path + config.dataset_size * (3 if config.num_classes else 2)
    return 4 * (numbers + 6) + flags  # three losses, the step, a key of two words


# ---- seconds: what the machine is

_ROWS = 256
_MAX_WIDTHS = 4
# A normal number over what makes it of a uniform one: random bits take long to compile, and are not calibrated.
_RANDOM = 3.7


class Calibration(NamedTuple):
    """How fast this machine is, with all of its devices busy.

    Attributes:
      num_devices: that share the runs.
      block_size: runs that a device trains together.
      gflops: (width, GFLOP/s of one device in products (B, W) @ (W, W) in float32), by width.
      seconds_per_normal: of one device for one normal number, the yardstick of all that is not a product.
    """

    num_devices: int
    block_size: int
    gflops: tuple[tuple[int, float], ...]
    seconds_per_normal: float

    def flops_per_second(self, width: int) -> float:
        """Of one device, between the widths that were measured by the logarithm."""
        widths, rates = zip(*self.gflops, strict=True)
        return 1e9 * float(np.interp(math.log(width), np.log(widths), rates))


REFERENCE = Calibration(2, 1, ((8, 26.0), (16, 62.0), (32, 98.0), (64, 134.0), (128, 142.0), (256, 148.0)), 13e-9)
"""The machine on which the constants below were measured: AMD EPYC, two cores."""


def calibrate(configs: Iterable[Config], devices: Sequence[Any] | None = None) -> Calibration:
    """The machine's speed at the widths of these configurations, four of them at most. Kept for the process.

    Takes 0.3 to 0.5 s, most of it to compile one small program. All devices work at once, for they share memory, cores
    and power; what else the machine does meanwhile counts, too. Rows are 256 whatever the batch, and products are in
    float32 whatever the precision.
    """
    widths = sorted({width for config in configs for width in (config.gen_width, config.disc_width)})
    if len(widths) > _MAX_WIDTHS:
        widths = [widths[round(i * (len(widths) - 1) / (_MAX_WIDTHS - 1))] for i in range(_MAX_WIDTHS)]
    return _calibrated(tuple(widths), tuple(devices or jax.local_devices()))


@functools.lru_cache(maxsize=64)
def _calibrated(widths: tuple[int, ...], devices: tuple[Any, ...]) -> Calibration:
    block_size = ensemble.default_block_size(devices[0].platform)
    block = (block_size,) if block_size > 1 else ()

    def product(kernel: jax.Array) -> Callable:
        return lambda _, x: jnp.matmul(x, kernel, precision="float32")

    def draw(_: jax.Array, x: jax.Array) -> jax.Array:
        return ndtri(jnp.clip(x - jnp.floor(x), 0.01, 0.99))

    def on_device(counts: jax.Array, carries: list[jax.Array], kernels: list[jax.Array]) -> list[jax.Array]:
        bodies = [*map(product, kernels), draw]
        return [jax.lax.fori_loop(0, counts[i], body, carries[i]) for i, body in enumerate(bodies)]

    same = PartitionSpec()
    mesh = Mesh(np.array(devices), ("device",))
    program = jax.jit(jax.shard_map(on_device, mesh=mesh, in_specs=same, out_specs=same, check_vma=False))
    carries = [np.ones((*block, _ROWS, width), np.float32) for width in widths]
    carries.append(np.linspace(0, 1, block_size * _ROWS * 5, dtype=np.float32))
    kernels = [np.broadcast_to(np.eye(width, dtype=np.float32), (*block, width, width)) for width in widths]
    placed = jax.device_put((carries, kernels), NamedSharding(mesh, same))
    amounts = [2.0 * block_size * _ROWS * width**2 for width in widths] + [float(carries[-1].size)]
    # About 5 ms each on a core of today: far more than the clock resolves.
    repeats = [max(3, round(all_of_them / one)) for one, all_of_them in zip(amounts, [5e8] * len(widths) + [4e5])]

    def seconds(i: int) -> float:
        counts = np.zeros(len(amounts), np.int32)
        counts[i] = repeats[i]
        start = time.perf_counter()
        jax.block_until_ready(program(counts, *placed))
        return time.perf_counter() - start

    seconds(0)  # compiles
    speeds = [one * num / min(seconds(i) for _ in range(3)) for i, (one, num) in enumerate(zip(amounts, repeats))]
    rates = tuple(zip(widths, [speed / 1e9 for speed in speeds]))
    return Calibration(len(devices), block_size, rates, _RANDOM / speeds[-1])


# ---- seconds: training

# In normal numbers drawn: one unit of one sample in one pass, one parameter in one update by Adam.
_PER_UNIT = 0.03
_PER_PARAM = 0.2
# Factors of a unit's: bounded and smooth activations, and normalization.
_SMOOTH, _NORMED = 1.5, 1.3
# Fourier features, for each in each pass; pairs of samples under minibatch discrimination, for each of its dimensions.
_PER_FOURIER, _PER_PAIR = 0.4, 0.045
_UPDATE = {"sgd": 0.4, "momentum": 0.6, "rmsprop": 0.8, "adam": 1.0, "adamw": 1.0, "optimistic_adam": 1.3}
# Of a pass over the parameters that is not an update: an average, a term that is added.
_TREE = 0.4


def _units(config: Config) -> Players:
    """Units of each player's hidden layers, weighed by what a unit costs beside its product."""
    found = []
    for player in Players._fields:
        width, depth, norm = (getattr(config, f"{player}_{name}") for name in ("width", "depth", "norm"))
        net, activation = getattr(config, f"{player}_net"), getattr(config, f"{player}_activation")
        if net in ("affine", "point", "bilinear", "quadratic"):
            depth = 0
        pieces = config.maxout_pieces if net == "maxout" else 1
        factor = _SMOOTH if pieces == 1 and activation not in _PIECEWISE_LINEAR else 1
        factor += _NORMED if norm in _AFFINE_NORMS else 0
        fourier = getattr(config, f"{player}_fourier") * 2 * _PER_FOURIER / _PER_UNIT
        found.append(width * depth * pieces * factor + fourier)
    return Players(*found)


def _minibatches(config: Config) -> int:
    """Drawn in a step."""
    if config.dynamics == "alternating":
        return config.disc_steps + config.gen_steps - (config.second_batch == "same")
    return 2 if config.dynamics in ("extragradient", "best_response") else 1


def _updates(config: Config) -> Players:
    """Updates by Adam that what is done with the parameters of each player in a step amounts to."""
    steps = Players(1.0, 1.0)
    if config.dynamics == "alternating":
        steps = Players(config.gen_steps, config.disc_steps)
    elif config.dynamics == "best_response":
        steps = Players(1, config.disc_steps)
    elif config.dynamics == "extragradient":
        steps = Players(2, 2)
    elif config.dynamics == "unrolled":
        steps = Players(1, 1 + 4 * config.unroll_steps)  # forward, and back through Adam's formula
    terms = {"heun": 2, "runge_kutta": 4, "past_extragradient": 1, "optimistic": 1}.get(config.dynamics, 0)
    if config.dynamics in _JACOBIAN:
        terms = _JACOBIAN[config.dynamics].gen
    terms += 1 if config.lookahead else 0
    terms += 1 if config.track_path else 0
    rules = _UPDATE[config.gen_optimizer], _UPDATE[config.disc_optimizer]
    gen, disc = (count * rule + _TREE * terms for count, rule in zip(steps, rules, strict=True))
    return Players(gen + (_TREE if config.gen_ema else 0), disc)


def _normals_per_pair(config: Config) -> int:
    return 2 + config.latent_dim + (0 if config.instance_noise == "none" else 4)


@functools.lru_cache(maxsize=4096)
def _step_parts(config: Config) -> tuple[Players, float]:
    """Operations in products of each player, and all else in normal numbers, of one step."""
    count, weights, units = passes(config), _weights(config), _units(config)
    rows = config.batch_size
    operations = Players(*(2.0 * rows * c * w for c, w in zip(count, weights, strict=True)))
    other = _minibatches(config) * config.packing * rows * _normals_per_pair(config)
    other += _PER_UNIT * rows * sum(c * u for c, u in zip(count, units, strict=True))
    other += _PER_PARAM * sum(n * u for n, u in zip(num_params(config), _updates(config), strict=True))
    if config.minibatch_layer == "discrimination":
        other += _PER_PAIR * rows**2 * _MINIBATCH_KERNELS * _MINIBATCH_DIM * count.disc
    return operations, other


@functools.lru_cache(maxsize=4096)
def seconds_per_step(config: Config, calibration: Calibration = REFERENCE) -> float:
    """Of one run on one device: products at the measured rate, everything else by the constants above.

    Where a device trains a block of runs together: a block's step over its runs.
    """
    operations, other = _step_parts(config)
    return _seconds(config, operations, calibration) + other * calibration.seconds_per_normal


def _seconds(config: Config, operations: Players, calibration: Calibration) -> float:
    widths = config.gen_width, config.disc_width
    return sum(o / calibration.flops_per_second(w) for o, w in zip(operations, widths, strict=True))


# ---- seconds: measuring

# In normal numbers drawn; where several count one, per point and all of them.
_PER_FORWARD_UNIT = 0.015  # nothing is kept for a way back
_PER_NODE = 1.0
_PER_CELL = 0.22  # of a blur
_PER_BINNED = 2.0
_PER_LOOKUP_AND_MODE = 0.5
_PER_SAMPLE_AND_MODE = 1.2
_PER_QUALITY_PAIR, _PER_NEAREST_PAIR = 0.7, 0.1
_FIXED = 6e3
_PATH_FIELDS, _GEOMETRY_NODES = 16, 1024
_SPECTRUM_PRODUCTS = 450  # with the Jacobian, for all that "spectrum" takes
_TRANSPORT_NORMALS = 8e7  # of eight problems of 512 points a side, on the host


class _Work(NamedTuple):
    """Operations in products of each player, and all else in normal numbers."""

    operations: Players
    other: float


def _forward(config: Config, gen_rows: float, disc_rows: float) -> _Work:
    rows, units = Players(gen_rows, disc_rows), _units(config)
    operations = Players(*(2.0 * r * w for r, w in zip(rows, _weights(config), strict=True)))
    return _Work(operations, _PER_FORWARD_UNIT * sum(r * u for r, u in zip(rows, units, strict=True)))


def _add(*parts: _Work) -> _Work:
    return _Work(_plus(*((1, part.operations) for part in parts)), sum(part.other for part in parts))


def _on_nodes(config: Config, num_nodes: int) -> _Work:
    """Both players on the nodes of the value."""
    num = NUM_SCRAMBLES * num_nodes
    other = num * (config.packing * _normals_per_pair(config) + 2 * _PER_NODE)
    return _add(_forward(config, config.packing * num, 2 * num), _Work(Players(0, 0), other))


def _density(
    config: Config, measure_config: MeasureConfig, num_nodes: int, num_density: int, grids: tuple[int, ...], modes: int
) -> _Work:
    """G's density and the ratios that it gives on the nodes of the value."""
    points = 2 * NUM_SCRAMBLES * num_nodes * config.packing
    blurs = measure_config.num_blurs
    other = num_density * _normals_per_pair(config)
    for size in grids:
        other += _PER_BINNED * num_density + blurs * (_PER_CELL * size**2 + _PER_LOOKUP_AND_MODE * modes * points)
    times = max(1, config.num_classes) * (1 if config.instance_noise == "none" else 2) + bool(config.gen_ema)
    one = _forward(config, num_density, 0)
    return _Work(_plus((times, one.operations)), times * (one.other + other))


@functools.lru_cache(maxsize=4096)
def _cheap_work(config: Config, measure_config: MeasureConfig, grid_size: int, modes: int) -> _Work:
    parts = [_Work(Players(0, 0), _FIXED)]
    if "value" in measure_config.cheap:
        parts.append(_on_nodes(config, measure_config.num_nodes))
    if "best_response" in measure_config.cheap:
        nodes = measure_config.num_nodes, measure_config.num_density_nodes
        parts.append(_density(config, measure_config, *nodes, (grid_size,), modes))
    if "coverage" in measure_config.cheap or measure_config.keep_samples:
        num = max(CONVENTIONS[measure_config.convention].num_samples, measure_config.keep_samples)
        sets = 2 + config.gen_ema
        other = num * (_normals_per_pair(config) + sets * _PER_SAMPLE_AND_MODE * modes)
        parts += [_forward(config, (sets - 1) * num, 0), _Work(Players(0, 0), other)]
    if measure_config.keep_surface:
        parts.append(_forward(config, 0, measure_config.keep_surface**2))
    return _add(*parts)


def _fields(config: Config, rows: float) -> _Work:
    """Both players' gradients on so many rows."""
    simultaneous = _simultaneous(config)
    operations, other = _step_parts(simultaneous)
    share = rows / config.batch_size
    return _Work(_plus((share, operations)), share * other)


@functools.lru_cache(maxsize=4096)
def _simultaneous(config: Config) -> Config:
    plain = {"dynamics": "simultaneous", "gen_optimizer": "sgd", "disc_optimizer": "sgd"}
    alone = {"disc_steps": 1, "gen_steps": 1, "first": "disc", "second_batch": "fresh", "lookahead": 0}
    return dataclasses.replace(config, **plain, **alone)


@functools.lru_cache(maxsize=4096)
def _deep_work(config: Config, measure_config: MeasureConfig, grids: tuple[int, ...], modes: int) -> _Work:
    wanted, parts = set(measure_config.deep), [_Work(Players(0, 0), _FIXED)]
    num_nodes = measure_config.num_deep_nodes
    if {"best_response", "gap", "transport"} & wanted:
        parts.append(_on_nodes(config, num_nodes))
    if {"best_response", "gap"} & wanted:
        parts.append(_density(config, measure_config, num_nodes, measure_config.num_deep_density_nodes, grids, modes))
    if "gradients" in wanted:
        rows = geometry.NUM_SCRAMBLES * _GEOMETRY_NODES + measure_config.num_gradients * config.batch_size
        parts.append(_fields(config, rows))
    if "quality" in wanted:
        num = measure_config.num_quality
        other = _PER_QUALITY_PAIR * num**2 + _PER_NEAREST_PAIR * 2 * num * config.dataset_size
        parts += [_forward(config, num, 0), _Work(Players(0, 0), other)]
    if "path" in wanted:
        parts.append(_fields(config, _PATH_FIELDS * _GEOMETRY_NODES))
    return _add(*parts)


@functools.lru_cache(maxsize=4096)
def seconds_to_measure(
    config: Config,
    measure_config: MeasureConfig,
    grid_size: int,
    num_modes: int,
    calibration: Calibration = REFERENCE,
) -> float:
    """Of one run on one device, once, what is cheap. `grid_size`: `truth.grid_cells` of its target."""
    return _time(config, _cheap_work(config, measure_config, grid_size, num_modes), calibration)


@functools.lru_cache(maxsize=4096)
def seconds_to_measure_deep(
    config: Config,
    measure_config: MeasureConfig,
    deep_grids: tuple[int, ...],
    num_modes: int,
    calibration: Calibration = REFERENCE,
) -> tuple[float, float]:
    """Of one run, once, in depth: on one device, and on the host (exact transport, spectrum), which goes run by run.

    `deep_grids`: `measure.deep_grids` of its target.
    """
    on_device = _time(config, _deep_work(config, measure_config, deep_grids, num_modes), calibration)
    on_host = 0.0
    if "transport" in measure_config.deep:
        on_host += _TRANSPORT_NORMALS * (measure_config.num_transport / 512) ** 3 * calibration.seconds_per_normal
    if "spectrum" in measure_config.deep:
        on_host += _time(config, _fields(config, 3 * _SPECTRUM_PRODUCTS * _GEOMETRY_NODES), calibration)
    return on_device, on_host


def _time(config: Config, work: _Work, calibration: Calibration) -> float:
    return _seconds(config, work.operations, calibration) + work.other * calibration.seconds_per_normal


# ---- seconds: compiling

_INIT, _ADVANCE, _MEASURE = 1.2, 2.4, 1.5
_ADVANCE_MORE = {
    "consensus": 1.5, "symplectic": 2.0, "symplectic_aligned": 2.5, "drift_cancelling": 1.2, "competitive": 2.3,
    "unrolled": 1.5, "extragradient": 0.6, "runge_kutta": 0.7, "best_response": 0.8,
}  # fmt: skip
_NORM_MORE = {"none": 0.0, "layer": 0.3, "batch": 0.8, "spectral": 1.6}
_CHEAP_MORE = {"value": 1.2, "best_response": 1.2, "coverage": 1.0}
_DEEP_MORE = {
    "best_response": 6.0, "gap": 3.0, "transport": 2.5, "gradients": 3.5, "quality": 2.5, "path": 2.0, "spectrum": 12.0
}  # fmt: skip


@functools.lru_cache(maxsize=4096)
def _programs(
    config: Config, measure_config: MeasureConfig, grids: tuple[int, tuple[int, ...]], num_modes: int, deep: bool
) -> tuple[tuple[Hashable, float], ...]:
    depth = (config.gen_depth + config.disc_depth) / 4
    norms = _NORM_MORE[config.gen_norm] + _NORM_MORE[config.disc_norm]
    advance = _ADVANCE * (1 + depth) / 2 + _ADVANCE_MORE.get(config.dynamics, 0) + norms
    cheap = _MEASURE + sum(_CHEAP_MORE[name] for name in measure_config.cheap)
    without = ensemble._without
    measured = without(config, ensemble._NOT_IN_MEASURE)
    programs = [
        (("init", without(config, ensemble._NOT_IN_INIT), num_modes), _INIT),
        (("advance", config, num_modes), advance),
        (("measure", measured, dataclasses.replace(measure_config, deep=()), grids[0], num_modes), cheap),
    ]
    if deep:
        seconds = sum(_DEEP_MORE[name] for name in measure_config.deep)
        deeper = without(config, ensemble._NOT_IN_DEEP)
        programs.append((("deep", deeper, measure_config, grids[1], num_modes), seconds))
    return tuple(programs)


def programs(
    config: Config,
    measure_config: MeasureConfig,
    grids: tuple[int, tuple[int, ...]],
    num_modes: int,
    deep: bool = False,
) -> dict[Hashable, float]:
    """What compiles for a group: a name of each program -> seconds on the machine of `REFERENCE`.

    Groups that share a program name it alike, so the union of their dicts is what a sweep compiles.
    """
    return dict(_programs(config, measure_config, grids, num_modes, deep))


def seconds_to_compile(
    config: Config,
    measure_config: MeasureConfig,
    grids: tuple[int, tuple[int, ...]] = (0, ()),
    num_modes: int = 8,
    deep: bool = False,
) -> float:
    """Of one group alone, with nothing compiled before."""
    return sum(programs(config, measure_config, grids, num_modes, deep).values())


# ---- bytes at work


def _activation_bytes(config: Config) -> float:
    """Of what one run's step keeps for its way back."""
    units = Players(
        config.packing * config.gen_width * config.gen_depth,
        config.disc_width * config.disc_depth * (config.maxout_pieces if config.disc_net == "maxout" else 1),
    )
    # Before and after each nonlinearity; of real and of fake samples.
    kept = 4.0 * 2 * config.batch_size * (units.gen + 2 * units.disc)
    if config.minibatch_layer == "discrimination":
        kept += 4.0 * config.batch_size**2 * _MINIBATCH_KERNELS * _MINIBATCH_DIM
    times = 2 + 2 * config.unroll_steps if config.dynamics == "unrolled" else 2
    return kept * (2 * times if config.dynamics in _JACOBIAN or config.gradient_norm != "none" else times)


@functools.lru_cache(maxsize=4096)
def work_bytes(
    config: Config, measure_config: MeasureConfig, grids: tuple[int, tuple[int, ...]], block_size: int
) -> float:
    """What one device needs beside the states: the larger of a block's step and one run's measurement.

    `grids`: cells along each side of the density grids, cheap (`truth.grid_cells`) and deep (`measure.deep_grids`,
    empty where nothing is measured in depth).
    """

    def of_measuring(num_nodes: int, num_density: int, sizes: tuple[int, ...]) -> float:
        points = 2.0 * NUM_SCRAMBLES * num_nodes * config.packing
        candidates = 2 * measure_config.num_blurs * max(1, len(sizes)) * max(1, config.num_classes)
        coordinates = 3 + config.latent_dim
        # The grid, its blurs, and padded copies of them; candidates and what they are made of.
        return 4 * (
            8 * max(sizes, default=0) ** 2 + points * (3 * candidates + 2 * coordinates) + 4 * num_density * coordinates
        )

    cheap = of_measuring(measure_config.num_nodes, measure_config.num_density_nodes, (grids[0],))
    deep = 0.0
    if grids[1]:
        deep = of_measuring(measure_config.num_deep_nodes, measure_config.num_deep_density_nodes, grids[1])
        fields = dataclasses.replace(config, batch_size=max(config.batch_size, _GEOMETRY_NODES))
        deep = max(deep, _activation_bytes(fields))
    return max(block_size * _activation_bytes(config), cheap, deep)


@functools.lru_cache(maxsize=4096)
def _recorded(config: Config, measure_config: MeasureConfig, num_modes: int, deep: bool) -> tuple[int, int]:
    """Numbers that a run records at a measurement: metrics, and entries of fields."""
    fields = list(measure.fields_of(measure_config, num_modes).values())
    num_metrics = len(measure.metrics_of(config, measure_config))
    if not deep:
        return num_metrics, sum(math.prod(field.shape) for field in fields)
    # Layers' gradient norms and the number of eigenvalues follow from the sizes; measure would trace for them.
    named = tuple(name for name in measure_config.deep if name != "gradients")
    num_metrics += len(measure.deep_metrics_of(config, dataclasses.replace(measure_config, deep=named)))
    if "gradients" in measure_config.deep:
        num_metrics += len(geometry.GRADIENTS) + _num_layers(config)
    named = tuple(name for name in named if name != "spectrum")
    fields += measure.deep_fields_of(config, dataclasses.replace(measure_config, deep=named)).values()
    num_numbers = sum(math.prod(field.shape) for field in fields)
    if "spectrum" in measure_config.deep:
        size = sum(num_params(config))
        num_numbers += 2 * (size if size <= geometry.DENSE_SIZE else 2 * measure_config.num_eigenvalues)
    return num_metrics, num_numbers


def _num_layers(config: Config) -> int:
    """Layers with parameters of both players, normalizations among them."""
    gen, disc = layers(config)
    norms = (config.gen_norm in _AFFINE_NORMS) * config.gen_depth * (config.gen_net not in ("affine", "point"))
    norms += (config.disc_norm in _AFFINE_NORMS) * config.disc_depth
    return max(1, len(gen)) + len(disc) + norms


# ---- all of it

_STATES = 2.6

PROGRAM_BYTES = 40 * 2**20
"""What a process keeps of each program that it has compiled, about (measured: 15 to 60 MiB)."""


def block_size(config: Config, measure_config: MeasureConfig, grids: tuple[int, tuple[int, ...]]) -> int:
    """Runs that a device trains together: the default of its kind, halved until their work fits into half its memory.

    It depends on the configuration and the kind of device alone, as a run's bits may depend on it.
    """
    device = jax.local_devices()[0]
    size = ensemble.default_block_size(device.platform)
    limit = (device.memory_stats() or {}).get("bytes_limit", math.inf)
    while size > 1 and work_bytes(config, measure_config, grids, size) > limit / 2:
        size //= 2
    return size


class Estimate(NamedTuple):
    """What a group of runs of one configuration costs.

    Attributes:
      run_steps: steps of all runs together.
      programs: what compiles (`programs`); the union over groups is what a sweep compiles.
      training, measuring: seconds with every device at work.
      host_bytes: what the host keeps of results, beside the process itself, its programs (`PROGRAM_BYTES`) and what
        compiling them takes for a moment (0.5 GiB, 1 GiB with deep measurements).
      device_bytes: states and work on all devices together; on CPU they share the host's memory.
      disk_bytes: of the results, before compression.
    """

    run_steps: int
    programs: dict[Hashable, float]
    training: float
    measuring: float
    host_bytes: float
    device_bytes: float
    disk_bytes: float

    @property
    def compiling(self) -> float:
        """Seconds, where nothing was compiled before."""
        return sum(self.programs.values())

    @property
    def seconds(self) -> float:
        """Training, measuring and compiling."""
        return self.training + self.measuring + self.compiling


def estimate(
    config: Config,
    measure_config: MeasureConfig,
    num_runs: int,
    num_steps: int,
    measure_every: int,
    deep_every: int = 0,
    *,
    num_modes: int,
    grids: tuple[int, tuple[int, ...]],
    calibration: Calibration = REFERENCE,
    in_memory: bool = False,
) -> Estimate:
    """What `num_runs` runs of one configuration cost, trained together.

    Args:
      config: of the runs.
      measure_config: how they are measured.
      num_runs: R.
      num_steps: generator updates of each.
      measure_every: generator updates between measurements.
      deep_every: the same of deep ones; 0 takes none.
      num_modes: of their target.
      grids: cells along each side of the density grids, cheap (`truth.grid_cells`) and deep (`measure.deep_grids`).
      calibration: of the machine.
      in_memory: results are kept in memory rather than written.
    """
    num_devices, block_size = calibration.num_devices, calibration.block_size
    blocks = math.ceil(num_runs / (block_size * num_devices))
    num_cheap = -(-num_steps // measure_every) + 1
    num_deep = -(-num_steps // deep_every) + 1 if deep_every else 0
    deep = num_deep > 0
    if not deep:
        grids = grids[0], ()

    training = blocks * block_size * num_steps * seconds_per_step(config, calibration)
    each = math.ceil(num_runs / num_devices)
    measuring = each * num_cheap * seconds_to_measure(config, measure_config, grids[0], num_modes, calibration)
    if deep:
        on_device, on_host = seconds_to_measure_deep(config, measure_config, grids[1], num_modes, calibration)
        measuring += num_deep * (each * on_device + num_runs * on_host)

    num_metrics, num_numbers = _recorded(config, measure_config, num_modes, deep)
    held = 4.0 * num_runs * (num_metrics + num_numbers)
    # Every array has at least two blocks a device (`ensemble._map`). Old and new states live side by side for a moment,
    # and a part of them a third time (measured: 2.6 states a run at width 64, between 64 and 512 runs).
    padded = num_devices * max(2, blocks) * block_size
    states = _STATES * padded * state_bytes(config) + deep * 2.0 * padded * 4 * sum(num_params(config))
    return Estimate(
        run_steps=num_runs * num_steps,
        programs=programs(config, measure_config, grids, num_modes, deep),
        training=training,
        measuring=measuring,
        host_bytes=held * (num_cheap if in_memory else 2),
        device_bytes=states + num_devices * work_bytes(config, measure_config, grids, block_size) + 2 * held,
        disk_bytes=held * num_cheap,
    )
