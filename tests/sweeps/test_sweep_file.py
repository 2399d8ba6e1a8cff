"""Sweep files: that they mean what they say, come back to the bit, and that no mangled one does harm."""

import dataclasses
import itertools
import random
import string
import textwrap
import tomllib
from typing import Any

import haste
import jax
import numpy as np
import pytest

from gandyn import cli
from gandyn.gan import targets
from gandyn.gan.config import Config, complete
from gandyn.gan.number import HParams
from gandyn.results import manifest
from gandyn.sweeps import planning, presets, records, sweep, sweep_file
from gandyn.sweeps.sweep import Setting, Sweep
from gandyn.text import printable
from gandyn.truth.measure import MeasureConfig

TINY: dict[str, Any] = {"gen_width": 8, "disc_width": 8, "batch_size": 16}


def made(text: str, **overrides) -> Sweep:
    """The sweep of a file's text."""
    content = tomllib.loads(textwrap.dedent(text))
    return sweep_file.make(sweep_file.flatten(content, "file"), overrides)


def labels(sweep_: Sweep) -> list[str]:
    return [setting.recipe for setting in sweep_.settings]


# ---- mangled files

_DEFAULTS = Sweep(sweep.expand({}), range(2), 4, 2)


def _table(name: str, fields: dict) -> str:
    return f"[{name}]\n" + sweep_file._toml(fields)


EVERY_FIELD = (
    'title = "every field"\nseeds = ["0:2", 5]\nnum_steps = 8\nmeasure_every = 2\ndeep_every = 4\npreset = ""\n'
    + _table("target", {"target": "ring", "num_modes": 8, "radius": 1.0, "std": 0.02, "weights": [0.125] * 8})
    + _table("config", sweep_file._config_fields(Config(**TINY)))
    + _table("hparams", complete(Config(), HParams()).as_dict())
    + _table("measure", vars(MeasureConfig(num_nodes=64, num_density_nodes=1024)))
)

HEAD = 'num_steps = 4\nmeasure_every = 2\nseeds = "0:2"\ngen_width = 8\ndisc_width = 8\nbatch_size = 16\n'
HEAD_OF_MEASURE = "[measure]\nnum_nodes = 64\nnum_density_nodes = 1024\n"

CORPUS = [
    HEAD + 'loss = "hinge"\n' + HEAD_OF_MEASURE,
    EVERY_FIELD,
    'preset = "pacgan_2_ring"\nnum_steps = 2\nmeasure_every = 1\nseeds = [3]\ngen_width = 8\ndisc_width = 8\n'
    'gen_depth = 1\ndisc_depth = 1\ndataset_size = 100\n[hparams]\nlr_gen = 0.01\n' + HEAD_OF_MEASURE,
    HEAD + HEAD_OF_MEASURE + '[product]\nloss = ["hinge", "minimax"]\nlr_gen = [1e-4, 1e-3]\nstd = [0.1, 0.2]\n',
    HEAD + HEAD_OF_MEASURE + "[[zip]]\ngen_depth = [1, 2]\ndisc_depth = [1, 2]\n"
    "[[zip]]\nlr_gen = [0.1, 0.2]\nlr_disc = [0.2, 0.1]\n[product]\nbeta1_gen = [0.0, 0.5]\n",
    HEAD + HEAD_OF_MEASURE + '[[recipe]]\nrecipe = "clipped, \\"so\\""\nloss = "wasserstein"\npenalties = ["clip"]\n'
    'clip_bound = 0.1\n[[recipe]]\nloss = "hinge"\nunroll_steps = 2\nrule = "unrolled"\n'
    "[product]\npacking = [1, 2]\n",
    HEAD + HEAD_OF_MEASURE + '[target]\ntarget = "mixture"\nmeans = [0.0, 1.0, 2.5, -1.0]\nstds = [0.1, 0.2]\n'
    "weights = [1, 3]\n[config]\nnum_classes = 2\n[product]\nweights = [[1, 2], [2, 1]]\n",
    HEAD + 'deep_every = 4\n[target]\ntarget = "random"\nlayout_seed = 3\nnum_modes = 4\nstd = 0.1\n' + HEAD_OF_MEASURE
    + 'measurements = ["value"]\ndeep = ["best_response_deep", "path"]\nnum_deep_response_nodes = 64\n'
    "num_deep_nodes = 64\nnum_transport = 64\nnum_deep_density_nodes = 1024\nkeep_samples = 10\nkeep_surface = 4\n",
]  # fmt: skip

