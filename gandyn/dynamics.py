"""Update rules: one step of one GAN, State -> State.

A step is one generator update and whatever the rule does around it. Every rule draws its randomness from
`fold_in(fold_in(key, Stream.TRAIN), step)` alone, so a run's course does not depend on how its steps are grouped.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gandyn import gan
from gandyn.gan import Config, HParams, Logged, Players, State
from gandyn.penalties import PENALTIES
from gandyn.targets import GaussianMixture

Step = Callable[[Config, HParams, GaussianMixture, State], State]


def _step_key(state: State) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(state.key, gan.Stream.TRAIN), state.step)


def _disc_update(
    config: Config, hparams: HParams, gen_params: Any, disc_params: Any, opt_state: Any, batch: gan.Batch
) -> tuple[Any, Any, tuple[jax.Array, jax.Array]]:
    """One discriminator update: (parameters, optimizer state, (loss, penalty) before it)."""
    gradient, logged = jax.grad(gan.disc_objective, argnums=2, has_aux=True)(
        config, hparams, disc_params, gen_params, batch
    )
    updates, opt_state = gan.optimizers(config, hparams).disc.update(gradient, opt_state, disc_params)
    disc_params = optax.apply_updates(disc_params, updates)
    project = PENALTIES[config.penalty].project
    return (project(disc_params, jnp.asarray(hparams.clip_bound)) if project else disc_params), opt_state, logged


def _gen_update(
    config: Config, hparams: HParams, gen_params: Any, disc_params: Any, opt_state: Any, batch: gan.Batch
) -> tuple[Any, Any, jax.Array]:
    """One generator update: (parameters, optimizer state, loss before it)."""
    loss, gradient = jax.value_and_grad(gan.gen_objective, argnums=1)(config, gen_params, disc_params, batch)
    updates, opt_state = gan.optimizers(config, hparams).gen.update(gradient, opt_state, gen_params)
    return optax.apply_updates(gen_params, updates), opt_state, loss


def alternating(config: Config, hparams: HParams, target: GaussianMixture, state: State) -> State:
    """`disc_steps` updates of D, each on a fresh minibatch, then one of G against the new D on another.

    Goodfellow et al. 2014, algorithm 1.
    """
    disc_key, gen_key = jax.random.split(_step_key(state))

    def disc_update(i, carry):
        disc_params, opt_state, _ = carry
        batch = gan.draw_batch(config, jax.random.fold_in(disc_key, i), state.data, target)
        return _disc_update(config, hparams, state.params.gen, disc_params, opt_state, batch)

    carry = (state.params.disc, state.opt_state.disc, (state.logged.loss_disc, state.logged.penalty))
    if config.disc_steps == 1:
        carry = disc_update(0, carry)
    else:
        carry = jax.lax.fori_loop(0, config.disc_steps, disc_update, carry)
    disc_params, disc_opt, (loss_disc, penalty) = carry

    batch = gan.draw_batch(config, gen_key, state.data, target)
    gen_params, gen_opt, loss_gen = _gen_update(
        config, hparams, state.params.gen, disc_params, state.opt_state.gen, batch
    )
    return dataclasses.replace(
        state,
        params=Players(gen_params, disc_params),
        opt_state=Players(gen_opt, disc_opt),
        logged=Logged(loss_disc, loss_gen, penalty),
        step=state.step + 1,
    )


def simultaneous(config: Config, hparams: HParams, target: GaussianMixture, state: State) -> State:
    """Both players step from the same parameters on the same minibatch (Mescheder et al. 2017, algorithm 1)."""
    batch = gan.draw_batch(config, _step_key(state), state.data, target)
    disc_params, disc_opt, (loss_disc, penalty) = _disc_update(
        config, hparams, state.params.gen, state.params.disc, state.opt_state.disc, batch
    )
    gen_params, gen_opt, loss_gen = _gen_update(
        config, hparams, state.params.gen, state.params.disc, state.opt_state.gen, batch
    )
    return dataclasses.replace(
        state,
        params=Players(gen_params, disc_params),
        opt_state=Players(gen_opt, disc_opt),
        logged=Logged(loss_disc, loss_gen, penalty),
        step=state.step + 1,
    )


DYNAMICS: dict[str, Step] = {
    "alternating": alternating,
    "simultaneous": simultaneous,
}
