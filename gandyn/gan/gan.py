"""ONE GAN: what defines it (`Config`, `HParams`), its `State`, and the functions of its two players.

`Config` is static: it fixes shapes and code, and each one compiles once. `HParams` is a pytree of numbers that are
traced: sweeping them recompiles nothing. Shapes: B batch, Z latent dimension, N points, m points in a pack (1 without
packing).
"""

import dataclasses
import enum
import functools
from typing import Any, Literal, NamedTuple, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.special import ndtr, ndtri

from gandyn import checks
from gandyn.gan import networks, sampling
from gandyn.gan.losses import LOSSES, LossParams
from gandyn.gan.penalties import PENALTIES
from gandyn.gan.targets import GaussianMixture

OPTIMIZERS: dict[str, str] = {
    "sgd": "plain gradient descent",
    "momentum": "heavy ball: trace decay beta1; negative momentum (Gidel et al. 2019) where beta1 < 0",
    "rmsprop": "squared-gradient decay beta2, epsilon eps",
    "adam": "decays beta1, beta2, epsilon eps; Kingma & Ba 2015",
    "adamw": "adam with decoupled decay weight_decay; Loshchilov & Hutter 2019",
    "optimistic_adam": "adam's step twice, less the last one; Daskalakis et al. 2018, algorithm 1",
}

PRIORS: dict[str, str] = {
    "gaussian": "z standard normal",
    "uniform": "z uniform on [-1, 1]",
    "truncated": "z standard normal, each coordinate within +-truncation; Brock et al. 2019, section 3.1",
}

SCHEDULES: dict[str, str] = {
    "constant": "lr",
    "linear": "lr falls linearly to lr_final * lr over decay_steps",
    "cosine": "lr falls to lr_final * lr over decay_steps along half a cosine; Loshchilov & Hutter 2017",
}

