"""How near the cheap best response is to the truth on trained GANs, and how often its intervals hold it.

Sixty GANs: six losses, five seeds, a ring of 8 (6,000 steps) and a grid of 25 (20,000 steps). The truth is G's density
by a change of variables over all preimages, of another set of nodes, and with a mesh twice as fine as deep measurements
take. Prints Markdown.
"""

import argparse
from typing import Any

import numpy as np

import gandyn
from gandyn.gan import targets
from gandyn.truth import preimages

TARGETS = {
    "ring of 8": (targets.ring(8, std=0.02), 6_000),
    "grid of 25": (targets.grid(25, spacing=2.0, std=0.05), 20_000),
}
LOSSES: dict[str, dict[str, Any]] = {
    "minimax": {},
    "non_saturating": {},
    "hinge": {},
    "least_squares": {},
    "relativistic": {},
    "wasserstein": {"penalties": ("wgan_gp",)},
}
MEASURED = ("jsd", "value_best", "lag", "accuracy_best")


def trained(target: Any, num_steps: int, loss: str, num_seeds: int) -> Any:
    """The results of GANs of one loss: what is cheap, and in depth, at the last step."""
    config = gandyn.Config(loss=loss, gen_width=64, disc_width=64, batch_size=128, **LOSSES[loss])
    hparams = gandyn.HParams(lr_gen=5e-4 if loss == "wasserstein" else 2e-3, lr_disc=1e-3)
    names = ("value", "best_response", "coverage")
    every: dict[str, Any] = {"num_steps": num_steps, "measure_every": num_steps, "deep_every": num_steps}
    return gandyn.run(
        target,
        config,
        hparams,
        range(num_seeds),
        measurements=names,
        deep=("best_response_deep",),
        progress=False,
        **every,
    ).isel(step=-1)


def main() -> None:
    """Print a row for each target and number: errors of the estimate, and how many intervals hold the truth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    preimages.MESH = 512
    print("| target | modes | number | GANs | truth | error: mean | sd | largest | held | width |")
    print("| :-- | --: | :-- | --: | --: | --: | --: | --: | --: | --: |")
    for label, (target, num_steps) in TARGETS.items():
        found = [trained(target, num_steps, loss, options.seeds) for loss in LOSSES]
        modes = np.mean([one["modes"].values for one in found])
        for name in MEASURED:
            deep = {"accuracy_best": "tv"}.get(name, f"{name}_deep")
            keys = name, f"{name}_low", f"{name}_high"
            estimate, low, high = (np.concatenate([np.ravel(one[key].values) for one in found]) for key in keys)
            truth = np.concatenate([np.ravel(one[deep].values) for one in found])
            truth = (1 + truth) / 2 if name == "accuracy_best" else truth
            known = np.isfinite(truth)
            error = (estimate - truth)[known]
            held = np.sum(((low <= truth) & (truth <= high))[known])
            cells = [f"{np.mean(truth[known]):.3f}", f"{error.mean():+.4f}", f"{error.std(ddof=1):.4f}"]
            cells += [f"{np.abs(error).max():.4f}", f"{held}", f"{np.mean((high - low)[known]):.3f}"]
            print(f"| {label} | {modes:.1f} | `{name}` | {known.sum()} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
