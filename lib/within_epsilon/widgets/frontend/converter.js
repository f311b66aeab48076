// The ε converter: a slide rule. One ε read in pixels, in levels of 255 and after normalising; and
// what an 8-bit file keeps of it.

import { textAt } from "./chart.js";
import { INSET, button, choice, drawAtWidth, html, keepState, nearest, openCard, part, slider, svg,
  verdict } from "./explorer.js";

/** How far a channel moves on every scale; `stored` in whole levels of a file. */
function readings({ epsilon, unit, channels }) {
  return channels.map(([name, deviation]) => {
    const pixels = unit === "pixels" ? epsilon : epsilon * deviation;
    return { name, deviation, pixels, levels: pixels * 255, normalised: pixels / deviation,
      stored: Math.floor(pixels * 255 + 0.5 + 1e-9) };
  });
}

const CONVERTER_STYLE = `
.rule path { fill: none; stroke: var(--line); }
.rule .edge { stroke: var(--other); }
.rule .lost { fill: url(#lost); }
.rule .lost-line { stroke: var(--adversary); }
.rule .raised { fill: color-mix(in srgb, var(--unknown) 28%, transparent); }
.rule .claimed { stroke: var(--other); stroke-width: 2; stroke-dasharray: 3 4; }
.rule .cursor { stroke: var(--text); stroke-width: 2.5; }
.rule .cursor.off { stroke: var(--adversary); }
.rule .named { fill: var(--text); }
.rule .number { stroke-width: 5px; }
.rule .zone { fill: var(--adversary-text); }
.rule .zone.up { fill: var(--text); }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { font-weight: 400; text-align: left; }
th, td { padding: 3px 6px 3px 0; border-bottom: 1px solid var(--line); vertical-align: bottom; }
thead th { font-size: 13px; color: var(--muted); }
td { font-weight: 600; }
`;

const RANGE = [0.05, 100]; // levels
const ROW = 40;
const GAP = 16; // between a ruler and its name: half of the last number fits
const WIDE = 520;

const short = (value) => Number(value.toPrecision(value < 0.1 ? 2 : 3)).toString();

/** Two or five marks a decade within a range, [value, text]. */
function marks([low, high], wide) {
  const values = [];
  for (let power = -5; power < 4; power += 1) {
    for (const digit of wide ? [1, 2, 5] : [1]) values.push(Number(`${digit}e${power}`));
  }
  return values.filter((value) => value >= low && value <= high).map((value) => [value, `${value}`]);
}

/** Rulers, one above the other, that all measure the same change of a pixel. Their names stand to
 * the right, where no cursor comes; on a phone in two lines. */
function rulers(width, channels) {
  const rows = [
    { name: ["levels", "0 to 255"], unit: 1 },
    { name: ["pixels", "0 to 1"], unit: 255 },
    ...channels.map(([name, deviation]) =>
      ({ name: ["normalised", name], unit: 255 * deviation })),
  ].map(({ name, unit }) => ({ unit, lines: width > WIDE ? [name.join(", ")] : name }));
  const longest = Math.max(...rows.flatMap(({ lines }) => lines.map((line) => line.length)));
  const right = width - GAP - Math.min(7 * longest, 0.4 * width);
  const span = Math.log(RANGE[1] / RANGE[0]);
  const x = (levels) => INSET + (Math.log(levels / RANGE[0]) / span) * (right - INSET);
  const y = (row) => 40 + ROW * row;
  return { x, y, right, rows, height: y(rows.length - 1) + 20 };
}

