// The SGD explorer: logistic regression with two weights; the path of stochastic gradient descent
// on the contours of its loss, for any step size and batch size.

import { pathThrough, plane, roundTicks, textAt, xAxis, yAxis } from "./chart.js";
import { button, drawAtWidth, html, keepState, nearest, openCard, part, range, slider, svg,
  verdict } from "./explorer.js";
import { contour, contourLevels, mulberry32, player } from "./landscape.js";

/** log(1 + exp(t)) and its slope, without overflow. */
const softplus = (t) => Math.max(t, 0) + Math.log1p(Math.exp(-Math.abs(t)));
const sigmoid = (t) => (t >= 0 ? 1 / (1 + Math.exp(-t)) : Math.exp(t) / (1 + Math.exp(t)));

/** The mean of log(1 + exp(-y θ·x)) over a batch, plus weight decay, and its gradient. */
function logistic({ inputs, labels, decay }, batch, [w0, w1]) {
  let [loss, g0, g1] = [0, 0, 0];
  for (const i of batch) {
    const [x0, x1] = inputs[i];
    const t = -labels[i] * (w0 * x0 + w1 * x1);
    const slope = -labels[i] * sigmoid(t);
    loss += softplus(t);
    g0 += slope * x0;
    g1 += slope * x1;
  }
  const n = batch.length;
  return { loss: loss / n + (decay / 2) * (w0 * w0 + w1 * w1),
    gradient: [g0 / n + decay * w0, g1 / n + decay * w1] };
}

