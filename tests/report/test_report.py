import base64
import html
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import synthetic
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

from gandyn import report
from gandyn.analysis import intervals, loss_curves, opening, reading, tables
from gandyn.report import facts, findings, sections

HOSTILE = "<script>alert(1)</script>\"'>&${title}$"


@pytest.fixture(scope="module")
def results() -> xr.Dataset:
    return synthetic.make(recipes=["non_saturating", "wasserstein, gradient penalty"], seeds=6, samples=30, surface=8)


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few pixels: drawing them is slow, and not what is tested."""
    savefig = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: savefig(self, *args, **(kw | {"dpi": 30})))


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made, but not drawn."""
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **kw: None)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what stands beside the figures: making them is slow."""
    monkeypatch.setattr(sections, "figures", lambda results: iter(()))
    monkeypatch.setattr(sections, "others", lambda results: ([], []))


class Page(HTMLParser):
    """Collects the elements, the attributes and the visible text of a page, and checks that its elements nest."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if "style" not in self.open else ""


def read(path: Path) -> tuple[Page, str]:
    page = Page(path.read_text(encoding="utf-8"))
    return page, " ".join(page.text.split())


def interrupted(results: xr.Dataset) -> xr.Dataset:
    cut = results.copy(deep=True)
    for x in cut.data_vars.values():
        if x.dims[:2] == ("run", "step"):
            x.values[:6, 8:] = np.nan
            x.values[6:] = np.nan
    cut.attrs["status"] = "interrupted"
    return cut


def test_page_is_complete_and_self_contained(results: xr.Dataset, tmp_path: Path):
    path = report.write(results, tmp_path / "new" / "report.html")
    assert path == tmp_path / "new" / "report.html"
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    page, text = read(path)
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href"):
            assert value.startswith(("data:image/png;base64,", "#note-"))
    assert "http" not in path.read_text().replace("http-equiv", "")
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert page.tags.count("img") == 9, (
        "what is built in has its figure or none; a curve of its own has what a person measures"
    )
    images = [value for name, value in page.attributes if name == "src"]
    first = Image.open(io.BytesIO(base64.b64decode(images[0].partition(",")[2])))
    assert first.width > 1500
    for part in (
        results.attrs["title"],
        "gandyn sweep ring8.toml --seeds 16",
        'kind = "ring"',
        "jax 0.10.1",
        "12 min 34 s",
        "cpu, 2 devices",
        "no best value is known for this loss",
        "veegan: within 3 std",
    ):
        assert part in text
    assert "incomplete" not in text
    assert "What happened to" not in text, "no verdict is recorded"
    assert "spectrum" not in text
    # Every note that an entry points to is there.
    targets = {value[1:] for name, value in page.attributes if name == "href"}
    assert targets == {value for name, value in page.attributes if name == "id"}
    row = tables.table(results)[0]
    modes = tables.format_interval(row.entries["modes"].interval, tables.COLUMNS["modes"])
    assert re.sub(r"\s", "", modes) in re.sub(r"\s", "", text)


@pytest.mark.usefixtures("no_figures")
def test_a_report_links_to_the_page_beside_it(results: xr.Dataset, tmp_path: Path):
    few = results.isel(step=[0, 10, 20]).drop_vars(["samples", "surface"])
    for name, link in (("page.html", "page.html"), ("javascript:alert(1)", "javascript%3Aalert%281%29")):
        page, text = read(report.write(few, tmp_path / "report.html", page=name))
        assert ("href", link) in page.attributes
        assert "Look into every run" in text
    page, text = read(report.write(few, tmp_path / "report.html"))
    assert "Look into every run" not in text


