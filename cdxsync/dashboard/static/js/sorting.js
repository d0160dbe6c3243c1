/** Putting rows in order. Pure functions. */

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

/** Compares two values of one column: texts by their numbers (`web2` before `web10`); none comes last, either way. */
export function compare(a, b, descending = false) {
  const noneA = isNone(a);
  const noneB = isNone(b);
  if (noneA || noneB) return Number(noneA) - Number(noneB);
  const order = typeof a === "number" && typeof b === "number" ? a - b : collator.compare(String(a), String(b));
  return descending ? -order : order;
}

function isNone(value) {
  return value === null || value === undefined || value === "" || Number.isNaN(value);
}

/**
 * The rows in another array, in order; equal ones stay as they stand.
 *
 * @template T
 * @param {T[]} rows
 * @param {(row: T) => any} value
 * @param {boolean} [descending]
 * @returns {T[]}
 */
export function sorted(rows, value, descending = false) {
  return rows
    .map((row) => ({ row, value: value(row) }))
    .sort((a, b) => compare(a.value, b.value, descending))
    .map((pair) => pair.row);
}
