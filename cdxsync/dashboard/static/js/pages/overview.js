/** The fleet at a glance; refreshed while it is open. */

import { call, get, isAbort } from "../api.js";
import { tokenChart } from "../chart.js";
import { fullTime, time } from "../clock.js";
import { badge, card, empty, facts, fill, h } from "../dom.js";
import { STATES } from "../fleet_state.js";
import { compact, count, counted, money } from "../format.js";
import { logTable } from "../log_rows.js";
import { offReason, runJob, versionsButton } from "../jobs.js";
import { complain, tell } from "../notices.js";
import { actionButton, findingsList, jobBadge, meter, quotaGauges, shortDigest } from "../parts.js";
import { inTurn, keepFresh, makePlaces } from "../live.js";
import { every } from "../polling.js";
import { address } from "../addresses.js";
import { table } from "../table.js";
import { daysOf, monthName, monthOf } from "../times.js";

const EVERY_SECONDS = 15;
const EXAMINE_SECONDS = 60;
const LOG_ROWS = 8;

/** Draw the page. */
export async function overviewPage({ head, body, signal }) {
  const { places, draw } = makePlaces([
    "warnings",
    "hosts",
    "canonical",
    "quota",
    "month",
    "chart",
    "versions",
    "jobs",
    "log",
  ]);
  let outside = [];
  let examined = [];
  const drawWarnings = () => {
    const warnings = warningsOf(outside, examined);
    draw("warnings", warnings, () => warningsCard(warnings));
  };

  const begin = inTurn();
  const refresh = async () => {
    const isNewest = begin();
    const month = monthOf(Date.now());
    const [data, usage, log] = await Promise.all([
      get("overview", {}, signal),
      get("usage/summary", { month }, signal),
      get("logs", { limit: LOG_ROWS }, signal),
    ]);
    if (!isNewest()) return;
    const off = (name) => offReason(data.jobs, name);
    outside = data.warnings;
    drawWarnings();
    draw("hosts", data.totals, () => hostsCard(data.totals));
    draw("canonical", [data.canonical, data.api_disabled], () => canonicalCard(data.canonical, data.api_disabled));
    draw("quota", [data.chatgpt_usage, off("chatgpt")], () => quotaCard(data.chatgpt_usage, off("chatgpt"), refresh));
    draw("month", [data.tokens_month, data.pricing_month_costs, data.tokens], () => monthCard(month, data));
    draw("chart", usage.days, () => chartCard(month, usage, signal));
    draw("versions", [data.versions, off("versions")], () => versionsCard(data.versions, off("versions"), refresh));
    draw("jobs", data.jobs, () => jobsCard(data.jobs, refresh));
    draw("log", log.logs, () => logCard(log.logs));
  };
  const examine = async () => {
    try {
      examined = (await get("doctor", {}, signal)).checks;
    } catch (error) {
      if (isAbort(error)) return;
      examined = [{ level: "warn", text: `The server could not be examined: ${error.message}`, mend: null, check: "" }];
    }
    drawWarnings();
  };
  await keepFresh(head, EVERY_SECONDS, refresh, signal);
  fill(
    body,
    h(
      "div",
      { class: "stack" },
      places.warnings,
      places.hosts,
      h(
        "div",
        { class: "grid beside" },
        h("div", { class: "w8" }, places.chart),
        h("div", { class: "side-column stack" }, places.canonical, places.quota, places.month, places.versions),
        h("div", { class: "w8 stack" }, places.jobs, places.log),
      ),
    ),
  );
  await examine();
  every(EXAMINE_SECONDS, examine, signal);
}

/** What `doctor` has found, and the overview's warnings that are not among that. */
function warningsOf(outside, examined) {
  const found = examined.filter(({ level }) => level !== "ok");
  const texts = new Set(found.map(({ text }) => text));
  const others = outside.filter(({ message }) => !texts.has(message));
  return [...others.map(({ message }) => ({ level: "warn", text: message, mend: null, check: "" })), ...found];
}

function warningsCard(warnings) {
  if (!warnings.length) return null;
  return card(`To look at (${count(warnings.length)})`, { flush: true, body: findingsList(warnings, "") });
}

function hostsCard(totals) {
  const parts = Object.entries(STATES).filter(([state]) => totals[state] !== undefined);
  return card(counted(totals.hosts, "host"), {
    actions: [h("a", { href: "#/hosts", class: "small" }, "All hosts")],
    body: [
      totals.hosts
        ? meter(
            parts.map(([state, { fill: name }]) => ({ fill: name, part: totals[state] })),
            totals.hosts,
          )
        : null,
      h(
        "ul",
        { class: "tiles", id: "host-states" },
        parts.map(([state, { name, fill: kind, help }]) =>
          h(
            "li",
            null,
            h(
              "a",
              { class: "tile", href: address("hosts", { state }), title: help },
              h("span", { class: "value" }, count(totals[state])),
              h("span", { class: "name" }, h("i", { class: `dot ${kind}` }), name),
            ),
          ),
        ),
      ),
    ],
  });
}

