"""A part in a small game: started, and trained for a few steps in every way in which sweeps do it."""

import functools
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from gandyn.gan import targets
from gandyn.gan.config import Config, rule_of
from gandyn.gan.game import Game, make_game
from gandyn.gan.number import HParams, Number
from gandyn.gan.state import State
from gandyn.gan.step import check as check_game
from gandyn.gan.step import init, step
from gandyn.testing.report import Suite

_SMALL: dict[str, Any] = {
    "batch_size": 8,
    "gen_width": 4,
    "gen_depth": 1,
    "gen_activation": "tanh",  # smooth, so that differences say what gradients are
    "gen_optimizer": "sgd",
    "disc_width": 4,
    "disc_depth": 1,
    "disc_activation": "tanh",
    "disc_optimizer": "sgd",
}
_OF_NETWORK = ("width", "depth", "activation")
ROUNDING = {"rtol": 1e-3, "atol": 1e-5}
"""Of float32 over a step, sums taken in another order: solvers inside a rule stop at a residual of 1e-5 or so."""


class Context(NamedTuple):
    """The game that a part is tried in.

    Attributes:
      target: None is a ring of four.
      hparams: numbers that are not at their defaults.
      fields: of its `Config`, beside those that make it small.
    """

    target: Any
    hparams: HParams
    fields: dict[str, Any]

    def with_fields(self, **fields: Any) -> "Context":
        """With these fields, where they are not given."""
        return self._replace(fields=fields | self.fields)

    def game(self) -> Game:
        """The game, its numbers as float32 arrays."""
        small = {
            name: value
            for name, value in _SMALL.items()
            if not any(self.fields.get(who) is not None and name in _built_by(who) for who in ("gen", "disc"))
        }
        target = targets.ring(4) if self.target is None else self.target
        game = make_game(target, Config(**small | self.fields), self.hparams)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), game)


def _built_by(player: str) -> list[str]:
    return [f"{player}_{name}" for name in _OF_NETWORK]


def run_key(seed: int = 0) -> jax.Array:
    """The key of a run, as sweeps make it."""
    return jax.random.key(seed, impl="threefry2x32")


def moved(number: Number) -> float:
    """Another legal value of a number, a tenth away from its default; the default where there is none."""
    away = 0.1 * (abs(number.default) or 1)
    for value in (number.default + away, number.default - away):
        try:
            number.check("value", value)
        except ValueError:
            continue
        return value
    return number.default


# ---- without computing


def check_abstractly(suite: Suite, context: Context) -> bool:
    """What shapes and types alone say of a game: it can be built and traced, and its state stays what it is."""
    return suite.run("builds", _builds, context) and suite.run("state keeps its form", _keeps_form, context)


def _builds(context: Context) -> None:
    game = context.game()
    check_game(game)
    _assert_float32(jax.eval_shape(init, game, run_key()))


def _assert_float32(tree: Any) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and leaf.dtype != jnp.float32:
            raise AssertionError(f"{jax.tree_util.keystr(path)}: got {leaf.dtype}; allowed: float32")


def _keeps_form(context: Context) -> None:
    game = context.game()
    before = jax.eval_shape(init, game, run_key())
    after = jax.eval_shape(step, game, before)
    for name in ("params", "stats", "opt_state", "memory", "average"):
        assert_same_form(name, getattr(before, name), getattr(after, name))
    _assert_float32(after)


def assert_same_form(name: str, before: Any, after: Any) -> None:
    """A step must not change which arrays there are, their shapes or their types."""
    try:
        chex.assert_trees_all_equal_structs(before, after)
        chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
    except AssertionError:
        raise AssertionError(
            f"{name}: got {_form(after)} after a step, {_form(before)} before it; allowed: the same arrays, shapes and "
            "types for ever"
        ) from None


def _form(tree: Any) -> str:
    """The shapes and types of a tree's arrays, in short."""
    shapes = jax.tree.map(lambda leaf: f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]", tree)
    return f"{shapes!r:.200}".replace("'", "")


# ---- by computing


def _advance(games: Game, states: State, num_steps: jax.Array) -> State:
    """Runs, each with its own numbers, after more steps; the number of steps is traced. Keys are plain numbers."""

    def one(game: Game, state: State) -> State:
        return _plain(jax.lax.fori_loop(0, num_steps, lambda _, state: step(game, state), _keyed(state)))

    return jax.vmap(one)(games, states)


_numbers = itertools.count()