WORDS = [
    *("-1", "0", "-0.0", "1", "2", "3", "1e308", "-1e308", "5e-324", "1e-40", "1e30", "1e39", "nan", "inf", "-inf"),
    *(str(10**30), str(2**31), str(2**31 - 1), str(2**40), str(2**63 - 1), str(2**63), "0.5", "1.0", "0.99999999"),
    *("100000", "1000000", "5300", "21201", "true", "false", '""', '"hinge"', '"mixture"', '"batch"', "[]", "[[]]"),
    *("[1]", "[1, 2]", "[0.1, true]", '["hinge"]', "[[1, 2], [3, 4]]", "[[1], [1, 2]]", "[" * 40 + "]" * 40, "{a = 1}"),
    *("1979-05-27", "1979-05-27T07:32:00Z", "07:32:00", "0x" + "f" * 60, "9" * 5000, '"0:1000000"', '"0:10000000000"'),
    *('"5:1"', '"\\u0000\\n\\u001b[2J"', "'''\n'''", '"' + "x" * 10_000 + '"', '"\\ud800"', '"🦜é"', "", "1_000", "+1"),
]  # fmt: skip


def mangled(draw: random.Random) -> bytes:
    """One of the corpus after one to three mutations."""
    text = draw.choice(CORPUS)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        text = draw.choice(MUTATIONS)(draw, text)
    data = text.encode("utf-8", "surrogatepass")
    if draw.random() < 0.08 and data:
        place = draw.randrange(len(data))
        data = data[:place] + bytes(draw.randrange(256) for _ in range(draw.randrange(3))) + data[place + 1 :]
    return data


def _of_lines(change):
    def mutation(draw: random.Random, text: str) -> str:
        lines = text.splitlines(keepends=True)
        return "".join(change(draw, lines)) if lines else text

    return mutation


def _swap(draw: random.Random, lines: list[str]) -> list[str]:
    i, j = (draw.randrange(len(lines)) for _ in range(2))
    lines[i], lines[j] = lines[j], lines[i]
    return lines


def _delete(draw: random.Random, lines: list[str]) -> list[str]:
    del lines[draw.randrange(len(lines))]
    return lines


def _duplicate(draw: random.Random, lines: list[str]) -> list[str]:
    lines.insert(draw.randrange(len(lines) + 1), draw.choice(lines))
    return lines


def _value(draw: random.Random, lines: list[str]) -> list[str]:
    places = [i for i, line in enumerate(lines) if "=" in line]
    if places:
        i = draw.choice(places)
        word = draw.choice(WORDS)
        if draw.random() < 0.2:
            word = f"[{', '.join([word] * draw.choice((1, 2, 8)))}]"
        if draw.random() < 0.1:
            word = str(list(range(draw.choice((10, 1000, 5000)))))
        lines[i] = f"{lines[i].partition('=')[0]}= {word}\n"
    return lines


def _mild(draw: random.Random, lines: list[str]) -> list[str]:
    """A value that may well be meant."""
    places = [i for i, line in enumerate(lines) if "=" in line and "[" not in line]
    if places:
        i = draw.choice(places)
        lines[i] = f"{lines[i].partition('=')[0]}= {draw.choice(('0', '1', '2', '3', '4', '64', '0.5', 'true'))}\n"
    return lines


def _entry(draw: random.Random, lines: list[str]) -> list[str]:
    """One value inside a list, or one number's sign."""
    places = [i for i, line in enumerate(lines) if "[" in line and "=" in line]
    if places:
        i = draw.choice(places)
        head, _, tail = lines[i].partition("[")
        lines[i] = f"{head}[{draw.choice(WORDS)}, {tail}"
    return lines


def _add(draw: random.Random, lines: list[str]) -> list[str]:
    """Any field with any value, anywhere."""
    name = draw.choice([*sweep.FIELDS, *sweep_file.MEASURE_FIELDS, *sweep_file.RUN_FIELDS, "preset", "out", "recipe"])
    word = draw.choice([*WORDS, *map(str, [2**power for power in (3, 10, 13, 17, 23, 30)])])
    if draw.random() < 0.3:
        word = f"[{word}, {draw.choice(WORDS)}]"
    lines.insert(draw.randrange(len(lines) + 1), f"{name} = {word}\n")
    return lines


