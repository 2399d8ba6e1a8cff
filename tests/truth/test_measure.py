"""What is measured of packs, classes, noisy games, minibatch layers and averages, against closed forms.

An affine G of Gaussian noise makes q exactly Gaussian. Known values, N(0, I) against N(d, I): JSD and logistic optimum.
"""

import dataclasses
import functools
import math
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from measuring import AFFINE, IDENTITY, NORMAL, affine, measured, state_of

from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import Game, make_game
from gandyn.gan.losses import LOSSES
from gandyn.gan.number import HParams
from gandyn.gan.state import State
from gandyn.truth import measure
from gandyn.truth.measure import MeasureConfig, cheap

JSD = {0.5: 0.030311, 1.0: 0.111421, 2.0: 0.336831}
LOGISTIC = {0.5: -1.325672, 1.0: -1.163451, 2.0: -0.712633}
MEASURE = MeasureConfig(keep_surface=2)
# The error of the default setting on these, docs/truth.md: 1.2e-3 at most, plus what a t interval allows.
TOLERANCE = 2e-3


def of_normal(**fields: Any) -> Game:
    """The game of affine players and the standard normal."""
    return make_game(NORMAL, dataclasses.replace(AFFINE, **fields))


def metrics_of(game: Game, state: State, options: MeasureConfig = MEASURE) -> dict[str, float]:
    return measured(game, state, options)[0]


@pytest.mark.parametrize(("loss", "threshold"), [("minimax", 0.0), ("least_squares", 0.5), ("wasserstein", math.nan)])
def test_accuracy_is_counted_on_the_outputs_that_the_value_has(loss, threshold):
    """Three of four real samples and one of two fakes told right; one on the threshold is half right."""
    real, fake = [[1.0, 2, 3, -1], [1, 2, 3, -1]], [[-1.0, 1, 0, 0], [-2, 2, 0, 0]]
    logits = jnp.asarray([real, fake]) + (0 if math.isnan(threshold) else threshold)
    game = types.SimpleNamespace(hparams=LOSSES[loss].defaults)
    view: Any = types.SimpleNamespace(logits=logits, game=game, by_loss=lambda of: of(LOSSES[loss]))
    got = cheap._accuracy(view)
    want = dict.fromkeys(got, math.nan)
    if loss != "wasserstein":
        rounding = 1 / (4 * math.sqrt(12))
        want = {"accuracy": 0.625, "accuracy_se": rounding, "accuracy_on_real": 0.75, "accuracy_on_fake": 0.5}
    assert {name: float(x) for name, x in got.items()} == pytest.approx(want, nan_ok=True)


ACCURACY = {"loss": "non_saturating"}, {"loss": "least_squares"}, {"loss": "hinge"}, {"packing": 2}


@pytest.mark.slow
@pytest.mark.parametrize("fields", ACCURACY)
def test_accuracy(fields):
    """A linear D at the middle between two unit normals tells Phi(d / 2) right, and nobody tells more."""
    d, game = 1.0, of_normal(**fields)
    m = game.config.packing
    threshold = 0.5 if game.config.loss == "least_squares" else 0.0
    best = 0.5 + math.erf(d * math.sqrt(m / 8)) / 2

    def of(weights: float, bias: float) -> dict[str, float]:
        disc = affine(np.tile([[weights], [0]], (m, 1)), [bias + threshold])
        return metrics_of(game, state_of(game, affine(IDENTITY, [d, 0]), disc))

    right = of(-d, m * d * d / 2)
    assert right["accuracy"] == pytest.approx(best, abs=3.5 * right["accuracy_se"])
    assert right["accuracy_best"] == pytest.approx(best, abs=TOLERANCE + 3.5 * right["accuracy_best_se"])
    assert right["accuracy_best"] >= right["accuracy"] - right["accuracy_se"]
    assert right["accuracy_on_real"] == pytest.approx(best, abs=0.02)
    # What 50 % hides: a D that knows nothing, and one that calls everything real. The best one stays.
    for bias, on_real in ((0.0, 0.5), (9.0, 1.0)):
        blind = of(0.0, bias)
        assert blind["accuracy"] == 0.5
        assert (blind["accuracy_on_real"], blind["accuracy_on_fake"]) == (on_real, 1 - on_real)
        assert blind["accuracy_best"] == pytest.approx(best, abs=m * TOLERANCE + 3.5 * blind["accuracy_best_se"])


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["wasserstein", "relativistic"])
def test_no_accuracy_without_a_threshold(loss):
    game = of_normal(loss=loss)
    got = metrics_of(game, state_of(game, affine(IDENTITY, [1, 0]), affine([[-1], [0]], [0.5])))
    assert all(math.isnan(got[name]) for name in ("accuracy", "accuracy_se", "accuracy_on_real", "accuracy_on_fake"))
    assert got["accuracy_best"] == pytest.approx(0.5 + math.erf(1 / math.sqrt(8)) / 2, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("m", "d", "joint"), [(4, 0.5, 1.0), (4, 1.0, 2.0)])
