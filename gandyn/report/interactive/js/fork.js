// Training in the page: from a state of a run, or from scratch on a picked or painted target; with what is known of it.

import { Canvas, button, colour, element, onDrag, select } from "./dom.js";
import { Plane } from "./plane.js";
import { clamp, grouped, range, shown, ticks } from "./numbers.js";
import { explain, titled } from "./help.js";
import { LOSSES } from "./losses.js";
import { OPTIMIZERS } from "./training.js";
import { PARTS } from "./worker.js";
import { painted } from "./targets.js";
import { initial } from "./networks.js";
import { normals, uniforms } from "./randomness.js";
import { python, toml } from "./recipe.js";
import { layerBoxes } from "./run.js";

const PENALTIES = ["r1", "r2", "wgan_gp", "wgan_lp", "zero_centred", "l2", "clip"];
const DEFAULT_NUMBERS = { r1_weight: 0.1, r2_weight: 0.1, wgan_gp_weight: 10, wgan_gp_norm: 1, wgan_lp_weight: 10, wgan_lp_norm: 1, zero_centred_weight: 1, l2_weight: 1e-4, clip_bound: 0.1, label_fake: 0, label_real: 1, label_gen: 1, alpha_disc: 1, alpha_gen: 1, label_smoothing: 0, label_smoothing_fake: 0 };
const CELLS = 40;

// A recipe to play with: the package's defaults in small.
export function playRecipe() {
  return {
    loss: "non_saturating", penalties: [], rule: "alternating", disc_steps: 1, gen_steps: 1, first: "disc", batch_size: 128, latent_dim: 2, prior: "gaussian",
    gen_net: "mlp", gen_width: 32, gen_depth: 2, gen_activation: "relu", gen_norm: "none", disc_net: "mlp", disc_width: 32, disc_depth: 2, disc_activation: "leaky_relu", disc_norm: "none",
    initializer: "he_normal", gen_optimizer: "adam", disc_optimizer: "adam",
    numbers: { lr_gen: 2e-3, lr_disc: 1e-3, beta1_gen: 0.5, beta1_disc: 0.5, beta2_gen: 0.999, beta2_disc: 0.999, eps_gen: 1e-8, eps_disc: 1e-8 },
  };
}

function network(recipe, who) {
  const shared = { fourier: 0, pieces: 1, epsilon: 1e-5, classes: 0, norm: "none" };
  return { ...shared, net: recipe[`${who}_net`], width: recipe[`${who}_width`], depth: recipe[`${who}_depth`], activation: recipe[`${who}_activation`], inputs: who === "gen" ? recipe.latent_dim : 2, outputs: who === "gen" ? 2 : 1 };
}

export class Fork {
  constructor(view, known, close) {
    Object.assign(this, { view, known });
    this.lens = { x: 0, y: 0, zoom: 1, changed: () => this.draw() };
    this.plane = new Plane("What is trained in the page", this.lens);
    this.charts = [new Live("V and the best value", [["best", "green", "best value, lower bound"], ["value", "blue", "value V"]]), new Live("Modes covered", [["modes", "blue", "modes"]]), new Live("Losses of the last minibatch", [["loss_disc", "blue", "D's"], ["loss_gen", "orange", "G's"]])];
    this.told = element("p", { class: "told", role: "status" });
    this.parts = element("ol", { class: "parts" }, ...PARTS.map((text) => element("li", { text })));
    this.partSays = element("p", { class: "told" });
    this.controls = element("div", { class: "controls" });
    this.boxes = layerBoxes(view);
    this.playing = button("Go", "Train, or pause (space)", () => this.toggle(), { class: "primary", id: "go" });
    this.title = element("h3", { class: "run-title" });
    this.badge = element("p", { class: "badge", text: "Computed in the browser" });
    this.targets = element("div", { class: "bar", id: "targets" });
    const bar = element("div", { class: "bar" }, this.playing,
      button("1 step", "One step of both players", () => this.order({ do: "steps", count: 1 })),
      button("One part of a step", "The next of the seven parts of a step", () => this.order({ do: "part" })),
      button("?", "About the parts of a step", () => explain("The parts of a step", "substeps"), { class: "about" }),
      button("From the start", "Back to where it began", () => this.begin(this.origin)),
      button("Copy the recipe", "As TOML or Python", () => this.copy()),
      close ? button("Close", "Stop training here", () => { this.stop(); close(); }) : null);
    this.node = element("section", { class: "panel", id: "fork" }, titled(close ? "Trained on in the page" : "Train a GAN", close ? "fork" : "play"), this.badge, this.title, this.targets, bar,
      element("div", { class: "forked" }, element("div", {}, this.plane.canvas.node, this.boxes.node, this.told), element("div", {}, ...this.charts.map((chart) => chart.node), this.partSays, this.parts)), this.controls);
    this.running = false;
    this.only = "";
    this.speed = 0;
  }

