// Random and quasi-random numbers. Seeded: what one seed draws is the same on every machine.

// Uniforms in (0, 1): a 32-bit state mixed by multiplications and shifts, 2^32 draws long.
export function uniforms(seed) {
  let state = (seed ^ 0x9e3779b9) >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let x = state;
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return (((x ^ (x >>> 15)) >>> 0) + 0.5) / 4294967296;
  };
}

// Standard normals from uniforms, in pairs (Box and Muller).
export function normals(uniform) {
  let kept = null;
  return () => {
    if (kept !== null) {
      const value = kept;
      kept = null;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(uniform())), angle = 2 * Math.PI * uniform();
    kept = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
}

// The normal quantile: rational in the middle and in the tails (error below 1.2e-9), refined by one step of Halley.
export function quantile(p) {
  const a = [-39.69683028665376, 220.9460984245205, -275.9285104469687, 138.357751867269, -30.66479806614716, 2.506628277459239];
  const b = [-54.47609879822406, 161.5858368580409, -155.6989798598866, 66.80131188771972, -13.28068155288572, 1];
  const c = [-0.007784894002430293, -0.3223964580411365, -2.400758277161838, -2.549732539343734, 4.374664141464968, 2.938163982698783];
  const d = [0.007784695709041462, 0.3224671290700398, 2.445134137142996, 3.754408661907416, 1];
  const at = (coefficients, x) => coefficients.reduce((sum, k) => sum * x + k, 0);
  if (p > 0.97575) return -quantile(1 - p);
  if (p < 0.02425) {
    const q = Math.sqrt(-2 * Math.log(p));
    return at(c, q) / at(d, q);
  }
  const q = p - 0.5, r = q * q;
  return (at(a, r) * q) / at(b, r);
}

// Points of a rank-one lattice in (0, 1)^dim with a shift: row i is frac(i * generator + shift), of square roots of primes.
const PRIMES = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53];
export function lattice(count, dim, uniform) {
  const points = new Float64Array(count * dim);
  for (let j = 0; j < dim; j++) {
    const step = Math.sqrt(PRIMES[j % PRIMES.length] + (j >= PRIMES.length ? j : 0)) % 1, from = uniform();
    for (let i = 0; i < count; i++) {
      const x = (from + (i + 1) * step) % 1;
      points[i * dim + j] = Math.min(Math.max(x, 1e-12), 1 - 1e-12);
    }
  }
  return points;
}
