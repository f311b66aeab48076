// The branching explorer: branch and bound, one split at a time, on a square of inputs.

import { GAP, makeProblem, openSearch } from "./branch_and_bound.js";
import { plane, pathThrough, roundTicks, textAt, xAxis, yAxis } from "./chart.js";
import { button, choice, drawAtWidth, html, keepState, nearest, openCard, part, slider, svg,
  verdict, INSET } from "./explorer.js";
import { readLayers } from "./mlp.js";
import { roundedDown, roundedUp } from "./rounding.js";

const MOST = 200; // splits
const SIGNS = { proved: "✓", open: "?", bad: "✕", above: "–" };
const STATES = { proved: "proved", open: "open", bad: "holds an input of another class",
  above: "not below the least margin" };

const BRANCHING_STYLE = `
.desk { display: grid; grid-template: "map tree" "keys keys" "said said" "bracket bracket"
  / minmax(0, 330px) minmax(0, 1fr); gap: 12px 20px; padding: 0 16px; }
.desk .part { padding: 0; margin: 0; grid-area: said; }
.map { grid-area: map; }
.tree { grid-area: tree; }
.keys { grid-area: keys; }
.bracket { grid-area: bracket; }
.map path, .tree path, .bracket path { fill: none; }
.map .grid, .bracket .grid { stroke: var(--line); }
.map .case { stroke: var(--text); stroke-width: 1.5; stroke-linejoin: round; }
.map .proved { fill: color-mix(in srgb, var(--proved) 26%, var(--surface)); }
.map .open { fill: url(#doubt); }
.map .bad { fill: url(#bad); }
.map .above { fill: var(--track); }
.map .doubt { stroke: var(--unknown); stroke-width: 3.5; opacity: 0.75; }
.map .cross { stroke: var(--adversary); stroke-width: 2; opacity: 0.8; }
.map .named { font-size: 13px; font-weight: 600; fill: var(--text); }
.map .centre { fill: var(--true); stroke: var(--surface); stroke-width: 2; }
.map .worst { fill: var(--surface); stroke: var(--adversary); stroke-width: 2.5; }
.map .worst.below { fill: var(--adversary); stroke: var(--surface); }
.tree .edge { stroke: var(--other); stroke-width: 1.5; }
.tree circle { stroke: var(--other); stroke-width: 2; fill: var(--surface); }
.tree .proved { stroke: var(--proved); }
.tree .open { stroke: var(--unknown); stroke-dasharray: 3 2; }
.tree .bad { stroke: var(--adversary); }
.tree text { fill: var(--text); }
.tree .leaf { font-size: 11px; stroke: none; }
.bracket .zero { stroke: var(--text); stroke-width: 2; }
.bracket .between { fill: var(--unknown); opacity: 0.18; }
.bracket .lower, .bracket .upper { stroke-width: 2.5; }
.bracket .lower { stroke: var(--proved); }
.bracket .upper { stroke: var(--adversary); stroke-dasharray: 7 4; }
.bracket .low { fill: var(--proved-text); font-weight: 600; }
.bracket .high { fill: var(--adversary-text); font-weight: 600; }
.go { flex: 1 1 160px; min-height: 56px; font-size: 18px; font-weight: 600;
  border: 2px solid var(--control); }
button[aria-disabled="true"] { color: var(--muted); border-color: var(--line); cursor: default; }
summary { min-height: 44px; line-height: 44px; cursor: pointer; }
table { border-collapse: collapse; }
th, td { padding: 1px 14px 1px 0; text-align: left; font-weight: 400; }
@container (max-width: 600px) {
  .desk { grid-template: "map" "keys" "said" "tree" "bracket" / minmax(0, 1fr); padding: 0 12px; }
}
`;

/** A number as it is said, with three digits that count; a bound is rounded so that it stays one. */
function inDigits(value, rounded) {
  if (!Number.isFinite(value)) return "∞";
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return rounded(value, digits).replace("-", "−");
}
const brief = (value) => inDigits(value, (given, digits) => given.toFixed(digits));
const atLeast = (value) => inDigits(value, roundedDown);
const atMost = (value) => inDigits(value, roundedUp);

/** What a case says: "z_1 on, z_3 off", or its sides. */
function describeCase(one, names) {
  if (!one.parent) return "the whole square";
  const own = one.cut.relu === undefined
    ? `${names[one.cut.axis]} ${one.side > 0 ? "≥" : "≤"} ${brief(one.cut.at)}`
    : `z_${one.cut.relu + 1} ${one.side > 0 ? "on" : "off"}`;
  return one.parent.parent ? `${describeCase(one.parent, names)}, ${own}` : own;
}

