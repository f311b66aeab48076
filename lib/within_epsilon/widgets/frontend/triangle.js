// The triangle explorer: all that linear bounds know of a ReLU is an interval and two lines.

import { plane, pathThrough, roundTicks, textAt, xAxis, yAxis } from "./chart.js";
import { button, drawAtWidth, html, keepState, nearest, openCard, part, range, signed, slider, svg,
  verdict, INSET } from "./explorer.js";
import { reluLines } from "./mlp.js";

const REACH = 3;
const UNIT = 42; // pixels, at most

const TRIANGLE_STYLE = `
.triangle { position: relative; cursor: ew-resize; touch-action: pan-y; }
.triangle path { fill: none; }
.triangle .grid { stroke: var(--line); }
.triangle .allowed { fill: url(#hatch); stroke: none; }
.triangle .hatch { stroke: var(--unknown); stroke-width: 3.5; opacity: 0.7; }
.triangle .relu { stroke: var(--text); stroke-width: 1.5; }
.triangle .relu.inside { stroke-width: 3.5; }
.triangle .end { stroke: var(--control); stroke-width: 1.5; stroke-dasharray: 5 4; }
.triangle .bound { stroke: var(--proved); stroke-width: 3; }
.triangle .bound.below { stroke-dasharray: 9 4; }
.triangle .thumb { fill: var(--control); stroke: var(--surface); stroke-width: 3; }
.triangle .hold { fill: var(--surface); stroke: var(--proved); stroke-width: 3; }
.triangle .named { font-size: 14px; font-weight: 600; fill: var(--text); }
.triangle .named.proof { fill: var(--proved-text); }
.triangle .named.doubt { fill: var(--unknown-text); }
.triangle .grip { position: absolute; width: 48px; height: 48px; margin: -24px; border-radius: 50%;
  touch-action: none; cursor: grab; }
.ends { display: grid; grid-template-columns: 1fr 1fr; gap: 0 20px; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(135px, 1fr)); gap: 8px 16px; }
dt { font-size: 13px; color: var(--muted); }
dd { font-weight: 600; }
@container (max-width: 520px) { .ends { grid-template-columns: 1fr; } }
`;

/** A number as it is said: two decimals, no zeros behind. */
const said = (value) => signed(value, 2).replace(/\.?0+$/, "").replace(/^−0$/, "0");
const line = (slope, height) => `${slope === 1 ? "z" : slope ? `${said(slope)} z` : "0"}`
  + `${height ? ` + ${said(height)}` : ""}`;

/** The lines on an interval, the triangle's area, and the area between the lines. */
function relaxation({ lower, upper, slope }) {
  const lines = reluLines(lower, upper);
  const between = (below) => (upper * (upper - lower) - below * (upper ** 2 - lower ** 2)) / 2;
  if (!lines.height) return { ...lines, stable: true, triangle: 0, area: 0, best: 0, least: 0 };
  return { ...lines, stable: false, best: lines.below, below: slope, triangle: (-lower * upper) / 2,
    area: between(slope), least: between(lines.below) };
}

function sentence({ lower, upper }, found) {
  const where = `z lies between ${said(lower)} and ${said(upper)}`;
  if (found.stable) {
    return [`${where}: on this interval ReLU is the line ${found.slope ? "z" : "0"}. No triangle, and `
      + "nothing is lost.", found.slope ? "stable, on" : "stable, off", "proved"];
  }
  const [left, right] = [-found.below * lower, (1 - found.below) * upper];
  const gaps = [[left, "l"], [right, "u"]].filter(([gap]) => gap > 1e-9)
    .map(([gap, end]) => `${said(gap)} at ${end}`).join(" and ");
  const cost = found.area - found.triangle;
  return [`${where}. The lower line passes below ReLU by ${gaps}; it adds ${said(cost)} to the `
    + `triangle's area of ${said(found.triangle)}.`, "unstable", "unknown"];
}

