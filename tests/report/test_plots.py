# pyright: reportArgumentType=false

import io
import itertools
import math
from typing import Any

import matplotlib as mpl
import matplotlib.text
import numpy as np
import pytest
import synthetic
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox
from PIL import Image

from gandyn.analysis import intervals, loss_curves, reading, tables
from gandyn.report import figures as plots
from gandyn.report.figures.verdict_mosaic import _ink


@pytest.fixture(scope="module")
def results() -> xr.Dataset:
    return synthetic.make(samples=20, surface=8)


GALLERY = {"plain": {"ring": "non_saturating", "grid": "minimax"}, "R1": {"ring": "non_saturating, R1"}}


def figures(results: xr.Dataset) -> dict[str, Figure]:
    rows = {recipe: {"ring": recipe} for recipe in reading.recipes(results)}
    return {
        "gallery": plots.gallery(results, rows, costs=dict.fromkeys(rows, 1.5)),
        "decomposition": plots.decomposition(results),
        "loss_disc": plots.loss_against_coverage(results),
        "loss_gen": plots.loss_against_coverage(results, "loss_gen"),
        "samples": plots.samples_over_training(results, plots.pick_covering_and_collapsed(results)),
        "overview": plots.overview(results),
    }


def texts(figure: Figure) -> list[matplotlib.text.Text]:
    """The texts of a figure that are seen: not those of ticks outside of the axis, nor those of hidden axes."""
    found = [t for t in figure.findobj(matplotlib.text.Text) if t.get_visible() and t.get_text().strip()]
    ticks = {
        id(label): axis
        for ax in figure.axes
        for axis in (ax.xaxis, ax.yaxis)
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        for label in (tick.label1, tick.label2)
    }
    drawn = {
        id(label)
        for ax in figure.axes
        for axis in (ax.xaxis, ax.yaxis)
        for tick in axis._update_ticks()  # pyright: ignore[reportAttributeAccessIssue]
        for label in (tick.label1, tick.label2)
        if label.get_visible()
    }
    return [t for t in found if id(t) not in ticks or id(t) in drawn]


def data(line: Any) -> np.ndarray:
    """What a line is drawn from, (2, n)."""
    return np.asarray(line.get_data(), float)


def words(figure: Figure) -> str:
    return "\n".join(t.get_text() for t in texts(figure))


def notes_of(ax: Axes) -> str:
    """The text under the title of a panel, the rank correlation's line left out."""
    lines = [t.get_text() for t in ax.texts if not t.get_text().startswith("rank correlation")]
    return " ".join(reversed(lines))


def assert_tidy(figure: Figure) -> None:
    """No text leaves the figure or overlaps another, as rendered."""
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts(figure)]
    assert boxes
    for text, box in boxes:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
        assert inside, f"{text!r} leaves the figure: {box}"
    for (a, box), (b, other) in itertools.combinations(boxes, 2):
        overlap = Bbox.intersection(box, other)
        # One pixel of shared border is leading, not ink.
        assert overlap is None or min(overlap.width, overlap.height) <= 1, f"{a!r} overlaps {b!r}"


def assert_legend_clear_of_axes(figure: Figure) -> None:
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert not any(box.overlaps(ax.get_window_extent()) for ax in figure.axes)


def test_texts_are_tidy_and_legends_clear(results: xr.Dataset):
    before = mpl.rcParams.copy()
    for figure in figures(results).values():
        assert_tidy(figure)
        assert_legend_clear_of_axes(figure)
    assert mpl.rcParams == before


def test_callers_settings_do_not_reach_the_figure(results: xr.Dataset):
    one = results.isel(run=slice(0, 16))
    with mpl.rc_context({"axes.facecolor": "red", "xtick.labelsize": 30, "font.size": 40, "axes.grid": False}):
        figure = plots.loss_against_coverage(one)
        assert figure.axes[0].get_facecolor() == (1, 1, 1, 1)
        assert {t.get_fontsize() for t in figure.axes[0].get_xticklabels()} == {8}
        assert_tidy(figure)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.isel(run=[0], step=[20]),
        pytest.param(lambda d: d.isel(step=[0], run=slice(8, 24)), marks=pytest.mark.slow),
        lambda d: d.isel(run=[1, 2]),
        lambda d: d.isel(run=slice(48, 51)),
    ],
    ids=["one run, one step", "first step only", "two runs, one diverged", "wasserstein only"],
)
def test_small_results(results: xr.Dataset, change):
    for figure in figures(change(results)).values():
        assert_tidy(figure)


def test_awkward_labels(results: xr.Dataset):
    labels = np.array(["$x_{ tab\tand\nbreak, a_$b$^c", "long " * 30], object)
    awkward = results.isel(run=[0, 1], step=[0, 20]).assign_coords(recipe=("run", labels))
    for figure in figures(awkward).values():
        assert_tidy(figure)
    # Dollars are escaped for matplotlib, and shown as they are.
    assert r"a_\$b\$^c" in words(plots.decomposition(awkward))


