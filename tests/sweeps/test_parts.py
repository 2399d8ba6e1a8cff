"""A person's own parts in sweeps: recorded, told apart by fingerprints, asked for again, and their numbers swept."""

import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import flax.linen as nn
import haste
import jax
import numpy as np
import pytest

import gandyn
from gandyn import cli
from gandyn.results import manifest, status
from gandyn.sweeps import parts, records, runner, sweep, sweep_file
from gandyn.sweeps.fingerprints import fingerprint
from gandyn.sweeps.folders import MissingPartsError


@pytest.fixture(scope="module", autouse=True)
def in_haste():
    with haste.everywhere():
        yield


MINE = '''
import dataclasses
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from gandyn import Loss, Measurement, Number, Optimizer, Penalty, Rule
import optax

TABLE = np.linspace(0, 1, 2_000).astype(np.float32)
SHIFT = 0.25

def make(slope):
    def disc(real, fake, numbers):
        return jnp.mean((real - 1) ** 2) + jnp.mean(fake**2) + numbers.gamma * jnp.mean(fake) + slope * jnp.mean(real)
    return disc

@jax.jit
def looked_up(x):
    return jnp.mean(jnp.asarray(TABLE)) * jnp.mean(x)

def gen(real, fake, numbers):
    return jnp.mean((fake - 1) ** 2) + 1e-3 * looked_up(fake)

mine = Loss("mine", make(0.125), gen, numbers={"gamma": Number(0.01, low=0, text="a slope")})

past = Penalty(
    "past",
    term=lambda at, numbers: numbers.past_weight * jnp.mean((at.fake_logits - at.memory) ** 2),
    init=lambda: jnp.float32(0.0),
    remember=lambda at, numbers: 0.9 * at.memory + 0.1 * jnp.mean(at.fake_logits),
    numbers={"past_weight": Number(0.1, low=0)},
)

def heavy(game, state, key):
    here = game.field(state.params, state.stats, game.draw(state, key))
    ball = jax.tree.map(lambda v, g: 0.5 * v + g, state.memory, here.gradient)
    return game.updated(state.replace(memory=ball), ball, here)

ball = Rule("heavy_ball", heavy, init=lambda game, params: jax.tree.map(jnp.zeros_like, params))

def slowly(lr, slack):
    return optax.chain(optax.sgd(lr), optax.scale(slack + SHIFT))

slow = Optimizer("slow", slowly, numbers={"slack": Number(0.5)})

spread = Measurement(
    "spread", {"spread": {"long_name": "spread of G", "units": "data"}},
    compute=lambda view, key: {"spread": jnp.std(view.fake) * 2.0},
)

def counted(view):
    return {"above": float(np.mean(view.found["heights"] > 0.5))}

above = Measurement(
    "above", {"above": {"long_name": "share above", "units": "1"}},
    compute=lambda view, key: {"heights": view.fake[:16, 1]}, host=counted,
)

class MyDisc(nn.Module):
    width: int = 8
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.relu(nn.Dense(self.width)(x)))[:, 0]

class Conv(nn.Module):
    """Of images alone."""
    @nn.compact
    def __call__(self, x):
        return nn.Conv(2, (3, 3))(x).sum((1, 2, 3)) * 3.0

@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Blob:
    center: np.ndarray
    event_shape = (2,)
    num_uniforms = 2
    name = "blob"
    def transform(self, uniform):
        return self.center[None] + 0.1 * jax.scipy.special.ndtri(uniform)
    def sample(self, key, num):
        return self.transform(jax.random.uniform(key, (num, 2)))
    def log_prob(self, x):
        return -50.0 * jnp.sum((x - self.center[None]) ** 2, axis=1) - jnp.log(0.02 * jnp.pi)
    def box(self):
        return self.center, np.float32(0.6)
    def scale(self):
        return np.float32(0.1)

blob = Blob(np.zeros((1, 2), np.float32)[0])
'''
KINDS = {
    "mine": "loss", "past": "penalty", "ball": "rule", "slow": "optimizer", "spread": "measurement",
    "above": "measurement", "MyDisc": "network", "Conv": "network", "blob": "target",
}  # fmt: skip


