"""Named numbers: what a part declares, what a person gives, and how one is filled up from the other."""

import copy
import pickle
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gandyn.gan.config import Config, complete, numbers_of
from gandyn.gan.number import HParams, Number, defaults, filled, gathered


class TestHParams:
    def test_attributes(self):
        hparams = HParams(lr_gen=1e-3, gamma=0.02)
        assert hparams.lr_gen == 1e-3
        assert hparams.gamma == 0.02
        assert hparams.as_dict() == {"lr_gen": 1e-3, "gamma": 0.02}
        assert repr(hparams) == "HParams(lr_gen=0.001, gamma=0.02)"

    def test_a_number_that_is_not_there(self):
        with pytest.raises(AttributeError, match="beta: no number of this name; there are lr_gen, gamma"):
            _ = HParams(lr_gen=1e-3, gamma=0.02).beta
        with pytest.raises(AttributeError, match="there are none"):
            _ = HParams().beta
        assert not hasattr(HParams(gamma=1), "_gamma")

    def test_they_do_not_change(self):
        hparams = HParams(gamma=0.02)
        with pytest.raises(AttributeError, match=r"gamma: HParams do not change; replace\(gamma=...\) gives others"):
            hparams.gamma = 1
        hparams.as_dict()["gamma"] = 1
        assert hparams.gamma == 0.02

    def test_replace(self):
        hparams = HParams(a=1.0, b=2.0)
        assert hparams.replace(b=3.0, c=4.0) == HParams(a=1.0, b=3.0, c=4.0)
        assert list(hparams.replace(c=4.0).as_dict()) == ["a", "b", "c"]
        assert hparams == HParams(a=1.0, b=2.0)
        assert hash(hparams) == hash(HParams(a=1.0, b=2.0))
        assert hparams != {"a": 1.0, "b": 2.0}

    def test_copies(self):
        hparams = HParams(a=1.0, b=2.0)
        assert copy.deepcopy(hparams) == hparams
        assert pickle.loads(pickle.dumps(hparams)) == hparams  # noqa: S301 (of its own bytes: cluster engines send it)

    def test_a_pytree_with_names(self):
        """In the order in which they were given, which jax keeps."""
        hparams = HParams(b=jnp.float32(2), a=jnp.float32(1))
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(hparams)]
        assert paths == [".b", ".a"]
        assert jax.tree.leaves(hparams) == [2, 1]
        twice = jax.jit(lambda numbers: jax.tree.map(lambda x: 2 * x, numbers))(hparams)
        chex.assert_trees_all_equal(twice, HParams(b=jnp.float32(4), a=jnp.float32(2)))
        stacked = jax.tree.map(lambda *each: jnp.stack(each), *[hparams] * 3)
        assert jax.vmap(lambda numbers: numbers.a + numbers.b)(stacked).tolist() == [3, 3, 3]

    def test_other_names_are_another_program(self):
        chex.clear_trace_counter()
        function = jax.jit(chex.assert_max_traces(lambda numbers: sum(jax.tree.leaves(numbers)), n=1))
        for value in (1.0, 2.0, 3.0):
            assert function(HParams(a=value, b=1.0)) == value + 1
        with pytest.raises(AssertionError, match="traced > 1"):
            function(HParams(a=1.0, c=1.0))


class TestNumber:
    @pytest.mark.parametrize(
        ("number", "good", "bad"),
        [
            (Number(1.0, 0), [0, 1.5, np.float64(2), np.float32(3), 9e37], [-1e-30, -1, np.inf, np.nan, 1e39]),
            (Number(1.0, 0, above=True), [1e-30, 2], [0, -1, 1e-50]),
            (Number(0.5, 0, 1), [0, 1], [-0.1, 1.1]),
            (Number(0.5, 0, 1, above=True, below=True), [0.5], [0, 1, 1 - 1e-12]),
            (Number(0.0), [-5, 0, 7], [np.nan, -np.inf, "0.1", None, True, [1.0], np.ones(1), 1j]),
        ],
    )
    def test_range(self, number, good, bad):
        for value in good:
            number.check("gamma", value)
        for value in bad:
            with pytest.raises(ValueError, match=r"gamma: got .*; allowed: "):
                number.check("gamma", value)

    def test_message(self):
        with pytest.raises(ValueError, match=r"ema_decay: got 1\.0; allowed: at least 0, below 1"):
            Number(0.9, 0, 1, below=True).check("ema_decay", 1.0)

    @pytest.mark.parametrize("value", [1 - 1e-9, 0.99999999])
    def test_what_float32_rounds_to_the_end_is_the_end(self, value):
        """A decay of 1 - 1e-9 is 1 in float32, in which it is computed."""
        with pytest.raises(ValueError, match=r"below|at most"):
            Number(0.9, 0, 1, below=True).check("ema_decay", value)


