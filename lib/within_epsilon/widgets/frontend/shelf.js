// Digits of the test set, by class; another press brings the next of the class.

import { button, html } from "./explorer.js";

/** Digits to take, as { label, pixels } with a character for each pixel; `take(label, pixels)`. */
export function makeShelf(gallery, take, words) {
  const turns = new Map();
  const digits = [...new Set(gallery.map(({ label }) => label))].sort((a, b) => a - b);
  const decode = (text) => Array.from(text, (char) => parseInt(char, 17) / 16);
  const keys = digits.map((digit) => button(String(digit), () => {
    const own = gallery.filter(({ label }) => label === digit);
    const turn = turns.get(digit) ?? 0;
    turns.set(digit, turn + 1);
    take(digit, decode(own[turn % own.length].pixels));
  }));
  keys.forEach((key, i) => key.setAttribute("aria-label", `a ${digits[i]} from the test set`));
  return {
    node: html("div", { role: "group", "aria-label": "Digits of the test set" },
      html("p", { class: "legend" }, words), html("div", { class: "shelf" }, ...keys)),
    enable(now) { for (const key of keys) key.disabled = !now; },
  };
}

export const SHELF_CSS = `
.legend { margin: 0 0 4px; }
.shelf { display: grid; grid-template-columns: repeat(5, minmax(44px, 64px)); gap: 6px; }
.shelf button { padding: 4px; }
`;
