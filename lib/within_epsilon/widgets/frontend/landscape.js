// What explorers of a loss surface share: contours of a grid, a run that plays step by step, and a
// small generator of random numbers.

import { pathThrough } from "./chart.js";
import { button } from "./explorer.js";

/** A small seeded generator of numbers in [0, 1): Tommy Ettinger's mulberry32. */
export function mulberry32(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Sixteen levels between a grid's extremes; the larger the power, the closer where it is low. */
export function contourLevels(grid, power = 2.5) {
  const all = grid.flat();
  const [lowest, highest] = [Math.min(...all), Math.max(...all)];
  return Array.from({ length: 16 }, (_, i) =>
    lowest + (highest - lowest) * ((i + 0.6) / 16) ** power);
}

/** Lines of equal value through a grid, by marching squares: path data for one level. */
export function contour(grid, level, x, y) {
  const pieces = [];
  const cross = (a, b) => (level - a) / (b - a);
  for (let r = 0; r + 1 < grid.length; r += 1) {
    for (let c = 0; c + 1 < grid[r].length; c += 1) {
      const [p, q, s, t] = [grid[r][c], grid[r][c + 1], grid[r + 1][c + 1], grid[r + 1][c]];
      const ends = [];
      if ((p < level) !== (q < level)) ends.push([c + cross(p, q), r]);
      if ((q < level) !== (s < level)) ends.push([c + 1, r + cross(q, s)]);
      if ((t < level) !== (s < level)) ends.push([c + cross(t, s), r + 1]);
      if ((p < level) !== (t < level)) ends.push([c, r + cross(p, t)]);
      for (let i = 0; i + 1 < ends.length; i += 2) {
        pieces.push(pathThrough(ends.slice(i, i + 2).map(([u, v]) => [x(u), y(v)])));
      }
    }
  }
  return pieces.join("");
}

/** Buttons that show the run step by step; `show(count)` shows its first `count` steps of
 * `steps()`. */
export function player(card, steps, show) {
  let shown = steps();
  let timer = 0;
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const stop = () => { clearInterval(timer); timer = 0; play.textContent = "Play"; };
  const to = (count) => { shown = count; show(count); };
  const play = button("Play", () => {
    if (timer) { stop(); return; }
    if (still.matches) { to(steps()); return; }
    to(shown < steps() ? shown : 0);
    play.textContent = "Pause";
    const pause = Math.max(60, 1200 / steps());
    timer = setInterval(() => {
      to(shown + 1);
      if (shown >= steps()) stop();
    }, pause);
  });
  const step = button("Step", () => { stop(); to(shown < steps() ? shown + 1 : 1); });
  card.until(stop);
  return { nodes: [play, step], all: () => { stop(); shown = steps(); return shown; } };
}
