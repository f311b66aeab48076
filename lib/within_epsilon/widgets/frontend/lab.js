// The frame of a lab: an image under attack, by a network that runs in the page or in the kernel.
//
//   const lab = openLab({ model, el, title, name, keys, replay, prepare, wrap, live, pace, show });
//   lab.setSubject({ image, label });   // attack this one: float32 pixels; its class, or null
//
// name(i)             class i in words
// keys                further parts of the model's state, beside SETTINGS below
// replay(question)    what the notebook recorded: an answer or null
// prepare(engine, question, label)   what else `show` needs; asked for once per image,
//                     class and network; its answer is `view.prepared`
// wrap(engine)        an engine of the same interface
// live                false if PGD waits for its button
// pace                milliseconds between two steps that are watched
// show(view)          paint: called at every step of an attack and its end
//
// A question is { image, label, attack, epsilon, steps, stepSize, target, attacked, subject }, an
// answer { clean, point, label, prepared, other }: `clean` and `point` are results of the engine
// (README.md), `other` is { clean, point } of the network that is not attacked, if there are two.
// A view is question and answer in one, with `done` at the end, `watched` for a step that is to be
// seen, `stopped`, and `replaying` where the network
// cannot be had. `point` is null before PGD starts.
//
// The lab makes the nodes `lab.parts`: attack, epsilon, pgd, run, reset,
// notice (what runs where, loading, failures), verdict.

import { latestWins } from "./engine/calls.js";
import { button, choice, html, markOf, keepState, nearest, openCard, part, slider, ticks, verdict
  } from "./explorer.js";
import { takeSeat } from "./ladder.js";
import { withShare } from "./shares.js";

const SETTINGS = ["attack", "epsilon", "steps", "step_size", "target", "attacked"];
const NAMES = { fgsm: "FGSM", pgd: "PGD", noise: "random signs", file: "8-bit file" };
const ATTACKS = [{ value: "fgsm", label: "FGSM", more: "one step along the gradient's signs" },
  { value: "pgd", label: "PGD", more: "many short steps" },
  { value: "noise", label: "random signs", more: "the control" }];
const SLOW = 400; // milliseconds after which an attack is given up for a later question
const REST = 250; // milliseconds without a change before the control is computed

/** A radius as the library writes it: in 255ths where a decimal would be longer. */
export function radius(epsilon) {
  const sixteenths = epsilon * 255 * 16;
  if (Number(epsilon.toPrecision(3)) === epsilon) return String(epsilon);
  if (Math.abs(sixteenths - Math.round(sixteenths)) <= 1e-9 * sixteenths) {
    return `${Math.round(sixteenths) / 16}/255`;
  }
  return String(Number(epsilon.toPrecision(6)));
}

/** The place of the largest number. */
export const argmax = (numbers) =>
  numbers.reduce((best, number, i) => (number > numbers[best] ? i : best), 0);

const megabytes = (bytes) =>
  (bytes < 1e5 ? `${Math.ceil(bytes / 1e3)} KB` : `${(bytes / 1e6).toFixed(2)} MB`);

/** An attack in words, as verdicts have it. */
export function attackWords({ attack, target, steps, stepSize }, name) {
  const goal = target === null || attack === "noise" ? "" : ` towards ${name(target)}`;
  if (attack !== "pgd") return NAMES[attack] + goal;
  const size = stepSize === undefined ? "" : `, step size ${radius(stepSize)}`;
  return `PGD${goal}, ${steps} ${steps === 1 ? "step" : "steps"}${size}`;
}

