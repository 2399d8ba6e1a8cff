"""What a step of every update rule costs, measured beside alternating in one run, and what its products predict
(`gandyn.cost.products`).
"""

import argparse
import statistics
import time
from typing import Any

import jax

import gandyn
from gandyn import truth
from gandyn.sweeps import cost, ensemble

RULES: dict[str, dict[str, Any]] = {
    "alternating": {},
    "alternating, 5 of D": {"disc_steps": 5},
    "simultaneous": {"dynamics": "simultaneous"},
    "past_extragradient": {"dynamics": "past_extragradient"},
    "optimistic": {"dynamics": "optimistic"},
    "extragradient": {"dynamics": "extragradient"},
    "heun": {"dynamics": "heun"},
    "runge_kutta": {"dynamics": "runge_kutta"},
    "unrolled, 5": {"dynamics": "unrolled", "unroll_steps": 5},
    "consensus": {"dynamics": "consensus"},
    "drift_cancelling": {"dynamics": "drift_cancelling"},
    "symplectic": {"dynamics": "symplectic"},
    "competitive": {"dynamics": "competitive"},
    "best_response, at most 5": {"dynamics": "best_response", "disc_steps": 5},
    "lookahead, 5": {"lookahead": 5},
    "average of G": {"gen_ema": True},
    "R1": {"penalty": "r1"},
    "R1 + R2": {"penalty": "r1_r2"},
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
    target, measure_config = gandyn.targets.ring(), gandyn.MeasureConfig()
    size = truth.grid_cells(target, measure_config.bandwidth)
    num_runs = 2 * len(jax.local_devices())
    training = {}
    for label, fields in RULES.items():
        optimizers: dict[str, Any] = {"gen_optimizer": "sgd", "disc_optimizer": "sgd"} if label in SGD else {}
        sizes: dict[str, Any] = {
            "gen_width": options.width,
            "disc_width": options.width,
            "batch_size": options.batch_size,
        }
        config = gandyn.Config(**sizes | optimizers | fields)
        many = ensemble.make_ensemble(config, measure_config, size, num_runs)
        runs = many.place(ensemble.stack_runs([target] * num_runs, [gandyn.HParams()] * num_runs, range(num_runs)))
        start = time.perf_counter()
        states = jax.block_until_ready(many.advance(many.init(runs), runs, 1))
        training[label] = [many, runs, states, time.perf_counter() - start]
    seconds: dict[str, list[float]] = {label: [] for label in training}
    for _ in range(options.repeats):
        for label, entry in training.items():
            many, runs, states, _ = entry
            start = time.perf_counter()
            entry[2] = jax.block_until_ready(many.advance(states, runs, options.num_steps))
            seconds[label].append(time.perf_counter() - start)
    first = statistics.median(seconds["alternating"])
    print(f"width {options.width}, batch {options.batch_size}, {num_runs} runs, {len(jax.local_devices())} devices")
    print(f"alternating: {num_runs * options.num_steps / first:,.0f} run-steps/s\n")
    print("| rule | cost | quartiles | products predict | first call, s |")
    print("| :-- | --: | :-- | --: | --: |")
    for label, times in seconds.items():
        low, _, high = statistics.quantiles(times)
        predicted = cost.products(training[label][0].config) / cost.products(training["alternating"][0].config)
        print(
            f"| {label} | {statistics.median(times) / first:.2f} | {low / first:.2f}-{high / first:.2f} | "
            f"{predicted:.2f} | {training[label][3]:.1f} |"
        )


if __name__ == "__main__":
    main()
