"""What a step of every update rule costs, measured beside alternating in one run, and what its gradients predict.

The prediction counts matrix products, in units of one forward pass of a network on a batch (networks of one width).
D's gradient takes one of G and three (forward, two backward) of D on real and on fake: 7. G's takes three of G, two
of D (whose parameters need none): 5. Both on one minibatch share a pass of each network: 10. A product with the
game's Jacobian costs twice the field that it goes through. Unrolling passes forward through each of D's updates and
back, three times D's gradient. An input gradient takes one pass backward and two through it; G's share of the
other's gradient norm the passes of fake samples twice over, and those of real ones once.
"""

import argparse
import statistics
import time
from typing import Any

import jax

import gandyn
from gandyn import ensemble, truth

DISC, GEN, SHARED = 7, 5, 2
BOTH, FIELD = DISC + GEN, DISC + GEN - SHARED

# fields of Config, and products of a step; None where their number depends on the run.
RULES: dict[str, tuple[dict[str, Any], float | None]] = {
    "alternating": ({}, BOTH),
    "alternating, 5 of D": ({"disc_steps": 5}, 5 * DISC + GEN),
    "simultaneous": ({"dynamics": "simultaneous"}, FIELD),
    "past_extragradient": ({"dynamics": "past_extragradient"}, FIELD),
    "optimistic": ({"dynamics": "optimistic"}, FIELD),
    "extragradient": ({"dynamics": "extragradient"}, 2 * FIELD),
    "heun": ({"dynamics": "heun"}, 2 * FIELD),
    "runge_kutta": ({"dynamics": "runge_kutta"}, 4 * FIELD),
    "unrolled, 5": ({"dynamics": "unrolled", "unroll_steps": 5}, DISC + 5 * 3 * DISC + GEN),
    "consensus": ({"dynamics": "consensus"}, FIELD + 2 * 2 * FIELD),
    "drift_cancelling": ({"dynamics": "drift_cancelling"}, FIELD + 2 * FIELD),
    "symplectic": ({"dynamics": "symplectic"}, FIELD + 2 * 2 * FIELD + 2 * FIELD),
    "competitive": ({"dynamics": "competitive"}, None),
    "best_response, at most 5": ({"dynamics": "best_response", "disc_steps": 5}, None),
    "lookahead, 5": ({"lookahead": 5}, BOTH),
    "average of G": ({"gen_ema": True}, BOTH),
    "R1": ({"penalty": "r1"}, BOTH + 3),
    "R1 + R2": ({"penalty": "r1_r2"}, BOTH + 2 * 3),
    "gradient norm, gen": ({"gradient_norm": "gen"}, BOTH + 3 + 2 * 3),
    "packs of 2": ({"packing": 2}, BOTH + 4),
    "spectral norm": ({"disc_norm": "spectral"}, BOTH),
    "batch norm of G": ({"gen_norm": "batch"}, BOTH),
    "top k": ({"top_k": True}, BOTH),
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
    for label, (fields, _) in RULES.items():
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
        products = RULES[label][1]
        predicted = "-" if products is None else f"{products / BOTH:.2f}"
        print(
            f"| {label} | {statistics.median(times) / first:.2f} | {low / first:.2f}-{high / first:.2f} | "
            f"{predicted} | {training[label][3]:.1f} |"
        )


if __name__ == "__main__":
    main()
