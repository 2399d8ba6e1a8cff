// Training on: gradients of both players, optimizers, one update, one step. The package's own formulas.
//
// A game is {recipe, gen, disc, memory, target, step}: `recipe` = {loss, penalties, rule, disc_steps, gen_steps,
// batch_size, prior, latent_dim, gen_optimizer, disc_optimizer} and its `numbers`.

import { add, apply, gradients, matrix, mean, pooled, scale, shift, sumColumns, times, total, widen } from "./tape.js";
import { RELU, ROOT, SQUARE } from "./functions.js";
import { discriminate, generate, slopes } from "./networks.js";
import { LOSSES } from "./losses.js";
import { coordinates, transform } from "./targets.js";
import { quantile } from "./randomness.js";

// ---- what an update draws

// Latents (N, Z), flat, from uniforms in (0, 1).
export function latents(prior, uniform) {
  return uniform.map(prior === "uniform" ? (u) => 2 * u - 1 : quantile);
}

// A minibatch: {real (B, 2), latents (B, Z), share (B, 1) for penalties between pairs}, matrices.
export function draw(game, uniform) {
  const { batch_size: size, latent_dim: dim, prior } = game.recipe;
  const some = (count) => Float64Array.from({ length: count }, uniform);
  const real = transform(game.target, some(size * coordinates(game.target)));
  return {
    real: matrix(size, 2, real),
    latents: matrix(size, dim, latents(prior, some(size * dim))),
    share: matrix(size, 1, some(size)),
  };
}

// ---- penalties, on D's side

const WEIGHTED = { r1: 0.5, r2: 0.5, zero_centred: 1 };

function between(batch, fake) {
  const share = widen(batch.share, 2);
  return add(times(share, batch.real), times(shift(scale(share, -1), 1), fake));
}

function penalty(name, game, batch, fake) {
  const { numbers } = game.recipe, weight = numbers[`${name}_weight`];
  if (name === "l2") {
    const squares = Object.values(game.disc.params).map((x) => total(apply(x, SQUARE)));
    return scale(squares.reduce(add), 0.5 * weight);
  }
  const free = { r1: () => batch.real, r2: () => fake }[name] ?? (() => between(batch, fake));
  const points = matrix(fake.rows, 2, free().data);
  const squared = sumColumns(apply(slopes(game.disc, points), SQUARE));
  if (name in WEIGHTED) return scale(mean(squared), WEIGHTED[name] * weight);
  let away = shift(apply(squared, ROOT), -(numbers[`${name}_norm`] ?? 1));
  if (name === "wgan_lp") away = apply(away, RELU);
  return scale(mean(apply(away, SQUARE)), weight);
}

// ---- gradients

// Of D: {loss, penalty, gradient by name}, on a batch of fakes that are given (no gradient goes through G).
export function discGradient(game, batch) {
  const { loss, penalties, numbers } = game.recipe;
  const made = generate(game.gen, batch.latents), fake = matrix(made.rows, made.cols, made.data);
  const value = LOSSES[loss].disc(discriminate(game.disc, batch.real), discriminate(game.disc, fake), numbers);
  const terms = penalties.filter((name) => name !== "clip").map((name) => penalty(name, game, batch, fake));
  const objective = terms.reduce(add, value), names = Object.keys(game.disc.params);
  const found = gradients(objective, names.map((name) => game.disc.params[name]));
  const weight = terms.reduce((sum, term) => sum + term.data[0], 0);
  return { loss: value.data[0], penalty: weight, gradient: named(names, found) };
}

// Of G: {loss, gradient by name}.
export function genGradient(game, batch) {
  const { loss, numbers } = game.recipe;
  const fake = generate(game.gen, batch.latents);
  const real = LOSSES[loss].pairs ? discriminate(game.disc, batch.real) : matrix(1, 1, [0]);
  const value = LOSSES[loss].gen(real, discriminate(game.disc, fake), numbers);
  const names = Object.keys(game.gen.params);
  return { loss: value.data[0], gradient: named(names, gradients(value, names.map((name) => game.gen.params[name]))) };
}

// What moves each fake: minus the gradient of G's loss by its samples, (N, 2), of samples at points (N, 2).
export function pull(game, points) {
  const { loss, numbers } = game.recipe;
  const fake = matrix(points.length / 2, 2, points);
  const real = LOSSES[loss].pairs ? discriminate(game.disc, game.someReal ?? fake) : matrix(1, 1, [0]);
  const value = LOSSES[loss].gen(real, discriminate(game.disc, fake), numbers);
  return gradients(value, [fake])[0].data.map((x) => -x * fake.rows);
}

function named(names, found) {
  return Object.fromEntries(names.map((name, i) => [name, found[i].data]));
}

// ---- optimizers: the update of one player in place

