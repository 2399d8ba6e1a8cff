"""D's best output at every log density ratio, found numerically for a loss of which only `disc` is given.

Where D's loss is a mean over single samples, disc = E_p a(s) + E_q b(s), the best output at log p/q = r minimizes

    h(s) = sigmoid(r) a(s) + sigmoid(-r) b(s),

one problem in one unknown for each r. `tabulate` solves it at `LOG_RATIOS`, `look_up` interpolates. All of it is jax,
in float32, without branches: it is traced in the loss's numbers and runs under jit and vmap. How:

- a, b and their derivatives on a grid of outputs s = sinh(v) up to 1e16 (`POINTS`), the same for every r.
- Cells of the grid over which h' turns from minus to plus hold the minima, all of them where h is not convex; the
  lowest one counts, of equally low ones (within rounding) that of the smallest |s|. Signs of h' find a minimum to
  1e-6, where values of h could only find it to the root of float32's precision.
- In it both ends of {h' = 0} by bisection: one point where h is smooth, an interval where it is flat (hinge at r = 0),
  of which the middle is taken.
- Outputs at which h or h' is no finite number are walls.
- No end: of a flat set without one the end that there is; if h still falls at |s| = 1e16, none: NaN.
"""

import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import sigmoid


class Disc(Protocol):
    """D's loss: (real outputs (B,), fake outputs (B,), numbers) -> (), minimized."""

    def __call__(self, real_logits: Any, fake_logits: Any, numbers: Any, /) -> Any: ...  # noqa: D102


_BEND = 4.0  # log ratios are spaced evenly up to about here, by a factor beyond
_REACH = 80.0  # sigmoid(-80) is a float32 still; at 88 it is none
_HALF = 512
LOG_RATIOS = (_BEND * np.sinh(np.linspace(-1, 1, 2 * _HALF + 1) * math.asinh(_REACH / _BEND))).astype(np.float32)
"""(R,) log ratios of a table, from -80 to 80, the middle one 0; 0.029 apart there, 0.6 at the ends."""

STEP = 0.1875
_DECADES = 37  # grid points in three decades of s
# One more at either end: what is best there has no end.
POINTS = np.arange(-201, 202) * STEP
_BISECTIONS = 40

ATTAINED, ENDLESS, FALLING, UNDEFINED = range(4)
"""What a best output is: a number; approached as D's outputs grow without end, V staying finite; none, V growing
without end; none, for the loss is a finite number nowhere."""


class Table(NamedTuple):
    """Best outputs of a loss at given numbers.

    Attributes:
      outputs: (R,) best outputs at `LOG_RATIOS`; NaN where there is none.
      kind: (R,) ATTAINED, ENDLESS, FALLING or UNDEFINED.
      start: () the output next to zero at which the loss is a finite number, where single-sample losses are counted
        from.
      excess: (R,) h at the best output above the lowest h on the grid, relative to the sizes of what is summed: above
        rounding where the derivative of `disc` does not lead to its minimum.
    """

    outputs: jax.Array
    kind: jax.Array
    start: jax.Array
    excess: jax.Array


class _Sides(NamedTuple):
    """a and b, each up to a constant (what the other is at `start`), and their derivatives at outputs."""

    real: jax.Array
    fake: jax.Array
    real_slope: jax.Array
    fake_slope: jax.Array


def single(disc: Disc, numbers: Any, real: jax.Array, fake: jax.Array) -> jax.Array:
    """A loss at batches of one sample each, elementwise: outputs (N,), (N,) -> (N,)."""
    return jax.vmap(lambda s, t: disc(s[None], t[None], numbers))(real, fake)


def starting_point(disc: Disc, numbers: Any, outputs: jax.Array) -> jax.Array:
    """Of some outputs (N,) the one next to zero at which the loss is a finite number; the least |s| if nowhere."""
    defined = jnp.isfinite(single(disc, numbers, outputs, outputs))
    return outputs[jnp.argmin(jnp.where(defined, jnp.abs(outputs), jnp.abs(outputs) + jnp.inf))]


def _sides(disc: Disc, numbers: Any, outputs: jax.Array, start: jax.Array) -> _Sides:
    """`_Sides` at outputs (N,)."""
    real = lambda s: disc(s[None], start[None], numbers)  # noqa: E731
    fake = lambda s: disc(start[None], s[None], numbers)  # noqa: E731
    of_real, real_slope = jax.vmap(jax.value_and_grad(real))(outputs)
    of_fake, fake_slope = jax.vmap(jax.value_and_grad(fake))(outputs)
    return _Sides(of_real, of_fake, real_slope, fake_slope)


