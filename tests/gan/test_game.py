"""One GAN as a game: what an update draws, what the players minimize, schedules, normalization, averages."""

import dataclasses
import functools
import itertools
from typing import Any

import chex
import haste
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.scipy.special import ndtri

from gandyn.gan import step as gan
from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import Game, make_game
from gandyn.gan.losses import LOSSES
from gandyn.gan.networks import AuxiliaryClassifier
from gandyn.gan.number import HParams
from gandyn.gan.penalties import PENALTIES, lazy
from gandyn.gan.state import REMEMBERED, Batch, Players, State, Stream
from gandyn.truth import coverage

SMALL = Config(gen_width=8, gen_depth=1, disc_width=8, disc_depth=1, batch_size=16)
RING = targets.ring(num_modes=8, radius=1.0, std=0.1)
start, one_step, drawn, played = (haste.jit(function) for function in (gan.init, gan.step, Game.draw, Game.play))


def make_key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed, impl="threefry2x32")


def make(config: Config, **numbers: float) -> Game:
    return make_game(RING, config, HParams(**numbers))


def init(config: Config, seed: int = 0, **numbers: float) -> State:
    return start(make(config, **numbers), make_key(seed))


@functools.cache
def bare() -> State:
    """Of which a draw reads the step alone, where there is no data set."""
    return init(SMALL)


def draw(config: Config, seed: int = 3, state: State | None = None, **numbers: float) -> Batch:
    state = bare() if state is None else state
    return drawn(make(config, **numbers), state, make_key(seed))


