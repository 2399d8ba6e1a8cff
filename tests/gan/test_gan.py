"""One GAN's parts: what is refused, what an update draws, what the players minimize, schedules, normalization."""

import dataclasses
import functools
import itertools
from typing import Any, get_args

import haste
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.scipy.special import ndtri

from gandyn.gan import dynamics, gan, losses, networks, penalties, targets
from gandyn.gan.gan import Config, HParams, Players
from gandyn.truth import coverage

SMALL = Config(gen_width=8, gen_depth=1, disc_width=8, disc_depth=1, batch_size=16)
RING = targets.ring(num_modes=8, radius=1.0, std=0.1)


def make_key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed, impl="threefry2x32")


def init(config: Config, hparams: HParams = HParams(), seed: int = 0, target=RING) -> gan.State:  # noqa: B008
    return haste.jit(functools.partial(gan.init, config))(hparams, target, make_key(seed))


def draw(config: Config, hparams: HParams = HParams(), seed: int = 3, state=None) -> gan.Batch:  # noqa: B008
    data = None if state is None else state.data
    return haste.jit(functools.partial(gan.draw_batch, config))(hparams, make_key(seed), data, RING)


# ---- what is refused


NAMES = {
    "loss": losses.LOSSES,
    "penalty": penalties.PENALTIES,
    "dynamics": dynamics.DYNAMICS,
    "prior": gan.PRIORS,
    "instance_noise": gan.INSTANCE_NOISE,
    "schedule": gan.SCHEDULES,
    "gen_optimizer": gan.OPTIMIZERS,
    "disc_optimizer": gan.OPTIMIZERS,
    "gen_net": networks.GENERATORS,
    "disc_net": networks.DISCRIMINATORS,
    "disc_norm": networks.NORMS,
    "minibatch_layer": networks.MINIBATCH_LAYERS,
    "gen_activation": networks.ACTIVATIONS,
    "disc_activation": networks.ACTIVATIONS,
    "initializer": networks.INITIALIZERS,
}


@pytest.mark.parametrize("field", NAMES)
def test_every_entry_can_be_chosen(field):
    """A dict's entries are the field's choices: one more entry is one more choice."""
    fields = {f.name: f for f in dataclasses.fields(Config)}
    assert set(get_args(fields[field].type)) == set(NAMES[field])


