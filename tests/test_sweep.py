"""Settings, labels, seeds and compile groups."""

import pytest

from gandyn import sweep, targets
from gandyn.gan import Config, HParams

RING = targets.ring()


def test_one_setting_takes_its_label_from_loss_and_penalty():
    (setting,) = sweep.make_settings(RING, Config(loss="wasserstein", penalty="clip"), HParams())
    assert setting.recipe == "wasserstein + clip"


def test_labels_name_what_varies_only_where_loss_and_penalty_do_not_tell():
    told = sweep.make_settings(RING, [Config(loss="hinge"), Config(loss="minimax")], [HParams(lr_gen=1.0), HParams()])
    assert [setting.recipe for setting in told] == ["hinge", "minimax"]
    rates = sweep.make_settings(RING, Config(), [HParams(lr_gen=0.1), HParams(lr_gen=0.2)])
    assert [setting.recipe for setting in rates] == ["non_saturating, lr_gen=0.1", "non_saturating, lr_gen=0.2"]
    shapes = sweep.make_settings([targets.ring(8), targets.random(8)], Config(), HParams())
    assert [setting.recipe for setting in shapes] == ["non_saturating (1)", "non_saturating (2)"]


def test_settings_that_share_a_config_share_a_group():
    settings = sweep.make_settings(
        [RING, targets.ring(radius=2.0), targets.ring(5), RING],
        [Config(), Config(), Config(), Config(loss="hinge")],
        [HParams(lr_gen=lr) for lr in (0.1, 0.2, 0.3, 0.4)],
    )
    groups = sweep.plan(settings, [3, 5])
    assert [[seed for _, seed in group.runs] for group in groups] == [[3, 5, 3, 5], [3, 5], [3, 5]]
    assert [group.runs[-1][0].hparams.lr_gen for group in groups] == [0.2, 0.3, 0.4]


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ValueError, match=r"config: got a list of 2; allowed beside a list of 3: one, or 3"):
        sweep.make_settings(RING, [Config(), Config(loss="hinge")], [HParams()] * 3)
    with pytest.raises(ValueError, match=r"config: got 'hinge'; allowed: a Config or a list"):
        sweep.make_settings(RING, "hinge", HParams())  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="distinct labels"):
        sweep.make_settings(RING, [Config(), Config()], HParams(), recipes=["a", "a"])


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([0.5], "seeds: got 0.5; allowed: a whole number"),
        ([True], "seeds: got True; allowed: a whole number"),
        ([-1], "allowed: a whole number of at least 0"),
        ([2**32], "below 2"),
        ([1, 1], "each once"),
        ([], "at least one"),
        (16, "such as range"),
        ("16", "such as range"),
    ],
)
def test_seeds_that_are_refused(seeds, message):
    with pytest.raises(ValueError, match=message):
        sweep.check_seeds(seeds)