  // origin: {recipe, gen, disc, memory, target, step, label, remembers, name, recorded}.
  begin(origin) {
    this.stop();
    this.origin = origin;
    this.recipe = { ...origin.recipe, penalties: [...origin.recipe.penalties], numbers: { ...DEFAULT_NUMBERS, ...origin.recipe.numbers } };
    this.target = origin.target;
    this.answer = null;
    this.best = NaN;
    for (const chart of this.charts) chart.start(origin.recorded, origin.step);
    this.title.textContent = `${origin.label}${origin.remembers === false ? " (the optimizers' memories start afresh)" : ""}`;
    const source = document.getElementById("program").textContent;
    this.address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    this.worker = new Worker(this.address);
    this.worker.onmessage = (event) => this.take(event.data);
    this.worker.onerror = (event) => (this.told.textContent = `The worker stopped: ${event.message}`);
    const copy = (memory) => structuredClone(memory);
    this.order({ do: "start", seed: 1 + (origin.seed ?? 0), game: { recipe: this.recipe, gen: origin.gen, disc: origin.disc, memory: copy(origin.memory), target: origin.target, step: origin.step } });
    this.drawControls();
  }

  stop() {
    this.running = false;
    this.worker?.terminate();
    if (this.address) URL.revokeObjectURL(this.address);
    this.worker = null;
    this.playing.textContent = "Go";
  }

  order(what) {
    this.worker?.postMessage(what);
  }

  toggle() {
    this.running = !this.running;
    this.playing.textContent = this.running ? "Pause" : "Go";
    this.order(this.running ? { do: "go", speed: this.speed, only: this.only } : { do: "pause" });
  }

  again() {
    if (this.running) this.order({ do: "go", speed: this.speed, only: this.only });
  }

  change(changes, numbers = {}) {
    this.recipe = { ...this.recipe, ...changes, numbers: { ...this.recipe.numbers, ...numbers } };
    this.order({ do: "change", recipe: this.recipe });
  }

  take(answer) {
    this.answer = answer;
    const { measured, losses } = answer;
    if (Number.isFinite(measured.best)) this.best = measured.best;
    for (const chart of this.charts) chart.add(answer.at, { ...measured, ...losses });
    if (answer.part) {
      [...this.parts.children].forEach((item, i) => item.classList.toggle("now", i === answer.part.number - 1));
      this.partSays.textContent = `${answer.part.number}. ${answer.part.text}`;
    }
    const { value, accuracy, share } = measured, best = LOSSES[this.recipe.loss].critic ? this.best : NaN;
    const modes = share.length ? `, ${measured.modes} of ${share.length} modes` : "";
    this.told.textContent = Number.isFinite(value)
      ? `Step ${grouped(answer.at)}: V ${shown(value)}${Number.isFinite(best) ? `, best value at least ${shown(best)}, lag at least ${shown(best - value)}` : ", no best value is known for this loss"}${modes}${Number.isFinite(accuracy) ? `, D tells ${shown(100 * accuracy)} % right` : ""}.`
      : `Step ${grouped(answer.at)}: it has diverged, its numbers are no longer finite.`;
    if (this.running && !answer.running && answer.part === null && !Number.isFinite(value)) this.toggle();
    this.draw();
  }

