"""ONE GAN: what defines it (`Config`, `HParams`), its `State`, and the functions of its two players.

`Config` is static: it fixes shapes and code, and each one compiles once. `HParams` is a pytree of numbers that are
traced: sweeping them recompiles nothing. Shapes: B batch, Z latent dimension, N points.
"""

import dataclasses
import enum
from typing import Any, Literal, NamedTuple, cast, get_args, get_origin

import jax
import jax.numpy as jnp
import optax
from jax.scipy.special import ndtri

from gandyn import checks, networks, sampling
from gandyn.losses import LOSSES
from gandyn.penalties import PENALTIES
from gandyn.targets import GaussianMixture

OPTIMIZERS: dict[str, str] = {
    "sgd": "plain gradient descent",
    "momentum": "heavy ball: trace decay beta1 (may be negative)",
    "rmsprop": "squared-gradient decay beta2, epsilon eps",
    "adam": "decays beta1, beta2, epsilon eps; Kingma & Ba 2015",
}

PRIORS: dict[str, str] = {
    "gaussian": "z standard normal",
    "uniform": "z uniform on [-1, 1]",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """What is compiled in: names, sizes, structure. Hashable; one program per distinct value."""

    loss: Literal[
        "minimax", "non_saturating", "wasserstein", "hinge", "least_squares", "relativistic", "relativistic_average",
        "f_kl", "f_reverse_kl", "f_pearson", "f_hellinger", "f_js",
    ] = "non_saturating"  # fmt: skip
    """What the players minimize (`gandyn list losses`)."""
    penalty: Literal["none", "clip", "wgan_gp", "r1"] = "none"
    """What is added to D's loss or done to its weights (`gandyn list penalties`)."""
    dynamics: Literal["alternating", "simultaneous"] = "alternating"
    """The update rule (`gandyn list dynamics`)."""
    disc_steps: int = 1
    """Discriminator updates per generator update (alternating)."""
    batch_size: int = 256
    """Samples a player sees in one update, real and fake alike."""
    dataset_size: int = 0
    """Size of a data set drawn once per run and sampled with replacement; 0 draws fresh samples for ever."""
    latent_dim: int = 2
    """Dimension of the generator's input z."""
    prior: Literal["gaussian", "uniform"] = "gaussian"
    """Distribution of z: standard normal, or uniform on [-1, 1]."""
    gen_width: int = 128
    """Units in each hidden layer of G."""
    gen_depth: int = 2
    """Hidden layers of G; 0 makes G affine."""
    gen_activation: Literal["relu", "leaky_relu", "tanh", "elu", "gelu", "silu", "softplus"] = "relu"
    """Nonlinearity of G."""
    disc_width: int = 128
    """Units in each hidden layer of D."""
    disc_depth: int = 2
    """Hidden layers of D; 0 makes D affine."""
    disc_activation: Literal["relu", "leaky_relu", "tanh", "elu", "gelu", "silu", "softplus"] = "leaky_relu"
    """Nonlinearity of D."""
    initializer: Literal["he_normal", "glorot_uniform", "orthogonal", "normal_0.02"] = "he_normal"
    """Distribution of the initial kernels of both players; biases start at zero."""
    gen_optimizer: Literal["sgd", "momentum", "rmsprop", "adam"] = "adam"
    """Optimizer of G."""
    disc_optimizer: Literal["sgd", "momentum", "rmsprop", "adam"] = "adam"
    """Optimizer of D."""
    precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    """Precision of matrix products while training, where the hardware has a choice; measuring is always float32."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if get_origin(field.type) is Literal:
                checks.choice(field.name, getattr(self, field.name), get_args(field.type))
        for name in ("disc_steps", "batch_size", "latent_dim", "gen_width", "disc_width"):
            checks.whole(name, getattr(self, name))
        for name in ("dataset_size", "gen_depth", "disc_depth"):
            checks.whole(name, getattr(self, name), least=0)
        if self.dynamics == "simultaneous" and self.disc_steps != 1:
            raise ValueError(f"disc_steps: got {self.disc_steps}; allowed with dynamics='simultaneous': 1")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HParams:
    """Every number that a person sweeps: traced scalars, so a grid over them is one program."""

    lr_gen: float = 1e-3
    """Learning rate of G."""
    lr_disc: float = 1e-3
    """Learning rate of D."""
    beta1_gen: float = 0.5
    """First-moment decay (adam) or momentum of G."""
    beta1_disc: float = 0.5
    """First-moment decay (adam) or momentum of D."""
    beta2_gen: float = 0.999
    """Second-moment decay of G (adam, rmsprop)."""
    beta2_disc: float = 0.999
    """Second-moment decay of D (adam, rmsprop)."""
    eps: float = 1e-8
    """Added to the root of the second moment, both players (adam, rmsprop)."""
    penalty_weight: float = 1.0
    """Strength of the penalty; its convention (with or without 1/2) stands in `gandyn list penalties`."""
    clip_bound: float = 0.01
    """Bound on every weight of D (penalty 'clip')."""
    init_scale: float = 1.0
    """Factor on every initial kernel of both players."""

    def __post_init__(self) -> None:
        # jax rebuilds this class around tracers and placeholders; only what a person gave is checked.
        given = {
            name: value for name, value in vars(self).items() if isinstance(value, int | float | str | bytes | None)
        }
        for name in given.keys() & {"lr_gen", "lr_disc", "penalty_weight", "init_scale"}:
            checks.number(name, given[name], 0)
        for name in given.keys() & {"eps", "clip_bound"}:
            checks.number(name, given[name], 0, above=True)
        for name in given.keys() & {"beta1_gen", "beta1_disc"}:
            checks.number(name, given[name], -1, 1, above=True, below=True)
        for name in given.keys() & {"beta2_gen", "beta2_disc"}:
            checks.number(name, given[name], 0, 1, below=True)


class Players(NamedTuple):
    """One thing for each of the two players."""

    gen: Any
    disc: Any


class Logged(NamedTuple):
    """What a training log shows: minibatch losses at the last update, scalars. NaN before the first."""

    loss_disc: jax.Array
    loss_gen: jax.Array
    penalty: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """One GAN in training: arrays only.

    Attributes:
      params: Linen parameters of the players.
      opt_state: optax states of the players.
      data: (dataset_size, 2), None where samples are fresh.
      logged: losses at the last update.
      step: () int32, generator updates made.
      key: () typed key of the run; never consumed, only folded (see `Stream`).
    """

    params: Players
    opt_state: Players
    data: jax.Array | None
    logged: Logged
    step: jax.Array
    key: jax.Array


class Stream(enum.IntEnum):
    """Independent streams of randomness of a run, `fold_in(key, stream)`: what one draws never moves another."""

    INIT = 0
    DATA = 1
    TRAIN = 2
    MEASURE = 3


class Batch(NamedTuple):
    """What one update draws: real (B, 2), latents (B, Z), and a key for the penalty's own randomness."""

    real: jax.Array
    latents: jax.Array
    key: jax.Array


def generate(config: Config, params: Any, latents: jax.Array) -> jax.Array:
    """G(z): latents (N, Z) -> points (N, 2)."""
    module = networks.generator(config.gen_width, config.gen_depth, config.gen_activation, config.initializer)
    return cast(jax.Array, module.apply(params, latents))


def discriminate(config: Config, params: Any, x: jax.Array) -> jax.Array:
    """D(x): points (N, 2) -> logits (N,)."""
    module = networks.discriminator(config.disc_width, config.disc_depth, config.disc_activation, config.initializer)
    return cast(jax.Array, module.apply(params, x))[:, 0]


def latents(config: Config, uniform: jax.Array) -> jax.Array:
    """Latents of the prior from uniforms in (0, 1), same shape."""
    return ndtri(uniform) if config.prior == "gaussian" else 2 * uniform - 1


def pair_coordinates(config: Config) -> int:
    """Uniforms that make one real sample and one latent: three for the data, Z for the latent."""
    return 3 + config.latent_dim


def draw_pairs(config: Config, target: GaussianMixture, uniform: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Independent pairs from uniforms (N, 3 + Z): real samples (N, 2) and latents (N, Z)."""
    return target.transform(uniform[:, :3]), latents(config, uniform[:, 3:])


def draw_batch(config: Config, key: jax.Array, data: jax.Array | None, target: GaussianMixture) -> Batch:
    """A minibatch of the training batch size: fresh samples, or draws with replacement from `data`."""
    draw_key, penalty_key = jax.random.split(key)
    uniform = sampling.uniform(draw_key, (config.batch_size, pair_coordinates(config)))
    real, z = draw_pairs(config, target, uniform)
    if data is not None:
        real = data[(uniform[:, 0] * config.dataset_size).astype(jnp.int32)]
    return Batch(real, z, penalty_key)


def disc_objective(
    config: Config, hparams: HParams, disc_params: Any, gen_params: Any, batch: Batch
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """What D minimizes: loss + penalty, and the two apart."""
    fake = generate(config, gen_params, batch.latents)
    loss = LOSSES[config.loss].disc(
        discriminate(config, disc_params, batch.real), discriminate(config, disc_params, fake)
    )
    term = PENALTIES[config.penalty].term
    if term is None:
        return loss, (loss, jnp.zeros_like(loss))
    disc = lambda x: discriminate(config, disc_params, x)  # noqa: E731
    penalty = term(disc, batch.real, fake, batch.key, jnp.asarray(hparams.penalty_weight))
    return loss + penalty, (loss, penalty)


def gen_objective(config: Config, gen_params: Any, disc_params: Any, batch: Batch) -> jax.Array:
    """What G minimizes."""
    fake_logits = discriminate(config, disc_params, generate(config, gen_params, batch.latents))
    return LOSSES[config.loss].gen(discriminate(config, disc_params, batch.real), fake_logits)


def _optimizer(name: str, lr: Any, beta1: Any, beta2: Any, eps: Any) -> optax.GradientTransformation:
    match name:
        case "sgd":
            return optax.sgd(lr)
        case "momentum":
            return optax.sgd(lr, momentum=beta1)
        case "rmsprop":
            return optax.rmsprop(lr, decay=beta2, eps=eps, eps_in_sqrt=False)  # as documented, and as PyTorch
        case "adam":
            return optax.adam(lr, b1=beta1, b2=beta2, eps=eps)
    raise ValueError(f"optimizer: got {name!r}; allowed: {', '.join(OPTIMIZERS)}")


def optimizers(config: Config, hparams: HParams) -> Players:
    """The players' optax transformations, built from traced hyperparameters: no recompilation by value."""
    h = hparams
    return Players(
        gen=_optimizer(config.gen_optimizer, h.lr_gen, h.beta1_gen, h.beta2_gen, h.eps),
        disc=_optimizer(config.disc_optimizer, h.lr_disc, h.beta1_disc, h.beta2_disc, h.eps),
    )


def init(config: Config, hparams: HParams, target: GaussianMixture, key: jax.Array) -> State:
    """The state of one GAN before training. `key`: () threefry key of the run."""
    gen_key, disc_key = jax.random.split(jax.random.fold_in(key, Stream.INIT))
    gen = networks.generator(config.gen_width, config.gen_depth, config.gen_activation, config.initializer)
    disc = networks.discriminator(config.disc_width, config.disc_depth, config.disc_activation, config.initializer)
    params = Players(
        gen=gen.init(gen_key, jnp.zeros((1, config.latent_dim))),
        disc=disc.init(disc_key, jnp.zeros((1, 2))),
    )
    params = jax.tree.map(lambda leaf: hparams.init_scale * leaf, params)  # biases are zero: only kernels scale
    opt = optimizers(config, hparams)
    nan = jnp.full((), jnp.nan, jnp.float32)  # a weak type here would compile `advance` twice
    return State(
        params=params,
        opt_state=Players(opt.gen.init(params.gen), opt.disc.init(params.disc)),
        # No array of size zero: jax 0.11 crashes in compiling a partitioned program that carries one.
        data=target.sample(jax.random.fold_in(key, Stream.DATA), config.dataset_size) if config.dataset_size else None,
        logged=Logged(nan, nan, nan),
        step=jnp.zeros((), jnp.int32),
        key=key,
    )
