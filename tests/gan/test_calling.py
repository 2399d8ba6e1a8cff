"""Any Linen module as a player: what it is given, what it may return, what is found out about it."""

# pyright: reportArgumentType=false

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gandyn.gan import networks
from gandyn.gan.networks import calling


class Plain(nn.Module):
    """What a user writes first."""

    width: int = 8

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.relu(nn.Dense(self.width)(x)))[:, 0]


class Labelled(nn.Module):
    @nn.compact
    def __call__(self, x, labels, train):
        return nn.Dense(1)(jnp.concatenate([x, jax.nn.one_hot(labels, 3)], axis=1))[:, 0]


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(1)(nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(x)))[:, 0]


class Anything(nn.Module):
    @nn.compact
    def __call__(self, x, **kwargs):
        assert set(kwargs) == {"labels", "train"}
        return nn.Dense(1)(x)[:, 0]


class Attends(nn.Module):
    """Couples the samples of a batch without any layer of ours."""

    @nn.compact
    def __call__(self, x):
        h = nn.Dense(4)(x)
        return jnp.sum(jax.nn.softmax(h @ h.T) @ h, axis=1)


class Nested(nn.Module):
    def setup(self):
        self.net = nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(3)])
        self.bend = self.param("bend", nn.initializers.ones, (3,))
        self.first = nn.Dense(5)

    def __call__(self, x):
        return jnp.sum(self.net(self.first(x)) * self.bend[None, :], axis=1)


class Returns(nn.Module):
    what: str

    def __call__(self, x):
        wrong = {
            "column": x[:, :1],
            "scalar": jnp.sum(x),
            "short": x[:-1, 0],
            "points": x,
            "pair": (x[:, 0], x[:, 1]),
            "whole": jnp.ones(len(x), jnp.int32),
        }
        return wrong[self.what]


def made(module, num_classes: int = 0):
    return calling.init(module, jax.random.key(0), (2,), num_classes)


X = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1])


class TestCall:
    @pytest.mark.parametrize("module", [Plain(), Anything(), networks.Discriminator("mlp", 8, 1, "relu", "he_normal")])
    def test_is_apply(self, module):
        variables = made(module)
        out, after = calling.call(module, variables, jnp.asarray(X))
        want = module.apply(variables, X, **({"labels": None, "train": False} if isinstance(module, Anything) else {}))
        np.testing.assert_array_equal(out, want)
        assert after == {}

    def test_labels_reach_what_takes_them(self):
        variables = made(Labelled(), 3)
        out, _ = calling.call(Labelled(), variables, jnp.asarray(X), jnp.asarray(LABELS))
        np.testing.assert_array_equal(out, Labelled().apply(variables, X, LABELS, False))

    def test_labels_are_not_dropped(self):
        with pytest.raises(ValueError, match=r"disc: Plain takes no labels; allowed with num_classes above 0"):
            calling.call(Plain(), made(Plain()), jnp.asarray(X), jnp.asarray(LABELS))

    def test_training_and_its_statistics(self):
        variables = made(Normalized())
        out, after = calling.call(Normalized(), variables, jnp.asarray(X), train=True, mutable=("batch_stats",))
        want, stats = Normalized().apply(variables, X, train=True, mutable=["batch_stats"])
        np.testing.assert_array_equal(out, want)
        np.testing.assert_array_equal(
            after["batch_stats"]["BatchNorm_0"]["mean"], stats["batch_stats"]["BatchNorm_0"]["mean"]
        )
        resting, _ = calling.call(Normalized(), variables, jnp.asarray(X))
        assert not np.allclose(out, resting)

    @pytest.mark.parametrize(
        ("what", "message"),
        [
            ("column", r"disc: Returns returned shape \(B, 1\); allowed: \(B,\), one output a sample"),
            ("scalar", r"disc: Returns returned shape \(\); allowed: \(B,\)"),
            ("short", r"disc: Returns returned shape \(4,\); allowed: \(B,\)"),
            ("pair", r"disc: Returns returned a tuple; allowed: an array of shape \(B,\)"),
            ("whole", r"disc: Returns returned int32; allowed: floating point"),
        ],
    )
    def test_what_is_returned(self, what, message):
        with pytest.raises(ValueError, match=message):
            calling.call(Returns(what), {}, jnp.asarray(X))

    def test_of_a_generator(self):
        out, _ = calling.call(Returns("points"), {}, jnp.asarray(X), player="gen", event_shape=(2,))
        np.testing.assert_array_equal(out, X)
        with pytest.raises(ValueError, match=r"gen: Returns returned shape \(B, 1\); allowed: \(B, 2\), one point a"):
            calling.call(Returns("column"), {}, jnp.asarray(X), player="gen", event_shape=(2,))

    def test_while_traced(self):
        with pytest.raises(ValueError, match=r"returned shape \(B, 1\)"):
            jax.eval_shape(lambda x: calling.call(Returns("column"), {}, x)[0], jnp.asarray(X))

    def test_arguments(self):
        class NeedsMore(nn.Module):
            def __call__(self, x, temperature):
                return x

        class NoInput(nn.Module):
            def __call__(self, *, x):
                return x

        class NoCall(nn.Module):
            pass

        assert calling.accepted(Plain) == set()
        assert calling.accepted(Labelled) == {"labels", "train"}
        assert calling.accepted(Normalized) == {"train"}
        assert calling.accepted(Anything) == calling.accepted(networks.Generator) == {"labels", "train"}
        with pytest.raises(ValueError, match=r"NeedsMore: got __call__\(self, x, temperature\); allowed: an inp"):
            calling.accepted(NeedsMore)
        with pytest.raises(ValueError, match=r"NoInput: got __call__\(self, x\); allowed: an input"):
            calling.accepted(NoInput)
        with pytest.raises(ValueError, match=r"NoCall: got a module without __call__"):
            calling.accepted(NoCall)


