// What only training needs of a network: weights to begin with, and the gradient in them.

import { makeRandom } from "./random.js";

/** Weights to begin with for layers { name, shape }, drawn as torch draws those of Conv2d and Linear:
 * uniform, up to one over the root of how many numbers a weight's sum has. */
export function drawWeights(layers, seed) {
  const random = makeRandom(seed);
  return new Map(layers.map(({ name, shape: [out, ...filter] }) => {
    const terms = filter.reduce((product, side) => product * side);
    const bound = 1 / Math.sqrt(terms);
    const draw = (length) => Float32Array.from({ length }, () => bound * (2 * random() - 1));
    const length = out * terms;
    return [name, { positions: Uint32Array.from({ length }, (_, i) => i), values: draw(length),
      bias: draw(out) }];
  }));
}

/** All weights of a layer, those too that are 0 and in no list. */
function allWeights({ positions, values }, length) {
  const all = { positions: Uint32Array.from({ length }, (_, i) => i), values: new Float32Array(length) };
  positions.forEach((position, i) => { all.values[position] = values[i]; });
  return all;
}

/** Prepare a layer for training: { learn, renew, parameters }. `use` puts all weights in the place of
 * those that are not 0, and returns their taps. */
export function prepareLayer(layer) {
  const { kernels, plan, own, bias, input, output, scratch, reads, spreadSlope, use } = layer;
  const { filter, planes, stride, padding, rows, pitch, outLength, guard, asIs } = plan;
  const taps = use(allWeights(own, planes * filter));
  const offsets = taps.reads();
  const seen = asIs ? input.values : kernels.allocate(reads);
  const slopes = kernels.allocate(planes * filter);
  const biasSlopes = kernels.allocate(planes);
  const learn = () => {
    const { wide } = scratch;
    const [from, step] = asIs ? [output.gradient, outLength]
      : [kernels.slice(wide, guard, wide.length - guard), guard + outLength];
    if (!asIs) {
      kernels.spread(input.values, ...input.shape, stride, padding, rows, pitch, padding, seen);
      spreadSlope(wide);
    }
    kernels.weight_adjoint(seen, offsets, filter, from, step, planes, outLength, slopes, biasSlopes);
  };
  return { learn, renew: taps.renew, parameters: { weight: { values: taps.values, gradient: slopes },
    bias: { values: bias, gradient: biasSlopes } } };
}
