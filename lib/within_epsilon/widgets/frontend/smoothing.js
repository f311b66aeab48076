// The smoothing explorer: recorded votes under noise, counted as far as the reader pays for; which
// radius they certify, digit by digit, and what is abstained from.

import { certificate } from "./binomial.js";
import { pathThrough, plane, textAt, xAxis, yAxis } from "./chart.js";
import { button, choice, drawAtWidth, html, keepState, openCard, part, slider, svg, verdict
  } from "./explorer.js";
import { picture } from "./pixels.js";
import { roundedDown, shareAtLeast } from "./rounding.js";
import { bars, tenths } from "./shares.js";

const REACH = 1.2;
const HEIGHT = 210;
const [TOP, BOTTOM] = [10, 172];

const SMOOTHING_STYLE = `
.plot path { fill: none; }
.plot .grid { stroke: var(--line); }
.plot .line { stroke: var(--proved); stroke-width: 3; }
.plot .held { stroke: var(--other); stroke-width: 2; stroke-dasharray: 6 4; }
.plot .dot { fill: var(--text); stroke: var(--surface); stroke-width: 2; }
.plot .named { fill: var(--text); font-size: 13px; }
.digit { display: grid; grid-template-columns: 116px minmax(0, 1fr); gap: 4px 16px; align-items: start; }
.digit canvas { display: block; width: 100%; height: auto; image-rendering: pixelated; border-radius: 3px; }
.digit figcaption { font-size: 13px; line-height: 1.3; padding: 4px 0 0; }
.half { position: relative; height: 18px; margin: 0 76px 0 calc(min(195px, 30%) + 10px);
  border-top: 1px solid var(--other); }
.digit .bars li { grid-template-columns: min(195px, 30%) minmax(0, 1fr) 66px; }
.bars .bound .bar i { background: var(--proved); }
.bars .doubt .bar i { background: repeating-linear-gradient(-45deg, var(--unknown) 0 5px,
  color-mix(in srgb, var(--unknown) 60%, var(--surface)) 5px 8px); }
.half span { position: absolute; left: calc(50% - 1px); padding-left: 4px;
  border-left: 2px solid var(--text); white-space: nowrap; }
@container (max-width: 520px) {
  .digit { grid-template-columns: 76px minmax(0, 1fr); }
  .digit .bars li { grid-template-columns: minmax(0, 1fr) 4.4em; min-height: 36px; }
  .half { margin: 0; }
}
`;

/** A count as words have it: 1,000. */
const grouped = (count) => String(count).replace(/\B(?=(\d{3})+$)/g, ",");

/** A radius that is proved: rounded down, to thousandths, or to two digits that count. */
export const radiusInWords = (radius) =>
  roundedDown(radius, Math.max(3, 1 + Math.ceil(-Math.log10(radius))));

/** An exponent for what is too small to write out. */
const chance = (alpha) => (alpha < 0.001 ? "0.000001" : `${alpha}`);

/** How many digits are right and certified, at radius 0 and on, as the corners of a stair. */
function stair(certificates, labels) {
  const radii = certificates.filter(({ category }, i) => category === labels[i])
    .map(({ radius }) => radius).sort((a, b) => a - b);
  const corners = radii.flatMap((radius, i) => [[radius, radii.length - i], [radius, radii.length - i - 1]]);
  return [[0, radii.length], ...corners].filter(([radius]) => radius <= REACH);
}

