import math

import numpy as np
import pytest
import scipy.stats
import synthetic
import xarray as xr

from gandyn.analysis import intervals, tables

NAN = float("nan")


@pytest.fixture(scope="module")
def results() -> xr.Dataset:
    return synthetic.make(samples=0, surface=0)


def column(digits: int = 2, percent: bool = False) -> tables.Column:
    return tables.Column("", "", digits, percent)


def test_within_runs_is_spearman_over_steps(results: xr.Dataset):
    r = tables.within_runs(results, "loss_disc")
    loss, modes = results["loss_disc"].values, results["modes"].values
    assert r[0] == pytest.approx(scipy.stats.spearmanr(loss[0, 1:], modes[0, 1:])[0])
    # Up to the divergence.
    assert r[1] == pytest.approx(scipy.stats.spearmanr(loss[1, 1:12], modes[1, 1:12])[0])
    assert np.isnan(tables.within_runs(results.isel(step=[0, 1, 2]), "loss_disc")).all()


class TestCorrelations:
    def test_every_loss_with_every_metric_of_every_recipe(self, results: xr.Dataset):
        found = tables.correlations(results)
        assert len(found) == 4 * 3 * 3
        by_name = {(c.recipe, c.loss, c.metric): c for c in found}
        one = by_name["minimax", "loss_gen", "jsd"]
        loss, jsd = results["loss_gen"].values[32:48], results["jsd"].values[32:48]
        each = [float(np.asarray(scipy.stats.spearmanr(x[1:], y[1:])[0])) for x, y in zip(loss, jsd, strict=True)]
        assert one.within.interval.value == pytest.approx(np.mean(each))
        assert one.within.interval == intervals.mean_interval(tables.within_runs(results, "loss_gen", "jsd")[32:48])
        assert one.across.interval == intervals.rank_correlation(loss[:, -1], jsd[:, -1])
        table = tables.table(results)[0]
        assert by_name["non_saturating", "loss_disc", "modes"].across == table.entries["across_disc"]
        assert by_name["non_saturating", "loss_disc", "modes"].within == table.entries["within_disc"]

    def test_what_is_not_recorded_has_a_note(self, results: xr.Dataset):
        one = next(c for c in tables.correlations(results) if c.metric == "w1")
        assert one.within == one.across
        assert one.within.note == "w1 is not recorded in these results"

    def test_a_metric_measured_rarely_is_paired_where_it_was(self, results: xr.Dataset):
        w1 = np.full(results["jsd"].shape, np.nan)
        w1[:, ::4] = np.random.default_rng(0).random(w1[:, ::4].shape)
        w1[:, -1] = np.nan
        with_w1 = results.assign(w1=(("run", "step"), w1))
        one = next(c for c in tables.correlations(with_w1) if (c.loss, c.metric) == ("loss_gen", "w1"))
        loss = results["loss_gen"].values[:16]
        each = [scipy.stats.spearmanr(x[4:20:4], y[4:20:4])[0] for x, y in zip(loss, w1[:16], strict=True)]
        each[1] = scipy.stats.spearmanr(loss[1, 4:12:4], w1[1, 4:12:4])[0]  # two steps before it diverged: no value
        assert one.within.count == 15
        assert one.within.interval.value == pytest.approx(np.delete(each, 1).mean())
        assert one.across.count == 15
        left = np.delete(np.arange(16), 1)
        assert one.across.interval == intervals.rank_correlation(loss[left, 16], w1[left, 16])
        assert one.across.note.startswith("over 15 of 16 runs")


