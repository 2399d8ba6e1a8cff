"""Gradients and game geometry of ONE GAN: signal against noise, the spectrum of the game, paths between states.

xi = (grad_gen L_gen, grad_disc L_disc) is the field that both players descend (`dynamics.field`, penalties included), w
the flattened (gen, disc) parameters. One sign throughout: the FLOW is dw/dt = -xi(w), and every Jacobian here is the
flow's, J = -d xi / d w. So a state is stable where all eigenvalues have negative real parts (Mescheder et al. 2018),
and a simultaneous gradient step of rate h multiplies by 1 + h lambda. Learning rates take no part in the flow.

Shapes: P parameters of both players, L layers, N nodes, M scrambles, B minibatch.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.scipy.special import xlog1py, xlogy
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigs

from gandyn import checks, truth
from gandyn.gan import dynamics, gan
from gandyn.gan.gan import Batch, Config, HParams, Players, State
from gandyn.gan.losses import LossParams
from gandyn.gan.targets import GaussianMixture

GRADIENTS: dict[str, dict[str, str]] = {
    "grad_norm_gen": {"long_name": "norm of G's true gradient", "units": "loss per parameter"},
    "grad_norm_disc": {"long_name": "norm of D's true gradient", "units": "loss per parameter"},
    "grad_cosine_gen": {"long_name": "cosine of G's minibatch gradient with the true one", "units": "1"},
    "grad_cosine_disc": {"long_name": "cosine of D's minibatch gradient with the true one", "units": "1"},
    "grad_snr_gen": {"long_name": "signal to noise of G's minibatch gradient, in power", "units": "1"},
    "grad_snr_disc": {"long_name": "signal to noise of D's minibatch gradient, in power", "units": "1"},
    "noise_scale_gen": {"long_name": "batch size at which G's gradient noise equals its signal", "units": "samples"},
    "noise_scale_disc": {"long_name": "batch size at which D's gradient noise equals its signal", "units": "samples"},
    "sensitivity": {"long_name": "mean slope of G's loss in D's output", "units": "1"},
    "saturation": {"long_name": "share of G's gradient lost to saturation", "units": "share"},
}
"""Name -> attributes of what `named` makes of `gradients`."""

GEOMETRY: dict[str, dict[str, str]] = {
    "spectral_radius": {"long_name": "spectral radius of the update map", "units": "1"},
    "max_real": {"long_name": "largest real part of the flow's eigenvalues", "units": "1"},
    "rotation_share": {"long_name": "antisymmetric share of the game Jacobian, in power", "units": "share"},
    "moved_gen": {"long_name": "distance of G from the last measurement, as the crow flies", "units": "parameter"},
    "moved_disc": {"long_name": "distance of D from the last measurement, as the crow flies", "units": "parameter"},
    "displaced_gen": {"long_name": "distance of G from its start", "units": "parameter"},
    "displaced_disc": {"long_name": "distance of D from its start", "units": "parameter"},
    "travelled_gen": {"long_name": "length of G's path since the start, step by step", "units": "parameter"},
    "travelled_disc": {"long_name": "length of D's path since the start, step by step", "units": "parameter"},
}
"""Name -> attributes of what is measured of the game at a state."""

NUM_SCRAMBLES = 8
"""Independent scrambles of the nodes, so that the true gradient's own error is known."""

DENSE_SIZE = 600
"""Up to so many unknowns, all eigenvalues by a dense solver; beyond, the extreme ones by ARPACK."""


# ---- nodes in place of a minibatch


def _coordinates(config: Config) -> tuple[int, int]:
    """Uniforms for one sample (pack), and for its penalty."""
    return config.packing * gan.pair_coordinates(config), 2 * config.packing + 1


def _on_nodes(config: Config, hparams: HParams, target: GaussianMixture, uniform: jax.Array) -> Batch:
    """A batch of N samples (packs) from uniforms (N, the sum of `_coordinates`)."""
    draw, _ = _coordinates(config)
    pairs = uniform[:, :draw].reshape(-1, gan.pair_coordinates(config))
    return Batch(gan.draw_pairs(config, hparams, target, pairs), uniform[:, draw:])


