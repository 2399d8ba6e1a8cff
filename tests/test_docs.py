"""The Python and the commands of the documents run as they stand, in small."""

import re
import runpy
import shlex
from pathlib import Path

import haste
import pytest

import gandyn
from gandyn import cli
from gandyn.cli import commands, entry
from gandyn.cli.parsing import sort_words, values_of

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])


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
        (r"run=17", "run=1"),
        (r"steps=\(2_000, 2_500\)", "steps=(10, 20)"),
    ):
        code = re.sub(pattern, by, code)
    return code


def run_blocks(file: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """All blocks of a document as one script, in a folder of its own: its names."""
    monkeypatch.chdir(folder)
    script = folder / f"{Path(file).stem}.py"
    script.write_text("\n\n".join(smaller(block) for block in blocks(file)))
    return runpy.run_path(str(script))


def commands_of(text: str) -> list[list[str]]:
    """The words of each `gandyn ...` that stands in a line of its own, without comments and what a shell does."""
    lines = re.findall(r"^(?:    |  )(?:srun )?(gandyn [a-z].*)$", text, re.MULTILINE)
    return [shlex.split(re.sub(r" &$", "", line.partition(" #")[0]))[1:] for line in lines]


@pytest.mark.parametrize("file", [name for name in DOCUMENTS if commands_of((ROOT / name).read_text())])
def test_every_command_is_understood(file):
    for name, *words in commands_of((ROOT / file).read_text()):
        options = [option for group in commands.groups_of(commands.COMMANDS[name]).values() for option in group]
        values_of(sort_words(words, options), options, f"gandyn {name}")


def test_every_document_with_commands_is_known():
    found = [name for name in DOCUMENTS if commands_of((ROOT / name).read_text())]
    assert found == ["README.md", "docs/exports.md", "docs/page.md", "docs/sweeps.md"]
    assert {words[0] for words in commands_of(entry.USAGE)} == set(commands.COMMANDS)


SMALLER = (
    ("--seeds 0:64", "--seeds 0:2"),
    ("--seeds 0:4", "--seeds 0:2"),
    ("--seeds 64:128", "--seeds 2:3"),
    ("--steps 20000", "--steps 60"),
    ("--steps 2000:2500", "--steps 10:20"),
    ("--run 17", "--run 1"),
)
SIZES = "--num-steps 40 --measure-every 20 --gen-width 8 --disc-width 8 --batch-size 16 --num-nodes 64"


def run_commands(file: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """All commands of a document that need no cluster, in order, in a folder with the sweep of docs/sweeps.md."""
    monkeypatch.chdir(folder)
    (toml,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "sweeps.md").read_text(), re.DOTALL)
    for pattern, by in (
        (r"num_steps = .*", "num_steps = 40"), (r"measure_every = .*", "measure_every = 20"),
        (r'seeds = "0:64"', 'seeds = "0:2"'), (r"_width = .*", "_width = [8]"), (r"batch_size = .*", "batch_size = 16"),
        (r"loss = .*", 'loss = ["hinge"]'), (r"lr_gen = .*", "lr_gen = [1e-3]"),
    ):  # fmt: skip
        toml = re.sub(pattern, by, toml)
    for name in ("sweep.toml", "grid.toml"):
        (folder / name).write_text(toml)
    done = 0
    for words in commands_of((ROOT / file).read_text()):
        line = shlex.join(words)
        for text, by in SMALLER:
            line = line.replace(text, by)
        if "--engine" in words:
            continue
        if (
            words[0] == "resume" and not (folder / words[1]).exists()
        ):  # "without --dry-run, all of it", says the line before
            cli.main(["sweep", "grid.toml", "--out", words[1]])
        cli.main(shlex.split(f"{line} {SIZES}" if words[0] == "run" else line))
        done += 1
    return done


@pytest.mark.slow
def test_the_commands_of_the_readme(tmp_path, monkeypatch, capsys):
    with haste.everywhere():
        assert run_commands("README.md", tmp_path, monkeypatch) == 11
    assert gandyn.open_results(tmp_path / "runs/grid").sizes["run"] == 6
    assert "the same to the bit" in capsys.readouterr().out


@pytest.mark.slow
def test_the_commands_about_sweeps_and_exports(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pyarrow")
    pytest.importorskip("tensorboardX")
    with haste.everywhere():
        assert run_commands("docs/sweeps.md", tmp_path, monkeypatch) == 8
        (tmp_path / "runs" / "penalties").rename(tmp_path / "runs" / "grid")
        (tmp_path / "runs" / "grid" / "final.csv").unlink()  # the same line is in both
        assert run_commands("docs/exports.md", tmp_path, monkeypatch) == 3
    assert gandyn.open_results(tmp_path / "runs" / "grid").sizes["run"] == 6


@pytest.mark.slow
def test_the_python_about_sweeps(tmp_path, monkeypatch):
    names = run_blocks("docs/sweeps.md", tmp_path, monkeypatch)
    assert names["gandyn"] is gandyn


@pytest.mark.slow
def test_reading_results_without_gandyn(tmp_path, monkeypatch):
    config = gandyn.Config(gen_width=8, disc_width=8, batch_size=16)
    with haste.everywhere():
        made = gandyn.run(gandyn.targets.ring(), config, seeds=range(2), num_steps=4, out=tmp_path / "runs" / "first")
    names = run_blocks("docs/exports.md", tmp_path, monkeypatch)
    (group,) = names["groups"]
    assert (group["jsd"].values == made["jsd"].values).all()


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