def _rename(draw: random.Random, lines: list[str]) -> list[str]:
    i = draw.randrange(len(lines))
    place = draw.randrange(len(lines[i]))
    lines[i] = lines[i][:place] + draw.choice(string.printable) + lines[i][place + draw.randrange(2) :]
    return lines


def _head(draw: random.Random, lines: list[str]) -> list[str]:
    heads = [
        "product",
        "zip",
        "recipe",
        "target",
        "config",
        "hparams",
        "measure",
        "config.x",
        "product.lr_gen",
        "preset",
    ]
    head = draw.choice(heads)
    lines.insert(draw.randrange(len(lines) + 1), draw.choice((f"[{head}]\n", f"[[{head}]]\n", f"{head} = 3\n")))
    return lines


MUTATIONS = [
    *map(
        _of_lines,
        (
            _swap,
            _swap,
            _delete,
            _delete,
            _mild,
            _mild,
            _duplicate,
            _value,
            _value,
            _value,
            _entry,
            _add,
            _add,
            _rename,
            _head,
        ),
    )
]


def planned(file) -> Sweep | str:
    """The sweep of a file, planned as far as nothing is compiled; or the message that refuses it."""
    try:
        sweep_ = sweep_file.make(sweep_file.read(file))
        plan = planning.make(sweep_)
        plan.check_fits(file.parent / "results")
        if plan.num_runs <= 64:
            for group in plan.groups:
                records.group_spec(group, sweep_.steps, sweep_.measured)
    except ValueError as error:
        return str(error)
    return sweep_


NUM_MANGLED = 2_000


def refused_or_planned(file, numbers) -> tuple[list[int], list[int]]:
    """The numbers of mangled files that were refused, and of those that are valid."""
    refused, valid = [], []
    for number in numbers:
        file.write_bytes(mangled(random.Random(number)))
        found = planned(file)
        if isinstance(found, str):
            assert found.isprintable(), (number, found)
            assert len(found) < 1_500, (number, found)
        (refused if isinstance(found, str) else valid).append(number)
    return refused, valid


@pytest.mark.slow
def test_a_mangled_file_is_planned_or_refused_in_one_line(tmp_path):
    refused, valid = refused_or_planned(tmp_path / "mangled.toml", range(60))
    assert len(refused) > 30
    assert len(valid) > 4


@pytest.mark.slow
def test_many_mangled_files_on_the_command_line(tmp_path, capsys):
    """None that is refused leaves anything behind; what is valid and small runs."""
    file, out = tmp_path / "mangled.toml", tmp_path / "results"
    refused, valid = refused_or_planned(file, range(NUM_MANGLED))
    assert len(valid) > NUM_MANGLED // 10
    for number in random.Random(1).sample(refused, 25):
        file.write_bytes(mangled(random.Random(number)))
        with pytest.raises(SystemExit) as stop:
            cli.main(["sweep", str(file), "--out", str(out)])
        _, err = capsys.readouterr()
        assert stop.value.code == 2, number
        assert err.startswith("gandyn: "), (number, err)
        assert err.count("\n") == 1, (number, err)
        assert not out.exists(), number
    small = (number for number in random.Random(2).sample(valid, len(valid)) if is_small(file, number))
    with haste.everywhere():
        for number in itertools.islice(small, 12):
            cli.main(["sweep", str(file), "--out", str(out), "--overwrite"])
            assert manifest.read(out)["status"] == "complete", number


def is_small(file, number: int) -> bool:
    """Whether a valid file takes a few seconds; writes it."""
    file.write_bytes(mangled(random.Random(number)))
    sweep_ = sweep_file.make(sweep_file.read(file))
    configs = {setting.config for setting in sweep_.settings}
    sizes = [max(c.gen_width, c.disc_width, c.batch_size, c.disc_steps, c.dataset_size) for c in configs]
    runs = len(sweep_.settings) * len(sweep_.seeds)
    few = len(configs) == 1 and runs <= 16 and sweep_.num_steps <= 20 and max(sizes) <= 256 and not sweep_.deep_every
    return few and max(c.gen_depth + c.disc_depth + c.latent_dim for c in configs) <= 20