def node_batch(
    config: Config, hparams: HParams, target: GaussianMixture, state: State, key: jax.Array, num_nodes: int = 1024
) -> Batch:
    """A fixed batch for the Jacobian, the spectrum and paths: scrambled Sobol nodes, under the schedules in force.

    Where a network couples the samples of a batch (batch normalization, a minibatch layer), a plain minibatch of the
    training size: there the game is one of minibatches. `num_nodes`: N, a power of two.
    """
    hparams = gan.scheduled(config, hparams, state.step)
    if gan.couples_the_batch(config):
        return gan.draw_batch(config, hparams, key, state.data, target)
    bits = truth.sobol_bits(1, num_nodes, sum(_coordinates(config)))
    return _on_nodes(config, hparams, target, truth.uniforms(key, jnp.asarray(bits))[0])


def _sized(config: Config, batch: Batch) -> Config:
    """The configuration with the batch's own size, which top-k reads."""
    return dataclasses.replace(config, batch_size=len(batch.uniform))


# ---- gradients


def _alpha_supremum(params: LossParams) -> jax.Array:
    """Of u^c (1 - u) over u in (0, 1), c = (alpha_gen - 1) / alpha_gen: at u = c / (1 + c); unbounded where c < 0."""
    c = (jnp.asarray(params.alpha_gen) - 1) / params.alpha_gen
    at = jnp.maximum(c, 0)
    return jnp.where(c < 0, jnp.nan, jnp.exp(xlogy(at, at) - xlog1py(1 + at, at)))


_SUPREMUM: dict[str, float | Callable[[LossParams], jax.Array]] = {
    "minimax": 1.0,
    "non_saturating": 1.0,
    "wasserstein": 1.0,
    "hinge": 1.0,
    "least_squares": np.nan,
    "relativistic": 1.0,
    "relativistic_average": 2.0,
    "relativistic_hinge": 1.0,
    "relativistic_least_squares": np.nan,
    "relativistic_average_hinge": 2.0,
    "relativistic_average_least_squares": np.nan,
    "alpha": _alpha_supremum,
    "alpha_non_saturating": _alpha_supremum,
    "f_kl": 1.0,
    "f_reverse_kl": np.nan,
    "f_pearson": 1.0,
    "f_hellinger": np.nan,
    "f_js": 1.0,
}
"""The largest |d gen / d D(G(z))| of a sample over all outputs of D, for every loss; NaN where it is unbounded."""


def supremum(config: Config, hparams: HParams) -> jax.Array:
    """The largest slope of G's loss in D's output, (); NaN where the loss has none (least squares, exp(-D))."""
    found = _SUPREMUM[config.loss]
    return jnp.asarray(found(gan.loss_params(hparams)) if callable(found) else found, jnp.float32)


@functools.lru_cache(maxsize=256)
def layers(config: Config) -> Players:
    """Each player's layers with parameters, in the order in which a sample passes them: (L,) names each."""
    found = []

    def record(key: jax.Array) -> None:
        labels = jnp.zeros(1, jnp.int32) if config.num_classes else None
        inputs = ((gan.generator(config), config.latent_dim), (gan.discriminator(config), 2 * config.packing))
        # While it is traced the dict is in the order of the calls; jax hands dicts back sorted.
        found.extend(tuple(module.init(key, jnp.zeros((1, dim)), labels)["params"]) for module, dim in inputs)

    jax.eval_shape(record, jax.random.key(0))
    return Players(*found)


def _squared(config: Config, gradient: Players) -> Players:
    """Squared norms of each layer's part of a gradient, (L,) each."""
    of = lambda names, tree: jnp.stack([optax.tree.norm(tree["params"][name], squared=True) for name in names])  # noqa: E731
    return Players(*map(of, layers(config), gradient))


def _sensitivity(config: Config, hparams: HParams, params: Players, stats: Players, batch: Batch) -> jax.Array:
    play = gan.play_batch(config, params, stats, batch.pairs)
    loss = lambda logits: gan.gen_loss(config, hparams, play._replace(fake_logits=logits))  # noqa: E731
    # The loss is a mean, so the sum over samples is the mean of each one's own slope.
    return jnp.sum(jnp.abs(jax.grad(loss)(play.fake_logits)))


