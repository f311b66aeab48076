// The margin explorer: cross-entropy against the margin, its gradient, and where a loss that is
// computed from float32 probabilities stops telling the truth.

import { pathThrough, plane, textAt, xAxis, yAxis } from "./chart.js";
import { button, choice, dragAlong, drawAtWidth, html, keepState, nearest, openCard, part, percent,
  range, signed, slider, subscripted, svg, verdict } from "./explorer.js";

const { fround } = Math;

/** Loss, probability and |gradient| in z_y, the rival logits all being `margin` below z_y. */
function exactLoss(margin, classes) {
  const rivals = (classes - 1) * Math.exp(-Math.abs(margin));
  // log(1 + (k - 1) exp(-m)), with the larger exponential taken out.
  const loss = margin >= 0 ? Math.log1p(rivals)
    : -margin + Math.log(classes - 1 + Math.exp(margin));
  return { loss, probability: Math.exp(-loss), gradient: -Math.expm1(-loss) };
}

/** The same by way of float32 probabilities, -log(softmax(z)_y), and its gradient backwards. */
function roundedLoss(margin, classes) {
  const peak = Math.max(margin, 0);
  const [own, rival] = [fround(Math.exp(fround(margin - peak))), fround(Math.exp(fround(-peak)))];
  const probability = fround(own / fround(own + fround((classes - 1) * rival)));
  const loss = fround(-Math.log(probability)) + 0; // -0 is 0
  const above = fround(-1 / probability); // the gradient of -log p in p
  const gradient = Math.abs(fround(probability * fround(above - fround(above * probability))));
  return { loss, probability, gradient };
}

/** What float32 probabilities do to this margin: "", "zero", "nan" or "infinite". */
function fault(margin, classes) {
  const { loss, gradient } = roundedLoss(margin, classes);
  if (loss === Infinity) return "infinite";
  if (Number.isNaN(gradient)) return "nan";
  return loss === 0 ? "zero" : "";
}

const VIEWS = {
  near: { label: "near 0", x: [-10, 20], step: 0.1, xTicks: [-10, -5, 0, 5, 10, 15, 20],
    height: (value) => value,
    loss: { y: [0, 17], ticks: [[0, "0"], [5, "5"], [10, "10"], [15, "15"]], name: [-5, 10, -6] },
    gradient: { y: [0, 1], ticks: [[0, "0"], [1, "1"]], name: [3, 10, -4] } },
  far: { label: "as far as float32 goes", x: [-120, 60], step: 1, xTicks: [-120, -80, -40, 0, 40],
    height: (value) => Math.log10(Math.max(value, 1e-30)),
    loss: { y: [-27, 4], ticks: [[-10, "1e−10"], [0, "1"]], name: [-62, 0, 16] },
    gradient: { y: [-27, 4], ticks: [[-20, "1e−20"], [0, "1"]], name: [-62, 0, 16] } },
};

const MARGIN_STYLE = `
.plot { touch-action: pan-y; cursor: ew-resize; }
.plot path { fill: none; }
.plot .grid { stroke: var(--line); }
.plot .line { stroke: var(--text); stroke-width: 3; }
.plot .line.gradient { stroke: var(--gradient); stroke-dasharray: 7 4; }
.plot .band { fill: var(--track); }
.plot .broken { fill: url(#hatch); }
.plot .hatch { stroke: var(--adversary); stroke-width: 1.5; }
.plot .cursor { stroke: var(--other); }
.plot .dot { fill: var(--text); stroke: var(--surface); stroke-width: 2; }
.plot .dot.gradient { fill: var(--gradient); }
.plot .named { fill: var(--text); font-size: 13px; }
.plot .named.gradient { fill: var(--gradient-text); }
.plot .named.broken { fill: var(--adversary-text); }
table { border-collapse: collapse; width: 100%; }
th { font-weight: 400; text-align: left; }
th, td { padding: 4px 8px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { font-size: 13px; color: var(--muted); }
td { font-weight: 600; width: 36%; }
td.wrong { color: var(--adversary-text); }
.g { color: var(--gradient-text); }
`;

const short = (value) => {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : "∞";
  if (value === 0) return "0";
  return value >= 0.001 && value < 1e4 ? String(Number(value.toPrecision(4)))
    : value.toExponential(2).replace("-", "−");
};

/** The stretches of a view where float32 probabilities fail. */
function failures(margins, classes) {
  const words = { zero: "loss 0", nan: "gradient nan", infinite: "loss ∞" };
  const step = margins[1] - margins[0];
  return Object.keys(words).flatMap((kind) => {
    const where = margins.filter((m) => fault(m, classes) === kind);
    const to = Math.min(where[where.length - 1] + step, margins[margins.length - 1]);
    return where.length > 1 ? [{ text: words[kind], from: where[0], to }] : [];
  });
}

/** One panel: the loss or the gradient over a view's margins, with the point of this margin. */
function panel(what, { width, top, bottom, view, margins, classes, margin }) {
  const { y, ticks, name } = view[what];
  const at = plane({ width, top, bottom, x: view.x, y });
  const point = (m, k = classes) => [at.x(m),
    Math.max(top, Math.min(bottom, at.y(view.height(exactLoss(m, k)[what]))))];
  const [x, high] = point(margin);
  const [nameX, nameY] = point(name[0]);
  const broken = failures(margins, classes);
  const band = [...margins.map((m) => point(m)), ...margins.map((m) => point(m, 2)).reverse()];
  const mark = what === "loss" ? svg("circle", { class: "dot", cx: x, cy: high, r: 8 })
    : svg("rect", { class: "dot gradient", x: x - 7, y: high - 7, width: 14, height: 14 });
  return svg("g", {},
    ...broken.map(({ from, to }) => svg("rect", { class: "broken", x: at.x(from), y: top,
      width: at.x(to) - at.x(from), height: bottom - top })),
    svg("path", { class: "band", d: `${pathThrough(band)}Z` }), yAxis(at, ticks),
    svg("path", { class: "cursor", d: `M${x} ${top}V${bottom}` }),
    svg("path", { class: `line ${what}`, d: pathThrough(margins.map((m) => point(m))) }),
    textAt(nameX + name[1], nameY + name[2], what === "loss" ? "loss ℓ" : "gradient 1 − p_y",
      { class: `named ${what}` }),
    ...(what === "loss" ? broken.map(({ text, from, to }, i) => textAt(at.x((from + to) / 2),
      bottom - 12 - 18 * i, text, { class: "named broken", "text-anchor": "middle" })) : []), mark);
}

