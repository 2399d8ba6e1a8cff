"""`gandyn.testing.check` over every built-in part, and over parts that are wrong in one way each."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import haste
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gandyn
from gandyn.gan import networks, targets
from gandyn.gan.losses import LOSSES
from gandyn.gan.optimizers import OPTIMIZERS, clipped
from gandyn.gan.penalties import PENALTIES, lazy
from gandyn.gan.rules import RULES, lookahead, replay_pool
from gandyn.testing import Report, check
from gandyn.truth.measure import MEASUREMENTS


@pytest.fixture(scope="module", autouse=True)
def in_haste():
    with haste.everywhere():
        yield


CLASSES = {"num_classes": 2, "disc": networks.AuxiliaryClassifier(2, width=4, depth=1, activation="tanh")}
CONTEXT = {"auxiliary_classifier": CLASSES}
"""What the game of a part must have, beside the part."""

NETWORKS = {
    **{f"{net}, D": networks.Discriminator(net, 4, 1, "tanh", "he_normal") for net in networks.DISCRIMINATORS},
    **{f"{net}, G": networks.Generator(net, 4, 1, "tanh", "he_normal") for net in networks.GENERATORS},
    **{
        f"{norm} norm, {player.__name__[0]}": player("mlp", 4, 1, "tanh", "he_normal", norm=norm)
        for norm in ("batch", "layer")
        for player in (networks.Discriminator, networks.Generator)
    },
    **{
        f"minibatch {layer}": networks.Discriminator("mlp", 4, 1, "tanh", "he_normal", minibatch=layer)
        for layer in ("stddev", "discrimination")
    },
    "Fourier features": networks.Discriminator("mlp", 4, 1, "tanh", "he_normal", fourier=3),
    "projection": networks.Discriminator("mlp", 4, 1, "tanh", "he_normal", num_classes=2, projection=True),
    "virtual batch norm": networks.VirtualBatchNormGenerator(width=4, depth=1, num_reference=8),
    "auxiliary classifier": CLASSES["disc"],
}
LABELLED = ("projection", "auxiliary classifier")

PARTS = {
    **{f"loss {name}": loss for name, loss in LOSSES.items()},
    **{f"penalty {name}": penalty for name, penalty in PENALTIES.items()},
    "penalty r1, lazily": lazy(PENALTIES["r1"], 2),
    **{f"rule {name}": rule for name, rule in RULES.items()},
    "rule lookahead": lookahead(RULES["alternating"], (2, 4)),
    "rule replay pool": replay_pool(16),
    **{f"optimizer {name}": optimizer for name, optimizer in OPTIMIZERS.items()},
    "optimizer sgd, clipped": clipped(OPTIMIZERS["sgd"]),
    **{f"network {name}": module for name, module in NETWORKS.items()},
    **{f"target {name}": make() for name, make in targets.TARGETS.items()},
    "target of covariances": targets.mixture(
        [[0.0, 0.0], [1.0, 1.0]], weights=[0.3, 0.7], covariances=[[[0.02, 0.01], [0.01, 0.02]], [[0.03, 0], [0, 0.01]]]
    ),
    "target of samples": targets.from_samples(np.random.default_rng(0).standard_normal((50, 2)), std=0.3),
    "target from_cells": targets.from_cells([[1.0, 2.0], [0.0, 4.0]]),
    **{f"measurement {name}": measurement for name, measurement in MEASUREMENTS.items()},
}

# What is quick by itself is looked at alone, too.
ALONE = (
    *(name for name in PARTS if name.startswith(("loss ", "penalty ", "optimizer ", "network "))),
    "rule alternating", "rule extragradient", "rule replay pool", "target ring", "target checkerboard",
    "measurement value",
)  # fmt: skip


def checked(name: str, play: bool, without: tuple[str, ...] = ()) -> Report:
    """The report on one of `PARTS`, none of whose checks may fail."""
    kind, _, own = name.partition(" ")
    player = None if kind != "network" else "gen" if own.endswith("G") or own.startswith("virtual") else "disc"
    return check(PARTS[name], player=player, play=play, without=without, **CONTEXT.get(own, {}))


@pytest.mark.parametrize("name", [name for name in PARTS if name in ALONE])
@pytest.mark.slow
def test_alone(name):
    # What is derived of a loss has a test of its own, and takes a second each.
    report = checked(name, play=False, without=("truth",) if name.startswith("loss ") else ())
    assert len(report.checks) >= 2
    assert not report.failures


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_in_a_game(name):
    report = checked(name, play=True)
    names = [one.name for one in report]
    assert names[-1] == "fingerprint"
    assert ("moves no other" if name.startswith("measurement") else "jit and vmap") in names


# ---- the report


def test_the_report_is_a_table():
    report = check(PENALTIES["clip"], play=False)
    lines = str(report).splitlines()
    assert lines[0] == "penalty 'clip': 3 passed, 2 skipped"
    assert len(lines) == len(report.checks) + 1
    assert "  gradients              skipped  it has no term" in lines
    assert repr(report) == str(report)
    assert [one.name for one in report] == [line.split("  ")[1].strip() for line in lines[1:]]


def test_what_is_left_out_is_said_and_must_exist():
    report = check(LOSSES["hinge"], play=False, without=("truth", "gradients"))
    assert {one.name: one.detail for one in report if one.outcome == "skipped"} == dict.fromkeys(
        ("gradients", "truth"), "left out"
    )
    with pytest.raises(ValueError, match=r"without: got 'gradient'; allowed: .* \(did you mean 'gradients'\?\)"):
        check(LOSSES["hinge"], play=False, without=("gradient", "truth"))


def test_all_failures_are_told_at_once():
    part = loss(disc=lambda r, f, n: jnp.sum(f) - mean(r), numbers=GAMMA)
    with pytest.raises(AssertionError) as caught:
        check(part, play=False, without=("truth",))
    lines = str(caught.value).splitlines()
    assert lines[0] == "loss 'mine' fails 2 of 6 checks:"
    assert lines[1] == "  numbers are read: numbers: gamma: declared, and read by nothing"
    assert lines[2].startswith("  mean over the batch: disc: got ")


@pytest.mark.parametrize("part", ["hinge", networks.Discriminator, 3, None, lambda x: x])
def test_what_is_no_part(part):
    with pytest.raises(ValueError, match=r"part: got .*; allowed: a Loss, Penalty, Rule, "):
        check(part)


# ---- parts that are wrong in one way


def failure(part, check_name: str, **context) -> str:
    """Why a part fails the one check that it does fail."""
    report = check(part, raises=False, **context)
    assert [one.name for one in report.failures] == [check_name], report
    return report.failures[0].detail


def mean(x):
    return jnp.mean(x)


def loss(disc=None, gen=None, **fields) -> gandyn.Loss:
    plain = LOSSES["wasserstein"]
    return gandyn.Loss("mine", disc=disc or plain.disc, gen=gen or plain.gen, **fields)


GAMMA = {"gamma": gandyn.Number(0.5, low=0)}


@pytest.mark.parametrize(
    ("part", "name", "message"),
    [
        (loss(disc=lambda r, f, n: f - r), "values", r"disc: got float32 of shape (8,); allowed: one float32 number"),
        (loss(gen=lambda r, f, n: mean(jnp.log(f))), "values", "gen: got NaN or infinity; allowed: finite numbers"),
        (loss(gen=lambda r, f, n: -jnp.sum(f)), "mean over the batch", "of the same samples twice; allowed: a mean"),
        (
            loss(gen=lambda r, f, n: -mean(jnp.where(f > 0, jnp.sqrt(f), 0 * f))),
            "gradients",
            "gradient of gen: got NaN or infinity",
        ),
        (
            loss(gen=lambda r, f, n: -mean(f * jax.lax.stop_gradient(f))),
            "gradients",
            "gradient of gen: got another one than finite differences",
        ),
        (loss(numbers=GAMMA), "numbers are read", "numbers: gamma: declared, and read by nothing"),
        (
            loss(disc=lambda r, f, n: mean(f) - mean(r) if n.gamma > 0 else mean(f), numbers=GAMMA),
            "values",
            "disc asks for the value",
        ),
        (
            loss(disc=lambda r, f, n: mean(jax.nn.softplus(f - mean(r))) + mean(f)),
            "truth",
            "what is meant so says couples=True or pairs=True",
        ),
        (
            loss(disc=lambda r, f, n: mean(jax.nn.softplus(-r) + jax.nn.softplus(f)), equilibrium=lambda n: -1.0),
            "truth",
            "equilibrium: -1, where -disc at D's best output for q = p is -1.386",
        ),
        (loss(disc=lambda r, f, n: mean(r**2) + mean(f), pairs=True), "truth", "pairs: disc changes when a constant"),
        (loss(gen=lambda r, f, n: -3 * mean(f), slope_bound=1.0), "truth", "slope_bound: 1, where "),
    ],
)
@pytest.mark.quick(2)
def test_broken_losses(part, name, message):
    assert message.replace("disc asks", "asks") in failure(part, name, play=False)


def test_a_loss_that_branches_on_a_number():
    """The commonest slip: a sweep over the number would be a program for each value, or none at all."""

    def disc(real, fake, numbers):
        return mean(fake) - mean(real) if float(numbers.gamma) > 0 else mean(fake)

    detail = failure(loss(disc=disc, numbers=GAMMA), "values", play=False)
    assert "asks for the value of what is traced (an `if`, a `float(...)`)" in detail
    assert "test_testing.py, line" in detail


def push(**fields) -> gandyn.Penalty:
    plain = dict(term=lambda at, numbers: numbers.gamma * mean(at.fake_logits**2), numbers=GAMMA)
    return gandyn.Penalty("push", **{**plain, **fields})


@pytest.mark.parametrize(
    ("part", "name", "message"),
    [
        (push(term=lambda at, n: n.gamma * at.fake_logits), "values", "term: got float32 of shape (8,)"),
        (
            push(term=lambda at, n: 0.0 * mean(at.fake_logits)),
            "numbers are read",
            "gamma: declared, and read by nothing",
        ),
        (
            push(init=lambda: jnp.zeros(()), remember=lambda at, n: jnp.stack([at.memory, n.gamma])),
            "memory keeps its form",
            "remember: got float32[2] after a step, float32[] before it",
        ),
        (
            push(init=lambda: jnp.zeros((), jnp.int32), remember=lambda at, n: at.memory + 0.5),
            "memory keeps its form",
            "remember: got float32[] after a step, int32[] before it",
        ),
        (push(term=None, project=lambda p, n: [n.gamma * p["kernel"]]), "values", "project: got [float32[2,3]] after"),
    ],
)
def test_broken_penalties(part, name, message):
    assert message in failure(part, name, play=False)


def test_a_rule_whose_memory_grows():
    def step(game, state, key):
        return RULES["simultaneous"].step(game, state, key).replace(memory=jnp.append(state.memory, 1.0))

    rule = gandyn.Rule("grows", step, init=lambda game, params: jnp.zeros(3))
    assert "memory: got float32[4] after a step, float32[3] before it" in failure(rule, "state keeps its form")


@pytest.mark.slow
def test_a_rule_that_counts_steps_itself():
    def step(game, state, key):
        return RULES["simultaneous"].step(game, state, key).replace(step=state.step + 1)

    assert "step: got [6, 6] after 3 steps" in failure(gandyn.Rule("counts", step), "players move")


@pytest.mark.slow
def test_a_rule_that_draws_from_outside():
    """NumPy's dice fall once, when the program is traced: a step alone is then another one."""
    dice = np.random.default_rng(0)

    def step(game, state, key):
        state = RULES["simultaneous"].step(game, state, key)
        return state.replace(params=jax.tree.map(lambda leaf: leaf + dice.normal(), state.params))

    report = check(gandyn.Rule("dice", step), raises=False)
    assert {"jit and vmap", "fingerprint"} <= {one.name for one in report.failures}


