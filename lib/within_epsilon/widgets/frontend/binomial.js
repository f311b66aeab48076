// The one-sided bound of Clopper and Pearson, and the normal quantile: all that turns votes into a
// radius.

const LANCZOS = [0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313,
  -176.61502916214059, 12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6,
  1.5056327351493116e-7];

/** log Γ(x) for x >= 1, by Lanczos's series. */
function logGamma(x) {
  const t = x + 6.5;
  const sum = LANCZOS.reduce((total, c, i) => (i ? total + c / (x - 1 + i) : c), 0);
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(sum);
}

/** The continued fraction of the incomplete beta function, by Lentz's method. */
function betaFraction(a, b, x) {
  const tiny = 1e-300;
  const away = (value) => (Math.abs(value) < tiny ? tiny : value);
  let d = 1 / away(1 - ((a + b) * x) / (a + 1));
  let [c, product] = [1, d];
  for (let m = 1; m < 5000; m += 1) {
    const steps = [(m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m)),
      (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))];
    let factor = 1;
    for (const step of steps) {
      d = 1 / away(1 + step * d);
      c = away(1 + step / c);
      factor = c * d;
      product *= factor;
    }
    if (Math.abs(factor - 1) < 1e-15) break;
  }
  return product;
}

/** The regularised incomplete beta function I_x(a, b): the chance of at least a successes in
 * a + b - 1 trials, each with probability x. */
export function incompleteBeta(a, b, x) {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b)
    + a * Math.log(x) + b * Math.log1p(-x));
  return x < (a + 1) / (a + b + 2) ? (front * betaFraction(a, b, x)) / a
    : 1 - (front * betaFraction(b, a, 1 - x)) / b;
}

/** Clopper and Pearson's lower bound: the probability at which so many successes or more have the
 * chance alpha. */
export function lowerBound(successes, n, alpha) {
  if (successes === 0) return 0;
  if (successes === n) return alpha ** (1 / n);
  let [low, high] = [0, successes / n];
  for (let i = 0; i < 52; i += 1) {
    const middle = (low + high) / 2;
    if (incompleteBeta(successes, n - successes + 1, middle) < alpha) low = middle;
    else high = middle;
  }
  return low;
}

/** Φ(z), by a series that converges for every z. */
function normalCdf(z) {
  let [term, sum] = [z, z];
  for (let k = 3; sum + term !== sum; k += 2) {
    term *= (z * z) / k;
    sum += term;
  }
  return 0.5 + (sum * Math.exp(-0.5 * z * z)) / Math.sqrt(2 * Math.PI);
}

/** The normal quantile of a probability from 1/2 to 1 - 1e-9, by Newton's steps from 0, where they
 * never overshoot. */
export function normalQuantile(probability) {
  let z = 0;
  for (let i = 0; i < 60; i += 1) {
    const density = Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI);
    const step = (probability - normalCdf(z)) / density;
    z += step;
    if (Math.abs(step) < 1e-13) break;
  }
  return z;
}

/** What votes for a class certify: the bound of its probability, and the ℓ2 radius, 0 if it abstains. */
export function certificate(votes, n, sigma, alpha) {
  const bound = lowerBound(votes, n, alpha);
  return { bound, radius: bound > 0.5 ? sigma * normalQuantile(bound) : 0 };
}
