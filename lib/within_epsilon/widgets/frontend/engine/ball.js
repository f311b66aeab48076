// The l-infinity ball around an image, in float32 as the library has it: every operation rounds, so
// that the result is in the ball exactly, max(x - epsilon, 0) <= x' <= min(x + epsilon, 1).

const { fround } = Math;

/** One step of `stepSize` times the signs of a gradient, then back into the ball around `clean`.
 * Changes `image`. Uphill if `stepSize` is positive; the sign of 0 is 0. */
export function takeStep(clean, image, gradient, stepSize, epsilon, direction = Math.sign) {
  const [stride, reach] = [fround(stepSize), fround(epsilon)];
  for (let i = 0; i < clean.length; i += 1) {
    const pixel = clean[i];
    const point = fround(image[i] + fround(stride * direction(gradient[i])));
    const lower = Math.max(fround(pixel - reach), 0);
    const upper = Math.min(fround(pixel + reach), 1);
    image[i] = Math.min(Math.max(point, lower), upper);
  }
}
