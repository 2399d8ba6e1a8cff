"""How fast gandyn trains many small GANs, beside PyTorch and beside the machine's own peak, in one run.

Everything that is compared is timed in turns (A B C A B C ...), and a ratio is the median of the ratios within a turn,
so that a machine that slows down for a while slows both sides. The script prints figures and judges none; it stops
only when a PyTorch yardstick does not train the same GAN (see `same_steps`). benchmarks/README.md explains the rows.
"""

import argparse
import dataclasses
import functools
import importlib.metadata
import itertools
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gandyn import devices
from gandyn.gan import targets
from gandyn.gan.config import Config
from gandyn.gan.game import make_game
from gandyn.gan.number import HParams
from gandyn.gan.state import Players, Stream
from gandyn.gan.step import init, step
from gandyn.sweeps import ensemble
from gandyn.truth import measure
from gandyn.truth.measure import MeasureConfig, Measured

try:
    import torch
    import torch_gans
except ImportError:
    torch = torch_gans = None

MARK = "<!-- written by throughput.py from here on -->"
MAIN_WIDTH = 128
FIXED_RUNS = 64
STEPS_PER_MEASUREMENT = 100
FLAT = 1.25
"""A step of R runs counts as no slower than a step of one run up to this factor."""


class Report:
    """Markdown that is printed as it grows, and the same figures for --json."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.data: dict = {}
        self.start = time.perf_counter()
        self.save: Callable[[], None] = lambda: None

    def text(self, *lines: str) -> None:
        """Add lines."""
        for line in lines:
            print(line, flush=True)
        self.lines += lines

    def section(self, title: str) -> None:
        """Begin a section; what there is so far is saved, so that an interrupted run is not lost."""
        self.save()
        self.text(*[""] * bool(self.lines and self.lines[-1]), f"## {title}", "")
        print(f"[{time.perf_counter() - self.start:.0f} s] {title} ...", file=sys.stderr, flush=True)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table; its first column is text."""
        widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

        def line(cells: Sequence[str]) -> str:
            first, *rest = [
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ]
            return "| " + " | ".join([first, *rest]) + " |"

        rule = [":" + "-" * (w - 1) if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
        self.text(line(header), "| " + " | ".join(rule) + " |", *map(line, rows), "")


# ---- timing


@dataclasses.dataclass(frozen=True)
class Contender:
    """Something to time.

    Attributes:
      name: in the tables.
      amount: what one step does: runs (the rate is run-steps/s) or GFLOP (the rate is GFLOP/s).
      advance: makes that many steps and waits for them.
      processes: the work is done in other processes, so this one's processor time says nothing.
      least_steps: in a turn, however long they take.
    """

    name: str
    amount: float
    advance: Callable[[int], object]
    processes: bool = False
    least_steps: int = 1


@dataclasses.dataclass(frozen=True)
class Timing:
    """Rates of one contender by turn, and how many cores it had (processor time over wall time)."""

    rates: np.ndarray
    cores: np.ndarray

    @property
    def median(self) -> float:
        """The rate of a usual turn."""
        return float(np.median(self.rates))

    @property
    def best(self) -> float:
        """The rate of the least disturbed turn."""
        return float(np.max(self.rates))

    def ratio(self, other: "Timing") -> float:
        """Median over turns of this rate over the other's."""
        return float(np.median(self.rates / other.rates))


def elapsed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def steps_for(contender: Contender, seconds: float) -> int:
    """Steps that take about `seconds`; the first call, which may compile, is not counted."""
    contender.advance(1)
    num_steps = 1
    while (taken := elapsed(functools.partial(contender.advance, num_steps))) < seconds / 3 and num_steps < 2**20:
        num_steps = max(2 * num_steps, min(int(num_steps * seconds / 2 / taken), 50 * num_steps))
    return max(contender.least_steps, round(num_steps * seconds / taken))


def in_turns(contenders: Sequence[Contender], repeats: int, seconds: float) -> dict[str, Timing]:
    """Rates of all contenders, timed in turns of about `seconds` each: {name: Timing}."""
    steps = [steps_for(contender, seconds) for contender in contenders]
    rates = np.zeros((len(contenders), repeats))
    cores = np.full_like(rates, np.nan)
    for repeat in range(repeats):
        for i, (contender, num_steps) in enumerate(zip(contenders, steps, strict=True)):
            start_cpu = time.process_time()
            wall = elapsed(functools.partial(contender.advance, num_steps))
            rates[i, repeat] = contender.amount * num_steps / wall
            if not contender.processes:
                cores[i, repeat] = (time.process_time() - start_cpu) / wall
    return {c.name: Timing(rates[i], cores[i]) for i, c in enumerate(contenders)}


def fastest(timings: dict[str, Timing], names: Sequence[str]) -> str:
    """The name with the highest median rate."""
    return max(names, key=lambda name: timings[name].median)


# ---- contenders: gandyn


class Training:
    """A gandyn ensemble in training on the ring of 8, with everything at its default but the width."""

    def __init__(self, width: int, num_runs: int, hparams: Sequence[HParams] | None = None) -> None:
        target = targets.ring()
        config = Config(gen_width=width, disc_width=width)
        self.plan = measure.plan_of(MeasureConfig(), deep=False)
        self.ensemble = ensemble.make_ensemble(config, self.plan, num_runs)
        games = [make_game(target, config, one) for one in hparams or [HParams()] * num_runs]
        self.game = games[0]
        self.runs = self.ensemble.place(ensemble.stack_runs(games, range(num_runs)))
        self.states: Any = None

    def named(self, metrics: np.ndarray) -> dict[str, np.ndarray]:
        """Metrics (R, number of them) by name."""
        return dict(zip(measure.metrics_of(self.plan, self.game), metrics.T, strict=True))

    def init(self) -> None:
        """States before training."""
        self.states = jax.block_until_ready(self.ensemble.init(self.runs))

    def advance(self, num_steps: int) -> None:
        """`num_steps` more steps, waited for."""
        if self.states is None:
            self.init()
        states: Any = self.states
        self.states = jax.block_until_ready(self.ensemble.advance(states, self.runs, num_steps))

    def measure(self) -> Measured:
        """A full measurement, waited for."""
        return jax.block_until_ready(self.ensemble.measure(self.states, self.runs))

    def contender(self) -> Contender:
        """This ensemble as something to time."""
        # A run's state is fetched once a call; in use a call is all the steps between two measurements.
        name = f"gandyn, R = {self.ensemble.num_runs}"
        return Contender(name, self.ensemble.num_runs, self.advance, least_steps=10)


# ---- contenders: PyTorch


def _torch_advance(yardstick, device, threads: int) -> Callable[[int], None]:
    def advance(num_steps: int) -> None:
        torch.set_num_threads(threads)  # pyright: ignore
        for _ in range(num_steps):
            yardstick.step()
        torch_gans.wait(device)  # pyright: ignore

    return advance


def torch_contender(name: str, yardstick, threads: int) -> Contender:
    return Contender(name, yardstick.num_runs, _torch_advance(yardstick, yardstick.means.device, threads))


_PASSES = {False: "two passes", True: "one pass"}


def search_stack(
    kind, sizes, ensemble_sizes: Sequence[int], seconds: float
) -> tuple[list[tuple[int, bool]], list[list[str]]]:
    """All (R, joined) of a yardstick of many runs, fastest first by the best of three short turns; rates by R."""
    assert torch_gans is not None
    device, cores = torch_gans.best_device(), core_count()
    choices = {(r, joined): f"R = {r}, joined = {joined}" for joined in (False, True) for r in ensemble_sizes}
    contenders = [
        torch_contender(name, kind(sizes, device, r, joined=joined), cores) for (r, joined), name in choices.items()
    ]
    timings = in_turns(contenders, 3, seconds)
    rows = [[f"{timings[choices[r, joined]].best:.0f}" for joined in (False, True)] for r in ensemble_sizes]
    return sorted(choices, key=lambda choice: -timings[choices[choice]].best), rows


# ---- contenders: the machine


def peak_contenders() -> list[Contender]:
    """Square float32 products with all cores, by each library there is; the rate is in GFLOP/s."""
    on_gpu = jax.default_backend() != "cpu"
    size = 8192 if on_gpu else 2048
    gflop = 2 * size**3 / 1e9
    a = np.random.default_rng(0).standard_normal((size, size), np.float32)

    def repeated(product: Callable[[], object], wait: Callable[[object], object]) -> Callable[[int], None]:
        def advance(num_products: int) -> None:
            out = None
            for _ in range(num_products):
                out = product()
            wait(out)

        return advance

    devices = jax.local_devices()
    one = jax.device_put(a, devices[0])
    product = jax.jit(lambda x: jnp.matmul(x, x, precision="float32"))
    out = [Contender("peak: jax, one device", gflop, repeated(lambda: product(one), jax.block_until_ready))]
    if len(devices) > 1:
        mesh, spec = Mesh(np.array(devices), ("rows",)), PartitionSpec("rows")
        rows = jax.device_put(a, NamedSharding(mesh, spec))
        whole = jax.device_put(a, NamedSharding(mesh, PartitionSpec()))
        split = jax.jit(
            jax.shard_map(
                lambda x, y: jnp.matmul(x, y, precision="float32"),
                mesh=mesh,
                in_specs=(spec, PartitionSpec()),
                out_specs=spec,
            )
        )
        out.append(
            Contender("peak: jax, every device", gflop, repeated(lambda: split(rows, whole), jax.block_until_ready))
        )
    if not on_gpu:
        out.append(Contender("peak: NumPy", gflop, repeated(lambda: a @ a, lambda _: None)))
    if torch_gans is not None:
        device = torch_gans.best_device()
        x = torch.from_numpy(a).to(device)  # pyright: ignore

        def advance(num_products: int) -> None:
            torch.set_num_threads(core_count())  # pyright: ignore
            repeated(lambda: x @ x, lambda _: torch_gans.wait(device))(num_products)  # pyright: ignore

        out.append(Contender("peak: PyTorch", gflop, advance))
    return out


# ---- operations


def product_flops(config: Config) -> int:
    """Floating-point operations of one run-step's matrix products (`non_saturating`, alternating 1:1, no penalty).

    A layer I -> O on B rows costs c = 2 B I O forward, c for the kernel's gradient, c for the input's gradient.
    D's update: G forward; D twice (real, fake) forward, kernel's and input's gradient (its first
    layer: the kernel's alone).
    G's update: G forward, kernel's and input's gradient (its first layer: the kernel's alone); D forward,
    input's gradient.
    So 4 c for a layer of G (its first 3 c) and 8 c for a layer of D (its first 6 c).
    """

    def total(sizes: list[int], first: int, other: int) -> int:
        pairs = list(itertools.pairwise(sizes))
        return sum((other if i else first) * fan_in * fan_out for i, (fan_in, fan_out) in enumerate(pairs))

    gen = total([config.latent_dim, *[config.gen_width] * config.gen_depth, 2], 3, 4)
    disc = total([2, *[config.disc_width] * config.disc_depth, 1], 6, 8)
    return 2 * config.batch_size * (gen + disc)


def compiled_operations(config: Config) -> tuple[int, float]:
    """(W x W products in the compiled step of one run, XLA's own count of all its floating-point operations)."""
    game = jax.tree.map(jnp.float32, make_game(targets.ring(), config))
    state = init(game, jax.random.key(0))
    compiled = jax.jit(step).lower(game, state)
    compiled = compiled.compile()
    width, batch = config.gen_width, config.batch_size
    shape = rf"f32\[(?:{batch}|{2 * batch}|{width}),{width}\]"
    text = compiled.as_text() or ""
    products = len(re.findall(rf"= {shape}\S* dot\(|= \(?{shape}.*custom-call\(.*(?:gemm|matmul)", text))
    cost = compiled.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    return products, float((cost or {}).get("flops", np.nan))


# ---- is it the same problem?


def _players(params: Players, run: int | None = None) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Linen parameters as [kernel, bias, ...] of G and of D, of all runs or of one."""

    def flat(tree) -> list[np.ndarray]:
        layers = tree["params"]
        leaves = [np.asarray(layers[f"Dense_{i}"][name]) for i in range(len(layers)) for name in ("kernel", "bias")]
        return leaves if run is None else [leaf[run] for leaf in leaves]

    return flat(params.gen), flat(params.disc)


def _linen(params: list[np.ndarray]) -> dict:
    layers = zip(params[::2], params[1::2], strict=True)
    return {"params": {f"Dense_{i}": {"kernel": kernel, "bias": bias} for i, (kernel, bias) in enumerate(layers)}}


def same_steps(report: Report, sizes, num_steps: int = 20) -> None:
    """gandyn and each yardstick from the same parameters on the same batches: the losses must agree.

    Raises:
      SystemExit: where they do not.
    """
    assert torch_gans is not None
    assert torch is not None
    device = torch_gans.best_device()
    torch.set_num_threads(1)
    num_runs = 8
    training = Training(sizes.width, num_runs)
    training.init()
    states, runs = training.states, training.runs
    assert states is not None

    @jax.jit
    @jax.vmap
    def batches(state, runs):
        disc_key, gen_key = jax.random.split(
            jax.random.fold_in(jax.random.fold_in(state.key, Stream.TRAIN), state.step)
        )

        def draw(key):
            key = jax.random.fold_in(key, 0)
            return runs.game.draw(state, key).pairs

        disc = draw(disc_key)
        return disc.real, disc.latents, draw(gen_key).latents

    stacks = {
        f"{name}, {'joined' if joined else 'separate'}": kind(sizes, device, num_runs, joined=joined)
        for name, kind in (("stacked", torch_gans.Stacked), ("torch.func", torch_gans.Mapped))
        for joined in (False, True)
    }
    plains = {
        f"plain{', tuned' if tuned else ''}": torch_gans.Plain(sizes, device, tuned=tuned) for tuned in (False, True)
    }
    for yardstick in stacks.values():
        yardstick.load(*_players(states.params))
    for yardstick in plains.values():
        yardstick.load(*_players(states.params, 0))
    differences: dict[str, list[float]] = {name: [] for name in (*stacks, *plains)}
    for _ in range(num_steps):
        drawn = [torch.from_numpy(np.array(x)).to(device) for x in batches(states, runs)]
        training.advance(1)
        states = training.states
        losses = np.stack([np.asarray(states.logged.loss_disc), np.asarray(states.logged.loss_gen)])[:, :num_runs]
        for names, pick in ((stacks, slice(None)), (plains, 0)):
            for name, yardstick in names.items():
                got = yardstick.update(torch_gans.Draws(*(x[pick] for x in drawn)))
                got = np.stack([loss.cpu().numpy() for loss in got])
                # Of the runs' median: where a unit is all but dead, Adam makes a whole step of a gradient that is there
                # or not by rounding alone, and that run goes its own way.
                differences[name].append(float(np.median(np.max(np.abs(got - losses[:, pick]), axis=0))))
    largest = {name: max(values) for name, values in differences.items()}
    report.data["same_steps"] = largest
    report.text(
        f"From the same parameters on the same batches, {num_steps} steps, width {sizes.width}: largest difference of "
        "a minibatch loss from gandyn's in the median run: "
        + "; ".join(f"{name} {value:.1e}" for name, value in largest.items())
        + "."
    )
    if not max(largest.values()) < 1e-3:
        raise SystemExit(f"throughput.py: a PyTorch yardstick does not train the same GAN: {largest}")


def same_outcome(report: Report, sizes, num_runs: int, num_steps: int) -> None:
    """Both train from their own seeds on their own draws; gandyn's instrument measures both."""
    assert torch_gans is not None
    assert torch is not None
    training = Training(sizes.width, num_runs)
    training.advance(num_steps)
    stacked = torch_gans.Stacked(sizes, torch_gans.best_device(), num_runs, joined=True)
    # One thread: two of OpenMP's that wait for each other crawl on a machine that others use.
    torch_contender("", stacked, 1).advance(num_steps)
    trim = training.ensemble.trim
    ours = training.named(trim(training.measure().metrics))

    gen, disc = stacked.players()
    assert training.states is not None
    index = np.minimum(training.ensemble.rows, num_runs - 1)
    params = jax.tree.map(
        lambda mine, theirs: jax.device_put(theirs[index], mine.sharding),
        training.states.params,
        Players(_linen(gen), _linen(disc)),
    )
    training.states = dataclasses.replace(training.states, params=params)
    theirs = training.named(trim(training.measure().metrics))

    rows, data = [], {}
    for name in ("value", "value_best", "jsd", "modes", "high_quality", "mode_tv"):
        pairs = [(np.mean(m[name]), np.std(m[name], ddof=1) / np.sqrt(num_runs)) for m in (ours, theirs)]
        (mean, se), (other, other_se) = pairs
        gap = (mean - other) / max(float(np.hypot(se, other_se)), 1e-12)
        rows.append([name, f"{mean:.4f} ± {se:.4f}", f"{other:.4f} ± {other_se:.4f}", f"{gap:+.1f}"])
        data[name] = {"gandyn": float(mean), "pytorch": float(other), "gap_in_se": float(gap)}
    report.data["same_outcome"] = data
    report.text(
        f"From separate seeds, {num_runs} runs of {num_steps} steps each, measured by the same instrument: mean ± "
        "standard error, and the gap in standard errors.",
        "",
    )
    report.table(["metric", "gandyn", "PyTorch, stacked", "gap"], rows)


# ---- sections


def core_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> str:
    return " ".join(f"{x:.2f}" for x in os.getloadavg())


def peak_memory() -> str:
    """The process's largest resident set so far, and the GPU's largest use where jax knows it."""
    unit = 1 if sys.platform == "darwin" else 1024
    out = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20:.0f} MiB"
    stats = jax.local_devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    return f"{out}, device {stats['peak_bytes_in_use'] / 2**20:.0f} MiB" if stats else out