const middleOf = (polygon) => [0, 1].map((axis) =>
  polygon.reduce((sum, corner) => sum + corner[axis], 0) / polygon.length);

/** How high a name at x stands, so that it leaves dot and diamond free: beside its place if need be. */
const clearOf = (spots, x, y) => spots.reduce((height, [spotX, spotY]) =>
  (Math.abs(x - spotX) < 24 && Math.abs(height - spotY) < 16 ? spotY + (height > spotY ? 20 : -20) : height), y);

/** The square of inputs, a colour for each case. */
function drawMap(at, found, { centre }) {
  const few = found.leaves.length <= 16;
  const corners = ({ polygon }) => polygon.map(([x, y]) => [at.x(x), at.y(y)]);
  const spots = [centre, ...(found.witness ? [found.witness] : [])].map(([x, y]) => [at.x(x), at.y(y)]);
  const diamond = ([x, y], r) => `M${x} ${y - r}l${r} ${r}l${-r} ${r}l${-r} ${-r}Z`;
  return [
    ...found.leaves.map((one) => svg("path", { class: `case ${found.stateOf(one)}`,
      d: `${pathThrough(corners(one))}Z` })),
    svg("circle", { class: "centre", cx: at.x(centre[0]), cy: at.y(centre[1]), r: 6 }),
    ...found.leaves.flatMap((one, i) => {
      const [x, y] = middleOf(corners(one));
      return few ? [textAt(x, clearOf(spots, x, y) + 5, `${i + 1} ${SIGNS[found.stateOf(one)]}`,
        { class: "named", "text-anchor": "middle" })] : [];
    }),
    ...(found.witness ? [svg("path", { class: `worst ${found.upper < 0 ? "below" : ""}`,
      d: diamond([at.x(found.witness[0]), at.y(found.witness[1])], 8) })] : [])];
}

/** The tree of cases: the left branch takes the ReLU to be on, or the upper half. */
function drawTree(width, found) {
  const { leaves, root } = found;
  const few = leaves.length <= 16;
  const spacing = (width - 2 * INSET) / leaves.length;
  const places = new Map(leaves.map((one, i) => [one, INSET + (i + 0.5) * spacing]));
  const depthOf = (one) => (one.children ? 1 + Math.max(...one.children.map(depthOf)) : 0);
  const depth = Math.max(3, depthOf(root));
  const [top, fall] = [18, Math.min(44, 240 / depth)];
  const radius = few ? Math.min(10, spacing / 2) : Math.max(2, Math.min(5, spacing / 2));
  const nodes = [];
  const edges = [];
  const place = (one, level) => {
    const y = top + level * fall;
    if (!one.children) {
      nodes.push(svg("circle", { class: found.stateOf(one), cx: places.get(one), cy: y, r: radius }));
      if (few && radius > 7) {
        nodes.push(textAt(places.get(one), y + 4, `${leaves.indexOf(one) + 1}`,
          { class: "leaf", "text-anchor": "middle" }));
      }
      return [places.get(one), y];
    }
    const ends = one.children.map((half) => place(half, level + 1));
    const x = (ends[0][0] + ends[1][0]) / 2;
    for (const [to, below] of ends) edges.push(svg("path", { class: "edge", d: `M${x} ${y}L${to} ${below}` }));
    const { cut } = one.children[0];
    nodes.push(svg("circle", { cx: x, cy: y, r: 3 }));
    if (few) {
      nodes.push(textAt(x + 6, y - 4, cut.relu === undefined ? `x_${cut.axis + 1}` : `z_${cut.relu + 1}`));
    }
    return [x, y];
  };
  place(root, 0);
  const height = top + depth * fall + 16;
  return svg("svg", { height, viewBox: `0 0 ${width} ${height}` }, ...edges, ...nodes);
}