class TestDecomposition:
    def test_draws_the_curves_of_the_run(self, results: xr.Dataset):
        figure = plots.decomposition(results, recipe="minimax")
        left, right = figure.axes
        lines = {line.get_color(): line for line in left.get_lines()}
        for metric in ("value_batch", "value", "value_best"):
            np.testing.assert_allclose(data(lines[plots.COLORS[metric]])[1], results[metric].values[32])
        assert data(lines[plots.COLORS["equilibrium"]])[1, 0] == pytest.approx(-2 * math.log(2))
        mean = next(line for line in right.get_lines() if line.get_color() == plots.COLORS["value"])
        np.testing.assert_allclose(data(mean)[1], results["value"].values[32:48].mean(axis=0), rtol=1e-5)

    def test_interval_of_the_value_is_2365_standard_errors(self, results: xr.Dataset):
        left = plots.decomposition(results, run=32).axes[0]
        # Shaded areas: the lag, then the interval of the value.
        lag, interval = (np.asarray(c.get_paths()[0].vertices) for c in left.collections)
        first = interval[interval[:, 0] == 0][:, 1]
        assert np.ptp(first) == pytest.approx(2 * 2.365 * 0.006, rel=1e-3)
        first = lag[lag[:, 0] == 0][:, 1]
        assert np.ptp(first) == pytest.approx(float(results["lag"].values[32, 0]), rel=1e-3)

    def test_says_what_is_missing(self, results: xr.Dataset):
        text = words(plots.decomposition(results))
        assert text.count("no best value is known for this loss") == 1
        assert text.count("1 diverged, counted until then") == 1
        assert "diverged by step 2,400" in words(plots.decomposition(results, run=1))

    def test_outliers_are_clipped_and_counted(self, results: xr.Dataset):
        wild = results.isel(run=slice(16, 32)).copy(deep=True)
        wild["value"].values[0, 0] = -1e6
        figure = plots.decomposition(wild)
        low, high = figure.axes[0].get_ylim()
        assert high - low < 10
        assert low < -2 * math.log(2) < high
        assert words(figure).count("1 point beyond the axis") == 2

    def test_run_must_be_of_the_recipe(self, results: xr.Dataset):
        with pytest.raises(ValueError, match="run 0 is of recipe 'non_saturating', not of 'minimax'"):
            plots.decomposition(results, recipe="minimax", run=0)
        with pytest.raises(ValueError, match="no run 999"):
            plots.decomposition(results, run=999)


class TestLossAgainstCoverage:
    def test_one_point_a_run_and_the_correlation_above(self, results: xr.Dataset):
        figure = plots.loss_against_coverage(results)
        assert len(figure.axes) == 4
        row = tables.table(results)[0]
        ax = figure.axes[0]
        points = next(line for line in ax.get_lines() if line.get_marker() == "o")
        used = np.delete(np.arange(16), 1)
        np.testing.assert_allclose(data(points)[1], results["loss_disc"].values[used, -1])
        moved = data(points)[0] - results["modes"].values[used, -1]
        assert np.abs(moved).max() < 0.151
        correlation = tables.format_interval(row.entries["across_disc"].interval, tables.COLUMNS["across_disc"])
        assert f"rank correlation {correlation}" in words(figure)
        assert "15 runs, 1 diverged (×)" in words(figure)
        assert sum(line.get_marker() == "x" for a in figure.axes for line in a.get_lines()) == 1

    def test_reference_points(self, results: xr.Dataset):
        # Known values: K = 8, k = 1, 2, 4, 6, 7, 8.
        k = np.array([1, 2, 4, 6, 7, 8]) - 1
        ax = plots.loss_against_coverage(results, recipe="non_saturating").axes[0]
        best = next(line for line in ax.get_lines() if line.get_marker() == "D")
        np.testing.assert_allclose(data(best)[1, k], [0.3924, 0.6255, 0.9548, 1.1951, 1.2955, 1.3863], atol=6e-5)
        ax = plots.loss_against_coverage(results, "loss_gen", recipe="non_saturating").axes[0]
        best = next(line for line in ax.get_lines() if line.get_marker() == "D")
        np.testing.assert_allclose(data(best)[1, k], [2.1972, 1.6094, 1.0986, 0.8473, 0.7621, 0.6931], atol=6e-5)
        ax = plots.loss_against_coverage(results, recipe="wasserstein, gradient penalty").axes[0]
        assert not [line for line in ax.get_lines() if line.get_marker() == "D"]

    def test_no_reference_where_none_is_known(self, results: xr.Dataset):
        unknown = results.isel(run=slice(0, 16)).copy(deep=True)
        unknown["best_loss_disc"].values[:] = np.nan
        ax = plots.loss_against_coverage(unknown).axes[0]
        assert not [line for line in ax.get_lines() if line.get_marker() == "D"]

    def test_far_points_are_at_the_margin_and_counted(self, results: xr.Dataset):
        wild = results.isel(run=slice(0, 48)).copy(deep=True)
        wild["loss_disc"].values[4, -1] = 1e5
        wild["loss_disc"].values[5, -1] = np.nan
        figure = plots.loss_against_coverage(wild)
        assert notes_of(figure.axes[0]) == "14 runs, 1 diverged (×), 1 without a value, 1 beyond the axis (▲▼)"
        assert sum(line.get_marker() == "^" for line in figure.axes[0].get_lines()) == 1
        assert figure.axes[0].get_ylim()[1] < 10
        assert_tidy(figure)


