// Probabilities over the stops of a slider, drawn above it at its width.

import { INSET, dragAlong, drawAtWidth, html, svg } from "./explorer.js";

/** Probabilities over `count` stops: one class against another. `move(place)` hears where the pointer
 * drags to, between 0 and count - 1. A line is drawn as far as the reader has been: nothing is given
 * away. */
export function curve(card, count, move) {
  const height = 104;
  const holder = html("div", { class: "curve", "aria-hidden": "true" });
  const last = Math.max(1, count - 1);
  let width = 0;
  let shown = null;
  let reach = new Map(); // which lines → the farthest place that was shown
  const x = (place) => INSET + (place * (width - 2 * INSET)) / last;
  const y = (p) => 6 + (1 - p) * (height - 12);
  const path = (values) => values.map((p, i) => `${i ? "L" : "M"}${x(i)} ${y(p)}`).join("");
  const dot = (name, shape) => svg("path", { class: `dot ${name}`, d: shape });
  const draw = () => {
    if (!shown || !width) return;
    const { place, lines, now, which } = shown;
    const at = x(place);
    const seen = (values) => path(values.slice(0, Math.ceil(reach.get(which)) + 1));
    const grid = [0, 0.5, 1].map((p) => svg("path", { class: "grid",
      d: `M${INSET} ${y(p)}H${width - INSET}` }));
    holder.replaceChildren(svg("svg", { height, viewBox: `0 0 ${width} ${height}` }, ...grid,
      svg("text", { x: width - INSET, y: y(1) + 14, "text-anchor": "end" }, "100%"),
      svg("text", { x: width - INSET, y: y(0) - 4, "text-anchor": "end" }, "0%"),
      svg("path", { class: "cursor", d: `M${at} 0V${height}` }),
      svg("path", { class: "line adversary", d: seen(lines.other) }),
      svg("path", { class: "line true", d: seen(lines.truth) }),
      dot("adversary", `M${at - 6} ${y(now.other) + 5}h12l-6 -11z`),
      dot("true", `M${at - 6} ${y(now.truth)}a6 6 0 1 0 12 0a6 6 0 1 0 -12 0z`)));
  };
  dragAlong(holder, (share) => move(share * last));
  drawAtWidth(card, holder, (now) => { width = now; draw(); });
  /** `lines` may end before the last stop; `now` stands at `place`, which may lie between stops;
   * `which` tells these lines from others. */
  const show = (place, lines, now, which) => {
    shown = { place, lines, now, which };
    reach.set(which, Math.max(reach.get(which) ?? 0, place));
    draw();
  };
  const forget = () => { reach = new Map(); };
  return { node: holder, show, forget };
}

/** Which line is which: a small drawing of each, with its name. */
export function key(truth, other, words) {
  const entry = (role, shape, dash, text) => html("span", {},
    svg("svg", { viewBox: "0 0 34 14", "aria-hidden": "true" },
      svg("path", { class: role, d: "M0 7H34", "stroke-width": 2.5, "stroke-dasharray": dash }),
      svg("path", { class: role, d: shape })), text);
  return html("div", { class: "row key muted" }, words,
    entry("true", "M12 7a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z", "", truth),
    entry("adversary", "M12 12h10l-5 -9z", "7 4", other));
}

export const CURVE_CSS = `
.curve { margin: 6px 0 0; touch-action: pan-y; cursor: ew-resize; }
.curve path { fill: none; }
.curve .grid { stroke: var(--line); }
.curve .cursor { stroke: var(--other); }
.curve .line { stroke-width: 2.5; stroke: var(--true); stroke-linejoin: round; }
.curve .line.adversary { stroke: var(--adversary); stroke-dasharray: 7 4; }
.curve .dot { stroke: var(--surface); stroke-width: 2; fill: var(--true); }
.curve .dot.adversary { fill: var(--adversary); }
.key svg { display: inline-block; width: 34px; height: 14px; vertical-align: -2px;
  margin-right: 6px; }
.key .true { stroke: var(--true); fill: var(--true); }
.key .adversary { stroke: var(--adversary); fill: var(--adversary); }
`;
