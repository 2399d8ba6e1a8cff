"""Rules that read the game's Jacobian, by products with it.

xi is the field that both players descend, J its Jacobian, h the learning rates; blocks J_gd = d xi_gen / d w_disc.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.scipy.sparse.linalg import bicgstab

from gandyn.gan.number import HParams, Number
from gandyn.gan.rules.rule import Rule
from gandyn.gan.state import Players


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


def adjusted(terms: Callable[[HParams], Terms], game: Any, state: Any, key: jax.Array, aligned: bool = False) -> Any:
    """Simultaneous steps along xi with `terms` added, all on one minibatch. The optimizers see the sum."""
    batch = game.draw(state, key)

    def xi(params: Players) -> tuple[Players, Any]:
        at = game.field(params, state.stats, batch)
        return at.gradient, at

    xi_here, transposed, here = jax.vjp(xi, state.params, has_aux=True)
    zero = jax.tree.map(jnp.zeros_like, xi_here)
    by_gen, by_disc = transposed(xi_here._replace(disc=zero.disc))[0], transposed(xi_here._replace(gen=zero.gen))[0]
    along = lambda tangent: jax.jvp(lambda params: xi(params)[0], (state.params,), (tangent,))[1]  # noqa: E731
    own, other, interaction = terms(game.hparams)
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
    return game.updated(state, gradient, here)


def _consensus(game: Any, state: Any, key: jax.Array) -> Any:
    """Simultaneous, along xi + adjustment * grad 1/2 |xi|^2 = xi + adjustment J^T xi."""
    return adjusted(_consensus_terms, game, state, key)


def _symplectic(game: Any, state: Any, key: jax.Array) -> Any:
    """Simultaneous, along xi + adjustment A^T xi, A the antisymmetric part of J; unaligned."""
    return adjusted(_symplectic_terms, game, state, key)


def _symplectic_aligned(game: Any, state: Any, key: jax.Array) -> Any:
    """The same with the term's sign chosen at each step, by alignment."""
    return adjusted(_symplectic_terms, game, state, key, aligned=True)


def _drift_cancelling(game: Any, state: Any, key: jax.Array) -> Any:
    """Simultaneous, along xi_i - adjustment * h_j / 2 J_ij xi_j: cancels the interaction's drift.

    At unequal rates each player's drift is taken in its own time, w_i' = -xi_i with step h_i, as in the paper.
    """
    return adjusted(_drift_terms, game, state, key)


class _Blocks(NamedTuple):
    """Products with blocks of J on one minibatch; J_ij takes a direction of player j to one of player i."""

    gen_by_disc: Callable[[Any], Any]
    disc_by_gen: Callable[[Any], Any]
    disc_by_disc: Callable[[Any], Any]


def _blocks(game: Any, state: Any, batch: Any) -> _Blocks:
    gen, disc = state.params
    of_gen = lambda d: game.gen_gradient(Players(gen, d), state.stats, batch)[0]  # noqa: E731
    of_disc = lambda g, d: game.disc_gradient(Players(g, d), state.stats, batch)[0]  # noqa: E731
    return _Blocks(
        lambda v: jax.jvp(of_gen, (disc,), (v,))[1],
        lambda v: jax.jvp(lambda g: of_disc(g, disc), (gen,), (v,))[1],
        lambda v: jax.jvp(lambda d: of_disc(gen, d), (disc,), (v,))[1],
    )


def _competitive(game: Any, state: Any, key: jax.Array) -> Any:
    """Competitive gradient descent: both play the equilibrium of the game's bilinear model.

    dw_gen = -h_gen (1 - h_gen h_disc J_gd J_dg)^-1 (xi_gen - h_disc J_gd xi_disc), and D's best response to it,
    dw_disc = -h_disc (xi_disc + J_dg dw_gen). The system is solved by BiCGSTAB to a relative residual of 1e-6.
    """
    batch, hparams = game.draw(state, key), game.hparams
    here = game.field(state.params, state.stats, batch)
    blocks = _blocks(game, state, batch)

    def system(x: Any) -> Any:
        return optax.tree.add_scale(x, -hparams.lr_gen * hparams.lr_disc, blocks.gen_by_disc(blocks.disc_by_gen(x)))

    pull = optax.tree.add_scale(here.gradient.gen, -hparams.lr_disc, blocks.gen_by_disc(here.gradient.disc))
    answer, _ = bicgstab(system, pull, tol=1e-6, maxiter=100)
    # The plain optimizers multiply by -h themselves.
    response = optax.tree.add_scale(here.gradient.disc, -hparams.lr_gen, blocks.disc_by_gen(answer))
    return game.updated(state, Players(answer, response), here)