INSTANCE_NOISE: dict[str, str] = {
    "none": "",
    "constant": "N(0, noise_std^2 I) on every real and fake sample before D; Sonderby et al. 2017",
    "annealed": "the same, its std falling linearly to zero over noise_steps",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """What is compiled in: names, sizes, structure. Hashable; one program per distinct value."""

    loss: Literal[
        "minimax", "non_saturating", "wasserstein", "hinge", "least_squares", "relativistic", "relativistic_average",
        "relativistic_hinge", "relativistic_least_squares", "relativistic_average_hinge",
        "relativistic_average_least_squares", "alpha", "alpha_non_saturating",
        "f_kl", "f_reverse_kl", "f_pearson", "f_hellinger", "f_js",
    ] = "non_saturating"  # fmt: skip
    """What the players minimize (`gandyn list losses`)."""
    penalty: Literal["none", "clip", "wgan_gp", "wgan_lp", "dragan", "r1", "r2", "r1_r2", "weight_decay"] = "none"
    """What is added to D's loss or done to its weights (`gandyn list penalties`)."""
    gradient_norm: Literal["none", "gen", "disc", "both"] = "none"
    """Which player also minimizes gradient_norm_weight / 2 * |gradient of the other's loss in the other's own
    parameters|^2: 'gen' is Nagarajan & Kolter 2017, 'disc' the regularizer of ODE-GAN (Qin et al. 2020)."""
    top_k: bool = False
    """G's loss is over the samples (packs) that D scores highest alone: a share top_k_share of the batch (Sinha et al.
    2020)."""
    dynamics: Literal[
        "alternating", "simultaneous", "best_response", "extragradient", "past_extragradient", "optimistic", "unrolled",
        "consensus", "symplectic", "symplectic_aligned", "drift_cancelling", "competitive", "heun", "runge_kutta",
    ] = "alternating"  # fmt: skip
    """The update rule (`gandyn list dynamics`)."""
    disc_steps: int = 1
    """Discriminator updates a step (alternating); at most so many (best_response)."""
    gen_steps: int = 1
    """Generator updates a step (alternating)."""
    first: Literal["disc", "gen"] = "disc"
    """Who updates first in a step (alternating)."""
    second_batch: Literal["fresh", "same"] = "fresh"
    """Minibatch of the second player's first update: a fresh one, or the first player's last (alternating)."""
    unroll_steps: int = 5
    """Discriminator updates that G looks ahead, and differentiates through (unrolled)."""
    lookahead: int = 0
    """Every so many steps both players go back to lookahead_rate of the way from where the last such step left them
    (Chavdarova et al. 2021); 0 never."""
    gen_ema: bool = False
    """Keep an exponential average of G's parameters, and measure it beside G."""
    track_path: bool = False
    """Keep the length of each player's path through its parameters, step by step."""
    batch_size: int = 256
    """Samples (packs, where packed) a player sees in one update, real and fake alike."""
    packing: int = 1
    """Samples that D judges jointly, m: PacGAN (Lin et al. 2018). A minibatch has m * batch_size samples."""
    real_batch: Literal["iid", "stratified"] = "iid"
    """Real minibatches: independent draws, or one from each of as many equal strata of the modes' weights."""
    dataset_size: int = 0
    """Size of a data set drawn once per run and sampled with replacement; 0 draws fresh samples for ever."""
    num_classes: int = 0
    """Labels that both players see, mode k having label k mod num_classes; 0 is unconditional."""
    conditioning: Literal["concat", "projection"] = "concat"
    """How D sees the label: beside the point, or by projection (Miyato & Koyama 2018). G has it beside z."""
    instance_noise: Literal["none", "constant", "annealed"] = "none"
    """Gaussian noise on every real and fake sample before D (`gandyn list instance_noise`)."""
    latent_dim: int = 2
    """Dimension of the generator's input z."""
    prior: Literal["gaussian", "uniform", "truncated"] = "gaussian"
    """Distribution of z (`gandyn list priors`)."""
    gen_net: Literal["mlp", "residual", "affine", "point"] = "mlp"
    """Architecture of G (`gandyn list generators`)."""
    gen_width: int = 128
    """Units in each hidden layer of G."""
    gen_depth: int = 2
    """Hidden layers of G; 0 makes G affine."""
    gen_activation: Literal[
        "relu", "leaky_relu", "leaky_relu_0.01", "leaky_relu_0.1", "leaky_relu_0.3", "tanh", "elu", "gelu", "silu",
        "softplus",
    ] = "relu"  # fmt: skip
    """Nonlinearity of G."""
    gen_norm: Literal["none", "layer", "batch"] = "none"
    """Normalization in G (`gandyn list norms`)."""
    gen_fourier: int = 0
    """Frequencies of Fourier features of z; 0 gives G z itself."""
    disc_net: Literal["mlp", "residual", "maxout", "bilinear", "quadratic"] = "mlp"
    """Architecture of D (`gandyn list discriminators`)."""
    disc_width: int = 128
    """Units in each hidden layer of D."""
    disc_depth: int = 2
    """Hidden layers of D; 0 makes D affine."""
    disc_activation: Literal[
        "relu", "leaky_relu", "leaky_relu_0.01", "leaky_relu_0.1", "leaky_relu_0.3", "tanh", "elu", "gelu", "silu",
        "softplus",
    ] = "leaky_relu"  # fmt: skip
    """Nonlinearity of D (maxout has none)."""
    disc_norm: Literal["none", "layer", "batch", "spectral"] = "none"
    """Normalization in D (`gandyn list norms`)."""
    disc_fourier: int = 0
    """Frequencies of Fourier features of the points; 0 gives D the points themselves."""
    maxout_pieces: int = 5
    """Affine maps to a maxout unit (disc_net 'maxout')."""
    minibatch_layer: Literal["none", "stddev", "discrimination"] = "none"
    """What D's last layer sees of the other samples in the batch (`gandyn list minibatch_layers`)."""
    initializer: Literal[
        "he_normal", "he_uniform", "glorot_uniform", "lecun_normal", "pytorch", "haiku", "orthogonal", "normal_0.02"
    ] = "he_normal"  # fmt: skip
    """Distribution of the initial kernels of both players (`gandyn list initializers`)."""
    bias_initializer: Literal["matching", "zeros", "pytorch", "normal_0.02"] = "matching"
    """Distribution of the initial biases; 'matching' is what comes with the kernels': PyTorch's with 'pytorch', else
    zeros."""
    norm_momentum: float = 0.9
    """Share that batch normalization's running statistics keep in an update."""
    norm_epsilon: float = 1e-5
    """What batch and layer normalization add to a variance."""
    norm_unbiased: bool = False
    """Whether batch normalization's running variance takes B / (B - 1) of the batch's, as PyTorch's does."""
    gen_optimizer: Literal["sgd", "momentum", "rmsprop", "adam", "adamw", "optimistic_adam"] = "adam"
    """Optimizer of G."""
    disc_optimizer: Literal["sgd", "momentum", "rmsprop", "adam", "adamw", "optimistic_adam"] = "adam"
    """Optimizer of D."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning rates of both players over the steps, after warmup_steps of linear warm-up (`gandyn list schedules`)."""
    precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    """Precision of matrix products while training, where the hardware has a choice; measuring is always float32."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if get_origin(field.type) is Literal:
                checks.choice(field.name, getattr(self, field.name), get_args(field.type))
            elif field.type is bool and not isinstance(getattr(self, field.name), bool):
                raise ValueError(f"{field.name}: got {getattr(self, field.name)!r:.200}; allowed: True, False")
        checks.number("norm_momentum", self.norm_momentum, 0, 1, below=True)
        checks.number("norm_epsilon", self.norm_epsilon, 0, 1, above=True)
        for name, (least, most) in _SIZES.items():
            checks.whole(name, getattr(self, name), least, most)
        for name in ("lookahead", "num_classes"):
            if getattr(self, name) == 1:
                raise ValueError(f"{name}: got 1; allowed: 0 (none), or a whole number of at least 2")
        self._refuse_too_many_coordinates()
        self._refuse_what_makes_no_sense()

    def _refuse_too_many_coordinates(self) -> None:
        """Raises where a pack of pairs, and what a penalty draws for it, has more coordinates than Sobol points do."""
        others = pair_coordinates(self) - self.latent_dim + 2  # of a pair: data, noise, and two for the penalty
        most = (_MOST_COORDINATES - 1) // self.packing - others
        if self.latent_dim > most > 0:
            reason = f" with packing={self.packing}" if self.packing > 1 else ""
            raise ValueError(f"latent_dim: got {self.latent_dim:,}; allowed{reason}: at most {most:,}")
        if self.latent_dim > most:
            raise ValueError(
                f"packing: got {self.packing:,}; allowed: at most {(_MOST_COORDINATES - 1) // (others + 1):,}"
            )

    def _refuse_what_makes_no_sense(self) -> None:
        """Raises for the first field that another one leaves no meaning, with the reason."""

        def only(name: str, *allowed: Any, because: str) -> None:
            if getattr(self, name) not in allowed:
                choices = ", ".join(map(repr, allowed))
                raise ValueError(f"{name}: got {getattr(self, name)!r}; allowed with {because}: {choices}")

        if self.dynamics != "alternating":
            for name in ("gen_steps", "first", "second_batch"):
                only(name, getattr(_DEFAULT, name), because=f"dynamics={self.dynamics!r}")
            if self.dynamics != "best_response":
                only("disc_steps", 1, because=f"dynamics={self.dynamics!r}")
        if self.dynamics in ("competitive", "heun", "runge_kutta"):
            reason = f"dynamics={self.dynamics!r} (the rule makes its own steps of the learning rates)"
            only("gen_optimizer", "sgd", because=reason)
            only("disc_optimizer", "sgd", because=reason)
        if self.top_k:
            reason = "top_k (each sample's loss stands alone)"
            only("loss", *(name for name in LOSSES if "average" not in name), because=reason)
        if not self.num_classes:
            only("conditioning", "concat", because="num_classes=0")
        if self.num_classes:
            only("packing", 1, because="num_classes (the samples of a pack would have different labels)")
        if PENALTIES[self.penalty].per_sample:
            reason = f"penalty={self.penalty!r} (D's gradient at a sample must be of that sample's logit alone)"
            only("disc_norm", "none", "layer", "spectral", because=reason)
            only("minibatch_layer", "none", because=reason)
        for player, nets in (("gen", ("affine", "point")), ("disc", ("bilinear", "quadratic"))):
            net = getattr(self, player + "_net")
            if net in nets:
                for name in ("norm", "fourier"):
                    name = f"{player}_{name}"
                    only(name, getattr(_DEFAULT, name), because=f"{player}_net={net!r} (it has no hidden layer)")
                if net in ("point", "bilinear"):
                    only("num_classes", 0, because=f"{player}_net={net!r} (it has nowhere to put a label)")
                if player == "disc":
                    only("minibatch_layer", "none", because=f"disc_net={net!r} (it has no hidden layer)")
                    only("conditioning", "concat", because=f"disc_net={net!r} (it has no hidden layer)")
        if self.batch_size == 1:
            reason = "batch_size=1 (one sample has no spread)"
            only("gen_norm", "none", "layer", because=reason)
            only("disc_norm", "none", "layer", "spectral", because=reason)
            only("minibatch_layer", "none", because=reason)


_MOST_COORDINATES = 21_201  # of SciPy's Sobol points
_SIZES: dict[str, tuple[int, int]] = {
    "batch_size": (1, 2**20),
    "packing": (1, _MOST_COORDINATES),
    "latent_dim": (1, 2**31 - 1),
    "gen_width": (1, 2**16),
    "disc_width": (1, 2**16),
    "maxout_pieces": (1, 1_000),
    "gen_fourier": (0, 2**16),
    "disc_fourier": (0, 2**16),
    "gen_depth": (0, 100),  # each layer is compiled by itself
    "disc_depth": (0, 100),
    "disc_steps": (1, 10**6),
    "gen_steps": (1, 10**6),
    "unroll_steps": (1, 1_000),  # all are kept for the way back
    "dataset_size": (0, 2**23),  # the digits of a uniform, which picks from it
    "num_classes": (0, 2**31 - 1),
    "lookahead": (0, 2**31 - 1),
}
"""Least and most of what is counted."""
_DEFAULT = Config.__new__(Config)  # the class's own defaults, for its checks


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
    weight_decay: float = 1e-4
    """Decoupled decay of the weights, times the learning rate, both players (adamw)."""
    warmup_steps: float = 0
    """Steps over which both learning rates rise linearly to their value."""
    decay_steps: float = 5_000
    """Steps after the warm-up over which they fall (schedule 'linear', 'cosine')."""
    lr_final: float = 0.0
    """What they fall to, as a share of their value."""
    penalty_weight: float = 1.0
    """Strength of the penalty; its convention (with or without 1/2) stands in `gandyn list penalties`."""
    clip_bound: float = 0.01
    """Bound on every weight of D (penalty 'clip')."""
    gradient_norm_weight: float = 0.1
    """Strength w of w / 2 * |gradient of the other player|^2 (gradient_norm)."""
    adjustment: float = 0.1
    """Strength of the consensus or symplectic term (dynamics of those names); 1 of 'drift_cancelling' is
    the whole of the drift."""
    disc_tolerance: float = 1e-2
    """Norm of D's gradient on the minibatch at which it counts as best response (dynamics 'best_response')."""
    lookahead_rate: float = 0.5
    """Share of the way that a lookahead keeps."""
    ema_decay: float = 0.999
    """Decay of G's average, a step (gen_ema)."""
    top_k_share: float = 0.5
    """Share of the batch that G's loss ends at (top_k)."""
    top_k_decay: float = 0.999
    """Factor on that share a step, from 1 at the start (top_k)."""
    noise_std: float = 0.1
    """Std of the instance noise, in the units of the data."""
    noise_steps: float = 5_000
    """Steps until annealed instance noise has gone."""
    truncation: float = 2.0
    """Bound on each coordinate of z (prior 'truncated')."""
    label_smoothing: float = 0.0
    """Share of real samples that D is to call fake, one-sided (losses 'minimax', 'non_saturating')."""
    label_fake: float = 0.0
    """Least squares: what D aims at on fake samples, a."""
    label_real: float = 1.0
    """Least squares: what D aims at on real samples, b."""
    label_gen: float = 1.0
    """Least squares: what G wants D to say, c."""
    alpha_disc: float = 1.0
    """Order of D's loss (losses 'alpha', 'alpha_non_saturating'); 1 is the logistic loss."""
    alpha_gen: float = 1.0
    """Order of G's loss (losses 'alpha', 'alpha_non_saturating')."""
    init_scale: float = 1.0
    """Factor on every initial kernel of both players."""
    fourier_scale: float = 1.0
    """Std of the frequencies of Fourier features, per unit of the data."""

    def __post_init__(self) -> None:
        # jax rebuilds this class around tracers and placeholders; only what a person gave is checked.
        given = {
            name: value
            for name, value in vars(self).items()
            if isinstance(value, int | float | np.number | str | bytes | None)
        }
        for names, (bounds, in_float32) in _BOUNDS.items():
            for name in given.keys() & set(names):
                checks.number(name, given[name], **bounds)
                checks.number(name, given[name], **in_float32)


# In float32, what they are computed in, 1e-60 is zero, 1e60 infinite, and 0.99999999 one.
_LEAST, _MOST, _BELOW_ONE = 1e-30, 1e38, 1 - 2.0**-24
_ANY = {"low": -jnp.inf}, {"low": -_MOST, "high": _MOST}
_NOT_NEGATIVE = {"low": 0}, {"low": 0, "high": _MOST}
_POSITIVE = {"low": 0, "above": True}, {"low": _LEAST, "high": _MOST}
_BOUNDS: dict[tuple[str, ...], tuple[dict[str, Any], dict[str, Any]]] = {
    ("lr_gen", "lr_disc", "penalty_weight", "gradient_norm_weight", "init_scale", "fourier_scale"): _NOT_NEGATIVE,
    ("weight_decay", "warmup_steps", "decay_steps", "noise_std", "noise_steps", "disc_tolerance"): _NOT_NEGATIVE,
    ("eps", "clip_bound", "truncation", "alpha_disc", "alpha_gen"): _POSITIVE,
    ("beta1_gen", "beta1_disc"): (
        {"low": -1, "high": 1, "above": True, "below": True},
        {"low": -_BELOW_ONE, "high": _BELOW_ONE},
    ),
    ("beta2_gen", "beta2_disc", "ema_decay"): (
        {"low": 0, "high": 1, "below": True},
        {"low": 0, "high": _BELOW_ONE},
    ),
    ("top_k_share", "top_k_decay"): ({"low": 0, "high": 1, "above": True}, {"low": _LEAST, "high": 1}),
    ("lr_final", "lookahead_rate", "label_smoothing"): ({"low": 0, "high": 1}, {"low": 0, "high": 1}),
    ("adjustment", "label_fake", "label_real", "label_gen"): _ANY,
}
"""What each of these can be, and what of that float32 tells from its ends."""


def check(target: GaussianMixture, config: Config, hparams: HParams) -> None:
    """Raises ValueError for what each of the three allows alone but not together, or is more than one number."""
    for name, value in vars(hparams).items():
        if type(value) not in (float, int):
            checks.number(name, value, -_MOST, _MOST)
    if config.num_classes > target.num_modes:
        raise ValueError(
            f"num_classes: got {config.num_classes}; allowed with a target of {target.num_modes} modes: "
            f"at most {target.num_modes}"
        )
    if config.loss not in ("minimax", "non_saturating") and np.any(np.asarray(hparams.label_smoothing) != 0):
        raise ValueError(
            f"label_smoothing: got {hparams.label_smoothing}; allowed with loss={config.loss!r}: 0 "
            "(smoothing is of the minimax and non_saturating losses; least_squares has labels)"
        )


class Players(NamedTuple):
    """One thing for each of the two players."""

    gen: Any
    disc: Any


class Logged(NamedTuple):
    """What a training log shows: minibatch losses at the last update, scalars. NaN before the first."""

    loss_disc: jax.Array
    loss_gen: jax.Array
    penalty: jax.Array


class Data(NamedTuple):
    """A fixed data set: points (dataset_size, 2), and labels (dataset_size,) where conditional."""

    points: jax.Array
    labels: jax.Array | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """One GAN in training: arrays only.

    Attributes:
      params: Linen parameters of the players, what is trained.
      stats: their other Linen collections: running statistics, power-iteration vectors, fixed frequencies; often empty.
      opt_state: optax states of the players.
      ema: the average of G's parameters and statistics; None without gen_ema.
      slow: both players where the last lookahead left them; None without lookahead.
      past: both players' last gradients (past_extragradient); None for other rules.
      travelled: length of each player's path since the start, (); None without track_path.
      data: the fixed data set, None where samples are fresh.
      logged: losses at the last update.
      step: () int32, steps made.
      key: () typed key of the run; never consumed, only folded (see `Stream`).
    """

    params: Players
    stats: Players
    opt_state: Players
    ema: Any
    slow: Players | None
    past: Players | None
    travelled: Players | None
    data: Data | None
    logged: Logged
    step: jax.Array
    key: jax.Array

    @property
    def variables(self) -> Players:
        """All Linen variables of the players, as `generate` and `discriminate` take them."""
        return Players(self.params.gen | self.stats.gen, self.params.disc | self.stats.disc)


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
      real: (N, 2), with instance noise where there is any.
      latents: (N, Z).
      labels: (N,) int32, of both samples of a pair; None where unconditional.
      noise: (N, 2), instance noise for the fake sample; None without.
    """

    real: jax.Array
    latents: jax.Array
    labels: jax.Array | None
    noise: jax.Array | None


class Batch(NamedTuple):
    """What one update draws: B pairs (m B where packed), and uniforms (B, 2 m + 1) for the penalty."""

    pairs: Pairs
    uniform: jax.Array


# ---- the networks


def generator(config: Config) -> networks.Generator:
    """G's module."""
    return networks.Generator(
        config.gen_net,
        config.gen_width,
        config.gen_depth,
        config.gen_activation,
        config.initializer,
        config.bias_initializer,
        norm=config.gen_norm,
        norm_momentum=config.norm_momentum,
        norm_epsilon=config.norm_epsilon,
        norm_unbiased=config.norm_unbiased,
        fourier=config.gen_fourier,
        num_classes=config.num_classes,
    )


def discriminator(config: Config) -> networks.Discriminator:
    """D's module."""
    return networks.Discriminator(
        config.disc_net,
        config.disc_width,
        config.disc_depth,
        config.disc_activation,
        config.initializer,
        config.bias_initializer,
        norm=config.disc_norm,
        norm_momentum=config.norm_momentum,
        norm_epsilon=config.norm_epsilon,
        norm_unbiased=config.norm_unbiased,
        fourier=config.disc_fourier,
        maxout_pieces=config.maxout_pieces,
        num_classes=config.num_classes,
        minibatch=config.minibatch_layer,
        projection=config.conditioning == "projection",
    )


def generate(config: Config, variables: Any, latents: jax.Array, labels: jax.Array | None = None) -> jax.Array:
    """G(z) under its running statistics: latents (N, Z) -> points (N, 2)."""
    return generator(config).apply(variables, latents, labels)  # pyright: ignore[reportReturnType]


def discriminate(config: Config, variables: Any, x: jax.Array, labels: jax.Array | None = None) -> jax.Array:
    """D(x) under its running statistics: points (N, 2), each m consecutive ones a pack -> logits (N / m,)."""
    return discriminator(config).apply(variables, pack(config, x), labels)  # pyright: ignore[reportReturnType]


def pack(config: Config, x: jax.Array) -> jax.Array:
    """Points (N, 2) -> D's inputs (N / m, 2 m)."""
    return x.reshape(-1, 2 * config.packing)


def _in_training(module: Any, params: Any, stats: Any, x: jax.Array, labels: jax.Array | None) -> tuple[jax.Array, Any]:
    """The module under the batch's own statistics: (output, its collections after it)."""
    if "batch_stats" not in stats:
        return module.apply(params | stats, x, labels, train=True), stats
    out, updated = module.apply(params | stats, x, labels, train=True, mutable=["batch_stats"])
    return out, stats | updated


# ---- what an update draws


def latents(config: Config, hparams: HParams, uniform: jax.Array) -> jax.Array:
    """Latents of the prior from uniforms in (0, 1), same shape."""
    if config.prior == "uniform":
        return 2 * uniform - 1
    if config.prior == "truncated":
        low = ndtr(-jnp.asarray(hparams.truncation))
        uniform = low + (1 - 2 * low) * uniform
    return ndtri(uniform)


def pair_coordinates(config: Config) -> int:
    """Uniforms that make one pair: three for the data, Z for the latent, four for instance noise where there is any."""
    return 3 + config.latent_dim + (0 if config.instance_noise == "none" else 4)


def draw_pairs(config: Config, hparams: HParams, target: GaussianMixture, uniform: jax.Array) -> Pairs:
    """Independent pairs from uniforms (N, `pair_coordinates`)."""
    real = target.transform(uniform[:, :3])
    labels = target.pick(uniform[:, 0]) % config.num_classes if config.num_classes else None
    z = latents(config, hparams, uniform[:, 3 : 3 + config.latent_dim])
    if config.instance_noise == "none":
        return Pairs(real, z, labels, None)
    noise = hparams.noise_std * ndtri(uniform[:, -4:])
    return Pairs(real + noise[:, :2], z, labels, noise[:, 2:])


def draw_batch(config: Config, hparams: HParams, key: jax.Array, data: Data | None, target: GaussianMixture) -> Batch:
    """A minibatch of the training batch size: fresh samples, or draws with replacement from `data`."""
    draw_key, penalty_key = jax.random.split(key)
    num = config.batch_size * config.packing
    penalty_uniform = sampling.uniform(penalty_key, (config.batch_size, 2 * config.packing + 1))
    uniform = sampling.uniform(draw_key, (num, pair_coordinates(config)))
    if config.real_batch == "stratified":
        # In random order, so that packs and pairs stay independent of the strata.
        stratum = jax.random.permutation(jax.random.fold_in(draw_key, 1), num)
        uniform = uniform.at[:, 0].set((stratum + uniform[:, 0]) / num)
    if data is None:
        return Batch(draw_pairs(config, hparams, target, uniform), penalty_uniform)
    index = (uniform[:, 0] * config.dataset_size).astype(jnp.int32)
    fresh = draw_pairs(config, hparams, target, uniform)
    real = data.points[index]
    if fresh.noise is not None:
        real += hparams.noise_std * ndtri(uniform[:, -4:-2])
    labels = None if data.labels is None else data.labels[index]
    return Batch(fresh._replace(real=real, labels=labels), penalty_uniform)


# ---- what the players minimize


class Play(NamedTuple):
    """Both networks on one minibatch: D's inputs (B, 2 m), its logits (B,), the players' collections after it."""

    real: jax.Array
    fake: jax.Array
    real_logits: jax.Array
    fake_logits: jax.Array
    stats: Players


def couples_the_batch(config: Config) -> bool:
    """Whether a network's output at a sample depends on the others in its batch."""
    return config.minibatch_layer != "none" or "batch" in (config.gen_norm, config.disc_norm)


def play_batch(config: Config, params: Players, stats: Players, pairs: Pairs) -> Play:
    """Both players on one minibatch, as in training."""
    make = functools.partial(_in_training, generator(config), params.gen, stats.gen)
    if config.packing > 1 and config.gen_norm == "batch":
        # Each slot of the packs is a batch of its own to the normalization, as in PacGAN's code.
        slots = pairs.latents.reshape(config.batch_size, config.packing, -1)
        fake, gen_stats = jax.vmap(lambda z: make(z, None), in_axes=1, out_axes=(1, 0))(slots)
        fake, gen_stats = fake.reshape(-1, 2), jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), gen_stats)
    else:
        fake, gen_stats = make(pairs.latents, pairs.labels)
    fake = pack(config, fake if pairs.noise is None else fake + pairs.noise)
    real = pack(config, pairs.real)
    disc = functools.partial(_in_training, discriminator(config), params.disc, stats.disc, labels=pairs.labels)
    real_logits, after_real = disc(real)
    fake_logits, after_fake = disc(fake)
    # Both halves start from the same collections, so the order of real and fake does not matter.
    disc_stats = jax.tree.map(lambda a, b: (a + b) / 2, after_real, after_fake)
    return Play(real, fake, real_logits, fake_logits, Players(gen_stats, disc_stats))


