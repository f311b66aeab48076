// The photo lab: clean | perturbation | adversarial, FGSM while ε is dragged, PGD at the press of a
// button; the reader's own picture in place of the notebook's, saved and loaded back.

import { CATEGORY_CSS, chooseCategory } from "./choose_category.js";
import { CURVE_CSS, curve, key } from "./curve.js";
import { html, nearest, part } from "./explorer.js";
import { argmax, attackWords, openLab, radius } from "./lab.js";
import { openDesk, DESK_CSS } from "./picture_desk.js";
import { PICTURES_CSS, amplification, decodePixels, decodeSigns, difference, moveBy, triptych }
  from "./pixels.js";
import { bars } from "./shares.js";

const INTAKE = new URL("./picture_intake.js", import.meta.url);
const PNG = new URL("./png.js", import.meta.url);

const fetchPart = (module) => import(module).catch(() => {
  throw new Error("A part of this page could not be fetched: is there a connection?");
});

const PATIENCE = 400; // milliseconds without a change before the curve is filled
const LEVEL = 1 / 255;

/** What is known of a picture without asking again: FGSM's signs and probabilities along the slider,
 * by what is attacked: "fgsm", "fgsm 404" for a target, "noise". */
function makeKnowledge(classes, stops) {
  const pictures = new WeakMap();
  const of = (image) => {
    if (!pictures.has(image)) pictures.set(image, { signs: new Map(), curves: new Map() });
    return pictures.get(image);
  };
  const curveOf = (image, way) => {
    const { curves } = of(image);
    if (!curves.has(way)) curves.set(way, new Array(stops));
    return curves.get(way);
  };
  /** Probabilities from the few that were recorded. */
  const spread = (pairs) => {
    const all = new Float64Array(classes);
    for (const [index, probability] of pairs) all[index] = probability;
    return all;
  };
  return { of, curveOf, spread };
}

const wayOf = ({ attack, target }) =>
  (attack === "noise" ? "noise" : target === null ? "fgsm" : `fgsm ${target}`);

/** The largest change of a pixel; between pictures of 8 bits it is so many levels exactly. */
function distance(one, other) {
  let largest = 0;
  for (let i = 0; i < one.length; i += 1) largest = Math.max(largest, Math.abs(one[i] - other[i]));
  const levels = Math.round(255 * largest);
  return Math.abs(levels - 255 * largest) < 1e-3 ? levels / 255 : largest;
}

