"""`View`: one GAN at one moment, as measurements see it; what several of them need is made once, when first asked for.

Shapes: M scrambles, N nodes in each, m points in a pack, A candidate critics, E the shape of a sample.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gandyn import truth
from gandyn.gan import sampling
from gandyn.gan.config import Config, loss_of
from gandyn.gan.game import Game
from gandyn.gan.loss import Loss, Outputs
from gandyn.gan.losses import LOSSES
from gandyn.gan.number import HParams, gathered
from gandyn.gan.state import Pairs, Players, State, Stream
from gandyn.truth.coverage import CONVENTIONS
from gandyn.truth.measure.measurement import Subject
from gandyn.truth.nodes import NUM_SCRAMBLES

NUM_PILOT = 128
"""Samples of each side by which the width of the density's kernels is chosen."""
CHUNK = 1024
"""Rows at a time: layers of so many stay in a core's cache (7.6 ms for G on 2^15 nodes, 35 ms in one piece)."""

# Losses that differ in G's part alone have one V: a program holds each V once, and serves them all.
SHARED: tuple[Loss, ...] = tuple({(loss.disc, loss.critic): loss for loss in LOSSES.values() if not loss.aux}.values())
SHARED_NUMBERS = gathered((loss.name, loss.numbers) for loss in SHARED)


def losses_of(config: Config, shared: bool) -> tuple[tuple[Loss, ...], int]:
    """The losses that a measuring program holds, and which of them is the config's; `shared`: it serves others, too."""
    loss = loss_of(config)
    for index, one in enumerate(SHARED if shared else ()):
        if (one.disc, one.critic) == (loss.disc, loss.critic):
            return SHARED, index
    return (loss,), 0


class Past(NamedTuple):
    """Parameters of both players at the start and at the last deep measurement."""

    start: Players
    last: Players


class Nodes(NamedTuple):
    """The game on nodes: M N m pairs, and D's outputs.

    Attributes:
      real: (M N m, *E), real samples without instance noise.
      fake: (M N m, *E), G's, likewise.
      pairs: what they were made of.
      points: (2 M N m, *E), what D sees: real, then fake.
      labels: (2 M N m,), None where unconditional.
      logits: (2, M, N), D's outputs: real, then fake.
      aux: what D's module sowed, leaves (2, M, N, ...), for losses that read it.
    """

    real: jax.Array
    fake: jax.Array
    pairs: Pairs
    points: jax.Array
    labels: jax.Array | None
    logits: jax.Array
    aux: Any


def in_chunks(function: Callable[..., Any], *arrays: Any, size: int = CHUNK) -> Any:
    """`function` over the rows of arrays (N, ...), some of which may be None, at most `size` rows at a time."""
    rows = len(jax.tree.leaves(arrays)[0])
    num_chunks = -(-rows // size)
    size = -(-rows // num_chunks)
    if num_chunks * size > rows:  # the last chunk is filled up with its last row
        index = np.minimum(np.arange(num_chunks * size), rows - 1)
        arrays = jax.tree.map(lambda x: x[index], arrays)
    chunks = jax.tree.map(lambda x: x.reshape(num_chunks, size, *x.shape[1:]), arrays)
    out = jax.lax.map(lambda chunk: function(*chunk), chunks)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:rows], out)


def generate(game: Game, gen: Any, pairs: Pairs) -> jax.Array:
    """G's samples of pairs (N): (N, *E), without instance noise."""
    return in_chunks(functools.partial(game.generate, gen), pairs.latents, pairs.labels)


