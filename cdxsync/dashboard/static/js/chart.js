/** A chart of a month by day: stacked bars, what is under the pointer in words, and all of it as a table. */

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { fill, h } from "./dom.js";
import { compact, count } from "./format.js";
import { table } from "./table.js";
import { monthName } from "./times.js";
import { daysShort, stack, tokenSeries } from "./usage_model.js";

const HEIGHT = 210;

/**
 * @param {object} options
 * @param {string} options.label what is shown, such as "Tokens by day"
 * @param {string[]} options.days as `YYYY-MM-DD`
 * @param {{name: string, colour: number, values: number[]}[]} options.series stacked, the first at the bottom; `colour` is 1 to 4
 * @param {(value: number) => string} options.write how values are written
 * @param {(value: number) => string} [options.axis] how they are written beside the axis
 * @param {AbortSignal} options.signal ends it
 */
export function dayChart({ label, days, series, write, axis = write, signal }) {
  const plot = h("div", { class: "plot", role: "img", "aria-label": `${label}. The table below has the numbers.` });
  const tip = h("div", { class: "chart-tip" });
  const totals = days.map((_, day) => series.reduce((sum, one) => sum + one.values[day], 0));
  const usual = () => `${label}: ${write(totals.reduce((sum, value) => sum + value, 0))} in all`;
  tip.textContent = usual();

  const say = (index) => {
    if (index === null || index === undefined) tip.textContent = usual();
    else {
      const parts =
        series.length > 1 ? series.map((one) => `${one.name.toLowerCase()} ${write(one.values[index])}`) : [];
      tip.textContent = `${days[index]}: ${write(totals[index])}${parts.length ? ` (${parts.join(", ")})` : ""}`;
    }
  };
  draw(plot, days, series, axis, say, signal);

  const columns = [
    { title: "Day (UTC)", head: true, cell: (row) => days[row.day] },
    ...series.map((one) => ({ title: one.name, number: true, cell: (row) => write(one.values[row.day]) })),
  ];
  if (series.length > 1) columns.push({ title: "Total", number: true, cell: (row) => write(totals[row.day]) });
  const rows = days.map((_, day) => ({ day }));
  return h(
    "div",
    { class: "chart" },
    series.length > 1
      ? h(
          "div",
          { class: "legend" },
          series.map((one) => h("span", null, h("i", { class: `dot fill-${one.colour}` }), one.name)),
        )
      : null,
    plot,
    tip,
    h(
      "details",
      null,
      h("summary", null, "Show as a table"),
      table({ label, columns, rows, cards: false, tall: true }),
    ),
  );
}

/** Draw, and redraw when the width or the colours change. */
function draw(plot, days, series, axis, say, signal) {
  /** @type {any} uPlot's, which is vendored without its types */
  let chart = null;
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  const make = () => {
    const width = plot.clientWidth;
    if (!width) return;
    chart?.destroy();
    fill(plot);
    chart = new uPlot(
      optionsOf(plot, days, series, axis, say, width),
      stack(
        series.map((one) => one.values),
        days.length,
      ),
      plot,
    );
  };
  const end = new AbortController();
  const stop = () => {
    end.abort();
    sizes.disconnect();
    chart?.destroy();
  };
  const sizes = new ResizeObserver(() => {
    if (chart && !plot.isConnected)
      stop(); // a newer one stands in its place
    else if (chart?.width !== plot.clientWidth) make();
  });
  sizes.observe(plot);
  scheme.addEventListener("change", make, { signal: end.signal });
  signal.addEventListener("abort", stop, { signal: end.signal });
}

function optionsOf(plot, days, series, axis, say, width) {
  const style = getComputedStyle(plot);
  const colour = (name) => style.getPropertyValue(name).trim();
  const line = { stroke: colour("--line"), width: 1 };
  const font = `12px ${colour("--font")}`;
  const base = { stroke: colour("--muted"), font, ticks: { show: false, size: 0 } };
  const bars = uPlot.paths.bars({ size: [0.72, 40] });
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
    scales: {
      x: { time: false, range: [-0.6, days.length - 0.4] },
      y: { range: (_, __, max) => [0, max > 0 ? max * 1.06 : 1] },
    },
    axes: [
      {
        ...base,
        grid: { show: false },
        size: 26,
        values: (_, splits) => splits.map((at) => daysShort(days[at])),
        incrs: [1, 2, 5, 10],
        space: 44,
      },
      { ...base, grid: line, size: 58, values: (_, splits) => splits.map(axis), space: 38 },
    ],
    // The highest of a stack is drawn first, and the lower ones over it.
    series: [
      {},
      ...series
        .map((one) => {
          const paint = colour(`--series-${one.colour}`);
          return { fill: paint, stroke: paint, width: 0, paths: bars, points: { show: false } };
        })
        .reverse(),
    ],
    hooks: { setCursor: [(self) => say(self.cursor.idx)] },
  };
}

/**
 * The tokens of a month by day.
 *
 * @param {string} month as `YYYY-MM`
 * @param {string[]} days as `YYYY-MM-DD`
 * @param {object[]} rows the days of a summary of usage
 * @param {AbortSignal} signal ends it
 */
export function tokenChart(month, days, rows, signal) {
  return dayChart({
    label: `Tokens by day, ${monthName(month)}`,
    days,
    series: tokenSeries(rows, days),
    write: count,
    axis: compact,
    signal,
  });
}