SENSELESS: list[tuple[dict[str, Any], str]] = [
    ({"packing": 2, "num_classes": 2}, "packing: got 2; allowed with num_classes .different labels.*: 1"),
    ({"packing": 2, "num_classes": 2, "conditioning": "projection"}, "packing: got 2"),
    ({"conditioning": "projection"}, "conditioning: got 'projection'; allowed with num_classes=0: 'concat'"),
    ({"penalty": "r1", "disc_norm": "batch"}, "disc_norm: got 'batch'; allowed with penalty='r1' .*alone.*: 'none'"),
    ({"penalty": "wgan_gp", "minibatch_layer": "stddev"}, "minibatch_layer: got 'stddev'; allowed with penalty"),
    ({"penalty": "dragan", "minibatch_layer": "discrimination"}, "minibatch_layer: got 'discrimination'"),
    ({"top_k": True, "loss": "relativistic_average"}, "loss: got 'relativistic_average'; allowed with top_k"),
    ({"dynamics": "simultaneous", "disc_steps": 2}, "disc_steps: got 2; allowed with dynamics='simultaneous': 1"),
    ({"dynamics": "best_response", "gen_steps": 2}, "gen_steps: got 2; allowed with dynamics='best_response': 1"),
    ({"dynamics": "extragradient", "first": "gen"}, "first: got 'gen'; allowed with dynamics='extragradient': 'disc'"),
    ({"dynamics": "unrolled", "second_batch": "same"}, "second_batch: got 'same'"),
    ({"dynamics": "competitive"}, "gen_optimizer: got 'adam'; allowed with dynamics='competitive' .*: 'sgd'"),
    ({"dynamics": "heun", "gen_optimizer": "sgd"}, "disc_optimizer: got 'adam'; allowed with dynamics='heun'"),
    ({"gen_net": "point", "gen_norm": "batch"}, "gen_norm: got 'batch'; allowed with gen_net='point'"),
    ({"gen_net": "point", "num_classes": 2}, "num_classes: got 2; allowed with gen_net='point'"),
    ({"disc_net": "bilinear", "num_classes": 2}, "num_classes: got 2; allowed with disc_net='bilinear'"),
    ({"disc_net": "quadratic", "disc_norm": "spectral"}, "disc_norm: got 'spectral'; allowed with disc_net"),
    ({"disc_net": "quadratic", "num_classes": 2, "conditioning": "projection"}, "conditioning: got 'projection'"),
    ({"disc_net": "bilinear", "minibatch_layer": "stddev"}, "minibatch_layer: got 'stddev'"),
    ({"batch_size": 1, "gen_norm": "batch"}, "gen_norm: got 'batch'; allowed with batch_size=1"),
    ({"batch_size": 1, "minibatch_layer": "stddev"}, "minibatch_layer: got 'stddev'; allowed with batch_size=1"),
    ({"num_classes": 1}, "num_classes: got 1; allowed: 0 .none., or a whole number of at least 2"),
    ({"lookahead": 1}, "lookahead: got 1"),
    ({"packing": 0}, "packing: got 0; allowed: a whole number of at least 1"),
    ({"top_k": "yes"}, "top_k: got 'yes'; allowed: True, False"),
    ({"gen_norm": "spectral"}, "gen_norm: got 'spectral'; allowed: none, layer, batch"),
]


@pytest.mark.parametrize(("fields", "message"), SENSELESS, ids=[str(fields) for fields, _ in SENSELESS])
def test_what_makes_no_sense_is_refused_with_the_reason(fields, message):
    with pytest.raises(ValueError, match=message.replace(".different", ".*different")):
        Config(**fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [("label_smoothing", 1.5), ("alpha_disc", 0), ("top_k_share", 0), ("ema_decay", 1), ("truncation", 0)]
    + [("noise_std", -0.1), ("lookahead_rate", 2), ("lr_final", -1), ("adjustment", float("inf")), ("eps", "small")],
)
def test_numbers_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field}: got .*; allowed: "):
        HParams(**{field: value})


class TestCheck:
    def test_more_classes_than_modes(self):
        with pytest.raises(ValueError, match="num_classes: got 9; allowed with a target of 8 modes: at most 8"):
            gan.check(RING, Config(num_classes=9), HParams())

    def test_smoothing_of_another_loss(self):
        with pytest.raises(ValueError, match=r"label_smoothing: got 0\.1; allowed with loss='hinge': 0"):
            gan.check(RING, Config(loss="hinge"), HParams(label_smoothing=0.1))
        gan.check(RING, Config(loss="minimax"), HParams(label_smoothing=0.1))


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
            z = np.asarray(gan.latents(config, HParams(truncation=bound), uniform))
            assert np.abs(z).max() <= bound
            assert np.abs(z).max() > 0.99 * bound
            assert scipy.stats.kstest(z.ravel(), scipy.stats.truncnorm(-bound, bound).cdf).pvalue > 1e-3

    def test_labels_are_those_of_the_modes(self):
        for fields in ({}, {"dataset_size": 50}, {"dataset_size": 50, "real_batch": "stratified"}):
            config = dataclasses.replace(SMALL, num_classes=3, batch_size=64, **fields)
            state = init(config)
            pairs = draw(config, state=state).pairs
            mode, _ = coverage.nearest_mode(pairs.real, RING)
            np.testing.assert_array_equal(pairs.labels, np.asarray(mode) % 3)

    def test_instance_noise_is_on_both_sides_and_independent(self):
        config = dataclasses.replace(SMALL, instance_noise="constant", batch_size=20_000)
        noisy, plain = (draw(config, HParams(noise_std=std)).pairs for std in (0.3, 0.0))
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
        assert gan.pack(config, pairs.real).shape == (16, 6)
        np.testing.assert_array_equal(gan.pack(config, pairs.real)[2], np.asarray(pairs.real)[6:9].ravel())


