"""What a target was made from, and that it is made again to the same bits; the protocol; no backend for any of it."""

import dataclasses
import inspect
import json
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gandyn.gan import targets
from gandyn.gan.targets import TARGETS, GaussianMixture, Target

log_prob = jax.jit(lambda target, x: target.log_prob(x))

COVARIANCES = [[[0.3, 0.1], [0.1, 0.2]], [[0.1, 0], [0, 0.4]]]
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "ring": [{}, {"num_modes": np.int64(3), "radius": np.float32(0.1), "weights": np.array([1, 2, 5])}],
    "grid": [{"num_modes": 9, "spacing": 1 / 3}],
    "spiral": [{"turns": 1.5}],
    "random": [{"layout_seed": 7, "radius": 1 / 3}],
    "line": [{"std": [0.1, 0.2, 0.3], "num_modes": 3}],
    "moons": [{}, {"radius": 0.7, "weights": [1, 2]}],
    "circles": [{"factor": 0.3, "std": 0.1}],
    "ribbon": [{}, {"curve": [[0, 0], [1, 0.1], [1, 1]], "num_modes": 2}, {"curve": lambda s: np.stack([s, s * s], 1)}],
    "checkerboard": [{"num_squares": 3, "radius": 1 / 3}],
}
NAMED = [(name, options) for name, every in OPTIONS.items() for options in every]
BY_HAND = {
    "isotropic": targets.mixture([[0, 1 / 3], [2, 1]], [0.2, 1 / 7], [1, 2]),
    "covariances": targets.mixture([[0, 1 / 3], [2, 1]], covariances=COVARIANCES),
    "groups": targets.mixture([[0, 1], [2, 1], [4, 1]], 0.1, groups=[1, 0, 1]),
    "no modes": targets.mixture([[0, 1], [2, 1], [4, 1]], 0.1, groups=()),
    "space": targets.mixture([[0, 1, 2], [2, 1, 3]], 0.1),
}
POINTS = np.random.default_rng(0).normal(size=(50, 2))
OF_USERS = {
    "from_samples": targets.from_samples(POINTS, 0.1, "mine"),
    "from_log_prob": targets.from_log_prob(lambda x: -np.sum(x**2, axis=1), size=8, name="mine"),
    "from_image": targets.from_image([[0, 1], [1, 1]], name="mine"),
    "from_cells": targets.from_cells([[1, 2], [3, 4]], name="mine"),
}


def same(one: Any, other: Any) -> bool:
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        np.asarray(a).dtype == np.asarray(b).dtype == np.float32 and np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other))
    )


def through_json(record: targets.Made) -> Any:
    kind, numbers = json.loads(json.dumps([record.kind, record.numbers]))
    return targets.from_record(kind, numbers)


def test_every_name_is_here():
    assert set(OPTIONS) == set(TARGETS)


@pytest.mark.parametrize(("name", "options"), NAMED)
def test_a_named_target_says_all_that_it_was_made_from_and_comes_back(name, options):
    target = targets.build(name, **options)
    targets.check(target)
    assert target.made.kind == name
    assert list(target.made.numbers) == list(inspect.signature(TARGETS[name]).parameters)
    again = through_json(targets.to_record(target))
    assert same(again, target)
    assert again.made == target.made
    assert targets.to_record(again) == targets.to_record(target)


@pytest.mark.parametrize("name", BY_HAND)
def test_a_mixture_by_hand_comes_back(name):
    target = BY_HAND[name]
    targets.check(target)
    record = targets.to_record(target)
    assert record.kind == "mixture"
    assert same(through_json(record), target)


@pytest.mark.parametrize("name", OF_USERS)
def test_what_a_person_gave_is_told_by_its_fingerprint(name):
    target = OF_USERS[name]
    targets.check(target)
    kind, numbers = targets.to_record(target)
    assert (kind, numbers["name"]) == (name, "mine")
    assert numbers["fingerprint"] == targets.fingerprint(target)
    assert len(numbers["fingerprint"]) == 64
    with pytest.raises(ValueError, match=f"target: got '{name}' named 'mine', which is not written down as numbers"):
        targets.from_record(kind, json.loads(json.dumps(numbers)))


def test_fingerprints_tell_arrays_apart():
    one = targets.from_samples(POINTS, 0.1)
    assert targets.fingerprint(one) == targets.fingerprint(jax.tree.map(jnp.asarray, one))
    moved = POINTS.copy()
    moved[3, 1] = np.nextafter(np.float32(moved[3, 1]), np.float32(9))
    assert targets.fingerprint(one) != targets.fingerprint(targets.from_samples(moved, 0.1))


def test_what_is_derived_was_made_from_nothing():
    assert targets.ring().blur(0.1).made is None
    assert targets.ring().of_class(0, 2).made is None


