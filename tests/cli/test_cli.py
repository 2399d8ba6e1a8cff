"""The command line: what it prints, and that wrong input gives one message, exit 2 and nothing written."""

import importlib.util
import json
import math
import os
import subprocess
import sys

import haste
import pytest
import synthetic

import gandyn
from gandyn import cli
from gandyn.analysis import opening, tables
from gandyn.cli import catalogue, commands, gathering
from gandyn.sweeps import runner, sweep, sweep_file, training

SMALL = """\
num_steps = 4
measure_every = 2
seeds = "0:2"

[target]
num_modes = 4
std = 0.1

[config]
gen_width = 8
disc_width = 8
batch_size = 16

[measure]
num_nodes = 64
num_density_nodes = 1024
"""


@pytest.fixture
def small(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(SMALL)
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A results folder, as the command line makes it, of runs that were never trained. Nothing here may change it."""
    out = tmp_path_factory.mktemp("runs")
    (out / "small.toml").write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train", lambda *_: None)
        patch.setattr(commands, "say_results", lambda _: None)
        cli.main(["sweep", str(out / "small.toml"), "--loss", "hinge", "--out", str(out / "results")])
    return out / "results"


@pytest.fixture
def planned(monkeypatch):
    """What would have run: (sweep, folder, options) of each call."""
    calls = []
    monkeypatch.setattr(runner, "run_sweep", lambda sweep_, out, **options: calls.append((sweep_, out, options)))
    monkeypatch.setattr(commands, "say_results", lambda out: None)
    return calls


def refused(capsys, *arguments) -> str:
    """The message of a command that must fail: exit 2, one line on standard error, no traceback."""
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert err.startswith("gandyn: ")
    assert err.count("\n") == 1
    assert err[:-1].isprintable()
    assert arguments[0] == "sweep" or out == ""
    return err[len("gandyn: ") : -1]


# ---- what it does


@pytest.mark.slow
def test_from_a_file_to_a_page(small, tmp_path, capsys):
    folder = tmp_path / "results"
    with haste.everywhere():
        cli.main(["sweep", str(small), "--loss", "hinge", "--out", str(folder)])
    assert f"results: {folder}" in capsys.readouterr().out
    results = gandyn.open_results(folder)
    assert results.loss.values.tolist() == ["hinge", "hinge"]
    assert results.step.values.tolist() == [0, 2, 4]
    cli.main(["report", str(folder)])
    assert "</html>" in (folder / "report.html").read_text()
    cli.main(["show", str(folder)])
    assert "status: complete" in capsys.readouterr().out
    cli.main(["status", str(folder)])
    assert "100% of 8 run-steps" in capsys.readouterr().out
    cli.main(["export", str(folder), "--to", "csv", "--curves"])
    assert len((folder / "curves.csv").read_text().splitlines()) == 1 + 2 * 3
    with haste.everywhere():
        cli.main(["extend", str(folder), "--seeds", "2"])
        cli.main(["replay", str(folder), "--run", "1", "--measure-every", "1"])
    assert "the same to the bit at all 3 measurements" in capsys.readouterr().out
    assert gandyn.open_results(folder).seed.values.tolist() == [0, 1, 2]


def test_flags_win_over_the_file(small, planned, tmp_path):
    small.write_text(
        'out = "elsewhere"\n' + SMALL + '[[recipe]]\nloss = "hinge"\nlr_gen = 1\n[[recipe]]\npenalties = ["r1"]\n'
    )
    cli.main(
        [
            "run",
            str(small),
            "--lr-gen",
            "0.01",
            "--out",
            str(tmp_path),
            "--overwrite",
            "--no-top-k",
            "--seeds",
            "4",
            "7:9",
        ]
    )
    ((made, out, options),) = planned
    assert out == tmp_path
    assert options == {"overwrite": True}
    assert made.seeds == (4, 7, 8)
    assert made.num_steps == 4
    assert [setting.recipe for setting in made.settings] == ["hinge", "r1"]
    assert {setting.hparams.lr_gen for setting in made.settings} == {0.01}
    cli.main(["run", str(small), "--num-response-nodes", "64", "--measurements", "value", "--deep-every=2"])
    assert str(planned[1][1]) == "elsewhere"
    assert planned[1][0].measure_config.num_response_nodes == 64
    assert planned[1][0].measure_config.measurements == ("value",)
    assert planned[1][0].deep_every == 2


def test_lists_that_are_given_twice_are_both(small, planned):
    """And the file may stand behind any option that takes no more words."""
    cli.main(["run", "--overwrite", str(small), "--seeds", "0:3", "--seeds", "7", "4:6", "--lr-gen", "1e-3"])
    ((made, _, options),) = planned
    assert made.seeds == (0, 1, 2, 7, 4, 5)
    assert options == {"overwrite": True}


def test_a_home_folder_is_meant_by_a_tilde(small, planned, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    small.write_text('out = "~/file"\n' + SMALL)
    cli.main(["run", str(small), "--out=~/flag"])
    cli.main(["run", str(small)])
    assert [out for _, out, _ in planned] == [tmp_path / "flag", tmp_path / "file"]
    assert refused(capsys, "run", small, "--out", "") == "out: got ''; allowed: a path"


def test_a_field_left_out_is_the_files_and_then_the_default(small, planned):
    cli.main(["run", str(small)])
    cli.main(["run", "--std", "0.1"])
    cli.main(["run", "--preset", "wgan", "--batch-size", "8"])
    file, alone, preset = (made for made, _, _ in planned)
    assert file.settings[0].config.gen_width == 8
    assert alone.settings[0].config == gandyn.Config()
    assert alone.num_steps == 5_000
    assert preset.settings[0].recipe == "wgan"
    assert preset.settings[0].config.batch_size == 8


def test_a_dry_run_prints_the_plan_and_makes_nothing(small, planned, tmp_path, capsys):
    small.write_text(SMALL + "[product]\nlr_gen = [0.1, 0.2]\nlr_disc = [0.1, 0.2, 0.3]\n")
    cli.main(["sweep", str(small), "--out", str(tmp_path / "results"), "--dry-run", "--engine", "ray"])
    out = capsys.readouterr().out
    assert out.startswith("plan: 6 settings x 2 seeds = 12 runs of 4 steps\nvaried        lr_gen (0.1, 0.2), lr_disc (")
    assert planned == []
    assert not (tmp_path / "results").exists()


def test_a_dry_run_says_what_does_not_fit(small, tmp_path, capsys):
    message = refused(capsys, "sweep", small, "--gen-width", "60000", "--out", tmp_path / "results", "--dry-run")
    assert message.startswith("memory: 2 runs need about ")


# ---- help


@pytest.mark.parametrize("command", commands.COMMANDS)
def test_help_names_every_option_with_what_it_is(command, capsys):
    cli.main([command, "--help"])
    text, err = capsys.readouterr()
    assert text.startswith(f"usage: gandyn {command} ")
    assert err == ""
    assert max(map(len, text.splitlines())) <= 110
    for group, options in commands.groups_of(commands.COMMANDS[command]).items():
        assert f"\n{group}:\n" in text
        for option in options:
            assert option.text, option.name
            shown = option.name.upper() if option.positional else option.flag[2:]
            assert f"{shown}\n" in text or f"{shown} " in text, option.name


def test_every_field_of_a_run_is_an_option():
    """But those whose values no word can give."""
    flags = {option.name for options in commands.groups_of(commands.COMMANDS["run"]).values() for option in options}
    assert flags >= {*sweep.FIELDS, *sweep_file.MEASURE_FIELDS, *sweep_file.RUN_FIELDS, "preset", "out", "overwrite"}


def test_the_catalogue_is_that_of_the_real_objects():
    assert gathering.FILE.read_text(encoding="utf-8") == gathering.text(), "run python -m gandyn.cli.gathering"


def test_the_version():
    shown = subprocess.run([sys.executable, "-m", "gandyn", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == f"gandyn {gandyn.__version__}\n"


def test_the_usage_names_every_command(capsys):
    for arguments in ([], ["--help"], ["-h"]):
        cli.main(arguments)
        text = capsys.readouterr().out
        for command in commands.COMMANDS:
            assert f"\n  gandyn {command} " in text


def test_list_has_one_line_for_every_entry(capsys):
    cli.main(["list"])
    text = capsys.readouterr().out
    for kind, names in catalogue.lists().items():
        assert f"{kind}\n" in text
        for name, line in names.items():
            assert f"\n  {name} " in text or f"\n  {name}\n" in text
            assert line in text
            assert "\n" not in line
    assert "losses, penalties, rules" in refused(capsys, "list", "loses")


def test_what_programs_read(folder, capsys, monkeypatch):
    cli.main(["list", "--json"])
    assert json.loads(capsys.readouterr().out) == catalogue.lists()
    cli.main(["list", "losses", "--json"])
    assert list(json.loads(capsys.readouterr().out)) == ["losses"]
    made = synthetic.make(["non_saturating", "wasserstein, gradient penalty"], seeds=4, steps=5, samples=0, surface=0)
    monkeypatch.setattr(opening, "open_results", lambda path: made)
    cli.main(["show", str(folder), "--json"])
    shown = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert shown["steps"] == made.step.values.tolist()
    for row, want in zip(shown["recipes"], tables.table(made), strict=True):
        assert row["recipe"] == want.recipe
        for key in shown["columns"]:
            entry = want.entries[key]
            value = None if math.isnan(entry.interval.value) else entry.interval.value
            assert (row[key]["value"], row[key]["count"], row[key]["note"]) == (value, entry.count, entry.note)
    assert shown["recipes"][1]["lag"]["value"] is None


def test_the_table_is_one_where_the_output_is_no_terminal(folder, capsys, monkeypatch):
    made = synthetic.make(["non_saturating"], seeds=4, steps=5, samples=0, surface=0)
    monkeypatch.setattr(opening, "open_results", lambda path: made)
    cli.main(["show", str(folder)])
    headings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("recipe ")]
    assert len(headings) == 1
    assert all(column.heading in headings[0] for column in tables.COLUMNS.values())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "72")
    cli.main(["show", str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("recipe ")]) > 2
    assert max(len(line) for line in lines if line.startswith(("recipe ", "non_sat", "---"))) <= 72


# ---- what cannot be meant


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--loss", "hinges"], ["loss: got 'hinges'; allowed: minimax", "did you mean 'hinge'"]),
        (["--loss=hinges"], ["did you mean 'hinge'"]),
        (["--los", "hinge"], ["--los: no such option (did you mean '--loss'?)"]),
        (["--no-overwrit"], ["did you mean '--no-overwrite'"]),
        (["--num-steps"], ["num_steps: got no value; allowed: a whole number"]),
        (["--dry-run"], ["--dry-run: no such option"]),
        (["--preset", "wgn"], ["preset: got 'wgn'", "did you mean 'wgan'"]),
        (["--top-k", "maybe"], ["gandyn run: got 'maybe' as well; allowed: one file"]),
        (["--top-k=maybe"], ["top_k: got 'maybe'; allowed: true, false"]),
        (["--num-steps", "4", "--num-steps=8"], ["num_steps: got '4', '8'; allowed: one of them"]),
        (["--lr-gen", "1e-3", "2e-3"], ["gandyn run: got '2e-3' as well; allowed: one file"]),
        (["--gamma", "0.1"], ["--gamma: no such option"]),
        (["--using", "none.py"], ["using: got 'none.py'; allowed: a Python file, such as mine.py"]),
        (["--seeds", "5:1"], ["seeds: got []; allowed: at least one"]),
        (["--title", "\ud800"], ["title: got '\\ud800'; allowed: a text"]),
        (["--keep-surface", "100000"], ["keep_surface: got 100,000; allowed: at most 4,096"]),
        (["--seeds", "0:100000000"], ["seeds: got 100,000,000 of them; allowed: at most 1,000,000"]),
        (["--std", "-0.5"], ["std", "-0.5", "above 0"]),
        (["--batch-size", "0"], ["batch_size", "got 0", "at least 1"]),
        (["--batch-size", "many"], ["batch_size: got 'many'; allowed: a whole number"]),
        (["--seeds", "1.5"], ["seeds", "1.5", "whole numbers"]),
        (["--seeds", "a:b"], ["seeds", "a:b"]),
        (["--seeds", "3:3"], ["seeds", "at least one"]),
        (["--measure-every", "0"], ["measure_every", "got 0"]),
        (["--num-steps", "-5"], ["num_steps", "-5"]),
        (["--lr-gen", "nan"], ["lr_gen", "nan"]),
        (["--learning-rate", "0.1"], ["--learning-rate"]),
        (["--target", "grid", "--num-modes", "24"], ["num_modes", "24", "square"]),
        (["--target", "grid", "--radius", "1"], ["radius", "grid", "spacing"]),
        (["--target", "mixture", "--means", "1", "--stds", "1"], ["num_modes", "mixture", "means, stds"]),
        (["--gen-width", "10000000"], ["gen_width: got 10,000,000; allowed: at most 65,536"]),
        (["--gen-width", "60000"], ["memory", "GiB", "allowed"]),
        (["--rule", "simultaneous", "--disc-steps", "3"], ["disc_steps", "3"]),
    ],
)
def test_wrong_flags(flags, parts, small, tmp_path, capsys):
    message = refused(capsys, "run", small, "--out", tmp_path / "results", *flags)
    for part in parts:
        assert part in message
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("batchsize = 3", ["batchsize: got 3, and nothing chosen reads it", "did you mean 'batch_size'"]),
        ("[config]\nwidth = 3", ["unknown key 'width'"]),
        ("[confg]\nloss = 'hinge'", ["unknown key 'confg'", "config"]),
        ("[[recipe]]\nnum_steps = 3", ["recipe: num_steps: holds for the whole sweep"]),
        ("recipe = 3", ["recipe", "[[recipe]]"]),
        ("batch_size = 'many'", ["batch_size: got 'many'; allowed: a whole number"]),
        ("batch_size = 1.5", ["batch_size: got 1.5; allowed: a whole number"]),
        ("loss = ['hinge', 'minimax']", ["loss: got (", "'hinge', 'minimax'", "; allowed: minimax"]),
        ("lr_gen = {a = 1}", ["lr_gen"]),
        ("num_steps = ", ["not TOML"]),
        ("out = 3", ["out, overwrite: got 3, False; allowed: a path; true or false"]),
        ("overwrite = 1", ["out, overwrite: got", "1; allowed: a path; true or false"]),
        ("[product]\nstd = [0.1]", ["std: given as a flag, and varies in the file"]),
    ],
)
def test_wrong_files(text, parts, tmp_path, capsys):
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    out = [] if text.startswith("out") else ["--out", tmp_path / "results"]
    message = refused(capsys, "run", file, "--std", "0.5", *out)
    for part in parts:
        assert part in message
    assert not (tmp_path / "results").exists()


def test_wrong_mixtures(tmp_path, capsys):
    out = ["--out", tmp_path / "results", "--target", "mixture"]
    assert "x and y" in refused(capsys, "run", *out, "--means", "1", "--stds", "1")
    assert "means: got shape (0, 2)" in refused(capsys, "run", *out)
    assert "std: got shape (2,)" in refused(capsys, "run", *out, "--means", "1", "0", "--stds", "1", "1")


def test_wrong_paths(small, tmp_path, capsys):
    assert "No such file" in refused(capsys, "run", tmp_path / "none.toml")
    assert "none" in refused(capsys, "show", tmp_path / "none")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    assert "left alone" in refused(capsys, "run", small, "--out", tmp_path / "other", "--overwrite")
    assert "other" in refused(capsys, "report", tmp_path / "other")
    assert "did you mean 'run'" in refused(capsys, "rum")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("replay FOLDER", "run: got nothing; allowed: gandyn replay ... --run INT (Number of the run in it)"),
        ("replay FOLDER --run x", "run: got 'x'; allowed: a whole number"),
        ("replay FOLDER --run 999", "run: got 999; allowed: 0 to 1"),
        ("replay FOLDER --run -1", "run: got -1; allowed: 0 to 1"),
        ("replay FOLDER --run 0 --steps 3:1", "steps: got 1; allowed: a whole number of at least 3"),
        ("replay FOLDER --run 0 --steps 1:9", "steps: got 9; allowed: at most 4"),
        ("replay FOLDER --run 0 --steps 3", "steps: got '3'; allowed: first and last step, such as 2000:2500"),
        ("replay FOLDER --run 0 --measure-every 0", "measure_every: got 0; allowed: a whole number of at least 1"),
        ("replay FOLDER --run 0 --out FOLDER", "FOLDER already holds results"),
        ("extend FOLDER", "extend: got nothing to add; allowed: seeds, num_steps, or both"),
        ("extend FOLDER --seeds 1:3", "seeds: got 1, which FOLDER has; allowed: others"),
        ("extend FOLDER --seeds x", "seeds: got 'x'; allowed: whole numbers, and ranges such as 0:64"),
        ("extend FOLDER --steps 3", "num_steps: got 3; allowed: more than the 4 of FOLDER"),
        ("extend FOLDER --steps 99999999999", "num_steps: got 99,999,999,999; allowed: at most"),
        ("resume FOLDER --engine ry", "engine: got 'ry'; allowed: local, distributed, ray (did you mean 'ray'?)"),
        ("resume FOLDER --steps 4", "--steps: no such option"),
        ("show", "path: got nothing; allowed: gandyn show ... path (Results folder)"),
        ("show FOLDER more", "gandyn show: got 'more' as well; allowed: one path"),
        ("show --path FOLDER", "--path: no such option"),
        (
            "export FOLDER",
            "to: got nothing; allowed: gandyn export ... --to {csv, parquet, tensorboard} (A table, or one log",
        ),
        ("export FOLDER --to parket", "to: got 'parket'; allowed: csv, parquet, tensorboard (did you mean 'parquet'?)"),
        (
            "export FOLDER --to tensorboard --curves",
            "curves: got it with --to tensorboard; allowed with csv and parquet",
        ),
        ("sweep", "sweep: got no file; allowed: gandyn sweep "),
        ("sweep FILE --out FOLDER", "FOLDER already holds results"),
        ("sweep FILE --out FOLDER --num-steps 6", "num_steps: 4 there, 6 here"),
        ("sweep FILE --out FILE", "FILE exists and is not a folder"),
        ("sweep FILE --checkpoint-every -1 --out NONE", "checkpoint_every: got -1.0; allowed: at least 0, finite"),
        ("sweep FILE --engine distributed --num-processes 2 --process-id 5", "process_id: got 5; allowed: at most 1"),
        ("sweep FILE --engine ray --cpus 0", "cpus: got 0.0; allowed: above 0, finite"),
        ("sweep FILE --engine ray", "engine: got 'ray', which is not installed: pip install 'gandyn[ray]'"),
        ("rum", "command: got 'rum'; allowed: run, sweep, "),
        ("--verbose", "command: got '--verbose'; allowed: run, sweep, "),
    ],
)
@pytest.mark.quick(8)
def test_wrong_arguments(arguments, message, folder, small, tmp_path, capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "ray" else found(name, *more))
    before = sorted(path.name for path in folder.iterdir())
    names = {"FOLDER": str(folder), "FILE": str(small), "NONE": str(tmp_path / "none")}
    capsys.readouterr()
    got = refused(capsys, *(names.get(word, word) for word in arguments.split()))
    for name, path in names.items():
        message = message.replace(name, path)
    assert message in got
    assert sorted(path.name for path in folder.iterdir()) == before
    assert list(tmp_path.iterdir()) == [small]


@pytest.mark.parametrize(
    "command", ["status", "resume", "extend --seeds 3", "replay --run 0", "show", "report", "export --to csv"]
)
def test_folders_that_are_none(command, tmp_path, capsys):
    name, *options = command.split()
    assert refused(capsys, name, tmp_path, *options).startswith(f"{tmp_path} is no results folder: ")
    assert refused(capsys, name, tmp_path / "none", *options).startswith(f"{tmp_path / 'none'} does not exist: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "module"), [("parquet", "pyarrow"), ("tensorboard", "tensorboardX")])
def test_an_export_whose_library_is_missing(kind, module, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)  # importing it raises ImportError
    message = refused(capsys, "export", folder, "--to", kind, "--out", tmp_path / "out")
    assert message.startswith(f"this export needs {module}")
    assert "pip install 'gandyn[" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"JAX_PLATFORMS": "rocm"}, "JAX_PLATFORMS: got 'rocm'; allowed: a platform that jax finds here"),
        ({"JAX_NUM_CPU_DEVICES": "0"}, "JAX_NUM_CPU_DEVICES: got 0; allowed: at least 2, or unset"),
    ],
)
@pytest.mark.slow
def test_an_environment_that_jax_cannot_start_in(environment, message, small, tmp_path):
    command = [sys.executable, "-m", "gandyn", "run", str(small), "--out", str(tmp_path / "results")]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"gandyn: {message}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_run_in_a_new_process_has_nothing_to_warn_of(small, tmp_path):
    """One device a core though a target is made first; and programs from the cache are loaded without a word."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_", "TF_CPP"))}
    own["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    for out in ("first", "second"):
        command = [sys.executable, "-m", "gandyn", "run", str(small), "--out", str(tmp_path / out)]
        done = subprocess.run(command, env=own, capture_output=True, text=True, check=True)
        lines = [line for line in done.stderr.splitlines() if "run-steps/s" not in line]
        assert lines == []