const DEFAULTS = {
  sgd: {},
  momentum: { beta1: 0.5 },
  adam: { beta1: 0.5, beta2: 0.999, eps: 1e-8 },
  adamw: { beta1: 0.5, beta2: 0.999, eps: 1e-8, weight_decay: 1e-4 },
  rmsprop: { beta2: 0.99, eps: 1e-8 },
};

export const OPTIMIZERS = Object.keys(DEFAULTS);

// The numbers of a player's optimizer, those left out at the package's defaults: {lr, beta1, ...}.
export function optimizerNumbers(optimizer, numbers, player) {
  const own = { lr: numbers[`lr_${player}`] ?? 1e-3 };
  for (const [name, value] of Object.entries(DEFAULTS[optimizer])) own[name] = numbers[`${name}_${player}`] ?? value;
  return own;
}

function memoryOf(memory, kind, name, length) {
  const of = (memory[kind] ??= {});
  return (of[name] ??= new Float64Array(length));
}

export function update(optimizer, params, gradient, memory, own) {
  memory.count = (memory.count ?? 0) + 1;
  const { lr, beta1, beta2, eps } = own, adam = optimizer.startsWith("adam");
  const first = 1 - beta1 ** memory.count, second = 1 - beta2 ** memory.count;
  for (const [name, g] of Object.entries(gradient)) {
    const values = params[name].data.slice(), size = values.length;
    if (optimizer === "sgd") for (let i = 0; i < size; i++) values[i] -= lr * g[i];
    if (optimizer === "momentum") {
      const trace = memoryOf(memory, "trace", name, size);
      for (let i = 0; i < size; i++) values[i] -= lr * (trace[i] = g[i] + beta1 * trace[i]);
    }
    if (optimizer === "rmsprop") {
      const nu = memoryOf(memory, "nu", name, size);
      for (let i = 0; i < size; i++) {
        nu[i] = beta2 * nu[i] + (1 - beta2) * g[i] * g[i];
        values[i] -= (lr * g[i]) / (Math.sqrt(nu[i]) + eps);
      }
    }
    if (adam) {
      const mu = memoryOf(memory, "mu", name, size), nu = memoryOf(memory, "nu", name, size);
      const decay = optimizer === "adamw" ? own.weight_decay : 0;
      for (let i = 0; i < size; i++) {
        mu[i] = beta1 * mu[i] + (1 - beta1) * g[i];
        nu[i] = beta2 * nu[i] + (1 - beta2) * g[i] * g[i];
        values[i] -= lr * (mu[i] / first / (Math.sqrt(nu[i] / second) + eps) + decay * values[i]);
      }
    }
    params[name] = matrix(params[name].rows, params[name].cols, values);
  }
}

// ---- turns and steps

// One update of D; the losses at it.
export function discTurn(game, batch) {
  return pooled(() => discMove(game, batch));
}

// One update of G; its loss at it.
export function genTurn(game, batch) {
  return pooled(() => genMove(game, batch));
}

function discMove(game, batch) {
  const { recipe, memory } = game, found = discGradient(game, batch);
  update(recipe.disc_optimizer, game.disc.params, found.gradient, memory.disc, optimizerNumbers(recipe.disc_optimizer, recipe.numbers, "disc"));
  if (recipe.penalties.includes("clip")) {
    const bound = recipe.numbers.clip_bound;
    for (const one of Object.values(game.disc.params)) one.data.forEach((x, i) => (one.data[i] = Math.min(Math.max(x, -bound), bound)));
  }
  return { loss: found.loss, penalty: found.penalty };
}

function genMove(game, batch) {
  const { recipe, memory } = game, found = genGradient(game, batch);
  update(recipe.gen_optimizer, game.gen.params, found.gradient, memory.gen, optimizerNumbers(recipe.gen_optimizer, recipe.numbers, "gen"));
  return { loss: found.loss };
}

// One step: D's updates and G's in the order of the recipe, each on a fresh batch. only: "disc" or "gen" leaves the
// other player as it is. Returns the losses at the last updates.
export function step(game, uniform, only = "") {
  const { recipe } = game, seen = {};
  const disc = () => (seen.disc = discTurn(game, draw(game, uniform)));
  const gen = () => (seen.gen = genTurn(game, draw(game, uniform)));
  if (recipe.rule === "simultaneous" && !only) {
    const batch = draw(game, uniform), before = { ...game, disc: { ...game.disc, params: { ...game.disc.params } } };
    seen.disc = discTurn(game, batch);
    seen.gen = genTurn({ ...before, gen: game.gen }, batch);
  } else {
    const turns = [[disc, only === "gen" ? 0 : recipe.disc_steps], [gen, only === "disc" ? 0 : recipe.gen_steps]];
    if (recipe.first === "gen") turns.reverse();
    for (const [turn, times_] of turns) for (let i = 0; i < times_; i++) turn();
  }
  game.step += 1;
  return { loss_disc: seen.disc?.loss ?? NaN, penalty: seen.disc?.penalty ?? NaN, loss_gen: seen.gen?.loss ?? NaN };
}
