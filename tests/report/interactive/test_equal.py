"""What the page computes is what the package computes: networks, losses, gradients, optimizers, targets."""

import dataclasses
from pathlib import Path
from typing import Any

import javascript
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gandyn
from gandyn.gan.game import make_game
from gandyn.gan.losses import LOSSES
from gandyn.gan.networks import ACTIVATIONS
from gandyn.gan.optimizers import OPTIMIZERS
from gandyn.gan.state import Batch, Pairs
from gandyn.gan.step import init, step
from gandyn.sweeps import snapshots

RING = gandyn.targets.ring(num_modes=4, std=0.1)
SMALL: dict[str, Any] = {"gen_width": 6, "disc_width": 6}


def state_of(game: Any, key: jax.Array, steps: int = 0) -> Any:
    state = jax.jit(lambda game, key: init(game, key))(game, key)
    advance = jax.jit(step)
    for _ in range(steps):
        state = advance(game, state)
    return state


def networks_task(config: gandyn.Config, key: jax.Array, steps: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """A task and what the package says: both players of a game on random inputs."""
    game = make_game(RING, config)
    state = state_of(game, key, steps)
    arrays = snapshots.arrays_at(game, state, False)
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(24, config.latent_dim)).astype(np.float32)
    points = rng.normal(size=(24 * config.packing, 2)).astype(np.float32)
    labels = jnp.full(24, 1, jnp.int32) if config.num_classes else None
    task = {
        "do": "evaluate",
        "networks": snapshots.networks_of(game),
        "gen": javascript.named(arrays, "gen"),
        "disc": javascript.named(arrays, "disc"),
        "latents": latents.ravel().tolist(),
        "points": points.ravel().tolist(),
        "label": 1,
    }
    variables = state.variables
    samples = game.generate(variables.gen, jnp.asarray(latents), labels)
    outputs = game.discriminate(variables.disc, jnp.asarray(points), labels)
    return task, {"samples": np.ravel(samples), "outputs": np.ravel(outputs)}


KINDS: list[dict[str, Any]] = [
    {"gen_activation": name, "disc_activation": name} for name in ACTIVATIONS
] + [
    {"gen_net": "residual", "disc_net": "residual", "gen_depth": 3, "disc_depth": 3},
    {"gen_net": "affine", "disc_net": "maxout", "maxout_pieces": 3},
    {"gen_net": "point", "disc_net": "quadratic"},
    {"disc_net": "bilinear", "gen_depth": 0, "disc_depth": 0},
    {"gen_norm": "layer", "disc_norm": "layer"},
    {"gen_fourier": 4, "disc_fourier": 5},
    {"num_classes": 2, "conditioning": "concat"},
    {"num_classes": 4, "conditioning": "projection"},
    {"packing": 2, "latent_dim": 3},
]  # fmt: skip
TRAINED: list[dict[str, Any]] = [
    {"gen_norm": "batch", "disc_norm": "spectral"},
    {"disc_norm": "batch", "gen_net": "residual"},
]


def networks_compared(kinds: list[dict[str, Any]], folder: Path) -> None:
    tasks, wanted = [], []
    for number, kind in enumerate(kinds):
        own: dict[str, Any] = SMALL | {"batch_size": 8} | kind
        config = gandyn.Config(**own)
        task, right = networks_task(config, jax.random.key(number), 3 if kind in TRAINED else 0)
        tasks.append(task)
        wanted.append(right)
    for kind, got, right in zip(kinds, javascript.answers(tasks, folder), wanted, strict=True):
        for name, values in right.items():
            error = np.abs(np.array(got[name]) - values).max()
            assert error <= 1e-5 * max(1, np.abs(values).max()), (kind, name, error)


def test_networks_are_those_of_the_package(tmp_path: Path):
    """From float32 weights, to 1e-5 of the largest output."""
    networks_compared([{"gen_net": "residual", "disc_net": "maxout", "maxout_pieces": 3}], tmp_path)


@pytest.mark.slow
def test_networks_of_every_kind(tmp_path: Path):
    networks_compared([*KINDS, *TRAINED], tmp_path)


