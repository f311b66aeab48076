// The PGD explorer: sign steps inside a square ball, on a network's loss that the notebook recorded
// on a grid together with the signs of its gradient.

import { pathThrough, plane, roundTicks, textAt, xAxis, yAxis } from "./chart.js";
import { button, choice, drawAtWidth, html, keepState, nearest, openCard, part, range, slider, svg,
  verdict } from "./explorer.js";
import { contour, contourLevels, mulberry32, player } from "./landscape.js";
import { amplification, difference, PICTURES_CSS, triptych } from "./pixels.js";

const PGD_STYLE = `
.ball { flex: 0 1 320px; min-width: 250px; }
.side { flex: 1 1 240px; min-width: 0; }
.main .option { font-size: 16px; font-weight: 600; }
.field path { fill: none; }
.field .grid { stroke: var(--line); }
.field .contour { stroke: var(--other); opacity: 0.6; }
.field .fooled { fill: url(#hatch); }
.field .hatch { stroke: var(--adversary); stroke-width: 3; opacity: 0.45; }
.field .edge { stroke: var(--adversary); stroke-width: 2; }
.field .border { stroke: var(--text); stroke-width: 2; }
.field .path { stroke: var(--gradient); stroke-width: 2; stroke-linejoin: round; }
.field .dot { fill: var(--gradient); }
.field .dot.adversary { fill: var(--adversary); }
.field .start { fill: var(--surface); stroke: var(--text); stroke-width: 2; }
.field .now { stroke: var(--surface); stroke-width: 2; }
.field .named { fill: var(--text); font-size: 13px; }
@container (max-width: 400px) {
  .main .option { font-size: 13.5px; padding: 4px 9px; }
  .ball { max-width: 252px; margin: 0 auto; }
}
`;

/** Rows of a flat grid. */
const rowsOf = (flat, size) =>
  Array.from({ length: size }, (_, r) => flat.slice(r * size, (r + 1) * size));

/** A grid's value between its points, at shares from 0 to 1 of its sides. */
function between(grid, [across, up]) {
  const last = grid.length - 1;
  const place = (share) => Math.min(last - 1, Math.floor(share * last));
  const [c, r] = [place(across), place(up)];
  const [s, t] = [across * last - c, up * last - r];
  return (1 - t) * ((1 - s) * grid[r][c] + s * grid[r][c + 1])
    + t * ((1 - s) * grid[r + 1][c] + s * grid[r + 1][c + 1]);
}

/** Where a grid's values are above 0: path data, cell by cell. */
function aboveZero(grid, x, y) {
  const pieces = [];
  for (let r = 0; r + 1 < grid.length; r += 1) {
    for (let c = 0; c + 1 < grid.length; c += 1) {
      const corners = [[c, r], [c + 1, r], [c + 1, r + 1], [c, r + 1]].map(([u, v]) =>
        [u, v, grid[v][u]]);
      const inside = corners.flatMap((a, i) => {
        const b = corners[(i + 1) % 4];
        const share = a[2] / (a[2] - b[2]);
        const cut = [a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])];
        return [...(a[2] > 0 ? [a] : []), ...(a[2] > 0 === b[2] > 0 ? [] : [cut])];
      });
      if (inside.length) pieces.push(`${pathThrough(inside.map(([u, v]) => [x(u), y(v)]))}Z`);
    }
  }
  return pieces.join("");
}

/** The points that PGD visits: sign steps, each brought back into the square. */
function walk({ epsilon, size, signs, stepSize, steps, start, seed }) {
  const random = mulberry32(seed);
  const path = [start === "random" ? [random(), random()].map((r) => epsilon * (2 * r - 1)) : [0, 0]];
  let moved = false;
  for (let step = 0; step < steps; step += 1) {
    const at = path[step];
    const [c, r] = at.map((value) => Math.floor(((value / epsilon + 1) / 2) * (size - 1) + 0.5));
    const code = +signs[r * size + c];
    const ways = [(code % 3) - 1, Math.floor(code / 3) - 1];
    moved ||= code !== 4;
    path.push(at.map((value, i) =>
      Math.max(-epsilon, Math.min(epsilon, value + stepSize * ways[i]))));
  }
  return { path, moved };
}

/** A visited point: round, or a diamond where the network is fooled. */
const dot = ([x, y], fooled, radius, extra = "") => {
  const r = fooled ? 1.4 * radius : radius;
  return svg("path", { class: `dot ${fooled ? "adversary" : ""} ${extra}`, d: fooled
    ? `M${x - r} ${y}l${r} ${-r}l${r} ${r}l${-r} ${r}z`
    : `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z` });
};