@pytest.mark.slow
def test_every_file_of_the_corpus_is_valid(tmp_path):
    for text in CORPUS:
        (tmp_path / "file.toml").write_text(text)
        found = planned(tmp_path / "file.toml")
        assert isinstance(found, Sweep), found


# ---- what a file says


def test_tables_are_for_readers_alone():
    split = made("[config]\nloss = 'hinge'\n[hparams]\nlr_gen = 1\n[measure]\nkeep_samples = 3\n[target]\nstd = 0.5")
    flat = made("loss = 'hinge'\nlr_gen = 1\nkeep_samples = 3\nstd = 0.5")
    assert sweep_file.differences(split, flat) == []
    assert flat.settings[0].config == Config(loss="hinge")
    assert flat.settings[0].hparams == complete(Config(loss="hinge"), HParams(lr_gen=1.0))
    assert flat.measure_config == MeasureConfig(keep_samples=3)
    target: Any = flat.settings[0].target
    np.testing.assert_array_equal(target.stds, np.full(8, 0.5, np.float32))


def test_all_combinations_of_its_grids():
    found = made("""
        [[recipe]]
        recipe = "plain"
        [[recipe]]
        recipe = "clipped"
        penalties = ["clip"]
        [[zip]]
        gen_width = [32, 64]
        disc_width = [16, 8]
        [product]
        lr_gen = [1e-4, 1e-3]
        """)
    assert labels(found) == [
        f"{recipe}, gen_width={gen}, disc_width={disc}, lr_gen={lr}"
        for recipe in ("plain", "clipped")
        for gen, disc in ((32, 16), (64, 8))
        for lr in ("0.0001", "0.001")
    ]
    last = found.settings[-1]
    assert last.config == Config(penalties=("clip",), gen_width=64, disc_width=8)
    assert last.hparams == complete(last.config, HParams(lr_gen=1e-3))


def test_a_preset_is_what_other_fields_are_put_on():
    found = made('preset = "wgan"\nnum_steps = 7\nmeasure_every = 7\nbatch_size = 8')
    fields = presets.fields("wgan")
    assert labels(found) == ["wgan"]
    assert found.num_steps == 7
    assert found.settings[0].config.batch_size == 8
    assert found.settings[0].config.disc_steps == fields["disc_steps"]
    assert made('preset = "wgan"', preset="sn_hinge").settings[0].config.loss == "hinge"


