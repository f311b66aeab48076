// The linear explorer: a line between two classes; turn its weights and see every margin shrink by
// ε times the dual norm.

import { plane, pathThrough, roundTicks, textAt, xAxis, yAxis } from "./chart.js";
import { button, choice, drawAtWidth, html, keepState, nearest, openCard, part, range, signed,
  slider, svg, verdict, INSET } from "./explorer.js";

/** The norms: their names, the dual norm of w and its name, the steepest unit step, and corners of
 * the unit ball, of which the circle has none. */
const NORMS = {
  linf: { name: "ℓ∞", dual: ([a, b]) => Math.abs(a) + Math.abs(b), price: "ε‖w‖₁",
    step: (w) => w.map(Math.sign), corners: [[1, 1], [-1, 1], [-1, -1], [1, -1]] },
  l2: { name: "ℓ2", dual: ([a, b]) => Math.hypot(a, b), price: "ε‖w‖₂",
    step: (w) => w.map((value) => value / Math.hypot(...w)) },
  l1: { name: "ℓ1", dual: ([a, b]) => Math.max(Math.abs(a), Math.abs(b)), price: "ε‖w‖∞",
    step: ([a, b]) => (Math.abs(a) >= Math.abs(b) ? [Math.sign(a), 0] : [0, Math.sign(b)]),
    corners: [[1, 0], [0, 1], [-1, 0], [0, -1]] },
};

/** The weights of this direction in degrees; exact zeros on the axes. */
function weights(angle, length) {
  const radians = (angle * Math.PI) / 180;
  return [Math.cos(radians), Math.sin(radians)].map((value) => length * Number(value.toFixed(15)));
}

/** Margins, what each loses at worst, and the worst perturbation of a point of class +1. */
function worstCase({ inputs, labels }, w, epsilon, norm) {
  return { margins: inputs.map(([a, b], i) => labels[i] * (w[0] * a + w[1] * b)),
    price: epsilon * NORMS[norm].dual(w),
    delta: NORMS[norm].step(w).map((value) => -epsilon * value) };
}

/** What became of a point: "stands", "falls", or "wrong" before anybody moved it. */
const fate = (margin, price) => (margin <= 0 ? "wrong" : margin <= price ? "falls" : "stands");

const LINEAR_STYLE = `
.linear { cursor: grab; position: relative; }
.linear path, .linear rect, .linear circle { fill: none; }
.linear .grid { stroke: var(--line); }
.linear .strip { fill: var(--adversary); opacity: 0.16; }
.linear .edge { stroke: var(--adversary); stroke-dasharray: 6 4; }
.linear .line { stroke: var(--text); stroke-width: 2.5; }
.linear .w { stroke: var(--gradient); stroke-width: 3; }
.linear .tip { fill: var(--gradient); }
.linear .grip { position: absolute; width: 48px; height: 48px; margin: -24px; border-radius: 50%;
  touch-action: none; }
.linear .named { fill: var(--gradient-text); font-size: 14px; font-weight: 600; }
.linear .ball { stroke: var(--other); stroke-opacity: 0.45; }
.linear .chosen .ball { stroke: var(--text); stroke-opacity: 1; stroke-width: 2; }
.linear .stands .at { fill: var(--true); stroke: var(--surface); }
.linear .falls .at, .linear .wrong .at { fill: var(--surface); stroke: var(--adversary);
  stroke-width: 2; }
.linear .cross { stroke: var(--adversary); stroke-width: 2; }
.linear .push { stroke: var(--adversary); stroke-width: 2.5; }
.linear .worst { fill: var(--adversary); stroke: var(--surface); }
.scale path { fill: none; }
.scale .grid { stroke: var(--line); }
.scale .zero { stroke: var(--text); stroke-width: 2.5; }
.scale .lost { stroke: var(--adversary); stroke-width: 12; stroke-dasharray: 5 3; }
.scale .left { stroke: var(--true); stroke-width: 12; }
.scale .before { fill: var(--surface); stroke: var(--text); stroke-width: 2; }
.scale .worst { fill: var(--adversary); stroke: var(--surface); stroke-width: 2; }
.foot { align-items: flex-end; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; }
th { font-weight: 400; text-align: left; font-size: 13px; color: var(--muted); padding: 0; }
td { font-weight: 600; padding: 0; }
`;

/** The drawing's scale: one unit is as long up as across. */
function linearLayout(width, reach) {
  const side = Math.min(width - 2 * INSET, 340);
  const across = (reach * (width - 2 * INSET)) / side;
  const height = side + 46;
  const at = plane({ width, top: 8, bottom: 8 + side, x: [-across, across], y: [-reach, reach] });
  return { width, height, reach, across, at, unit: side / (2 * reach) };
}

