// What a page or a widget talks to: a network that runs in a worker, or on the main thread where
// workers are missing, by the same calls. See README.md.

import { fetchBytes, fetchFile } from "./fetching.js";

const SERVER = new URL("./worker.js", import.meta.url);

/** Open a network. Nothing is loaded before this is called.
 *
 * `description` is the network as data, `weights` { url or bytes, format, size, sha256 };
 * `progress` hears { loaded, total } of the weights' bytes; `signal` gives up. */
export const openEngine = ({ description, weights, ...options }) =>
  open(Promise.all([description, fetchWeights(weights, options)]), options);

/** Open a network that the book ships, by its name in the manifest. */
export const openShipped = (name, options = {}) => open(findShipped(name, options), options);

async function findShipped(name, options) {
  const json = async (url) => (await fetchFile(url, options.signal)).json();
  const place = absolute(options.manifest ?? new URL("manifest.json", import.meta.url));
  const { network, weights, missing } = (await json(place))[name] ?? {};
  if (!weights) throw new Error(missing ?? `${place} names no network ${name}.`);
  const url = new URL(weights.url, place);
  return Promise.all([json(new URL(network, place)), fetchWeights({ ...weights, url }, options)]);
}

const absolute = (url) =>
  new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href).href;

async function fetchWeights({ url, ...weights }, { signal, progress }) {
  if (weights.bytes) return weights;
  const bytes = await fetchBytes(absolute(url), { signal, progress, total: weights.size });
  return { ...weights, bytes };
}

async function open(asked, { signal, worker = true, wasm = true }) {
  const started = worker ? openWorker().then((line) => line ?? openHere()) : openHere();
  const [found, line] = await Promise.allSettled([asked, started]);
  const call = line.value && makeCalls(line.value);
  try {
    for (const { reason } of [found, line]) if (reason) throw reason;
    const [description, weights] = found.value;
    const facts = await call("open", { description, weights, wasm }, { signal });
    const attack = (name) => (image, label, { signal: stop, progress: hear, ...options }) =>
      call("attack", { name, image, label, options }, { signal: stop, progress: hear });
    return {
      kind: line.value.kind,
      ...facts,
      shape: description.shape,
      categories: description.categories,
      predict: (image, { label, ...rest } = {}) => call("predict", { image, label }, rest),
      gradient: (image, label, rest = {}) => call("gradient", { image, label }, rest),
      fgsm: attack("fgsm"),
      pgd: attack("pgd"),
      noise: attack("noise"),
      close: () => call.close("The engine was closed."),
    };
  } catch (error) {
    call?.close("The engine was closed.");
    throw error;
  }
}

/** Let calls of `task` follow each other. Of those that come while one runs only the latest is run,
 * when that one is done; the others give undefined. */
export function latestWins(task) {
  let next = null;
  let busy = false;
  const work = async () => {
    busy = true;
    while (next) {
      const { items, resolve, reject } = next;
      next = null;
      await (async () => task(...items))().then(resolve, reject);
    }
    busy = false;
  };
  return (...items) => new Promise((resolve, reject) => {
    next?.resolve();
    next = { items, resolve, reject };
    if (!busy) work();
  });
}

/** A line to a worker, or null where there can be none. */
async function openWorker() {
  if (typeof Worker === "undefined") return null;
  try {
    const worker = new Worker(SERVER, { type: "module" });
    const line = { kind: "worker",
      send: (message) => worker.postMessage(message), close: () => worker.terminate() };
    await new Promise((resolve, reject) => {
      worker.onmessage = resolve;
      worker.onerror = reject;
    });
    worker.onmessage = ({ data }) => line.hear(data);
    worker.onerror = (event) => line.fail(event.message);
    return line;
  } catch {
    return null; // forbidden here, or its script cannot be had
  }
}

/** A line to the same code on this thread, which it shares in slices. */
async function openHere() {
  const { serve } = await import(SERVER);
  const line = { kind: "main thread", close() {} };
  line.send = serve((message) => line.hear(message));
  return line;
}

/** Calls over a line as promises, with progress and cancellation. */
function makeCalls(line) {
  const waiting = new Map();
  let last = 0;
  let closed = "";
  const call = (task, request, { signal, progress } = {}) => new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    if (closed) throw new Error(closed);
    const id = ++last;
    const cancel = () => {
      line.send({ cancel: id });
      finish(id)?.reject(signal.reason);
    };
    signal?.addEventListener("abort", cancel);
    const forget = () => signal?.removeEventListener("abort", cancel);
    waiting.set(id, { resolve, reject, progress, forget });
    line.send({ id, task, ...request });
  });
  const finish = (id) => {
    const one = waiting.get(id);
    waiting.delete(id);
    one?.forget();
    return one;
  };
  line.hear = ({ id, progress, result, error }) => {
    if (progress) waiting.get(id)?.progress?.(progress);
    else if (error !== undefined) finish(id)?.reject(new Error(error));
    else finish(id)?.resolve(result);
  };
  call.close = (reason) => {
    closed = reason;
    line.close();
    for (const id of [...waiting.keys()]) {
      line.send({ cancel: id });
      finish(id).reject(new Error(reason));
    }
  };
  line.fail = (reason) => call.close(`The engine stopped: ${reason}`);
  return call;
}