def integrand(disc: Disc, numbers: Any, log_ratio: jax.Array, outputs: jax.Array, start: jax.Array) -> jax.Array:
    """h(s), up to a constant, at log ratios (N,) and outputs (N,), and the size of what it sums: (2, N)."""
    here = jnp.full_like(outputs, 1) * start
    real = sigmoid(log_ratio) * single(disc, numbers, outputs, here)
    fake = sigmoid(-log_ratio) * single(disc, numbers, here, outputs)
    return jnp.stack([real + fake, jnp.abs(real) + jnp.abs(fake)])


def _lowest_cell(height: jax.Array, slope: jax.Array, wall: jax.Array, size: jax.Array) -> jax.Array:
    """Which cell of `POINTS` holds the lowest minimum, (); all arguments (G,). Cell i is from point i to i + 1."""
    falls, rises = (slope <= 0) | wall, (slope >= 0) | wall
    holds = falls[:-1] & rises[1:] & ~(wall[:-1] & wall[1:])
    left, right = height[:-1], height[1:]
    # In a cell that holds a minimum: that of the parabola with the slopes at the two ends.
    share = jnp.where(slope[:-1] == slope[1:], 0, slope[:-1] / (slope[:-1] - slope[1:]))
    width = jnp.asarray(np.diff(np.sinh(POINTS)), jnp.float32)
    parabola = left + 0.5 * share * width * slope[:-1]
    ends = jnp.minimum(jnp.where(wall[:-1], jnp.inf, left), jnp.where(wall[1:], jnp.inf, right))
    least = jnp.where(holds, jnp.where(jnp.isfinite(parabola), jnp.minimum(parabola, ends), ends), jnp.inf)
    best = jnp.argmin(least)
    rounding = 1e-6 * jnp.where(jnp.isfinite(size[best]), size[best], size[best + 1])
    distance = jnp.asarray(np.minimum(np.abs(POINTS[:-1]), np.abs(POINTS[1:])), jnp.float32)
    return jnp.argmin(jnp.where(holds & (least <= least[best] + rounding), distance, jnp.inf))


def _solve(
    disc: Disc, numbers: Any, start: jax.Array, grid: _Sides, log_ratio: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The best output at one log ratio, what it is, and its excess: ()."""
    p, q = sigmoid(log_ratio), sigmoid(-log_ratio)
    height, slope = p * grid.real + q * grid.fake, p * grid.real_slope + q * grid.fake_slope
    size = p * jnp.abs(grid.real) + q * jnp.abs(grid.fake)
    points, index = jnp.asarray(POINTS, jnp.float32), jnp.arange(len(POINTS))
    outside = (index == 0) | (index == len(POINTS) - 1)
    wall = outside | ~jnp.isfinite(height) | ~jnp.isfinite(slope)
    cell = _lowest_cell(height, slope, wall, size)
    # The cells beside it over which h is flat belong to it.
    first = jnp.max(jnp.where((index <= cell) & ((slope < 0) | wall), index, 0))
    last = jnp.min(jnp.where((index > cell) & ((slope > 0) | wall), index, len(POINTS) - 1))
    inside = jnp.where(wall[cell], points[cell + 1], points[cell])

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Ends (2,), (2,) of what holds the lower and the upper end of {h' = 0}."""
        low, high = ends
        middle = (low + high) / 2
        at = _sides(disc, numbers, jnp.sinh(middle), start)
        tilt = p * at.real_slope + q * at.fake_slope
        further = jnp.where(jnp.asarray([True, False]), tilt < 0, tilt <= 0)
        further = jnp.where(jnp.isfinite(tilt) & jnp.isfinite(p * at.real + q * at.fake), further, middle < inside)
        return jnp.where(further, middle, low), jnp.where(further, high, middle)

    low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, (jnp.repeat(points[first], 2), jnp.repeat(points[last], 2)))
    lower, upper = jnp.sinh((low + high) / 2)
    endless = jnp.asarray([first == 0, last == len(POINTS) - 1])
    output = jnp.where(
        endless[0],
        jnp.where(endless[1], 0.0, upper),
        jnp.where(endless[1], lower, (lower + upper) / 2),
    )
    # Three decades before the end of the grid, is h above what it is there?
    drops = jnp.stack([height[1 + _DECADES] - height[1], height[-2 - _DECADES] - height[-2]])
    far = 1e-3 * (1 + jnp.abs(jnp.stack([height[1], height[-2]])))
    falling = jnp.any(endless & (drops > far)) | jnp.any(jnp.isneginf(height))
    undefined = jnp.all(wall)
    kind = jnp.where(undefined, UNDEFINED, jnp.where(falling, FALLING, jnp.where(jnp.any(endless), ENDLESS, ATTAINED)))
    reached, sizes = integrand(disc, numbers, log_ratio[None], output[None], start)
    excess = (reached[0] - jnp.min(jnp.where(wall, jnp.inf, height))) / jnp.maximum(sizes[0], 1e-30)
    return jnp.where(kind < FALLING, output, jnp.nan), kind, excess


