/** All hosts: search, filters, order, and registering. */

import { get } from "../api.js";
import { time } from "../clock.js";
import { empty, fill, h } from "../dom.js";
import { STATES, TRAITS, countStates, haystack, matching, stateOf } from "../fleet_state.js";
import { compact, count, counted } from "../format.js";
import { registerDialog } from "../host_actions.js";
import { tell } from "../notices.js";
import { actionButton, stateBadge } from "../parts.js";
import { inTurn, keepFresh } from "../live.js";
import { keepInAddress } from "../addresses.js";
import { sorted } from "../sorting.js";
import { windowedTable } from "../windowed.js";

const EVERY_SECONDS = 15;
/** Of more hosts the list is large, and read again only by a press of the button. */
const MOST_TO_REPEAT = 1000;
const STATE_ORDER = Object.keys(STATES);

const COLUMNS = [
  {
    title: "Host",
    head: true,
    sort: (host) => host.fqdn,
    cell: (host) => h("a", { href: `#/hosts/${host.id}`, title: host.fqdn }, host.fqdn),
  },
  {
    title: "State",
    className: "c-state",
    sort: (host) => STATE_ORDER.indexOf(host.state),
    cell: (host) => stateBadge(host.state),
  },
  {
    title: "Last call",
    className: "c-call least",
    sort: (host) => host.last_seen_at,
    descendingFirst: true,
    cell: (host) => time(host.last_seen_at),
  },
  {
    title: "Document",
    className: "c-of less",
    sort: (host) => host.last_refresh,
    descendingFirst: true,
    cell: (host) => time(host.last_refresh, { none: "none" }),
  },
  {
    title: "Codex",
    className: "c-codex less",
    sort: (host) => host.client_version,
    cell: (host) => host.client_version ?? "–",
  },
  {
    title: "cdx",
    className: "c-cdx less",
    sort: (host) => host.wrapper_version,
    cell: (host) => host.wrapper_version ?? "–",
  },
  {
    title: "Address",
    className: "c-address less",
    sort: (host) => host.ip,
    cell: (host) => (host.allow_roaming_ips ? `${host.ip ?? "any"} (roams)` : (host.ip ?? "–")),
  },
  {
    title: "Calls",
    className: "c-calls less",
    number: true,
    descendingFirst: true,
    sort: (host) => host.api_calls,
    cell: (host) => count(host.api_calls),
  },
  {
    title: "Usage",
    className: "c-usage less",
    number: true,
    descendingFirst: true,
    sort: (host) => host.token_usage?.total ?? null,
    cell: (host) =>
      host.token_usage
        ? h("span", { title: `${count(host.token_usage.total)} tokens` }, compact(host.token_usage.total))
        : "–",
  },
];

/** Draw the page. */
export async function hostsPage({ head, body, query, signal }) {
  const filter = { search: query.get("q") ?? "", state: query.get("state") ?? "", trait: query.get("trait") ?? "" };
  let order = readOrder(query);
  let hosts = [];

  const result = h("p", { class: "count", role: "status", "aria-live": "polite" });
  const list = windowedTable({
    label: "Hosts",
    columns: COLUMNS,
    onSort: (wanted) => {
      order = wanted;
      draw();
    },
  });
  signal.addEventListener("abort", () => list.dispose());
  const place = h("section", { class: "card", "aria-label": "List" });
  const search = h("input", {
    type: "search",
    id: "host-search",
    value: filter.search,
    placeholder: "Name, address, version, digest",
    "aria-label": "Search hosts",
    autocomplete: "off",
    spellcheck: "false",
    oninput: () => {
      filter.search = search.value;
      list.toTop();
      draw();
    },
  });
  const states = select(
    "host-state",
    "State",
    filter.state,
    Object.entries(STATES).map(([value, { name }]) => [value, name]),
    (value) => {
      filter.state = value;
      draw();
    },
  );
  const traits = select(
    "host-trait",
    "Trait",
    filter.trait,
    Object.entries(TRAITS).map(([value, { name }]) => [value, name]),
    (value) => {
      filter.trait = value;
      draw();
    },
  );
  const clear = h(
    "button",
    {
      type: "button",
      class: "quiet",
      onclick: () => {
        Object.assign(filter, { search: "", state: "", trait: "" });
        search.value = states.value = traits.value = "";
        draw();
        search.focus();
      },
    },
    "Clear filters",
  );

  function draw() {
    keepInAddress("hosts", {
      q: filter.search,
      state: filter.state,
      trait: filter.trait,
      sort: order.column || order.descending ? `${order.descending ? "-" : ""}${order.column}` : "",
    });
    const found = sorted(matching(hosts, filter), COLUMNS[order.column].sort, order.descending);
    result.textContent =
      found.length === hosts.length
        ? counted(hosts.length, "host")
        : `${count(found.length)} of ${counted(hosts.length, "host")}`;
    clear.hidden = !(filter.search || filter.state || filter.trait);
    if (found.length) {
      if (!list.element.isConnected) fill(place, list.element);
      list.show(found, order);
    } else fill(place, empty(hosts.length ? "No host matches." : "No host is registered yet."));
  }

  const begin = inTurn();
  const load = async () => {
    const isNewest = begin();
    const [overview, listing] = await Promise.all([get("overview", {}, signal), get("hosts", {}, signal)]);
    if (!isNewest()) return;
    const digest = overview.canonical?.digest;
    hosts = keepUnchanged(
      listing.hosts.map((host) => ({ ...host, state: stateOf(host, digest), haystack: haystack(host) })),
      hosts,
    );
    const counts = countStates(hosts, digest);
    for (const option of states.options) {
      if (option.value) option.textContent = `${STATES[option.value].name} (${count(counts[option.value])})`;
    }
    draw();
  };
  const reload = async () => {
    await reread();
    tell(`List refreshed: ${counted(hosts.length, "host")}`);
  };
  const register = () => registerDialog({ isKnown: (name) => hosts.some((host) => host.fqdn === name), done: reread });
  const reread = await keepFresh(head, EVERY_SECONDS, load, signal, () => hosts.length <= MOST_TO_REPEAT);
  head.append(
    h(
      "div",
      { class: "push" },
      actionButton("Reload", reload),
      h("button", { type: "button", class: "primary", id: "register", onclick: register }, "Register a host"),
    ),
  );
  fill(body, h("div", { class: "toolbar" }, search, states, traits, clear, result), place);
  draw();
}

/** The hosts, each as the object that it was before where nothing has changed: its row is then not redrawn. */
function keepUnchanged(hosts, before) {
  const known = new Map(before.map((host) => [host.id, host]));
  return hosts.map((host) => {
    const old = known.get(host.id);
    return old && JSON.stringify(old) === JSON.stringify(host) ? old : host;
  });
}

function readOrder(query) {
  const given = /^(-?)(\d+)$/.exec(query.get("sort") ?? "");
  const column = given ? Number(given[2]) : 0;
  return column < COLUMNS.length ? { column, descending: given?.[1] === "-" } : { column: 0, descending: false };
}

function select(id, label, value, options, changed) {
  const element = h(
    "select",
    { id, "aria-label": label, onchange: () => changed(element.value) },
    h("option", { value: "" }, `${label}: any`),
    options.map(([key, name]) => h("option", { value: key }, name)),
  );
  element.value = value;
  return element;
}
