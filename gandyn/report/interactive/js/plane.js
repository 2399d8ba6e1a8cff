// The plane: a target's density, D's surface, samples, modes, the generator's manifold, arrows of what moves the fakes.

import { Canvas, colour, onDrag } from "./dom.js";
import { sides } from "./colours.js";
import { clamp, ticks, shown } from "./numbers.js";
import { matrix, pooled } from "./tape.js";
import { discriminate, generate } from "./networks.js";
import { sigmoid } from "./functions.js";
import { logDensity, modes } from "./targets.js";
import { pull } from "./training.js";
import { quantile, uniforms } from "./randomness.js";
import { LOSSES } from "./losses.js";

export const COARSE = 32, FINE = 96;
const COARSE_FAKES = 512, ARROWS = 40, GRID = 17;

// Latents that are the same whenever they are drawn: (count, dim), of the recipe's prior.
export function fixedLatents(recipe, count, seed = 11) {
  const uniform = uniforms(seed), bound = recipe.prior === "truncated" ? (recipe.numbers?.truncation ?? 2) : Infinity;
  return matrix(count, recipe.latent_dim, Float64Array.from({ length: count * recipe.latent_dim }, () => {
    if (recipe.prior === "uniform") return 2 * uniform() - 1;
    let z = quantile(uniform());
    while (Math.abs(z) > bound) z = quantile(uniform());
    return z;
  }));
}

export class Plane {
  constructor(label, lens) {
    this.canvas = new Canvas(label);
    this.canvas.node.classList.add("plane");
    this.lens = lens; // {x, y, zoom, changed()}: shared by planes that are looked at together
    this.images = new Map();
    this.latents = new Map();
    this.listen();
  }

