/** One host: its state, what it holds, its usage and its log, and all that can be done with it. */

import { get } from "../api.js";
import { tokenChart } from "../chart.js";
import { fullTime } from "../clock.js";
import { badge, card, empty, facts, fill, h } from "../dom.js";
import { HOLDS, STATES, isLate, stateOf } from "../fleet_state.js";
import { count, money } from "../format.js";
import * as actions from "../host_actions.js";
import { inTurn, keepFresh, makePlaces } from "../live.js";
import { logTable } from "../log_rows.js";
import { complain } from "../notices.js";
import { actionButton, shortDigest, stateBadge } from "../parts.js";
import { table } from "../table.js";
import { daysOf, monthName, monthOf } from "../times.js";
import { usageColumns } from "../usage_columns.js";

const EVERY_SECONDS = 10;
const ROWS = 20;

/** Draw the page. */
export async function hostPage({ head, body, params, signal, setTitle }) {
  const id = encodeURIComponent(params.id);
  const { places, draw } = makePlaces(["badge", "bar", "offer", "state", "digests", "permits", "usage", "log"]);
  places.bar.className = "push";
  const month = monthOf(Date.now());

  const begin = inTurn();
  const load = async () => {
    const isNewest = begin();
    const [{ host, offer }, auth, summary, rows, log] = await Promise.all([
      get(`hosts/${id}`, {}, signal),
      get(`hosts/${id}/auth`, {}, signal),
      get("usage/summary", { month, host_id: params.id }, signal),
      get("usage", { host_id: params.id, limit: ROWS }, signal),
      get("logs", { host_id: params.id, limit: ROWS }, signal),
    ]);
    if (!isNewest()) return;
    const state = stateOf(host, auth.canonical_digest);
    setTitle(host.fqdn);
    draw("badge", state, () => stateBadge(state));
    draw("bar", [host.status, host.fqdn, host.ip], () => bar(host, load));
    draw("offer", [host.other_account, offer], () => offerCard(host, offer, load));
    draw("state", [host, auth.canonical_digest], () => stateCard(host, state));
    draw("digests", [host.recent_digests, auth], () => digestsCard(host, auth));
    draw(
      "permits",
      [host.allow_roaming_ips, host.allow_store_auth, host.allow_store_prompts, host.allow_keep_auth],
      () => permitsCard(host, load),
    );
    draw("usage", [summary, rows], () => usageCards(month, summary, rows, signal));
    draw("log", log, () =>
      card("Log", {
        flush: true,
        actions: [h("a", { href: `#/log?host=${host.id}`, class: "small" }, "All of it")],
        body: logTable(log.logs, { ofHost: true }),
      }),
    );
  };
  await keepFresh(head, EVERY_SECONDS, load, signal);
  head.querySelector("h1").after(places.badge);
  head.append(places.bar);
  fill(
    body,
    h(
      "div",
      { class: "grid" },
      h("div", { class: "w4 stack" }, places.offer, places.state, places.digests, places.permits),
      h("div", { class: "w8 stack" }, places.usage, places.log),
    ),
  );
}

function bar(host, load) {
  const button = (id, label, run, kind = "") => actionButton(label, run, kind, `do-${id}`);
  return [
    button("rotate", "Rotate key", () => actions.registerDialog({ fqdn: host.fqdn, done: load })),
    host.ip ? button("unbind", "Unbind", () => actions.unbind(host, load)) : null,
    button("clear", "Clear", () => actions.clear(host, load)),
    host.status === "active"
      ? button("active", "Disable", () => actions.setActive(host, false, load))
      : button("active", "Enable", () => actions.setActive(host, true, load)),
    button(
      "delete",
      "Delete",
      () =>
        actions.deleteHost(host, () => {
          location.hash = "#/hosts";
        }),
      "danger",
    ),
  ];
}

function stateCard(host, state) {
  return card("State", {
    body: facts([
      ["State", [STATES[state].name, h("span", { class: "muted" }, `: ${STATES[state].help}`)]],
      ["Blocked", host.blocked_at ? fullTime(host.blocked_at) : null],
      ["Last call", fullTime(host.last_seen_at)],
      ["Address", host.ip ?? "none yet; the next call binds it"],
      ["Credentials of", fullTime(host.last_refresh, "none")],
      ["Holds", [HOLDS[host.holds ?? "nothing"], host.given_at ? [", since ", fullTime(host.given_at)] : null]],
      ["Background sync", backgroundText(host.background_sync)],
      ["Codex", host.client_version ?? "–"],
      ["cdx", host.wrapper_version ?? "–"],
      ["Calls", count(host.api_calls)],
      ["Registered", fullTime(host.created_at)],
      ["Id", String(host.id)],
    ]),
  });
}

