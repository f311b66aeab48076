// Accuracies over the epochs, as far as training has come, and the same as a table.

import { pathThrough, plane, textAt, xAxis, yAxis } from "./chart.js";
import { drawAtWidth, html, range, svg } from "./explorer.js";
import { percent } from "./shares.js";

const HEIGHT = 210;
const LABELS = 46; // pixels at the right for the curves' names
const APART = 14; // pixels between two names
const ROWS = 3; // of digits, where nothing has been trained yet
const PITCH = 36; // pixels from one of them to the next, of which the digit has all but four
/** What is counted after every epoch: [key, name, shape of its last point]. */
export const COUNTED = [["clean", "clean", "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z"],
  ["fgsm", "FGSM", "M-4 -4h8v8h-8z"], ["pgd", "PGD", "M-6 5h12l-6 -11z"]];

/** Characters "0" to "g" as numbers from 0 to 1. */
export const levelsOf = (text) => Array.from(text, (char) => parseInt(char, 17) / 16);

/** The chart, and the table in a fold; `show(runs, epochs, total)` draws the first run strongly and
 * the second palely. `sentence` says what is seen. Before there is a run, some of the `learned` digits
 * to learn from are shown: `lessons`, 64 characters each. */
export function accuracyCurves(card, lessons, learned) {
  const holder = html("div", { class: "accuracies", role: "img" });
  const table = html("table");
  const fold = html("details", {}, html("summary", {}, "The numbers as a table"),
    html("div", { class: "numbers", tabindex: 0, role: "region", "aria-label": "Accuracies by epoch" },
      table));
  let width = 0;
  let shown = null;
  const draw = () => {
    if (!shown || !width) return;
    const { runs, epochs, total } = shown;
    const at = plane({ width: width - LABELS, top: 12, bottom: HEIGHT - 38,
      x: [-epochs / 10, epochs], y: [0, total] }); // the values' names stand left of epoch 0
    const lines = runs.flatMap((run, i) => COUNTED.map(([key]) => svg("path",
      { class: `line ${key} ${i ? "pale" : ""}`,
        d: pathThrough(run.points.map((point) => [at.x(point.epoch), at.y(point[key])])) })));
    holder.replaceChildren(svg("svg", { height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}` },
      yAxis(at, [0, 0.5, 1].map((share) => [share * total, percent(share)])),
      xAxis(at, range(0, epochs, Math.max(1, Math.round(epochs / 6))).map((n) => [n, `${n}`]), "epoch"),
      ...(runs.length ? [] : toLearnFrom(at, lessons, learned)),
      ...switches(at, runs[0], epochs), ...lines.reverse(), ...ends(at, runs[0])));
  };
  drawAtWidth(card, holder, (now) => { width = now; draw(); });
  return { node: holder, fold,
    show(runs, epochs, total) {
      shown = { runs: runs.filter((run) => run?.points.length), epochs, total };
      draw();
    },
    say(sentence) {
      holder.setAttribute("aria-label", sentence);
      fold.hidden = !shown.runs.length;
      table.replaceChildren(...rows(shown));
    } };
}

/** Rows of digits between the axes, as many as fit, and what they are. */
function toLearnFrom(at, lessons, learned) {
  const left = at.x(0) + 4;
  const columns = Math.min(lessons.length / 64 / ROWS, Math.floor((at.right - left) / PITCH));
  if (columns < 1) return [];
  const levels = levelsOf(lessons);
  const digits = Array.from({ length: ROWS * columns }, (_, i) => svg("image", {
    href: drawn(levels.slice(64 * i, 64 * i + 64)), width: PITCH - 4, height: PITCH - 4,
    x: left + PITCH * (i % columns), y: at.top + 8 + PITCH * Math.floor(i / columns) }));
  return [...digits, textAt(left, at.bottom - 12,
    `${digits.length} of the ${learned.toLocaleString("en-GB")} digits to learn from`)];
}

/** A digit as the address of a picture. */
function drawn(levels) {
  const canvas = html("canvas", { width: 8, height: 8 });
  const context = canvas.getContext("2d");
  const bits = context.createImageData(8, 8);
  levels.forEach((level, i) => bits.data.set([255 * level, 255 * level, 255 * level, 255], 4 * i));
  context.putImageData(bits, 0, 0);
  return canvas.toDataURL();
}

/** Where a run went on against another adversary. */
const switches = (at, run, epochs) => (run?.phases.slice(1) ?? []).flatMap(({ from, name }) => [
  svg("path", { class: "grid", d: `M${at.x(from)} ${at.top}V${at.bottom}` }),
  textAt(at.x(from), at.top - 3, `then ${name}`, { "text-anchor": from > epochs / 2 ? "end" : "start" })]);

/** The last points of a run, each with its name, and no two names on top of each other. */
function ends(at, run) {
  const last = run?.points.at(-1);
  if (!last) return [];
  const marks = COUNTED.map(([key, name, shape]) => ({ key, name, shape, y: at.y(last[key]) }));
  const places = [...marks].sort((a, b) => a.y - b.y);
  places.forEach((mark, i) => { mark.at = Math.max(mark.y, i ? places[i - 1].at + APART : -Infinity); });
  const beyond = Math.max(0, places.at(-1).at - at.bottom);
  return marks.map(({ key, name, shape, y, at: place }) => svg("g", { class: key },
    svg("path", { class: "dot", d: shape, transform: `translate(${at.x(last.epoch)} ${y})` }),
    textAt(at.x(last.epoch) + 9, place - beyond + 4, name)));
}

/** Every fifth epoch, and the last. */
function rows({ runs, total }) {
  const head = html("tr", {}, html("th", { scope: "col" }, "epoch"), ...runs.flatMap((run, i) =>
    COUNTED.map(([, name]) => html("th", { scope: "col" }, i ? `${name}, run before` : name))));
  const last = Math.max(0, ...runs.map((run) => run.points.at(-1).epoch));
  const epochs = range(0, last, 1).filter((epoch) => epoch % 5 === 0 || epoch === last);
  return [head, ...epochs.map((epoch) => html("tr", {}, html("th", { scope: "row" }, `${epoch}`),
    ...runs.flatMap((run) => COUNTED.map(([key]) => {
      const point = run.points.find((one) => one.epoch === epoch);
      return html("td", {}, point ? percent(point[key] / total) : "");
    }))))];
}

/** Which line is which. */
export const accuracyKey = (total) => html("p", { class: "row key muted" },
  `Of ${total} held-out digits, read right`,
  ...[["as they are", 0], ["after FGSM", 1], ["after PGD, 20 steps", 2]].map(([words, i]) => {
    const [key, , shape] = COUNTED[i];
    return html("span", {}, svg("svg", { viewBox: "0 0 34 14", "aria-hidden": "true", class: key },
      svg("path", { class: `line ${key}`, d: "M0 7H34" }),
      svg("path", { class: "dot", d: shape, transform: "translate(17 7)" })), words);
  }));

export const ACCURACIES_CSS = `
.accuracies path { fill: none; }
.accuracies .grid { stroke: var(--line); }
.accuracies image { image-rendering: pixelated; }
.line { fill: none; stroke: var(--own); stroke-width: 2.5; stroke-linejoin: round; }
.line.pale { stroke-width: 1.5; opacity: 0.5; }
.clean { --own: var(--true); --ink: var(--true-text); }
.fgsm { --own: var(--gradient); --ink: var(--gradient-text); }
.pgd { --own: var(--adversary); --ink: var(--adversary-text); }
.line.fgsm { stroke-dasharray: 2 4; }
.line.pgd { stroke-dasharray: 7 4; }
.accuracies .dot, .key .dot { fill: var(--own); stroke: var(--surface); stroke-width: 1.5; }
.accuracies g > text { fill: var(--ink, var(--muted)); }
.accuracies .clean text, .accuracies .fgsm text, .accuracies .pgd text { font-weight: 600; }
.key { gap: 2px 14px; }
.key svg { display: inline-block; width: 34px; height: 14px; vertical-align: -2px; margin-right: 6px; }
details { font-size: 13px; }
summary { min-height: 44px; line-height: 44px; cursor: pointer; }
table { border-collapse: collapse; }
th, td { padding: 1px 10px 1px 0; text-align: right; font-weight: 400; }
tr:first-child th { vertical-align: bottom; font-weight: 600; }
.numbers { overflow-x: auto; }
`;