/** The bracket of the least margin against the number of bounds. */
function drawBracket(width, { history }) {
  const [first, last] = [history[0], history.at(-1)];
  const pad = 0.12 * Math.max(1, first.upper - first.lower);
  const span = [Math.min(first.lower, 0) - pad, Math.max(first.upper, 0) + pad];
  const most = Math.max(12, last.bounds + 2);
  const bottom = 126;
  const at = plane({ width: width - 52, top: 8, bottom, x: [0, most], y: span });
  const steps = (key) => history.flatMap((one, i) => [
    [at.x(one.bounds), at.y(history[Math.max(0, i - 1)][key])], [at.x(one.bounds), at.y(one[key])]]);
  const [low, high] = [steps("lower"), steps("upper")];
  const apart = Math.max(0, 15 - (at.y(last.lower) - at.y(last.upper))) / 2;
  const every = most > 40 ? 10 : most > 20 ? 5 : 2;
  const counts = Array.from({ length: Math.floor(most / every) + 1 }, (_, i) => [i * every, `${i * every}`]);
  return svg("svg", { height: bottom + 38, viewBox: `0 0 ${width} ${bottom + 38}` },
    yAxis(at, roundTicks(span)), xAxis(at, counts, "bounds computed"),
    svg("path", { class: "zero", d: `M${at.left} ${at.y(0)}H${at.right}` }),
    svg("path", { class: "between", d: `${pathThrough([...low, ...high.reverse()])}Z` }),
    svg("path", { class: "lower", d: pathThrough(low) }),
    svg("path", { class: "upper", d: pathThrough(high.reverse()) }),
    textAt(at.x(last.bounds) + 6, at.y(last.upper) + 4 - apart, "found", { class: "high" }),
    textAt(at.x(last.bounds) + 6, at.y(last.lower) + 4 + apart, "proved", { class: "low" }));
}

/** The verdict: [sentence, mark, role]. */
function verdictOf({ history, leaves, lower, upper, witness, status, over, stateOf }, ball, label, question) {
  const { bounds } = history.at(-1);
  const spent = `${bounds} ${bounds === 1 ? "bound" : "bounds"}`;
  const bracket = question === "least" && over
    ? `The least margin is ${brief(lower)}, to ${GAP}.`
    : brief(lower) === brief(upper) ? `The least margin is ${brief(lower)}.`
      : `The least margin is between ${atLeast(lower)} and ${atMost(upper)}.`;
  if (status === "proved") {
    return [`Every input within ${ball} is class ${label}, after ${spent}. ${bracket}`, "proved", "proved"];
  }
  if (status === "refuted") {
    return [`The input (${witness.map(brief).join(", ")}), within ${ball}, is not class ${label}, after `
      + `${spent}. ${bracket}`, "refuted", "adversary"];
  }
  const open = leaves.filter((one) => stateOf(one) === "open").length;
  const left = leaves.length === 1 ? "the whole square is open"
    : `${open} of ${leaves.length} cases are open`;
  return [`After ${spent}, ${left}, ${ball}. ${bracket}`, "unknown", "unknown"];
}

