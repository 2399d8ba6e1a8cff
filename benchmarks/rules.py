"""What a step of every update rule costs, measured beside alternating in one run, and what `gandyn.sweeps.cost` says:
seconds to train, and to compile.
"""

import argparse
import statistics
import time
from typing import Any

import jax

import gandyn
from gandyn.gan.game import make_game
from gandyn.sweeps import cost, ensemble
from gandyn.sweeps.sweep import Setting
from gandyn.truth import measure

RULES: dict[str, dict[str, Any]] = {
    "alternating": {},
    "alternating, 5 of D": {"disc_steps": 5},
    "simultaneous": {"rule": "simultaneous"},
    "past_extragradient": {"rule": "past_extragradient"},
    "optimistic": {"rule": "optimistic"},
    "extragradient": {"rule": "extragradient"},
    "heun": {"rule": "heun"},
    "runge_kutta": {"rule": "runge_kutta"},
    "unrolled, 5": {"rule": "unrolled", "unroll_steps": 5},
    "consensus": {"rule": "consensus"},
    "drift_cancelling": {"rule": "drift_cancelling"},
    "symplectic": {"rule": "symplectic"},
    "competitive": {"rule": "competitive"},
    "best_response, at most 5": {"rule": "best_response", "disc_steps": 5},
    "lookahead, 5": {"lookahead": 5},
    "average of G": {"gen_average": "ema"},
    "R1": {"penalties": ("r1",)},
    "R1 + R2": {"penalties": ("r1", "r2")},
    "gradient norm, gen": {"gradient_norm": "gen"},
    "packs of 2": {"packing": 2},
    "spectral norm": {"disc_norm": "spectral"},
    "batch norm of G": {"gen_norm": "batch"},
    "top k": {"top_k": True},
}
SGD = {"heun", "runge_kutta", "competitive"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--num-steps", type=int, default=20, help="steps of a turn")
    parser.add_argument("--repeats", type=int, default=9, help="turns of each rule, one after the other")
    options = parser.parse_args()
    target, measured = gandyn.targets.ring(), gandyn.MeasureConfig(measurements=(), deep=())
    often = measure.plan_of(measured, deep=False)
    num_runs = 2 * len(jax.local_devices())
    training = {}
    for label, fields in RULES.items():
        optimizers: dict[str, Any] = {"gen_optimizer": "sgd", "disc_optimizer": "sgd"} if label in SGD else {}
        sizes: dict[str, Any] = {
            "gen_width": options.width,
            "disc_width": options.width,
            "batch_size": options.batch_size,
        }
        game = make_game(target, gandyn.Config(**sizes | optimizers | fields))
        (work,) = cost.works([Setting(label, target, game.config, game.hparams)], measured)
        many = ensemble.make_ensemble(game.config, often, num_runs)
        runs = many.place(ensemble.stack_runs([game] * num_runs, range(num_runs)))
        start = time.perf_counter()
        states = jax.block_until_ready(many.advance(many.init(runs), runs, 1))
        training[label] = [many, runs, states, time.perf_counter() - start, work]
    seconds: dict[str, list[float]] = {label: [] for label in training}
    for _ in range(options.repeats):
        for label, entry in training.items():
            many, runs, states, *_ = entry
            start = time.perf_counter()
            entry[2] = jax.block_until_ready(many.advance(states, runs, options.num_steps))
            seconds[label].append(time.perf_counter() - start)
    first = statistics.median(seconds["alternating"])
    print(f"width {options.width}, batch {options.batch_size}, {num_runs} runs, {len(jax.local_devices())} devices")
    print(f"alternating: {num_runs * options.num_steps / first:,.0f} run-steps/s\n")
    print("| rule | cost | quartiles | predicted | first call, s | predicted, s |")
    print("| :-- | --: | :-- | --: | --: | --: |")
    predicted = {label: cost.REFERENCE.seconds(entry[-1].step) for label, entry in training.items()}
    for label, times in seconds.items():
        low, _, high = statistics.quantiles(times)
        compiling = cost.estimate(training[label][-1], num_runs, 1, 1).compiling
        print(
            f"| {label} | {statistics.median(times) / first:.2f} | {low / first:.2f}-{high / first:.2f} | "
            f"{predicted[label] / predicted['alternating']:.2f} | {training[label][3]:.1f} | {compiling:.1f} |"
        )


if __name__ == "__main__":
    main()
