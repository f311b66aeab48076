// What a page or a widget talks to: a network that runs in a worker, or on the main thread where
// workers are missing, by the same calls. See README.md.

import { makeCalls, makeEngine } from "./calls.js";
import { fetchBytes, fetchFile } from "./fetching.js";

const SERVER = new URL("./worker.js", import.meta.url);

/** Open a network. Nothing is loaded before this is called.
 *
 * `description` is the network as data, `weights` { url or bytes, format, size, sha256 }, or for one
 * that is yet to be trained { format: "drawn", seed };
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
  if (weights.bytes || weights.format === "drawn") return weights;
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
    const { shape, categories } = description;
    return makeEngine(call, { kind: line.value.kind, ...facts, shape, categories });
  } catch (error) {
    call?.close("The engine was closed.");
    throw error;
  }
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
  const { serve } = await import(SERVER).catch(() => {
    throw new Error("The program that runs the network could not be fetched.");
  });
  const line = { kind: "main thread", close() {} };
  line.send = serve((message) => line.hear(message));
  return line;
}
