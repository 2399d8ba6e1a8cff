// Parallel axes of what a sweep varies and of how its runs ended: a line a run. Dragging along an axis filters.

import { Canvas, colour, element, onDrag } from "./dom.js";
import { ofVerdict, css, rising } from "./colours.js";
import { clamp, range, shown } from "./numbers.js";
import { titled } from "./help.js";

const ENDS = ["jsd", "modes", "lag", "accuracy", "high_quality"];
const TOP = 34, BOTTOM = 18;

export class Axes {
  constructor(sweep, view) {
    this.sweep = sweep;
    this.view = view;
    this.canvas = new Canvas("Settings and final metrics, one line a run", 230);
    this.axes = this.found();
    this.told = element("p", { class: "told", text: "Drag along an axis to keep the runs in that range; click an axis to let go of it." });
    this.node = element("section", { class: "panel", id: "axes" }, titled("Settings and ends", "axes"), this.canvas.node, this.told);
    this.brushing = null;
    onDrag(this.canvas.node, (x, y, event, start) => this.brush(x, y, start), () => this.brushed());
  }

  found() {
    const { sweep } = this, { runs } = sweep.said, axes = [];
    const add = (name, label, values) => {
      const levels = [...new Set(values)].filter((x) => x !== null);
      if (levels.length < 2) return;
      if (levels.every((x) => typeof x === "number")) {
        const finite = levels.filter(Number.isFinite), low = Math.min(...finite), high = Math.max(...finite);
        const log = low > 0 && high / low > 30;
        const [c, d] = range(finite), a = log ? Math.log(low) : Math.max(low, c), b = log ? Math.log(high) : Math.min(high, d);
        axes.push({ name, label, values, low: a, high: b, at: (x) => (Number.isFinite(x) ? clamp(((log ? Math.log(x) : x) - a) / (b - a || 1), 0, 1) : NaN), text: (share) => shown(log ? Math.exp(a + share * (b - a)) : a + share * (b - a)) });
      } else if (levels.length <= 24) {
        const order = new Map(levels.map((x, i) => [x, (i + 0.5) / levels.length]));
        axes.push({ name, label, values, levels, at: (x) => order.get(x) ?? NaN, text: () => "" });
      }
    };
    add("recipe", "recipe", runs.recipe);
    for (const [name, values] of Object.entries(runs.swept)) if (axes.length < 7) add(name, name, values);
    const number = (name) => Array.from({ length: sweep.count }, (_, run) => sweep.final(name, run));
    for (const name of ENDS) if (sweep.has(name) && axes.length < 10) add(`end:${name}`, `${name} at the end`, number(name));
    return axes;
  }

  // Ranges by axis, from the view's text.
  ranges() {
    const found = new Map();
    for (const part of this.view.filter.split("|")) {
      const [name, low, high] = part.split("~");
      if (this.axes.some((axis) => axis.name === name) && Number(low) <= Number(high)) found.set(name, [Number(low), Number(high)]);
    }
    return found;
  }

  // Which runs pass the brushes and the search: (R,) of 0 and 1.
  visible() {
    const { sweep, view } = this, on = new Uint8Array(sweep.count).fill(1), words = view.search.toLowerCase().split(/\s+/).filter(Boolean);
    for (const [name, [low, high]] of this.ranges()) {
      const axis = this.axes.find((one) => one.name === name);
      for (let run = 0; run < sweep.count; run++) {
        const at = axis.at(axis.values[run]);
        if (!(at >= low && at <= high)) on[run] = 0;
      }
    }
    if (words.length)
      for (let run = 0; run < sweep.count; run++) {
        const text = `${sweep.label(run)} ${sweep.said.verdicts.of?.[run] ?? ""} ${(sweep.said.verdicts.of?.[run] ?? "").replaceAll("_", " ")}`.toLowerCase();
        if (!words.every((word) => text.includes(word))) on[run] = 0;
      }
    return on;
  }

  left(i) {
    const room = 46;
    return this.axes.length < 2 ? this.canvas.width / 2 : room + (i * (this.canvas.width - 2 * room)) / (this.axes.length - 1);
  }

