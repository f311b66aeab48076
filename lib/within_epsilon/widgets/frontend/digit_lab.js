// The digit lab: draw a digit or take one from the test set, and attack it.

import { amplification, decodeBase64, moveBy, picture } from "./pixels.js";
import { DRAWING_CSS, SIDE, makePad, rasterise } from "./drawing.js";
import { argmax, openLab } from "./lab.js";
import { choice, html, part, svg } from "./explorer.js";
import { bars } from "./shares.js";
import { SHELF_CSS, makeShelf } from "./shelf.js";

const SHAPE = [1, SIDE, SIDE];
const ANYTHING = "anything else";

/** A gradient as squares: their area is its size, filled where a brighter pixel raises the loss,
 * hollow where a darker one does. */
function gradientPicture() {
  const squares = svg("g");
  const caption = html("figcaption", {}, "input gradient");
  const node = html("figure", {}, svg("svg", { viewBox: "0 0 8 8", role: "img",
    "aria-label": "input gradient", class: "gradient" }, squares), caption);
  const show = (gradient) => {
    const largest = gradient?.reduce((most, slope) => Math.max(most, Math.abs(slope)), 0);
    squares.replaceChildren(...[...gradient ?? []].flatMap((slope, i) => {
      const width = 0.92 * Math.sqrt(Math.abs(slope) / largest);
      if (!(width > 0.02)) return [];
      const hollow = slope < 0 ? Math.min(0.07, width / 4) : 0;
      const side = width - hollow;
      return [svg("rect", { class: slope < 0 ? "hollow" : "", x: (i % SIDE) + 0.5 - side / 2,
        y: Math.floor(i / SIDE) + 0.5 - side / 2, width: side, height: side })];
    }));
    return largest;
  };
  return { node, show };
}

/** What the notebook recorded of the image that the lab starts with. */
function makeReplay(model) {
  const record = model.get("record");
  const start = Object.fromEntries(
    ["pixels", "label", "steps", "step_size"].map((key) => [key, JSON.stringify(model.get(key))]));
  const same = (key, value) => start[key] === JSON.stringify(value);
  return ({ image, subject, attack, target, epsilon, steps, stepSize, attacked }) => {
    const goal = attack === "noise" ? null : target;
    const found = record?.attacks.find((one) =>
      one.attacked === attacked && one.attack === attack && one.target === goal);
    const known = found && same("pixels", subject.pixels) && same("label", subject.label)
      && (attack !== "pgd" || (same("steps", steps) && same("step_size", stepSize ?? null)));
    const stop = known && found.stops[model.get("epsilons").indexOf(epsilon)];
    if (!stop) return null;
    const [clean, other] = [attacked, 1 - attacked].map((i) => record.clean[i]);
    const moves = Array.from(new Int8Array(decodeBase64(`,${stop.moves}`).buffer), (move) => move / 127);
    const label = subject.label ?? argmax(clean);
    return {
      label,
      clean: { probabilities: clean },
      point: { image: moveBy(image, moves, epsilon), probabilities: stop.probabilities },
      prepared: record.gradients.find((one) =>
        one.attacked === attacked && one.label === (goal ?? label))?.gradient,
      other: other && { clean: { probabilities: other }, point: { probabilities: stop.other } },
    };
  };
}

