// A small multi-layer perceptron in float64: affine layers with ReLU between them.

/** A network as the notebook packed it: layers { rows, columns, weight, bias }. */
export function readLayers(packed) {
  const numbers = (text) => Float64Array.from(new Float32Array(
    Uint8Array.from(atob(text), (char) => char.charCodeAt(0)).buffer));
  return packed.map(({ weight, bias }) => {
    const [matrix, shift] = [numbers(weight), numbers(bias)];
    return { rows: shift.length, columns: matrix.length / shift.length, weight: matrix, bias: shift };
  });
}

/** W x + b. */
export const apply = ({ rows, columns, weight, bias }, x) => Float64Array.from(bias, (shift, i) => {
  let sum = shift;
  for (let j = 0; j < columns; j += 1) sum += weight[i * columns + j] * x[j];
  return sum;
});

/** The coefficients that a linear function of a layer's output has in its input. */
export function pullBack({ rows, columns, weight }, row) {
  const back = new Float64Array(columns);
  for (let i = 0; i < rows; i += 1) {
    if (row[i] === 0) continue;
    for (let j = 0; j < columns; j += 1) back[j] += row[i] * weight[i * columns + j];
  }
  return back;
}

/** What each layer returns, before the ReLU; the last are the logits. */
export function forward(layers, input) {
  let x = input;
  return layers.map((layer) => {
    const z = apply(layer, x);
    x = z.map((value) => Math.max(0, value));
    return z;
  });
}

/** What stands for ReLU on [l, u]: no more than slope z + height, no less than below z. */
export function reluLines(lower, upper) {
  if (lower >= 0) return { slope: 1, height: 0, below: 1 };
  if (upper <= 0) return { slope: 0, height: 0, below: 0 };
  const slope = upper / (upper - lower);
  return { slope, below: upper > -lower ? 1 : 0,
    height: Math.max(-slope * lower, (1 - slope) * upper) };
}

/** The linear functions z_label - z_rival of the logits, for every rival: { rival, row }. */
export const marginRows = (classes, label) => Array.from({ length: classes }, (_, rival) => rival)
  .filter((rival) => rival !== label)
  .map((rival) => ({ rival, row: Float64Array.from({ length: classes },
    (_, i) => (i === label ? 1 : i === rival ? -1 : 0)) }));

export const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