  draw() {
    this.boxes.update();
    if (!this.answer) return;
    const { target, recipe, answer } = this, loss = LOSSES[recipe.loss];
    const covered = answer.measured.covered.length ? answer.measured.covered : null;
    this.plane.draw({ target, box: { center: target.center, half: target.half }, gen: answer.gen, disc: answer.disc, recipe, packing: 1, covered, decision: loss.decision?.(recipe.numbers) ?? NaN, logistic: Boolean(loss.nats), layers: new Set(this.view.layers.split(",")), label: 0, count: this.view.count }, !this.running);
    for (const chart of this.charts) chart.draw();
  }

  number(label, name, low = 0) {
    const box = element("input", { type: "number", min: low, step: "any", value: String(this.recipe.numbers[name] ?? ""), "aria-label": label });
    box.addEventListener("change", () => {
      const value = Number(box.value);
      if (box.value !== "" && Number.isFinite(value) && value >= low) this.change({}, { [name]: value });
      else box.value = String(this.recipe.numbers[name]);
    });
    return element("label", { text: `${label} ` }, box);
  }

  whole(label, field, most) {
    const box = element("input", { type: "number", min: 1, max: most, step: 1, value: String(this.recipe[field]), "aria-label": label });
    box.addEventListener("change", () => {
      const value = Math.round(Number(box.value));
      if (value >= 1 && value <= most) this.change({ [field]: value });
      box.value = String(this.recipe[field]);
    });
    return element("label", { text: `${label} ` }, box);
  }

  drawControls() {
    const { recipe } = this;
    const numbersOfLoss = Object.keys(LOSSES[recipe.loss].numbers ?? {});
    const choice = (label, options, value, change) => element("label", { text: `${label} ` }, select(label, options, value, change));
    const again = (changes) => {
      this.change(changes);
      this.drawControls();
    };
    const penalties = PENALTIES.map((name) => {
      const box = element("input", { type: "checkbox", checked: recipe.penalties.includes(name), "aria-label": `penalty ${name}`, onchange: () => again({ penalties: box.checked ? [...this.recipe.penalties, name] : this.recipe.penalties.filter((one) => one !== name) }) });
      return element("span", { class: "pair" }, element("label", {}, box, ` ${name}`), recipe.penalties.includes(name) ? this.number(name === "clip" ? "bound" : "weight", name === "clip" ? "clip_bound" : `${name}_weight`) : null);
    });
    this.controls.replaceChildren(
      choice("Loss", Object.keys(LOSSES), recipe.loss, (loss) => again({ loss })), ...numbersOfLoss.map((name) => this.number(name, name, -Infinity)),
      this.number("lr of G", "lr_gen"), this.number("lr of D", "lr_disc"), this.whole("D's updates a step", "disc_steps", 20), this.whole("G's", "gen_steps", 20), this.whole("Batch", "batch_size", 2048),
      choice("Train", [["", "both"], ["disc", "D only"], ["gen", "G only"]], this.only, (only) => { this.only = only; this.again(); }),
      choice("Speed", [["0", "full"], ["20", "20 steps a second"], ["5", "5 a second"], ["1", "1 a second"]], String(this.speed), (speed) => { this.speed = Number(speed); this.again(); }),
      choice("Order", [["alternating", "alternating"], ["simultaneous", "simultaneous"]], recipe.rule, (rule) => again({ rule })),
      choice("G's optimizer", OPTIMIZERS, recipe.gen_optimizer, (gen_optimizer) => again({ gen_optimizer })), choice("D's optimizer", OPTIMIZERS, recipe.disc_optimizer, (disc_optimizer) => again({ disc_optimizer })),
      element("div", { class: "bar" }, ...penalties));
  }

