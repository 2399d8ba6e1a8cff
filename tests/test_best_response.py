"""The certified best response against what training D alone reaches."""

import dataclasses

import jax
import numpy as np
import pytest

from gandyn import ensemble, gan, measure, targets, truth
from gandyn.measure import MeasureConfig

NUM_GANS = 20


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["non_saturating", "hinge", "least_squares", "relativistic"])
def test_best_value_is_not_below_what_training_the_discriminator_alone_reaches(loss):
    """20 trained GANs; G frozen by a learning rate of 0, 5,000 further Adam steps of D."""
    config = gan.Config(loss=loss, gen_width=64, disc_width=64, batch_size=128)
    measure_config = MeasureConfig()
    target = targets.ring()
    grid_size = truth.grid_cells(target, measure_config.bandwidth)
    many = ensemble.make_ensemble(config, measure_config, grid_size, NUM_GANS)
    runs = ensemble.stack_runs([target] * NUM_GANS, [gan.HParams(beta1_gen=0.9)] * NUM_GANS, range(NUM_GANS))
    placed = many.place(runs)
    states = many.advance(many.init(placed), placed, 2000)
    gen_before = jax.tree.map(np.asarray, states.params.gen)
    before = measure.named(config, many.measure_config, many.trim(many.measure(states, placed)).metrics)

    frozen = many.place(runs._replace(hparams=dataclasses.replace(runs.hparams, lr_gen=0 * runs.hparams.lr_gen)))
    reached = np.full(NUM_GANS, -np.inf)
    for _ in range(5):  # D's best moment counts, not only its last
        states = many.advance(states, frozen, 1000)
        reached = np.maximum(
            reached,
            measure.named(config, many.measure_config, many.trim(many.measure(states, frozen)).metrics)["value"],
        )
    jax.tree.map(np.testing.assert_array_equal, gen_before, jax.tree.map(np.asarray, states.params.gen))

    margin = before["value_best"] - reached
    print(f"\n{loss}: value_best - value reached, over {NUM_GANS} GANs: {np.sort(margin).round(3)}")
    assert (margin >= -0.01).all()
