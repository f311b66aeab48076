// A network described by data: { shape, mean, std, layers }, each layer { kind, ... }.
//
//   conv     { name, out, kernel, stride, padding }      relu      {}
//   linear   { name, out }                               max_pool  { kernel, stride, ceil }
//   concat   { branches: [[layer, ...], ...] }           mean      {}, over each plane
//
// It computes logits, and the gradient of its loss in the pixels of an image: operations run first
// to last, then their adjoints last to first. That is all there is to backpropagation. On the way
// back each layer can find the gradient in its weights, too, which is all that training needs.

import { addLayers, addNormalise, count, listWeights, makeTensor } from "./layers.js";
import { readWeights } from "./weights.js";

/** The layers of a network that have weights: { name, shape } each. */
export const layersWithWeights = ({ layers, shape }) => listWeights(layers, shape);

/** The weights of a network, from a file's bytes. */
export const readNetworkWeights = (bytes, format, description) =>
  readWeights(bytes, format, layersWithWeights(description), description);

/** Build a network from its description, the weights of `readWeights` and the operations of
 * `openKernels`. Its calls must not overlap, since they share what is in between. `pause`, if
 * given, is awaited after every operation; it may throw, to cancel. */
export function buildNetwork({ shape, mean, std, layers }, weights, kernels) {
  const program = [];
  const image = makeTensor(kernels, shape);
  const context = { kernels, program, weights, scratch: makeScratch(kernels) };
  const neutral = mean.every((number) => number === 0) && std.every((number) => number === 1);
  const first = neutral ? image : addNormalise(context, image, mean, std);
  const last = addLayers(context, layers, first);
  const backwards = [...program].reverse();

  /** The layers with weights, ready to learn: { name, parameters, renew } each. `parameters` has
   * weight and bias as { values, gradient }, blocks; after a change of values comes `renew`. `prepare`
   * is learn.js's. */
  let learners;
  const learn = (prepare) =>
    (learners ??= program.flatMap((operation) => operation.teach?.(prepare) ?? []));

  /** Logits, as float32. */
  async function forward(pixels, pause) {
    if (pixels.length !== image.length) {
      throw new RangeError(`image: ${image.length} numbers expected, ${pixels.length} received.`);
    }
    kernels.view(image.values).set(pixels);
    for (const operation of program) {
      operation.forward();
      if (pause) await pause();
    }
    return kernels.view(last.values).slice();
  }

  /** Logits, cross-entropy for a class, and its gradient in the pixels; with `learning`, that in all
   * weights besides, which is added to what stands there. */
  async function gradient(pixels, label, pause, learning = false) {
    const logits = await forward(pixels, pause);
    const loss = crossEntropy(logits, label);
    const slope = softmax(logits);
    slope[label] -= 1;
    kernels.view(last.gradient).set(slope);
    for (const operation of backwards) {
      if (learning) operation.learn?.();
      operation.adjoint();
      if (pause) await pause();
    }
    return { logits, loss, gradient: kernels.view(image.gradient).slice() };
  }

  return { shape, length: count(shape), classes: last.length, kernels, forward, gradient, learn };
}

/** Probabilities. In float64, because the loss has slope p - 1 in the logit of its class: where p
 * is nearly 1, float32 would leave little of that. */
export function softmax(logits) {
  const greatest = logits.reduce((a, b) => Math.max(a, b));
  const powers = Float64Array.from(logits, (logit) => Math.exp(logit - greatest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

/** -log p of a class, to the last digit also where p is nearly 1. */
export function crossEntropy(logits, label) {
  if (!(label in logits)) {
    const classes = `a class from 0 to ${logits.length - 1}`;
    throw new RangeError(`label: ${classes} expected, ${label} received.`);
  }
  const greatest = logits.reduce((best, logit, i) => (logit > logits[best] ? i : best), 0);
  const rest = logits.reduce((sum, logit, i) =>
    (i === greatest ? sum : sum + Math.exp(logit - logits[greatest])), 0);
  return logits[greatest] - logits[label] + Math.log1p(rest);
}

/** Two blocks that all convolutions share, as long as the longest needs. */
function makeScratch(kernels) {
  const scratch = { wide: kernels.allocate(0), result: kernels.allocate(0) };
  scratch.reserve = (wide, result) => {
    if (wide > scratch.wide.length) scratch.wide = kernels.allocate(wide);
    if (result > scratch.result.length) scratch.result = kernels.allocate(result);
  };
  return scratch;
}