def tabulate(disc: Disc, numbers: Any) -> Table:
    """Best outputs at `LOG_RATIOS`, for a `disc` that is a mean over single samples (unchecked)."""
    outputs = jnp.asarray(np.sinh(POINTS), jnp.float32)
    start = starting_point(disc, numbers, outputs)
    grid = _sides(disc, numbers, outputs, start)
    # In blocks, for under vmap over runs all log ratios times all grid points would take gigabytes.
    solve = lambda log_ratio: _solve(disc, numbers, start, grid, log_ratio)  # noqa: E731
    found, kind, excess = jax.lax.map(solve, jnp.asarray(LOG_RATIOS), batch_size=205)
    return Table(found, kind, start, excess)


def _rates(outputs: jax.Array) -> jax.Array:
    """Slopes at the nodes of evenly spaced values (R,), for which cubics between them are monotone where they are.

    The harmonic mean of the differences to both sides; Fritsch & Butland 1984.
    """
    steps = jnp.diff(outputs)
    before, after = steps[:-1], steps[1:]
    alike = before * after > 0
    inner = jnp.where(alike, 2 * before * after / jnp.where(alike, before + after, 1.0), 0.0)
    return jnp.concatenate([steps[:1], inner, steps[-1:]])


def look_up(disc: Disc, numbers: Any, table: Table, log_ratio: jax.Array) -> jax.Array:
    """Best outputs at any log ratios, of the same shape; NaN where there is none.

    By monotone cubics between the nodes; beyond +-80 along a straight line.
    """
    flat = jnp.ravel(log_ratio)
    within = jnp.clip(flat, -_REACH, _REACH)
    place = (jnp.arcsinh(within / _BEND) / math.asinh(_REACH / _BEND) + 1) * _HALF
    node = jnp.clip(place.astype(jnp.int32), 0, 2 * _HALF - 1)
    t = jnp.clip(place - node, 0, 1)
    left, right, rates = table.outputs[node], table.outputs[node + 1], _rates(table.outputs)
    bend = t * (1 - t) * ((1 - t) * (rates[node] - (right - left)) - t * (rates[node + 1] - (right - left)))
    between = left + t * (right - left) + bend
    # Where the best output jumps (hinge, a loss with two minima): of the cubic and the nodes beside it the best.
    jumps = jnp.abs(right - left) > 4 * jnp.minimum(jnp.abs(rates[node]), jnp.abs(rates[node + 1]))
    (height, size), (at_left, _), (at_right, _) = (
        integrand(disc, numbers, within, s, table.start) for s in (between, left, right)
    )
    jumps &= jnp.minimum(at_left, at_right) < height - 1e-6 * size
    best = jnp.where(jumps, jnp.where(at_left < at_right, left, right), between)
    # The slope at either end over about one nat, so that rounding of the nodes does not matter.
    rise = (table.outputs[jnp.asarray([8, -1])] - table.outputs[jnp.asarray([0, -9])]) / (
        LOG_RATIOS[[8, -1]] - LOG_RATIOS[[0, -9]]
    )
    beyond = jnp.clip(flat, -1e4, 1e4) - within
    further = jnp.where(beyond == 0, 0, jnp.where(beyond < 0, rise[0], rise[1]) * beyond)
    return jnp.reshape(best + further, jnp.shape(log_ratio))