class TestSamples:
    def test_picks_runs_of_one_recipe_by_its_rule(self, results: xr.Dataset):
        covering, collapsed = plots.pick_covering_and_collapsed(results)
        recipe = results["recipe"].values
        assert recipe[covering] == recipe[collapsed]
        modes = reading.final(results, "modes")
        assert modes[covering] == 8
        assert modes[collapsed] == 1
        assert collapsed != 1, "a diverged run is no collapsed one"

    def test_labels_are_not_positions(self, results: xr.Dataset):
        part = results.isel(run=slice(32, 48))
        covering, collapsed = plots.pick_covering_and_collapsed(part)
        assert 32 <= covering < 48
        figure = plots.samples_over_training(part, [covering, collapsed], steps=[0, 4000])
        assert len([ax for ax in figure.axes if ax.get_label() != "<colorbar>"]) == 4
        assert f"run {collapsed}, seed {collapsed - 32}" in words(figure)

    def test_one_run_or_none(self, results: xr.Dataset):
        assert plots.pick_covering_and_collapsed(results.isel(run=[3])) == (3, 3)
        with pytest.raises(ValueError, match="without diverging"):
            plots.pick_covering_and_collapsed(results.isel(run=[1]))

    def test_panels(self, results: xr.Dataset):
        figure = plots.samples_over_training(results, [0, 48], steps=[200, 4000])
        panels = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
        fake = panels[1].get_lines()[1]
        np.testing.assert_allclose(data(fake).T, results["samples"].values[0, -1])
        assert panels[0].get_xlim() == (-1.5, 1.5)
        assert all(ax.get_aspect() == 1 for ax in panels)
        logistic, critic = (sum(panels[i].collections[0].get_clim()) / 2 for i in (0, 2))
        assert logistic == pytest.approx(0)
        assert critic == pytest.approx(np.median(results["surface"].values[48, [1, -1]]))
        real = data(panels[0].get_lines()[0]).T
        nearest = np.linalg.norm(real[:, None] - results["target_means"].values[0], axis=-1).min(axis=1)
        assert np.sqrt((nearest**2).mean() / 2) == pytest.approx(0.05, rel=0.1)

    def test_diverged_panels_say_so(self, results: xr.Dataset):
        assert "diverged" in words(plots.samples_over_training(results, 1, steps=[0, 4000]))

    def test_without_surface_or_samples(self, results: xr.Dataset):
        figure = plots.samples_over_training(results.drop_vars("surface"), 0)
        assert not figure.axes[0].collections
        assert_tidy(figure)
        with pytest.raises(ValueError, match="hold no samples"):
            plots.samples_over_training(results.drop_vars("samples"), 0)
        with pytest.raises(ValueError, match="no measurement at step 7"):
            plots.samples_over_training(results, 0, steps=[7])


def test_gallery_draws_means_runs_and_costs(results: xr.Dataset):
    figure = plots.gallery(results, GALLERY, costs={"plain": 1.0, "R1": 1.6})
    assert len(figure.axes) == 5
    runs = reading.runs_of(results, "minimax")
    final = reading.final(results, "high_quality")[runs]
    want = intervals.mean_interval(final[np.isfinite(final)])
    lines = [data(line) for line in figure.axes[1].get_lines()]
    bars = [line[0] for line in lines if line.shape[1] == 2]
    assert any(np.allclose(bar, [want.low, want.high]) for bar in bars)
    assert any(line.shape[1] == 1 and np.isclose(line[0, 0], want.value) for line in lines)
    # Modes are a share; the cost of each row is written beside its bar; run 1 diverged.
    modes = np.concatenate([data(line)[0] for line in figure.axes[0].get_lines()])
    assert modes.max() <= 1
    assert "1.6" in words(figure)
    assert "1 diverged" in words(figure)


def test_gallery_has_a_dash_where_a_loss_has_no_such_metric(results: xr.Dataset):
    figure = plots.gallery(results, {"critic": {"ring": "wasserstein, gradient penalty"}}, metrics=("modes", "lag"))
    assert [t.get_text() for t in figure.axes[1].texts] == ["-"]