export function render({ model, el }) {
  const card = openCard(el, "ReLU triangle explorer");
  const { state, set, update, reset } = keepState(model, card, ["lower", "upper", "slope"], show);
  const ends = range(-REACH, REACH, 0.1);
  const slopes = range(0, 1, 0.05);
  let at = null;

  const moveLower = (value) => update({ lower: value, upper: Math.max(value, state.upper) });
  const moveUpper = (value) => update({ upper: value, lower: Math.min(value, state.lower) });
  const end = (label, change) => slider({ label, stops: ends, index: 0, main: true,
    zero: nearest(ends, 0), text: (i) => signed(ends[i]), change: (i) => change(ends[i]) });
  const lowest = end("Lower end l of z", moveLower);
  const highest = end("Upper end u of z", moveUpper);
  const steep = slider({ label: "Slope of the lower line", stops: slopes, index: 0,
    text: (i) => `${slopes[i]}`, change: (i) => set("slope", slopes[i]) });
  const axes = svg("g");
  const moving = svg("g");
  const grips = ["l", "u", "slope"].map((name) => html("span", { class: "grip", "data-end": name }));
  const plot = html("div", { class: "triangle", role: "img" });
  const numbers = html("dl", { class: "numbers" });
  const { node: verdictNode, say } = verdict(card);

  /** Where the lower line can be held: at the end where it moves more. */
  const handle = () => (state.upper >= -state.lower ? state.upper : state.lower);

  function draw(found) {
    const { lower, upper } = state;
    const place = (z, y) => [at.x(z), at.y(y)];
    const relu = (from, to) => pathThrough([from, ...(from < 0 && to > 0 ? [0] : []), to]
      .map((z) => place(z, Math.max(0, z))));
    const value = (z) => [found.slope * z + found.height, found.below * z];
    const [[highLeft, lowLeft], [highRight, lowRight]] = [value(lower), value(upper)];
    const held = handle();
    const free = -found.below * lower > (1 - found.below) * upper ? lower : upper; // away from ReLU
    const labelled = (z, y, text, name, dy, anchor) => textAt(at.x(z), at.y(y) + dy, text,
      { class: `named ${name}`, "text-anchor": anchor });
    moving.replaceChildren(
      ...(found.stable ? [] : [svg("path", { class: "allowed", d: `${pathThrough([
        place(lower, highLeft), place(upper, highRight), place(upper, lowRight),
        place(lower, lowLeft)])}Z` })]),
      ...[lower, upper].map((z) => svg("path", { class: "end",
        d: `M${at.x(z)} ${at.bottom}V${at.y(Math.max(0, z))}` })),
      svg("path", { class: "relu", d: relu(at.from, at.to) }),
      ...(found.stable ? [] : [
      svg("path", { class: "bound below", d: pathThrough([place(lower, lowLeft), place(upper, lowRight)]) }),
      svg("path", { class: "bound above", d: pathThrough([place(lower, highLeft), place(upper, highRight)]) })]),
      svg("path", { class: "relu inside", d: relu(lower, upper) }),
      ...(found.stable ? [] : [
        labelled((lower + upper) / 2, value((lower + upper) / 2)[0], "upper line", "proof", -12, "end"),
        labelled(free, found.below * free, "lower line", "proof", 20, free > 0 ? "end" : "start"),
        svg("circle", { class: "hold", cx: at.x(held), cy: at.y(found.below * held), r: 7 })]),
      ...[[lower, "l", "end"], [upper, "u", "start"]].flatMap(([z, name, anchor]) => [
        svg("circle", { class: "thumb", cx: at.x(z), cy: at.bottom - 14, r: 11 }),
        textAt(at.x(z) + (anchor === "end" ? -16 : 16), at.bottom - 9, name,
          { class: "named", "text-anchor": anchor })]));
    const places = [place(lower, -REACH), place(upper, -REACH), place(held, found.below * held)];
    grips.forEach((grip, i) => {
      [grip.style.left, grip.style.top] = [`${places[i][0]}px`, i < 2 ? `${at.bottom - 14}px` : `${places[i][1]}px`];
      grip.hidden = i === 2 && found.stable;
    });
  }

  function show() {
    const found = relaxation(state);
    lowest.show(nearest(ends, state.lower));
    highest.show(nearest(ends, state.upper));
    steep.show(nearest(slopes, state.slope));
    steep.input.disabled = found.stable;
    if (at) draw(found);
    const area = (value) => (found.stable ? "none" : said(value));
    numbers.replaceChildren(...[["upper line", line(found.slope, found.height)],
      ["lower line", line(found.below, 0)], ["area of the triangle", area(found.triangle)],
      ["area between the lines", area(found.area)]]
      .map(([name, value]) => html("div", {}, html("dt", {}, name), html("dd", {}, value))));
    const [words, mark, role] = sentence(state, found);
    plot.setAttribute("aria-label", `The graph of ReLU and the lines around it. ${words}`);
    say(words, mark, role);
  }

  /** What the pointer holds: an end of the interval, or the lower line. */
  let held = null;
  function follow(event) {
    const box = plot.getBoundingClientRect();
    const z = at.z(event.clientX - box.left);
    if (held === "slope") {
      const share = at.value(event.clientY - box.top) / handle();
      set("slope", slopes[nearest(slopes, Math.min(1, Math.max(0, share)))]);
    } else (held === "l" ? moveLower : moveUpper)(ends[nearest(ends, z)]);
  }
  plot.addEventListener("pointerdown", (event) => {
    const z = at.z(event.clientX - plot.getBoundingClientRect().left);
    const near = Math.abs(z - state.lower) < Math.abs(z - state.upper)
      || (state.lower === state.upper && z < state.lower) ? "l" : "u";
    held = event.target.dataset?.end ?? (event.pointerType === "mouse" ? near : null);
    if (!held) return;
    if (held !== "slope") held = near; // two ends on one place: the pointer's side decides
    plot.setPointerCapture(event.pointerId);
    follow(event);
  });
  plot.addEventListener("pointermove", (event) => {
    if (held && plot.hasPointerCapture(event.pointerId)) follow(event);
  });
  for (const end_ of ["pointerup", "pointercancel"]) plot.addEventListener(end_, () => { held = null; });

  drawAtWidth(card, plot, (width) => {
    const unit = Math.min((width - 2 * INSET) / (2 * REACH + 0.6), UNIT);
    const across = (width - 2 * INSET) / unit / 2;
    const [top, bottom] = [10, 10 + (2 * REACH + 0.4) * unit];
    at = { ...plane({ width, top, bottom, x: [-across, across], y: [-REACH - 0.2, REACH + 0.2] }),
      from: -across, to: Math.min(across, REACH + 0.2) };
    at.z = (x) => (x - at.left) / unit - across;
    at.value = (y) => (bottom - y) / unit - REACH - 0.2;
    const height = bottom + 40;
    axes.replaceChildren(svg("pattern", { id: "hatch", width: 7, height: 7, patternUnits: "userSpaceOnUse",
      patternTransform: "rotate(45)" }, svg("path", { class: "hatch", d: "M0 0V7" })),
    yAxis(at, roundTicks([-REACH, REACH])), xAxis(at, range(-REACH, REACH, 1).map((z) => [z, signed(z, 0)]),
      "z, the neuron's input; up: ReLU(z)"));
    plot.replaceChildren(svg("svg", { height, viewBox: `0 0 ${width} ${height}` }, axes, moving), ...grips);
    show();
  });
  card.append(html("style", {}, TRIANGLE_STYLE), part(plot),
    part(html("div", { class: "ends" }, lowest.node, highest.node)), verdictNode,
    part(steep.node), part(numbers),
    part(html("div", { class: "row" }, html("p", { class: "muted grow" }, "Hatched: all values that the "
      + "two lines allow. The triangle between ReLU and the upper line is the part that no slope of the "
      + "lower line can spare."), button("Reset", reset))));
  show();
  return () => card.close();
}
