/** Rows of the audit log, as tables show them. */

import { time } from "./clock.js";
import { h } from "./dom.js";
import { detailPairs } from "./format.js";
import { table } from "./table.js";

/** Who did it: a host by its name, an admin's certificate by its subject, or the server itself. */
export function actorText(actor) {
  return actor
    .replace(/^(cert|proxy|host):/, "")
    .replace(/#[0-9a-f]+$/, "")
    .replace(/^CN=/, "");
}

/** A link to the row's host, or a dash. */
const host = (row) => (row.host_id && row.fqdn ? h("a", { href: `#/hosts/${row.host_id}` }, row.fqdn) : "–");

const isItself = (row) => row.fqdn && row.actor === `host:${row.fqdn}`;

/** Who did it, beside a column that names the host; on hover also from where. */
const by = (row) => {
  const title = row.ip ? `${row.actor} from ${row.ip}` : row.actor;
  return isItself(row) ? h("span", { class: "muted", title }, "itself") : h("span", { title }, actorText(row.actor));
};

/** The columns of the log. */
export function logColumns() {
  return [
    { title: "Time", className: "nowrap", cell: (row) => time(row.created_at, { style: "short" }) },
    { title: "Action", head: true, className: "nowrap", cell: (row) => row.action },
    { title: "Host", className: "nowrap", cell: host },
    { title: "By", cell: by },
    { title: "Details", className: "details", cell: details },
    {
      title: "Request",
      cell: (row) => (row.request_id ? h("code", { title: row.request_id }, row.request_id.slice(0, 8)) : "–"),
    },
  ];
}

function details(row) {
  const told = (name, text) => name === "fqdn" && text === row.fqdn; // the host's column has it
  return detailPairs(row.details)
    .filter((pair) => !told(...pair))
    .map(([name, text]) =>
      h("span", { class: "pair" }, name ? h("span", { class: "muted" }, `${name} `) : null, shortened(text)),
    );
}

/** A digest as its beginning, with all of it on hover; other texts as they are. */
function shortened(text) {
  return /^[0-9a-f]{64}$/.test(text) ? h("code", { title: text }, text.slice(0, 12)) : text;
}

/** A short table of the newest rows; `ofHost` is for those of one host, which need not name it. */
export function logTable(rows, { ofHost }) {
  const who = ofHost ? by : (row) => (isItself(row) ? host(row) : by(row));
  const what = ofHost ? details : (row) => [isItself(row) || !row.fqdn ? null : [host(row), " "], details(row)];
  const columns = [
    { title: "Time", className: "nowrap", cell: (row) => time(row.created_at) },
    { title: "Action", head: true, className: "nowrap", cell: (row) => row.action },
    { title: "By", cell: who },
    { title: "Details", className: "details", cell: what },
  ];
  return table({ label: "Audit log, the newest first", columns, rows, none: "Nothing was logged." });
}
