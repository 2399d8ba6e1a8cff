// What each player minimizes: the package's losses, formula by formula, on columns of D's outputs (B, 1).
//
// A loss has disc and gen (real, fake, numbers) -> 1 x 1; V = -disc. critic: log density ratio -> output of the best D,
// where it is known; equilibrium: V at q = p; decision: D's output where real and fake are equally likely.

import { add, apply, everywhere, mean, scale, shift, subtract } from "./tape.js";
import { EXP, EXPM1, RELU, SIGMOID, SOFTPLUS, SQUARE, sigmoid, softplus } from "./functions.js";

const LOG2 = Math.log(2);
const soft = (x) => mean(apply(x, SOFTPLUS));
const minus = (x) => scale(x, -1);
const negativeMean = (real, fake) => minus(mean(fake));
const nonSaturating = (real, fake) => soft(minus(fake));

// ---- logistic

function logisticDisc(real, fake, numbers) {
  const smoothing = numbers.label_smoothing ?? 0, smoothingFake = numbers.label_smoothing_fake ?? 0;
  let loss = add(soft(minus(real)), soft(fake));
  if (smoothing) loss = add(loss, scale(mean(real), smoothing));
  if (smoothingFake) loss = add(loss, scale(mean(fake), -smoothingFake));
  return loss;
}

function logisticCritic(ratio, numbers) {
  const e = numbers.label_smoothing ?? 0, f = numbers.label_smoothing_fake ?? 0;
  if (!e && !f) return ratio;
  const both = (a, b) => Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b)));
  const real = both(Math.log1p(-e) + ratio, Math.log(f));
  return real - both(Math.log(e) + ratio, Math.log1p(-f));
}

function logisticEquilibrium(numbers) {
  const s = (numbers.label_smoothing_fake ?? 0) - (numbers.label_smoothing ?? 0);
  return (1 + s) * Math.log1p(s) + (1 - s) * Math.log1p(-s) - 2 * LOG2;
}

const LOGISTIC = { disc: logisticDisc, critic: logisticCritic, equilibrium: logisticEquilibrium, decision: () => 0, nats: true };

// ---- alpha: l(u) = alpha / (alpha - 1) (1 - u^((alpha - 1) / alpha)) of u = exp(-surprise)

function alphaLog(alpha) {
  const c = (alpha - 1) / alpha;
  if (Math.abs(c) < 1e-4) return [(s) => s - (c / 2) * s * s, (s) => 1 - c * s, () => -c];
  return [(s) => -Math.expm1(-c * s) / c, (s) => Math.exp(-c * s), (s) => -c * Math.exp(-c * s)];
}

const surprise = (x, alpha) => mean(apply(apply(x, SOFTPLUS), alphaLog(alpha)));

const ALPHA = {
  disc: (real, fake, n) => add(surprise(minus(real), n.alpha_disc), surprise(fake, n.alpha_disc)),
  critic: (ratio, n) => n.alpha_disc * ratio,
  equilibrium: (n) => -2 * alphaLog(n.alpha_disc)[0](LOG2),
  decision: () => 0,
  numbers: { alpha_disc: 1, alpha_gen: 1 },
};

// ---- least squares

const squared = (x, aim) => mean(apply(shift(x, -aim), SQUARE));

function leastSquaresDisc(real, fake, n) {
  return add(scale(squared(real, n.label_real), 0.5), scale(squared(fake, n.label_fake), 0.5));
}

const leastSquaresGen = (real, fake, n) => scale(squared(fake, n.label_gen), 0.5);
const leastSquaresCritic = (ratio, n) => n.label_fake + (n.label_real - n.label_fake) * sigmoid(ratio);
const LABELS = { label_fake: 0, label_real: 1, label_gen: 1 };

function sigmoidSquaresCritic(ratio, n) {
  if (n.label_fake === 0 && n.label_real === 1) return ratio;
  const tiny = 2 ** -23, aim = Math.min(Math.max(leastSquaresCritic(ratio, n), tiny), 1 - tiny);
  return Math.log(aim) - Math.log1p(-aim);
}

function sigmoidSquaresEquilibrium(n) {
  const aim = Math.min(Math.max((n.label_real + n.label_fake) / 2, 0), 1);
  return -0.5 * ((aim - n.label_real) ** 2 + (aim - n.label_fake) ** 2);
}

// ---- relativistic: a factor f of differences, in pairs or to the batch's mean

const SOFT = [(d) => softplus(-d), (d) => -sigmoid(-d), (d) => SOFTPLUS[2](d)];
const HINGE = [(d) => Math.max(1 - d, 0), (d) => (1 - d > 0 ? -1 : 0), () => 0];
const SQUARES = [(d) => (d - 1) ** 2, (d) => 2 * (d - 1), () => 2];