# ---- what the players minimize


class TestObjectives:
    def losses(self, config: Config, hparams: HParams = HParams(), state=None):  # noqa: B008
        state = init(config) if state is None else state
        batch = draw(config, hparams, state=state)

        @haste.jit
        def both(state, batch, hparams):
            args = (config, hparams, state.params, state.stats, batch)
            return gan.disc_objective(*args)[0], gan.gen_objective(*args)[0]

        return tuple(map(float, both(state, batch, hparams))), state, batch

    @pytest.mark.parametrize("loss", ["non_saturating", "relativistic", "hinge"])
    @pytest.mark.parametrize("share", [0.25, 0.3, 1.0])
    def test_top_k(self, loss, share):
        """The mean over the ceil(share B) fakes that D scores highest."""
        config = dataclasses.replace(SMALL, loss=loss, top_k=True)
        (_, got), state, batch = self.losses(config, HParams(top_k_share=share))
        real = np.asarray(gan.discriminate(config, state.variables.disc, batch.pairs.real))
        fake = np.asarray(
            gan.discriminate(
                config, state.variables.disc, gan.generate(config, state.variables.gen, batch.pairs.latents)
            )
        )
        best = np.argsort(-fake)[: int(np.ceil(share * 16))]
        assert got == pytest.approx(float(losses.LOSSES[loss].gen(real[best], fake[best])), rel=1e-5)

    @pytest.mark.parametrize("player", ["gen", "disc"])
    def test_gradient_norm_of_the_other(self, player):
        """weight / 2 * |gradient of the other's loss|^2, by central differences in each of its parameters."""
        config = dataclasses.replace(SMALL, gen_width=3, disc_width=3, loss="non_saturating")
        _, state, _ = self.losses(config)
        # Off zero, where a sample for which all of G's units are dead would sit on a kink of every unit of D.
        biased = jax.tree.map(lambda leaf: leaf + 0.1 * (leaf.ndim == 1), state.params)
        plain, state, batch = self.losses(config, state=dataclasses.replace(state, params=biased))
        penalized, *_ = self.losses(
            dataclasses.replace(config, gradient_norm=player), HParams(gradient_norm_weight=0.7), state
        )
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
                    sides.append(self.losses_of(config)(dataclasses.replace(state, params=params), batch)[other])
                total += ((float(sides[0]) - float(sides[1])) / (2 * step)) ** 2
        assert penalized[mine] - plain[mine] == pytest.approx(0.35 * total, rel=1e-3)
        assert penalized[other] == pytest.approx(plain[other], rel=1e-6)

    @functools.cache  # noqa: B019
    def losses_of(self, config: Config):
        def both(state, batch):
            args = (config, HParams(), state.params, state.stats, batch)
            return gan.disc_objective(*args)[0], gan.gen_objective(*args)[0]

        return haste.jit(both)

    def test_noise_reaches_both_inputs_of_d(self):
        """D = psi . x: its losses under noise are those at the moved points."""
        config = dataclasses.replace(SMALL, instance_noise="constant", disc_net="bilinear", loss="wasserstein")
        (disc, gen), state, batch = self.losses(config, HParams(noise_std=0.5))
        assert batch.pairs.noise is not None
        fake = gan.generate(config, state.variables.gen, batch.pairs.latents) + batch.pairs.noise
        psi = np.asarray(jax.tree.leaves(state.params.disc)[0])[:, 0]
        assert disc == pytest.approx(float(np.mean(fake @ psi) - np.mean(batch.pairs.real @ psi)), rel=1e-4)
        assert gen == pytest.approx(float(-np.mean(fake @ psi)), rel=1e-4)