export async function render({ model, el }) {
  const get = (key) => model.get(key);
  const categories = get("categories");
  const names = get("networks").map((network) => network.name);
  const name = (index) => categories[index];
  const lab = openLab({ model, el, title: "Digit lab", name, keys: ["pixels", "label", "strokes"],
    pace: 90, show, replay: makeReplay(model),
    prepare: async (engine, { image, target, attack }, label) =>
      (await engine.gradient(image, attack === "noise" ? label : target ?? label)).gradient });
  const { card, state, parts } = lab;

  // A new drawing is first read as it is: whoever turns ε up asks for more.
  const pad = makePad(card, { change: (strokes) => lab.update({ strokes, pixels: rasterise(strokes),
    label: null, ...(state.strokes.length ? {} : { epsilon: 0 }) }) });
  const shelf = makeShelf(get("gallery"), (label, pixels) =>
    lab.update({ strokes: [], pixels, label }), "or take one from the test set");
  const pictures = ["clean image", "perturbation", "adversarial image"]
    .map((what) => picture(SHAPE, what));
  const gradient = gradientPicture();
  const slope = html("p", { class: "muted slope" });
  const goals = choice({ label: "Make the network say", value: "",
    options: [{ value: null, label: ANYTHING },
      ...categories.map((label, value) => ({ value, label }))],
    change: (target) => lab.set("target", target) });
  const whom = choice({ label: "Attack by the gradient of", value: 0,
    options: names.map((label, value) => ({ value, label })),
    change: (attacked) => lab.set("attacked", attacked) });
  const tables = names.map((what) => bars(`What ${what} sees in the adversarial image`));

  lab.changed = () => {
    pad.show(state.strokes);
    goals.show(state.target);
    whom.show(state.attacked);
    goals.node.hidden = state.attack === "noise";
    if (!state.pixels.some(Boolean)) return askForDigit();
    if (lab.subject?.pixels !== state.pixels || lab.subject?.label !== state.label) {
      const { pixels, label } = state;
      lab.setSubject({ pixels, label, image: Float32Array.from(pixels) });
    }
  };

  /** An empty pad is no digit: nothing to read, and nothing to attack. */
  function askForDigit() {
    const blank = Float32Array.from(state.pixels);
    lab.leave("Draw a digit, or take one from the test set.");
    paint({ image: blank, adversarial: blank, epsilon: 0 });
    gradient.show(null);
    slope.textContent = "\u00a0";
    for (const table of tables) table.show([]);
  }

  function paint({ image, adversarial, epsilon, attack }) {
    const k = amplification(epsilon);
    pictures[0].paint(image, "clean");
    pictures[1].paint(image.map((pixel, i) => 0.5 + k * (adversarial[i] - pixel)),
      epsilon ? `perturbation ×\u00a0${k}` : "no perturbation");
    pictures[2].paint(adversarial, !epsilon ? "unchanged" : attack === "noise" ? "noisy" : "adversarial");
  }

  function show(view) {
    if (!view.done && !view.watched) return; // its end comes in a moment
    const { image, clean, point, prepared, label, attack, target, other, replaying } = view;
    // Nothing leads a seven to a seven.
    if (target !== null && clean && argmax(clean.probabilities) === target) {
      lab.set("target", null);
      return;
    }
    paint({ ...view, adversarial: point?.image ?? image });
    const largest = gradient.show(clean && prepared);
    slope.textContent = describeGradient(largest, name(attack === "noise" ? label : target ?? label));
    pad.enable(!replaying);
    shelf.enable(!replaying);
    const seen = [point, other?.point];
    if (view.attacked) seen.reverse();
    tables.forEach((table, place) => {
      if (seen[place]) table.show(rows(seen[place].probabilities, view));
    });
  }

  const rows = (probabilities, { label, target, attack }) => {
    const best = argmax(probabilities);
    return categories.map((digit, i) => ({ name: digit, value: probabilities[i],
      role: i === label ? "true" : i === best ? "adversary" : "",
      tag: i === label ? (state.label === null ? "clean answer" : "true class")
        : i === target && attack !== "noise" ? "target" : "" }));
  };

  const [clean, perturbation, adversarial] = pictures.map((one) => one.node);
  const note = part(html("p", { class: "muted" }, "A drawing is enlarged to the full height, set on "
    + "32 × 32 bits and counted in blocks of 4 × 4, as the network's training data were."));
  card.append(html("style", {}, DRAWING_CSS + SHELF_CSS + STYLE),
    part(html("div", { class: "source" },
      html("div", {}, html("p", { class: "legend" }, "Draw a digit"), pad.node),
      html("div", { class: "choose" }, html("div", { class: "row" }, ...pad.buttons), shelf.node))),
    html("div", { class: "four pixelated" }, clean, gradient.node, perturbation, adversarial),
    part(parts.epsilon), parts.verdict,
    part(html("div", { class: "tables" }, ...tables.map((table, i) => html("div", {},
      names.length > 1 ? html("p", { class: "legend" }, names[i]) : "", table.node)))),
    part(html("div", { class: "row corner" }, parts.attack, parts.reset)),
    part(goals.node), ...(names.length > 1 ? [part(whom.node)] : []), part(parts.pgd, parts.run),
    part(slope), note, parts.notice);
  lab.changed();
  return () => card.close();
}

function describeGradient(largest, digit) {
  if (!largest) return "\u00a0";
  return `Gradient of the loss of class ${digit}, at most ${largest.toPrecision(2)} per unit: `
    + "filled where a brighter pixel raises the loss, hollow where a darker one does.";
}

const STYLE = `
.source { display: grid; grid-template-columns: 200px minmax(0, 1fr); gap: 12px 20px; }
.choose { display: grid; gap: 10px; align-content: end; }
.four { display: grid; grid-template-columns: repeat(4, minmax(0, 160px)); gap: 12px 10px;
  justify-content: center; padding: 0 16px; margin: 14px 0 0; }
.four figure { text-align: center; font-size: 14px; }
.four canvas, .four svg { display: block; width: 100%; border-radius: 3px; }
.pixelated canvas { image-rendering: pixelated; }
figcaption { padding: 4px 0 0; line-height: 1.3; }
.gradient { background: var(--track); }
.gradient rect { fill: var(--gradient); }
.gradient rect.hollow { fill: none; stroke: var(--gradient); stroke-width: 0.07; }
.tables { display: grid; grid-template-columns: repeat(auto-fit, minmax(250px, 1fr)); gap: 12px 24px; }
.tables .bars li { grid-template-columns: 7em minmax(0, 1fr) 4.4em; }
@container (max-width: 520px) {
  .tables .bars li { min-height: 26px; }
  .tables .bars .bar { grid-row: auto; grid-column: auto; }
  .source { grid-template-columns: minmax(0, 1fr) 140px; gap: 12px; }
  .choose .row { gap: 4px; flex-wrap: nowrap; }
  .choose .row button { padding: 4px 8px; flex: 1; }
  .shelf { grid-template-columns: repeat(3, 44px); gap: 4px; }
  .shelf :nth-child(10) { grid-column: 1 / -1; }
  .four { gap: 8px 6px; padding: 0 12px; }
  .four figure { font-size: 12px; }
  .four figcaption { white-space: normal; }
  .tables .bars li { min-height: 22px; }
}
`;