/** The sync that runs on the host every few minutes, in words. */
function backgroundText(sync) {
  if (!sync) return "none; on the host: cdx --watch install";
  const late = isLate(sync, Date.now()) ? ". It should have called again; on the host: cdx --watch status" : null;
  return [`by ${sync.by}, last `, fullTime(sync.at), late];
}

/** What becomes of logins of other accounts than the fleet's; nothing where there is none and no rule. */
function offerCard(host, offer, load) {
  const rule = host.other_account;
  if (!offer && rule === "ask") return [];
  const said = {
    ask: "It stays on the host until you take it.",
    once: "It becomes the fleet's login when the host calls.",
    always: "Every login of another account that the host has becomes the fleet's.",
    never: "It stays on the host; nothing warns of it.",
  };
  const button = (id, label, wanted, kind = "") =>
    actionButton(label, () => actions.takeLogin(host, offer, wanted, load), kind, `login-${id}`);
  return card("Login of another account", {
    body: [
      offer
        ? facts([
            ["Account", offer.account],
            ["Since", fullTime(offer.first_seen_at)],
            ["Digest", shortDigest(offer.digest)],
          ])
        : null,
      h("p", { id: "login-rule" }, said[rule]),
      h(
        "div",
        { class: "toolbar" },
        offer && rule !== "once" && rule !== "always" ? button("once", "Take it", "once", "danger") : null,
        rule === "always" ? null : button("always", "Always", "always", "danger"),
        rule === "never" ? null : button("never", "Never", "never"),
        rule === "ask" ? null : button("ask", "Ask again", "ask"),
      ),
    ],
  });
}

function digestsCard(host, auth) {
  const fleet = auth.canonical_digest;
  const name = (digest) =>
    digest === fleet
      ? badge("the fleet's", "good")
      : digest === host.canonical_digest
        ? badge("held last", "warn")
        : null;
  const columns = [
    { title: "Digest", head: true, cell: shortDigest },
    { title: "", cell: name },
  ];
  return card("Recent digests", {
    flush: true,
    body: table({
      label: "Recent digests, the newest first",
      columns,
      rows: host.recent_digests,
      none: "The host has reported none.",
    }),
    footer: ["The fleet's: ", shortDigest(fleet)],
  });
}

function permitsCard(host, load) {
  const box = (name, label, hint, on, set) => {
    const id = `permit-${name}`;
    const input = h("input", {
      type: "checkbox",
      id,
      checked: on,
      "aria-describedby": `${id}-hint`,
      onchange: async () => {
        input.disabled = true;
        try {
          await set(input.checked);
        } catch (error) {
          input.checked = on;
          complain(error);
        }
        input.disabled = false;
        input.focus();
        await load();
      },
    });
    return h(
      "div",
      { class: "check" },
      input,
      h("div", null, h("label", { for: id }, label), h("div", { class: "muted small", id: `${id}-hint` }, hint)),
    );
  };
  return card("What it may do", {
    body: [
      box(
        "roaming",
        "Call from any address",
        "Otherwise its key works only from the address that it is bound to.",
        host.allow_roaming_ips,
        (on) => actions.setRoaming(host, on),
      ),
      box(
        "auth",
        "Store credentials for the fleet",
        "Otherwise it only receives them; a login on it stays on it.",
        host.allow_store_auth,
        (on) => actions.setPermit(host, "store_auth", on),
      ),
      box(
        "prompts",
        "Store prompts for the fleet",
        "Otherwise it only receives them.",
        host.allow_store_prompts,
        (on) => actions.setPermit(host, "store_prompts", on),
      ),
      box(
        "keep",
        "Keep the credentials after a run",
        "Otherwise cdx removes them from the host each time.",
        host.allow_keep_auth,
        (on) => actions.setPermit(host, "keep_auth", on),
      ),
    ],
  });
}

function usageCards(month, summary, { usages }, signal) {
  const days = daysOf(month, new Date().toISOString().slice(0, 10));
  const cost = summary.totals.cost === null ? "" : ` · ${money(summary.totals.cost, summary.currency)}`;
  const chart = summary.days.length
    ? tokenChart(month, days, summary.days, signal)
    : empty("No usage reported this month.");
  return [
    card(`Usage in ${monthName(month)}: ${count(summary.totals.total)} tokens${cost}`, { body: chart }),
    card("Newest reports", {
      flush: true,
      body: table({
        label: "Newest usage reports of the host",
        cards: false,
        columns: usageColumns(usages, { withHost: false }),
        rows: usages,
        tall: true,
        none: "None yet.",
      }),
    }),
  ];
}