# ---- schedules


class TestSchedules:
    def rates(self, config: Config, hparams: HParams, steps) -> np.ndarray:
        now = jax.jit(jax.vmap(lambda step: gan.scheduled(config, hparams, step)))(jnp.asarray(steps))
        return np.stack([now.lr_gen, now.lr_disc])

    def test_constant_by_default_to_the_bit(self):
        rates = self.rates(SMALL, HParams(lr_gen=1e-3, lr_disc=3e-4), [0, 1, 10**6])
        np.testing.assert_array_equal(rates, np.array([[1e-3] * 3, [3e-4] * 3], np.float32))

    def test_warm_up(self):
        rates = self.rates(SMALL, HParams(lr_gen=1.0, lr_disc=2.0, warmup_steps=4), range(6))
        np.testing.assert_allclose(rates, np.outer([1, 2], [0.25, 0.5, 0.75, 1, 1, 1]), rtol=1e-6)

    @pytest.mark.parametrize(
        ("schedule", "middle"), [("linear", 0.1 + 0.9 * 0.75), ("cosine", 0.1 + 0.9 * (1 + np.cos(np.pi / 4)) / 2)]
    )
    def test_decay(self, schedule, middle):
        config = dataclasses.replace(SMALL, schedule=schedule)
        hparams = HParams(lr_gen=2.0, lr_disc=2.0, warmup_steps=10, decay_steps=100, lr_final=0.1)
        rates = self.rates(config, hparams, [10, 35, 110, 1000])
        np.testing.assert_allclose(rates[0], [2, 2 * middle, 0.2, 0.2], rtol=1e-5)

    def test_noise_and_top_k(self):
        hparams = HParams(noise_std=0.4, noise_steps=10, top_k_share=0.5, top_k_decay=0.9)
        annealed = dataclasses.replace(SMALL, instance_noise="annealed")
        at = lambda config, step: gan.scheduled(config, hparams, jnp.asarray(step))  # noqa: E731
        noise = [float(at(annealed, step).noise_std) for step in (0, 5, 10, 99)]
        np.testing.assert_allclose(noise, [0.4, 0.2, 0, 0], rtol=1e-6)
        assert np.asarray(at(dataclasses.replace(SMALL, instance_noise="constant"), 99).noise_std) == np.float32(0.4)
        share = [float(at(SMALL, step).top_k_share) for step in (0, 1, 5, 50)]
        np.testing.assert_allclose(share, [1, 0.9, 0.9**5, 0.5], rtol=1e-5)

    def test_they_reach_the_update(self):
        """sgd: the move of a step is proportional to the rate in force."""
        config = dataclasses.replace(SMALL, gen_optimizer="sgd", disc_optimizer="sgd", dynamics="simultaneous")
        step = haste.jit(functools.partial(dynamics.step, config))
        state = init(config)
        full, warm = (step(HParams(1.0, 1.0, warmup_steps=steps), RING, state) for steps in (0, 4))
        for before, one, other in zip(*(jax.tree.leaves(s.params) for s in (state, full, warm))):
            np.testing.assert_allclose(np.asarray(other - before), np.asarray(one - before) / 4, atol=2e-7)


# ---- what is kept beside the parameters


def steps(config: Config, num: int, hparams: HParams = HParams()) -> list[gan.State]:  # noqa: B008
    step = haste.jit(functools.partial(dynamics.step, config))
    return list(itertools.accumulate(range(num), lambda state, _: step(hparams, RING, state), initial=init(config)))


