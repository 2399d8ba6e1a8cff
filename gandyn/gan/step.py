"""The start of one GAN, and one step of it."""

import jax
import jax.numpy as jnp
import optax

from gandyn.gan import networks, sampling
from gandyn.gan.config import loss_of, penalties_of, rule_of
from gandyn.gan.game import Game
from gandyn.gan.state import REMEMBERED, Data, Logged, Players, State, Stream


def init(game: Game, key: jax.Array) -> State:
    """The state of one GAN before training. `key`: () threefry key of the run."""
    config, hparams = game.config, game.hparams
    gen_key, disc_key = jax.random.split(jax.random.fold_in(key, Stream.INIT))
    variables = Players(
        gen=networks.init(game.generator, gen_key, (config.latent_dim,), config.num_classes),
        disc=networks.init(game.discriminator, disc_key, game.disc_shape, config.num_classes),
    )
    scales = {"kernel": hparams.init_scale}
    if config.gen_fourier or config.disc_fourier:
        scales["frequency"] = hparams.fourier_scale
    variables = jax.tree_util.tree_map_with_path(lambda path, leaf: scales.get(path[-1].key, 1.0) * leaf, variables)
    return begin(game, variables, key)


def begin(game: Game, variables: Players, key: jax.Array) -> State:
    """The state before training of players that are there: their Linen variables, as `State.variables` has them.

    What optimizers, the rule, penalties and averages remember starts afresh; the data is the run's own.
    """
    config = game.config
    params = Players(*({"params": each["params"]} for each in variables))
    stats = Players(*({name: each[name] for name in each if name != "params"} for each in variables))
    memories = {penalty.name: penalty.init() for penalty in penalties_of(config) if penalty.init is not None}
    if memories:
        stats = stats._replace(disc=stats.disc | {REMEMBERED: memories})
    opt = game.optimizers()
    nan = jnp.full((), jnp.nan, jnp.float32)  # a weak type here would compile `advance` twice
    return State(
        params=params,
        stats=stats,
        opt_state=Players(opt.gen.init(params.gen), opt.disc.init(params.disc)),
        memory=rule_of(config).init(game, params),
        average=variables.gen if config.gen_average != "none" else None,
        travelled=Players(*[jnp.zeros((), jnp.float32)] * 2) if config.track_path else None,
        # No array of size zero: jax 0.11 crashes in compiling a partitioned program that carries one.
        data=_draw_data(game, jax.random.fold_in(key, Stream.DATA)) if config.dataset_size else None,
        logged=Logged(nan, nan, nan),
        step=jnp.zeros((), jnp.int32),
        key=key,
    )


def _draw_data(game: Game, key: jax.Array) -> Data:
    config, target = game.config, game.target
    uniform = sampling.uniform(key, (config.dataset_size, target.num_uniforms))
    if config.real_batch == "stratified":
        # In the order of the modes, which makes strata of the index strata of the modes.
        uniform = uniform.at[:, 0].set((jnp.arange(config.dataset_size) + uniform[:, 0]) / config.dataset_size)
    labels = game.labels(uniform[:, 0]) if config.num_classes else None
    return Data(target.transform(uniform), labels)


def step(game: Game, state: State) -> State:
    """One step of one GAN: the update rule under the schedules in force; path length and G's average.

    All randomness is from `fold_in(fold_in(key, Stream.TRAIN), step)`, so a run's course does not depend on how its
    steps are grouped.
    """
    now, before, config = game.at(state.step), state.params, game.config
    key = jax.random.fold_in(jax.random.fold_in(state.key, Stream.TRAIN), state.step)
    state = rule_of(config).step(now, state, key)
    state = state.replace(step=state.step + 1)
    if state.travelled is not None:
        moved = lambda length, old, new: length + optax.tree.norm(optax.tree.sub(new, old))  # noqa: E731
        state = state.replace(travelled=Players(*map(moved, state.travelled, before, state.params)))
    if config.gen_average != "none":
        share = 1 - now.hparams.ema_decay if config.gen_average == "ema" else 1 / state.step
        average = jax.tree.map(lambda old, new: old + share * (new - old), state.average, state.variables.gen)
        state = state.replace(average=average)
    return state


def check(game: Game) -> None:
    """Raises ValueError for what config, numbers and target each allow alone but not together."""
    config, target = game.config, game.target
    others = target.num_uniforms + (0 if config.instance_noise == "none" else 2 * game.size) + 2  # two for the penalty
    most = (_MOST_COORDINATES - 1) // config.packing - others
    if config.latent_dim > most > 0:
        reason = f" with packing={config.packing}" if config.packing > 1 else ""
        raise ValueError(f"latent_dim: got {config.latent_dim:,}; allowed{reason}: at most {most:,}")
    if config.latent_dim > most:
        raise ValueError(
            f"packing: got {config.packing:,}; allowed: at most {(_MOST_COORDINATES - 1) // (others + 1):,}"
        )
    if config.num_classes > game.num_modes:
        raise ValueError(
            f"num_classes: got {config.num_classes}; allowed with a target of {game.num_modes} modes: "
            f"at most {game.num_modes}"
        )
    if loss_of(config).aux or not isinstance(config.rule, str):
        # What they ask of D and of labels shows once they are traced.
        jax.eval_shape(lambda: step(game, init(game, jax.random.key(0, impl="threefry2x32"))))


_MOST_COORDINATES = 21_201  # of SciPy's Sobol points
