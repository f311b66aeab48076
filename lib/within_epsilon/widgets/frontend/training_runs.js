// Runs of training, each a list of points: live, by the engine in this page, or played from what was
// recorded with the same engine. See engine/train.js for what a point is.

import { decodeBase64 } from "./pixels.js";

const TRAINING_CLIENT = new URL("./engine/client.js", import.meta.url);
const ADVERSARY = ["epsilon", "steps", "start"];
const PACE = 90; // milliseconds from one recorded point to the next
const NO_MOTION = matchMedia("(prefers-reduced-motion: reduce)");

/** Whether two runs train in the same way. */
export const alike = (one, other) => againstTheSame(one, other) && one.epochs === other.epochs;

const againstTheSame = (one, other) => ADVERSARY.every((key) => one[key] === other[key]);

const newRun = (settings) => ({ settings, phases: [{ from: 0, settings }], points: [], weights: null,
  done: false, seconds: 0, close() {} });

/** A run that the engine computes. `go({ signal, heard })` starts it or goes on, with what `change`
 * has set: it ends when all epochs are done, or `signal` stops it, and then has the weights of that
 * moment. */
export function liveRun(model, settings) {
  const run = newRun(settings);
  let engine;
  run.close = () => engine?.close();
  run.change = (now) => {
    run.settings = { ...now, seed: settings.seed };
    run.phases.push({ from: run.points.at(-1).epoch, settings: run.settings });
  };
  run.go = async ({ signal, heard }) => {
    const { openEngine } = await import(TRAINING_CLIENT).catch(() => {
      throw new Error("The program that trains the network could not be fetched.");
    });
    engine ??= await openEngine({ description: model.get("network"),
      weights: { format: "drawn", seed: settings.seed } });
    Object.assign(run, { kind: engine.kind, kernels: engine.kernels });
    const begun = performance.now();
    const options = { ...run.settings, watched: model.get("digits").length, known: run.points.length };
    const progress = (point) => {
      run.points.push(point);
      heard(run);
    };
    try {
      run.weights = await engine.train(options, { signal, progress });
      run.done = true;
    } catch (error) {
      if (!signal.aborted) throw error;
      run.weights = run.points.length ? await engine.weights() : null;
    } finally {
      run.seconds += (performance.now() - begun) / 1000;
    }
  };
  return run;
}

/** A run that was recorded, or the first part of a longer one, or null if there is none. */
export function recordedRun(model, settings) {
  const record = model.get("runs").find((one) =>
    againstTheSame(one, settings) && one.epochs >= settings.epochs);
  if (!record) return null;
  const run = { ...newRun(settings), recorded: true };
  const last = settings.epochs;
  run.go = async ({ signal, heard }) => {
    for (let epoch = run.points.length; epoch <= last && !signal.aborted; epoch += 1) {
      const [clean, fgsm, pgd] = record.points[epoch];
      const images = epoch === record.epochs ? decodeLevels(record.images) : [];
      run.points.push({ epoch, clean, fgsm, pgd, images, answers: record.answers[epoch] });
      heard(run);
      if (!NO_MOTION.matches) await new Promise((resolve) => setTimeout(resolve, PACE));
    }
    run.done = run.points.length > last;
  };
  return run;
}

/** Pictures of 64 pixels, in 255ths. */
function decodeLevels(text) {
  const levels = Float32Array.from(decodeBase64(`,${text}`), (level) => level / 255);
  return Array.from({ length: levels.length / 64 }, (_, i) => levels.subarray(64 * i, 64 * i + 64));
}

/** The weights as a lab takes them. */
export const encodeWeights = (bytes) =>
  btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