def test_an_optimizer_that_goes_uphill():
    import optax

    uphill = gandyn.Optimizer("uphill", lambda lr: optax.scale(lr))
    assert "of |w| is left" in failure(uphill, "descends", play=False)


class Wrong(nn.Module):
    """D: points (B, 2) -> logits (B,), if it is right."""

    how: str = ""
    couples = False

    @nn.compact
    def __call__(self, x):
        if self.how == "NaN":
            x = jnp.log(-jnp.abs(x))
        if self.how == "coupled":
            x = x - jnp.mean(x, axis=0, keepdims=True)
        h = nn.Dense(4)(x)
        if self.how == "stopped":
            h = jax.lax.stop_gradient(h)
        out = nn.Dense(1)(jnp.tanh(h))
        return out if self.how == "shape" else out[:, 0]

    def lipschitz(self, variables):
        """Of a D that is said to be flat."""
        return jnp.asarray(0.0 if self.how == "flat" else jnp.inf)


@pytest.mark.parametrize(
    ("how", "name", "message"),
    [
        ("shape", "output", "disc: Wrong returned shape (B, 1); allowed: (B,), one output a sample"),
        ("NaN", "output", "output: got NaN or infinity"),
        ("coupled", "couples", "depends on another sample of the batch, which `couples` denies"),
        ("stopped", "gradients", "gradient of the output in the parameters: got another one than finite differences"),
        ("flat", "lipschitz", "lipschitz: got a bound of 0, where D's gradient has a norm of "),
    ],
)
@pytest.mark.quick(2)
def test_broken_networks(how, name, message):
    assert message in failure(Wrong(how), name, play=False)


