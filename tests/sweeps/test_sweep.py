"""Settings, labels, seeds and compile groups."""

import functools
import itertools
import runpy
import textwrap
from typing import Any

import haste
import jax
import numpy as np
import pytest

import gandyn
from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import make_game
from gandyn.gan.number import HParams
from gandyn.gan.state import Stream
from gandyn.gan.step import init
from gandyn.sweeps import sweep
from gandyn.sweeps.sweep import Setting, Sweep
from gandyn.truth.measure import MeasureConfig

RING = targets.ring()


def labels(settings) -> list[str]:
    return [setting.recipe for setting in settings]


# ---- settings from objects


def test_one_setting_takes_its_label_from_loss_and_penalty():
    (setting,) = sweep.make_settings(RING, Config(loss="wasserstein", penalties=("clip",)), HParams())
    assert setting.recipe == "wasserstein + clip"


def test_labels_name_what_varies_only_where_loss_and_penalty_do_not_tell():
    told = sweep.make_settings(RING, [Config(loss="hinge"), Config(loss="minimax")], [HParams(lr_gen=1.0), HParams()])
    assert labels(told) == ["hinge", "minimax"]
    rates = sweep.make_settings(RING, Config(), [HParams(lr_gen=0.1), HParams(lr_gen=0.2)])
    assert labels(rates) == ["non_saturating, lr_gen=0.1", "non_saturating, lr_gen=0.2"]
    kinds = sweep.make_settings([targets.ring(8), targets.random(8)], Config(), HParams())
    assert labels(kinds) == ["non_saturating, target=ring", "non_saturating, target=random, layout_seed=0"]
    mixtures = [targets.mixture([[0, 0], [x, 0]], 0.1) for x in (1, 2)]
    assert labels(sweep.make_settings(mixtures, Config(), HParams())) == ["non_saturating (1)", "non_saturating (2)"]


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ValueError, match=r"config: got a list of 2; allowed beside a list of 3: one, or 3"):
        sweep.make_settings(RING, [Config(), Config(loss="hinge")], [HParams()] * 3)
    with pytest.raises(ValueError, match=r"config: got 'hinge'; allowed: a Config or a list"):
        sweep.make_settings(RING, "hinge", HParams())  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="distinct labels"):
        sweep.make_settings(RING, [Config(), Config()], HParams(), recipes=["a", "a"])


# ---- grids


def test_the_last_field_of_a_product_varies_fastest():
    cells = sweep.product(loss=["hinge", "minimax"], lr_gen=np.array([0.1, 0.2]), gen_width=range(1, 3))
    assert [tuple(cell.values()) for cell in cells] == list(itertools.product(["hinge", "minimax"], [0.1, 0.2], [1, 2]))
    assert list(cells[0]) == ["loss", "lr_gen", "gen_width"]


def test_a_zip_goes_through_its_lists_together():
    assert sweep.zipped(lr_gen=[1, 2], lr_disc=[3, 4]) == [{"lr_gen": 1, "lr_disc": 3}, {"lr_gen": 2, "lr_disc": 4}]


