// Unit tests of the page's modules, by Node's own test runner: node --test DIR. GANDYN_JS names the folder of the modules.

import test from "node:test";
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const load = (name) => import(pathToFileURL(`${process.env.GANDYN_JS}/${name}.js`));
const tape = await load("tape");
const functions = await load("functions");
const { half } = await load("arrays");
const { LOSSES } = await load("losses");
const { uniforms, normals, quantile, lattice } = await load("randomness");
const { painted, transform, logDensity, coverage } = await load("targets");
const { initial, generate } = await load("networks");
const { density, nodes, measure } = await load("truth");
const { View } = await load("view");
const { ticks, range, shown } = await load("numbers");
const { numbersRead, toml } = await load("recipe");

const near = (a, b, tolerance = 1e-6) => assert.ok(Math.abs(a - b) <= tolerance * Math.max(1, Math.abs(b)), `${a} is not ${b}`);

test("products against sums written out", () => {
  const a = tape.matrix(2, 3, [1, 2, 3, 4, 5, 6]), b = tape.matrix(3, 2, [1, 0, 2, -1, 0, 3]);
  assert.deepEqual(Array.from(tape.multiply(a, b).data), [5, 7, 14, 13]);
  assert.deepEqual(Array.from(tape.multiplyBT(a, a).data), [14, 32, 32, 77]);
  assert.deepEqual(Array.from(tape.multiplyAT(a, a).data), [17, 22, 27, 22, 29, 36, 27, 36, 45]);
  assert.throws(() => tape.matrix(2, 2, [1, 2, 3]), RangeError);
});

test("first and second derivatives against differences", () => {
  for (const [name, fs] of Object.entries(functions.ACTIVATIONS))
    for (const x of [-2.3, -0.7, 0.4, 1.9])
      for (let order = 0; order < 2; order++) {
        const h = 1e-5, difference = (fs[order](x + h) - fs[order](x - h)) / (2 * h);
        assert.ok(Math.abs(fs[order + 1](x) - difference) < 1e-6, `${name} ${order} at ${x}: ${fs[order + 1](x)}, ${difference}`);
      }
});

test("a gradient of a gradient", () => {
  const x = tape.matrix(1, 2, [0.3, -0.8]), y = tape.total(tape.apply(tape.times(x, x), functions.ACTIVATIONS.tanh));
  const [g] = tape.gradients(y, [x]), norm = tape.total(tape.apply(g, functions.SQUARE)), [gg] = tape.gradients(norm, [x]);
  const value = (v) => v.reduce((sum, t) => sum + (2 * t * (1 - Math.tanh(t * t) ** 2)) ** 2, 0), h = 1e-5;
  [0, 1].forEach((i) => {
    const up = [0.3, -0.8], down = [0.3, -0.8];
    up[i] += h;
    down[i] -= h;
    near(gg.data[i], (value(up) - value(down)) / (2 * h), 1e-6);
  });
  const z = tape.matrix(1, 1, [1]);
  assert.equal(tape.gradients(y, [z])[0].data[0], 0);
});

test("half precision", () => {
  for (const [bits, value] of [[0x3c00, 1], [0xc000, -2], [0x7bff, 65504], [0x0001, 2 ** -24], [0x0400, 2 ** -14], [0x8000, -0]]) assert.equal(half(bits), value);
  assert.ok(Number.isNaN(half(0x7e00)));
  assert.equal(half(0xfc00), -Infinity);
});

test("normal quantiles, against known ones", () => {
  for (const [p, z] of [[0.5, 0], [0.975, 1.959963984540054], [0.001, -3.090232306167813], [1e-6, -4.753424308822899]]) near(quantile(p), z, 1e-7);
});

test("draws have the moments of their distributions", () => {
  const uniform = uniforms(3), normal = normals(uniforms(4)), count = 40000;
  let mean = 0, square = 0, flat = 0;
  for (let i = 0; i < count; i++) {
    const z = normal();
    mean += z / count;
    square += (z * z) / count;
    flat += uniform() / count;
  }
  assert.ok(Math.abs(mean) < 5 / Math.sqrt(count));
  assert.ok(Math.abs(square - 1) < (5 * Math.SQRT2) / Math.sqrt(count));
  assert.ok(Math.abs(flat - 0.5) < 5 * Math.sqrt(1 / 12 / count));
  assert.notEqual(uniforms(3)(), uniforms(4)());
});

test("lattices integrate smooth functions better than draws would", () => {
  const count = 1024, points = lattice(count, 2, uniforms(5));
  let sum = 0;
  for (let i = 0; i < count; i++) sum += (points[2 * i] ** 2 * points[2 * i + 1]) / count;
  assert.ok(Math.abs(sum - 1 / 6) < 2e-3, String(sum)); // of draws the standard deviation is 7e-3
});

