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

let serial = 0;

/** A slider over the listed stops; `text(i)` is what stop i is called, unit included. */
export function slider({ label, stops, index, text, change, main = false }) {
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
    html("div", { class: "label" }, html("label", { for: id }, label), readout), input);
  const show = (i) => {
    input.value = i;
    input.style.setProperty("--fill", `${(100 * i) / Math.max(1, stops.length - 1)}%`);
    readout.textContent = text(i);
    input.setAttribute("aria-valuetext", text(i));
  };
  show(index);
  return { node, show, input };
}

/** One of a few options, as a row of radio buttons. */
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
      html("label", {}, inputs[i], html("span", {}, option.label)))));
  const show = (chosen) => options.forEach((option, i) => {
    inputs[i].checked = option.value === chosen;
  });
  show(value);
  return { node, show };
}

export const button = (label, onclick) => html("button", { type: "button", onclick }, label);

/** The verdict: seen at once, spoken when the hand rests, so that a drag does not flood. */
export function verdict(card) {
  const seen = html("p", { class: "verdict", "aria-hidden": "true" });
  const spoken = html("p", { class: "unseen", role: "status", "aria-live": "polite" });
  let timer = 0;
  card.until(() => clearTimeout(timer));
  const say = (sentence, mark = "", role = "") => {
    seen.replaceChildren(...(mark ? [html("span", { class: `mark ${role}` }, mark)] : []), sentence);
    clearTimeout(timer);
    timer = setTimeout(() => { spoken.textContent = [mark, sentence].filter(Boolean).join(": "); },
      500);
  };
  return { node: part(seen, spoken), say };
}

/** Bars from 0 to 1: rows of { name, value, text, role, tag }. */
export function bars(label) {
  const node = html("ul", { class: "bars", "aria-label": label });
  const show = (rows) => node.replaceChildren(...rows.map(({ name, value, text, role, tag }) => {
    const fill = html("i");
    fill.style.width = `${100 * value}%`;
    return html("li", { class: role ?? "" },
      html("span", { class: "name" }, name, ...(tag ? [" ", html("small", {}, tag)] : [])),
      html("span", { class: "bar", "aria-hidden": "true" }, fill),
      html("span", { class: "value" }, text ?? percent(value, 1)));
  }));
  return { node, show };
}

/** 0.857 as "86%", or "85.7%" with one digit. */
export function percent(probability, digits = 0) {
  const text = (100 * probability).toFixed(digits);
  return probability > 0 && +text === 0 ? `<${10 ** -digits}%` : `${text}%`;
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

/** Two-way traffic for one key of the state: what we set ourselves does not come back to us. */
export function traffic(model, key, receive) {
  let ours = false;
  const listen = () => { if (!ours) receive(model.get(key)); };
  model.on(`change:${key}`, listen);
  return {
    send(value) { ours = true; model.set(key, value); ours = false; model.save_changes(); },
    close: () => model.off(`change:${key}`, listen),
  };
}
