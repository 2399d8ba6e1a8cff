# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Convergence of one sweep
#
# Trains a few GANs on a ring of Gaussians at three learning rates, and reads the results: what the loss says, what the
# true value says, and what became of the modes. Open it as a notebook with jupytext, or run it as a script.

# %%
from pathlib import Path

import numpy as np

import gandyn

quick = globals().get("QUICK", False)  # the tests run a smaller version of the same cells
seeds, num_steps, width = (range(4), 40, 8) if quick else (range(16), 1_500, 64)
figures = Path(globals().get("FIGURES", "runs/figures"))
figures.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# Three generator learning rates are one program: numbers in `HParams` are traced.

# %%
target = gandyn.targets.ring(num_modes=8, radius=1.0, std=0.02)
config = gandyn.Config(loss="non_saturating", gen_width=width, disc_width=width, batch_size=128)
rates = [gandyn.HParams(lr_gen=lr, lr_disc=1e-3, beta1_gen=0.9, beta1_disc=0.9) for lr in (3e-4, 1e-3, 3e-3)]
results = gandyn.run(
    target,
    config,
    rates,
    seeds=seeds,
    num_steps=num_steps,
    measure_every=num_steps // 10,
    recipes=[f"lr_gen = {rate.lr_gen:g}" for rate in rates],
    measure_config=gandyn.MeasureConfig(keep_samples=300, keep_surface=24),
)
results

# %% [markdown]
# The table, with 95 % intervals over seeds.

# %%
gandyn.report.table(results)

# %% [markdown]
# What the loss curve is made of: the minibatch value follows the value; the gap to the best value is the lag.

# %%
decomposition = gandyn.plots.decomposition(results)
decomposition.savefig(figures / "decomposition.png")
decomposition

# %% [markdown]
# The noise of the minibatch value, measured against its truth: its mean should be 0.

# %%
noise = gandyn.loss_curves.sampling_noise(results)
estimate = gandyn.intervals.mean_interval(np.nanmean(noise, axis=1))
print(f"mean noise {estimate.value:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}], sd {np.nanstd(noise):.4f} nats")

# %% [markdown]
# Loss against coverage: can the final loss tell the runs apart?

# %%
against = gandyn.plots.loss_against_coverage(results)
against.savefig(figures / "loss_against_coverage.png")
against

# %% [markdown]
# What became of each run, by stated rules: `results.verdict.attrs["rule"]` has them in words.

# %%
mosaic = gandyn.plots.verdict_mosaic(results, by="lr_gen")
mosaic.savefig(figures / "verdicts.png")
print(results.verdict.to_series().value_counts())
mosaic

# %% [markdown]
# The results are an xarray dataset: everything else is selection and arithmetic.

# %%
by_rate = results[["modes", "high_quality", "jsd", "lag"]].isel(step=-1).groupby("lr_gen").mean()
print(by_rate.to_dataframe().round(3))
