"""One GAN in training: its `State`, and what one update draws and makes.

Shapes: B batch, Z latent dimension, N points, m points in a pack (1 without packing), E the shape of a sample.
"""

import dataclasses
import enum
from typing import Any, NamedTuple

import jax


class Players(NamedTuple):
    """One thing for each of the two players."""

    gen: Any
    disc: Any

    def replace(self, **players: Any) -> "Players":
        """With another thing for one of them."""
        return self._replace(**players)


class Logged(NamedTuple):
    """What a training log shows: minibatch losses at the last update, scalars. NaN before the first."""

    loss_disc: jax.Array
    loss_gen: jax.Array
    penalty: jax.Array


class Data(NamedTuple):
    """A fixed data set: points (dataset_size, *E), and labels (dataset_size,) where conditional."""

    points: jax.Array
    labels: jax.Array | None


REMEMBERED = "penalties"
"""Where D's `State.stats` hold what penalties remember, by their names, beside its module's collections."""


def collections(stats: Any) -> Any:
    """A player's Linen collections alone."""
    return {name: tree for name, tree in stats.items() if name != REMEMBERED}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """One GAN in training: arrays only.

    Attributes:
      params: Linen parameters of the players, what is trained.
      stats: their other Linen collections: running statistics, power-iteration vectors, fixed frequencies; and what
        penalties remember. Often empty.
      opt_state: optax states of the players.
      memory: what the update rule remembers; None where it does not.
      average: the average of G's parameters and statistics; None without gen_average.
      travelled: length of each player's path since the start, (); None without track_path.
      data: the fixed data set, None where samples are fresh.
      logged: losses at the last update.
      step: () int32, steps made.
      key: () typed key of the run; never consumed, only folded (see `Stream`).
    """

    params: Players
    stats: Players
    opt_state: Players
    memory: Any
    average: Any
    travelled: Players | None
    data: Data | None
    logged: Logged
    step: jax.Array
    key: jax.Array

    @property
    def variables(self) -> Players:
        """All Linen variables of the players, as `Game.generate` and `Game.discriminate` take them."""
        return Players(*(params | collections(stats) for params, stats in zip(self.params, self.stats)))

    def replace(self, **fields: Any) -> "State":
        """With other fields."""
        return dataclasses.replace(self, **fields)


class Stream(enum.IntEnum):
    """Independent streams of randomness of a run, `fold_in(key, stream)`: what one draws never moves another."""

    INIT = 0
    DATA = 1
    TRAIN = 2
    MEASURE = 3
    DEEP = 4


class Pairs(NamedTuple):
    """Independent pairs of a real sample and what makes a fake one.

    Attributes:
      real: (N, *E), with instance noise where there is any.
      latents: (N, Z).
      labels: (N,) int32, of both samples of a pair; None where unconditional.
      noise: (N, *E), instance noise for the fake sample; None without.
    """

    real: jax.Array
    latents: jax.Array
    labels: jax.Array | None
    noise: jax.Array | None


class Batch(NamedTuple):
    """What one update draws.

    Attributes:
      pairs: B of them (m B where packed).
      uniform: (B, m * size of E + 1), uniforms for the penalties.
      step: () int32, steps made before.
      fake: (m B, *E), fakes in place of those that G would make of the latents; None where it makes them.
    """

    pairs: Pairs
    uniform: jax.Array
    step: jax.Array
    fake: jax.Array | None = None


class Play(NamedTuple):
    """Both networks on one minibatch.

    Attributes:
      real, fake: D's inputs (B, ...), E in the shape of packs.
      real_logits, fake_logits: its outputs (B,).
      labels: (B,), None where unconditional.
      real_aux, fake_aux: what D's module sowed into "aux" (empty unless the loss asks for it).
      stats: the players' collections after it.
    """

    real: jax.Array
    fake: jax.Array
    real_logits: jax.Array
    fake_logits: jax.Array
    labels: jax.Array | None
    real_aux: Any
    fake_aux: Any
    stats: Players


class Field(NamedTuple):
    """xi at one point on one minibatch.

    Attributes:
      gradient: of each player's objective in its own parameters.
      logged: the losses there.
      stats: the players' collections after it.
    """

    gradient: Players
    logged: Logged
    stats: Players