def loss_params(hparams: HParams) -> LossParams:
    """The numbers of the losses."""
    return LossParams(*(getattr(hparams, name) for name in LossParams._fields))


def disc_loss(config: Config, hparams: HParams, play: Play) -> jax.Array:
    """D's loss there, without penalties."""
    return LOSSES[config.loss].disc(play.real_logits, play.fake_logits, loss_params(hparams))


def gen_loss(config: Config, hparams: HParams, play: Play) -> jax.Array:
    """G's loss there, without penalties; of the best samples alone with top_k."""
    gen, params = LOSSES[config.loss].gen, loss_params(hparams)
    if not config.top_k:
        return gen(play.real_logits, play.fake_logits, params)
    # One sample's loss at a time, for which the mean over all is that over the best.
    each = jax.vmap(lambda real, fake: gen(real[None], fake[None], params))(play.real_logits, play.fake_logits)
    rank = jnp.argsort(jnp.argsort(-play.fake_logits))
    kept = rank < jnp.ceil(hparams.top_k_share * config.batch_size)
    return jnp.sum(jnp.where(kept, each, 0)) / jnp.sum(kept)


def disc_objective(
    config: Config, hparams: HParams, params: Players, stats: Players, batch: Batch
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Any]]:
    """What D minimizes: loss + penalties, the two apart, and D's collections after it."""
    play = play_batch(config, params, stats, batch.pairs)
    loss = disc_loss(config, hparams, play)
    penalty = jnp.zeros_like(loss)
    term = PENALTIES[config.penalty].term
    if term is not None:
        disc = lambda x: _in_training(  # noqa: E731
            discriminator(config), params.disc, stats.disc, x, batch.pairs.labels
        )[0]
        penalty += term(disc, params.disc, play.real, play.fake, batch.uniform, jnp.asarray(hparams.penalty_weight))
    if config.gradient_norm in ("disc", "both"):
        other = jax.grad(
            lambda gen: gen_loss(config, hparams, play_batch(config, params._replace(gen=gen), stats, batch.pairs))
        )(params.gen)
        penalty += 0.5 * hparams.gradient_norm_weight * optax.tree.norm(other, squared=True)
    return loss + penalty, (loss, penalty, play.stats.disc)


