// The ball explorer: three balls in the plane. A point is brought back to the nearest one that is
// allowed, or taken for a gradient to follow.

import { pathThrough, textAt } from "./chart.js";
import { button, choice, drawAtWidth, html, keepState, nearest, openCard, part, range, signed,
  slider, svg, verdict } from "./explorer.js";

const BALLS = { linf: { name: "ℓ∞", dual: "l1" }, l2: { name: "ℓ2", dual: "l2" },
  l1: { name: "ℓ1", dual: "linf" } };
const LENGTHS = {
  linf: ([a, b]) => Math.max(Math.abs(a), Math.abs(b)),
  l2: ([a, b]) => Math.hypot(a, b),
  l1: ([a, b]) => Math.abs(a) + Math.abs(b),
};
const REACH = 0.6;

const clampTo = (low, high) => (value) => Math.min(high, Math.max(low, value));
const softly = (strength) => (value) =>
  Math.sign(value) * Math.max(0, Math.abs(value) - strength);

/** The nearest point of a ball: cut each coordinate, shorten, or take one threshold off both. */
function projectOnto(norm, epsilon, point) {
  if (LENGTHS[norm](point) <= epsilon) return point;
  if (norm === "linf") return point.map(clampTo(-epsilon, epsilon));
  if (norm === "l2") return point.map((value) => (value * epsilon) / Math.hypot(...point));
  const one = LENGTHS.linf(point) - epsilon; // if only the larger coordinate survives
  return point.map(softly(Math.max(one, (LENGTHS.l1(point) - epsilon) / 2)));
}

/** Projected, then clipped to pixels in [0, 1], and the nearest point that both allow. */
function allowedPoints(norm, epsilon, pixels, point) {
  const clip = (change) => change.map((value, i) => clampTo(-pixels[i], 1 - pixels[i])(value));
  const projected = projectOnto(norm, epsilon, point);
  const shrunk = (strength) => clip(norm === "l2"
    ? point.map((value) => value / (1 + strength)) : point.map(softly(strength)));
  let best = norm === "linf" ? clip(projected) : clip(point);
  if (LENGTHS[norm](best) > epsilon * (1 + 1e-6)) {
    let [weak, strong] = [0, 100];
    for (let i = 0; i < 60; i += 1) {
      const middle = (weak + strong) / 2;
      if (LENGTHS[norm](shrunk(middle)) <= epsilon) strong = middle;
      else weak = middle;
    }
    best = shrunk(strong);
  }
  return { projected, clipped: clip(projected), best };
}

/** The step in the ball on which <g, δ> is largest. */
function steepestStep(norm, epsilon, gradient) {
  if (norm === "linf") return gradient.map((value) => epsilon * Math.sign(value));
  const size = LENGTHS[norm === "l2" ? "l2" : "linf"](gradient);
  if (size === 0) return [0, 0];
  if (norm === "l2") return gradient.map((value) => (epsilon * value) / size);
  const first = Math.abs(gradient[0]) === size ? 0 : 1;
  return gradient.map((value, i) => (i === first ? epsilon * Math.sign(value) : 0));
}

const apart = ([a, b], [c, d]) => Math.hypot(a - c, b - d);
const number = (value) => signed(Math.abs(value) < 0.005 ? 0 : value, 2);
const pair = ([a, b]) => `(${number(a)}, ${number(b)})`;