@pytest.mark.slow
def test_a_module_is_taken_for_what_it_makes():
    assert "as D: (2,) -> ()" in str(check(Wrong(), play=False))
    assert "as G: (2,) -> (2,)" in str(check(networks.VirtualBatchNormGenerator(width=4, num_reference=8), play=False))
    with pytest.raises(
        AssertionError, match=r"gen: Wrong returned shape \(B,\); allowed: \(B, 2\), one point a latent"
    ):
        check(Wrong(), player="gen", play=False)


def spread(**fields) -> gandyn.Measurement:
    told = {"long_name": "std of G's samples", "units": "1"}
    plain = dict(metrics={"spread": told}, compute=lambda view, key: {"spread": jnp.std(view.fake)}, reads="networks")
    return gandyn.Measurement("spread", **{**plain, **fields})


@pytest.mark.parametrize(
    ("part", "name", "message"),
    [
        (
            spread(compute=lambda view, key: {"spread": jnp.std(view.fake), "mean": jnp.mean(view.fake)}),
            "returns what it declares",
            "measurement 'spread': mean: computed, but not declared",
        ),
        (
            spread(compute=lambda view, key: {"spread": jnp.std(view.fake, axis=0)}),
            "returns what it declares",
            "spread: got shape (2,); allowed: (), as declared",
        ),
        (spread(metrics={"spread": {"units": "1"}}), "attributes", "with long_name, a text"),
        (spread(compute=lambda view, key: {"spread": jnp.log(-jnp.std(view.fake))}), "finite", "spread: got NaN"),
    ],
)
@pytest.mark.quick(2)
def test_broken_measurements(part, name, message):
    assert message in failure(part, name, play=False)


