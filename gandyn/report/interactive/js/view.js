// What is looked at: one object, kept in the address behind the #, so that it can be sent and gone back to.

export const LAYERS = ["density", "surface", "samples", "modes", "manifold", "arrows"];

const DEFAULTS = {
  run: 0, // position of the run that is looked at
  other: -1, // of the one beside it; -1 for none
  step: 0, // position of the measurement
  colour: "verdict", // of the mosaic: a verdict or a metric
  rows: "recipe",
  columns: "seed",
  sort: "order",
  search: "",
  metric: "", // of the free curve
  layers: "density,surface,samples,modes",
  count: 256, // samples that are drawn of networks
  label: 0, // class that is drawn of conditional players
  theme: "auto",
  filter: "", // brushed axes: name:low:high|...
};

export class View {
  constructor() {
    Object.assign(this, DEFAULTS);
    this.listeners = [];
    this.waiting = null;
  }

  // Changes what is looked at; `keep`: whether going back returns to before.
  set(changes, keep = false) {
    const changed = Object.keys(changes).filter((name) => this[name] !== changes[name]);
    if (!changed.length) return;
    if (keep) this.write(false);
    Object.assign(this, changes);
    if (keep) this.write(true);
    else {
      clearTimeout(this.waiting);
      this.waiting = setTimeout(() => this.write(false), 250);
    }
    for (const listener of this.listeners) listener(new Set(changed));
  }

  on(listener) {
    this.listeners.push(listener);
  }

  text() {
    const parts = Object.keys(DEFAULTS).filter((name) => this[name] !== DEFAULTS[name]);
    return parts.map((name) => `${name}=${encodeURIComponent(this[name])}`).join("&");
  }

  write(anew) {
    clearTimeout(this.waiting);
    const hash = `#${this.text()}`;
    if (hash === location.hash || (hash === "#" && location.hash === "")) return;
    if (anew) history.pushState(null, "", hash);
    else history.replaceState(null, "", hash);
  }

  // What an address says; what it cannot mean is left at its default. `limits`: name -> largest whole number.
  read(hash, limits) {
    const found = { ...DEFAULTS };
    for (const part of hash.replace(/^#/, "").split("&")) {
      const at = part.indexOf("="), name = part.slice(0, at);
      if (at < 0 || !Object.hasOwn(DEFAULTS, name)) continue;
      let value;
      try {
        value = decodeURIComponent(part.slice(at + 1));
      } catch {
        continue;
      }
      if (typeof DEFAULTS[name] === "number") {
        const whole = Number(value), least = name === "other" ? -1 : 0;
        if (Number.isInteger(whole) && whole >= least && whole <= (limits[name] ?? Infinity)) found[name] = whole;
      } else found[name] = value.slice(0, 2000);
    }
    return found;
  }

  layer(name) {
    return this.layers.split(",").includes(name);
  }

  toggle(name) {
    const on = new Set(this.layers.split(",").filter((one) => LAYERS.includes(one)));
    if (!on.delete(name)) on.add(name);
    this.set({ layers: LAYERS.filter((one) => on.has(one)).join(",") });
  }
}
