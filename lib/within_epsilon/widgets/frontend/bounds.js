// What a network cannot do on a box of inputs: intervals and CROWN, met layer by layer, as
// `within_epsilon.verification` has them with arithmetic="real".
//
// Bounds hold for real arithmetic. What float64 rounds here is paid: every layer's output counts as
// off by `noise`, which covers its own sum and that of the coefficients taken back through it, and
// every sum loses more than its rounding (N. Higham, Accuracy and Stability of Numerical Algorithms,
// section 3.1).

import { dot, forward, pullBack, reluLines } from "./mlp.js";

const UNIT = 2 ** -53;
/** Relative error of a sum of so many products, in units of their sizes' sum; doubled. */
const roundingOf = (terms) => (2 * terms * UNIT) / (1 - terms * UNIT);
const sizeOf = (lower, upper) => Math.max(Math.abs(lower), Math.abs(upper));

/** The l-infinity ball around pixels from 0 to 1, ends rounded outwards. */
export function ballBox(pixels, epsilon) {
  const step = epsilon > 0 ? 2 ** -51 : 0;
  return { lower: Float64Array.from(pixels, (pixel) => Math.max(0, pixel - epsilon - step)),
    upper: Float64Array.from(pixels, (pixel) => Math.min(1, pixel + epsilon + step)) };
}

/** Where an affine layer's outputs lie: centre to W c + b, radius to |W| r. */
function affineInterval({ rows, columns, weight, bias }, { lower, upper }) {
  const [low, high, noise] = [0, 1, 2].map(() => new Float64Array(rows));
  const share = roundingOf(Math.max(columns + 1, rows) + 16);
  for (let i = 0; i < rows; i += 1) {
    let [centre, radius, size] = [bias[i], 0, Math.abs(bias[i])];
    for (let j = 0; j < columns; j += 1) {
      const w = weight[i * columns + j];
      centre += (w * (upper[j] + lower[j])) / 2;
      radius += (Math.abs(w) * (upper[j] - lower[j])) / 2;
      size += Math.abs(w) * sizeOf(lower[j], upper[j]);
    }
    noise[i] = share * size;
    low[i] = centre - radius - noise[i];
    high[i] = centre + radius + noise[i];
  }
  return { lower: low, upper: high, noise };
}

/** The least value of a linear function on a box, or less. */
function leastOnBox(row, { lower, upper }) {
  const share = roundingOf(row.length + 16);
  let [middle, spread] = [0, 0];
  for (let j = 0; j < row.length; j += 1) {
    const radius = (upper[j] - lower[j]) / 2;
    middle += (row[j] * (upper[j] + lower[j])) / 2;
    spread += Math.abs(row[j]) * (radius + share * (sizeOf(lower[j], upper[j]) + radius));
  }
  return middle - spread;
}

/** A sum that is below its value, whatever rounding does. */
function safeSum() {
  let [total, sizes, count] = [0, 0, 0];
  return {
    add(part) { total += part; sizes += Math.abs(part); count += 1; },
    value: () => total - roundingOf(count + 4) * sizes,
  };
}

/** Bounds of every layer's outputs; with `linear`, those in doubt are tightened by CROWN. */
export function boundLayers(layers, box, linear = true) {
  const known = { layers, box, outputs: [], passed: [], lines: [] };
  layers.forEach((layer, k) => {
    const output = affineInterval(layer, k ? known.passed[k - 1] : box);
    known.outputs.push(output);
    if (k === layers.length - 1) return;
    if (linear && k > 0) tighten(known, k); // the first layer's intervals are exact
    const ends = [output.lower, output.upper].map((end) => end.map((value) => Math.max(0, value)));
    const share = roundingOf(layer.rows + 16);
    known.passed.push({ lower: ends[0], upper: ends[1],
      noise: output.lower.map((value, i) => share * sizeOf(value, output.upper[i])) });
    known.lines.push(Array.from(output.lower, (value, i) => reluLines(value, output.upper[i])));
  });
  return known;
}

