// Train a small network in the page against an adversary, watch what it learns, and attack it.

import { button, choice, html, keepState, nearest, openCard, part, slider, verdict
  } from "./explorer.js";
import { makeModel } from "./models.js";
import { picture } from "./pixels.js";
import { percent } from "./shares.js";
import { ACCURACIES_CSS, accuracyCurves, accuracyKey, levelsOf } from "./training_curves.js";
import { alike, encodeWeights, liveRun, recordedRun } from "./training_runs.js";

const DIGIT_LAB = new URL("./digit_lab.js", import.meta.url);
const SETTABLE = ["epsilon", "steps", "start", "epochs", "seed"];
const STEPS = [[0, "none"], [1, "1"], [2, "2"], [3, "3"], [5, "5"], [7, "7"]];
const STARTS = [["clean", "the clean digit"], ["random", "a random point"],
  ["noise", "noise up to ε (N-FGSM)"]];
const RECORDED = "What you see was recorded when the book was made.";
const UNTRAINED = "So far it guesses: about one digit in ten is right, by luck.";
const STILL_TO_COME = "\u00a0";
const PATIENCE = 5000; // milliseconds without news after which the verdict is spoken during a run

/** The adversary of a run, in words. */
function adversaryWords({ steps, start }) {
  if (!steps) return "no adversary";
  if (steps === 1) return { clean: "FGSM", random: "one step from a random point", noise: "N-FGSM" }[start];
  if (start === "noise") return `noise and ${steps} steps`;
  return `PGD, ${steps} steps${start === "clean" ? " from the clean digit" : ""}`;
}

/** The threat model that counts, and all that a run was trained against. */
function runWords(phases, trained = "trained") {
  const { epsilon } = phases.at(-1).settings;
  const parts = phases.map(({ settings, from }, i) => `${i ? `from epoch ${from} ` : ""}`
    + adversaryWords(settings) + (settings.epsilon === epsilon ? "" : ` with ε = ${settings.epsilon}`));
  return `ℓ∞ ε = ${epsilon}, ${trained} against ${parts.join(", ")}`;
}

/** What became of a run, as a mark: [words, role]. */
function markOfRun({ points, settings }, total) {
  const { fgsm, pgd } = points.at(-1);
  if (pgd < 0.1 * total) {
    return [settings.steps && fgsm > 0.25 * total ? "robust to FGSM only" : "not robust", "adversary"];
  }
  return pgd < 0.25 * total ? ["some stand under PGD", "unknown"] : ["many stand under PGD", "true"];
}

