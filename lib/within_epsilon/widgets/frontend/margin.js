// The margin explorer: cross-entropy against the margin, the weights that its gradient gives to label
// and rivals, and where float32 loses them: by three formulas.

import { pathThrough, plane, textAt, xAxis, yAxis } from "./chart.js";
import { button, choice, dragAlong, drawAtWidth, html, keepState, nearest, openCard, part, range,
  signed, slider, subscripted, svg, verdict } from "./explorer.js";
import { percent, softmaxed } from "./shares.js";

const { fround } = Math;

/** Loss, probability, and the weights that it gives the label (without its sign) and each rival, the
 * rival logits all being `margin` below z_y. */
function exactLoss(margin, classes) {
  const rivals = (classes - 1) * Math.exp(-Math.abs(margin));
  // log(1 + (k - 1) exp(-m)), with the larger exponential taken out.
  const loss = margin >= 0 ? Math.log1p(rivals)
    : -margin + Math.log(classes - 1 + Math.exp(margin));
  const own = -Math.expm1(-loss);
  return { loss, probability: Math.exp(-loss), own, rival: own / (classes - 1) };
}

/** The same in float32, three ways: -log(softmax(z)_y), PyTorch's loss from logits (exp of a
 * logarithm minus 1), and the library's (log(1 + e^rise), its slope a quotient of e^rise). */
function roundedLosses(margin, classes) {
  const peak = Math.max(margin, 0);
  const [above, below] = [fround(margin - peak), fround(-peak)];
  const [own, rival] = [fround(Math.exp(above)), fround(Math.exp(below))];
  const sum = fround(own + fround((classes - 1) * rival));

  const [p, other] = [fround(own / sum), fround(rival / sum)];
  const slope = fround(-1 / p); // of -log p in p
  const shared = fround(slope * p);
  const softmax = { loss: fround(-Math.log(p)) + 0, // -0 is 0
    own: Math.abs(fround(p * fround(slope - shared))), rival: fround(other * -shared) };

  const log = fround(Math.log(sum));
  const [logOwn, logRival] = [fround(above - log), fround(below - log)];
  const torch = { loss: -logOwn + 0, own: fround(1 - fround(Math.exp(logOwn))),
    rival: fround(Math.exp(logRival)) };

  const rise = fround(fround(Math.log(classes - 1)) - margin);
  const power = fround(Math.exp(rise));
  const far = rise > 40; // where log(1 + e^rise) is rise
  const lift = far ? 1 : fround(power / fround(power + 1));
  const library = { loss: far ? rise : fround(Math.log1p(power)), own: lift,
    rival: fround(lift / (classes - 1)) };
  return { softmax, torch, library };
}

/** What float32 does to this margin. */
function fault(margin, classes) {
  const { softmax, torch, library } = roundedLosses(margin, classes);
  if (softmax.loss === Infinity) return "infinite";
  if (Number.isNaN(softmax.own)) return "nan";
  if (library.own === 0) return "all";
  if (torch.own === 0) return "half";
  return Math.abs(torch.own - library.own) > 0.1 * library.own ? "rough" : "";
}

