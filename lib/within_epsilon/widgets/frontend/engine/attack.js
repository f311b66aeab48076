// FGSM, PGD and their control within an l-infinity ball, as `within_epsilon.attacks` has them.

import { takeStep } from "./ball.js";
import { crossEntropy } from "./network.js";
import { makeRandom } from "./random.js";

/** Projected gradient descent: yields { step, steps, image, logits, loss } at every point that it
 * visits, the start as step 0, the last as step `steps`. */
export async function* pgd(network, clean, label, options, pause) {
  const { epsilon, steps = 40, stepSize = (2.5 * epsilon) / steps, targeted = false,
    randomStart = true, seed = 0 } = options;
  check(epsilon, steps);
  const image = Float32Array.from(clean);
  if (randomStart) {
    const random = makeRandom(seed);
    takeStep(clean, image, image.map(() => 2 * random() - 1), epsilon, epsilon, (share) => share);
  }
  for (let step = 0; step < steps; step += 1) {
    const { logits, loss, gradient } = await network.gradient(image, label, pause);
    yield { step, steps, image: image.slice(), logits, loss };
    takeStep(clean, image, gradient, targeted ? -stepSize : stepSize, epsilon);
  }
  const logits = await network.forward(image, pause);
  yield { step: steps, steps, image, logits, loss: crossEntropy(logits, label) };
}

/** The fast gradient sign method: one step, as long as the ball is wide. */
export function fgsm(network, clean, label, { epsilon, targeted }, pause) {
  const options = { epsilon, targeted, steps: 1, stepSize: epsilon, randomStart: false };
  return pgd(network, clean, label, options, pause);
}

/** The control: every pixel moved by epsilon, up or down at random. Yields as `pgd` does, once. */
export async function* noise(network, clean, label, { epsilon, seed = 0 }, pause) {
  check(epsilon);
  const random = makeRandom(seed);
  const image = Float32Array.from(clean);
  takeStep(clean, image, image.map(() => random() - 0.5), epsilon, epsilon);
  const logits = await network.forward(image, pause);
  yield { step: 0, steps: 0, image, logits, loss: crossEntropy(logits, label) };
}

function check(epsilon, steps = 1) {
  if (!(epsilon >= 0 && epsilon <= 1)) {
    throw new RangeError(`epsilon: a number from 0 to 1 expected, ${epsilon} received.`);
  }
  if (!(steps >= 1)) throw new RangeError(`steps: at least 1 expected, ${steps} received.`);
}
