"""--using FILE.py: the parts of a file that a person names."""

import json
import sys
from pathlib import Path

import pytest

from gandyn import cli
from gandyn.cli import commands, using
from gandyn.sweeps import parts, replaying, runner

MINE = """
import dataclasses
import beside
import flax.linen as nn
import jax.numpy as jnp
from gandyn.gan.loss import Loss
from gandyn.gan.networks import Dense
from gandyn.gan.number import Number
from gandyn.gan.optimizers import OPTIMIZERS
from gandyn.gan.penalties import Penalty

def disc(real, fake, numbers):
    return jnp.mean((real - 1) ** 2) + jnp.mean(fake**2) + numbers.gamma * jnp.mean(fake)

def gen(real, fake, numbers):
    return jnp.mean((fake - 1) ** 2)

mine = Loss("mine", disc=disc, gen=gen, numbers={"gamma": Number(0.01, low=0, text="a slope")})
again = mine
push = Penalty(
    "push", term=lambda at, numbers: numbers.push_weight * jnp.mean(at.fake_logits),
    numbers={"push_weight": Number(1.0, low=0)},
)
adam = OPTIMIZERS["adam"]
slow = dataclasses.replace(adam, name="slow", numbers={**adam.numbers, "slack": Number(0.5)})
del adam

class MyDisc(nn.Module):
    width: int = beside.WIDTH
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.relu(nn.Dense(self.width)(x)))[:, 0]
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside.py").write_text("WIDTH = 8")
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


def test_what_a_file_defines_and_nothing_that_comes_with_the_package(mine):
    found = parts.collect(using.load([mine]))
    assert {kind: list(named) for kind, named in found.named.items() if named} == {
        "loss": ["mine"], "penalty": ["push"], "optimizer": ["slow"],
    }  # fmt: skip
    assert [kind.__name__ for kind in found.networks.pop("MyDisc")] == ["MyDisc"]
    assert found.networks == {}


def test_a_file_is_a_new_module_each_time(mine):
    """It may have been changed meanwhile; and two files of one name are two."""
    first, second = using.load([mine]) + using.load([mine])
    assert first is not second
    assert first.MyDisc is not second.MyDisc
    assert first.__name__ in sys.modules


def test_what_can_be_chosen_and_set(mine):
    found = parts.collect(using.load([mine]))
    own = using.names(found)
    assert own["loss"] == ["mine"]
    assert own["penalties"] == ["push"]
    assert own["gen_optimizer"] == own["disc_optimizer"] == ["slow"]
    assert own["gen"] == own["disc"] == ["MyDisc"]
    assert own["rule"] == own["deep"] == own["target"] == []
    numbers = {option.name: (option.default, option.text) for option in using.numbers(found)}
    assert numbers["gamma"] == (0.01, "a slope")
    assert numbers["push_weight"] == (1.0, "")
    assert numbers["slack_gen"] == numbers["slack_disc"] == (0.5, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "which defines no part; allowed: a Python file that defines one"),
        ("x = 1\ny =", ", line 2: SyntaxError: "),
        ("x = 1\n\n1 / 0", ", line 3: ZeroDivisionError: division by zero"),
        ("import nothing_of_this_name", ", line 1: ModuleNotFoundError: No module named"),
    ],
)
def test_files_that_do_not_run(text, message, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
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


@pytest.fixture
def called(monkeypatch):
    """What functions are called with, in place of what they do."""
    calls = []
    monkeypatch.setattr(commands, "say_results", lambda out: None)
    for module, name in ((runner, "run_sweep"), (runner, "resume"), (runner, "extend"), (replaying, "replay")):
        monkeypatch.setattr(module, name, lambda *given, **options: calls.append((*given, options)))
    return calls


def test_parts_and_their_numbers_are_chosen_like_any_other(mine, called, tmp_path):
    """By flags, and by names in the file that the flags win over; a network with its fields."""
    (tmp_path / "run.toml").write_text('loss = "mine"\ngamma = 0.5\nlr_gen = 0.01')
    flags = ["--gamma", "0.25", "--penalties", "r1", "push", "--push-weight", "2", "--slack-gen", "1"]
    network = f"MyDisc{json.dumps({'width': 4})}"
    cli.main(
        ["run", str(tmp_path / "run.toml"), "--using", str(mine), *flags, "--disc", network, "--gen-optimizer", "slow"]
    )
    ((sweep, _, _),) = called
    (setting,) = sweep.settings
    assert setting.config.loss.name == "mine"
    assert [getattr(penalty, "name", penalty) for penalty in setting.config.penalties] == ["r1", "push"]
    assert (type(setting.config.disc).__name__, setting.config.disc.width) == ("MyDisc", 4)
    assert setting.hparams.gamma == 0.25
    assert setting.hparams.push_weight == 2
    assert setting.hparams.lr_gen == 0.01
    assert setting.hparams.slack_gen == 1


@pytest.mark.parametrize("command", ["resume DIR", "extend DIR --seeds 3"])
def test_files_are_handed_to_what_goes_on_with_results(command, mine, called):
    cli.main([*command.split(), "--using", str(mine), "--using", str(mine)])
    (*_, options) = called[0]
    assert [Path(str(module.__file__)) for module in options["using"]] == [mine, mine]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run --gamma 0.25", "--gamma: no such option"),
        ("run --using MINE --gama 0.25", "--gama: no such option (did you mean '--gamma'?)"),
        ("run --using MINE --gamma x", "gamma: got 'x'; allowed: a number"),
        ("run --using MINE --loss mien", "loss: got 'mien'; allowed: "),
        ("run --using MINE --rule mine", "rule: got 'mine'; allowed: "),
        ("run --loss mine", "loss: got 'mine'; allowed: "),
        ("resume DIR --using MINE --gamma 0.25", "--gamma: no such option"),
    ],
)
def test_numbers_and_names_that_no_part_has(arguments, message, mine, called, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments.replace("MINE", str(mine)).split())
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"gandyn: {message}")
    assert called == []


def test_a_byte_order_mark_is_no_statement(mine):
    mine.write_bytes(mine.read_text().encode("utf-8-sig"))
    (module,) = using.load([mine])
    assert "mine" in parts.collect([module]).named["loss"]
