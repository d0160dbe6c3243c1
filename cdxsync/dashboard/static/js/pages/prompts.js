/** The slash-command prompts that all hosts share: the list. */

import { get } from "../api.js";
import { card, fill, h } from "../dom.js";
import { count, detailPairs } from "../format.js";
import { time } from "../clock.js";
import { shortDigest } from "../parts.js";
import { table } from "../table.js";

const DELETIONS = 20;

const COLUMNS = [
  {
    title: "File",
    head: true,
    sort: (row) => row.filename,
    cell: (row) => h("a", { href: promptAddress(row.filename) }, row.filename),
  },
  { title: "Description", className: "details", sort: (row) => row.description, cell: (row) => row.description ?? "–" },
  {
    title: "Argument",
    sort: (row) => row.argument_hint,
    cell: (row) => (row.argument_hint ? h("code", null, row.argument_hint) : "–"),
  },
  {
    title: "Changed",
    className: "nowrap",
    sort: (row) => row.updated_at,
    descendingFirst: true,
    cell: (row) => time(row.updated_at),
  },
  { title: "SHA-256", cell: (row) => shortDigest(row.sha256) },
];

/** Where a prompt is edited. */
export function promptAddress(filename) {
  return `#/prompts/${encodeURIComponent(filename)}`;
}

/** Draw the page. */
export async function promptsPage({ head, body, signal }) {
  const [{ commands }, { logs }] = await Promise.all([
    get("slash-commands", {}, signal),
    get("logs", { action: "slash.delete", limit: DELETIONS }, signal),
  ]);
  const gone = deletedNames(logs, commands);
  head.append(
    h("div", { class: "push" }, h("a", { class: "button", href: "#/prompts/+new", id: "prompt-new" }, "New prompt")),
  );
  fill(
    body,
    h(
      "div",
      { class: "stack" },
      card(`Prompts (${count(commands.length)})`, {
        flush: true,
        body: table({
          label: "Prompts",
          columns: COLUMNS,
          rows: commands,
          order: { column: 0, descending: false },
          none: "No prompt is stored. Hosts can store theirs, and you can write one here.",
        }),
      }),
      gone.length
        ? card("Deleted lately", {
            body: h(
              "p",
              null,
              gone.map((name, index) => [index ? ", " : null, h("a", { href: promptAddress(name) }, name)]),
            ),
          })
        : null,
    ),
  );
}

/** The names of prompts whose deletion is in these rows of the log, and which are not there again. Pure. */
export function deletedNames(logs, commands) {
  const there = new Set(commands.map((row) => row.filename.toLowerCase()));
  const names = logs.map((row) => new Map(detailPairs(row.details)).get("filename")).filter(Boolean);
  return [...new Set(names)].filter((name) => !there.has(name.toLowerCase()));
}
