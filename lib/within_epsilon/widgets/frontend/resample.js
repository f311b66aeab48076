// A picture made smaller or larger as Pillow 13 does it, to the last bit: bilinear with antialiasing,
// along the lines and across them, rounded to 8 bits in between.

const BITS = 22; // behind the point of a weight
const HALF = 1 << (BITS - 1);
export const STRIP = 64; // lines to unpack at a time

/** How a picture is resized so that it just covers [rows, columns], and what is cut off. */
export function cover(width, height, rows, columns) {
  const narrow = width * rows <= height * columns;
  const wide = narrow ? columns : Math.trunc((rows * width) / height);
  const high = narrow ? Math.trunc((columns * height) / width) : rows;
  return { wide, high, left: halfOf(wide - columns), top: halfOf(high - rows) };
}

/** Half of a whole number, halves to the even one. */
function halfOf(number) {
  const floor = Math.floor(number / 2);
  return floor + (number % 2 && floor % 2 ? 1 : 0);
}

/** For `count` places from `first` on, along a side that goes from `size` to `resized` pixels: where
 * each place's window starts, and its weights. */
function findWindows(size, resized, first, count) {
  const scale = size / resized;
  const reach = Math.max(scale, 1);
  return Array.from({ length: count }, (_, i) => {
    const centre = (first + i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(size, Math.trunc(centre + reach + 0.5));
    const heights = Array.from({ length: end - start },
      (__, j) => Math.max(0, 1 - Math.abs((start + j - centre + 0.5) * (1 / reach))));
    const sum = heights.reduce((total, height) => total + height, 0);
    const weights = Int32Array.from(heights, (height) => Math.trunc(0.5 + (height / sum) * 2 ** BITS));
    return { start, end, weights };
  });
}

/** Resize and crop { width, height, strip(from, count) } to [channels, rows, columns]. `strip` gives
 * some lines, four bytes a pixel. Returns pixels in [0, 1], channel by channel. */
export function resample({ width, height, strip }, [channels, rows, columns]) {
  const { wide, high, left, top } = cover(width, height, rows, columns);
  const across = findWindows(width, wide, left, columns);
  const down = findWindows(height, high, top, rows);
  // A picture that loses much more height than width loses that first.
  const downFirst = height - high > Math.max(0, 2 * (width - wide));
  const sums = new Int32Array(4 * rows * (downFirst ? width : columns)).fill(HALF);
  for (let y = down[0].start; y < down[rows - 1].end; y += STRIP) {
    const count = Math.min(STRIP, down[rows - 1].end - y);
    const data = strip(y, count);
    addLines(sums, downFirst ? data : shrinkLines(data, width, across), y, count, down);
  }
  const stacked = Uint8Array.from(sums, (sum) => sum >> BITS);
  const levels = downFirst ? shrinkLines(stacked, width, across) : stacked;
  const area = rows * columns;
  const pixels = new Float32Array(3 * area);
  for (let i = 0; i < area; i += 1) {
    for (let c = 0; c < 3; c += 1) pixels[c * area + i] = levels[4 * i + c] / 255;
  }
  return channels === 3 ? pixels : greyOf(pixels, area);
}

/** Add `count` lines, which start at line y, to the sums of all windows that they lie in. */
function addLines(sums, data, y, count, down) {
  const stride = sums.length / down.length;
  down.forEach(({ start, end, weights }, row) => {
    for (let line = Math.max(y, start); line < Math.min(y + count, end); line += 1) {
      const [weight, from] = [weights[line - start], stride * (line - y)];
      for (let i = 0; i < stride; i += 1) sums[stride * row + i] += weight * data[from + i];
    }
  });
}

/** Bring lines of `width` pixels to as many as there are windows. */
function shrinkLines(data, width, across) {
  const count = data.length / (4 * width);
  const lines = new Uint8Array(4 * across.length * count);
  for (let y = 0; y < count; y += 1) {
    across.forEach(({ start, weights }, column) => {
      let [red, green, blue] = [HALF, HALF, HALF];
      let at = 4 * (y * width + start);
      for (let j = 0; j < weights.length; j += 1, at += 4) {
        const weight = weights[j];
        red += weight * data[at];
        green += weight * data[at + 1];
        blue += weight * data[at + 2];
      }
      lines.set([red >> BITS, green >> BITS, blue >> BITS], 4 * (y * across.length + column));
    });
  }
  return lines;
}

/** How bright a colour looks, in 8 bits. */
function greyOf(pixels, area) {
  return Float32Array.from({ length: area }, (_, i) => {
    const [red, green, blue] = [0, 1, 2].map((c) => Math.round(255 * pixels[c * area + i]));
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16) / 255;
  });
}
