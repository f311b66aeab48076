// The ε explorer: clean | perturbation | adversarial, with ε on a slider of recorded stops. The
// pictures are computed here, in float32 as in the notebook; the probabilities are the notebook's.

import { INSET, bars, button, choice, dragAlong, drawAtWidth, html, keepState, nearest, openCard,
  part, percent, slider, svg, verdict } from "./explorer.js";

/** The bytes behind a data URI. */
function decodeBase64(uri) {
  return Uint8Array.from(atob(uri.slice(uri.indexOf(",") + 1)), (char) => char.charCodeAt(0));
}

/** The 8-bit values of a PNG, row by row, pixel by pixel, channel by channel. */
async function decodePng(uri, [channels, height, width]) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  const canvas = html("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  return Uint8Array.from({ length: channels * height * width },
    (_, i) => data[4 * Math.floor(i / channels) + (i % channels)]);
}

/** Pixels in [0, 1] as float32: k / 255 where a PNG says it all, raw numbers elsewhere. */
async function decodePixels(uri, shape) {
  if (!uri.startsWith("data:image/png")) return new Float32Array(decodeBase64(uri).buffer);
  return Float32Array.from(await decodePng(uri, shape), (level) => level / 255);
}

/** Signs -1, 0, 1, stored as 0, 128, 255, a pixel's channels side by side. */
async function decodeSigns(uri, [channels, height, width]) {
  const levels = await decodePng(uri, [1, height, width * channels]);
  return Int8Array.from(levels, (level) => Math.round(level / 127.5) - 1);
}

/** clip(clean + epsilon * signs, 0, 1), every operation rounded to float32. */
function addSigns(clean, signs, epsilon) {
  const step = Math.fround(epsilon);
  return Float32Array.from(clean, (pixel, i) =>
    Math.min(1, Math.max(0, Math.fround(pixel + step * signs[i]))));
}

/** How much a perturbation of this size is enlarged, so that it shows: a power of two. */
const amplification = (epsilon) => (epsilon > 0 ? 2 ** Math.max(0, Math.floor(-Math.log2(2 * epsilon))) : 1);

/** A picture with its caption; `paint(value(i), caption)` is exact to the pixel, in 8 bits. */
function picture([channels, height, width], label) {
  const canvas = html("canvas", { width, height, role: "img", "aria-label": label });
  const caption = html("figcaption");
  const context = canvas.getContext("2d");
  const paint = (value, text) => {
    const bits = context.createImageData(width, height);
    for (let i = 0; i < width * height; i += 1) {
      for (let c = 0; c < 3; c += 1) {
        bits.data[4 * i + c] = 255 * value(channels * i + (channels === 3 ? c : 0));
      }
      bits.data[4 * i + 3] = 255;
    }
    context.putImageData(bits, 0, 0);
    caption.textContent = text;
  };
  return { node: html("figure", {}, canvas, caption), paint };
}

/** Probabilities over all stops: the true class against the strongest other. */
function curve(card, stops, move) {
  const height = 104;
  const holder = html("div", { class: "curve", "aria-hidden": "true" });
  let width = 0;
  let lines = null;
  let at = 0;
  const x = (i) => INSET + (i * (width - 2 * INSET)) / Math.max(1, stops.length - 1);
  const y = (p) => 6 + (1 - p) * (height - 12);
  const draw = () => {
    if (!lines || !width) return;
    const path = (values) => values.map((p, i) => `${i ? "L" : "M"}${x(i)} ${y(p)}`).join("");
    const dot = (name, shape) => svg("path", { class: name, d: shape });
    const [truth, other] = [lines.truth[at], lines.other[at]];
    const grid = [0, 0.5, 1].map((p) => svg("path", { class: "grid",
      d: `M${INSET} ${y(p)}H${width - INSET}` }));
    holder.replaceChildren(svg("svg", { height, viewBox: `0 0 ${width} ${height}` }, ...grid,
      svg("text", { x: width - INSET, y: y(1) + 14, "text-anchor": "end" }, "100%"),
      svg("text", { x: width - INSET, y: y(0) - 4, "text-anchor": "end" }, "0%"),
      svg("path", { class: "cursor", d: `M${x(at)} 0V${height}` }),
      svg("path", { class: "line adversary", d: path(lines.other) }),
      svg("path", { class: "line true", d: path(lines.truth) }),
      dot("dot adversary", `M${x(at) - 6} ${y(other) + 5}h12l-6 -11z`),
      dot("dot true", `M${x(at) - 6} ${y(truth)}a6 6 0 1 0 12 0a6 6 0 1 0 -12 0z`)));
  };
  dragAlong(holder, (share) => move(Math.round(share * (stops.length - 1))));
  drawAtWidth(card, holder, (now) => { width = now; draw(); });
  return {
    node: holder,
    show(i, newLines) { at = i; lines = newLines; draw(); },
  };
}

