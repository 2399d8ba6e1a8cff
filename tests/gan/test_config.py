"""What a `Config` refuses; its parts by name and as objects of one's own, over whose numbers a sweep compiles once."""

import dataclasses
from collections.abc import Callable
from typing import Any, get_args

import chex
import flax.linen as nn
import haste
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gandyn.gan import networks, targets
from gandyn.gan import step as gan
from gandyn.gan.config import (
    AVERAGES,
    INSTANCE_NOISE,
    PRIORS,
    SCHEDULES,
    Config,
    discriminator_of,
    generator_of,
    loss_of,
    numbers_of,
    optimizers_of,
    penalties_of,
    rule_of,
)
from gandyn.gan.game import make_game
from gandyn.gan.loss import Loss
from gandyn.gan.losses import LOSSES
from gandyn.gan.number import HParams, Number
from gandyn.gan.optimizers import OPTIMIZERS, Optimizer, clipped
from gandyn.gan.penalties import PENALTIES, At, Penalty, lazy
from gandyn.gan.rules import RULES, Rule, lookahead, replay_pool
from gandyn.gan.state import State

SMALL = Config(gen_width=8, gen_depth=1, disc_width=8, disc_depth=1, batch_size=16)
RING = targets.ring(num_modes=8, radius=1.0, std=0.1)
init, step = haste.jit(gan.init), haste.jit(gan.step)


# ---- what is refused


NAMES = {
    "loss": LOSSES,
    "penalties": PENALTIES,
    "rule": RULES,
    "prior": PRIORS,
    "instance_noise": INSTANCE_NOISE,
    "schedule": SCHEDULES,
    "gen_average": AVERAGES,
    "gen_optimizer": OPTIMIZERS,
    "disc_optimizer": OPTIMIZERS,
    "gen_net": networks.GENERATORS,
    "disc_net": networks.DISCRIMINATORS,
    "disc_norm": networks.NORMS,
    "minibatch_layer": networks.MINIBATCH_LAYERS,
    "gen_activation": networks.ACTIVATIONS,
    "disc_activation": networks.ACTIVATIONS,
    "initializer": networks.INITIALIZERS,
    "bias_initializer": {"matching", *networks.BIAS_INITIALIZERS},
}


@pytest.mark.parametrize("field", NAMES)
def test_every_entry_can_be_chosen(field):
    """A dict's entries are the field's choices: one more entry is one more choice."""
    declared = {f.name: f for f in dataclasses.fields(Config)}[field]
    assert set(declared.metadata.get("parts", get_args(declared.type))) == set(NAMES[field])


SENSELESS: list[tuple[dict[str, Any], str]] = [
    ({"packing": 2, "num_classes": 2}, "packing: got 2; allowed with num_classes .*different labels.*: 1"),
    ({"packing": 2, "num_classes": 2, "conditioning": "projection"}, "packing: got 2"),
    ({"conditioning": "projection"}, "conditioning: got 'projection'; allowed with num_classes=0: 'concat'"),
    (
        {"penalties": ("r1",), "disc_norm": "batch"},
        "disc_norm: got 'batch'; allowed with penalty 'r1' .*alone.*: 'none'",
    ),
    ({"penalties": ("wgan_gp",), "minibatch_layer": "stddev"}, "minibatch_layer: got 'stddev'; allowed with penalty"),
    ({"penalties": ("dragan",), "minibatch_layer": "discrimination"}, "minibatch_layer: got 'discrimination'"),
    ({"top_k": True, "loss": "relativistic_average"}, "loss: got 'relativistic_average'; allowed with top_k"),
    ({"rule": "simultaneous", "disc_steps": 2}, "disc_steps: got 2; allowed with rule='simultaneous': 1"),
    ({"rule": "best_response", "gen_steps": 2}, "gen_steps: got 2; allowed with rule='best_response': 1"),
    ({"rule": "extragradient", "first": "gen"}, "first: got 'gen'; allowed with rule='extragradient': 'disc'"),
    ({"rule": "unrolled", "second_batch": "same"}, "second_batch: got 'same'"),
    ({"rule": "competitive"}, "gen_optimizer: got 'adam'; allowed with rule='competitive' .*: 'sgd'"),
    ({"rule": "heun", "gen_optimizer": "sgd"}, "disc_optimizer: got 'adam'; allowed with rule='heun'"),
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
    ({"top_k": True, "loss": "feature_matching"}, "loss: got 'feature_matching'; allowed with top_k"),
    ({"rule": "follow_the_ridge"}, "gen_optimizer: got 'adam'; allowed with rule='follow_the_ridge' .*: 'sgd'"),
    ({"rule": "optimistic", "gen_optimizer": "optimistic_adam"}, "gen_optimizer: got 'optimistic_adam'; allowed with"),
    ({"penalties": "r1"}, "penalties: got 'r1'; allowed: a tuple of names, such as .'r1',., or .."),
    ({"penalties": ("r1", "r1")}, "penalties: got r1, r1; allowed: each once"),
    ({"penalties": ("none",)}, "penalties: got 'none'; allowed: r1, r2"),
    ({"penalties": ("r3",)}, "penalties: got 'r3'; allowed: r1, r2, wgan_gp"),
    ({"penalties": ("zero_centered",)}, "penalties: got 'zero_centered'; .*did you mean 'zero_centred'"),
    ({"rule": "simultanous"}, "rule: got 'simultanous'; allowed: .*did you mean 'simultaneous'"),
    ({"loss": "non_saturatng"}, "loss: got 'non_saturatng'; allowed: .*did you mean 'non_saturating'"),
    ({"loss": PENALTIES["r1"]}, "loss: got Penalty"),
    ({"gen_average": "mean"}, "gen_average: got 'mean'; allowed: none, ema, uniform"),
    ({"gen_norm": "spectral"}, "gen_norm: got 'spectral'; allowed: none, layer, batch"),
]


