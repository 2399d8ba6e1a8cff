"""Update rules: one step of one GAN, State -> State.

`step` is what a training loop calls: schedules, one of `DYNAMICS`, then lookahead and parameter averages. Every rule
draws its randomness from `fold_in(fold_in(key, Stream.TRAIN), step)` alone, so a run's course does not depend on how
its steps are grouped.

In formulas w = (w_gen, w_disc) are the parameters, xi = (grad_gen L_gen, grad_disc L_disc) is the field that both
players descend, J its Jacobian, h the learning rates.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.scipy.sparse.linalg import bicgstab

from gandyn.gan import gan
from gandyn.gan.gan import Batch, Config, HParams, Logged, Players, State
from gandyn.gan.penalties import PENALTIES
from gandyn.gan.targets import GaussianMixture

Step = Callable[[Config, HParams, GaussianMixture, State], State]


def _step_key(state: State) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(state.key, gan.Stream.TRAIN), state.step)


def _draw(config: Config, hparams: HParams, target: GaussianMixture, state: State, key: jax.Array) -> Batch:
    return gan.draw_batch(config, hparams, key, state.data, target)


class Field(NamedTuple):
    """xi at one point on one minibatch.

    Attributes:
      gradient: of each player's objective in its own parameters.
      logged: the losses there.
      stats: the players' collections after it.
    """

    gradient: Players
    logged: Logged
    stats: Players


def _disc_gradient(
    config: Config, hparams: HParams, params: Players, stats: Players, batch: Batch
) -> tuple[Any, tuple[jax.Array, jax.Array, Any]]:
    def objective(disc):
        return gan.disc_objective(config, hparams, params._replace(disc=disc), stats, batch)

    return jax.grad(objective, has_aux=True)(params.disc)


def _gen_gradient(
    config: Config, hparams: HParams, params: Players, stats: Players, batch: Batch
) -> tuple[Any, tuple[jax.Array, Any]]:
    def objective(gen):
        return gan.gen_objective(config, hparams, params._replace(gen=gen), stats, batch)

    return jax.grad(objective, has_aux=True)(params.gen)


def field(config: Config, hparams: HParams, params: Players, stats: Players, batch: Batch) -> Field:
    """xi, both players on the same minibatch."""
    disc, (loss_disc, penalty, disc_stats) = _disc_gradient(config, hparams, params, stats, batch)
    gen, (loss_gen, gen_stats) = _gen_gradient(config, hparams, params, stats, batch)
    return Field(Players(gen, disc), Logged(loss_disc, loss_gen, penalty), Players(gen_stats, disc_stats))


def _project(config: Config, hparams: HParams, disc_params: Any) -> Any:
    project = PENALTIES[config.penalty].project
    return project(disc_params, jnp.asarray(hparams.clip_bound)) if project else disc_params


def _update_disc(config: Config, hparams: HParams, disc_params: Any, opt_state: Any, gradient: Any) -> tuple[Any, Any]:
    updates, opt_state = gan.optimizers(config, hparams).disc.update(gradient, opt_state, disc_params)
    return _project(config, hparams, optax.apply_updates(disc_params, updates)), opt_state


def _update_gen(config: Config, hparams: HParams, gen_params: Any, opt_state: Any, gradient: Any) -> tuple[Any, Any]:
    updates, opt_state = gan.optimizers(config, hparams).gen.update(gradient, opt_state, gen_params)
    return optax.apply_updates(gen_params, updates), opt_state


def _update(
    config: Config, hparams: HParams, params: Players, opt_state: Players, gradient: Players
) -> tuple[Players, Players]:
    """Both players' parameters and optimizer states after one update of each."""
    gen, gen_opt = _update_gen(config, hparams, params.gen, opt_state.gen, gradient.gen)
    disc, disc_opt = _update_disc(config, hparams, params.disc, opt_state.disc, gradient.disc)
    return Players(gen, disc), Players(gen_opt, disc_opt)


def _updated(config: Config, hparams: HParams, state: State, gradient: Players, at: Field) -> State:
    """The state after both players' updates by `gradient`, with the losses and collections of `at`."""
    params, opt_state = _update(config, hparams, state.params, state.opt_state, gradient)
    return dataclasses.replace(state, params=params, opt_state=opt_state, stats=at.stats, logged=at.logged)


# ---- one player at a time


