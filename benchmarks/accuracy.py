"""How far `value_best` and `jsd` are from the closed forms, by how finely they are measured.

q is exactly Gaussian (an affine generator of Gaussian noise): N((d, 0), I) against the target N(0, I), whose best
values are integrals on a line. D is 0, so that only the critics from the density ratio can be good.
"""

import argparse
import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import Game, make_game
from gandyn.gan.state import Players
from gandyn.gan.step import init
from gandyn.truth import measure
from gandyn.truth.measure import MeasureConfig

DISTANCES = (0.5, 1.0, 2.0, 3.0, 4.0)
SHOWN = ("minimax", "hinge", "least_squares")
SETTINGS = {
    "the defaults: 2^12 kernels, 8 x 128 nodes": MeasureConfig(),
    "2^13 kernels, 8 x 2,048 nodes, as in deep measurements": MeasureConfig(
        num_density_nodes=2**13, num_nodes=4096, num_response_nodes=2048
    ),
}
TARGET = targets.mixture([[0.0, 0.0]], 1.0)
PLAYERS = Config(gen_depth=0, disc_depth=0)


def exact(d: float) -> dict[str, float]:
    """max_D V of each of `SHOWN`, and the JSD, for N(0, I) against N((d, 0), I)."""
    x = np.linspace(-12, 12 + d, 100_001)
    p, q = scipy.stats.norm.pdf(x), scipy.stats.norm.pdf(x, d)
    jsd = 0.5 * float(np.trapezoid(p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q)), x))
    return {
        "minimax": 2 * jsd - 2 * math.log(2),
        "hinge": float(np.trapezoid(np.abs(p - q), x)) - 2,
        "least_squares": -0.5 * float(np.trapezoid(p * q / (p + q), x)),
        "jsd": jsd,
    }


def affine(matrix: ArrayLike, offset: ArrayLike) -> dict:
    """Parameters of a network without hidden layers."""
    kernel, bias = jnp.asarray(matrix, jnp.float32), jnp.asarray(offset, jnp.float32)
    return {"params": {"Dense_0": {"kernel": kernel, "bias": bias}}}


def errors(options: MeasureConfig, num_keys: int) -> np.ndarray:
    """Measured minus exact, (distance, `SHOWN` and the JSD, key)."""
    keys = jax.vmap(lambda seed: jax.random.key(seed, impl="threefry2x32"))(jnp.arange(num_keys, dtype=jnp.uint32))
    plan = measure.plan_of(options, deep=False)
    games = {name: make_game(TARGET, dataclasses.replace(PLAYERS, loss=name)) for name in SHOWN}
    one = games["minimax"]
    start, bits = init(one, keys[0]), jax.tree.map(jnp.asarray, measure.bits_of(plan, one))

    @jax.jit
    def program(game: Game, params: Players, loss_index: jax.Array) -> jax.Array:
        def at(key: jax.Array) -> jax.Array:
            state = measure.program_state(plan, start.replace(params=params, key=key))
            return measure.measure(plan, game, state, None, loss_index, bits).metrics

        return jax.lax.map(at, keys)

    def by_name(name: str, params: Players) -> dict[str, np.ndarray]:
        index = np.int32(measure.loss_index(plan, games[name].config))
        found = np.asarray(program(measure.program_game(plan, games[name]), params, index), np.float64)
        return dict(zip(measure.metrics_of(plan, games[name]), found.T, strict=True))

    found = []
    for d in DISTANCES:
        params = Players(affine(np.eye(2), [d, 0]), affine([[0], [0]], [0]))
        by_loss = {name: by_name(name, params) for name in SHOWN}
        want = exact(d)
        rows = [by_loss[name]["value_best"] - want[name] for name in SHOWN]
        found.append([*rows, by_loss["minimax"]["jsd"] - want["jsd"]])
    return np.array(found)


def main() -> None:
    """Print one table a setting, in Markdown: mean error and the largest of any key, times 1,000."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=20, help="measurements of each, with nodes of their own")
    num_keys = parser.parse_args().keys
    if num_keys < 1:
        parser.error(f"--keys: got {num_keys}; allowed: at least 1")
    for name, setting in SETTINGS.items():
        print(f"\n{name}\n")
        print("| d | logistic | hinge | least squares | JSD |\n| --: | --: | --: | --: | --: |")
        for d, row in zip(DISTANCES, 1e3 * errors(setting, num_keys), strict=True):
            cells = [f"{e.mean():.2f} ({np.abs(e).max():.2f})" for e in row]
            print(f"| {d} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