def written(folder: Path, text: str = MINE) -> Path:
    file = folder / "mine.py"
    file.write_text(text)
    return file


def loaded(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location("mine", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mine"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def print_of(module: ModuleType, name: str) -> str:
    value = getattr(module, name)
    return fingerprint(KINDS[name], value() if KINDS[name] == "network" else value)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("mine"))


@pytest.fixture(scope="module")
def mine(file) -> Any:
    return loaded(file)


# ---- fingerprints


@pytest.fixture(scope="module")
def prints(mine) -> dict[str, str]:
    return {name: print_of(mine, name) for name in KINDS}


ELSEWHERE = """
import json, sys
sys.path += sys.argv[1:2]
import test_parts
module = test_parts.loaded(test_parts.Path(sys.argv[2]))
print(json.dumps({name: test_parts.print_of(module, name) for name in test_parts.KINDS}))
"""


@pytest.mark.slow
def test_the_same_parts_have_the_same_text_in_another_process(prints, tmp_path):
    """Elsewhere in another file, with another hash seed, on one device."""
    file = written(tmp_path, "# moved down by a line\n" + MINE)
    own = {"PYTHONHASHSEED": "17", "JAX_NUM_CPU_DEVICES": "3", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", ELSEWHERE, str(Path(__file__).parent), str(file)]
    shown = subprocess.run(command, env=os.environ | own, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout) == prints
    assert len(set(prints.values())) == len(prints)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("mine", "(fake - 1) ** 2", "(fake - 1) ** 4"),
        ("mine", "make(0.125)", "make(0.25)"),  # what a closure holds
        ("mine", "np.linspace(0, 1, 2_000)", "np.linspace(0, 1.001, 2_000)"),  # an array inside a jitted function
        ("mine", "Number(0.01", "Number(0.02"),
        ("mine", "gen, numbers", "gen, zero_sum=True, numbers"),
        ("mine", "gen, numbers", "gen, equilibrium=lambda numbers: -0.5, numbers"),
        ("past", "0.9 * at.memory", "0.8 * at.memory"),
        ("past", "jnp.float32(0.0)", "jnp.float32(0.5)"),  # where its memory begins
        ("ball", "0.5 * v", "0.6 * v"),
        ("ball", "jnp.zeros_like, params", "jnp.ones_like, params"),
        ("slow", "SHIFT = 0.25", "SHIFT = 0.5"),  # a constant of its file
        ("slow", "optax.sgd(lr)", "optax.sgd(lr, momentum=0.5)"),
        ("spread", "* 2.0", "* 3.0"),
        ("spread", '"units": "data"', '"units": "1"'),
        ("above", "> 0.5", "> 0.75"),  # on the host
        ("MyDisc", "nn.relu(", "nn.tanh("),
        ("MyDisc", "width: int = 8", "width: int = 9"),
        ("Conv", "* 3.0", "* 4.0"),  # which is traced on no points in the plane
        ("blob", "np.zeros((1, 2)", "np.ones((1, 2)"),
        ("blob", "0.1 * jax", "0.2 * jax"),
    ],
)
@pytest.mark.quick(5)
def test_what_computes_something_else_has_another_text(name, old, new, prints, tmp_path):
    assert old in MINE
    changed = loaded(written(tmp_path, MINE.replace(old, new)))
    assert print_of(changed, name) != prints[name]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("mine", "a slope", "the slope"),
        ("mine", "Number(0.01, low=0", "Number(0.01, low=-1"),
        ("mine", "def disc(real", "# what D minimizes\n    def disc(real"),
        ("past", "at.fake_logits", "at.  fake_logits"),
        ("ball", "0.5 * v", "0.25 * 2 * v"),
        ("above", "counted", "share_above"),
    ],
)
def test_what_computes_the_same_has_the_same_text(name, old, new, prints, tmp_path):
    assert old in MINE
    assert print_of(loaded(written(tmp_path, MINE.replace(old, new))), name) == prints[name]