def judged(pairs: Pairs, fake: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What D sees: real and fake samples (N, *E) each, from G's."""
    return pairs.real, fake if pairs.noise is None else fake + pairs.noise


def node_bits(game: Game, num_nodes: int, num_density_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Sobol bits: for the value (M, num_nodes, coordinates of a pack), for the density (1, num_density_nodes, Z)."""
    return (
        truth.sobol_bits(NUM_SCRAMBLES, num_nodes, game.config.packing * game.pair_coordinates),
        truth.sobol_bits(1, num_density_nodes, game.config.latent_dim, seed=1),
    )


def node_uniforms(game: Game, key: jax.Array, bits: jax.Array) -> jax.Array:
    """Uniforms (M, N, C): Sobol nodes under a digital shift from `key`; independent draws where D judges batches."""
    if not game.judges_batches:
        return truth.uniforms(key, bits)
    # Sobol points in a batch are spread more evenly than samples are, which such a D could see.
    num_scrambles, num_nodes, coordinates = bits.shape
    num_nodes = game.config.batch_size * max(1, num_nodes // game.config.batch_size)
    return sampling.uniform(key, (num_scrambles, num_nodes, coordinates))


def on_nodes(game: Game, variables: Players, key: jax.Array, bits: jax.Array) -> Nodes:
    """Both players on the nodes of `node_uniforms`."""
    uniform = node_uniforms(game, key, bits)
    rows = game.config.batch_size if game.judges_batches else CHUNK
    num_scrambles, num_nodes, _ = uniform.shape
    uniform = uniform.reshape(-1, game.pair_coordinates)
    pairs = game.pairs(uniform)
    fake = generate(game, variables.gen, pairs)
    points = jnp.concatenate(judged(pairs, fake))
    labels = None if pairs.labels is None else jnp.concatenate([pairs.labels, pairs.labels])

    def outputs(packs: jax.Array, labels: jax.Array | None) -> Any:
        found = game.outputs(variables.disc, packs.reshape(-1, *game.event_shape), labels)
        return found.logits, found.aux

    packs = points.reshape(-1, game.config.packing, *game.event_shape)
    logits, aux = in_chunks(outputs, packs, labels, size=rows)
    apart = lambda x: x.reshape(2, num_scrambles, num_nodes, *x.shape[1:])  # noqa: E731
    clean = game.target.transform(uniform[:, : game.target.num_uniforms])
    return Nodes(clean, fake, pairs, points, labels, apart(logits), jax.tree.map(apart, aux))


def resolved(game: Game, noisy: bool) -> bool:
    """Whether it is known on which of G's sheets a sample lies: latents have two coordinates, and no noise is added."""
    return game.event_shape == (2,) and game.config.latent_dim == 2 and not noisy


def ends_of(subject: Subject) -> tuple[str, ...]:
    """Which ends of their intervals best responses have: where no sheet is known, there is a lower bound alone."""
    return ("low", "high") if resolved(subject.game, subject.config.instance_noise != "none") else ("low",)


def first(nodes: Nodes, num: int) -> Nodes:
    """Of each scramble the first `num` nodes, all where there are fewer."""
    num_nodes = nodes.logits.shape[2]
    if num >= num_nodes:
        return nodes
    rows = len(nodes.real) // nodes.logits.shape[1]  # of a scramble
    of_rows = lambda x: x.reshape(-1, rows, *x.shape[1:])[:, : rows // num_nodes * num].reshape(-1, *x.shape[1:])  # noqa: E731
    of_nodes = lambda x: x[:, :, :num]  # noqa: E731
    cut = {name: jax.tree.map(of_rows, getattr(nodes, name)) for name in ("real", "fake", "pairs", "points", "labels")}
    return Nodes(**cut, logits=of_nodes(nodes.logits), aux=jax.tree.map(of_nodes, nodes.aux))


def log_ratios(
    game: Game, gen: Any, nodes: Nodes, fake: jax.Array, uniforms: tuple[jax.Array, jax.Array], noisy: bool
) -> jax.Array:
    """log p/q on nodes, real then fake: (A, 2, M, N, m), A of `truth.log_ratios`.

    Args:
      game: at its step.
      gen: variables of G, or of its average.
      nodes: whose real points, latents and labels they are.
      fake: G's samples (M N m, 2) on the nodes.
      uniforms: (N', Z), that are pushed through G for its density; (P, `pair_coordinates`), of the pilot samples by
        which the kernels' width is chosen.
      noisy: p and q with instance noise, rather than without; of the points alike.
    """
    of_density, of_pilot = uniforms
    real, variance = (nodes.points[: len(fake)], game.hparams.noise_std**2) if noisy else (nodes.real, jnp.zeros(()))
    pilot = game.pairs(of_pilot)
    noise = jnp.zeros(()) if pilot.noise is None or not noisy else pilot.noise

    def against(target: Any, label: jax.Array | None) -> jax.Array:
        def of_label(latents: jax.Array) -> jax.Array:
            return game.generate(gen, latents, None if label is None else jnp.full(len(latents), label))

        at = lambda latents: in_chunks(functools.partial(truth.kernels, of_label), latents)  # noqa: E731
        own = at(nodes.pairs.latents) if resolved(game, noisy) else None
        pilots = target.transform(of_pilot[:, : target.num_uniforms]) + noise, of_label(pilot.latents) + noise
        target = target.blur(game.hparams.noise_std) if noisy else target
        return truth.log_ratios(game, target, at(game.latents(of_density)), own, real, fake, pilots, variance)

    if nodes.labels is None:
        ratios = against(game.target, None)
    else:
        of_classes: Any = game.target  # labels are of targets with modes alone
        of_class = lambda label: against(of_classes.of_class(label, game.config.num_classes), label)  # noqa: E731
        each = jax.lax.map(of_class, jnp.arange(game.config.num_classes))  # (classes, A, 2, M N m)
        ratios = jnp.take_along_axis(each, nodes.labels.reshape(1, 1, 2, -1), axis=0)[0]
    return ratios.reshape(-1, *nodes.logits.shape, game.config.packing)


def values(loss: Loss, numbers: HParams, nodes: Any, ratios: jax.Array) -> jax.Array:
    """V of every critic on every scramble (A + 1, M), D itself the last.

    From D's outputs on the nodes (logits (2, M, N), with what it sowed), and candidates for the log density ratio there
    (A, 2, M, N). Where no optimal critic is known, the A first are NaN.
    """
    logits, labels, aux = nodes
    critic, scale = truth.critic_of(loss), loss.scale
    critics = jnp.full_like(ratios, jnp.nan) if critic is None or not len(ratios) else critic(ratios, numbers)
    if scale is not None and len(ratios):
        # One number from all nodes: what it adapts to their noise is of the order of 1 / (M N).
        factor = jax.vmap(lambda outputs: scale(outputs[0], outputs[1]))(critics.reshape(len(critics), 2, -1))
        critics = factor[:, None, None, None] * critics
    return truth.value(loss, Outputs(jnp.concatenate([critics, logits[None]]), labels, aux), numbers)


def replicates(loss: str, ratios: jax.Array) -> jax.Array:
    """max_D V of a loss over functions of single samples, on every scramble (M,).

    Cross-fitted, from candidates (A, 2, M, N, m) for the log ratio and a constant critic.
    """
    ratios = ratios.reshape(*ratios.shape[:3], -1)
    one = LOSSES[loss]
    assert one.critic is not None
    critics = one.critic(jnp.concatenate([ratios, jnp.zeros_like(ratios[:1])]), one.defaults)
    return truth.cross_fitted(truth.value(one, critics, one.defaults))


def divergences(loss: str, ratios: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same, estimated, and a lower bound of it: of the last candidate, and of the first (`truth.log_ratios`)."""
    return replicates(loss, ratios[-1:]), replicates(loss, ratios[:1])


def jensen_shannon(ratios: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Replicates of the JSD of single samples in nats, likewise: the logistic loss reads 2 JSD - log 4."""
    best, bound = divergences("f_js", ratios)
    return best / 2, bound / 2


@dataclasses.dataclass(eq=False)
class View:
    """One GAN at one moment. Everything is made when it is first asked for, and shared.

    Attributes:
      unscheduled: the game with its numbers as they were given.
      state: what is measured; its parts that no measurement reads may be empty (`Measurement.reads`).
      options: how the truth is measured (`MeasureConfig`).
      bits: `node_bits`.
      num_response: nodes of each scramble on which best responses are taken.
      losses, loss_index: the losses that the program holds, and which one is played, () traced.
      stream: of randomness.
      past: earlier parameters, for deep measurements.
    """

    unscheduled: Game
    state: State
    options: Any
    bits: tuple[Any, Any]
    num_response: int
    losses: tuple[Loss, ...]
    loss_index: Any
    stream: Stream
    past: Past | None = None

    def key(self, name: str) -> jax.Array:
        """The key of what has this name: independent of all others, and moved by none."""
        key = jax.random.fold_in(jax.random.fold_in(self.state.key, self.stream), self.state.step)
        return jax.random.fold_in(key, zlib.crc32(name.encode()))

    @functools.cached_property
    def game(self) -> Game:
        """The game, with the numbers in force at this step."""
        return self.unscheduled.at(self.state.step)

    @property
    def noisy(self) -> bool:
        """Whether there is instance noise on what D sees."""
        return self.game.config.instance_noise != "none"

    @functools.cached_property
    def nodes(self) -> Nodes:
        """Both players on quasi-random nodes."""
        return on_nodes(self.game, self.state.variables, self.key("nodes"), jnp.asarray(self.bits[0]))

    @property
    def real(self) -> jax.Array:
        """Real samples on the nodes, without instance noise: (M N m, *E)."""
        return self.nodes.real

    @property
    def fake(self) -> jax.Array:
        """G's samples on the nodes, without instance noise: (M N m, *E), paired with `real`."""
        return self.nodes.fake

    @property
    def logits(self) -> jax.Array:
        """D's outputs on the nodes: (2, M, N), real, then fake."""
        return self.nodes.logits

    @functools.cached_property
    def response_nodes(self) -> Nodes:
        """Those of `nodes` on which best responses are taken: n of each scramble."""
        return first(self.nodes, self.num_response)

    @functools.cached_property
    def log_ratios(self) -> jax.Array:
        """log p/q of the game at `response_nodes`, of A candidates (`truth.log_ratios`): (A, 2, M, n, m).

        With instance noise where there is any.
        """
        if not self.noisy:
            return self.clean_log_ratios
        nodes = self.response_nodes
        return self._log_ratios(self.state.variables.gen, nodes.points[len(nodes.fake) :], noisy=True)

    @functools.cached_property
    def clean_log_ratios(self) -> jax.Array:
        """The same without instance noise."""
        return self._log_ratios(self.state.variables.gen, self.response_nodes.fake, noisy=False)

    def log_ratios_of(self, gen: Any) -> jax.Array:
        """The same, without noise, of another G."""
        return self._log_ratios(gen, generate(self.game, gen, self.response_nodes.pairs), noisy=False)

    def _log_ratios(self, gen: Any, fake: jax.Array, noisy: bool) -> jax.Array:
        of_density = truth.uniforms(self.key("density"), jnp.asarray(self.bits[1]))[0]
        of_pilot = sampling.uniform(self.key("pilot"), (NUM_PILOT, self.game.pair_coordinates))
        return log_ratios(self.game, gen, self.response_nodes, fake, (of_density, of_pilot), noisy)

    def by_loss(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function` (loss, *arguments) of the loss that is played."""
        branches = [functools.partial(function, loss) for loss in self.losses]
        return jax.lax.switch(self.loss_index, branches, *arguments) if len(branches) > 1 else branches[0](*arguments)

    def _values(self, nodes: Nodes, ratios: jax.Array) -> jax.Array:
        """V of the optimal critic of each candidate log ratio (A, 2, M, N, m), D itself the last: (A + 1, M)."""
        labels = None if nodes.labels is None else nodes.labels.reshape(nodes.logits.shape)
        # The log ratio of a pack is the sum of its samples'.
        return self.by_loss(
            lambda loss, played, ratios: values(loss, self.game.hparams, played, ratios),
            (nodes.logits, labels, nodes.aux),
            jnp.sum(ratios, axis=-1),
        )

    @functools.cached_property
    def value(self) -> jax.Array:
        """V of D on every scramble, (M,): without a density."""
        return self._values(self.nodes, jnp.zeros((0, *self.logits.shape, self.game.config.packing)))[-1]

    @functools.cached_property
    def lags(self) -> tuple[jax.Array, jax.Array]:
        """max_D V - V on every scramble, (M,): estimated, and a lower bound of it.

        D itself is a candidate, too, chosen on other nodes (`truth.cross_fitted`): never negative but for noise.
        """
        found = self._values(self.response_nodes, self.log_ratios)
        sharp, certified = (truth.cross_fitted(found[jnp.asarray([one, -1])]) for one in (-2, 0))
        return sharp - found[-1], certified - found[-1]

    @functools.cached_property
    def bests(self) -> tuple[jax.Array, jax.Array]:
        """max_D V on every scramble, (M,): estimated, and a lower bound of it; the lag, and V of all nodes."""
        sharp, certified = self.lags
        return self.value + sharp, self.value + certified

    @functools.cached_property
    def drawn(self) -> tuple[jax.Array, Pairs]:
        """Uniforms and pairs of plain samples: as many as coverage and `keep_samples` take."""
        num_samples = max(CONVENTIONS[self.options.convention].num_samples, self.options.keep_samples)
        uniform = sampling.uniform(self.key("samples"), (num_samples, self.game.pair_coordinates))
        return uniform, self.game.pairs(uniform)

    @functools.cached_property
    def samples(self) -> jax.Array:
        """G's plain samples, of `drawn`: (num_samples, *E)."""
        return generate(self.game, self.state.variables.gen, self.drawn[1])