def gradient_task(config: gandyn.Config, key: jax.Array) -> tuple[dict[str, Any], dict[str, Any]]:
    """A task and what the package says: both players' gradients from one state and batch."""
    given = {"alpha_disc": 1.7, "alpha_gen": 0.8} if str(config.loss).startswith("alpha") else {}
    game = make_game(RING, config, gandyn.HParams(**given))
    state = state_of(game, key)
    rng = np.random.default_rng(1)
    size = config.batch_size
    real = np.asarray(RING.transform(jnp.asarray(rng.uniform(0.01, 0.99, (size, 3)).astype(np.float32))))
    latents = rng.normal(size=(size, config.latent_dim)).astype(np.float32)
    uniform = rng.uniform(size=(size, 3)).astype(np.float32)
    batch = Batch(Pairs(jnp.asarray(real), jnp.asarray(latents), None, None), jnp.asarray(uniform), state.step)
    arrays = snapshots.arrays_at(game, state, False)
    described = snapshots.described(gandyn.Setting("", RING, config, game.hparams))
    task = {
        "do": "gradients",
        "networks": described["networks"],
        "recipe": described["config"] | {"numbers": described["numbers"]},
        "target": described["target"],
        "gen": javascript.named(arrays, "gen"),
        "disc": javascript.named(arrays, "disc"),
        "real": real.ravel().tolist(),
        "latents": latents.ravel().tolist(),
        "share": uniform[:, 0].tolist(),
    }

    @jax.jit
    def both(params: Any, stats: Any) -> Any:
        return game.disc_gradient(params, stats, batch), game.gen_gradient(params, stats, batch)

    (disc, (loss_disc, penalty, _)), (gen, (loss_gen, _)) = both(state.params, state.stats)
    flat = lambda tree: dict(snapshots._leaves(tree["params"]))  # noqa: E731
    right = {"loss_disc": loss_disc, "penalty": penalty, "loss_gen": loss_gen, "disc": flat(disc), "gen": flat(gen)}
    return task, right


SEPARABLE = [name for name, loss in LOSSES.items() if not loss.aux]
GAMES: list[dict[str, Any]] = [{"loss": name} for name in SEPARABLE] + [
    {"penalties": (name,)} for name in ("r1", "r2", "wgan_gp", "wgan_lp", "zero_centred", "l2")
] + [
    {"penalties": ("r1", "r2"), "disc_activation": name, "gen_activation": name}
    for name in ("tanh", "softplus", "silu", "gelu", "elu", "relu")
] + [
    {"penalties": ("r1",), "disc_net": "residual", "disc_depth": 3, "disc_activation": "silu"},
    {"penalties": ("r1",), "disc_net": "maxout", "maxout_pieces": 3},
    {"penalties": ("r1",), "disc_norm": "layer", "gen_norm": "layer", "disc_activation": "tanh"},
    {"penalties": ("r1",), "disc_fourier": 4},
]  # fmt: skip


def compared(games: list[dict[str, Any]], folder: Path) -> None:
    tasks, wanted = [], []
    for number, kind in enumerate(games):
        own: dict[str, Any] = SMALL | {"batch_size": 16} | kind
        config = gandyn.Config(**own)
        task, right = gradient_task(config, jax.random.key(100 + number))
        tasks.append(task)
        wanted.append(right)
    for kind, got, right in zip(games, javascript.answers(tasks, folder), wanted, strict=True):
        for name in ("loss_disc", "penalty", "loss_gen"):
            assert got[name] == pytest.approx(float(right[name]), rel=1e-5, abs=1e-6), (kind, name)
        for player in ("disc", "gen"):
            largest = max(np.abs(leaf).max() for leaf in right[player].values())
            for name, leaf in right[player].items():
                error = np.abs(np.array(got[player][name]) - np.ravel(leaf)).max()
                assert error <= 1e-5 * max(float(largest), 1), (kind, player, name, error)


def test_gradients_are_those_of_the_package(tmp_path: Path):
    """From the same state and batch, to 1e-5 of the largest entry."""
    compared([{"loss": "hinge", "penalties": ("r1",)}], tmp_path)


@pytest.mark.slow
def test_gradients_of_every_loss_and_penalty(tmp_path: Path):
    compared(GAMES, tmp_path)


def test_optimizers_are_those_of_the_package(tmp_path: Path):
    rng = np.random.default_rng(2)
    start, gradients = rng.normal(size=5), rng.normal(size=(4, 5))
    tasks, wanted = [], []
    for name in ("sgd", "momentum", "adam", "adamw", "rmsprop"):
        numbers = {key: number.default for key, number in OPTIMIZERS[name].numbers.items()} | {"lr": 0.05}
        made = OPTIMIZERS[name].make(numbers["lr"], **{k: v for k, v in numbers.items() if k != "lr"})
        params = jnp.asarray(start, jnp.float32)
        memory = made.init(params)
        for gradient in gradients:
            updates, memory = made.update(jnp.asarray(gradient, jnp.float32), memory, params)
            params = params + jnp.asarray(updates)
        tasks.append(
            {
                "do": "updates",
                "optimizer": name,
                "start": start.tolist(),
                "gradients": gradients.tolist(),
                "numbers": numbers,
            }
        )
        wanted.append(np.asarray(params))
    for task, got, right in zip(tasks, javascript.answers(tasks, tmp_path), wanted, strict=True):
        np.testing.assert_allclose(got, right, rtol=2e-6, atol=5e-6, err_msg=task["optimizer"])


