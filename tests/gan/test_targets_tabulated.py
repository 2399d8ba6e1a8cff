"""Tabulated densities: of functions, pictures and boards, against their cells and against closed forms."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest
import scipy.stats

from gandyn.gan import targets
from gandyn.gan.targets import TabulatedDensity

SIGMA = 5
anything: Any = targets

log_prob = jax.jit(lambda target, x: target.log_prob(x))
transform = jax.jit(lambda target, uniform: target.transform(uniform))
sample = jax.jit(lambda target, key, num: target.sample(key, num), static_argnums=2)

VALUES = np.random.default_rng(0).uniform(0, 1, (7, 5)) ** 3
VALUES[2] = 0  # a column without mass, and cells without
VALUES[-1, -2:] = 0
VALUES[0, :2] = 0
BOX = ((-2.0, 1.5), (1.0, 2.0))


def banana(x):
    return -0.5 * (x[:, 0] ** 2 / 2 + (x[:, 1] - x[:, 0] ** 2 / 2 + 1) ** 2 / 0.3)


PICTURE = np.ones((20, 30))
PICTURE[3:8, 4:20] = 0
PICTURE[10:16, 22:26] = 0.5
TABLES = {
    "cells": targets.from_cells(VALUES, BOX),
    "one cell": targets.from_cells([[1.0]], BOX),
    "checkerboard": targets.checkerboard(3, radius=2.0, cells=2),
    "log_prob": targets.from_log_prob(banana, size=48),
    "image": targets.from_image(PICTURE),
}


def middles(target: TabulatedDensity) -> np.ndarray:
    """(W, H, 2)."""
    width, height = np.shape(target.log_density)
    index = np.stack(np.meshgrid(np.arange(width), np.arange(height), indexing="ij"), axis=-1)
    return np.asarray(target.origin) + np.asarray(target.cell) * (index + 0.5)


@pytest.mark.parametrize("name", TABLES)
def test_density_integrates_to_one(name):
    target = TABLES[name]
    density = np.exp(np.asarray(log_prob(target, middles(target).reshape(-1, 2).astype(np.float32)), np.float64))
    assert density.sum() * np.prod(np.asarray(target.cell, np.float64)) == pytest.approx(1, abs=1e-5)
    targets.check(target)


def test_density_is_that_of_the_cells():
    target = TABLES["cells"]
    area = (3.5 / 7) * (1 / 5)
    with np.errstate(divide="ignore"):
        want = np.log(VALUES / VALUES.sum() / area)
    offsets = np.random.default_rng(1).uniform(0.01, 0.99, (7, 5, 2))
    x = np.array([-2, 1]) + (np.stack(np.meshgrid(np.arange(7), np.arange(5), indexing="ij"), -1) + offsets) * [
        0.5,
        0.2,
    ]
    got = np.asarray(log_prob(target, x.reshape(-1, 2).astype(np.float32))).reshape(7, 5)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
    outside = np.array([[-2.01, 1.5], [1.51, 1.5], [0, 0.99], [0, 2.01], [np.nan, 1.5], [np.inf, 1.5]], np.float32)
    np.testing.assert_array_equal(log_prob(target, outside), -np.inf)
    center, half = target.box()
    np.testing.assert_allclose(center, [-0.25, 1.5])
    assert (float(half), float(target.scale())) == (1.75, pytest.approx(0.2))


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.quick(2)
def test_samples_match_the_density(name):
    """Chi-square over the cells, against the mass of each; five sigma of its normal limit. None where there is none."""
    target, n = TABLES[name], 200_000
    x = np.asarray(sample(target, jax.random.key(0), n), np.float64)
    shape = np.shape(target.log_density)
    mass = np.exp(np.asarray(target.log_density, np.float64)) * np.prod(np.asarray(target.cell, np.float64))
    place = (x - np.asarray(target.origin, np.float64)) / np.asarray(target.cell, np.float64)
    index = np.clip(np.floor(place).astype(int), 0, np.array(shape) - 1)
    got = np.bincount(np.ravel_multi_index(index.T, shape), minlength=mass.size)
    want = n * mass.ravel()
    assert np.all(np.isfinite(log_prob(target, x.astype(np.float32))))  # never on a rim, where another cell begins
    assert got[want == 0].sum() == 0
    keep = want >= 20
    got, want = np.append(got[keep], n - got[keep].sum()), np.append(want[keep], n - want[keep].sum())
    got, want = got[want > 1e-6 * n], want[want > 1e-6 * n]
    statistic = np.sum((got - want) ** 2 / want)
    assert abs(statistic - (len(want) - 1)) <= SIGMA * np.sqrt(2 * max(1, len(want) - 1))
    # Even inside the cells.
    assert scipy.stats.kstest((place - index).ravel(), "uniform").pvalue > 1e-5


@pytest.mark.parametrize(("name", "std"), list(zip(TABLES, (0.3, 0.02, 0.3, 0.02, 0.1))))
@pytest.mark.slow
def test_blur_is_the_convolution(name, std):
    """Against the sum over cells of products of differences of scipy's cumulative normal, in float64."""
    target = TABLES[name]
    density = np.exp(np.asarray(target.log_density, np.float64))
    origin, cell = (np.asarray(part, np.float64) for part in (target.origin, target.cell))
    x = np.asarray(sample(target, jax.random.key(1), 300)) + np.float32(std / 2)
    edges = [origin[i] + cell[i] * np.arange(density.shape[i] + 1) for i in (0, 1)]
    along = [np.diff(scipy.stats.norm.cdf((edges[i] - x[:, i, None].astype(np.float64)) / std)) for i in (0, 1)]
    want = np.log(np.einsum("ni,ij,nj->n", along[0], density, along[1]))
    blurred = target.blur(std)
    np.testing.assert_allclose(log_prob(blurred, x), want, rtol=1e-5, atol=2e-4)
    twice = target.blur(0.6 * std).blur(0.8 * std)
    np.testing.assert_allclose(log_prob(twice, x), want, rtol=1e-5, atol=2e-4)
    # Samples of it: their mean log density is that of the table's samples moved by a normal; five standard errors.
    moved = np.asarray(sample(target, jax.random.key(2), 20_000))
    moved = moved + std * np.random.default_rng(0).standard_normal(moved.shape).astype(np.float32)
    one, other = (np.asarray(log_prob(blurred, x)) for x in (sample(blurred, jax.random.key(3), 20_000), moved))
    assert abs(one.mean() - other.mean()) < SIGMA * np.hypot(one.std(), other.std()) / np.sqrt(20_000)
    center, half = blurred.box()
    assert np.all(np.abs(np.asarray(sample(blurred, jax.random.key(3), 20_000)) - center) < half)
    targets.check(blurred)


