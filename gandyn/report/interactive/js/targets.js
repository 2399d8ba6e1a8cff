// Densities in the plane that are known: mixtures of Gaussians, and tables of cells (painted by hand, too).
//
// A target is what snapshots.arrays_of gives: {kind: "mixture", means, stds, weights, shapes?, modes?} or
// {kind: "table", size: [W, H], density (W, H), origin, cell}, with center, half and scale.

import { quantile } from "./randomness.js";

// How many uniforms make one sample.
export function coordinates(target) {
  return target.kind === "table" ? 4 : 3;
}

function cumulative(target) {
  if (target.sums) return target.sums;
  let sum = 0;
  const masses = target.kind === "table" ? target.density : target.weights;
  target.sums = Float64Array.from(masses, (mass) => (sum += mass));
  return target.sums;
}

function pick(sums, share) {
  let low = 0, high = sums.length - 1;
  const aim = share * sums[high];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sums[middle] > aim) high = middle;
    else low = middle + 1;
  }
  return low;
}

// Samples (N, 2), flat, from uniforms (N, coordinates), flat.
export function transform(target, uniform) {
  const dim = coordinates(target), count = uniform.length / dim, points = new Float64Array(2 * count);
  const sums = cumulative(target);
  for (let i = 0; i < count; i++) {
    const u = uniform.subarray(i * dim, (i + 1) * dim), k = pick(sums, u[0]);
    if (target.kind === "table") {
      const column = Math.floor(k / target.size[1]), row = k % target.size[1];
      points[2 * i] = target.origin[0] + (column + u[2]) * target.cell[0];
      points[2 * i + 1] = target.origin[1] + (row + u[3]) * target.cell[1];
      continue;
    }
    let x = quantile(u[1]), y = quantile(u[2]);
    const s = target.shapes;
    if (s) [x, y] = [s[4 * k] * x + s[4 * k + 1] * y, s[4 * k + 2] * x + s[4 * k + 3] * y];
    points[2 * i] = target.means[2 * k] + target.stds[k] * x;
    points[2 * i + 1] = target.means[2 * k + 1] + target.stds[k] * y;
  }
  return points;
}

// Squared distance of a point to component k in its stds (Mahalanobis' with shapes).
function squaredDistance(target, k, x, y) {
  let a = (x - target.means[2 * k]) / target.stds[k], b = (y - target.means[2 * k + 1]) / target.stds[k];
  const s = target.shapes;
  if (s) {
    a /= s[4 * k];
    b = (b - s[4 * k + 2] * a) / s[4 * k + 3];
  }
  return a * a + b * b;
}

// Log density in nats at one point; -Infinity where there is no mass.
export function logDensity(target, x, y) {
  if (target.kind === "table") {
    const column = Math.floor((x - target.origin[0]) / target.cell[0]);
    const row = Math.floor((y - target.origin[1]) / target.cell[1]);
    if (column < 0 || row < 0 || column >= target.size[0] || row >= target.size[1]) return -Infinity;
    return Math.log(target.density[column * target.size[1] + row]);
  }
  let most = -Infinity;
  const logs = target.stds.map((std, k) => {
    const log = Math.log(target.weights[k]) - Math.log(2 * Math.PI) - 2 * Math.log(std) - squaredDistance(target, k, x, y) / 2;
    most = Math.max(most, log);
    return log;
  });
  if (most === -Infinity) return most;
  let sum = 0;
  for (const log of logs) sum += Math.exp(log - most);
  return most + Math.log(sum);
}

// The modes that are counted: {means (flat), weights, stds}, none for tables and where groups are not counted.
export function modes(target) {
  if (target.kind === "table" || !target.means) return { means: [], weights: [], stds: [] };
  if (!target.modes) return { means: target.means, weights: target.weights, stds: target.stds };
  const count = target.modes.length ? Math.max(...target.modes) + 1 : 0;
  const found = { means: new Array(2 * count).fill(0), weights: new Array(count).fill(0), stds: new Array(count).fill(0) };
  target.modes.forEach((mode, k) => {
    const weight = target.weights[k];
    found.weights[mode] += weight;
    found.means[2 * mode] += weight * target.means[2 * k];
    found.means[2 * mode + 1] += weight * target.means[2 * k + 1];
    found.stds[mode] += weight * target.stds[k];
  });
  for (let mode = 0; mode < count; mode++) {
    found.means[2 * mode] /= found.weights[mode];
    found.means[2 * mode + 1] /= found.weights[mode];
    found.stds[mode] /= found.weights[mode];
  }
  return found;
}

// Share of points (flat) within `radius` stds of a component of each mode, and how many modes have a quarter of their
// weight (the package's convention "mass"): {share, covered (booleans), modes}.
export function coverage(target, points, radius = 3) {
  const { weights } = modes(target), share = new Array(weights.length).fill(0), count = points.length / 2;
  for (let i = 0; i < count; i++) {
    let best = Infinity, nearest = 0;
    for (let k = 0; k < (target.stds?.length ?? 0); k++) {
      const squared = squaredDistance(target, k, points[2 * i], points[2 * i + 1]);
      // Isotropic components are compared by the distance itself, as the package does.
      const distance = target.shapes ? squared : squared * target.stds[k] ** 2;
      if (distance < best) [best, nearest] = [distance, k];
    }
    if (!share.length || best === Infinity) continue;
    if (squaredDistance(target, nearest, points[2 * i], points[2 * i + 1]) <= radius * radius)
      share[target.modes?.length ? target.modes[nearest] : nearest] += 1 / count;
  }
  const covered = weights.map((weight, k) => share[k] > 0 && share[k] >= 0.25 * weight);
  return { share, covered, modes: covered.filter(Boolean).length };
}

// A target from a painted picture of W x H amounts of ink, column by column, over [-half, half]^2; null without any ink.
export function painted(ink, width, height, half) {
  const total = ink.reduce((sum, amount) => sum + amount, 0);
  if (!(total > 0)) return null;
  const cell = [(2 * half) / width, (2 * half) / height];
  const density = Array.from(ink, (amount) => amount / total / (cell[0] * cell[1]));
  return { kind: "table", size: [width, height], density, origin: [-half, -half], cell, center: [0, 0], half, scale: cell[0] };
}