class TestExpand:
    def test_the_last_grid_varies_fastest_on_top_of_shared_fields(self):
        made = sweep.expand(
            {"lr_gen": 0.5, "lr_disc": 0.25, "std": 0.5},
            sweep.product(loss=["hinge", "minimax"]),
            sweep.zipped(lr_gen=[0.1, 0.2], gen_width=[8, 16]),
        )
        assert [(s.config.loss, s.config.gen_width, s.hparams.lr_gen) for s in made] == [
            ("hinge", 8, 0.1), ("hinge", 16, 0.2), ("minimax", 8, 0.1), ("minimax", 16, 0.2)
        ]  # fmt: skip
        assert {setting.hparams.lr_disc for setting in made} == {0.25}
        assert labels(made)[:2] == ["hinge, lr_gen=0.1, gen_width=8", "hinge, lr_gen=0.2, gen_width=16"]

    def test_parts_that_settings_share_are_made_once(self):
        grid = sweep.product(loss=["hinge", "minimax"], lr_gen=[0.1, 0.2], std=[0.1, 0.2, 0.3])
        made: list[Any] = sweep.expand({}, grid)
        assert len({id(setting.target) for setting in made}) == 3
        assert len({id(setting.config) for setting in made}) == 2
        # Which numbers there are depends on the config: minimax smooths labels.
        assert len({id(setting.hparams) for setting in made}) == 2 * 2
        assert [float(setting.target.stds[0]) for setting in made[:3]] == pytest.approx([0.1, 0.2, 0.3])

    def test_arrays_that_numpy_would_print_alike_are_told_apart(self):
        weights = np.ones((2, 1_024))
        weights[1, 500] = 2
        made: list[Any] = sweep.expand({"num_modes": 1_024}, sweep.product(weights=list(weights)))
        assert made[1].target.weights[500] > 1.9 * made[0].target.weights[500]

    def test_labels_of_recipes(self):
        entries = [{"recipe": "own", "lr_gen": 1.0}, {"loss": "hinge"}, {}, {"recipe": "", "penalties": ("r1",)}]
        assert labels(sweep.expand({}, entries)) == ["own", "hinge", "non_saturating", "r1"]
        assert labels(sweep.expand({"loss": "minimax"})) == ["minimax"]

    def test_labels_have_the_digits_that_tell_values_apart(self):
        made = sweep.expand({}, sweep.product(lr_gen=[0.001, 0.12345678, 0.12345679, 1e-7]))
        assert labels(made) == ["lr_gen=0.001", "lr_gen=0.12345678", "lr_gen=0.12345679", "lr_gen=1e-07"]

    def test_numbers_behind_labels_meet_no_other_label(self):
        long = [[1.0] * 40 + [weight] for weight in (1.0, 2.0)]
        made = labels(sweep.expand({"num_modes": 41}, sweep.product(weights=long)))
        assert made[0][:-4] == made[1][:-4]
        assert [label[-4:] for label in made] == [" (1)", " (2)"]
        assert sweep._distinct(["a", "a (1)", "a", "b"]) == ["a (2)", "a (1)", "a (3)", "b"]

    @pytest.mark.parametrize(
        ("grids", "message"),
        [
            (lambda: [sweep.product()], "product: got no field; allowed: at least one field"),
            (lambda: [sweep.product(loss="hinge")], "product: loss: got 'hinge'; allowed: a list of values"),
            (lambda: [sweep.product(**{"lo s": ["hinge"]})], "product: unknown key 'lo s' (did you mean 'loss'?)"),
            # Which numbers there are is known only once the parts are chosen.
            (
                lambda: [sweep.product(los=["hinge"])],
                "los: got 'hinge', and nothing chosen reads it (did you mean 'loss'?); allowed here: lr_gen",
            ),
            (lambda: [[{"lr_gne": 0.1}]], "lr_gne: got 0.1, and nothing chosen reads it (did you mean 'lr_gen'?)"),
            (
                lambda: [[{"loss": "hinge"}, {"clip_bound": 0.1}]],
                "clip_bound: got 0.1, and nothing chosen reads it; it is read by penalty clip",
            ),
            (lambda: [sweep.product(lr_gen=[0.1, 0.1])], "product: lr_gen: got 0.1 twice; allowed: distinct values"),
            (lambda: [sweep.product(lr_gen=[])], "product: lr_gen: got []; allowed: a list of values, at least one"),
            (lambda: [sweep.zipped(lr_gen=[1, 1], std=[2, 2])], "zip: lr_gen, std: got [1, 2] twice"),
            (
                lambda: [sweep.product(lr_gen=range(1_000), lr_disc=range(101))],
                "product: got 101,000 cells; allowed: at most 100,000",
            ),
            (
                lambda: [sweep.product(lr_gen=range(1_000)), sweep.product(lr_disc=range(101))],
                "sweep: got 101,000 settings; allowed: at most 100,000",
            ),
            (lambda: [[{"std": 1}], [{"std": 2}]], "std: varies in two grids; allowed: in one"),
            (lambda: [[{"recipe": "a"}, {"recipe": "a"}]], "recipe: got 'a' twice; allowed: distinct values"),
            (
                lambda: [sweep.product(lr_gen=[0.1, -1])],
                "lr_gen: got -1.0; allowed: at least 0, finite (in the setting lr_gen=-1)",
            ),
            (lambda: [sweep.product(loss=["a\nb"])], "loss: got 'a\\nb'; allowed: minimax"),
        ],
    )
    def test_refusals(self, grids, message):
        with pytest.raises(ValueError) as caught:
            sweep.expand({}, *grids())
        assert str(caught.value).startswith(message)
        assert str(caught.value).isprintable()


