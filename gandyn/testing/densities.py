"""Targets: whether samples and log density are of one distribution, on the box that it says."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from gandyn.gan import sampling, targets
from gandyn.testing.report import Skip, Suite

_NUM = 2**15
_FINE, _COARSE = 480, 24
"""Cells along a side of the box: for integrals, and for counts of samples."""
_MEMBERS = ("event_shape", "num_uniforms", "transform", "sample", "log_prob", "box", "scale")


def lacking(target: Any) -> list[str]:
    """What a target must have, and this one has not."""
    return [name for name in _MEMBERS if not hasattr(target, name)]


def check_target(suite: Suite, target: Any) -> bool:
    """All that samples and a grid show; whether a game may go on."""
    if not suite.run("protocol", _protocol, target) or not suite.run("samples", _samples, target):
        return False
    whole = suite.run("stacks under vmap", _stacks, target)
    suite.run("box holds the mass", _box, target)
    suite.run("integrates to one", _integrates, target)
    suite.run("samples match log_prob", _matches, target)
    suite.run("modes", _modes, target)
    suite.run("blur", _blur, target)
    return whole


def _protocol(target: Any) -> str:
    targets.check(target)
    for path, leaf in jax.tree_util.tree_leaves_with_path(target):
        if getattr(leaf, "dtype", None) != np.float32:
            name = (
                jax.tree_util.keystr(path) or "target: it is no pytree (jax.tree_util.register_dataclass makes it one)"
            )
            raise AssertionError(
                f"{name}: got {type(leaf).__name__} {getattr(leaf, 'dtype', '')}; allowed: float32 arrays"
            )
    scale, (center, half) = target.scale(), target.box()
    chex.assert_shape([scale, half], ())
    chex.assert_shape(center, target.event_shape)
    if not 0 < float(scale) < np.inf or not 0 < float(half) < np.inf:
        raise AssertionError(f"scale, box: got {float(scale):.4g}, {float(half):.4g}; allowed: above 0, finite")
    return f"points {target.event_shape}, scale {float(scale):.3g}, box {2 * float(half):.3g} wide"


def _uniform(target: Any, num: int) -> jax.Array:
    return sampling.uniform(jax.random.key(0), (num, target.num_uniforms))


def _samples(target: Any) -> None:
    """Finite, float32, and where the density is above zero; `sample` is `transform` of uniforms, of the key alone."""
    points = target.transform(_uniform(target, 512))
    twice = [target.sample(jax.random.key(1), 7) for _ in range(2)]
    logs = target.log_prob(points)
    chex.assert_shape(twice[0], (7, *target.event_shape))
    chex.assert_type([points, logs, twice[0]], jnp.float32)
    chex.assert_trees_all_equal(*twice)
    if not bool(jnp.all(jnp.isfinite(points))):
        raise AssertionError("transform: got points that are not finite")
    if not bool(jnp.all(jnp.isfinite(logs))):
        raise AssertionError(f"log_prob: got {float(jnp.min(logs)):g} at a sample of its own; allowed: finite")


def _stacks(target: Any) -> None:
    """Runs with this target and another of its kind are one program: two side by side give what each gives alone."""
    uniform = _uniform(target, 64)
    points = target.transform(uniform)
    numbers = jnp.arange(2.0)  # for a target without arrays, which has nothing to map over
    both = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * 2), target)
    made, logs = jax.vmap(lambda one, _: (one.transform(uniform), one.log_prob(points)))(both, numbers)
    chex.assert_shape([made, logs], [(2, *points.shape), (2, len(points))])
    for row in range(2):
        chex.assert_trees_all_close((made[row], logs[row]), (points, target.log_prob(points)), rtol=1e-4, atol=1e-4)


def _in_the_plane(target: Any) -> None:
    if tuple(target.event_shape) != (2,):
        raise Skip("of points in the plane")


def _box(target: Any) -> str:
    center, half = target.box()
    points = target.transform(_uniform(target, _NUM))
    away = jnp.abs(points - jnp.asarray(center)[None]).reshape(len(points), -1)
    share = float(jnp.mean(jnp.all(away <= half, axis=1)))
    if share < 0.999:
        raise AssertionError(f"box: got one that holds {share:.4g} of the samples; allowed: 0.999 or more")
    return f"{share:.4%} of the samples"


class _Cells:
    """Masses and counts of the cells of a grid on a target's box, (coarse, coarse)."""

    def __init__(self, target: Any, fine: int) -> None:
        _in_the_plane(target)
        center, half = target.box()
        self.center, self.half, self.fine = np.asarray(center, np.float64), float(half), fine
        wide = 2 * self.half / float(target.scale())
        if wide > 0.8 * fine:
            raise Skip(f"the box is {wide:.0f} scales wide; looked at up to {0.8 * fine:.0f}")

    def masses(self, density: Any) -> np.ndarray:
        """Of `density.log_prob`, by the midpoints of finer cells."""
        places = self.half * ((2 * np.arange(self.fine) + 1) / self.fine - 1)
        x, y = np.meshgrid(self.center[0] + places, self.center[1] + places, indexing="ij")
        points = np.stack([x, y], axis=-1).reshape(_COARSE, -1, 2).astype(np.float32)
        logs = np.asarray(jax.lax.map(density.log_prob, jnp.asarray(points)), np.float64)
        if np.any(np.isnan(logs) | (logs == np.inf)):
            raise AssertionError(
                "log_prob: got NaN or +inf in the box; allowed: finite, or -inf where there is no mass"
            )
        inner = self.fine // _COARSE
        return np.exp(logs).reshape(_COARSE, inner, _COARSE, inner).sum(axis=(1, 3)) * (2 * self.half / self.fine) ** 2

    def compare(self, name: str, points: Any, masses: np.ndarray) -> str:
        """No cell has more or fewer points than its mass allows: 6 standard errors, and 1 % for the integral."""
        points = np.asarray(points, np.float64)
        cells = np.floor((points - self.center[None, :] + self.half) / (2 * self.half) * _COARSE).astype(int)
        inside = np.all((cells >= 0) & (cells < _COARSE), axis=1)
        counts = np.bincount(cells[inside] @ [_COARSE, 1], minlength=_COARSE**2).reshape(masses.shape)
        want = len(points) * masses
        off = np.abs(counts - want) - (6 * np.sqrt(want + 1) + 0.01 * want)
        if off.max() > 0:
            worst = np.unravel_index(np.argmax(off), off.shape)
            low = self.center - self.half + 2 * self.half / _COARSE * np.array(worst)
            raise AssertionError(
                f"{name}: got {counts[worst] / len(points):.4g} of the samples in the cell from "
                f"{np.round(low, 3).tolist()}, {2 * self.half / _COARSE:.3g} wide, where exp(log_prob) has a mass of "
                f"{masses[worst]:.4g}"
            )
        return f"{len(points):,} samples in {_COARSE} x {_COARSE} cells"


