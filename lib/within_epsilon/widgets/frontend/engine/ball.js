// The l-infinity ball around an image, in float32 as the library has it: its bounds, counted in
// float64, are rounded towards the clean pixel, so that no rounding leaves the ball.

const { abs, fround } = Math;
const number = new Float32Array(1);
const bits = new Int32Array(number.buffer);

/** The float32 number nearest to `bound`, none that is further from `pixel`; both from 0 to 1. */
function roundTowards(pixel, bound) {
  number[0] = bound;
  // Read as integers, neighbouring numbers differ by 1.
  if (abs(number[0] - pixel) > abs(bound - pixel)) bits[0] += bound < pixel ? 1 : -1;
  return number[0];
}

/** One step of `stepSize` times the signs of a gradient, then back into the ball around `clean`.
 * Changes `image`. Uphill if `stepSize` is positive; the sign of 0 is 0. */
export function takeStep(clean, image, gradient, stepSize, epsilon, direction = Math.sign) {
  const stride = fround(stepSize);
  for (let i = 0; i < clean.length; i += 1) {
    const pixel = clean[i];
    const point = fround(image[i] + fround(stride * direction(gradient[i])));
    const lower = roundTowards(pixel, Math.max(pixel - epsilon, 0));
    const upper = roundTowards(pixel, Math.min(pixel + epsilon, 1));
    image[i] = Math.min(Math.max(point, lower), upper);
  }
}
