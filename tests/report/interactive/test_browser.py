"""The page in a real browser: opened from disk, clicked, dragged, typed into; its console stays silent."""

import json
from pathlib import Path
from typing import Any

import browsing
import numpy as np
import pytest
import synthetic
import xarray as xr
from browsing import Opened, curve, random_players

from gandyn.analysis import opening
from gandyn.report import interactive
from gandyn.report.interactive import content

HOSTILE = "<script>alert(1)</script>\"'>&${title}</script><img src=x onerror=alert(2)>"


def judged(**how: Any) -> xr.Dataset:
    return opening.derive(synthetic.make(**how))


def written(results: xr.Dataset, path: Path, width: int = 8, runs: int = 2, **how: Any) -> Path:
    chosen = list(range(runs))
    steps = [int(step) for step in results["step"].values]
    players = {run: random_players(width, steps, run) for run in chosen}
    known = {"ring": players[0]["target"]} if players else {}
    return interactive.write(results, path, players, chosen=chosen, known_targets=known, **how)


@pytest.fixture(scope="module")
def started() -> Any:
    with browsing.browser() as found:
        yield found


def test_a_page_opens_and_is_looked_into(started: Any, tmp_path: Path):
    """Numbers are the dataset's to the bit; clicking, scrubbing, keys, the address and going back work; silence."""
    results = judged(recipes=["non_saturating", "minimax"], seeds=4, steps=6, samples=20, surface=8)
    opened = Opened(started, written(results, tmp_path / "page.html"))
    shape = results.sizes["run"], results.sizes["step"]
    for name in ("value", "jsd", "modes", "value_se"):
        expected = results[name].transpose("run", "step").values.astype(np.float32)
        np.testing.assert_array_equal(curve(opened, name, *shape), expected.astype(float), err_msg=name)
    assert opened.ask("gandyn.sweep.said.verdicts.of") == [str(v) for v in results["verdict"].values]
    page = opened.page
    assert opened.ask("[gandyn.view.run, gandyn.view.step]") == [0, 5]
    page.keyboard.press("ArrowLeft")
    assert opened.ask("gandyn.view.step") == 4
    page.keyboard.press("d")
    assert opened.ask("gandyn.view.run") == 1
    opened.settle()
    assert "run=1" in page.url or opened.ask("location.hash") == "#step=4&run=1", page.url
    page.go_back()
    opened.wait("gandyn.view.run === 0")
    page.keyboard.press("c")
    assert opened.ask("gandyn.sweep.said.runs.recipe[gandyn.view.other]") == str(results["recipe"].values[0])
    box = page.locator("canvas.mosaic").bounding_box()
    x, y, side = opened.ask("gandyn.mosaic.boxOf(6)")
    page.mouse.click(box["x"] + x + side / 2, box["y"] + y + side / 2)
    assert opened.ask("gandyn.view.run") == 6
    assert opened.ask("document.querySelectorAll('#charts, .chart').length") >= 5
    opened.close()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[xr.Dataset, Path]:
    """256 runs at 41 steps, networks of width 64."""
    results = judged(seeds=64, steps=41, samples=40, surface=16)
    return results, written(results, tmp_path_factory.mktemp("large") / "page.html", 64, 3)


@pytest.mark.slow
def test_it_opens_in_two_seconds_and_scrubs_in_a_twentieth(started: Any, large: tuple[xr.Dataset, Path]):
    """Two seconds and 50 ms are what the page promises; a quarter of either is what it takes on two cores."""
    opened = Opened(started, large[1], "#layers=density,surface,samples,modes,manifold,arrows")
    assert opened.seconds < 2
    opened.settle(800)
    assert opened.ask("gandyn.runs[0].note.textContent").startswith("Networks of step")
    spent = opened.ask(
        """(() => { const spent = [];
        for (let i = 0; i < 100; i++) { gandyn.view.set({step: (i * 7) % 41}); spent.push(gandyn.lastRedraw); }
        return spent; })()"""
    )
    assert np.median(spent) < 50, np.median(spent)
    opened.close()


