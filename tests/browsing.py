"""A real browser for tests of the page: Chromium, where the machine has one, driven by playwright."""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window; skips the test where it is not there."""
    driver = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("needs Chromium (Debian, Ubuntu: apt install chromium)")
    with driver.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


class Opened:
    """A page that is open, and what its console said.

    Attributes:
      page: playwright's.
      said: messages of the console, and errors; requests that left the file.
      seconds: from the address to the first picture.
    """

    def __init__(
        self, started: Any, path: Path, address: str = "", size: tuple[int, int] = (1400, 1000), scheme: str = "light"
    ) -> None:
        viewport = {"width": size[0], "height": size[1]}
        self.page = started.new_context(viewport=viewport, color_scheme=scheme).new_page()
        self.page.set_default_timeout(60_000)
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", self._requested)
        self.page.on("dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.goto(path.resolve().as_uri() + address)
        self.page.wait_for_selector("#page:not([aria-busy])")
        self.seconds = self.ask("performance.now()") / 1000

    def _requested(self, request: Any) -> None:
        if not request.url.startswith(("file:", "blob:", "data:")):
            self.said.append(f"request: {request.url}")

    def ask(self, expression: str) -> Any:
        """What an expression comes to in the page; `gandyn` is the page's own object."""
        return self.page.evaluate(expression)

    def wait(self, condition: str) -> None:
        """Until a condition holds in the page, whose policy lets nobody evaluate texts in it: asked from here."""
        end = time.monotonic() + 60
        while not self.ask(f"Boolean({condition})"):
            assert time.monotonic() < end, f"never: {condition}"
            self.settle(30)

    def settle(self, milliseconds: int = 350) -> None:
        """Until what is drawn at rest is drawn."""
        self.page.wait_for_timeout(milliseconds)

    def close(self) -> None:
        """Closes it; its console must have said nothing."""
        self.page.context.close()
        assert self.said == []


def curve(opened: Opened, name: str, runs: int, steps: int) -> np.ndarray:
    """A curve as the page has it, (R, S)."""
    text = opened.ask(
        f"JSON.stringify(Array.from(gandyn.sweep.array({json.dumps(name)}), x => Number.isNaN(x) ? null : x))"
    )
    values = [np.nan if x is None else x for x in json.loads(text)]
    return np.array(values).reshape(runs, steps)


def random_players(width: int, steps: list[int], seed: int = 0, gen_width: int | None = None) -> dict[str, Any]:
    """A run's networks as `sweeps.snapshots` gives them, of random weights, on the synthetic ring of eight."""
    rng = np.random.default_rng(seed)
    gen_width = width if gen_width is None else gen_width
    shared = {"net": "mlp", "depth": 2, "norm": "none", "fourier": 0, "pieces": 5, "epsilon": 1e-5, "classes": 0}
    networks = {
        "gen": shared | {"width": gen_width, "activation": "relu", "inputs": 2, "outputs": 2},
        "disc": shared | {"width": width, "activation": "leaky_relu", "inputs": 2, "outputs": 1, "projection": False},
        "packing": 1,
    }

    def arrays() -> dict[str, np.ndarray]:
        made = {}
        for player, size, last in (("gen", gen_width, 2), ("disc", width, 1)):
            for layer, (inputs, outputs) in enumerate([(2, size), (size, size), (size, last)]):
                kernel = rng.normal(size=(inputs, outputs)) * np.sqrt(2 / inputs)
                made[f"{player}/params/Dense_{layer}/kernel"] = kernel.astype(np.float32)
                made[f"{player}/params/Dense_{layer}/bias"] = np.zeros(outputs, np.float32)
        return made

    angles = 2 * np.pi * np.arange(8) / 8
    target = {
        "kind": "mixture",
        "center": [0.0, 0.0],
        "half": 1.2,
        "scale": 0.02,
        "means": np.stack([np.cos(angles), np.sin(angles)], axis=1).ravel().tolist(),
        "stds": [0.02] * 8,
        "weights": [0.125] * 8,
    }
    config = {
        "loss": "non_saturating",
        "penalties": [],
        "rule": "alternating",
        "disc_steps": 1,
        "gen_steps": 1,
        "first": "disc",
        "batch_size": 32,
        "latent_dim": 2,
        "prior": "gaussian",
        "gen_optimizer": "adam",
        "disc_optimizer": "adam",
    }
    numbers = {"lr_gen": 1e-3, "lr_disc": 1e-3, "beta1_gen": 0.5, "beta1_disc": 0.5}
    states = [{"step": step, "arrays": arrays()} for step in steps]
    return {
        "config": config, "numbers": numbers, "target": target, "networks": networks, "forks": "", "seed": 0,
        "states": states,
    }  # fmt: skip