class TestTable:
    def test_entries(self, results: xr.Dataset):
        row = tables.table(results)[0]
        modes = results["modes"].values[:16, -1].astype(float)
        assert np.isnan(modes[1])
        modes[1] = 0
        assert (row.recipe, row.loss, row.runs, row.measured) == ("non_saturating", "non_saturating", 16, 16)
        assert row.entries["modes"].interval == intervals.mean_interval(modes)
        assert row.entries["all_modes"].interval == intervals.share_interval(int((modes == 8).sum()), 16)
        assert row.entries["diverged"].interval.value == 1 / 16
        assert row.entries["lag"].count == 15
        assert "15 of 16 runs" in row.entries["lag"].note
        assert row.entries["across_disc"].count == 15
        loss = np.delete(results["loss_disc"].values[:16, -1], 1)
        expected = scipy.stats.spearmanr(loss, np.delete(modes, 1))[0]
        assert row.entries["across_disc"].interval.value == pytest.approx(expected)
        within = tables.within_runs(results, "loss_disc")[:16]
        assert row.entries["within_disc"].interval.value == pytest.approx(within.mean())
        assert row.real == pytest.approx({"modes": 8, "high_quality": 0.989})

    def test_undefined_entries_give_the_reason(self, results: xr.Dataset):
        rows = {row.recipe: row for row in tables.table(results)}
        lag = rows["wasserstein, gradient penalty"].entries["lag"]
        assert math.isnan(lag.interval.value)
        assert "no best value is known" in lag.note

        same = results.isel(run=slice(16, 32)).copy(deep=True)
        same["modes"].values[:] = 8
        entries = tables.table(same)[0].entries
        assert entries["across_disc"].note == "modes are the same in every run"
        assert "constant" in entries["within_disc"].note
        assert entries["modes"].interval == pytest.approx((8, math.nan, math.nan), nan_ok=True)
        assert "all runs read the same" in entries["modes"].note

        every_run_failed = results.isel(run=[1])
        entries = tables.table(every_run_failed)[0].entries
        assert "a diverged run has no lag" in entries["lag"].note
        assert entries["modes"].interval.value == 0

    def test_few_runs(self, results: xr.Dataset):
        one = tables.table(results.isel(run=[0]))[0].entries
        assert "no interval" in one["modes"].note
        assert "too few" in one["across_disc"].note
        four = tables.table(results.isel(run=[0, 2, 3, 4]))[0].entries
        assert "fewer than 8 runs give no interval" in four["across_disc"].note

    def test_lacking_metrics_and_unmeasured_runs(self, results: xr.Dataset):
        entries = tables.table(results.drop_vars(["jsd", "lag"]))[0].entries
        assert entries["jsd"].note == "jsd is not recorded in these results"
        assert entries["lag"].note == "lag is not recorded in these results"
        empty = results.where(False)
        for name in ("recipe", "loss", "target_weights", "equilibrium"):
            empty[name] = results[name]
        row = tables.table(empty)[0]
        assert (row.runs, row.measured) == (16, 0)
        assert all(math.isnan(entry.interval.value) and entry.note for entry in row.entries.values())


class TestText:
    @pytest.mark.parametrize(
        ("estimate", "look", "text"),
        [
            (intervals.Interval(7.812, 7.5, 8), column(), "7.81 [7.50, 8.00]"),
            (intervals.Interval(0.625, 0.39, 0.816), column(0, True), "62 % [39, 82]"),
            (intervals.Interval(1.0, NAN, NAN), column(), "1.00"),
            (intervals.UNDEFINED, column(), "-"),
            (intervals.Interval(-0.0001, -0.2, 0.1), column(), "0.00 [-0.20, 0.10]"),
        ],
    )
    def test_format_estimate(self, estimate: intervals.Interval, look: tables.Column, text: str):
        assert tables.format_interval(estimate, look) == text

    def test_table_is_aligned_complete_and_as_wide_as_asked(self, results: xr.Dataset):
        rows = tables.table(results)
        text = tables.format_table(rows, width=100)
        lines = text.splitlines()
        body = lines[: lines.index("modes: " + tables.COLUMNS["modes"].meaning)]
        assert max(map(len, body)) <= 100
        headings = [line for line in lines if line.startswith("recipe ")]
        assert all(any(c.heading in line for line in headings) for c in tables.COLUMNS.values())
        for number, heading in ((i, line) for i, line in enumerate(lines) if line in headings):
            start = heading.index("runs")
            assert all(
                line[start - 1] == " " and line[start : start + 2] == "16" for line in lines[number + 2 : number + 6]
            )
        assert text.count("minimax") == len(headings)
        assert "- (2)" in text
        assert "(2) no run has one: no best value is known for this loss" in text
        assert "as many real samples get: high quality 98.9 %" in text

    def test_labels_cannot_steer_the_terminal(self, results: xr.Dataset):
        hostile = results.isel(run=slice(0, 16)).assign_coords(recipe=("run", np.array(["a\x1b[2J\nb"] * 16, object)))
        text = tables.format_table(tables.table(hostile))
        assert "\x1b" not in text
        assert "a?[2J?b" in text


def test_the_data_frame_is_one_table_with_its_notes(results: xr.Dataset):
    rows = tables.table(results)
    frame = tables.frame(rows)
    assert frame.index.tolist() == [row.recipe for row in rows]
    assert frame.columns.tolist() == ["runs", *(column.heading for column in tables.COLUMNS.values())]
    entry = rows[0].entries["lag"]
    text = tables.format_interval(entry.interval, tables.COLUMNS["lag"])
    number = tables.footnotes(rows)[entry.note]
    assert frame.loc["non_saturating", "lag"] == f"{text} ({number})"
    assert frame.attrs["notes"][number] == entry.note
    assert frame.to_html().count("<table") == 1
    hostile = results.assign_coords(recipe=("run", np.full(64, "<script>\x1b[2J", object)))
    html = tables.frame(tables.table(hostile)).to_html()
    assert "<script>" not in html
    assert "\x1b" not in html


def test_references_are_what_the_metrics_say(results: xr.Dataset):
    changed = results.copy()
    changed["jsd"].attrs = results["jsd"].attrs | {"failed": "1.25"}
    found = tables.references(tables.table(changed))
    assert found["a diverged run counts as"] == {"modes": "0.00", "high_quality": "0.0 %", "jsd": "1.250"}
    assert found["as many real samples get"] == {"modes": "8.00", "high_quality": "98.9 %"}
    text = tables.format_table(tables.table(changed))
    assert "a diverged run counts as: JSD (nats) 1.250" in text