  brush(x, y, start) {
    const share = clamp(1 - (y - TOP) / (this.canvas.height - TOP - BOTTOM), 0, 1);
    if (start) {
      let nearest = 0;
      this.axes.forEach((_, i) => (Math.abs(this.left(i) - x) < Math.abs(this.left(nearest) - x) ? (nearest = i) : 0));
      this.brushing = { axis: this.axes[nearest], from: share, to: share };
    } else if (this.brushing) this.brushing.to = share;
    this.apply(false);
  }

  apply(keep) {
    if (!this.brushing) return;
    const { axis, from, to } = this.brushing, ranges = this.ranges(), low = Math.min(from, to), high = Math.max(from, to);
    if (high - low < 0.015) ranges.delete(axis.name);
    else ranges.set(axis.name, [low, high]);
    this.view.set({ filter: [...ranges].map(([name, [a, b]]) => `${name}~${a.toFixed(3)}~${b.toFixed(3)}`).join("|") }, keep);
  }

  brushed() {
    this.apply(false);
    this.brushing = null;
  }

  draw(visible) {
    if (!this.axes.length || !this.canvas.fit()) return;
    const { context, height } = this.canvas, { sweep, view } = this;
    const y = (share) => TOP + (1 - share) * (height - TOP - BOTTOM);
    const metric = view.colour !== "verdict" && sweep.has(view.colour);
    const ends = metric ? Array.from({ length: sweep.count }, (_, run) => sweep.final(view.colour, run)) : [];
    const [low, high] = range(ends);
    const alpha = clamp(40 / Math.sqrt(sweep.count * 10), 0.06, 0.7);
    const line = (run, stroke, wide) => {
      context.strokeStyle = stroke;
      context.lineWidth = wide;
      context.beginPath();
      let open = false;
      this.axes.forEach((axis, i) => {
        const at = axis.at(axis.values[run]);
        if (Number.isNaN(at)) return (open = false);
        const spread = axis.levels ? (((run * 0.6180339887) % 1) - 0.5) * (0.7 / axis.levels.length) : 0;
        if (open) context.lineTo(this.left(i), y(at + spread));
        else context.moveTo(this.left(i), y(at + spread));
        open = true;
      });
      context.stroke();
    };
    context.globalAlpha = alpha;
    for (let run = 0; run < sweep.count; run++)
      if (visible[run]) line(run, metric ? css(rising((ends[run] - low) / (high - low))) : ofVerdict(sweep.said.verdicts.of?.[run] ?? "-")[0], 1.2);
    context.globalAlpha = 1;
    line(view.run, colour("ink"), 2.5);
    if (view.other >= 0) line(view.other, colour("accent"), 2.5);
    this.frame(y);
  }

  frame(y) {
    const { context, height } = this.canvas, ranges = this.ranges();
    context.font = "11px system-ui, sans-serif";
    this.axes.forEach((axis, i) => {
      const x = this.left(i), own = ranges.get(axis.name);
      context.strokeStyle = colour("soft");
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(x, TOP);
      context.lineTo(x, height - BOTTOM);
      context.stroke();
      if (own) {
        context.fillStyle = colour("accent");
        context.globalAlpha = 0.35;
        context.fillRect(x - 6, y(own[1]), 12, y(own[0]) - y(own[1]));
        context.globalAlpha = 1;
      }
      context.textAlign = i === 0 ? "left" : i === this.axes.length - 1 ? "right" : "center";
      const anchor = i === 0 ? Math.max(x - 44, 2) : i === this.axes.length - 1 ? Math.min(x + 44, this.canvas.width - 2) : x;
      context.fillStyle = colour("ink");
      let label = axis.label;
      const room = (this.canvas.width - 60) / this.axes.length;
      while (context.measureText(label).width > room && label.length > 4) label = `${label.slice(0, -2)}…`;
      context.fillText(label, anchor, 12);
      context.fillStyle = colour("soft");
      context.fillText(axis.text(1), anchor, TOP - 8);
      context.fillText(axis.text(0), anchor, height - 5);
    });
  }
}