export function openLab({ model, el, title, name, keys = [], replay = () => null, prepare = () => null,
  wrap = (engine) => engine, live = true, pace = 0, show }) {
  const card = openCard(el, title);
  card.prepend(html("style", {}, LAB_CSS));
  const networks = model.get("networks");
  const seats = networks.map((_, place) => takeSeat(model, place, heard));
  let touched = Boolean(model.send); // a kernel costs nothing to ask
  let failure = "";
  let opened = null;
  let opening = null;
  let stop = null; // of the run that is watched
  let rest = 0;
  let asks = 0;
  let slow = null; // the attack that runs unwatched
  let finished = null; // the view whose verdict stands
  const memory = new WeakMap(); // subject → what is known of it

  const kept = keepState(model, card, [...SETTINGS, ...keys], () => {
    stop?.abort();
    controls.show();
    lab.changed?.();
    lab.refresh();
  });
  const { state } = kept;
  const lab = { card, state, set: kept.set, update: kept.update, subject: null };
  const controls = makeControls(lab, model, card, { run, reset() {
    lab.forget?.();
    kept.reset();
  } });
  Object.assign(lab, { parts: controls.parts, open, isOpen: () => isOpen(), finish,
    touch: () => { touched = true; } });

  lab.setSubject = (subject) => {
    lab.subject = { label: null, ...subject };
    stop?.abort();
    return lab.refresh();
  };

  /** Nothing to attack: say so instead. */
  lab.leave = (sentence) => {
    lab.subject = null;
    stop?.abort();
    asks += 1;
    finished = null;
    controls.leave(sentence);
  };

  const question = () => {
    const { attack, epsilon, steps, step_size: stepSize, target, attacked } = state;
    return { attack, epsilon, steps, target, attacked, stepSize: stepSize ?? undefined,
      ...lab.subject, subject: lab.subject };
  };

  /** Follow the settings. Of several changes that come while the network is busy, the last counts. */
  const latest = latestWins((play) => work(play).catch(fail));
  lab.refresh = (play = false) => {
    asks += 1;
    finished = null;
    clearTimeout(rest);
    if (slow) slow.timer ??= setTimeout(() => slow?.abort(), slow.since + SLOW - performance.now());
    return lab.subject ? latest(play) : undefined;
  };

  async function work(play) {
    const asked = question();
    const recorded = isOpen() ? null : await replay(asked);
    if (recorded && (!play || failure)) {
      finish({ ...asked, ...recorded, done: true, replaying: Boolean(failure) });
      if (touched && !failure) takeOver(asks);
    } else if (failure) {
      finish({ ...asked, clean: null, point: null, done: true, replaying: true });
    } else if (touched) {
      finish(await ask(await open(), asked, play));
    }
  }

  /** Let the network answer what a record has answered, unless more has been asked since. */
  const takeOver = (before) => open().then(() => { if (asks === before) lab.refresh(); }, fail);

  /** Put a question to the networks. */
  async function ask(engines, asked, play) {
    const { image, attack, epsilon, steps, stepSize, target, attacked } = asked;
    const engine = engines[attacked];
    const known = recall(asked.subject);
    const clean = await known(`clean ${attacked}`, () => engine.predict(image));
    const label = asked.label ?? argmax(clean.probabilities);
    const goal = target === null ? "" : target;
    const prepared = await known(`prepared ${attacked} ${label} ${goal}`,
      () => prepare(engine, asked, label));
    const view = { ...asked, clean, label, prepared, point: null, done: true };
    if (attack === "pgd" && !live && !play) return view;
    const targeted = target !== null && attack !== "noise";
    const options = { epsilon, steps, stepSize, targeted, seed: model.get("seed") };
    const aim = targeted ? target : label;
    const [point, stopped] = play ? await watch(engine, view, aim, options)
      : [await follow(engine, view, aim, options), false];
    const seen = { ...view, point, stopped };
    if (engines.length > 1 && point) seen.other = await askOther(engines[1 - attacked], asked, point);
    return seen;
  }

  /** Run an attack whose end matters. A change of mind ends it only if it has taken long. */
  async function follow(engine, view, label, options) {
    slow = Object.assign(new AbortController(), { since: performance.now() });
    try {
      return await engine[view.attack](view.image, label, { ...options, signal: slow.signal,
        progress: (point) => show({ ...view, point, done: false }) });
    } finally {
      clearTimeout(slow.timer);
      slow = null;
    }
  }

  const askOther = async (engine, { image, subject, attacked }, point) => ({
    clean: await recall(subject)(`clean ${1 - attacked}`, () => engine.predict(image)),
    point: await engine.predict(point.image),
  });

  /** Run an attack whose steps are shown; the last one that was shown, and whether it was stopped. */
  async function watch(engine, view, label, options) {
    stop = new AbortController();
    const { signal } = stop;
    const steps = [];
    let shown = null;
    const showStep = (point) => {
      shown = point;
      controls.step(point);
      controls.say({ ...view, point, done: false }, name);
      show({ ...view, point, done: false, watched: true });
    };
    controls.running(true);
    try {
      const point = await engine[view.attack](view.image, label, { ...options, signal,
        progress: pace && !STILL.matches ? (step) => steps.push(step) : showStep });
      for (const step of steps) {
        showStep(step);
        await pause(pace, signal);
      }
      return [point, false];
    } catch (error) {
      if (error.name !== "AbortError") throw error;
      return [shown, true];
    } finally {
      stop = null;
      controls.running(false);
    }
  }

  /** Show an answer, and say it, unless its subject has been taken away. */
  function finish(view) {
    if (!lab.subject) return;
    finished = view;
    show(view);
    controls.say(view, name);
    if (!view.point || view.attack === "noise" || view.epsilon === 0) return;
    rest = setTimeout(() => control(view).catch(() => {}), REST);
  }

  /** What noise of the same size does: the control beside every attack. */
  async function control(view) {
    const noisy = { ...view, attack: "noise" };
    const found = isOpen()
      ? await opened[view.attacked].noise(view.image, view.label,
        { epsilon: view.epsilon, seed: model.get("seed") })
      : (await replay(noisy))?.point;
    if (found && view === finished) controls.sayControl(view, found, name);
  }

  const isOpen = () => Boolean(opened?.every((engine) => !engine.closed()));

  function open() {
    if (isOpen()) return opened;
    opening ??= (async () => {
      controls.notice(model.send ? "Waiting for the kernel …" : "Loading the network …");
      const engines = await Promise.all(seats.map((seat) => seat.open()));
      opened = engines.map(wrap);
      controls.notice(whereItRuns(engines[0]));
      return opened;
    })().finally(() => { opening = null; });
    return opening;
  }

  function heard({ loaded, total }) {
    if (!isOpen()) controls.loading(loaded, total);
  }

  function fail(error) {
    if (error.name === "AbortError" || left) return;
    if (isOpen()) { // the question was wrong, not the network
      controls.notice(error.message);
      return;
    }
    failure = error.message;
    controls.notice(model.send ? failure
      : `${failure} What you see was recorded when the book was made.`, retry);
    lab.refresh();
  }

  function retry() {
    failure = "";
    return lab.refresh();
  }

  /** The first use of a control brings the network. */
  function touch(event) {
    if (touched || ["Tab", "Shift", "Escape"].includes(event.key)) return;
    touched = true;
    lab.refresh();
  }

  function run() {
    if (stop) return stop.abort();
    touched = true;
    return lab.refresh(true);
  }

  function recall(subject) {
    if (!memory.has(subject)) memory.set(subject, new Map());
    const known = memory.get(subject);
    return async (key, find) => {
      if (!known.has(key)) known.set(key, await find());
      return known.get(key);
    };
  }

  let left = false;
  const leave = () => {
    left = true;
    stop?.abort();
  };
  const back = () => {
    if (left && touched) {
      left = false;
      lab.refresh();
    }
    left = false;
  };
  const listeners = [[card, "pointerdown", touch], [card, "keydown", touch], [card, "input", touch],
    [card, "click", touch], [window, "pagehide", leave], [window, "pageshow", back]];
  for (const [node, event, listener] of listeners) node.addEventListener(event, listener);
  card.until(() => {
    stop?.abort();
    slow?.abort();
    clearTimeout(rest);
    for (const [node, event, listener] of listeners) node.removeEventListener(event, listener);
    for (const seat of seats) seat.leave();
  });
  controls.notice(touched ? "" : beforeTouch(networks));
  controls.show();
  return lab;
}

