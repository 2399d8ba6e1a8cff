"""The same GAN in PyTorch: the yardsticks of `throughput.py`, written as a good PyTorch script would be.

Three of them, each on the CPU or on one GPU:

- `Plain`: one GAN from `nn.Sequential` and `torch.optim.Adam`, as in a tutorial; `tuned` adds what a careful user adds
  (fused Adam, one discriminator pass over real and fake together).
- `Stacked`: R GANs side by side in `baddbmm`, with one fused Adam over the stacked tensors.
- `Mapped`: the same R GANs as torch.func has it: `vmap` of `grad` of the plain script's modules, and that Adam.

All spare the gradients that nobody reads (the generator's in D's step, the discriminator's in G's) and never wait for
the device within a step. As a program this file is a worker that trains until its input ends (see `Worker`); it imports
no jax. Shapes: R runs, B batch, Z latent dimension.
"""

import argparse
import functools
import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

LATENT_DIM = 2
NUM_MODES, RADIUS, STD = 8, 1.0, 0.02
ADAM = {"lr": 1e-3, "betas": (0.5, 0.999), "eps": 1e-8}
SLOPE = 0.2


class Sizes(NamedTuple):
    """What both yardsticks and gandyn have in common."""

    width: int
    batch_size: int


class Draws(NamedTuple):
    """What one step draws: real (..., B, 2), and latents (..., B, Z) for each player's update."""

    real: Tensor
    latents_disc: Tensor
    latents_gen: Tensor


def best_device() -> torch.device:
    """The GPU, where PyTorch sees one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ring_means(device: torch.device) -> Tensor:
    """Means of the ring's modes, (8, 2)."""
    angle = 2 * math.pi * torch.arange(NUM_MODES, device=device) / NUM_MODES
    return RADIUS * torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)


def draw(means: Tensor, shape: tuple[int, ...]) -> Draws:
    """Fresh samples for one step; `shape` is (B,) or (R, B)."""
    device = means.device
    mode = torch.randint(NUM_MODES, shape, device=device)
    return Draws(
        means[mode] + STD * torch.randn(*shape, 2, device=device),
        torch.randn(*shape, LATENT_DIM, device=device),
        torch.randn(*shape, LATENT_DIM, device=device),
    )


def he_normal(shape: tuple[int, ...]) -> Tensor:
    """Truncated normal of variance 2 / fan-in, as Flax's `he_normal`; `shape` ends with (fan-in, fan-out)."""
    std = math.sqrt(2 / shape[-2]) / 0.87962566103423978
    return nn.init.trunc_normal_(torch.empty(shape), std=std, a=-2 * std, b=2 * std)


def modules(width: int, device: torch.device) -> tuple[nn.Sequential, nn.Sequential]:
    """G and D as modules."""
    gen = nn.Sequential(
        nn.Linear(LATENT_DIM, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)
    )
    disc = nn.Sequential(
        nn.Linear(2, width), nn.LeakyReLU(SLOPE), nn.Linear(width, width), nn.LeakyReLU(SLOPE), nn.Linear(width, 1)
    )
    for layer in (*gen, *disc):
        if isinstance(layer, nn.Linear):
            layer.weight.data = he_normal((layer.in_features, layer.out_features)).T.contiguous()
            nn.init.zeros_(layer.bias)
    return gen.to(device), disc.to(device)


