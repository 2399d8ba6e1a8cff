"""The page as one file: modules joined into one script, styles, and chunks of data.

The modules in `js/` are plain ES modules that Node and editors understand. `joined` puts them into one script that
needs no loader: each becomes a function that is called once, in the order of their imports. It is all the bundling
there is.
"""

import base64
import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import xarray as xr

from gandyn.report.interactive import content
from gandyn.report.interactive.packing import Pack, deflated, logarithmic
from gandyn.report.interactive.telling import telling
from gandyn.report.writing import put

FOLDER = Path(__file__).parent
_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([a-z_]+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class)\b)", re.MULTILINE)
_EXPORTED = re.compile(r"^export (?:async )?(?:function\*?|const|class) +(\w+)", re.MULTILINE)

SIZE = 7_500_000
"""Bytes that a page takes at most unless told otherwise; more only where its curves alone do."""


@functools.cache
def joined(entry: str = "main") -> str:
    """The modules that one of them needs, itself last, as one script.

    Raises:
      ValueError: modules that import each other in a circle, or an import or export in another form than the house's.
    """
    order: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValueError(f"{name}.js: imports itself by way of {', '.join(above)}")
        if name not in order:
            for _, needed in _IMPORT.findall(_module(name)):
                visit(needed, (*above, name))
            order.append(name)

    visit(entry, ())
    return '"use strict";\n' + "".join(map(_wrapped, order))


def _module(name: str) -> str:
    return (FOLDER / "js" / f"{name}.js").read_text(encoding="utf-8")


def _wrapped(name: str) -> str:
    """A module as `const name_ = (() => { ...; return {what it exports}; })();`."""
    text = _module(name)
    names = _EXPORTED.findall(text)
    body = _IMPORT.sub(lambda found: f"const {{{found[1].replace(' as ', ': ')}}} = {found[2]}_;\n", text)
    body = _EXPORT.sub("", body)
    if re.search(r"^(import|export)\b", body, re.MULTILINE):
        raise ValueError(f"{name}.js: an import or export in another form than the others have")
    return f"// ---- {name}.js\nconst {name}_ = (() => {{\n{body}\nreturn {{ {', '.join(names)} }};\n}})();\n"


_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
)


def _page(title: str, chunks: Mapping[str, str]) -> str:
    script = joined()
    if "</script" in script.lower() or "<!--" in script:
        raise ValueError("js: got a script that would end its own element; allowed: without '</script' and '<!--'")
    digest = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode("ascii")
    template = _TEMPLATES.get_template("page.html")
    return template.render(title=title, script=script, digest=digest, chunks=chunks, style=_style())


def _style() -> str:
    return (FOLDER / "style.css").read_text(encoding="utf-8")


def write(
    results: xr.Dataset,
    path: str | os.PathLike[str],
    players: Mapping[int, Mapping[str, Any]] | None = None,
    *,
    chosen: Sequence[int] | None = None,
    known_targets: Mapping[str, Mapping[str, Any]] | None = None,
    notes: Sequence[str] = (),
    size: int = SIZE,
) -> Path:
    """Writes the page of a results dataset as one HTML file, and returns its path.

    Args:
      results: of `gandyn.open_results`.
      path: the file. Its folder is made where it is lacking; a file that is there is replaced, at once.
      players: position of a run -> its recorded networks (`gandyn.sweeps.snapshots`); None shows stored samples and
        surfaces alone.
      chosen: positions of the runs of which most is kept; by default `telling(results)`.
      known_targets: name -> arrays of the targets that can be picked where one plays; none without it.
      notes: sentences on what the page cannot show, beside those that follow from the results.
      size: bytes that the file takes at most, if its curves leave that.
    """
    chosen = list(telling(results) if chosen is None else chosen)
    players = dict(players or {})
    pack, about = content.curves(results)
    chunks = {"curves": pack.text()}
    said = content.header(results, about)
    said["lacking"] += list(notes)
    entries: dict[str, Any] = {"curves": pack.entries}
    said["players"], own = _players(players, size - 300_000 - len(chunks["curves"]))
    left = size - 300_000 - len(chunks["curves"]) - sum(len(text) for text, _ in own.values())
    for name, (text, found) in own.items():
        chunks[name], entries[name] = text, found
    for name, packed in _kept(results, chosen, players, max(left, 0)).items():
        chunks[name], entries[name] = packed.text(), packed.entries
    said |= {"entries": entries, "chosen": chosen, "known_targets": known_targets or {}, "play": False}
    return put(_page(said["title"], {"content": deflated(_json(said)), **chunks}), path)