@pytest.mark.usefixtures("blank")
def test_hostile_labels_are_inert(results: xr.Dataset, tmp_path: Path):
    labels = np.where(results["recipe"].values == "non_saturating", HOSTILE, "plain").astype(object)
    hostile = results.isel(step=[0, 10, 20]).assign_coords(recipe=("run", labels))
    hostile = hostile.drop_vars(["samples", "surface"])
    hostile.attrs |= dict.fromkeys(("title", "command", "configuration", "versions", "device", "status"), HOSTILE)
    path = report.write(hostile, tmp_path / "report.html")
    page, text = read(path)
    assert "script" not in page.tags
    assert "<script" not in path.read_text(encoding="utf-8")
    # As text it is all there, dollars and quotes too.
    assert text.count(HOSTILE) >= 8
    assert any("default-src 'none'" in value for _, value in page.attributes)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.drop_vars("surface").isel(run=[0]),
        lambda d: d.isel(run=[1]),
        pytest.param(
            lambda d: d.drop_vars("samples").isel(run=slice(0, 3)).assign_attrs(dict.fromkeys(d.attrs, "")),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["one run, no surface", "one diverged run", "no attributes"],
)
@pytest.mark.usefixtures("coarse")
@pytest.mark.quick(1)
def test_small_results(results: xr.Dataset, tmp_path: Path, change):
    few = change(results)
    _, text = read(report.write(few, tmp_path / "report.html"))
    assert "nan" not in text.lower()
    assert report.summary(few)


@pytest.mark.usefixtures("no_figures")
def test_incomplete_results_say_so(results: xr.Dataset, tmp_path: Path):
    cut = interrupted(results.drop_vars("samples"))
    sentences = facts.incompleteness(cut)
    assert sentences[0] == "These results are incomplete: their status is interrupted."
    assert sentences[1] == "6 runs of 12 never measured."
    assert "6 runs of 12 have no measurement at the last step, 4,000 (the earliest end is step 1,400)" in sentences[2]
    _, text = read(report.write(cut, tmp_path / "report.html"))
    assert all(sentence in text for sentence in sentences)
    assert "0 of 6" in text
    assert all(sentence in report.summary(cut) for sentence in sentences)
    assert facts.incompleteness(results) == []


@pytest.mark.usefixtures("coarse")
def test_nothing_measured(results: xr.Dataset, tmp_path: Path):
    empty = interrupted(synthetic.extended(results.isel(run=slice(0, 8, 4))))
    for x in empty.data_vars.values():
        if x.dims[:2] == ("run", "step"):
            x.values[:] = np.nan
    page, text = read(report.write(empty, tmp_path / "report.html"))
    assert "No run was measured." in text
    assert "2 runs of 2 never measured." in text
    assert page.tags.count("img") == 7
    assert "Without a value in any run" not in text, "said of what a person measures alone"
    assert "nan" not in text.lower()


def test_headlines_are_computed_from_the_data(results: xr.Dataset):
    text = "\n".join(report.headlines(results))
    full = int((reading.final(results, "modes") == 8).sum())
    assert f"{full} of 12 runs ended with all modes covered" in text
    assert "1 diverged." in text
    noise = loss_curves.sampling_noise(results)
    kept = np.isfinite(noise).all(axis=1) & reading.logistic(results)
    assert f"a standard deviation of {noise[kept].std():.3f} nats" in text
    entry = tables.table(results)[0].entries["across_disc"]
    correlation = tables.format_interval(entry.interval, tables.COLUMNS["across_disc"])
    assert "Across 5 seeds of non_saturating, the discriminator's final loss and the modes covered have rank " in text
    assert correlation in text


@pytest.mark.parametrize(
    ("estimate", "words"),
    [((0.5, 0.1, 0.8), "a higher loss"), ((-0.5, -0.8, -0.1), "a lower loss"), ((0.1, -0.2, 0.4), "does not tell")],
)
def test_verdict_follows_the_interval(results: xr.Dataset, estimate: tuple[float, float, float], words: str):
    row = tables.table(results)[0]
    changed = row._replace(entries=row.entries | {"across_disc": tables.Entry(intervals.Interval(*estimate), 6)})
    assert words in "\n".join(report.headlines(results, [changed]))


@pytest.mark.usefixtures("blank")
def test_many_recipes_are_cut_in_figures_and_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = {f"recipe {i}": ("minimax", 0.3, 0.2) for i in range(6)}
    many = synthetic.make(names, seeds=5, samples=0, surface=0, steps=5)
    monkeypatch.setattr(sections, "MAX_RECIPES", 2)
    page, text = read(report.write(many, tmp_path / "report.html"))
    assert text.count("The first 2 of 6 recipes are drawn.") == page.tags.count("img") == 8
    assert all(name in text for name in names)
    assert "of 6 recipes with a rank correlation" in "\n".join(report.headlines(many))