def machine(report: Report) -> None:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (found := re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())):
        model = found[1]
    version = importlib.metadata.version
    names = ["jax", "jaxlib", "flax", "optax", "numpy"]
    versions = {"Python": platform.python_version()} | {name: version(name) for name in names}
    devices = jax.local_devices()
    kinds = f"{len(devices)} x {devices[0].platform} ({devices[0].device_kind})"
    lines = [
        f"- processor: {model}, {core_count()} cores",
        f"- jax devices: {kinds}",
    ]
    if torch_gans is not None and torch is not None:
        device = torch_gans.best_device()
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        lines.append(f"- PyTorch device: {name}")
        versions["torch"] = torch.__version__
    lines += [
        "- versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"- load average at the start (1, 5, 15 min): {load()}; an idle machine reads near 0, and `cores` in the "
        f"tables (processor time over wall time) is {core_count()} where a contender had the machine to itself",
    ]
    report.text(*lines)
    report.data["machine"] = {"processor": model, "cores": core_count(), "devices": kinds, "versions": versions}
    report.data["load_start"] = os.getloadavg()


def compile_times(report: Report) -> None:
    """The first call of each program in this process, less a second one."""
    training = Training(MAIN_WIDTH, FIXED_RUNS)
    programs = {"init": training.init, "advance": lambda: training.advance(0), "measure": training.measure}
    times = {}
    for name, call in programs.items():
        first = elapsed(call)
        times[name] = first - min(elapsed(call), first)
    report.section("Time to compile")
    report.text(f"Width {MAIN_WIDTH}, R = {FIXED_RUNS}, once per program; no compilation cache on disk.", "")
    report.table(["program", "seconds"], [[name, f"{seconds:.1f}"] for name, seconds in times.items()])
    report.data["compile_s"] = times