@pytest.mark.parametrize(("fields", "message"), SENSELESS, ids=[str(fields) for fields, _ in SENSELESS])
def test_what_makes_no_sense_is_refused_with_the_reason(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)


def test_fields_that_build_a_network_are_refused_beside_ones_own():
    with pytest.raises(
        ValueError, match=r"disc_width: got 8; allowed with disc=Quadratic \(it is built without that\): 128"
    ):
        Config(disc=Quadratic(), disc_width=8)
    with pytest.raises(ValueError, match=r"gen_norm: got 'batch'; allowed with gen=Affine"):
        Config(gen=Affine(), gen_norm="batch")


class TestCheck:
    def test_more_classes_than_modes(self):
        with pytest.raises(ValueError, match="num_classes: got 9; allowed with a target of 8 modes: at most 8"):
            gan.check(make_game(RING, Config(num_classes=9)))

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"loss": "auxiliary_classifier"}, "num_classes: got 0; allowed with a loss that reads labels"),
            ({"loss": "auxiliary_classifier", "num_classes": 2}, "disc: got one that sows features; allowed with this"),
            (
                {"loss": "feature_matching", "disc_net": "bilinear"},
                "disc: got one that sows nothing; allowed with this",
            ),
            ({"rule": RULES["simultaneous"], "num_classes": 9}, "num_classes: got 9"),
        ],
    )
    def test_what_a_loss_asks_of_d_and_of_labels(self, fields, message):
        with pytest.raises(ValueError, match=message):
            gan.check(make_game(RING, dataclasses.replace(SMALL, **fields)))

    def test_a_replay_pool_has_no_labels(self):
        with pytest.raises(ValueError, match=r"num_classes: got 2; allowed with replay_pool .*: 0"):
            gan.check(make_game(RING, dataclasses.replace(SMALL, rule=replay_pool(8), num_classes=2)))
        gan.check(make_game(RING, dataclasses.replace(SMALL, rule=replay_pool(8))))


# ---- parts of one's own


def _tilted(real: jax.Array, fake: jax.Array, numbers: HParams) -> jax.Array:
    return jnp.mean(fake) - jnp.mean(real) + numbers.tilt * jnp.mean(real**2 + fake**2)


def _ridge(at: At, numbers: HParams) -> jax.Array:
    return numbers.ridge * jnp.mean(at.real_logits**2)


def _leaning(game: Any, state: State, key: jax.Array) -> State:
    here = game.field(state.params, state.stats, game.draw(state, key))
    gradient = here.gradient._replace(gen=jax.tree.map(lambda leaf: game.hparams.lean * leaf, here.gradient.gen))
    return game.updated(state, gradient, here)


class Quadratic(nn.Module):
    """D(x) = sum_i w_i x_i^2."""

    @nn.compact
    def __call__(self, x):
        return (x**2) @ self.param("w", nn.initializers.ones, (x.shape[-1],))


class Affine(nn.Module):
    width: int = 2

    @nn.compact
    def __call__(self, z):
        return nn.Dense(self.width)(z)


def mine() -> dict[str, Any]:
    """A loss, a penalty, a rule and an optimizer of one's own, each with a number."""
    return {
        "loss": Loss("tilted", _tilted, lambda real, fake, numbers: -jnp.mean(fake), {"tilt": Number(0.1, 0)}),
        "penalties": (Penalty("ridge", _ridge, numbers={"ridge": Number(1.0, 0)}), "r1"),
        "rule": Rule("leaning", _leaning, numbers={"lean": Number(1.0)}),
        "gen_optimizer": Optimizer("drifting", lambda lr, drift: optax.sgd(lr * drift), {"drift": Number(0.5, 0)}),
    }


