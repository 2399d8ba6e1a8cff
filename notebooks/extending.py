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
# # Parts of one's own
#
# A loss, a penalty, an update rule, a network, a target and a measurement, one cell each; then a sweep over a number of
# the loss, with the truth beside it. Open it as a notebook with jupytext, or run it as a script.

# %%
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp

import gandyn

quick = globals().get("QUICK", False)  # the tests run a smaller version of the same cells
seeds, num_steps, width = (range(2), 40, 8) if quick else (range(16), 2_000, 64)
figures = Path(globals().get("FIGURES", "runs/figures"))
figures.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# **A target.** Any density on a box; here a ring without modes, thicker on one side.


# %%
def log_prob(x):
    """Up to a constant."""
    off = (jnp.linalg.norm(x, axis=-1) - 1) / (0.08 + 0.06 * jax.nn.sigmoid(4 * x[..., 0]))
    return -0.5 * off**2


target = gandyn.targets.from_log_prob(log_prob, box=((-2, 2), (-2, 2)))

# %% [markdown]
# **A loss.** The logistic loss with a pull on D's fake outputs; what its optimum is follows from these two functions.


# %%
def disc(real, fake, numbers):
    """Minimized by D."""
    return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake)) + numbers.gamma * jnp.mean(fake**2)


def gen(real, fake, numbers):
    """Minimized by G."""
    return jnp.mean(jax.nn.softplus(-fake))


mine = gandyn.Loss("pulled", disc=disc, gen=gen, numbers={"gamma": gandyn.Number(0.01, low=0)})
truth = gandyn.truth.truth_of(mine)
print(f"V at q = p: {truth.equilibrium:.4f}, critic {truth.source}, problems: {truth.problems or 'none'}")

# %% [markdown]
# **A penalty**, beside a built-in one: D's outputs are to be centred on the batch.

# %%
centred = gandyn.Penalty(
    "centred",
    term=lambda at, numbers: numbers.centred_weight * (jnp.mean(at.real_logits) + jnp.mean(at.fake_logits)) ** 2,
    numbers={"centred_weight": gandyn.Number(0.1, low=0)},
    per_sample=False,
)

# %% [markdown]
# **A network**: any Linen module.


# %%
class Sines(nn.Module):
    """A discriminator of sines."""

    width: int

    @nn.compact
    def __call__(self, x):
        """(B, 2) -> (B,)."""
        return nn.Dense(1)(jnp.sin(nn.Dense(self.width)(nn.tanh(nn.Dense(self.width)(x)))))[:, 0]


# %% [markdown]
# **A rule**: simultaneous steps, G against D as it was a step ago.


# %%
def step(game, state, key):
    """One step; what is remembered is D of the step before."""
    batch = game.draw(state, key)
    disc_slope, _ = game.disc_gradient(state.params, state.stats, batch)
    here = game.field(state.params.replace(disc=state.memory), state.stats, batch)
    return game.updated(state.replace(memory=state.params.disc), here.gradient.replace(disc=disc_slope), here)


late = gandyn.Rule("late", step, init=lambda game, params: params.disc)

# %% [markdown]
# **A measurement**: how far out G's samples lie.

# %%
radius = gandyn.Measurement(
    "radius",
    metrics={"mean_radius": {"long_name": "mean distance of G's samples from the origin", "units": "data"}},
    compute=lambda view, key: {"mean_radius": jnp.mean(jnp.linalg.norm(view.fake, axis=-1))},
)

# %% [markdown]
# All of it, at three values of the loss's own number: one program.

# %%
config = gandyn.Config(
    loss=mine, penalties=("r1", centred), rule=late, disc=Sines(width), gen_width=width, batch_size=128
)
results = gandyn.run(
    target,
    config,
    [gandyn.HParams(gamma=gamma, r1_weight=0.01, lr_gen=1e-3) for gamma in (0.0, 0.03, 0.3)],
    seeds=seeds,
    num_steps=num_steps,
    measure_every=max(1, num_steps // 20),
    measurements=("value", "best_response", radius),
)
results[["gamma", "mean_radius", "jsd", "lag"]].isel(step=-1).to_dataframe()[["gamma", "mean_radius", "jsd", "lag"]]

# %%
decomposition = gandyn.plots.decomposition(results)
decomposition.savefig(figures / "own_decomposition.png")
decomposition

# %%
curves = gandyn.plots.curves(results, "mean_radius")
curves.savefig(figures / "own_curves.png")
curves