export function render({ model, el }) {
  const card = openCard(el, "Branch and bound explorer");
  const layers = readLayers(model.get("layers"));
  const [centre, label, radii] = ["centre", "label", "radii"].map((key) => model.get(key));
  const names = ["x_1", "x_2"];
  const { state, update, set, reset } = keepState(model, card,
    ["radius", "split", "question", "splits"], show);
  const size = slider({ label: "Radius of the square", stops: radii, index: 0,
    text: (i) => `ε = ${radii[i]}`, change: (i) => update({ radius: radii[i], splits: 0 }) });
  const way = choice({ label: "What to split", value: state.split,
    options: [{ value: "relus", label: "a ReLU" }, { value: "inputs", label: "the square" }],
    change: (split) => update({ split, splits: 0 }) });
  const asked = choice({ label: "Ask", value: state.question,
    options: [{ value: "sign", label: "is the margin positive?" },
      { value: "least", label: "how small is it?" }],
    change: (question) => update({ question, splits: 0 }) });
  const act = (words, change) => {
    const key = button(words, () => { if (key.getAttribute("aria-disabled") !== "true") change(); });
    return { key, allow: (now) => key.setAttribute("aria-disabled", String(!now)) };
  };
  const one = act("Split", () => set("splits", state.splits + 1));
  const back = act("Undo", () => set("splits", state.splits - 1));
  const all = act("To the end", () => {
    while (state.splits + more < MOST && search.advance()) more += 1;
    set("splits", state.splits + more);
  });
  one.key.classList.add("go");
  const [map, tree, bracket] = ["map", "tree", "bracket"].map((name) =>
    html("div", { class: name, role: "img" }));
  const table = html("table");
  const { node: verdictNode, say } = verdict(card);
  const widths = {};

  // The search stands at `done` splits of `settings`; it goes on, or begins anew.
  let [search, settings, done, more] = [null, "", 0, 0];
  function seek() {
    const { radius, split, question } = state;
    const wanted = JSON.stringify([radius, split, question]);
    if (wanted !== settings || state.splits < done + more) {
      search = openSearch(makeProblem(layers, centre, radius, label), { split, question, start: centre });
      [settings, done, more] = [wanted, 0, 0];
    }
    done += more;
    more = 0;
    while (done < state.splits && search.advance()) done += 1;
    return search.report();
  }

  function show() {
    const found = seek();
    const { radius, split, question } = state;
    size.show(nearest(radii, radius));
    way.show(split);
    asked.show(question);
    one.allow(!found.over && done < MOST);
    all.allow(!found.over && done < MOST);
    back.allow(done > 0);
    const ball = `ℓ∞ ε = ${radius} of (${centre.map((value) => `${Number(value.toPrecision(3))}`).join(", ")})`;
    const [words, mark, role] = verdictOf(found, ball, label, question);
    if (widths.map) drawSquare(found);
    if (widths.tree) tree.replaceChildren(drawTree(widths.tree, found));
    if (widths.bracket) bracket.replaceChildren(drawBracket(widths.bracket, found));
    const states = found.leaves.map((leaf, i) => `${i + 1}: ${describeCase(leaf, names)}, bound `
      + `${atLeast(leaf.bound)}, ${STATES[found.stateOf(leaf)]}`).join("; ");
    map.setAttribute("aria-label", `The square of inputs in ${found.leaves.length} parts. ${states}`);
    tree.setAttribute("aria-label", `The tree of ${found.leaves.length} cases.`);
    bracket.setAttribute("aria-label", `The bracket of the least margin over ${found.history.length} steps: `
      + `from ${atLeast(found.history[0].lower)} and ${atMost(found.history[0].upper)} to `
      + `${atLeast(found.lower)} and ${atMost(found.upper)}.`);
    const row = (tag, cells) => html("tr", {}, ...cells.map((cell) => html(tag, {}, cell)));
    table.replaceChildren(row("th", ["", "case", "bound", ""]), ...found.leaves.map((leaf, i) =>
      row("td", [`${i + 1}`, describeCase(leaf, names), atLeast(leaf.bound), STATES[found.stateOf(leaf)]])));
    say(words, mark, role);
  }

  function drawSquare(found) {
    const reach = 1.12 * Math.max(...radii);
    const side = Math.min(widths.map - 2 * INSET, 300);
    const at = plane({ width: side + 2 * INSET, top: 6, bottom: 6 + side,
      x: [centre[0] - reach, centre[0] + reach], y: [centre[1] - reach, centre[1] + reach] });
    const hatch = (id, name, shape) => svg("pattern", { id, width: 8, height: 8,
      patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, svg("path", { class: name, d: shape }));
    const height = side + 46;
    map.replaceChildren(svg("svg", { height, viewBox: `0 0 ${widths.map} ${height}` },
      hatch("doubt", "doubt", "M0 0V8"), hatch("bad", "cross", "M0 0V8M0 0H8"),
      yAxis(at, roundTicks([centre[1] - reach, centre[1] + reach])),
      xAxis(at, roundTicks([centre[0] - reach, centre[0] + reach]), "across: x_1, up: x_2"),
      ...drawMap(at, found, { centre })));
  }

  for (const [name, node] of Object.entries({ map, tree, bracket })) {
    drawAtWidth(card, node, (width) => { widths[name] = width; show(); });
  }
  card.append(html("style", {}, BRANCHING_STYLE),
    html("div", { class: "desk" }, map, tree,
      html("div", { class: "row keys" }, one.key, back.key, all.key, button("Reset", reset)),
      verdictNode, bracket),
    part(size.node), part(html("div", { class: "row" }, way.node, asked.node)),
    part(html("details", {}, html("summary", {}, "The cases as a table"), table)),
    part(html("p", { class: "muted" }, "Each z is the input of a ReLU, whose kink is a straight line "
      + "across the square. A left branch takes the ReLU to be on, or the half further right or up. "
      + "✓ proved, ? open, ✕ holds an input of another class, – not below the least margin. The dot is "
      + "the point, the diamond the worst input found. The bounds are those of real arithmetic, with the "
      + "rounding of this page subtracted.")));
  show();
  return () => card.close();
}
