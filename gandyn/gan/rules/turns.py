"""Rules in which one player moves at a time."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from gandyn import checks
from gandyn.gan import sampling
from gandyn.gan.number import Number
from gandyn.gan.rules.rule import Rule


def _alternating(game: Any, state: Any, key: jax.Array) -> Any:
    """`disc_steps` updates of D, then `gen_steps` of G against the new D, each on a fresh minibatch.

    `first` says who begins instead, `second_batch` whether the second player's first update takes the first player's
    last minibatch.
    """
    config = game.config
    disc_key, gen_key = jax.random.split(key)
    turns = [(game.disc_turn, config.disc_steps, disc_key), (game.gen_turn, config.gen_steps, gen_key)]
    if config.first == "gen":
        turns.reverse()
    (first, first_steps, first_key), (second, second_steps, second_key) = turns

    def repeat(turn: Any, start: int, num_steps: int, key: jax.Array, state: Any) -> Any:
        def once(i: Any, state: Any) -> Any:
            return turn(state, game.draw(state, jax.random.fold_in(key, i)))

        if num_steps - start <= 1:
            return once(start, state) if num_steps > start else state
        return jax.lax.fori_loop(start, num_steps, once, state)

    state = repeat(first, 0, first_steps, first_key, state)
    if config.second_batch == "fresh":
        return repeat(second, 0, second_steps, second_key, state)
    same = game.draw(state, jax.random.fold_in(first_key, first_steps - 1))
    return repeat(second, 1, second_steps, second_key, second(state, same))


def _best_response(game: Any, state: Any, key: jax.Array) -> Any:
    """D is trained on one minibatch until its gradient's norm is at most disc_tolerance, then G makes one update.

    At most `disc_steps` updates of D; G takes a fresh minibatch.
    """
    disc_key, gen_key = jax.random.split(key)
    batch = game.draw(state, disc_key)

    def gradient(state: Any) -> Any:
        return game.disc_gradient(state.params, state.stats, batch)

    def goes_on(carry: Any) -> jax.Array:
        num, _, (slope, _) = carry
        return (num < game.config.disc_steps) & (optax.tree.norm(slope) > game.hparams.disc_tolerance)

    def once(carry: Any) -> Any:
        num, state, (slope, _) = carry
        disc, opt_state = game.update_disc(state.params.disc, state.opt_state.disc, slope)
        state = state.replace(
            params=state.params._replace(disc=disc), opt_state=state.opt_state._replace(disc=opt_state)
        )
        return num + 1, state, gradient(state)

    _, state, (_, (loss, penalty, stats)) = jax.lax.while_loop(goes_on, once, (0, state, gradient(state)))
    state = state.replace(
        stats=state.stats._replace(disc=stats),
        logged=state.logged._replace(loss_disc=loss, penalty=penalty),
    )
    return game.gen_turn(state, game.draw(state, gen_key))


def replay_pool(size: int = 1024) -> Rule:
    """D first, on fakes half of which are old ones from a pool; then G. (Shrivastava et al. 2017, section 2.3.)

    At every step half of D's fakes are replaced by as many from a pool of `size` old ones, drawn with replacement,
    and as many of the new ones take random places in the pool; it starts with samples of the first G. Not for labels: a
    pool would mix them.
    """
    checks.whole("size", size)

    def init(game: Any, params: Any) -> jax.Array:
        if game.config.num_classes:
            raise ValueError(
                f"num_classes: got {game.config.num_classes}; allowed with replay_pool (it would mix the labels): 0"
            )
        return jnp.zeros((size, *game.event_shape))

    def step(game: Any, state: Any, key: jax.Array) -> Any:
        disc_key, gen_key, old_key, place_key, first_key = jax.random.split(key, 5)
        # Drawn outside of the branch: under vmap both are taken, and the checker of keys takes that for a second use.
        first = game.latents(sampling.uniform(first_key, (size, game.config.latent_dim)))
        filled = lambda: game.generate(state.variables.gen, first)  # noqa: E731
        pool = jax.lax.cond(state.step == 0, filled, lambda: state.memory)
        batch = game.draw(state, disc_key)
        fresh = game.generate(state.variables.gen, batch.pairs.latents)
        half = len(fresh) // 2
        old = pool[jax.random.randint(old_key, (half,), 0, size)]
        pool = pool.at[jax.random.randint(place_key, (half,), 0, size)].set(fresh[:half])
        state = game.disc_turn(state, batch._replace(fake=jnp.concatenate([old, fresh[half:]])))
        return game.gen_turn(state, game.draw(state, gen_key)).replace(memory=pool)

    reference = f"D sees half its fakes from a pool of {size} old ones; Shrivastava et al. 2017, section 2.3"
    return Rule(f"replay_pool_{size}", step, init, reference=reference)


ALTERNATING = Rule(
    "alternating",
    _alternating,
    options=("disc_steps", "gen_steps", "first", "second_batch"),
    reference="Goodfellow et al. 2014, algorithm 1",
)
BEST_RESPONSE = Rule(
    "best_response",
    _best_response,
    numbers={
        "disc_tolerance": Number(1e-2, 0, text="norm of D's minibatch gradient at which it counts as best response")
    },
    options=("disc_steps",),
    reference="the two-time-scale limit of Fiez et al. 2020",
)