class Gradients(NamedTuple):
    """Gradients at one state. g is the true gradient of a player's objective, penalties included, g_B a minibatch's.

    Attributes:
      grad_norm: |g|, for each player; zero where g is smaller than the nodes resolve.
      grad_norm_batch: root mean square of |g_B|.
      grad_cosine: mean of <g_B, g> / (|g_B| |g|); an estimate may pass 1 by its error. NaN where |g| is not resolved.
      grad_snr: |g|^2 / E |g_B - g|^2, in power, at the training batch size. Its estimate may be negative where |g| is
        not resolved, so that means over runs stay unbiased in the signal.
      noise_scale: B / grad_snr, the batch size at which signal and noise are equal (independent samples): McCandlish
        et al. 2018, eq. 2.9, tr(Sigma) / |g|^2. Infinite where |g| is not resolved.
      sensitivity: (), mean over samples of |d L_gen / d D(G(z))|.
      saturation: (), 1 - sensitivity / its supremum over outputs of D; NaN where that is infinite (`supremum`).
      layer_norms: |g| of each of the player's `layers`, (L,).
    """

    grad_norm: Players
    grad_norm_batch: Players
    grad_cosine: Players
    grad_snr: Players
    noise_scale: Players
    sensitivity: jax.Array
    saturation: jax.Array
    layer_norms: Players


