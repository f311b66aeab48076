// Unpacks a picture and brings it to the network's size: in a worker, or on the page's thread where
// a worker has no canvas.

import { readPng } from "./png.js";
import { STRIP, resample } from "./resample.js";

/** A file's pixels in [0, 1] at the shape [channels, rows, columns]. */
export async function readPixels(file, shape) {
  const picture = await readPng(new Uint8Array(await file.arrayBuffer()));
  if (picture) {
    const { width, height, data } = picture;
    const strip = (from, count) => data.subarray(4 * width * from, 4 * width * (from + count));
    return resample({ width, height, strip }, shape);
  }
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  try {
    return resample(inStrips(bitmap), shape);
  } finally {
    bitmap.close();
  }
}

/** A bitmap, laid on white, a few lines at a time: a large photo is never held twice. */
function inStrips(bitmap) {
  const { width, height } = bitmap;
  const rows = Math.min(STRIP, height);
  const canvas = typeof OffscreenCanvas === "undefined"
    ? Object.assign(document.createElement("canvas"), { width, height: rows })
    : new OffscreenCanvas(width, rows);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  const strip = (from, count) => {
    context.fillRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, -from);
    return context.getImageData(0, 0, width, count).data;
  };
  return { width, height, strip };
}

if (typeof WorkerGlobalScope !== "undefined" && globalThis instanceof WorkerGlobalScope) {
  globalThis.onmessage = ({ data: { file, shape } }) => readPixels(file, shape).then(
    (pixels) => globalThis.postMessage({ pixels }),
    (error) => globalThis.postMessage({ error: error.message }),
  );
}