const diamond = (x, y, r) => `M${x} ${y - r}L${x + r} ${y}L${x} ${y + r}L${x - r} ${y}Z`;

/** A point in its ball, and how it fares. */
function drawPoint({ at, unit }, [a, b], label, how, epsilon, norm, chosen) {
  const [x, y] = [at.x(a), at.y(b)];
  const { corners } = NORMS[norm];
  const ball = corners
    ? svg("path", { class: "ball", d: `${pathThrough(corners.map(([u, v]) =>
      [at.x(a + epsilon * u), at.y(b + epsilon * v)]))}Z` })
    : svg("circle", { class: "ball", cx: x, cy: y, r: epsilon * unit });
  const r = chosen ? 7 : 5;
  const mark = label > 0 ? svg("circle", { class: "at", cx: x, cy: y, r })
    : svg("rect", { class: "at", x: x - r, y: y - r, width: 2 * r, height: 2 * r });
  const cross = svg("path", { class: "cross", d: `M${x - r} ${y - r}l${2 * r} ${2 * r}m0 ${-2 * r}l${-2 * r} ${2 * r}` });
  return svg("g", { class: `${how} ${chosen ? "chosen" : ""}` }, ball, mark,
    ...(how === "wrong" ? [cross] : []));
}

/** The line <w, x> = 0, the strip where margins do not survive, and the arrow w. */
function drawLine({ at, across, reach }, w, price) {
  const size = Math.hypot(...w);
  const [u, v] = w.map((value) => value / size);
  const far = 2 * (across + reach);
  const line = (offset, way) => [1, -1].map((side) => [
    at.x(offset * u - way * side * far * v), at.y(offset * v + way * side * far * u)]);
  const half = price / size;
  const tip = [at.x(0.5 * reach * u), at.y(0.5 * reach * v)];
  return { tip, nodes: [
    svg("path", { class: "strip", d: `${pathThrough([...line(half, 1), ...line(-half, -1)])}Z` }),
    ...[half, -half].map((offset) => svg("path", { class: "edge", d: pathThrough(line(offset, 1)) })),
    svg("path", { class: "line", d: pathThrough(line(0, 1)) }),
    svg("path", { class: "w", d: pathThrough([[at.x(0), at.y(0)], tip]) }),
    svg("circle", { class: "tip", cx: tip[0], cy: tip[1], r: 8 }),
    textAt(at.x(0.68 * reach * u), at.y(0.68 * reach * v) + 5, "w",
      { class: "named", "text-anchor": "middle" })] };
}

/** The push that the chosen point gets at worst. */
function drawPush({ at }, [a, b], [da, db], label) {
  const from = [at.x(a), at.y(b)];
  const to = [at.x(a + label * da), at.y(b + label * db)];
  return [svg("path", { class: "push", d: pathThrough([from, to]) }),
    svg("path", { class: "worst", d: diamond(...to, 7) })];
}

/** The chosen margin on a scale, and how much of it is lost. */
function drawScale(width, limit, margin, price) {
  const at = plane({ width, top: 0, bottom: 34, x: [-limit, limit], y: [0, 1] });
  const x = (value) => at.x(Math.max(-limit, Math.min(limit, value)));
  const worst = margin - price;
  const row = (from, to, name) => svg("path", { class: name, d: `M${x(from)} 16H${x(to)}` });
  return svg("svg", { height: 70, viewBox: `0 0 ${width} 70` },
    xAxis(at, roundTicks([-limit, limit]), "margin of the chosen point"),
    ...(worst > 0 ? [row(0, worst, "left")] : []), row(worst, margin, "lost"),
    svg("path", { class: "zero", d: `M${x(0)} 0V34` }),
    svg("circle", { class: "before", cx: x(margin), cy: 16, r: 7 }),
    svg("path", { class: "worst", d: diamond(x(worst), 16, 9) }));
}

const MARKS = { stands: ["stands", "true"], falls: ["falls", "adversary"],
  wrong: ["wrong already", "adversary"] };

