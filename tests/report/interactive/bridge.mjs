// Runs the page's modules on what a test wrote: node bridge.mjs TASKS.json ANSWERS.json

import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [, , folder, from, to] = process.argv;
const load = (name) => import(pathToFileURL(`${folder}/${name}.js`));
const { matrix } = await load("tape");
const networks = await load("networks");
const training = await load("training");
const truth = await load("truth");
const targets = await load("targets");
const { inflate, unpack } = await load("arrays");
const { states } = await load("sweep");
const { LOSSES } = await load("losses");
const { uniforms } = await load("randomness");
const { toml, python } = await load("recipe");

const rows = (values, cols) => matrix(values.length / cols, cols, values);
const plain = (arrays) => Object.fromEntries(Object.entries(arrays).map(([name, values]) => [name, Array.from(values)]));

function gameOf(task) {
  const { recipe, target } = task;
  const gen = networks.player(task.networks.gen, task.gen), disc = networks.player(task.networks.disc, task.disc);
  return { recipe, gen, disc, memory: { gen: {}, disc: {} }, target, step: 0 };
}

const batchOf = (task) => ({ real: rows(task.real, 2), latents: rows(task.latents, task.recipe.latent_dim), share: rows(task.share, 1) });

const ANSWERS = {
  evaluate(task) {
    const game = gameOf(task);
    const samples = networks.generate(game.gen, rows(task.latents, task.networks.gen.inputs), task.label);
    const outputs = networks.discriminate(game.disc, rows(task.points, task.networks.disc.inputs), task.label);
    return { samples: Array.from(samples.data), outputs: Array.from(outputs.data) };
  },
  gradients(task) {
    const game = gameOf(task), batch = batchOf(task);
    const disc = training.discGradient(game, batch), gen = training.genGradient(game, batch);
    return { loss_disc: disc.loss, penalty: disc.penalty, loss_gen: gen.loss, disc: plain(disc.gradient), gen: plain(gen.gradient) };
  },
  updates(task) {
    const params = { w: matrix(1, task.start.length, task.start) }, memory = {};
    for (const gradient of task.gradients) training.update(task.optimizer, params, { w: Float64Array.from(gradient) }, memory, task.numbers);
    return Array.from(params.w.data);
  },
  critics(task) {
    return Object.fromEntries(Object.entries(task.losses).map(([name, numbers]) => [name, { critic: LOSSES[name].critic ? task.ratios.map((r) => LOSSES[name].critic(r, numbers)) : null, equilibrium: LOSSES[name].equilibrium(numbers) }]));
  },
  target(task) {
    const samples = targets.transform(task.target, Float64Array.from(task.uniform));
    const points = task.points, logs = [];
    for (let i = 0; i < points.length; i += 2) logs.push(targets.logDensity(task.target, points[i], points[i + 1]));
    return { samples: Array.from(samples), logs: logs.map((x) => (x === -Infinity ? "-inf" : x)), coverage: targets.coverage(task.target, Float64Array.from(points)) };
  },
  measure(task) {
    const game = gameOf(task);
    return truth.measure(game, truth.nodes(game.target, game.recipe, task.count));
  },
  train(task) {
    const game = gameOf(task), uniform = uniforms(task.seed), nodes = truth.nodes(game.target, game.recipe, 1024);
    const found = [];
    for (let i = 0; i < task.steps; i++) {
      training.step(game, uniform);
      if ((i + 1) % task.every === 0) found.push(truth.measure(game, nodes).value);
    }
    return found;
  },
  async unpack(task) {
    const bytes = await inflate(task.text);
    return Object.fromEntries(Object.entries(task.entries).map(([name, entry]) => [name, Array.from(unpack(entry, bytes), (x) => (Number.isFinite(x) ? x : String(x)))]));
  },
  async fork(task) {
    const bytes = await inflate(task.text), { about } = task;
    const kept = states(about, task.entries, bytes), state = kept.find((one) => one.step === task.step);
    const game = { recipe: { ...about.config, numbers: about.numbers }, gen: state.gen, disc: state.disc, memory: state.memory, target: about.target, step: state.step };
    const uniform = uniforms(task.seed), nodes = truth.nodes(game.target, game.recipe, 2048), found = [truth.measure(game, nodes, false).value];
    for (let i = 0; i < task.steps; i++) {
      training.step(game, uniform);
      if ((i + 1) % task.every === 0) found.push(truth.measure(game, nodes, false).value);
    }
    return { values: found, remembers: state.remembers };
  },
  recipe(task) {
    return { toml: toml(task.recipe, task.target, task.name, task.steps), python: python(task.recipe, task.target, task.name, task.steps) };
  },
};

const tasks = JSON.parse(readFileSync(from, "utf8"));
const answers = [];
for (const task of tasks) answers.push(await ANSWERS[task.do](task));
writeFileSync(to, JSON.stringify(answers));