test("a painted target is normalized, and sampled where the ink is", () => {
  assert.equal(painted(new Float64Array(9), 3, 3, 1), null);
  const target = painted([0, 0, 0, 0, 0, 3, 0, 1, 0], 3, 3, 1.5);
  near(Math.exp(logDensity(target, 0, 1)), 0.75);
  near(Math.exp(logDensity(target, 1, 0)), 0.25);
  assert.equal(logDensity(target, 5, 0), -Infinity);
  const points = transform(target, lattice(400, 4, uniforms(1)));
  for (let i = 0; i < 400; i++) assert.ok(Number.isFinite(logDensity(target, points[2 * i], points[2 * i + 1])));
  assert.deepEqual(coverage(target, points).covered, []);
});

const flat = { net: "affine", width: 1, depth: 0, activation: "relu", norm: "none", fourier: 0, classes: 0, epsilon: 1e-5 };
const gauss = { kind: "mixture", means: [1, 0], stds: [0.5], weights: [1], center: [1, 0], half: 4, scale: 0.5 };

test("the density of an affine generator is its Gaussian", () => {
  const gen = initial({ ...flat, inputs: 2, outputs: 2 }, normals(uniforms(1)));
  gen.params["Dense_0/kernel"] = tape.matrix(2, 2, [0.5, 0, 0, 0.5]);
  const at = nodes(gauss, { latent_dim: 2, prior: "gaussian" }, 4096), q = density(gen, at.kernels, 0.5, 0.3);
  const points = generate(gen, at.latents).data;
  let apart = 0;
  for (let i = 0; i < 512; i++) apart += Math.abs(q(points[2 * i], points[2 * i + 1]) - logDensity({ ...gauss, means: [0, 0] }, points[2 * i], points[2 * i + 1])) / 512;
  assert.ok(apart < 0.1, String(apart));
});

test("the best value is a lower bound of the closed form, and above D's own", () => {
  // Means two standard deviations apart: 2 JSD - 2 log 2 = -0.712633.
  const gen = initial({ ...flat, inputs: 2, outputs: 2 }, normals(uniforms(1)));
  gen.params["Dense_0/kernel"] = tape.matrix(2, 2, [0.5, 0, 0, 0.5]);
  const disc = initial({ ...flat, net: "mlp", inputs: 2, outputs: 1 }, normals(uniforms(2)));
  const recipe = { loss: "non_saturating", latent_dim: 2, prior: "gaussian", numbers: {} };
  const game = { gen, disc, recipe, target: gauss };
  const found = measure(game, nodes(gauss, recipe, 4096));
  assert.ok(found.best >= found.value);
  assert.ok(Math.abs(found.best + 0.712633) < 0.04, String(found.best));
  near(found.equilibrium, -2 * Math.log(2));
});

test("a loss whose players agree is worth its equilibrium", () => {
  const zero = tape.matrix(4, 1, [0, 0, 0, 0]);
  for (const name of ["minimax", "non_saturating", "relativistic", "f_js", "hinge", "relativistic_hinge", "wasserstein"]) near(-LOSSES[name].disc(zero, zero, {}).data[0], LOSSES[name].equilibrium({}), 1e-12);
});

test("an address says what it can mean, and no more", () => {
  const view = new View(), limits = { run: 9, other: 9, step: 4 };
  const found = view.read("#run=3&step=9&other=-1&rows=lr_gen&nonsense=1&__proto__=2&search=%E0%A4%A&theme=dark", limits);
  assert.deepEqual([found.run, found.step, found.other, found.rows, found.theme, found.search], [3, 0, -1, "lr_gen", "dark", ""]);
  assert.equal(found.nonsense, undefined);
  assert.equal(view.read("#run=-1", limits).run, 0);
  assert.equal(view.read("#run=1.5", limits).run, 0);
});

test("numbers as people read them", () => {
  assert.deepEqual(ticks(0, 1, 4).map((x) => Number(x.toFixed(3))), [0, 0.5, 1]);
  assert.deepEqual([shown(NaN), shown(-1234), shown(0.00012345), shown(2.5)], ["–", "−1,234", "1.23e−4".replace("−", "-").replace("-", "−"), "2.5"]);
  const [low, high] = range([...Array.from({ length: 99 }, (_, i) => i / 99), 1e9]);
  assert.ok(low < 0.1 && high < 10);
});

test("a recipe names the numbers that it reads, and quotes what is text", () => {
  const recipe = { loss: "hinge", penalties: ["r1"], gen_optimizer: "sgd", disc_optimizer: "adam", numbers: { lr_gen: 1, lr_disc: 2, beta1_gen: 3, beta1_disc: 0.5, beta2_disc: 0.9, eps_disc: 1e-8, r1_weight: 4, alpha_gen: 5 } };
  assert.deepEqual(Object.keys(numbersRead(recipe)).sort(), ["beta1_disc", "beta2_disc", "eps_disc", "lr_disc", "lr_gen", "r1_weight"]);
  assert.ok(toml({ ...recipe, loss: 'a"b\n' }, { kind: "mixture" }, "ring", 10).includes('loss = "a\\"b\\n"'));
});