function pairing(f, equilibrium, more = {}) {
  const one = (own, other) => mean(apply(subtract(own, other), f));
  return { disc: one, gen: (real, fake) => one(fake, real), equilibrium: () => equilibrium, pairs: true, ...more };
}

function averaging(f, equilibrium, more = {}) {
  const spreadMean = (x) => everywhere(mean(x), x.rows, 1);
  const one = (own, other) =>
    add(mean(apply(subtract(own, spreadMean(other)), f)), mean(apply(subtract(spreadMean(own), other), f)));
  return { disc: one, gen: (real, fake) => one(fake, real), equilibrium: () => equilibrium, pairs: true, couples: true, ...more };
}

// ---- f-divergences

const reverseDisc = (real, fake) => add(mean(apply(minus(real), EXPM1)), mean(fake));
const hellingerDisc = (real, fake) => add(mean(apply(minus(real), EXPM1)), mean(apply(fake, EXPM1)));
const quarter = (x) => add(scale(mean(apply(x, SQUARE)), 0.25), mean(x));

export const LOSSES = {
  minimax: { ...LOGISTIC, gen: (real, fake) => minus(soft(fake)) },
  non_saturating: { ...LOGISTIC, gen: nonSaturating },
  mean_logit: { ...LOGISTIC, gen: negativeMean },
  wasserstein: { disc: (real, fake) => subtract(mean(fake), mean(real)), gen: negativeMean, equilibrium: () => 0 },
  hinge: {
    disc: (real, fake) => add(mean(apply(shift(minus(real), 1), RELU)), mean(apply(shift(fake, 1), RELU))),
    gen: negativeMean,
    critic: (ratio) => Math.sign(ratio),
    equilibrium: () => -2,
    decision: () => 0,
  },
  least_squares: {
    disc: leastSquaresDisc,
    gen: leastSquaresGen,
    critic: leastSquaresCritic,
    equilibrium: (n) => -0.25 * (n.label_real - n.label_fake) ** 2,
    decision: (n) => (n.label_real + n.label_fake) / 2,
    numbers: LABELS,
  },
  least_squares_sigmoid: {
    disc: (real, fake, n) => leastSquaresDisc(apply(real, SIGMOID), apply(fake, SIGMOID), n),
    gen: (real, fake, n) => leastSquaresGen(apply(real, SIGMOID), apply(fake, SIGMOID), n),
    critic: sigmoidSquaresCritic,
    equilibrium: sigmoidSquaresEquilibrium,
    decision: (n) => sigmoidSquaresCritic(0, n),
    numbers: LABELS,
  },
  relativistic: pairing(SOFT, -LOG2, { critic: (ratio) => ratio, nats: true }),
  relativistic_hinge: pairing(HINGE, -1),
  relativistic_least_squares: pairing(SQUARES, -1),
  relativistic_average: averaging(SOFT, -2 * LOG2, { nats: true }),
  relativistic_average_hinge: averaging(HINGE, -2),
  relativistic_average_least_squares: averaging(SQUARES, -2),
  alpha: { ...ALPHA, gen: (real, fake, n) => minus(surprise(fake, n.alpha_gen)) },
  alpha_non_saturating: { ...ALPHA, gen: (real, fake, n) => surprise(minus(fake), n.alpha_gen) },
  f_kl: {
    disc: (real, fake) => subtract(mean(apply(shift(fake, -1), EXP)), mean(real)),
    gen: negativeMean,
    critic: (ratio) => 1 + ratio,
    equilibrium: () => 0,
    decision: () => 1,
    nats: true,
  },
  f_reverse_kl: {
    disc: reverseDisc,
    gen: (real, fake) => mean(apply(minus(fake), EXP)),
    critic: (ratio) => ratio,
    equilibrium: () => 0,
    decision: () => 0,
    nats: true,
  },
  f_pearson: {
    disc: (real, fake) => subtract(quarter(fake), mean(real)),
    gen: negativeMean,
    critic: (ratio) => 2 * Math.expm1(ratio),
    equilibrium: () => 0,
    decision: () => 0,
  },
  f_hellinger: {
    disc: hellingerDisc,
    gen: (real, fake) => mean(apply(minus(fake), EXPM1)),
    critic: (ratio) => ratio / 2,
    equilibrium: () => 0,
    decision: () => 0,
  },
  f_js: {
    disc: (real, fake) => shift(add(soft(minus(real)), soft(fake)), -2 * LOG2),
    gen: (real, fake) => shift(nonSaturating(real, fake), -LOG2),
    critic: (ratio) => ratio,
    equilibrium: () => 0,
    decision: () => 0,
    nats: true,
  },
};