def _disc_turn(config: Config, hparams: HParams, state: State, batch: Batch) -> State:
    gradient, (loss, penalty, stats) = _disc_gradient(config, hparams, state.params, state.stats, batch)
    disc, opt_state = _update_disc(config, hparams, state.params.disc, state.opt_state.disc, gradient)
    return dataclasses.replace(
        state,
        params=state.params._replace(disc=disc),
        opt_state=state.opt_state._replace(disc=opt_state),
        stats=state.stats._replace(disc=stats),
        logged=state.logged._replace(loss_disc=loss, penalty=penalty),
    )


def _gen_turn(config: Config, hparams: HParams, state: State, batch: Batch) -> State:
    gradient, (loss, stats) = _gen_gradient(config, hparams, state.params, state.stats, batch)
    gen, opt_state = _update_gen(config, hparams, state.params.gen, state.opt_state.gen, gradient)
    return dataclasses.replace(
        state,
        params=state.params._replace(gen=gen),
        opt_state=state.opt_state._replace(gen=opt_state),
        stats=state.stats._replace(gen=stats),
        logged=state.logged._replace(loss_gen=loss),
    )


def alternating(config: Config, hparams: HParams, target: GaussianMixture, state: State) -> State:
    """`disc_steps` updates of D, then `gen_steps` of G against the new D, each on a fresh minibatch.

    Goodfellow et al. 2014, algorithm 1. `first` says who begins instead, `second_batch` whether the second player's
    first update takes the first player's last minibatch.
    """
    disc_key, gen_key = jax.random.split(_step_key(state))
    turns = [(_disc_turn, config.disc_steps, disc_key), (_gen_turn, config.gen_steps, gen_key)]
    if config.first == "gen":
        turns.reverse()
    (first, first_steps, first_key), (second, second_steps, second_key) = turns

    def repeat(turn, start, num_steps, key, state):
        def once(i, state):
            return turn(config, hparams, state, _draw(config, hparams, target, state, jax.random.fold_in(key, i)))

        if num_steps - start <= 1:
            return once(start, state) if num_steps > start else state
        return jax.lax.fori_loop(start, num_steps, once, state)

    state = repeat(first, 0, first_steps, first_key, state)
    if config.second_batch == "fresh":
        return repeat(second, 0, second_steps, second_key, state)
    same = _draw(config, hparams, target, state, jax.random.fold_in(first_key, first_steps - 1))
    return repeat(second, 1, second_steps, second_key, second(config, hparams, state, same))


def best_response(config: Config, hparams: HParams, target: GaussianMixture, state: State) -> State:
    """D is trained on one minibatch until its gradient's norm is at most disc_tolerance, then G makes one update.

    At most `disc_steps` updates of D; G takes a fresh minibatch. (The two-time-scale limit of Fiez et al. 2020.)
    """
    disc_key, gen_key = jax.random.split(_step_key(state))
    batch = _draw(config, hparams, target, state, disc_key)

    def gradient(state: State) -> tuple[Any, Any]:
        return _disc_gradient(config, hparams, state.params, state.stats, batch)

    def goes_on(carry):
        num, _, (slope, _) = carry
        return (num < config.disc_steps) & (optax.tree.norm(slope) > hparams.disc_tolerance)

    def once(carry):
        num, state, (slope, _) = carry
        disc, opt_state = _update_disc(config, hparams, state.params.disc, state.opt_state.disc, slope)
        state = dataclasses.replace(
            state,
            params=state.params._replace(disc=disc),
            opt_state=state.opt_state._replace(disc=opt_state),
        )
        return num + 1, state, gradient(state)

    _, state, (_, (loss, penalty, stats)) = jax.lax.while_loop(goes_on, once, (0, state, gradient(state)))
    state = dataclasses.replace(
        state,
        stats=state.stats._replace(disc=stats),
        logged=state.logged._replace(loss_disc=loss, penalty=penalty),
    )
    return _gen_turn(config, hparams, state, _draw(config, hparams, target, state, gen_key))


# ---- both players at once


def simultaneous(config: Config, hparams: HParams, target: GaussianMixture, state: State) -> State:
    """Both players step from the same parameters on the same minibatch: w - h xi(w); Mescheder et al. 2017, alg. 1."""
    here = field(config, hparams, state.params, state.stats, _draw(config, hparams, target, state, _step_key(state)))
    return _updated(config, hparams, state, here.gradient, here)


def extragradient(config: Config, hparams: HParams, target: GaussianMixture, state: State) -> State:
    """w - h xi(w - h xi(w)), on two minibatches; Korpelevich 1976; Gidel et al. 2019, algorithms 2 and 4.

    The optimizer makes both steps from w, and its moments take in both gradients (ExtraAdam).
    """
    first_key, second_key = jax.random.split(_step_key(state))
    here = field(config, hparams, state.params, state.stats, _draw(config, hparams, target, state, first_key))
    ahead, opt_state = _update(config, hparams, state.params, state.opt_state, here.gradient)
    there = field(config, hparams, ahead, here.stats, _draw(config, hparams, target, state, second_key))
    return _updated(config, hparams, dataclasses.replace(state, opt_state=opt_state), there.gradient, there)


