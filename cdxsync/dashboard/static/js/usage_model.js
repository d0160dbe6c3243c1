/** Token counts of a month, as charts and tables show them. Pure functions. */

/**
 * What makes up a total: output, input that was cached and input that was not; and what was counted without telling.
 * `input` is without `cached`, and `reasoning` is a part of `output` (`docs/protocol.md 6.1`).
 *
 * @param {{total: number, input: number, output: number, cached: number}} counts
 */
export function partsOf({ total, input, output, cached }) {
  return { fresh: input, cached, output, other: Math.max(0, total - input - cached - output) };
}

const PARTS = [
  { part: "output", name: "Output", colour: 1 },
  { part: "fresh", name: "Input", colour: 2 },
  { part: "cached", name: "Cached input", colour: 3 },
  { part: "other", name: "Not told apart", colour: 4 },
];

/**
 * The series of a chart for the days `days`, from rows that have a `day` and counts; parts that are nothing on all
 * days are left out, but for the first.
 *
 * @param {any[]} rows
 * @param {string[]} days
 */
export function tokenSeries(rows, days) {
  const byDay = new Map(rows.map((row) => [row.day, partsOf(row)]));
  const series = PARTS.map(({ part, name, colour }) => ({
    name,
    colour,
    values: days.map((day) => byDay.get(day)?.[part] ?? 0),
  }));
  return series.filter((one, index) => index === 0 || one.values.some((value) => value > 0));
}

/** The one series of what the days cost. */
export function costSeries(rows, days) {
  const byDay = new Map(rows.map((row) => [row.day, row.cost ?? 0]));
  return [{ name: "Cost", colour: 1, values: days.map((day) => byDay.get(day) ?? 0) }];
}

/**
 * Data for stacked bars: the positions, and then the cumulative values, the highest first.
 *
 * @param {number[][]} layers the first at the bottom
 * @param {number} length
 */
export function stack(layers, length) {
  const positions = Array.from({ length }, (_, index) => index);
  const sums = new Array(length).fill(0);
  const cumulative = layers.map((values) => values.map((value, index) => (sums[index] += value)));
  return [positions, ...cumulative.reverse()];
}

/** The day's number for the axis: `7`; nothing for positions that are no day. */
export function daysShort(day) {
  return day ? String(Number(day.slice(8))) : "";
}