def _program() -> Any:
    """`_advance` under jit, which may be traced once."""
    # chex counts by a function's name and place: a name of its own makes each program's count its own.
    counted: Any = functools.wraps(_advance)(lambda games, states, num_steps: _advance(games, states, num_steps))
    counted.__name__ = f"advance_{next(_numbers)}"
    return jax.jit(chex.assert_max_traces(counted, n=1))


class _Course(NamedTuple):
    """Two runs of a game: their games, states at the start, after one step and after three."""

    games: list[Game]
    starts: list[State]
    program: Any
    first: State
    third: State


def _stack(trees: Any) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _row(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _plain(state: State) -> State:
    """With the plain numbers of its key, which can be compared, and may be used as often as one likes."""
    return state.replace(key=jax.random.key_data(state.key))


def _keyed(state: State) -> State:
    return state.replace(key=jax.random.wrap_key_data(state.key, impl="threefry2x32"))


def check_in_game(suite: Suite, context: Context, numbers: Mapping[str, Number], again: bool = False) -> None:
    """All that a game shows. `numbers` are the part's; `again`: `check_abstractly` was done."""
    if not again and not check_abstractly(suite, context):
        return
    made: list[_Course] = []

    def train() -> str:
        made.append(_train(context, numbers))
        return "one program for all values of its numbers, and for any number of steps"

    if not suite.run("no retrace", train):
        return
    (course,) = made
    suite.run("finite", _finite, course)
    suite.run("players move", _players_move, course)
    suite.run("same bits in chunks", _chunks, course)
    suite.run("jit and vmap", _as_alone, course)


def _train(context: Context, numbers: Mapping[str, Number]) -> _Course:
    game = context.game()
    other = {name: jnp.float32(moved(number)) for name, number in numbers.items()}
    games = [game, Game(game.config, game.hparams.replace(**other), game.target)]
    starts = [_plain(init(one, run_key(seed))) for seed, one in enumerate(games)]
    program = _program()
    first = program(_stack(games), _stack(starts), 1)
    # With the numbers exchanged, and from a state that a step has made: nothing of that may compile again.
    program(_stack(games[::-1]), first, 2)
    return _Course(games, starts, program, first, program(_stack(games), _stack(starts), 3))


def _finite(course: _Course) -> None:
    for name in ("params", "stats", "opt_state", "memory", "logged"):
        for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(course.third, name)):
            if jnp.issubdtype(leaf.dtype, jnp.inexact) and not bool(jnp.all(jnp.isfinite(leaf))):
                raise AssertionError(
                    f"{name}{jax.tree_util.keystr(path)}: got NaN or infinity after three steps of a small game"
                )


def _players_move(course: _Course) -> None:
    _assert_counted(course)
    for player in ("gen", "disc"):
        before = [getattr(start.params, player) for start in course.starts]
        moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), _stack(before), getattr(course.third.params, player))
        if jax.tree.leaves(moved) and not any(jax.tree.leaves(moved)):
            raise AssertionError(f"{player}: its parameters are the same after three steps: it is told nothing")


def _assert_counted(course: _Course) -> None:
    if course.third.step.tolist() != [3, 3]:
        raise AssertionError(
            f"step: got {course.third.step.tolist()} after 3 steps; allowed: as it was, for `step` counts it itself"
        )
    if not bool(jnp.all(course.third.key == _stack([start.key for start in course.starts]))):
        raise AssertionError("key: changed by a step; allowed: as it was, for it is folded and never consumed")


def _chunks(course: _Course) -> None:
    """One step and two more give the bits of three."""
    then = course.program(_stack(course.games), course.first, 2)
    try:
        chex.assert_trees_all_equal(then, course.third)
    except AssertionError as error:
        raise AssertionError(f"a step and two more give other bits than three: {_where(error)}") from None


def _as_alone(course: _Course) -> str:
    """Each of the two runs, alone and uncompiled, makes the first step that both made together under jit and vmap."""
    for index, (game, start) in enumerate(zip(course.games, course.starts, strict=True)):
        alone = step(game, _keyed(start))
        for name in ("params", "stats", "memory", "logged"):
            try:
                chex.assert_trees_all_close(getattr(alone, name), _row(getattr(course.first, name), index), **ROUNDING)
            except AssertionError as error:
                raise AssertionError(
                    f"{name}: a step under jit and vmap is another one than alone and uncompiled: {_where(error)}"
                ) from None
    return f"rule {rule_of(course.games[0].config).name!r}"


def _where(error: AssertionError) -> str:
    """What chex says of two trees that differ: the leaf and the numbers, without its heading."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(line for line in lines[1:] if not line.startswith(("Error", "Original")))[:300]
