// What every explorer shares: a card in a shadow root that follows the page's theme, and controls
// (slider, choice, button, bars, verdict) that work by mouse, touch, keyboard and screen reader.

import { CSS } from "./style.js";

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** An HTML element: attributes by name, listeners as functions under "on…". */
export const html = (tag, attributes = {}, ...children) =>
  build(document.createElement(tag), attributes, children);

/** The same for SVG. */
export const svg = (tag, attributes = {}, ...children) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

/** Text cut where a letter after "_" is a subscript: every other piece is one. */
const cut = (text) => text.split(/_([\p{L}\d])(?![\p{L}\d_])/u);

/** Text with its subscripts, for HTML; no line ends within "ℓ∞ ε = 0.1". */
export const subscripted = (text) => cut(text).flatMap((piece, i) => (i % 2
  ? html("sub", {}, piece)
  : piece.split(/((?:ℓ. )?ε = \S*\d)/).map((words, j) => (j % 2 ? html("span", { class: "tied" }, words) : words))));

/** The same for SVG, where the line must be brought back up. */
export const subscriptedSvg = (text) => cut(text).map((piece, i) => (i % 2
  ? svg("tspan", { dy: 3, "font-size": "80%" }, piece) : svg("tspan", { dy: i && -3 }, piece)));

/** Is the page dark? Sphinx and Jupyter themes say so themselves, else the system does. */
function isDark() {
  const { documentElement: page, body } = document;
  const said = page.dataset.theme ?? page.getAttribute("theme");
  if (said === "dark" || said === "light") return said === "dark";
  if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "false";
  if (body.dataset.vscodeThemeKind) return /dark|black/.test(body.dataset.vscodeThemeKind);
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Open a card in `el`; `card.close()` removes it and whatever was handed to `card.until`. */
export function openCard(el, title) {
  const host = html("div", { "data-lm-suppress-shortcuts": "true" }); // keys stay with us in JupyterLab
  const card = html("div", { class: "card", role: "group", "aria-label": title });
  host.attachShadow({ mode: "open" }).append(html("style", {}, CSS), card);
  const follow = () => { host.dataset.theme = isDark() ? "dark" : "light"; };
  const watch = new MutationObserver(follow);
  for (const node of [document.documentElement, document.body]) {
    watch.observe(node, { attributes: true });
  }
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", follow);
  // Arrow keys turn pages in the book's theme, Enter edits cells in JupyterLab: not from here.
  card.addEventListener("keydown", (event) => {
    const command = event.ctrlKey || event.metaKey || event.altKey || event.shiftKey;
    if (!command && event.key !== "Tab" && event.key !== "Escape") event.stopPropagation();
  });
  const ends = [() => watch.disconnect(), () => system.removeEventListener("change", follow)];
  card.until = (end) => ends.push(end);
  card.close = () => { for (const end of ends) end(); host.remove(); };
  follow();
  el.append(host);
  return card;
}

/** A block of the card. */
export const part = (...children) => html("div", { class: "part" }, ...children);

/** Where a key leads among `count` places, or null for a key that leads nowhere. */
export function keyStep(key, index, count) {
  const page = Math.max(2, Math.round(count / 8));
  const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: page,
    PageDown: -page, Home: -count, End: count };
  return key in steps ? Math.min(count - 1, Math.max(0, index + steps[key])) : null;
}

/** Where the middle of a slider's thumb is, in CSS. */
const thumbAt = (share) => `calc(var(--size) * ${0.5 - share} + ${100 * share}%)`;

let serial = 0;

/** A slider over the listed stops; `text(i)` is what stop i is called, unit included. Its bar starts
 * at stop `zero`. */
export function slider({ label, stops, index, text, change, main = false, zero = 0 }) {
  const id = `slider-${++serial}`;
  // Not <output>: that is a live region, and the slider already speaks for itself.
  const readout = html("span", { class: "readout", "aria-hidden": "true" });
  const input = html("input", { id, type: "range", min: 0, max: stops.length - 1, step: 1,
    oninput: () => change(+input.value),
    onkeydown: (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const to = keyStep(event.key, +input.value, stops.length);
      if (to === null) return;
      event.preventDefault();
      change(to);
    } });
  const node = html("div", { class: main ? "main" : "grow" },
    html("div", { class: "label" }, html("label", { for: id }, ...subscripted(label)), readout), input);
  const show = (i) => {
    input.value = i;
    const [from, to] = [zero, i].sort((a, b) => a - b);
    input.style.setProperty("--from", from ? thumbAt(from / Math.max(1, stops.length - 1)) : "0%");
    input.style.setProperty("--to", thumbAt(to / Math.max(1, stops.length - 1)));
    readout.textContent = text(i);
    input.setAttribute("aria-valuetext", text(i));
  };
  show(index);
  return { node, show, input };
}

