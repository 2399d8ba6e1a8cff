"""The page's JavaScript in Node: tasks in, answers out."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gandyn.report.interactive import assembly

BRIDGE = Path(__file__).parent / "report" / "interactive" / "bridge.mjs"
JS = assembly.FOLDER / "js"


def node() -> str:
    """Node's program; skips the test where there is none new enough (18, whose test runner is used)."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("needs Node.js 18 or newer (Debian, Ubuntu: apt install nodejs)")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().lstrip("v").split(".")[0]) < 18:
        pytest.skip(f"needs Node.js 18 or newer, and {found} is {version.strip()}")
    return found


def answers(tasks: list[dict[str, Any]], folder: Path) -> list[Any]:
    """What the modules make of each task (see bridge.mjs)."""
    (folder / "package.json").write_text('{"type": "module"}')
    modules = folder / "js"
    if not modules.exists():
        shutil.copytree(JS, modules)  # Node takes a .js file for a module by the package.json above it
    (folder / "tasks.json").write_text(json.dumps(tasks))
    command = [node(), str(BRIDGE), str(modules), str(folder / "tasks.json"), str(folder / "answers.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "answers.json").read_text())


def named(arrays: dict[str, Any], player: str) -> dict[str, Any]:
    """The arrays of one player as `networks.player` takes them."""
    return {
        name.removeprefix(f"{player}/"): {"values": np.asarray(a, float).ravel().tolist(), "shape": list(np.shape(a))}
        for name, a in arrays.items()
        if name.startswith(f"{player}/")
    }
