// The defence explorer: attacked models by letter, one of which is a fake. Curves are drawn as far as
// the reader has dragged; names and the attack that breaks the fake come after a guess.

import { pathThrough, plane, textAt, xAxis, yAxis } from "./chart.js";
import { button, choice, dragAlong, drawAtWidth, html, keepState, openCard, part, slider, svg,
  verdict } from "./explorer.js";

const LETTERS = "ABCD";
const VIEWS = {
  epsilon: { label: "ε", axis: "ε (ℓ∞), not to scale", slider: "Attack with ε" },
  steps: { label: "steps", axis: "steps of PGD, not to scale", slider: "Attack with steps" },
  restarts: { label: "restarts", axis: "restarts of PGD, not to scale", slider: "Attack with restarts" },
};
const [TOP, BOTTOM, HEIGHT] = [22, 202, 240];
const DASHES = ["", "9 4", "3 4", "12 4 3 4"];

const DEFENCES_STYLE = `
.plot { touch-action: pan-y; cursor: ew-resize; }
.plot path { fill: none; }
.plot .grid { stroke: var(--line); }
.plot .cursor { stroke: var(--other); }
.plot .line { stroke: var(--text); stroke-width: 2.5; stroke-linejoin: round; }
.plot .line.fake, .plot .line.tool { stroke: var(--adversary); }
.plot .line.tool { stroke-width: 4; stroke-opacity: 0.55; }
.plot .leader { stroke: var(--text); stroke-width: 1; }
.plot .at { fill: var(--text); }
.plot .letter { font-size: 15px; font-weight: 700; fill: var(--text); }
.plot .letter.fake { fill: var(--adversary-text); }
.guess { align-items: flex-end; }
.names li { padding: 3px 0; }
.names b { display: inline-block; width: 1.6em; }
.names .fake { color: var(--adversary-text); font-weight: 600; }
table { border-collapse: collapse; }
caption { text-align: left; padding-bottom: 4px; }
th { font-weight: 400; text-align: left; }
td, thead th { text-align: right; min-width: 2.6em; font-variant-numeric: tabular-nums; }
td, th { padding: 3px 0; border-top: 1px solid var(--line); }
table .fake { color: var(--adversary-text); font-weight: 600; }
`;

/** Heights for letters that would otherwise cover each other, in the order given. */
function apart(heights, gap = 16) {
  const order = heights.map((_, i) => i).sort((a, b) => heights[a] - heights[b]);
  const placed = [...heights];
  order.forEach((i, rank) => {
    if (rank) placed[i] = Math.max(placed[i], placed[order[rank - 1]] + gap);
  });
  const over = Math.max(0, placed[order.at(-1)] - BOTTOM);
  order.reverse().forEach((i, rank) => {
    if (over) placed[i] = Math.min(placed[i], BOTTOM - rank * gap);
  });
  return placed;
}

/** What the tool loses over a view's stops: at the claim's ε, it does not depend on PGD's effort. */
const toolCounts = ({ broken }, view, stops, claim) =>
  (view === "epsilon" ? broken : stops.steps.map(() => broken[claim]).slice(0, stops[view].length));