def test_overview_draws_the_table(results: xr.Dataset):
    figure = plots.overview(results)
    rows = tables.table(results)
    modes, lag = figure.axes[0], figure.axes[3]
    dots = [data(line)[0, 0] for line in modes.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose(dots, [row.entries["modes"].interval.value for row in rows])
    assert [t.get_text().replace("\n", " ") for t in modes.get_yticklabels()] == list(synthetic.RECIPES)
    assert modes.get_ylim()[0] > modes.get_ylim()[1], "the first recipe is on top"
    assert [t.get_text() for t in lag.texts] == ["undefined"]
    real = [data(line)[0, 0] for line in modes.get_lines() if line.get_color() == plots.COLORS["real"]]
    np.testing.assert_allclose(real, 8)


def assert_markers_are_whole(figure: Figure) -> None:
    """No marker that is on its axes is cut by their end."""
    figure.draw_without_rendering()
    for ax in figure.axes:
        for line in ax.get_lines():
            if line.get_marker() in ("", "None", None, "|") or not line.get_clip_on() or not data(line).size:
                continue
            at = line.get_transform().transform(data(line).T)
            low, high = np.array([*ax.bbox.min]), np.array([*ax.bbox.max])
            at = at[np.isfinite(at).all(axis=1) & (at >= low - 0.01).all(axis=1) & (at <= high + 0.01).all(axis=1)]
            radius = 0.5 * (line.get_markersize() * (0.5 if line.get_marker() == "." else 1)) * figure.dpi / 72
            assert (np.minimum(at - low, high - at) >= radius - 0.5).all(), (ax.get_title("left"), line.get_marker())


@pytest.fixture(scope="module")
def alone() -> xr.Dataset:
    """One run that ends with four of eight modes."""
    one = synthetic.make(["non_saturating"], seeds=1, steps=5, samples=0, surface=0, diverged=False)
    one["modes"].values[:] = 4
    return synthetic.extended(one)


def test_one_run_with_four_modes_is_drawn_at_four(alone: xr.Dataset):
    figure = plots.distributions(alone)
    (ax,) = figure.axes
    (run,) = [data(line) for line in ax.get_lines() if line.get_alpha() == 0.6 and data(line).size]
    assert run[0] == [4.0]
    assert all(tick == round(tick) for tick in ax.get_xticks())
    against = plots.loss_against_coverage(alone).axes[0]
    (run,) = [data(line) for line in against.get_lines() if line.get_marker() == "o"]
    assert run[0] == [4.0]
    for name in ("distributions", "implied_modes", "curves"):
        arguments = ("modes",) if name == "curves" else ()
        ax = getattr(plots, name)(alone, *arguments).axes[0]
        axis = ax.xaxis if name == "distributions" else ax.yaxis
        ticks = axis.get_majorticklocs()
        assert ticks == pytest.approx(np.round(ticks)), name


def test_an_axis_of_modes_ends_at_all_of_them(alone: xr.Dataset):
    of_x = [plots.distributions(alone), plots.overview(alone), plots.loss_against_coverage(alone)]
    of_y = [plots.curves(alone, "modes"), plots.implied_modes(alone)]
    for low, high in [f.axes[0].get_xlim() for f in of_x] + [f.axes[0].get_ylim() for f in of_y]:
        assert -1 < low < 0
        assert 8 < high < 9
    assert max(plots.distributions(alone, "jsd").axes[0].get_xlim()) < 8, "of another metric it does not"


def test_what_is_undefined_is_said_beside_the_lines_of_the_axis(alone: xr.Dataset):
    for figure, axes in ((plots.tracking(alone), range(6)), (plots.overview(alone), (4, 5))):
        figure.draw_without_rendering()
        found = 0
        for ax in (figure.axes[i] for i in axes):
            boxes = [text.get_window_extent() for text in ax.texts if text.get_text() == "undefined"]
            found += len(boxes)
            for value in (-1, 0, 1):
                at = ax.transData.transform((value, 0))[0]
                assert not any(box.x0 - 2 <= at <= box.x1 + 2 for box in boxes)
        assert found
        assert "–" not in words(figure)


def test_no_marker_is_cut_at_the_end_of_an_axis():
    few = synthetic.make(["non_saturating"], seeds=12, steps=5, samples=0, surface=0, diverged=False)
    few["jsd"].values[:, -1] = [*np.linspace(0.66, 0.67, 10), 0.1, 0.69]  # far from 0, and two that are far out
    few["lag"].values[:, -1] = np.linspace(1.35, 1.36, 12)
    few["modes"].values[:, -1] = [0, 8] * 6
    assert_markers_are_whole(plots.overview(few))
    assert_markers_are_whole(plots.distributions(few, "jsd"))
    assert_markers_are_whole(plots.distributions(few))


@pytest.mark.slow
def test_no_marker_is_cut_in_any_figure(results: xr.Dataset, alone: xr.Dataset):
    for which in (results, alone):
        for figure in (
            plots.curves(which, "modes"),
            plots.curves(which, "jsd"),
            plots.tracking(which),
            plots.loss_against_coverage(which),
            plots.decomposition(which),
            plots.implied_modes(which),
        ):
            assert_markers_are_whole(figure)
    for draw in RICH.values():
        assert_markers_are_whole(draw(alone))


@pytest.fixture(scope="module")
def rich() -> xr.Dataset:
    """What richer measurements record: one recipe with a diverged run, one without a best value."""
    few = synthetic.make(["non_saturating", "wasserstein, gradient penalty"], seeds=6, steps=9, samples=0, surface=0)
    return synthetic.extended(few)


RICH = {
    "curves": lambda d: plots.curves(d, "mode_tv"),
    "curves of one recipe": lambda d: plots.curves(d, "w1", str(d["recipe"].values[0])),
    "gap_budget": plots.gap_budget,
    "implied_modes": plots.implied_modes,
    "tracking": plots.tracking,
    "gradient_snr": plots.gradient_snr,
    "distributions": plots.distributions,
    "distributions of W1": lambda d: plots.distributions(d, "w1"),
    "verdict_mosaic": lambda d: plots.verdict_mosaic(d, "recipe"),
    "spectrum": lambda d: plots.spectrum(d, int(d["run"].values[0])),
}


def without_values(results: xr.Dataset) -> xr.Dataset:
    """As after an interruption before the first measurement."""
    empty = results.copy(deep=True)
    for x in empty.data_vars.values():
        if x.dims[:2] == ("run", "step"):
            x.values[:] = np.nan
    empty["verdict"].values[:] = "unmeasured"
    return empty


def hostile(results: xr.Dataset) -> xr.Dataset:
    labels = np.array(["$x_{ tab\tand\nbreak a_$b$^c", "long " * 30], object)
    awkward = results.isel(run=[0, 1]).assign_coords(recipe=("run", labels)).copy(deep=True)
    awkward["verdict"].values[:] = ["$\\frac{", "<b>"]
    return awkward


@pytest.mark.parametrize("name", RICH)
def test_rich_figures_are_tidy(rich: xr.Dataset, name: str):
    before = mpl.rcParams.copy()
    figure = RICH[name](rich)
    assert_tidy(figure)
    if figure.legends:
        assert_legend_clear_of_axes(figure)
    assert mpl.rcParams == before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda d: d.isel(run=[0], step=[8]), id="one run, one step", marks=pytest.mark.slow),
        pytest.param(lambda d: d.isel(run=[1]), id="one diverged run", marks=pytest.mark.slow),
        pytest.param(lambda d: hostile(d.isel(step=[8])), id="awkward labels, one step"),
        pytest.param(lambda d: without_values(d.isel(run=[0, 6])), id="nothing measured", marks=pytest.mark.slow),
    ],
)
def test_rich_figures_of_poor_results(rich: xr.Dataset, change):
    poor = change(rich)
    for name, draw in RICH.items():
        if name == "spectrum" and np.isnan(poor["eigenvalues"].values).all():
            with pytest.raises(ValueError, match="has no eigenvalues"):
                draw(poor)
        else:
            assert_tidy(draw(poor))


