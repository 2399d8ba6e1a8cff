// Every run as a cell: recipes by seeds, or any two fields, coloured by verdict or by a metric at the present step.

import { Canvas, button, colour, element, place, select } from "./dom.js";
import { css, isLight, ofVerdict, rising } from "./colours.js";
import { range, shown } from "./numbers.js";
import { titled } from "./help.js";

const MOST_LABELS = 40, HEIGHT = 520;

export class Mosaic {
  constructor(sweep, view) {
    this.sweep = sweep;
    this.view = view;
    this.canvas = new Canvas("All runs, one cell each");
    this.canvas.node.classList.add("mosaic");
    this.canvas.node.tabIndex = 0;
    this.told = element("p", { class: "told", role: "status" });
    this.legend = element("div", { class: "legend" });
    this.visible = null;
    const fields = ["recipe", "seed", ...Object.keys(sweep.said.runs.swept)];
    const colours = [...(sweep.said.verdicts.of ? [["verdict", "verdict"]] : []),
      ...sweep.names.map((name) => [name, sweep.said.metrics[name].label])];
    const field = (name, label) => element("label", { text: `${label} ` }, (this[name] = select(label, fields, view[name], (x) => view.set({ [name]: x }))));
    this.colours = select("Colour", colours, view.colour, (x) => view.set({ colour: x }));
    this.sorting = select("Sort", [["order", "as recorded"], ["value", "by the colour"], ["label", "by name"]], view.sort, (x) => view.set({ sort: x }));
    this.searching = element("input", { type: "search", placeholder: "Search runs (/)", "aria-label": "Search runs", value: view.search, oninput: () => view.set({ search: this.searching.value }) });
    const bar = element("div", { class: "bar" },
      element("label", { text: "Colour " }, this.colours), field("rows", "Rows"), field("columns", "Columns"),
      element("label", { text: "Sort " }, this.sorting), this.searching,
      button("Clear filters", "Show every run again", () => view.set({ search: "", filter: "" })));
    this.node = element("section", { class: "panel", id: "mosaic" }, titled("All runs", "mosaic"), bar, this.canvas.node, this.legend, this.told);
    this.listen();
  }

  listen() {
    const { node } = this.canvas;
    node.addEventListener("click", (event) => {
      const run = this.runAt(...place(event, node));
      if (run < 0) return;
      if (event.shiftKey) this.view.set({ other: run === this.view.run ? -1 : run }, true);
      else this.view.set({ run }, true);
    });
    node.addEventListener("pointermove", (event) => this.tell(this.runAt(...place(event, node))));
    node.addEventListener("pointerleave", () => this.tell(-1));
  }

  // The value of a field for a run, for grouping.
  field(name, run) {
    const { runs } = this.sweep.said;
    if (name === "recipe" || name === "seed") return runs[name][run];
    return runs.swept[name]?.[run] ?? "";
  }

  // Which rows, columns and cells there are: anew when the fields, the order or the colour by which they are sorted change.
  lay() {
    const { sweep, view } = this;
    const value = (run) => this.value(run) ?? 0;
    const levels = (name) => {
      const groups = new Map();
      for (let run = 0; run < sweep.count; run++) {
        const key = this.field(name, run);
        if (!groups.has(key)) groups.set(key, []);
        groups.get(key).push(run);
      }
      const keys = [...groups.keys()];
      const mean = (key) => groups.get(key).reduce((sum, run) => sum + (Number.isFinite(value(run)) ? value(run) : 0), 0) / groups.get(key).length;
      if (name !== "seed" && view.sort === "value") {
        const means = new Map(keys.map((key) => [key, mean(key)]));
        keys.sort((a, b) => means.get(b) - means.get(a));
      } else if (keys.every((key) => typeof key === "number")) keys.sort((a, b) => a - b);
      else if (view.sort === "label") keys.sort((a, b) => String(a).localeCompare(String(b), undefined, { numeric: true }));
      return keys;
    };
    const rows = levels(view.rows), columns = levels(view.columns);
    const row = new Map(rows.map((key, i) => [key, i])), column = new Map(columns.map((key, i) => [key, i]));
    const cells = new Map();
    for (let run = 0; run < sweep.count; run++) {
      const key = row.get(this.field(view.rows, run)) * columns.length + column.get(this.field(view.columns, run));
      if (!cells.has(key)) cells.set(key, []);
      cells.get(key).push(run);
    }
    const inside = Math.max(1, ...[...cells.values()].map((runs) => runs.length));
    this.layout = { rows, columns, cells, inside };
  }