// Three photos of 224 pixels just fill a column of the book: the gaps give way before they do.
const STYLE = `
.pictures { display: grid; justify-content: center;
  gap: clamp(0px, calc((100cqw - 3 * var(--shown)) / 2), 8px);
  grid-template-columns: repeat(3, minmax(0, var(--shown))); }
.pictures figure { text-align: center; font-size: 14px; }
canvas { display: block; width: 100%; height: auto; border-radius: 3px; }
.pixelated canvas { image-rendering: pixelated; }
figcaption { padding: 4px 0 0; line-height: 1.3; white-space: nowrap; }
@container (max-width: 520px) { .pictures { gap: 6px; padding: 0 6px; } }
@container (max-width: 400px) { figcaption { font-size: 11.5px; } }
.curve { margin: 2px 0 -6px; touch-action: pan-y; cursor: ew-resize; }
.curve path { fill: none; }
.curve .grid { stroke: var(--line); }
.curve .cursor { stroke: var(--other); }
.curve .line { stroke-width: 2.5; stroke: var(--true); stroke-linejoin: round; }
.curve .line.adversary { stroke: var(--adversary); stroke-dasharray: 7 4; }
.curve .dot { stroke: var(--surface); stroke-width: 2; fill: var(--true); }
.curve .dot.adversary { fill: var(--adversary); }
.ticks { position: relative; height: 20px; margin: -8px 14px 0; }
.ticks span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.key svg { display: inline-block; width: 34px; height: 14px; vertical-align: -2px;
  margin-right: 6px; }
.key .true { stroke: var(--true); fill: var(--true); }
.key .adversary { stroke: var(--adversary); fill: var(--adversary); }
`;

/** Which line is which: a small drawing of each, with its name. */
function key(trueName) {
  const entry = (role, shape, dash, text) => html("span", {},
    svg("svg", { viewBox: "0 0 34 14", "aria-hidden": "true" },
      svg("path", { class: role, d: "M0 7H34", "stroke-width": 2.5, "stroke-dasharray": dash }),
      svg("path", { class: role, d: shape })), text);
  return html("div", { class: "row key muted" }, "probability:",
    entry("true", "M12 7a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z", "", `true class, ${trueName}`),
    entry("adversary", "M12 12h10l-5 -9z", "7 4", "strongest other class"));
}

export async function render({ model, el }) {
  const get = (name) => model.get(name);
  const [shape, epsilons, directions, names, label] =
    ["shape", "epsilons", "directions", "categories", "label"].map(get);
  const clean = await decodePixels(get("clean"), shape);
  const signs = Object.fromEntries(await Promise.all(directions.map(async (direction) =>
    [direction.key, await decodeSigns(direction.signs, shape)])));
  const name = (index) => names[index] ?? String(index);

  const card = openCard(el, "ε explorer");
  const pictures = ["clean image", "perturbation", "adversarial image"]
    .map((what) => picture(shape, what));
  const row = html("div", { class: `pictures ${shape[2] < 100 ? "pixelated" : ""}` },
    ...pictures.map((one) => one.node));
  row.style.setProperty("--shown", `${shape[2] < 100 ? 200 : shape[2]}px`);
  const { state, set, reset } = keepState(model, card, ["epsilon", "direction"], show);
  const move = (i) => { if (epsilons[i] !== state.epsilon) set("epsilon", epsilons[i]); };
  const control = slider({ label: "Size of the perturbation", stops: epsilons, index: 0,
    text: (i) => get("readouts")[i], change: move, main: true });
  const ticks = html("div", { class: "ticks muted", "aria-hidden": "true" },
    ...get("ticks").map(([i, text]) => {
      const tick = html("span", {}, text);
      tick.style.left = `${(100 * i) / Math.max(1, epsilons.length - 1)}%`;
      return tick;
    }));
  const options = directions.map(({ key: value, label: text }) => ({ value, label: text }));
  const choose = choice({ label: "Direction", options, value: state.direction,
    change: (value) => set("direction", value) });
  const probabilities = curve(card, epsilons, move);
  const { node: verdictNode, say } = verdict(card);
  const top = bars("What the network sees in the adversarial image");

  function show() {
    const at = nearest(epsilons, state.epsilon);
    const epsilon = epsilons[at];
    const direction = directions.find((one) => one.key === state.direction);
    const adversarial = addSigns(clean, signs[direction.key], epsilon);
    const k = amplification(epsilon);
    pictures[0].paint((i) => clean[i], "clean");
    pictures[1].paint((i) => 0.5 + k * (adversarial[i] - clean[i]),
      epsilon ? `perturbation\u00a0×\u00a0${k}` : "no perturbation");
    pictures[2].paint((i) => adversarial[i], direction.key === "random" ? "noisy" : "adversarial");

    const rows = direction.curve[at];
    const [before, now] = [direction.curve[0][0], rows[0]];
    const wrong = now[0] !== label;
    say(`${name(before[0])} ${percent(before[1])} → ${name(now[0])} ${percent(now[1])}, `
      + `${get("balls")[at]}, ${direction.attack}`,
    wrong ? "fooled" : "holds", wrong ? "adversary" : "true");
    top.show(rows.map(([index, value], i) => {
      const role = index === label ? "true" : i === 0 ? "adversary" : "";
      const tag = index === label ? "true class" : index === get("target") ? "target" : "";
      return { name: name(index), value, role, tag };
    }));
    probabilities.show(at, {
      truth: direction.curve.map((stop) => stop.find(([index]) => index === label)[1]),
      other: direction.curve.map((stop) => stop.find(([index]) => index !== label)[1]),
    });
    control.show(at);
    choose.show(direction.key);
  }

  control.input.before(key(name(label)), probabilities.node);
  card.append(html("style", {}, STYLE), row,
    part(html("div", { class: "row bottom spread" }, choose.node, button("Reset", reset))),
    part(control.node, ticks), verdictNode, part(top.node));
  show();
  return () => card.close();
}
