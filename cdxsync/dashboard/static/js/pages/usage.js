/** Tokens and what they cost: a month by day, model and host, and the newest reports. */

import { get } from "../api.js";
import { dayChart, tokenChart } from "../chart.js";
import { card, empty, facts, fill, h } from "../dom.js";
import { count, counted, money, price, share } from "../format.js";
import { time } from "../clock.js";
import { actionButton, meter } from "../parts.js";
import { address, keepInAddress } from "../addresses.js";
import { table } from "../table.js";
import { daysOf, monthName, monthOf, shiftMonth } from "../times.js";
import { COUNT_COLUMNS, costColumn, hostLink, usageColumns } from "../usage_columns.js";
import { costSeries } from "../usage_model.js";

const ROWS = 50;
const LINES = 50;

/** Draw the page. */
export async function usagePage({ head, body, query, signal }) {
  const current = monthOf(Date.now());
  const given = query.get("month") ?? "";
  const month = /^\d{4}-(0[1-9]|1[0-2])$/.test(given) ? given : current;
  const [summary, overview, reports, lines] = await Promise.all([
    get("usage/summary", { month }, signal),
    get("overview", {}, signal),
    get("usage", { limit: ROWS }, signal),
    get("tokens", { limit: LINES }, signal),
  ]);
  if (given !== month) keepInAddress("usage", {});
  head.append(h("div", { class: "push" }, monthPicker(month, current)));
  fill(
    body,
    h(
      "div",
      { class: "stack" },
      totalsCard(summary),
      chartCard(month, current, summary, signal),
      modelsCard(summary),
      hostsCard(summary),
      pricesCard(overview),
      card("By printed line, of all time", {
        flush: true,
        body: table({
          label: "Tokens by printed line",
          cards: false,
          columns: lineColumns(),
          rows: lines.tokens,
          tall: true,
          none: "No host has reported lines.",
        }),
      }),
      reportsCard(reports, signal),
    ),
  );
}

function monthPicker(month, current) {
  const link = (to, text, label) =>
    h("a", { class: "button", href: address("usage", { month: to }), "aria-label": label }, text);
  return [
    link(shiftMonth(month, -1), "←", `Back to ${monthName(shiftMonth(month, -1))}`),
    h("input", {
      type: "month",
      id: "usage-month",
      "aria-label": "Month",
      value: month,
      max: current,
      onchange: (event) => {
        if (event.target.value) location.hash = address("usage", { month: event.target.value });
      },
    }),
    month < current ? link(shiftMonth(month, 1), "→", `On to ${monthName(shiftMonth(month, 1))}`) : null,
  ];
}

function totalsCard({ month, totals, currency, costs: byCurrency, unpriced }) {
  const costs = Object.entries(byCurrency)
    .map(([code, amount]) => money(amount, code))
    .join(" + ");
  const tile = (value, name) =>
    h(
      "li",
      null,
      h("div", { class: "tile" }, h("span", { class: "value" }, value), h("span", { class: "name" }, name)),
    );
  return card(monthName(month), {
    body: [
      h(
        "ul",
        { class: "tiles roomy" },
        tile(count(totals.total), "tokens"),
        tile(costs || money(totals.cost, currency), "cost"),
        tile(count(totals.input), "input"),
        tile(count(totals.cached), "cached input"),
        tile(count(totals.output), "output"),
        tile(count(totals.reasoning), "of it reasoning"),
        tile(count(totals.events), "reports"),
      ),
      unpriced.length
        ? h(
            "p",
            { class: "muted small" },
            `No price is known for: ${unpriced.join(", ")}. Their tokens are not in the cost.`,
          )
        : null,
    ],
  });
}

function chartCard(month, current, summary, signal) {
  const days = daysOf(month, month === current ? new Date().toISOString().slice(0, 10) : null);
  if (!summary.days.length) return card("By day", { body: empty("No usage was reported in this month.") });
  const charts = {
    tokens: () => tokenChart(month, days, summary.days, signal),
    cost: () =>
      dayChart({
        label: `Cost by day, ${monthName(month)}`,
        days,
        series: costSeries(summary.days, days),
        write: (value) => money(value, summary.currency),
        signal,
      }),
  };
  const place = h("div");
  const choose = (kind) => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.kind === kind));
    fill(place, charts[kind]());
  };
  const buttons = [
    ["tokens", "Tokens"],
    ["cost", "Cost"],
  ].map(([kind, name]) =>
    h("button", { type: "button", class: "quiet", "data-kind": kind, onclick: () => choose(kind) }, name),
  );
  choose("tokens");
  return card("By day", { actions: buttons, body: place });
}

/** How much of the month a row is; the bars are as long as the largest row allows. */
function shareColumn(rows, totals) {
  const most = Math.max(...rows.map((row) => row.total));
  return {
    title: "Share",
    className: "share",
    cell: (row) => h("div", null, share(row.total, totals.total), meter([{ fill: "fill-1", part: row.total }], most)),
  };
}

function modelsCard({ models, totals, currency }) {
  const columns = [
    {
      title: "Model",
      head: true,
      sort: (row) => row.model,
      cell: (row) => row.model ?? h("span", { class: "muted" }, "not told"),
    },
    shareColumn(models, totals),
    ...COUNT_COLUMNS,
    costColumn(currency),
  ];
  return card("By model", {
    flush: true,
    body: table({
      label: "Tokens by model",
      cards: false,
      columns,
      rows: models,
      order: { column: 2, descending: true },
      none: "None in this month.",
    }),
  });
}

function hostsCard({ hosts, totals, currency }) {
  const columns = [
    { title: "Host", head: true, sort: (row) => row.fqdn, cell: hostLink },
    shareColumn(hosts, totals),
    ...COUNT_COLUMNS,
    costColumn(currency),
  ];
  return card("By host", {
    flush: true,
    body: table({
      label: "Tokens by host",
      cards: false,
      columns,
      rows: hosts,
      tall: true,
      order: { column: 2, descending: true },
      none: "None in this month.",
    }),
  });
}

function lineColumns() {
  return [
    { title: "Line", head: true, className: "details", cell: (row) => row.line ?? "–" },
    ...COUNT_COLUMNS.map(({ title, number, cell }) => ({ title, number, cell })),
    { title: "Reports", number: true, cell: (row) => count(row.events) },
  ];
}

function pricesCard({ pricing }) {
  return card("Price", {
    body: facts([
      ["Model", pricing.model],
      ["1,000 input tokens", price(pricing.input_price_per_1k, pricing.currency)],
      ["1,000 output tokens", price(pricing.output_price_per_1k, pricing.currency)],
      ["1,000 cached tokens", price(pricing.cached_price_per_1k, pricing.currency)],
      ["From", pricing.fetched_at ? pricing.source_url : "the settings"],
      ["Read", pricing.fetched_at ? time(pricing.fetched_at) : null],
    ]),
  });
}

/** The newest reports, and older ones on demand. */
function reportsCard(first, signal) {
  const rows = [];
  const place = h("div");
  const take = ({ usages, next_before: before }) => {
    rows.push(...usages);
    const more = async () => take(await get("usage", { limit: ROWS, before }, signal));
    fill(
      place,
      table({
        label: "Newest usage reports",
        cards: false,
        columns: usageColumns(rows, { withHost: true }),
        tall: true,
        rows: [...rows],
        none: "None yet.",
      }),
      before
        ? h("footer", null, actionButton("Older reports", more, "quiet", "usage-older"), counted(rows.length, "report"))
        : null,
    );
  };
  take(first);
  return card("Newest reports", { flush: true, body: place });
}