class Plain:
    """One GAN, updated by a plain script. `num_runs` is 1."""

    num_runs = 1

    def __init__(self, sizes: Sizes, device: torch.device, *, tuned: bool) -> None:
        self.gen, self.disc = modules(sizes.width, device)
        self.gen_params = list(self.gen.parameters())
        self.opt_gen = torch.optim.Adam(self.gen.parameters(), **ADAM, fused=tuned or None)
        self.opt_disc = torch.optim.Adam(self.disc.parameters(), **ADAM, fused=tuned or None)
        self.tuned = tuned
        self.means = ring_means(device)
        self.batch_shape = (sizes.batch_size,)

    def update(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """One alternating step; the losses (of D, of G) before each update."""
        with torch.no_grad():
            fake = self.gen(draws.latents_disc)
        if self.tuned:
            real_logits, fake_logits = self.disc(torch.cat([draws.real, fake])).chunk(2)
        else:
            real_logits, fake_logits = self.disc(draws.real), self.disc(fake)
        loss_disc = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
        self.opt_disc.zero_grad(set_to_none=True)
        loss_disc.backward()
        self.opt_disc.step()

        loss_gen = F.softplus(-self.disc(self.gen(draws.latents_gen))).mean()
        self.opt_gen.zero_grad(set_to_none=True)
        loss_gen.backward(inputs=self.gen_params)
        self.opt_gen.step()
        return loss_disc.detach(), loss_gen.detach()

    def step(self) -> None:
        """One alternating step on fresh draws."""
        self.update(draw(self.means, self.batch_shape))

    def players(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Parameters (of G, of D) as [kernel (I, O), bias (O,), ...], copied."""
        copy = lambda module: [p.detach().cpu().numpy().T.copy() for p in module.parameters()]  # noqa: E731
        return copy(self.gen), copy(self.disc)

    def load(self, gen: list[np.ndarray], disc: list[np.ndarray]) -> None:
        """Set parameters, given as `players` gives them."""
        for module, values in ((self.gen, gen), (self.disc, disc)):
            for param, value in zip(module.parameters(), values, strict=True):
                param.data.copy_(torch.from_numpy(np.array(value.T)))


class Stacked:
    """R GANs in batched products.

    Args:
      sizes: width and batch.
      device: where.
      num_runs: R.
      joined: D sees real and fake in one pass of 2B rows; otherwise in two.
      compiled: the two losses and their gradients through torch.compile.
    """

    def __init__(self, sizes: Sizes, device: torch.device, num_runs: int, *, joined: bool, compiled: bool = False):
        def params(widths: tuple[int, ...]) -> list[Tensor]:
            out = []
            for fan_in, fan_out in itertools.pairwise(widths):
                out += [he_normal((num_runs, fan_in, fan_out)), torch.zeros(num_runs, 1, fan_out)]
            return [p.to(device).requires_grad_() for p in out]

        self.num_runs = num_runs
        self.gen = params((LATENT_DIM, sizes.width, sizes.width, 2))
        self.disc = params((2, sizes.width, sizes.width, 1))
        self.opt_gen = torch.optim.Adam(self.gen, **ADAM, fused=True)
        self.opt_disc = torch.optim.Adam(self.disc, **ADAM, fused=True)
        self.means = ring_means(device)
        self.batch_shape = (num_runs, sizes.batch_size)
        self.disc_objective: Callable[..., Tensor] = _joined_objective if joined else _separate_objective
        self.gen_objective: Callable[..., Tensor] = _gen_objective
        if compiled:
            torch._dynamo.reset()
            self.disc_objective = torch.compile(self.disc_objective, dynamic=False)
            self.gen_objective = torch.compile(self.gen_objective, dynamic=False)

    def update(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """One alternating step of every run; the losses (of D, of G) before each update, (R,)."""
        with torch.no_grad():
            fake = _generate(self.gen, draws.latents_disc)
        loss_disc = self.disc_objective(self.disc, draws.real, fake)
        self.opt_disc.zero_grad(set_to_none=True)
        loss_disc.sum().backward()
        self.opt_disc.step()

        loss_gen = self.gen_objective(self.gen, [p.detach() for p in self.disc], draws.latents_gen)
        self.opt_gen.zero_grad(set_to_none=True)
        loss_gen.sum().backward()
        self.opt_gen.step()
        return loss_disc.detach(), loss_gen.detach()

    def step(self) -> None:
        """One alternating step on fresh draws."""
        self.update(draw(self.means, self.batch_shape))

    def players(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Parameters (of G, of D) as [kernel (R, I, O), bias (R, O), ...], copied."""
        copy = lambda params: [p.detach().cpu().numpy().copy() for p in params]  # noqa: E731
        squeeze = lambda values: [v[:, 0] if i % 2 else v for i, v in enumerate(values)]  # noqa: E731
        return squeeze(copy(self.gen)), squeeze(copy(self.disc))

    def load(self, gen: list[np.ndarray], disc: list[np.ndarray]) -> None:
        """Set parameters, given as `players` gives them."""
        for params, values in ((self.gen, gen), (self.disc, disc)):
            for param, value in zip(params, values, strict=True):
                param.data.copy_(torch.from_numpy(np.array(value)).reshape(param.shape))


def _mlp(params: list[Tensor], x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    for i in range(0, len(params) - 2, 2):
        x = activation(torch.baddbmm(params[i + 1], x, params[i]))
    return torch.baddbmm(params[-1], x, params[-2])


def _generate(params: list[Tensor], latents: Tensor) -> Tensor:
    return _mlp(params, latents, torch.relu)


def _discriminate(params: list[Tensor], x: Tensor) -> Tensor:
    return _mlp(params, x, lambda t: F.leaky_relu(t, SLOPE))


def _separate_objective(params: list[Tensor], real: Tensor, fake: Tensor) -> Tensor:
    real_logits, fake_logits = _discriminate(params, real), _discriminate(params, fake)
    return F.softplus(-real_logits).mean((1, 2)) + F.softplus(fake_logits).mean((1, 2))


def _joined_objective(params: list[Tensor], real: Tensor, fake: Tensor) -> Tensor:
    real_logits, fake_logits = _discriminate(params, torch.cat([real, fake], dim=1)).chunk(2, dim=1)
    return F.softplus(-real_logits).mean((1, 2)) + F.softplus(fake_logits).mean((1, 2))


def _gen_objective(gen: list[Tensor], disc: list[Tensor], latents: Tensor) -> Tensor:
    return F.softplus(-_discriminate(disc, _generate(gen, latents))).mean((1, 2))


class Mapped:
    """R GANs by torch.func: `vmap` of `grad` over stacked parameters.

    Args:
      sizes: width and batch.
      device: where.
      num_runs: R.
      joined: D sees real and fake in one pass of 2B rows; otherwise in two.
    """

    def __init__(self, sizes: Sizes, device: torch.device, num_runs: int, *, joined: bool):
        gens, discs = zip(*(modules(sizes.width, device) for _ in range(num_runs)), strict=True)
        self.num_runs = num_runs
        self.gen, self.disc = (torch.func.stack_module_state(list(models))[0] for models in (gens, discs))
        self.opt_gen = torch.optim.Adam(self.gen.values(), **ADAM, fused=True)
        self.opt_disc = torch.optim.Adam(self.disc.values(), **ADAM, fused=True)
        self.means = ring_means(device)
        self.batch_shape = (num_runs, sizes.batch_size)
        generate = functools.partial(torch.func.functional_call, gens[0])
        discriminate = functools.partial(torch.func.functional_call, discs[0])

        def disc_loss(disc: dict, real: Tensor, fake: Tensor) -> Tensor:
            if joined:
                real_logits, fake_logits = discriminate(disc, torch.cat([real, fake])).chunk(2)
            else:
                real_logits, fake_logits = discriminate(disc, real), discriminate(disc, fake)
            return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()

        def gen_loss(gen: dict, disc: dict, latents: Tensor) -> Tensor:
            return F.softplus(-discriminate(disc, generate(gen, latents))).mean()

        self.generate = torch.func.vmap(generate)
        self.disc_gradient = torch.func.vmap(torch.func.grad_and_value(disc_loss))
        self.gen_gradient = torch.func.vmap(torch.func.grad_and_value(gen_loss))

    @torch.no_grad()
    def update(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """One alternating step of every run; the losses (of D, of G) before each update, (R,)."""
        fake = self.generate(self.gen, draws.latents_disc)
        gradient, loss_disc = self.disc_gradient(self.disc, draws.real, fake)
        self._descend(self.opt_disc, self.disc, gradient)
        gradient, loss_gen = self.gen_gradient(self.gen, self.disc, draws.latents_gen)
        self._descend(self.opt_gen, self.gen, gradient)
        return loss_disc, loss_gen

    @staticmethod
    def _descend(optimizer: torch.optim.Adam, params: dict[str, Tensor], gradient: dict[str, Tensor]) -> None:
        for name, param in params.items():
            param.grad = gradient[name]
        optimizer.step()

    def step(self) -> None:
        """One alternating step on fresh draws."""
        self.update(draw(self.means, self.batch_shape))

    def load(self, gen: list[np.ndarray], disc: list[np.ndarray]) -> None:
        """Set parameters, given as [kernel (R, I, O), bias (R, O), ...]."""
        for params, values in ((self.gen, gen), (self.disc, disc)):
            for param, value in zip(params.values(), values, strict=True):
                param.data.copy_(torch.from_numpy(np.array(value.transpose(0, 2, 1) if value.ndim == 3 else value)))


def product_flops(step: Callable[[], object]) -> int:
    """Floating-point operations of one step's matrix products, counted by PyTorch itself as they run."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


class Workers:
    """One process a core, one thread each, all training their own `Plain` (tuned) or `Stacked` GANs at once.

    This is what a PyTorch user without batching would start from the shell. Use as a context manager.
    """

    def __init__(self, sizes: Sizes, num_workers: int, runs_each: int) -> None:
        command = [sys.executable, __file__, str(sizes.width), str(sizes.batch_size), str(runs_each)]
        self.processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(num_workers)
        ]
        self.num_runs = num_workers * max(1, runs_each)
        self._answers()

    def _answers(self) -> None:
        for process in self.processes:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError(f"a PyTorch worker ended early with status {process.wait()}")

    def advance(self, num_steps: int) -> None:
        """`num_steps` steps in every worker; returns when all are done."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{num_steps}\n")
            process.stdin.flush()
        self._answers()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self.processes:
            process.wait()


def _work() -> None:
    parser = argparse.ArgumentParser(
        description="A worker of throughput.py: reads a number of steps, makes them, answers."
    )
    parser.add_argument("width", type=int)
    parser.add_argument("batch_size", type=int)
    parser.add_argument("num_runs", type=int, help="runs in a stack; 0 for one plain GAN")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sizes, cpu = Sizes(args.width, args.batch_size), torch.device("cpu")
    gan = Stacked(sizes, cpu, args.num_runs, joined=True) if args.num_runs else Plain(sizes, cpu, tuned=True)
    gan.step()
    print("ready", flush=True)
    for line in sys.stdin:
        for _ in range(int(line)):
            gan.step()
        print("done", flush=True)


if __name__ == "__main__":
    _work()