const BALLS_STYLE = `
.sheet { display: grid; gap: 4px 24px; align-items: center; justify-content: center;
  grid-template-columns: minmax(0, 400px) minmax(0, 1fr); }
@container (max-width: 620px) { .sheet { grid-template-columns: minmax(0, 400px); } }
.balls { touch-action: none; cursor: crosshair; }
.balls path { fill: none; }
.balls .axis, .balls .level { stroke: var(--line); }
.balls .level.touch { stroke: var(--gradient); stroke-dasharray: 6 4; stroke-width: 2; }
.balls .ball { stroke: var(--muted); stroke-dasharray: 5 4; stroke-width: 1.25; }
.balls .ball.chosen { stroke: var(--text); stroke-width: 2.5; stroke-dasharray: none;
  fill: color-mix(in srgb, var(--track) 60%, transparent); }
.balls .outside { fill: url(#beyond); }
.balls .beyond { stroke: var(--line); }
.balls .way { stroke: var(--adversary); stroke-width: 2; }
.balls .way.then { stroke-dasharray: 3 3; }
.balls .way.g { stroke: var(--gradient); stroke-width: 3; }
.balls .point { fill: var(--surface); stroke: var(--adversary); stroke-width: 3; }
.balls .goal { fill: var(--adversary); stroke: var(--surface); stroke-width: 1.5; }
.balls .point.g { stroke: var(--gradient); }
.balls .best { stroke: var(--text); stroke-width: 3; }
.balls .named { fill: var(--text); font-size: 13px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { font-weight: 400; text-align: left; }
th, td { padding: 3px 6px 3px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { font-size: 13px; color: var(--muted); white-space: normal; vertical-align: bottom; }
.chosen td, .chosen th { font-weight: 600; }
`;

/** The outline of a ball around the origin, as path data. */
function outlinePath(norm, radius, at) {
  if (norm === "l2") {
    const [x, y, r] = [at([0, 0])[0], at([0, 0])[1], at([radius, 0])[0] - at([0, 0])[0]];
    return `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`;
  }
  const corners = norm === "linf" ? [[1, 1], [-1, 1], [-1, -1], [1, -1]]
    : [[1, 0], [0, 1], [-1, 0], [0, -1]];
  return `${pathThrough(corners.map(([a, b]) => at([a * radius, b * radius])))}Z`;
}