INKED = """(canvas) => { const c = canvas.getContext('2d'), d = c.getImageData(0, 0, canvas.width, canvas.height).data;
  const seen = new Set();
  for (let i = 0; i < d.length; i += 64) seen.add(d[i] + ' ' + d[i+1] + ' ' + d[i+2] + ' ' + d[i+3]);
  return seen.size; }"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1400, 1000), (1000, 700), (844, 390)])
def test_every_panel_is_drawn(started: Any, large: tuple[xr.Dataset, Path], size: tuple[int, int], scheme: str):
    opened = Opened(started, large[1], "#layers=density,surface,samples,modes,manifold,arrows&other=70", size, scheme)
    opened.settle(900)
    colours = opened.page.eval_on_selector_all(
        "main canvas:not([hidden])", f"(all) => all.map((one) => [one.getAttribute('aria-label'), ({INKED})(one)])"
    )
    assert len(colours) >= 10
    assert all(number > 2 for _, number in colours), colours
    overflow = opened.ask("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, "the page is wider than the screen"
    opened.close()


@pytest.mark.slow
def test_filters_groups_search_and_address(started: Any, large: tuple[xr.Dataset, Path]):
    results, path = large
    opened = Opened(started, path)
    page = opened.page
    box = page.locator("#axes canvas").bounding_box()
    axis = opened.ask("gandyn.axes.axes.findIndex((axis) => axis.name === 'end:modes')")
    x = box["x"] + opened.ask(f"gandyn.axes.left({axis})")
    page.mouse.move(x, box["y"] + 34)
    page.mouse.down()
    page.mouse.move(x, box["y"] + 60, steps=4)
    page.mouse.up()
    low, high = opened.ask("[...gandyn.axes.ranges().values()][0]")
    ends = np.array(opened.ask(f"gandyn.axes.axes[{axis}].values.map(gandyn.axes.axes[{axis}].at)"), float)
    assert opened.ask("Array.from(gandyn.visible)") == [int(low <= end <= high) for end in ends]
    assert 0 < sum(opened.ask("Array.from(gandyn.visible)")) < results.sizes["run"]
    page.get_by_role("button", name="Clear filters").click()
    page.keyboard.press("/")
    page.keyboard.type("minimax collapsed")
    expected = [
        int("minimax" in str(r) and str(v) == "collapsed")
        for r, v in zip(results["recipe"].values, results["verdict"].values, strict=True)
    ]
    assert opened.ask("Array.from(gandyn.visible)") == expected
    page.keyboard.press("Escape")
    page.get_by_label("Colour").select_option("jsd")
    page.get_by_label("Sort").select_option("value")
    opened.settle()
    address = opened.ask("location.hash")
    opened.close()
    again = Opened(started, path, address)
    assert again.ask("[gandyn.view.colour, gandyn.view.sort, gandyn.view.search]") == [
        "jsd",
        "value",
        "minimax collapsed",
    ]
    assert again.ask("Array.from(gandyn.visible)") == expected
    again.close()


@pytest.mark.slow
def test_a_fork_trains_and_is_changed_while_it_runs(started: Any, large: tuple[xr.Dataset, Path]):
    opened = Opened(started, large[1])
    opened.settle(600)
    page = opened.page
    page.keyboard.press("f")
    opened.wait("gandyn.fork && gandyn.fork.answer")
    start = opened.ask("gandyn.fork.answer.at")
    page.keyboard.press(" ")
    opened.wait(f"gandyn.fork.answer.at > {start} + 10")
    page.get_by_label("lr of G").fill("0.01")
    page.get_by_label("lr of G").press("Enter")
    page.locator("#fork").get_by_label("Loss", exact=True).select_option("hinge")
    page.get_by_label("penalty r1").check()
    at = opened.ask("gandyn.fork.answer.at")
    opened.wait(f"gandyn.fork.answer.at > {at} + 5")
    page.get_by_label("Train", exact=True).select_option("disc")
    opened.settle(300)
    page.get_by_role("button", name="Pause").click()
    opened.settle(300)
    at = opened.ask("gandyn.fork.answer.at")
    for number in range(1, 8):
        page.get_by_role("button", name="One part of a step").click()
        opened.wait(f"gandyn.fork.answer.part && gandyn.fork.answer.part.number === {number}")
    assert opened.ask("gandyn.fork.answer.at") == at + 1
    assert "Computed in the browser" in page.locator("#fork").inner_text()
    assert opened.ask("gandyn.fork.recipe.loss") == "hinge"
    page.locator("#fork").get_by_role("button", name="Close").click()
    assert opened.ask("gandyn.fork") is None
    opened.close()


@pytest.mark.slow
def test_a_painted_target_is_trained_on(started: Any, tmp_path: Path):
    known = {"ring": random_players(8, [0])["target"]}
    opened = Opened(started, interactive.write_play(tmp_path / "play.html", known))
    page = opened.page
    opened.wait("gandyn.fork.answer")
    page.get_by_label("Target", exact=True).select_option("painted")
    box = page.locator("canvas.painter").bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 150, box["y"] + 60, steps=8)
    page.mouse.up()
    assert opened.ask("gandyn.fork.target.density.filter((x) => x > 0).length") > 20
    page.keyboard.press("Escape")
    page.locator("#go").click()
    opened.wait("gandyn.fork.answer.at > 20")
    page.get_by_role("button", name="Copy the recipe").click()
    page.get_by_label("As", exact=True).select_option("Python")
    script = page.get_by_label("Recipe", exact=True).input_value()
    assert "gandyn.targets.from_cells(cells" in script
    compile(script, "recipe", "exec")
    page.get_by_role("button", name="Close").click()
    opened.close()


@pytest.mark.slow
def test_hostile_texts_are_inert(started: Any, tmp_path: Path):
    results = judged(recipes=["non_saturating", "minimax"], seeds=2, steps=5, samples=0, surface=0)
    labels = [HOSTILE, HOSTILE, "plain", "plain"]
    hostile = results.assign_coords(recipe=("run", np.array(labels, object)))
    hostile["verdict"].values[:] = HOSTILE
    hostile["verdict_detail"].values[:] = HOSTILE
    hostile["jsd"].attrs["long_name"] = HOSTILE
    hostile["verdict"].attrs["rule"] = json.dumps({HOSTILE: HOSTILE})
    hostile.attrs |= dict.fromkeys(("title", "command", "configuration", "versions", "device", "status"), HOSTILE)
    path = interactive.write(hostile, tmp_path / "page.html", notes=[HOSTILE])
    opened = Opened(started, path, f"#search={HOSTILE}&rows=__proto__&colour=constructor")
    assert opened.ask("document.querySelectorAll('img').length") == 0
    assert opened.ask("document.querySelectorAll('#page script').length") == 0
    assert HOSTILE in opened.page.locator("h1").inner_text()
    assert opened.page.title() == HOSTILE
    opened.page.keyboard.press("s")
    opened.close()
    assert "<img" not in path.read_text()


@pytest.mark.slow
def test_thousands_of_runs_stay_fluid_and_small(started: Any, tmp_path: Path):
    results = synthetic.make(seeds=1024, steps=41, samples=12, surface=0, diverged=False)
    results = opening.derive(synthetic.extended(results))
    noisy, rng = results.copy(deep=True), np.random.default_rng(0)
    for name in content.metrics(noisy):  # what deflates worst
        noisy[name].values[:] = rng.normal(size=noisy[name].shape)
    assert len(content.curves(noisy)[0].text()) < 22_000_000
    path = written(results, tmp_path / "page.html", 64, 3, size=8_000_000)
    assert path.stat().st_size < 25_000_000
    opened = Opened(started, path)
    spent = opened.ask(
        """(() => { const spent = []; gandyn.view.set({colour: 'jsd'});
        for (let i = 0; i < 30; i++) { gandyn.view.set({step: (i * 7) % 41}); spent.push(gandyn.lastRedraw); }
        return spent; })()"""
    )
    assert np.median(spent) < 100, np.median(spent)
    xs, ys, side = opened.ask(
        "[Array.from(gandyn.mosaic.geometry.xs), Array.from(gandyn.mosaic.geometry.ys), gandyn.mosaic.geometry.side]"
    )
    width, height = opened.ask("[gandyn.mosaic.canvas.width, gandyn.mosaic.canvas.height]")
    assert len(set(zip(xs, ys, strict=True))) == 4096
    assert min(xs) >= 0
    assert max(xs) + side <= width
    assert max(ys) + side <= height
    assert side >= 3
    opened.close()