def _integrates(target: Any) -> str:
    mass = _Cells(target, _FINE).masses(target).sum()
    if not abs(mass - 1) <= 0.01:
        raise AssertionError(
            f"log_prob: got a density that integrates to {mass:.4g} on its box; allowed: 1, within 1 %"
        )
    return f"{mass:.4f}"


def _matches(target: Any) -> str:
    cells = _Cells(target, _FINE)
    return cells.compare("transform", target.transform(_uniform(target, _NUM)), cells.masses(target))


def _modes(target: Any) -> str:
    num = getattr(target, "num_modes", 0)
    if not num:
        raise Skip("modes are not counted")
    found = np.asarray(target.mode_of(target.pick(_uniform(target, 4096)[:, 0])))
    if found.shape != (4096,) or found.dtype.kind != "i" or found.min() < 0 or found.max() >= num:
        raise AssertionError(f"mode_of(pick(uniform)): got {found!r:.100}; allowed: whole numbers (N,) below {num}")
    return f"{num}, {len(np.unique(found))} of them drawn"


def _blur(target: Any) -> str:
    """The blurred density is that of the samples with noise added."""
    if not hasattr(target, "blur"):
        raise Skip("it has none: no instance noise where its density is compared")
    cells, std = _Cells(target, _FINE // 2), 0.5 * float(target.scale())
    noisy = target.transform(_uniform(target, _NUM)) + std * jax.random.normal(jax.random.key(5), (_NUM, 2))
    return cells.compare("blur", noisy, cells.masses(target.blur(std)))
