// Runs in the page: what compare.py times.

const LABEL = 285; // Egyptian cat

const fetchFloats = async (url) => new Float32Array(await (await fetch(url)).arrayBuffer());

const timed = async (run) => {
  const start = performance.now();
  const result = await run();
  return [performance.now() - start, result];
};

export async function openEngine() {
  const { openShipped } = await import("./engine/client.js");
  const engine = await openShipped("squeezenet1_0");
  return { forward: (image) => engine.predict(image), gradient: (image) => engine.gradient(image, LABEL) };
}

export async function openPeer(name) {
  const peer = await import("./peer/ort.wasm.min.mjs");
  peer.env.wasm.numThreads = 1;
  const session = await peer.InferenceSession.create(`/peer/${name}.onnx`);
  const oneHot = new Float32Array(1000);
  oneHot[LABEL] = 1;
  return (image) => {
    const images = new peer.Tensor("float32", image, [1, 3, 224, 224]);
    return session.run(name === "forward" ? { images }
      : { images, one_hot: new peer.Tensor("float32", oneHot, [1, 1000]) });
  };
}

/** Milliseconds from nothing to a network that can be called. */
export const create = async (who) =>
  (await timed(() => (who === "engine" ? openEngine() : openPeer(who))))[0];

/** Milliseconds of each of some rounds, and the greatest difference of the two gradients. */
export async function run(rounds) {
  const image = await fetchFloats("/image.bin");
  const engine = await openEngine();
  const peer = { forward: await openPeer("forward"), gradient: await openPeer("gradient") };
  const times = { forward: [], gradient: [] };
  let difference = 0;
  for (let round = 0; round < rounds; round += 1) {
    for (const what of ["forward", "gradient"]) {
      const [ours, here] = await timed(() => engine[what](image));
      const [theirs, there] = await timed(() => peer[what](image));
      times[what].push([ours, theirs]);
      const [one, two] = [here.logits, Object.values(there)[0].data];
      one.forEach((logit, i) => { difference = Math.max(difference, Math.abs(logit - two[i])); });
    }
  }
  return { times, difference };
}