const STILL = matchMedia("(prefers-reduced-motion: reduce)");

const pause = (time, signal) => new Promise((resolve, reject) => {
  signal.throwIfAborted();
  const timer = setTimeout(resolve, time);
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    reject(signal.reason);
  });
});

function beforeTouch(networks) {
  const missing = networks.find((network) => network.missing)?.missing;
  if (missing) return `${missing} What you see was recorded when the book was made.`;
  const size = networks.reduce((sum, network) => sum + (network.size ?? 0), 0);
  return `Touch a control: the network loads (${megabytes(size)}) and runs in this page. `
    + "Nothing is sent anywhere.";
}

function whereItRuns({ kind, kernels }) {
  if (kind === "kernel") return `The network runs in the kernel (${kernels}).`;
  const how = kernels === "wasm" ? "" : ", in plain JavaScript";
  return `The network runs in this page${kind === "worker" ? "" : ", on its main thread"}${how}.`;
}

/** Controls of a lab, and what it says. */
function makeControls(lab, model, card, { run, reset }) {
  const { state } = lab;
  const epsilons = model.get("epsilons");
  const sizes = [null, ...model.get("step_sizes")];
  const attack = choice({ label: "Attack", options: ATTACKS, value: state.attack,
    change: (value) => lab.set("attack", value) });
  const epsilon = slider({ label: "Size of the perturbation", stops: epsilons, index: 0, main: true,
    text: (i) => model.get("readouts")[i],
    change: (i) => { if (epsilons[i] !== state.epsilon) lab.set("epsilon", epsilons[i]); } });
  const counts = model.get("step_counts");
  const steps = slider({ label: "Steps", stops: counts, index: 0,
    text: (i) => `${counts[i]} ${counts[i] === 1 ? "step" : "steps"}`,
    change: (i) => { if (counts[i] !== state.steps) lab.set("steps", counts[i]); } });
  const own = () => (2.5 * state.epsilon) / state.steps;
  const size = slider({ label: "Step size", stops: sizes, index: 0,
    text: (i) => (sizes[i] === null ? `2.5 ε / steps ≈ ${own().toPrecision(2)}` : radius(sizes[i])),
    change: (i) => { if (sizes[i] !== state.step_size) lab.set("step_size", sizes[i]); } });
  const start = button(model.get("run_label"), run);
  const meter = html("progress", { max: 1, value: 0, hidden: true });
  // Not in the notice, which would be read out anew with every piece that comes.
  const bytes = html("span", { class: "muted", "aria-hidden": "true" });
  const notice = html("p", { class: "muted notice", role: "status", "aria-live": "polite" });
  const again = html("button", { type: "button", hidden: true }, "Try again");
  const { node: verdictNode, say } = verdict(card);
  const controlLine = html("p", { class: "muted control" });
  verdictNode.append(controlLine);
  const pgd = html("div", { class: "row" }, steps.node, size.node);
  const scale = ticks(model.get("ticks"), epsilons.length);
  const parts = { attack: attack.node, epsilon: html("div", {}, epsilon.node, scale), pgd, run: start,
    reset: button("Reset", reset), verdict: verdictNode,
    notice: part(html("div", { class: "row spread status" }, notice, bytes, meter, again)) };

  const watchMeter = (value, max, label) => {
    meter.hidden = false;
    meter.max = max;
    meter.value = value;
    meter.setAttribute("aria-label", label);
  };
  return {
    parts,
    show() {
      attack.show(state.attack);
      epsilon.show(nearest(epsilons, state.epsilon));
      steps.show(nearest(counts, state.steps));
      size.show(state.step_size === null ? 0 : 1 + nearest(sizes.slice(1), state.step_size));
      pgd.hidden = start.hidden = state.attack !== "pgd";
    },
    notice(text, retry = null) {
      meter.hidden = true;
      bytes.textContent = "";
      notice.textContent = text;
      again.hidden = !retry;
      again.onclick = retry;
    },
    loading(loaded, total) {
      if (total) watchMeter(loaded, total, "bytes of the network's weights");
      bytes.textContent = megabytes(loaded) + (total ? ` of ${megabytes(total)}` : "");
    },
    running(runs) {
      start.textContent = runs ? "Stop" : model.get("run_label");
      meter.hidden = true;
    },
    step: ({ step, steps: all }) => watchMeter(step, all, "steps of the attack"),
    leave(sentence) {
      controlLine.textContent = "\u00a0";
      say(sentence);
    },
    say(view, name) {
      controlLine.textContent = "\u00a0";
      sayVerdict(say, view, name);
    },
    sayControl(view, { probabilities }, name) {
      const best = argmax(probabilities);
      controlLine.textContent = "The control, random signs of the same size: "
        + withShare(name(best), probabilities[best]);
      sayVerdict(say, { ...view, noise: best }, name);
    },
  };
}

