/** The fleet's credentials: what is canonical, what was, going back, and giving a new document. Values only on request. */

import { ApiError, get, post } from "../api.js";
import { copyButton } from "../clipboard.js";
import { fullTime, time } from "../clock.js";
import { confirm, openDialog } from "../dialog.js";
import { badge, card, empty, facts, fill, h } from "../dom.js";
import { textOf } from "../files.js";
import { digest } from "../format.js";
import { inTurn } from "../live.js";
import { tell } from "../notices.js";
import { actionButton, shortDigest } from "../parts.js";
import { table } from "../table.js";

/** More than the setting payload_history has, as a rule. */
const MOST = 500;

/** Draw the page. */
export async function authPage({ head, body, signal }) {
  const place = { canonical: h("div"), history: h("div") };
  const begin = inTurn();
  const load = async () => {
    const isNewest = begin();
    const [canonical, { history }] = await Promise.all([
      readCanonical(signal),
      get("auth/history", { limit: MOST }, signal),
    ]);
    if (!isNewest()) return;
    fill(place.canonical, canonicalCard(canonical, load));
    fill(place.history, historyCard(history, load));
  };
  await load();
  head.append(
    h(
      "div",
      { class: "push" },
      h(
        "button",
        { type: "button", class: "primary", id: "auth-upload", onclick: () => uploadDialog(load) },
        "Upload auth.json",
      ),
    ),
  );
  fill(
    body,
    h(
      "div",
      { class: "grid" },
      h("div", { class: "w4 stack" }, place.canonical),
      h("div", { class: "w8 stack" }, place.history),
    ),
  );
}

