"""The command line: what it prints, and that wrong input gives one message, exit 2 and nothing written."""

import haste
import pytest

import gandyn
from gandyn import cli


@pytest.fixture(scope="module", autouse=True)
def in_haste():
    with haste.everywhere():
        yield


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


def refused(capsys, *arguments) -> str:
    """The message of a command that must fail: exit 2, nothing on standard output, no traceback."""
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err + out
    assert arguments[0] != "run" or (out == "" and err.count("\n") == 1)
    return " ".join((err + out).replace("│", " ").split())


def test_run_report_show(small, tmp_path, capsys):
    out = tmp_path / "results"
    cli.main(["run", str(small), "--loss", "hinge", "--out", str(out)])
    assert "hinge" in capsys.readouterr().out
    results = gandyn.open_results(out)
    assert results.loss.values.tolist() == ["hinge", "hinge"]
    assert results.step.values.tolist() == [0, 2, 4]
    cli.main(["report", str(out)])
    assert "</html>" in (out / "report.html").read_text()
    cli.main(["show", str(out)])
    assert "status: complete" in capsys.readouterr().out


def test_recipes_of_a_file_run_side_by_side(small, tmp_path):
    small.write_text(
        SMALL + '[[recipe]]\nrecipe = "clipped"\nloss = "wasserstein"\npenalty = "clip"\n[[recipe]]\nloss = "hinge"\n'
    )
    cli.main(["run", str(small), "--out", str(tmp_path / "results"), "--lr-gen", "0.01"])
    results = gandyn.open_results(tmp_path / "results")
    assert list(dict.fromkeys(results.loss.values.tolist())) == ["wasserstein", "hinge"]
    assert '"lr_gen": 0.01' in results.attrs["constant_fields"]


@pytest.mark.parametrize("command", [["run", "--help"], ["report", "--help"], ["show", "--help"], ["list", "--help"]])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(command)
    assert stop.value.code == 0
    assert f"gandyn {command[0]}" in capsys.readouterr().out


def test_help_of_run_names_every_field(capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    text = capsys.readouterr().out
    for field in cli._RECIPE_FIELDS | cli._RUN_FIELDS - {"config", "hparams", "measure"}:
        assert "--" + field.replace("_", "-") in text, field


def test_list_has_one_line_for_every_entry(capsys):
    cli.main(["list"])
    text = capsys.readouterr().out
    known = (gandyn.losses.LOSSES, gandyn.penalties.PENALTIES, gandyn.dynamics.DYNAMICS, gandyn.targets.TARGETS)
    for names in (*known, gandyn.presets.PRESETS, gandyn.networks.GENERATORS, gandyn.networks.NORMS):
        for name in names:
            assert f"\n  {name} " in text
    assert "losses, presets, penalties" in refused(capsys, "list", "loses")


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--loss", "hinges"], ["loss: got 'hinges'; allowed: minimax", "did you mean 'hinge'"]),
        (["--loss=hinges"], ["did you mean 'hinge'"]),
        (["--los", "hinge"], ["--los: no such option (did you mean '--loss'?)"]),
        (["--no-overwrit"], ["did you mean '--overwrite'"]),
        (["--num-steps"], ["Missing value", "--num-steps"]),
        (["--seeds", "0:100000000"], ["seeds: got 100,000,000 of them; allowed: at most 1,000,000"]),
        (["--std", "-0.5"], ["std", "-0.5", "above 0"]),
        (["--batch-size", "0"], ["batch_size", "got 0", "at least 1"]),
        (["--batch-size", "many"], ["batch-size", "many"]),
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
        (["--gen-width", "10000000"], ["memory", "GiB", "allowed"]),
        (["--dynamics", "simultaneous", "--disc-steps", "3"], ["disc_steps", "3"]),
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
        ("batchsize = 3", ["unknown key 'batchsize'", "batch_size"]),
        ("[config]\nwidth = 3", ["unknown key 'width'"]),
        ("[confg]\nloss = 'hinge'", ["unknown key 'confg'", "config"]),
        ("[[recipe]]\nnum_steps = 3", ["recipe 1", "unknown key 'num_steps'"]),
        ("recipe = 3", ["recipe", "[[recipe]]"]),
        ("batch_size = 'many'", ["batch-size", "many"]),
        ("batch_size = 1.5", ["batch-size", "1.5"]),
        ("loss = ['hinge', 'minimax']", ["minimax"]),
        ("lr_gen = {a = 1}", ["lr_gen is a table"]),
        ("num_steps = ", ["not TOML"]),
    ],
)
def test_wrong_files(text, parts, tmp_path, capsys):
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    message = refused(capsys, "run", file, "--out", tmp_path / "results")
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


def test_no_arguments_print_the_usage(capsys):
    cli.main([])
    assert "gandyn run" in capsys.readouterr().out