@pytest.mark.parametrize(
    ("draw", "variables", "message"),
    [
        (plots.gap_budget, ["equilibrium"], "hold no equilibrium; gandyn.run records it"),
        (
            RICH["spectrum"],
            ["eigenvalues"],
            "hold no eigenvalues; gandyn.run records it with deep_every and 'spectrum' in deep",
        ),
        (
            plots.gradient_snr,
            ["grad_snr_gen", "grad_snr_disc"],
            "hold no grad_snr_gen; gandyn.run records it with deep_every and 'gradients' in deep",
        ),
        (RICH["verdict_mosaic"], ["verdict"], r"hold no verdict; gandyn.verdicts.judge\(results\) adds it"),
        (
            plots.implied_modes,
            ["best_loss_disc", "best_loss_gen"],
            "hold no implied_modes_disc; it follows from best_loss_disc",
        ),
        (
            plots.gap_budget,
            ["value_best"],
            "gandyn.run records it with 'best_response' among its measurements",
        ),
        (plots.implied_modes, ["modes"], "hold no modes; gandyn.run records it with 'coverage' among its measurements"),
        (lambda d: plots.distributions(d, "modus"), [], "no metric 'modus' .did you mean 'modes'."),
        (plots.tracking, ["jsd", "w1", "modes"], "none of the losses and metrics"),
    ],
)
def test_what_is_missing_is_named(rich: xr.Dataset, draw, variables: list[str], message: str):
    if draw is plots.tracking:
        with pytest.raises(ValueError, match=message):
            plots.tracking(rich.drop_vars(variables), table=tables.correlations(rich))
    else:
        with pytest.raises(ValueError, match=message):
            draw(rich.drop_vars(variables))


def lines_of(ax: Axes, color: str) -> list[np.ndarray]:
    return [data(line) for line in ax.get_lines() if line.get_color() == color]


class TestGapBudget:
    def test_parts_and_their_sum(self, rich: xr.Dataset):
        figure = plots.gap_budget(rich, run=2)
        left, right = figure.axes
        value, best, lag = (rich[m].values[2].astype(float) for m in ("value", "value_best", "lag"))
        equilibrium = -2 * math.log(2)
        (divergence, deep), (below,) = (
            lines_of(left, plots.COLORS["value_best"]),
            lines_of(left, plots.COLORS["lag"]),
        )
        (rest,) = lines_of(left, plots.COLORS["value"])
        np.testing.assert_allclose(divergence[1], best - equilibrium, rtol=1e-5)
        np.testing.assert_allclose(below[1], -lag, atol=1e-5)
        np.testing.assert_allclose(rest[1], value - equilibrium, atol=1e-5)
        np.testing.assert_allclose(divergence[1] + below[1], rest[1], atol=1e-5)
        np.testing.assert_array_equal(deep[0], rich["step"].values[::4])
        noise = (rich["value_batch"].values[2].astype(float) - value) ** 2
        signs = [f"{x:+.3f}".replace("-", "−") for x in (best[-1] - equilibrium, -lag[-1], value[-1] - equilibrium)]
        ending = "at step 1,600: {} {} = {}, minibatch noise ±{:.3f}".format(*signs, math.sqrt(noise.mean()))
        assert ending in words(figure)
        gap = lines_of(right, plots.COLORS["equilibrium"])[0]
        np.testing.assert_allclose(gap[1], rich["duality_gap"].values[2, ::4], rtol=1e-5)

    def test_mean_over_runs_and_what_is_not_known(self, rich: xr.Dataset):
        figure = plots.gap_budget(rich)
        mean = lines_of(figure.axes[0], plots.COLORS["value"])[0]
        want = np.nanmean(rich["value"].values[:6].astype(float), axis=0) + 2 * math.log(2)
        np.testing.assert_allclose(mean[1], want, atol=1e-5)
        assert "mean over 6 runs, 1 diverged, counted until then" in words(figure)
        assert words(figure).count("no best value is known for this loss") == 1
        assert not lines_of(figure.axes[2], plots.COLORS["lag"])[0].size

    def test_without_a_duality_gap(self, rich: xr.Dataset):
        plain = rich.drop_vars(["duality_gap", "duality_gap_se", "value_best_deep"])
        assert len(plots.gap_budget(plain).axes) == 2
        with pytest.raises(ValueError, match="run 0 is of recipe"):
            plots.gap_budget(plain, recipe="wasserstein, gradient penalty", run=0)