def past_extragradient(config: Config, hparams: HParams, target: GaussianMixture, state: State) -> State:
    """w - h xi(v), v = w - h xi(last v): one gradient a step; Popov 1980; Gidel et al. 2019, algorithm 3.

    The first step goes from v = w.
    """
    assert state.past is not None
    ahead, opt_state = _update(config, hparams, state.params, state.opt_state, state.past)
    # Adam's moments, too, have seen no gradient before the first step.
    at_start = functools.partial(jax.tree.map, functools.partial(jnp.where, state.step == 0))
    ahead, opt_state = at_start(state.params, ahead), at_start(state.opt_state, opt_state)
    there = field(config, hparams, ahead, state.stats, _draw(config, hparams, target, state, _step_key(state)))
    state = dataclasses.replace(state, opt_state=opt_state, past=there.gradient)
    return _updated(config, hparams, state, there.gradient, there)


def optimistic(config: Config, hparams: HParams, target: GaussianMixture, state: State) -> State:
    """w - 2 h xi(w) + h xi(last w): one gradient a step; Daskalakis et al. 2018, eq. 6. The optimizer sees the sum."""
    # `gan.optimizers` puts optax's optimistic gradient before the optimizers of this rule.
    return simultaneous(config, hparams, target, state)


def unrolled(config: Config, hparams: HParams, target: GaussianMixture, state: State) -> State:
    """G descends its loss against D as it would be `unroll_steps` updates on, through them; D makes one update.

    Metz et al. 2017, eqs. 8-10: the updates are those of D's own optimizer from its present state, on the same
    minibatch, and both players step from the same parameters. In a zero-sum game G descends all of V at the D to come,
    the real part included.
    """
    batch = _draw(config, hparams, target, state, _step_key(state))
    # Where a gradient is exactly zero Adam's root has no derivative; eps^2 under it gives one and changes nothing else.
    ahead_optimizer = gan.optimizers(config, hparams, eps_root=hparams.eps**2).disc

    def objective(gen):
        def once(carry, _):
            disc, opt_state = carry
            slope, _ = _disc_gradient(config, hparams, Players(gen, disc), state.stats, batch)
            updates, opt_state = ahead_optimizer.update(slope, opt_state, disc)
            return (_project(config, hparams, optax.apply_updates(disc, updates)), opt_state), None

        start = (state.params.disc, state.opt_state.disc)
        (disc, _), _ = jax.lax.scan(once, start, None, config.unroll_steps)
        return gan.gen_objective(config, hparams, Players(gen, disc), state.stats, batch, disc_follows=True)

    gen_slope, (loss_gen, gen_stats) = jax.grad(objective, has_aux=True)(state.params.gen)
    disc_slope, (loss_disc, penalty, disc_stats) = _disc_gradient(config, hparams, state.params, state.stats, batch)
    here = Field(Players(gen_slope, disc_slope), Logged(loss_disc, loss_gen, penalty), Players(gen_stats, disc_stats))
    return _updated(config, hparams, state, here.gradient, here)


class Terms(NamedTuple):
    """Coefficients of the three terms that adjust a player's gradient, each a pair (gen, disc).

    For player i with opponent j, in blocks of J:
      own: J_ii xi_i, the gradient of 1/2 |xi_i|^2 in w_i.
      other: J_ji^T xi_j, the gradient of 1/2 |xi_j|^2 in w_i.
      interaction: J_ij xi_j, how xi_i changes as the opponent moves along xi_j.
    """

    own: Players
    other: Players
    interaction: Players


_NONE = Players(0.0, 0.0)


def _consensus_terms(hparams: HParams) -> Terms:
    both = Players(hparams.adjustment, hparams.adjustment)
    return Terms(own=both, other=both, interaction=_NONE)


def _symplectic_terms(hparams: HParams) -> Terms:
    half = hparams.adjustment / 2
    return Terms(own=_NONE, other=Players(half, half), interaction=Players(-half, -half))


def _drift_terms(hparams: HParams) -> Terms:
    share = hparams.adjustment / 2
    return Terms(own=_NONE, other=_NONE, interaction=Players(-share * hparams.lr_disc, -share * hparams.lr_gen))