def test_packs(m, d, joint):
    """m independent samples, each d away: as one sample d sqrt(m) away. The JSD stays that of single samples."""
    game = of_normal(packing=m)
    # D is the optimal logit of the pack: the sum of those of its samples.
    disc = affine(np.tile([[-d], [0]], (m, 1)), [m * d * d / 2])
    got = metrics_of(game, state_of(game, affine(IDENTITY, [d, 0]), disc))
    assert got["value"] == pytest.approx(LOGISTIC[joint], abs=3.5 * got["value_se"])
    assert got["value_best"] == pytest.approx(LOGISTIC[joint], abs=TOLERANCE + 3 * got["value_best_se"])
    assert got["jsd"] == pytest.approx(JSD[d], abs=TOLERANCE)
    worse = metrics_of(game, state_of(game, affine(IDENTITY, [d, 0]), affine(np.zeros((2 * m, 1)), [0])))
    assert worse["value"] == pytest.approx(-2 * np.log(2), abs=1e-6)
    # Without D's help the candidates are the sum of estimated ratios alone.
    assert worse["value_best"] == pytest.approx(LOGISTIC[joint], abs=2 * m * TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["constant", "annealed"])
def test_noise(kind):
    """Noise of variance 3 on both sides of N(0, I), N((2, 0), I): one std apart. The JSD is without it."""
    numbers = {"noise_std": np.sqrt(3)} | ({"noise_steps": 10} if kind == "annealed" else {})
    game = make_game(NORMAL, dataclasses.replace(AFFINE, instance_noise=kind), HParams(**numbers))
    state = state_of(game, affine(IDENTITY, [2.0, 0]), affine(np.zeros((2, 1)), [0]))
    got = metrics_of(game, state)
    assert got["value_best"] == pytest.approx(LOGISTIC[1.0], abs=TOLERANCE + 3 * got["value_best_se"])
    assert got["jsd"] == pytest.approx(JSD[2.0], abs=TOLERANCE)
    if kind == "annealed":
        gone = metrics_of(game, state.replace(step=jnp.asarray(10)))
        assert gone["value_best"] == pytest.approx(LOGISTIC[2.0], abs=TOLERANCE + 3 * gone["value_best_se"])


