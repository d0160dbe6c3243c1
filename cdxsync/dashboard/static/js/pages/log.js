/** The audit log: filters, older rows on demand, and new ones as they come. */

import { get } from "../api.js";
import { empty, fill, h } from "../dom.js";
import { count, counted } from "../format.js";
import { logColumns } from "../log_rows.js";
import { complain } from "../notices.js";
import { actionButton } from "../parts.js";
import { every } from "../polling.js";
import { keepInAddress } from "../addresses.js";
import { bodyRow, headRow } from "../table.js";

const PAGE = 100;
const LIVE_SECONDS = 2;
/** Rows that are there at most; the oldest go first while the log runs on. */
const MOST = 1000;

const ACTIONS = [
  ["admin.", "Admins"],
  ["auth.", "Credentials"],
  ["access.", "Refused calls"],
  ["register", "Registrations"],
  ["slash.", "Prompts"],
  ["token.", "Usage"],
  ["admin.pki.", "Certificates"],
];

/** The rows after one, the newest first; of a great many only the newest. */
async function newerThan(after, wanted, signal) {
  const rows = [];
  let before;
  do {
    const page = await get("logs", { ...wanted, after, before, limit: PAGE }, signal);
    rows.push(...page.logs);
    before = page.next_before;
  } while (before && rows.length < MOST);
  return rows;
}

/** Draw the page. */
export async function logPage({ head, body, query, signal }) {
  const filter = { action: query.get("action") ?? "", q: query.get("q") ?? "", host: query.get("host") ?? "" };
  const columns = logColumns();
  const lines = h("tbody", { role: "rowgroup", id: "log-rows" });
  const none = h("div");
  const older = h("div", { class: "toolbar after" });
  const state = h("span", { class: "live", id: "log-live" });
  const said = h("p", { class: "visually-hidden", role: "status" });
  let newest = 0;
  /** @type {number | null} */
  let before = null;
  let paused = false;
  /** Goes up with every change of the filter; what was asked for before is then no longer wanted. */
  let turn = 0;
  /** Whether the rows are those of the filter; reading them may have failed. */
  let loaded = false;

  const wanted = () => ({ action: filter.action, q: filter.q, host_id: filter.host });
  const line = (row) => bodyRow(columns, row, { "data-id": row.id });

  const load = async () => {
    turn += 1;
    const mine = turn;
    loaded = false;
    keepInAddress("log", filter);
    const page = await get("logs", { ...wanted(), limit: PAGE }, signal);
    if (mine !== turn) return;
    loaded = true;
    fill(lines, page.logs.map(line));
    newest = page.logs[0]?.id ?? 0;
    before = page.next_before;
    settle();
  };
  const more = async () => {
    const [mine, from] = [turn, before];
    const page = await get("logs", { ...wanted(), limit: PAGE, before }, signal);
    if (mine !== turn || from !== before) return; // another list by now, or one whose end has gone
    lines.append(...page.logs.map(line));
    before = page.next_before;
    settle();
  };
  const follow = async () => {
    if (paused) return;
    if (!loaded) return await load();
    const mine = turn;
    const rows = await newerThan(newest, wanted(), signal);
    if (!rows.length || paused || mine !== turn) return;
    newest = rows[0].id;
    lines.prepend(...rows.map(line));
    while (lines.children.length > MOST) {
      lines.lastElementChild.remove();
      before = Number(lines.lastElementChild.dataset.id);
    }
    said.textContent = `${counted(rows.length, "new row")}, the newest: ${rows[0].action}`;
    settle();
  };
  const settle = () => {
    fill(none, lines.children.length ? null : empty("No row matches."));
    fill(
      older,
      before ? actionButton("Older rows", more) : null,
      h("span", { class: "muted" }, `${count(lines.children.length)} rows shown${before ? "" : ", to the first"}`),
    );
  };
  const pause = h(
    "button",
    {
      type: "button",
      id: "log-pause",
      "aria-pressed": "false",
      onclick: () => {
        paused = !paused;
        pause.setAttribute("aria-pressed", String(paused));
        say();
      },
    },
    "Pause",
  );
  /** @param {Error | null} [error] */
  const say = (error = null) => {
    state.classList.toggle("on", !paused && !error);
    state.textContent = paused ? "Paused" : error ? `Not live: ${error.message}` : "Live";
  };

  const reload = () =>
    load().catch((error) => {
      if (!signal.aborted) complain(error);
    });
  const search = h("input", {
    type: "search",
    id: "log-search",
    value: filter.q,
    placeholder: "Actor, details, host",
    "aria-label": "Search the log",
    onchange: () => {
      filter.q = search.value.trim();
      reload();
    },
  });
  const actions = h(
    "select",
    {
      id: "log-action",
      "aria-label": "Kind of row",
      onchange: () => {
        filter.action = actions.value;
        reload();
      },
    },
    h("option", { value: "" }, "All kinds"),
    ACTIONS.map(([value, name]) => h("option", { value }, name)),
  );
  actions.value = filter.action;
  const host = h("div");
  if (filter.host) {
    const { host: found } = await get(`hosts/${encodeURIComponent(filter.host)}`, {}, signal);
    const all = h(
      "button",
      {
        type: "button",
        class: "quiet",
        onclick: () => {
          filter.host = "";
          fill(host);
          reload();
        },
      },
      `Only ${found.fqdn} ✕`,
    );
    fill(host, all);
  }

  await load();
  say();
  head.append(h("div", { class: "push" }, state, pause));
  const box = h(
    "div",
    { class: "table-box page", role: "region", "aria-label": "Audit log", tabindex: "0" },
    h(
      "table",
      { role: "table", class: "data cards" },
      h("caption", { class: "visually-hidden" }, "Audit log, the newest first"),
      h("thead", { role: "rowgroup" }, headRow(columns)),
      lines,
    ),
  );
  fill(
    body,
    h("div", { class: "toolbar" }, search, actions, host),
    said,
    h("section", { class: "card", "aria-label": "Rows" }, box, none),
    older,
  );
  every(LIVE_SECONDS, follow, signal, say);
}
