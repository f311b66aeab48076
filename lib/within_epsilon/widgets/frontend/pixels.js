// Pictures as numbers, and numbers as pictures: exact to the pixel, in float32 as in the notebook.
// Arrays hold a picture channel by channel, row by row, as torch and the engine have it.

import { takeStep } from "./engine/ball.js";
import { html } from "./explorer.js";

/** The bytes behind a data URI. */
export function decodeBase64(uri) {
  return Uint8Array.from(atob(uri.slice(uri.indexOf(",") + 1)), (char) => char.charCodeAt(0));
}

/** The 8-bit values of a PNG, row by row, pixel by pixel, channel by channel. */
async function decodePng(uri, [channels, height, width]) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  const canvas = html("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  return Uint8Array.from({ length: channels * height * width },
    (_, i) => data[4 * Math.floor(i / channels) + (i % channels)]);
}

/** Numbers stored pixel by pixel, channel by channel. */
function planes(values, [channels, height, width], Type) {
  const area = height * width;
  const sorted = new Type(values.length);
  for (let i = 0; i < area; i += 1) {
    for (let c = 0; c < channels; c += 1) sorted[c * area + i] = values[channels * i + c];
  }
  return sorted;
}

/** Pixels in [0, 1] as float32: k / 255 where a PNG says it all, raw numbers elsewhere. */
export async function decodePixels(uri, shape) {
  const values = uri.startsWith("data:image/png")
    ? Float32Array.from(await decodePng(uri, shape), (level) => level / 255)
    : new Float32Array(decodeBase64(uri).buffer);
  return planes(values, shape, Float32Array);
}

/** Signs -1, 0, 1, stored as 0, 128, 255, a pixel's channels side by side. */
export async function decodeSigns(uri, [channels, height, width]) {
  const levels = await decodePng(uri, [1, height, width * channels]);
  const signs = Int8Array.from(levels, (level) => Math.round(level / 127.5) - 1);
  return planes(signs, [channels, height, width], Int8Array);
}

/** The image moved by epsilon times `moves`, each from -1 to 1, within the ball and [0, 1]. */
export function moveBy(clean, moves, epsilon) {
  const moved = clean.slice();
  takeStep(clean, moved, moves, epsilon, epsilon, (move) => move);
  return moved;
}

/** How much a perturbation of this size is enlarged, so that it shows: a power of two. */
export const amplification = (epsilon) =>
  (epsilon > 0 ? 2 ** Math.max(0, Math.floor(-Math.log2(2 * epsilon))) : 1);

/** The difference of two pictures around mid-grey, k times as large. */
export function difference(clean, moved, k) {
  const grey = new Float64Array(clean.length);
  for (let i = 0; i < clean.length; i += 1) grey[i] = 0.5 + k * (moved[i] - clean[i]);
  return grey;
}

/** A picture with its caption; `paint(values, caption)` is exact to the pixel, in 8 bits. */
export function picture([channels, height, width], label) {
  const canvas = html("canvas", { width, height, role: "img", "aria-label": label });
  const caption = html("figcaption");
  const context = canvas.getContext("2d");
  const area = height * width;
  const paint = (values, text) => {
    const bits = context.createImageData(width, height);
    for (let i = 0; i < area; i += 1) {
      for (let c = 0; c < 3; c += 1) bits.data[4 * i + c] = 255 * values[(c % channels) * area + i];
      bits.data[4 * i + 3] = 255;
    }
    context.putImageData(bits, 0, 0);
    caption.textContent = text;
  };
  return { node: html("figure", {}, canvas, caption), paint };
}

/** Clean | perturbation | adversarial, side by side at their true size, small ones enlarged. */
export function triptych(shape) {
  const pictures = ["clean image", "perturbation", "adversarial image"]
    .map((what) => picture(shape, what));
  const node = html("div", { class: `pictures ${shape[2] < 100 ? "pixelated" : ""}` },
    ...pictures.map((one) => one.node));
  node.style.setProperty("--shown", `${shape[2] < 100 ? 200 : shape[2]}px`);
  return { node, pictures };
}

// Three photos of 224 pixels just fill a column of the book: the gaps give way before they do.
export const PICTURES_CSS = `
.pictures { display: grid; justify-content: center;
  gap: clamp(0px, calc((100cqw - 3 * var(--shown)) / 4), 8px);
  grid-template-columns: repeat(3, minmax(0, var(--shown))); }
.pictures figure { text-align: center; font-size: 14px; }
canvas { display: block; width: 100%; height: auto; border-radius: 3px; }
.pixelated canvas { image-rendering: pixelated; }
figcaption { padding: 4px 0 0; line-height: 1.3; white-space: nowrap; }
@container (max-width: 520px) { .pictures { gap: 6px; padding: 0 6px; } }
@container (max-width: 400px) { figcaption { font-size: 11.5px; } }
`;