@jax.default_matmul_precision("float32")
def gradients(
    config: Config,
    hparams: HParams,
    target: GaussianMixture,
    state: State,
    key: jax.Array,
    num_batches: int = 16,
    num_nodes: int = 1024,
) -> Gradients:
    """The true gradient of both players and what a minibatch shows of it. Jit-able.

    g is the mean of M = 8 independent replicates t_m, each on its own scramble of Sobol nodes, independent of the
    minibatches, so <g_B, g> is unbiased. The mean's own error e = sum_m |t_m - t|^2 / (M (M - 1)) is measured and
    taken out of every square:

        |g|^2 = |t|^2 - e        E |g_B - g|^2 = mean_B |g_B - t|^2 - e

    (the first is the U-statistic over the replicates). Nodes rather than yet more minibatches, because V is measured
    on nodes too (the truth is the loss at the limit of a large batch, of fresh data) and e is smaller at the same
    cost. Where networks couple the samples of a batch (batch normalization, a minibatch layer), nodes would be another
    game: there t_m is a mean over independent minibatches of the training size, as many samples in all. With
    `dataset_size` the noise includes what the data set itself is off, which no batch size removes.

    Args:
      config: of the GAN.
      hparams: of the GAN; the schedules are applied here.
      target: p.
      state: where.
      key: () for all draws.
      num_batches: minibatches of the training size.
      num_nodes: N, nodes in each scramble, a power of two. Cost: (8 num_nodes / B + num_batches) fields.
    """
    hparams = gan.scheduled(config, hparams, state.step)
    node_key, batch_key = jax.random.split(key)

    def at(sized: Config, batch: Batch) -> tuple[Players, jax.Array]:
        field = dynamics.field(sized, hparams, state.params, state.stats, batch)
        return field.gradient, _sensitivity(sized, hparams, state.params, state.stats, batch)

    def on_nodes(uniform: jax.Array) -> tuple[Players, jax.Array]:
        batch = _on_nodes(config, hparams, target, uniform)
        return at(_sized(config, batch), batch)

    def on_minibatches(key: jax.Array) -> tuple[Players, jax.Array]:
        draw = lambda key: gan.draw_batch(config, hparams, key, state.data, target)  # noqa: E731
        keys = jax.random.split(key, max(1, num_nodes // config.batch_size))
        each = jax.lax.map(lambda key: at(config, draw(key)), keys)
        return jax.tree.map(lambda x: jnp.mean(x, axis=0), each)

    if gan.couples_the_batch(config):
        replicates, sensitivity = jax.lax.map(on_minibatches, jax.random.split(node_key, NUM_SCRAMBLES))
    else:
        bits = truth.sobol_bits(NUM_SCRAMBLES, num_nodes, sum(_coordinates(config)))
        replicates, sensitivity = jax.lax.map(on_nodes, truth.uniforms(node_key, jnp.asarray(bits)))
    mean = jax.tree.map(lambda x: jnp.mean(x, axis=0), replicates)
    off = jax.tree.map(lambda x, mean: x - mean[None], replicates, mean)
    layer_errors = jax.tree.map(
        lambda x: jnp.sum(x, axis=0) / (NUM_SCRAMBLES * (NUM_SCRAMBLES - 1)),
        jax.vmap(functools.partial(_squared, config))(off),
    )
    layer_signals = jax.tree.map(jnp.subtract, _squared(config, mean), layer_errors)
    error, signal = jax.tree.map(jnp.sum, (layer_errors, layer_signals))

    def of_minibatch(key: jax.Array) -> tuple[Players, Players, Players]:
        batch = gan.draw_batch(config, hparams, key, state.data, target)
        gradient = dynamics.field(config, hparams, state.params, state.stats, batch).gradient
        pairs = list(zip(gradient, mean))
        norm = Players(*(optax.tree.norm(g) for g, _ in pairs))
        cosine = Players(*(optax.tree.vdot(g, t) / n for (g, t), n in zip(pairs, norm)))
        return norm, cosine, Players(*(optax.tree.norm(optax.tree.sub(g, t), squared=True) for g, t in pairs))

    norms, along, distances = jax.lax.map(of_minibatch, jax.random.split(batch_key, num_batches))
    root = functools.partial(jax.tree.map, lambda square: jnp.sqrt(jnp.maximum(square, 0)))
    # Rounding may leave less than nothing of the noise where there is none.
    noise = jax.tree.map(lambda x, e: jnp.maximum(jnp.mean(x) - e, 0), distances, error)
    sensitivity = jnp.mean(sensitivity)
    return Gradients(
        grad_norm=root(signal),
        grad_norm_batch=jax.tree.map(lambda x: jnp.sqrt(jnp.mean(x**2)), norms),
        grad_cosine=jax.tree.map(lambda x, norm: jnp.where(norm > 0, jnp.mean(x) / norm, jnp.nan), along, root(signal)),
        grad_snr=jax.tree.map(jnp.divide, signal, noise),
        noise_scale=jax.tree.map(lambda s, n: config.batch_size * n / jnp.maximum(s, 0), signal, noise),
        sensitivity=sensitivity,
        saturation=1 - sensitivity / supremum(config, hparams),
        layer_norms=root(layer_signals),
    )


def named(found: Gradients) -> dict[str, jax.Array]:
    """The entries of `GRADIENTS`, in their order."""
    metrics = {}
    for name in GRADIENTS:
        field, _, player = name.rpartition("_")
        metrics[name] = getattr(getattr(found, field), player) if player in Players._fields else getattr(found, name)
    return metrics


# ---- the game Jacobian


def _flow(
    config: Config, hparams: HParams, state: State, batch: Batch
) -> tuple[Callable[[jax.Array], jax.Array], jax.Array]:
    """w (P,) -> -xi(w) (P,) on a fixed batch, and the state's own w."""
    config, hparams = _sized(config, batch), gan.scheduled(config, hparams, state.step)
    here, unravel = ravel_pytree(state.params)

    def flow(w: jax.Array) -> jax.Array:
        with jax.default_matmul_precision("float32"):
            return -ravel_pytree(dynamics.field(config, hparams, unravel(w), state.stats, batch).gradient)[0]

    return flow, here


def jacobian_product(config: Config, hparams: HParams, state: State, batch: Batch) -> Callable[[jax.Array], jax.Array]:
    """v (P,) -> J v (P,), J = -d xi / d w the Jacobian of the flow; w = (gen, disc) in the order of `ravel_pytree`.

    Args:
      config: of the GAN; the batch may be of another size.
      hparams: of the GAN; the schedules are applied here.
      state: where.
      batch: fixed, e.g. `node_batch`.
    """
    flow, here = _flow(config, hparams, state, batch)
    return lambda v: jax.jvp(flow, (here,), (v,))[1]


_TINY = 1e-30


def _update_map(
    config: Config, hparams: HParams, target: GaussianMixture, state: State, num_steps: int
) -> tuple[Callable[[jax.Array], jax.Array], jax.Array]:
    """What `num_steps` of the rule do to all that it moves and reads again, as one vector, and the state's own.

    Parameters, moments, past gradients and lookahead's slow weights; counters, keys and so the minibatches stay.
    """
    # Adam's root has no derivative at a second moment of zero; this one is far below any eps and changes nothing else.
    nudge = lambda x: jnp.where(jnp.abs(x) < _TINY, _TINY, x) if jnp.issubdtype(x.dtype, jnp.floating) else x  # noqa: E731
    opt_state = jax.tree.map(nudge, state.opt_state)
    leaves, tree = jax.tree.flatten((state.params, opt_state, state.past, state.slow))
    is_float = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]
    here, unravel = ravel_pytree([leaf for leaf, f in zip(leaves, is_float) if f])

    def move(vector: jax.Array) -> jax.Array:
        floats = iter(unravel(vector))
        params, opt_state, past, slow = jax.tree.unflatten(
            tree, [next(floats) if f else leaf for leaf, f in zip(leaves, is_float)]
        )
        moved = dataclasses.replace(state, params=params, opt_state=opt_state, past=past, slow=slow)
        with jax.default_matmul_precision("float32"):
            for _ in range(num_steps):
                moved = dynamics.step(config, hparams, target, moved)
        after = jax.tree.leaves((moved.params, moved.opt_state, moved.past, moved.slow))
        return ravel_pytree([leaf for leaf, f in zip(after, is_float) if f])[0]

    return move, here


_ROWS = 64  # products made at once


def _over_rows(product: Callable[[jax.Array], jax.Array], vectors: jax.Array) -> jax.Array:
    return jax.lax.map(product, vectors, batch_size=min(_ROWS, len(vectors)))


@functools.lru_cache(maxsize=64)
def _flow_products(config: Config) -> Callable[..., jax.Array]:
    """Compiled once a configuration: (hparams, state, batch, vectors (N, P)) -> J v of each (N, P)."""
    return jax.jit(
        lambda hparams, state, batch, vectors: _over_rows(jacobian_product(config, hparams, state, batch), vectors)
    )


@functools.lru_cache(maxsize=64)
def _update_products(config: Config, num_steps: int) -> Callable[..., jax.Array]:
    """The same for the update map: (hparams, target, state, vectors)."""

    def products(hparams: HParams, target: GaussianMixture, state: State, vectors: jax.Array) -> jax.Array:
        move, here = _update_map(config, hparams, target, state, num_steps)
        return _over_rows(lambda v: jax.jvp(move, (here,), (v,))[1], vectors)

    return jax.jit(products)


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
    config: Config,
    hparams: HParams,
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
      config: of the GAN; the batch may be of another size.
      hparams: of the GAN; the schedules are applied here.
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
    products = functools.partial(_flow_products(config), hparams, state, batch)
    found = _eigenvalues(products, size, num, which, dense_size, tolerance)
    return found[np.lexsort((-np.imag(found), -np.real(found)))]


def update_spectrum(
    config: Config,
    hparams: HParams,
    target: GaussianMixture,
    state: State,
    num: int = 8,
    which: Sequence[str] = ("LM",),
    num_steps: int = 1,
    dense_size: int = DENSE_SIZE,
    tolerance: float = 1e-4,
) -> np.ndarray:
    """Eigenvalues of the Jacobian of the update itself, w -> `dynamics.step`, the largest modulus first.

    The vector is all that the rule moves and reads again: parameters, the optimizers' moments, past gradients,
    lookahead's slow weights. Counters (Adam's bias correction, schedules) and the draws are those of the state's next
    step. A simultaneous gradient step has 1 + h lambda, lambda of `spectrum` on the same minibatch. Eigenvalues of
    exactly 1 are directions that the losses do not feel; of beta1 and beta2, moments of units that are dead.

    One minibatch of config.batch_size: give a configuration with a larger one for less of its noise. Networks' own
    statistics (batch normalization, power iteration) are held, and G's average is left out: it feeds nothing back.

    Args:
      config: of the GAN.
      hparams: of the GAN.
      target: p.
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
    leaves = jax.tree.leaves((state.params, state.opt_state, state.past, state.slow))
    size = sum(leaf.size for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating))
    products = functools.partial(_update_products(config, num_steps), hparams, target, state)
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
    config: Config,
    hparams: HParams,
    state: State,
    batch: Batch,
    key: jax.Array | None = None,
    num_probes: int = 32,
) -> jax.Array:
    """|A|_F^2 / (|S|_F^2 + |A|_F^2), S and A the symmetric and antisymmetric parts of J: (). Jit-able.

    The decomposition of Balduzzi et al. 2018: S is the potential part of the game, A the Hamiltonian one. The
    two are orthogonal, |J|^2 = |S|^2 + |A|^2, so this is a share: 0 in a single minimization, 1 in the bilinear game.

    Args:
      config: of the GAN; the batch may be of another size.
      hparams: of the GAN; the schedules are applied here.
      state: where.
      batch: fixed, e.g. `node_batch`.
      key: () for Rademacher probes v, |A|^2 = E |A v|^2 (Hutchinson 1990; Avron & Toledo 2011). Without a key, exact
        from all P unit vectors.
      num_probes: with a key; each costs a product with J and one with its transpose.
    """
    flow, here = _flow(config, hparams, state, batch)
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
    config: Config,
    hparams: HParams,
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
      config: of the GAN; the batch may be of another size.
      hparams: of the GAN; the schedules in force are those of `end`.
      start: w.
      end: w'; the networks' collections are its own.
      batch: fixed, e.g. `node_batch`.
      num_points: evenly over `span`.
      span: of alpha.
    """
    flow, last = _flow(config, hparams, end, batch)
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
