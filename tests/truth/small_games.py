"""Games that are solved by hand, and small ones that are not.

The Dirac-GAN and the linear games: a point as G, D(x) = psi . x, the data at the origin, in both coordinates of the
plane alike, so each eigenvalue comes twice.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from measuring import traced

from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import Game, make_game
from gandyn.gan.number import HParams
from gandyn.gan.state import Batch, Pairs
from gandyn.gan.targets import Target

ORIGIN = targets.mixture([[0.0, 0.0]], 1e-9)
DIRAC = Config(
    gen_net="point", disc_net="bilinear", latent_dim=1, batch_size=1, gen_optimizer="sgd", disc_optimizer="sgd"
)
BILINEAR = dataclasses.replace(DIRAC, loss="wasserstein")

RING = targets.ring(num_modes=4, std=0.1)
SMALL = Config(
    gen_depth=0, disc_net="quadratic", batch_size=32, rule="simultaneous", gen_optimizer="sgd", disc_optimizer="sgd"
)
"""Twelve parameters."""


def new_key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed, impl="threefry2x32")


def game_of(config: Config, target: Target = ORIGIN, /, **numbers: float) -> Game:
    """With traced numbers; `rate` is both players' learning rate."""
    if "rate" in numbers:
        rate = numbers.pop("rate")
        numbers |= {"lr_gen": rate, "lr_disc": rate}
    return traced(make_game(target, config, HParams(**numbers)))


def critic(psi: Any) -> dict[str, Any]:
    """D(x) = psi . x."""
    return {"params": {"Dense_0": {"kernel": jnp.asarray(psi, jnp.float32).reshape(-1, 1)}}}


def point(theta: Any) -> dict[str, Any]:
    """G(z) = theta."""
    return {"params": {"kernel": jnp.asarray(theta, jnp.float32).reshape(1, 2)}}


def still(game: Game, num: int = 1) -> Batch:
    """A batch of the data at the origin, made by hand."""
    pairs = Pairs(jnp.zeros((num, 2)), jnp.zeros((num, game.config.latent_dim)), None, None)
    return Batch(pairs, jnp.full((num, 3), 0.5), jnp.zeros((), jnp.int32))