const VIEWS = {
  near: { label: "near 0", x: [-10, 20], step: 0.1, xTicks: [-10, -5, 0, 5, 10, 15, 20],
    height: (value) => value,
    loss: { y: [0, 17], ticks: [[0, "0"], [5, "5"], [10, "10"], [15, "15"]], name: [-5, 10, -6] },
    own: { y: [0, 1], ticks: [[0, "0"], [1, "1"]], name: [3, 10, -4] } },
  far: { label: "as far as float32 goes", x: [-120, 120], step: 1, xTicks: [-120, -80, -40, 0, 40, 80, 120],
    height: (value) => Math.log10(Math.max(value, 1e-55)),
    loss: { y: [-53, 6], ticks: [[-40, "1e−40"], [-20, "1e−20"], [0, "1"]], name: [-75, 0, 18] },
    own: { y: [-53, 6], ticks: [[-40, "1e−40"], [0, "1"]], name: [-75, 0, 18] } },
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
.plot .named.broken { fill: var(--adversary-text); stroke-width: 6px; }
table { border-collapse: collapse; width: 100%; }
th { font-weight: 400; text-align: left; }
th, td { padding: 4px 8px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { font-size: 13px; color: var(--muted); }
td { font-weight: 600; width: 22%; }
td.wrong { color: var(--adversary-text); }
.g { color: var(--gradient-text); }
@container (max-width: 520px) { th, td { font-size: 13px; padding-right: 4px; } }
`;

const short = (value) => {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : "∞";
  if (value === 0) return "0";
  return value >= 0.001 && value < 1e4 ? String(Number(value.toPrecision(4)))
    : value.toExponential(2).replace("-", "−");
};

/** The stretches of a view where float32 fails. */
function failures(margins, classes) {
  const words = { half: "label's weight 0", all: "all 0", nan: "nan", infinite: "loss ∞" };
  const step = margins[1] - margins[0];
  return Object.keys(words).flatMap((kind) => {
    const where = margins.filter((m) => fault(m, classes) === kind);
    const to = Math.min(where[where.length - 1] + step, margins[margins.length - 1]);
    return where.length > 1 ? [{ kind, text: words[kind], from: where[0], to }] : [];
  });
}

/** What a stretch is called, beside its hatching where there is room for it. */
function stretchName(at, { kind, text, from, to }, last, y) {
  const named = { class: "named broken" };
  if (kind === "nan" || kind === "infinite") {
    const edge = at.x(-88) + 8; // both lie at the left end, under the axis's own numbers
    return textAt(edge, y - (kind === "nan" ? 70 : 88), `← ${text}`, named);
  }
  return to === last ? textAt(at.x(from) - 6, y - 30, `${text} →`, { ...named, "text-anchor": "end" })
    : textAt(at.x((from + to) / 2), y - 12, text, { ...named, "text-anchor": "middle" });
}

/** One panel: the loss or the gradient over a view's margins, with the point of this margin. */
function panel(what, { width, top, bottom, view, margins, classes, margin, detail }) {
  const { y, ticks, name } = view[what];
  const at = plane({ width, top, bottom, x: view.x, y });
  const point = (m, k = classes) => [at.x(m),
    Math.max(top, Math.min(bottom, at.y(view.height(exactLoss(m, k)[what]))))];
  const [x, high] = point(margin);
  const [nameX, nameY] = point(name[0]);
  const broken = detail ? failures(margins, classes) : [];
  const band = [...margins.map((m) => point(m)), ...margins.map((m) => point(m, 2)).reverse()];
  const mark = what === "loss" ? svg("circle", { class: "dot", cx: x, cy: high, r: 8 })
    : svg("rect", { class: "dot gradient", x: x - 7, y: high - 7, width: 14, height: 14 });
  return svg("g", {},
    ...broken.map(({ from, to }) => svg("rect", { class: "broken", x: at.x(from), y: top,
      width: at.x(to) - at.x(from), height: bottom - top })),
    svg("path", { class: "band", d: `${pathThrough(band)}Z` }), yAxis(at, ticks, 2),
    svg("path", { class: "cursor", d: `M${x} ${top}V${bottom}` }),
    svg("path", { class: `line ${what === "own" ? "gradient" : ""}`, d: pathThrough(margins.map((m) => point(m))) }),
    textAt(nameX + name[1], nameY + name[2], what === "loss" ? "loss ℓ" : "weight of the label, 1 − p_y",
      { class: `named ${what === "own" ? "gradient" : ""}` }),
    ...(what === "loss" ? broken.map((one) => stretchName(at, one, margins.at(-1), bottom)) : []), mark);
}

/** Both panels over one axis; without detail, the loss alone. */
function drawCurves({ width, view, classes, margin, detail }) {
  const margins = range(...view.x, (view.x[1] - view.x[0]) / 240);
  const shared = { width, view, margins, classes, margin, detail };
  const foot = plane({ width, top: 0, bottom: 282, x: view.x, y: [0, 1] });
  return svg("svg", { height: 316, viewBox: `0 0 ${width} 316` },
    svg("defs", {}, svg("pattern", { id: "hatch", width: 8, height: 8,
      patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    svg("path", { class: "hatch", d: "M0 0V8" }))),
    ...(detail ? [panel("own", { ...shared, top: 222, bottom: 282 })] : []),
    panel("loss", { ...shared, top: 8, bottom: detail ? 200 : 282 }),
    xAxis(foot, view.xTicks.map((m) => [m, signed(m, 0)]), "margin: z_y − largest other logit"));
}

/** Is a rounded number good to a tenth? */
const near = (exact, rounded) => Math.abs(exact - rounded) <= 0.1 * exact;

/** Weights and loss in float32, three ways. */
function numbers(margin, classes) {
  const exact = exactLoss(margin, classes);
  const ways = Object.values(roundedLosses(margin, classes));
  const cell = (key) => (way) => {
    const right = near(exact[key], way[key]);
    return html("td", { class: right ? "" : "wrong" }, short(way[key]), right ? "" : ", wrong");
  };
  const row = (name, key, role = "") => html("tr", {},
    html("th", { scope: "row", class: role }, ...subscripted(name)), ...ways.map(cell(key)));
  return [
    html("thead", {}, html("tr", {}, html("td"), ...["−log softmax", "PyTorch", "library"].map((name) =>
      html("th", { scope: "col" }, name)))),
    html("tbody", {}, row("weight of the label, 1\u00a0−\u00a0p_y", "own", "g"),
      row("weight of each rival, p_j", "rival", "g"), row("loss ℓ", "loss"))];
}

const SENTENCES = {
  "": "In float32: the same.",
  rough: "In float32 the two that go through p_y are already rough; none is 0 yet.",
  half: "In float32 p_y rounds to 1: half of PyTorch's gradient, the label's weight, is 0. "
    + "The rivals' weights are alive.",
  all: "In float32 e^−m rounds to 0, in any formula: nothing is left to climb.",
  nan: "In float32 p_y is so small that the gradient of −log softmax becomes nan.",
  infinite: "In float32 p_y rounds to 0: −log softmax is infinite, its gradient nan.",
};

export function render({ model, el }) {
  const card = openCard(el, "Margin explorer");
  const { state, set, reset } = keepState(model, card, ["margin", "classes", "view", "detail"], show);
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
  const more = button("", () => set("detail", !state.detail));
  const notes = html("p", { class: "muted" });
  const plot = html("div", { class: "plot", "aria-hidden": "true" });
  const table = html("table");
  const { node: verdictNode, say } = verdict(card);

  function show() {
    const { margin, classes: k, detail } = state;
    for (const [key, control] of Object.entries(sliders)) {
      control.node.hidden = key !== state.view;
      control.show(nearest(control.stops, margin));
    }
    classes.show(k);
    view.show(state.view);
    view.node.hidden = !detail;
    table.hidden = !detail;
    more.textContent = detail ? "Loss alone" : "Gradient and float32";
    notes.textContent = "Curves: all rivals' logits equal. Grey: where the loss can lie if some are "
      + `lower.${detail ? " Hatched: float32 fails. Table: in float32." : ""}`;
    if (width) plot.replaceChildren(drawCurves({ width, view: VIEWS[state.view], classes: k, margin, detail }));
    table.replaceChildren(...numbers(margin, k));
    const { loss, probability } = exactLoss(margin, k);
    const [mark, role] = margin > 0 ? ["right", "true"] : margin < 0 ? ["wrong", "adversary"] : ["tie"];
    say(`Margin ${signed(margin, Number.isInteger(margin) ? 0 : 1)}, ${k} classes: loss ${short(loss)}, p_y ${percent(softmaxed(probability))}. `
      + (detail ? SENTENCES[fault(margin, k)] : ""), mark, role);
  }

  dragAlong(plot, (share) => {
    const { stops } = sliders[state.view];
    set("margin", stops[Math.round(share * (stops.length - 1))]);
  });
  card.append(html("style", {}, MARGIN_STYLE),
    part(plot, ...Object.values(sliders).map((control) => control.node)),
    part(html("div", { class: "row bottom spread" }, view.node, classes.node, html("span", {}, more),
      button("Reset", reset))),
    verdictNode, part(table),
    part(notes));
  drawAtWidth(card, plot, (now) => { width = now; show(); });
  show();
  return () => card.close();
}
