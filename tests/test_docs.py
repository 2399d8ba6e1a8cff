"""The Python of the documents runs as it stands, in small."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def blocks(file: str) -> list[str]:
    """The Python blocks of a document."""
    return re.findall(r"```python\n(.*?)```", (ROOT / file).read_text(), re.DOTALL)


def smaller(code: str) -> str:
    """With fewer runs and steps; what is said with them stays as it is."""
    for pattern, by in (
        (r"range\(\d+\)", "range(2)"),
        (r"range\(64, 128\)", "range(2, 3)"),
        (r"num_steps=2_000", "num_steps=40"),
        (r"num_steps=1_000", "num_steps=40"),
        (r"num_steps=1_500", "num_steps=60"),
        (r"num_steps=5_000", "num_steps=40"),
        (r"deep_every=1_000", "deep_every=5_000"),
        (r"width=64", "width=8"),
        (r'width": 64', 'width": 8'),
    ):
        code = re.sub(pattern, by, code)
    return code


def run_blocks(file: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """All blocks of a document as one script, in a folder of its own: its names."""
    monkeypatch.chdir(folder)
    script = folder / f"{Path(file).stem}.py"
    script.write_text("\n\n".join(smaller(block) for block in blocks(file)))
    return runpy.run_path(str(script))


@pytest.mark.slow
def test_extending(tmp_path, monkeypatch):
    names = run_blocks("docs/extending.md", tmp_path, monkeypatch)
    assert names["results"].sizes["step"] == 5
    assert set(names["results"].gamma.values) == {0.0, 0.1}


def test_each_kind_takes_fifteen_lines_or_fewer():
    definitions = blocks("docs/extending.md")[1:7]
    assert len(definitions) == 6
    for block in definitions:
        assert len([line for line in block.splitlines() if line.strip()]) <= 15


@pytest.mark.slow
def test_readme(tmp_path, monkeypatch):
    names = run_blocks("README.md", tmp_path, monkeypatch)
    assert names["players"].generate is not None
