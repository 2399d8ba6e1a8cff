// Chunks of the page turned back into arrays: base64, deflate, bytes in planes, halves, whole numbers.

export async function inflate(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const HALVES = new Float32Array(65536);
for (let bits = 0; bits < 65536; bits++) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits & 32768 ? -1 : 1;
  if (exponent === 31) HALVES[bits] = fraction ? NaN : sign * Infinity;
  else if (exponent === 0) HALVES[bits] = sign * fraction * 2 ** -24;
  else HALVES[bits] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

// A float16 given by its 16 bits.
export function half(bits) {
  return HALVES[bits];
}

const SIZES = { float32: 4, float16: 2, int16: 2, int8: 1, uint8: 1 };
const KINDS = { float32: Float32Array, float16: Uint16Array, int16: Int16Array, int8: Int8Array, uint8: Uint8Array };

// The values of an entry (see packing.py) of an inflated chunk: Float32Array of its shape, flattened.
export function unpack(entry, bytes) {
  const size = SIZES[entry.kind];
  const count = entry.shape.reduce((a, b) => a * b, 1);
  const together = new Uint8Array(count * size);
  for (let plane = 0; plane < size; plane++) {
    const from = entry.offset + plane * count;
    for (let i = 0; i < count; i++) together[i * size + plane] = bytes[from + i];
  }
  const stored = new KINDS[entry.kind](together.buffer);
  if (entry.kind === "float32") return stored;
  const values = new Float32Array(count);
  if (entry.kind === "float16") for (let i = 0; i < count; i++) values[i] = HALVES[stored[i]];
  else if ("log_unit" in entry) {
    for (let i = 0; i < count; i++) values[i] = stored[i] ? Math.exp(entry.log_low + entry.log_unit * (stored[i] - 1)) : 0;
  } else if ("unit" in entry) {
    const least = entry.kind === "int8" ? -128 : -32768;
    for (let i = 0; i < count; i++) values[i] = stored[i] === least ? NaN : entry.low + entry.unit * stored[i];
  } else values.set(stored);
  return values;
}