@pytest.mark.usefixtures("blank")
def test_rich_results_have_their_figures_and_verdicts(results: xr.Dataset, tmp_path: Path):
    few = results.isel(step=slice(0, 21, 5)).drop_vars(["samples", "surface"])
    rich = synthetic.extended(few, every=2)
    path = report.write(rich, tmp_path / "report.html")
    page, text = read(path)
    assert page.tags.count("img") == 12
    for heading in (
        "A loss near equilibrium is a sum of two large terms",
        "What happened to each run",
        "How the seeds are distributed",
        "Which loss tracks the truth?",
        "How many modes the losses imply",
        "How much of a gradient is signal",
        "The spectrum of the game",
    ):
        assert heading in text
    verdict = rich["verdict"].values[:6]
    good = int((verdict == "converged").sum())
    share = tables.format_interval(intervals.share_interval(good, 6), tables.COLUMNS["all_modes"])
    assert f"<td>{good}<small>{share.replace(' %', '&nbsp;%')}</small></td>" in path.read_text()
    assert "every mode is covered, JSD is small" in text


@pytest.mark.usefixtures("blank")
def test_a_metric_of_ones_own_has_a_curve(results: xr.Dataset, tmp_path: Path):
    few = results.drop_vars(["samples", "surface"]).isel(run=[0, 1, 2, 6, 7])
    mine = {"measurement": "mine"}  # whose it is: metrics that are built in have no curve beside the figures
    attrs = {"long_name": f"spread {HOSTILE}", "units": "1", "failed": "3"} | mine
    noise = np.random.default_rng(0).normal(size=few["jsd"].shape)
    own = few.assign(
        spread=(("run", "step"), noise, attrs),
        spread_se=(("run", "step"), np.abs(noise), mine),
        nothing=(("run", "step"), np.full(noise.shape, np.nan), mine),
        zero=(("run", "step"), 0 * noise, mine),
    )
    assert set(sections.undrawn(own)) == {"spread", "nothing", "zero"}
    sentences, curves = sections.others(own)
    assert sentences == ["Zero throughout: zero (zero).", "Without a value in any run: nothing (nothing)."]
    assert [section.heading for section in curves][-1] == f"spread {HOSTILE}"
    assert curves[-1].caption.endswith("those that diverged counting as 3 from then on.")
    page, text = read(report.write(own, tmp_path / "report.html"))
    assert "script" not in page.tags
    assert "What else was measured" in text
    assert f"spread {HOSTILE}" in text
    assert sentences[0] in text
    # What a metric of one's own is called like must not matter.
    assert sections.undrawn(few) == []


@pytest.mark.usefixtures("blank")
def test_a_target_without_modes_has_a_report(results: xr.Dataset, tmp_path: Path):
    of_modes = [str(n) for n in results if "mode" in results[n].dims or "mode" in str(n)]
    of_modes += ["high_quality", "high_quality_real", "reverse_kl", "reverse_kl_real"]
    bare = opening.derive(results.isel(run=[0, 1, 2, 6, 7]).drop_vars(of_modes))
    assert set(bare["verdict"].values) <= {"converged", "imprecise", "still_moving", "diverged", "undecided"}
    assert "implied_modes_disc" not in bare
    _, text = read(report.write(bare, tmp_path / "report.html"))
    assert "Coverage was not measured." in text
    for heading in ("What a loss curve is made of", "Which loss tracks the truth?", "Samples over training"):
        assert heading in text
    assert "nan" not in text.lower()


def test_what_an_accuracy_of_a_half_hides(results: xr.Dataset):
    rich = synthetic.extended(results)
    rich["accuracy"].values[:, -1] = 0.7
    assert not any("no better than chance" in text for text in findings.headlines(rich))
    rich["accuracy"].values[:, -1] = 0.52
    rich["accuracy_best"].values[:, -1] = 0.9
    told = next(text for text in findings.headlines(rich) if "no better than chance" in text)
    assert "90.0 %" in told


