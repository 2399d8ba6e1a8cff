"""Published protocols, as flat fields of the target, `Config`, `HParams` and the run: what `gandyn run` takes.

A preset reproduces what its source did, as far as that is known; `reference` names the source, and what is different
here.
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

_VEEGAN = (
    {"batch_size": 500, "latent_dim": 255, "initializer": "glorot_uniform", "disc_activation": "relu"}
    | {"disc_depth": 1, "dynamics": "simultaneous", "num_steps": 100_000, "measure_every": 2_000, "seeds": ["0:5"]}
    | _both(lr=1e-3, beta1=0.5, width=128)
)
_VEEGAN_REFERENCE = (
    "Srivastava et al. 2017, table 1, its plain GAN: networks, optimizer and steps of the authors' grid notebook, "
    "where D's input has no latent here; the baseline's own loss is not published (non-saturating here)"
)

_PACGAN = (
    {"batch_size": 100, "dataset_size": 100_000, "initializer": "normal_0.02", "dynamics": "simultaneous"}
    | {"gen_width": 400, "gen_depth": 4, "gen_norm": "batch"}
    | {"disc_net": "maxout", "disc_width": 200, "disc_depth": 3, "maxout_pieces": 5}
    | {"num_steps": 400_000, "measure_every": 10_000, "seeds": ["0:10"]}
    | _both(lr=1e-4, beta1=0.8)
)
_PACGAN_REFERENCE = (
    "Lin et al. 2018, table 1, and its code (100 packs a batch, both players on one batch, G's batch statistics of "
    "each slot of the packs apart); here running averages have decay 0.9, epsilon 1e-5"
)

_ALPHA = (
    {"dataset_size": 50_000, "batch_size": 128, "second_batch": "same", "initializer": "pytorch"}
    | {"gen_width": 400, "disc_width": 200, "num_steps": 156_000, "measure_every": 4_000, "seeds": ["0:200"]}
    | _both(lr=1e-4, beta1=0.9, beta2=0.99, depth=4)
)
_ALPHA_REFERENCE = (
    "Welfert et al. 2023 and its code, {}, orders (1, 1): set alpha_disc, alpha_gen; there the latents, too, are "
    "50,000 fixed ones, samples are drawn without replacement, and biases start as kernels do"
)

_WGAN_GP = (
    {"loss": "wasserstein", "penalty": "wgan_gp", "penalty_weight": 0.1, "disc_steps": 5, "first": "gen"}
    | {"initializer": "he_uniform", "disc_activation": "relu", "num_steps": 100_000, "measure_every": 2_000}
    | _both(lr=1e-4, beta1=0.5, beta2=0.9, width=512, depth=3)
)
_WGAN_GP_REFERENCE = "Gulrajani et al. 2017, the toy script of its code; the output layers, too, are he_uniform here"

PRESETS: dict[str, Preset] = {
    "veegan_gan_ring": Preset(_RING | _VEEGAN, _VEEGAN_REFERENCE),
    "veegan_gan_grid": Preset(_GRID | _VEEGAN, _VEEGAN_REFERENCE),
    **{
        f"pacgan_{m}_{name}": Preset(target | _PACGAN | {"packing": m}, _PACGAN_REFERENCE)
        for name, target in (("ring", _RING), ("grid", _GRID))
        for m in (1, 2, 3, 4)
    },
    "unrolled_gan": Preset(
        _RING
        | {"loss": "minimax", "dynamics": "unrolled", "unroll_steps": 5, "latent_dim": 256, "batch_size": 512}
        | {"initializer": "orthogonal", "init_scale": 1.4, "num_steps": 25_000, "measure_every": 500}
        | {"lr_gen": 1e-3, "lr_disc": 1e-4}
        | _both(beta1=0.5, width=128, activation="tanh"),
        "Metz et al. 2017, the notebook of its code (which is not the paper's set-up); the ring there places one of "
        "its eight modes twice, here it has eight",
    ),
    "alpha_gan": Preset(_RING | _ALPHA | {"loss": "alpha"}, _ALPHA_REFERENCE.format("saturating")),
    "alpha_gan_non_saturating": Preset(
        _RING | _ALPHA | {"loss": "alpha_non_saturating"}, _ALPHA_REFERENCE.format("non-saturating")
    ),
    "r3gan": Preset(
        _RING
        | {"loss": "relativistic", "penalty": "r1_r2", "penalty_weight": 0.05, "schedule": "cosine", "lr_final": 0.25}
        | {"num_steps": 50_000, "decay_steps": 50_000, "measure_every": 1_000}
        | {"gen_net": "residual", "disc_net": "residual"}
        | _both(lr=2e-4, beta1=0.0, beta2=0.99, activation="leaky_relu", width=128, depth=4),
        "Huang et al. 2024, in its style: loss, penalties (gamma of its CIFAR-10 run, with the 1/2), optimizer and "
        "cosine of its code; it has no set-up in the plane, so networks and target are chosen here, and gamma is "
        "constant",
    ),
    "wgan": Preset(
        _RING
        | {"loss": "wasserstein", "penalty": "clip", "clip_bound": 0.01, "disc_steps": 5, "batch_size": 64}
        | {"latent_dim": 100, "disc_activation": "relu", "initializer": "pytorch", "num_steps": 100_000}
        | {"measure_every": 2_000}
        | _both(lr=5e-5, beta2=0.99, optimizer="rmsprop", width=64, depth=3),
        "Arjovsky et al. 2017, algorithm 1, and the MLP of its code; without the 100 critic steps that the code, not "
        "the paper, makes in the first 25 and every 500th generator step",
    ),
    "wgan_gp_ring": Preset(
        _WGAN_GP | {"target": "ring", "num_modes": 8, "radius": 2 / 1.414, "std": 0.02 / 1.414}, _WGAN_GP_REFERENCE
    ),
    "wgan_gp_grid": Preset(
        _WGAN_GP
        | {"target": "grid", "num_modes": 25, "spacing": 2 / 2.828, "std": 0.05 / 2.828}
        | {"dataset_size": 100_000, "real_batch": "stratified"},
        _WGAN_GP_REFERENCE,
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
        | {"dynamics": "consensus", "adjustment": 10.0, "batch_size": 512, "latent_dim": 16, "real_batch": "stratified"}
        | {"eps": 1e-10, "initializer": "glorot_uniform", "disc_activation": "relu", "num_steps": 50_000}
        | {"measure_every": 1_000}
        | _both(lr=1e-4, beta2=0.9, optimizer="rmsprop", width=16, depth=4),
        "Mescheder et al. 2017, the notebook of its code on eight Gaussians",
    ),
    "ode_gan": Preset(
        {"target": "grid", "num_modes": 16, "spacing": 1.0, "std": 0.02, "real_batch": "stratified"}
        | {"dynamics": "runge_kutta", "gradient_norm": "disc", "gradient_norm_weight": 0.14, "batch_size": 512}
        | {"latent_dim": 32, "disc_activation": "relu", "initializer": "lecun_normal", "num_steps": 30_000}
        | {"measure_every": 500}
        | _both(lr=0.1, optimizer="sgd", width=25, depth=2),
        "Qin et al. 2020, with the numbers of its notebook; there each player's stages leave the opponent where it "
        "was and the regularizer (0.07 without the 1/2) is outside the stages, here they are one field as in the "
        "paper",
    ),
    "top_k": Preset(
        {"target": "grid", "num_modes": 25, "spacing": 1.0, "std": 0.05, "convention": "top_k"}
        | {"top_k": True, "top_k_share": 0.75, "top_k_decay": 0.99 ** (1 / 2000), "disc_activation": "relu"}
        | {"num_steps": 100_000, "measure_every": 2_000}
        | _both(lr=1e-4, beta1=0.9, beta2=0.99, width=256, depth=4),
        "Sinha et al. 2020, as reproduced by others (its own code is not public); the share falls smoothly by 1 % in "
        "2,000 steps, there at once",
    ),
}


def fields(name: str) -> dict[str, Any]:
    """The fields of a preset, as a copy to change.

    Raises:
      ValueError: no such preset.
    """
    checks.choice("preset", name, PRESETS)
    return dict(PRESETS[name].fields)
