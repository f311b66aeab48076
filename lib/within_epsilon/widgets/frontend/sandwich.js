// The sandwich explorer: every rival's least margin, between what an attack reaches and what intervals
// and CROWN prove, computed in the page.

import { ballBox, boundLayers, descend, lowerBounds } from "./bounds.js";
import { roundTicks, textAt } from "./chart.js";
import { button, drawAtWidth, html, keepState, nearest, openCard, part, slider, svg, ticks,
  verdict } from "./explorer.js";
import { forward, marginRows, readLayers } from "./mlp.js";
import { amplification, difference, picture } from "./pixels.js";
import { roundedDown, roundedUp } from "./rounding.js";
import { SHELF_CSS, makeShelf } from "./shelf.js";

const DRAWING = new URL("./drawing.js", import.meta.url);
const ROW = 28;
const CERTAIN = 1e-9; // far beyond what float64 rounds in a margin

/** What is known of each rival's margin: { rival, clean, ibp, crown, attack, point, status }. */
function squeeze(layers, pixels, epsilon, label, logits) {
  const box = ballBox(pixels, epsilon);
  const known = [false, true].map((linear) => boundLayers(layers, box, linear));
  return marginRows(logits.length, label).map(({ rival, row }) => {
    const { ibp, crown, corner } = lowerBounds(...known, row);
    const { value, point } = descend(layers, row, pixels, epsilon, [pixels, corner]);
    const status = crown > 0 ? "proved" : value < -CERTAIN ? "refuted" : "unknown";
    return { rival, clean: logits[label] - logits[rival], ibp, crown, attack: value, point, status };
  });
}

const lowest = (rows, key) => rows.reduce((least, row) => (row[key] < least[key] ? row : least));
const atLeast = (value) => roundedDown(value, 2).replace("-", "−");
const atMost = (value) => roundedUp(value, 2).replace("-", "−");
const plainNumber = (value) => `${Number(value.toPrecision(3))}`;

/** The verdict: [sentence, mark, role]. */
function verdictOf(rows, epsilon, label, isDrawn) {
  const what = isDrawn ? `the drawing, read as a ${label},` : `this ${label}`;
  const ball = `ℓ∞ change within ε = ${plainNumber(epsilon)}`;
  if (rows.some(({ clean }) => clean <= 0)) {
    return [`The network reads this ${label} as a ${lowest(rows, "clean").rival}: there is nothing to prove.`,
      "wrong already", "unknown"];
  }
  if (epsilon === 0) {
    return ["At ε = 0 nothing may change: attack and bounds say the same, and every margin is positive.",
      "", ""];
  }
  const worst = lowest(rows, "attack");
  if (worst.attack < -CERTAIN) {
    return [`An ${ball} makes ${what} a ${worst.rival}: the attack brings that margin to `
      + `${roundedUp(worst.attack, Math.max(2, Math.ceil(-Math.log10(-worst.attack)))).replace("-", "−")}.`, "refuted", "adversary"];
  }
  const open = rows.filter(({ status }) => status === "unknown");
  if (open.length) {
    const { rival, crown, attack } = lowest(open, "crown");
    return [`The attack finds no such ${ball}, and CROWN excludes ${rows.length - open.length} of `
      + `${rows.length} rivals. Over ${rival} the least margin lies between ${atLeast(crown)} and `
      + `${atMost(attack)}.`, "unknown", "unknown"];
  }
  const short = rows.filter(({ ibp }) => ibp <= 0).length;
  const how = short ? `CROWN; intervals fall short for ${short} of ${rows.length} rivals`
    : "CROWN, and intervals alone";
  return [`No ${ball} makes ${what} another digit (${how}).`, "proved", "proved"];
}

const WORDS = { proved: "✓ proved", refuted: "✕ refuted", unknown: "? unknown" };