  copy() {
    const steps = Math.max(2000, this.answer?.at ?? 0), name = this.origin.name ?? "";
    const texts = { TOML: toml(this.recipe, this.target, name, steps), Python: python(this.recipe, this.target, name, steps) };
    const area = element("textarea", { rows: 18, readOnly: true, "aria-label": "Recipe", value: texts.TOML });
    const put = () => {
      area.select();
      document.execCommand("copy");
    };
    const box = element("dialog", { "aria-label": "The recipe" }, element("h2", { text: "The recipe, to run it properly" }),
      element("p", { text: "The TOML goes to gandyn run FILE.toml --out DIR, the Python is a script." }), select("As", ["TOML", "Python"], "TOML", (as) => (area.value = texts[as])), area,
      button("Copy", "Copy to the clipboard", put), button("Close", "Close", () => box.close()));
    box.addEventListener("close", () => box.remove());
    document.body.append(box);
    box.showModal();
  }

  // From scratch: a target to pick or to paint, and networks to choose.
  play(name = "ring") {
    const names = Object.keys(this.known), recipe = this.origin?.recipe && !this.origin.recorded ? this.recipe : playRecipe();
    this.ink ??= new Float64Array(CELLS * CELLS);
    const target = name === "painted" ? (painted(this.ink, CELLS, CELLS, 1.2) ?? this.known[names[0]]) : this.known[name];
    const normal = normals(uniforms((this.tries = (this.tries ?? 0) + 1)));
    this.begin({ recipe, gen: initial(network(recipe, "gen"), normal), disc: initial(network(recipe, "disc"), normal), memory: { gen: {}, disc: {} }, target, step: 0, seed: this.tries, name: name === "painted" ? "" : name, label: name === "painted" ? "A painted target" : `Target: ${name}` });
    const again = (changes) => {
      this.origin.recipe = { ...this.recipe, ...changes };
      this.play(name);
    };
    const size = (label, field, options) => element("label", { text: `${label} ` }, select(label, options.map((x) => [String(x), String(x)]), String(recipe[field]), (x) => again({ [field]: Number(x), ...(field === "gen_width" ? { disc_width: Number(x) } : {}), ...(field === "gen_depth" ? { disc_depth: Number(x) } : {}) })));
    this.targets.replaceChildren(
      element("label", { text: "Target " }, select("Target", [...names, "painted"], name, (x) => this.play(x))),
      size("Width", "gen_width", [8, 16, 32, 64, 128]), size("Depth", "gen_depth", [1, 2, 3]), size("Latents", "latent_dim", [1, 2, 4, 8]),
      button("New networks", "Other initial weights", () => again({})));
    if (name === "painted") this.targets.append(this.painter());
  }

  painter() {
    const canvas = new Canvas("Paint a density here");
    canvas.node.className = "painter";
    const draw = () => {
      if (!canvas.fit(true)) return;
      const cell = canvas.width / CELLS;
      canvas.context.fillStyle = colour("ink");
      this.ink.forEach((amount, i) => {
        canvas.context.globalAlpha = Math.min(amount, 1);
        if (amount > 0.01) canvas.context.fillRect(Math.floor(i / CELLS) * cell, canvas.height - ((i % CELLS) + 1) * cell, cell + 0.5, cell + 0.5);
      });
      canvas.context.globalAlpha = 1;
    };
    onDrag(canvas.node, (x, y) => {
      const cell = canvas.width / CELLS, column = x / cell - 0.5, row = (canvas.height - y) / cell - 0.5;
      for (let i = 0; i < CELLS; i++) for (let j = 0; j < CELLS; j++) this.ink[i * CELLS + j] += 0.5 * Math.exp(-((i - column) ** 2 + (j - row) ** 2) / 2.2);
      this.ink.forEach((amount, i) => (this.ink[i] = amount < 0.01 ? 0 : clamp(amount, 0, 1)));
      draw();
    }, () => {
      const target = painted(this.ink, CELLS, CELLS, 1.2);
      if (!target) return;
      this.target = this.origin.target = target;
      this.order({ do: "target", target });
    });
    requestAnimationFrame(draw);
    const clear = button("Clear", "Start with an empty sheet", () => {
      this.ink.fill(0);
      draw();
    });
    return element("div", { class: "paint" }, canvas.node, clear, element("span", { class: "told", text: "Paint with the pointer; training goes on with what is painted." }));
  }
}

