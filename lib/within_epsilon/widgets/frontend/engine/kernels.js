// The operations of kernels.c behind one interface, twice: from kernels.wasm, and written out here
// in JavaScript for where WebAssembly is missing.
//
// Numbers live in blocks. `allocate(length)` gives a block of zeros, `slice(block, from, length)` a
// part of one, `view(block, Type)` its numbers as they are now; the operations take blocks.

// A convolution reads up to a run of 32 numbers past the end of a block, whatever they are.
const SLACK = 32;
const PAGE = 65536;
const CHUNK = 256; // pages to grow by, as growing takes a while

/** The operations from WebAssembly if `wasm` (bytes) compiles here, else those in JavaScript. */
export async function openKernels(wasm) {
  if (wasm) {
    try {
      return await openWasm(await WebAssembly.compile(wasm));
    } catch {
      // No WebAssembly here, or none with SIMD: slower, but the same numbers to within rounding.
    }
  }
  return { kind: "javascript", ...operations,
    allocate: (length) => new Float32Array(length + SLACK).subarray(0, length),
    slice: (block, from, length) => block.subarray(from, from + length),
    view: (block, Type = Float32Array) => new Type(block.buffer, block.byteOffset, block.length) };
}

async function openWasm(module) {
  const memory = new WebAssembly.Memory({ initial: 1 }); // the first page is the stack's
  const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
  let top = PAGE;
  const wrapped = Object.entries(exports).filter(([, item]) => typeof item === "function")
    .map(([name, run]) => [name, (...items) => run(...items.map((item) => item?.at ?? item))]);
  return { kind: "wasm", ...Object.fromEntries(wrapped),
    allocate(length) {
      const at = top;
      top = Math.ceil((at + 4 * (length + SLACK)) / 16) * 16;
      const missing = Math.ceil((top - memory.buffer.byteLength) / PAGE);
      if (missing > 0) memory.grow(Math.max(missing, CHUNK));
      return { at, length };
    },
    slice: (block, from, length) => ({ at: block.at + 4 * from, length }),
    // Made anew each time, because growing the memory detaches what was made before.
    view: ({ at, length }, Type = Float32Array) => new Type(memory.buffer, at, length) };
}

const integers = (block) => new Int32Array(block.buffer, block.byteOffset, block.length);