def test_fields_of_a_module_tell_apart():
    class Act(nn.Module):
        act: Any = nn.relu
        widths: tuple[int, ...] = (4,)

        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(self.act(nn.Dense(self.widths[0])(x)))[:, 0]

    made = [Act(), Act(nn.tanh), Act(widths=(8,)), Act(lambda x: x), Act(lambda x: 2 * x)]
    assert len({fingerprint("network", one) for one in made}) == len(made)
    assert parts.text_of(made[0]) == 'Act{"act": "relu", "widths": [4]}'


# ---- a folder that they are in


def sweep_of(mine: Any, **fields: Any) -> sweep.Sweep:
    """One of every kind."""
    shared = {
        "target": mine.blob, "loss": mine.mine, "penalties": ("clip", mine.past), "rule": mine.ball,
        "disc": mine.MyDisc(4), "gen_optimizer": mine.slow, "gen_width": 4, "gen_depth": 1, "batch_size": 8,
        "gen_average": "ema",
    }  # fmt: skip
    measured = gandyn.MeasureConfig(
        measurements=("value", mine.spread), deep=(mine.above,), num_nodes=16, num_density_nodes=64,
        num_deep_nodes=16, num_deep_density_nodes=64, num_transport=16,
    )  # fmt: skip
    settings = sweep.expand(shared, sweep.product(gamma=[0.0, 0.5]))
    return sweep.Sweep(settings, **{"seeds": [3, 4], "num_steps": 6, "measure_every": 2, "deep_every": 6} | fields,
                       measure_config=measured)  # fmt: skip


class Compiled(logging.Handler):
    """Counts the programs over runs that are compiled meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        self.count += "Finished XLA compilation" in message and "everywhere" in message

    def __enter__(self) -> "Compiled":
        self._logging = jax.log_compiles()
        self._logging.__enter__()
        logging.getLogger("jax").addHandler(self)
        return self

    def __exit__(self, *error: Any) -> None:
        logging.getLogger("jax").removeHandler(self)
        self._logging.__exit__(*error)


@pytest.fixture(scope="module")
def whole(mine, tmp_path_factory) -> Path:
    """The folder of a sweep with a part of every kind, over a number of one's own: it compiles once."""
    folder = tmp_path_factory.mktemp("parts") / "whole"
    with Compiled() as compiled:
        gandyn.run_sweep(sweep_of(mine), folder, progress=False)
    assert compiled.count == 4  # init, advance, measure, measure in depth
    return folder


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


NAMES = {
    ("loss", "mine"), ("penalty", "past"), ("rule", "heavy_ball"), ("optimizer", "slow"), ("measurement", "spread"),
    ("measurement", "above"), ("network", 'MyDisc{"width": 4}'), ("target", "blob"),
}  # fmt: skip


def test_the_manifest_says_what_they_are(whole, mine, prints):
    recorded = {(entry["kind"], entry["name"]): entry for entry in manifest.read(whole)["parts"]}
    assert recorded.keys() == NAMES
    assert recorded["loss", "mine"]["numbers"] == {"gamma": 0.01}
    assert recorded["optimizer", "slow"]["numbers"] == {"slack": 0.5}
    assert recorded["network", 'MyDisc{"width": 4}']["fields"] == {"width": 4}
    for (kind, name), entry in recorded.items():
        if kind == "network":
            assert entry["fingerprint"] == fingerprint("network", mine.MyDisc(4)) != prints["MyDisc"]
        else:
            assert entry["fingerprint"] == prints[{"heavy_ball": "ball"}.get(name, name)]
    # What a folder says of parts is their names: never code, nor an object that is read back.
    assert "jnp" not in (whole / "manifest.json").read_text()