export function render({ model, el }) {
  const [epsilon, size, names, label, shape, image, groups, pixels, answers, surfaces] =
    ["epsilon", "size", "names", "label", "shape", "image", "groups", "pixels", "answers",
      "surfaces"].map((key) => model.get(key));
  const grids = Object.fromEntries(Object.entries(surfaces).map(([key, surface]) =>
    [key, rowsOf(surface.values, size)]));
  const gains = grids["margin loss"];
  const card = openCard(el, "PGD explorer");
  const { state, set, reset } = keepState(model, card,
    ["step_size", "steps", "start", "loss", "seed"], again);
  let run = { path: [], losses: [], fooled: [], moved: true };
  let [field, climb] = [null, null];

  const stepStops = [1 / 20, 1 / 10, 3 / 20, 1 / 4, 1 / 2, 3 / 4, 1, 2].map((share) =>
    Number((share * epsilon).toPrecision(3)));
  const countStops = range(1, 40, 1);
  const stepControl = slider({ label: "Step size α", stops: stepStops, index: 0,
    text: (i) => `α = ${stepStops[i]} = ${Number((stepStops[i] / epsilon).toPrecision(2))} ε`,
    change: (i) => set("step_size", stepStops[i]) });
  const countControl = slider({ label: "Steps", stops: countStops, index: 0,
    text: (i) => `${countStops[i]}`, change: (i) => set("steps", countStops[i]) });
  const lossControl = choice({ label: "Climb the", value: state.loss,
    options: [{ value: "cross-entropy × 1000", label: "cross-entropy, logits × 1000" },
      { value: "margin loss", label: "margin loss" },
      { value: "cross-entropy", label: "cross-entropy, logits × 1" }],
    change: (value) => set("loss", value) });
  const startControl = choice({ label: "Start from", value: state.start,
    options: [{ value: "clean", label: "the clean image" }, { value: "random", label: "a random point" }],
    change: (value) => set("start", value) });
  const another = button("Another start", () => set("seed", state.seed + 1));
  const reel = player(card, () => state.steps, (count) => show(count));
  const square = html("div", { class: "field ball", "aria-hidden": "true" });
  const chart = html("div", { class: "field", "aria-hidden": "true" });
  const three = triptych(shape);
  three.node.style.setProperty("--shown", "110px");
  const times = amplification(epsilon);
  const { node: verdictNode, say } = verdict(card);

  const share = (value) => (value / epsilon + 1) / 2;
  const answerAt = (point) => {
    const [c, r] = point.map((value) => Math.floor(share(value) * (size - 1) + 0.5));
    return answers[r * size + c];
  };

  /** The square with contours and the fooled region, and a place for the path. */
  function drawField(width) {
    const at = plane({ width, top: 10, bottom: width - 18, x: [-epsilon, epsilon], y: [-epsilon, epsilon] });
    const across = (i) => at.left + ((at.right - at.left) * i) / (size - 1);
    const up = (i) => at.bottom + ((at.top - at.bottom) * i) / (size - 1);
    const [still, moving] = [svg("g"), svg("g")];
    const fooled = answers.flatMap((answer, i) => (answer === label ? [] : [i]));
    const middle = (places) => places.reduce((sum, place) => sum + place, 0) / places.length;
    const rowOf = (i) => Math.floor(i / size);
    const outermost = fooled.filter((i) => i % size === size - 1);
    // Along the right edge, outside, where it crosses nothing; else in the middle of the region.
    const named = outermost.length
      ? textAt(0, 0, "fooled", { class: "named", "text-anchor": "middle",
        transform: `translate(${at.right + 5} ${up(middle(outermost.map(rowOf)))}) rotate(90)` })
      : fooled.length && textAt(across(middle(fooled.map((i) => i % size))),
        up(middle(fooled.map(rowOf))), "fooled", { class: "named", "text-anchor": "middle" });
    const ticks = [-epsilon, 0, epsilon].map((value) => [value, value ? `${value < 0 ? "−" : ""}ε` : "0"]);
    square.replaceChildren(svg("svg", { height: width + 22, viewBox: `0 0 ${width} ${width + 22}` },
      svg("pattern", { id: "hatch", width: 7, height: 7, patternUnits: "userSpaceOnUse",
        patternTransform: "rotate(45)" }, svg("path", { class: "hatch", d: "M0 0V7" })),
      still, svg("path", { class: "border", d: `M${at.left} ${at.top}H${at.right}V${at.bottom}H${at.left}Z` }),
      xAxis(at, ticks, `across: ${pixels[0]} pixels, up: the other ${pixels[1]}`), moving));
    const surface = (key) => still.replaceChildren(
      svg("path", { class: "fooled", d: aboveZero(gains, across, up) }),
      ...contourLevels(grids[key], key === "margin loss" ? 1 : 2.5).map((level) =>
        svg("path", { class: "contour", d: contour(grids[key], level, across, up) })),
      svg("path", { class: "edge", d: contour(gains, 0, across, up) }),
      ...(named ? [named] : []));
    const path = (points, fooled) => {
      const places = points.map(([a, b]) => [at.x(a), at.y(b)]);
      const [x, y] = places[0];
      moving.replaceChildren(svg("path", { class: "path", d: pathThrough(places) }),
        ...places.slice(1, -1).map((place, i) => dot(place, fooled[i + 1], 3)),
        svg("rect", { class: "start", x: x - 6, y: y - 6, width: 12, height: 12 }),
        dot(places[places.length - 1], fooled[places.length - 1], 7, "now"));
    };
    field = { surface, path };
  }

  /** The loss at every point visited, over the surface's whole range. */
  function drawClimb(width) {
    const height = Math.round(Math.min(300, Math.max(170, 0.75 * width)));
    climb = (losses, fooled) => {
      const all = surfaces[state.loss].values;
      const span = [Math.min(...all), Math.max(...all)];
      const at = plane({ width, top: 22, bottom: height - 38,
        x: [-state.steps / 8, state.steps], y: span }); // the values' names stand left of step 0
      const places = losses.map((loss, i) => [at.x(i), at.y(loss)]);
      const every = Math.ceil(state.steps / 5);
      const ticks = range(0, Math.floor(state.steps / every) * every, every).map((i) => [i, `${i}`]);
      chart.replaceChildren(svg("svg", { height, viewBox: `0 0 ${width} ${height}` },
        yAxis(at, roundTicks(span)), xAxis(at, ticks, "step"),
        textAt(at.left, 10, "loss", { class: "named" }),
        svg("path", { class: "path", d: pathThrough(places) }),
        ...places.slice(0, -1).map((place, i) => dot(place, fooled[i], 3)),
        dot(places[places.length - 1], fooled[places.length - 1], 6, "now")));
    };
  }

  /** The image, what a point of the square adds to it, and their sum. */
  function paint(point) {
    const moved = image.map((value, i) => {
      const ways = [(+groups[i] % 3) - 1, Math.floor(+groups[i] / 3) - 1];
      return Math.max(0, Math.min(1, value + ways[0] * point[0] + ways[1] * point[1]));
    });
    const [clean, change, sum] = three.pictures;
    clean.paint(image, `clean: ${names[label]}`);
    change.paint(difference(image, moved, times), `change × ${times}`);
    sum.paint(moved, `after PGD: ${names[answerAt(point)]}`);
  }

  function show(count) {
    const path = run.path.slice(0, count + 1);
    field?.path(path, run.fooled);
    climb?.(run.losses.slice(0, count + 1), run.fooled);
    const end = path[count];
    paint(end);
    const before = path[Math.max(0, count - 2)];
    const rest = Math.max(...end.map((value, i) => Math.abs(value - before[i]))) < 1e-9;
    const [mark, role] = run.fooled[count] ? ["fooled", "adversary"]
      : !run.moved ? ["gradient 0", "unknown"] : count && rest ? ["stuck", "unknown"] : ["not fooled", "true"];
    say(`${names[label]} → ${names[answerAt(end)]}, ℓ∞ ε = ${epsilon}, PGD, ${count} `
      + `${count === 1 ? "step" : "steps"} of ${state.step_size}, ${state.start} start; loss `
      + `${run.losses[count].toPrecision(3).replace("-", "−")}.`, mark, role);
  }

  function again() {
    const { path, moved } = walk({ epsilon, size, signs: surfaces[state.loss].signs,
      stepSize: state.step_size, steps: state.steps, start: state.start, seed: state.seed });
    run = { path, moved, losses: path.map((at) => between(grids[state.loss], at.map(share))),
      fooled: path.map((at) => answerAt(at) !== label) };
    stepControl.show(nearest(stepStops, state.step_size));
    countControl.show(state.steps - 1);
    lossControl.show(state.loss);
    startControl.show(state.start);
    another.disabled = state.start !== "random";
    field?.surface(state.loss);
    show(reel.all());
  }

  drawAtWidth(card, square, (width) => { drawField(width); again(); });
  drawAtWidth(card, chart, (width) => { drawClimb(width); again(); });
  card.append(html("style", {}, PICTURES_CSS + PGD_STYLE),
    part(html("div", { class: "main" }, lossControl.node)),
    part(html("div", { class: "row" }, square, html("div", { class: "side" }, three.node, chart))),
    verdictNode,
    part(html("div", { class: "row" }, stepControl.node, countControl.node)),
    part(html("div", { class: "row" }, startControl.node,
      html("div", { class: "row" }, ...reel.nodes, another, button("Reset", reset)))));
  again();
  return () => card.close();
}
