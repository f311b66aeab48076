// The engine's side of the conversation with client.js: in a worker, or on the main thread where
// there is none. Requests { id, task, ... } are answered in turn, { id, result } or { id, error };
// before that { id, progress } may come, and { cancel: id } ends one early.

import { fgsm, noise, pgd } from "./attack.js";
import { fetchBytes } from "./fetching.js";
import { openKernels } from "./kernels.js";
import { buildNetwork, crossEntropy, layersWithWeights, readNetworkWeights, softmax }
  from "./network.js";
import { verify } from "./weights.js";

const KERNELS = new URL("./kernels.wasm", import.meta.url);
// Few pages ask for these.
const LEARN = new URL("./learn.js", import.meta.url);
const TRAIN = new URL("./train.js", import.meta.url);
const ATTACKS = { fgsm, noise, pgd };
const SLICE = 8; // milliseconds of work between two looks at what else there is to do

/** Returns the function that takes requests; `post` sends answers. */
export function serve(post) {
  const open = new Set(); // requests that are still wanted
  const compiled = fetchBytes(KERNELS).catch(() => null); // without it all is slower
  let turn = Promise.resolve();
  let network;
  let trainer;

  /** Work stops here to let messages in, and for good if its request was cancelled. */
  const makePause = (id) => {
    let until = performance.now() + SLICE;
    return async () => {
      if (performance.now() < until) return;
      await nextTask();
      if (!open.has(id)) throw new Error("cancelled");
      until = performance.now() + SLICE;
    };
  };

  const tasks = {
    async open({ description, weights, wasm }) {
      const drawn = weights.format === "drawn";
      const verified = drawn || await verify(weights.bytes, weights);
      const own = drawn ? (await import(LEARN)).drawWeights(layersWithWeights(description), weights.seed)
        : readNetworkWeights(weights.bytes, weights.format, description);
      const kernels = await openKernels(wasm && await compiled);
      network = buildNetwork(description, own, kernels);
      trainer = null;
      return { kernels: kernels.kind, verified, classes: network.classes };
    },

    async predict({ image, label }, progress, pause) {
      const logits = await network.forward(image, pause);
      if (label == null) return withProbabilities({ logits });
      return withProbabilities({ logits, loss: crossEntropy(logits, label) });
    },

    async gradient({ image, label }, progress, pause) {
      return withProbabilities(await network.gradient(image, label, pause));
    },

    async attack({ name, image, label, options }, progress, pause) {
      let last;
      for await (const point of ATTACKS[name](network, image, label, options, pause)) {
        last = withProbabilities(point);
        if (point.step < point.steps) progress(last);
      }
      return last;
    },

    /** Goes on where it was cancelled, with other options if they have changed. */
    async train({ options }, progress, pause) {
      const { loadDigits, makeTrainer } = await import(TRAIN);
      trainer ??= makeTrainer(network, await loadDigits(), options);
      for await (const point of trainer.run({ ...options, pause })) progress(point);
      return trainer.weights();
    },

    weights: () => trainer.weights(),
  };

  async function answer({ id, task, ...request }) {
    try {
      if (!open.has(id)) return;
      const progress = (now) => open.has(id) && post({ id, progress: now });
      const result = await tasks[task](request, progress, makePause(id));
      if (open.has(id)) post({ id, result });
    } catch (error) {
      if (open.has(id)) post({ id, error: error.message });
    } finally {
      open.delete(id);
    }
  }

  return (message) => {
    if ("cancel" in message) {
      open.delete(message.cancel);
    } else {
      open.add(message.id);
      turn = turn.then(() => answer(message));
    }
  };
}

const withProbabilities = (found) => ({ ...found, probabilities: softmax(found.logits) });

/** Resolves when whatever else is waiting has had its turn; timers would keep us waiting longer. */
function nextTask() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

if (typeof WorkerGlobalScope !== "undefined" && globalThis instanceof WorkerGlobalScope) {
  const receive = serve((message) => globalThis.postMessage(message));
  globalThis.onmessage = ({ data }) => receive(data);
  globalThis.postMessage({ ready: true });
}