// A curve that grows, beside a recorded one.
class Live {
  constructor(title, lines) {
    this.lines = lines;
    this.canvas = new Canvas(title, 104);
    const head = element("div", { class: "head small" }, element("span", { text: title }));
    for (const [, tint, label] of lines) {
      const key = element("span", { class: "line" });
      key.style.background = `var(--${tint})`;
      head.append(element("span", {}, key, ` ${label}`));
    }
    this.dashed = element("span", { text: "dashed: recorded", hidden: true });
    head.append(this.dashed);
    this.node = element("div", { class: "live" }, head, this.canvas.node);
  }

  start(recorded, step) {
    this.dashed.hidden = !recorded;
    this.recorded = recorded ?? null;
    this.from = step;
    this.points = [];
  }

  add(step, numbers) {
    this.points.push({ step, ...numbers });
    if (this.points.length > 1200) this.points = this.points.filter((_, i) => i % 2 === 0 || i === this.points.length - 1);
  }

  draw() {
    if (!this.canvas.fit() || !this.points.length) return;
    const { context, width, height } = this.canvas, last = this.points[this.points.length - 1], span = Math.max(last.step - this.from, 20);
    // Beside what is recorded, at least its next measurement is in view.
    const steps = this.recorded?.steps ?? [0], gap = steps.length > 1 ? steps[1] - steps[0] : 0;
    const low = this.recorded ? Math.max(steps[0], this.from - Math.max(span, 2 * gap)) : this.from;
    const high = this.from + Math.max(span * 1.03, 1.1 * gap);
    const old = this.recorded ? this.recorded.steps.map((step, s) => ({ step, s })).filter(({ step }) => step >= low && step <= high) : [];
    const of = { best: "value_best", value: "value", modes: "modes", loss_disc: "loss_disc", loss_gen: "loss_gen" };
    const values = this.lines.flatMap(([name]) => [...this.points.map((p) => p[name]), ...old.map(({ s }) => this.recorded.curves[of[name]]?.[s])]);
    const equilibrium = this.lines[0][0] === "best" ? last.equilibrium : NaN, whole = this.lines[0][0] === "modes";
    const limits = range(values.filter((x) => x !== undefined), whole ? [0, last.share.length || 1] : [equilibrium]);
    const x = (step) => 44 + ((step - low) / (high - low)) * (width - 50), y = (v) => 5 + (1 - (v - limits[0]) / (limits[1] - limits[0])) * (height - 24);
    context.font = "10px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (const tick of ticks(...limits, 3)) {
      context.strokeStyle = colour("line");
      context.strokeRect(44, y(tick), width - 50, 0);
      context.fillStyle = colour("soft");
      context.textAlign = "right";
      context.fillText(shown(Number(tick.toPrecision(9))), 40, y(tick));
    }
    context.textAlign = "center";
    for (const tick of ticks(low, high, 4)) if (x(tick) > 54 && x(tick) < width - 20) context.fillText(grouped(tick), x(tick), height - 7);
    if (Number.isFinite(equilibrium)) {
      context.setLineDash([2, 3]);
      context.strokeStyle = colour("soft");
      context.strokeRect(44, y(equilibrium), width - 50, 0);
      context.setLineDash([]);
    }
    const line = (points, get, stroke, dash) => {
      context.strokeStyle = stroke;
      context.setLineDash(dash);
      context.lineWidth = 1.6;
      context.beginPath();
      let open = false;
      for (const point of points) {
        const v = get(point);
        if (!Number.isFinite(v)) continue;
        context[open ? "lineTo" : "moveTo"](x(point.step), y(v));
        open = true;
      }
      context.stroke();
      context.setLineDash([]);
    };
    this.lines.forEach(([name, tint]) => {
      if (this.recorded?.curves[of[name]]) line(old, ({ s }) => this.recorded.curves[of[name]][s], colour(tint), [4, 3]);
      line(this.points, (p) => p[name], colour(tint), []);
    });
    if (old.length) {
      context.strokeStyle = colour("soft");
      context.strokeRect(x(this.from), 4, 0, height - 22);
    }
  }
}
