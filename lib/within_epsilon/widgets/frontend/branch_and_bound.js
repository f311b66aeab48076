// Branch and bound on a square of inputs, for a network with one hidden layer of ReLUs: one split at
// a time. A case is a part of the square, a polygon: where some ReLUs are on and others off, whose
// kinks are straight lines, or a part halved along an axis.
//
// Bounds hold for real arithmetic: a half-plane is cut ALLOWANCE further out than it is, which is a
// million times what float64 rounds, and every bound loses 1e-12 of its terms' sizes.

import { dot, forward, marginRows, pullBack, reluLines } from "./mlp.js";

const ALLOWANCE = 1e-9;
export const GAP = 1e-3;

/** The part of a polygon where a x + b y + c is not below -ALLOWANCE. */
function cutPolygon(polygon, [a, b, c]) {
  const values = polygon.map(([x, y]) => a * x + b * y + c + ALLOWANCE);
  return polygon.flatMap(([x, y], i) => {
    const next = (i + 1) % polygon.length;
    const found = values[i] >= 0 ? [[x, y]] : [];
    if ((values[i] > 0 && values[next] < 0) || (values[i] < 0 && values[next] > 0)) {
      const share = values[i] / (values[i] - values[next]);
      found.push([x + share * (polygon[next][0] - x), y + share * (polygon[next][1] - y)]);
    }
    return found;
  });
}

/** The question: does every input of the square keep its class? */
export function makeProblem(layers, centre, radius, label) {
  const [hidden, last] = layers;
  const [[left, bottom], [right, top]] = [-radius, radius].map((side) => centre.map((c) => c + side));
  const rows = marginRows(last.rows, label).map(({ rival, row }) => ({ rival,
    coefficients: pullBack(last, row), constant: dot(row, last.bias) }));
  const lines = Array.from(hidden.bias, (shift, i) =>
    [hidden.weight[2 * i], hidden.weight[2 * i + 1], shift]);
  const margin = (point) => {
    const logits = forward(layers, point).at(-1);
    return Math.min(...marginRows(last.rows, label).map(({ row }) => dot(row, logits)));
  };
  return { rows, lines, margin, square: [[left, bottom], [right, bottom], [right, top], [left, top]] };
}

/** Bound a case: its ReLUs' inputs at its corners, then CROWN's line, met with intervals, again at its
 * corners. Fills in what is in doubt, the bound, and where the line is least. */
function boundCase({ rows, lines }, one) {
  const { polygon, signs } = one;
  if (!polygon.length) return Object.assign(one, { bound: Infinity, doubts: [], worst: null });
  const inputs = lines.map(([a, b, c], i) => {
    const values = polygon.map(([x, y]) => a * x + b * y + c);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return [signs[i] > 0 ? Math.max(0, low) : low, signs[i] < 0 ? Math.min(0, high) : high];
  });
  const relus = inputs.map(([low, high]) => reluLines(low, high));
  const doubts = relus.flatMap(({ height }, i) => (height > 0 ? [i] : []));
  const found = rows.map(({ coefficients, constant }) => {
    const [g, size] = [[0, 0, constant], [Math.abs(constant)]];
    let byIntervals = constant;
    coefficients.forEach((value, i) => {
      const { slope, height, below } = relus[i];
      const steep = value * (value < 0 ? slope : below);
      lines[i].forEach((part, axis) => { g[axis] += steep * part; });
      if (value < 0) g[2] += value * height;
      size.push(Math.abs(value) * Math.max(...inputs[i].map(Math.abs)));
      byIntervals += Math.min(...inputs[i].map((end) => value * Math.max(0, end)));
    });
    const values = polygon.map(([x, y]) => g[0] * x + g[1] * y + g[2]);
    const least = Math.min(...values);
    return { bound: Math.max(least, byIntervals) - 1e-12 * size.reduce((a, b) => a + b), g,
      worst: polygon[values.indexOf(least)] };
  });
  const weakest = found.reduce((least, other) => (other.bound < least.bound ? other : least));
  return Object.assign(one, { doubts, ...weakest });
}

