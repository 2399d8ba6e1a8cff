"""The film of the page in the README: python docs/figures/film.py PAGE.html RUN OTHER (playwright and Chromium).

Frames are screenshots of the page as it is driven; the film is an animated WebP.
"""

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

OUT = Path(__file__).with_name("page.webp")
SIZE, WIDTH = {"width": 1180, "height": 760}, 860


class Film:
    """Frames with the time that each is shown, in milliseconds."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.frames: list[Image.Image] = []
        self.times: list[int] = []

    def shoot(self, milliseconds: int = 110) -> None:
        """One frame."""
        image = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        height = round(image.height * WIDTH / image.width)
        self.frames.append(image.resize((WIDTH, height), Image.Resampling.LANCZOS))
        self.times.append(milliseconds)

    def write(self) -> None:
        """The film."""
        first, *rest = self.frames
        first.save(OUT, save_all=True, append_images=rest, duration=self.times, loop=0, quality=46, method=6)


def drive(film: Film, run: int, other: int, ask: Callable[[str], Any], wait: Callable[[int], None]) -> None:
    """What the film shows: a sweep in time, one run in time, two side by side, and a fork."""
    last = ask("gandyn.limits.step")
    ask(f"gandyn.view.set({{run: {run}, step: 0, colour: 'modes'}})")
    wait(700)
    film.shoot(900)
    for step in range(1, last + 1):
        ask(f"gandyn.view.set({{step: {step}}})")
        wait(260)
        film.shoot(150)
    film.shoot(700)
    ask("gandyn.view.set({layers: 'density,surface,samples,modes,manifold,arrows', colour: 'verdict'})")
    wait(400)
    film.shoot(1200)
    for step in range(last, 7, -2):
        ask(f"gandyn.view.set({{step: {step}}})")
        wait(260)
        film.shoot(150)
    ask(f"gandyn.view.set({{layers: 'density,surface,samples,modes', other: {other}}})")
    wait(500)
    for step in range(8, last + 1, 2):
        ask(f"gandyn.view.set({{step: {step}}})")
        wait(260)
        film.shoot(200)
    film.shoot(900)
    ask("gandyn.view.set({other: -1, step: Math.round(gandyn.limits.step / 2)})")
    wait(400)
    ask("gandyn.forkFrom(gandyn.view.run)")
    wait(700)
    film.shoot(900)
    ask("gandyn.fork.toggle()")
    for _ in range(22):
        wait(450)
        film.shoot(140)
    ask("gandyn.fork.toggle()")
    wait(400)
    film.shoot(1500)


def main() -> None:
    """Opens the page, drives it, writes the film."""
    path, run, other = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)  # pyright: ignore[reportArgumentType]
        page.goto(path.resolve().as_uri() + "#theme=light")
        page.wait_for_selector("#page:not([aria-busy])")
        film = Film(page)
        drive(film, run, other, page.evaluate, page.wait_for_timeout)
        film.write()
        browser.close()
    print(OUT, f"{OUT.stat().st_size:,} bytes, {len(film.frames)} frames")


if __name__ == "__main__":
    main()