  value(run) {
    const { sweep, view } = this;
    if (view.colour === "verdict") {
      const names = this.verdictNames ?? (this.verdictNames = [...new Set(sweep.said.verdicts.of ?? [])]);
      return names.indexOf(sweep.said.verdicts.of?.[run]);
    }
    return sweep.counted(view.colour, run, view.step);
  }

  draw(visible, anew) {
    if (anew || !this.layout) this.lay();
    for (const name of ["rows", "columns"]) this[name].value = this.view[name];
    this.colours.value = this.view.colour;
    this.sorting.value = this.view.sort;
    if (document.activeElement !== this.searching) this.searching.value = this.view.search;
    this.visible = visible;
    this.size(anew);
    if (!this.canvas.fit()) return;
    const colours = this.colouring(), { context } = this.canvas, { side, xs, ys } = this.geometry;
    const signs = this.view.colour === "verdict" && side >= 11, gap = side >= 6 ? 1 : 0;
    context.font = `${Math.min(side * 0.62, 13)}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let run = 0; run < this.sweep.count; run++) {
      const x = xs[run], y = ys[run], [fill, sign] = colours(run);
      context.globalAlpha = visible[run] ? 1 : 0.12;
      context.fillStyle = fill;
      context.fillRect(x, y, side - gap, side - gap);
      if (signs) {
        context.fillStyle = isLight(fill) ? "#111" : "#fff";
        context.fillText(sign, x + side / 2, y + side / 2);
      }
    }
    context.globalAlpha = 1;
    this.labels();
    this.mark(this.view.run, colour("ink"));
    if (this.view.other >= 0) this.mark(this.view.other, colour("accent"));
    const shownRuns = visible.reduce((sum, on) => sum + on, 0);
    if (this.hovered === undefined || this.hovered < 0) this.told.textContent = `${shownRuns} of ${this.sweep.count} runs. Click one to look into it, shift-click a second to see both.`;
  }

  // Places the cells as large as they fit: rows that are too long are wrapped, and what is too high stands side by side.
  size(anew) {
    const { rows, columns, cells, inside } = this.layout, width = this.canvas.node.clientWidth || 400;
    if (!anew && this.geometry?.width === width) return;
    const labelled = rows.length <= MOST_LABELS && this.view.rows !== "seed", across = Math.ceil(Math.sqrt(inside));
    const left = labelled ? Math.min(0.32 * width, 150) : 8, room = width - left - 6;
    // Rows are not wrapped where cells of eight pixels fit beside each other.
    const most = room / columns.length >= 8 * across ? Math.min(26 * across, room / columns.length) : 26 * across;
    let found = null;
    for (let cell = most; ; cell *= 0.96) {
      const perLine = Math.max(1, Math.min(columns.length, Math.floor(room / cell + 1e-6))), lines = Math.ceil(columns.length / perLine);
      const strip = lines * cell + (lines > 1 ? 4 : 0), blocks = Math.max(1, Math.floor(width / (left + perLine * cell + 6)));
      const high = Math.ceil(rows.length / blocks) * strip;
      if (high <= HEIGHT || cell < 3 * across) {
        found = { cell, perLine, lines, strip, high, rowsOfBlock: Math.ceil(rows.length / blocks) };
        break;
      }
    }
    const { cell, perLine, strip, rowsOfBlock, lines, high } = found, side = cell / across, top = lines === 1 ? 16 : 4;
    const xs = new Float64Array(this.sweep.count), ys = new Float64Array(this.sweep.count), starts = [];
    for (let row = 0; row < rows.length; row++) starts.push([Math.floor(row / rowsOfBlock) * (left + perLine * cell + 6) + left, top + (row % rowsOfBlock) * strip]);
    for (const [key, runs] of cells) {
      const column = key % columns.length, [x0, y0] = starts[Math.floor(key / columns.length)];
      runs.forEach((run, i) => {
        xs[run] = x0 + (column % perLine) * cell + (i % across) * side;
        ys[run] = y0 + Math.floor(column / perLine) * cell + Math.floor(i / across) * side;
      });
    }
    this.geometry = { width, cell, side, left, top, labelled, lines, starts, strip, xs, ys };
    this.canvas.node.style.height = `${Math.ceil(top + high + 4)}px`;
  }

  labels() {
    const { context } = this.canvas, { cell, left, labelled, lines, starts, strip } = this.geometry, { rows, columns } = this.layout;
    context.fillStyle = colour("soft");
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    const text = (x) => (typeof x === "number" ? shown(x) : String(x) || "none");
    if (labelled) {
      context.textAlign = "right";
      rows.forEach((key, i) => {
        let label = text(key);
        while (context.measureText(label).width > left - 8 && label.length > 2) label = `${label.slice(0, -2)}…`;
        if (strip >= 9 || i % Math.ceil(11 / strip) === 0) context.fillText(label, starts[i][0] - 5, starts[i][1] + Math.min(strip, 26) / 2);
      });
    }
    if (lines > 1 || !starts.length) return;
    context.textAlign = "center";
    const every = Math.ceil(34 / cell);
    columns.forEach((key, i) => i % every === 0 && context.fillText(text(key).slice(0, 12), starts[0][0] + (i + 0.5) * cell, 8));
  }

  // Run -> [colour, sign] under the present colouring; the legend says what they mean.
  colouring() {
    const { sweep, view } = this;
    this.legend.replaceChildren();
    if (view.colour === "verdict") {
      const counts = new Map();
      for (const name of sweep.said.verdicts.of ?? []) counts.set(name, (counts.get(name) ?? 0) + 1);
      for (const [name, count] of [...counts].sort((a, b) => b[1] - a[1])) {
        const [fill, sign] = ofVerdict(name);
        const mark = element("span", { class: "mark", text: sign });
        mark.style.background = fill;
        mark.style.color = isLight(fill) ? "#111" : "#fff";
        this.legend.append(button("", `Show ${name.replaceAll("_", " ")} alone`, () => view.set({ search: name }, true), { class: "key" }));
        this.legend.lastChild.append(mark, ` ${name.replaceAll("_", " ")} ${count}`);
      }
      return (run) => ofVerdict(sweep.said.verdicts.of?.[run] ?? "-");
    }
    const values = [];
    for (let run = 0; run < sweep.count; run++) values.push(sweep.counted(view.colour, run, view.step));
    const [low, high] = range(values), about = sweep.said.metrics[view.colour];
    const scale = element("span", { class: "scale" });
    scale.style.background = `linear-gradient(90deg, ${[0, 0.25, 0.5, 0.75, 1].map((x) => css(rising(x))).join(",")})`;
    this.legend.append(shown(low), scale, shown(high), ` ${about.label}${about.units && about.units !== "1" ? ` (${about.units})` : ""} at step ${shown(sweep.steps[view.step])}; grey: none`);
    const none = colour("line");
    return (run) => [Number.isFinite(values[run]) ? css(rising((values[run] - low) / (high - low))) : none, ""];
  }

  boxOf(run) {
    const { xs, ys, side } = this.geometry;
    return run >= 0 && run < xs.length ? [xs[run], ys[run], side] : null;
  }

  mark(run, stroke) {
    const box = this.boxOf(run), { context } = this.canvas;
    if (box === null) return;
    const [x, y, side] = box, room = side < 6 ? 3 : 1;
    context.strokeStyle = colour("paper");
    context.lineWidth = 4;
    context.strokeRect(x - room, y - room, side + 2 * room - 1, side + 2 * room - 1);
    context.strokeStyle = stroke;
    context.lineWidth = 2;
    context.strokeRect(x - room, y - room, side + 2 * room - 1, side + 2 * room - 1);
  }

  runAt(x, y) {
    const { xs, ys, side } = this.geometry;
    for (let run = 0; run < xs.length; run++) if (x >= xs[run] && x < xs[run] + side && y >= ys[run] && y < ys[run] + side) return run;
    return -1;
  }

  // The run above, below or beside the present one among those that are visible.
  neighbour(dx, dy) {
    const { xs, ys } = this.geometry, from = this.view.run;
    let best = from, nearest = Infinity;
    for (let run = 0; run < xs.length; run++) {
      const along = (xs[run] - xs[from]) * dx + (ys[run] - ys[from]) * dy;
      const aside = Math.abs((xs[run] - xs[from]) * dy) + Math.abs((ys[run] - ys[from]) * dx), far = along + 20 * aside;
      if (along > 0.01 && this.visible?.[run] && far < nearest) [best, nearest] = [run, far];
    }
    return best;
  }

  tell(run) {
    if (run === this.hovered) return;
    this.hovered = run;
    if (run < 0) return;
    const { sweep, view } = this, verdict = sweep.verdict(run);
    const value = view.colour === "verdict" ? "" : `; ${sweep.said.metrics[view.colour].label} ${shown(sweep.counted(view.colour, run, view.step))}`;
    const swept = Object.entries(sweep.said.runs.swept).filter(([, values]) => values[run] !== null && values[run] !== "").map(([name, values]) => `${name} ${typeof values[run] === "number" ? shown(values[run]) : values[run]}`);
    this.told.textContent = `${sweep.label(run)}${verdict ? `: ${verdict.name.replaceAll("_", " ")}` : ""}${value}. ${swept.slice(0, 6).join(", ")}`;
  }
}