/** Minibatches of a shuffled data set, reshuffled when it is used up; the last may be short. */
function* minibatches(n, size, random) {
  const order = Array.from({ length: n }, (_, i) => i);
  for (;;) {
    for (let i = n - 1; i > 0; i -= 1) {
      const j = Math.floor(random() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    for (let at = 0; at < n; at += size) yield order.slice(at, at + size);
  }
}

/** The points that SGD visits: w := w - stepSize * gradient of a minibatch's mean loss. */
function descend(data, { start, steps, stepSize, batchSize, seed }) {
  const batches = minibatches(data.labels.length, batchSize, mulberry32(seed));
  const path = [start];
  for (let step = 0; step < steps; step += 1) {
    const w = path[step];
    const { gradient } = logistic(data, batches.next().value, w);
    path.push([w[0] - stepSize * gradient[0], w[1] - stepSize * gradient[1]]);
  }
  return path;
}

/** The loss on a grid over the frame, row by row from the bottom. */
function lossGrid(data, frame, size = 48) {
  const all = data.labels.map((_, i) => i);
  const at = ([from, to], i) => from + ((to - from) * i) / size;
  return Array.from({ length: size + 1 }, (_, r) => Array.from({ length: size + 1 }, (__, c) =>
    logistic(data, all, [at(frame.x, c), at(frame.y, r)]).loss));
}

const SGD_STYLE = `
.plane path { fill: none; }
.plane .grid { stroke: var(--line); }
.plane .contour { stroke: var(--other); opacity: 0.6; }
.plane .path { stroke: var(--gradient); stroke-width: 2; stroke-linejoin: round; }
.plane .visited { fill: var(--gradient); }
.plane .start { fill: var(--surface); stroke: var(--text); stroke-width: 2; }
.plane .best { stroke: var(--text); stroke-width: 3; }
.plane .now { fill: var(--gradient); stroke: var(--surface); stroke-width: 2; }
.plane .named { fill: var(--text); font-size: 13px; }
.plane .named.g { fill: var(--gradient-text); }
`;

/** Where weights lie in a drawing of this width. */
function layout(width, frame) {
  const height = Math.round(Math.min(380, Math.max(270, 0.6 * width)));
  return { height, at: plane({ width, top: 8, bottom: height - 38, x: frame.x, y: frame.y }) };
}

/** What does not move: contours of the loss, closer together near the minimum, and axes. */
function background({ at }, frame, grid) {
  const size = grid.length - 1;
  const across = (i) => at.left + ((at.right - at.left) * i) / size;
  const up = (i) => at.bottom + ((at.top - at.bottom) * i) / size;
  return svg("g", {},
    ...contourLevels(grid).map((level) => svg("path", { class: "contour", d: contour(grid, level, across, up) })),
    yAxis(at, roundTicks(frame.y)),
    xAxis(at, roundTicks(frame.x), "across: weight θ_1, up: weight θ_2"));
}

/** Start, minimum, and the path. */
function drawPath({ at }, path, best) {
  const place = ([a, b]) => [at.x(a), at.y(b)];
  const [[sx, sy], [bx, by], [ex, ey]] = [path[0], best, path[path.length - 1]].map(place);
  return svg("g", {},
    svg("clipPath", { id: "frame" }, svg("rect", { x: at.left, y: at.top,
      width: at.right - at.left, height: at.bottom - at.top })),
    svg("g", { "clip-path": "url(#frame)" },
      svg("path", { class: "path", d: pathThrough(path.map(place)) }),
      ...path.slice(1, -1).map(place).map(([cx, cy]) =>
        svg("circle", { class: "visited", cx, cy, r: 2.5 }))),
    svg("path", { class: "best", d: `M${bx - 7} ${by - 7}l14 14m0 -14l-14 14` }),
    textAt(bx + 13, by - 9, "minimum", { class: "named" }),
    svg("rect", { class: "start", x: sx - 6, y: sy - 6, width: 12, height: 12 }),
    textAt(sx + (bx > sx ? -11 : 11), sy + 4, "start",
      { class: "named", "text-anchor": bx > sx ? "end" : "start" }),
    svg("g", { "clip-path": "url(#frame)" }, svg("circle", { class: "now", cx: ex, cy: ey, r: 8 })));
}

/** What became of a run, [mark, role, words]: from its losses and the lowest loss there is. */
function outcome(path, losses, lowest, best, frame) {
  const [w0, w1] = path[path.length - 1];
  const distance = ([a, b], [c, d]) => Math.hypot(a - c, b - d);
  const end = losses[losses.length - 1];
  const words = `loss ${end.toPrecision(3)}, the minimum is ${lowest.toPrecision(3)}`;
  if (w0 < frame.x[0] || w0 > frame.x[1] || w1 < frame.y[0] || w1 > frame.y[1]) {
    return ["out of the frame", "adversary", `${words}; the steps are too long`];
  }
  const near = losses.slice(-10).every((loss) => loss - lowest < 0.01 * (losses[0] - lowest));
  if (near) return ["arrived", "true", words];
  // Steps that agree cover ground, and those that do not may still lower the loss.
  const excess = (some) => some.reduce((sum, loss) => sum + loss - lowest, 0) / some.length;
  const earlier = losses.length > 20 ? losses.slice(-40, -20) : losses.slice(0, 1);
  const falls = excess(losses.slice(-20)) < 0.6 * excess(earlier);
  const last = path.slice(-20);
  const length = last.slice(1).reduce((sum, w, i) => sum + distance(w, last[i]), 0);
  if (falls || distance(last[0], last[last.length - 1]) > 0.4 * length) return ["on its way", "", words];
  const stray = Math.sqrt(last.reduce((sum, w) => sum + distance(w, best) ** 2, 0) / last.length);
  return ["wanders", "unknown",
    `${words}; the last 20 points stray ${stray.toPrecision(2)} from it`];
}

export function render({ model, el }) {
  const [start, steps, frame, best] = ["start", "steps", "frame", "minimum"].map((key) =>
    model.get(key));
  const data = { inputs: model.get("inputs"), labels: model.get("labels"),
    decay: model.get("weight_decay") };
  const everything = data.labels.map((_, i) => i);
  const loss = (w) => logistic(data, everything, w).loss;
  const [n, lowest, grid] = [data.labels.length, loss(best), lossGrid(data, frame)];
  const card = openCard(el, "SGD explorer");
  const { state, set, reset } = keepState(model, card, ["step_size", "batch_size", "seed"], again);
  let drawing = null;
  let run = { path: [], losses: [] };

  const stepStops = range(-2, 2, 0.1).map((exponent) => Number((10 ** exponent).toPrecision(2)));
  const batchStops = [...range(0, Math.ceil(Math.log2(n)) - 1, 1).map((power) => 2 ** power), n];
  const stepControl = slider({ label: "Step size α", stops: stepStops, index: 0, main: true,
    text: (i) => `α = ${stepStops[i]}`, change: (i) => set("step_size", stepStops[i]) });
  const batchControl = slider({ label: "Examples in a minibatch", stops: batchStops, index: 0,
    text: (i) => (batchStops[i] === n ? `all ${n}` : `${batchStops[i]} of ${n}`),
    change: (i) => set("batch_size", batchStops[i]) });
  const reel = player(card, () => steps, (count) => show(count));
  const [still, moving] = [svg("g"), svg("g")];
  const plot = html("div", { class: "plane", "aria-hidden": "true" });
  const { node: verdictNode, say } = verdict(card);

  function show(count) {
    const path = run.path.slice(0, count + 1);
    if (drawing) moving.replaceChildren(drawPath(drawing, path, best));
    const [mark, role, words] = outcome(path, run.losses.slice(0, count + 1), lowest, best, frame);
    const size = state.batch_size >= n ? `all ${n} examples` : state.batch_size === 1
      ? "1 example" : `${state.batch_size} examples`;
    say(`${count} ${count === 1 ? "step" : "steps"} on ${size} each, α = ${state.step_size}: ${words}.`, mark, role);
  }

  function again() {
    const path = descend(data, { start, steps, stepSize: state.step_size,
      batchSize: state.batch_size, seed: state.seed });
    run = { path, losses: path.map(loss) };
    stepControl.show(nearest(stepStops, state.step_size));
    batchControl.show(nearest(batchStops, state.batch_size));
    show(reel.all());
  }

  drawAtWidth(card, plot, (width) => {
    drawing = layout(width, frame);
    still.replaceChildren(background(drawing, frame, grid));
    plot.replaceChildren(svg("svg", { height: drawing.height,
      viewBox: `0 0 ${width} ${drawing.height}` }, still, moving));
    again();
  });
  card.append(html("style", {}, SGD_STYLE), part(plot), part(stepControl.node),
    part(html("div", { class: "row" }, batchControl.node, html("div", { class: "row" }, ...reel.nodes,
      button("Reshuffle", () => set("seed", state.seed + 1)), button("Reset", reset)))),
    verdictNode);
  again();
  return () => card.close();
}
