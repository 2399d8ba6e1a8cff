// The two players: what the package's Generator and Discriminator compute, from their parameters.
//
// A player is {spec, params, stats}: the fields of its network (snapshots.networks_of), and matrices by name,
// "Dense_0/kernel" (inputs, outputs), "Dense_0/bias" (1, outputs). Points and latents are matrices, one a row.

import { addRow, add, apply, beside, columns, larger, matrix, multiply, scale, spread, subtract, sumColumns, times, widen, shift, gradients } from "./tape.js";
import { ACTIVATIONS, COS, RSQRT, SIN, SQUARE } from "./functions.js";

// A player from arrays by name: {"params/Dense_0/kernel": {values, shape}}.
export function player(spec, arrays) {
  const made = { spec, params: {}, stats: {} };
  for (const [name, { values, shape }] of Object.entries(arrays)) {
    const slash = name.indexOf("/");
    const into = name.slice(0, slash) === "params" ? made.params : made.stats;
    const rows = shape.length > 1 ? shape[0] : 1;
    into[name.slice(slash + 1)] = matrix(rows, shape.length > 1 ? shape[1] : shape[0], values);
  }
  return made;
}

// A player with random parameters: normal, of variance 2 / inputs, biases zero (the package's he_normal).
export function initial(spec, normal) {
  const params = {};
  const layer = (number, inputs, outputs) => {
    const data = new Float64Array(inputs * outputs);
    for (let i = 0; i < data.length; i++) data[i] = normal() * Math.sqrt(2 / inputs);
    params[`Dense_${number}/kernel`] = matrix(inputs, outputs, data);
    params[`Dense_${number}/bias`] = matrix(1, outputs, new Float64Array(outputs));
  };
  let inputs = spec.inputs;
  for (let i = 0; i < spec.depth; i++) {
    layer(i, inputs, spec.width);
    inputs = spec.width;
  }
  layer(spec.depth, inputs, spec.outputs);
  return { spec, params, stats: {} };
}

function dense(net, number, x) {
  const kernel = net.params[`Dense_${number}/kernel`], bias = net.params[`Dense_${number}/bias`];
  const y = multiply(x, kernel);
  return bias === undefined ? y : addRow(y, bias);
}

function normalized(net, number, y) {
  const { norm, epsilon } = net.spec;
  if (norm === "batch") {
    const name = `BatchNorm_${number}`;
    const mean = net.stats[`${name}/mean`], variance = net.stats[`${name}/var`];
    const factor = times(net.params[`${name}/scale`], apply(shift(variance, epsilon), RSQRT));
    return addRow(times(subtract(y, spread(mean, y.rows)), spread(factor, y.rows)), net.params[`${name}/bias`]);
  }
  if (norm === "layer") {
    const name = `LayerNorm_${number}`;
    const centred = subtract(y, widen(scale(sumColumns(y), 1 / y.cols), y.cols));
    const variance = scale(sumColumns(apply(centred, SQUARE)), 1 / y.cols);
    const unit = times(centred, widen(apply(shift(variance, epsilon), RSQRT), y.cols));
    return addRow(times(unit, spread(net.params[`${name}/scale`], y.rows)), net.params[`${name}/bias`]);
  }
  return y;
}

function hidden(net, x) {
  const { spec } = net;
  for (let i = 0; i < spec.depth; i++) {
    let y = dense(net, i, x);
    if (spec.net === "maxout") {
      let most = columns(y, 0, spec.width);
      for (let p = 1; p < spec.pieces; p++) most = larger(most, columns(y, p * spec.width, (p + 1) * spec.width));
      y = most;
    }
    y = normalized(net, i, y);
    if (spec.net !== "maxout") y = apply(y, ACTIVATIONS[spec.activation]);
    x = spec.net === "residual" && x.cols === y.cols ? add(x, y) : y;
  }
  return x;
}

function features(net, x) {
  if (!net.spec.fourier) return x;
  const angle = scale(multiply(x, net.stats["FourierFeatures_0/frequency"]), 2 * Math.PI);
  return beside(apply(angle, SIN), apply(angle, COS));
}

function oneHot(label, rows, classes) {
  const data = new Float64Array(rows * classes);
  for (let i = 0; i < rows; i++) data[i * classes + (typeof label === "number" ? label : label[i])] = 1;
  return matrix(rows, classes, data);
}

// G at latents (N, Z): points (N, 2). label: a class, or one for each; read by conditional players alone.
export function generate(net, latents, label = 0) {
  const { spec } = net;
  if (spec.net === "point") return spread(net.params["kernel"], latents.rows);
  let x = features(net, latents);
  if (spec.classes) x = beside(x, oneHot(label, x.rows, spec.classes));
  if (spec.net === "affine") return dense(net, 0, x);
  return dense(net, spec.depth, hidden(net, x));
}

// D at points (N, inputs): outputs (N, 1).
export function discriminate(net, points, label = 0) {
  const { spec } = net;
  if (spec.net === "bilinear") return dense(net, 0, points);
  let x = features(net, points);
  if (spec.classes && !spec.projection) x = beside(x, oneHot(label, x.rows, spec.classes));
  if (spec.net === "quadratic") {
    const parts = [x];
    for (let i = 0; i < x.cols; i++)
      for (let j = i; j < x.cols; j++) parts.push(times(columns(x, i, i + 1), columns(x, j, j + 1)));
    return dense(net, 0, parts.reduce(beside));
  }
  x = hidden(net, x);
  const out = dense(net, spec.depth, x);
  if (!spec.classes || !spec.projection) return out;
  const own = multiply(oneHot(label, x.rows, spec.classes), net.params["Embedding_0/kernel"]);
  return add(out, sumColumns(times(x, own)));
}

// D's slope at each of the points (N, 2), a matrix that can be differentiated again.
export function slopes(net, points, label = 0) {
  return gradients(discriminate(net, points, label), [points])[0];
}

// Latents -> points and the Jacobian there, by differentiating G's two outputs: {points (N, 2), dx (N, Z), dy (N, Z)}.
export function jacobians(net, latents, label = 0) {
  const points = generate(net, latents, label);
  const [dx] = gradients(columns(points, 0, 1), [latents]);
  const [dy] = gradients(columns(points, 1, 2), [latents]);
  return { points, dx, dy };
}
