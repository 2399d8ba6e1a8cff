// The truth beside a fork, estimated in the page: V on quasi-random nodes, a lower bound of the best value, coverage,
// accuracy. All of it is computed here, from the players at hand.

import { matrix, pooled } from "./tape.js";
import { discriminate, generate, jacobians } from "./networks.js";
import { LOSSES } from "./losses.js";
import { coordinates, coverage, logDensity, transform } from "./targets.js";
import { latents } from "./training.js";
import { lattice, uniforms } from "./randomness.js";

const SHRINKS = [0.02, 0.08, 0.3]; // share of its latent that a kernel's noise replaces: thin for curves, wide for clouds
const BEST_NODES = 640;
const BOUND = 30; // nats: a log ratio beyond it changes no loss, and would overflow one
const FLOOR = 0.05; // of the target's scale: what keeps a kernel from being thinner than float resolves

// Nodes to measure on: fixed by the seed, so that what moves is the players. {real (N, 2), latents (N, Z)}.
export function nodes(target, recipe, count = 1024, seed = 7) {
  const uniform = uniforms(seed);
  const real = transform(target, lattice(count, coordinates(target), uniform));
  return {
    real: matrix(count, 2, real),
    latents: matrix(count, recipe.latent_dim, latents(recipe.prior, lattice(count, recipe.latent_dim, uniform))),
    kernels: matrix(count / 2, recipe.latent_dim, latents(recipe.prior, lattice(count / 2, recipe.latent_dim, uniform))),
  };
}

// q around push-forward kernels: at each latent z_i a Gaussian N(G(c z_i), s^2 J J^T + e^2 I). Log density at a point.
export function density(gen, kernelLatents, scaleOfTarget, shrink) {
  const c = Math.sqrt(1 - shrink * shrink), count = kernelLatents.rows;
  const { points, dx, dy } = jacobians(gen, matrix(count, kernelLatents.cols, kernelLatents.data.map((z) => c * z)));
  const floor = (FLOOR * scaleOfTarget) ** 2, kernels = new Float64Array(6 * count);
  for (let i = 0; i < count; i++) {
    let xx = floor, xy = 0, yy = floor;
    for (let j = 0; j < dx.cols; j++) {
      const a = dx.data[i * dx.cols + j], b = dy.data[i * dx.cols + j];
      xx += shrink * shrink * a * a;
      xy += shrink * shrink * a * b;
      yy += shrink * shrink * b * b;
    }
    const det = Math.max(xx * yy - xy * xy, floor * floor);
    kernels.set([points.data[2 * i], points.data[2 * i + 1], yy / det, -xy / det, xx / det, -0.5 * Math.log(det)], 6 * i);
  }
  const constant = -Math.log(2 * Math.PI * count), logs = new Float64Array(count);
  return (x, y) => {
    let most = -Infinity;
    for (let i = 0, k = 0; i < count; i++, k += 6) {
      const a = x - kernels[k], b = y - kernels[k + 1];
      const log = kernels[k + 5] - 0.5 * (kernels[k + 2] * a * a + 2 * kernels[k + 3] * a * b + kernels[k + 4] * b * b);
      logs[i] = log;
      if (log > most) most = log;
    }
    let sum = 0;
    for (let i = 0; i < count; i++) if (logs[i] > most - 30) sum += Math.exp(logs[i] - most);
    return constant + most + Math.log(sum);
  };
}

// max_D V from below: the loss's critic at log p - log q (q by kernels at other latents than the nodes', of each width and
// all together) on the nodes; the best of them, or D's own value where that is larger. NaN where no critic is known.
function bestValue(game, nodes_, points, value) {
  const loss = LOSSES[game.recipe.loss], { numbers } = game.recipe, each = SHRINKS.length;
  if (!loss.critic) return NaN;
  const ofWidth = SHRINKS.map((shrink) => density(game.gen, nodes_.kernels, game.target.scale, shrink));
  const judged = (data) => {
    const count = Math.min(data.length / 2, BEST_NODES), out = Array.from({ length: each + 1 }, () => new Float64Array(count));
    for (let i = 0; i < count; i++) {
      const x = data[2 * i], y = data[2 * i + 1], p = logDensity(game.target, x, y), logs = ofWidth.map((q) => q(x, y));
      const most = Math.max(...logs);
      logs.push(most + Math.log(logs.reduce((sum, log) => sum + Math.exp(log - most), 0) / each));
      logs.forEach((q, k) => (out[k][i] = loss.critic(clamped(p - q), numbers)));
    }
    return out.map((outputs) => matrix(count, 1, outputs));
  };
  const real = judged(nodes_.real.data), fake = judged(points.data);
  return Math.max(value, ...real.map((_, k) => -loss.disc(real[k], fake[k], numbers).data[0]).filter(Number.isFinite));
}

function clamped(ratio) {
  return Number.isNaN(ratio) ? 0 : Math.min(Math.max(ratio, -BOUND), BOUND);
}

// What is known of the players at hand: {value, best, lag, equilibrium, accuracy, modes, covered, share}.
export function measure(game, nodes_, withBest = true) {
  return pooled(() => measured(game, nodes_, withBest));
}

function measured(game, nodes_, withBest) {
  const loss = LOSSES[game.recipe.loss], { numbers } = game.recipe;
  const points = generate(game.gen, nodes_.latents);
  const real = discriminate(game.disc, nodes_.real), fake = discriminate(game.disc, points);
  const value = -loss.disc(real, fake, numbers).data[0];
  const best = withBest ? bestValue(game, nodes_, points, value) : NaN;
  let accuracy = NaN;
  if (loss.decision) {
    const at = loss.decision(numbers);
    const right = real.data.filter((x) => x > at).length + fake.data.filter((x) => x <= at).length;
    accuracy = right / (2 * real.rows);
  }
  const found = coverage(game.target, points.data);
  return { value, best, lag: best - value, equilibrium: loss.equilibrium(numbers), accuracy, ...found };
}