_FIRST_STEP = f"""
import gandyn, jax
print("imported", flush=True)
from gandyn.gan.game import make_game
from gandyn.sweeps import ensemble
from gandyn.truth import measure
game = make_game(gandyn.targets.ring(), gandyn.Config(gen_width={MAIN_WIDTH}, disc_width={MAIN_WIDTH}))
plan = measure.plan_of(gandyn.MeasureConfig(), deep=False)
many = ensemble.make_ensemble(game.config, plan, {FIXED_RUNS})
runs = many.place(ensemble.stack_runs([game] * {FIXED_RUNS}, range({FIXED_RUNS})))
jax.block_until_ready(many.advance(many.init(runs), runs, 1))
print("stepped", flush=True)
"""


def starting(report: Report, repeats: int) -> None:
    """Seconds from the start of a new process to its first training step, without and with programs kept on disk."""

    def first_step(cache: str) -> tuple[float, float]:
        kept = {
            "JAX_ENABLE_COMPILATION_CACHE": "1",
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        start = time.perf_counter()
        command = [sys.executable, "-c", _FIRST_STEP]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | kept) as process:
            assert process.stdout is not None
            times = [time.perf_counter() - start for _ in process.stdout]
        if process.returncode:
            raise RuntimeError(f"the process that makes a first step ended with status {process.returncode}")
        imported, stepped = times
        return imported, stepped

    with tempfile.TemporaryDirectory() as cache:
        cold, *warm = [first_step(cache) for _ in range(1 + repeats)]
    imported, stepped = np.median(warm, axis=0)
    report.section("Time to the first step")
    report.text(
        f"Seconds from the start of a new process to the end of its first training step, width {MAIN_WIDTH}, "
        f"R = {FIXED_RUNS}; warm: the median of {repeats}, with the programs that the cold one left in jax's cache.",
        "",
    )
    report.table(
        ["compilation cache", "gandyn imported", "first step made"],
        [["cold", f"{cold[0]:.1f}", f"{cold[1]:.1f}"], ["warm", f"{imported:.1f}", f"{stepped:.1f}"]],
    )
    report.data["first_step_s"] = {"cold": cold[1], "warm": float(stepped), "imported": float(imported)}