def test_the_example_of_the_module_runs(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(gandyn, "run_sweep", lambda sweep_, out: ran.append((sweep_, out)))
    example = str(sweep.__doc__).partition("run file:\n\n")[2]
    file = tmp_path / "example.py"
    file.write_text("import gandyn\nfrom gandyn import sweep\n" + textwrap.dedent(example))
    runpy.run_path(str(file))
    ((planned, out),) = ran
    assert len(planned.settings) == 2 * 2 * 2
    assert len(planned.seeds) == 64
    assert out == "runs/grid"


# ---- sweeps


class TestSweep:
    SETTINGS = sweep.make_settings(RING, [Config(), Config(loss="hinge")], HParams())

    def test_steps_that_are_measured(self):
        planned = Sweep(self.SETTINGS, [0], 10, 4, 8)
        assert planned.steps == [0, 4, 8, 10]
        assert planned.deep_steps == [0, 8, 10]
        assert planned.measured.deep == MeasureConfig().deep
        cheap = Sweep(self.SETTINGS, [0], 10, 4)
        assert cheap.deep_steps == []
        assert cheap.measured.deep == ()

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"num_steps": 0}, "num_steps: got 0; allowed: a whole number of at least 1"),
            ({"num_steps": 2**31}, "num_steps: got 2,147,483,648; allowed: at most 2,147,483,647"),
            (
                {"num_steps": 2**30, "measure_every": 1},
                "measure_every: got 1 with num_steps=1,073,741,824; allowed: at",
            ),
            ({"deep_every": 150}, "deep_every: got 150; allowed: a multiple of measure_every, 100"),
            ({"seeds": range(10**6)}, "runs: got 2 settings x 1,000,000 seeds = 2,000,000; allowed: at most 1,000,000"),
            ({"settings": []}, "recipes: got none; allowed: distinct labels, at least one"),
            ({"settings": ["hinge"]}, "settings: got ['hinge']; allowed: a list of Setting"),
            ({"settings": [SETTINGS[0], SETTINGS[0]]}, "recipes: got ['non_saturating']; allowed: distinct labels"),
            (
                {"settings": [SETTINGS[0]._replace(recipe="")]},
                "recipe: got ''; allowed: a text of at least one character",
            ),
            (
                {"settings": [Setting("a", RING, Config(), HParams(lr_gen=[0.1, 0.2]))]},  # pyright: ignore
                "lr_gen: got [0.1, 0.2]; allowed: a number",
            ),
            (
                {
                    "settings": [
                        Setting("a", targets.GaussianMixture(RING.means, RING.stds, 2 * RING.weights), *SETTINGS[0][2:])
                    ]
                },
                "weights: got [0.25, 0.25",
            ),
        ],
    )
    def test_refusals(self, fields, message):
        with pytest.raises(ValueError) as caught:
            Sweep(**{"settings": self.SETTINGS} | fields)
        assert str(caught.value).startswith(message)


class TestCommonRandomNumbers:
    """Runs of one seed differ in what their settings say alone."""

    @staticmethod
    def start(seed: int = 3, **fields: Any):
        """The state before training, and the minibatch of some key of the run."""
        small = {"gen_net": "affine", "disc_depth": 1, "disc_width": 8, "batch_size": 16, "dataset_size": 32}
        (setting,) = sweep.expand(small | fields)
        game = make_game(*setting[1:])
        return start_of(setting.config)(game, jax.random.key(seed, impl="threefry2x32"))

    @staticmethod
    def same(one, other) -> bool:
        pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
        return all(np.array_equal(a, b) for a, b in pairs)

    def test_whatever_the_loss_the_penalty_and_the_numbers(self):
        state, batch = self.start()
        rates: dict[str, Any] = {"lr_gen": 0.5, "lr_disc": 0.1}
        rules = {"loss": "wasserstein", "penalties": ("wgan_gp",), "rule": "simultaneous", "gen_optimizer": "sgd"}
        for fields in (rates | {"beta1_gen": 0.9}, rates | rules):
            other_state, other_batch = self.start(3, **fields)
            assert self.same(state.params, other_state.params)
            assert self.same(state.data, other_state.data)
            assert self.same(batch, other_batch)

    def test_of_what_has_one_shape(self):
        state, batch = self.start()
        wider, wider_batch = self.start(disc_width=16)
        assert self.same(state.params.gen, wider.params.gen)
        assert self.same(state.data, wider.data)
        assert self.same(batch, wider_batch)

    def test_other_seeds_are_others(self):
        state, batch = self.start()
        other, other_batch = self.start(seed=4)
        for one, another in ((state.params, other.params), (state.data, other.data), (batch, other_batch)):
            assert not self.same(one, another)


@functools.cache
def start_of(config: Config):
    def start(game, key):
        state = init(game, key)
        return state, game.draw(state.replace(data=None), jax.random.fold_in(key, Stream.TRAIN))

    return haste.jit(start)


