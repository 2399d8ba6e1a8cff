"""PyTorch's default initialization here and there: the same distributions, and the same experiment.

Kernels and biases of 1,000 networks are compared layer by layer with torch.nn.Linear's by two-sample Kolmogorov-Smirnov
tests. Then one GAN on a ring of eight trains in both, with its own random numbers in each: modes, valid share and both
losses of the seeds are compared by two-sample tests. A third column, this library with zero biases, shows what the
biases are worth and that the tests can fail. Needs the extra `bench`.
"""

import argparse
import itertools
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

import gandyn
from gandyn.gan import networks

NUM_MODES, RADIUS, STD = 8, 2.0, 0.1
LATENT_DIM, WIDTH, BATCH_SIZE, SLOPE = 16, 128, 256, 0.2
LR, BETAS = 2e-4, (0.5, 0.999)
NUM_SAMPLES = 2_500
LOGGED_EVERY, NUM_LOGGED = 100, 5
"""Losses are means over the minibatches of so many of the last steps that are multiples of so many."""

CONFIG: dict[str, Any] = {
    "loss": "non_saturating",
    "latent_dim": LATENT_DIM,
    "batch_size": BATCH_SIZE,
    "gen_width": WIDTH,
    "disc_width": WIDTH,
    "gen_activation": "leaky_relu",
    "disc_activation": "leaky_relu",
    "initializer": "pytorch",
}
HPARAMS = {"lr_gen": LR, "lr_disc": LR} | {
    f"beta{i + 1}_{player}": beta for i, beta in enumerate(BETAS) for player in ("gen", "disc")
}
METRICS = ("modes", "high_quality", "loss_disc", "loss_gen")


