"""Follow-the-ridge and the Stackelberg gradient against dense algebra and against D's best response itself."""

import dataclasses
from typing import Any

import haste
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax.flatten_util import ravel_pytree
from scipy.special import expit

from gandyn.gan import step as gan
from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import Game, make_game
from gandyn.gan.number import HParams
from gandyn.gan.state import Players, State, Stream

SMALL = Config(
    gen_width=4,
    gen_depth=1,
    disc_width=3,
    disc_depth=1,
    disc_activation="tanh",
    batch_size=16,
    gen_optimizer="sgd",
    disc_optimizer="sgd",
)
RING = targets.ring(num_modes=8, radius=1.0, std=0.1)
init, step = haste.jit(gan.init), haste.jit(gan.step)


def moves(game: Game, state: State) -> Players:
    """What one step adds to each player's parameters, as vectors."""
    after = step(game, state)
    return Players(*(np.asarray(ravel_pytree(b)[0] - ravel_pytree(a)[0]) for a, b in zip(state.params, after.params)))


@haste.jit
def dense(game: Game, state: State) -> Any:
    """xi, J_dg (d, g), J_dd (d, d) on the minibatch of the step, and the gradients in D of G's loss and of -V."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, Stream.TRAIN), state.step)
    batch = game.draw(state, key)
    (gen, of_gen), (disc, of_disc) = (ravel_pytree(params) for params in state.params)
    at = lambda g, d: Players(of_gen(g), of_disc(d))  # noqa: E731
    disc_objective = lambda g, d: game.disc_objective(at(g, d), state.stats, batch)[0]  # noqa: E731
    gen_loss = lambda g, d: game.gen_loss(game.play(at(g, d), state.stats, batch))  # noqa: E731
    disc_loss = lambda g, d: game.disc_loss(game.play(at(g, d), state.stats, batch))  # noqa: E731
    xi = jax.grad(gen_loss, 0)(gen, disc), jax.grad(disc_objective, 1)(gen, disc)
    across = jax.jacfwd(jax.grad(disc_objective, 1), 0)(gen, disc)
    within = jax.hessian(disc_objective, 1)(gen, disc)
    return xi, across, within, jax.grad(gen_loss, 1)(gen, disc), jax.grad(disc_loss, 1)(gen, disc)


PENALTIES = pytest.mark.parametrize("penalties", [(), pytest.param(("r1",), marks=pytest.mark.slow)])


@pytest.mark.parametrize("damping", [0.5, 3.0])
class TestAgainstDenseAlgebra:
    """The blocks of J written out, and the system solved by LAPACK in float64."""

    def parts(self, rule: str, loss: str, damping: float, penalties: tuple[str, ...] = ()) -> Any:
        config = dataclasses.replace(SMALL, rule=rule, loss=loss, penalties=penalties)
        numbers = {"lr_gen": 0.5, "lr_disc": 0.25, "damping": damping} | {f"{name}_weight": 0.3 for name in penalties}
        game = make_game(RING, config, HParams(**numbers))
        state = init(game, jax.random.key(0, impl="threefry2x32"))
        found = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), dense(game, state))
        return moves(game, state), *found

    @PENALTIES
    @pytest.mark.slow
    def test_follow_the_ridge(self, damping, penalties):
        parts = self.parts("follow_the_ridge", "non_saturating", damping, penalties)
        move, (xi_gen, xi_disc), across, within, _, _ = parts
        np.testing.assert_allclose(move.gen, -0.5 * xi_gen, rtol=1e-4, atol=1e-6)
        followed = np.linalg.solve(within + damping * np.eye(len(within)), across @ xi_gen)
        want = -0.25 * xi_disc + 0.5 * followed
        assert np.abs(0.5 * followed).max() > 1e-3
        np.testing.assert_allclose(move.disc, want, atol=2e-4 * np.abs(want).max())

    @PENALTIES
    @pytest.mark.parametrize("loss", [pytest.param("non_saturating", marks=pytest.mark.slow), "minimax"])
    @pytest.mark.slow
    def test_stackelberg(self, damping, loss, penalties):
        move, (xi_gen, xi_disc), across, within, of_gen, of_disc = self.parts("stackelberg", loss, damping, penalties)
        np.testing.assert_allclose(move.disc, -0.25 * xi_disc, rtol=1e-4, atol=1e-6)
        # In the zero-sum game D's parameters move all of V.
        moved = -of_disc if loss == "minimax" else of_gen
        answer = across.T @ np.linalg.solve(within + damping * np.eye(len(within)), moved)
        want = -0.5 * (xi_gen - answer)
        assert np.abs(0.5 * answer).max() > 1e-3
        np.testing.assert_allclose(move.gen, want, atol=2e-4 * np.abs(want).max())


# ---- a D whose best response can be found: D(x) = psi . x with weight decay, one real point, G a point

REAL = np.array([1.0, 0.5])
DIRAC = Config(
    gen_net="point",
    disc_net="bilinear",
    latent_dim=1,
    batch_size=1,
    gen_optimizer="sgd",
    disc_optimizer="sgd",
    penalties=("l2",),
)
DECAY = 0.7


def softplus(x: Any) -> Any:
    return np.logaddexp(0, x)


def best_response(theta: np.ndarray) -> np.ndarray:
    """psi that minimizes softplus(-psi . x) + softplus(psi . theta) + decay / 2 |psi|^2: strictly convex."""

    def slope(psi):
        return -expit(-psi @ REAL) * REAL + expit(psi @ theta) * theta + DECAY * psi

    found = scipy.optimize.root(slope, np.zeros(2), tol=1e-13)
    assert found.success
    return found.x


GEN = {
    # Of a zero-sum game all of V, without the penalty; else G's own loss.
    "minimax": lambda theta, psi: -softplus(-psi @ REAL) - softplus(psi @ theta),
    "non_saturating": lambda theta, psi: softplus(-psi @ theta),
}


@pytest.mark.parametrize("theta", [(0.3, -0.8), (-1.0, 2.0)])
@pytest.mark.parametrize("loss", GEN)
@pytest.mark.quick(1)
def test_stackelberg_is_the_slope_of_g_against_the_best_d(loss, theta):
    """d/d theta of L_gen(theta, psi*(theta)), by central differences through D's best response; damping 0."""
    theta = np.array(theta)
    target = targets.mixture([REAL], 1e-9)
    config = dataclasses.replace(DIRAC, rule="stackelberg", loss=loss)
    game = make_game(target, config, HParams(lr_gen=1.0, lr_disc=0.1, l2_weight=DECAY, damping=0.0))
    state = init(game, jax.random.key(0, impl="threefry2x32"))
    psi = best_response(theta)
    params = Players(
        {"params": {"kernel": jnp.asarray(theta[None], jnp.float32)}},
        {"params": {"Dense_0": {"kernel": jnp.asarray(psi[:, None], jnp.float32)}}},
    )
    move = moves(game, state.replace(params=params))
    h = 1e-5
    want = [
        (GEN[loss](theta + d, best_response(theta + d)) - GEN[loss](theta - d, best_response(theta - d))) / (2 * h)
        for d in h * np.eye(2)
    ]
    np.testing.assert_allclose(move.gen, -np.array(want), atol=2e-5)
    np.testing.assert_allclose(move.disc, 0, atol=1e-6)
    # Not so the partial derivative at that D: it leaves out that D will follow.
    partial = [(GEN[loss](theta + d, psi) - GEN[loss](theta - d, psi)) / (2 * h) for d in h * np.eye(2)]
    assert np.abs(np.array(partial) - want).max() > 1e-2


def test_follow_the_ridge_keeps_to_the_best_response():
    """From a best response, a step of G of size h leaves D's gradient zero to second order in h."""
    theta = np.array([0.3, -0.8])
    config = dataclasses.replace(DIRAC, rule="follow_the_ridge", loss="minimax")
    away = []
    for h in (0.08, 0.04, 0.02):
        numbers = HParams(lr_gen=h, lr_disc=0.1, l2_weight=DECAY, damping=0.0)
        game = make_game(targets.mixture([REAL], 1e-9), config, numbers)
        state = init(game, jax.random.key(0, impl="threefry2x32"))
        psi = best_response(theta)
        params = Players(
            {"params": {"kernel": jnp.asarray(theta[None], jnp.float32)}},
            {"params": {"Dense_0": {"kernel": jnp.asarray(psi[:, None], jnp.float32)}}},
        )
        move = moves(game, state.replace(params=params))
        moved = theta + move.gen
        away.append(np.linalg.norm(psi + move.disc - best_response(moved)) / np.linalg.norm(best_response(moved) - psi))
    # The distance falls as h^2, so as a share of D's move as h.
    assert away[0] < 0.1
    np.testing.assert_allclose(np.array(away[:-1]) / away[1:], 2, rtol=0.15)