/** Cut the intervals of a layer's outputs that may have either sign with their linear bounds. */
function tighten(known, k) {
  const { lower, upper } = known.outputs[k];
  for (let i = 0; i < lower.length; i += 1) {
    if (lower[i] >= 0 || upper[i] <= 0) continue;
    const unit = new Float64Array(lower.length);
    unit[i] = 1;
    const least = leastBy(known, linearBelow(known, unit, k));
    unit[i] = -1;
    const negated = leastBy(known, linearBelow(known, unit, k));
    lower[i] = Math.max(lower[i], least);
    upper[i] = Math.min(upper[i], -negated);
  }
}

/** CROWN: a linear function of the input below one of layer k's outputs. */
export function linearBelow({ layers, outputs, passed, lines }, row, k = layers.length - 1) {
  const sum = safeSum();
  let found = row;
  for (let at = k; ; at -= 1) {
    sum.add(-dot(found.map(Math.abs), outputs[at].noise));
    sum.add(dot(found, layers[at].bias));
    const back = pullBack(layers[at], found);
    if (at === 0) return { coefficients: back, constant: sum.value() };
    const own = lines[at - 1];
    sum.add(-dot(back.map(Math.abs), passed[at - 1].noise));
    sum.add(back.reduce((total, value, i) => total + Math.min(0, value) * own[i].height, 0));
    found = back.map((value, i) => value * (value < 0 ? own[i].slope : own[i].below));
  }
}

/** The least value that a linear function has on the network's box. */
function leastBy({ box }, { coefficients, constant }) {
  const least = leastOnBox(coefficients, box);
  return least + constant - 4 * UNIT * (Math.abs(least) + Math.abs(constant));
}

/** The least value of a function of the logits, by the intervals of the layer before them. */
function leastByIntervals({ layers, outputs, passed, box }, row) {
  const last = layers.length - 1;
  const sum = safeSum();
  sum.add(-dot(row.map(Math.abs), outputs[last].noise));
  sum.add(dot(row, layers[last].bias));
  const back = pullBack(layers[last], row);
  if (last) sum.add(-dot(back.map(Math.abs), passed[last - 1].noise));
  sum.add(leastOnBox(back, last ? passed[last - 1] : box));
  return sum.value();
}

/** A function of the logits, bounded from below on a box by intervals alone and by CROWN met with
 * intervals; `corner` is where CROWN's linear function is least. `byIntervals` and `byLines` are what
 * `boundLayers` returns without and with `linear`. */
export function lowerBounds(byIntervals, byLines, row) {
  const below = linearBelow(byLines, row);
  const ibp = leastByIntervals(byIntervals, row);
  const { lower, upper } = byLines.box;
  return { ibp, crown: Math.max(leastBy(byLines, below), leastByIntervals(byLines, row)),
    corner: below.coefficients.map((value, i) => (value > 0 ? lower[i] : upper[i])) };
}

/** The gradient of a function of the logits in the input, and its value there. */
export function slopeOf(layers, row, input) {
  const outputs = forward(layers, input);
  let found = row;
  for (let k = layers.length - 1; ; k -= 1) {
    found = pullBack(layers[k], found);
    if (k === 0) return { value: dot(row, outputs.at(-1)), gradient: found };
    found = found.map((value, i) => (outputs[k - 1][i] > 0 ? value : 0));
  }
}

/** The smallest value of a function of the logits that 20 steps find from each start, each step
 * smaller than the last: { value, point }. Points stay within the ball and from 0 to 1. */
export function descend(layers, row, pixels, epsilon, starts, steps = 20) {
  const inside = (value, i) => Math.min(1, Math.max(0, // ends rounded inwards
    Math.min(Math.max(value, Math.min(pixels[i], pixels[i] - epsilon + 2 ** -52)),
      Math.max(pixels[i], pixels[i] + epsilon - 2 ** -52))));
  let best = { value: Infinity, point: null };
  for (const start of starts) {
    let point = Float64Array.from(start, inside);
    for (let step = 0; step <= steps; step += 1) {
      const { value, gradient } = slopeOf(layers, row, point);
      if (value < best.value) best = { value, point };
      const length = 0.5 * epsilon * 0.02 ** (step / Math.max(1, steps - 1));
      point = point.map((pixel, i) => inside(pixel - length * Math.sign(gradient[i]), i));
    }
  }
  return best;
}
