"""One GAN as a game: its two networks, what an update draws, and what each player minimizes.

`Game` is what an update rule and a measurement are handed: the static `Config` beside the traced numbers and target,
and all that can be asked of the three together. Shapes: as in `state`.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.scipy.special import ndtr, ndtri

from gandyn.gan import networks, sampling
from gandyn.gan.config import (
    Config,
    complete,
    discriminator_of,
    generator_of,
    loss_of,
    numbers_of,
    optimizers_of,
    penalties_of,
)
from gandyn.gan.loss import Outputs
from gandyn.gan.number import HParams, Number
from gandyn.gan.penalties import At
from gandyn.gan.state import REMEMBERED, Batch, Field, Logged, Pairs, Play, Players, State, collections
from gandyn.gan.targets import Target


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["hparams", "target"], meta_fields=["config", "batch_size"]
)
@dataclasses.dataclass(frozen=True)
class Game:
    """One GAN as a game. A pytree whose config is static, so it goes through jit, vmap and grad as it is.

    Attributes:
      config: what is compiled in.
      hparams: all numbers that the config's parts declare (`make_game` fills them up).
      target: p.
      batch_size: of the batches that are played, where it is not the config's; 0 where it is.
    """

    config: Config
    hparams: HParams
    target: Target
    batch_size: int = 0

    @property
    def event_shape(self) -> tuple[int, ...]:
        """E, the shape of a sample."""
        return tuple(self.target.event_shape)

    @property
    def size(self) -> int:
        """Numbers in a sample."""
        return math.prod(self.event_shape)

    @property
    def num_modes(self) -> int:
        """Of the target, 0 where modes are not counted."""
        return getattr(self.target, "num_modes", 0)

    def at(self, step: jax.Array) -> "Game":
        """With the numbers in force at a step: rates, instance noise and top-k share at their present value."""
        return dataclasses.replace(self, hparams=_scheduled(self.config, self.hparams, step))

    # ---- the networks

    @property
    def generator(self) -> nn.Module:
        """G's module."""
        return generator_of(self.config, self.event_shape)

    @property
    def discriminator(self) -> nn.Module:
        """D's module."""
        return discriminator_of(self.config)

    @property
    def disc_shape(self) -> tuple[int, ...]:
        """Of one input of D: a sample's, or that of a pack, the last axes of m samples side by side."""
        *front, last = self.event_shape
        return (*front, self.config.packing * last)

    def generate(self, variables: Any, latents: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        """G(z) under its running statistics: latents (N, Z) -> samples (N, *E)."""
        return self._call("gen", variables, latents, labels)[0]

    def discriminate(self, variables: Any, x: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        """D(x) under its running statistics: samples (N, *E), each m consecutive ones a pack -> logits (N / m,)."""
        return self.outputs(variables, x, labels).logits

    def outputs(self, variables: Any, x: jax.Array, labels: jax.Array | None = None) -> Outputs:
        """What D says of samples (N, *E), with what the loss reads beside logits where it does."""
        logits, _, aux = self._call("disc", variables, self.pack(x), labels)
        return Outputs(logits, labels, aux)

    def _call(
        self, player: str, variables: Any, x: jax.Array, labels: jax.Array | None, train: bool = False
    ) -> tuple[jax.Array, Any, Any]:
        """A player's outputs; its collections but for parameters, as they are after it; what it sowed into "aux"."""
        module = self.generator if player == "gen" else self.discriminator
        shape = self.event_shape if player == "gen" else ()
        others = {name: tree for name, tree in variables.items() if name != "params"}
        mutable = [name for name in others if train and name != "constants"]
        if player == "disc" and loss_of(self.config).aux:
            mutable.append("aux")
        out, after = networks.call(module, variables, x, labels, train, mutable, player=player, event_shape=shape)
        aux = after.pop("aux", {})
        return out, others | after, aux

    def pack(self, x: jax.Array) -> jax.Array:
        """Samples (N, *E) -> D's inputs (N / m, ...): the last axes of m samples side by side."""
        m = self.config.packing
        return x if m == 1 else jnp.moveaxis(x.reshape(-1, m, *self.event_shape), 1, -2).reshape(-1, *self.disc_shape)

    # ---- what an update draws

    def latents(self, uniform: jax.Array) -> jax.Array:
        """Latents of the prior from uniforms in (0, 1), same shape."""
        if self.config.prior == "uniform":
            return 2 * uniform - 1
        if self.config.prior == "truncated":
            low = ndtr(-jnp.asarray(self.hparams.truncation))
            uniform = low + (1 - 2 * low) * uniform
        return ndtri(uniform)

    def log_prior(self, latents: jax.Array) -> jax.Array:
        """Log density of the prior at latents (N, Z): (N,)."""
        size = self.config.latent_dim
        if self.config.prior == "uniform":
            inside = jnp.max(jnp.abs(latents), axis=-1) <= 1
            return jnp.where(inside, -size * jnp.log(2.0), -jnp.inf)
        log_prior = -jnp.sum(latents**2, axis=-1) / 2 - size * jnp.log(2 * jnp.pi) / 2
        if self.config.prior == "truncated":
            reach = jnp.asarray(self.hparams.truncation)
            log_prior -= size * jnp.log(1 - 2 * ndtr(-reach))
            log_prior = jnp.where(jnp.max(jnp.abs(latents), axis=-1) <= reach, log_prior, -jnp.inf)
        return log_prior

    @property
    def pair_coordinates(self) -> int:
        """Uniforms that make one pair: of the data, the latent (Z), and instance noise on both where there is any."""
        noise = 0 if self.config.instance_noise == "none" else 2 * self.size
        return self.target.num_uniforms + self.config.latent_dim + noise

    def pairs(self, uniform: jax.Array) -> Pairs:
        """Independent pairs from uniforms (N, `pair_coordinates`)."""
        config, of_data = self.config, self.target.num_uniforms
        real = self.target.transform(uniform[:, :of_data])
        labels = self.labels(uniform[:, 0]) if config.num_classes else None
        z = self.latents(uniform[:, of_data : of_data + config.latent_dim])
        if config.instance_noise == "none":
            return Pairs(real, z, labels, None)
        noise = self._noise(uniform)
        return Pairs(real + noise[0], z, labels, noise[1])

    def labels(self, uniform: jax.Array) -> jax.Array:
        """Labels (N,) int32 of the samples that uniforms (N,), the first of each sample, pick: mode k has k mod C."""
        return self.target.mode_of(self.target.pick(uniform)) % self.config.num_classes  # pyright: ignore

    def _noise(self, uniform: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Instance noise of the real and of the fake sample, (N, *E) each."""
        both = self.hparams.noise_std * ndtri(uniform[:, -2 * self.size :])
        return tuple(half.reshape(-1, *self.event_shape) for half in jnp.split(both, 2, axis=1))  # pyright: ignore

    def draw(self, state: State, key: jax.Array) -> Batch:
        """A minibatch of the training batch size: fresh samples, or draws with replacement from the state's data."""
        config = self.config
        draw_key, penalty_key = jax.random.split(key)
        num = config.batch_size * config.packing
        penalty_uniform = sampling.uniform(penalty_key, (config.batch_size, self.size * config.packing + 1))
        uniform = sampling.uniform(draw_key, (num, self.pair_coordinates))
        if config.real_batch == "stratified":
            # In random order, so that packs and pairs stay independent of the strata.
            stratum = jax.random.permutation(jax.random.fold_in(draw_key, 1), num)
            uniform = uniform.at[:, 0].set((stratum + uniform[:, 0]) / num)
        pairs = self.pairs(uniform)
        if state.data is not None:
            index = (uniform[:, 0] * config.dataset_size).astype(jnp.int32)
            real = state.data.points[index]
            if pairs.noise is not None:
                real += self._noise(uniform)[0]
            labels = None if state.data.labels is None else state.data.labels[index]
            pairs = pairs._replace(real=real, labels=labels)
        return Batch(pairs, penalty_uniform, state.step)

    # ---- what the players minimize

    def play(self, params: Players, stats: Players, batch: Batch) -> Play:
        """Both players on one minibatch, as in training."""
        pairs = batch.pairs
        fake, gen_stats = (batch.fake, stats.gen) if batch.fake is not None else self._fakes(params, stats, pairs)
        fake = self.pack(fake if pairs.noise is None else fake + pairs.noise)
        real = self.pack(pairs.real)
        disc = functools.partial(self._disc_in_training, params.disc, stats.disc)
        if self.config.disc_batches == "joint":
            both = None if pairs.labels is None else jnp.concatenate([pairs.labels, pairs.labels])
            logits, disc_stats, aux = disc(jnp.concatenate([real, fake]), both)
            real_logits, fake_logits = jnp.split(logits, 2)
            real_aux, fake_aux = (jax.tree.map(lambda x, i=i: jnp.split(x, 2)[i], aux) for i in range(2))
        else:
            real_logits, after_real, real_aux = disc(real, pairs.labels)
            fake_logits, after_fake, fake_aux = disc(fake, pairs.labels)
            # Both halves start from the same collections, so the order of real and fake does not matter.
            disc_stats = jax.tree.map(lambda a, b: (a + b) / 2, after_real, after_fake)
        if REMEMBERED in stats.disc:
            disc_stats = disc_stats | {REMEMBERED: stats.disc[REMEMBERED]}
        after = Players(gen_stats, disc_stats)
        return Play(real, fake, real_logits, fake_logits, pairs.labels, real_aux, fake_aux, after)

    def _fakes(self, params: Players, stats: Players, pairs: Pairs) -> tuple[jax.Array, Any]:
        """G's samples (m B, *E) and its collections after them."""

        def make(z: jax.Array, labels: jax.Array | None) -> tuple[jax.Array, Any]:
            return self._call("gen", params.gen | stats.gen, z, labels, train=True)[:2]

        packing = self.config.packing
        if packing == 1 or not networks.couples(self.generator, pairs.latents.shape[1:]):
            return make(pairs.latents, pairs.labels)
        # Each slot of the packs is a batch of its own to the normalization, as in PacGAN's code.
        slots = pairs.latents.reshape(-1, packing, pairs.latents.shape[1])
        fake, after = jax.vmap(lambda z: make(z, None), in_axes=1, out_axes=(1, 0))(slots)
        return fake.reshape(-1, *self.event_shape), jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), after)

    def _disc_in_training(
        self, params: Any, stats: Any, x: jax.Array, labels: jax.Array | None
    ) -> tuple[jax.Array, Any, Any]:
        """D's logits on packs (B, ...), its collections after them, and what it sowed."""
        return self._call("disc", params | collections(stats), x, labels, train=True)

    def disc_loss(self, play: Play) -> jax.Array:
        """D's loss there, without penalties."""
        return loss_of(self.config).disc(*self._seen(play), self.hparams)

    def gen_loss(self, play: Play) -> jax.Array:
        """G's loss there, without penalties; of the best samples alone with top_k."""
        gen = loss_of(self.config).gen
        if not self.config.top_k:
            return gen(*self._seen(play), self.hparams)
        # One sample's loss at a time, for which the mean over all is that over the best.
        one = lambda real, fake: gen(real[None], fake[None], self.hparams)  # noqa: E731
        each = jax.vmap(one)(play.real_logits, play.fake_logits)
        rank = jnp.argsort(jnp.argsort(-play.fake_logits))
        kept = rank < jnp.ceil(self.hparams.top_k_share * (self.batch_size or self.config.batch_size))
        return jnp.sum(jnp.where(kept, each, 0)) / jnp.sum(kept)

    def _seen(self, play: Play) -> tuple[Any, Any]:
        if not loss_of(self.config).aux:
            return play.real_logits, play.fake_logits
        return (
            Outputs(play.real_logits, play.labels, play.real_aux),
            Outputs(play.fake_logits, play.labels, play.fake_aux),
        )

    def disc_objective(
        self, params: Players, stats: Players, batch: Batch
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Any]]:
        """What D minimizes: loss + penalties, the two apart, and D's collections after it."""
        play = self.play(params, stats, batch)
        loss = self.disc_loss(play)
        penalty, disc_stats = self._penalties(params, stats, batch, play)
        if self.config.gradient_norm in ("disc", "both"):
            other = jax.grad(lambda gen: self.gen_loss(self.play(params._replace(gen=gen), stats, batch)))(params.gen)
            penalty += 0.5 * self.hparams.gradient_norm_weight * optax.tree.norm(other, squared=True)
        return loss + penalty, (loss, penalty, disc_stats)

    def _penalties(self, params: Players, stats: Players, batch: Batch, play: Play) -> tuple[jax.Array, Any]:
        """Their sum, and D's collections after it with what they remember."""
        total, memories = jnp.zeros_like(play.real_logits[0]), {}
        for penalty in penalties_of(self.config):
            at = At(
                lambda x: self._disc_in_training(params.disc, stats.disc, x, batch.pairs.labels)[0],
                params.disc,
                play.real,
                play.fake,
                play.real_logits,
                play.fake_logits,
                batch.uniform,
                batch.step,
                stats.disc.get(REMEMBERED, {}).get(penalty.name),
            )
            if penalty.term is not None:
                term = penalty.term(at, self.hparams)
                if jnp.shape(term) != ():
                    raise ValueError(f"penalty {penalty.name!r}: got a term of shape {jnp.shape(term)}; allowed: ()")
                total += term
            if penalty.remember is not None:
                memories[penalty.name] = jax.lax.stop_gradient(penalty.remember(at, self.hparams))
        return total, (play.stats.disc | {REMEMBERED: memories} if memories else play.stats.disc)

    def gen_objective(
        self, params: Players, stats: Players, batch: Batch, disc_follows: bool = False
    ) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        """What G minimizes: loss + penalty, the loss alone, and G's collections after it.

        `disc_follows`: D's parameters depend on G's; in a zero-sum game the real part of V, too, is then G's to move.
        """
        play = self.play(params, stats, batch)
        loss = self.gen_loss(play)
        objective = -self.disc_loss(play) if disc_follows and loss_of(self.config).zero_sum else loss
        if self.config.gradient_norm not in ("gen", "both"):
            return objective, (loss, play.stats.gen)
        other = jax.grad(lambda disc: self.disc_loss(self.play(params._replace(disc=disc), stats, batch)))(params.disc)
        penalty = 0.5 * self.hparams.gradient_norm_weight * optax.tree.norm(other, squared=True)
        return objective + penalty, (loss, play.stats.gen)

    def disc_gradient(
        self, params: Players, stats: Players, batch: Batch
    ) -> tuple[Any, tuple[jax.Array, jax.Array, Any]]:
        """D's gradient; its loss, its penalties, its collections after them."""

        def objective(disc: Any) -> Any:
            return self.disc_objective(params._replace(disc=disc), stats, batch)

        return jax.grad(objective, has_aux=True)(params.disc)

    def gen_gradient(self, params: Players, stats: Players, batch: Batch) -> tuple[Any, tuple[jax.Array, Any]]:
        """G's gradient; its loss, its collections after it."""

        def objective(gen: Any) -> Any:
            return self.gen_objective(params._replace(gen=gen), stats, batch)

        return jax.grad(objective, has_aux=True)(params.gen)

    def field(self, params: Players, stats: Players, batch: Batch) -> Field:
        """xi, both players on the same minibatch."""
        disc, (loss_disc, penalty, disc_stats) = self.disc_gradient(params, stats, batch)
        gen, (loss_gen, gen_stats) = self.gen_gradient(params, stats, batch)
        return Field(Players(gen, disc), Logged(loss_disc, loss_gen, penalty), Players(gen_stats, disc_stats))

    # ---- updates

    def optimizers(self, smooth: bool = False) -> Players:
        """The players' optax transformations. `smooth`: differentiable where a gradient is exactly zero, too."""
        made = []
        for player, optimizer in zip(Players._fields, optimizers_of(self.config)):
            numbers = {name: getattr(self.hparams, f"{name}_{player}") for name in optimizer.numbers}
            if smooth and "eps_root" in inspect.signature(optimizer.make).parameters:
                # Adam's root has no derivative at zero; eps^2 under it gives one and changes nothing else.
                numbers["eps_root"] = numbers["eps"] ** 2
            made.append(optimizer.make(getattr(self.hparams, f"lr_{player}"), **numbers))
        return Players(*made)

    def project(self, disc_params: Any) -> Any:
        """D's parameters within the constraints."""
        for penalty in penalties_of(self.config):
            if penalty.project is not None:
                disc_params = penalty.project(disc_params, self.hparams)
        return disc_params

    def update_disc(self, disc_params: Any, opt_state: Any, gradient: Any, smooth: bool = False) -> tuple[Any, Any]:
        """D's parameters and optimizer state after one update."""
        updates, opt_state = self.optimizers(smooth).disc.update(gradient, opt_state, disc_params)
        return self.project(optax.apply_updates(disc_params, updates)), opt_state

    def update_gen(self, gen_params: Any, opt_state: Any, gradient: Any) -> tuple[Any, Any]:
        """G's parameters and optimizer state after one update."""
        updates, opt_state = self.optimizers().gen.update(gradient, opt_state, gen_params)
        return optax.apply_updates(gen_params, updates), opt_state

    def update(self, params: Players, opt_state: Players, gradient: Players) -> tuple[Players, Players]:
        """Both players' parameters and optimizer states after one update of each."""
        gen, gen_opt = self.update_gen(params.gen, opt_state.gen, gradient.gen)
        disc, disc_opt = self.update_disc(params.disc, opt_state.disc, gradient.disc)
        return Players(gen, disc), Players(gen_opt, disc_opt)

    def updated(self, state: State, gradient: Players, at: Field) -> State:
        """The state after both players' updates by `gradient`, with the losses and collections of `at`."""
        params, opt_state = self.update(state.params, state.opt_state, gradient)
        return state.replace(params=params, opt_state=opt_state, stats=at.stats, logged=at.logged)

    def disc_turn(self, state: State, batch: Batch) -> State:
        """The state after one update of D alone."""
        gradient, (loss, penalty, stats) = self.disc_gradient(state.params, state.stats, batch)
        disc, opt_state = self.update_disc(state.params.disc, state.opt_state.disc, gradient)
        return state.replace(
            params=state.params._replace(disc=disc),
            opt_state=state.opt_state._replace(disc=opt_state),
            stats=state.stats._replace(disc=stats),
            logged=state.logged._replace(loss_disc=loss, penalty=penalty),
        )

    def gen_turn(self, state: State, batch: Batch) -> State:
        """The state after one update of G alone."""
        gradient, (loss, stats) = self.gen_gradient(state.params, state.stats, batch)
        gen, opt_state = self.update_gen(state.params.gen, state.opt_state.gen, gradient)
        return state.replace(
            params=state.params._replace(gen=gen),
            opt_state=state.opt_state._replace(gen=opt_state),
            stats=state.stats._replace(gen=stats),
            logged=state.logged._replace(loss_gen=loss),
        )

    @property
    def couples(self) -> bool:
        """Whether in training what a network makes of a sample depends on the others in its batch."""
        labels = self.config.num_classes
        gen = networks.couples(self.generator, (self.config.latent_dim,), labels)
        return gen or networks.couples(self.discriminator, self.disc_shape, labels)

    @property
    def judges_batches(self) -> bool:
        """Whether D's output at a sample depends on the others in its batch when measured, too (a minibatch layer)."""
        return networks.couples(self.discriminator, self.disc_shape, self.config.num_classes, train=False)