async function readCanonical(signal) {
  try {
    return await get("auth", {}, signal);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

function canonicalCard(document, load) {
  if (!document)
    return card("Canonical document", {
      body: empty("The fleet has none yet. Log in on one host with cdx login, or upload a file."),
    });
  return card("Canonical document", {
    actions: [
      actionButton("Show its content", () => askToShow(), "quiet", "auth-show"),
      actionButton("Revoke", () => askRevoke(document, load), "quiet", "auth-revoke"),
    ],
    body: facts([
      ["Refreshed", fullTime(document.canonical_last_refresh)],
      ["Account", document.account],
      ["Source", document.source],
      ["Stored", fullTime(document.stored_at)],
      ["Logins for", document.targets.join(", ") || "none"],
      ["Digest", h("code", null, document.canonical_digest)],
    ]),
    footer: document.offers.length ? ["Other accounts: ", ...document.offers.map(offerLink)] : null,
  });
}

const offerLink = (offer) =>
  h("div", null, h("a", { href: `#/hosts/${offer.host_id}` }, offer.fqdn), ` has ${offer.account}`);

function askToShow() {
  openDialog({
    title: "Show the content?",
    body: h("p", null, "It holds the tokens of the whole fleet. The audit log records that you saw them."),
    actions: [
      { label: "Cancel" },
      {
        label: "Show",
        danger: true,
        run: async (dialog) => {
          const { auth } = await get("auth", { include_body: 1 });
          const text = JSON.stringify(auth, null, 2);
          dialog.show({
            title: "auth.json",
            body: [
              h("pre", { class: "secret", tabindex: "0", "aria-label": "Content of auth.json" }, text),
              h(
                "p",
                null,
                copyButton(() => text, "auth.json"),
              ),
            ],
            actions: [{ label: "Close" }],
          });
        },
      },
    ],
  });
}

function askRevoke(document, load) {
  confirm({
    title: "Revoke the login",
    label: "Revoke",
    danger: true,
    body: [
      facts([
        ["Refreshed", fullTime(document.canonical_last_refresh)],
        ["Account", document.account],
      ]),
      h(
        "p",
        null,
        "OpenAI ends it for the whole fleet, and somebody has to log in again: cdx login. To cut off one host, disable that.",
      ),
    ],
    run: async () => {
      await post("auth/revoke", {});
      tell("The login is revoked. Log in again on one host: cdx login");
    },
    done: load,
  });
}

function historyCard(history, load) {
  const columns = [
    { title: "Id", head: true, number: true, cell: (row) => String(row.id) },
    { title: "Refreshed", className: "nowrap", cell: (row) => time(row.last_refresh, { style: "short" }) },
    { title: "Stored", className: "nowrap", cell: (row) => time(row.stored_at) },
    { title: "Source", cell: (row) => row.source },
    { title: "Digest", cell: (row) => shortDigest(row.digest) },
    {
      title: "",
      className: "actions",
      cell: (row) => [
        row === history.at(-1) ? null : actionButton("Compare", () => showDiff(row), "quiet", `compare-${row.id}`),
        row.canonical
          ? badge("canonical", "good")
          : actionButton("Roll back", () => askRollback(row, load), "quiet", `rollback-${row.id}`),
      ],
    },
  ];
  return card("History", {
    flush: true,
    body: table({
      label: "Documents that are kept, the newest first",
      columns,
      rows: history,
      none: "Nothing is kept yet.",
    }),
  });
}

async function showDiff(row) {
  const older = await get("auth/history", { before: row.id, limit: 1 });
  const { from, to, changes, reordered } = await get("auth/diff", { from: older.history[0].id, to: row.id });
  const tones = { added: "good", removed: "bad", changed: "warn" };
  const columns = [
    { title: "Key", head: true, cell: (change) => h("code", null, change.key) },
    { title: "Change", cell: ({ change }) => badge(change, tones[change] ?? "") },
  ];
  openDialog({
    title: `Document ${to.id} beside ${from.id}`,
    body: [
      h("p", { class: "muted" }, "Which keys differ. Values are never shown."),
      table({
        label: "Keys that differ",
        columns,
        rows: changes,
        none: reordered ? "Only the order of keys differs." : "Nothing differs.",
      }),
    ],
    actions: [{ label: "Close" }],
  });
}

function askRollback(row, load) {
  confirm({
    title: `Roll back to document ${row.id}`,
    label: "Roll back",
    danger: true,
    body: [
      facts([
        ["Refreshed", fullTime(row.last_refresh)],
        ["Source", row.source],
        ["Digest", digest(row.digest)],
      ]),
      h(
        "p",
        null,
        "A copy of it, dated now, becomes the fleet's document, and every host takes it at its next run. What is canonical now stays in the history.",
      ),
    ],
    run: async () => {
      const done = await post("auth/rollback", { id: row.id });
      tell(`Rolled back: document ${done.to} is canonical again, as document ${done.stored_as}`);
    },
    done: load,
  });
}

function uploadDialog(load) {
  const input = h("input", {
    type: "file",
    id: "auth-file",
    name: "auth",
    accept: ".json,application/json",
    required: true,
  });
  const drop = h(
    "div",
    { class: "drop field" },
    h("label", { for: "auth-file" }, "auth.json"),
    input,
    h("span", { class: "hint" }, "Choose the file, or drop it here. Codex keeps it in ~/.codex/auth.json."),
  );
  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) input.files = event.dataTransfer.files;
  });
  const force = h("input", { type: "checkbox", id: "auth-force" });
  openDialog({
    title: "Upload auth.json",
    body: [
      drop,
      h(
        "div",
        { class: "check" },
        force,
        h("label", { for: "auth-force" }, "Make it canonical even when the fleet's document is newer"),
      ),
    ],
    actions: [
      { label: "Cancel" },
      {
        label: "Upload",
        primary: true,
        run: async (dialog) => {
          const [file] = input.files;
          if (!file)
            throw Object.assign(new Error("Nothing was uploaded."), {
              fields: { auth: ["is required: choose a file"] },
            });
          const answer = await post("auth/upload", { auth: await textOf(file, "auth"), force: force.checked });
          const said = {
            updated: `${file.name} is canonical now`,
            unchanged: `${file.name} is the fleet's document already`,
            outdated: `${file.name} is older than the fleet's document, which stays`,
          };
          dialog.close();
          tell(said[answer.status] ?? `${file.name}: ${answer.status}`);
          if (answer.account_change)
            tell(`The fleet's account is ${answer.account_change.now} now, not ${answer.account_change.before}`);
          await load();
        },
      },
    ],
  });
}