const operations = {
  make_taps(positions, values, length, filter, targets, offsets, step, planes, starts, taps) {
    const [at, from, first, whole] = [positions, offsets, starts, taps].map(integers);
    const to = targets && integers(targets);
    first.fill(0);
    const target = (position) => (to ? to[position % filter] : Math.floor(position / filter));
    for (let i = 0; i < length; i += 1) first[target(at[i]) + 2] += 1;
    for (let plane = 2; plane < planes + 2; plane += 1) first[plane] += first[plane - 1];
    for (let i = 0; i < length; i += 1) {
      const tap = 2 * first[target(at[i]) + 1]++;
      whole[tap] = from[at[i] % filter] + step * Math.floor(at[i] / filter);
      taps[tap + 1] = values[i];
    }
  },

  convolve(input, starts, taps, bias, planes, positions, output) {
    const [first, offset] = [starts, taps].map(integers);
    for (let plane = 0; plane < planes; plane += 1) {
      const place = output.subarray(plane * positions, (plane + 1) * positions);
      place.fill(bias ? bias[plane] : 0);
      for (let tap = 2 * first[plane]; tap < 2 * first[plane + 1]; tap += 2) {
        const [from, weight] = [offset[tap], taps[tap + 1]];
        for (let i = 0; i < place.length; i += 1) place[i] += weight * input[from + i];
      }
    }
  },

  weight_adjoint(input, offsets, filter, gradient, step, planes, positions, weights, bias) {
    const from = integers(offsets);
    for (let plane = 0; plane < planes; plane += 1) {
      const own = gradient.subarray(plane * step, plane * step + positions);
      for (let place = 0; place < filter; place += 1) {
        let sum = 0;
        for (let i = 0; i < positions; i += 1) sum += input[from[place] + i] * own[i];
        weights[plane * filter + place] += sum;
      }
      bias[plane] += own.reduce((sum, slope) => sum + slope, 0);
    }
  },

  spread(planes, channels, height, width, stride, padding, rows, pitch, guard, output) {
    output.fill(0);
    for (let channel = 0, at = 0; channel < channels; channel += 1) {
      for (let phase = 0; phase < stride * stride; phase += 1) {
        at += guard;
        for (let row = 0; row < rows; row += 1, at += pitch) {
          const y = row * stride + Math.floor(phase / stride) - padding;
          if (y < 0 || y >= height) continue;
          for (let i = 0, x = (phase % stride) - padding; i < pitch; i += 1, x += stride) {
            if (x >= 0 && x < width) output[at + i] = planes[(channel * height + y) * width + x];
          }
        }
      }
    }
  },

  gather(spread, channels, height, width, stride, padding, rows, pitch, planes) {
    let at = 0;
    for (let channel = 0; channel < channels; channel += 1) {
      for (let y = padding; y < height + padding; y += 1) {
        for (let x = padding; x < width + padding; x += 1) {
          const plane = (channel * stride + (y % stride)) * stride + (x % stride);
          const [row, column] = [Math.floor(y / stride), Math.floor(x / stride)];
          const seen = row < rows && column < pitch;
          planes[at] = seen ? spread[(plane * rows + row) * pitch + column] : 0;
          at += 1;
        }
      }
    }
  },

  crop(input, planes, height, width, pitch, output) {
    for (let row = 0; row < planes * height; row += 1) {
      output.set(input.subarray(row * pitch, row * pitch + width), row * width);
    }
  },

  relu(x, length) {
    for (let i = 0; i < length; i += 1) x[i] = x[i] > 0 ? x[i] : 0;
  },

  relu_adjoint(y, length, gradient) {
    for (let i = 0; i < length; i += 1) if (!(y[i] > 0)) gradient[i] = 0;
  },

  max_pool(input, channels, height, width, kernel, stride, outHeight, outWidth, row, output) {
    const size = [channels, height, width, kernel, stride, outHeight, outWidth];
    eachWindow(size, input, (out, where) => { output[out] = input[where]; });
  },

  max_pool_adjoint(input, channels, height, width, kernel, stride, outHeight, outWidth, output,
    gradient, inputGradient) {
    const size = [channels, height, width, kernel, stride, outHeight, outWidth];
    inputGradient.fill(0);
    eachWindow(size, input, (out, where) => { inputGradient[where] += gradient[out]; });
  },

  mean(input, channels, area, output) {
    for (let channel = 0; channel < channels; channel += 1) {
      let sum = 0;
      for (let i = 0; i < area; i += 1) sum += input[channel * area + i];
      output[channel] = sum / area;
    }
  },

  mean_adjoint(gradient, channels, area, inputGradient) {
    for (let i = 0; i < channels * area; i += 1) {
      inputGradient[i] = gradient[Math.floor(i / area)] / area;
    }
  },

  normalise(input, channels, area, mean, std, output) {
    for (let i = 0; i < channels * area; i += 1) {
      const channel = Math.floor(i / area);
      output[i] = (input[i] - mean[channel]) / std[channel];
    }
  },

  normalise_adjoint(gradient, channels, area, std, inputGradient) {
    for (let i = 0; i < channels * area; i += 1) {
      inputGradient[i] = gradient[i] / std[Math.floor(i / area)];
    }
  },

  add(term, length, sum) {
    for (let i = 0; i < length; i += 1) sum[i] += term[i];
  },
};

/** Call `visit` with the place of each window's output and of its greatest number, the first of
 * several. */
function eachWindow([channels, height, width, kernel, stride, outHeight, outWidth], input, visit) {
  for (let plane = 0, out = 0; plane < channels * height * width; plane += height * width) {
    for (let top = 0; top < outHeight * stride; top += stride) {
      for (let left = 0; left < outWidth * stride; left += stride, out += 1) {
        let where = plane + top * width + left;
        for (let y = top; y < Math.min(top + kernel, height); y += 1) {
          for (let x = left; x < Math.min(left + kernel, width); x += 1) {
            const at = plane + y * width + x;
            if (input[at] > input[where]) where = at;
          }
        }
        visit(out, where);
      }
    }
  }
}
