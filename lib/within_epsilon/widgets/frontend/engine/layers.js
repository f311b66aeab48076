// What each kind of layer does, in both directions. A layer becomes operations { forward, adjoint }
// in a program; `forward` fills the values of its output from those of its input, `adjoint` the
// gradient of its input from that of its output. An operation with weights has `teach` besides, for
// learn.js: from then on `learn` adds the gradient in its weights to theirs.

/** How many numbers a shape (channels, height, width) holds. */
export const count = (shape) => shape.reduce((product, length) => product * length, 1);

/** Numbers between two layers, and the gradient in them. */
export function makeTensor(kernels, shape) {
  const length = count(shape);
  return { shape, length, values: kernels.allocate(length), gradient: kernels.allocate(length) };
}

/** The shape after a layer. */
export function shapeAfter(layer, shape) {
  const [channels, height, width] = shape;
  const { kind, kernel, stride, padding, out } = layer;
  if (kind === "conv") {
    const windows = (length) => Math.floor((length + 2 * padding - kernel) / stride) + 1;
    return [out, windows(height), windows(width)];
  }
  if (kind === "max_pool") {
    const windows = (length) => {
      const last = (length - kernel) / stride;
      if (!layer.ceil) return Math.floor(last) + 1;
      // Those that hang over the edge count, too, if they start inside.
      return Math.min(Math.ceil(last), Math.ceil(length / stride) - 1) + 1;
    };
    return [channels, windows(height), windows(width)];
  }
  if (kind === "linear") return [out, 1, 1];
  if (kind === "mean") return [channels, 1, 1];
  if (kind === "concat") {
    const ends = layer.branches.map((branch) => shapeAtEnd(branch, shape));
    return [ends.reduce((sum, end) => sum + end[0], 0), ends[0][1], ends[0][2]];
  }
  return shape;
}

const shapeAtEnd = (layers, shape) =>
  layers.reduce((before, layer) => shapeAfter(layer, before), shape);

/** What `readWeights` is to look for: { name, shape } of each layer with weights, in order. */
export function listWeights(layers, shape) {
  const found = [];
  layers.reduce((before, layer) => {
    const { kind, name, kernel, branches } = layer;
    if (kind === "conv") found.push({ name, shape: [layer.out, before[0], kernel, kernel] });
    if (kind === "linear") found.push({ name, shape: [layer.out, count(before), 1, 1] });
    for (const branch of branches ?? []) found.push(...listWeights(branch, before));
    return shapeAfter(layer, before);
  }, shape);
  return found;
}

/** Add layers to a program; returns their output, which is `target` if that is given. */
export function addLayers(context, layers, input, target) {
  const lastMade = layers.findLastIndex(({ kind }) => kind !== "relu");
  return layers.reduce((before, layer, i) => {
    const add = KINDS[layer.kind];
    if (!add) throw new Error(`The engine has no layers of kind ${layer.kind}.`);
    if (layer.kind === "relu") return add(context, before);
    const shape = shapeAfter(layer, before.shape);
    const output = i === lastMade && target ? target : makeTensor(context.kernels, shape);
    add(context, before, output, layer);
    return output;
  }, input);
}

/** (pixel - mean) / std, per channel. */
export function addNormalise({ kernels, program }, input, mean, std) {
  const [channels, height, width] = input.shape;
  const size = [channels, height * width];
  const [means, stds] = [mean, std].map((numbers) => fill(kernels, Float32Array, numbers));
  const output = makeTensor(kernels, input.shape);
  program.push({
    forward: () => kernels.normalise(input.values, ...size, means, stds, output.values),
    adjoint: () => kernels.normalise_adjoint(output.gradient, ...size, stds, input.gradient),
  });
  return output;
}

const KINDS = {
  conv: addConvolution,

  /** Each output sees each number, as a convolution does that sees planes of one number each. */
  linear(context, input, output, { name }) {
    const flat = { ...input, shape: [input.length, 1, 1] };
    addConvolution(context, flat, output, { name, kernel: 1, stride: 1, padding: 0 });
  },

  /** In place, since nobody asks later for what was not positive; so none may begin a branch. */
  relu({ kernels, program }, both) {
    program.push({
      forward: () => kernels.relu(both.values, both.length),
      adjoint: () => kernels.relu_adjoint(both.values, both.length, both.gradient),
    });
    return both;
  },

  max_pool({ kernels, program }, input, output, { kernel, stride }) {
    const [, height, width] = output.shape;
    const size = [...input.shape, kernel, stride, height, width];
    const row = kernels.allocate(input.shape[2] + kernel);
    program.push({
      forward: () => kernels.max_pool(input.values, ...size, row, output.values),
      adjoint: () => kernels.max_pool_adjoint(input.values, ...size, output.values, output.gradient,
        input.gradient),
    });
  },

  mean({ kernels, program }, input, output) {
    const [channels, height, width] = input.shape;
    const size = [channels, height * width];
    program.push({
      forward: () => kernels.mean(input.values, ...size, output.values),
      adjoint: () => kernels.mean_adjoint(output.gradient, ...size, input.gradient),
    });
  },

  /** Branches with one input and their outputs side by side; the input's gradient is their sum. */
  concat(context, input, output, { branches }) {
    const { kernels, program } = context;
    const others = branches.slice(1).map(() => kernels.allocate(input.length));
    program.push({
      forward() {},
      adjoint() {
        for (const gradient of others) kernels.add(gradient, input.length, input.gradient);
      },
    });
    let from = 0;
    branches.forEach((layers, i) => {
      if (layers[0].kind === "relu") throw new Error("A branch cannot begin with relu.");
      const own = i === 0 ? input : { ...input, gradient: others[i - 1] };
      const shape = shapeAtEnd(layers, input.shape);
      const length = count(shape);
      const [values, gradient] = [output.values, output.gradient]
        .map((block) => kernels.slice(block, from, length));
      addLayers(context, layers, own, { shape, length, values, gradient });
      from += length;
    });
  },
};