# ---- seeds


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([0.5], "seeds: got 0.5; allowed: a whole number"),
        ([True], "seeds: got True; allowed: a whole number"),
        ([-1], "allowed: a whole number of at least 0"),
        ([2**32], "got 4,294,967,296; allowed: at most 4,294,967,295"),
        (range(2**32 - 1, 2**32 + 1), "got 4,294,967,296; allowed: at most 4,294,967,295"),
        (range(-1, 1), "got -1; allowed: a whole number of at least 0"),
        ([1, 1], "each once"),
        ([], "at least one"),
        (range(0), "at least one"),
        (16, "such as range"),
        ("16", "such as range"),
        (range(10**6 + 1), "seeds: got 1,000,001 of them; allowed: at most 1,000,000"),
    ],
)
def test_seeds_that_are_refused(seeds, message):
    with pytest.raises(ValueError, match=message):
        sweep.check_seeds(seeds)


def test_seeds_as_they_are_written():
    assert sweep.parse_seeds("2:5") == [2, 3, 4]
    assert sweep.parse_seeds(7) == [7]
    assert sweep.parse_seeds(["0:2", 9, "4"]) == [0, 1, 9, 4]
    for wrong in ("a", "1:2:3", "1.5", "", None, [[1]], 0.5, True, "9" * 50):
        with pytest.raises(ValueError, match=r"seeds: got .*; allowed: whole numbers, and ranges such as 0:64"):
            sweep.parse_seeds(wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="at least one"):
        sweep.parse_seeds("5:1")
    with pytest.raises(ValueError, match="seeds: got 10,000,000,000,000,000,000,000 of them"):
        sweep.parse_seeds(f"0:{10**22}")


# ---- groups


def groups(settings, seeds, **options):
    return sweep.plan(((setting, seed) for setting in settings for seed in seeds), **options)


class TestPlan:
    def test_settings_that_share_a_config_share_a_group(self):
        settings = sweep.make_settings(
            [RING, targets.ring(radius=2.0), targets.ring(5), RING],
            [Config(), Config(), Config(), Config(loss="hinge")],
            [HParams(lr_gen=lr) for lr in (0.1, 0.2, 0.3, 0.4)],
        )
        found = groups(settings, [3, 5])
        assert [[seed for _, seed in group.runs] for group in found] == [[3, 5, 3, 5], [3, 5], [3, 5]]
        assert [group.runs[-1][0].hparams.lr_gen for group in found] == [0.2, 0.3, 0.4]
        assert [group.config.loss for group in found] == ["non_saturating", "non_saturating", "hinge"]

    def test_sizes_that_differ_part_a_kind(self):
        settings = sweep.make_settings([RING, targets.ring(std=0.5)], Config(), HParams())
        assert len(groups(settings, [0])) == 1
        assert len(groups(settings, [0], size_of=lambda target: float(target.stds[0]))) == 2

    @pytest.mark.parametrize(
        ("num", "most", "parts", "sizes"),
        [
            (10, 512, 1, [10]),
            (10, 4, 1, [4, 4, 2]),
            (12, 5, 1, [4, 4, 4]),
            (1_025, 512, 1, [342, 342, 341]),
            (10, 512, 3, [4, 4, 2]),
            (3, 512, 8, [1, 1, 1]),
            (10, 1, 2, [1] * 10),
        ],
    )
    def test_a_kind_is_cut_into_equal_parts_of_one_capacity(self, num, most, parts, sizes):
        (setting,) = sweep.make_settings(RING, Config(), HParams())
        found = groups([setting], range(num), most={setting.config: most}, parts=parts)
        assert [len(group.runs) for group in found] == sizes
        assert {group.capacity for group in found} == {sizes[0]}
        assert [seed for group in found for _, seed in group.runs] == list(range(num))

    def test_no_more_than_a_group_holds_unless_said_otherwise(self):
        (setting,) = sweep.make_settings(RING, Config(), HParams())
        assert [len(group.runs) for group in groups([setting], range(1_024))] == [512, 512]

    def test_labels(self):
        settings = sweep.expand({}, sweep.product(lr_gen=[0.1, 0.2, 0.3, 0.4], lr_disc=[1]))
        (three,), (four,) = groups(settings[:3], [0, 1]), groups(settings, [0])
        assert three.label == "lr_gen=0.1, lr_disc=1; lr_gen=0.2, lr_disc=1; lr_gen=0.3, lr_disc=1"
        assert four.label == "lr_gen=0.1, lr_disc=1; ... (4 recipes)"