export function render({ model, el }) {
  const data = { inputs: model.get("inputs"), labels: model.get("labels") };
  const reach = model.get("reach");
  const n = data.labels.length;
  const longest = Math.max(...data.inputs.map((x) => Math.hypot(...x)));
  const card = openCard(el, "Linear classifier explorer");
  const { state, set, reset } = keepState(model, card,
    ["angle", "length", "epsilon", "norm", "point"], show);
  let drawing = null;

  const angles = range(-180, 180, 5);
  const epsilons = range(0, 1, 0.02);
  const turn = slider({ label: "Direction of w", stops: angles, index: 0, main: true,
    zero: nearest(angles, 0), text: (i) => `${signed(angles[i], 0)}°`,
    change: (i) => set("angle", angles[i]) });
  const size = slider({ label: "Radius of the ball", stops: epsilons, index: 0,
    text: (i) => `ε = ${epsilons[i]}`, change: (i) => set("epsilon", epsilons[i]) });
  const norm = choice({ label: "Norm", value: state.norm,
    options: Object.entries(NORMS).map(([value, { name }]) => ({ value, label: name })),
    change: (value) => set("norm", value) });
  const length = choice({ label: "Length of w", value: state.length,
    options: [0.5, 1, 2].map((value) => ({ value, label: `${value}` })),
    change: (value) => set("length", value) });
  const moving = svg("g", { "clip-path": "url(#plane)" });
  const axes = svg("g");
  const grip = html("span", { class: "grip" });
  const plot = html("div", { class: "linear", "aria-hidden": "true" });
  const scale = html("div", { class: "scale", "aria-hidden": "true" });
  const table = html("table");
  const { node: verdictNode, say } = verdict(card);

  function draw(w, { margins, price, delta }) {
    const { epsilon, point } = state;
    const { tip, nodes } = drawLine(drawing, w, price);
    const order = [...data.inputs.keys()].sort((i, j) => (i === point) - (j === point));
    moving.replaceChildren(...nodes.slice(0, 4),
      ...order.map((i) => drawPoint(drawing, data.inputs[i], data.labels[i],
        fate(margins[i], price), epsilon, state.norm, i === point)),
      ...drawPush(drawing, data.inputs[point], delta, data.labels[point]), ...nodes.slice(4));
    grip.style.left = `${tip[0]}px`;
    grip.style.top = `${tip[1]}px`;
    scale.replaceChildren(drawScale(drawing.width, longest * state.length, margins[point], price));
  }

  function show() {
    const w = weights(state.angle, state.length);
    const found = worstCase(data, w, state.epsilon, state.norm);
    const { margins, price } = found;
    turn.show(nearest(angles, state.angle));
    size.show(nearest(epsilons, state.epsilon));
    norm.show(state.norm);
    length.show(state.length);
    if (drawing) draw(w, found);
    const count = (limit) => margins.filter((margin) => margin <= limit).length;
    const [margin, { name, price: priceName }] = [margins[state.point], NORMS[state.norm]];
    const row = (tag, cells) => html("tr", {}, ...cells.map((cell) => html(tag, {}, cell)));
    table.replaceChildren(
      html("thead", {}, row("th", ["margin y⟨w, x⟩", `minus ${priceName}`, "at worst"])),
      html("tbody", {}, row("td", [margin, -price, margin - price].map((x) => signed(x, 3)))));
    const [mark, role] = MARKS[fate(margin, price)];
    say(`Point ${state.point + 1} of ${n}: margin ${signed(margin, 3)}, at worst `
      + `${signed(margin - price, 3)}. Wrong: ${count(0)} of ${n}; at worst, ${name} ε = `
      + `${Number(state.epsilon.toPrecision(3))}: ${count(price)} of ${n}.`, mark, role);
  }

  /** Turn w towards the pointer: from anywhere with a mouse, by the arrow's tip with a finger. */
  function follow(event) {
    const box = plot.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left - drawing.at.x(0), drawing.at.y(0) - event.clientY + box.top];
    if (x || y) set("angle", angles[nearest(angles, (Math.atan2(y, x) * 180) / Math.PI)]);
  }
  plot.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse" && event.target !== grip) return;
    plot.setPointerCapture(event.pointerId);
    follow(event);
  });
  plot.addEventListener("pointermove", (event) => {
    if (plot.hasPointerCapture(event.pointerId)) follow(event);
  });

  drawAtWidth(card, plot, (width) => {
    drawing = linearLayout(width, reach);
    const { at, across, height } = drawing;
    axes.replaceChildren(
      svg("clipPath", { id: "plane" }, svg("rect", { x: at.left, y: at.top,
        width: at.right - at.left, height: at.bottom - at.top })),
      yAxis(at, roundTicks([-reach, reach])),
      xAxis(at, roundTicks([-across, across]), "across: feature x_1, up: feature x_2"));
    plot.replaceChildren(
      svg("svg", { height, viewBox: `0 0 ${width} ${height}` }, axes, moving), grip);
    show();
  });
  card.append(html("style", {}, LINEAR_STYLE), part(plot), part(turn.node),
    part(html("div", { class: "row" }, size.node, norm.node)), verdictNode,
    part(scale, table),
    part(html("div", { class: "row spread foot" }, length.node, html("div", { class: "row" },
      button("Next point", () => set("point", (state.point + 1) % n)), button("Reset", reset)))),
    part(html("p", { class: "muted" }, "Circles are +1, the side that w points to; squares −1. "
      + "Filled: right wherever in its ball. Hollow: can be moved across. Crossed: wrong before. "
      + "The strip holds all margins that ε uses up.")));
  show();
  return () => card.close();
}
