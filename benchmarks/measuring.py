"""What measuring costs beside training.

Every number is a median of turns taken one after the other in one process, so that what else the machine does hits all
alike. Prints Markdown.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import jax

from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import make_game
from gandyn.sweeps import ensemble
from gandyn.truth import measure
from gandyn.truth.measure import MeasureConfig, Past

TARGET = targets.ring()
OFTEN = {
    "losses alone": (),
    "value": ("value",),
    "coverage": ("coverage",),
    "value and best response": ("value", "best_response"),
    "all three, the default": ("value", "best_response", "coverage"),
}


def turns(contenders: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Label -> median seconds of a call."""
    seconds: dict[str, list[float]] = {label: [] for label in contenders}
    for call in contenders.values():
        jax.block_until_ready(call())
    for _ in range(repeats):
        for label, call in contenders.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[label].append(time.perf_counter() - start)
    return {label: statistics.median(times) for label, times in seconds.items()}


def costs(width: int, num_runs: int, repeats: int, deep: bool) -> None:
    """Print what each measurement takes, relative to 50 steps of training."""
    game = make_game(TARGET, Config(gen_width=width, disc_width=width))

    def ensemble_of(options: MeasureConfig) -> ensemble.Ensemble:
        often, in_depth = (measure.plan_of(options, deep) for deep in (False, True))
        return ensemble.make_ensemble(game.config, often, num_runs, in_depth=in_depth)

    many = ensemble_of(MeasureConfig())
    runs = many.place(ensemble.stack_runs([game] * num_runs, range(num_runs)))
    held = [many.advance(many.init(runs), runs, 200)]

    def train() -> object:
        held[0] = many.advance(held[0], runs, 50)
        return held[0].step

    frozen = many.advance(many.init(runs), runs, 200)
    contenders: dict[str, Callable[[], object]] = {"50 steps": train}
    for label, names in OFTEN.items():
        each = ensemble_of(MeasureConfig(measurements=names))
        contenders[label] = lambda each=each: each.measure(frozen, runs).metrics
    if deep:
        past = Past(*[many.keep_params(frozen)] * 2)
        for name in (*MeasureConfig().deep, "value", "coverage"):
            each = ensemble_of(MeasureConfig(measurements=(), deep=(name,)))
            contenders[f"deep: {name}"] = lambda each=each: each.measure(frozen, runs, past=past).metrics
    found = turns(contenders, repeats)
    train_time = found.pop("50 steps")
    rate = 50 * num_runs / train_time
    print(f"\nwidth {width}, {num_runs} runs on {len(many.devices)} devices, batch 256: {rate:,.0f} run-steps/s\n")
    print("| measured | ms a run | share of 50 steps |\n| :-- | --: | --: |")
    for label, seconds in found.items():
        print(f"| {label} | {1e3 * seconds / num_runs:.1f} | {seconds / train_time:.3f} |")
    if deep:
        each = ensemble_of(MeasureConfig(deep=("transport",)))
        assert each.in_depth is not None
        more = each.trim(each.measure(frozen, runs, past=past).more)
        start = time.perf_counter()
        for run in range(num_runs):
            own = jax.tree.map(lambda leaf, run=run: leaf[run], more)
            measure.host_metrics(each.in_depth, game, each.one(frozen, run), own)
        print(f"| deep: transport, on the host | {1e3 * (time.perf_counter() - start) / num_runs:.1f} | - |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 64])
    parser.add_argument("--num-runs", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--deep", action="store_true", help="the deep measurements, too")
    options = parser.parse_args()
    for width in options.widths:
        costs(width, options.num_runs, options.repeats, options.deep)
    print(f"\npeak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
