"""Pages of real sweeps, odd ones among them: each opens, shows what it can, and says what it cannot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import browsing
import flax.linen as nn
import haste
import javascript
import jax
import numpy as np
import pytest
from browsing import Opened

import gandyn
from gandyn import cli
from gandyn.cli import pages
from gandyn.report.interactive import assembly, packing
from gandyn.sweeps import snapshots

SMALL: dict[str, Any] = {"gen_width": 8, "disc_width": 8, "batch_size": 16}
KEPT = gandyn.MeasureConfig(num_nodes=64, keep_samples=16, keep_surface=8)


class Thin(nn.Module):
    """A discriminator of a person's own."""

    width: int = 4

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.tanh(nn.Dense(self.width)(x)))[:, 0]


def trained(folder: Path, **config: Any) -> Path:
    """A sweep of two runs of 40 steps."""
    target = config.pop("target", gandyn.targets.ring(num_modes=4, std=0.05))
    hparams = config.pop("hparams", gandyn.HParams())
    small = {name: value for name, value in SMALL.items() if "disc" not in config or name != "disc_width"}
    made = gandyn.Config(**small | config)
    how: dict[str, Any] = {"num_steps": 40, "measure_every": 10, "measure_config": KEPT, "progress": False}
    gandyn.run(target, made, hparams, seeds=range(2), out=folder, **how)
    return folder


@pytest.mark.slow
def test_a_sweep_becomes_a_page(tmp_path: Path):
    """From the command line; its networks are those of the sweep, to what float16 keeps of them."""
    with haste.everywhere():
        folder = trained(tmp_path / "runs")
        cli.main(["page", str(folder), "--runs", "1"])
        players = gandyn.load_states(folder, run=1)
    text = (folder / "page.html").read_text()
    content = json.loads(packing.inflated(text.split('data-chunk="content">')[1].partition("<")[0]))
    assert list(content["players"]) == ["1"]
    assert content["players"]["1"]["steps"] == [0, 10, 20, 30, 40]
    data = packing.inflated(text.split('data-chunk="players-1">')[1].partition("<")[0])
    arrays = {
        name.removeprefix("4/"): packing.unpacked(entry, data)
        for name, entry in content["entries"]["players-1"].items()
        if name.startswith(("4/gen", "4/disc"))
    }
    rng = np.random.default_rng(0)
    latents, points = rng.normal(size=(32, 2)).astype(np.float32), rng.normal(size=(32, 2)).astype(np.float32)
    task = {
        "do": "evaluate",
        "networks": content["players"]["1"]["networks"],
        "gen": javascript.named(arrays, "gen"),
        "disc": javascript.named(arrays, "disc"),
        "latents": latents.ravel().astype(float).tolist(),
        "points": points.ravel().astype(float).tolist(),
        "label": 0,
    }
    (got,) = javascript.answers([task], tmp_path)
    assert np.abs(np.array(got["outputs"]) - np.asarray(players.discriminate(points))).max() < 1e-2
    assert np.abs(np.array(got["samples"]) - np.ravel(players.generate(latents))).max() < 1e-2


ODD: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "diverged": (
        lambda folder: trained(folder, gen_optimizer="sgd", hparams=gandyn.HParams(lr_gen=1e30)),
        ["diverged"],
    ),
    "conditional": (lambda folder: trained(folder, num_classes=2), ["labels"]),
    "packed": (lambda folder: trained(folder, packing=2), ["packs"]),
    "own network": (lambda folder: trained(folder, disc=Thin()), ["not ones that the page can evaluate"]),
    "in space": (
        lambda folder: trained(
            folder, target=gandyn.targets.mixture([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], [0.1, 0.1]), latent_dim=3
        ),
        ["not in the plane"],
    ),
    "curve": (lambda folder: trained(folder, target=gandyn.targets.moons()), []),
    "checkerboard": (lambda folder: trained(folder, target=gandyn.targets.checkerboard()), []),
    "wasserstein": (
        lambda folder: trained(folder, loss="wasserstein", penalties=("wgan_gp",), disc_steps=2),
        ["no best value is known"],
    ),
    "batch and spectral": (lambda folder: trained(folder, gen_norm="batch", disc_norm="spectral"), ["normalization"]),
}


@pytest.fixture(scope="module")
def started() -> Any:
    with browsing.browser() as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ODD)