/** The verdict: a sentence with the threat model in it, as the library has it. */
function sayVerdict(say, view, name) {
  const { clean, point, label, epsilon, target, attack, noise, stopped, replaying } = view;
  if (!clean || (replaying && !point)) return say("The notebook has not recorded this.");
  const seen = ({ probabilities }) => {
    const best = argmax(probabilities);
    return withShare(name(best), probabilities[best]);
  };
  if (!point) return say(`${seen(clean)}. ${stopped ? "Stopped." : "The attack has not started."}`);
  const [before, after] = [clean, point].map(({ probabilities }) => argmax(probabilities));
  const early = stopped ? ", stopped" : view.done ? "" : " so far";
  const words = attackWords(early ? { ...view, steps: point.step } : view, name) + early;
  const sentence = `${seen(clean)} → ${seen(point)}, ℓ∞ ε = ${radius(epsilon)}, ${words}`;
  if (!view.done) return say(sentence);
  const isNoise = attack === "noise";
  if (epsilon === 0 && attack !== "file") return say(sentence, "unchanged");
  return say(sentence, ...markOf({ label, target: isNoise ? null : target, before, after, noise, isNoise }));
}

const LAB_CSS = `
.status { min-height: 44px; }
.notice { flex: 1 1 200px; }
progress { flex: 0 1 180px; height: 10px; accent-color: var(--control); }
.control { min-height: 1.45em; }
`;