/** Both panels over one axis. */
function drawCurves({ width, view, classes, margin }) {
  const margins = range(...view.x, (view.x[1] - view.x[0]) / 240);
  const shared = { width, view, margins, classes, margin };
  const foot = plane({ width, top: 0, bottom: 282, x: view.x, y: [0, 1] });
  return svg("svg", { height: 316, viewBox: `0 0 ${width} 316` },
    svg("defs", {}, svg("pattern", { id: "hatch", width: 8, height: 8,
      patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    svg("path", { class: "hatch", d: "M0 0V8" }))),
    panel("gradient", { ...shared, top: 222, bottom: 282 }),
    panel("loss", { ...shared, top: 8, bottom: 200 }),
    xAxis(foot, view.xTicks.map((m) => [m, signed(m, 0)]), "margin: z_y − largest other logit"));
}

/** Loss, probability and gradient, exact and by way of float32 probabilities. */
function numbers(margin, classes) {
  const [exact, rounded] = [exactLoss(margin, classes), roundedLoss(margin, classes)];
  const row = (name, key, role = "") => {
    const right = Math.abs(exact[key] - rounded[key]) <= 0.1 * exact[key];
    return html("tr", {}, html("th", { scope: "row", class: role }, ...subscripted(name)),
      html("td", {}, short(exact[key])),
      html("td", { class: right ? "" : "wrong" }, short(rounded[key]), right ? "" : ", wrong"));
  };
  return [
    html("thead", {}, html("tr", {}, html("td"), html("th", { scope: "col" }, "from logits"),
      html("th", { scope: "col" }, "from float32 probabilities"))),
    html("tbody", {}, row("loss ℓ", "loss"), row("p_y = exp(−ℓ)", "probability"),
      row("gradient 1\u00a0−\u00a0p_y", "gradient", "g"))];
}

const SENTENCES = {
  "": "By way of float32 probabilities: the same.",
  zero: "p_y rounds to 1, so its logarithm and the gradient are 0: an attack has nothing to climb.",
  nan: "p_y is so small that the gradient becomes nan.",
  infinite: "p_y rounds to 0: the loss is infinite, the gradient nan.",
};

export function render({ model, el }) {
  const card = openCard(el, "Margin explorer");
  const { state, set, reset } = keepState(model, card, ["margin", "classes", "view"], show);
  let width = 0;
  const sliders = Object.fromEntries(Object.entries(VIEWS).map(([key, { x, step }]) => {
    const stops = range(...x, step);
    const control = slider({ label: "Margin", stops, index: 0, zero: nearest(stops, 0), main: true,
      text: (i) => signed(stops[i], step < 1 ? 1 : 0), change: (i) => set("margin", stops[i]) });
    return [key, { ...control, stops }];
  }));
  const classes = choice({ label: "Classes k", value: state.classes,
    options: [2, 10, 1000].map((k) => ({ value: k, label: `${k}` })),
    change: (value) => set("classes", value) });
  const view = choice({ label: "Show margins", value: state.view,
    options: Object.entries(VIEWS).map(([value, { label }]) => ({ value, label })),
    change: (value) => set("view", value) });
  const plot = html("div", { class: "plot", "aria-hidden": "true" });
  const table = html("table");
  const { node: verdictNode, say } = verdict(card);

  function show() {
    const { margin, classes: k } = state;
    for (const [key, control] of Object.entries(sliders)) {
      control.node.hidden = key !== state.view;
      control.show(nearest(control.stops, margin));
    }
    classes.show(k);
    view.show(state.view);
    if (width) plot.replaceChildren(drawCurves({ width, view: VIEWS[state.view], classes: k, margin }));
    table.replaceChildren(...numbers(margin, k));
    const { loss, probability } = exactLoss(margin, k);
    const [mark, role] = margin > 0 ? ["right", "true"] : margin < 0 ? ["wrong", "adversary"] : ["tie"];
    say(`Margin ${signed(margin, Number.isInteger(margin) ? 0 : 1)}, ${k} classes: loss ${short(loss)}, p_y ${percent(probability)}. `
      + SENTENCES[fault(margin, k)], mark, role);
  }

  dragAlong(plot, (share) => {
    const { stops } = sliders[state.view];
    set("margin", stops[Math.round(share * (stops.length - 1))]);
  });
  card.append(html("style", {}, MARGIN_STYLE),
    part(plot, ...Object.values(sliders).map((control) => control.node)),
    part(html("div", { class: "row bottom spread" }, view.node, classes.node,
      button("Reset", reset))),
    verdictNode, part(table),
    part(html("p", { class: "muted" }, "Curves: all rivals' logits equal. Grey: where the loss can "
      + "lie if some are lower. Hatched: float32 probabilities fail.")));
  drawAtWidth(card, plot, (now) => { width = now; show(); });
  show();
  return () => card.close();
}