@pytest.mark.usefixtures("no_figures")
def test_hostile_verdicts_are_inert(results: xr.Dataset, tmp_path: Path):
    rich = synthetic.extended(results.isel(step=[0, 10, 20]).drop_vars(["samples", "surface"])).copy(deep=True)
    rich["verdict"].values[:] = HOSTILE
    for rule in (json.dumps({HOSTILE: HOSTILE}), "{", "[1]", HOSTILE):
        rich["verdict"].attrs["rule"] = rule
        path = report.write(rich, tmp_path / "report.html")
        page, text = read(path)
        assert "script" not in page.tags
        assert HOSTILE.replace("_", " ") in text
        assert html.escape(HOSTILE)[:20] in path.read_text()
        assert ("What the verdicts mean" in text) == (rule[:2] == '{"')
    rich["verdict"].attrs = {}
    page, text = read(report.write(rich, tmp_path / "report.html"))
    assert "script" not in page.tags
    assert HOSTILE in text


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize(
    ("lacking", "images"),
    [
        (tuple(f"{m}{end}" for m in ("modes", "high_quality", "mode_tv", "reverse_kl") for end in ("", "_real")), 4),
        (("value", "value_se", "value_batch", "value_best", "value_best_se", "lag", "jsd", "jsd_se"), 6),
    ],
    ids=["no coverage", "no value"],
)
def test_what_was_not_measured_has_no_figure(results: xr.Dataset, tmp_path: Path, lacking: list[str], images: int):
    few = results.drop_vars([*lacking, "samples", "surface"]).isel(run=[0, 1, 2, 6, 7])
    page, text = read(report.write(few, tmp_path / "report.html"))
    assert page.tags.count("img") == images
    assert "nan" not in text.lower()
    assert ("Coverage was not measured" in text) == ("modes" in lacking)


def test_mosaic_is_spanned_by_what_a_sweep_varies(results: xr.Dataset):
    one = synthetic.sweep(seeds=2, recipes=("minimax", "non_saturating"))
    assert sections.mosaic_by(one) == "lr_gen"
    grid = one.isel(run=slice(0, 6)).assign_coords(lr_disc=("run", [1e-4, 1e-4, 1e-3, 1e-3, 1e-4, 1e-4]))
    assert sections.mosaic_by(grid) == "recipe", "not every pair of values is there"
    pairs = xr.concat([one.isel(run=slice(0, 6))] * 2, dim="run")
    disc = np.repeat([1e-4, 1e-3], 6)
    labels = np.array([f"{g} {d}" for g, d in zip(pairs["lr_gen"].values, disc, strict=True)], object)
    pairs = pairs.assign_coords(run=np.arange(12), recipe=("run", labels), lr_disc=("run", disc))
    assert sections.mosaic_by(pairs) == ("lr_gen", "lr_disc")
    assert sections.mosaic_by(results) == "recipe"


def test_summary(results: xr.Dataset):
    text = report.summary(results)
    assert text.startswith(
        "Synthetic: four recipes on a ring of eight\n12 runs of 2 recipes, measured at 21 steps from 0 to 4,000"
    )
    assert "status: complete" in text
    assert tables.format_table(tables.table(results)) in text


def test_the_table_is_a_data_frame(results: xr.Dataset):
    frame = report.table(results)
    assert frame.shape == (2, 1 + len(tables.COLUMNS))
    assert frame.equals(tables.frame(tables.table(results)))


@pytest.mark.slow
def test_every_module_imports_neither_jax_nor_pyplot():
    code = "import importlib, pkgutil, sys, gandyn.analysis, gandyn.report\n"
    code += "for room in (gandyn.analysis, gandyn.report):\n"
    code += "    for module in pkgutil.walk_packages(room.__path__, room.__name__ + '.'):\n"
    code += "        importlib.import_module(module.name)\n"
    code += "print(sorted({'jax', 'gandyn.gan', 'gandyn.sweeps', 'matplotlib.pyplot'} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_terminal_is_told_each_verdict_and_why(results: xr.Dataset):
    assert "verdicts:" not in facts.summary(results), "none is recorded"
    judged = opening.derive(results)
    lines = facts.verdict_lines(judged, 110)
    assert lines[0] == "verdicts:"
    assert max(map(len, lines)) <= 110
    text = facts.summary(judged)
    for r in range(judged.sizes["run"]):
        assert f"run {judged['run'].values[r]}: {judged['verdict'].values[r].replace('_', ' ')}" in text
        first = str(judged["verdict_detail"].values[r]).partition(";")[0]
        assert first in " ".join(text.split())
    many = opening.derive(synthetic.make(samples=0, surface=0, steps=9))
    assert not any("run 0:" in line for line in facts.verdict_lines(many, 110)), "of many runs the counts alone"