def disc(**fields):
    return networks.Discriminator("mlp", 8, 1, "relu", "he_normal", **fields)


class TestCouples:
    DECLARED = (
        (disc(), False),
        (disc(norm="layer"), False),
        (disc(norm="spectral"), False),
        (disc(norm="batch"), True),
        (disc(minibatch="stddev"), True),
        (disc(minibatch="discrimination"), True),
        (networks.Generator("mlp", 8, 1, "relu", "he_normal", norm="batch"), True),
        (networks.Generator("residual", 8, 2, "tanh", "he_normal", norm="layer"), False),
        (networks.VirtualBatchNormGenerator(width=8, num_reference=4), False),
        (networks.AuxiliaryClassifier(3, width=8), False),
    )

    @pytest.mark.parametrize(("module", "want"), DECLARED)
    @pytest.mark.quick(3)
    def test_what_is_declared_is_what_is_found(self, module, want):
        class Silent(type(module)):  # the same module, without what it declares
            couples = None

        fields = {name: getattr(module, name) for name in module.__dataclass_fields__ if name not in ("parent", "name")}
        assert calling.couples(module, (2,)) is want
        assert calling.couples(Silent(**fields), (2,)) is want

    @pytest.mark.parametrize(
        ("module", "want"), [(Plain(), False), (Normalized(), True), (Attends(), True), (Nested(), False)]
    )
    @pytest.mark.quick(2)
    def test_of_a_users_own(self, module, want):
        assert calling.couples(module, (2,)) is want

    def test_while_something_else_is_traced(self):
        class Mixes(nn.Module):
            def __call__(self, x):
                return x[:, 0] - jnp.mean(x)

        assert jax.jit(lambda: jnp.asarray(calling.couples(Mixes(), (2,))))()

    def test_with_labels(self):
        assert calling.couples(Labelled(), (2,), 3) is False


class TestLayers:
    @pytest.mark.parametrize(
        ("module", "names"),
        [
            (Plain(), ("Dense_1", "Dense_0")),  # its outermost layer is made, and named, first
            (Normalized(), ("Dense_1", "BatchNorm_0", "Dense_0")),
            (disc(norm="spectral"), ("Dense_0", "Dense_1")),
            (disc(norm="batch", minibatch="discrimination"),
             ("Dense_0", "BatchNorm_0", "MinibatchDiscrimination_0/Dense_0", "Dense_1")),
            (networks.Generator("point", 8, 1, "relu", "he_normal"), ("kernel",)),
            (Returns("points"), ()),
        ],
    )  # fmt: skip
    @pytest.mark.quick(2)
    def test_in_the_order_of_the_calls(self, module, names):
        assert calling.layer_names(module, (2,)) == names
        params = made(module).get("params", {})
        sizes = sum(leaf.size for name in names for leaf in jax.tree.leaves(calling.layer_at(params, name)))
        assert sizes == sum(leaf.size for leaf in jax.tree.leaves(params))

    def test_nested(self):
        names = calling.layer_names(Nested(), (2,))
        assert sorted(names) == ["bend", "first", "net/layers_0", "net/layers_2"]
        calls = [name for name in names if name != "bend"]
        assert calls == ["first", "net/layers_0", "net/layers_2"]
        assert calling.layer_at(made(Nested())["params"], "net/layers_2")["kernel"].shape == (4, 3)

    def test_what_is_sown_is_no_state(self):
        class Sows(nn.Module):
            @nn.compact
            def __call__(self, x):
                self.sow("aux", "features", x)
                self.sow("intermediates", "x", x)
                return nn.Dense(1)(x)[:, 0]

        assert set(made(Sows())) == {"params"}
        assert calling.layer_names(Sows(), (2,)) == ("Dense_0",)
