// PNG files, written and read here, so that no canvas comes between a file and its pixels: it would
// round transparent ones, and some browsers blur what is read back from it.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const SAMPLES = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }; // per pixel, by type of colour

const NOTE = "Description\0\0\0\0\0"; // not packed, in no language

let table;

/** The checksum of a chunk. */
function crc32(bytes) {
  table ??= Uint32Array.from({ length: 256 }, (_, n) => {
    let c = n;
    for (let bit = 0; bit < 8; bit += 1) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
    return c;
  });
  let crc = 0xffffffff;
  for (const byte of bytes) crc = table[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

async function pipe(bytes, transform) {
  const stream = new Blob([bytes]).stream().pipeThrough(transform);
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function chunk(name, data) {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(name), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

/** Pixels in [0, 1], channel by channel, rounded to 8 bits, as the bytes of a PNG; `note` says in
 * the file what it is. */
export async function writePng(pixels, [channels, height, width], note = "") {
  if (typeof CompressionStream === "undefined") {
    throw new Error("This browser is too old to write a PNG.");
  }
  const area = height * width;
  const levels = new Uint8ClampedArray(pixels.length); // rounds to the nearest
  for (let i = 0; i < area; i += 1) {
    for (let c = 0; c < channels; c += 1) levels[channels * i + c] = 255 * pixels[c * area + i];
  }
  const stride = channels * width;
  const lines = new Uint8Array(height * (stride + 1));
  for (let y = 0; y < height; y += 1) {
    const line = lines.subarray(y * (stride + 1), (y + 1) * (stride + 1));
    line[0] = 1; // every byte less the one a pixel to the left: packs better
    for (let x = 0; x < stride; x += 1) {
      line[x + 1] = levels[y * stride + x] - (x < channels ? 0 : levels[y * stride + x - channels]);
    }
  }
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header.set([8, channels === 3 ? 2 : 0], 8);
  const data = await pipe(lines, new CompressionStream("deflate"));
  const text = note ? [chunk("iTXt", new TextEncoder().encode(NOTE + note))] : [];
  const parts = [chunk("IHDR", header), ...text, chunk("IDAT", data), chunk("IEND", new Uint8Array(0))];
  return new Uint8Array(await new Blob([new Uint8Array(SIGNATURE), ...parts]).arrayBuffer());
}

/** The chunks of a PNG by name, those of the same name joined; null for other files. */
function findChunks(bytes) {
  if (SIGNATURE.some((byte, i) => bytes[i] !== byte)) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const chunks = {};
  for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) {
    const name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    (chunks[name] ??= []).push(bytes.subarray(at + 8, at + 8 + view.getUint32(at)));
  }
  return chunks;
}

/** The note that `writePng` put into a file, or an empty string. */
export function readNote(bytes) {
  const texts = (findChunks(bytes)?.iTXt ?? []).map((data) => new TextDecoder().decode(data));
  return texts.find((text) => text.startsWith(NOTE))?.slice(NOTE.length) ?? "";
}

/** What a byte is stored less: nothing, its left neighbour, the one above, their mean, or the one
 * of three that is nearest to left + above - corner. */
const PREDICTIONS = [
  () => 0,
  (left) => left,
  (left, above) => above,
  (left, above) => (left + above) >> 1,
  (left, above, corner) => {
    const a = Math.abs(above - corner);
    const b = Math.abs(left - corner);
    const c = Math.abs(left + above - 2 * corner);
    if (a <= b && a <= c) return left;
    return b <= c ? above : corner;
  },
];

/** Undo the filters of all lines, in place; `back` bytes to the left is the pixel before. */
function unfilter(lines, stride, height, back) {
  let above = new Uint8Array(stride);
  for (let y = 0; y < height; y += 1) {
    const start = y * (stride + 1);
    const predict = PREDICTIONS[lines[start]];
    const line = lines.subarray(start + 1, start + 1 + stride);
    for (let x = 0; x < back; x += 1) line[x] += predict(0, above[x], 0);
    for (let x = back; x < stride; x += 1) {
      line[x] += predict(line[x - back], above[x], above[x - back]);
    }
    above = line;
  }
}

/** Read a PNG into { width, height, data } with red, green, blue and 255 per pixel; transparency
 * lies on white. Pixels are Pillow's. Null where the browser has to read the file: it is no PNG, its
 * lines are interlaced, or its camera was turned. */
export async function readPng(bytes) {
  const chunks = findChunks(bytes);
  if (!chunks?.IHDR || !chunks.IDAT || chunks.eXIf || typeof DecompressionStream === "undefined") {
    return null;
  }
  const [header] = chunks.IHDR;
  const view = new DataView(header.buffer, header.byteOffset, 13);
  const [width, height] = [view.getUint32(0), view.getUint32(4)];
  const [depth, type, , , interlaced] = header.subarray(8);
  if (interlaced) return null;
  const bits = depth * SAMPLES[type];
  const stride = Math.ceil((width * bits) / 8);
  const packed = new Uint8Array(await new Blob(chunks.IDAT).arrayBuffer());
  const lines = await pipe(packed, new DecompressionStream("deflate"));
  if (lines.length < height * (stride + 1)) throw new Error("The file ends too soon.");
  unfilter(lines, stride, height, Math.max(1, bits >> 3));
  const data = new Uint8Array(4 * width * height);
  const paint = makePainter({ depth, type, palette: chunks.PLTE?.[0], clear: chunks.tRNS?.[0] }, data);
  for (let y = 0; y < height; y += 1) {
    const line = lines.subarray(y * (stride + 1) + 1, (y + 1) * (stride + 1));
    for (let x = 0; x < width; x += 1) paint(4 * (y * width + x), line, x);
  }
  return { width, height, data };
}

/** A function that puts pixel x of a line at a place in `data`, on white. */
function makePainter({ depth, type, palette, clear }, data) {
  const samples = SAMPLES[type];
  const scale = depth < 8 && type !== 3 ? 255 / (2 ** depth - 1) : 1;
  // A colour that stands for nothing at all.
  const key = clear && type !== 3 && depth <= 8
    ? Array.from({ length: samples }, (_, i) => clear[2 * i + 1]) : null;
  const raw = (line, i) => {
    if (depth === 8) return line[i];
    // Grey is rounded to 8 bits, colours are cut: as Pillow has it.
    if (depth === 16) return type ? line[2 * i] : Math.round((256 * line[2 * i] + line[2 * i + 1]) / 257);
    const perByte = 8 / depth;
    const shift = 8 - depth * (1 + (i % perByte));
    return (line[Math.floor(i / perByte)] >> shift) & (2 ** depth - 1);
  };
  const alphaOf = (line, x) => {
    if (type === 3) return clear?.[raw(line, x)] ?? 255;
    if (samples % 2 === 0) return raw(line, samples * x + samples - 1);
    return key?.every((value, c) => raw(line, samples * x + c) === value) ? 0 : 255;
  };
  const level = (line, x, c) => {
    if (type === 3) return palette[3 * raw(line, x) + c];
    return scale * raw(line, samples * x + (samples >= 3 ? c : 0));
  };
  return (at, line, x) => {
    const alpha = alphaOf(line, x);
    for (let c = 0; c < 3; c += 1) {
      const sum = level(line, x, c) * alpha + 255 * (255 - alpha) + 128;
      data[at + c] = ((sum >> 8) + sum) >> 8; // a 255th, rounded as Pillow rounds
    }
    data[at + 3] = 255;
  };
}
