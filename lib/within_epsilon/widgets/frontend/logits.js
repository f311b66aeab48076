// The logits explorer: drag logits, temperature and a constant; see what softmax makes of them,
// and where a softmax that does not subtract the largest logit breaks in float32.

import { button, html, keepState, nearest, openCard, part, range, signed, slider, verdict
  } from "./explorer.js";
import { softmaxed, tenths, withShare } from "./shares.js";

/** exp(z_i) / sum_j exp(z_j), with the largest logit taken out first. */
function stableSoftmax(logits) {
  const peak = Math.max(...logits);
  const weights = logits.map((z) => Math.exp(z - peak));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

/** The same formula as it is written, every operation rounded to float32. */
function naiveSoftmax(logits) {
  const weights = logits.map((z) => Math.fround(Math.exp(Math.fround(z))));
  const sum = weights.reduce((a, b) => Math.fround(a + b), 0);
  return weights.map((weight) => Math.fround(weight / sum));
}

const LOGITS_STYLE = `
.logit { display: grid; align-items: center; gap: 0 10px; min-height: 44px;
  grid-template: "name slider z bar share" / minmax(0, 7em) minmax(0, 1fr) 4.8em minmax(0, 1fr) 3.6em; }
.logit .grow, .logit .label { display: contents; }
.logit label { grid-area: name; line-height: 1.2; overflow-wrap: anywhere; }
.logit input { grid-area: slider; }
.logit .readout { grid-area: z; text-align: right; white-space: nowrap; }
.logit .bar { grid-area: bar; margin-left: 12px; }
.logit .share { grid-area: share; text-align: right; }
.logit.heads { min-height: 24px; }
.logit.heads span { font-size: 13px; color: var(--muted); }
.logit.heads .bar { background: none; height: auto; overflow: visible; }
.logit.heads .first { grid-area: slider; }
.winner .share { font-weight: 700; }
.winner .bar i { background: var(--control); }
.sums { flex: 1 1 0; min-width: 250px; }
.sums b { white-space: nowrap; }
.sums .wrong { color: var(--adversary-text); }
@container (max-width: 520px) {
  .logit { grid-template: "name z share" "slider slider slider" "bar bar bar"
    / minmax(0, 1fr) auto 4em; margin-bottom: 16px; }
  .logit .bar { margin: -4px 0 0; }
  .logit.heads { display: none; }
}
`;

/** A row of the table: a logit to drag, the probability that comes of it. */
function logitRow(control) {
  const fill = html("i");
  const share = html("span", { class: "share" });
  const node = html("div", { class: "logit" }, control.node,
    html("span", { class: "bar", "aria-hidden": "true" }, fill), share);
  const show = (at, probability, wins) => {
    control.show(at);
    fill.style.width = `${100 * probability}%`;
    share.textContent = tenths(softmaxed(probability));
    node.classList.toggle("winner", wins);
  };
  return { node, show };
}

/** What the formula as it is written comes to, in float32. */
function naiveOutcome(logits) {
  const naive = naiveSoftmax(logits);
  const total = naive.reduce((a, b) => Math.fround(a + b), 0);
  if (!Number.isNaN(total)) return { text: `sum ${total.toFixed(3)}`, because: "" };
  const largest = Math.max(...logits);
  return largest > 0
    ? { text: "∞/∞ = nan", because: `exp(${largest.toFixed(0)}) overflows float32` }
    : { text: "0/0 = nan", because: `even exp(−${(-largest).toFixed(0)}) is 0 in float32` };
}

export function render({ model, el }) {
  const names = model.get("categories");
  const limit = model.get("limit");
  const stops = {
    logit: range(-limit, limit, 0.1),
    temperature: range(-1, 1, 0.05).map((exponent) => Number((10 ** exponent).toPrecision(6))),
    shift: range(-120, 120, 1),
  };
  const card = openCard(el, "Logits explorer");
  const { state, set, reset } = keepState(model, card, ["logits", "temperature", "shift"], show);

  const rows = names.map((name, i) => logitRow(slider({ label: name, stops: stops.logit,
    index: nearest(stops.logit, state.logits[i]), zero: nearest(stops.logit, 0),
    text: (at) => `z = ${signed(stops.logit[at])}`,
    change: (at) => set("logits", state.logits.map((z, j) =>
      (i === j ? stops.logit[at] : z))) })));
  const temperature = slider({ label: "Temperature: logits ÷ T",
    stops: stops.temperature, index: nearest(stops.temperature, state.temperature),
    zero: nearest(stops.temperature, 1),
    text: (at) => `T = ${stops.temperature[at].toPrecision(2)}`,
    change: (at) => set("temperature", stops.temperature[at]) });
  const shift = slider({ label: "Shift: logits + c", stops: stops.shift,
    index: nearest(stops.shift, state.shift), zero: nearest(stops.shift, 0),
    text: (at) => `c = ${signed(stops.shift[at], 0)}`,
    change: (at) => set("shift", stops.shift[at]) });
  const { node: verdictNode, say } = verdict(card);
  const sums = html("div", { class: "row sums" });

  function show() {
    const scaled = state.logits.map((z) => (z + state.shift) / state.temperature);
    const sure = stableSoftmax(scaled);
    const winner = sure.indexOf(Math.max(...sure));
    const { text, because } = naiveOutcome(scaled);
    rows.forEach((row, i) => row.show(nearest(stops.logit, state.logits[i]), sure[i], i === winner));
    temperature.show(nearest(stops.temperature, state.temperature));
    shift.show(nearest(stops.shift, state.shift));
    sums.replaceChildren(
      html("span", {}, "softmax, largest logit subtracted first: ",
        html("b", {}, `sum ${sure.reduce((a, b) => a + b, 0).toFixed(3)}`)),
      html("span", {}, "the formula as it is written, in float32: ",
        html("b", { class: because ? "wrong" : "" }, text)));
    say(`${withShare(names[winner], sure[winner])}, T = ${Number(state.temperature.toPrecision(2))}`
      + `, c = ${signed(state.shift, 0)}${because && `; as it is written: nan, since ${because}`}`,
    because ? "breaks" : "both agree", because ? "adversary" : "");
  }

  card.append(html("style", {}, LOGITS_STYLE),
    part(html("div", { class: "logit heads" }, html("span", { class: "first" }, "logit z"),
      html("span", { class: "bar" }, "probability")), ...rows.map((row) => row.node)),
    part(html("div", { class: "row" }, temperature.node, shift.node)),
    verdictNode, part(html("div", { class: "row spread" }, sums, button("Reset", reset))));
  show();
  return () => card.close();
}