@pytest.mark.slow
class TestClasses:
    """Two modes, one a class, so near that without labels they would overlap; G has each of them d to the side."""

    PLACES = np.array([[0.0, 0.0], [0.0, 1.0]])
    TARGET = targets.mixture(PLACES, 1.0)
    GAME = make_game(TARGET, dataclasses.replace(AFFINE, num_classes=2))

    def state(self, d, places=PLACES) -> State:
        gen = affine(np.concatenate([IDENTITY, places + [d, 0]]), [0, 0])
        return state_of(self.GAME, gen, affine(np.zeros((4, 1)), [0]))

    @pytest.mark.parametrize("d", [0.5, 1.0, 2.0])
    def test_divergence_is_of_points_and_labels_jointly(self, d):
        got = metrics_of(self.GAME, self.state(d))
        assert got["value_best"] == pytest.approx(LOGISTIC[d], abs=TOLERANCE + 3 * got["value_best_se"])
        assert got["jsd"] == pytest.approx(JSD[d], abs=TOLERANCE)

    def test_swapped_classes_are_seen(self):
        """The points alone are distributed as the target; with their labels they are one std apart."""
        got = metrics_of(self.GAME, self.state(0.0, self.PLACES[::-1]))
        assert got["jsd"] == pytest.approx(JSD[1.0], abs=TOLERANCE)

    @pytest.mark.slow
    def test_coverage_of_each_class(self):
        target = targets.ring(8, 1.0, 0.02)
        game = make_game(target, dataclasses.replace(AFFINE, num_classes=4))
        places = np.array(target.means)[:4]
        places[3] = 5.0
        gen = affine(np.concatenate([0.02 * IDENTITY, places]), [0, 0])
        got = metrics_of(game, state_of(game, gen))
        assert [got[f"modes_class_{label}"] for label in range(4)] == [1, 1, 1, 0]
        assert got["modes"] == 3
        # Far out, the nearest mode is that on the diagonal, of class 1.
        assert got["label_accuracy"] == pytest.approx(0.75, abs=5 * np.sqrt(0.75 * 0.25 / 2500))


@pytest.mark.parametrize(
    ("loss", "numbers"),
    [
        ("relativistic_least_squares", {}),
        ("relativistic_average_least_squares", {}),
        ("minimax", {"label_smoothing": 0.2}),
        ("alpha", {"alpha_disc": 3.0}),
        ("least_squares", {"label_real": 2.0, "label_fake": -1.0}),
        ("f_kl", {}),
        ("f_reverse_kl", {}),
        ("f_hellinger", {}),
        ("f_js", {}),
    ],
)
@pytest.mark.quick(1)
def test_best_value_of_every_formula(loss, numbers):
    """Against quadrature in one dimension, d = 1."""
    game = make_game(NORMAL, dataclasses.replace(AFFINE, loss=loss), HParams(**numbers))
    got = metrics_of(game, state_of(game, affine(IDENTITY, [1.0, 0]), affine(np.zeros((2, 1)), [0])))
    x = np.linspace(-9, 10, 40_001)
    p, q = (np.exp(-0.5 * (x - mean) ** 2) / np.sqrt(2 * np.pi) * (x[1] - x[0]) for mean in (0, 1))
    overlap = np.sum(p * q / (p + q))
    s = 2 - 4 * overlap
    e, a = numbers.get("label_smoothing"), numbers.get("alpha_disc")
    want = {
        "relativistic_least_squares": lambda: (s - 2) / (s + 2),
        "relativistic_average_least_squares": lambda: 2 * (s - 2) / (3 * s + 2),
        "minimax": lambda: np.sum(
            p * ((1 - e) * np.log((1 - e) * p / (p + q)) + e * np.log((e * p + q) / (p + q)))
            + q * np.log((e * p + q) / (p + q))
        ),
        "alpha": lambda: a / (a - 1) * (np.sum((p**a + q**a) ** (1 / a)) - 2),
        "least_squares": lambda: -9 / 2 * overlap,
        "f_kl": lambda: 0.5,
        "f_reverse_kl": lambda: 0.5,
        "f_hellinger": lambda: -2 * np.expm1(-1 / 8),
        "f_js": lambda: 2 * JSD[1.0],
    }[loss]()
    scale = max(1, abs(want))
    assert got["value_best"] == pytest.approx(want, abs=3 * TOLERANCE * scale + 3 * got["value_best_se"])
    assert got["value_best_low"] <= want <= got["value_best_high"]
    # D = 0 is measured by the loss itself, with its numbers.
    want = -float(LOSSES[loss].disc(jnp.zeros(1), jnp.zeros(1), game.hparams))
    assert got["value"] == pytest.approx(want, abs=1e-5)


