"""Packing, choosing and writing of the page; its JavaScript as one script; its modules' own tests."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import javascript
import numpy as np
import pytest
import synthetic
import xarray as xr
from browsing import random_players

from gandyn.analysis import opening
from gandyn.report import interactive
from gandyn.report.interactive import assembly, content, packing
from gandyn.sweeps import sweep_file


@pytest.fixture(scope="module")
def results() -> xr.Dataset:
    return opening.derive(
        synthetic.make(recipes=["non_saturating", "minimax"], seeds=6, steps=6, samples=20, surface=8)
    )


def said_by(path: Path) -> dict[str, Any]:
    """The content that a page holds."""
    start = path.read_text().split('data-chunk="content">')[1]
    return json.loads(packing.inflated(start.partition("<")[0]))


def test_modules_pass_their_own_tests(tmp_path: Path):
    node = javascript.node()
    shutil.copytree(javascript.JS, tmp_path / "js")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    command = [node, "--test", str(Path(__file__).with_name("algebra.test.mjs"))]
    environment = os.environ | {"GANDYN_JS": str(tmp_path / "js")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-4000:]


def test_arrays_come_back(tmp_path: Path):
    """In the page and here: float32 to the bit, the others to what they are said to round to."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 5)) * 10.0 ** rng.integers(-3, 3, (3, 5))
    values[0, :3] = np.nan, np.inf, -np.inf
    pack = packing.Pack()
    pack.add("exact", values, "float32")
    pack.add("half", values, "float16")
    finite = np.where(np.isfinite(values), values, np.nan)
    pack.add_rounded("whole", finite, 16)
    pack.add_rounded("byte", finite, 8)
    positive = np.abs(np.nan_to_num(finite))
    stored, low, unit = packing.logarithmic(positive)
    pack.add("logs", stored, "uint8", log_low=low, log_unit=unit)
    (got,) = javascript.answers([{"do": "unpack", "text": pack.text(), "entries": pack.entries}], tmp_path)
    read = {name: np.array([float(x) for x in array]).reshape(3, 5) for name, array in got.items()}
    data = packing.inflated(pack.text())
    for name in ("exact", "half", "whole", "byte"):
        np.testing.assert_allclose(packing.unpacked(pack.entries[name], data), read[name], rtol=1e-6, err_msg=name)
    np.testing.assert_array_equal(read["exact"], values.astype(np.float32).astype(float))
    np.testing.assert_array_equal(read["half"], values.astype(np.float16).astype(float))
    largest = np.nanmax(np.abs(finite))
    np.testing.assert_allclose(read["whole"], finite, atol=largest / 32767 / 2 * 1.001)
    np.testing.assert_allclose(read["byte"], finite, atol=largest / 127 / 2 * 1.001)
    np.testing.assert_allclose(read["logs"], positive, rtol=unit / 2 * 1.01)


def test_the_most_telling_runs(results: xr.Dataset):
    """Of each verdict the median and both extremes, medians first; never a run that was not measured."""
    chosen = interactive.telling(results)
    verdicts = [str(v) for v in results["verdict"].values]
    kinds = list(dict.fromkeys(verdicts))
    assert [verdicts[r] for r in chosen[: len(kinds)]] == kinds
    final = results["jsd"].isel(step=-1).values
    for kind in kinds:
        own = [r for r, v in enumerate(verdicts) if v == kind and np.isfinite(final[r])]
        if own and kind != "diverged":
            assert {min(own, key=lambda r: final[r]), max(own, key=lambda r: final[r])} <= set(chosen)
    cut = results.copy(deep=True)
    for name in content.metrics(cut):
        cut[name].values[0] = np.nan
    assert 0 not in interactive.telling(cut)
    with pytest.raises(ValueError, match="runs: got 99; allowed: 0 to 11"):
        interactive.positions(results, [99])


def test_a_page_keeps_to_its_size(results: xr.Dataset, tmp_path: Path):
    steps = [int(step) for step in results["step"].values]
    players = {run: random_players(48, steps, run) for run in range(12)}
    whole = interactive.write(results, tmp_path / "whole.html", players, size=20_000_000).stat().st_size
    small = interactive.write(results, tmp_path / "small.html", players, size=1_000_000)
    assert small.stat().st_size < 1_000_000 < whole
    kept = said_by(small)["players"]
    assert 0 < len(kept) < 12
    assert list(kept) == sorted(kept, key=int), "the first ones that were handed in are kept"


