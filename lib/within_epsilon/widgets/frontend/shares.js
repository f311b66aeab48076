// Shares, in words and as bars.

import { html } from "./explorer.js";

/** In tenths of a percent; 0% and 100% are exact. */
export function tenths(share) {
  const text = (100 * share).toFixed(1);
  return share > 0 && text === "0.0" ? "<0.1%" : share < 1 && text === "100.0" ? ">99.9%" : `${text}%`;
}

/** In whole percents, but in tenths below 1% and above 99%. */
export const percent = (share) => (share >= 0.01 && share <= 0.99 ? `${(100 * share).toFixed(0)}%`
  : tenths(share).replace(".0%", "%"));

/** No softmax gives 1. */
export const softmaxed = (share) => Math.min(share, 1 - Number.EPSILON);

/** As `wording.with_share`: "9 99.9%" would be one number. */
export function withShare(name, share) {
  const said = percent(softmaxed(share));
  return `${name} ${/^\d+$/.test(name) ? `(${said})` : said}`;
}

/** Bars of { name, value, text, role, tag }. */
export function bars(label) {
  const node = html("ul", { class: "bars", "aria-label": label });
  const show = (rows) => node.replaceChildren(...rows.map(({ name, value, text, role, tag }) => {
    const fill = html("i");
    fill.style.width = `${100 * value}%`;
    return html("li", { class: role ?? "" },
      html("span", { class: "name" }, name, ...(tag ? [" ", html("small", {}, tag)] : [])),
      html("span", { class: "bar", "aria-hidden": "true" }, fill),
      html("span", { class: "value" }, text ?? tenths(softmaxed(value))));
  }));
  return { node, show };
}
