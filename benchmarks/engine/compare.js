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
  return {
    forward: (image) => engine.predict(image),
    gradient: (image) => engine.gradient(image, LABEL),
  };
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

/** Milliseconds of each of some rounds, [engine's, peer's], and by how much their logits and
 * gradients differ at most. Whose turn is first changes with the round. */
export async function run(rounds) {
  const image = await fetchFloats("/image.bin");
  const engine = await openEngine();
  const peer = { forward: await openPeer("forward"), gradient: await openPeer("gradient") };
  const found = { forward: { times: [], difference: 0 }, gradient: { times: [], difference: 0 } };
  for (let round = 0; round < rounds; round += 1) {
    for (const what of ["forward", "gradient"]) {
      const calls = [() => engine[what](image), () => peer[what](image)];
      const order = round % 2 ? [1, 0] : [0, 1];
      const [times, results] = [[], []];
      for (const who of order) [times[who], results[who]] = await timed(calls[who]);
      found[what].times.push(times);
      const name = what === "forward" ? "logits" : "gradient";
      const theirs = results[1][name].data;
      found[what].difference = results[0][name].reduce(
        (most, ours, i) => Math.max(most, Math.abs(ours - theirs[i])), found[what].difference);
    }
  }
  return found;
}

/** Milliseconds from nothing to a network that is trained, and how many held-out digits it reads right
 * in the end: as they are, after FGSM, after PGD. */
export async function train(options) {
  let last;
  const [milliseconds] = await timed(async () => {
    const { openEngine } = await import("./engine/client.js");
    const description = await (await fetch("/engine/networks/digits_cnn.json")).json();
    const weights = { format: "drawn", seed: options.seed };
    const engine = await openEngine({ description, weights });
    await engine.train(options, { progress: (point) => { last = point; } });
  });
  return [milliseconds, [last.clean, last.fgsm, last.pgd]];
}
