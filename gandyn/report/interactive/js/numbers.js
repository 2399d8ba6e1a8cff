// Numbers as people read them, ticks of axes, ranges.

export function shown(x, digits = 3) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  if (Number.isInteger(x) && Math.abs(x) < 1e6) return grouped(x);
  const size = Math.abs(x);
  const text = size !== 0 && (size < 1e-3 || size >= 1e6) ? x.toExponential(digits - 1) : String(Number(x.toPrecision(digits)));
  return text.replace("-", "−");
}

export function grouped(x) {
  return String(x).replace("-", "−").replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

// Round numbers from low to high, about `count` of them.
export function ticks(low, high, count = 4) {
  const rough = (high - low) / Math.max(count, 1);
  if (!(rough > 0) || !Number.isFinite(rough)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const unit = [1, 2, 5, 10].map((k) => k * power).find((u) => u >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / unit - 1e-9); i * unit <= high + 1e-9 * unit; i++) found.push(i * unit);
  return found;
}

// The range of finite numbers, without the outer twentieth where it would stretch the rest beyond a factor of three.
export function range(values, always = []) {
  const finite = values.filter(Number.isFinite).sort((a, b) => a - b);
  let low = Infinity, high = -Infinity;
  if (finite.length) {
    const q = (share) => finite[Math.min(finite.length - 1, Math.floor(share * finite.length))];
    const reach = 1.5 * (q(0.95) - q(0.05)) || Infinity;
    low = finite.length < 10 ? finite[0] : Math.max(finite[0], q(0.05) - reach);
    high = finite.length < 10 ? finite[finite.length - 1] : Math.min(finite[finite.length - 1], q(0.95) + reach);
  }
  for (const x of always) if (Number.isFinite(x)) [low, high] = [Math.min(low, x), Math.max(high, x)];
  if (!(high >= low)) return [0, 1];
  const margin = 0.06 * (high - low) || 0.5 * Math.abs(high) || 0.5;
  return [low - margin, high + margin];
}

export function clamp(x, low, high) {
  return Math.min(Math.max(x, low), high);
}