def test_results_have_their_numbers_and_names_as_coordinates(whole):
    results = gandyn.open_results(whole)
    assert results.gamma.values.tolist() == [0.0, 0.0, 0.5, 0.5]
    assert results.recipe.values.tolist() == ["gamma=0"] * 2 + ["gamma=0.5"] * 2
    constants = json.loads(results.attrs["constant_fields"])
    of_all = lambda name: constants[name] if name in constants else set(results[name].values.tolist()).pop()  # noqa: E731
    assert [of_all(name) for name in ("loss", "penalties", "disc", "target", "slack_gen")] == [
        "mine", "clip+past", "MyDisc(width=4)", "Blob", 0.5
    ]  # fmt: skip
    assert np.isfinite(results.spread).all()
    assert np.isfinite(results.above.sel(step=[0, 6])).all()
    assert "covered_modes" not in results  # the target has no modes


NO_PARTS = """
import sys, gandyn
results = gandyn.open_results(sys.argv[1]).load()
print(results.attrs["status"], float(results.spread.sum()))
assert not {"jax", "flax", "mine"} & set(sys.modules)
"""


def test_results_open_in_a_process_that_has_none_of_them(whole):
    shown = subprocess.run([sys.executable, "-c", NO_PARTS, str(whole)], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.split() == ["complete", str(float(gandyn.open_results(whole).spread.sum()))]
    assert "complete" in status.status(whole)


GO_ON = {
    "resume": lambda folder, **given: gandyn.resume(folder, progress=False, **given),
    "extend": lambda folder, **given: gandyn.extend(folder, num_steps=8, progress=False, **given),
    "replay": lambda folder, **given: gandyn.replay(folder, 0, progress=False, **given),
    "load_states": lambda folder, **given: gandyn.load_states(folder, 0, **given),
}


def test_states_are_loaded_with_the_parts_that_this_process_trained_with(whole, mine, monkeypatch):
    assert gandyn.load_states(whole, 0).generate(np.zeros((3, 2), np.float32)).shape == (3, 2)
    monkeypatch.setattr(parts, "_AT_HAND", {})
    with pytest.raises(MissingPartsError):
        gandyn.load_states(whole, 0)
    assert gandyn.load_states(whole, 0, using=[mine]).game.config.loss is mine.mine


def written_to(folder: Path) -> dict[Path, int]:
    """When each file was last written; the lock is taken and given back."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize("how", GO_ON)
def test_what_is_missing_is_listed_and_nothing_is_touched(how, whole, mine, monkeypatch):
    monkeypatch.setattr(parts, "_AT_HAND", {})
    before = written_to(whole)
    with pytest.raises(MissingPartsError, match="parts that are not at hand") as caught:
        GO_ON[how](whole)
    message = str(caught.value)
    assert all(f"{kind} {name!r}" in message for kind, name in NAMES if kind != "network")
    assert "network MyDisc" in message
    assert "using=[...]" in message
    for given in ([mine.mine, mine.past], [mine.MyDisc, mine.blob, mine.ball, mine.slow]):
        with pytest.raises(MissingPartsError) as caught:
            GO_ON[how](whole, using=given)
        assert not any(f"{getattr(one, 'name', one.__class__)!r}" in str(caught.value) for one in given)
    assert written_to(whole) == before


@pytest.mark.parametrize("arguments", ["resume", "extend --steps 8", "replay --run 0"])
def test_what_is_missing_ends_a_command_with_two(arguments, copy, capsys):
    command, *options = arguments.split()
    with pytest.raises(SystemExit) as stop:
        cli.main([command, str(copy), *options])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "loss 'mine', penalty 'past'" in error
    assert "--using FILE.py" in error


def test_a_replay_with_the_parts_is_the_same_to_the_bit(whole, file, mine):
    """Of a rule, a penalty and an average with memory; the parts as objects, and as a module of another process."""
    again = gandyn.replay(whole, 3, 1, using=[mine], progress=False)
    assert (again.compared, again.differences) == (4, {})
    assert again.results.step.values.tolist() == list(range(7))
    own = [mine.mine, mine.past, mine.ball, mine.slow, mine.spread, mine.above, mine.MyDisc(4), mine.blob]
    assert gandyn.replay(whole, 0, using=own, steps=(5, 6), progress=False).differences == {}


def test_a_command_takes_them_from_a_file(copy, file, capsys):
    cli.main(["resume", str(copy), "--using", str(file)])
    assert "results:" in capsys.readouterr().out


@pytest.mark.slow  # parts of another module are others, and compile again
def test_commands_that_train_with_the_parts_of_a_file(copy, file, capsys):
    cli.main(["replay", str(copy), "--run", "1", "--using", str(file)])
    assert "to the bit" in capsys.readouterr().out
    cli.main(["extend", str(copy), "--steps", "8", "--seeds", "9", "--using", str(file)])
    assert manifest.read(copy)["status"] == "complete"
    assert gandyn.open_results(copy).sizes["run"] == 6
    assert {(entry["kind"], entry["name"]) for entry in manifest.read(copy)["parts"]} == NAMES


@pytest.mark.slow
def test_an_extended_sweep_is_the_larger_one(copy, mine, tmp_path):
    longer = gandyn.extend(copy, num_steps=8, using=[mine], progress=False)
    want = gandyn.run_sweep(sweep_of(mine, num_steps=8), progress=False)
    for name in ("value", "loss_disc", "penalty_term", "spread"):
        np.testing.assert_array_equal(longer[name].values, want[name].values, err_msg=name)


OTHERS = {
    "loss 'mine'": ("(fake - 1) ** 2", "(fake - 1.5) ** 2"),
    "penalty 'past'": ("0.9 * at.memory", "0.8 * at.memory"),
    "rule 'heavy_ball'": ("0.5 * v", "0.6 * v"),
    "optimizer 'slow'": ("SHIFT = 0.25", "SHIFT = 0.5"),
    "measurement 'spread'": ("* 2.0", "* 3.0"),
    "network 'MyDisc": ("nn.relu(", "nn.tanh("),
    "target 'blob'": ("np.zeros((1, 2)", "np.ones((1, 2)"),
}


@pytest.mark.parametrize("part", OTHERS)
@pytest.mark.quick(2)
def test_a_part_that_differs_is_refused_and_named(part, whole, tmp_path):
    other = loaded(written(tmp_path, MINE.replace(*OTHERS[part])))
    with pytest.raises(ValueError, match="was made otherwise: ") as caught:
        gandyn.resume(whole, using=[other])
    message = str(caught.value)
    assert message.count("computes something else") == 1
    assert part in message
    assert "anyway" in message


def test_anyway_goes_on_with_a_part_that_differs(copy, tmp_path, capsys):
    command = ["resume", str(copy), "--using", str(written(tmp_path, MINE.replace(*OTHERS["loss 'mine'"])))]
    with pytest.raises(SystemExit) as stop:
        cli.main(command)
    assert stop.value.code == 2
    assert "loss 'mine': computes something else than there" in capsys.readouterr().err
    cli.main([*command, "--anyway"])
    assert "results:" in capsys.readouterr().out


@pytest.mark.slow
def test_a_replay_with_a_part_that_differs_says_where_it_differs(copy, tmp_path):
    file = written(tmp_path, MINE.replace(*OTHERS["loss 'mine'"]))
    again = gandyn.replay(copy, 0, using=[loaded(file)], anyway=True, progress=False)
    assert again.differences
    assert "spread" not in {name for name, step in again.differences.items() if step == 0}


def test_what_is_there_is_compared_with_what_is_to_be_made(whole, mine):
    with pytest.raises(ValueError, match=r"another sweep: num_steps: 6 there, 10 here"):
        gandyn.run_sweep(sweep_of(mine, num_steps=10), whole, progress=False)


# ---- what can be said of them


def test_two_of_one_name_are_refused(mine):
    twin = gandyn.Loss("mine", mine.mine.disc, mine.gen)
    configs = [gandyn.Config(loss=one) for one in (mine.mine, twin)]
    with pytest.raises(ValueError, match=r"loss 'mine': two of one name in a sweep; allowed: names of their own"):
        sweep.Sweep(sweep.make_settings(gandyn.targets.ring(), configs, gandyn.HParams()))
    with pytest.raises(ValueError, match=r"using: two parts of kind loss are named 'mine'; allowed: one of each"):
        parts.collect([mine.mine, twin])
    parts.collect([mine.mine, mine.mine, mine])
    with pytest.raises(ValueError, match=r"loss: got one named 'hinge'; allowed: a name of its own"):
        gandyn.Config(loss=gandyn.Loss("hinge", mine.mine.disc, mine.gen))


def test_what_is_no_part_is_refused():
    for value in (3, "hinge", gandyn.Config(), dict):
        with pytest.raises(ValueError, match=r"using: got .*; allowed: losses, penalties, rules"):
            parts.collect([value])


@pytest.fixture
def of_networks(mine) -> sweep.Sweep:
    settings = sweep.expand(
        {"gen_width": 4, "gen_depth": 1, "batch_size": 8, "num_modes": 4, "std": 0.1},
        sweep.product(disc=[mine.MyDisc(8), mine.MyDisc(16)]),
    )
    measured = gandyn.MeasureConfig(measurements=("value",), num_nodes=16, num_density_nodes=64)
    return sweep.Sweep(settings, [0], 2, 1, measure_config=measured)


def test_a_product_over_networks(of_networks, mine):
    assert [setting.recipe for setting in of_networks.settings] == ["disc=MyDisc(width=8)", "disc=MyDisc(width=16)"]
    recorded = parts.record(of_networks.parts)
    assert [entry["fields"] for entry in recorded] == [{"width": 8}, {"width": 16}]
    # Their class makes both again; objects are all to be there.
    text, configs = sweep_file.text(of_networks), [setting.config for setting in of_networks.settings]
    for given in ([mine.MyDisc], [mine.MyDisc(16), mine.MyDisc(8)]):
        using = parts.collect(given)
        assert parts.missing(recorded, using) == []
        assert [setting.config for setting in sweep_file.parse(text, using).settings] == configs
    assert parts.missing(recorded, parts.collect([mine.MyDisc(8)])) == ['network MyDisc{"width": 16}']


@pytest.mark.slow
def test_a_sweep_over_networks(of_networks, mine, tmp_path):
    out = tmp_path / "out"
    results = gandyn.run_sweep(of_networks, out, progress=False)
    assert results.disc.values.tolist() == ["MyDisc(width=8)", "MyDisc(width=16)"]
    assert gandyn.replay(out, 1, using=[mine.MyDisc], progress=False).differences == {}
    with pytest.raises(MissingPartsError, match=r'network MyDisc\{"width": 16\}'):
        gandyn.replay(out, 1, using=[mine.MyDisc(8)], progress=False)


@pytest.mark.slow
def test_another_sweep_over_a_number_of_ones_own_compiles_nothing(mine):
    config = gandyn.Config(loss=mine.mine, gen_width=4, disc_width=4, batch_size=12)  # as no other test has
    options: dict[str, Any] = {
        "seeds": [0], "num_steps": 2, "measure_every": 1, "measurements": ["value"], "progress": False,
        "measure_config": gandyn.MeasureConfig(num_nodes=16, num_density_nodes=64),
    }  # fmt: skip

    def compiled(gammas: list[float]) -> int:
        hparams = [gandyn.HParams(gamma=gamma) for gamma in gammas]
        with Compiled() as found:
            results = gandyn.run(gandyn.targets.ring(4, std=0.1), config, hparams, **options)
        assert results.gamma.values.tolist() == gammas
        assert len({value.tobytes() for value in results.loss_disc.values}) == len(gammas)
        return found.count

    assert compiled([0.0, 0.25, 0.5]) == 3  # init, advance, measure
    assert compiled([0.125, 1.0, 3.0]) == 0


def test_numbers_of_ones_own_are_checked_like_any_others(mine):
    shared = {"loss": mine.mine}
    with pytest.raises(ValueError, match=r"gamma: got -1.0; allowed: at least 0"):
        sweep.expand(shared, sweep.product(gamma=[0.5, -1]))
    with pytest.raises(ValueError, match=r"gama: got 0.5, and nothing chosen reads it \(did you mean 'gamma'\?\)"):
        sweep.expand(shared, sweep.product(gama=[0.5]))
    with pytest.raises(ValueError, match=r"gamma: got 0.5, and nothing chosen reads it"):
        sweep.expand({}, sweep.product(gamma=[0.5]))
    # What settings share may be read by some of them alone.
    made = sweep.expand({"gamma": 0.5}, sweep.product(loss=[mine.mine, "hinge"]))
    assert [setting.hparams.as_dict().get("gamma") for setting in made] == [0.5, None]


# ---- targets

TINY = {"gen_width": 4, "disc_width": 4, "gen_depth": 1, "disc_depth": 1, "batch_size": 8}


def test_targets_are_recorded_by_kind_and_numbers():
    """A number of a target is a coordinate like any other; its arrays are not written down."""
    settings = sweep.expand({"num_modes": 4, **TINY}, sweep.product(radius=[0.75, 1.0, 1.5]))
    planned = sweep.Sweep(settings, [0], 2, 1)
    groups = sweep.plan((setting, 0) for setting in planned.settings)
    (spec,) = (records.group_spec(group, planned.steps, planned.measured) for group in groups)
    assert spec.coords["radius"] == [0.75, 1.0, 1.5]
    assert spec.coords["target"] == ["ring"] * 3
    assert planned.parts == []
    text = sweep_file.text(planned)
    assert 'target = "ring"' in text
    assert "means" not in text
    assert "radius = 0.75" in text
    pairs: list[tuple[Any, Any]] = list(zip(settings, sweep_file.parse(text).settings, strict=True))
    for old, new in pairs:
        assert np.array_equal(np.asarray(old.target.means), np.asarray(new.target.means))
        assert old.target.made == new.target.made


@pytest.mark.slow
def test_a_sweep_over_a_number_of_the_target(tmp_path):
    settings = sweep.expand({"num_modes": 4, **TINY}, sweep.product(radius=[0.5, 1.0]))
    measured = gandyn.MeasureConfig(measurements=("value",), num_nodes=16, num_density_nodes=64)
    out = tmp_path / "out"
    results = gandyn.run_sweep(sweep.Sweep(settings, [0], 2, 1, measure_config=measured), out, progress=False)
    assert results.radius.values.tolist() == [0.5, 1.0]
    assert "means" not in manifest.read(out)["configuration"]
    assert gandyn.replay(out, 1, progress=False).differences == {}


def test_a_target_of_ones_own_is_recorded_by_its_name_and_fingerprint(mine, tmp_path):
    points = np.random.default_rng(0).normal(size=(16, 2))
    target = gandyn.targets.from_samples(points, 0.5, "cloud")
    planned = sweep.Sweep(sweep.make_settings(target, gandyn.Config(), gandyn.HParams()))
    (entry,) = parts.record(planned.parts)
    assert (entry["kind"], entry["name"]) == ("target", "cloud")
    text = sweep_file.text(planned)
    assert 'target = "cloud"' in text
    assert len(text) < 5_000
    assert sweep_file.parse(text, parts.collect([target])).settings[0].target is target
    moved = gandyn.targets.from_samples(points + 1e-3, 0.5, "cloud")
    ours = parts.record(sweep_file.parse(text, parts.collect([moved])).parts)
    assert parts.changed([entry], ours) == ["target 'cloud': computes something else than there"]


def test_parts_and_engines_of_other_processes(mine):
    """What a worker is handed is the objects: they are the parts of the sweep, each once."""
    assert {(part.kind, part.name) for part in parts.distinct(sweep_of(mine).parts)} == NAMES
    assert runner._objects(sweep_of(mine))
