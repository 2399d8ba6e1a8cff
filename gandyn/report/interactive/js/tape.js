// Matrices that know what they were made of, and gradients of them. A gradient is made of the same operations, so it can
// be differentiated again: penalties of D's slope need that.

export class Matrix {
  // parents: the matrices it was made of; pulls: for each, the gradient of the end by this one -> that by the parent.
  constructor(rows, cols, data, parents = [], pulls = []) {
    this.rows = rows;
    this.cols = cols;
    this.data = data;
    this.parents = parents;
    this.pulls = pulls;
  }
}

export function matrix(rows, cols, values) {
  const data = values instanceof Float64Array ? values : Float64Array.from(values);
  if (data.length !== rows * cols) throw new RangeError(`got ${data.length} numbers for ${rows} x ${cols}`);
  return new Matrix(rows, cols, data);
}

// ---- memory: what is thrown away after each picture and each step is used again, for collecting it costs more

let borrowed = null, idle = 0;
const free = new Map(), MOST_IDLE = 6e6;

function fresh(size) {
  if (borrowed === null) return new Float64Array(size);
  const found = free.get(size)?.pop();
  if (found) {
    idle -= size;
    found.fill(0);
  }
  const array = found ?? new Float64Array(size);
  borrowed.push(array);
  return array;
}

// What work() returns; every matrix that it made is used again afterwards, so it returns numbers, or copies of data.
export function pooled(work) {
  if (borrowed !== null) return work();
  borrowed = [];
  try {
    return work();
  } finally {
    for (const array of borrowed) {
      if (idle + array.length > MOST_IDLE) continue;
      idle += array.length;
      if (!free.has(array.length)) free.set(array.length, []);
      free.get(array.length).push(array);
    }
    borrowed = null;
  }
}

export function filled(rows, cols, value) {
  return new Matrix(rows, cols, fresh(rows * cols).fill(value));
}

// ---- products

function product(a, b, n, k, m) {
  const out = fresh(n * m);
  for (let i = 0; i < n; i++) {
    const to = i * m;
    let j = 0;
    for (; j + 3 < k; j += 4) {
      const a0 = a[i * k + j], a1 = a[i * k + j + 1], a2 = a[i * k + j + 2], a3 = a[i * k + j + 3];
      const b0 = j * m, b1 = b0 + m, b2 = b1 + m, b3 = b2 + m;
      for (let c = 0; c < m; c++) out[to + c] += a0 * b[b0 + c] + a1 * b[b1 + c] + a2 * b[b2 + c] + a3 * b[b3 + c];
    }
    for (; j < k; j++) {
      const a0 = a[i * k + j], b0 = j * m;
      for (let c = 0; c < m; c++) out[to + c] += a0 * b[b0 + c];
    }
  }
  return out;
}

function transposed(a, rows, cols) {
  const out = fresh(rows * cols);
  for (let i = 0; i < rows; i++) for (let j = 0; j < cols; j++) out[j * rows + i] = a[i * cols + j];
  return out;
}

// a (n, k) times b (k, m).
export function multiply(a, b) {
  const data = product(a.data, b.data, a.rows, a.cols, b.cols);
  return new Matrix(a.rows, b.cols, data, [a, b], [(g) => multiplyBT(g, b), (g) => multiplyAT(a, g)]);
}

// a (n, k) times the transpose of b (m, k).
export function multiplyBT(a, b) {
  const data = product(a.data, transposed(b.data, b.rows, b.cols), a.rows, a.cols, b.rows);
  return new Matrix(a.rows, b.rows, data, [a, b], [(g) => multiply(g, b), (g) => multiplyAT(g, a)]);
}

// The transpose of a (k, n) times b (k, m).
export function multiplyAT(a, b) {
  const data = product(transposed(a.data, a.rows, a.cols), b.data, a.cols, a.rows, b.cols);
  return new Matrix(a.cols, b.cols, data, [a, b], [(g) => multiplyBT(b, g), (g) => multiply(a, g)]);
}

// ---- entry by entry

export function add(a, b) {
  const data = fresh(a.data.length);
  for (let i = 0; i < data.length; i++) data[i] = a.data[i] + b.data[i];
  return new Matrix(a.rows, a.cols, data, [a, b], [(g) => g, (g) => g]);
}

export function scale(a, factor) {
  const data = fresh(a.data.length);
  for (let i = 0; i < data.length; i++) data[i] = factor * a.data[i];
  return new Matrix(a.rows, a.cols, data, [a], [(g) => scale(g, factor)]);
}

export function shift(a, by) {
  const data = fresh(a.data.length);
  for (let i = 0; i < data.length; i++) data[i] = a.data[i] + by;
  return new Matrix(a.rows, a.cols, data, [a], [(g) => g]);
}

export function subtract(a, b) {
  return add(a, scale(b, -1));
}

export function times(a, b) {
  const data = fresh(a.data.length);
  for (let i = 0; i < data.length; i++) data[i] = a.data[i] * b.data[i];
  return new Matrix(a.rows, a.cols, data, [a, b], [(g) => times(g, b), (g) => times(g, a)]);
}

