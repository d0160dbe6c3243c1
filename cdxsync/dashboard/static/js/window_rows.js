/** Which rows of a long list are to be there. Pure. */

export const ROW_PX = 36;
/** Rows above and below the view, so that the next one is there when the focus or the wheel gets to it. */
const SPARE = 12;

/**
 * Which rows to have, from `first` up to but without `last`, when the view begins at `top` and has `height` pixels.
 */
export function windowOf(total, top, height, row = ROW_PX, spare = SPARE) {
  const first = Math.max(0, Math.min(Math.floor(top / row) - spare, total));
  const last = Math.min(total, Math.ceil((top + height) / row) + spare);
  return { first, last: Math.max(first, last) };
}