function drawRound({ width, cases, stops, view, place, reach, revealed, n, claim }) {
  const count = stops[view].length;
  const at = plane({ width, top: TOP, bottom: BOTTOM, x: [0, count - 1], y: [0, n] });
  const path = (counts, until) => pathThrough(counts.slice(0, until + 1).map((lost, i) => [at.x(i), at.y(lost)]));
  const fake = (one) => (revealed && one.tool ? "fake" : "");
  const values = cases.map((one) => at.y(one.lost[view][place]));
  const heights = apart(values);
  const side = place > count - 2 ? -1 : 1;
  const tools = revealed ? cases.filter((one) => one.tool) : [];
  return svg("svg", { height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}` },
    yAxis(at, [[0, ""], [n / 2, `${n / 2} lost`], [n, `all ${n} lost`]]),
    xAxis(at, stops[view].map((stop, i) => [i, `${stop}`]), VIEWS[view].axis),
    svg("path", { class: "cursor", d: `M${at.x(place)} ${TOP}V${BOTTOM}` }),
    ...tools.map((one) => svg("path", { class: "line tool",
      d: path(toolCounts(one, view, stops, claim), count) })),
    ...cases.map((one, i) => svg("path", { class: `line ${fake(one)}`, "stroke-dasharray": DASHES[i],
      d: path(one.lost[view], revealed ? count : reach) })),
    ...values.flatMap((y, i) => [
      svg("path", { class: "leader", d: `M${at.x(place)} ${y}l${8 * side} ${heights[i] - y}` }),
      svg("circle", { class: "at", cx: at.x(place), cy: y, r: 3 })]),
    ...cases.map((one, i) => textAt(at.x(place) + 9 * side, heights[i] + 5, LETTERS[i],
      { class: `letter ${fake(one)}`, "text-anchor": side < 0 ? "end" : "start" })));
}

export function render({ model, el }) {
  const card = openCard(el, "Spot the fake defence");
  const [rounds, stops, n] = ["rounds", "stops", "n"].map((key) => model.get(key));
  const first = (name) => (name === "epsilon" ? model.get("first") : 0);
  const { state, update, set, reset } =
    keepState(model, card, ["round", "view", "place", "guess", "revealed"], show);
  let width = 0;
  let reach = new Map(); // which curves → the farthest stop that was shown
  const sliders = Object.fromEntries(Object.entries(VIEWS).map(([key, { slider: label }]) =>
    [key, slider({ label, stops: stops[key], index: 0, main: true,
      text: (i) => (key === "epsilon" ? `ε = ${stops[key][i]}` : `${stops[key][i]}`),
      change: (i) => set("place", i) })]));
  const view = choice({ label: "Curves over", value: state.view,
    options: Object.entries(VIEWS).map(([value, { label }]) => ({ value, label })),
    change: (value) => update({ view: value, place: first(value) }) });
  const guesses = rounds.map((cases) => choice({ label: "Which is the fake?", value: state.guess,
    options: cases.map((_, i) => ({ value: i, label: LETTERS[i] })),
    change: (value) => { if (!state.revealed) set("guess", value); } }));
  const reveal = button("Reveal", () => {
    const { clue } = rounds[state.round].find((one) => one.tool);
    update({ revealed: true, view: clue, place: stops[clue].length - 1 });
  });
  const next = button("", () => update({ round: (state.round + 1) % rounds.length, view: "epsilon",
    place: first("epsilon"), guess: -1, revealed: false }));
  const again = button("Reset", () => { reach = new Map(); reset(); });
  const [names, table] = [html("ul", { class: "names" }), html("table")];
  const title = html("p", { class: "muted" });
  const plot = html("div", { class: "plot", "aria-hidden": "true" });
  const { node: verdictNode, say } = verdict(card);

  const claimOf = (cases) => stops.epsilon.indexOf(cases[0].epsilon);

  const inSteps = (count) => `${count} ${count === 1 ? "step" : "steps"}`;
  /** "A loses 33, B 5, C 18" */
  const each = (counts, verb) => counts.map((count, i) =>
    (i ? `${LETTERS[i]} ${count}` : `A ${verb} ${count}`)).join(", ");

  /** What the evaluation, the better attack and AutoAttack make each model lose, as the table's rows. */
  function judgements(cases) {
    const [claim, fake] = [claimOf(cases), cases.find((one) => one.tool)];
    const counts = (title, of) => [title, cases.map((one) => of(one) ?? "–")];
    const rows = [counts(`PGD, ${inSteps(fake.usual)}`, (one) => one.lost.epsilon[claim]),
      counts(fake.tool, (one) => (one.tool ? one.broken[claim] : one.judged)),
      ...(fake.by_autoattack.length ? [counts("AutoAttack", (one) => one.by_autoattack[claim])] : [])];
    const kind = (i) => ({ class: cases[i].tool ? "fake" : "" });
    return [html("caption", {}, `Lost at ℓ∞ ε = ${fake.epsilon}, of ${n} digits`),
      html("thead", {}, html("tr", {}, html("td"),
        ...cases.map((_, i) => html("th", { scope: "col", ...kind(i) }, LETTERS[i])))),
      html("tbody", {}, ...rows.map(([title, lost]) => html("tr", {},
        html("th", { scope: "row" }, title), ...lost.map((count, i) => html("td", kind(i), `${count}`)))))];
  }

  function reading(cases) {
    const [{ usual, epsilon }] = cases;
    const stop = stops[state.view][state.place];
    const starts = `${stop} ${stop === 1 ? "start" : "restarts"}`;
    const attack = { epsilon: () => `PGD, ${inSteps(usual)}, ℓ∞ ε = ${stop}`,
      steps: () => `PGD, ${inSteps(stop)}, ℓ∞ ε = ${epsilon}`,
      restarts: () => `PGD, ${inSteps(usual)}, ${starts}, ℓ∞ ε = ${epsilon}` };
    const counts = cases.map((one) => one.lost[state.view][state.place]);
    return `${attack[state.view]()}: of ${n} digits ${each(counts, "loses")}.`;
  }

  function sentence(cases) {
    if (!state.revealed) return [reading(cases)];
    const fake = cases.findIndex((one) => one.tool);
    return [`It is ${LETTERS[fake]}. ${cases[fake].why} ${reading(cases)}`,
    ...(state.guess === fake ? ["spotted", "true"] : ["not that one", "adversary"])];
  }

  function show() {
    const [cases, last] = [rounds[state.round], stops[state.view].length - 1];
    const place = Math.min(state.place, last);
    const key = `${state.round} ${state.view}`;
    reach.set(key, Math.max(reach.get(key) ?? 0, place));
    for (const [name, control] of Object.entries(sliders)) {
      control.node.hidden = name !== state.view;
      control.show(Math.min(place, stops[name].length - 1));
    }
    view.show(state.view);
    guesses.forEach((one, i) => { one.node.hidden = i !== state.round; one.show(state.guess); });
    reveal.disabled = state.guess < 0 || state.revealed;
    next.hidden = !state.revealed || rounds.length < 2;
    next.textContent = state.round + 1 < rounds.length ? "Next round" : "From the start";
    const claim = each(cases.map((one) => n - one.lost.epsilon[claimOf(cases)]), "keeps");
    title.textContent = `Round ${state.round + 1} of ${rounds.length}. Claimed at ε = `
      + `${cases[0].epsilon}: of ${n} digits ${claim}. One claim is far too high.`;
    names.hidden = table.hidden = !state.revealed;
    table.replaceChildren(...(state.revealed ? judgements(cases) : []));
    names.replaceChildren(...cases.map((one, i) => html("li", { class: one.tool ? "fake" : "" },
      html("b", {}, LETTERS[i]), one.tool ? `${one.name}: the fake. Thick: ${one.tool}` : one.name)));
    if (width) {
      plot.replaceChildren(drawRound({ width, cases, stops, view: state.view, place,
        reach: reach.get(key), revealed: state.revealed, n, claim: claimOf(cases) }));
    }
    say(...sentence(cases));
  }

  dragAlong(plot, (share) => set("place", Math.round(share * (stops[state.view].length - 1))));
  card.append(html("style", {}, DEFENCES_STYLE),
    part(title, plot, ...Object.values(sliders).map((control) => control.node)),
    part(html("div", { class: "row bottom spread" }, view.node, again)),
    verdictNode,
    part(html("div", { class: "row guess" }, ...guesses.map((one) => one.node),
      html("div", { class: "row" }, reveal, next))),
    part(names, table));
  drawAtWidth(card, plot, (now) => { width = now; show(); });
  show();
  return () => card.close();
}