class TestSpectrum:
    def test_draws_the_eigenvalues_of_each_step(self, rich: xr.Dataset):
        figure = plots.spectrum(rich, 0)
        plane = figure.axes[0]
        points = [data(line) for line in plane.get_lines() if line.get_marker() == "o"]
        assert len(points) == 3
        for found, step in zip(points, (0, 4, 8), strict=True):
            np.testing.assert_allclose(found.T, rich["eigenvalues"].values[0, step, :10])
        colors = [line.get_color() for line in plane.get_lines() if line.get_marker() == "o"]
        assert len(set(map(tuple, colors))) == 3
        assert plane.get_xscale() == plane.get_yscale() == "symlog"
        low, high = plane.get_xlim()
        assert low < 0 < high
        assert any(np.allclose(line.get_xdata(), 0) for line in plane.get_lines()), "the imaginary axis is marked"
        assert "0 of 10 recorded eigenvalues unstable" in words(figure)

    def test_what_is_measured_stands_beside(self, rich: xr.Dataset):
        text = words(plots.spectrum(rich, 0))
        assert "spectral radius of the update" in text
        alone = rich.drop_vars(["spectral_radius", "max_real", "rotation_share"])
        figure = plots.spectrum(alone, 0, steps=[800])
        assert_tidy(figure)
        assert [ax.get_label() for ax in figure.axes] == ["", "<colorbar>"]

    def test_one_scale_for_both_parts_linear_where_it_can_be(self, rich: xr.Dataset):
        circle = rich.isel(run=[0]).copy(deep=True)
        angle = np.linspace(0, 2 * np.pi, 12)
        circle["eigenvalues"].values[0, 4] = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        plane = plots.spectrum(circle, 0, steps=[800]).axes[0]
        assert plane.get_xscale() == plane.get_yscale() == "linear"

    def test_refuses_what_is_not_there(self, rich: xr.Dataset):
        with pytest.raises(ValueError, match="no eigenvalues at step 200; there are some at 0, 800, 1600"):
            plots.spectrum(rich, 0, steps=[200])
        with pytest.raises(ValueError, match="steps: got none"):
            plots.spectrum(rich, 0, steps=[])
        with pytest.raises(ValueError, match="no run 99"):
            plots.spectrum(rich, 99)


class TestGradients:
    def test_medians_quartiles_and_batch_size(self, rich: xr.Dataset):
        figure = plots.gradient_snr(rich, "wasserstein, gradient penalty")
        snr, scale, saturation = figure.axes
        x = np.sort(rich["grad_snr_gen"].values[6:, 0].astype(float))
        (line,) = (at for at in lines_of(snr, plots.COLORS["gen"]) if at.shape[1] > 2)
        assert line[1, 0] == pytest.approx(x[2]), "the third of six, for no mean of a ratio is taken"
        assert snr.get_yscale() == scale.get_yscale() == "log"
        dotted = [data(line)[1, 0] for line in scale.get_lines() if line.get_linestyle() == ":"]
        assert dotted == pytest.approx([256])
        assert "trained with 256" in words(figure)
        assert saturation.get_ylim() == pytest.approx((-0.04, 1.04))

    def test_unresolved_signals_are_counted_and_cost_nothing(self, rich: xr.Dataset):
        lost = rich.isel(run=slice(6, 12)).copy(deep=True)
        lost["grad_snr_gen"].values[:3, 2] = -0.5
        lost["noise_scale_gen"].values[:3, 2] = np.inf
        count = int((np.stack([lost["grad_snr_gen"].values, lost["grad_snr_disc"].values]) <= 0).sum())
        figure = plots.gradient_snr(lost)
        assert f"{count} of 108 unresolved" in words(figure)
        (line,) = (at for at in lines_of(figure.axes[0], plots.COLORS["gen"]) if at.shape[1] > 2)
        assert 400 not in line[0], "a median that is not positive is not drawn"
        assert np.isfinite(figure.axes[1].get_ylim()).all()
        assert_tidy(figure)


def rectangles(ax: Axes) -> list[Rectangle]:
    return [p for p in ax.patches if isinstance(p, Rectangle)]


def cells(ax: Axes) -> dict[tuple[int, int], str]:
    """(column, row) -> sign."""
    return {
        (round(t.get_position()[0]), round(t.get_position()[1])): t.get_text()
        for t in ax.texts
        if len(t.get_text()) == 1
    }