def test_fields():
    assert targets.fields_of(targets.build("ring", num_modes=3, radius=np.float32(0.5), weights=[1, 2, 3])) == {
        "target": "ring", "num_modes": 3, "radius": 0.5, "std": 0.02,
    }  # fmt: skip
    assert targets.fields_of(BY_HAND["isotropic"]) == {
        "target": "mixture", "num_modes": 2, "target_std": pytest.approx(1 / 7),
    }  # fmt: skip
    assert targets.fields_of(targets.ribbon())["curve"] == "spiral"
    assert targets.fields_of(OF_USERS["from_log_prob"]) == {"target": "from_log_prob", "name": "mine", "size": 8}
    assert targets.fields_of(Square()) == {"target": "Square", "target_std": 1.0}


def test_rings_of_different_radius_stack():
    rings = [targets.ring(radius=radius) for radius in (0.5, 1.0, 2.0)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rings)
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.jit(jax.vmap(lambda target, key: target.sample(key, 500)))(stacked, keys)
    np.testing.assert_allclose(np.linalg.norm(x, axis=-1).mean(axis=1), [0.5, 1, 2], rtol=0.01)
    got = jax.vmap(log_prob)(stacked, x)
    for ring, points, logs in zip(rings, x, got):
        np.testing.assert_allclose(log_prob(ring, points), logs, rtol=1e-4, atol=1e-4)


def test_tables_of_different_mass_stack():
    boards = [targets.checkerboard(radius=1.0), targets.from_cells(np.random.default_rng(0).uniform(size=(64, 64)))]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *boards)
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.jit(jax.vmap(lambda target, key: target.sample(key, 300)))(stacked, keys)
    for board, points in zip(boards, x):
        assert np.isfinite(log_prob(board, points)).all()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Square:
    """Uniform on the unit square: as a person would write one."""

    side: Any = np.float32(1)  # noqa: RUF009

    event_shape = (2,)
    num_uniforms = 2

    def transform(self, uniform):
        return self.side * uniform

    def sample(self, key, num):
        return self.transform(jax.random.uniform(key, (num, 2)))

    def log_prob(self, x):
        inside = jnp.all((x >= 0) & (x <= self.side), axis=1)
        return jnp.where(inside, -2 * jnp.log(self.side), -jnp.inf)

    def box(self):
        return self.side * np.full(2, 0.5, np.float32), self.side / 2

    def scale(self):
        return self.side


class Wrong(Square):
    def log_prob(self, x):
        return x


class TestProtocol:
    def test_ours_and_a_persons(self):
        for target in (targets.ring(), targets.checkerboard(), Square()):
            targets.check(target)
            assert isinstance(target, Target)
        assert targets.to_record(Square()).kind == "Square"

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            (3, "target: got 3, without event_shape, num_uniforms"),
            (GaussianMixture, "target: got <class"),
            (Wrong(), r"target: log_prob: got shape \(3, 2\) for \(3, 2\); allowed: \(3,\)"),
        ],
    )
    def test_refused(self, target, message):
        with pytest.raises(ValueError, match=message):
            targets.check(target)


def test_build_refuses():
    with pytest.raises(ValueError, match=r"target: got 'rings'; allowed: .* \(did you mean 'ring'\?\)"):
        targets.build("rings")
    with pytest.raises(ValueError, match=r"radios: not an option of target 'ring'.* \(did you mean 'radius'\?\)"):
        targets.build("ring", radios=1)
    with pytest.raises(ValueError, match=r"means: got shape \(3,\); allowed: x and y of each mode"):
        targets.build("mixture", means=[1, 2, 3], stds=[1])
    flat = targets.build("mixture", means=[0, 1 / 3, 2, 1], stds=[0.2, 1 / 7], weights=[1, 2])
    assert same(flat, BY_HAND["isotropic"])


def test_no_backend_is_started():
    """Targets are made, checked, recorded and asked for their box; the number of devices can still be set."""
    code = """
import jax, numpy as np
from gandyn.gan import targets
made = [make() for make in targets.TARGETS.values()]
made += [targets.mixture([[0, 0]], covariances=np.eye(2)), targets.from_samples(np.zeros((9, 2)), 0.1)]
made += [targets.from_image(np.eye(3))]  # from_log_prob evaluates a function, and prepares the devices for it
for target in made:
    targets.check(target), targets.to_record(target), targets.fields_of(target), target.box(), target.scale()
    assert all(type(leaf) is np.ndarray and leaf.dtype == np.float32 for leaf in jax.tree.leaves(target))
jax.config.update("jax_num_cpu_devices", 3)  # refused once a backend runs
assert len(jax.devices("cpu")) == 3
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