def room_for_networks(results: xr.Dataset, size: int = SIZE) -> int:
    """Bytes of a page of this size that its networks may take: two thirds of what its curves leave."""
    numbers = len(content.metrics(results)) * results.sizes["run"] * results.sizes["step"]
    each = 3.6 if numbers <= content.FEW_NUMBERS else 2.4
    return max(int((size - 300_000 - each * numbers) * 2 / 3), 300_000)


def write_play(path: str | os.PathLike[str], known_targets: Mapping[str, Mapping[str, Any]]) -> Path:
    """Writes the page without results, to train in: targets to pick (name -> arrays) or to paint, and every recipe."""
    title = "Train a GAN in the page"
    said = {"title": title, "play": True, "known_targets": known_targets, "lacking": [], "players": {}, "entries": {}}
    return put(_page(title, {"content": deflated(_json(said))}), path)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("utf-8", errors="replace")


def _kept(results: xr.Dataset, chosen: Sequence[int], players: Mapping[int, Any], room: int) -> dict[str, Pack]:
    """Chunks of recorded samples and surfaces, of the chosen runs first: by the name of the run."""
    kept, packs = content.kept_samples(results, chosen, room * 2 // 3), {}
    spent = sum(kept.values()) * results.sizes["step"] * 5.4
    for run, most in kept.items():
        pack = packs.setdefault(f"seen-{run}", Pack())
        found = content.samples(results, run, most)
        if found is not None:
            pack.add_rounded("samples", found, 16)
    order = list(dict.fromkeys([*chosen, *range(results.sizes["run"])]))
    for run in order:
        found = content.surface(results, run)
        whole = run in players and len(players[run]["states"]) >= results.sizes["step"]
        if found is None or whole or spent + found.size * 0.8 > room:
            continue
        spent += found.size * 0.8
        packs.setdefault(f"seen-{run}", Pack()).add_rounded("surface", found, 8)
    return {name: pack for name, pack in packs.items() if pack.entries}


def _players(
    players: Mapping[int, Mapping[str, Any]], room: int
) -> tuple[dict[str, Any], dict[str, tuple[str, dict[str, Any]]]]:
    """What the page knows of each run's recorded networks, and their chunks, in order, as far as they fit."""
    about: dict[str, Any] = {}
    chunks: dict[str, tuple[str, dict[str, Any]]] = {}
    for run, snapshot in players.items():
        pack = Pack()
        for number, state in enumerate(snapshot["states"]):
            _pack_state(pack, number, state, snapshot.get("kind", "float16"))
        text = pack.text()
        room -= len(text)
        if room < 0 and chunks:
            break
        about[str(run)] = {key: value for key, value in snapshot.items() if key != "states"} | {
            "steps": [int(state["step"]) for state in snapshot["states"]],
        }
        chunks[f"players-{run}"] = text, pack.entries
    return about, chunks


def _pack_state(pack: Pack, number: int, state: Mapping[str, Any], kind: str) -> None:
    """Arrays of one state: `gen/...`, `disc/...` as `kind`; first moments in 8 bits, second ones by their logarithm."""
    for name, array in state["arrays"].items():
        values = np.asarray(array, np.float32)
        key = f"{number}/{name}"
        if name.startswith("nu/"):
            stored, low, unit = logarithmic(values)
            pack.add(key, stored, "uint8", log_low=low, log_unit=unit)
        elif name.startswith(("mu/", "trace/", "surface")):
            pack.add_rounded(key, values, 8 if not name.startswith("surface") else 16)
        else:
            pack.add(key, values, kind)