def test_what_a_page_cannot_show_is_said(results: xr.Dataset, tmp_path: Path):
    bare = results.drop_vars(["samples", "surface", "modes", "value"])
    bare.attrs["status"] = "interrupted"
    told = " ".join(said_by(interactive.write(bare, tmp_path / "page.html", notes=["Mine."]))["lacking"])
    for part in (
        "incomplete: their status is interrupted",
        "No samples were kept",
        "value was not measured",
        "Coverage was not",
        "Mine.",
    ):
        assert part in told
    assert "diverged" in told


def test_a_page_runs_nothing_but_its_own_script(results: xr.Dataset, tmp_path: Path):
    text = interactive.write(results, tmp_path / "page.html").read_text()
    assert "default-src 'none'" in text
    assert "unsafe-eval" not in text
    assert text.count("<script") == text.count("</script>")
    assert "http" not in text.replace("http-equiv", "")
    assert text.count("<script id=") == 1


def test_modules_are_joined_in_the_order_of_their_imports():
    script = assembly.joined()
    order = re.findall(r"^// ---- (\w+)\.js$", script, re.MULTILINE)
    assert order[-1] == "main"
    assert set(order) == {file.stem for file in (assembly.FOLDER / "js").glob("*.js")}, "a module that nothing imports"
    for name in order:
        needed = [other for _, other in assembly._IMPORT.findall(assembly._module(name))]
        assert all(order.index(other) < order.index(name) for other in needed)


def test_a_module_in_another_form_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(assembly, "_module", lambda name: "export default 3;\n")
    with pytest.raises(ValueError, match="in another form"):
        assembly._wrapped("mine")


RECIPE = {
    "loss": "least_squares", "penalties": ["r1", "wgan_gp"], "rule": "alternating", "disc_steps": 2, "gen_steps": 1,
    "first": "disc", "batch_size": 32, "latent_dim": 3, "prior": "uniform",
    "gen_net": "mlp", "gen_width": 8, "gen_depth": 1,
    "gen_activation": "tanh", "disc_net": "mlp", "disc_width": 8, "disc_depth": 1, "disc_activation": "relu",
    "gen_optimizer": "adam", "disc_optimizer": "rmsprop",
    "numbers": {
        "lr_gen": 1e-3, "lr_disc": 2e-3, "beta1_gen": 0.5, "beta1_disc": 0.5, "beta2_gen": 0.99, "beta2_disc": 0.9,
        "eps_gen": 1e-8, "eps_disc": 1e-8, "r1_weight": 0.3, "wgan_gp_weight": 5.0, "wgan_gp_norm": 1.0,
        "label_fake": 0.0,        "label_real": 1.0, "label_gen": 1.0, "alpha_gen": 2.0,
    },
}  # fmt: skip


def test_a_recipe_from_the_page_is_one_that_runs(tmp_path: Path):
    """As TOML and as Python: both make the same settings, of the numbers that its parts read."""
    ring = random_players(8, [0])["target"]
    shaped = ring | {"means": [0, 0, 1, 1], "stds": [0.1, 0.2], "weights": [0.5, 0.5]}
    shaped |= {"shapes": [2, 0, 0.5, 0.5, 1, 0, 0, 1], "modes": [0, 1]}
    tasks = [
        {"do": "recipe", "recipe": RECIPE, "target": ring, "name": "ring", "steps": 2000},
        {"do": "recipe", "recipe": RECIPE, "target": shaped, "name": "", "steps": 2000},
    ]
    for number, told in enumerate(javascript.answers(tasks, tmp_path)):
        file = tmp_path / f"recipe{number}.toml"
        file.write_text(told["toml"])
        tomllib.loads(told["toml"])
        made = sweep_file.make(sweep_file.read(file), {}, None)
        (setting,) = made.settings
        assert setting.config.loss == "least_squares"
        assert setting.config.penalties == ("r1", "wgan_gp")
        assert setting.hparams.r1_weight == pytest.approx(0.3)
        assert len(made.seeds) == 16
        scope: dict[str, Any] = {}
        body = told["python"].partition("\nresults = ")[0]
        exec(compile(body, "recipe", "exec"), scope)  # written by our own page, above
        assert scope["config"] == setting.config
        same = scope["hparams"].as_dict()
        assert all(setting.hparams.as_dict()[name] == pytest.approx(value) for name, value in same.items())
        np.testing.assert_allclose(np.asarray(scope["target"].means), np.asarray(setting.target.means), atol=1e-6)
