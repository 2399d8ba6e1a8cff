"""The experiment scripts and notebooks, in small."""

import runpy
import subprocess
import sys
from pathlib import Path

import haste
import pytest

import gandyn
from gandyn.gan.config import complete


@pytest.fixture(scope="module", autouse=True)
def in_haste():
    with haste.everywhere():
        yield


ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def as_scripts_import(monkeypatch):
    """A script finds what lies beside it."""
    monkeypatch.syspath_prepend(ROOT / "experiments")


def load_experiment(name: str = "loss_vs_value"):
    return runpy.run_path(str(ROOT / "experiments" / f"{name}.py"))


@pytest.mark.slow  # `make run` in small; the anatomy's test runs the same way
def test_experiment_runs_every_recipe_and_writes_its_page(tmp_path, monkeypatch, capsys):
    script = load_experiment()
    out = tmp_path / "results"
    small = ["--num-seeds", "2", "--num-steps", "4", "--measure-every", "2", "--width", "8", "--batch-size", "16"]
    # Two recipes here: each is a program to compile. `test_every_recipe_is_valid` looks at the others.
    chosen = ["--recipes", "non-saturating", "Wasserstein, gradient penalty"]
    monkeypatch.setattr(sys, "argv", ["loss_vs_value.py", *small, *chosen, "--std", "0.2", "--out", str(out)])
    script["main"]()
    results = gandyn.open_results(out)
    assert results.recipe.values.tolist() == ["non-saturating"] * 2 + ["Wasserstein, gradient penalty"] * 2
    page = (out / "report.html").read_text()
    printed = capsys.readouterr().out
    assert "Wasserstein, gradient penalty" in printed
    assert "report.html" in printed
    assert printed.splitlines()[-1].endswith("page.html"), "the last line is the path of the page"
    assert 'href="page.html"' in page
    assert (out / "page.html").stat().st_size < 8_000_000
    assert "Does the minibatch loss track the true value function?" in page


def test_every_recipe_is_valid():
    script = load_experiment()
    options = script["Options"](recipes=tuple(script["RECIPES"]), **script["PRESETS"]["small"])
    made = script["common"].settings(options, script["RECIPES"], {}, script["common"].rates(options))
    for label, (config, hparams) in made.items():
        assert complete(config, hparams).lr_gen == pytest.approx(2e-3), label
    losses = {config.loss for config, _ in made.values()}
    assert losses == {"minimax", "non_saturating", "wasserstein", "hinge", "least_squares", "relativistic"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipes", "hinges"], "did you mean 'hinge'"),
        (["--preset", "smal"], "did you mean 'small'"),
        (["--num-seeds", "0"], "num_seeds: got 0"),
        (["--std", "-1"], "std: got -1"),
    ],
)
def test_experiment_refuses_what_cannot_be_meant(arguments, message, tmp_path, monkeypatch, capsys):
    script = load_experiment()
    monkeypatch.setattr(sys, "argv", ["loss_vs_value.py", *arguments, "--out", str(tmp_path / "results")])
    with pytest.raises(SystemExit) as stop:
        script["main"]()
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_the_zoo_draws_its_figure(tmp_path, monkeypatch, capsys):
    script, out = load_experiment("zoo"), tmp_path / "results"
    small = ["--num-seeds", "2", "--num-steps", "6", "--width", "8", "--batch-size", "16", "--out", str(out)]
    chosen = ["--recipes", "non-saturating", "packs of two", "Wasserstein, clipped"]
    monkeypatch.setattr(sys, "argv", ["zoo.py", *small, *chosen])
    script["main"]()
    assert (out / "zoo.png").stat().st_size > 20_000
    printed = capsys.readouterr().out
    assert printed.count("ring of 8") == printed.count("grid of 25") == 3
    assert set(gandyn.open_results(out).recipe.values) == {
        f"{label}, {target}" for label in chosen[1:] for target in ("ring of 8", "grid of 25")
    }


def test_every_recipe_of_the_zoo_is_valid():
    script = load_experiment("zoo")
    options = script["Options"](recipes=tuple(script["RECIPES"]), **script["PRESETS"]["small"])
    made = script["settings"](options)
    assert len(made) == len(set(made.values())) == 12
    assert len({config for config, _ in made.values()}) == 12


def test_the_zoo_refuses_what_cannot_be_meant(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["zoo.py", "--recipes", "hinges", "--out", str(tmp_path / "results")])
    with pytest.raises(SystemExit) as stop:
        load_experiment("zoo")["main"]()
    assert stop.value.code == 2
    assert "recipes: got 'hinges'; allowed: saturating" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_the_anatomy_answers_with_numbers(tmp_path, monkeypatch, capsys):
    script, out = load_experiment("anatomy"), tmp_path / "results"
    small = ["--num-seeds", "3", "--num-steps", "40", "--measure-every", "2", "--deep-every", "20", "--width", "8"]
    chosen = ["--recipes", "non-saturating", "Wasserstein, gradient penalty", "--batch-size", "16", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["anatomy.py", *small, *chosen])
    script["main"]()
    printed, page = capsys.readouterr().out, (out / "report.html").read_text()
    assert "Of the variance of the minibatch value over a run's measurements, divergence" in " ".join(printed.split())
    assert "no best value is known" in printed
    assert "whether all modes are covered at the end" in page
    results = gandyn.open_results(out)
    assert set(results.verdict.values) <= set(gandyn.verdicts.VERDICTS) | {"undecided"}
    assert int(results.duality_gap.notnull().sum()) == 3 * 3  # the steps 0, 20, 40; not of Wasserstein


def test_the_anatomy_refuses_what_cannot_be_meant(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["anatomy.py", "--deep-every", "150", "--out", str(tmp_path / "results")])
    with pytest.raises(SystemExit) as stop:
        load_experiment("anatomy")["main"]()
    assert stop.value.code == 2
    assert "deep_every: got 150; allowed: a multiple of measure_every, 100" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda path: path.stem)
def test_notebook_runs_on_the_public_api_alone(notebook, tmp_path):
    source = notebook.read_text()
    assert "from gandyn" not in source
    assert "._" not in source
    runpy.run_path(str(notebook), init_globals={"QUICK": True, "FIGURES": str(tmp_path)})
    assert list(tmp_path.glob("*.png"))


def test_module_is_the_command():
    shown = subprocess.run([sys.executable, "-m", "gandyn"], capture_output=True, text=True, check=True)
    assert "usage: gandyn COMMAND" in shown.stdout