class TestKept:
    def test_average_of_g(self):
        course = steps(dataclasses.replace(SMALL, gen_ema=True), 3, HParams(ema_decay=0.75))
        want = course[0].params.gen
        for state in course[1:]:
            want = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, want, state.params.gen)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), course[-1].ema, want)

    @pytest.mark.slow
    def test_averaging_changes_nothing_in_training(self):
        plain, averaged = (steps(dataclasses.replace(SMALL, gen_ema=on), 2)[-1].params for on in (False, True))
        jax.tree.map(np.testing.assert_array_equal, plain, averaged)

    def test_running_statistics_of_batch_normalization(self):
        """They move by a tenth toward those of the player's own update: of real and fake batches, half each, for D."""
        config = dataclasses.replace(SMALL, gen_norm="batch", disc_norm="batch", dynamics="simultaneous")
        before, after = steps(config, 1)
        key = jax.random.fold_in(jax.random.fold_in(before.key, gan.Stream.TRAIN), before.step)
        pairs = gan.draw_batch(config, HParams(), key, None, RING).pairs
        kernel, bias = (before.params.gen["params"]["Dense_0"][name] for name in ("kernel", "bias"))
        hidden = np.asarray(pairs.latents @ kernel + bias[None, :], np.float64)
        stats = after.stats.gen["batch_stats"]["BatchNorm_0"]
        np.testing.assert_allclose(stats["mean"], 0.1 * hidden.mean(axis=0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * hidden.var(axis=0), rtol=1e-4)
        fake, _ = gan.generator(config).apply(before.variables.gen, pairs.latents, train=True, mutable=["batch_stats"])
        kernel = before.params.disc["params"]["Dense_0"]["kernel"]
        means = [np.asarray(x @ kernel).mean(axis=0) for x in (pairs.real, fake)]
        got = after.stats.disc["batch_stats"]["BatchNorm_0"]["mean"]
        np.testing.assert_allclose(got, 0.1 * (means[0] + means[1]) / 2, rtol=1e-4, atol=1e-6)

    def test_each_slot_of_the_packs_is_normalized_apart(self):
        config = dataclasses.replace(SMALL, gen_norm="batch", packing=2)
        state = init(config)
        batch = draw(config)
        play = haste.jit(functools.partial(gan.play_batch, config))(state.params, state.stats, batch.pairs)
        apart = [
            gan.generator(config).apply(
                state.variables.gen, batch.pairs.latents[i::2], train=True, mutable=["batch_stats"]
            )
            for i in range(2)
        ]
        want = np.stack([fake for fake, _ in apart], axis=1).reshape(config.batch_size, 4)
        np.testing.assert_allclose(play.fake, want, rtol=1e-4, atol=1e-5)
        mean = np.mean([np.asarray(stats["batch_stats"]["BatchNorm_0"]["mean"]) for _, stats in apart], axis=0)
        np.testing.assert_allclose(play.stats.gen["batch_stats"]["BatchNorm_0"]["mean"], mean, rtol=1e-4, atol=1e-6)

    def test_measured_networks_use_the_running_statistics(self):
        config = dataclasses.replace(SMALL, gen_norm="batch", disc_norm="batch")
        state = steps(config, 2)[-1]
        z = jnp.asarray([[0.3, -1.0], [2.0, 0.1]])
        together = gan.generate(config, state.variables.gen, z)
        apart = jnp.concatenate([gan.generate(config, state.variables.gen, z[i : i + 1]) for i in range(2)])
        np.testing.assert_allclose(together, apart, rtol=1e-5)

    @pytest.mark.slow
    def test_spectral_norm_of_every_kernel_is_one(self):
        """Once the power iteration has converged: the largest singular value of each kernel as D uses it."""
        config = dataclasses.replace(SMALL, disc_norm="spectral", disc_depth=2)
        state = steps(config, 30, HParams(lr_gen=1e-4, lr_disc=1e-4))[-1]
        for i in range(3):
            kernel = np.asarray(state.params.disc["params"][f"Dense_{i}"]["kernel"], np.float64)
            sigma = state.stats.disc["batch_stats"][f"SpectralNorm_{i}"][f"Dense_{i}/kernel/sigma"]
            assert float(sigma) == pytest.approx(np.linalg.norm(kernel, 2), rel=1e-3)
        x = jnp.asarray(np.random.default_rng(0).standard_normal((500, 2)), jnp.float32)
        slope = jax.vmap(jax.grad(lambda p: gan.discriminate(config, state.variables.disc, p[None])[0]))(x)
        assert float(jnp.linalg.norm(slope, axis=1).max()) < 1.01  # leaky units shrink: 1-Lipschitz

    def test_spectral_vectors_are_kept_by_ds_updates_only(self):
        config = dataclasses.replace(SMALL, disc_norm="spectral")
        state = init(config)
        batch = draw(config)
        args = (config, HParams(), state.params, state.stats, batch)
        _, (_, _, after) = gan.disc_objective(*args)
        moved = [not np.array_equal(a, b) for a, b in zip(*(jax.tree.leaves(s) for s in (state.stats.disc, after)))]
        assert any(moved)
        _, (_, gen_stats) = gan.gen_objective(*args)
        assert gen_stats == {}

    @pytest.mark.slow
    def test_fourier_frequencies_scale_and_stay(self):
        config = dataclasses.replace(SMALL, disc_fourier=64)
        one, ten = (init(config, HParams(fourier_scale=scale)) for scale in (1.0, 10.0))
        a, b = (jax.tree.leaves(s.stats.disc["constants"])[0] for s in (one, ten))
        assert a.shape == (2, 64)
        np.testing.assert_allclose(b, 10 * a, rtol=1e-6)
        assert np.std(np.asarray(a)) == pytest.approx(1, abs=5 / np.sqrt(2 * 128))
        after = steps(config, 2)
        np.testing.assert_array_equal(*(jax.tree.leaves(s.stats.disc)[0] for s in (after[0], after[-1])))

    def test_same_seed_same_weights_whatever_the_numbers(self):
        a, b = init(SMALL, HParams(lr_gen=1.0)), init(SMALL, HParams(init_scale=2.0))
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(2 * x, y, rtol=1e-6),
            a.params.gen["params"]["Dense_0"]["kernel"],
            b.params.gen["params"]["Dense_0"]["kernel"],
        )

    def test_init_scale_leaves_normalization_alone(self):
        state = init(dataclasses.replace(SMALL, gen_norm="layer"), HParams(init_scale=5.0))
        np.testing.assert_array_equal(state.params.gen["params"]["LayerNorm_0"]["scale"], 1)


