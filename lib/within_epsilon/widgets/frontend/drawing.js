// Drawing a digit, and making of it what the data are: a bitmap of 32 × 32, counted in blocks of
// 4 × 4, so that a pixel has 0 to 16. Strokes are lists of points [x, y] from 0 to 1.

import { button, html, svg } from "./explorer.js";

const FINE = 32;
const BLOCK = 4;
export const SIDE = FINE / BLOCK;
// Of the width that gives the drawn digits as much ink as the data have.
const PEN = 2.75;
const WIDEST = 24; // columns that a digit of the data fills at most, of 32; in height, all
const LARGEST = 4; // times that a drawing is enlarged at most: a dot stays one
const KEYS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
const STEPS = 16; // that a key takes across the pad

/** The image of a drawing: 64 numbers k / 16. As the data's digits were, the drawing is first
 * enlarged to fill the height. */
export function rasterise(strokes) {
  const bits = new Uint8Array(FINE * FINE);
  for (const stroke of fit(strokes)) {
    stroke.forEach((point, i) => stamp(bits, stroke[Math.max(0, i - 1)], point));
  }
  const counts = new Array(SIDE * SIDE).fill(0);
  bits.forEach((bit, i) => {
    const [row, column] = [Math.floor(i / FINE), i % FINE];
    counts[Math.floor(row / BLOCK) * SIDE + Math.floor(column / BLOCK)] += bit;
  });
  return counts.map((count) => count / BLOCK ** 2);
}

/** The strokes in units of the bitmap, centred, as tall as it or as wide as digits get. */
function fit(strokes) {
  const points = strokes.flat();
  const [left, top] = [0, 1].map((axis) => Math.min(...points.map((point) => point[axis])));
  const [right, bottom] = [0, 1].map((axis) => Math.max(...points.map((point) => point[axis])));
  const scale = Math.min((FINE - 2 * PEN) / (bottom - top), (WIDEST - 2 * PEN) / (right - left),
    LARGEST * FINE);
  const place = ([x, y]) => [(x - (left + right) / 2) * scale + FINE / 2,
    (y - (top + bottom) / 2) * scale + FINE / 2];
  return strokes.map((stroke) => stroke.map(place));
}

/** Set the bits within a pen's width of the line from a to b. */
function stamp(bits, a, b) {
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const length = dx * dx + dy * dy;
  const reach = ([from, to]) => [Math.max(0, Math.floor(Math.min(from, to) - PEN)),
    Math.min(FINE - 1, Math.ceil(Math.max(from, to) + PEN))];
  const [[left, right], [top, bottom]] = [reach([a[0], b[0]]), reach([a[1], b[1]])];
  for (let row = top; row <= bottom; row += 1) {
    for (let column = left; column <= right; column += 1) {
      const [x, y] = [column + 0.5 - a[0], row + 0.5 - a[1]];
      const along = length ? Math.min(1, Math.max(0, (x * dx + y * dy) / length)) : 0;
      if ((x - along * dx) ** 2 + (y - along * dy) ** 2 <= PEN ** 2) bits[row * FINE + column] = 1;
    }
  }
}

