// A recipe as a file for `gandyn run` and as Python, to run properly what was found in the page.

const FIELDS = ["loss", "penalties", "rule", "disc_steps", "gen_steps", "first", "batch_size", "latent_dim", "prior", "gen_net", "gen_width", "gen_depth", "gen_activation", "gen_norm", "gen_fourier", "disc_net", "disc_width", "disc_depth", "disc_activation", "disc_norm", "disc_fourier", "maxout_pieces", "initializer", "gen_optimizer", "disc_optimizer"];

const OF_OPTIMIZER = { sgd: [], momentum: ["beta1"], rmsprop: ["beta2", "eps"], adam: ["beta1", "beta2", "eps"], adamw: ["beta1", "beta2", "eps", "weight_decay"] };
const OF_LOSS = { label_smoothing: /^(minimax|non_saturating|mean_logit)$/, label_smoothing_fake: /^(minimax|non_saturating|mean_logit)$/, label_fake: /^least_squares/, label_real: /^least_squares/, label_gen: /^least_squares/, alpha_disc: /^alpha/, alpha_gen: /^alpha/ };

// The numbers that the recipe's parts read: others would be refused.
export function numbersRead(recipe) {
  const found = {};
  for (const who of ["gen", "disc"]) {
    const own = OF_OPTIMIZER[recipe[`${who}_optimizer`]] ?? [];
    for (const name of ["lr", ...own]) found[`${name}_${who}`] = recipe.numbers[`${name}_${who}`];
  }
  for (const name of recipe.penalties) {
    if (name === "clip") found.clip_bound = recipe.numbers.clip_bound;
    else found[`${name}_weight`] = recipe.numbers[`${name}_weight`];
    if (name.startsWith("wgan")) found[`${name}_norm`] = recipe.numbers[`${name}_norm`];
  }
  for (const [name, losses] of Object.entries(OF_LOSS)) if (losses.test(recipe.loss)) found[name] = recipe.numbers[name];
  return Object.fromEntries(Object.entries(found).filter(([, value]) => typeof value === "number" && Number.isFinite(value)));
}

function pairs(flat) {
  return Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]);
}

const rounded = (values) => values.map((x) => Number(x.toPrecision(9)));

// Fields of the target in a file; null for one that no numbers stand for.
function targetFields(target, name) {
  if (name) return { target: name };
  if (target.kind !== "mixture") return null;
  const fields = { target: "mixture", means: pairs(rounded(Array.from(target.means))), stds: rounded(Array.from(target.stds)), weights: rounded(Array.from(target.weights)) };
  if (target.shapes) fields.shapes = Array.from(target.stds, (_, k) => pairs(Array.from(target.shapes.slice(4 * k, 4 * k + 4))));
  if (target.modes?.length) fields.groups = Array.from(target.modes);
  return fields;
}

function tomlValue(value) {
  if (typeof value === "string") return JSON.stringify(value).replaceAll("\u007f", "\\u007F");
  if (typeof value === "boolean") return String(value);
  if (Array.isArray(value)) return `[${value.map(tomlValue).join(", ")}]`;
  return String(value);
}

export function configFields(recipe) {
  return Object.fromEntries(FIELDS.filter((name) => recipe[name] !== undefined && recipe[name] !== null).map((name) => [name, recipe[name]]));
}

// The recipe as TOML for `gandyn run FILE.toml`; a comment in place of it where the target is painted.
export function toml(recipe, target, name, steps) {
  const fields = targetFields(target, name);
  if (fields === null) return "# A painted target is no set of numbers that a file can hold: take the Python.\n";
  const table = (title, entries) => [`[${title}]`, ...Object.entries(entries).map(([key, value]) => `${key} = ${tomlValue(value)}`), ""];
  const head = [`title = "From the page"`, `num_steps = ${steps}`, `measure_every = ${Math.max(1, Math.round(steps / 40))}`, `seeds = "0:16"`, ""];
  return [...head, ...table("target", fields), ...table("config", configFields(recipe)), ...table("hparams", numbersRead(recipe))].join("\n");
}

function pythonValue(value) {
  if (Array.isArray(value)) return `(${value.map(pythonValue).join(", ")}${value.length === 1 ? "," : ""})`;
  if (typeof value === "boolean") return value ? "True" : "False";
  return JSON.stringify(value);
}

// The recipe as a script.
export function python(recipe, target, name, steps) {
  const lines = ["import gandyn", ""];
  if (name) lines.push(`target = gandyn.targets.TARGETS[${JSON.stringify(name)}]()`);
  else if (target.kind === "table") {
    const [width, height] = target.size, most = Math.max(...target.density) || 1;
    const rows = Array.from({ length: width }, (_, i) => `    [${Array.from(target.density.slice(i * height, (i + 1) * height), (x) => Math.round((1000 * x) / most)).join(", ")}],`);
    const box = [0, 1].map((i) => `(${target.origin[i]}, ${target.origin[i] + target.size[i] * target.cell[i]})`);
    lines.push("cells = [  # columns from left to right, each from below upwards", ...rows, "]", `target = gandyn.targets.from_cells(cells, box=(${box.join(", ")}), name="painted")`);
  } else {
    const fields = targetFields(target, "");
    lines.push("target = gandyn.targets.build(", ...Object.entries(fields).map(([key, value]) => `    ${key}=${pythonValue(value)},`), ")");
  }
  const call = (what, entries) => [`${what}(`, ...Object.entries(entries).map(([key, value]) => `    ${key}=${pythonValue(value)},`), ")"];
  lines.push("", ...call("config = gandyn.Config", configFields(recipe)), ...call("hparams = gandyn.HParams", numbersRead(recipe)), "");
  lines.push(`results = gandyn.run(target, config, hparams, seeds=range(16), num_steps=${steps}, out="runs/from_the_page")`, 'print(results.verdict.to_series().value_counts())', "");
  return lines.join("\n");
}
