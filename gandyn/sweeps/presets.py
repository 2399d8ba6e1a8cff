"""Published protocols, as flat fields of the target, `Config`, `HParams` and the run: what `gandyn run` takes.

A preset reproduces what its source did, as far as that is known; `reference` names the source, and what is different
here. What a framework does unasked is part of a protocol, and is set here where it is not the default:

| | kernels | biases | Adam's eps | RMSprop | batch norm: momentum, eps, running variance | leaky |
| --- | --- | --- | --- | --- | --- | --- |
| PyTorch | uniform, +-1/sqrt(fan-in) | the same | 1e-8 | decay 0.99, eps 1e-8 | 0.9, 1e-5, of n - 1 | 0.01 |
| Keras | glorot_uniform | zero | 1e-7 | decay 0.9, eps 1e-7 | 0.99, 1e-3, of n | 0.3 |
| TensorFlow 1 | glorot_uniform | zero | 1e-8 | decay 0.9, eps 1e-10 in the root, from 1 | 0.99, 1e-3, of n | 0.2 |
| haiku | normal of std 1/sqrt(fan-in), cut at 2 std | zero | - | - | -, 1e-5, of n | 0.01 |

Everywhere here, unless a preset says otherwise: samples are judged on latents of their own at each measurement; a fixed
data set is drawn anew for each seed, and from with replacement. Adam adds eps after correcting the bias of the second
moment, as in PyTorch; those of TensorFlow and Keras do it before, which makes of 1e-8 in the first step 3e-7.
"""

from typing import Any, NamedTuple

from gandyn import checks


class Preset(NamedTuple):
    """One protocol.

    Attributes:
      fields: name -> value, as in a run file; what is left out has its default.
      reference: paper, code where the paper leaves something open, and what differs here.
    """

    fields: dict[str, Any]
    reference: str


def _both(**fields: Any) -> dict[str, Any]:
    """The same for both players: width=400 is gen_width and disc_width, lr=... is lr_gen and lr_disc."""
    of_config = ("width", "depth", "activation", "optimizer", "net", "norm")
    return {
        f"{player}_{name}" if name in of_config else f"{name}_{player}": value
        for name, value in fields.items()
        for player in ("gen", "disc")
    }


_RING = {"target": "ring", "num_modes": 8, "radius": 1.0, "std": 0.01}
_GRID = {"target": "grid", "num_modes": 25, "spacing": 2.0, "std": 0.05}
_TOY_RING = {"target": "ring", "num_modes": 8, "radius": 2 / 1.414, "std": 0.02 / 1.414}
"""That of Gulrajani et al. 2017, which others took over."""

_VEEGAN = (
    {"batch_size": 500, "latent_dim": 255, "initializer": "glorot_uniform", "disc_activation": "relu"}
    | {"disc_depth": 1, "rule": "simultaneous", "num_steps": 100_000, "measure_every": 2_000, "seeds": ["0:5"]}
    | _both(lr=1e-3, beta1=0.5, width=128)
)
_VEEGAN_REFERENCE = (
    "Srivastava et al. 2017, table 1, its plain GAN: networks, optimizer and steps of the authors' grid notebook, "
    "where D's input has no latent here; the baseline's own loss is not published: {}"
)
_VEEGAN_LOSSES = {
    "": ("non_saturating", "non-saturating here, the mean logit of VEEGAN's own code in the preset of that name"),
    "_mean_logit": ("mean_logit", "here the adversarial term of VEEGAN's own code, G raising the mean logit"),
}

_PACGAN = (
    {"batch_size": 100, "dataset_size": 100_000, "initializer": "normal_0.02", "rule": "simultaneous"}
    | {"gen_width": 400, "gen_depth": 4, "gen_norm": "batch", "norm_momentum": 0.95, "norm_epsilon": 1e-4}
    | {"disc_net": "maxout", "disc_width": 200, "disc_depth": 3, "maxout_pieces": 5}
    | {"num_steps": 400_000, "measure_every": 10_000, "seeds": ["0:10"]}
    | _both(lr=1e-4, beta1=0.8)
)
_PACGAN_REFERENCE = (
    "Lin et al. 2018, table 1, and its code (100 packs a batch, both players on one batch, G's batch statistics of "
    "each slot of the packs apart); there the running average is of the std, not the variance, hidden layers of G have "
    "no bias (batch normalization takes it out again), all epochs and runs are judged on the same 2,500 latents, and "
    "within 3 std is meant strictly. beta1 is a decay in Blocks since January 2017, 1 less the decay before; the code "
    "is of December 2017 and names no version"
)