def test_second_batch_same_is_the_first_players_last():
    """G's update of the alternating rule on D's own minibatch: by hand from the two objectives."""
    fields = {"gen_optimizer": "sgd", "disc_optimizer": "sgd", "disc_steps": 2, "second_batch": "same"}
    config = dataclasses.replace(SMALL, **fields)
    before, after = steps(config, 1)
    key = jax.random.fold_in(jax.random.fold_in(before.key, gan.Stream.TRAIN), before.step)
    disc_key, _ = jax.random.split(key)
    last = gan.draw_batch(config, HParams(), jax.random.fold_in(disc_key, 1), None, RING)
    objective = lambda gen: gan.gen_objective(  # noqa: E731
        config, HParams(), Players(gen, after.params.disc), before.stats, last
    )[0]
    moved = jax.tree.map(lambda x, g: x - 1e-3 * g, before.params.gen, jax.grad(objective)(before.params.gen))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), after.params.gen, moved)


def test_truncation_never_reaches_infinity():
    """The ends of the uniforms."""
    ends = jnp.asarray([[2.0**-24, 1 - 2.0**-24]])
    assert np.isfinite(np.asarray(ndtri(ends))).all()
    config = dataclasses.replace(SMALL, prior="truncated")
    assert np.isfinite(np.asarray(gan.latents(config, HParams(truncation=30.0), ends))).all()