class TestOverrides:
    FILE = '[[recipe]]\nloss = "hinge"\nlr_gen = 0.1\n[[recipe]]\nloss = "minimax"\n[product]\nstd = [0.1, 0.2]\n'

    def test_they_win_over_shared_fields_and_recipes(self):
        found = made("num_steps = 10\nlr_disc = 0.5\n" + self.FILE, num_steps=300, lr_disc=0.25, lr_gen=0.75)
        assert found.num_steps == 300
        assert {setting.hparams.lr_disc for setting in found.settings} == {0.25}
        assert {setting.hparams.lr_gen for setting in found.settings} == {0.75}

    def test_what_varies_cannot_be_given_too(self):
        with pytest.raises(ValueError, match="std: given as a flag, and varies in the file; allowed: one of them"):
            made(self.FILE, std=0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # What is no list and no text may be a number of some part.
        ("batchsize = 3", "batchsize: got 3, and nothing chosen reads it (did you mean 'batch_size'?)"),
        ("los = 'hinge'", "file: unknown key 'los' (did you mean 'loss'?)"),
        ("[measure]\nlr_gen = 1", "file: unknown key 'lr_gen'"),
        ("lr_gen = 'fast'", "lr_gen: got 'fast'; allowed: a number"),
        ("batch_size = 1\n[config]\nbatch_size = 1", "file: batch_size: given twice"),
        ("[hparams]\nlr_gen = {a = 1}", "file: lr_gen is a table; allowed: a number, a text or a list of them"),
        ("lr_gen = 1979-05-27", "file: lr_gen: got datetime.date(1979, 5, 27); allowed: a number, a text"),
        ("lr_gen = " + "9" * 30, "file: lr_gen: got a whole number of more than 64 bits; allowed: what TOML has"),
        ("weights = [[[[1]]]]", "weights: got shape (1, 1, 1, 1); allowed: one per mode, 8"),
        ("weights = [[[[[[1]]]]]]", "file: weights: got [[1]]; allowed: a number, a text or a list of them"),
        ("product = 3", "file: product: allowed: fields under [product]"),
        ("zip = [1]", "file: zip: allowed: fields under [[zip]]"),
        ("[product]", "product: got no field; allowed: at least one field with a list of values"),
        ("[product]\nlr_gen = 0.1", "product: lr_gen: got 0.1; allowed: a list of values, at least one"),
        ("[product]\nloss = 'hinge'", "product: loss: got 'hinge'; allowed: a list of values"),
        ("[product]\nloss = ['hinge', 'hinge']", "product: loss: got 'hinge' twice; allowed: distinct values"),
        (
            "[[zip]]\nlr_gen = [1, 2]\nlr_disc = [1]",
            "zip: got lists of lengths {'lr_gen': 2, 'lr_disc': 1}; allowed: one",
        ),
        ("[product]\nseeds = ['0:2', '2:4']", "file: product: seeds: holds for the whole sweep; allowed: at the top"),
        ("[[recipe]]\nlos = 'hinge'", "los: got 'hinge', and nothing chosen reads it (did you mean 'loss'?); allowed "),
        ("[[recipe]]\nrecipe = 3", "recipe: got 3; allowed: a text"),
        ("[[recipe]]\nrecipe = 'a'\n[[recipe]]\nrecipe = 'a'", "recipe: got 'a' twice; allowed: distinct values"),
        ("[[recipe]]\nloss = 'hinge'\n[product]\nloss = ['minimax']", "loss: varies in two grids; allowed: in one"),
        ("preset = 'wgn'", "preset: got 'wgn'; allowed: "),
        ("preset = 0", "preset: got 0; allowed: "),
        ("title = 3", "title: got 3; allowed: a text"),
        (
            "seeds = '0:600000'\n[product]\nlr_gen = [1, 2]",
            "runs: got 2 settings x 600,000 seeds = 1,200,000; allowed",
        ),
        ("latent_dim = 30000", "latent_dim: got 30,000; allowed: at most 21,195"),
        ("latent_dim = 30000\npacking = 2", "latent_dim: got 30,000; allowed with packing=2: at most 10,595"),
        ("packing = 5000", "packing: got 5,000; allowed: at most 3,533"),
        ("num_modes = 2000", "num_modes: got 2,000; allowed: at most 1,024"),
        ("target = 'spiral'\nturns = 1e300", "turns: got 1e+300; allowed: at least 0, at most 1000000, finite"),
        ("radius = [1.0, 2.0]", "radius: got [1.0, 2.0]; allowed: a number"),
        ("lr_gen = 1e39", "lr_gen: got 1e+39; allowed: at least 0, at most 1e+38, finite"),
        ("beta2_gen = 0.99999999", "beta2_gen: got 0.99999999; allowed: at least 0, at most 0.99999994, finite"),
        ("eps_gen = 1e-60", "eps_gen: got 1e-60; allowed: at least 1e-30"),
        ("num_response_nodes = 1", "num_response_nodes: got 1; allowed: a whole number of at least 2"),
        ("weights = [true, true, 1, 1, 1, 1, 1, 1]", "weights: got [True, True, 1, 1, 1, 1, 1, 1]; allowed: numbers"),
    ],
)
def test_what_a_file_cannot_say(text, message):
    with pytest.raises(ValueError) as caught:
        made(text)
    assert str(caught.value).startswith(message)


LABELLED = """
[[recipe]]
recipe = "slow"
lr_gen = 1e-4
[[recipe]]
recipe = "fast"
lr_gen = 1e-2
loss = "hinge"
"""


