// The page: what is shown where, and what moves when something changes.

import { button, element, forgetColours, select } from "./dom.js";
import { open } from "./sweep.js";
import { View } from "./view.js";
import { Mosaic } from "./mosaic.js";
import { Axes } from "./axes.js";
import { Curves, FIGURES } from "./curves.js";
import { Run, layerBoxes } from "./run.js";
import { Fork } from "./fork.js";
import { serve } from "./worker.js";
import { takeMarks } from "./colours.js";
import { clamp, grouped } from "./numbers.js";
import { keys, titled } from "./help.js";

const REST_MS = 180;

class Page {
  constructor(sweep) {
    this.sweep = sweep;
    this.view = new View();
    this.root = document.getElementById("page");
    takeMarks(sweep.said.marks);
    const first = sweep.said.chosen?.[0] ?? 0, last = Math.max(sweep.steps.length - 1, 0);
    this.limits = { run: Math.max(sweep.count - 1, 0), other: sweep.count - 1, step: last, label: 99, count: 20000 };
    this.first = { run: first, step: last };
    if (!sweep.said.verdicts?.of) this.first.colour = sweep.has("modes") ? "modes" : (sweep.names[0] ?? "verdict");
    this.read();
    this.theme();
    this.lens = { x: 0, y: 0, zoom: 1, changed: () => this.drawRuns(false) };
    if (sweep.said.play) this.buildPlay();
    else this.build();
    this.view.on((changed) => this.changed(changed));
    window.addEventListener("popstate", () => this.read(true));
    window.addEventListener("hashchange", () => this.read(true));
    window.addEventListener("resize", () => this.all());
    document.addEventListener("keydown", (event) => this.key(event));
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.theme());
  }

  // Takes over what the address says.
  read(tell = false) {
    const found = this.view.read(location.hash, this.limits), given = location.hash.length > 1;
    const names = (name) => new RegExp(`[#&]${name}=`).test(location.hash);
    for (const [name, value] of Object.entries(this.first)) if (!given || !names(name)) found[name] = value;
    const { said } = this.sweep, fields = ["recipe", "seed", ...Object.keys(said.runs?.swept ?? {})];
    if (!fields.includes(found.rows)) found.rows = "recipe";
    if (!fields.includes(found.columns)) found.columns = "seed";
    if (found.colour !== "verdict" && !this.sweep.has(found.colour)) found.colour = this.first.colour ?? "verdict";
    if (found.colour === "verdict" && this.first.colour) found.colour = this.first.colour;
    if (tell) this.view.set(found);
    else Object.assign(this.view, found);
  }

  theme() {
    const { theme } = this.view, dark = theme === "dark" || (theme !== "light" && window.matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    forgetColours();
    if (this.parts || this.fork) this.all();
  }

  header() {
    const { said } = this.sweep;
    const lacking = said.lacking.length ? element("details", { class: "lacking", open: said.lacking.length < 3 }, element("summary", { text: `What this page cannot show (${said.lacking.length})` }), ...said.lacking.map((text) => element("p", { text }))) : null;
    const themes = select("Theme", [["auto", "as the system"], ["light", "light"], ["dark", "dark"]], this.view.theme, (theme) => this.view.set({ theme }));
    this.themes = themes;
    return element("header", {}, element("h1", { text: said.title }), element("p", { class: "facts", text: said.facts ?? "Everything is computed in this page; nothing is sent anywhere." }),
      element("div", { class: "bar" }, element("label", { text: "Theme " }, themes), button("Keys (?)", "What the keyboard does", keys), said.play || !Object.keys(said.known_targets).length ? null : button("Train one from scratch", "Pick or paint a target", () => this.play())), lacking);
  }

  buildPlay() {
    this.fork = new Fork(this.view, this.sweep.said.known_targets, null);
    this.root.replaceChildren(this.header(), this.fork.node);
    this.root.classList.add("playing");
    this.fork.play();
  }

  build() {
    const { sweep, view } = this;
    this.mosaic = new Mosaic(sweep, view);
    this.axes = new Axes(sweep, view);
    const fork = (run) => this.forkFrom(run);
    this.runs = [new Run(sweep, view, this.lens, "run", fork), new Run(sweep, view, this.lens, "other", fork)];
    this.boxes = layerBoxes(view);
    this.charts = FIGURES.filter((figure) => Curves.drawable(figure, sweep)).map((figure) => new Curves(figure, sweep, view));
    this.pair = element("div", { class: "pair-of-runs" }, this.runs[0].node, this.runs[1].node);
    this.comparing = element("div", { class: "bar" },
      button("Compare: other seed", "The next run of the same setting beside it (c)", () => this.compare("recipe")),
      button("Compare: other setting", "A run of the same seed and another setting", () => this.compare("seed")),
      button("One run", "Close the comparison (x)", () => view.set({ other: -1 }, true)));
    const plane = element("section", { class: "panel", id: "plane" }, titled("One run, at one step", "plane"), this.comparing, this.boxes.node, this.pair);
    this.forks = element("div", { id: "forks" });
    this.parts = element("main", {}, element("div", { class: "sweep" }, this.mosaic.node, this.axes.axes.length > 1 ? this.axes.node : null, this.origins()),
      element("div", { class: "looked-at" }, this.forks, plane), element("div", { class: "charts" }, ...this.charts.map((chart) => chart.node)));
    this.root.replaceChildren(this.header(), this.parts, this.scrubber());
  }

  origins() {
    const { said } = this.sweep, list = element("dl", {});
    for (const [name, text] of Object.entries(said.provenance)) list.append(element("dt", { text: name }), element("dd", { text: text || "not recorded" }));
    return element("details", { class: "panel" }, element("summary", { text: "How to get these results again" }), element("pre", { text: said.command }), element("pre", { text: said.configuration }), list);
  }

  scrubber() {
    const { sweep, view } = this, last = Math.max(sweep.steps.length - 1, 0);
    this.slider = element("input", { type: "range", min: 0, max: last, step: 1, value: view.step, "aria-label": "Step", oninput: () => view.set({ step: Number(this.slider.value) }) });
    this.where = element("output", { class: "where" });
    this.player = button("▶", "Play, pause (space)", () => this.toggle(), { id: "play" });
    this.pace = select("Pace", [["120", "fast"], ["400", "slow"], ["1200", "slow motion"]], "400", () => {});
    return element("footer", { class: "scrubber" }, this.player, button("‹", "A measurement back (←)", () => this.move(-1)), button("›", "A measurement on (→)", () => this.move(1)), this.slider, this.where, this.pace);
  }

  move(by) {
    this.view.set({ step: clamp(this.view.step + by, 0, this.limits.step) });
  }

  toggle() {
    this.playing = !this.playing;
    this.player.textContent = this.playing ? "❚❚" : "▶";
    if (this.playing && this.view.step === this.limits.step) this.view.set({ step: 0 });
    this.tick();
  }

  tick() {
    clearTimeout(this.ticking);
    if (!this.playing) return;
    this.ticking = setTimeout(() => {
      if (this.view.step >= this.limits.step) return this.toggle();
      this.move(1);
      this.tick();
    }, Number(this.pace.value));
  }

  // Another run beside the present one, that shares its recipe or its seed with it.
  compare(shared) {
    const { runs } = this.sweep.said, { run, other } = this.view, differs = shared === "recipe" ? "seed" : "recipe";
    const from = other >= 0 && runs[shared][other] === runs[shared][run] ? other : run;
    for (let k = 1; k <= this.sweep.count; k++) {
      const next = (from + k) % this.sweep.count;
      if (next !== run && runs[shared][next] === runs[shared][run] && runs[differs][next] !== runs[differs][run]) return this.view.set({ other: next }, true);
    }
  }

  forkFrom(run) {
    const panel = this.runs.find((one) => one.run() === run) ?? this.runs[0], found = panel.state(), { sweep } = this;
    if (!found || panel.forking.disabled) return;
    const { state } = found, about = sweep.said.players[run];
    const curves = Object.fromEntries(["value", "value_best", "modes", "loss_disc", "loss_gen"].map((name) => [name, sweep.curve(name, run)]));
    this.openFork().begin({ recipe: panel.recipe(), gen: state.gen, disc: state.disc, memory: state.memory, target: about.target, step: state.step, remembers: state.remembers || ["sgd"].includes(about.config.gen_optimizer), seed: about.seed, label: `${sweep.label(run)}, from step ${grouped(state.step)}`, recorded: { steps: sweep.steps, curves } });
    this.fork.targets.replaceChildren();
    this.forks.scrollIntoView({ block: "nearest" });
  }

  openFork() {
    this.fork?.stop();
    this.fork = new Fork(this.view, this.sweep.said.known_targets, () => {
      this.forks.replaceChildren();
      this.fork = null;
    });
    this.forks.replaceChildren(this.fork.node);
    return this.fork;
  }

  play() {
    this.openFork().play();
    this.forks.scrollIntoView({ block: "nearest" });
  }

  // ---- drawing

  changed(changed) {
    const only = (...names) => [...changed].every((name) => names.includes(name));
    if (changed.has("theme")) {
      this.themes.value = this.view.theme;
      return this.theme();
    }
    if (this.sweep.said.play) return this.fork.draw();
    if (only("step")) return this.drawStep();
    if (only("layers", "label", "count")) {
      this.boxes.update();
      this.drawRuns(true);
      this.fork?.draw();
      return;
    }
    if (only("filter", "search", "colour", "rows", "columns", "sort")) return this.drawSweep(true);
    if (only("metric")) return this.charts[this.charts.length - 1].draw(true);
    if (only("run", "other", "step")) {
      this.drawSweep(false);
      this.drawChosen();
      return;
    }
    this.all();
  }

  all() {
    if (this.sweep.said.play) return this.fork?.draw();
    this.boxes.update();
    this.drawSweep(true);
    this.drawChosen();
    this.fork?.draw();
  }

  drawSweep(anew) {
    this.visible = this.axes.visible();
    this.mosaic.draw(this.visible, anew);
    this.axes.draw(this.visible);
  }

  drawChosen() {
    const two = this.view.other >= 0;
    this.runs[1].node.hidden = !two;
    this.pair.classList.toggle("two", two);
    for (const chart of this.charts) chart.draw(true);
    this.drawRuns(true, true);
    this.drawWhere();
  }

  drawWhere() {
    const { steps } = this.sweep;
    this.slider.value = this.view.step;
    this.where.textContent = steps.length ? `step ${grouped(steps[this.view.step])} of ${grouped(steps[steps.length - 1])}` : "nothing measured";
  }

  // What a move of the scrubber draws; the rest follows when it stays.
  drawStep() {
    const start = performance.now();
    this.drawWhere();
    for (const chart of this.charts) chart.draw(false);
    this.drawRuns(false);
    if (this.view.colour !== "verdict") this.mosaic.draw(this.visible, false);
    this.lastRedraw = performance.now() - start;
  }

  drawRuns(fine, words = false) {
    this.runs[0].draw(fine, words);
    if (this.view.other >= 0) this.runs[1].draw(fine, words);
    clearTimeout(this.resting);
    if (!fine) this.resting = setTimeout(() => this.drawRuns(true), REST_MS);
  }

  // ---- keys

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName) && event.target.type !== "range" && event.target.type !== "checkbox";
    if (event.key === "Escape" && typing) event.target.blur();
    if (typing) return;
    const { view } = this, orders = {
      ArrowLeft: () => this.move(-1), ArrowRight: () => this.move(1), Home: () => view.set({ step: 0 }), End: () => view.set({ step: this.limits.step }),
      " ": () => (this.fork ? this.fork.toggle() : this.toggle()), f: () => this.forkFrom(view.run), c: () => this.compare("recipe"), x: () => view.set({ other: -1 }, true),
      w: () => this.go(0, -1), s: () => this.go(0, 1), a: () => this.go(-1, 0), d: () => this.go(1, 0), "/": () => this.mosaic.searching.focus(),
    };
    const always = { "?": keys, t: () => view.set({ theme: document.documentElement.dataset.theme === "dark" ? "light" : "dark" }), ...Object.fromEntries(["density", "surface", "samples", "modes", "manifold", "arrows"].map((name, i) => [String(i + 1), () => view.toggle(name)])) };
    const play = { " ": () => this.fork.toggle() };
    const order = always[event.key] ?? (this.sweep.said.play ? play : orders)[event.key];
    if (!order || (event.key === " " && event.target.tagName === "BUTTON")) return;
    event.preventDefault();
    order();
  }

  go(dx, dy) {
    this.view.set({ run: this.mosaic.neighbour(dx, dy) }, true);
  }
}

async function start() {
  const root = document.getElementById("page");
  try {
    const page = new Page(await open());
    window.gandyn = page;
    page.all();
    root.removeAttribute("aria-busy");
  } catch (error) {
    root.replaceChildren(element("p", { class: "lacking", text: `This page could not be unpacked: ${error.message}` }));
    throw error;
  }
}

if (typeof document === "undefined") {
  if (typeof postMessage === "function") serve(globalThis);
} else start();
