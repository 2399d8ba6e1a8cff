"""Presets: each is what its source says, in its numbers, and runs from the command line."""

import dataclasses
from typing import Any

import haste
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gandyn
from gandyn import cli
from gandyn.gan import step
from gandyn.gan.game import make_game
from gandyn.sweeps import presets, runner, sweep_file
from gandyn.sweeps.presets import PRESETS


def made_of(name: str) -> tuple[gandyn.Sweep, Any]:
    """What `gandyn run --preset NAME` would run, and its one setting."""
    sweep = sweep_file.make({"preset": name})
    (setting,) = sweep.settings
    assert setting.recipe == name
    return sweep, setting


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.quick(6)
def test_every_one_is_a_run(name):
    made, _ = made_of(name)
    assert made.num_steps >= 5_000
    assert made.num_steps % made.measure_every == 0


QUICK = ("sn_hinge",)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in PRESETS])
def test_every_one_trains(name):
    """Two steps of its own program, narrower: finite."""
    _, (_, target, config, hparams) = made_of(name)
    config = dataclasses.replace(
        config, gen_width=8, disc_width=8, batch_size=16, dataset_size=min(config.dataset_size, 64)
    )
    game = make_game(target, config, hparams)
    game = dataclasses.replace(game, hparams=jax.tree.map(jnp.float32, game.hparams))
    state = haste.jit(step.init)(game, jax.random.key(0))
    advance = haste.jit(step.step)
    for _ in range(2):
        state = advance(game, state)
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves((state.params, state.logged)))


def test_a_copy_is_given():
    presets.fields("wgan")["loss"] = "hinge"
    assert PRESETS["wgan"].fields["loss"] == "wasserstein"
    with pytest.raises(ValueError, match=r"preset: got 'wgans'; allowed: .*did you mean 'wgan'"):
        presets.fields("wgans")


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize(("kind", "modes", "std"), [("ring", 8, 0.01), ("grid", 25, 0.05)])
def test_pacgan(kind, modes, std, m):
    """As published: G 2-400x4-2 batch norm, ReLU; D 3 maxout layers of 200, 5 pieces; init std 0.02; Adam 1e-4, 0.8."""
    made, (_, target, config, hparams) = made_of(f"pacgan_{m}_{kind}")
    assert (target.num_modes, float(target.stds[0])) == (modes, np.float32(std))
    spacing = float(jnp.linalg.norm(target.means[1] - target.means[0]))
    assert spacing == pytest.approx(2.0 if kind == "grid" else 2 * np.sin(np.pi / 8), rel=1e-5)
    assert (config.gen_width, config.gen_depth, config.gen_norm, config.gen_activation) == (400, 4, "batch", "relu")
    assert (config.disc_net, config.disc_width, config.disc_depth, config.maxout_pieces) == ("maxout", 200, 3, 5)
    assert (config.initializer, config.latent_dim, config.batch_size) == ("normal_0.02", 2, 100)
    assert (config.norm_momentum, config.norm_epsilon) == (0.95, 1e-4)
    assert (config.packing, config.dataset_size, made.num_steps) == (m, 100_000, 400_000)
    assert (hparams.lr_gen, hparams.lr_disc, hparams.beta1_gen, hparams.beta1_disc) == (1e-4, 1e-4, 0.8, 0.8)
    assert len(made.seeds) == 10
    shapes = jax.eval_shape(lambda: step.init(make_game(target, config, hparams), jax.random.key(0)).params)
    sizes = [leaf.shape for leaf in jax.tree.leaves(shapes.disc) if len(leaf.shape) == 2]
    assert sorted(sizes) == sorted([(2 * m, 1000), (200, 1000), (200, 1000), (200, 1)])


@pytest.mark.parametrize(
    ("name", "loss"), [("alpha_gan", "alpha"), ("alpha_gan_non_saturating", "alpha_non_saturating")]
)
def test_alpha_gan(name, loss):
    """As published: G 400x4 ReLU, D 200x4 LeakyReLU(0.2), Adam 1e-4 (0.9, 0.99), batch 128, 156,000 steps."""
    made, (_, _, config, hparams) = made_of(name)
    assert (config.loss, config.gen_width, config.gen_depth, config.gen_activation) == (loss, 400, 4, "relu")
    assert (config.disc_width, config.disc_depth, config.disc_activation) == (200, 4, "leaky_relu")
    assert (hparams.lr_gen, hparams.beta1_disc, hparams.beta2_gen, config.batch_size) == (1e-4, 0.9, 0.99, 128)
    assert (made.num_steps, len(made.seeds)) == (400 * 391, 200)  # epochs of ceil(50,000 / 128) batches
    assert (config.initializer, config.bias_initializer) == ("pytorch", "matching")