def gen_objective(
    config: Config, hparams: HParams, params: Players, stats: Players, batch: Batch, disc_follows: bool = False
) -> tuple[jax.Array, tuple[jax.Array, Any]]:
    """What G minimizes: loss + penalty, the loss alone, and G's collections after it.

    `disc_follows`: D's parameters depend on G's, so that in a zero-sum game the real part of V, too, is G's to move.
    """
    play = play_batch(config, params, stats, batch.pairs)
    loss = gen_loss(config, hparams, play)
    objective = -disc_loss(config, hparams, play) if disc_follows and LOSSES[config.loss].zero_sum else loss
    if config.gradient_norm not in ("gen", "both"):
        return objective, (loss, play.stats.gen)
    other = jax.grad(
        lambda disc: disc_loss(config, hparams, play_batch(config, params._replace(disc=disc), stats, batch.pairs))
    )(params.disc)
    penalty = 0.5 * hparams.gradient_norm_weight * optax.tree.norm(other, squared=True)
    return objective + penalty, (loss, play.stats.gen)


# ---- optimizers and schedules


def scheduled(config: Config, hparams: HParams, step: jax.Array) -> HParams:
    """The hyperparameters in force at a step: learning rates, instance noise and top-k share at their present value."""
    step = step.astype(jnp.float32)
    rate = jnp.minimum(1, (step + 1) / jnp.maximum(hparams.warmup_steps, 1))
    progress = jnp.clip((step - hparams.warmup_steps) / jnp.maximum(hparams.decay_steps, 1), 0, 1)
    if config.schedule == "linear":
        rate *= 1 - (1 - hparams.lr_final) * progress
    elif config.schedule == "cosine":
        rate *= hparams.lr_final + (1 - hparams.lr_final) * (1 + jnp.cos(jnp.pi * progress)) / 2
    noise_std = jnp.asarray(hparams.noise_std)
    if config.instance_noise == "annealed":
        noise_std *= jnp.maximum(0, 1 - step / jnp.maximum(hparams.noise_steps, 1))
    return dataclasses.replace(
        hparams,
        lr_gen=rate * hparams.lr_gen,
        lr_disc=rate * hparams.lr_disc,
        noise_std=noise_std,
        top_k_share=jnp.maximum(hparams.top_k_share, jnp.asarray(hparams.top_k_decay) ** step),
    )