_ALPHA = (
    {"dataset_size": 50_000, "batch_size": 128, "second_batch": "same", "initializer": "pytorch"}
    | {"gen_width": 400, "disc_width": 200, "num_steps": 156_400, "measure_every": 3_910, "seeds": ["0:200"]}
    | _both(lr=1e-4, beta1=0.9, beta2=0.99, depth=4)
)
_ALPHA_REFERENCE = (
    "Welfert et al. 2023 and its code, {}, orders (1, 1): set alpha_disc, alpha_gen; there data and latents, 50,000 "
    "fixed ones of each, and the 25,000 latents that are judged are the same for all seeds, whose spread is of "
    "initialization and order alone; both are gone through without replacement, each in an order of its own, and the "
    "last of an epoch's 391 batches has 80 samples"
)

_WGAN_GP = (
    {"loss": "wasserstein", "penalties": ("wgan_gp",), "wgan_gp_weight": 0.1, "disc_steps": 5, "first": "gen"}
    | {"initializer": "he_uniform", "disc_activation": "relu", "num_steps": 100_000, "measure_every": 2_000}
    | _both(lr=1e-4, beta1=0.5, beta2=0.9, width=512, depth=3)
)
_WGAN_GP_REFERENCE = (
    "Gulrajani et al. 2017, the toy script of its code; there the output layers are glorot_uniform (he_uniform here), "
    "and G's first update is left out"
)

_DUALITY_GAP = (
    _TOY_RING
    | {"batch_size": 128, "latent_dim": 100, "initializer": "glorot_uniform", "disc_activation": "relu"}
    | {"num_steps": 10_000, "measure_every": 250}
    | _both(lr=5e-4, beta1=0.5, eps=1e-7, width=128)
)
_DUALITY_GAP_REFERENCE = (
    "Sidheekh et al. 2021, the notebook of its code, setting {!r}; there one update of D is two of its optimizer's, on "
    "reals and then on fakes alone, the optimizer is one for both players (its bias correction counts the updates of "
    "both, and those made in measuring), the reals are 12.8 million fixed points (fresh here), and the seed is one"
)