const width = (polygon, axis) => {
  const values = polygon.map((corner) => corner[axis]);
  return [Math.min(...values), Math.max(...values)];
};

/** The two cases that a split makes: on and off, or below and above the middle. */
function halves(problem, one, cut) {
  const [line, relu] = cut.axis === undefined ? [problem.lines[cut.relu], cut.relu] : [cut.line, -1];
  return [1, -1].map((side) => boundCase(problem, { parent: one, cut, side,
    polygon: cutPolygon(one.polygon, line.map((part) => side * part)),
    signs: one.signs.map((sign, i) => (i === relu ? side : sign)) }));
}

/** The ReLU whose worse half is best, as `branch_and_bound` chooses; null where all are decided. */
function bestReLU(problem, one, enough) {
  let [chosen, record] = [null, -Infinity];
  for (const relu of one.doubts) {
    const ends = halves(problem, one, { relu }).map(({ bound }) => Math.min(enough, bound));
    const value = Math.min(...ends) + 0.1 * Math.max(...ends);
    if (value > record) [chosen, record] = [{ relu }, value];
  }
  return chosen;
}

/** The middle of the axis along which the bound's line falls furthest; null where none is in doubt. */
function bestAxis(one) {
  if (!one.doubts.length) return null;
  const falls = [0, 1].map((axis) => {
    const [from, to] = width(one.polygon, axis);
    return Math.abs(one.g[axis]) * (to - from);
  });
  const axis = falls[1] > falls[0] ? 1 : 0;
  const middle = width(one.polygon, axis).reduce((a, b) => (a + b) / 2);
  return { axis, at: middle, line: axis ? [0, 1, -middle] : [1, 0, -middle] };
}

/** A search; `advance()` does the next split. `split` is "relus" or "inputs"; `question` "sign" or
 * "least", when a case is closed only within GAP of the least margin found. */
export function openSearch(problem, { split, question, start }) {
  let upper = Infinity;
  let witness = null;
  const look = (point) => {
    const value = point ? problem.margin(point) : Infinity;
    if (value < upper) [upper, witness] = [value, point];
    return value;
  };
  const root = boundCase(problem, { polygon: problem.square, signs: problem.lines.map(() => 0) });
  look(start);
  root.seen = look(root.worst);
  let leaves = [root];
  const enough = () => (question === "sign" ? 0 : upper - GAP);
  const isClosed = (one) => one.bound > enough() || !one.doubts.length;
  const lower = () => Math.min(upper, ...leaves.map(({ bound }) => bound));
  const refuted = () => upper < -ALLOWANCE;
  const over = () => leaves.every(isClosed) || (question === "sign" && refuted());
  const history = [{ bounds: 1, lower: lower(), upper }];

  function advance() {
    if (over()) return false;
    const one = leaves.filter((leaf) => !isClosed(leaf))
      .reduce((worst, other) => (other.bound < worst.bound ? other : worst));
    const cut = split === "relus" ? bestReLU(problem, one, enough()) : bestAxis(one);
    one.children = halves(problem, one, cut);
    for (const half of one.children) {
      half.bound = Math.max(half.bound, one.bound);
      half.seen = look(half.worst);
    }
    leaves = leaves.flatMap((leaf) => (leaf === one ? one.children : [leaf]));
    history.push({ bounds: 1 + 2 * history.length, lower: lower(), upper });
    return true;
  }
  /** A closed case is proved, or holds an input of another class, or only lies above the least margin. */
  const stateOf = (one) => (!isClosed(one) ? "open" : one.bound > 0 ? "proved"
    : one.seen < -ALLOWANCE ? "bad" : "above");
  const report = () => ({ root, leaves, history, lower: lower(), upper, witness, over: over(),
    stateOf, status: lower() > 0 ? "proved" : refuted() ? "refuted" : "unknown" });
  return { advance, report };
}
