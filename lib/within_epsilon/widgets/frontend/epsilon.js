// The ε explorer: clean | perturbation | adversarial, with ε on a slider of recorded stops. The
// pictures are computed here, in float32 as in the notebook; the probabilities are the notebook's.

import { CURVE_CSS, curve, key } from "./curve.js";
import { button, choice, html, markOf, keepState, nearest, openCard, part, slider, ticks, verdict
  } from "./explorer.js";
import { PICTURES_CSS, amplification, decodePixels, decodeSigns, difference, moveBy, triptych }
  from "./pixels.js";
import { bars, withShare } from "./shares.js";

export async function render({ model, el }) {
  const get = (name) => model.get(name);
  const [shape, epsilons, directions, names, label] =
    ["shape", "epsilons", "directions", "categories", "label"].map(get);
  const answer = get("answer");
  const clean = await decodePixels(get("clean"), shape);
  const signs = Object.fromEntries(await Promise.all(directions.map(async (direction) =>
    [direction.key, await decodeSigns(direction.signs, shape)])));
  const name = (index) => names[index] ?? String(index);

  const card = openCard(el, "ε explorer");
  const { node: row, pictures } = triptych(shape);
  const { state, set, reset } = keepState(model, card, ["epsilon", "direction"], show);
  const random = directions.find((one) => one.key === "random");
  const move = (i) => { if (epsilons[i] !== state.epsilon) set("epsilon", epsilons[i]); };
  const control = slider({ label: "Size of the perturbation", stops: epsilons, index: 0,
    text: (i) => get("readouts")[i], change: move, main: true });
  const scale = ticks(get("ticks"), epsilons.length);
  const options = directions.map(({ key: value, label: text }) => ({ value, label: text }));
  const choose = choice({ label: "Direction", options, value: state.direction,
    change: (value) => set("direction", value) });
  const probabilities = curve(card, epsilons.length, (place) => move(Math.round(place)));
  const { node: verdictNode, say } = verdict(card);
  const top = bars("What the network sees in the adversarial image");

  function show() {
    const at = nearest(epsilons, state.epsilon);
    const epsilon = epsilons[at];
    const direction = directions.find((one) => one.key === state.direction);
    const adversarial = moveBy(clean, signs[direction.key], epsilon);
    const k = amplification(epsilon);
    pictures[0].paint(clean, "clean");
    pictures[1].paint(difference(clean, adversarial, k),
      epsilon ? `perturbation\u00a0×\u00a0${k}` : "no perturbation");
    pictures[2].paint(adversarial,
      !epsilon ? "unchanged" : direction === random ? "noisy" : "adversarial");

    const rows = direction.curve[at];
    const [before, now] = [direction.curve[0][0], rows[0]];
    const mark = markOf({ label, target: direction.key === "towards" ? get("target") : null,
      before: before[0], after: now[0], noise: random.curve[at][0][0], isNoise: direction === random });
    say(`${withShare(name(before[0]), before[1])} → ${withShare(name(now[0]), now[1])}, `
      + `${get("balls")[at]}, ${direction.attack}`, ...(epsilon ? mark : ["unchanged"]));
    top.show(rows.map(([index, value], i) => {
      const role = index === label ? "true" : i === 0 ? "adversary" : "";
      const tag = index === label ? answer : index === get("target") ? "target" : "";
      return { name: name(index), value, role, tag };
    }));
    const truth = direction.curve.map((stop) => stop.find(([index]) => index === label)[1]);
    const other = direction.curve.map((stop) => stop.find(([index]) => index !== label)[1]);
    probabilities.show(at, { truth, other }, { truth: truth[at], other: other[at] }, direction);
    control.show(at);
    choose.show(direction.key);
  }

  card.append(html("style", {}, PICTURES_CSS + CURVE_CSS), row,
    part(html("div", { class: "row bottom spread" }, choose.node, button("Reset", () => {
      probabilities.forget();
      reset();
    }))),
    part(control.node, scale), verdictNode, part(top.node),
    part(key(`${answer}, ${name(label)}`, "strongest other class", "probability:"), probabilities.node));
  show();
  return () => card.close();
}
