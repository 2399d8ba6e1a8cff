"""Game geometry of ONE GAN: the spectrum of the game, paths between states.

xi is the field that both players descend (`Game.field`, penalties included), w the flattened (gen, disc) parameters.
One sign throughout: the FLOW is dw/dt = -xi(w), and every Jacobian here is the flow's, J = -d xi / d w. So a state is
stable where all eigenvalues have negative real parts (Mescheder et al. 2018), and a simultaneous gradient step of rate
h multiplies by 1 + h lambda. Learning rates take no part in the flow.

Shapes: P parameters of both players, N vectors.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigs

from gandyn import checks
from gandyn.gan.game import Game
from gandyn.gan.state import Batch, Players, State
from gandyn.gan.step import step
from gandyn.truth.gradients import sized

DENSE_SIZE = 600
"""Up to so many unknowns, all eigenvalues by a dense solver; beyond, the extreme ones by ARPACK."""


def _flow(game: Game, state: State, batch: Batch) -> tuple[Callable[[jax.Array], jax.Array], jax.Array]:
    """w (P,) -> -xi(w) (P,) on a fixed batch, and the state's own w."""
    game = sized(game, batch).at(state.step)
    here, unravel = ravel_pytree(state.params)

    def flow(w: jax.Array) -> jax.Array:
        with jax.default_matmul_precision("float32"):
            return -ravel_pytree(game.field(unravel(w), state.stats, batch).gradient)[0]

    return flow, here


def jacobian_product(game: Game, state: State, batch: Batch) -> Callable[[jax.Array], jax.Array]:
    """v (P,) -> J v (P,), J = -d xi / d w the Jacobian of the flow; w = (gen, disc) in the order of `ravel_pytree`.

    Args:
      game: the GAN's; the schedules are applied here. The batch may be of another size.
      state: where.
      batch: fixed, e.g. `node_batch`.
    """
    flow, here = _flow(game, state, batch)
    return lambda v: jax.jvp(flow, (here,), (v,))[1]


_TINY = 1e-30


def _update_map(game: Game, state: State, num_steps: int) -> tuple[Callable[[jax.Array], jax.Array], jax.Array]:
    """What `num_steps` of the rule do to all that it moves and reads again, as one vector, and the state's own.

    Parameters, moments, past gradients and lookahead's slow weights; counters, keys and so the minibatches stay.
    """
    # Adam's root has no derivative at a second moment of zero; this one is far below any eps and changes nothing else.
    nudge = lambda x: jnp.where(jnp.abs(x) < _TINY, _TINY, x) if jnp.issubdtype(x.dtype, jnp.floating) else x  # noqa: E731
    opt_state = jax.tree.map(nudge, state.opt_state)
    leaves, tree = jax.tree.flatten((state.params, opt_state, state.memory))
    is_float = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]
    here, unravel = ravel_pytree([leaf for leaf, f in zip(leaves, is_float) if f])

    def move(vector: jax.Array) -> jax.Array:
        floats = iter(unravel(vector))
        params, opt_state, memory = jax.tree.unflatten(
            tree, [next(floats) if f else leaf for leaf, f in zip(leaves, is_float)]
        )
        moved = state.replace(params=params, opt_state=opt_state, memory=memory)
        with jax.default_matmul_precision("float32"):
            for _ in range(num_steps):
                moved = step(game, moved)
        after = jax.tree.leaves((moved.params, moved.opt_state, moved.memory))
        return ravel_pytree([leaf for leaf, f in zip(after, is_float) if f])[0]

    return move, here


_ROWS = 64  # products made at once


def _over_rows(product: Callable[[jax.Array], jax.Array], vectors: jax.Array) -> jax.Array:
    return jax.lax.map(product, vectors, batch_size=min(_ROWS, len(vectors)))


# Compiled once a configuration, for a game's is static.


@jax.jit
def _flow_products(game: Game, state: State, batch: Batch, vectors: jax.Array) -> jax.Array:
    """J v of each of vectors (N, P): (N, P)."""
    return _over_rows(jacobian_product(game, state, batch), vectors)


@functools.partial(jax.jit, static_argnums=2)
def _update_products(game: Game, state: State, num_steps: int, vectors: jax.Array) -> jax.Array:
    """The same for the update map."""
    move, here = _update_map(game, state, num_steps)
    return _over_rows(lambda v: jax.jvp(move, (here,), (v,))[1], vectors)


Products = Callable[[np.ndarray], Any]
"""Vectors (N, P) -> the matrix times each (N, P)."""


def _matrix(products: Products, size: int) -> np.ndarray:
    """The whole matrix, column by column."""
    rows = min(_ROWS, size)
    unit = np.zeros((size + -size % rows, size), np.float32)  # whole blocks compile once
    np.fill_diagonal(unit, 1)
    return np.asarray(products(unit), np.float64)[:size].T


