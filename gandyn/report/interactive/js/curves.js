// Curves over training with one cursor: what a loss is made of, the loss budget, coverage, accuracy, losses, any metric.

import { Canvas, colour, element, onDrag, select } from "./dom.js";
import { clamp, grouped, range, shown, ticks } from "./numbers.js";
import { titled } from "./help.js";

const T7 = 2.365; // 97.5 % of Student's t with 7 degrees of freedom: eight scrambles
const LEFT = 46, RIGHT = 10, TOP = 8, BOTTOM = 20;

export const FIGURES = [
  { id: "value", title: "What the loss is made of", lines: [["value_batch", "orange", "minibatch value"], ["value", "blue", "value V"], ["value_best", "green", "best value"]], level: "equilibrium" },
  { id: "budget", title: "The loss budget", budget: true },
  { id: "coverage", title: "Coverage", lines: [["modes_real", "soft", "as many real samples"], ["modes", "blue", "modes covered"]], zero: true },
  { id: "accuracy", title: "What D tells right", lines: [["accuracy_best", "green", "best D"], ["accuracy", "blue", "this D"], ["accuracy_on_real", "orange", "of real"], ["accuracy_on_fake", "pink", "of fake"]], always: [0.5, 1] },
  { id: "divergence", title: "Distance to the target", lines: [["jsd", "blue", "JSD, lower bound"], ["jsd_deep", "green", "JSD, deep"]], always: [0] },
  { id: "losses", title: "What a log shows", lines: [["loss_disc", "blue", "D's loss"], ["loss_gen", "orange", "G's loss"]] },
  { id: "free", title: "Any metric", free: true },
];

export class Curves {
  constructor(figure, sweep, view) {
    Object.assign(this, { figure, sweep, view });
    this.canvas = new Canvas(figure.title, 150);
    this.canvas.node.classList.add("curve");
    this.reading = element("p", { class: "reading" });
    const head = titled(figure.title, figure.id);
    if (figure.free) {
      this.choice = select("Metric", sweep.names.map((name) => [name, sweep.said.metrics[name].label]), this.metric(), (x) => view.set({ metric: x }));
      head.append(this.choice);
    }
    this.node = element("section", { class: "panel chart", id: `chart-${figure.id}` }, head, this.canvas.node, this.reading);
    onDrag(this.canvas.node, (x) => view.set({ step: this.stepAt(x) }));
  }

  static drawable(figure, sweep) {
    if (figure.free) return sweep.names.length > 0;
    if (figure.budget) return sweep.has("value");
    return figure.lines.some(([name]) => sweep.has(name));
  }

  metric() {
    return this.sweep.has(this.view.metric) ? this.view.metric : (["jsd", "modes", ...this.sweep.names].find((name) => this.sweep.has(name)) ?? "");
  }

  lines() {
    const given = this.figure.free ? [[this.metric(), "blue", this.sweep.said.metrics[this.metric()].label]] : this.figure.lines;
    return given.filter(([name]) => this.sweep.has(name));
  }

  stepAt(x) {
    const { steps } = this.sweep, last = steps[steps.length - 1] || 1;
    const wanted = clamp((x - LEFT) / (this.canvas.width - LEFT - RIGHT), 0, 1) * (last - steps[0]) + steps[0];
    let best = 0;
    steps.forEach((step, s) => (Math.abs(step - wanted) < Math.abs(steps[best] - wanted) ? (best = s) : 0));
    return best;
  }

  x(step) {
    const { steps } = this.sweep, last = steps[steps.length - 1], span = last - steps[0] || 1;
    return LEFT + ((step - steps[0]) / span) * (this.canvas.width - LEFT - RIGHT);
  }

  // Draws what does not move with the cursor once, and the cursor over it.
  draw(anew) {
    if (anew || !this.kept || this.kept.width !== this.canvas.node.clientWidth) {
      if (!this.canvas.fit()) return;
      this.paint();
      this.kept = { width: this.canvas.width, image: this.copy() };
    } else {
      this.canvas.fit();
      this.canvas.context.drawImage(this.kept.image, 0, 0, this.canvas.width, this.canvas.height);
    }
    this.cursor();
  }

  copy() {
    const image = document.createElement("canvas");
    image.width = this.canvas.node.width;
    image.height = this.canvas.node.height;
    if (image.width && image.height) image.getContext("2d").drawImage(this.canvas.node, 0, 0);
    return image;
  }

