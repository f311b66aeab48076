// The broadcast explorer: a table (N, k), a smaller tensor, and which entry meets which.

import { textAt } from "./chart.js";
import { button, choice, drawAtWidth, html, keepState, openCard, part, range, slider, svg, verdict }
  from "./explorer.js";

const SHAPES = [
  { value: "(N,)", label: "a, one per image, (N,)" },
  { value: "(N, 1)", label: "a[:, None], (N, 1)" },
  { value: "(k,)", label: "b, one per class, (k,)" },
];

const BROADCAST_STYLE = `
.plot rect { fill: var(--surface); stroke: var(--other); }
.plot .small { stroke: var(--gradient); stroke-width: 2; }
.plot .lost { stroke: var(--adversary); stroke-width: 2; stroke-dasharray: 5 3; }
.plot .meant { fill: var(--track); }
.plot .entry { fill: var(--text); font-size: 15px; }
.plot .entry.lost { fill: var(--adversary-text); stroke: var(--surface); stroke-width: 3px; stroke-dasharray: none; }
`;

/** Which entry is subtracted at each place; null where the shapes do not fit. */
function subtractedAt({ images, classes, other }) {
  if (other === "(N,)" && images !== classes) return null;
  const places = range(0, classes - 1, 1);
  return range(0, images - 1, 1).map((row) => (other === "(N, 1)" ? places.map(() => row) : places));
}

/** The smaller tensor above or beside the table, and in each place what it loses. */
function drawTables({ width, state }) {
  const { images, classes, other } = state;
  const entries = subtractedAt(state);
  const name = other === "(k,)" ? "b" : "a";
  const column = other === "(N, 1)";
  const [left, top, high] = [112, 82, 40];
  const wide = Math.min(76, (width - left) / 5 - 4);
  const cell = (x, y, text, kind) => svg("g", {},
    svg("rect", { class: kind, x, y, width: wide - 4, height: high - 4, rx: 4 }),
    textAt(x + wide / 2 - 2, y + high / 2 + 3, text, { class: kind === "lost" ? "entry lost" : "entry", "text-anchor": "middle" }));
  const small = range(0, (column || other === "(N,)" ? images : classes) - 1, 1).map((i) =>
    cell(...(column ? [left - wide - 14, top + i * high] : [left + i * wide, top - high - 14]),
      `${name}[${i}]`, entries ? "small" : "lost"));
  const rows = range(0, images - 1, 1).flatMap((i) => [
    textAt(0, top + i * high + high / 2 + 3, `image ${i}`),
    ...range(0, classes - 1, 1).map((j) => cell(left + j * wide, top + i * high,
      entries ? `− ${name}[${entries[i][j]}]` : "?",
      entries && other === "(N,)" && entries[i][j] !== i ? "lost" : entries ? "meant" : ""))]);
  const tight = wide < 60; // "class 0class 1class 2" on a phone: there the word stands once
  const heads = range(0, classes - 1, 1).map((j) => textAt(left + j * wide + wide / 2 - 2, 12,
    tight ? `${j}` : `class ${j}`, { "text-anchor": "middle" }));
  if (tight) heads.unshift(textAt(left - 8, 12, "class", { "text-anchor": "end" }));
  const height = top + images * high + 4;
  return svg("svg", { height, viewBox: `0 0 ${width} ${height}` }, ...heads, ...small, ...rows);
}

/** What PyTorch does, and whether it is what was meant. */
function outcome({ images, classes, other }) {
  const table = `(${images}, ${classes})`;
  if (other === "(k,)") return ["as meant", "true", `(${classes},) becomes (1, ${classes}), a row: each class of the table ${table} loses its own number.`];
  if (other === "(N, 1)") return ["as meant", "true", `(${images}, 1) is a column and is stretched over the ${classes} classes of ${table}: each image loses its own number.`];
  return images === classes
    ? ["wrong, silently", "adversary", `(${images},) becomes (1, ${images}), a row. It fits ${table}, and nobody complains: image 1's number is subtracted from class 1 of all images.`]
    : ["error", "unknown", `(${images},) becomes (1, ${images}), a row, and does not fit ${table}: PyTorch stops with an error.`];
}

export function render({ model, el }) {
  const card = openCard(el, "Broadcast explorer");
  const { state, set, reset } = keepState(model, card, ["images", "classes", "other"], show);
  let width = 0;
  const stops = range(2, 5, 1);
  const images = slider({ label: "Images N", stops, index: state.images - 2, main: true,
    text: (i) => `${stops[i]} rows`, change: (i) => set("images", stops[i]) });
  const classes = slider({ label: "Classes k", stops, index: state.classes - 2,
    text: (i) => `${stops[i]} columns`, change: (i) => set("classes", stops[i]) });
  const other = choice({ label: "Subtract", value: state.other, options: SHAPES,
    change: (value) => set("other", value) });
  const plot = html("div", { class: "plot", "aria-hidden": "true" });
  const { node: verdictNode, say } = verdict(card);

  function show() {
    images.show(state.images - 2);
    classes.show(state.classes - 2);
    other.show(state.other);
    if (width) plot.replaceChildren(drawTables({ width, state }));
    const [mark, role, sentence] = outcome(state);
    say(sentence, mark, role);
  }

  card.append(html("style", {}, BROADCAST_STYLE), part(plot),
    part(images.node), part(classes.node),
    part(html("div", { class: "corner" }, other.node, button("Reset", reset))), verdictNode);
  drawAtWidth(card, plot, (now) => { width = now; show(); });
  show();
  return () => card.close();
}