def _extremes(products: Products, size: int, num: int, which: str, tolerance: float) -> np.ndarray:
    """Up to `num` extreme eigenvalues by ARPACK's implicitly restarted Arnoldi iteration; those that converged."""
    # SciPy's own types know neither these arguments nor what comes back.
    product = lambda v: np.asarray(products(v.reshape(1, -1).astype(np.float32))[0])  # noqa: E731
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    start = np.random.default_rng(0).normal(size=size)
    options: dict[str, Any] = {"v0": start, "ncv": min(size, max(2 * num + 1, 40)), "maxiter": 100, "tol": tolerance}
    try:
        return np.asarray(eigs(operator, num, which=which, return_eigenvectors=False, **options))
    except ArpackNoConvergence as stopped:
        return np.asarray(stopped.eigenvalues)
    except ArpackError:  # such as a matrix that is zero: nothing to start an iteration from
        return np.empty(0, complex)


def _union(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Both sets, what is in both once: each of `first` stands for one of `second` within 1e-3 of the largest."""
    left, extra = list(first), []
    close = 1e-3 * np.max(np.abs(np.concatenate([first, second])), initial=0)
    for value in second:
        same = [i for i, other in enumerate(left) if abs(other - value) <= close]
        if same:
            left.pop(min(same, key=lambda i: abs(left[i] - value)))
        else:
            extra.append(value)
    return np.concatenate([first, np.asarray(extra, complex)])


def _eigenvalues(
    products: Products, size: int, num: int, which: Sequence[str], dense_size: int, tolerance: float
) -> np.ndarray:
    """All eigenvalues, or the extreme ones padded with NaN; all NaN where the state is not finite."""
    checks.whole("num", num)
    for name in which:
        checks.choice("which", name, ("LM", "SM", "LR", "SR", "LI", "SI"))
    dense = size <= dense_size
    found = np.full(size if dense else num * len(which), complex(np.nan, np.nan))
    if dense:
        matrix = _matrix(products, size)
        return np.linalg.eigvals(matrix).astype(complex) if np.all(np.isfinite(matrix)) else found
    if num > size - 2:
        raise ValueError(f"num: got {num}; allowed with {size} unknowns: at most {size - 2}")
    if not np.all(np.isfinite(products(np.ones((1, size), np.float32)))):
        return found
    values = functools.reduce(_union, (_extremes(products, size, num, name, tolerance) for name in which))
    found[: len(values)] = values
    return found


def spectrum(
    game: Game,
    state: State,
    batch: Batch,
    num: int = 8,
    which: Sequence[str] = ("LM", "LR"),
    dense_size: int = DENSE_SIZE,
    tolerance: float = 1e-4,
) -> np.ndarray:
    """Eigenvalues of the flow's Jacobian, the largest real part first. Runs on the host.

    Of up to `dense_size` parameters all, from the dense matrix. Of more, the extreme ones by ARPACK (Lehoucq et al.
    1998) from products alone; one program serves all runs of a configuration.

    Args:
      game: the GAN's; the schedules are applied here. The batch may be of another size.
      state: of one GAN.
      batch: fixed, e.g. `node_batch`.
      num: of each kind in `which`.
      which: ARPACK's names: largest modulus, largest real part ("SR", "LI", ... too). What is in both is given once.
      dense_size: from how many parameters on products alone are used.
      tolerance: ARPACK's, relative to each eigenvalue. The products are in float32.

    Returns:
      Complex, (P,), or (num * len(which),) with NaN after those that are distinct and converged; all NaN where the
      state is not finite.

    Raises:
      ValueError: an unknown name in `which`, num not in 1 ... P - 2.
    """
    size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    products = functools.partial(_flow_products, game, state, batch)
    found = _eigenvalues(products, size, num, which, dense_size, tolerance)
    return found[np.lexsort((-np.imag(found), -np.real(found)))]


def update_spectrum(
    game: Game,
    state: State,
    num: int = 8,
    which: Sequence[str] = ("LM",),
    num_steps: int = 1,
    dense_size: int = DENSE_SIZE,
    tolerance: float = 1e-4,
) -> np.ndarray:
    """Eigenvalues of the Jacobian of the update itself, w -> `step`, the largest modulus first.

    The vector is all that the rule moves and reads again: parameters, the optimizers' moments, past gradients,
    lookahead's slow weights. Counters (Adam's bias correction, schedules) and the draws are those of the state's next
    step. A simultaneous gradient step has 1 + h lambda, lambda of `spectrum` on the same minibatch. Eigenvalues of
    exactly 1 are directions that the losses do not feel; of beta1 and beta2, moments of units that are dead.

    One minibatch of the training size: give a game with a larger one for less of its noise. Networks' own
    statistics (batch normalization, power iteration) are held, and G's average is left out: it feeds nothing back.

    Args:
      game: the GAN's.
      state: of one GAN.
      num: of each kind in `which`, where there are more than `dense_size` unknowns.
      which: ARPACK's names, as in `spectrum`.
      num_steps: of the map, for rules that repeat after several (lookahead).
      dense_size: up to how many unknowns all eigenvalues are found.
      tolerance: ARPACK's.

    Returns:
      As `spectrum`.

    Raises:
      ValueError: an unknown name in `which`, num not in 1 ... unknowns - 2.
    """
    leaves = jax.tree.leaves((state.params, state.opt_state, state.memory))
    size = sum(leaf.size for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating))
    products = functools.partial(_update_products, game, state, num_steps)
    found = _eigenvalues(products, size, num, which, dense_size, tolerance)
    return found[np.lexsort((-np.imag(found), -np.abs(found)))]


def spectral_radius(eigenvalues: np.ndarray) -> float:
    """The largest modulus of `update_spectrum`: the update contracts near the state where it is below 1."""
    known = eigenvalues[~np.isnan(eigenvalues)]
    return float(np.max(np.abs(known))) if len(known) else float("nan")


def max_real(eigenvalues: np.ndarray) -> float:
    """The largest real part of `spectrum`: the flow is stable where it is below 0."""
    known = eigenvalues[~np.isnan(eigenvalues)]
    return float(np.max(np.real(known))) if len(known) else float("nan")


def rotation_share(
    game: Game,
    state: State,
    batch: Batch,
    key: jax.Array | None = None,
    num_probes: int = 32,
) -> jax.Array:
    """|A|_F^2 / (|S|_F^2 + |A|_F^2), S and A the symmetric and antisymmetric parts of J: (). Jit-able.

    The decomposition of Balduzzi et al. 2018: S is the potential part of the game, A the Hamiltonian one. The
    two are orthogonal, |J|^2 = |S|^2 + |A|^2, so this is a share: 0 in a single minimization, 1 in the bilinear game.

    Args:
      game: the GAN's; the schedules are applied here. The batch may be of another size.
      state: where.
      batch: fixed, e.g. `node_batch`.
      key: () for Rademacher probes v, |A|^2 = E |A v|^2 (Hutchinson 1990; Avron & Toledo 2011). Without a key, exact
        from all P unit vectors.
      num_probes: with a key; each costs a product with J and one with its transpose.
    """
    flow, here = _flow(game, state, batch)
    _, forward = jax.linearize(flow, here)
    _, back = jax.vjp(flow, here)
    probes = jnp.eye(len(here)) if key is None else jax.random.rademacher(key, (num_probes, len(here)), jnp.float32)

    def squares(v: jax.Array) -> tuple[jax.Array, jax.Array]:
        by, transposed = forward(v), back(v)[0]
        return jnp.sum((by + transposed) ** 2), jnp.sum((by - transposed) ** 2)

    symmetric, antisymmetric = jax.tree.map(jnp.sum, jax.lax.map(squares, probes))
    return antisymmetric / (symmetric + antisymmetric)


# ---- paths and distances


class Path(NamedTuple):
    """Along the straight line from one state to another, each (A,).

    Attributes:
      alpha: where, 0 the start and 1 the end.
      angle: cosine of the flow -xi with the way to the end; 1 where it heads straight there. A switch of sign at 1 is
        attraction to the end, a bump beside it rotation around it. NaN where the flow or the way is zero.
      norm: |xi|.
    """

    alpha: jax.Array
    angle: jax.Array
    norm: jax.Array


def path(
    game: Game,
    start: State,
    end: State,
    batch: Batch,
    num_points: int = 61,
    span: tuple[float, float] = (-0.1, 1.1),
) -> Path:
    """Path angle and path norm between two states, w_alpha = w + alpha (w' - w). Jit-able.

        angle(alpha) = <w' - w, v(w_alpha)> / (|w' - w| |v(w_alpha)|),    norm(alpha) = |v(w_alpha)|

    Berard et al. 2020, section 4; v is the flow, as in the authors' code.

    Args:
      game: the GAN's; the schedules in force are those of `end`. The batch may be of another size.
      start: w.
      end: w'; the networks' collections are its own.
      batch: fixed, e.g. `node_batch`.
      num_points: evenly over `span`.
      span: of alpha.
    """
    flow, last = _flow(game, end, batch)
    first = ravel_pytree(start.params)[0]
    way = last - first
    alpha = jnp.linspace(*span, num_points)

    def at(share: jax.Array) -> tuple[jax.Array, jax.Array]:
        v = flow(first + share * way)
        norm = jnp.linalg.norm(v)
        return jnp.vdot(way, v) / (jnp.linalg.norm(way) * norm), norm

    return Path(alpha, *jax.lax.map(at, alpha))


def distance(before: Players, after: Players) -> Players:
    """|w' - w| of each player between the parameters of two states."""
    return Players(*(optax.tree.norm(optax.tree.sub(b, a)) for a, b in zip(before, after)))