class TestGathered:
    def test_in_order_and_once(self):
        gamma = Number(1.0)
        found = gathered([("loss 'a'", {"gamma": gamma, "x": Number(0.0)}), ("penalty 'b'", {"gamma": Number(1.0)})])
        assert list(found) == ["gamma", "x"]

    def test_two_meanings(self):
        parts = [("loss 'a'", {"gamma": Number(1.0)}), ("penalty 'b'", {"gamma": Number(2.0)})]
        with pytest.raises(ValueError, match="gamma: declared otherwise by loss 'a' and by penalty 'b'; allowed: one"):
            gathered(parts)

    @pytest.mark.parametrize("name", ["two words", "1st", "_hidden", ""])
    def test_names(self, name):
        with pytest.raises(ValueError, match=r"loss 'a': numbers: got .*; allowed: a name such as 'gamma'"):
            gathered([("loss 'a'", {name: Number(1.0)})])

    def test_what_is_no_number(self):
        wrong: Any = {"gamma": 1.0}
        with pytest.raises(ValueError, match=r"loss 'a': numbers: gamma: got 1\.0; allowed: a gandyn.Number"):
            gathered([("loss 'a'", wrong)])


class TestFilled:
    DECLARED = {"gamma": Number(1.0, 0), "label_smoothing": Number(0.0, 0, 1, below=True)}  # noqa: RUF012

    def test_defaults_in_declared_order(self):
        assert filled(self.DECLARED, HParams(label_smoothing=0.1)) == HParams(gamma=1.0, label_smoothing=0.1)
        assert list(filled(self.DECLARED, HParams(label_smoothing=0.1)).as_dict()) == ["gamma", "label_smoothing"]
        assert filled(self.DECLARED, HParams()) == defaults(self.DECLARED)

    def test_out_of_range(self):
        with pytest.raises(ValueError, match=r"label_smoothing: got 1\.5; allowed: at least 0, below 1"):
            filled(self.DECLARED, HParams(label_smoothing=1.5))

    def test_arrays_and_tracers_pass(self):
        """They are not looked into: a run that diverges by them is flagged like any other."""
        given = HParams(gamma=jnp.float32(-1.0))
        assert float(filled(self.DECLARED, given).gamma) == -1
        assert jax.jit(lambda gamma: filled(self.DECLARED, HParams(gamma=gamma)).gamma)(3.0) == 3


class TestComplete:
    def test_every_declared_number(self):
        config = Config(loss="hinge", penalties=("r1",), rule="consensus")
        hparams = complete(config, HParams(lr_gen=5e-4))
        assert list(hparams.as_dict()) == list(numbers_of(config))
        assert hparams.lr_gen == 5e-4
        assert hparams.lr_disc == 1e-3
        assert hparams.r1_weight == 1.0
        assert complete(config, hparams) == hparams

    @pytest.mark.parametrize(
        ("name", "meant"),
        [("lr_gn", "lr_gen"), ("learning_rate_gen", None), ("beta1", "beta1_"), ("r1_wieght", "r1_weight")],
    )
    def test_did_you_mean(self, name, meant):
        hint = rf".*did you mean '{meant}" if meant else "; allowed here: lr_gen"
        with pytest.raises(ValueError, match=rf"{name}: got 0\.5, and nothing chosen reads it{hint}"):
            complete(Config(penalties=("r1",)), HParams(**{name: 0.5}))

    @pytest.mark.parametrize(
        ("name", "readers"),
        [
            ("r2_weight", "penalty r2"),
            ("alpha_disc", "loss alpha, loss alpha_non_saturating"),
            ("damping", "rule follow_the_ridge, rule stackelberg"),
            ("ema_decay", "gen_average ema"),
            ("weight_decay_gen", "gen_optimizer adamw"),
        ],
    )
    def test_what_another_part_would_read(self, name, readers):
        """And by which."""
        with pytest.raises(
            ValueError, match=rf"{name}: got 0\.5, and nothing chosen reads it; it is read by {readers}$"
        ):
            complete(Config(penalties=("r1",)), HParams(**{name: 0.5}))

    def test_what_nothing_reads(self):
        message = r"penalty_weight: got 0\.5, and nothing chosen reads it.*; allowed here: lr_gen, .*r1_weight"
        with pytest.raises(ValueError, match=message):
            complete(Config(penalties=("r1",)), HParams(penalty_weight=0.5))

    def test_smoothing_of_another_loss(self):
        with pytest.raises(ValueError, match=r"label_smoothing: got 0\.1, and nothing chosen reads it"):
            complete(Config(loss="hinge"), HParams(label_smoothing=0.1))
        assert complete(Config(loss="minimax"), HParams(label_smoothing=0.1)).label_smoothing == 0.1

    @pytest.mark.parametrize(
        ("field", "value", "fields"),
        [
            ("label_smoothing", 1.5, {}),
            ("label_smoothing_fake", 1.0, {}),
            ("alpha_disc", 0, {"loss": "alpha"}),
            ("top_k_share", 0, {"top_k": True}),
            ("ema_decay", 1, {"gen_average": "ema"}),
            ("truncation", 0, {"prior": "truncated"}),
            ("noise_std", -0.1, {"instance_noise": "constant"}),
            ("lookahead_rate", 2, {"lookahead": 5}),
            ("lr_final", -1, {"schedule": "linear"}),
            ("adjustment", float("inf"), {"rule": "consensus"}),
            ("eps_gen", "small", {}),
            ("eps_disc", 0.0, {}),
            ("beta1_gen", -1.0, {}),
            ("r1_weight", -0.1, {"penalties": ("r1",)}),
            ("clip_bound", 0.0, {"penalties": ("clip",)}),
            ("damping", -1e-3, {"rule": "stackelberg"}),
        ],
    )
    def test_out_of_range(self, field, value, fields):
        with pytest.raises(ValueError, match=f"{field}: got .*; allowed: "):
            complete(Config(**fields), HParams(**{field: value}))
