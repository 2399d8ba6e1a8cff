"""Plans: what they print, and that planning stays cheap where there are many settings."""

from collections import Counter

import psutil
import pytest

from gandyn.gan.config import Config
from gandyn.sweeps import cost, planning, sweep, training
from gandyn.sweeps.sweep import Setting, Sweep


@pytest.fixture(autouse=True)
def calibration(monkeypatch):
    """A machine whose speed is known, and is not measured here."""
    asked = []
    monkeypatch.setattr(cost, "calibrate", lambda: asked.append(1) or cost.REFERENCE)
    return asked


def described(settings, seeds=range(4), **fields) -> list[str]:
    return planning.make(Sweep(settings, seeds, **fields)).describe().splitlines()


def table(lines: list[str]) -> list[str]:
    return lines[lines.index("") + 1 :]


def test_one_setting():
    lines = described(sweep.expand({"loss": "hinge"}), title="a trial")
    assert lines[0] == "a trial: 1 setting x 4 seeds = 4 runs of 5,000 steps"
    assert lines[1].startswith("groups        1, of at most 4 runs side by side; ")
    assert lines[3] == "run-steps     20,000"
    assert lines[4] == "measurements  51 of each run, 0 of them in depth"
    assert lines[6].startswith("time          about ")
    header, row = table(lines)
    assert header.split() == ["groups", "runs", "run-steps/s", "time", "recipes"]
    assert row.split()[:2] == ["0", "4"]
    assert row.endswith("  hinge")


def test_what_varies_is_said_once():
    grid = sweep.product(
        loss=["minimax", "hinge"], std=[0.1, 0.2, 0.3], lr_gen=[0.1 * (i + 1) for i in range(9)], lr_disc=[1, 2]
    )
    lines = described(sweep.expand({}, grid))
    assert lines[0] == "plan: 108 settings x 4 seeds = 432 runs of 5,000 steps"
    assert lines[1] == "varied        target (3), loss (minimax, hinge), lr_gen (9 values, 0.1 to 0.9), lr_disc (1, 2)"
    assert [row.split("  ")[-1] for row in table(lines)[1:]] == ["minimax: 54 recipes", "hinge: 54 recipes"]


@pytest.mark.slow
def test_many_configurations_are_counted_with_their_time():
    lines = described(sweep.expand({}, sweep.product(gen_width=range(8, 108))))
    rows = table(lines)
    assert len(rows) == 22
    assert rows[20].endswith("gen_width=27")
    assert rows[21].startswith("and 80 more configurations: ")


@pytest.mark.slow
def test_a_configuration_whose_groups_are_not_neighbours():
    # Densities of another size make another group: of each Config the first, and two behind all of those.
    settings = sweep.expand({}, sweep.product(num_modes=[4, 5, 9], loss=["hinge", "minimax"]))
    rows = table(described(settings))
    assert [row.split("  ")[-1] for row in rows[1:]] == ["hinge: 3 recipes", "minimax: 3 recipes"]
    assert [row.partition("   ")[0].strip() for row in rows[1:]] == ["0, 2, 4", "1, 3, 5"]


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([0], "0"), ([0, 1, 2], "0-2"), ([0, 2], "0, 2"), ([0, 1, 5, 7, 8], "0-1, 5, 7-8"),
        (range(0, 20, 2), "0, 2, ..., 18"),
    ],
)  # fmt: skip
def test_spans(numbers, text):
    assert planning.spans(numbers) == text


def test_hostile_titles_and_labels_are_printed_in_one_line():
    settings = [Setting("a\n\x1b[2J" + "x" * 300, *sweep.expand({})[0][1:])]
    lines = described(settings, title="t\r\n\x07" + "y" * 300)
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) < 200
    assert len(table(lines)) == 2


RATES = [1e-4 * (i + 1) for i in range(20)]
LOSSES = ["hinge", "minimax", "wasserstein", "non_saturating", "least_squares"]


@pytest.mark.slow
def test_ten_thousand_cells(monkeypatch, calibration):
    """What is slow is done once for each part that settings share: counted, for time depends on the machine."""
    calls = Counter()

    def counted(owner, name):
        original = getattr(owner, name)

        def count(*args, **kwargs):
            calls[f"{owner.__name__}.{name}"] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, count)

    for owner, name in [
        (training, "plans"), (cost, "estimate"), (cost, "_trace_step"), (cost, "_trace_measure"),
        (Config, "__post_init__"), (Config, "__hash__"),
    ]:  # fmt: skip
        counted(owner, name)
    grid = sweep.product(loss=LOSSES, lr_gen=RATES, lr_disc=RATES, beta1_gen=[0.0, 0.1, 0.2, 0.3, 0.4])
    planned = planning.make(Sweep(sweep.expand({}, grid), range(64)))
    lines = planned.describe().splitlines()
    assert lines[0] == "plan: 10,000 settings x 64 seeds = 640,000 runs of 5,000 steps"
    assert len(planned.groups) == 5 * 250
    assert calls["gandyn.sweeps.training.plans"] == 1  # to part kinds
    assert calls["gandyn.sweeps.cost.estimate"] == 1_250
    assert calls["gandyn.sweeps.cost._trace_step"] == 5
    assert calls["gandyn.sweeps.cost._trace_measure"] == 1
    assert calls["Config.__post_init__"] < 100
    assert calls["Config.__hash__"] < 10 * 10_000 + 20 * 1_250  # not once a run
    assert len(calibration) == 1


class TestFits:
    def test_what_does_not_fit_is_refused_before_anything_is_made(self, monkeypatch, tmp_path):
        plan = planning.make(Sweep(sweep.expand({})))
        plan.check_fits(tmp_path / "not" / "there")
        monkeypatch.setattr(planning.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1_000})())
        with pytest.raises(ValueError, match=r"disk: 16 runs need about .*, 0 MiB are available; allowed: fewer seeds"):
            plan.check_fits(tmp_path)
        monkeypatch.setattr(
            psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1_000, "total": 1_000})()
        )
        with pytest.raises(
            ValueError, match=r"memory: 16 runs need about .*, 0 MiB are available; allowed: fewer seeds"
        ):
            plan.check_fits()

    def test_small_memory_makes_small_groups(self, monkeypatch):
        settings = sweep.expand({})
        (state,) = cost.state_bytes(settings)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"total": 4 * 3 * 5 * state})())
        assert [len(group.runs) for group in planning.make(Sweep(settings, range(12))).groups] == [4, 4, 4]
