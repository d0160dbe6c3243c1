/** Columns of tables about tokens. */

import { time } from "./clock.js";
import { h } from "./dom.js";
import { count, money } from "./format.js";

/** The counts that every row of usage has. */
export const COUNT_COLUMNS = [
  ["Total", "total"],
  ["Input", "input"],
  ["Cached", "cached"],
  ["Output", "output"],
  ["Reasoning", "reasoning"],
].map(([title, name]) => ({
  title,
  number: true,
  descendingFirst: true,
  sort: (row) => row[name],
  cell: (row) => count(row[name]),
}));

/** What a row cost, in one currency for all. */
export const costColumn = (currency) => ({
  title: "Cost",
  number: true,
  descendingFirst: true,
  sort: (row) => row.cost,
  cell: (row) => money(row.cost, currency),
});

/** A link to a host; its name alone when it was deleted. */
export function hostLink(row) {
  if (row.host_id && row.fqdn) return h("a", { href: `#/hosts/${row.host_id}` }, row.fqdn);
  return row.fqdn ?? h("span", { class: "muted" }, "deleted host");
}

/** The columns of single reports; the printed line only where one has it. */
export function usageColumns(rows, { withHost }) {
  return [
    { title: "Time", className: "nowrap", cell: (row) => time(row.created_at, { style: "short" }) },
    ...(withHost ? [{ title: "Host", className: "nowrap", cell: hostLink }] : []),
    { title: "Model", className: "nowrap", cell: (row) => row.model ?? "–" },
    ...COUNT_COLUMNS.map(({ title, number, cell }) => ({ title, number, cell })),
    ...(rows.some((row) => row.outside)
      ? [{ title: "By", className: "nowrap", cell: (row) => (row.outside ? "outside cdx" : "cdx") }]
      : []),
    ...(rows.some((row) => row.line) ? [{ title: "Line", className: "details", cell: (row) => row.line ?? "" }] : []),
  ];
}