  paint() {
    const runs = this.view.other >= 0 ? [this.view.run, this.view.other] : [this.view.run];
    if (this.figure.budget) return this.paintBudget(runs[0]);
    const lines = this.lines(), values = [];
    const { run } = this.view, equilibrium = this.figure.level ? this.sweep.ofRun("equilibrium", run) : NaN;
    for (const one of runs) for (const [name] of lines) values.push(...this.sweep.curve(name, one));
    const always = [...(this.figure.always ?? []), ...(this.figure.zero ? [0, this.sweep.realMass(run)?.filter((x) => x > 0).length ?? 1] : []), equilibrium];
    this.limits = range(values, always);
    this.frame();
    if (Number.isFinite(equilibrium)) this.level(equilibrium, "at p = q");
    if (this.figure.id === "accuracy") this.level(0.5, "guessing");
    runs.forEach((one, i) => lines.forEach(([name, tint]) => this.line(name, one, colour(tint), i > 0)));
  }

  y(value) {
    const [low, high] = this.limits;
    return TOP + (1 - (value - low) / (high - low)) * (this.canvas.height - TOP - BOTTOM);
  }

  frame() {
    const { context, width, height } = this.canvas, { steps } = this.sweep, [low, high] = this.limits;
    context.font = "10.5px system-ui, sans-serif";
    context.lineWidth = 1;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const tick of ticks(low, high, 4)) {
      context.strokeStyle = colour("line");
      context.beginPath();
      context.moveTo(LEFT, this.y(tick));
      context.lineTo(width - RIGHT, this.y(tick));
      context.stroke();
      context.fillStyle = colour("soft");
      context.fillText(shown(Number(tick.toPrecision(10))), LEFT - 5, this.y(tick));
    }
    context.textAlign = "center";
    for (const tick of ticks(steps[0], steps[steps.length - 1], Math.max(2, Math.floor(width / 110)))) {
      const at = this.x(tick);
      if (at > LEFT + 12 && at < width - 20) context.fillText(grouped(tick), at, height - 9);
    }
    context.textAlign = "left";
    context.fillText("step", LEFT - 22, height - 9);
    context.save();
    context.beginPath();
    context.rect(LEFT, TOP - 3, width - LEFT - RIGHT, height - TOP - BOTTOM + 6);
    context.restore();
  }

  level(value, text) {
    const { context, width } = this.canvas;
    context.strokeStyle = colour("soft");
    context.setLineDash([2, 3]);
    context.beginPath();
    context.moveTo(LEFT, this.y(value));
    context.lineTo(width - RIGHT, this.y(value));
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = colour("soft");
    context.textAlign = "right";
    context.fillText(text, width - RIGHT - 2, this.y(value) - 6);
  }

  within(draw) {
    const { context, width, height } = this.canvas;
    context.save();
    context.beginPath();
    context.rect(LEFT, TOP - 3, width - LEFT - RIGHT, height - TOP - BOTTOM + 6);
    context.clip();
    draw(context);
    context.restore();
  }

  line(name, run, stroke, dashed) {
    const values = this.sweep.curve(name, run), errors = this.sweep.curve(`${name}_se`, run), { steps } = this.sweep;
    this.within((context) => {
      if (errors && !dashed) this.band(steps, values, errors, stroke);
      context.strokeStyle = stroke;
      context.lineWidth = name === "value_batch" ? 1.1 : 1.9;
      context.setLineDash(dashed ? [5, 4] : []);
      context.beginPath();
      let open = false;
      for (let s = 0; s < steps.length; s++) {
        if (!Number.isFinite(values[s])) continue;
        if (open) context.lineTo(this.x(steps[s]), this.y(values[s]));
        else context.moveTo(this.x(steps[s]), this.y(values[s]));
        open = true;
      }
      context.stroke();
      context.setLineDash([]);
    });
  }

  band(steps, values, errors, fill) {
    const { context } = this.canvas, there = [];
    for (let s = 0; s < steps.length; s++) if (Number.isFinite(values[s]) && Number.isFinite(errors[s])) there.push(s);
    context.fillStyle = fill;
    context.globalAlpha = 0.2;
    context.beginPath();
    there.forEach((s, i) => context[i ? "lineTo" : "moveTo"](this.x(steps[s]), this.y(values[s] + T7 * errors[s])));
    for (const s of there.reverse()) context.lineTo(this.x(steps[s]), this.y(values[s] - T7 * errors[s]));
    context.fill();
    context.globalAlpha = 1;
  }

  // Upwards what is left of the divergence, downwards the lag; the line is what remains, the bars its minibatch noise.
  paintBudget(run) {
    const { sweep } = this, { steps } = sweep, equilibrium = sweep.ofRun("equilibrium", run);
    const none = new Float32Array(steps.length).fill(NaN);
    const best = sweep.curve("value_best", run) ?? none, value = sweep.curve("value", run), batch = sweep.curve("value_batch", run);
    const up = steps.map((_, s) => best[s] - equilibrium), down = steps.map((_, s) => value[s] - best[s]);
    const sum = steps.map((_, s) => value[s] - equilibrium), noisy = steps.map((_, s) => (batch ? batch[s] - equilibrium : NaN));
    this.limits = range([...up, ...down, ...noisy], [0]);
    this.frame();
    const area = (values, fill) => this.within((context) => {
      context.fillStyle = fill;
      context.globalAlpha = 0.75;
      context.beginPath();
      const there = steps.map((_, s) => s).filter((s) => Number.isFinite(values[s]));
      if (!there.length) return;
      context.moveTo(this.x(steps[there[0]]), this.y(0));
      for (const s of there) context.lineTo(this.x(steps[s]), this.y(values[s]));
      context.lineTo(this.x(steps[there[there.length - 1]]), this.y(0));
      context.fill();
      context.globalAlpha = 1;
    });
    area(up, colour("green"));
    area(down, colour("pink"));
    const error = (name, s) => T7 * (sweep.curve(name, run)?.[s] ?? NaN);
    this.within((context) => {
      context.lineWidth = 1.2;
      steps.forEach((step, s) => {
        for (const [values, name] of [[up, "value_best_se"], [down, "lag_se"]]) {
          context.strokeStyle = colour("ink");
          context.beginPath();
          context.moveTo(this.x(step), this.y(values[s] - error(name, s)));
          context.lineTo(this.x(step), this.y(values[s] + error(name, s)));
          if (Number.isFinite(error(name, s))) context.stroke();
        }
        context.strokeStyle = colour("orange");
        context.beginPath();
        context.moveTo(this.x(step), this.y(sum[s]));
        context.lineTo(this.x(step), this.y(noisy[s]));
        if (Number.isFinite(noisy[s])) context.stroke();
      });
      context.strokeStyle = colour("ink");
      context.lineWidth = 2;
      context.beginPath();
      steps.forEach((step, s) => Number.isFinite(sum[s]) && context.lineTo(this.x(step), this.y(sum[s])));
      context.stroke();
    });
    this.level(0, "at p = q");
  }

  cursor() {
    const { context, height } = this.canvas, { sweep, view } = this, at = this.x(sweep.steps[view.step]);
    context.strokeStyle = colour("ink");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(at, TOP - 4);
    context.lineTo(at, height - BOTTOM);
    context.stroke();
    this.reading.replaceChildren(...(this.figure.budget ? this.budgetReading() : this.lineReading()));
  }

  lineReading() {
    const { sweep, view } = this, said = [];
    for (const [name, tint, label] of this.lines()) {
      const key = element("span", { class: "line" });
      key.style.background = colour(tint);
      const se = sweep.at(`${name}_se`, view.run, view.step), interval = Number.isFinite(se) ? ` ± ${shown(T7 * se, 2)}` : "";
      const other = view.other >= 0 ? ` (other run ${shown(sweep.at(name, view.other, view.step))})` : "";
      said.push(key, ` ${label} ${shown(sweep.at(name, view.run, view.step))}${interval}${other}  `);
    }
    return said;
  }

  budgetReading() {
    const { sweep, view } = this, { run, step } = view, e = sweep.ofRun("equilibrium", run);
    const best = sweep.at("value_best", run, step), value = sweep.at("value", run, step), batch = sweep.at("value_batch", run, step);
    const se = (name) => (Number.isFinite(sweep.at(name, run, step)) ? ` ± ${shown(T7 * sweep.at(name, run, step), 2)}` : "");
    const said = [["green", `left of the divergence ${shown(best - e)}${se("value_best_se")}`], ["pink", `lag ${shown(best - value)}${se("lag_se")}`], ["orange", `noise of this minibatch ${shown(batch - value)}`]];
    if (Number.isNaN(best)) return ["For this loss no best value is known, so the value cannot be split: ", `V ${shown(value)}${se("value_se")}`];
    return said.flatMap(([tint, text]) => {
      const key = element("span", { class: "line" });
      key.style.background = colour(tint);
      return [key, ` ${text}  `];
    });
  }
}