class TestVerdictMosaic:
    def test_one_cell_a_run_and_counts(self):
        results = synthetic.sweep(recipes=("minimax", "non_saturating"))
        figure = plots.verdict_mosaic(results)
        assert len(figure.axes) == 2
        assert_tidy(figure)
        verdict, rates = results["verdict"].values, sorted(set(results["lr_gen"].values))
        for ax, first in zip(figure.axes, (0, 24), strict=True):
            signs, image = cells(ax), np.asarray(ax.images[0].get_array())
            assert len(signs) == 24
            for r in range(first, first + 24):
                place = rates.index(results["lr_gen"].values[r]), int(results["seed"].values[r])
                sign, color = plots.VERDICT_MARKS[verdict[r]]
                assert signs[place] == sign
                np.testing.assert_allclose(image[place[1], place[0]], to_rgb(color))
        counts = [t.get_text() for t in figure.legends[0].get_texts()]
        assert f"✓  converged: {int((verdict == 'converged').sum())}" in counts
        assert sum(int(text.rpartition(" ")[2]) for text in counts) == 48
        good = intervals.share_interval(int((verdict[:24] == "converged").sum()), 24)
        assert f"{tables.format_interval(good, tables.COLUMNS['all_modes'])} of 24 runs converged" in words(figure)
        assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["0.0001", "0.0003", "0.001"]

    def test_signs_differ_and_are_read_on_their_colour(self):
        signs = [sign for sign, _ in plots.VERDICT_MARKS.values()]
        assert len(set(signs)) == len(signs) == len({color for _, color in plots.VERDICT_MARKS.values()})
        for _, color in plots.VERDICT_MARKS.values():
            # Contrast of sign and ground, WCAG 2: at least 3 for large or bold text.
            linear = np.array([c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)])
            ground = linear @ [0.2126, 0.7152, 0.0722]
            ink = 0.0 if _ink(color) == "black" else 1.0
            high, low = max(ground, ink), min(ground, ink)
            assert (high + 0.05) / (low + 0.05) >= 3, color

    def test_two_coordinates_share_a_strip(self):
        results = synthetic.sweep(learning_rates=(1e-4, 1e-3), seeds=8)
        rates = np.tile(np.repeat([1e-5, 1e-3], 4), 2)
        results = results.assign_coords(lr_disc=("run", rates), seed=("run", np.tile(np.arange(4), 4)))
        figure = plots.verdict_mosaic(results, by=("lr_gen", "lr_disc"))
        (ax,) = figure.axes
        texts_ = [t.get_text() for t in ax.texts if "/" in t.get_text()]
        assert len(texts_) == 4
        verdict = results["verdict"].values
        assert texts_[0] == f"{int((verdict[:4] == 'converged').sum())}/4"
        width = sum(p.get_width() for p in rectangles(ax))
        assert width == pytest.approx(4 * 0.86)
        assert_tidy(figure)

    def test_runs_that_share_a_seed_hide_none(self, rich: xr.Dataset):
        same = rich.assign_coords(seed=("run", np.zeros(12, int)))
        figure = plots.verdict_mosaic(same, "recipe")
        assert len(cells(figure.axes[0])) == 12
        assert figure.axes[0].get_ylabel() == "run, in order of seed"

    def test_refuses_other_coordinates(self, rich: xr.Dataset):
        with pytest.raises(ValueError, match="no coordinate 'lr_gen' on run"):
            plots.verdict_mosaic(rich)
        with pytest.raises(ValueError, match="two different ones"):
            plots.verdict_mosaic(rich, ("loss", "loss"))


class TestDistributions:
    def test_two_groups_are_seen(self, rich: xr.Dataset):
        two = rich.isel(run=slice(6, 12)).copy(deep=True)
        two["modes"].values[:, -1] = [1, 1, 8, 8, 8, 8]
        ax = plots.distributions(two).axes[0]
        bars = {round(p.get_x() + p.get_width() / 2): p.get_height() for p in rectangles(ax) if p.get_height() > 0}
        assert bars == pytest.approx({1: 1 / 3, 8: 2 / 3})
        points = [data(line) for line in ax.get_lines() if line.get_color() == plots.COLORS["run"]]
        assert np.concatenate(points, axis=1).shape[1] == 6
        (mean,) = (at for at in lines_of(ax, plots.COLORS["equilibrium"]) if at.shape[1] == 1)
        (middle,) = (at for at in lines_of(ax, plots.COLORS["best_disc"]) if at.shape[1] == 1)
        assert mean[0, 0] == pytest.approx(34 / 6)
        assert middle[0, 0] == pytest.approx(intervals.interquartile_mean([1, 1, 8, 8, 8, 8]))

    def test_failures_are_points(self, rich: xr.Dataset):
        figure = plots.distributions(rich)
        crosses = [data(line) for line in figure.axes[0].get_lines() if line.get_marker() == "x"]
        assert np.concatenate(crosses, axis=1)[0] == pytest.approx([0], abs=0.31)
        # W1 has no value for a failure: it is in the strip beyond the axis of all others.
        figure = plots.distributions(rich, "w1")
        crosses = np.concatenate(
            [data(line) for line in figure.axes[0].get_lines() if line.get_marker() == "x"], axis=1
        )
        w1 = reading.final(rich, "w1")
        assert crosses.shape[1] == 1
        assert crosses[0, 0] > np.nanmax(w1)
        assert "6 runs, 1 diverged (×)" in words(figure)

    def test_a_metric_not_measured_at_the_end_counts_where_it_was_last(self, rich: xr.Dataset):
        deep = rich.isel(run=slice(6, 12)).copy(deep=True)
        deep["w1"].values[:, 5:] = np.nan
        figure = plots.distributions(deep, "w1")
        points = [data(line) for line in figure.axes[0].get_lines() if line.get_color() == plots.COLORS["run"]]
        found = np.sort(np.concatenate(points, axis=1)[0])
        np.testing.assert_allclose(found, np.sort(deep["w1"].values[:, 4]), rtol=1e-5)
        assert "6 not measured at the end, but before" in words(figure)


def test_the_targets_recorded_samples_are_drawn_where_there_are_any(results: xr.Dataset):
    few = results.isel(run=[0, 2])
    shown = np.full((2, 5, 2), np.nan)
    shown[0] = [[0.1, 0.2]] * 5
    shown[1, :3] = [[0.3, 0.4]] * 3
    for known in (few, few.drop_vars(["target_means", "target_stds"])):
        both = known.assign(target_samples=(("run", "target_sample", "xy"), shown))
        figure = plots.samples_over_training(both, [0, 2], steps=[4000])
        drawn = [lines_of(ax, plots.COLORS["real"])[0] for ax in figure.axes[:2]]
        np.testing.assert_allclose(drawn[0], [[0.1] * 5, [0.2] * 5])
        np.testing.assert_allclose(drawn[1], [[0.3] * 3, [0.4] * 3])
    unknown = few.drop_vars(["target_means", "target_stds"])
    assert lines_of(plots.samples_over_training(unknown, 0).axes[0], plots.COLORS["real"])[0].size == 0