def test_a_label_that_a_person_wrote_does_not_lie():
    content = sweep_file.flatten(tomllib.loads(LABELLED), "file")
    with pytest.raises(
        ValueError, match=r"lr_gen: got 0\.001 as a flag, and 0\.0001 in the recipe 'slow'; allowed: one"
    ):
        sweep_file.make(content, {"lr_gen": 1e-3})
    with pytest.raises(ValueError, match=r"lr_gen: got 0\.0001 as a flag, and 0\.01 in the recipe 'fast'"):
        sweep_file.make(content, {"lr_gen": 1e-4})
    same = {"recipe": [{"recipe": "slow", "lr_gen": 1e-3}]}
    assert sweep_file.make(same, {"lr_gen": 0.0010000000001}).settings[0].recipe == "slow"
    assert sweep_file.make(content, {"lr_disc": 1e-4}).settings[1].recipe == "fast"


@pytest.mark.parametrize(
    "recipes",
    [
        [{"recipe": "a", "lr_gen": 0.001}, {"recipe": "b", "lr_gen": 0.0010000000001}],
        [{"recipe": "a"}, {"recipe": "b"}],
        [{"recipe": "a", "lr_gen": 1}, {"recipe": "b", "lr_gen": 1.0, "loss": "non_saturating"}],
        [{"recipe": "a", "std": 0.02}, {"recipe": "b", "std": 0.0200000000001}],
    ],
)
def test_one_setting_has_one_label(recipes):
    with pytest.raises(ValueError, match="recipes: got 'a' and 'b', which are one setting, and would be the same runs"):
        sweep_file.make({"recipe": recipes})


def test_runs_of_one_setting_that_start_from_given_players_resume():
    """Two recipes that differ in what their runs start from alone, which no file says."""
    settings = sweep.make_settings([targets.ring()] * 2, Config(), HParams(), ["early", "late"])
    again = sweep_file.parse(sweep_file.text(Sweep(settings, seeds=[0])))
    assert [setting.recipe for setting in again.settings] == ["early", "late"]


def test_a_byte_order_mark_is_no_statement(tmp_path):
    """Editors of Windows put one in front."""
    text = "num_steps = 60\r\n[target]\r\nnum_modes = 4  # größer\r\n"
    (tmp_path / "plain.toml").write_bytes(text.encode())
    (tmp_path / "marked.toml").write_bytes(text.encode("utf-8-sig"))
    assert sweep_file.read(tmp_path / "marked.toml") == sweep_file.read(tmp_path / "plain.toml") != {}


def test_what_is_no_toml(tmp_path):
    for content in (b"num_steps = ", b"\xff", b"a = " + b"9" * 5_000, b"a = " + b"[" * 10_000):
        (tmp_path / "file.toml").write_bytes(content)
        with pytest.raises(ValueError, match=r"file\.toml: not TOML: "):
            sweep_file.read(tmp_path / "file.toml")
    with pytest.raises(ValueError, match=r"none\.toml: No such file"):
        sweep_file.read(tmp_path / "none.toml")


# ---- what is recorded

HOSTILE = ['"', "'", "a\nb", "\r\n", "\\", "\x7f\x1b[2J\x00", "é\u0085\u2028🦜", "=[{#}]", " ", "x" * 1_000, "a (1)"]


def bits(sweep_: Sweep) -> list[Any]:
    """Everything of a sweep, arrays as their bytes."""
    of_settings = [
        (recipe, *(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(target)), config, hparams)
        for recipe, target, config, hparams in sweep_.settings
    ]
    return [tuple(getattr(sweep_, name) for name in sweep_file.RUN_FIELDS), sweep_.measure_config, *of_settings]