def test_odd_sweeps_open_and_say_what_they_cannot_show(started: Any, tmp_path: Path, kind: str):
    make, told = ODD[kind]
    with haste.everywhere():
        folder = make(tmp_path / "runs")
        path = pages.write_page(folder, progress=False)
    opened = Opened(started, path, "#layers=density,surface,samples,modes,manifold,arrows")
    opened.settle(500)
    for step in range(5):
        opened.ask(f"gandyn.view.set({{step: {step}}})")
    opened.settle(400)
    text = opened.page.locator("body").inner_text()
    for part in told:
        assert part in text, text[-3000:]
    opened.close()


@pytest.mark.slow
def test_an_interrupted_sweep_has_a_page(started: Any, tmp_path: Path):
    from gandyn.sweeps import interrupts, training

    original, count = training.Training.advance_to, [0]

    def stopping(self: Any, step: int) -> None:
        count[0] += 1
        if count[0] > 3:
            raise interrupts.Stopped(2)
        original(self, step)

    with haste.everywhere():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training.Training, "advance_to", stopping)
            with pytest.raises(KeyboardInterrupt):
                trained(tmp_path / "runs")
        path = pages.write_page(tmp_path / "runs", progress=False)
    opened = Opened(started, path)
    opened.settle(400)
    text = opened.page.locator("body").inner_text()
    assert "These results are incomplete: their status is interrupted." in text
    assert "Networks of step" in text or opened.ask("gandyn.sweep.said.players[0].steps") == [0, 10, 20]
    opened.close()


@pytest.mark.slow
def test_own_parts_that_are_not_at_hand_leave_a_page_without_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from gandyn.sweeps import parts

    mine = gandyn.Loss(
        "mine_only",
        disc=lambda real, fake, numbers: jax.numpy.mean(fake**2) - jax.numpy.mean(real),
        gen=lambda real, fake, numbers: -jax.numpy.mean(fake),
    )
    with haste.everywhere():
        folder = trained(tmp_path / "runs", loss=mine)
        monkeypatch.setattr(parts, "_AT_HAND", {})
        path = pages.write_page(folder, progress=False)
    text = path.read_text()
    content = json.loads(packing.inflated(text.split('data-chunk="content">')[1].partition("<")[0]))
    assert any("cannot be trained again here" in line and "mine_only" in line for line in content["lacking"])
    assert content["players"] == {}
    with pytest.raises(ValueError, match="mine_only"):
        pages.write_page(folder, runs=[0], progress=False)


@pytest.mark.slow
def test_a_fork_keeps_to_the_recorded_value(tmp_path: Path):
    """From a recorded state with the recorded settings, V after 200 steps is among those of forks with other draws.

    20 runs, eight forks each: the recorded V beside them is one more draw of the same distribution, so its distance
    from their mean over their standard deviation, times sqrt(8 / 9), is Student's t with 7 degrees of freedom where V
    is normal. Of twenty at most two may be beyond its 99 % quantile (probability of more by chance: 0.001).
    """
    target = gandyn.targets.ring(num_modes=4, std=0.1)
    config = gandyn.Config(gen_width=12, disc_width=12, batch_size=64)
    hparams = gandyn.HParams(lr_gen=1e-3, lr_disc=1e-3)
    results = gandyn.run(
        target,
        config,
        hparams,
        seeds=range(20),
        num_steps=800,
        measure_every=200,
        out=tmp_path / "runs",
        progress=False,
    )
    kept = snapshots.snapshots(tmp_path / "runs", list(range(20)), 10**8, progress=False)
    start = next(i for i, state in enumerate(kept[0]["states"]) if state["step"] == 600)
    tasks = []
    for run in range(20):
        pack = packing.Pack()
        assembly._pack_state(pack, 0, kept[run]["states"][start], "float16")
        about = {key: value for key, value in kept[run].items() if key != "states"} | {"steps": [600]}
        for seed in range(8):
            own = {"text": pack.text(), "entries": pack.entries, "about": about, "step": 600}
            tasks.append({"do": "fork", **own, "seed": seed, "steps": 200, "every": 200})
    answers = javascript.answers(tasks, tmp_path)
    assert all(answer["remembers"] for answer in answers)
    ends = np.array([answer["values"][-1] for answer in answers]).reshape(20, 8)
    begins = np.array([answer["values"][0] for answer in answers]).reshape(20, 8)
    np.testing.assert_allclose(begins[:, 0], results["value"].sel(step=600).values, atol=5e-3)
    recorded = results["value"].sel(step=800).values
    t = (recorded - ends.mean(axis=1)) / ends.std(axis=1, ddof=1) * np.sqrt(8 / 9)
    assert (np.abs(t) > 3.499).sum() <= 2, t