def test_blur_far_away_is_finite():
    assert float(log_prob(TABLES["cells"].blur(1e-3), np.array([[1e4, 0]], np.float32))[0]) == pytest.approx(
        -87.3, abs=0.1
    )


def test_strata_of_the_first_uniform_are_strips_of_equal_mass():
    target = TABLES["cells"]
    columns = VALUES.sum(axis=1) / VALUES.sum()
    edges = np.concatenate([[0], np.cumsum(columns)])
    first = np.linspace(0.001, 0.999, 400)
    uniform = np.stack([first, np.full(400, 0.5), np.full(400, 0.5), np.full(400, 0.5)], axis=1)
    x = np.asarray(transform(target, uniform.astype(np.float32)))
    column = np.floor((x[:, 0] + 2) / 0.5).astype(int)
    np.testing.assert_array_equal(column, np.searchsorted(edges, first, side="right") - 1)
    assert 2 not in column


@pytest.mark.slow
def test_extreme_uniforms_stay_on_mass():
    ends = np.array([2.0**-24, 1 - 2.0**-24], np.float32)
    corners = np.stack(np.meshgrid(*[ends] * 4), axis=-1).reshape(-1, 4)
    for target in TABLES.values():
        inner = corners.copy()
        inner[:, 2:] = 0.5
        assert np.all(np.isfinite(log_prob(target, transform(target, inner))))
        assert np.all(np.isfinite(transform(target, corners)))


def test_from_log_prob_of_a_gaussian():
    """Against the closed form at the middles of cells; the mean over a cell differs by h^2 / 24 of the curvature."""
    normal: Any = scipy.stats.multivariate_normal([0.2, -0.1], [[0.3, 0.1], [0.1, 0.2]])  # pyright: ignore
    target = targets.from_log_prob(lambda x: 7 + normal.logpdf(x), size=96, name="tilted")
    assert target.made == ("from_log_prob", {"name": "tilted", "box": ((-3, 3), (-3, 3)), "size": 96})
    x = middles(target).reshape(-1, 2)
    want = normal.logpdf(x)
    got = np.asarray(log_prob(target, x.astype(np.float32)))
    near = want > want.max() - 5
    np.testing.assert_allclose(got[near], want[near], atol=0.02)
    assert np.abs(np.mean((got - want)[near])) < 0.003
    # Of jax.numpy as well, and where its density vanishes.
    half = targets.from_log_prob(lambda x: jnp.where(x[:, 0] > 0, 0.0, -jnp.inf), ((-1, 1), (0, 1)), size=16)
    np.testing.assert_allclose(log_prob(half, np.array([[0.5, 0.5], [-0.5, 0.5]], np.float32)), [0, -np.inf], atol=1e-6)