def operations(report: Report, sizes) -> None:
    config = Config(gen_width=sizes.width, disc_width=sizes.width)
    flops = product_flops(config)
    width, batch = sizes.width, config.batch_size
    products, all_flops = compiled_operations(config)
    report.section("Operations per run-step")
    report.text(
        "Matrix products only, B rows, two hidden layers of W units, latent dimension Z: "
        "2 B (12 W W + (3 Z + 28) W). The 12 W x W products are 7 in D's update (G forward; D forward, kernel's "
        "and input's gradient, each for real and fake) and 5 in G's (G forward, kernel's and input's gradient; D "
        "forward and input's gradient); the thin first and last layers are counted alike.",
        "",
        f"- the formula at W = {width}, B = {batch}, Z = {config.latent_dim}: {flops:,}",
        f"- W x W products in the compiled step of one run: {products} (formula: 12)",
        f"- XLA's cost analysis of that step, all operations, elementwise ones too: {all_flops:,.0f}",
    )
    data = {"formula": flops, "compiled_products": products, "cost_analysis": all_flops}
    if torch_gans is not None:
        plain = torch_gans.Plain(sizes, torch_gans.best_device(), tuned=False)
        data["pytorch"] = torch_gans.product_flops(plain.step)
        report.text(f"- PyTorch's own counter of products in a step of the plain script: {data['pytorch']:,}")
    report.data["operations"] = data


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` found at one width; the names are of the fastest in each group (None without PyTorch)."""

    timings: dict[str, Timing]
    gandyn: str
    peak: str
    plain: str | None
    any_plain: str | None
    stacked: str | None
    mapped: str | None
    processes: str | None


def compare(sizes, options, repeats: int, *, every: bool, report: Report) -> Comparison:
    """gandyn, PyTorch and the machine's peak in turns, at one width. `every`: all yardsticks, the search printed."""
    cores = core_count()
    training = Training(sizes.width, FIXED_RUNS)
    contenders = [training.contender(), *peak_contenders()]
    plain, tuned, stacked, mapped, processes, workers = [], [], [], [], [], []
    if torch_gans is not None:
        device = torch_gans.best_device()
        on_cpu = device.type == "cpu"

        def add(group: list[str], contender: Contender) -> None:
            group.append(contender.name)
            contenders.append(contender)

        for threads in sorted({cores, 1}, reverse=True) if on_cpu else [cores]:
            label = f", {threads} thread{'s' * (threads > 1)}" if on_cpu else ""
            for kind, group, name in ((False, plain, "plain script"), (True, tuned, "plain script, tuned")):
                yardstick = torch_gans.Plain(sizes, device, tuned=kind)
                add(group, torch_contender(f"PyTorch, {name}{label}", yardstick, threads))

        search = functools.partial(
            search_stack, sizes=sizes, ensemble_sizes=options.stacks, seconds=options.seconds / 2
        )
        choices, rates = search(torch_gans.Stacked)
        if every:
            ((num_runs, joined), *_), mapped_rates = search(torch_gans.Mapped)
            name = f"PyTorch, torch.func.vmap, R = {num_runs}, {_PASSES[joined]}"
            add(mapped, torch_contender(name, torch_gans.Mapped(sizes, device, num_runs, joined=joined), cores))
            report.text("Search for the best ensemble sizes, run-steps/s (best of three turns):", "")
            report.table(
                ["R", *(f"{kind}, {how}" for kind in ("stacked", "torch.func.vmap") for how in _PASSES.values())],
                [[str(r), *row, *other] for r, row, other in zip(options.stacks, rates, mapped_rates, strict=True)],
            )
        # The two fastest of the search go on, and the first also through torch.compile.
        stacks = [(*choice, False) for choice in choices[: 2 if every else 1]]
        if every and options.torch_compile:
            stacks.append((*choices[0], True))
        for num_runs, joined, compiled in stacks:
            how = _PASSES[joined] + ", torch.compile" * compiled
            try:
                yardstick = torch_gans.Stacked(sizes, device, num_runs, joined=joined, compiled=compiled)
                contender = torch_contender(f"PyTorch, stacked, R = {num_runs}, {how}", yardstick, cores)
                contender.advance(1)
            except Exception as error:
                if not compiled:
                    raise
                report.text(f"torch.compile did not work here and is left out: {type(error).__name__}", "")
            else:
                add(stacked, contender)
        if on_cpu and every:
            for runs_each, what in (
                (0, "plain script, tuned"),
                (options.stack_each, f"stacked, R = {options.stack_each}"),
            ):
                worker = torch_gans.Workers(sizes, cores, runs_each)
                workers.append(worker)
                name = f"PyTorch, {cores} processes of 1 thread, {what}"
                add(processes, Contender(name, worker.num_runs, worker.advance, processes=True))
    try:
        timings = in_turns(contenders, repeats, options.seconds)
    finally:
        for worker in workers:
            worker.__exit__()
    peaks = [name for name in timings if name.startswith("peak")]
    best = lambda names: fastest(timings, names) if names else None  # noqa: E731
    return Comparison(
        timings,
        contenders[0].name,
        fastest(timings, peaks),
        best(plain),
        best([*plain, *tuned]),
        best(stacked),
        best(mapped),
        best(processes),
    )


def side_by_side(report: Report, comparison: Comparison, width: int) -> None:
    """The main table: every contender at one width."""
    flops = product_flops(Config(gen_width=width, disc_width=width))
    timings = comparison.timings
    ours, peak = timings[comparison.gandyn], timings[comparison.peak]
    rows = []
    for name, timing in timings.items():
        if name.startswith("peak"):
            continue
        share = np.median(timing.rates * flops / 1e9 / peak.rates)
        rows.append(
            [
                name,
                f"{timing.median:.0f}",
                f"{timing.best:.0f}",
                f"{share:.2f}",
                f"{ours.ratio(timing):.2f}",
                "-" if np.isnan(timing.cores).any() else f"{np.median(timing.cores):.1f}",
            ]
        )
    report.table(
        ["who", "run-steps/s, median", "best turn", "share of peak", "gandyn / this", "cores"],
        rows,
    )
    report.table(
        ["float32 matrix peak by", "GFLOP/s, median", "best turn", "cores"],
        [
            [name.removeprefix("peak: "), f"{t.median:.0f}", f"{t.best:.0f}", f"{np.median(t.cores):.1f}"]
            for name, t in timings.items()
            if name.startswith("peak")
        ],
    )


def widths_table(report: Report, comparisons: dict[int, Comparison]) -> None:
    report.section(f"By width, R = {FIXED_RUNS}")
    rows = []
    for width, comparison in comparisons.items():
        timings = comparison.timings
        ours, peak = timings[comparison.gandyn], timings[comparison.peak]
        gflop = product_flops(Config(gen_width=width, disc_width=width)) / 1e9
        against = lambda name: f"{ours.ratio(timings[name]):.2f}" if name else "-"  # noqa: B023, E731
        stacked = comparison.stacked
        rows.append(
            [
                str(width),
                f"{ours.median:.0f}",
                f"{ours.best:.0f}",
                f"{ours.median * gflop:.0f}",
                f"{np.median(ours.rates * gflop / peak.rates):.2f}",
                against(comparison.plain),
                against(comparison.any_plain),
                against(stacked),
                f"{timings[stacked].median:.0f}" if stacked else "-",
                stacked.split("R = ")[1].split(",")[0] if stacked else "-",
                f"{np.median(ours.cores):.1f}",
            ]
        )
    report.text("`/ plain`: over the plain script, `/ tuned`: over its faster form, each at its best thread count.", "")
    report.table(
        [
            "width",
            "run-steps/s",
            "best turn",
            "GFLOP/s",
            "share of peak",
            "/ plain",
            "/ tuned",
            "/ stacked",
            "stacked run-steps/s",
            "stacked R",
            "cores",
        ],
        rows,
    )


def runs_table(report: Report, counts: Sequence[int], options) -> tuple[dict[int, Timing], int, int]:
    """Rate by number of runs: ({R: Timing}, knee, largest R whose step takes no longer than one run's)."""
    report.section(f"By number of runs, width {MAIN_WIDTH}")
    contenders = {r: Training(MAIN_WIDTH, r).contender() for r in counts}
    by_name = in_turns(list(contenders.values()), options.repeats_runs, options.seconds)
    timings = {r: by_name[contender.name] for r, contender in contenders.items()}
    most = max(t.median for t in timings.values())
    knee = min(r for r, t in timings.items() if t.median >= 0.9 * most)
    least = min(counts)
    step_s = {r: float(np.median(r / t.rates)) for r, t in timings.items()}
    flat = max(r for r in counts if step_s[r] <= FLAT * step_s[least])
    report.table(
        ["R", "run-steps/s, median", "best turn", "ms per step of all R", f"over R = {least}", "cores"],
        [
            [
                str(r),
                f"{t.median:.0f}",
                f"{t.best:.0f}",
                f"{1e3 * step_s[r]:.2f}",
                f"{t.ratio(timings[least]):.2f}",
                f"{np.median(t.cores):.1f}",
            ]
            for r, t in timings.items()
        ],
    )
    report.text(
        f"Knee: R = {knee}, the smallest that reaches 90 % of the best rate. The time of a step stays flat (within "
        f"{FLAT - 1:.0%} of R = {least}) up to R = {flat}."
    )
    report.data["runs"] = {r: t.rates.tolist() for r, t in timings.items()}
    return timings, knee, flat


def measuring(report: Report, repeats: int) -> dict[int, float]:
    """Cost of a full measurement over that of the training between two: {width: share}."""
    report.section(f"Measuring the full truth every {STEPS_PER_MEASUREMENT} steps")
    num_runs = 8 * len(jax.local_devices())
    rows, shares = [], {}
    trainings = {width: Training(width, num_runs) for width in (64, MAIN_WIDTH)}
    times = {width: np.zeros((2, repeats)) for width in trainings}
    for training in trainings.values():
        training.advance(1)
        training.measure()
    for repeat in range(repeats):
        for width, training in trainings.items():
            times[width][:, repeat] = (
                elapsed(functools.partial(training.advance, STEPS_PER_MEASUREMENT)),
                elapsed(training.measure),
            )
    for width, (train, measured) in times.items():
        shares[width] = float(np.median(measured / train))
        ms = [1e3 * float(np.median(t)) / num_runs for t in (train, measured)]
        rows.append([str(width), f"{ms[0]:.1f}", f"{ms[1]:.1f}", f"{shares[width]:.0%}"])
    report.text(f"R = {num_runs}, `MeasureConfig()`, ms per run with all devices busy.", "")
    report.table(["width", f"train {STEPS_PER_MEASUREMENT} steps", "measure once", "measure / train"], rows)
    report.data["measure_over_train"] = shares
    return shares


def sweep_compiles(report: Report) -> None:
    """Programs compiled for a sweep of ten learning rates."""
    compiles = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, duration_secs, **kwargs: compiles.append(event) if "backend_compile" in event else None
    )
    rates, seeds_each = np.geomspace(1e-4, 1e-2, 10), 2
    hparams = [HParams(lr_gen=lr, lr_disc=lr) for lr in rates for _ in range(seeds_each)]
    Training(32, len(hparams), hparams).advance(2)
    together = len(compiles)
    for lr in rates:
        Training(32, len(hparams), [HParams(lr_gen=lr, lr_disc=lr)] * len(hparams)).advance(2)
    apart = len(compiles) - together
    report.section("A sweep of ten learning rates")
    report.text(
        "Compilations that jax reports (`jax.monitoring`), width 32:",
        "",
        f"- one ensemble, 10 learning rates x {seeds_each} seeds: {together} (init, advance, "
        "and the small operations that stack the runs)",
        f"- then ten more ensembles of that size, one learning rate each: {apart}",
    )
    report.data["sweep"] = {"together": together, "apart": apart}


def three_numbers(
    report: Report, comparison: Comparison, by_runs: dict[int, Timing], knee: int, flat: int, shares: dict[int, float]
) -> None:
    report.section(f"The numbers apart, width {MAIN_WIDTH}")
    timings = comparison.timings
    ours, peak = timings[comparison.gandyn], timings[comparison.peak]
    gflop = product_flops(Config()) / 1e9
    rows, data = [], {}

    def row(key: str, what: str, value: float, form: str = "{:.2f}") -> None:
        rows.append([what, form.format(value)])
        data[key] = value

    for key, name, what in (
        ("plain", comparison.plain, "against PyTorch, plain script"),
        ("tuned", comparison.any_plain, "against PyTorch, plain script in its fastest form"),
        ("stacked", comparison.stacked, "against PyTorch, stacked"),
        ("mapped", comparison.mapped, "against PyTorch, torch.func"),
        ("processes", comparison.processes, "against PyTorch, one process a core"),
    ):
        if name:
            row(key, f"{what} ({name.removeprefix('PyTorch, ')})", ours.ratio(timings[name]))
    row("share", f"share of the float32 matrix peak ({comparison.peak.removeprefix('peak: ')})",
        float(np.median(ours.rates * gflop / peak.rates)))  # fmt: skip
    least, most = min(by_runs), max(by_runs)
    fixed = FIXED_RUNS if FIXED_RUNS in by_runs else most
    row("own", f"R = {fixed} against R = {least} of our own", by_runs[fixed].ratio(by_runs[least]))
    row("flat", "time of a step flat up to R", flat, "{:.0f}")
    row("knee", "90 % of the best rate from R", knee, "{:.0f}")
    for width, share in shares.items():
        row(f"measure_{width}", f"measuring every {STEPS_PER_MEASUREMENT} steps over training, width {width}", share,
            "{:.0%}")  # fmt: skip
    report.table(["what", "figure"], rows)
    report.data["summary"] = data


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Throughput of gandyn beside PyTorch and the machine's float32 matrix peak, timed in turns in one "
        "run. Prints figures as Markdown, progress to standard error; judges nothing. For figures worth quoting, let "
        "nothing else run.",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="about a minute: fewer widths, runs and repeats")
    length.add_argument("--full", action="store_true", help="about eight minutes (the default)")
    parser.add_argument("--widths", type=int, nargs="+", metavar="W", help="hidden widths (default: 32 64 128 256)")
    parser.add_argument("--runs", type=int, nargs="+", metavar="R",
                        help=f"numbers of runs at width {MAIN_WIDTH} (default: 1 2 4 ... 1024)")  # fmt: skip
    parser.add_argument("--repeats", type=int, metavar="N", help="turns at the main width (default: 9; quick: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure, turn by turn, as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE",
                        help="write the report to FILE; in a file that has the line "
                        f"'{MARK}', only what follows that line is replaced")  # fmt: skip
    args = parser.parse_args()
    quick = args.quick
    args.widths = args.widths or ([64, 128] if quick else [32, 64, 128, 256])
    args.runs = sorted(set(args.runs or ([1, 2, 8, 64] if quick else [2**i for i in range(11)])))
    args.repeats = args.repeats or (3 if quick else 9)
    if min(*args.widths, *args.runs, args.repeats) < 1:
        parser.error("--widths, --runs and --repeats take numbers from 1")
    return args


def configure(args: argparse.Namespace) -> argparse.Namespace:
    """What follows from the flags and the machine: sizes and lengths of everything timed."""
    on_gpu = torch_gans is not None and torch_gans.best_device().type == "cuda"
    quick = args.quick
    return argparse.Namespace(
        seconds=0.3 if quick else 0.8,
        repeats_runs=2 if quick else min(5, args.repeats),
        repeats_widths=2 if quick else min(5, args.repeats),
        repeats_measure=2 if quick else 5,
        repeats_start=1 if quick else 3,
        outcome=(8, 100) if quick else (32, 500),
        stacks=([8, 64] if quick else [1, 4, 16, 32, 64, 128]) + ([512] if quick else [256, 1024]) * on_gpu,
        stack_each=8,
        torch_compile=not quick,
    )


def write(report: Report, args: argparse.Namespace) -> None:
    if args.json:
        args.json.write_text(json.dumps(report.data, indent=1) + "\n")
    if args.markdown:
        head = ""
        if args.markdown.exists() and MARK in (old := args.markdown.read_text()):
            head = old.split(MARK)[0] + MARK + "\n\n"
        args.markdown.write_text(head + "\n".join(report.lines).strip() + "\n")


def main() -> None:
    args = parse()
    given = {"widths": args.widths, "runs": args.runs, "repeats": [args.repeats]}
    devices.prepare()
    jax.config.update("jax_enable_compilation_cache", False)
    options = configure(args)
    report = Report()
    report.save = functools.partial(write, report, args)
    report.text("# Throughput", "")
    flags = [f"--{name} {' '.join(map(str, value))}" for name, value in given.items()]
    report.text("Command: `" + " ".join(["throughput.py", *(["--quick"] if args.quick else []), *flags]) + "`", "")
    machine(report)
    memory = {"start": peak_memory()}

    compile_times(report)
    starting(report, options.repeats_start)
    memory["compiled, R = 64 measured"] = peak_memory()
    sizes_of = lambda width: torch_gans.Sizes(width, Config().batch_size) if torch_gans else argparse.Namespace(width=width)  # noqa: E731, E501  # fmt: skip
    operations(report, sizes_of(MAIN_WIDTH))

    report.section("Is it the same problem?")
    if torch_gans is None:
        report.text("PyTorch is not installed (extra `bench`): its rows are left out.")
    else:
        same_steps(report, sizes_of(MAIN_WIDTH))
        same_outcome(report, sizes_of(MAIN_WIDTH), *options.outcome)

    report.section(f"Side by side, width {MAIN_WIDTH}, R = {FIXED_RUNS}")
    compare_at = functools.partial(compare, options=options, report=report)
    main_comparison = compare_at(sizes_of(MAIN_WIDTH), repeats=args.repeats, every=True)
    side_by_side(report, main_comparison, MAIN_WIDTH)
    memory["side by side"] = peak_memory()
    comparisons = {
        width: main_comparison
        if width == MAIN_WIDTH
        else compare_at(sizes_of(width), repeats=options.repeats_widths, every=False)
        for width in args.widths
    }
    widths_table(report, comparisons)
    report.data["side_by_side"] = {
        width: {name: t.rates.tolist() for name, t in c.timings.items()}
        for width, c in {MAIN_WIDTH: main_comparison, **comparisons}.items()
    }
    memory["widths"] = peak_memory()
    by_runs, knee, flat = runs_table(report, args.runs, options)
    memory[f"up to R = {max(args.runs)}"] = peak_memory()
    shares = measuring(report, options.repeats_measure)
    sweep_compiles(report)
    memory["end"] = peak_memory()
    report.section("Peak memory of the process, so far")
    report.table(["after", "peak"], [[after, peak] for after, peak in memory.items()])
    report.data["memory"] = memory
    three_numbers(report, main_comparison, by_runs, knee, flat, shares)
    report.data["load_end"] = os.getloadavg()
    report.text(f"Load average at the end: {load()}. Took {time.perf_counter() - report.start:.0f} s.")
    report.save()


if __name__ == "__main__":
    main()
