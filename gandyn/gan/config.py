"""What defines ONE GAN beside its numbers: `Config`, static, one program for each distinct value.

A part is a name (a key of `LOSSES`, `PENALTIES`, `RULES`, ...) or an object: a researcher's own `Loss`, `Penalty`,
`Rule`, `Optimizer`, or any Linen module as G or D. What the chosen parts declare are the numbers of the run
(`numbers_of`, `complete`).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

import flax.linen as nn

from gandyn import checks
from gandyn.gan import networks
from gandyn.gan.loss import Loss
from gandyn.gan.losses import LOSSES
from gandyn.gan.number import HParams, Number, filled, gathered
from gandyn.gan.optimizers import OPTIMIZERS, Optimizer
from gandyn.gan.penalties import PENALTIES, Penalty
from gandyn.gan.rules import RULES, Rule, lookahead

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

AVERAGES: dict[str, str] = {
    "none": "",
    "ema": "exponential average of G's parameters, decay ema_decay a step; Yazici et al. 2019",
    "uniform": "the mean of G's parameters over all steps so far",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """What is compiled in: parts, sizes, structure. Hashable; one program per distinct value."""

    loss: "str | Loss" = dataclasses.field(default="non_saturating", metadata={"parts": LOSSES})
    """What the players minimize (`gandyn list losses`)."""
    penalties: "tuple[str | Penalty, ...]" = dataclasses.field(default=(), metadata={"parts": PENALTIES})
    """What is added to D's loss or done to its weights, each with its own weight (`gandyn list penalties`)."""
    gradient_norm: Literal["none", "gen", "disc", "both"] = "none"
    """Which player also minimizes gradient_norm_weight / 2 * |gradient of the other's loss in the other's own
    parameters|^2: 'gen' is Nagarajan & Kolter 2017, 'disc' the regularizer of ODE-GAN (Qin et al. 2020)."""
    top_k: bool = False
    """G's loss is over the samples (packs) that D scores highest alone: a share top_k_share of the batch (Sinha et al.
    2020)."""
    rule: "str | Rule" = dataclasses.field(default="alternating", metadata={"parts": RULES})
    """The update rule (`gandyn list rules`)."""
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
    """Every so many steps both players go back to lookahead_rate of the way from where the last such step left them,
    the first time from the start (Chavdarova et al. 2021); 0 never."""
    gen_average: Literal["none", "ema", "uniform"] = "none"
    """Average of G's parameters that is kept, and measured beside G (`gandyn list averages`)."""
    track_path: bool = False
    """Keep the length of each player's path through its parameters, step by step."""
    batch_size: int = 256
    """Samples (packs, where packed) a player sees in one update, real and fake alike."""
    packing: int = 1
    """Samples that D judges jointly, m: PacGAN (Lin et al. 2018). A minibatch has m * batch_size samples."""
    disc_batches: Literal["apart", "joint"] = "apart"
    """Whether D sees real and fake samples in batches of their own or in one; it matters to batch normalization."""
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
    gen: nn.Module | None = None
    """G as a Linen module of one's own, latents (B, Z) -> samples; None builds it of the fields gen_..."""
    gen_net: str = dataclasses.field(default="mlp", metadata={"parts": networks.GENERATORS})
    """Architecture of G (`gandyn list generators`)."""
    gen_width: int = 128
    """Units in each hidden layer of G."""
    gen_depth: int = 2
    """Hidden layers of G; 0 makes G affine."""
    gen_activation: str = dataclasses.field(default="relu", metadata={"parts": networks.ACTIVATIONS})
    """Nonlinearity of G (`gandyn list activations`)."""
    gen_norm: Literal["none", "layer", "batch"] = "none"
    """Normalization in G (`gandyn list norms`)."""
    gen_fourier: int = 0
    """Frequencies of Fourier features of z; 0 gives G z itself."""
    disc: nn.Module | None = None
    """D as a Linen module of one's own, samples (B, ...) -> outputs (B,); None builds it of the fields disc_..."""
    disc_net: str = dataclasses.field(default="mlp", metadata={"parts": networks.DISCRIMINATORS})
    """Architecture of D (`gandyn list discriminators`)."""
    disc_width: int = 128
    """Units in each hidden layer of D."""
    disc_depth: int = 2
    """Hidden layers of D; 0 makes D affine."""
    disc_activation: str = dataclasses.field(default="leaky_relu", metadata={"parts": networks.ACTIVATIONS})
    """Nonlinearity of D (maxout has none)."""
    disc_norm: Literal["none", "layer", "batch", "spectral"] = "none"
    """Normalization in D (`gandyn list norms`)."""
    disc_fourier: int = 0
    """Frequencies of Fourier features of the points; 0 gives D the points themselves."""
    maxout_pieces: int = 5
    """Affine maps to a maxout unit (disc_net 'maxout')."""
    minibatch_layer: str = dataclasses.field(default="none", metadata={"parts": networks.MINIBATCH_LAYERS})
    """What D's last layer sees of the other samples in the batch (`gandyn list minibatch_layers`)."""
    initializer: str = dataclasses.field(default="he_normal", metadata={"parts": networks.INITIALIZERS})
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
    gen_optimizer: "str | Optimizer" = dataclasses.field(default="adam", metadata={"parts": OPTIMIZERS})
    """Optimizer of G (`gandyn list optimizers`)."""
    disc_optimizer: "str | Optimizer" = dataclasses.field(default="adam", metadata={"parts": OPTIMIZERS})
    """Optimizer of D."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning rates of both players over the steps, after warmup_steps of linear warm-up (`gandyn list schedules`)."""
    precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    """Precision of matrix products while training, where the hardware has a choice; measuring is always float32."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if get_origin(field.type) is Literal:
                checks.choice(field.name, value, get_args(field.type))
            elif field.type is bool and not isinstance(value, bool):
                raise ValueError(f"{field.name}: got {value!r:.200}; allowed: True, False")
            elif field.name == "penalties":
                self._check_penalties(value)
            elif "parts" in field.metadata:
                _check_part(field.name, value, field.metadata["parts"])
            elif field.name in ("gen", "disc"):
                _check_module(field.name, value)
        for name, (least, most) in _SIZES.items():
            checks.whole(name, getattr(self, name), least, most)
        checks.number("norm_momentum", self.norm_momentum, 0, 1, below=True)
        checks.number("norm_epsilon", self.norm_epsilon, 0, 1, above=True)
        for name in ("lookahead", "num_classes"):
            if getattr(self, name) == 1:
                raise ValueError(f"{name}: got 1; allowed: 0 (none), or a whole number of at least 2")
        _refuse_what_makes_no_sense(self)
        numbers_of(self)  # two parts may not mean different things by one name

    def _check_penalties(self, given: Any) -> None:
        if isinstance(given, list):
            object.__setattr__(self, "penalties", given := tuple(given))
        if not isinstance(given, tuple):
            raise ValueError(f"penalties: got {given!r:.200}; allowed: a tuple of names, such as ('r1',), or ()")
        for penalty in given:
            _check_part("penalties", penalty, PENALTIES)
        names = [penalty.name for penalty in penalties_of(self)]
        if len(set(names)) < len(names):
            raise ValueError(f"penalties: got {', '.join(names)}; allowed: each once")


def _check_part(field: str, value: Any, known: Mapping[str, Any]) -> None:
    """`value` is a name in `known`, or an object of the kind of its entries."""
    kind = type(next(iter(known.values())))
    if kind not in _KINDS or not isinstance(value, kind):
        checks.choice(field, value, known)
    elif not isinstance(value.name, str) or not value.name or (value.name in known and known[value.name] is not value):
        raise ValueError(
            f"{field}: got one named {value.name!r}; allowed: a name of its own, beside {', '.join(known)}"
        )


def _check_module(field: str, value: Any) -> None:
    if value is not None and not isinstance(value, nn.Module):
        made = f" (such as {value.__name__}(...), an instance)" if isinstance(value, type) else ""
        raise ValueError(f"{field}: got {value!r:.200}; allowed: a flax.linen module{made}, or None")
    try:
        hash(value)
    except TypeError as error:
        raise ValueError(
            f"{field}: got {value!r:.200}; allowed: a module whose fields are hashable ({error})"
        ) from None


_KINDS = (Loss, Penalty, Rule, Optimizer)
_SIZES: dict[str, tuple[int, int]] = {
    "batch_size": (1, 2**20),
    "packing": (1, 21_201),  # coordinates of SciPy's Sobol points
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

_RULE_OPTIONS = ("disc_steps", "gen_steps", "first", "second_batch", "unroll_steps")
"""What a rule reads of a `Config` (`Rule.options`)."""


# ---- the parts


def _part(value: Any, known: Mapping[str, Any]) -> Any:
    return known[value] if isinstance(value, str) else value


def loss_of(config: Config) -> Loss:
    """Its loss."""
    return _part(config.loss, LOSSES)


def penalties_of(config: Config) -> tuple[Penalty, ...]:
    """Its penalties."""
    return tuple(_part(penalty, PENALTIES) for penalty in config.penalties)


def rule_of(config: Config) -> Rule:
    """Its update rule, within its lookahead where it has one."""
    rule = _part(config.rule, RULES)
    return lookahead(rule, config.lookahead) if config.lookahead else rule


def optimizers_of(config: Config) -> tuple[Optimizer, Optimizer]:
    """Those of G and of D."""
    return _part(config.gen_optimizer, OPTIMIZERS), _part(config.disc_optimizer, OPTIMIZERS)


def generator_of(config: Config, event_shape: tuple[int, ...]) -> nn.Module:
    """G's module: one's own, or what the fields gen_... say."""
    if config.gen is not None:
        return config.gen
    return networks.Generator(
        config.gen_net,
        config.gen_width,
        config.gen_depth,
        config.gen_activation,
        config.initializer,
        norm=config.gen_norm,
        fourier=config.gen_fourier,
        event_shape=event_shape,
        **_shared_by_networks(config),
    )


def discriminator_of(config: Config) -> nn.Module:
    """D's module: one's own, or what the fields disc_... say."""
    if config.disc is not None:
        return config.disc
    return networks.Discriminator(
        config.disc_net,
        config.disc_width,
        config.disc_depth,
        config.disc_activation,
        config.initializer,
        norm=config.disc_norm,
        fourier=config.disc_fourier,
        maxout_pieces=config.maxout_pieces,
        minibatch=config.minibatch_layer,
        projection=config.conditioning == "projection",
        **_shared_by_networks(config),
    )


def _shared_by_networks(config: Config) -> dict[str, Any]:
    names = ("bias_initializer", "norm_momentum", "norm_epsilon", "norm_unbiased", "num_classes")
    return {name: getattr(config, name) for name in names}


@functools.lru_cache(maxsize=4096)
def numbers_of(config: Config) -> dict[str, Number]:
    """The numbers that the chosen parts declare, by name."""
    parts: list[tuple[str, Mapping[str, Number]]] = []
    for player, optimizer in zip(("gen", "disc"), optimizers_of(config)):
        parts.append((f"{player}_optimizer {optimizer.name!r}", _of_optimizer(player, optimizer)))
    parts.append(("schedule", _WARMUP))
    parts += [(f"{kind} {part.name!r}", part.numbers) for kind, part in _named_parts(config)]
    parts += [(name, numbers) for name, applies, numbers in _OPTIONS if applies(config)]
    parts.append(("initializer", _INIT))
    return gathered(parts)


def declarations() -> dict[str, Mapping[str, Number]]:
    """What every built-in part declares, by the part."""
    found: dict[str, Mapping[str, Number]] = {}
    for player in ("gen", "disc"):
        found |= {f"{player}_optimizer {name}": _of_optimizer(player, one) for name, one in OPTIMIZERS.items()}
    found["every schedule"] = _WARMUP
    for kind, known in (("loss", LOSSES), ("penalty", PENALTIES), ("rule", RULES)):
        found |= {f"{kind} {name}": part.numbers for name, part in known.items()}
    found["lookahead"] = lookahead(RULES["alternating"], 2).numbers
    return found | {name: numbers for name, _, numbers in _OPTIONS} | {"every network": _INIT}


def _of_optimizer(player: str, optimizer: Optimizer) -> dict[str, Number]:
    rate = Number(1e-3, 0, text=f"learning rate of {'G' if player == 'gen' else 'D'}")
    return {f"lr_{player}": rate} | {f"{name}_{player}": number for name, number in optimizer.numbers.items()}


def _named_parts(config: Config) -> list[tuple[str, Any]]:
    penalties = [("penalty", penalty) for penalty in penalties_of(config)]
    return [("loss", loss_of(config)), *penalties, ("rule", rule_of(config))]


_WARMUP = {"warmup_steps": Number(0.0, 0, text="steps over which both learning rates rise linearly to their value")}
_INIT = {"init_scale": Number(1.0, 0, text="factor on every initial kernel of both players")}
_OPTIONS: tuple[tuple[str, Callable[[Config], bool], Mapping[str, Number]], ...] = (
    (
        "schedule linear or cosine",
        lambda config: config.schedule != "constant",
        {
            "decay_steps": Number(5_000.0, 0, text="steps after the warm-up over which the learning rates fall"),
            "lr_final": Number(0.0, 0, 1, text="what they fall to, as a share of their value"),
        },
    ),
    (
        "gradient_norm",
        lambda config: config.gradient_norm != "none",
        {"gradient_norm_weight": Number(0.1, 0, text="strength w of w / 2 * |gradient of the other player|^2")},
    ),
    (
        "gen_average ema",
        lambda config: config.gen_average == "ema",
        {"ema_decay": Number(0.999, 0, 1, below=True, text="decay of G's average, a step")},
    ),
    (
        "top_k",
        lambda config: config.top_k,
        {
            "top_k_share": Number(0.5, 0, 1, above=True, text="share of the batch that G's loss ends at"),
            "top_k_decay": Number(0.999, 0, 1, above=True, text="factor on that share a step, from 1 at the start"),
        },
    ),
    (
        "instance_noise",
        lambda config: config.instance_noise != "none",
        {"noise_std": Number(0.1, 0, text="std of the instance noise, in the units of the data")},
    ),
    (
        "instance_noise annealed",
        lambda config: config.instance_noise == "annealed",
        {"noise_steps": Number(5_000.0, 0, text="steps until annealed instance noise has gone")},
    ),
    (
        "prior truncated",
        lambda config: config.prior == "truncated",
        {"truncation": Number(2.0, 0, above=True, text="bound on each coordinate of z")},
    ),
    (
        "gen_fourier, disc_fourier",
        lambda config: config.gen_fourier + config.disc_fourier > 0,
        {"fourier_scale": Number(1.0, 0, text="std of the frequencies of Fourier features, per unit of the data")},
    ),
)
"""What options of a `Config` declare: option, whether it is chosen, numbers."""


def complete(config: Config, hparams: HParams) -> HParams:
    """`hparams` with the defaults of what is left out, in the order in which the parts declare them.

    Raises:
      ValueError: a number that no chosen part reads, or one out of its range.
    """
    declared = numbers_of(config)
    for name, value in hparams.as_dict().items():
        if name not in declared:
            raise ValueError(unread(name, value, declared))
    return filled(declared, hparams)


def unread(name: str, value: Any, declared: Iterable[str], fields: Iterable[str] = ()) -> str:
    """Why a number is refused that none of the chosen parts declares: which do, or the nearest name or field."""
    readers = [part for part, numbers in declarations().items() if name in numbers]
    hint = f"it is read by {', '.join(readers)}" if readers else f"allowed here: {', '.join(declared)}"
    near = "" if readers else checks.nearest(name, [*declared, *fields])
    return f"{name}: got {value!r:.100}, and nothing chosen reads it{near}; {hint}"


# ---- what makes no sense


def _refuse_what_makes_no_sense(config: Config) -> None:
    """Raises for the first field that another one leaves no meaning, with the reason."""

    def only(name: str, *allowed: Any, because: str) -> None:
        if getattr(config, name) not in allowed:
            choices = ", ".join(map(repr, allowed))
            raise ValueError(f"{name}: got {getattr(config, name)!r}; allowed with {because}: {choices}")

    loss, rule = loss_of(config), rule_of(config)
    for name in _RULE_OPTIONS:
        if name not in rule.options:
            only(name, _default(name), because=f"rule={rule.name!r}")
    if rule.own_steps:
        reason = f"rule={rule.name!r} (the rule makes its own steps of the learning rates)"
        only("gen_optimizer", "sgd", because=reason)
        only("disc_optimizer", "sgd", because=reason)
    if rule.optimistic:
        for player, optimizer in zip(("gen", "disc"), optimizers_of(config)):
            if optimizer.optimistic:
                raise ValueError(
                    f"{player}_optimizer: got {optimizer.name!r}; allowed with rule={rule.name!r}: one that is not "
                    "optimistic itself (it would be optimism twice)"
                )
    if config.top_k and (loss.couples or loss.aux):
        raise ValueError(f"loss: got {loss.name!r}; allowed with top_k: one whose samples' losses stand alone")
    if not config.num_classes:
        only("conditioning", "concat", because="num_classes=0")
    if config.num_classes:
        only("packing", 1, because="num_classes (the samples of a pack would have different labels)")
    for player in ("gen", "disc"):
        if getattr(config, player) is not None:
            module = type(getattr(config, player)).__name__
            for name in _of_network(player):
                only(name, _default(name), because=f"{player}={module} (it is built without that)")
        else:
            _refuse_what_a_net_has_not(player, getattr(config, f"{player}_net"), only)
    if config.disc is None:
        _refuse_coupling(config, only)


def _of_network(player: str) -> list[str]:
    """The fields that build a player's network, and nothing else."""
    own = [field.name for field in dataclasses.fields(Config) if field.name.startswith(f"{player}_")]
    others = (f"{player}_steps", f"{player}_optimizer", f"{player}_average", f"{player}_batches")
    more = ("maxout_pieces", "minibatch_layer", "conditioning") if player == "disc" else ()
    return [*(name for name in own if name not in others), *more]