/** What a slider's scale names: [place, text], under a slider of `count` stops. */
export const ticks = (named, count) => html("div", { class: "ticks muted", "aria-hidden": "true" },
  ...named.map(([place, text]) => {
    const tick = html("span", {}, text);
    tick.style.left = `${(100 * place) / Math.max(1, count - 1)}%`;
    if (place === count - 1) tick.classList.add("last"); // a long word ends with the track
    return tick;
  }));

/** One of a few options, as a row of radio buttons; `more` is said, not shown. */
export function choice({ label, options, value, change }) {
  const name = `choice-${++serial}`;
  const inputs = options.map((option) => html("input", { type: "radio", name, value: option.value,
    onchange: () => change(option.value) }));
  const pick = (event) => {
    const at = inputs.findIndex((input) => input === event.target);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const to = (at + step + inputs.length) % inputs.length;
    inputs[to].focus();
    change(options[to].value);
  };
  const node = html("fieldset", { onkeydown: pick }, html("legend", {}, label),
    html("div", { class: "choice" }, ...options.map((option, i) =>
      html("label", {}, inputs[i],
        html("span", { class: "option" }, html("span", {}, ...subscripted(option.label))),
        html("span", { class: "unseen" }, option.more ?? "")))));
  const show = (chosen) => options.forEach((option, i) => {
    inputs[i].checked = option.value === chosen;
  });
  show(value);
  return { node, show };
}

export const button = (label, onclick) => html("button", { type: "button", onclick }, label);

/** The verdict: seen at once, spoken when the hand rests, so that a drag does not flood; `rest` is
 * how many milliseconds that takes. */
export function verdict(card) {
  const seen = html("p", { class: "verdict", "aria-hidden": "true" });
  const spoken = html("p", { class: "unseen", role: "status", "aria-live": "polite" });
  let timer = 0;
  card.until(() => clearTimeout(timer));
  const say = (sentence, mark = "", role = "", rest = 500) => {
    seen.replaceChildren(...(mark ? [html("span", { class: `mark ${role}` }, ...subscripted(mark))] : []),
      ...subscripted(sentence));
    clearTimeout(timer);
    timer = setTimeout(() => { spoken.textContent = [mark, sentence].filter(Boolean).join(": "); },
      rest);
  };
  return { node: part(seen, spoken), say };
}

/** A verdict's mark, [words, role], from classes: the true one and the target (or null), the answers
 * before and after, and that under random signs of the same size if it is known. */
export function markOf({ label, target, before, after, noise, isNoise }) {
  if (before !== label) return ["wrong already", "unknown"];
  if (after === label) return ["holds", "true"];
  if (isNoise) return ["noise does it", "unknown"];
  const reached = target !== null && after === target;
  const alike = noise !== undefined && (reached ? noise === target : noise !== label);
  if (alike) return ["noise does it too", "unknown"];
  return [reached ? "target reached" : "fooled", "adversary"];
}

/** Half a main slider's thumb: a chart above it keeps as much free on either side. */
export const INSET = 14;

/** Let the pointer drag along a chart: `move(share)` hears how far along, from 0 to 1. */
export function dragAlong(node, move) {
  const follow = (event) => {
    const box = node.getBoundingClientRect();
    const share = (event.clientX - box.left - INSET) / (box.width - 2 * INSET);
    move(Math.min(1, Math.max(0, share)));
  };
  node.addEventListener("pointerdown", (event) => {
    node.setPointerCapture(event.pointerId);
    follow(event);
  });
  node.addEventListener("pointermove", (event) => { if (event.buttons) follow(event); });
}

/** Call `draw(width)` now and whenever the node's width changes. */
export function drawAtWidth(card, node, draw) {
  let width = 0;
  const watch = new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now > 0 && now !== width) draw((width = now));
  });
  watch.observe(node);
  card.until(() => watch.disconnect());
}

/** Keep the named parts of the state in step with the model; `show` runs after every change. What
 * we set ourselves does not come back to us. */
export function keepState(model, card, keys, show) {
  const state = Object.fromEntries(keys.map((key) => [key, model.get(key)]));
  const start = { ...state };
  let ours = false;
  const update = (changes) => {
    ours = true;
    for (const [key, value] of Object.entries(changes)) model.set(key, state[key] = value);
    ours = false;
    model.save_changes();
    show();
  };
  for (const key of keys) {
    const listen = () => {
      if (ours) return;
      state[key] = model.get(key);
      show();
    };
    model.on(`change:${key}`, listen);
    card.until(() => model.off(`change:${key}`, listen));
  }
  return { state, update, set: (key, value) => update({ [key]: value }), reset: () => update(start) };
}

/** The place of the stop nearest to a value. */
export const nearest = (stops, value) => stops.reduce((best, stop, i) =>
  (Math.abs(stop - value) < Math.abs(stops[best] - value) ? i : best), 0);

/** The numbers from one to another by steps, both ends included. */
export const range = (from, to, step) => Array.from({ length: Math.round((to - from) / step) + 1 },
  (_, i) => Number((from + i * step).toPrecision(9)));

/** A number with a true minus sign. */
export const signed = (value, digits = 1) => value.toFixed(digits).replace("-", "−");