@haste.jit
def objectives(game: Game, state: State, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """What D and what G minimizes."""
    args = (state.params, state.stats, batch)
    return game.disc_objective(*args)[0], game.gen_objective(*args)[0]


# ---- what an update draws


class TestDraws:
    def test_stratified_batches_hold_every_mode_in_its_share(self):
        config = dataclasses.replace(SMALL, real_batch="stratified", batch_size=32)
        pairs = draw(config).pairs
        mode, _ = coverage.nearest_mode(pairs.real, RING)
        np.testing.assert_array_equal(np.bincount(np.asarray(mode), minlength=8), 4)
        assert np.any(np.diff(np.asarray(mode)) < 0)  # in random order
        iid = np.bincount(np.asarray(coverage.nearest_mode(draw(SMALL).pairs.real, RING)[0]), minlength=8)
        assert iid.max() > iid.min() + 1

    @pytest.mark.slow
    def test_stratified_data_set_and_batches_of_it(self):
        config = dataclasses.replace(SMALL, real_batch="stratified", dataset_size=40, batch_size=24)
        state = init(config)
        assert state.data is not None
        mode, _ = coverage.nearest_mode(state.data.points, RING)
        np.testing.assert_array_equal(np.bincount(np.asarray(mode), minlength=8), 5)
        mode, _ = coverage.nearest_mode(draw(config, state=state).pairs.real, RING)
        np.testing.assert_array_equal(np.bincount(np.asarray(mode), minlength=8), 3)

    def test_truncated_prior(self):
        """z given |z| <= t, by Kolmogorov-Smirnov against scipy."""
        config = dataclasses.replace(SMALL, prior="truncated")
        for bound in (0.5, 2.0):
            uniform = jax.random.uniform(jax.random.key(1), (4000, 2), minval=1e-6)
            z = np.asarray(make(config, truncation=bound).latents(uniform))
            assert np.abs(z).max() <= bound
            assert np.abs(z).max() > 0.99 * bound
            assert scipy.stats.kstest(z.ravel(), scipy.stats.truncnorm(-bound, bound).cdf).pvalue > 1e-3

    @pytest.mark.slow
    def test_labels_are_those_of_the_modes(self):
        for fields in ({}, {"dataset_size": 50}, {"dataset_size": 50, "real_batch": "stratified"}):
            config = dataclasses.replace(SMALL, num_classes=3, batch_size=64, **fields)
            state = init(config)
            pairs = draw(config, state=state).pairs
            mode, _ = coverage.nearest_mode(pairs.real, RING)
            np.testing.assert_array_equal(pairs.labels, np.asarray(mode) % 3)

    def test_instance_noise_is_on_both_sides_and_independent(self):
        config = dataclasses.replace(SMALL, instance_noise="constant", batch_size=20_000)
        noisy, plain = (draw(config, noise_std=std).pairs for std in (0.3, 0.0))
        added = np.asarray(noisy.real) - np.asarray(plain.real)
        for noise in (added, np.asarray(noisy.noise)):
            assert scipy.stats.kstest(noise.ravel() / 0.3, "norm").pvalue > 1e-3
        both = np.concatenate([added, np.asarray(noisy.noise), np.asarray(noisy.latents)], axis=1)
        assert np.abs(np.corrcoef(both.T) - np.eye(6)).max() < 5 / np.sqrt(20_000)

    def test_noise_on_a_data_set_is_new_at_each_draw(self):
        config = dataclasses.replace(SMALL, instance_noise="constant", dataset_size=1, batch_size=64)
        state = init(config)
        real = np.asarray(draw(config, state=state).pairs.real)
        assert len(np.unique(real, axis=0)) == 64
        assert state.data is not None
        assert np.abs(real - np.asarray(state.data.points)).max() < 0.6

    def test_a_pack_is_m_independent_samples(self):
        config = dataclasses.replace(SMALL, packing=3)
        pairs = draw(config).pairs
        assert pairs.real.shape == (48, 2)
        packs = make(config).pack(pairs.real)
        assert packs.shape == (16, 6)
        np.testing.assert_array_equal(packs[2], np.asarray(pairs.real)[6:9].ravel())


# ---- what the players minimize


class TestObjectives:
    def losses(self, config: Config, state: Any = None, **numbers: float):
        state = init(config) if state is None else state
        batch = draw(config, 3, state, **numbers)
        return tuple(map(float, objectives(make(config, **numbers), state, batch))), state, batch

    @pytest.mark.parametrize("loss", ["non_saturating", "relativistic", "hinge"])
    @pytest.mark.parametrize("share", [0.25, 0.3, 1.0])
    @pytest.mark.slow
    def test_top_k(self, loss, share):
        """The mean over the ceil(share B) fakes that D scores highest."""
        config = dataclasses.replace(SMALL, loss=loss, top_k=True)
        (_, got), state, batch = self.losses(config, top_k_share=share)
        game = make(config)
        real = np.asarray(game.discriminate(state.variables.disc, batch.pairs.real))
        fake = game.generate(state.variables.gen, batch.pairs.latents)
        fake = np.asarray(game.discriminate(state.variables.disc, fake))
        best = np.argsort(-fake)[: int(np.ceil(share * 16))]
        want = LOSSES[loss].gen(real[best], fake[best], LOSSES[loss].defaults)
        assert got == pytest.approx(float(want), rel=1e-5)

    @pytest.mark.parametrize("player", ["gen", "disc"])
    @pytest.mark.slow
    def test_gradient_norm_of_the_other(self, player):
        """weight / 2 * |gradient of the other's loss|^2, by central differences in each of its parameters."""
        config = dataclasses.replace(SMALL, gen_width=3, disc_width=3, loss="non_saturating")
        _, state, _ = self.losses(config)
        # Off zero, where a sample for which all of G's units are dead would sit on a kink of every unit of D.
        biased = jax.tree.map(lambda leaf: leaf + 0.1 * (leaf.ndim == 1), state.params)
        plain, state, batch = self.losses(config, state.replace(params=biased))
        penalized, *_ = self.losses(dataclasses.replace(config, gradient_norm=player), state, gradient_norm_weight=0.7)
        mine, other = (1, 0) if player == "gen" else (0, 1)
        step, total = 1e-2, 0.0
        others = state.params.disc if player == "gen" else state.params.gen
        leaves, tree = jax.tree.flatten(others)
        for i, leaf in enumerate(leaves):
            for at in np.ndindex(leaf.shape):
                sides = []
                for sign in (1, -1):
                    moved = [np.array(each) for each in leaves]
                    moved[i][at] += sign * step
                    params = state.params._replace(
                        **{"disc" if player == "gen" else "gen": jax.tree.unflatten(tree, moved)}
                    )
                    sides.append(objectives(make(config), state.replace(params=params), batch)[other])
                total += ((float(sides[0]) - float(sides[1])) / (2 * step)) ** 2
        assert penalized[mine] - plain[mine] == pytest.approx(0.35 * total, rel=1e-3)
        assert penalized[other] == pytest.approx(plain[other], rel=1e-6)

    def test_noise_reaches_both_inputs_of_d(self):
        """D = psi . x: its losses under noise are those at the moved points."""
        config = dataclasses.replace(SMALL, instance_noise="constant", disc_net="bilinear", loss="wasserstein")
        (disc, gen), state, batch = self.losses(config, noise_std=0.5)
        assert batch.pairs.noise is not None
        fake = make(config).generate(state.variables.gen, batch.pairs.latents) + batch.pairs.noise
        psi = np.asarray(jax.tree.leaves(state.params.disc)[0])[:, 0]
        assert disc == pytest.approx(float(np.mean(fake @ psi) - np.mean(batch.pairs.real @ psi)), rel=1e-4)
        assert gen == pytest.approx(float(-np.mean(fake @ psi)), rel=1e-4)


# ---- schedules


class TestSchedules:
    def rates(self, config: Config, steps: Any, **numbers: float) -> np.ndarray:
        game = make(config, **numbers)
        now = jax.jit(jax.vmap(lambda step: game.at(step).hparams))(jnp.asarray(steps))
        return np.stack([now.lr_gen, now.lr_disc])

    def test_constant_by_default_to_the_bit(self):
        rates = self.rates(SMALL, [0, 1, 10**6], lr_gen=1e-3, lr_disc=3e-4)
        np.testing.assert_array_equal(rates, np.array([[1e-3] * 3, [3e-4] * 3], np.float32))

    def test_warm_up(self):
        rates = self.rates(SMALL, range(6), lr_gen=1.0, lr_disc=2.0, warmup_steps=4)
        np.testing.assert_allclose(rates, np.outer([1, 2], [0.25, 0.5, 0.75, 1, 1, 1]), rtol=1e-6)

    @pytest.mark.parametrize(
        ("schedule", "middle"), [("linear", 0.1 + 0.9 * 0.75), ("cosine", 0.1 + 0.9 * (1 + np.cos(np.pi / 4)) / 2)]
    )
    def test_decay(self, schedule, middle):
        config = dataclasses.replace(SMALL, schedule=schedule)
        numbers = {"lr_gen": 2.0, "lr_disc": 2.0, "warmup_steps": 10, "decay_steps": 100, "lr_final": 0.1}
        rates = self.rates(config, [10, 35, 110, 1000], **numbers)
        np.testing.assert_allclose(rates[0], [2, 2 * middle, 0.2, 0.2], rtol=1e-5)

    def test_noise_and_top_k(self):
        at = lambda game, step: game.at(jnp.asarray(step)).hparams  # noqa: E731
        annealed = make(dataclasses.replace(SMALL, instance_noise="annealed"), noise_std=0.4, noise_steps=10)
        noise = [float(at(annealed, step).noise_std) for step in (0, 5, 10, 99)]
        np.testing.assert_allclose(noise, [0.4, 0.2, 0, 0], rtol=1e-6)
        constant = make(dataclasses.replace(SMALL, instance_noise="constant"), noise_std=0.4)
        assert at(constant, 99).noise_std == 0.4
        top_k = make(dataclasses.replace(SMALL, top_k=True), top_k_share=0.5, top_k_decay=0.9)
        share = [float(at(top_k, step).top_k_share) for step in (0, 1, 5, 50)]
        np.testing.assert_allclose(share, [1, 0.9, 0.9**5, 0.5], rtol=1e-5)

    def test_they_reach_the_update(self):
        """sgd: the move of a step is proportional to the rate in force."""
        config = dataclasses.replace(SMALL, gen_optimizer="sgd", disc_optimizer="sgd", rule="simultaneous")
        state = init(config)
        games = (make(config, lr_gen=1.0, lr_disc=1.0, warmup_steps=steps) for steps in (0, 4))
        full, warm = (one_step(game, state) for game in games)
        for before, one, other in zip(*(jax.tree.leaves(s.params) for s in (state, full, warm))):
            np.testing.assert_allclose(np.asarray(other - before), np.asarray(one - before) / 4, atol=2e-7)


# ---- what is kept beside the parameters


def steps(config: Config, num: int, **numbers: float) -> list[State]:
    game = make(config, **numbers)
    return list(itertools.accumulate(range(num), lambda state, _: one_step(game, state), initial=init(config)))


class TestKept:
    def test_average_of_g(self):
        course = steps(dataclasses.replace(SMALL, gen_average="ema"), 3, ema_decay=0.75)
        want = course[0].params.gen
        for state in course[1:]:
            want = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, want, state.params.gen)
        chex.assert_trees_all_close(course[-1].average, want, rtol=1e-5, atol=1e-7)

    def test_mean_of_g(self):
        """Of the parameters after each step, by a plain loop; the start does not count."""
        course = steps(dataclasses.replace(SMALL, gen_average="uniform"), 7, lr_gen=0.05)
        for num in range(1, 8):
            after = [jax.tree.map(np.asarray, state.params.gen) for state in course[1 : num + 1]]
            want = jax.tree.map(lambda *leaves: np.mean(np.stack(leaves).astype(np.float64), axis=0), *after)
            chex.assert_trees_all_close(course[num].average, want, rtol=1e-5, atol=1e-6)
        chex.assert_trees_all_equal(course[0].average, course[0].params.gen)

    @pytest.mark.parametrize("average", ["ema", "uniform"])
    @pytest.mark.slow
    def test_statistics_are_averaged_with_the_parameters(self, average):
        config = dataclasses.replace(SMALL, gen_average=average, gen_norm="batch")
        course = steps(config, 2, **({"ema_decay": 0.5} if average == "ema" else {}))
        means = [state.stats.gen["batch_stats"]["BatchNorm_0"]["mean"] for state in course]
        got = course[-1].average["batch_stats"]["BatchNorm_0"]["mean"]
        weights = [0.25, 0.25, 0.5] if average == "ema" else [0, 0.5, 0.5]
        np.testing.assert_allclose(got, sum(w * np.asarray(m) for w, m in zip(weights, means)), rtol=1e-5, atol=1e-7)

    @pytest.mark.slow
    def test_averaging_changes_nothing_in_training(self):
        plain, *averaged = (
            steps(dataclasses.replace(SMALL, gen_average=kind), 2)[-1].params for kind in ("none", "ema", "uniform")
        )
        for params in averaged:
            chex.assert_trees_all_equal(plain, params)

    @pytest.mark.slow
    def test_running_statistics_of_batch_normalization(self):
        """They move by a tenth toward those of the player's own update: of real and fake batches, half each, for D."""
        config = dataclasses.replace(SMALL, gen_norm="batch", disc_norm="batch", rule="simultaneous")
        before, after = steps(config, 1)
        key = jax.random.fold_in(jax.random.fold_in(before.key, Stream.TRAIN), before.step)
        game = make(config)
        pairs = game.draw(before, key).pairs
        kernel, bias = (before.params.gen["params"]["Dense_0"][name] for name in ("kernel", "bias"))
        hidden = np.asarray(pairs.latents @ kernel + bias[None, :], np.float64)
        stats = after.stats.gen["batch_stats"]["BatchNorm_0"]
        np.testing.assert_allclose(stats["mean"], 0.1 * hidden.mean(axis=0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * hidden.var(axis=0), rtol=1e-4)
        fake, _ = game.generator.apply(before.variables.gen, pairs.latents, train=True, mutable=["batch_stats"])
        kernel = before.params.disc["params"]["Dense_0"]["kernel"]
        means = [np.asarray(x @ kernel).mean(axis=0) for x in (pairs.real, fake)]
        got = after.stats.disc["batch_stats"]["BatchNorm_0"]["mean"]
        np.testing.assert_allclose(got, 0.1 * (means[0] + means[1]) / 2, rtol=1e-4, atol=1e-6)

    def test_each_slot_of_the_packs_is_normalized_apart(self):
        config = dataclasses.replace(SMALL, gen_norm="batch", packing=2)
        state = init(config)
        batch = draw(config)
        game = make(config)
        play = played(game, state.params, state.stats, batch)
        apart = [
            game.generator.apply(state.variables.gen, batch.pairs.latents[i::2], train=True, mutable=["batch_stats"])
            for i in range(2)
        ]
        want = np.stack([fake for fake, _ in apart], axis=1).reshape(config.batch_size, 4)
        np.testing.assert_allclose(play.fake, want, rtol=1e-4, atol=1e-5)
        mean = np.mean([np.asarray(stats["batch_stats"]["BatchNorm_0"]["mean"]) for _, stats in apart], axis=0)
        np.testing.assert_allclose(play.stats.gen["batch_stats"]["BatchNorm_0"]["mean"], mean, rtol=1e-4, atol=1e-6)

    @pytest.mark.slow
    def test_measured_networks_use_the_running_statistics(self):
        config = dataclasses.replace(SMALL, gen_norm="batch", disc_norm="batch")
        state = steps(config, 2)[-1]
        z = jnp.asarray([[0.3, -1.0], [2.0, 0.1]])
        game = make(config)
        together = game.generate(state.variables.gen, z)
        apart = jnp.concatenate([game.generate(state.variables.gen, z[i : i + 1]) for i in range(2)])
        np.testing.assert_allclose(together, apart, rtol=1e-5)

    @pytest.mark.slow
    def test_spectral_norm_of_every_kernel_is_one(self):
        """Once the power iteration has converged: the largest singular value of each kernel as D uses it."""
        config = dataclasses.replace(SMALL, disc_norm="spectral", disc_depth=2)
        state = steps(config, 30, lr_gen=1e-4, lr_disc=1e-4)[-1]
        for i in range(3):
            kernel = np.asarray(state.params.disc["params"][f"Dense_{i}"]["kernel"], np.float64)
            sigma = state.stats.disc["batch_stats"][f"SpectralNorm_{i}"][f"Dense_{i}/kernel/sigma"]
            assert float(sigma) == pytest.approx(np.linalg.norm(kernel, 2), rel=1e-3)
        x = jnp.asarray(np.random.default_rng(0).standard_normal((500, 2)), jnp.float32)
        slope = jax.vmap(jax.grad(lambda p: make(config).discriminate(state.variables.disc, p[None])[0]))(x)
        assert float(jnp.linalg.norm(slope, axis=1).max()) < 1.01  # leaky units shrink: 1-Lipschitz

    def test_spectral_vectors_are_kept_by_ds_updates_only(self):
        config = dataclasses.replace(SMALL, disc_norm="spectral")
        state = init(config)
        batch = draw(config)
        args = (state.params, state.stats, batch)
        _, (_, _, after) = make(config).disc_objective(*args)
        moved = [not np.array_equal(a, b) for a, b in zip(*(jax.tree.leaves(s) for s in (state.stats.disc, after)))]
        assert any(moved)
        _, (_, gen_stats) = make(config).gen_objective(*args)
        assert gen_stats == {}

    @pytest.mark.slow
    def test_fourier_frequencies_scale_and_stay(self):
        config = dataclasses.replace(SMALL, disc_fourier=64)
        one, ten = (init(config, fourier_scale=scale) for scale in (1.0, 10.0))
        a, b = (jax.tree.leaves(s.stats.disc["constants"])[0] for s in (one, ten))
        assert a.shape == (2, 64)
        np.testing.assert_allclose(b, 10 * a, rtol=1e-6)
        assert np.std(np.asarray(a)) == pytest.approx(1, abs=5 / np.sqrt(2 * 128))
        after = steps(config, 2)
        np.testing.assert_array_equal(*(jax.tree.leaves(s.stats.disc)[0] for s in (after[0], after[-1])))

    def test_same_seed_same_weights_whatever_the_numbers(self):
        a, b = init(SMALL, lr_gen=1.0), init(SMALL, init_scale=2.0)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(2 * x, y, rtol=1e-6),
            a.params.gen["params"]["Dense_0"]["kernel"],
            b.params.gen["params"]["Dense_0"]["kernel"],
        )

    def test_init_scale_leaves_normalization_alone(self):
        state = init(dataclasses.replace(SMALL, gen_norm="layer"), init_scale=5.0)
        np.testing.assert_array_equal(state.params.gen["params"]["LayerNorm_0"]["scale"], 1)