def mlp(sizes: list[int]) -> nn.Sequential:
    """Affine layers in PyTorch's defaults, leaky ReLU between them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers[:-1])


def initial_tests(num_layers: int) -> list[tuple[str, str, int, float, float]]:
    """Layer, kernel or bias, entries, KS statistic and p of each layer of both players."""
    sizes = {"gen": [LATENT_DIM, WIDTH, WIDTH, 2], "disc": [2, WIDTH, WIDTH, 1]}
    fields = ("mlp", WIDTH, 2, "leaky_relu", CONFIG["initializer"])
    modules = {"gen": networks.Generator(*fields), "disc": networks.Discriminator(*fields)}
    found = []
    for player, module in modules.items():
        keys = jax.random.split(jax.random.key(len(player)), num_layers)
        start = jnp.zeros((1, sizes[player][0]))
        params = jax.jit(jax.vmap(lambda key, m=module, x=start: m.init(key, x)["params"]))(keys)
        for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes[player])):
            linears = [nn.Linear(fan_in, fan_out) for _ in range(num_layers)]
            theirs = {
                "kernel": np.stack([each.weight.detach().numpy() for each in linears]),
                "bias": np.stack([each.bias.detach().numpy() for each in linears]),
            }
            for name, value in theirs.items():
                ours = np.asarray(params[f"Dense_{layer}"][name])
                test = stats.ks_2samp(ours.ravel(), value.ravel(), method="asymp")
                found.append((f"{player} {fan_in} -> {fan_out}", name, value.size, test.statistic, test.pvalue))
    return found


def ring_means() -> torch.Tensor:
    angle = 2 * math.pi * torch.arange(NUM_MODES) / NUM_MODES
    return RADIUS * torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)


def train_torch(seed: int, num_steps: int) -> dict[str, float]:
    """One GAN as a PyTorch script has it: D, then G, each on fresh draws."""
    torch.manual_seed(seed)
    means = ring_means()
    gen, disc = mlp([LATENT_DIM, WIDTH, WIDTH, 2]), mlp([2, WIDTH, WIDTH, 1])
    opt_gen = torch.optim.Adam(gen.parameters(), lr=LR, betas=BETAS)
    opt_disc = torch.optim.Adam(disc.parameters(), lr=LR, betas=BETAS)
    losses = []
    for step in range(num_steps):
        real = means[torch.randint(NUM_MODES, (BATCH_SIZE,))] + STD * torch.randn(BATCH_SIZE, 2)
        with torch.no_grad():
            fake = gen(torch.randn(BATCH_SIZE, LATENT_DIM))
        loss_disc = F.softplus(-disc(real)).mean() + F.softplus(disc(fake)).mean()
        opt_disc.zero_grad()
        loss_disc.backward()
        opt_disc.step()
        loss_gen = F.softplus(-disc(gen(torch.randn(BATCH_SIZE, LATENT_DIM)))).mean()
        opt_gen.zero_grad()
        loss_gen.backward()
        opt_gen.step()
        if (step + 1) % LOGGED_EVERY == 0:
            losses.append((loss_disc.item(), loss_gen.item()))
    with torch.no_grad():
        distance = torch.cdist(gen(torch.randn(NUM_SAMPLES, LATENT_DIM)), means)
    nearest, mode = distance.min(dim=1)
    valid = nearest <= 3 * STD
    last = np.mean(losses[-NUM_LOGGED:], axis=0)
    return dict(zip(METRICS, (len(mode[valid].unique()), valid.float().mean().item(), *map(float, last))))


def train_gandyn(seeds: range, num_steps: int, **fields: Any) -> dict[str, np.ndarray]:
    """The same GAN here, one entry a seed."""
    target = gandyn.targets.ring(num_modes=NUM_MODES, radius=RADIUS, std=STD)
    config, hparams = gandyn.Config(**(CONFIG | fields)), gandyn.HParams(**HPARAMS)
    results = gandyn.run(target, config, hparams, seeds, num_steps, LOGGED_EVERY, progress=False)
    last = results.isel(step=slice(-NUM_LOGGED, None)).mean("step")
    return {
        name: (last if name.startswith("loss") else results.isel(step=-1))[name].values.astype(float)
        for name in METRICS
    }


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-layers", type=int, default=1_000, help="networks whose layers are compared")
    parser.add_argument("--num-seeds", type=int, default=16)
    parser.add_argument("--num-steps", type=int, default=2_500)
    options = parser.parse_args()
    torch.set_num_threads(1)

    print("| layer | what | entries | KS distance | p |\n| --- | --- | --- | --- | --- |")
    for layer, name, size, distance, p in initial_tests(options.num_layers):
        print(f"| {layer} | {name} | {size:,} | {distance:.5f} | {p:.3f} |", flush=True)

    start = time.perf_counter()
    seeds = range(options.num_seeds)
    theirs = [train_torch(seed, options.num_steps) for seed in seeds]
    columns = {
        "PyTorch": {name: np.asarray([run[name] for run in theirs], float) for name in METRICS},
        "here": train_gandyn(seeds, options.num_steps),
        "here, zero biases": train_gandyn(seeds, options.num_steps, bias_initializer="zeros"),
    }
    print(f"\n{options.num_seeds} seeds, {options.num_steps:,} steps, mean +- standard deviation over seeds; p of the ")
    print("Mann-Whitney and Kolmogorov-Smirnov tests against PyTorch\n")
    print(f"| metric | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 1)}")
    for metric in METRICS:
        cells = []
        for values in (column[metric] for column in columns.values()):
            cell = f"{values.mean():.3f} +- {values.std(ddof=1):.3f}"
            if cells:
                other = columns["PyTorch"][metric]
                ranks, shape = stats.mannwhitneyu(other, values), stats.ks_2samp(other, values)
                cell += f" (p {ranks.pvalue:.2g}, {shape.pvalue:.2g})"
            cells.append(cell)
        print(f"| {metric} | {' | '.join(cells)} |")
    print(f"\n{time.perf_counter() - start:.0f} s, torch {torch.__version__}, jax {jax.__version__}")


if __name__ == "__main__":
    main()