def make_game(target: Target, config: Config, hparams: HParams = HParams()) -> Game:  # noqa: B008 (frozen)
    """The game of a target, a config and numbers, those left out at their defaults.

    Raises:
      ValueError: a number that nothing chosen reads, or one out of its range.
    """
    return Game(config, complete(config, hparams), target)


def without(game: Game, fields: Iterable[str], also: Mapping[str, Number] = MappingProxyType({})) -> Game:
    """The game with fields of its config at their defaults, and the numbers that the rest declares (and `also` names).

    Programs that read none of these fields are then the same. Numbers that are new have their defaults.
    """
    config = dataclasses.replace(game.config, **{name: _DEFAULT[name] for name in fields})
    given = game.hparams.as_dict()
    like = jnp.asarray(next(iter(given.values())), jnp.float32)  # one number a run, where there are runs
    numbers = {
        name: given[name] if name in given else jnp.full_like(like, number.default)
        for name, number in {**numbers_of(config), **also}.items()
    }
    return dataclasses.replace(game, config=config, hparams=HParams(**numbers))


_DEFAULT = {field.name: field.default for field in dataclasses.fields(Config)}


def _scheduled(config: Config, hparams: HParams, step: jax.Array) -> HParams:
    step = step.astype(jnp.float32)
    rate = jnp.minimum(1, (step + 1) / jnp.maximum(hparams.warmup_steps, 1))
    if config.schedule != "constant":
        progress = jnp.clip((step - hparams.warmup_steps) / jnp.maximum(hparams.decay_steps, 1), 0, 1)
        if config.schedule == "linear":
            rate *= 1 - (1 - hparams.lr_final) * progress
        else:
            rate *= hparams.lr_final + (1 - hparams.lr_final) * (1 + jnp.cos(jnp.pi * progress)) / 2
    now = {"lr_gen": rate * hparams.lr_gen, "lr_disc": rate * hparams.lr_disc}
    if config.instance_noise == "annealed":
        now["noise_std"] = hparams.noise_std * jnp.maximum(0, 1 - step / jnp.maximum(hparams.noise_steps, 1))
    if config.top_k:
        now["top_k_share"] = jnp.maximum(hparams.top_k_share, jnp.asarray(hparams.top_k_decay) ** step)
    return hparams.replace(**now)