class TestCurves:
    def test_median_and_quartiles_over_runs_with_failures_as_the_metric_says(self, rich: xr.Dataset):
        ax, other = plots.curves(rich, "mode_tv").axes
        (line,) = lines_of(ax, plots.COLORS["run"])
        x = np.sort(rich["mode_tv"].values[:6].astype(float), axis=0)
        assert line[1, 0] == pytest.approx(x[2, 0]), "the third of six, for infinity has no mean"
        # From its divergence on run 1 counts as 1, the largest there is.
        failed = np.where(rich["finite"].values[:6] == 0, 1.0, rich["mode_tv"].values[:6].astype(float))
        np.testing.assert_allclose(line[1], np.sort(failed, axis=0)[2])
        assert other.get_ylim() == ax.get_ylim()
        text = words(ax.get_figure())
        assert "6 runs, 1 diverged" in text
        assert "total variation over modes" in text
        plain = rich.assign(mode_tv=rich["mode_tv"].copy())
        plain["mode_tv"].attrs = {"long_name": "spread of $G$", "units": "furlong"}
        figure = plots.curves(plain, "mode_tv", "non_saturating")
        (line,) = lines_of(figure.axes[0], plots.COLORS["run"])
        last = np.sort(plain["mode_tv"].values[[0, 2, 3, 4, 5], -1].astype(float))
        assert line[1, -1] == pytest.approx(last[2])
        assert r"spread of \$G\$ (furlong)" in words(figure)

    def test_runs_without_a_value_are_counted(self, rich: xr.Dataset):
        some = rich.copy(deep=True)
        some["w1"].values[6:8] = np.nan
        some["w1"].values[8, 3] = np.inf
        figure = plots.curves(some, "w1")
        assert "6 runs, 2 without a value" in words(figure)
        assert_tidy(figure)
        assert np.isfinite(figure.axes[0].get_ylim()).all()

    def test_refuses_what_is_no_metric(self, rich: xr.Dataset):
        with pytest.raises(ValueError, match=r"no metric 'mode_tvs' \(did you mean 'mode_tv'\?\)"):
            plots.curves(rich, "mode_tvs")
        with pytest.raises(ValueError, match="metric: got 'eigenvalues', over run, step, eigenvalue, part"):
            plots.curves(rich, "eigenvalues")


def test_figures_show_themselves_as_a_picture(rich: xr.Dataset):
    for name in plots.__all__:
        draw = getattr(plots, name)
        if callable(draw) and hasattr(draw, "draws"):
            assert all(isinstance(metric, str) for metric in draw.draws), name
    figure = plots.curves(rich, "w1", "non_saturating")
    assert isinstance(figure, Figure)
    with mpl.rc_context({"savefig.dpi": 50}):
        shown = figure._repr_png_()
    picture = Image.open(io.BytesIO(shown))
    assert picture.format == "PNG"
    assert picture.size == tuple(int(50 * side) for side in figure.get_size_inches())


def test_no_penalty_has_a_name_in_the_mosaic(rich: xr.Dataset):
    mixed = rich.assign_coords(penalties=("run", np.array(["", "r1+mine"] * 6, object)))
    figure = plots.verdict_mosaic(mixed, "penalties")
    assert "none" in words(figure)
    assert "r1+mine" in words(figure)


class TestTracking:
    def test_draws_the_table(self, rich: xr.Dataset):
        table = tables.correlations(rich)
        figure = plots.tracking(rich, table=table)
        assert len(figure.axes) == 6
        for i, metric in enumerate(("jsd", "w1", "modes")):
            for row, kind in enumerate(("within", "across")):
                ax = figure.axes[3 * row + i]
                dots = [at[0, 0] for at in lines_of(ax, plots.COLORS["disc"]) if at.shape[1] == 1]
                want = [getattr(c, kind).interval.value for c in table if (c.loss, c.metric) == ("loss_disc", metric)]
                np.testing.assert_allclose(dots, [x for x in want if math.isfinite(x)])

    def test_metrics_that_are_not_recorded_have_no_panel(self, rich: xr.Dataset):
        assert len(plots.tracking(rich.drop_vars("w1")).axes) == 4


class TestImpliedModes:
    def test_computed_or_as_recorded(self, rich: xr.Dataset):
        left = plots.implied_modes(rich, "non_saturating").axes[0]
        (line,) = lines_of(left, plots.COLORS["disc"])
        want = loss_curves.implied_modes(rich, "disc")[0]
        np.testing.assert_allclose(line[1], want[np.isfinite(want)])
        recorded = rich.assign(implied_modes_disc=(("run", "step"), np.full((12, 9), 3.5)))
        (line,) = lines_of(plots.implied_modes(recorded, "non_saturating").axes[0], plots.COLORS["disc"])
        np.testing.assert_allclose(line[1], 3.5)
        (true,) = lines_of(left, plots.COLORS["equilibrium"])
        np.testing.assert_allclose(true[1], rich["modes"].values[0])

    def test_says_what_is_not_known(self, rich: xr.Dataset):
        text = words(plots.implied_modes(rich))
        assert text.count("what this recipe's losses imply is not known") == 1
        assert "mean over 6 runs; 1 diverged, counted until then" in text
