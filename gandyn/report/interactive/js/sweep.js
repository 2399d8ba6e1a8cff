// The sweep that the page holds: its curves by name, what each run is, and what else is kept of some runs.
//
// Shapes: R runs, S steps. A curve is a Float32Array (R, S), flattened.

import { inflate, unpack } from "./arrays.js";
import { player } from "./networks.js";

function chunk(name) {
  const found = document.querySelector(`script[data-chunk="${name}"]`);
  return found === null ? null : inflate(found.textContent);
}

// What the page holds, unpacked.
export async function open() {
  const said = JSON.parse(new TextDecoder().decode(await chunk("content")));
  return new Sweep(said, said.entries.curves ? await chunk("curves") : null);
}

export class Sweep {
  constructor(said, bytes) {
    this.said = said;
    this.bytes = bytes;
    this.arrays = new Map();
    this.opened = new Map();
    this.steps = said.steps ?? [];
    this.count = said.runs?.run.length ?? 0;
    this.names = Object.keys(said.metrics ?? {});
  }

  has(name) {
    return Object.hasOwn(this.said.entries.curves ?? {}, name);
  }

  // A curve (R, S), or another array over runs; null where it was not measured.
  array(name) {
    if (!this.has(name)) return null;
    if (!this.arrays.has(name)) this.arrays.set(name, unpack(this.said.entries.curves[name], this.bytes));
    return this.arrays.get(name);
  }

  // The curve of one run, (S,); null where it was not measured.
  curve(name, run) {
    const all = this.array(name), size = this.steps.length;
    return all === null ? null : all.subarray(run * size, (run + 1) * size);
  }

  at(name, run, step) {
    const all = this.array(name);
    return all === null ? NaN : all[run * this.steps.length + step];
  }

  ofRun(name, run) {
    const all = this.array(`of_run_${name}`);
    return all === null ? NaN : all[run];
  }

  // Row of an array (R, S, K) or (R, K) of modes.
  modeMass(run, step) {
    const all = this.array("mode_mass");
    if (all === null) return null;
    const size = this.said.entries.curves.mode_mass.shape[2], from = (run * this.steps.length + step) * size;
    return all.subarray(from, from + size);
  }

  realMass(run) {
    const all = this.array("of_run_mode_mass_real");
    if (all === null) return null;
    const size = this.said.entries.curves.of_run_mode_mass_real.shape[1];
    return all.subarray(run * size, (run + 1) * size);
  }

  // Position of a run's last measurement; -1 where there is none.
  lastStep(run) {
    const finite = this.curve("finite", run);
    if (finite === null) return this.steps.length - 1;
    for (let s = finite.length - 1; s >= 0; s--) if (!Number.isNaN(finite[s])) return s;
    return -1;
  }

  // A metric at a step with what a failed run counts as; NaN where there is nothing.
  counted(name, run, step) {
    const failed = this.at("finite", run, step) === 0 ? Number.parseFloat(this.said.metrics[name]?.failed) : null;
    return failed === null ? this.at(name, run, step) : failed;
  }

  final(name, run) {
    const last = this.lastStep(run);
    return last < 0 ? NaN : this.counted(name, run, last);
  }

  verdict(run) {
    const all = this.said.verdicts;
    if (!all?.of) return null;
    const name = all.of[run];
    return { name, step: all.step[run], reason: all.reason[run], fragile: all.fragile[run], rule: all.rules[name] ?? "" };
  }

  label(run) {
    const { run: number, seed, recipe } = this.said.runs;
    return `run ${number[run]}: ${recipe[run]}, seed ${seed[run]}`;
  }

  // The target of a run as targets.js has it: exact where its players are kept, else what results record; null for none.
  target(run) {
    const known = this.said.players[run]?.target;
    if (known?.kind) return known;
    const recorded = this.said.targets?.[this.said.target_of[run]] ?? {};
    const center = this.array("of_run_target_center"), half = this.ofRun("extent", run);
    const box = center === null ? {} : { center: [center[2 * run], center[2 * run + 1]], half };
    if (!recorded.means && !recorded.points) return null;
    const scale = recorded.stds?.length ? Math.min(...recorded.stds) : half / 50;
    return { kind: recorded.points ? "points" : "mixture", scale, ...box, ...recorded };
  }

  // What is kept of a run beside its curves, unpacked once: {samples (S, N, 2), surface (S, H, W), states} or less.
  async more(run) {
    if (!this.opened.has(run)) this.opened.set(run, this.unpacked(run));
    return this.opened.get(run);
  }

  async unpacked(run) {
    const found = {};
    const seen = this.said.entries[`seen-${run}`];
    if (seen) {
      const bytes = await chunk(`seen-${run}`);
      for (const [name, entry] of Object.entries(seen)) found[name] = { values: unpack(entry, bytes), shape: entry.shape };
    }
    const about = this.said.players[run], entries = this.said.entries[`players-${run}`];
    if (about && entries) found.states = states(about, entries, await chunk(`players-${run}`));
    return found;
  }
}

// The kept states of a run: [{step, gen, disc, memory} or {step, surface, samples}].
export function states(about, entries, bytes) {
  const arrays = about.steps.map(() => ({}));
  for (const [key, entry] of Object.entries(entries)) {
    const slash = key.indexOf("/");
    arrays[Number(key.slice(0, slash))][key.slice(slash + 1)] = { values: unpack(entry, bytes), shape: entry.shape };
  }
  return arrays.map((of, i) => {
    if (!about.networks) return { step: about.steps[i], surface: of.surface, samples: of.samples };
    const made = { step: about.steps[i], memory: { gen: {}, disc: {} }, remembers: false };
    for (const who of ["gen", "disc"]) {
      const own = {};
      for (const [name, array] of Object.entries(of)) if (name.startsWith(`${who}/`)) own[name.slice(who.length + 1)] = array;
      made[who] = player(about.networks[who], own);
    }
    for (const [name, { values }] of Object.entries(of)) {
      const [kind, who, , ...rest] = name.split("/");
      if (!["mu", "nu", "trace"].includes(kind)) continue;
      (made.memory[who][kind] ??= {})[rest.join("/")] = Float64Array.from(values);
      made.remembers = true;
    }
    if (made.remembers) {
      const { config } = about;
      made.memory.gen.count = made.step * (config.gen_steps ?? 1);
      made.memory.disc.count = made.step * (config.disc_steps ?? 1);
    }
    return made;
  });
}