@pytest.mark.slow
def test_second_batch_same_is_the_first_players_last():
    """G's update of the alternating rule on D's own minibatch: by hand from the two objectives."""
    fields = {"gen_optimizer": "sgd", "disc_optimizer": "sgd", "disc_steps": 2, "second_batch": "same"}
    config = dataclasses.replace(SMALL, **fields)
    before, after = steps(config, 1)
    key = jax.random.fold_in(jax.random.fold_in(before.key, Stream.TRAIN), before.step)
    disc_key, _ = jax.random.split(key)
    game = make(config)
    last = game.draw(before, jax.random.fold_in(disc_key, 1))
    objective = lambda gen: game.gen_objective(Players(gen, after.params.disc), before.stats, last)[0]  # noqa: E731
    moved = jax.tree.map(lambda x, g: x - 1e-3 * g, before.params.gen, jax.grad(objective)(before.params.gen))
    chex.assert_trees_all_close(after.params.gen, moved, rtol=1e-5, atol=1e-7)


def test_truncation_never_reaches_infinity():
    """The ends of the uniforms."""
    ends = jnp.asarray([[2.0**-24, 1 - 2.0**-24]])
    assert np.isfinite(np.asarray(ndtri(ends))).all()
    config = dataclasses.replace(SMALL, prior="truncated")
    assert np.isfinite(np.asarray(make(config, truncation=30.0).latents(ends))).all()