class TestOwnParts:
    def test_they_hash_and_are_equal_where_they_are_one(self):
        parts = mine()
        one, again = (dataclasses.replace(SMALL, **parts) for _ in range(2))
        assert one == again
        assert hash(one) == hash(again)
        other = dataclasses.replace(SMALL, **mine())  # the same code, but made anew
        assert one != other

    def test_they_are_found(self):
        parts = mine()
        config = dataclasses.replace(SMALL, **parts)
        assert loss_of(config) is parts["loss"]
        assert penalties_of(config) == (parts["penalties"][0], PENALTIES["r1"])
        assert rule_of(config) is parts["rule"]
        assert optimizers_of(config) == (parts["gen_optimizer"], OPTIMIZERS["adam"])
        assert {"tilt", "ridge", "r1_weight", "lean", "drift_gen", "lr_gen", "beta1_disc"} <= set(numbers_of(config))
        assert "beta1_gen" not in numbers_of(config)

    def test_one_program_over_a_sweep_of_their_numbers(self):
        """And over seeds: one trace of init, one of step, for any value of any number."""
        config = dataclasses.replace(SMALL, **mine())
        chex.clear_trace_counter()
        init, step = (haste.jit(chex.assert_max_traces(function, n=1)) for function in (gan.init, gan.step))
        ends = []
        for seed, (tilt, ridge, lean, drift) in enumerate([(0.1, 1.0, 1.0, 0.5), (0.2, 2.0, -1.0, 0.25), (0.0,) * 4]):
            game = make_game(RING, config, HParams(tilt=tilt, ridge=ridge, lean=lean, drift_gen=drift))
            state = init(game, jax.random.key(seed, impl="threefry2x32"))
            for _ in range(2):
                state = step(game, state)
            chex.assert_tree_all_finite(state.params)
            ends.append(state)
        assert step._cache_size() == 1  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(AssertionError, match="traced > 1 times"):  # the counter counts
            step(make_game(RING, dataclasses.replace(config, batch_size=8)), ends[0])

    def test_the_number_reaches_the_part(self):
        """Of the penalty: its term is proportional to it."""
        config = dataclasses.replace(SMALL, penalties=mine()["penalties"][:1])
        logged = []
        for ridge in (1.0, 2.0, 5.0):
            game = make_game(RING, config, HParams(ridge=ridge))
            state = init(game, jax.random.key(0, impl="threefry2x32"))
            logged.append(float(step(game, state).logged.penalty))
        np.testing.assert_allclose(logged, logged[0] * np.array([1, 2, 5]), rtol=1e-6)
        assert logged[0] > 0

    def test_modules(self):
        """Any Linen module is a player; equal ones are one configuration, and so one program."""
        config = Config(gen=Affine(), disc=Quadratic())
        assert config == Config(gen=Affine(2), disc=Quadratic())
        assert config != Config(gen=Affine(3), disc=Quadratic())
        assert generator_of(config, (2,)) == Affine()
        assert discriminator_of(config) == Quadratic()
        game = make_game(RING, dataclasses.replace(config, penalties=("r1",)))
        state = step(game, init(game, jax.random.key(0, impl="threefry2x32")))
        chex.assert_tree_all_finite(state.params)
        assert set(state.params.disc["params"]) == {"w"}

    def test_a_module_with_unhashable_fields_is_refused(self):
        class Listed(nn.Module):
            widths: Any = (4,)

            def __call__(self, x):
                return x[:, 0]

        with pytest.raises(ValueError, match=r"(?s)disc: got .*; allowed: a module whose fields are hashable \(.*hash"):
            Config(disc=Listed(widths=jnp.ones(2)))
        with pytest.raises(ValueError, match=r"(?s)gen: got .*; allowed: a module whose fields are hashable"):
            Config(gen=Listed(widths=np.ones(2)))
        with pytest.raises(ValueError, match=r"(?s)disc: got .*; allowed: a module whose fields are hashable"):
            Config(disc=Listed(widths=[4, 4]))
        assert hash(Config(disc=Listed(widths=(4, 4))))

    @pytest.mark.parametrize("given", [Affine, "mlp", 3, lambda x: x])
    def test_what_is_no_module_is_refused(self, given):
        with pytest.raises(ValueError, match=r"gen: got .*; allowed: a flax.linen module"):
            Config(gen=given)

    @pytest.mark.parametrize(
        ("field", "make"),
        [
            ("loss", lambda name: Loss(name, _tilted, _tilted, {"tilt": Number(0.1)})),
            ("penalties", lambda name: (Penalty(name, _ridge, numbers={"ridge": Number(1.0)}),)),
            ("rule", lambda name: Rule(name, _leaning, numbers={"lean": Number(1.0)})),
            ("disc_optimizer", lambda name: dataclasses.replace(OPTIMIZERS["sgd"], name=name)),
        ],
    )
    def test_a_name_that_is_taken_is_refused(self, field: str, make: Callable[[str], Any]):
        """Results tell parts by their names."""
        taken = {"loss": "hinge", "penalties": "r1", "rule": "alternating", "disc_optimizer": "adam"}[field]
        with pytest.raises(ValueError, match=f"{field}: got one named '{taken}'; allowed: a name of its own, beside"):
            Config(**{field: make(taken)})
        with pytest.raises(ValueError, match=f"{field}: got one named ''"):
            Config(**{field: make("")})
        assert hash(Config(**{field: make("something_else")}))

    def test_built_in_objects_are_as_good_as_their_names_but_count_as_their_own(self):
        assert loss_of(Config(loss=LOSSES["hinge"])) is loss_of(Config(loss="hinge"))
        assert penalties_of(Config(penalties=(PENALTIES["r1"],))) == penalties_of(Config(penalties=("r1",)))
        with pytest.raises(ValueError, match="penalties: got r1, r1; allowed: each once"):
            Config(penalties=(PENALTIES["r1"], "r1"))

    def test_a_list_of_penalties_is_a_tuple(self):
        given: Any = ["r1", "r2"]
        assert Config(penalties=given) == Config(penalties=("r1", "r2"))