export function render({ model, el }) {
  const get = (key) => model.get(key);
  const card = openCard(el, "Train against an adversary");
  const [total, epsilons, digits] = [get("held_out"), get("epsilons"), get("digits")];
  let run = null;
  let before = null;
  let stop = null; // of the run that goes on
  let failure = "";
  let missing = false; // what was asked for was not recorded
  let closeLab = () => {};

  const kept = keepState(model, card, SETTABLE, () => {
    missing = false;
    show();
  });
  const { state, set } = kept;
  const curves = accuracyCurves(card, get("lessons"), get("learned"));
  const row = digitRow(digits);
  const { node: verdictNode, say } = verdict(card);
  const compared = html("p", { class: "muted compared" });
  verdictNode.append(compared);
  const go = button("Train", press);
  go.classList.add("go");
  const anew = button("Train anew", () => follow(begin()));
  const attack = button("Attack it", openDigitLab);
  attack.setAttribute("aria-label", "Attack it in the digit lab");
  const notice = html("p", { class: "muted notice", role: "status", "aria-live": "polite" });
  const labPlace = html("div");
  const epsilon = slider({ label: "Size of the perturbation", stops: epsilons, index: 0, main: true,
    text: (i) => `ε = ${epsilons[i]}`,
    change: (i) => { if (epsilons[i] !== state.epsilon) set("epsilon", epsilons[i]); } });
  const options = (pairs) => pairs.map(([value, label]) => ({ value, label }));
  const steps = choice({ label: "Inner steps of the adversary", options: options(STEPS),
    value: state.steps, change: (value) => set("steps", value) });
  const start = choice({ label: "It starts from", options: options(STARTS), value: state.start,
    change: (value) => set("start", value) });

  const settings = () => Object.fromEntries(SETTABLE.map((key) => [key, state[key]]));
  /** Paused; a record cannot go on with other settings. */
  const goesOn = () => run?.points.length && !run.done && (run.change || alike(run.settings, state));

  function press() {
    if (stop) return stop.abort();
    if (!goesOn()) return follow(begin());
    if (!alike(run.settings, state)) {
      run.change(settings());
      run.phases.at(-1).name = state.steps > 1 && state.start !== "noise" ? `PGD-${state.steps}`
        : adversaryWords(state);
    }
    return follow(run);
  }

  /** A new run; the one so far becomes the one before. */
  function begin() {
    if (run?.done && !run.recorded && alike(run.settings, state)) set("seed", state.seed + 1);
    if (run?.points.length > 1) {
      before?.close();
      before = run;
    } else run?.close();
    run = (model.send || failure ? recordedRun : liveRun)(model, settings());
    return run;
  }

  async function follow(now) {
    missing = !now;
    if (missing) return show();
    stop = new AbortController();
    const { signal } = stop;
    notice.textContent = now.recorded ? [failure, RECORDED].filter(Boolean).join(" ")
      : now.points.length ? "" : "Loading the digits and the engine …";
    show();
    try {
      await now.go({ signal, heard: () => {
        if (now !== run) return;
        if (!now.recorded) notice.textContent = ""; // it trains: what was said of loading is over
        show();
      } });
      if (!now.recorded) notice.textContent = whereItTrained(now);
    } catch (error) {
      now.close();
      if (now !== run || left) return undefined;
      failure = error.message;
      run = recordedRun(model, now.settings);
      stop = null;
      return follow(run);
    } finally {
      if (stop?.signal === signal) stop = null;
    }
    return show();
  }

  function show() {
    epsilon.show(nearest(epsilons, state.epsilon));
    steps.show(state.steps);
    start.show(state.start);
    start.node.hidden = !state.steps;
    for (const node of [epsilon.input, steps.node, start.node]) node.disabled = Boolean(stop);
    go.textContent = stop ? "Pause" : goesOn() ? "Go on" : run?.points.length ? "Train anew" : "Train";
    anew.hidden = Boolean(stop) || !goesOn();
    attack.hidden = Boolean(model.send || failure);
    attack.disabled = Boolean(stop) || !run?.weights;
    curves.show([run, before], state.epochs, total);
    const last = run?.points.at(-1);
    row.show(last);
    tell(last);
    if (!stop) curves.say(describeRuns([run, before], total));
  }

  function tell(last) {
    compared.textContent = before ? `Pale, the run before: ${runSentence(before, total)}.`
      : last ? STILL_TO_COME : UNTRAINED;
    if (missing) return say("The notebook has not recorded this.");
    if (!last) return say(`Not trained yet: ${runWords([{ settings: state }], "to be trained")}.`);
    const mark = stop ? ["training", "", PATIENCE] : run.done ? markOfRun(run, total) : ["paused", ""];
    say(`Epoch ${last.epoch} of ${run.settings.epochs}: ${runSentence(run, total)}.`, ...mark);
    return undefined;
  }

  function reset() {
    stop?.abort();
    stop = null;
    for (const one of [run, before]) one?.close();
    [run, before] = [null, null];
    missing = false;
    closeLab();
    notice.textContent = beforeTraining(model);
    kept.reset();
  }

  /** The networks of the two runs, under attack. */
  async function openDigitLab() {
    closeLab();
    const runs = [run, before].filter((one) => one?.weights);
    const networks = runs.map(({ settings: last, weights }, i) => ({ description: get("network"),
      weights: encodeWeights(weights), size: weights.length,
      name: `${i ? "before" : "yours"}: ${adversaryWords(last)}, ε = ${last.epsilon}` }));
    const { render: renderLab } = await import(DIGIT_LAB);
    const lab = makeModel({ ...get("lab"), networks, epsilon: runs[0].settings.epsilon });
    const close = await renderLab({ model: lab, el: labPlace });
    closeLab = () => {
      close();
      closeLab = () => {};
    };
    labPlace.scrollIntoView({ block: "nearest" });
  }

  let left = false;
  const pause = () => stop?.abort(); // a page that is left keeps no processor busy
  window.addEventListener("pagehide", pause);
  card.until(() => {
    left = true;
    window.removeEventListener("pagehide", pause);
    stop?.abort();
    for (const one of [run, before]) one?.close();
    closeLab();
  });
  card.append(html("style", {}, ACCURACIES_CSS + TRAINING_CSS),
    part(accuracyKey(total)), part(curves.node),
    part(html("div", { class: "row" }, go, anew, attack, button("Reset", reset))), verdictNode,
    part(row.node), part(epsilon.node),
    part(html("div", { class: "row" }, steps.node, start.node)), part(notice), part(curves.fold),
    part(labPlace));
  notice.textContent = beforeTraining(model);
  show();
  return () => card.close();
}