def test_wgan():
    _, (_, _, config, hparams) = made_of("wgan")
    assert (config.disc_optimizer, hparams.lr_disc, hparams.clip_bound) == ("rmsprop", 5e-5, 0.01)
    assert (config.disc_steps, config.penalties, config.batch_size) == (5, ("clip",), 64)
    assert (config.initializer, config.bias_initializer) == ("pytorch", "matching")


@pytest.mark.parametrize("kind", ["ring", "grid"])
def test_veegan_in_both_readings(kind):
    _, (_, target, plain, numbers) = made_of(f"veegan_gan_{kind}")
    _, (_, other_target, mean_logit, other_numbers) = made_of(f"veegan_gan_{kind}_mean_logit")
    assert (plain.loss, mean_logit.loss) == ("non_saturating", "mean_logit")
    assert plain == dataclasses.replace(mean_logit, loss="non_saturating")
    np.testing.assert_array_equal(target.means, other_target.means)
    assert numbers.as_dict() == other_numbers.as_dict()


def test_consensus():
    """TensorFlow 1's RMSprop: mean square from one, eps in the root."""
    _, (_, _, config, hparams) = made_of("consensus")
    assert (config.gen_optimizer, config.disc_optimizer, config.rule) == ("rmsprop_tf1", "rmsprop_tf1", "consensus")
    assert (hparams.lr_gen, hparams.beta2_disc, hparams.eps_gen, hparams.adjustment) == (1e-4, 0.9, 1e-10, 10.0)


def test_ode_gan():
    _, (_, _, config, hparams) = made_of("ode_gan")
    assert (config.initializer, config.rule, hparams.gradient_norm_weight) == ("haiku", "runge_kutta", 0.14)


def test_bourgan():
    """The covariance in its code is 0.01, hence a std of 0.1."""
    made, (_, target, config, _) = made_of("bourgan_gan")
    assert (target.num_modes, float(target.stds[0]), config.dataset_size) == (25, np.float32(0.1), 1_250)
    assert (config.gen_activation, config.disc_activation) == ("leaky_relu_0.1", "leaky_relu_0.1")
    assert (config.latent_dim, config.initializer, made.num_steps) == (25, "pytorch", 5_000)


@pytest.mark.parametrize(
    ("name", "steps"), [("convergence", (1, 1)), ("mode_collapse", (15, 1)), ("divergence", (1, 15))]
)
def test_duality_gap(name, steps):
    """D : G updates of the three regimes; Keras's defaults."""
    _, (_, target, config, hparams) = made_of(f"duality_gap_{name}")
    assert (config.disc_steps, config.gen_steps) == steps
    assert float(jnp.linalg.norm(target.means[3])) == pytest.approx(2 / 1.414, rel=1e-6)
    assert (hparams.eps_gen, hparams.eps_disc, config.initializer) == (1e-7, 1e-7, "glorot_uniform")


def test_flags_and_files_win_over_a_preset(tmp_path, monkeypatch):
    seen = []

    def run(sweep, *args, **kwargs):
        seen.append(sweep)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run_sweep", run)
    file = tmp_path / "run.toml"
    file.write_text('preset = "pacgan_2_ring"\nbatch_size = 17\n')
    with pytest.raises(SystemExit):
        cli.main(["run", str(file), "--packing", "3", "--seeds", "1"])
    (made,) = seen
    ((recipe, target, config, hparams),) = made.settings
    assert (config.packing, config.batch_size, config.gen_norm, hparams.beta1_gen) == (3, 17, "batch", 0.8)
    assert (made.seeds, made.num_steps, target.num_modes, recipe) == ((1,), 400_000, 8, "pacgan_2_ring")


@pytest.mark.slow
def test_from_the_command_line(tmp_path, capsys):
    small = ["--gen-width", "8", "--disc-width", "8", "--num-steps", "2", "--measure-every", "1", "--batch-size", "8"]
    more = ["--seeds", "0:2", "--num-nodes", "64", "--num-density-nodes", "1024", "--dataset-size", "50"]
    cli.main(["run", "--preset", "pacgan_3_grid", "--out", str(tmp_path / "results"), *small, *more])
    results = gandyn.open_results(tmp_path / "results")
    assert set(results.recipe.values) == {"pacgan_3_grid"}
    assert np.isfinite(results.value_best.values).all()
    # What is recorded runs again, without the preset's name.
    again = tmp_path / "again.toml"
    again.write_text(results.attrs["configuration"])
    cli.main(["run", str(again), "--out", str(tmp_path / "again")])
    np.testing.assert_array_equal(gandyn.open_results(tmp_path / "again").value.values, results.value.values)


def test_unknown_names_are_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", "--preset", "pacgan_2_rings"])
    assert stop.value.code == 2
    assert "did you mean 'pacgan_2_ring'" in capsys.readouterr().err
