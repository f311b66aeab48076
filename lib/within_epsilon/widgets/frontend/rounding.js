// Bounds with fewer digits: a lower one is rounded down, an upper one up.

export function roundedDown(value, digits) {
  const text = value.toFixed(digits);
  return Number(text) <= value ? text : (Number(text) - 10 ** -digits).toFixed(digits);
}
export const roundedUp = (value, digits) => (-roundedDown(-value, digits)).toFixed(digits);

/** A lower bound of a share, below 1, with the digits that tell it from 100%. */
export function shareAtLeast(bound) {
  const digits = Math.max(1, Math.ceil(-Math.log10(1 - bound)) - 2);
  return `${roundedDown(100 * bound, digits)}%`;
}
