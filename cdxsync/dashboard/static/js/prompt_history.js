/** The earlier texts of a prompt: the list of them, and each to look at and to take back. */

import { get } from "./api.js";
import { time } from "./clock.js";
import { openDialog } from "./dialog.js";
import { byId, card, h } from "./dom.js";
import { actorText } from "./log_rows.js";
import { tell } from "./notices.js";
import { actionButton } from "./parts.js";
import { table } from "./table.js";

/** The address of a prompt in the API. */
export const promptPath = (name) => `slash-commands/${encodeURIComponent(name)}`;

/** Who stored a text, where that is known. */
const by = (row) => (row.source ? actorText(row.source) : "unknown");

/** The list; `put` puts a text into the editor. */
export function historyCard(name, now, history, put) {
  const columns = [
    { title: "Time", head: true, className: "nowrap", cell: (row) => time(row.stored_at, { style: "short" }) },
    { title: "By", cell: (row) => h("span", { title: row.source }, by(row)) },
    {
      title: "",
      className: "actions",
      cell: (row) => actionButton("View", () => showVersion(name, now, row, put), "quiet", `version-${row.id}`),
    },
  ];
  return card("History", {
    flush: true,
    body: table({
      label: "Earlier texts of the prompt, the newest first",
      columns,
      rows: history,
      none: "It has had no other text.",
    }),
  });
}

async function showVersion(name, now, row, put) {
  const { prompt } = await get(`${promptPath(name)}/history/${row.id}`);
  const take = {
    label: "Put it into the editor",
    primary: true,
    run: (dialog) => {
      dialog.close();
      put(prompt, () => {
        byId("prompt-text").focus();
        tell("The text is in the editor; it is stored when you save it");
      });
    },
  };
  openDialog({
    title: `${name}, as it was`,
    wide: true,
    body: [
      h(
        "p",
        { class: "muted" },
        "Stored ",
        time(row.stored_at, { style: "full" }),
        " by ",
        by(row),
        row.sha256 === now?.sha256 ? ". It is what is stored now." : "",
      ),
      h("pre", { class: "text", tabindex: "0", "aria-label": "Text" }, prompt),
    ],
    actions: row.sha256 === now?.sha256 ? [{ label: "Close" }] : [{ label: "Close" }, take],
  });
}
