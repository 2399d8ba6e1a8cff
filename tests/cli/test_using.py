"""--using FILE.py: the parts of a file that a person names."""

import sys

import pytest

from gandyn import cli
from gandyn.cli import commands, using
from gandyn.gan.losses import LOSSES
from gandyn.sweeps import runner, sweep_file

MINE = """
import beside
import flax.linen as nn
import gandyn
from gandyn.gan.losses import LOSSES
from gandyn.gan.networks import Dense

hinge = LOSSES["hinge"]
mine = hinge._replace(reference="mine")
again = mine
target = gandyn.targets.ring(3)
class MyDisc(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(beside.WIDTH)(x)[:, 0]
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside.py").write_text("WIDTH = 1")
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


def test_what_a_file_defines_and_nothing_that_comes_with_the_package(mine):
    parts = using.load([mine])
    assert len(parts) == 3
    assert type(parts[0]) is type(LOSSES["hinge"])
    assert parts[0].reference == "mine"
    assert parts[1].num_modes == 3
    assert parts[2].__name__ == "MyDisc"
    other = using.load([mine])  # another module: a file that was changed meanwhile is read again
    assert other[2] is not parts[2]
    assert len(using.load([mine, mine])) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "which defines no part; allowed: a Python file that defines one"),
        ("x = 1\ny =", ", line 2: SyntaxError: "),
        ("x = 1\n\n1 / 0", ", line 3: ZeroDivisionError: division by zero"),
        ("import nothing_of_this_name", ", line 1: ModuleNotFoundError: No module named"),
    ],
)
def test_files_that_do_not_run(text, message, tmp_path):
    (tmp_path / "wrong.py").write_text(text)
    before = set(sys.modules)
    with pytest.raises(ValueError, match=message) as caught:
        using.load([tmp_path / "wrong.py"])
    assert str(caught.value).startswith("using: ")
    if "defines no part" not in message:
        assert not any("gandyn_using" in name for name in set(sys.modules) - before)


@pytest.mark.parametrize("name", ["none.py", "", "mine.txt", "."])
def test_what_is_no_python_file(name, tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ValueError, match=r"allowed: a Python file, such as mine\.py"):
        using.load([tmp_path / name])


class Number:
    default, text = 0.5, "Of mine."


class Mine:
    name, numbers = "mine", {"gamma": Number}


@pytest.fixture
def own_part(monkeypatch):
    """Parts as they will be, with numbers of their own; and what functions are called with."""
    calls = []
    monkeypatch.setattr(using, "load", lambda files: [Mine() for _ in files])
    monkeypatch.setattr(commands, "say_results", lambda out: None)
    monkeypatch.setattr(sweep_file, "make", lambda content, fields, **own: calls.append((fields, own)))
    for name in ("run_sweep", "resume", "extend", "replay"):
        monkeypatch.setattr(runner, name, lambda *_, **options: calls.append(options["using"]))
    return calls


def test_numbers_of_a_part_are_options_of_a_run_that_uses_it(own_part):
    cli.main(["run", "--using", "mine.py", "--gamma", "0.25", "--lr-gen", "1e-3"])
    (fields, own), parts = own_part
    assert fields == {"gamma": 0.25, "lr_gen": 1e-3}
    assert own["using"] is parts
    assert [type(part) for part in parts] == [Mine]


@pytest.mark.parametrize("command", ["resume DIR", "extend DIR --seeds 3"])
def test_parts_are_handed_to_what_goes_on_with_results(command, own_part):
    cli.main([*command.split(), "--using", "mine.py", "--using", "other.py"])
    ((first, second),) = own_part
    assert type(first) is type(second) is Mine


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run --gamma 0.25", "--gamma: no such option"),
        ("run --using mine.py --gama 0.25", "--gama: no such option (did you mean '--gamma'?)"),
        ("run --using mine.py --gamma x", "gamma: got 'x'; allowed: a number"),
        ("resume DIR --using mine.py --gamma 0.25", "--gamma: no such option"),
    ],
)
def test_numbers_that_no_part_has(arguments, message, own_part, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments.split())
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"gandyn: {message}")
    assert own_part == []