def test_critics_and_equilibria_are_those_of_the_package(tmp_path: Path):
    ratios = np.linspace(-3, 3, 13)
    numbers = {name: {key: n.default for key, n in LOSSES[name].numbers.items()} for name in SEPARABLE}
    numbers["alpha"] = {"alpha_disc": 2.5, "alpha_gen": 0.7}
    numbers["least_squares_sigmoid"] = {"label_fake": 0.1, "label_real": 0.9, "label_gen": 1.0}
    numbers["minimax"] = {"label_smoothing": 0.1, "label_smoothing_fake": 0.05}
    (got,) = javascript.answers([{"do": "critics", "ratios": ratios.tolist(), "losses": numbers}], tmp_path)
    for name in SEPARABLE:
        hparams = gandyn.HParams(**numbers[name])
        loss = LOSSES[name]
        if loss.critic is not None and loss.scale is None:
            right = loss.critic(jnp.asarray(ratios, jnp.float32), hparams)
            np.testing.assert_allclose(got[name]["critic"], right, rtol=2e-5, atol=2e-6, err_msg=name)
        else:
            assert got[name]["critic"] is None, name
        if loss.equilibrium is not None:
            assert got[name]["equilibrium"] == pytest.approx(float(loss.equilibrium(hparams)), abs=1e-6), name


@pytest.mark.slow
def test_targets_are_those_of_the_package(tmp_path: Path):
    made = {name: make() for name, make in gandyn.targets.TARGETS.items()}
    made["mixture"] = gandyn.targets.build(
        "mixture",
        means=[0, 0, 1, 1],
        stds=[0.1, 0.2],
        weights=[0.25, 0.75],
        shapes=[[[2, 0], [0.3, 0.5]], [[1, 0], [0, 1]]],
    )
    rng = np.random.default_rng(3)
    tasks = []
    for target in made.values():
        uniform = rng.uniform(0.001, 0.999, (64, target.num_uniforms)).astype(np.float32)
        points = np.asarray(target.transform(jnp.asarray(uniform))) + rng.normal(size=(64, 2)) * 0.01
        own = {"target": snapshots.arrays_of(target), "uniform": uniform.astype(float).ravel().tolist()}
        tasks.append({"do": "target", **own, "points": points.astype(np.float32).astype(float).ravel().tolist()})
    for (name, target), task, got in zip(made.items(), tasks, javascript.answers(tasks, tmp_path), strict=True):
        uniform = jnp.asarray(np.array(task["uniform"], np.float32).reshape(64, -1))
        points = jnp.asarray(np.array(task["points"], np.float32).reshape(-1, 2))
        if name != "checkerboard":  # whose cells the page picks by one uniform, not by two
            near = np.isclose(got["samples"], np.ravel(target.transform(uniform)), atol=2e-5).reshape(-1, 2).all(axis=1)
            assert near.mean() > 0.95, name  # float32 may pick the neighbour at the edge between two components
        logs = np.array([float(x) for x in got["logs"]])
        np.testing.assert_allclose(logs, target.log_prob(points), rtol=2e-4, atol=2e-3, err_msg=name)
        if getattr(target, "num_modes", 0):
            from gandyn.truth import coverage

            right = coverage.coverage(points, target, coverage.CONVENTIONS["mass"])
            assert got["coverage"]["modes"] == int(right.modes), name


READ = {
    "loss", "penalties", "rule", "disc_steps", "gen_steps", "first", "batch_size", "latent_dim", "gen_net", "gen_width",
    "gen_depth", "gen_activation", "gen_fourier", "disc_net", "disc_width", "disc_depth", "disc_activation",
    "disc_fourier", "maxout_pieces", "norm_epsilon", "gen_optimizer", "disc_optimizer",
}  # fmt: skip
REFUSED: dict[str, Any] = {
    "gen": "(a module)", "disc": "(a module)", "gen_norm": "batch", "disc_norm": "spectral",
    "minibatch_layer": "stddev", "packing": 2, "num_classes": 2, "dataset_size": 8, "instance_noise": "constant",
    "gradient_norm": "gen", "top_k": True,
    "lookahead": 5, "schedule": "linear", "real_batch": "stratified", "prior": "truncated", "second_batch": "same",
}  # fmt: skip
NO_MATTER = {
    "unroll_steps", "gen_average", "track_path", "disc_batches", "conditioning", "initializer", "bias_initializer",
    "norm_momentum", "norm_unbiased", "precision",
}  # fmt: skip
"""Of rules, networks and starts that the page does not train, or of what no gradient depends on."""


def test_what_the_page_does_not_train_it_refuses_to():
    """Every field of `Config` is read by the page's training, refused by it, or of no matter to it."""
    fields = {field.name for field in dataclasses.fields(gandyn.Config)}
    assert READ | set(REFUSED) | NO_MATTER == fields
    assert snapshots.why_it_cannot_fork(gandyn.Config()) == ""
    others: list[dict[str, Any]] = [
        {"loss": "feature_matching"},
        {"rule": "extragradient"},
        {"disc_optimizer": "optimistic_adam"},
        {"penalties": ("lecam",)},
        *({name: value} for name, value in REFUSED.items() if value != "(a module)"),
    ]
    for other in others:
        assert snapshots.why_it_cannot_fork(gandyn.Config(**other)), other