// A function and its derivatives, [f, f', f'', ...], at each entry.
export function apply(a, functions, order = 0) {
  const f = functions[order], data = fresh(a.data.length);
  if (f === undefined) throw new RangeError("no such derivative of this function is known");
  for (let i = 0; i < data.length; i++) data[i] = f(a.data[i]);
  return new Matrix(a.rows, a.cols, data, [a], [(g) => times(g, apply(a, functions, order + 1))]);
}

// The larger of two at each entry; of equal ones the first.
export function larger(a, b) {
  const mask = fresh(a.data.length), other = fresh(a.data.length), data = fresh(a.data.length);
  for (let i = 0; i < data.length; i++) {
    mask[i] = a.data[i] >= b.data[i] ? 1 : 0;
    other[i] = 1 - mask[i];
    data[i] = mask[i] ? a.data[i] : b.data[i];
  }
  const first = new Matrix(a.rows, a.cols, mask);
  const second = new Matrix(a.rows, a.cols, other);
  return new Matrix(a.rows, a.cols, data, [a, b], [(g) => times(g, first), (g) => times(g, second)]);
}

// ---- rows and columns

// A row (1, m) under each of n rows.
export function spread(row, rows) {
  const m = row.cols, data = fresh(rows * m);
  for (let i = 0; i < rows; i++) data.set(row.data, i * m);
  return new Matrix(rows, m, data, [row], [sumRows]);
}

export function sumRows(a) {
  const data = fresh(a.cols);
  for (let i = 0; i < a.rows; i++) for (let j = 0; j < a.cols; j++) data[j] += a.data[i * a.cols + j];
  return new Matrix(1, a.cols, data, [a], [(g) => spread(g, a.rows)]);
}

export function addRow(a, row) {
  const data = fresh(a.data.length), m = a.cols;
  for (let i = 0; i < a.rows; i++) for (let j = 0; j < m; j++) data[i * m + j] = a.data[i * m + j] + row.data[j];
  return new Matrix(a.rows, m, data, [a, row], [(g) => g, sumRows]);
}

// A column (n, 1) beside itself, m times.
export function widen(column, cols) {
  const data = fresh(column.rows * cols);
  for (let i = 0; i < column.rows; i++) data.fill(column.data[i], i * cols, (i + 1) * cols);
  return new Matrix(column.rows, cols, data, [column], [sumColumns]);
}

export function sumColumns(a) {
  const data = fresh(a.rows);
  for (let i = 0; i < a.rows; i++) for (let j = 0; j < a.cols; j++) data[i] += a.data[i * a.cols + j];
  return new Matrix(a.rows, 1, data, [a], [(g) => widen(g, a.cols)]);
}

// Columns first .. last - 1.
export function columns(a, first, last) {
  const m = last - first, data = fresh(a.rows * m);
  for (let i = 0; i < a.rows; i++) data.set(a.data.subarray(i * a.cols + first, i * a.cols + last), i * m);
  return new Matrix(a.rows, m, data, [a], [(g) => within(g, first, a.cols)]);
}

// The columns of a among others that are zero.
export function within(a, first, cols) {
  const data = fresh(a.rows * cols);
  for (let i = 0; i < a.rows; i++) data.set(a.data.subarray(i * a.cols, (i + 1) * a.cols), i * cols + first);
  return new Matrix(a.rows, cols, data, [a], [(g) => columns(g, first, first + a.cols)]);
}

export function beside(a, b) {
  return add(within(a, 0, a.cols + b.cols), within(b, a.cols, a.cols + b.cols));
}

export function total(a) {
  let sum = 0;
  for (let i = 0; i < a.data.length; i++) sum += a.data[i];
  return new Matrix(1, 1, fresh(1).fill(sum), [a], [(g) => everywhere(g, a.rows, a.cols)]);
}

// One number at each of n x m entries.
export function everywhere(a, rows, cols) {
  return new Matrix(rows, cols, fresh(rows * cols).fill(a.data[0]), [a], [total]);
}

export function mean(a) {
  return scale(total(a), 1 / a.data.length);
}

// ---- gradients

function ordered(end) {
  const order = [], seen = new Set();
  const stack = [[end, 0]];
  seen.add(end);
  while (stack.length) {
    const top = stack[stack.length - 1];
    if (top[1] < top[0].parents.length) {
      const next = top[0].parents[top[1]++];
      if (!seen.has(next)) {
        seen.add(next);
        stack.push([next, 0]);
      }
    } else {
      order.push(top[0]);
      stack.pop();
    }
  }
  return order;
}

// Gradients of the sum of a matrix by others: one for each, zero where it was not made of it.
export function gradients(end, by) {
  const order = ordered(end);
  const reached = new Set(by);
  for (const node of order) if (node.parents.some((parent) => reached.has(parent))) reached.add(node);
  const found = new Map([[end, filled(end.rows, end.cols, 1)]]);
  for (let i = order.length - 1; i >= 0; i--) {
    const node = order[i], g = found.get(node);
    if (g === undefined || !reached.has(node)) continue;
    node.parents.forEach((parent, j) => {
      if (!reached.has(parent)) return;
      const part = node.pulls[j](g), before = found.get(parent);
      found.set(parent, before === undefined ? part : add(before, part));
    });
  }
  return by.map((one) => (reached.has(one) && found.get(one)) || filled(one.rows, one.cols, 0));
}