class TestImage:
    def test_upright_and_as_dark_as_drawn(self):
        """(column, row from the top) of the picture to density; the longer side goes from -1 to 1."""
        target = TABLES["image"]
        assert np.shape(target.log_density) == (30, 20)
        ink = 1 - PICTURE
        area = (2 / 30) ** 2
        for row, column in ((5, 10), (12, 23), (0, 0), (19, 29), (5, 25)):
            x = np.array([[-1 + (column + 0.5) / 15, 2 / 3 - (row + 0.5) / 15]], np.float32)
            want = np.log(ink[row, column] / ink.sum() / area) if ink[row, column] else -np.inf
            np.testing.assert_allclose(log_prob(target, x), want, rtol=1e-5, atol=1e-5)

    def test_a_drawn_file(self, tmp_path):
        path = tmp_path / "mine.png"
        matplotlib.image.imsave(path, PICTURE, cmap="gray", vmin=0, vmax=1)
        target = targets.from_image(path)
        assert target.made is not None
        assert target.made.numbers["name"] == "mine"
        with np.errstate(divide="ignore"):
            got, want = np.exp(target.log_density), np.exp(TABLES["image"].log_density)
        np.testing.assert_allclose(got, want, rtol=0.01, atol=1e-6)
        np.testing.assert_array_equal(targets.from_image(str(path)).log_density, target.log_density)

    def test_bytes_channels_and_opacity(self):
        white = np.full((4, 4, 4), 255, np.uint8)
        white[1, 2] = (0, 0, 0, 255)
        white[3, 0] = (0, 0, 0, 0)  # black, and not to be seen
        mass = np.exp(targets.from_image(white).log_density)
        assert list(zip(*np.nonzero(mass))) == [(2, 2)]
        mass = np.exp(targets.from_image(white[:, :, :3], dark=False).log_density)
        assert np.count_nonzero(mass) == 14
        box = ((0, 4), (10, 14))
        assert float(targets.from_image(white, box).scale()) == 1

    def test_no_such_file(self):
        with pytest.raises(OSError, match="nowhere"):
            targets.from_image("nowhere.png")


def test_checkerboard():
    target = targets.checkerboard(4, radius=2.0, cells=4)
    x = np.random.default_rng(0).uniform(-2.5, 2.5, (1_000, 2)).astype(np.float32)
    square = np.floor(x + 2).sum(axis=1)
    inside = np.all(np.abs(x) < 2, axis=1) & (square % 2 == 0)
    np.testing.assert_allclose(log_prob(target, x), np.where(inside, -np.log(8), -np.inf), rtol=1e-5)
    assert float(target.scale()) == 0.25
    assert target.num_modes == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: anything.from_cells([1, 2]), "values: got shape (2,); allowed: (cells along x, cells along y)"),
        (lambda: anything.from_cells([[1, -2]]), "values: got [[1.0, -2.0]]; allowed: at least 0"),
        (lambda: anything.from_cells([[0, 0]]), "values: got no mass; allowed: some above 0"),
        (lambda: anything.from_cells([[1]], box=((0, 0), (0, 1))), "box: got ((0, 0), (0, 1)); allowed: ((x low"),
        (lambda: anything.from_log_prob(banana, size=2_000), "size: got 2,000; allowed: at most 1,024"),
        (lambda: anything.from_log_prob(lambda x: x, size=8), "log_prob: got shape (256, 2) for points (256, 2)"),
        (lambda: anything.from_log_prob(lambda x: x[:, 0] * np.nan, size=8), "log_prob: got NaN or +inf, at [-2."),
        (lambda: anything.from_log_prob(lambda x: np.full(len(x), -np.inf), size=8), "log_prob: got -inf in all of"),
        (lambda: anything.from_image(np.ones((3, 3))), "image: got a white one; allowed: with mass"),
        (lambda: anything.from_image(np.ones((3, 3, 2))), "image: got shape (3, 3, 2); allowed: (rows, columns)"),
        (lambda: anything.from_image(np.full((3, 3), 200.0)), "image: got numbers outside [0, 1]"),
        (lambda: anything.from_cells(np.ones((9, 9)), ((1e6, 1e6 + 1), (0, 1))), "allowed: cells that float32 tells"),
        (lambda: anything.checkerboard(1), "num_squares: got 1; allowed: a whole number of at least 2"),
        (lambda: anything.checkerboard(64, cells=64), "size: got 4,096 x 4,096 cells; allowed: at most 1,048,576"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_check_refuses_mass_that_is_not_its_own():
    target = TABLES["cells"]
    for field, value in (
        ("log_density", np.asarray(target.log_density) + 1),
        ("columns", np.asarray(target.columns) ** 2),
        ("cells", np.asarray(target.cells)[:, ::-1]),
        ("origin", np.zeros(3)),
    ):
        with pytest.raises(ValueError, match=f"{field}: got"):
            targets.check(dataclasses.replace(target, **{field: value}))