# ---- numbers


class TestNumbersOfParts:
    def test_two_parts_that_mean_different_things_by_one_name_are_refused(self):
        other = Penalty("other", lambda at, numbers: numbers.tilt * 1.0, numbers={"tilt": Number(0.5, 0)})
        with pytest.raises(ValueError, match="tilt: declared otherwise by loss 'tilted' and by penalty 'other'"):
            Config(loss=mine()["loss"], penalties=(other,))
        same = dataclasses.replace(other, numbers={"tilt": Number(0.1, 0)})
        assert "tilt" in numbers_of(Config(loss=mine()["loss"], penalties=(same,)))

    def test_lazy_and_plain_share_their_weight(self):
        """Both mean the same by it."""
        config = Config(penalties=("r1", lazy(PENALTIES["r1"], 4)))
        assert list(numbers_of(config)).count("r1_weight") == 1

    def test_a_rule_in_a_lookahead_declares_both(self):
        config = Config(rule=lookahead(RULES["extragradient"], 5))
        assert {"extrapolation", "lookahead_rate"} <= set(numbers_of(config))
        assert "lookahead_rate" in numbers_of(Config(lookahead=5))
        assert "lookahead_rate" not in numbers_of(Config())

    def test_optimizers_numbers_carry_the_player(self):
        config = Config(gen_optimizer="sgd", disc_optimizer=clipped(OPTIMIZERS["momentum"]))
        found = {name for name in numbers_of(config) if name.endswith(("_gen", "_disc"))}
        assert found == {"lr_gen", "lr_disc", "beta1_disc", "max_norm_disc"}

    READ: tuple[tuple[str, dict[str, Any]], ...] = (
        ("decay_steps", {"schedule": "linear"}),
        ("lr_final", {"schedule": "cosine"}),
        ("gradient_norm_weight", {"gradient_norm": "gen"}),
        ("ema_decay", {"gen_average": "ema"}),
        ("top_k_share", {"top_k": True}),
        ("noise_std", {"instance_noise": "constant"}),
        ("noise_steps", {"instance_noise": "annealed"}),
        ("truncation", {"prior": "truncated"}),
        ("fourier_scale", {"disc_fourier": 4}),
        ("label_smoothing", {"loss": "minimax"}),
        ("label_real", {"loss": "least_squares_sigmoid"}),
        ("r1_weight", {"penalties": ("r1",)}),
        ("wgan_gp_norm", {"penalties": ("wgan_gp",)}),
        ("lecam_decay", {"penalties": ("lecam",)}),
        ("damping", {"rule": "stackelberg"}),
        ("extrapolation", {"rule": "extragradient"}),
        ("class_weight", {"loss": "auxiliary_classifier"}),
        ("weight_decay_disc", {"disc_optimizer": "adamw"}),
    )

    @pytest.mark.parametrize(("name", "fields"), READ)
    def test_a_number_is_legal_where_something_reads_it(self, name, fields):
        value = 0.25
        assert getattr(make_game(RING, Config(**fields), HParams(**{name: value})).hparams, name) == value
        with pytest.raises(ValueError, match=rf"{name}: got 0\.25, and nothing chosen reads it"):
            make_game(RING, Config(loss="wasserstein"), HParams(**{name: value}))
