// One run at one step: the plane, what it shows, the modes' masses, the numbers there, and the verdict with its rule.

import { Canvas, button, colour, element, select } from "./dom.js";
import { Plane } from "./plane.js";
import { isLight, ofVerdict } from "./colours.js";
import { grouped, shown } from "./numbers.js";
import { titled } from "./help.js";
import { LAYERS } from "./view.js";

const T7 = 2.365, HELD = 0.25;

export class Run {
  constructor(sweep, view, lens, which, fork) {
    Object.assign(this, { sweep, view, which, fork });
    this.plane = new Plane("Samples, modes and D's surface", lens);
    this.title = element("h3", { class: "run-title" });
    this.note = element("p", { class: "told source" });
    this.masses = new Canvas("Share of the samples in each mode", 62);
    this.verdict = element("div", { class: "verdict" });
    this.numbers = element("dl", { class: "numbers" });
    this.classes = element("span");
    this.forking = button("Train on from here", "Fork: training goes on in the page (f)", () => fork(this.run()), { class: "primary" });
    this.node = element("div", { class: "run" }, this.title, this.plane.canvas.node, this.note, element("div", { class: "bar" }, this.forking, this.classes),
      element("div", { class: "head small" }, element("span", { text: "Mass in each mode" })), this.masses.node, this.numbers, this.verdict);
    this.held = { run: -1, more: null };
  }

  run() {
    return this.which === "other" ? this.view.other : this.view.run;
  }

  // Unpacks what is kept of the run, and then calls `ready`.
  load(ready) {
    const run = this.run();
    if (this.held.run === run || run < 0) return;
    this.held = { run, more: null };
    this.sweep.more(run).then((more) => {
      if (this.held.run !== run) return;
      this.held.more = more;
      ready();
    });
  }

  // The kept state that stands for a step: {state, exact} or null.
  state() {
    const states = this.held.more?.states ?? [];
    if (!states.length) return null;
    const step = this.sweep.steps[this.view.step];
    let best = states[0];
    for (const one of states) if (Math.abs(one.step - step) < Math.abs(best.step - step)) best = one;
    return { state: best, exact: best.step === step };
  }

  recipe() {
    const about = this.sweep.said.players[this.run()];
    if (!about) return null;
    return { ...about.config, numbers: about.numbers };
  }

  scene() {
    const { sweep, view, held } = this, run = this.run(), s = view.step, target = sweep.target(run);
    const mass = sweep.modeMass(run, s), real = sweep.realMass(run);
    const covered = mass && real ? Array.from(real, (due, k) => mass[k] >= HELD * due) : null;
    const box = target ? { center: target.center, half: target.half } : null;
    const scene = { target, box, covered, decision: sweep.ofRun("decision", run), logistic: sweep.ofRun("in_nats", run) === 1, layers: new Set(view.layers.split(",")), label: view.label, count: view.count, samples: null, surface: null };
    if (sweep.at("finite", run, s) === 0) return { ...scene, covered: null, says: "The run has diverged by this step: its parameters are not finite, and nothing is drawn of it." };
    if (!held.more) return { ...scene, says: "Unpacking …" };
    const found = this.state(), about = sweep.said.players[run];
    if (found?.exact && about.networks) {
      const packs = about.networks.packing > 1 ? " D judges packs of several points, so it has no surface over single ones." : "";
      return { ...scene, ...found.state, packing: about.networks.packing, recipe: this.recipe(), says: `Networks of step ${grouped(found.state.step)}, evaluated in the page (weights kept as ${about.kind === "float32" ? "float32" : "float16"}).${packs}` };
    }
    const { samples, surface } = held.more, size = surface?.shape[1];
    if (samples) {
      const each = samples.shape[1] * 2, own = samples.values.subarray(s * each, (s + 1) * each);
      scene.samples = Number.isFinite(own[0]) ? own : null;
    }
    if (surface) scene.surface = { values: surface.values.subarray(s * size * size, (s + 1) * size * size), size };
    if (found && !about.networks) {
      const own = found.state;
      return { ...scene, samples: own.samples?.values ?? scene.samples, surface: own.surface ? { values: own.surface.values, size: own.surface.shape[0] } : scene.surface, says: `Samples and surface of step ${grouped(own.step)}, computed when the page was written: these networks are not ones that the page can evaluate.` };
    }
    if (found && !scene.samples) return { ...scene, ...found.state, packing: about.networks.packing, recipe: this.recipe(), says: `Networks of step ${grouped(found.state.step)}, the nearest that are kept; the curves are of step ${grouped(sweep.steps[s])}.` };
    const parts = [scene.samples ? `${scene.samples.length / 2} recorded samples` : "", scene.surface ? `D's recorded output on ${size} x ${size} points` : ""].filter(Boolean);
    const nets = found ? `Networks are kept of other steps (the nearest is ${grouped(found.state.step)}).` : "No networks are kept of this run (gandyn page --runs).";
    return { ...scene, says: parts.length ? `Stored: ${parts.join(" and ")}. ${nets}` : `Neither samples nor a surface are kept of this run at this step. ${nets}` };
  }

  draw(fine, words = true) {
    const run = this.run();
    if (run < 0) return;
    this.load(() => this.draw(true));
    const scene = this.scene();
    this.plane.draw(scene, fine);
    this.note.textContent = scene.says;
    this.drawMasses(scene);
    this.drawNumbers(run);
    if (words || this.told !== run) this.drawWords(run);
    this.drawVerdictStep();
  }