class TestText:
    def test_a_sweep_comes_back_to_the_bit(self):
        rng = np.random.default_rng(0)
        mixtures = [
            targets.ring(3, weights=[1, 2, 4]),
            targets.random(7, radius=0.1, std=1 / 3),
            targets.mixture(rng.normal(size=(25, 2)), rng.uniform(1e-6, 1, 25), rng.uniform(1e-6, 1, 25)),
            targets.mixture([[1e9, -1e-30]], 1e-9),
            targets.grid(1_024, weights=rng.uniform(0.5, 1, 1_024)),
        ]
        # A third is no binary number, and the next two are the ends of what is allowed.
        numbers = [{"lr_gen": 1 / 3}, {"eps_gen": 1e-30, "lr_disc": 1e38}, {"beta2_gen": 1 - 2.0**-24}]
        settings = [
            Setting(label, mixtures[i % 5], Config(**TINY, top_k=i % 2 == 0), HParams(**numbers[i % 3]))
            for i, label in enumerate(HOSTILE)
        ]
        measured = MeasureConfig(deep=("path",), keep_samples=3)
        old = Sweep(settings, [5, 0, 1, 2, 2**32 - 1], 7, 2, 4, measured, "\x7f\n\"'🦜")
        new = sweep_file.parse(sweep_file.text(old))
        assert bits(new) == bits(old)
        assert sweep_file.differences(old, new) == []
        assert sweep_file.text(new) == sweep_file.text(old)

    def test_weights_near_one_stay_what_they_are(self):
        # A sum that is one to within float32, before it is rounded and after.
        for excess in (0.0, 3e-7, 9.99e-7, 1.01e-6):
            old = Sweep([Setting("a", targets.ring(2, weights=[0.3, 0.7 + excess]), Config(), HParams())])
            assert bits(sweep_file.parse(sweep_file.text(old))) == bits(old)

    def test_numbers_of_numpy_are_written(self):
        config = Config(batch_size=np.int64(64))  # pyright: ignore[reportArgumentType]
        old = Sweep([Setting("a", targets.ring(), config, HParams(lr_gen=np.float32(0.1)))], num_steps=np.int32(100))  # pyright: ignore
        new = sweep_file.parse(sweep_file.text(old))
        assert new.settings[0].config.batch_size == 64
        assert new.settings[0].hparams.lr_gen == float(np.float32(0.1))

    @pytest.mark.parametrize("preset", presets.PRESETS)
    def test_every_preset_comes_back(self, preset):
        old = made(f'preset = "{preset}"')
        assert bits(sweep_file.parse(sweep_file.text(old))) == bits(old)

    def test_what_is_no_unicode_is_refused(self):
        with pytest.raises(ValueError, match=r"recipe: got .* allowed: a text"):
            Sweep([Setting("\ud800", targets.ring(), Config(), HParams())])
        with pytest.raises(ValueError, match=r"title: got .* allowed: a text"):
            Sweep(sweep.expand({}), title="\ud800")


class TestDifferences:
    OLD = made(
        "num_steps = 10\nmeasure_every = 5\n[[recipe]]\nrecipe = \"a\\n\"\n[[recipe]]\nrecipe = 'b'\nlr_gen = 0.1"
    )

    def test_each_is_named(self):
        new = dataclasses.replace(
            self.OLD,
            num_steps=20,
            measure_config=MeasureConfig(keep_samples=1),
            settings=[
                Setting("a\n", targets.ring(std=0.5), Config(loss="hinge"), HParams()),
                self.OLD.settings[1]._replace(recipe="c"),
            ],
        )
        found = sweep_file.differences(self.OLD, new)
        assert found[:2] == ["num_steps: 10 there, 20 here", "keep_samples: 0 there, 1 here"]
        label = printable("a\n")
        assert found[2:] == [
            f"{label}: std: 0.02 there, 0.5 here",
            f"{label}: loss: 'non_saturating' there, 'hinge' here",
            # Numbers that hinge does not read.
            f"{label}: label_smoothing: 0.0 there, None here",
            f"{label}: label_smoothing_fake: 0.0 there, None here",
            "recipe 'b': only there",
            "recipe 'c': only here",
        ]
        assert all(line.isprintable() for line in found)

    def test_many_are_counted(self):
        new = dataclasses.replace(self.OLD, settings=sweep.expand({}, sweep.product(lr_gen=list(range(30)))))
        found = sweep_file.differences(self.OLD, new)
        assert len(found) == 13
        assert found[-1] == "... and 20 more"


def test_the_example_of_the_module_is_a_sweep(tmp_path):
    example = textwrap.dedent(str(sweep_file.__doc__).partition("\n\n")[2].partition("\n\n`[product]`")[0])
    (tmp_path / "example.toml").write_text(example)
    found = sweep_file.make(sweep_file.read(tmp_path / "example.toml"))
    assert len(found.settings) == 2 * 2 * 2
    assert len(found.seeds) == 64
    assert found.settings[0].recipe == "gradient penalty, gen_width=32, disc_width=32, hinge, lr_gen=0.0001"
    assert found.settings[0].config.penalties == ("wgan_gp",)
    assert found.measure_config.keep_samples == 400
