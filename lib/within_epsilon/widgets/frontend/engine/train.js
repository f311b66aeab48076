// Training inside a page: minibatches of digits, an adversary that changes them, and Adam.
//
// A trainer goes on where it was stopped, in the middle of an epoch too, and comes to the same
// weights: what is random depends on the seed, the epoch and the example alone.

import { takeStep } from "./ball.js";
import { fetchBytes } from "./fetching.js";
import { prepareLayer } from "./learn.js";
import { makeRandom } from "./random.js";

const BATCH = 64;
const ADAM = { rate: 2e-3, means: [0.9, 0.999], least: 1e-8 }; // torch's, but for the rate
const JUDGE = { steps: 20, reach: 2.5 }; // PGD that judges: as the library's, but for the steps
const LEVELS = 16;

/** The digits to train on and those held out, from digits.bin: two counts, labels, 64 levels each. */
export async function loadDigits() {
  const packed = await fetchBytes(new URL("./digits.bin", import.meta.url).href);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return readDigits(new Uint8Array(await new Response(stream).arrayBuffer()));
}

export function readDigits(bytes) {
  const counts = [0, 2].map((at) => bytes[at] + 256 * bytes[at + 1]);
  const total = counts[0] + counts[1];
  const labels = bytes.subarray(4, 4 + total);
  const pixels = Float32Array.from(bytes.subarray(4 + total), (level) => level / LEVELS);
  const example = (i) => ({ image: pixels.subarray(64 * i, 64 * i + 64), label: labels[i] });
  const all = Array.from({ length: total }, (_, i) => example(i));
  return { train: all.slice(0, counts[0]), heldOut: all.slice(counts[0]) };
}

/** Train a network of `buildNetwork`. `settings`: epsilon; steps of the adversary, 0 for none; where
 * it starts, `start`: "clean", "random" in the ball, or "noise", which is a random point too, but no
 * ball bounds the steps after it (N-FGSM with k = 1); epochs, seed. `watched` held-out examples are
 * shown under attack.
 *
 * `run({ pause, known, ...changed })` yields after every epoch, and before the first, { epoch, loss,
 * clean, fgsm, pgd, images, answers }: the mean training loss, how many held-out digits are read right
 * as they are, after FGSM, and after PGD; and the watched ones after PGD, with what is read there.
 * Whoever lost some when stopping it says how many points are known; what is changed holds from then
 * on. */
export function makeTrainer(network, digits, settings) {
  const { seed, watched = 0 } = settings;
  const { train, heldOut } = digits;
  const update = makeAdam(network);
  let [epoch, at, loss] = [0, train.length, 0]; // before the first epoch there is nothing to learn
  let order = [];
  const points = [];

  const randomOf = (now, place) => makeRandom((seed << 20) + (now << 12) + place);

  async function learnFrom(batch, pause) {
    update.forget();
    let sum = 0;
    for (const place of batch) {
      const { image, label } = train[place];
      const moved = await perturb(network, image, label, settings, randomOf(epoch, place));
      sum += (await network.gradient(moved, label, undefined, true)).loss;
      await pause?.();
    }
    update(1 / batch.length);
    return sum;
  }

  async function measure(pause) {
    const { epsilon } = settings;
    const hits = { clean: 0, fgsm: 0, pgd: 0 };
    const [images, answers] = [[], []];
    for (const [place, { image, label }] of heldOut.entries()) {
      const { logits, gradient } = await network.gradient(image, label);
      const clean = largest(logits) === label;
      const shown = place < watched;
      if (clean) {
        hits.clean += 1;
        const stepped = image.slice();
        takeStep(image, stepped, gradient, epsilon, epsilon);
        if (largest(await network.forward(stepped)) === label) hits.fgsm += 1;
      }
      if (clean || shown) {
        const found = await judge(network, image, label, epsilon, makeRandom(place));
        if (clean && found.answer === label) hits.pgd += 1;
        if (shown) [images[place], answers[place]] = [found.image, found.answer];
      }
      await pause?.();
    }
    return { epoch, loss: loss / train.length, ...hits, images, answers };
  }

  async function* run({ pause, known = points.length, ...changed } = {}) {
    Object.assign(settings, changed);
    yield* points.slice(known);
    while (epoch <= settings.epochs) {
      for (; at < train.length; at += BATCH) {
        loss += await learnFrom(order.slice(at, at + BATCH), pause);
      }
      const point = await measure(pause);
      epoch += 1;
      order = shuffle(train.length, randomOf(epoch, train.length));
      [at, loss] = [0, 0];
      points.push(point);
      yield point;
    }
  }

  return { run, weights: update.weights };
}

