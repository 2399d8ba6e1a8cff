// Functions of one number with their derivatives, [f, f', f''], as the package's networks and losses have them.

export function sigmoid(x) {
  return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));
}

export function softplus(x) {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

const slope = (x) => sigmoid(x) * (1 - sigmoid(x));

export const SOFTPLUS = [softplus, sigmoid, slope, (x) => slope(x) * (1 - 2 * sigmoid(x))];
export const SIGMOID = SOFTPLUS.slice(1);
export const EXP = [Math.exp, Math.exp, Math.exp];
export const EXPM1 = [Math.expm1, Math.exp, Math.exp];
export const SQUARE = [(x) => x * x, (x) => 2 * x, () => 2, () => 0];
export const RELU = [(x) => (x <= 0 ? 0 : x), (x) => (x <= 0 ? 0 : 1), () => 0, () => 0];
export const SIN = [Math.sin, Math.cos, (x) => -Math.sin(x), (x) => -Math.cos(x)];
export const COS = [Math.cos, (x) => -Math.sin(x), (x) => -Math.cos(x), Math.sin];
// 1 / sqrt(x).
export const RSQRT = [(x) => x ** -0.5, (x) => -0.5 * x ** -1.5, (x) => 0.75 * x ** -2.5, (x) => -1.875 * x ** -3.5];
const TINY = 1.1754943508222875e-38;
// The root, with a derivative of zero where there is none.
export const ROOT = [
  (x) => Math.sqrt(Math.max(x, TINY)),
  (x) => (x > TINY ? 0.5 / Math.sqrt(x) : 0),
  (x) => (x > TINY ? -0.25 * x ** -1.5 : 0),
];

function leaky(share) {
  return [(x) => (x >= 0 ? x : share * x), (x) => (x >= 0 ? 1 : share), () => 0, () => 0];
}

const tanhSlope = (x) => 1 - Math.tanh(x) ** 2;

// Of x sigmoid(x).
const SILU = [
  (x) => x * sigmoid(x),
  (x) => sigmoid(x) + x * slope(x),
  (x) => 2 * slope(x) + x * SOFTPLUS[3](x),
];

// Of x / 2 (1 + tanh u), u = c (x + 0.044715 x^3).
const C = Math.sqrt(2 / Math.PI);
const inner = (x) => C * (x + 0.044715 * x ** 3);
const innerSlope = (x) => C * (1 + 3 * 0.044715 * x * x);
const GELU = [
  (x) => (x / 2) * (1 + Math.tanh(inner(x))),
  (x) => (1 + Math.tanh(inner(x))) / 2 + (x / 2) * tanhSlope(inner(x)) * innerSlope(x),
  (x) => {
    const t = Math.tanh(inner(x)), s = 1 - t * t, u = innerSlope(x);
    return s * u + (x / 2) * s * (6 * 0.044715 * C * x - 2 * t * u * u);
  },
];

export const ACTIVATIONS = {
  relu: RELU,
  leaky_relu: leaky(0.2),
  "leaky_relu_0.01": leaky(0.01),
  "leaky_relu_0.1": leaky(0.1),
  "leaky_relu_0.3": leaky(0.3),
  tanh: [Math.tanh, tanhSlope, (x) => -2 * Math.tanh(x) * tanhSlope(x), (x) => tanhSlope(x) * (6 * Math.tanh(x) ** 2 - 2)],
  elu: [(x) => (x > 0 ? x : Math.expm1(x)), (x) => (x > 0 ? 1 : Math.exp(x)), (x) => (x > 0 ? 0 : Math.exp(x))],
  gelu: GELU,
  silu: SILU,
  softplus: SOFTPLUS,
};