class TestMinibatchLayers:
    @pytest.mark.slow
    @pytest.mark.parametrize("layer", ["stddev", "discrimination"])
    def test_value_is_that_of_fresh_minibatches(self, layer):
        """E over minibatches of the training size, against 2,000 of them; G is collapsed, which such a D sees."""
        config = Config(gen_depth=0, disc_width=8, disc_depth=1, minibatch_layer=layer, batch_size=32)
        game = make_game(NORMAL, config)
        state = state_of(game, affine(0.3 * IDENTITY, [0.0, 0]))
        got = metrics_of(game, state, MeasureConfig())

        @jax.jit
        def losses(keys):
            def one(key):
                return game.disc_objective(state.params, state.stats, game.draw(state, key))[0]

            return jax.lax.map(one, keys)

        values = -np.asarray(losses(jax.random.split(jax.random.key(9), 2000)), np.float64)
        error = np.hypot(values.std() / np.sqrt(2000), got["value_se"])
        assert abs(got["value"] - values.mean()) < 4 * error
        assert 0.3 < got["value_se"] / (values.std() / np.sqrt(8 * 32)) < 3  # 256 batches of 32 nodes

    @pytest.mark.slow
    def test_no_surface(self):
        with pytest.raises(ValueError, match="keep_surface: got 2; allowed where D's output at a point depends on"):
            measure.check(make_game(NORMAL, Config(minibatch_layer="stddev")), MEASURE)


class TestAverage:
    @staticmethod
    @functools.cache
    def found(d, d_average):
        game = of_normal(gen_average="ema")
        state = state_of(game, affine(IDENTITY, [d, 0]))
        return metrics_of(game, state.replace(average=affine(IDENTITY, [d_average, 0])))

    @pytest.mark.slow
    def test_it_is_measured_beside_g(self):
        got = self.found(2.0, 1.0)
        assert got["jsd"] == pytest.approx(JSD[2.0], abs=TOLERANCE)
        assert got["jsd_average"] == pytest.approx(JSD[1.0], abs=TOLERANCE)
        assert got["high_quality_average"] > got["high_quality"]

    @pytest.mark.slow
    def test_where_both_agree_their_numbers_are_the_same(self):
        got = self.found(1.0, 1.0)
        for name in ("jsd", "modes", "high_quality", "mode_tv", "reverse_kl"):
            assert got[name] == got[name + "_average"]
        assert got["jsd_se"] == got["jsd_average_se"]


def test_other_runs_have_no_such_metrics():
    def recorded(**fields):
        return set(measure.metrics_of(measure.plan_of(MEASURE, False), of_normal(**fields)))

    plain = recorded()
    assert not [name for name in plain if "average" in name or "class" in name or "label" in name]
    averaged = {"jsd_average", "jsd_average_se", "jsd_average_low", "jsd_average_high"}
    averaged |= {f"{name}_average" for name in ("modes", "high_quality", "mode_tv", "reverse_kl")}
    for kind in ("ema", "uniform"):
        assert recorded(gen_average=kind) - plain == averaged
    target = targets.ring(4)
    plan = measure.plan_of(MEASURE, False)
    both = set(measure.metrics_of(plan, make_game(target, dataclasses.replace(AFFINE, num_classes=3))))
    assert both - plain == {"label_accuracy", "modes_class_0", "modes_class_1", "modes_class_2"}


@pytest.mark.slow
def test_surface_of_packs_is_at_packs_of_one_point():
    game = of_normal(packing=4)
    state = state_of(game, affine(IDENTITY, [0, 0]), affine([[1], [10]] * 4, [0.5]))
    surface = measured(game, state, MEASURE)[1]["surface"]
    np.testing.assert_allclose(surface, 0.5 + 4 * np.array([[-66, -54], [54, 66]]), rtol=1e-5)