export async function render({ model, el }) {
  const get = (trait) => model.get(trait);
  const [shape, epsilons, names] = ["shape", "epsilons", "categories"].map(get);
  const name = (index) => names[index];
  const known = makeKnowledge(names.length, epsilons.length);
  const decoded = new Map(); // address of a picture → its pixels
  const pixelsOf = async (uri) => {
    if (!decoded.has(uri)) decoded.set(uri, await decodePixels(uri, shape));
    return decoded.get(uri);
  };
  const first = await pixelsOf(get("clean"));
  for (const { signs, curve: stops, ...way } of get("recorded")) {
    known.of(first).signs.set(wayOf(way), await decodeSigns(signs, shape));
    known.curveOf(first, wayOf(way)).splice(0, stops.length, ...stops.map(known.spread));
  }

  let seen = null; // the view on the screen
  const lab = openLab({ model, el, title: "Photo lab", name, keys: ["clean", "label"], live: false,
    replay: recall, wrap: (engine) => remember(engine, known), show });
  const { card, state } = lab;
  const { node: row, pictures } = triptych(shape);
  const top = bars("What the network sees in the picture on the right");
  const line = curve(card, epsilons.length, (place) => {
    const epsilon = epsilons[Math.round(place)];
    if (epsilon !== state.epsilon) lab.set("epsilon", epsilon);
  });
  const legend = html("div");
  const category = chooseCategory({ label: "Target class", names, value: state.target,
    nothing: () => "anything else",
    change: (value) => lab.set("target", value) });
  const desk = openDesk({ card, kernel: Boolean(model.send), take, save });
  let painted = null; // the clean picture on the screen
  let shown = ""; // its address
  let filling = 0;
  let rest = 0;
  card.until(() => clearTimeout(rest));

  /** An answer from what is known already. */
  function recall({ image, attack, target, epsilon, label }) {
    const way = wayOf({ attack, target });
    const stops = known.curveOf(image, way);
    if (!stops[0]) return null;
    const clean = { probabilities: stops[0] };
    const found = { clean, label: label ?? argmax(clean.probabilities), point: null };
    if (attack === "pgd") return found;
    const probabilities = stops[epsilons.indexOf(epsilon)];
    const signs = known.of(image).signs.get(way);
    if (!probabilities || !signs) return null;
    return { ...found, point: { image: moveBy(image, signs, epsilon), probabilities } };
  }

  /** After every change of the state, before the network has answered. */
  lab.changed = () => {
    filling += 1;
    category.node.hidden = state.attack === "noise";
    category.show(state.target);
    desk.say("");
    if (state.clean !== shown) {
      showPicture().catch((error) => desk.say(error.message));
      return;
    }
    if (!lab.subject) return;
    const asked = { ...state, ...lab.subject, subject: lab.subject };
    const found = recall(asked);
    const signs = state.attack === "fgsm" && known.of(asked.image).signs.get(wayOf(state));
    if (found) show({ ...asked, ...found, done: false });
    else if (signs) paintPictures(asked, moveBy(asked.image, signs, state.epsilon));
  };

  async function showPicture() {
    const uri = shown = state.clean;
    const image = await pixelsOf(uri);
    if (uri !== shown) return;
    paintPictures({ image, epsilon: 0 }, image);
    await lab.setSubject({ image, label: state.label });
  }

  function paintPictures({ image, attack, epsilon }, moved) {
    const k = amplification(epsilon);
    if (painted !== image) pictures[0].paint(painted = image, "clean");
    pictures[1].paint(difference(image, moved, k),
      epsilon && moved !== image ? `perturbation\u00a0×\u00a0${k}` : "no perturbation");
    const captions = { noise: "noisy", file: "from the file" };
    pictures[2].paint(moved, moved === image || (!epsilon && attack !== "file") ? "unchanged"
      : captions[attack] ?? "adversarial");
  }

  function show(view) {
    if (view.subject !== lab.subject || !view.clean) return;
    const { image, attack, epsilon, clean, label, point } = view;
    const current = attack === "file" || (attack === state.attack && epsilon === state.epsilon
      && view.target === state.target);
    // An answer that a drag has overtaken still moves the bars, the pictures are ahead of it.
    if (current) paintPictures(view, point?.image ?? image);
    seen = view;
    const probabilities = (point ?? clean).probabilities;
    top.show(topRows(probabilities, label, state.target, name, answerOf(state)));
    drawCurve(view);
    category.show(state.target);
    desk.show(Boolean(point?.image));
    clearTimeout(rest);
    if (view.done) rest = setTimeout(() => fill(view).catch(() => {}), PATIENCE);
  }

  function drawCurve({ image, attack, target, label, clean, point }) {
    const stops = known.curveOf(image, wayOf({ attack: attack === "file" ? state.attack : attack, target }));
    const until = epsilons.findIndex((_, i) => !stops[i]);
    const goal = attack === "noise" ? null : target;
    // PGD and a file are a point, not a line: another ε is another run.
    const single = attack === "pgd" || attack === "file";
    const sides = Array.from(single ? [] : until < 0 ? stops : stops.slice(0, until),
      (p) => twoSides(p, label, goal));
    const of = (side) => sides.map((both) => both[side]);
    line.show(nearest(epsilons, state.epsilon), { truth: of("truth"), other: of("other") },
      twoSides((point ?? clean).probabilities, label, goal), stops);
    const words = attack === "noise" ? "random signs" : attackWords({ attack: "fgsm", target }, name);
    legend.replaceChildren(key(`${answerOf(state)}, ${name(label)}`,
      goal === null ? "strongest other class" : `target, ${name(goal)}`,
      single ? "probability now:"
        : `probability under ${words}${sides.length < 3 ? ", fills up as you drag" : ""}:`));
  }

  /** Ask for the probabilities along the slider while nothing else is asked. */
  async function fill({ image, attack, target, label, subject }) {
    if (!lab.isOpen() || attack === "file") return;
    const mine = ++filling;
    const [way, noise] = [wayOf({ attack, target }), attack === "noise"];
    const stops = known.curveOf(image, way);
    const [engine] = await lab.open();
    for (const [i, epsilon] of epsilons.entries()) {
      if (stops[i]) continue;
      const targeted = target !== null && !noise;
      const { probabilities } = await engine[noise ? "noise" : "fgsm"](image, targeted ? target : label,
        { epsilon, targeted, seed: get("seed") });
      stops[i] = probabilities;
      if (mine !== filling || subject !== lab.subject) return;
      drawCurve(seen);
    }
  }

  async function take(file) {
    const mine = ++taking;
    lab.touch();
    desk.say(`Reading ${file.name} …`);
    try {
      const { takePicture } = await fetchPart(INTAKE);
      const pixels = await takePicture(file, shape);
      const { readNote, writePng } = await fetchPart(PNG);
      if (mine !== taking) return;
      const norm = distance(pixels, lab.subject.image);
      const note = readNote(new Uint8Array(await file.arrayBuffer()));
      // As near as any attack of ours: this is the picture on the right, come back.
      if (norm <= epsilons.at(-1) + LEVEL && (norm > 0 || note)) {
        await check(pixels, norm, epsilonOf(note) ?? state.epsilon);
        return;
      }
      const uri = addressOf(await writePng(pixels, shape));
      decoded.set(uri, pixels);
      const [, height, width] = shape;
      lab.update({ clean: uri, label: null });
      desk.say(`${file.name}, resized and cropped to ${width} × ${height} as in Python.`);
    } catch (error) {
      if (mine === taking) desk.say(error.message);
    }
  }
  let taking = 0;

  /** A picture that was saved here, or that is as near to the clean one: what is left of it? */
  async function check(image, norm, epsilon) {
    const { subject } = lab;
    const [engine] = await lab.open();
    const [clean, point] = [await engine.predict(subject.image), await engine.predict(image)];
    const label = subject.label ?? argmax(clean.probabilities);
    if (subject !== lab.subject) return;
    lab.finish({ ...state, ...subject, subject, attack: "file", target: null, epsilon: norm, clean, label,
      point: { ...point, image }, done: true });
    desk.say(sayFile({ norm, epsilon, fooled: argmax(point.probabilities) !== label }));
  }

  async function save() {
    const { point, epsilon, label } = seen;
    const after = argmax(point.probabilities);
    const note = `${name(label)} → ${name(after)}, ℓ∞ ε = ${radius(epsilon)}, ${attackWords(seen, name)}`;
    try {
      const { writePng } = await fetchPart(PNG);
      const file = new Blob([await writePng(point.image, shape, note)], { type: "image/png" });
      const link = html("a", { href: URL.createObjectURL(file),
        download: `${slug(name(after))}.png` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
      desk.say(`Saved ${link.download}, 8 bits to a colour. Load it back, or drop it here: `
        + "what did rounding leave?");
    } catch (error) {
      desk.say(error.message);
    }
  }

  const { attack, epsilon, pgd, run, reset, notice, verdict } = lab.parts;
  lab.forget = line.forget;
  card.append(html("style", {}, PICTURES_CSS + CURVE_CSS + CATEGORY_CSS + DESK_CSS), row,
    part(html("div", { class: "row bottom spread" }, attack, reset)),
    part(epsilon), verdict, part(html("div", { class: "row aim" }, category.node, run)), part(pgd),
    part(top.node), part(legend, line.node), notice, desk.node);
  lab.changed();
  return () => card.close();
}

/** An engine that does not compute a gradient twice. */
function remember(engine, known) {
  const signsOf = async (image, label, targeted, way) => {
    const { signs } = known.of(image);
    if (!signs.has(way)) {
      const { gradient } = await engine.gradient(image, label);
      signs.set(way, Int8Array.from(gradient, targeted ? (slope) => -Math.sign(slope) : Math.sign));
    }
    return signs.get(way);
  };
  const move = async (image, label, signs, epsilon, steps) => {
    const moved = moveBy(image, signs, epsilon);
    return { step: steps, steps, image: moved, ...await engine.predict(moved, { label }) };
  };
  return {
    ...engine,
    async fgsm(image, label, { epsilon, targeted }) {
      const way = wayOf({ attack: "fgsm", target: targeted ? label : null });
      return move(image, label, await signsOf(image, label, targeted, way), epsilon, 1);
    },
    async noise(image, label, options) {
      const signs = known.of(image).signs.get(wayOf({ attack: "noise" }));
      return signs ? move(image, label, signs, options.epsilon, 0) : engine.noise(image, label, options);
    },
  };
}

/** What the class to lead away from is called: without a label, only the network has said it. */
const answerOf = ({ label }) => (label === null ? "clean answer" : "true class");

/** Probabilities of the true class and of the target, or of the strongest other. */
function twoSides(probabilities, label, target) {
  if (target !== null) return { truth: probabilities[label], other: probabilities[target] };
  let other = 0;
  for (let i = 0; i < probabilities.length; i += 1) {
    if (i !== label && probabilities[i] > other) other = probabilities[i];
  }
  return { truth: probabilities[label], other };
}

/** The five most probable classes, and the true one and the target if they are not among them. */
function topRows(probabilities, label, target, name, answer) {
  const order = Array.from(probabilities.keys()).sort((a, b) => probabilities[b] - probabilities[a]);
  const rows = order.filter((index, i) => i < 5 || index === label || index === target);
  return rows.map((index, i) => {
    const role = index === label ? "true" : i === 0 ? "adversary" : "";
    const tag = index === label ? answer : index === target ? "target" : "";
    return { name: name(index), value: probabilities[index], role, tag };
  });
}

const slug = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-");

function addressOf(bytes) {
  const text = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return `data:image/png;base64,${btoa(text)}`;
}

/** How a lab says what became of a file: how far it is from the clean picture, in pixels. */
function sayFile({ norm, epsilon, fooled }) {
  const size = `ℓ∞ ${radius(norm)}`;
  if (norm === 0) return "The file is the clean picture, pixel by pixel: 8 bits rounded the change away.";
  const still = fooled ? "It still fools the network." : "It no longer fools the network.";
  if (norm > epsilon + 1e-6) {
    const why = norm < epsilon + LEVEL ? ": rounding to 8 bits pushed it out of the ball" : "";
    return `The file differs by ${size}, more than ε = ${radius(epsilon)}${why}. ${still}`;
  }
  return `The file differs by ${size}, within ε = ${radius(epsilon)}. ${still}`;
}

/** The ε that a saved file was made with, or null. */
function epsilonOf(note) {
  const [, number, levels] = /ε = ([\d.e-]+)(\/255)?/.exec(note) ?? [];
  return number ? Number(number) / (levels ? 255 : 1) : null;
}