/** Axes, the three balls with their names, and what lies outside the range of pixels. */
function scenery({ side, at, norm, epsilon, pixels }) {
  const frame = `M0 0H${side}V${side}H0Z`;
  const outside = () => {
    const [left, bottom] = at(pixels.map((value) => Math.max(-REACH, -value)));
    const [right, top] = at(pixels.map((value) => Math.min(REACH, 1 - value)));
    return `${frame}M${left} ${top}V${bottom}H${right}V${top}Z`;
  };
  // The names stand where no two outlines come close, outside their own ball.
  const names = { linf: [1.04, 1.08], l2: [0.8, 0.82], l1: [0.1, 0.66] };
  return svg("g", {},
    svg("defs", {}, svg("pattern", { id: "beyond", width: 8, height: 8,
      patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    svg("path", { class: "beyond", d: "M0 0V8" }))),
    ...(pixels ? [svg("path", { class: "outside", "fill-rule": "evenodd", d: outside() })] : []),
    ...Object.keys(BALLS).sort((a, b) => (a === norm) - (b === norm)).map((key) =>
      svg("path", { class: `ball ${key === norm ? "chosen" : ""}`, d: outlinePath(key, epsilon, at) })),
    svg("path", { class: "axis", d: `M0 ${side / 2}H${side}M${side / 2} 0V${side}` }),
    textAt(side - 4, side / 2 - 6, "first pixel", { "text-anchor": "end" }),
    textAt(side / 2 + 6, 14, "second pixel"),
    ...Object.entries(names).map(([key, [a, b]]) =>
      textAt(...at([a * epsilon, b * epsilon]), BALLS[key].name, { class: "named" })));
}

const square = (x, y, name) => svg("rect", { class: name, x: x - 6, y: y - 6, width: 12, height: 12 });

/** The way from a point to the nearest allowed one. */
function drawProjection(at, point, { projected, clipped, best }) {
  const [from, first, then, [bx, by]] = [point, projected, clipped, best].map(at);
  const cut = apart(projected, clipped) > 1e-9;
  return svg("g", {},
    svg("path", { class: "way", d: pathThrough([from, first]) }),
    ...(cut ? [svg("path", { class: "way then", d: pathThrough([first, then]) }),
      svg("circle", { class: "goal", cx: first[0], cy: first[1], r: 4 })] : []),
    square(...then, "goal"),
    ...(apart(best, clipped) > 1e-3
      ? [svg("path", { class: "best", d: `M${bx - 6} ${by - 6}l12 12m0 -12l-12 12` })] : []),
    svg("circle", { class: "point", cx: from[0], cy: from[1], r: 9 }));
}

/** The gradient, the lines on which <g, δ> is constant, and the last one that meets the ball. */
function drawClimb(at, gradient, step) {
  const [origin, tip, [gx, gy]] = [[0, 0], gradient, step].map(at);
  const size = LENGTHS.l2(gradient);
  const line = (height, name) => {
    const [ux, uy] = gradient.map((value) => value / size);
    const ends = [-2, 2].map((t) => at([height * ux - t * uy, height * uy + t * ux]));
    return svg("path", { class: `level ${name}`, d: pathThrough(ends) });
  };
  const touch = size > 0 && (gradient[0] * step[0] + gradient[1] * step[1]) / size;
  return svg("g", {},
    ...(size > 0 ? [...range(-8, 8, 1).map((i) => line(touch + 0.1 * i, "")), line(touch, "touch")] : []),
    svg("path", { class: "way g", d: pathThrough([origin, tip]) }),
    square(gx, gy, "goal"),
    svg("circle", { class: "point g", cx: tip[0], cy: tip[1], r: 9 }));
}

/** The three norms side by side. */
function comparison(state, epsilon, pixels) {
  const { norm, point } = state;
  const rows = Object.entries(BALLS).map(([key, { name, dual }]) => {
    const best = pixels && allowedPoints(key, epsilon, pixels, point).best;
    const cells = pixels
      ? [number(LENGTHS[key](point)), pair(best), number(apart(best, point))]
      : [pair(steepestStep(key, epsilon, point)), number(LENGTHS[dual](point)),
        number(epsilon * LENGTHS[dual](point))];
    return html("tr", { class: key === norm ? "chosen" : "" }, html("th", { scope: "row" }, name),
      ...cells.map((text) => html("td", {}, text)));
  });
  const heads = pixels ? ["norm of δ", "nearest allowed", "away"]
    : ["best step", "dual norm", "rise"];
  return [html("thead", {}, html("tr", {}, html("td"),
    ...heads.map((text) => html("th", { scope: "col" }, text)))), html("tbody", {}, ...rows)];
}

/** The verdict on a perturbation: [sentence, mark, role]. */
function judgeProjection(norm, epsilon, point, { projected, clipped, best }) {
  const distant = (place) => `${pair(place)}, ${apart(place, point).toFixed(2)} away`;
  const ball = `${BALLS[norm].name} ε = ${epsilon}`;
  const inside = apart(point, projected) < 1e-9;
  const said = `δ = ${pair(point)} has ${BALLS[norm].name} norm ${LENGTHS[norm](point).toFixed(2)}`
    + (inside ? ` and lies in ${ball}.` : `; the nearest point in ${ball} is ${distant(projected)}.`);
  if (apart(clipped, projected) < 1e-9) {
    return inside ? [said, "allowed", "true"] : [said, "outside", "adversary"];
  }
  const then = `${said} Clipping the pixels then makes it ${distant(clipped)}; `;
  return apart(clipped, best) < 1e-3
    ? [`${then}no allowed point is nearer.`, "clipped", "adversary"]
    : [`${then}the nearest allowed point is ${distant(best)}.`, "not the nearest", "unknown"];
}

/** The verdict on a gradient. */
function judgeClimb(norm, epsilon, gradient) {
  const { name, dual } = BALLS[norm];
  const size = LENGTHS[dual](gradient);
  return [`g = ${pair(gradient)}: the best step in ${name} ε = ${epsilon} is `
    + `${pair(steepestStep(norm, epsilon, gradient))}, and ⟨g, δ⟩ = ε · ${BALLS[dual].name} norm of `
    + `g = ${epsilon} · ${size.toFixed(2)} = ${(epsilon * size).toFixed(3)}.`, "best step", ""];
}

export function render({ model, el }) {
  const [epsilon, images] = ["epsilon", "images"].map((key) => model.get(key));
  const card = openCard(el, "Ball explorer");
  const { state, set, reset } = keepState(model, card, ["norm", "view", "image", "point"], show);
  const stops = range(-REACH, REACH, 0.01);
  let side = 0;
  const at = ([a, b]) => [side * (0.5 + a / (2 * REACH)), side * (0.5 - b / (2 * REACH))];
  const names = { project: "δ", climb: "g" };
  const sliders = Object.entries(names).flatMap(([view, letter]) => [0, 1].map((i) => ({ view, i,
    ...slider({ label: `${letter}_${i + 1}, ${i ? "second" : "first"} pixel`, stops, index: 0,
      zero: nearest(stops, 0), text: (k) => number(stops[k]),
      change: (k) => set("point", state.point.map((value, j) => (j === i ? stops[k] : value))) }) })));
  const norm = choice({ label: "Ball", value: state.norm, change: (value) => set("norm", value),
    options: Object.entries(BALLS).map(([value, { name }]) => ({ value, label: name })) });
  const view = choice({ label: "The point is", value: state.view,
    change: (value) => set("view", value), options: [
      { value: "project", label: "a perturbation δ" }, { value: "climb", label: "a gradient g" }] });
  const image = choice({ label: "Clean pixels", value: state.image,
    change: (value) => set("image", value), options: images.map(([value, pixels]) =>
      ({ value, label: pixels.join(" and ") })) });
  const plot = html("div", { class: "balls", "aria-hidden": "true" });
  const [table, legend] = [html("table"), html("p", { class: "muted" })];
  const { node: verdictNode, say } = verdict(card);

  function show() {
    const climbing = state.view === "climb";
    const pixels = climbing ? null : images.find(([key]) => key === state.image)[1];
    const to = climbing ? steepestStep(state.norm, epsilon, state.point)
      : allowedPoints(state.norm, epsilon, pixels, state.point);
    for (const control of sliders) {
      control.node.hidden = control.view !== state.view;
      control.show(nearest(stops, state.point[control.i]));
    }
    norm.show(state.norm);
    view.show(state.view);
    image.show(state.image);
    image.node.hidden = climbing;
    if (side) {
      plot.replaceChildren(svg("svg", { height: side, viewBox: `0 0 ${side} ${side}` },
        svg("clipPath", { id: "sheet" }, svg("rect", { width: side, height: side })),
        svg("g", { "clip-path": "url(#sheet)" }, scenery({ side, at, norm: state.norm, epsilon, pixels }),
          climbing ? drawClimb(at, state.point, to) : drawProjection(at, state.point, to))));
    }
    table.replaceChildren(...comparison(state, epsilon, pixels));
    legend.textContent = climbing
      ? "Thin lines: all steps on one line rise by the same ⟨g, δ⟩. Dashed: the last line that "
        + "meets the ball. Filled square: where it does."
      : "Hatched: pixels below 0 or above 1. Filled square: where the point goes. Cross: the "
        + "nearest allowed point, where that is another one.";
    say(...(climbing ? judgeClimb(state.norm, epsilon, state.point)
      : judgeProjection(state.norm, epsilon, state.point, to)));
  }

  const follow = (event) => {
    const box = plot.getBoundingClientRect();
    const shares = [(event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height];
    set("point", shares.map((share) => stops[nearest(stops, (2 * share - 1) * REACH)]));
  };
  plot.addEventListener("pointerdown", (event) => {
    plot.setPointerCapture(event.pointerId);
    follow(event);
  });
  plot.addEventListener("pointermove", (event) => { if (event.buttons) follow(event); });
  card.append(html("style", {}, BALLS_STYLE),
    part(html("div", { class: "row bottom spread" }, norm.node, view.node, button("Reset", reset))),
    part(html("div", { class: "sheet" }, plot,
      html("div", {}, ...sliders.map((control) => control.node), image.node))),
    verdictNode, part(table),
    part(legend));
  drawAtWidth(card, plot, (width) => { side = Math.min(width, 400); show(); });
  show();
  return () => card.close();
}