def optimizer(
    name: str, lr: Any, beta1: Any, beta2: Any, eps: Any, weight_decay: Any, eps_root: Any = 0.0
) -> optax.GradientTransformation:
    """One of `OPTIMIZERS`. `eps_root` > 0 gives adam's root a derivative where a gradient is zero."""
    match name:
        case "sgd":
            return optax.sgd(lr)
        case "momentum":
            return optax.sgd(lr, momentum=beta1)
        case "rmsprop":
            # eps outside the root: as documented, and as PyTorch.
            return optax.rmsprop(lr, decay=beta2, eps=eps, eps_in_sqrt=False)
        case "adam":
            return optax.adam(lr, b1=beta1, b2=beta2, eps=eps, eps_root=eps_root)
        case "adamw":
            return optax.adamw(lr, b1=beta1, b2=beta2, eps=eps, eps_root=eps_root, weight_decay=weight_decay)
        case "optimistic_adam":
            return optax.optimistic_adam_v2(lr, b1=beta1, b2=beta2, eps=eps, eps_root=eps_root, nesterov=False)
    raise ValueError(f"optimizer: got {name!r}; allowed: {', '.join(OPTIMIZERS)}")


def optimizers(config: Config, hparams: HParams, eps_root: Any = 0.0) -> Players:
    """The players' optax transformations, built from traced hyperparameters: no recompilation by value."""
    h = hparams
    both = Players(
        gen=optimizer(config.gen_optimizer, h.lr_gen, h.beta1_gen, h.beta2_gen, h.eps, h.weight_decay, eps_root),
        disc=optimizer(config.disc_optimizer, h.lr_disc, h.beta1_disc, h.beta2_disc, h.eps, h.weight_decay, eps_root),
    )
    if config.dynamics == "optimistic":
        return Players(*(optax.chain(optax.scale_by_optimistic_gradient(), each) for each in both))
    return both


