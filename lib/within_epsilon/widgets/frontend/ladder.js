// Where a lab's network runs: in the notebook's kernel if there is one, else in this page, in a
// worker or on its thread. Nothing is loaded before `open` is called. All labs of a page share a
// network; it is closed when the page is left, and opened again by the next call.

import { makeCalls, makeEngine } from "./engine/calls.js";

const CLIENT = new URL("./engine/client.js", import.meta.url);

// What the page has opened: key → { opening, engine, heard, hearers, stop, seats }.
const shared = new Map();
let listening = false;

/** A place at a network, for as long as a lab stands. `place` is its index among the model's
 * networks; `hear` is told { loaded, total } of its bytes. `open()` gives the engine. */
export function takeSeat(model, place, hear = () => {}) {
  const network = model.get("networks")[place];
  if (model.send) return kernelSeat(model, place);
  const key = network.shipped ?? network.weights;
  const leave = () => {
    const entry = shared.get(key);
    if (entry?.hearers.delete(hear) && entry.hearers.size === 0) drop(key);
  };
  const open = () => {
    if (shared.get(key)?.engine?.closed()) drop(key);
    if (!shared.has(key)) shared.set(key, start(network, key));
    const entry = shared.get(key);
    entry.hearers.add(hear);
    if (entry.heard) hear(entry.heard);
    return entry.opening;
  };
  return { open, leave };
}

function start(network, key) {
  closeWhenLeft();
  const stop = new AbortController();
  const entry = { stop, hearers: new Set() };
  const progress = (heard) => {
    entry.heard = heard;
    for (const hear of entry.hearers) hear(heard);
  };
  entry.opening = load(network, { signal: stop.signal, progress }).then((engine) => {
    if (stop.signal.aborted) engine.close();
    return (entry.engine = engine);
  });
  entry.opening.catch(() => { if (shared.get(key) === entry) shared.delete(key); });
  return entry;
}

async function load({ shipped, description, weights, missing, heavy }, options) {
  if (missing) throw new Error(missing);
  let client;
  try {
    client = await import(CLIENT);
  } catch {
    throw new Error("The program that runs the network could not be fetched.");
  }
  const engine = await (shipped ? client.openShipped(shipped, options) : client.openEngine({
    description, weights: { bytes: decodeWeights(weights), format: "safetensors" }, ...options }));
  if (!heavy || engine.kernels === "wasm") return engine;
  engine.close();
  throw new Error("This browser has no WebAssembly, without which the network would be too slow.");
}

const decodeWeights = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));

function drop(key) {
  const entry = shared.get(key);
  shared.delete(key);
  entry.stop.abort(new Error("The page was left."));
  entry.engine?.close();
}

/** A page that waits in the browser's history keeps no worker. */
function closeWhenLeft() {
  if (listening) return;
  listening = true;
  addEventListener("pagehide", () => { for (const key of [...shared.keys()]) drop(key); });
}

/** The same calls, answered by the model in the kernel: see widgets/kernel.py. */
function kernelSeat(model, place) {
  let opening;
  let call;
  const open = () => {
    if (!opening || call.closed()) {
      call = makeCalls(kernelLine(model, place));
      opening = call("open", {}).then((facts) => makeEngine(call, { kind: "kernel", ...facts }));
      opening.catch(() => { opening = null; });
    }
    return opening;
  };
  return { open, leave: () => call?.close("The lab was closed.") };
}

/** Messages over the widget's own line: arrays travel beside the JSON, as buffers. */
function kernelLine(model, place) {
  const name = Math.random().toString(36).slice(2); // one kernel may serve several views
  const hear = (content, buffers) => {
    if (content.line === name) line.hear(unpack(content.message, buffers));
  };
  const gone = () => line.fail("the kernel has gone.");
  const line = {
    send(message) {
      const buffers = [];
      const packed = pack(message, buffers);
      model.send({ line: name, network: place, message: packed }, {}, buffers);
    },
    close() {
      model.off("msg:custom", hear);
      model.off("comm:close", gone);
    },
  };
  model.on("msg:custom", hear);
  model.on("comm:close", gone);
  return line;
}

/** A message with its arrays, all of float32, replaced by { buffer: place }. */
const pack = (message, buffers) => JSON.parse(JSON.stringify(message, (_, item) => {
  if (!ArrayBuffer.isView(item)) return item;
  return { buffer: buffers.push(item.slice().buffer) - 1 };
}));

const unpack = (message, buffers) => JSON.parse(JSON.stringify(message), (_, item) => {
  if (item?.buffer === undefined) return item;
  const bytes = buffers[item.buffer];
  const { buffer, byteOffset = 0, byteLength } = ArrayBuffer.isView(bytes) ? bytes : new DataView(bytes);
  return new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength));
});