/** A pad to draw on, by pointer or by keys. `change(strokes)` hears of every new point. */
export function makePad(card, { change }) {
  const serial = Math.random().toString(36).slice(2);
  const ink = svg("path", { class: "ink" });
  const pen = svg("circle", { class: "pen", r: 4 });
  const hint = svg("text", { class: "hint", x: 50, y: 53 }, "draw here");
  const surface = svg("svg", { viewBox: "0 0 100 100", "aria-hidden": "true" }, hint, ink, pen);
  const help = html("p", { class: "unseen", id: `help-${serial}` },
    "Arrow keys move the pen. Space puts it down and lifts it. Backspace takes the last stroke away, "
    + "Delete all of them.");
  const said = html("p", { class: "unseen", role: "status", "aria-live": "polite" });
  const board = html("div", { class: "pad", tabindex: 0, role: "application",
    "aria-label": "Draw a digit", "aria-describedby": help.id }, surface);
  let strokes = [];
  let at = [0.5, 0.5];
  let down = false;
  let hand = null; // the pointer that draws: another finger or a palm does not
  let enabled = true;

  const round = (share) => Math.round(1000 * Math.min(1, Math.max(0, share))) / 1000;
  const begin = (point) => { change([...strokes, [point]]); };
  const extend = (point) => {
    const last = strokes.at(-1) ?? [];
    const end = last.at(-1);
    if (end && Math.hypot(end[0] - point[0], end[1] - point[1]) < 0.01) return;
    change([...strokes.slice(0, -1), [...last, point]]);
  };
  const undo = () => {
    down = false;
    if (strokes.length) change(strokes.slice(0, -1)); // else what is shown was not drawn
  };
  const clear = () => { down = false; change([]); };
  const locate = (event) => {
    const box = board.getBoundingClientRect();
    return [round((event.clientX - box.left) / box.width), round((event.clientY - box.top) / box.height)];
  };
  const say = () => {
    const [column, row] = at.map((share) => Math.round(share * STEPS) + 1);
    said.textContent = `Pen ${down ? "down" : "up"}, column ${column}, row ${row} of ${STEPS + 1}.`;
  };

  board.addEventListener("pointerdown", (event) => {
    if (!enabled || event.button || board.hasPointerCapture(hand)) return;
    hand = event.pointerId;
    board.setPointerCapture(hand);
    down = false;
    begin((at = locate(event)));
  });
  board.addEventListener("pointermove", (event) => {
    if (event.pointerId !== hand || !board.hasPointerCapture(hand)) return;
    // All the places since the last event, not only the newest: fast strokes stay round.
    const passed = event.getCoalescedEvents?.() ?? [];
    for (const place of passed.length ? passed : [event]) extend((at = locate(place)));
  });
  board.addEventListener("keydown", (event) => {
    if (!enabled || event.ctrlKey || event.metaKey || event.altKey) return;
    if (KEYS[event.key]) {
      at = at.map((share, axis) => round((Math.round(share * STEPS) + KEYS[event.key][axis]) / STEPS));
      if (down) extend(at);
    } else if (event.key === " ") {
      down = !down;
      if (down) begin(at);
    } else if (event.key === "Backspace") undo();
    else if (event.key === "Delete") clear();
    else return;
    event.preventDefault();
    show(strokes);
    say();
  });
  board.addEventListener("blur", () => { down = false; });

  function show(now) {
    strokes = now;
    const part = (stroke) => stroke.map(([x, y], i) => `${i ? "L" : "M"}${100 * x} ${100 * y}`).join("");
    // A lone point is a dot: a line of no length has round ends, too.
    const drawn = strokes.map((stroke) => part(stroke.length > 1 ? stroke : [...stroke, ...stroke]));
    ink.setAttribute("d", drawn.join(""));
    hint.style.visibility = strokes.length ? "hidden" : "";
    pen.setAttribute("cx", 100 * at[0]);
    pen.setAttribute("cy", 100 * at[1]);
    pen.classList.toggle("down", down);
  }
  show([]);
  const buttons = [button("Undo", undo), button("Clear", clear)];
  return {
    node: html("div", { class: "drawing" }, board, help, said),
    buttons,
    show,
    enable(now) {
      enabled = now;
      board.setAttribute("aria-disabled", String(!now));
      for (const each of buttons) each.disabled = !now;
    },
  };
}

export const DRAWING_CSS = `
.pad { position: relative; aspect-ratio: 1; background: #000; border-radius: 6px; cursor: crosshair;
  touch-action: none; box-shadow: inset 0 0 0 1px var(--other); }
.pad svg { width: 100%; height: 100%; overflow: hidden; border-radius: inherit; }
.pad .hint { font-size: 8px; text-anchor: middle; fill: #9aa4ae; stroke: none; }
.ink { fill: none; stroke: #fff; stroke-width: 13; stroke-linecap: round; stroke-linejoin: round; }
.pen { fill: none; stroke: var(--gradient); stroke-width: 2; visibility: hidden; }
.pen.down { fill: var(--gradient); }
.pad:focus-visible .pen { visibility: visible; }
.pad[aria-disabled="true"] { opacity: 0.5; cursor: default; }
`;