PRESETS: dict[str, Preset] = {
    **{
        f"veegan_gan_{kind}{name}": Preset(target | _VEEGAN | {"loss": loss}, _VEEGAN_REFERENCE.format(text))
        for name, (loss, text) in _VEEGAN_LOSSES.items()
        for kind, target in (("ring", _RING), ("grid", _GRID))
    },
    **{
        f"pacgan_{m}_{name}": Preset(target | _PACGAN | {"packing": m}, _PACGAN_REFERENCE)
        for name, target in (("ring", _RING), ("grid", _GRID))
        for m in (1, 2, 3, 4)
    },
    "unrolled_gan": Preset(
        _RING
        | {"loss": "minimax", "rule": "unrolled", "unroll_steps": 5, "latent_dim": 256, "batch_size": 512}
        | {"initializer": "orthogonal", "init_scale": 1.4, "num_steps": 25_000, "measure_every": 500}
        | {"lr_gen": 1e-3, "lr_disc": 1e-4}
        | _both(beta1=0.5, width=128, activation="tanh"),
        "Metz et al. 2017, the notebook of its code (which is not the paper's set-up); the ring there places one of "
        "its eight modes twice, which leaves seven, here it has eight",
    ),
    "alpha_gan": Preset(_RING | _ALPHA | {"loss": "alpha"}, _ALPHA_REFERENCE.format("saturating")),
    "alpha_gan_non_saturating": Preset(
        _RING | _ALPHA | {"loss": "alpha_non_saturating"}, _ALPHA_REFERENCE.format("non-saturating")
    ),
    "r3gan": Preset(
        _RING
        | {"loss": "relativistic", "penalties": ("r1", "r2"), "r1_weight": 0.05, "r2_weight": 0.05}
        | {"schedule": "cosine", "lr_final": 0.25}
        | {"num_steps": 50_000, "decay_steps": 50_000, "measure_every": 1_000}
        | {"gen_net": "residual", "disc_net": "residual"}
        | _both(lr=2e-4, beta1=0.0, beta2=0.99, activation="leaky_relu", width=128, depth=4),
        "Huang et al. 2024, in its style: loss, penalties (gamma of its CIFAR-10 run, with the 1/2), optimizer and "
        "cosine of its code; it has no set-up in the plane, so networks and target are chosen here, and gamma is "
        "constant",
    ),
    "wgan": Preset(
        _RING
        | {"loss": "wasserstein", "penalties": ("clip",), "clip_bound": 0.01, "disc_steps": 5, "batch_size": 64}
        | {"latent_dim": 100, "disc_activation": "relu", "initializer": "pytorch", "num_steps": 100_000}
        | {"measure_every": 2_000}
        | _both(lr=5e-5, beta2=0.99, optimizer="rmsprop", width=64, depth=3),
        "Arjovsky et al. 2017, algorithm 1, and the MLP of its code; without the 100 critic steps that the code, not "
        "the paper, makes in the first 25 and every 500th generator step; the code clips before an update, here as in "
        "the paper after it",
    ),
    "wgan_gp_ring": Preset(_TOY_RING | _WGAN_GP, _WGAN_GP_REFERENCE),
    "wgan_gp_grid": Preset(
        _WGAN_GP
        | {"target": "grid", "num_modes": 25, "spacing": 2 / 2.828, "std": 0.05 / 2.828}
        | {"dataset_size": 100_000, "real_batch": "stratified"},
        _WGAN_GP_REFERENCE + "; the data, 4,000 points of each mode, are gone through there in one shuffled order over "
        "and over, so that a batch has no equal share of each mode, as it has here",
    ),
    "sn_hinge": Preset(
        _RING
        | {"loss": "hinge", "disc_norm": "spectral", "disc_steps": 5, "first": "gen", "batch_size": 64}
        | {"schedule": "linear", "decay_steps": 50_000, "num_steps": 50_000, "measure_every": 1_000}
        | {"disc_activation": "relu", "initializer": "glorot_uniform"}
        | _both(lr=2e-4, beta1=0.0, beta2=0.9, width=128, depth=3),
        "Miyato et al. 2018, with the optimizer, schedule and order of its CIFAR-10 code; it has no set-up in the "
        "plane, so networks and target are chosen here, and G's batch is D's (there twice that)",
    ),
    "consensus": Preset(
        _RING
        | {"rule": "consensus", "adjustment": 10.0, "batch_size": 512, "latent_dim": 16, "real_batch": "stratified"}
        | {"initializer": "glorot_uniform", "disc_activation": "relu", "num_steps": 50_000}
        | {"measure_every": 1_000}
        | _both(lr=1e-4, beta2=0.9, eps=1e-10, optimizer="rmsprop_tf1", width=16, depth=4),
        "Mescheder et al. 2017, the notebook of its code on eight Gaussians; there sample i of every batch is of mode "
        "i mod 8, here in random order",
    ),
    "ode_gan": Preset(
        {"target": "grid", "num_modes": 16, "spacing": 1.0, "std": 0.02, "real_batch": "stratified"}
        | {"rule": "runge_kutta", "gradient_norm": "disc", "gradient_norm_weight": 0.14, "batch_size": 512}
        | {"latent_dim": 32, "disc_activation": "relu", "initializer": "haiku", "num_steps": 30_000}
        | {"measure_every": 500}
        | _both(lr=0.1, optimizer="sgd", width=25, depth=2),
        "Qin et al. 2020, with the numbers of its notebook; there each player's stages leave the opponent where it "
        "was and the regularizer (0.07 without the 1/2) is outside the stages, here they are one field as in the "
        "paper; D's output has the other sign there",
    ),
    "top_k": Preset(
        {"target": "grid", "num_modes": 25, "spacing": 1.0, "std": 0.05, "convention": "top_k"}
        | {"top_k": True, "top_k_share": 0.75, "top_k_decay": 0.99 ** (1 / 2000), "disc_activation": "relu"}
        | {"num_steps": 100_000, "measure_every": 2_000}
        | _both(lr=1e-4, beta1=0.9, beta2=0.99, width=256, depth=4),
        "Sinha et al. 2020, as reproduced by others (its own code is not public); the share falls smoothly by 1 % in "
        "2,000 steps, there at once; initial weights are not published (he_normal, zero biases here)",
    ),
    "bourgan_gan": Preset(
        {"target": "grid", "num_modes": 25, "spacing": 2.0, "std": 0.1, "dataset_size": 1_250, "batch_size": 128}
        | {"latent_dim": 25, "initializer": "pytorch", "num_steps": 5_000, "measure_every": 100}
        | _both(lr=1e-3, beta1=0.5, width=128, activation="leaky_relu_0.1"),
        "Xiao et al. 2018, the normal GAN of the grid notebook of its code, whose 0.01 is a variance; without the "
        "distance loss (weight 0.1), which the code adds to G's in this one, too. There the 1,250 fixed points are 50 "
        "of each mode, and a batch has each of them at most once",
    ),
    **{
        f"duality_gap_{name}": Preset(_DUALITY_GAP | steps, _DUALITY_GAP_REFERENCE.format(setting))
        for name, setting, steps in (
            ("convergence", "convergence", {}),
            ("mode_collapse", "mode_collapse", {"disc_steps": 15}),
            ("divergence", "divergence", {"gen_steps": 15}),
        )
    },
}

# Published tables count a mode as covered by one sample, unless they say otherwise: the default here asks for more.
PRESETS = {name: preset._replace(fields={"convention": "veegan"} | preset.fields) for name, preset in PRESETS.items()}


def fields(name: str) -> dict[str, Any]:
    """The fields of a preset, as a copy to change.

    Raises:
      ValueError: no such preset.
    """
    checks.choice("preset", name, PRESETS)
    return dict(PRESETS[name].fields)