# ---- the start


def init(config: Config, hparams: HParams, target: GaussianMixture, key: jax.Array) -> State:
    """The state of one GAN before training. `key`: () threefry key of the run."""
    gen_key, disc_key = jax.random.split(jax.random.fold_in(key, Stream.INIT))
    labels = jnp.zeros(1, jnp.int32) if config.num_classes else None
    variables = Players(
        gen=generator(config).init(gen_key, jnp.zeros((1, config.latent_dim)), labels),
        disc=discriminator(config).init(disc_key, jnp.zeros((1, 2 * config.packing)), labels),
    )
    scales = {"kernel": hparams.init_scale, "frequency": hparams.fourier_scale}
    variables = jax.tree_util.tree_map_with_path(lambda path, leaf: scales.get(path[-1].key, 1.0) * leaf, variables)
    params = Players(*({"params": each["params"]} for each in variables))
    stats = Players(*({name: each[name] for name in each if name != "params"} for each in variables))
    opt = optimizers(config, hparams)
    nan = jnp.full((), jnp.nan, jnp.float32)  # a weak type here would compile `advance` twice
    return State(
        params=params,
        stats=stats,
        opt_state=Players(opt.gen.init(params.gen), opt.disc.init(params.disc)),
        ema=variables.gen if config.gen_ema else None,
        slow=params if config.lookahead else None,
        past=jax.tree.map(jnp.zeros_like, params) if config.dynamics == "past_extragradient" else None,
        travelled=Players(*[jnp.zeros((), jnp.float32)] * 2) if config.track_path else None,
        # No array of size zero: jax 0.11 crashes in compiling a partitioned program that carries one.
        data=_draw_data(config, target, jax.random.fold_in(key, Stream.DATA)) if config.dataset_size else None,
        logged=Logged(nan, nan, nan),
        step=jnp.zeros((), jnp.int32),
        key=key,
    )


def _draw_data(config: Config, target: GaussianMixture, key: jax.Array) -> Data:
    uniform = sampling.uniform(key, (config.dataset_size, 3))
    if config.real_batch == "stratified":
        # In the order of the modes, which makes strata of the index strata of the modes.
        uniform = uniform.at[:, 0].set((jnp.arange(config.dataset_size) + uniform[:, 0]) / config.dataset_size)
    labels = target.pick(uniform[:, 0]) % config.num_classes if config.num_classes else None
    return Data(target.transform(uniform), labels)
