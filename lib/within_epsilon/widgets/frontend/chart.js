// Axes for charts drawn as SVG at the width that they have: text keeps its size on a phone.

import { INSET, range, signed, subscriptedSvg, svg } from "./explorer.js";

/** Where values lie between a chart's edges; left and right stay clear of a slider's thumb. */
export function plane({ width, top, bottom, x, y }) {
  const [left, right] = [INSET, width - INSET];
  const scale = ([from, to], start, end) => (value) =>
    start + ((value - from) / (to - from)) * (end - start);
  return { left, right, top, bottom, x: scale(x, left, right), y: scale(y, bottom, top) };
}

/** A path through points. */
export const pathThrough = (points) =>
  points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

/** Text beside a place in the chart; "_" makes a subscript. */
export const textAt = (x, y, text, attributes = {}) =>
  svg("text", { x, y, ...attributes }, ...subscriptedSvg(text));

/** Grid lines with their values, [value, text], along the left edge: on the lines, or left of them if
 * they have at most `outside` letters, where a curve would run through them. */
export const yAxis = (at, ticks, outside = 0) => svg("g", {}, ...ticks.flatMap(([value, text]) => [
  svg("path", { class: "grid", d: `M${at.left} ${at.y(value)}H${at.right}` }),
  text.length <= outside ? textAt(at.left - 4, at.y(value) + 4, text, { "text-anchor": "end" })
    : textAt(at.left + 2, at.y(value) - 3, text)]));

/** Values along the bottom edge, and what they measure. */
export const xAxis = (at, ticks, name) => svg("g", {},
  svg("path", { class: "grid", d: `M${at.left} ${at.bottom}H${at.right}` }),
  ...ticks.flatMap(([value, text]) => [
    svg("path", { class: "grid", d: `M${at.x(value)} ${at.bottom}v5` }),
    textAt(at.x(value), at.bottom + 17, text, { "text-anchor": "middle" })]),
  textAt(at.right, at.bottom + 32, name, { "text-anchor": "end" }));

/** Round values inside a range, some five of them, as ticks. */
export function roundTicks([from, to]) {
  const rough = (to - from) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  return range(Math.ceil(from / step) * step, Math.floor(to / step) * step, step)
    .map((value) => [value, signed(value, digits)]);
}
