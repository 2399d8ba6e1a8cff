// Colours that people who are colour-blind tell apart: a scale that rises in lightness, and verdicts with letters.

const STOPS = [[20, 32, 86], [38, 78, 135], [70, 122, 142], [120, 162, 132], [186, 196, 104], [253, 231, 92]];

function mixed(stops, share) {
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1), i = Math.min(Math.floor(at), stops.length - 2);
  return stops[i].map((from, c) => Math.round(from + (at - i) * (stops[i + 1][c] - from)));
}

// From dark blue (0) to bright yellow (1), as [r, g, b].
export function rising(share) {
  return mixed(STOPS, share);
}

const SIDES = [[33, 102, 172], [146, 197, 222], [247, 247, 247], [244, 165, 130], [178, 24, 43]];
const DARK_SIDES = [[90, 160, 230], [50, 90, 130], [34, 36, 40], [140, 78, 52], [235, 110, 90]];

// D's output from fake (0, blue) by undecided (0.5) to real (1, red).
export function sides(share, dark) {
  return mixed(dark ? DARK_SIDES : SIDES, share);
}

export function css([r, g, b], alpha = 1) {
  return `rgba(${r},${g},${b},${alpha})`;
}

// Verdict -> [sign, colour]: the report's, which the page brings with it.
let marks = {};

export function takeMarks(given) {
  marks = given ?? {};
}

// [colour, sign] of a verdict; a name that is not known has one, too.
export function ofVerdict(name) {
  const known = Object.hasOwn(marks, name) ? marks[name] : [(name || "-").slice(0, 1).toUpperCase(), "#FFFFFF"];
  return [known[1], known[0]];
}

export function isLight(hex) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  return 0.3 * r + 0.59 * g + 0.11 * b > 140;
}