def _alignment(xi: Players, parts: Terms) -> jax.Array:
    """+1 or -1 by which the symplectic term, towards a stable or away from an unstable fixed point, helps xi.

    Balduzzi et al. 2018, algorithm 1: the sign of <xi, grad H> <A^T xi, grad H> / d + 1/10, H = |xi|^2 / 2, d
    parameters.
    """
    uphill = optax.tree.add(parts.own, parts.other)  # J^T xi, the gradient of H
    rotated = optax.tree.scale(0.5, optax.tree.sub(parts.other, parts.interaction))  # A^T xi
    size = sum(leaf.size for leaf in jax.tree.leaves(xi))
    product = jnp.asarray(optax.tree.vdot(xi, uphill)) * jnp.asarray(optax.tree.vdot(rotated, uphill))
    return jnp.where(product / size + 0.1 < 0, -1.0, 1.0)


def _adjusted(
    terms: Callable[[HParams], Terms],
    config: Config,
    hparams: HParams,
    target: GaussianMixture,
    state: State,
    aligned: bool = False,
) -> State:
    """Simultaneous steps along xi with `terms` added, all on one minibatch. The optimizers see the sum."""
    batch = _draw(config, hparams, target, state, _step_key(state))

    def xi(params: Players) -> tuple[Players, Field]:
        at = field(config, hparams, params, state.stats, batch)
        return at.gradient, at

    xi_here, transposed, here = jax.vjp(xi, state.params, has_aux=True)
    zero = jax.tree.map(jnp.zeros_like, xi_here)
    by_gen, by_disc = transposed(xi_here._replace(disc=zero.disc))[0], transposed(xi_here._replace(gen=zero.gen))[0]
    along = lambda tangent: jax.jvp(lambda params: xi(params)[0], (state.params,), (tangent,))[1]  # noqa: E731
    own, other, interaction = terms(hparams)
    parts = Terms(
        own=Players(by_gen.gen, by_disc.disc),
        other=Players(by_disc.gen, by_gen.disc),
        interaction=Players(
            along(xi_here._replace(gen=zero.gen)).gen if interaction is not _NONE else zero.gen,
            along(xi_here._replace(disc=zero.disc)).disc if interaction is not _NONE else zero.disc,
        ),
    )
    sign = _alignment(xi_here, parts) if aligned else 1.0
    gradient = xi_here
    for coefficient, part in zip((own, other, interaction), parts, strict=True):
        if coefficient is not _NONE:
            gradient = Players(
                *(optax.tree.add_scale(total, sign * c, term) for total, c, term in zip(gradient, coefficient, part))
            )
    return _updated(config, hparams, state, gradient, here)


def consensus(config: Config, hparams: HParams, target: GaussianMixture, state: State) -> State:
    """Simultaneous, along xi + adjustment * grad 1/2 |xi|^2 = xi + adjustment J^T xi; Mescheder et al. 2017, eq. 12."""
    return _adjusted(_consensus_terms, config, hparams, target, state)


def symplectic(config: Config, hparams: HParams, target: GaussianMixture, state: State) -> State:
    """Simultaneous, along xi + adjustment A^T xi, A the antisymmetric part of J; Balduzzi et al. 2018, unaligned."""
    return _adjusted(_symplectic_terms, config, hparams, target, state)


def symplectic_aligned(config: Config, hparams: HParams, target: GaussianMixture, state: State) -> State:
    """The same with the term's sign chosen at each step, by alignment; Balduzzi et al. 2018, algorithm 1."""
    return _adjusted(_symplectic_terms, config, hparams, target, state, aligned=True)


def drift_cancelling(config: Config, hparams: HParams, target: GaussianMixture, state: State) -> State:
    """Simultaneous, along xi_i - adjustment * h_j / 2 J_ij xi_j: cancels the interaction's drift; Rosca et al. 2021."""
    return _adjusted(_drift_terms, config, hparams, target, state)