_ITERATIONS = 20


def _solved_for_disc(game: Any, blocks: _Blocks, right: Any) -> Any:
    """(J_dd + damping)^-1 of a direction of D, by at most 20 iterations of BiCGSTAB."""
    system = lambda v: optax.tree.add_scale(blocks.disc_by_disc(v), game.hparams.damping, v)  # noqa: E731
    return bicgstab(system, right, tol=1e-5, maxiter=_ITERATIONS)[0]


def _follow_the_ridge(game: Any, state: Any, key: jax.Array) -> Any:
    """Simultaneous; D also moves by h_gen (J_dd + damping)^-1 J_dg xi_gen, along the ridge of its best responses."""
    batch = game.draw(state, key)
    here = game.field(state.params, state.stats, batch)
    blocks = _blocks(game, state, batch)
    followed = _solved_for_disc(game, blocks, blocks.disc_by_gen(here.gradient.gen))
    # Not through D's optimizer, which multiplies by -h_disc: at the end of a decay both rates are zero.
    move = optax.tree.add_scale(
        optax.tree.scale(-game.hparams.lr_disc, here.gradient.disc), game.hparams.lr_gen, followed
    )
    disc = game.project(optax.apply_updates(state.params.disc, move))
    gen, _ = game.update_gen(state.params.gen, state.opt_state.gen, here.gradient.gen)
    return state.replace(params=Players(gen, disc), stats=here.stats, logged=here.logged)


def _stackelberg(game: Any, state: Any, key: jax.Array) -> Any:
    """Simultaneous; G along its total derivative, xi_gen - J_dg^T (J_dd + damping)^-1 d L_gen / d w_disc.

    In a zero-sum game L_gen is all of V, the real part included, which D's parameters move, too.
    """
    batch = game.draw(state, key)
    here = game.field(state.params, state.stats, batch)
    blocks = _blocks(game, state, batch)

    def followed(disc: Any) -> jax.Array:
        return game.gen_objective(state.params._replace(disc=disc), state.stats, batch, disc_follows=True)[0]

    # J_dd is D's Hessian, and symmetric.
    answer = _solved_for_disc(game, blocks, jax.grad(followed)(state.params.disc))
    _, transposed = jax.vjp(
        lambda gen: game.disc_gradient(state.params._replace(gen=gen), state.stats, batch)[0], state.params.gen
    )
    gen = optax.tree.sub(here.gradient.gen, transposed(answer)[0])
    return game.updated(state, here.gradient._replace(gen=gen), here)


_ADJUSTMENT = {"adjustment": Number(0.1, text="strength of the term added to the field")}
_DAMPING = {"damping": Number(1.0, 0, text="added to D's Hessian where it is inverted")}

CONSENSUS = Rule("consensus", _consensus, numbers=_ADJUSTMENT, reference="Mescheder et al. 2017, eq. 12")
SYMPLECTIC = Rule("symplectic", _symplectic, numbers=_ADJUSTMENT, reference="Balduzzi et al. 2018")
SYMPLECTIC_ALIGNED = Rule(
    "symplectic_aligned", _symplectic_aligned, numbers=_ADJUSTMENT, reference="Balduzzi et al. 2018, algorithm 1"
)
DRIFT_CANCELLING = Rule(
    "drift_cancelling",
    _drift_cancelling,
    numbers=_ADJUSTMENT,
    reference="Rosca et al. 2021; an adjustment of 1 is the whole of the drift",
)
COMPETITIVE = Rule("competitive", _competitive, own_steps=True, reference="Schaefer & Anandkumar 2019")
FOLLOW_THE_RIDGE = Rule(
    "follow_the_ridge", _follow_the_ridge, numbers=_DAMPING, own_steps=True, reference="Wang et al. 2020, algorithm 1"
)
STACKELBERG = Rule("stackelberg", _stackelberg, numbers=_DAMPING, reference="Fiez et al. 2020, eq. 2, damped")