const runSentence = ({ points, phases }, total) => {
  const { clean, fgsm, pgd } = points.at(-1);
  const share = (hits) => percent(hits / total);
  return `clean ${share(clean)}, FGSM ${share(fgsm)}, PGD ${share(pgd)} of ${total} held-out digits, `
    + runWords(phases);
};

const plural = (epochs) => `${epochs} ${epochs === 1 ? "epoch" : "epochs"}`;

function beforeTraining(model) {
  if (model.send) return `Beside a kernel the run is a recording. ${RECORDED}`;
  return "The network is trained in this page, on this computer, within a minute. Nothing is sent anywhere.";
}

function whereItTrained({ points, seconds, kind, kernels }) {
  const how = kernels === "wasm" ? "" : ", in plain JavaScript";
  return `${plural(points.length - 1)} in ${seconds.toFixed(0)} s, in this page`
    + `${kind === "worker" ? "" : ", on its main thread"}${how}. Nothing was sent anywhere.`;
}

/** The curves in words. */
function describeRuns(runs, total) {
  const said = runs.filter((one) => one?.points.length).map((one, i) => {
    const best = one.points.reduce((top, point) => (point.pgd > top.pgd ? point : top));
    return `${i ? "The run before" : "This run"}: after ${plural(one.points.at(-1).epoch)} `
      + `${runSentence(one, total)}. `
      + `PGD was at most ${percent(best.pgd / total)}, after epoch ${best.epoch}.`;
  });
  return `Accuracy over epochs. ${said.join(" ") || "Nothing has been trained yet: in place of curves stand some of the digits to learn from."}`;
}

/** Held-out digits, as they are or as PGD left them, with what the network reads. */
function digitRow(digits) {
  const pictures = digits.map(({ label }) => picture([1, 8, 8], `a held-out ${label}`));
  const clean = digits.map(({ pixels }) => levelsOf(pixels));
  const words = html("p", { class: "muted" });
  const show = (point) => {
    const attacked = Boolean(point?.images.length);
    words.textContent = !point ? "Five held-out digits"
      : `Five held-out digits${attacked ? " after PGD" : ""}, and what the network reads in them under PGD`;
    pictures.forEach((one, i) => {
      const [{ label }, answer] = [digits[i], point?.answers[i]];
      one.paint(point?.images[i] ?? clean[i],
        answer === undefined ? `${label}`
          : answer === label ? `${label}: right` : `${label} → ${answer}`);
      one.node.className = answer === undefined ? "" : answer === label ? "right" : "wrong";
    });
  };
  return { show, node: html("div", {}, words,
    html("div", { class: "digits" }, ...pictures.map((one) => one.node))) };
}

const TRAINING_CSS = `
.go { flex: 1 1 200px; min-height: 56px; font-size: 18px; font-weight: 600;
  border: 2px solid var(--control); }
@container (max-width: 520px) { .go { flex-basis: 100%; } }
.compared { min-height: 1.45em; margin-top: 4px; }
.digits { display: grid; grid-template-columns: repeat(5, minmax(0, 96px)); gap: 8px; margin-top: 4px; }
.digits canvas { display: block; width: 100%; height: auto; image-rendering: pixelated; border-radius: 3px; }
.digits figcaption { text-align: center; font-size: 13px; padding-top: 3px; white-space: nowrap; }
.digits .right figcaption { color: var(--true-text); }
.digits .wrong figcaption { color: var(--adversary-text); font-weight: 600; }
`;