function canonicalCard(document, apiDisabled) {
  const link = h("a", { href: "#/auth", class: "small" }, "History");
  const flag = apiDisabled ? h("div", { class: "callout" }, "The flag api_disabled is set.") : null;
  if (!document) {
    return card("Canonical auth.json", {
      actions: [link],
      body: [
        flag,
        empty(
          "The fleet has none yet. Log in on one host with cdx login, or ",
          h("a", { href: "#/auth" }, "upload one"),
          ".",
        ),
      ],
    });
  }
  return card("Canonical auth.json", {
    actions: [link],
    body: [
      flag,
      facts([
        ["Refreshed", fullTime(document.last_refresh)],
        ["Source", document.source],
        ["Stored", fullTime(document.stored_at)],
        ["Digest", shortDigest(document.digest)],
      ]),
    ],
  });
}

function quotaCard(row, off, refresh) {
  const update = actionButton(
    "Read now",
    async () => {
      const answer = await call("POST", "chatgpt/usage/refresh", { body: {} });
      if (answer.pending) tell("The quota is being read; it takes longer than usual");
      else if (answer.last_error) complain(new Error(`The quota could not be read: ${answer.last_error.error}`));
      else tell("The quota was read");
      await refresh();
    },
    "quiet",
    "quota-read",
  );
  const actions = off ? [] : [update];
  if (!row) return card("ChatGPT quota", { actions, body: empty(off ? `Not read: ${off}.` : "Not read yet.") });
  const failed = row.status !== "ok" ? h("div", { class: "callout" }, row.error) : null;
  return card(row.plan_type ? `ChatGPT quota · ${row.plan_type}` : "ChatGPT quota", {
    actions,
    body: [
      failed,
      row.rate_limit_reached ? h("p", null, badge("Limit reached", "bad")) : null,
      failed ? null : quotaGauges(row),
    ],
    footer: ["Read ", time(row.fetched_at)],
  });
}

function monthCard(month, data) {
  const costs = Object.entries(data.pricing_month_costs);
  const cost = costs.length
    ? costs.map(([currency, total]) => money(total, currency)).join(" + ")
    : money(0, data.pricing.currency);
  const unpriced = data.pricing_unpriced_models;
  return card(monthName(month), {
    actions: [h("a", { href: "#/usage", class: "small" }, "Usage")],
    body: [
      h(
        "div",
        { class: "tiles" },
        h(
          "div",
          { class: "tile" },
          h("span", { class: "value" }, compact(data.tokens_month.total)),
          h("span", { class: "name" }, "tokens"),
        ),
        h("div", { class: "tile" }, h("span", { class: "value" }, cost), h("span", { class: "name" }, "cost")),
      ),
      facts([
        ["Exactly", `${count(data.tokens_month.total)} tokens`],
        ["Reports", count(data.tokens_month.events)],
        ["Of all time", `${count(data.tokens.total)} tokens`],
        [
          "Most used by",
          data.tokens.top_host
            ? h("a", { href: `#/hosts/${data.tokens.top_host.host_id}` }, data.tokens.top_host.fqdn)
            : null,
        ],
        ["No price for", unpriced.length ? unpriced.join(", ") : null],
      ]),
    ],
  });
}

function chartCard(month, usage, signal) {
  const days = daysOf(month, new Date().toISOString().slice(0, 10));
  return card("Tokens by day", {
    body: usage.days.length
      ? tokenChart(month, days, usage.days, signal)
      : empty("No usage was reported this month."),
  });
}

function versionsCard(versions, off, refresh) {
  return card("Versions", {
    actions: off ? [] : [versionsButton(refresh)],
    body: facts([
      ["Newest Codex", versions.client_version ?? "unknown"],
      [
        "Checked",
        versions.client_version_checked_at
          ? [time(versions.client_version_checked_at), versions.client_version_source === "cache_stale" ? " (old)" : ""]
          : "never",
      ],
      ["Highest on a host", versions.reported_client_version ?? "none yet"],
      ["cdx", versions.wrapper_version],
    ]),
  });
}

function jobsCard(jobs, refresh) {
  const columns = [
    { title: "Job", head: true, cell: (job) => h("span", { title: job.help }, job.name) },
    { title: "State", cell: jobBadge },
    { title: "Last success", cell: (job) => time(job.last_succeeded_at) },
    {
      title: "Next",
      cell: (job) => (job.state === "off" ? job.off_reason : time(job.next_run, { none: "when asked for" })),
    },
    {
      title: "",
      className: "actions",
      cell: (job) =>
        job.state === "off" ? null : actionButton("Run", () => runJob(job.name, refresh), "quiet", `run-${job.name}`),
    },
  ];
  return card("Jobs", { flush: true, body: table({ label: "Background jobs", columns, rows: jobs }) });
}

function logCard(rows) {
  return card("Latest in the log", {
    flush: true,
    actions: [h("a", { href: "#/log", class: "small" }, "Log")],
    body: logTable(rows, { ofHost: false }),
  });
}