/** Each rival's margins on one axis; what is beyond its left end is drawn there as an arrow. */
function drawRows(width, rows, reach) {
  const [left, right, bottom] = [54, width - 90, ROW * rows.length + 6];
  const least = -0.6 * reach;
  const place = (value) => left + ((Math.max(least, Math.min(reach, value)) - least)
    / (reach - least)) * (right - left);
  const stops = roundTicks([least, reach]);
  const marks = rows.map(({ rival, ibp, crown, attack, status }, i) => {
    const y = ROW * (i + 0.5) + 4;
    const [a, b, c, zero] = [ibp, crown, attack, 0].map(place);
    const beyond = (x, value) => (value < least ? `M${x + 7} ${y - 5}L${x} ${y}L${x + 7} ${y + 5}` : "");
    return svg("g", { class: status },
      textAt(left - 8, y + 4, `over ${rival}`, { "text-anchor": "end" }),
      svg("path", { class: "slack", d: `M${a} ${y}H${b}` }),
      svg("path", { class: "gap", d: `M${b} ${y}H${c}` }),
      ...(crown > 0 ? [svg("path", { class: "sure", d: `M${zero} ${y}H${b}` })] : []),
      svg("path", { class: "ibp", d: beyond(a, ibp) || `M${a} ${y - 7}v14` }),
      svg("path", { class: `crown ${crown > 0 ? "" : "short"}`, d: beyond(b, crown) || `M${b - 8} ${y - 7}L${b} ${y}L${b - 8} ${y + 7}Z` }),
      svg("path", { class: "attack", d: `M${c} ${y - 7}l7 7l-7 7l-7 -7Z` }),
      textAt(right + 12, y + 4, WORDS[status], { class: "status" }));
  });
  return svg("svg", { height: bottom + 38, viewBox: `0 0 ${width} ${bottom + 38}` },
    ...stops.flatMap(([stop, text]) => [
      svg("path", { class: stop ? "grid" : "zero", d: `M${place(stop)} 0V${bottom}` }),
      textAt(place(stop), bottom + 15, text, { "text-anchor": "middle" })]),
    textAt((left + right) / 2, bottom + 32, "least margin over each rival", { "text-anchor": "middle" }),
    ...marks);
}

/** Which mark is which. */
const sandwichKey = () => html("p", { class: "row key muted" },
  ...[["attack", "attack: no higher", "M17 1l6 6l-6 6l-6 -6Z"], ["crown", "CROWN: no lower", "M12 0L20 7L12 14Z"],
    ["ibp", "intervals: no lower", "M17 0v14"]].map(([name, words, shape]) => html("span", {},
    svg("svg", { viewBox: "0 0 34 14", "aria-hidden": "true" }, svg("path", { class: name, d: shape })), words)));

const SANDWICH_STYLE = `
.three { display: grid; grid-template-columns: repeat(3, minmax(0, 120px)); gap: 12px;
  justify-content: center; text-align: center; font-size: 14px; }
.three canvas { display: block; width: 100%; height: auto; image-rendering: pixelated; border-radius: 3px; }
figcaption { padding: 4px 0 0; line-height: 1.25; }
.rivals path { fill: none; }
.rivals .grid { stroke: var(--line); }
.rivals .zero { stroke: var(--text); stroke-width: 2; }
.rivals text { font-size: 13px; }
.slack { stroke: var(--other); stroke-width: 1.5; stroke-dasharray: 2 3; }
.gap { stroke: var(--unknown); stroke-width: 8; stroke-dasharray: 3 2; }
.sure { stroke: var(--proved); stroke-width: 3; }
.rivals .ibp, .key .ibp { stroke: var(--control); stroke-width: 2.5; fill: none; }
.rivals .crown, .key .crown { fill: var(--proved); stroke: var(--surface); }
.rivals .crown.short { fill: var(--unknown); }
.rivals .attack, .key .attack { fill: var(--adversary); stroke: var(--surface); }
.rivals .status { font-weight: 600; }
.proved .status { fill: var(--proved-text); }
.refuted .status { fill: var(--adversary-text); }
.unknown .status { fill: var(--unknown-text); }
.key { gap: 2px 14px; }
.key svg { display: inline-block; width: 34px; height: 14px; vertical-align: -2px; margin-right: 4px; }
.drawn { display: grid; grid-template-columns: 200px minmax(0, 1fr); gap: 12px; padding-bottom: 8px; }
summary { min-height: 44px; line-height: 44px; cursor: pointer; }
table { border-collapse: collapse; }
th, td { padding: 1px 16px 1px 0; text-align: right; font-weight: 400; }
@container (max-width: 340px) { th, td { padding-right: 6px; font-size: 13px; } }
.shelf { grid-template-columns: repeat(10, minmax(44px, 1fr)); }
@container (max-width: 520px) {
  .shelf { grid-template-columns: repeat(5, minmax(44px, 1fr)); }
  .three { gap: 8px; font-size: 12.5px; }
}
`;