def competitive(config: Config, hparams: HParams, target: GaussianMixture, state: State) -> State:
    """Competitive gradient descent: both play the equilibrium of the game's bilinear model; Schaefer & Anandkumar 2019.

    dw_gen = -h_gen (1 - h_gen h_disc J_gd J_dg)^-1 (xi_gen - h_disc J_gd xi_disc), and D's best response to it,
    dw_disc = -h_disc (xi_disc + J_dg dw_gen). The system is solved by BiCGSTAB to a relative residual of 1e-6.
    """
    batch = _draw(config, hparams, target, state, _step_key(state))
    here = field(config, hparams, state.params, state.stats, batch)
    gen, disc = state.params

    def gen_by_disc(tangent):  # J_gd
        slope = lambda d: _gen_gradient(config, hparams, Players(gen, d), state.stats, batch)[0]  # noqa: E731
        return jax.jvp(slope, (disc,), (tangent,))[1]

    def disc_by_gen(tangent):  # J_dg
        slope = lambda g: _disc_gradient(config, hparams, Players(g, disc), state.stats, batch)[0]  # noqa: E731
        return jax.jvp(slope, (gen,), (tangent,))[1]

    def system(x):
        return optax.tree.add_scale(x, -hparams.lr_gen * hparams.lr_disc, gen_by_disc(disc_by_gen(x)))

    pull = optax.tree.add_scale(here.gradient.gen, -hparams.lr_disc, gen_by_disc(here.gradient.disc))
    answer, _ = bicgstab(system, pull, tol=1e-6, maxiter=100)
    # The plain optimizers multiply by -h themselves.
    response = optax.tree.add_scale(here.gradient.disc, -hparams.lr_gen, disc_by_gen(answer))
    return _updated(config, hparams, state, Players(answer, response), here)


def _runge_kutta(
    stages: tuple[float, ...],
    weights: tuple[float, ...],
    config: Config,
    hparams: HParams,
    target: GaussianMixture,
    state: State,
) -> State:
    """One explicit Runge-Kutta step of dw/dt = -h xi(w), t = 1, on one minibatch; stage i starts at stages[i]."""
    batch = _draw(config, hparams, target, state, _step_key(state))
    here = field(config, hparams, state.params, state.stats, batch)
    total, slope = optax.tree.scale(weights[0], here.gradient), here.gradient
    for stage, weight in zip(stages[1:], weights[1:], strict=True):
        at = Players(
            optax.tree.add_scale(state.params.gen, -stage * hparams.lr_gen, slope.gen),
            optax.tree.add_scale(state.params.disc, -stage * hparams.lr_disc, slope.disc),
        )
        slope = field(config, hparams, at, state.stats, batch).gradient
        total = optax.tree.add_scale(total, weight, slope)
    return _updated(config, hparams, state, total, here)


def heun(config: Config, hparams: HParams, target: GaussianMixture, state: State) -> State:
    """Runge-Kutta of second order (Heun) on the field of one minibatch; ODE-GAN, Qin et al. 2020."""
    return _runge_kutta((0, 1), (1 / 2, 1 / 2), config, hparams, target, state)


def runge_kutta(config: Config, hparams: HParams, target: GaussianMixture, state: State) -> State:
    """Runge-Kutta of fourth order on the field of one minibatch, both players moving in each stage; Qin et al. 2020."""
    return _runge_kutta((0, 1 / 2, 1 / 2, 1), (1 / 6, 1 / 3, 1 / 3, 1 / 6), config, hparams, target, state)


DYNAMICS: dict[str, Step] = {
    "alternating": alternating,
    "simultaneous": simultaneous,
    "best_response": best_response,
    "extragradient": extragradient,
    "past_extragradient": past_extragradient,
    "optimistic": optimistic,
    "unrolled": unrolled,
    "consensus": consensus,
    "symplectic": symplectic,
    "symplectic_aligned": symplectic_aligned,
    "drift_cancelling": drift_cancelling,
    "competitive": competitive,
    "heun": heun,
    "runge_kutta": runge_kutta,
}


def step(config: Config, hparams: HParams, target: GaussianMixture, state: State) -> State:
    """One step of one GAN: the update rule under the schedules in force; lookahead, path length and G's average."""
    now, before = gan.scheduled(config, hparams, state.step), state.params
    state = DYNAMICS[config.dynamics](config, now, target, state)
    state = dataclasses.replace(state, step=state.step + 1)
    if config.lookahead:
        assert state.slow is not None
        back = functools.partial(jax.tree.map, functools.partial(jnp.where, state.step % config.lookahead == 0))
        met = jax.tree.map(lambda slow, fast: slow + now.lookahead_rate * (fast - slow), state.slow, state.params)
        state = dataclasses.replace(state, slow=back(met, state.slow), params=back(met, state.params))
    if state.travelled is not None:
        moved = lambda length, old, new: length + optax.tree.norm(optax.tree.sub(new, old))  # noqa: E731
        state = dataclasses.replace(state, travelled=Players(*map(moved, state.travelled, before, state.params)))
    if config.gen_ema:
        average = lambda old, new: old + (1 - now.ema_decay) * (new - old)  # noqa: E731
        state = dataclasses.replace(state, ema=jax.tree.map(average, state.ema, state.variables.gen))
    return state