function drawStairs({ width, corners, held, total, digit }) {
  const at = plane({ width, top: TOP, bottom: BOTTOM, x: [0, REACH], y: [0, total] });
  const path = (points) => pathThrough(points.map(([radius, count]) => [at.x(radius), at.y(count)]));
  const half = total / 2;
  const height = corners.filter(([radius]) => radius < digit.radius).at(-1)?.[1] ?? 0;
  return svg("svg", { height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}` },
    yAxis(at, [[0, ""], [half, `${half} certified`], [total, `all ${total}`]]),
    xAxis(at, [0, 0.2, 0.4, 0.6, 0.8, 1].map((radius) => [radius, `${radius}`]), "radius (ℓ2)"),
    ...(held ? [svg("path", { class: "held", d: path(held.corners) })] : []),
    svg("path", { class: "line", d: path(corners) }),
    ...(digit.radius > 0 && digit.right ? [
      svg("circle", { class: "dot", cx: at.x(digit.radius), cy: at.y(height), r: 6 }),
      textAt(at.x(digit.radius) + 9, at.y(height) - 6, digit.name, { class: "named" })] : []));
}

export function render({ model, el }) {
  const card = openCard(el, "Votes under noise");
  const [votes, shown, alphas] = ["votes", "shown", "alphas"].map((key) => model.get(key));
  const { levels, ns, labels, selection } = votes;
  const sigmas = levels.map(({ sigma }) => sigma);
  const { state, set, reset } = keepState(model, card, ["sigma", "n", "alpha", "digit"], show);
  const total = labels.length;
  let [width, held] = [0, null];

  const noise = slider({ label: "Noise σ", stops: sigmas, index: 0, main: true,
    text: (i) => `${sigmas[i]}`, change: (i) => set("sigma", sigmas[i]) });
  const count = slider({ label: "Votes n", stops: ns, index: 0, text: (i) => grouped(ns[i]),
    change: (i) => set("n", ns[i]) });
  const risk = slider({ label: "Risk α", stops: alphas, index: 0, text: (i) => chance(alphas[i]),
    change: (i) => set("alpha", alphas[i]) });
  const names = "ABCDEF";
  const which = choice({ label: "Digit", value: state.digit,
    options: shown.map(({ label }, i) => ({ value: i, label: names[i], more: `a ${label}` })),
    change: (value) => set("digit", value) });
  const keep = button("Keep this curve", () => { held = { words: words(), corners: corners() }; show(); });
  const again = button("Reset", () => { held = null; reset(); });
  const face = picture([1, 8, 8], "");
  const shares = bars("Share of the votes, and the lower bound");
  const half = html("div", { class: "half muted", "aria-hidden": "true" }, html("span", {}, "1/2"));
  const plot = html("div", { class: "plot", "aria-hidden": "true" });
  const kept = html("p", { class: "muted" });
  const said = html("p", { class: "muted" });
  const { node: verdictNode, say } = verdict(card);

  const words = () => `σ = ${state.sigma}, n = ${grouped(state.n)}, α = ${chance(state.alpha)}`;
  const level = () => levels[sigmas.indexOf(state.sigma)];

  function certificates() {
    const [{ winners, votes: counts }, place] = [level(), ns.indexOf(state.n)];
    return winners.map((winner, i) => {
      const found = certificate(counts[i][place], state.n, state.sigma, state.alpha);
      return { ...found, category: found.radius > 0 ? winner : -1, winner, votes: counts[i][place] };
    });
  }

  const corners = () => stair(certificates(), labels);

  function showDigit(one, { label, pixels }) {
    const counts = level().counts[state.digit][ns.indexOf(state.n)];
    face.paint(Float32Array.from(pixels, (char) => parseInt(char, 17) / 16), `digit ${names[state.digit]}, a ${label}`);
    face.node.firstChild.setAttribute("aria-label", `a handwritten ${label}`);
    const most = counts.map((hits, category) => ({ hits, category }))
      .filter(({ category }) => category !== one.winner).sort((a, b) => b.hits - a.hits)[0];
    const share = (hits) => hits / state.n;
    shares.show([
      { name: `for ${one.winner}`, value: share(one.votes), text: tenths(share(one.votes)),
        role: one.winner === label ? "true" : "adversary" },
      { name: "at least", value: one.bound, text: shareAtLeast(one.bound),
        role: one.radius > 0 ? "bound" : "doubt" },
      { name: `for ${most.category}`, value: share(most.hits), text: tenths(share(most.hits)) }]);
  }

  function sentence(one, { label }) {
    const hits = `${grouped(one.votes)} of ${grouped(state.n)} votes are for ${one.winner}, so with `
      + `confidence ${1 - state.alpha > 0.9999 ? "99.9999%" : tenths(1 - state.alpha).replace(".0%", "%")} its `
      + `share is at least ${shareAtLeast(one.bound)}.`;
    if (one.radius === 0) return [`${hits} That is not more than a half.`, "abstains", "unknown"];
    const kept = `No change of ℓ2 norm below ${radiusInWords(one.radius)} alters the majority's answer`;
    return one.winner === label ? [`${hits} ${kept}.`, "certified", "true"]
      : [`${hits} ${kept}, ${one.winner}, which is wrong.`, "certified, and wrong", "adversary"];
  }

  function show() {
    noise.show(sigmas.indexOf(state.sigma));
    count.show(ns.indexOf(state.n));
    risk.show(alphas.indexOf(state.alpha));
    which.show(state.digit);
    const all = certificates();
    const chosen = shown[state.digit];
    const one = all[chosen.place];
    showDigit(one, chosen);
    const abstained = all.filter(({ radius }) => radius === 0).length;
    const right = all.filter(({ category }, i) => category === labels[i]).length;
    said.textContent = `Of ${total} digits: ${right} right and certified at some radius, ${abstained} `
      + `abstained, ${total - right - abstained} certified and wrong. Cost of each: `
      + `${grouped(state.n + selection)} forward passes.`;
    kept.textContent = held ? `Dashed: ${held.words}.` : "";
    if (width) {
      const digit = { radius: one.radius, right: one.winner === chosen.label, name: names[state.digit] };
      plot.replaceChildren(drawStairs({ width, corners: stair(all, labels), held, total, digit }));
    }
    say(...sentence(one, chosen));
  }

  card.append(html("style", {}, SMOOTHING_STYLE),
    part(plot, noise.node),
    part(html("div", { class: "row" }, count.node, risk.node)),
    part(said, kept),
    part(html("div", { class: "row bottom spread" }, which.node, html("div", { class: "row" }, keep, again))),
    part(html("div", { class: "digit" }, face.node, html("div", {}, shares.node, half))),
    verdictNode);
  drawAtWidth(card, plot, (now) => { width = now; show(); });
  show();
  return () => card.close();
}