  listen() {
    const { node } = this.canvas;
    let last = null;
    node.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.lens.zoom = clamp(this.lens.zoom * Math.exp(-event.deltaY / 400), 0.2, 60);
      this.lens.changed();
    }, { passive: false });
    onDrag(node, (x, y, event, start) => {
      if (!start && last && this.half) {
        const unit = (2 * this.half) / this.canvas.width;
        this.lens.x -= (x - last[0]) * unit;
        this.lens.y += (y - last[1]) * unit;
        this.lens.changed();
      }
      last = [x, y];
    });
    node.addEventListener("dblclick", () => {
      Object.assign(this.lens, { x: 0, y: 0, zoom: 1 });
      this.lens.changed();
    });
  }

  // scene: {target, box: {center, half}, gen, disc, recipe, packing, samples (flat) or null, surface {values, size} or
  // null, covered (booleans) or null, decision, layers (a set), label}. fine: whether the surface is drawn finely.
  draw(scene, fine) {
    if (!this.canvas.fit(true)) return;
    this.scene = scene;
    const center = scene.box?.center ?? [0, 0];
    this.half = ((scene.box?.half ?? 1.2) * 1.05) / this.lens.zoom;
    this.middle = [center[0] + this.lens.x, center[1] + this.lens.y];
    const { layers } = scene;
    if (layers.has("surface")) this.surface(fine ? FINE : COARSE);
    if (layers.has("density")) this.density();
    const points = this.points(fine);
    if (layers.has("manifold")) this.manifold(fine ? 5 : 2);
    if (layers.has("samples") && points) this.dots(points, colour("fake"), points.length > 2000 ? 1.3 : 1.9);
    if (layers.has("arrows") && points) this.arrows(points);
    if (layers.has("modes")) this.modes();
    this.axes();
  }

  px(x, y) {
    const scale = this.canvas.width / (2 * this.half);
    return [(x - this.middle[0] + this.half) * scale, (this.half - (y - this.middle[1])) * scale];
  }

  // The points (n * n, 2), flat, of a grid over what is seen; rows from the top.
  grid(n) {
    const points = new Float64Array(2 * n * n);
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++) {
        points[2 * (i * n + j)] = this.middle[0] + this.half * ((2 * (j + 0.5)) / n - 1);
        points[2 * (i * n + j) + 1] = this.middle[1] + this.half * (1 - (2 * (i + 0.5)) / n);
      }
    return points;
  }

  paint(n, pixel, box = null) {
    const image = document.createElement("canvas");
    image.width = image.height = n;
    const context = image.getContext("2d"), data = context.createImageData(n, n);
    for (let i = 0; i < n * n; i++) {
      const [r, g, b, a] = pixel(i);
      data.data.set([r, g, b, a], 4 * i);
    }
    context.putImageData(data, 0, 0);
    this.canvas.context.imageSmoothingEnabled = true;
    const [x, y, w, h] = box ?? [0, 0, this.canvas.width, this.canvas.height];
    this.canvas.context.drawImage(image, x, y, w, h);
  }

  surface(n) {
    const { scene } = this;
    let outputs, size = n, box = null;
    if (scene.disc && (scene.packing ?? 1) === 1) outputs = pooled(() => discriminate(scene.disc, matrix(n * n, 2, this.grid(n)), scene.label).data.slice());
    else if (scene.surface) {
      size = scene.surface.size;
      outputs = new Float64Array(size * size);
      for (let i = 0; i < size; i++) outputs.set(scene.surface.values.subarray((size - 1 - i) * size, (size - i) * size), i * size);
      const { center, half } = scene.box, reach = half * (size / (size - 1));
      const [left, top] = this.px(center[0] - reach, center[1] + reach), [right, bottom] = this.px(center[0] + reach, center[1] - reach);
      box = [left, top, right - left, bottom - top];
    } else return;
    const sorted = Float64Array.from(outputs).filter(Number.isFinite).sort();
    if (!sorted.length) return;
    const at = Number.isFinite(scene.decision) ? scene.decision : sorted[sorted.length >> 1];
    const spread = scene.logistic ? 1 : Math.max(Math.abs(sorted[Math.floor(0.9 * sorted.length)] - at), Math.abs(sorted[Math.floor(0.1 * sorted.length)] - at), 1e-6) / 2;
    const dark = colour("dark") === "1";
    this.outputs = { outputs, size };
    this.paint(size, (i) => [...sides(sigmoid((outputs[i] - at) / spread), dark), Number.isFinite(outputs[i]) ? 255 : 0], box);
  }

  density() {
    const { target } = this.scene;
    if (!target) return;
    if (target.kind === "points") return this.dots(target.points, colour("soft"), 1, 0.5);
    const n = 160, key = `${this.middle} ${this.half} ${colour("dark")}`;
    let kept = this.images.get(target);
    if (kept?.key !== key) {
      const points = this.grid(n), logs = new Float64Array(n * n);
      let most = -Infinity;
      for (let i = 0; i < n * n; i++) most = Math.max(most, (logs[i] = logDensity(target, points[2 * i], points[2 * i + 1])));
      const ink = colour("dark") === "1" ? [225, 228, 235] : [40, 44, 52];
      const image = document.createElement("canvas");
      image.width = image.height = n;
      const context = image.getContext("2d"), data = context.createImageData(n, n);
      for (let i = 0; i < n * n; i++) data.data.set([...ink, 150 * Math.sqrt(Math.exp(logs[i] - most))], 4 * i);
      context.putImageData(data, 0, 0);
      kept = { key, image };
      this.images.set(target, kept);
    }
    this.canvas.context.drawImage(kept.image, 0, 0, this.canvas.width, this.canvas.height);
  }

  points(fine) {
    const { scene } = this;
    if (!scene.gen) return scene.samples;
    const count = fine ? (scene.count ?? 256) : Math.min(scene.count ?? 256, COARSE_FAKES);
    const key = `${scene.recipe.prior} ${scene.recipe.latent_dim} ${count}`;
    if (!this.latents.has(key)) this.latents.set(key, fixedLatents(scene.recipe, count));
    const classes = scene.gen.spec.classes, labels = classes ? Array.from({ length: count }, (_, i) => i % classes) : 0;
    return pooled(() => generate(scene.gen, this.latents.get(key), labels).data.slice());
  }

  dots(points, fill = colour("fake"), radius = 1.9, alpha = 0.85) {
    const { context } = this.canvas;
    context.fillStyle = fill;
    context.globalAlpha = alpha;
    for (let i = 0; i < points.length / 2; i++) {
      const [x, y] = this.px(points[2 * i], points[2 * i + 1]);
      if (x < -5 || y < -5 || x > this.canvas.width + 5 || y > this.canvas.height + 5 || !Number.isFinite(x + y)) continue;
      context.beginPath();
      context.arc(x, y, radius, 0, 7);
      context.fill();
    }
    context.globalAlpha = 1;
  }

  // G of a grid of latents in the first two coordinates, at equal quantiles.
  manifold(finer) {
    const { gen, recipe, label } = this.scene;
    if (!gen) return;
    const dim = recipe.latent_dim, across = dim > 1 ? GRID : 1, { context } = this.canvas;
    const latent = (share) => (recipe.prior === "uniform" ? 1.96 * share - 0.98 : quantile(0.02 + 0.96 * share));
    const lines = [];
    for (const axis of dim > 1 ? [0, 1] : [0])
      for (let i = 0; i < across; i++) {
        const count = finer * (GRID - 1) + 1, data = new Float64Array(count * dim);
        for (let k = 0; k < count; k++) {
          data[k * dim + axis] = latent(k / (count - 1));
          if (dim > 1) data[k * dim + 1 - axis] = latent(i / (across - 1));
        }
        lines.push([matrix(count, dim, data), axis]);
      }
    for (const [latents, axis] of lines) {
      const points = pooled(() => generate(gen, latents, label).data.slice());
      context.strokeStyle = colour(axis ? "green" : "orange");
      context.lineWidth = 0.9;
      context.beginPath();
      for (let k = 0; k < points.length / 2; k++) context.lineTo(...this.px(points[2 * k], points[2 * k + 1]));
      context.stroke();
    }
  }

  arrows(points) {
    const { disc, recipe, packing } = this.scene;
    if (!disc || (packing ?? 1) > 1 || !LOSSES[recipe.loss] || disc.spec.classes) return;
    const some = points.slice(0, 2 * ARROWS), pulls = pooled(() => Float64Array.from(pull({ disc, recipe }, some))), { context } = this.canvas;
    const longest = Math.max(...Array.from({ length: ARROWS }, (_, i) => Math.hypot(pulls[2 * i], pulls[2 * i + 1])));
    if (!(longest > 0)) return;
    context.strokeStyle = context.fillStyle = colour("arrow");
    context.lineWidth = 1.4;
    for (let i = 0; i < ARROWS; i++) {
      const [x, y] = this.px(some[2 * i], some[2 * i + 1]), length = (34 * Math.hypot(pulls[2 * i], pulls[2 * i + 1])) / longest;
      const angle = Math.atan2(-pulls[2 * i + 1], pulls[2 * i]), dx = Math.cos(angle), dy = Math.sin(angle);
      if (length < 1) continue;
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(x + length * dx, y + length * dy);
      context.stroke();
      const head = Math.min(5, length / 2), tipX = x + length * dx, tipY = y + length * dy;
      context.beginPath();
      context.moveTo(tipX + head * dx, tipY + head * dy);
      context.lineTo(tipX - head * dy * 0.6, tipY + head * dx * 0.6);
      context.lineTo(tipX + head * dy * 0.6, tipY - head * dx * 0.6);
      context.fill();
    }
  }

  // A ring around each covered mode, a dashed one with a cross around each lost one.
  modes() {
    const { target, covered } = this.scene;
    if (!target || !covered) return;
    const { context } = this.canvas, scale = this.canvas.width / (2 * this.half);
    if (target.modes && target.modes.length > covered.length) return this.components(target, covered);
    const { means, stds } = modes(target);
    for (let k = 0; k < stds.length && k < covered.length; k++) {
      const [x, y] = this.px(means[2 * k], means[2 * k + 1]), radius = target.kind === "points" ? 9 : Math.max(3 * stds[k] * scale, 7);
      context.strokeStyle = colour(covered[k] ? "held" : "lost");
      context.lineWidth = 2;
      context.setLineDash(covered[k] ? [] : [3, 3]);
      context.beginPath();
      context.arc(x, y, radius, 0, 7);
      context.stroke();
      context.setLineDash([]);
      if (!covered[k]) {
        const a = Math.min(radius * 0.5, 6);
        context.beginPath();
        context.moveTo(x - a, y - a);
        context.lineTo(x + a, y + a);
        context.moveTo(x + a, y - a);
        context.lineTo(x - a, y + a);
        context.stroke();
      }
    }
  }

  // Of modes of several components (an arc of a curve, say) each component's place: a dot where covered, a cross where lost.
  components(target, covered) {
    const { context } = this.canvas;
    target.modes.forEach((mode, k) => {
      const [x, y] = this.px(target.means[2 * k], target.means[2 * k + 1]), on = covered[mode], a = 3;
      context.strokeStyle = context.fillStyle = colour(on ? "held" : "lost");
      context.lineWidth = 1.4;
      context.beginPath();
      if (on) context.arc(x, y, 2.4, 0, 7);
      else {
        context.moveTo(x - a, y - a);
        context.lineTo(x + a, y + a);
        context.moveTo(x + a, y - a);
        context.lineTo(x - a, y + a);
      }
      if (on) context.fill();
      else context.stroke();
    });
  }

  axes() {
    const { context, width, height } = this.canvas;
    context.fillStyle = colour("ink");
    context.globalAlpha = 0.65;
    context.font = "10px system-ui, sans-serif";
    context.textAlign = "center";
    for (const tick of ticks(this.middle[0] - this.half, this.middle[0] + this.half, 4)) {
      const [x] = this.px(tick, 0);
      if (x > 14 && x < width - 14) context.fillText(shown(Number(tick.toPrecision(6))), x, height - 4);
    }
    context.textAlign = "left";
    for (const tick of ticks(this.middle[1] - this.half, this.middle[1] + this.half, 4)) {
      const [, y] = this.px(0, tick);
      if (y > 14 && y < height - 18) context.fillText(shown(Number(tick.toPrecision(6))), 3, y);
    }
    context.globalAlpha = 1;
  }
}