/** How planes lie in memory so that `convolve` of kernels.c can run over them. */
function planLayout({ kernel, stride, padding }, shape, outShape) {
  const [channels, , width] = shape;
  const [planes, outHeight, outWidth] = outShape;
  const reach = Math.ceil(kernel / stride) - 1; // how far, within a phase, the kernel sees
  const pitch = stride > 1 ? outWidth + reach : Math.max(width + padding, outWidth);
  const rows = outHeight + reach;
  return { kernel, stride, padding, planes, reach, pitch, rows,
    filter: channels * kernel ** 2, // weights of an output plane
    phases: channels * stride ** 2,
    length: rows * pitch, // of a phase, after `padding` zeros
    outLength: outHeight * pitch, // of an output plane, after `guard` zeros
    guard: reach * (pitch + 1),
    asIs: kernel === 1 && stride === 1 && padding === 0 }; // as the planes lie anyway
}

/** The taps of a convolution, and a function that makes those of its adjoint; `renew` brings both up
 * to date when the values have changed. */
function makeTaps(kernels, plan, weights) {
  const { kernel, stride, padding, planes, pitch, filter, phases, length, outLength, guard } = plan;
  // For each weight of a filter: its phase, and from how far it reads there and back.
  const [phase, there, back] = [0, 1, 2].map(() => new Int32Array(filter));
  for (let i = 0; i < filter; i += 1) {
    const [row, column] = [Math.floor(i / kernel) % kernel, i % kernel];
    const [top, left] = [row % stride, column % stride];
    const distance = ((row - top) / stride) * pitch + (column - left) / stride;
    phase[i] = (Math.floor(i / kernel ** 2) * stride + top) * stride + left;
    there[i] = phase[i] * (padding + length) + padding + distance;
    back[i] = guard - distance;
  }
  const positions = fill(kernels, Int32Array, weights.positions);
  const values = fill(kernels, Float32Array, weights.values);
  const renewals = [];
  const make = (count, targets, distances, step) => {
    const starts = kernels.allocate(count + 2);
    const taps = kernels.allocate(2 * values.length);
    const offsets = fill(kernels, Int32Array, distances);
    const renew = () => kernels.make_taps(positions, values, values.length, filter, targets, offsets,
      step, count, starts, taps);
    renewals.push(renew);
    renew();
    return [starts, taps];
  };
  return { values, ahead: make(planes, null, there, 0),
    reverse: () => make(phases, fill(kernels, Int32Array, phase), back, guard + outLength),
    reads: () => fill(kernels, Int32Array, there),
    renew() { for (const renew of renewals) renew(); } };
}

function addConvolution({ kernels, program, weights, scratch }, input, output, layer) {
  const plan = planLayout(layer, input.shape, output.shape);
  const { stride, padding, planes, reach, pitch, rows, phases, length, outLength, guard } = plan;
  const { asIs } = plan;
  const [, outHeight, outWidth] = output.shape;
  const exact = pitch === outWidth;
  const own = weights.get(layer.name);
  const bias = fill(kernels, Float32Array, own.bias);
  let taps = makeTaps(kernels, plan, own);
  let reverse; // made when the first gradient asks for it
  const reads = phases * (padding + length) + padding + reach;
  scratch.reserve(
    Math.max(reads, planes * (guard + outLength) + guard),
    Math.max(planes * outLength, phases * length),
  );
  const spreadSlope = (wide) =>
    kernels.spread(output.gradient, ...output.shape, 1, 0, outHeight, pitch, guard, wide);
  program.push({
    forward() {
      const { wide, result } = scratch;
      const [from, to] = [asIs ? input.values : wide, exact ? output.values : result];
      if (!asIs) {
        kernels.spread(input.values, ...input.shape, stride, padding, rows, pitch, padding, wide);
      }
      kernels.convolve(from, ...taps.ahead, bias, planes, outLength, to);
      if (!exact) kernels.crop(result, planes, outHeight, outWidth, pitch, output.values);
    },
    adjoint() {
      const { wide, result } = scratch;
      const [from, to] = asIs ? [output.gradient, input.gradient] : [wide, result];
      reverse ??= taps.reverse();
      if (!asIs) spreadSlope(wide);
      kernels.convolve(from, ...reverse, null, phases, length, to);
      if (!asIs) {
        kernels.gather(result, ...input.shape, stride, padding, rows, pitch, input.gradient);
      }
    },
    teach(prepare) {
      const use = (all) => { [taps, reverse] = [makeTaps(kernels, plan, all), null]; return taps; };
      const learner = prepare({ kernels, plan, own, bias, input, output, scratch, reads, spreadSlope, use });
      this.learn = learner.learn;
      return { name: layer.name, ...learner };
    },
  });
}

/** A block that holds the given numbers. */
function fill(kernels, Type, numbers) {
  const block = kernels.allocate(numbers.length);
  kernels.view(block, Type).set(numbers);
  return block;
}
