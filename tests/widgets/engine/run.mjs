// The engine under Node, for the Python tests. Reads one job as JSON from standard input, answers
// with JSON; arrays travel as base64 of their bytes.

import { readFile } from "node:fs/promises";
import { json } from "node:stream/consumers";
import { pathToFileURL } from "node:url";
import { inflateSync } from "node:zlib";

const job = await json(process.stdin);
const load = (name) => import(new URL(`${name}.js`, `${pathToFileURL(job.engine)}/`));
const { openKernels } = await load("kernels");
const { drawWeights, prepareLayer } = await load("learn");
const { buildNetwork, layersWithWeights, readNetworkWeights } = await load("network");
const { takeStep } = await load("ball");
const { makeTrainer, readDigits } = await load("train");
const attacks = await load("attack");
const { verify } = await load("weights");

const decode = (text) => new Uint8Array(Buffer.from(text, "base64"));
const floats = (text) => new Float32Array(decode(text).buffer);
const encode = ({ buffer, byteOffset, byteLength }) =>
  Buffer.from(buffer, byteOffset, byteLength).toString("base64");

async function open({ description, weights, format }, wrap = (kernels) => kernels) {
  const wasm = job.kernels === "wasm" ? await readFile(`${job.engine}/kernels.wasm`) : null;
  const kernels = await openKernels(wasm);
  return buildNetwork(description, readNetworkWeights(decode(weights), format, description), wrap(kernels));
}

/** Keep on which piece of a piecewise linear network a gradient is: signs and winners. */
function watch(kernels, pieces) {
  return { ...kernels,
    relu_adjoint(y, length, gradient) {
      pieces.unshift(Uint8Array.from(kernels.view(y), (number) => (number > 0 ? 1 : 0)));
      kernels.relu_adjoint(y, length, gradient);
    },
    max_pool_adjoint(input, channels, height, width, kernel, stride, rows, columns, output, ...rest) {
      const size = [channels, height, width, kernel, stride, rows, columns];
      pieces.unshift(winners(kernels.view(input), kernels.view(output), size));
      kernels.max_pool_adjoint(input, ...size, output, ...rest);
    } };
}

/** Where each window's greatest number is, the first of several. */
function winners(input, output, [channels, height, width, kernel, stride, rows, columns]) {
  const found = new Int32Array(channels * rows * columns);
  found.forEach((_, i) => {
    const plane = Math.floor(i / (rows * columns)) * height * width;
    const [top, left] = [Math.floor(i / columns) % rows, i % columns].map((n) => n * stride);
    for (let y = Math.min(top + kernel, height) - 1; y >= top; y -= 1) {
      for (let x = Math.min(left + kernel, width) - 1; x >= left; x -= 1) {
        if (input[plane + y * width + x] === output[i]) found[i] = plane + y * width + x;
      }
    }
  });
  return found;
}

/** What a network says to a grey picture: shows with which weights it began. */
const built = async (network) => encode(await network.forward(new Float32Array(64).fill(0.5)));

const tasks = {
  async gradients({ network, images, labels }) {
    const pieces = [];
    const built = await open(network, (kernels) => watch(kernels, pieces));
    const results = [];
    for (const [i, image] of images.map(floats).entries()) {
      pieces.length = 0;
      const { logits, loss, gradient } = await built.gradient(image, labels[i]);
      results.push({ loss, logits: encode(logits), gradient: encode(gradient),
        pieces: pieces.map((piece) => ({ data: encode(piece), type: piece.BYTES_PER_ELEMENT === 1 ? "u1" : "i4" })) });
    }
    return { kernels: built.kernels.kind, results };
  },

  /** The gradient in all weights, summed over examples, and logits once a step has changed them. */
  async learn({ network, images, labels, step }) {
    const built = await open(network);
    const { view } = built.kernels;
    const learners = built.learn(prepareLayer);
    for (const [i, image] of images.map(floats).entries()) {
      await built.gradient(image, labels[i], undefined, true);
    }
    const gradients = learners.flatMap(({ name, parameters }) =>
      Object.entries(parameters).map(([kind, { gradient }]) => [`${name}.${kind}`, encode(view(gradient))]));
    for (const { parameters, renew } of learners) {
      for (const { values, gradient } of Object.values(parameters)) {
        const slopes = view(gradient);
        view(values).forEach((value, i, all) => { all[i] = value - step * slopes[i]; });
      }
      renew();
    }
    const { logits, gradient } = await built.gradient(floats(images[0]), labels[0]);
    return { gradients: Object.fromEntries(gradients), logits: encode(logits), gradient: encode(gradient) };
  },

  /** Train from drawn weights, stopped after each of some numbers of minibatches: points and weights. */
  async train({ description, options, stops = [] }) {
    const kernels = await openKernels(await readFile(`${job.engine}/kernels.wasm`));
    const drawn = drawWeights(layersWithWeights(description), options.seed);
    const network = buildNetwork(description, drawn, kernels);
    const first = await built(network);
    const digits = readDigits(new Uint8Array(inflateSync(await readFile(`${job.engine}/digits.bin`))));
    const trainer = makeTrainer(network, digits, options);
    const points = [];
    let examples = 0;
    for (const stop of [...stops, Infinity]) {
      const pause = async () => {
        examples += 1;
        if (examples === stop) throw new Error("cancelled");
      };
      try {
        for await (const { images, ...point } of trainer.run({ pause, known: points.length })) {
          points.push({ ...point, images: images.map(encode) });
        }
      } catch (error) {
        if (error.message !== "cancelled") throw error;
      }
    }
    return { points, first, weights: encode(trainer.weights()) };
  },

  async attack({ network, name, images, labels, options }) {
    const built = await open(network);
    const results = [];
    for (const [i, image] of images.map(floats).entries()) {
      const points = [];
      for await (const { step, image: now, logits, loss } of attacks[name](built, image, labels[i], options)) {
        points.push({ step, loss, image: encode(now), logits: encode(logits) });
      }
      results.push(points);
    }
    return results;
  },

  step({ clean, image, gradient, stepSize, epsilon }) {
    const moved = floats(image);
    takeStep(floats(clean), moved, floats(gradient), stepSize, epsilon);
    return encode(moved);
  },

  /** What is said of each of several files of weights; nothing is said of a good one. */
  async read({ files, format, description, size, sha256 }) {
    const said = [];
    for (const bytes of files.map(decode)) {
      try {
        await verify(bytes, { size, sha256 });
        readNetworkWeights(bytes, format, description);
        said.push("");
      } catch (error) {
        said.push(`${error.name}: ${error.message}`);
      }
    }
    return said;
  },
};

process.stdout.write(JSON.stringify(await tasks[job.task](job)));