const largest = (numbers) =>
  numbers.reduce((best, number, i) => (number > numbers[best] ? i : best), 0);

function shuffle(length, random) {
  const order = Array.from({ length }, (_, i) => i);
  for (let last = length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
}

/** The example that the adversary makes of an image. One step is epsilon long, as in FGSM, and 1.25
 * epsilon from a random point; several are 2.5 epsilon / steps, after noise epsilon / steps. */
async function perturb(network, clean, label, { epsilon, steps, start }, random) {
  if (!steps || !epsilon) return clean;
  const image = clean.slice();
  if (start !== "clean") moveAtRandom(clean, image, epsilon, random);
  const reach = start === "noise" || (steps === 1 && start === "clean") ? 1 : steps === 1 ? 1.25 : 2.5;
  const bound = start === "noise" ? 1 : epsilon; // 1: the pixel range alone
  for (let step = 0; step < steps; step += 1) {
    const { gradient } = await network.gradient(image, label);
    takeStep(clean, image, gradient, (reach * epsilon) / steps, bound);
  }
  return image;
}

/** To a point of the ball, all alike likely. */
const moveAtRandom = (clean, image, epsilon, random) =>
  takeStep(clean, image, image.map(() => 2 * random() - 1), epsilon, epsilon, (share) => share);

/** PGD from a random start, until it has found another answer. */
async function judge(network, clean, label, epsilon, random) {
  const image = clean.slice();
  moveAtRandom(clean, image, epsilon, random);
  for (let step = 0; step < JUDGE.steps; step += 1) {
    const { logits, gradient } = await network.gradient(image, label);
    const answer = largest(logits);
    if (answer !== label) return { image, answer };
    takeStep(clean, image, gradient, (JUDGE.reach * epsilon) / JUDGE.steps, epsilon);
  }
  return { image, answer: largest(await network.forward(image)) };
}

/** Adam, on all weights and biases: `update(share)` takes a step along `share` times the gradients
 * that have been added up since `update.forget()`. */
function makeAdam(network) {
  const { view } = network.kernels;
  const learners = network.learn(prepareLayer);
  const parts = learners.flatMap(({ name, parameters }) => Object.entries(parameters)
    .map(([kind, blocks]) => ({ name: `${name}.${kind}`, ...blocks,
      moments: [0, 1].map(() => new Float32Array(blocks.values.length)) })));
  const [b1, b2] = ADAM.means;
  let steps = 0;
  const update = (share) => {
    steps += 1;
    const stride = ADAM.rate / (1 - b1 ** steps);
    const root = Math.sqrt(1 - b2 ** steps);
    for (const { values, gradient, moments: [mean, square] } of parts) {
      const [theta, slopes] = [view(values), view(gradient)];
      for (let i = 0; i < theta.length; i += 1) {
        const slope = share * slopes[i];
        mean[i] += (1 - b1) * (slope - mean[i]);
        square[i] = b2 * square[i] + (1 - b2) * slope * slope;
        theta[i] -= (stride * mean[i]) / (Math.sqrt(square[i]) / root + ADAM.least);
      }
    }
    for (const { renew } of learners) renew();
  };
  update.forget = () => { for (const { gradient } of parts) view(gradient).fill(0); };
  update.weights = () => writeSafetensors(parts.map(({ name, values }) => [name, view(values)]));
  return update;
}

/** The weights as `readWeights` takes them. */
function writeSafetensors(tensors) {
  let end = 0;
  const header = Object.fromEntries(tensors.map(([name, { length }]) =>
    [name, { dtype: "F32", shape: [length], data_offsets: [end, end += 4 * length] }]));
  const text = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + end);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  for (const [name, numbers] of tensors) {
    const { buffer, byteOffset, byteLength } = numbers;
    const start = 8 + text.length + header[name].data_offsets[0];
    bytes.set(new Uint8Array(buffer, byteOffset, byteLength), start);
  }
  return bytes;
}
