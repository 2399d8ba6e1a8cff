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
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from gandyn import plots, stats


@pytest.fixture(scope="module")
def results() -> xr.Dataset:
    return synthetic.make(samples=20, surface=8)


GALLERY = {"plain": {"ring": "non_saturating", "grid": "minimax"}, "R1": {"ring": "non_saturating, R1"}}


def figures(results: xr.Dataset) -> dict[str, Figure]:
    rows = {recipe: {"ring": recipe} for recipe in stats.recipes(results)}
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
        lambda d: d.isel(step=[0], run=slice(8, 24)),
        lambda d: d.isel(run=[1, 2]),
        lambda d: d.isel(run=slice(48, 51)),
    ],
    ids=["one run, one step", "first step only", "two runs, one diverged", "wasserstein only"],
)
def test_small_results(results: xr.Dataset, change):
    for figure in figures(change(results)).values():
        assert_tidy(figure)


def test_awkward_labels(results: xr.Dataset):
    labels = np.array(["$x_{ tab\tand\nbreak", "a_$b$^c", "long " * 30], object)
    awkward = results.isel(run=[0, 1, 2], step=[0, 20]).assign_coords(recipe=("run", labels))
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
        row = stats.table(results)[0]
        ax = figure.axes[0]
        points = next(line for line in ax.get_lines() if line.get_marker() == "o")
        used = np.delete(np.arange(16), 1)
        np.testing.assert_allclose(data(points)[1], results["loss_disc"].values[used, -1])
        moved = data(points)[0] - results["modes"].values[used, -1]
        assert np.abs(moved).max() < 0.151
        correlation = stats.format_estimate(row.entries["across_disc"].estimate, stats.COLUMNS["across_disc"])
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
        modes = stats.final(results, "modes")
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
    runs = stats.runs_of(results, "minimax")
    final = stats.final(results, "high_quality")[runs]
    want = stats.mean_interval(final[np.isfinite(final)])
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
    rows = stats.table(results)
    modes, lag = figure.axes[0], figure.axes[3]
    dots = [data(line)[0, 0] for line in modes.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose(dots, [row.entries["modes"].estimate.value for row in rows])
    assert [t.get_text().replace("\n", " ") for t in modes.get_yticklabels()] == list(synthetic.RECIPES)
    assert modes.get_ylim()[0] > modes.get_ylim()[1], "the first recipe is on top"
    assert [t.get_text() for t in lag.texts] == ["–"]
    real = [data(line)[0, 0] for line in modes.get_lines() if line.get_color() == plots.COLORS["real"]]
    np.testing.assert_allclose(real, 8)