/** The slide rule with its cursor: one line, or one for each channel where they part. */
function drawRule(width, { epsilon, unit, channels }) {
  const { x, y, right, rows, height } = rulers(width, channels);
  const moves = readings({ epsilon, unit, channels });
  const off = unit === "normalised";
  const cursors = moves.map(({ levels }, i) => svg("path", { class: `cursor ${off ? "off" : ""}`,
    d: `M${x(levels)} 20V${off ? y(2 + i) + 10 : height}` }));
  return svg("svg", { height, viewBox: `0 0 ${width} ${height}` },
    svg("defs", {}, svg("pattern", { id: "lost", width: 8, height: 8,
      patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    svg("path", { class: "lost-line", d: "M0 0V8" }))),
    svg("rect", { class: "lost", x: x(RANGE[0]), y: 20, width: x(0.5) - x(RANGE[0]), height: height - 20 }),
    svg("rect", { class: "raised", x: x(0.5), y: 20, width: x(1) - x(0.5), height: height - 20 }),
    textAt(x(0.5) - 4, 13, width > WIDE ? "a file drops it" : "file drops it",
      { class: "zone", "text-anchor": "end" }),
    textAt(x(0.5) + 4, 13, "raises it to 1", { class: "zone up" }),
    ...(off ? [svg("path", { class: "claimed", d: `M${x(255 * epsilon)} 20V${height}` })] : []),
    ...cursors,
    ...rows.flatMap(({ lines, unit: size }, row) => [
      svg("path", { class: "edge", d: `M${INSET} ${y(row)}H${right}` }),
      ...lines.map((line, i) =>
        textAt(right + GAP, y(row) + (lines.length > 1 ? 15 * i : 4), line, { class: "named" })),
      ...marks(RANGE.map((levels) => levels / size), width > WIDE).flatMap(([value, text]) => [
        svg("path", { class: "edge", d: `M${x(value * size)} ${y(row)}v-6` }),
        textAt(x(value * size), y(row) - 8, text, { class: "number", "text-anchor": "middle" })]),
    ]));
}

/** The verdict, [sentence, mark, role]. */
function judge(readout, data, unit, moves) {
  const listed = (key, digits) => moves.map((one) => `${one[key].toFixed(digits)} (${one.name})`)
    .join(", ");
  if (unit === "pixels") {
    const [{ levels, stored }] = moves;
    const whole = `${stored} ${stored === 1 ? "level" : "levels"}`;
    const [file, mark, role] = stored === 0
      ? ["rounds it to nothing", "lost in a file", "adversary"]
      : stored > levels + 1e-6
        ? [`rounds it up to ${whole}, out of the ball`, "grows in a file", "unknown"]
        : stored < levels - 1e-6 ? [`keeps ${whole} of it`, "shrinks in a file", "unknown"]
          : [`keeps it, ${whole}`, "as claimed", "true"];
    return [`${readout} in pixels is ${listed("normalised", 3)} after ${data}'s normalisation; `
      + `an 8-bit file ${file}.`, mark, role];
  }
  const factor = moves.reduce((sum, one) => sum + one.normalised / one.pixels, 0) / moves.length;
  return [`${readout}, added to normalised pixels, moves a pixel by ${listed("levels", 2)} levels, `
    + `${factor.toFixed(1)} times less than claimed.`, "too small", "adversary"];
}

/** What every channel does. */
const table = (moves) => [
  html("thead", {}, html("tr", {}, ...["channel", "pixels", "levels", "normalised", "in a file"]
    .map((text, i) => (i ? html("th", { scope: "col" }, text) : html("td", {}))))),
  html("tbody", {}, ...moves.map((one) => html("tr", {}, html("th", { scope: "row" }, one.name),
    ...[short(one.pixels), short(one.levels), one.normalised.toPrecision(3), `${one.stored}`]
      .map((text) => html("td", {}, text)))))];

export function render({ model, el }) {
  const [epsilons, readouts, scales] = ["epsilons", "readouts", "scales"].map((key) => model.get(key));
  const card = openCard(el, "ε converter");
  const { state, set, reset } = keepState(model, card, ["epsilon", "unit", "data"], show);
  let width = 0;
  const control = slider({ label: "The number ε", stops: epsilons, index: 0, main: true,
    text: (i) => readouts[i], change: (i) => set("epsilon", epsilons[i]) });
  const unit = choice({ label: "Added to pixels that are", value: state.unit,
    change: (value) => set("unit", value), options: [{ value: "pixels", label: "in [0, 1]" },
      { value: "normalised", label: "normalised" }] });
  const data = choice({ label: "Normalised as for", value: state.data,
    change: (value) => set("data", value),
    options: scales.map(([value]) => ({ value, label: value })) });
  const rule = html("div", { class: "rule", "aria-hidden": "true" });
  const numbers = html("table");
  const { node: verdictNode, say } = verdict(card);

  function show() {
    const at = nearest(epsilons, state.epsilon);
    const asked = { epsilon: epsilons[at], unit: state.unit, channels: scales.find(([name]) => name === state.data)[1] };
    const moves = readings(asked);
    control.show(at);
    unit.show(state.unit);
    data.show(state.data);
    if (width) rule.replaceChildren(drawRule(width, asked));
    numbers.replaceChildren(...table(moves));
    say(...judge(readouts[at], state.data, state.unit, moves));
  }

  card.append(html("style", {}, CONVERTER_STYLE), part(rule, control.node),
    part(html("div", { class: "row bottom spread" }, unit.node, data.node, button("Reset", reset))),
    verdictNode, part(numbers),
    part(html("p", { class: "muted" }, "Every ruler measures the same change of a pixel. Solid: the "
      + "change; dotted: the change that was claimed.")));
  drawAtWidth(card, rule, (now) => { width = now; show(); });
  show();
  return () => card.close();
}