# ---- D's batches


class TestJointBatches:
    """D normalizes over real and fake samples together, where each half has its own statistics otherwise."""

    CONFIG = dataclasses.replace(SMALL, disc_norm="batch", disc_batches="joint")

    def play(self, config: Config) -> tuple[Game, State, Batch, Any]:
        game, state = make(config), init(config)
        batch = draw(config, state=state)
        return game, state, batch, played(game, state.params, state.stats, batch)

    def test_normalized_by_the_statistics_of_both_halves(self):
        """By hand: one hidden layer, leaky ReLU of slope 0.2."""
        _, state, _, play = self.play(self.CONFIG)
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params.disc["params"])
        x = np.concatenate([play.real, play.fake]).astype(np.float64)
        hidden = x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
        h = (hidden - hidden.mean(axis=0)) / np.sqrt(hidden.var(axis=0) + 1e-5)
        h = np.where(h > 0, h, 0.2 * h)
        logits = (h @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"])[:, 0]
        got = np.concatenate([play.real_logits, play.fake_logits])
        np.testing.assert_allclose(got, logits, rtol=1e-4, atol=1e-5)
        after = play.stats.disc["batch_stats"]["BatchNorm_0"]
        np.testing.assert_allclose(after["mean"], 0.1 * hidden.mean(axis=0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(after["var"], 0.9 + 0.1 * hidden.var(axis=0), rtol=1e-4)

    def test_apart_is_something_else(self):
        *_, joint = self.play(self.CONFIG)
        *_, apart = self.play(dataclasses.replace(self.CONFIG, disc_batches="apart"))
        np.testing.assert_array_equal(joint.real, apart.real)
        assert np.abs(np.asarray(joint.real_logits - apart.real_logits)).max() > 0.1

    @pytest.mark.parametrize("fields", [{}, {"num_classes": 4}, {"packing": 2}])
    @pytest.mark.quick(1)
    def test_without_batch_normalization_it_changes_nothing(self, fields):
        config = dataclasses.replace(SMALL, **fields)
        *_, joint = self.play(dataclasses.replace(config, disc_batches="joint"))
        *_, apart = self.play(config)
        chex.assert_trees_all_close(joint._replace(stats=None), apart._replace(stats=None), rtol=1e-5, atol=1e-6)


# ---- losses that read more than logits


class TestAux:
    def test_auxiliary_classifier(self):
        """D's objective from what its module says of each half: source and class heads, float64."""
        module = AuxiliaryClassifier(num_classes=3, width=8, depth=1)
        config = Config(
            loss="auxiliary_classifier", disc=module, num_classes=3, gen_width=8, gen_depth=1, batch_size=16
        )
        numbers = {"class_weight": 0.7, "label_smoothing": 0.1}
        game, state = make(config, **numbers), init(config)
        batch = draw(config, state=state)
        fake = game.generate(state.variables.gen, batch.pairs.latents, batch.pairs.labels)
        of_source, of_class = [], []
        for x in (batch.pairs.real, fake):
            logits, said = module.apply(state.variables.disc, x, mutable=["aux"])
            shares = np.exp(np.asarray(said["aux"]["class_logits"][0], np.float64))
            own = shares[np.arange(16), np.asarray(batch.pairs.labels)] / shares.sum(axis=1)
            of_class.append(-np.mean(np.log(own)))
            of_source.append(np.asarray(logits, np.float64))
        r, f = of_source
        softplus = lambda s: np.logaddexp(0, s)  # noqa: E731
        want_disc = np.mean(0.9 * softplus(-r) + 0.1 * softplus(r)) + np.mean(softplus(f)) + 0.7 * sum(of_class)
        want_gen = np.mean(softplus(-f)) + 0.7 * of_class[1]
        got = objectives(game, state, batch)
        np.testing.assert_allclose(got, [want_disc, want_gen], rtol=1e-5)

    @pytest.mark.parametrize("batches", ["apart", "joint"])
    def test_feature_matching_with_the_built_in_d(self, batches):
        """Its last hidden layer is what it sows."""
        config = dataclasses.replace(SMALL, loss="feature_matching", disc_batches=batches)
        game, state = make(config), init(config)
        batch = draw(config, state=state)
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params.disc["params"]["Dense_0"])
        means = []
        for x in (batch.pairs.real, game.generate(state.variables.gen, batch.pairs.latents)):
            h = np.asarray(x, np.float64) @ params["kernel"] + params["bias"]
            means.append(np.where(h > 0, h, 0.2 * h).mean(axis=0))
        assert float(objectives(game, state, batch)[1]) == pytest.approx(np.sum((means[0] - means[1]) ** 2), rel=1e-4)

    def test_no_gradient_of_g_through_its_own_logits(self):
        """Feature matching does not see D's last layer."""
        config = dataclasses.replace(SMALL, loss="feature_matching")
        state = init(config)
        batch = draw(config, state=state)
        last = state.params.disc["params"] | {
            "Dense_1": jax.tree.map(jnp.zeros_like, state.params.disc["params"]["Dense_1"])
        }
        blind = state.replace(params=state.params._replace(disc={"params": last}))
        assert float(objectives(make(config), state, batch)[1]) == float(objectives(make(config), blind, batch)[1])


# ---- penalties with a memory, and every k-th step


def batch_of(game: Game, state: State) -> Batch:
    """The minibatch of D's first update in the step to come, of the alternating rule."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, Stream.TRAIN), state.step)
    return drawn(game, state, jax.random.fold_in(jax.random.split(key)[0], 0))


class TestPenaltiesInTraining:
    @pytest.mark.slow
    def test_lecam_remembers_from_update_to_update(self):
        config = dataclasses.replace(SMALL, penalties=("lecam",))
        numbers = {"lecam_weight": 0.5, "lecam_decay": 0.6, "lr_disc": 0.05}
        game = make(config, **numbers)
        course = steps(config, 4, **numbers)
        means = np.zeros(2)
        for before, after in itertools.pairwise(course):
            np.testing.assert_allclose(before.stats.disc[REMEMBERED]["lecam"], means, rtol=1e-5, atol=1e-6)
            play = played(game, before.params, before.stats, batch_of(game, before))
            real, fake = (np.asarray(logits, np.float64) for logits in (play.real_logits, play.fake_logits))
            want = 0.5 * (np.mean((real - means[1]) ** 2) + np.mean((fake - means[0]) ** 2))
            assert float(after.logged.penalty) == pytest.approx(want, rel=1e-4)
            means = 0.6 * means + 0.4 * np.array([real.mean(), fake.mean()])
        assert np.abs(means).min() > 1e-3

    @pytest.mark.slow
    def test_lazy_is_taken_at_every_third_step(self):
        """And then three times as strong: of D that stands still, against R1 itself."""
        rates = {"lr_gen": 0.0, "lr_disc": 0.0}
        mine = dataclasses.replace(SMALL, penalties=(lazy(PENALTIES["r1"], 3),))
        got = [float(state.logged.penalty) for state in steps(mine, 7, **rates)[1:]]
        plain = steps(dataclasses.replace(SMALL, penalties=("r1",)), 7, **rates)[1:]
        want = [3 * float(state.logged.penalty) if i % 3 == 0 else 0.0 for i, state in enumerate(plain)]
        np.testing.assert_allclose(got, want, rtol=1e-5)

    def test_penalties_add_up(self):
        state = init(SMALL)
        batch, at = draw(SMALL, state=state), {}
        for penalties in ((), ("r1",), ("r2",), ("r1", "r2")):
            config = dataclasses.replace(SMALL, penalties=penalties)
            weights = {f"{name}_weight": 0.3 if name == "r1" else 0.7 for name in penalties}
            at[penalties] = float(objectives(make(config, **weights), state, batch)[0])
        both = at["r1",] + at["r2",] - at[()]
        assert at["r1", "r2"] == pytest.approx(both, rel=1e-6)
        assert at["r1",] > at[()]