export function render({ model, el }) {
  const card = openCard(el, "Sandwich explorer: attack and bounds");
  const layers = readLayers(model.get("layers"));
  const epsilons = model.get("epsilons");
  const { state, set, update, reset } = keepState(model, card,
    ["pixels", "strokes", "label", "epsilon"], show);
  const radius = slider({ label: "Radius of the ℓ∞ ball", stops: epsilons, index: 0, main: true,
    text: (i) => `ε = ${plainNumber(epsilons[i])}`, change: (i) => set("epsilon", epsilons[i]) });
  const last = epsilons.length - 1;
  const scale = ticks([0, Math.round(last / 2), last].map((i) => [i, plainNumber(epsilons[i])]),
    epsilons.length);
  const pictures = ["clean image", "perturbation", "image that the attack found"]
    .map((what) => picture([1, 8, 8], what));
  const shelf = makeShelf(model.get("gallery"), (label, pixels) =>
    update({ strokes: [], pixels, label }), "Another digit of the test set");
  const plot = html("div", { class: "rivals", role: "img" });
  const table = html("table");
  const { node: verdictNode, say } = verdict(card);
  let width = 0;

  function show() {
    const { pixels, epsilon } = state;
    radius.show(nearest(epsilons, epsilon));
    pad?.show(state.strokes);
    if (!pixels.some(Boolean)) return askForDigit();
    const logits = [...forward(layers, pixels).at(-1)];
    const label = state.label ?? logits.indexOf(Math.max(...logits));
    const rows = squeeze(layers, pixels, epsilon, label, logits);
    const [words, mark, role] = verdictOf(rows, epsilon, label, state.label === null);
    paint(pixels, lowest(rows, "attack"), epsilon, label);
    const reach = 1.1 * Math.max(...rows.map(({ clean }) => Math.abs(clean)));
    if (width) plot.replaceChildren(drawRows(width, rows, reach));
    plot.setAttribute("aria-label", `Margins of the ${label} over nine rivals. ${words}`);
    const cells = (tag, texts) => html("tr", {}, ...texts.map((text, i) => (i ? html(tag, {}, text)
      : html("th", { scope: "row" }, text))));
    table.replaceChildren(cells("th", ["over", "intervals", "CROWN", "attack", ""]),
      ...rows.map(({ rival, ibp, crown, attack, status }) =>
        cells("td", [`${rival}`, atLeast(ibp), atLeast(crown), atMost(attack), status])));
    return say(words, mark, role);
  }

  function askForDigit() {
    for (const one of pictures) one.paint(new Float64Array(64), "");
    plot.replaceChildren();
    table.replaceChildren();
    say("Draw a digit, or take one from the test set.");
  }

  function paint(pixels, { rival, attack, point }, epsilon, label) {
    const k = amplification(epsilon);
    pictures[0].paint(pixels, state.label === null ? `read as a ${label}` : `clean: a ${label}`);
    pictures[1].paint(difference(pixels, point, k), epsilon ? `perturbation ×\u00a0${k}` : "no perturbation");
    pictures[2].paint(point, !epsilon ? "unchanged" : attack < -CERTAIN ? `adversarial: a ${rival}`
      : `nearest to a ${rival}, still a ${label}`);
  }

  // The pad is loaded for those who want to draw.
  let pad = null;
  let loading = null;
  const place = html("div", { class: "drawn" });
  async function openPad() {
    const { DRAWING_CSS, makePad, rasterise } = await import(DRAWING);
    pad = makePad(card, { change: (strokes) => update({ strokes, label: null, pixels: rasterise(strokes),
      ...(state.strokes.length ? {} : { epsilon: epsilons[0] }) }) }); // first the network reads it
    place.append(html("style", {}, DRAWING_CSS), pad.node, html("div", {},
      html("div", { class: "row" }, ...pad.buttons)));
    pad.show(state.strokes);
  }
  const fold = html("details", { open: state.strokes.length > 0,
    ontoggle: () => { if (fold.open) loading ??= openPad(); } }, html("summary", {}, "Draw a digit"), place);

  drawAtWidth(card, plot, (now) => { width = now; show(); });
  card.append(html("style", {}, SHELF_CSS + SANDWICH_STYLE),
    part(html("div", { class: "three" }, ...pictures.map((one) => one.node))),
    part(radius.node, scale), verdictNode, part(plot), part(sandwichKey()), part(shelf.node),
    part(fold, html("details", {}, html("summary", {}, "The numbers as a table"), table)),
    part(html("div", { class: "row" }, html("p", { class: "muted grow" }, "The bounds are those of "
      + "real arithmetic, with the rounding of this page subtracted; a network's own rounding is left out."),
    button("Reset", reset))));
  show();
  return () => card.close();
}