def _refuse_what_a_net_has_not(player: str, net: str, only: Any) -> None:
    if net in networks.WITHOUT_HIDDEN_LAYER:
        for name in ("norm", "fourier"):
            name = f"{player}_{name}"
            only(name, _default(name), because=f"{player}_net={net!r} (it has no hidden layer)")
        if player == "disc":
            only("minibatch_layer", "none", because=f"disc_net={net!r} (it has no hidden layer)")
            only("conditioning", "concat", because=f"disc_net={net!r} (it has no hidden layer)")
    if net in networks.WITHOUT_LABELS:
        only("num_classes", 0, because=f"{player}_net={net!r} (it has nowhere to put a label)")


def _refuse_coupling(config: Config, only: Any) -> None:
    """Of a built-in D that sees the batch, where a penalty or a single sample leaves that no meaning."""
    for penalty in penalties_of(config):
        if penalty.per_sample and penalty.term is not None:
            reason = f"penalty {penalty.name!r} (D's gradient at a sample must be of that sample's logit alone)"
            only("disc_norm", "none", "layer", "spectral", because=reason)
            only("minibatch_layer", "none", because=reason)
    if config.batch_size == 1:
        reason = "batch_size=1 (one sample has no spread)"
        only("gen_norm", "none", "layer", because=reason)
        only("disc_norm", "none", "layer", "spectral", because=reason)
        only("minibatch_layer", "none", because=reason)


def _default(name: str) -> Any:
    return Config.__dataclass_fields__[name].default
