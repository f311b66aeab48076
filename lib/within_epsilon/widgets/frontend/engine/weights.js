// Weights from files: SqueezeNet's by Deep Compression, all others as safetensors. Both become, for
// each layer by name, { positions, values, bias }: its weights other than 0, where each stands in
// the flattened array (out, in, row, column), and one bias per output channel.

import { count } from "./layers.js";

const CODES = 256;
// What SqueezeNet was trained on: blue, green, red, 0 to 255, minus these.
const BGR_MEAN = [104, 117, 123];

const damaged = (how) => new Error(`The weights are damaged: ${how}.`);

/** Check length and SHA-256. Returns whether the hash was checked: a page that came by plain http
 * from another machine has no means to, and relies on the file's structure. */
export async function verify(bytes, { size, sha256 }) {
  if (size != null && bytes.length !== size) {
    throw damaged(`${size} bytes expected, ${bytes.length} received`);
  }
  if (!sha256 || !globalThis.crypto?.subtle) return false;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const hex = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (hex !== sha256) throw damaged(`their SHA-256 is ${hex}, not ${sha256}`);
  return true;
}

/** Read weights for the layers of a network, each { name, shape: [out, in, rows, columns] }. */
export function readWeights(bytes, format, layers, normalisation) {
  if (format === "safetensors") return readSafetensors(bytes, layers);
  if (format === "deep-compression") return readDeepCompression(bytes, layers, normalisation);
  throw new Error(`There is no reader for weights of format ${format}.`);
}

/** Little-endian numbers from any offset. */
const numbers = (Type, bytes, from, length) =>
  new Type(bytes.slice(from, from + length * Type.BYTES_PER_ELEMENT).buffer);

function assertFinite(array, name) {
  if (!array.every(Number.isFinite)) {
    throw damaged(`${name} has numbers that are not finite`);
  }
}

function readSafetensors(bytes, layers) {
  const tensors = safetensors(bytes);
  return new Map(layers.map(({ name, shape }) => {
    const weight = tensors(`${name}.weight`, count(shape));
    const positions = Uint32Array.from(weight.keys()).filter((i) => weight[i] !== 0);
    const values = Float32Array.from(positions, (i) => weight[i]);
    return [name, { positions, values, bias: tensors(`${name}.bias`, shape[0]) }];
  }));
}

/** Eight bytes with the length of a JSON header, the header, the numbers. */
function safetensors(bytes) {
  let header;
  let start;
  try {
    start = 8 + Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true));
    header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
  } catch {
    throw damaged("their header cannot be read");
  }
  return (name, length) => {
    const { dtype, data_offsets: [from, to] = [] } = header[name] ?? {};
    if (dtype !== "F32" || to - from !== 4 * length || start + to > bytes.length) {
      throw damaged(`expected ${length} float32 for ${name}`);
    }
    const array = numbers(Float32Array, bytes, start + from, length);
    assertFinite(array, name);
    return array;
  };
}

/** See within_epsilon/deep_compression.py for the format. */
function readDeepCompression(bytes, layers, normalisation) {
  const header = 4 * layers.length;
  if (bytes.length < header) throw damaged("they end within the header");
  const counts = numbers(Uint32Array, bytes, 0, layers.length);
  const sizes = layers.map(({ shape }, i) =>
    4 * CODES + 4 * shape[0] + counts[i] + Math.ceil(counts[i] / 2));
  const total = sizes.reduce((sum, size) => sum + size, header);
  if (total !== bytes.length) {
    throw damaged(`${total} bytes expected by their header, ${bytes.length} received`);
  }
  let at = header;
  const weights = new Map(layers.map((layer, i) => {
    const decoded = decodeLayer(bytes.subarray(at, at + sizes[i]), counts[i], layer);
    at += sizes[i];
    return [layer.name, decoded];
  }));
  foldNormalisation(weights.get(layers[0].name), layers[0].shape, normalisation);
  return weights;
}

function decodeLayer(bytes, n, { name, shape }) {
  const codebook = numbers(Float32Array, bytes, 0, CODES);
  const bias = numbers(Float32Array, bytes, 4 * CODES, shape[0]);
  const codes = bytes.subarray(4 * (CODES + shape[0]));
  const gaps = codes.subarray(n);
  const positions = new Uint32Array(n);
  const values = new Float32Array(n);
  let kept = 0;
  let position = -1;
  for (let i = 0; i < n; i += 1) {
    position += 1 + ((gaps[i >> 1] >> (4 * (i & 1))) & 15);
    if (!codes[i]) continue; // a weight 0, stored only where a gap is longer than 16
    positions[kept] = position;
    values[kept] = codebook[codes[i]];
    kept += 1;
  }
  if (position >= count(shape)) {
    throw damaged(`${name} has a weight at ${position} of ${count(shape)}`);
  }
  assertFinite(codebook, name);
  assertFinite(bias, name);
  return { positions: positions.subarray(0, kept), values: values.subarray(0, kept), bias };
}

/** Let a first convolution that was trained on BGR bytes take normalised RGB: 255 p - m equals
 * 255 std z + (255 mean - m), per channel. Exact where the convolution pads nothing. */
function foldNormalisation({ positions, values, bias }, shape, { mean, std }) {
  const area = shape[2] * shape[3];
  const shifts = Float64Array.from(bias);
  positions.forEach((position, i) => {
    const channel = Math.floor(position / area) % 3;
    const rgb = 2 - channel;
    shifts[Math.floor(position / (3 * area))] += values[i] * (255 * mean[rgb] - BGR_MEAN[channel]);
    values[i] *= 255 * std[rgb];
    positions[i] = position + (rgb - channel) * area;
  });
  bias.set(shifts);
}
