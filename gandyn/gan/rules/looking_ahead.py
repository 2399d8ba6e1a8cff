"""Rules that step by a gradient taken elsewhere: ahead, or before; and lookahead, which goes back."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gandyn.gan.number import Number
from gandyn.gan.rules.rule import Rule
from gandyn.gan.state import Field, Logged, Players


def _zeros(game: Any, params: Players) -> Players:
    return jax.tree.map(jnp.zeros_like, params)


def _simultaneous(game: Any, state: Any, key: jax.Array) -> Any:
    """Both players step from the same parameters on the same minibatch: w - h xi(w)."""
    here = game.field(state.params, state.stats, game.draw(state, key))
    return game.updated(state, here.gradient, here)


def _extragradient(game: Any, state: Any, key: jax.Array) -> Any:
    """w - h xi(w - e h xi(w)), on two minibatches, e = extrapolation.

    The optimizer makes both steps from w, and its moments take in both gradients (ExtraAdam).
    """
    first_key, second_key = jax.random.split(key)
    here = game.field(state.params, state.stats, game.draw(state, first_key))
    ahead, opt_state = game.update(state.params, state.opt_state, here.gradient)
    ahead = jax.tree.map(lambda w, to: w + game.hparams.extrapolation * (to - w), state.params, ahead)
    there = game.field(ahead, here.stats, game.draw(state, second_key))
    return game.updated(state.replace(opt_state=opt_state), there.gradient, there)


def _past_extragradient(game: Any, state: Any, key: jax.Array) -> Any:
    """w - h xi(v), v = w - h xi(last v): one gradient a step. The first step goes from v = w."""
    ahead, opt_state = game.update(state.params, state.opt_state, state.memory)
    # Adam's moments, too, have seen no gradient before the first step.
    at_start = functools.partial(jax.tree.map, functools.partial(jnp.where, state.step == 0))
    ahead, opt_state = at_start(state.params, ahead), at_start(state.opt_state, opt_state)
    there = game.field(ahead, state.stats, game.draw(state, key))
    state = state.replace(opt_state=opt_state, memory=there.gradient)
    return game.updated(state, there.gradient, there)


def _optimistic(game: Any, state: Any, key: jax.Array) -> Any:
    """w - 2 h xi(w) + h xi(last w): one gradient a step. The optimizer sees the sum.

    The first step, which has no last one, is w - h xi(w): the last gradient is taken for the first.
    """
    here = game.field(state.params, state.stats, game.draw(state, key))
    last = jax.tree.map(functools.partial(jnp.where, state.step == 0), here.gradient, state.memory)
    gradient = jax.tree.map(lambda now, last: 2 * now - last, here.gradient, last)
    return game.updated(state.replace(memory=here.gradient), gradient, here)


def _unrolled(game: Any, state: Any, key: jax.Array) -> Any:
    """G descends its loss against D as it would be `unroll_steps` updates on, through them; D makes one update.

    The updates are those of D's own optimizer from its present state, on the same minibatch, and both players step from
    the same parameters. In a zero-sum game G descends all of V at the D to come, the real part included.
    """
    batch = game.draw(state, key)

    def objective(gen: Any) -> Any:
        def once(carry: Any, _: None) -> Any:
            disc, opt_state = carry
            slope, _ = game.disc_gradient(Players(gen, disc), state.stats, batch)
            return game.update_disc(disc, opt_state, slope, smooth=True), None

        start = (state.params.disc, state.opt_state.disc)
        (disc, _), _ = jax.lax.scan(once, start, None, game.config.unroll_steps)
        return game.gen_objective(Players(gen, disc), state.stats, batch, disc_follows=True)

    gen_slope, (loss_gen, gen_stats) = jax.grad(objective, has_aux=True)(state.params.gen)
    disc_slope, (loss_disc, penalty, disc_stats) = game.disc_gradient(state.params, state.stats, batch)
    here = Field(Players(gen_slope, disc_slope), Logged(loss_disc, loss_gen, penalty), Players(gen_stats, disc_stats))
    return game.updated(state, here.gradient, here)


def _runge_kutta(stages: tuple[float, ...], weights: tuple[float, ...], game: Any, state: Any, key: jax.Array) -> Any:
    """One explicit Runge-Kutta step of dw/dt = -h xi(w), t = 1, on one minibatch; stage i starts at stages[i]."""
    batch = game.draw(state, key)
    here = game.field(state.params, state.stats, batch)
    total, slope = optax.tree.scale(weights[0], here.gradient), here.gradient
    for stage, weight in zip(stages[1:], weights[1:], strict=True):
        at = Players(
            optax.tree.add_scale(state.params.gen, -stage * game.hparams.lr_gen, slope.gen),
            optax.tree.add_scale(state.params.disc, -stage * game.hparams.lr_disc, slope.disc),
        )
        slope = game.field(at, state.stats, batch).gradient
        total = optax.tree.add_scale(total, weight, slope)
    return game.updated(state, total, here)


def _heun(game: Any, state: Any, key: jax.Array) -> Any:
    """Runge-Kutta of second order (Heun) on the field of one minibatch."""
    return _runge_kutta((0, 1), (1 / 2, 1 / 2), game, state, key)


def _runge_kutta_4(game: Any, state: Any, key: jax.Array) -> Any:
    """Runge-Kutta of fourth order on the field of one minibatch, both players moving in each stage."""
    return _runge_kutta((0, 1 / 2, 1 / 2, 1), (1 / 6, 1 / 3, 1 / 3, 1 / 6), game, state, key)


class Slow(NamedTuple):
    """What lookahead remembers: of the rule inside; for each level, where its last sync left both players."""

    inner: Any
    slow: tuple[Players, ...]


def lookahead(rule: Rule, every: int | Sequence[int]) -> Rule:
    """A rule after every `every` steps of which both players go back to `lookahead_rate` of the way since the last.

    w = s + lookahead_rate (w - s), s where the last sync left them, the first time the start (Chavdarova et al. 2021,
    algorithm 1). Several numbers are levels, each a multiple of the one before, synced in that order: nested lookahead
    (their algorithm 6). Optimizer states are left as they are.

    Raises:
      ValueError: numbers below 2, or not multiples.
    """
    levels = (every,) if isinstance(every, int) else tuple(every)
    if not levels or levels[0] < 2 or any(b % a or b <= a for a, b in itertools.pairwise(levels)):
        raise ValueError(
            f"lookahead: got every={every!r}; allowed: whole numbers from 2 on, each a multiple of the last"
        )

    def init(game: Any, params: Players) -> Slow:
        return Slow(rule.init(game, params), (params,) * len(levels))

    def step(game: Any, state: Any, key: jax.Array) -> Any:
        memory = state.memory
        state = rule.step(game, state.replace(memory=memory.inner), key)
        params, slow = state.params, list(memory.slow)
        for level, period in enumerate(levels):
            back = functools.partial(jax.tree.map, functools.partial(jnp.where, (state.step + 1) % period == 0))
            met = jax.tree.map(lambda s, w: s + game.hparams.lookahead_rate * (w - s), slow[level], params)
            params = back(met, params)
            # What a higher level goes back to is where the lower ones start anew.
            slow[: level + 1] = [back(params, one) for one in slow[: level + 1]]
        return state.replace(params=params, memory=Slow(state.memory, tuple(slow)))

    name = f"{rule.name}_lookahead_{'_'.join(map(str, levels))}"
    rate = {"lookahead_rate": Number(0.5, 0, 1, text="share of the way that a lookahead keeps")}
    return Rule(
        name, step, init, {**rule.numbers, **rate}, rule.options, rule.own_steps, rule.optimistic, rule.reference
    )


SIMULTANEOUS = Rule("simultaneous", _simultaneous, reference="Mescheder et al. 2017, algorithm 1")
EXTRAGRADIENT = Rule(
    "extragradient",
    _extragradient,
    numbers={"extrapolation": Number(1.0, 0, text="rate of the step ahead, in units of the learning rate")},
    reference="Korpelevich 1976; Gidel et al. 2019, algorithms 2 and 4; two rates: Hsieh et al. 2020",
)
PAST_EXTRAGRADIENT = Rule(
    "past_extragradient", _past_extragradient, _zeros, reference="Popov 1980; Gidel et al. 2019, algorithm 3"
)
OPTIMISTIC = Rule("optimistic", _optimistic, _zeros, optimistic=True, reference="Daskalakis et al. 2018, eq. 6")
UNROLLED = Rule("unrolled", _unrolled, options=("unroll_steps",), reference="Metz et al. 2017, eqs. 8-10")
HEUN = Rule("heun", _heun, own_steps=True, reference="ODE-GAN, Qin et al. 2020")
RUNGE_KUTTA = Rule("runge_kutta", _runge_kutta_4, own_steps=True, reference="ODE-GAN, Qin et al. 2020")