@pytest.mark.slow
def test_a_measurement_that_reads_more_than_it_says():
    part = spread(compute=lambda view, key: {"spread": jnp.float32(len(view.game.hparams.as_dict()))})
    assert "reads: got 'networks'; allowed: 'all'" in failure(part, "moves no other", penalties=("r1",))


@functools.partial(jax.tree_util.register_dataclass, data_fields=["half"], meta_fields=["wrong"])
@dataclasses.dataclass(frozen=True)
class Square:
    """Uniform on a square, if it is right."""

    half: Any = dataclasses.field(default_factory=lambda: np.float32(1.5))
    wrong: str = ""
    event_shape = (2,)
    num_uniforms = 2

    def transform(self, uniform):
        return self.half * (2 * (uniform**2 if self.wrong == "samples" else uniform) - 1)

    def sample(self, key, num):
        return self.transform(jax.random.uniform(key, (num, 2), minval=1e-6))

    def log_prob(self, x):
        inside = jnp.all(jnp.abs(x) <= self.half, axis=-1)
        log_area = jnp.log(2 * self.half) * (1 if self.wrong == "mass" else 2)
        return jnp.where(inside, -log_area, -jnp.inf)

    def box(self):
        return np.zeros(2, np.float32), np.float32(0.5 if self.wrong == "box" else 2) * self.half

    def scale(self):
        return self.half


@pytest.mark.parametrize(
    ("wrong", "names", "message"),
    [
        ("", [], ""),
        (
            "mass",
            ["integrates to one", "samples match log_prob"],
            "a density that integrates to 3 on its box; allowed: 1",
        ),
        ("samples", ["samples match log_prob"], "of the samples in the cell from "),
        (
            "box",
            ["box holds the mass", "integrates to one"],
            "box: got one that holds 0.2489 of the samples; allowed: 0.999",
        ),
    ],
)
@pytest.mark.quick(1)
def test_broken_targets(wrong, names, message):
    report = check(Square(wrong=wrong), play=False, raises=False)
    assert [one.name for one in report.failures] == names
    assert message in "".join(one.detail for one in report.failures[:1])


def test_a_target_that_lacks_something():
    class Half:
        event_shape = (2,)
        num_uniforms = 2

        def transform(self, uniform):
            return uniform

    detail = check(Half(), play=False, raises=False).failures[0].detail
    assert "without sample, log_prob, box, scale; allowed: one of gandyn.targets, or an object with" in detail