  drawWords(run) {
    this.told = run;
    this.title.textContent = this.sweep.label(run);
    const about = this.sweep.said.players[run], classes = about?.networks?.gen.classes ?? 0;
    const why = !about ? "no networks are kept of this run" : !about.networks ? "its networks are not ones that the page can evaluate" : !about.target?.kind ? "its target is not one that the page can sample" : about.forks ? `the page does not train ${about.forks}` : "";
    this.forking.disabled = Boolean(why);
    this.forking.title = why ? `Cannot train on: ${why}` : "Fork: training goes on in the page (f)";
    this.classes.replaceChildren();
    if (why) this.classes.append(element("span", { class: "told", text: `Cannot train on here: ${why}.` }));
    if (classes) this.classes.append(" class ", select("Class that D and the manifold are drawn of", Array.from({ length: classes }, (_, c) => [String(c), String(c)]), String(this.view.label), (x) => this.view.set({ label: Number(x) })));
    this.drawVerdict(run);
  }

  drawMasses(scene) {
    const { sweep, view } = this, run = this.run(), mass = sweep.modeMass(run, view.step), real = sweep.realMass(run);
    this.masses.node.hidden = !mass || !real;
    if (!mass || !real || !this.masses.fit()) return;
    const { context, width, height } = this.masses, there = Array.from(real, (_, k) => k).filter((k) => real[k] > 0 || mass[k] > 0);
    const most = Math.max(...there.map((k) => Math.max(mass[k] || 0, real[k])), 1e-9), each = width / Math.max(there.length, 1);
    there.forEach((k, i) => {
      const bar = ((mass[k] || 0) / most) * (height - 8), x = i * each;
      context.fillStyle = colour(scene.covered?.[k] ? "held" : "lost");
      context.fillRect(x + each * 0.12, height - bar, each * 0.76, bar);
      context.fillStyle = colour("ink");
      context.fillRect(x, height - (real[k] / most) * (height - 8), each * 0.96, 1.5);
      context.fillRect(x, height - (HELD * real[k] / most) * (height - 8), each * 0.2, 1);
    });
  }

  drawNumbers(run) {
    const { sweep, view } = this, s = view.step, said = [];
    const add = (name, label, suffix = "") => {
      if (!sweep.has(name) || Number.isNaN(sweep.at(name, run, s))) return;
      const se = sweep.at(`${name}_se`, run, s);
      said.push(element("div", {}, element("dt", { text: label }), element("dd", { text: `${shown(sweep.at(name, run, s))}${Number.isFinite(se) ? ` ± ${shown(T7 * se, 2)}` : ""}${suffix}` })));
    };
    const nats = sweep.ofRun("in_nats", run) === 1 ? " nats" : "";
    add("value", "value V", nats);
    add("value_best", "best value", nats);
    add("lag", "lag", nats);
    add("jsd", "JSD", " nats");
    add("modes", "modes");
    add("accuracy", "accuracy of D");
    this.numbers.replaceChildren(...said);
  }

  drawVerdict(run) {
    const found = this.sweep.verdict(run);
    this.verdict.replaceChildren();
    if (!found) return void this.verdict.append(element("p", { class: "told", text: "No verdict is recorded of these runs." }));
    const [fill, sign] = ofVerdict(found.name), mark = element("span", { class: "mark", text: sign });
    mark.style.background = fill;
    mark.style.color = isLight(fill) ? "#111" : "#fff";
    const head = titled("", "verdict");
    head.firstChild.prepend(mark, ` ${found.name.replaceAll("_", " ")}`);
    this.verdict.append(head);
    this.when = element("p", { class: "when" });
    if (found.step !== null) {
      const { steps } = this.sweep, s = steps.findIndex((step) => step >= found.step);
      this.verdict.append(element("p", {}, `at step ${grouped(found.step)} `, button("Go there", "Put the scrubber at the step where it happened", () => this.view.set({ step: s < 0 ? steps.length - 1 : s }, true))));
    }
    this.verdict.append(this.when, element("p", { text: found.reason }));
    if (found.rule) this.verdict.append(element("p", { class: "rule", text: `The rule: ${found.rule}.` }));
    if (found.fragile) this.verdict.append(element("p", { class: "rule", text: `Fragile: ${found.fragile}.` }));
  }

  drawVerdictStep() {
    const found = this.sweep.verdict(this.run());
    if (!found || !this.when) return;
    const step = this.sweep.steps[this.view.step];
    this.when.textContent = found.step === null ? "" : step < found.step ? "It has not happened yet at this step." : step === found.step ? "It happens here." : "It has happened by this step.";
  }
}

// The boxes by which layers are switched.
export function layerBoxes(view) {
  const words = { density: "density", surface: "D", samples: "samples", modes: "modes", manifold: "manifold", arrows: "arrows" };
  const boxes = new Map();
  const node = element("div", { class: "layers", role: "group", "aria-label": "Layers" });
  LAYERS.forEach((name, i) => {
    const box = element("input", { type: "checkbox", checked: view.layer(name), onchange: () => view.toggle(name) });
    boxes.set(name, box);
    node.append(element("label", { title: `Key ${i + 1}` }, box, ` ${words[name]}`));
  });
  const count = select("Samples of networks", ["256", "1000", "4000"], String(view.count), (x) => view.set({ count: Number(x) }));
  node.append(element("label", { text: "draw " }, count));
  const update = () => {
    boxes.forEach((box, name) => (box.checked = view.layer(name)));
    count.value = String(view.count);
  };
  return { node, update };
}
