// A reader's own picture: looked at before it is unpacked, and refused with a sentence if it cannot
// be attacked. It stays in this page.

const READER = new URL("./picture_reader.js", import.meta.url);

// As within_epsilon.data.photo has them.
const MOST_PIXELS = 89_478_485;
const LARGEST_ASPECT_RATIO = 20;
const KNOWN = "JPEG, PNG, WebP, GIF, BMP or AVIF";

/** What a file's first bytes say that it is, as far as that helps to say why it cannot be opened. */
async function sniff(file) {
  const head = new Uint8Array(await file.slice(0, 1024).arrayBuffer());
  const text = String.fromCharCode(...head);
  if (/<svg[\s>]/i.test(text) || file.type.startsWith("image/svg")) return "SVG";
  if (/^....ftyp(hei|hev|mif1|msf1)/s.test(text)) return "HEIC";
  if (/^(II\*\0|MM\0\*)/.test(text)) return "TIFF";
  return "";
}

/** Width and height, without unpacking anything. */
async function measure(file) {
  const url = URL.createObjectURL(file);
  try {
    const image = new Image();
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = reject;
      image.src = url;
    });
    return [image.naturalWidth, image.naturalHeight];
  } finally {
    URL.revokeObjectURL(url);
  }
}

const count = (number) => number.toLocaleString("en-GB");

/** Read a picture as `within_epsilon.data.photo` does: turned as the camera was, on white, resized
 * and cropped to [channels, rows, columns]. Its pixels in [0, 1]; an Error's message is a sentence
 * for the reader. */
export async function takePicture(file, shape) {
  const name = file.name || "The picture";
  const refuse = (why) => { throw new Error(`${name} ${why}.`); };
  if (file.size === 0) refuse("is empty, 0 bytes: choose another file");
  const kind = await sniff(file).catch(() => refuse("cannot be read: is it a folder?"));
  if (kind === "SVG") refuse("is a drawing (SVG), which has no pixels: export it as PNG first");
  const foreign = kind ? `is a ${kind} picture, which this browser cannot open: save it as JPEG first`
    : `is damaged, or no picture that this browser can open: ${KNOWN}`;
  const [width, height] = await measure(file).catch(() => refuse(foreign));
  if (width * height > MOST_PIXELS) {
    refuse(`has ${count(width)} × ${count(height)} pixels, too many to unpack safely: shrink it first`);
  }
  const [short, long] = [width, height].sort((a, b) => a - b);
  if (short === 0) refuse(foreign);
  if (long > LARGEST_ASPECT_RATIO * short) {
    refuse(`is ${count(width)} × ${count(height)} pixels, too narrow for a square: crop it first`);
  }
  return read(file, shape).catch(() => refuse("is damaged: it could not be unpacked"));
}

async function read(file, shape) {
  const pixels = await readInWorker(file, shape);
  return pixels ?? (await import(READER)).readPixels(file, shape);
}

/** Null where there can be no worker, or none with a canvas. */
async function readInWorker(file, shape) {
  if (typeof Worker === "undefined" || typeof OffscreenCanvas === "undefined") return null;
  let worker;
  try {
    worker = new Worker(READER, { type: "module" });
    const { pixels, error } = await new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = () => resolve({}); // its script cannot be had
      worker.onmessageerror = reject;
      worker.postMessage({ file, shape });
    });
    if (error) throw new Error(error);
    return pixels ?? null;
  } finally {
    worker?.terminate();
  }
}
