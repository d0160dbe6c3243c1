/** One prompt: its text to edit, the deletion of it, and what was done with it. */

import { get, post, remove } from "../api.js";
import { time } from "../clock.js";
import { confirm, busy, markFields, openDialog } from "../dialog.js";
import { card, facts, fill, h } from "../dom.js";
import { textOf } from "../files.js";
import { bytes } from "../format.js";
import { actorText } from "../log_rows.js";
import { errorPanel, tell } from "../notices.js";
import { actionButton, shortDigest } from "../parts.js";
import { promptAddress } from "./prompts.js";
import { table } from "../table.js";

/** Stands in the address for a prompt that is not stored yet; no file name begins with a plus. */
const NEW = "+new";

/** Draw the page. One of a prompt that was deleted offers its texts. */
export async function promptPage({ head, body, params, signal, setTitle, guard }) {
  const isNew = params.name === NEW;
  const stored = isNew ? null : await find(params.name, signal);
  const name = isNew ? null : (stored?.filename ?? params.name);
  setTitle(name ?? "New prompt");
  const side = h("div", { class: "w4 stack" });
  const drawSide = async () => {
    const { history } = await get(`${path(name)}/history`, {}, signal);
    const now = await find(name, signal);
    fill(
      side,
      now
        ? factsCard(now)
        : h("div", { class: "callout" }, "It was deleted. Take a text from its history to store it again."),
      historyCard(name, now, history),
    );
  };
  const editor = makeEditor(stored, name, guard, drawSide);
  head.append(
    h(
      "div",
      { class: "push" },
      h("a", { class: "button", href: "#/prompts" }, "All prompts"),
      stored ? actionButton("Delete", () => askDelete(stored), "danger", "prompt-delete") : null,
    ),
  );
  if (!isNew) await drawSide();
  fill(body, isNew ? editor : h("div", { class: "grid" }, h("div", { class: "w8 stack" }, editor), side));
}

const path = (name) => `slash-commands/${encodeURIComponent(name)}`;

/** The prompt with its text, or null when there is none of that name. */
async function find(name, signal) {
  const { commands } = await get("slash-commands", {}, signal);
  const listed = commands.find((row) => row.filename.toLowerCase() === name.toLowerCase());
  return listed ? get(path(listed.filename), {}, signal) : null;
}

function makeEditor(stored, fixedName, guard, saved) {
  const name = h("input", {
    type: "text",
    id: "prompt-name",
    name: "filename",
    placeholder: "review.md",
    autocomplete: "off",
    spellcheck: "false",
  });
  const text = h("textarea", {
    id: "prompt-text",
    name: "prompt",
    spellcheck: "false",
    value: stored?.prompt ?? "",
    "aria-describedby": "prompt-hint",
  });
  const size = h("span", { class: "muted small" });
  const problem = h("div");
  const file = h("input", {
    type: "file",
    id: "prompt-file",
    accept: ".md,.txt,text/*",
    class: "visually-hidden",
    tabindex: "-1",
    "aria-hidden": "true",
    onchange: async () => {
      const [chosen] = file.files;
      if (!chosen) return;
      fill(problem);
      markFields(form, {});
      try {
        text.value = await textOf(chosen, "prompt");
        if (!fixedName && !name.value) name.value = chosen.name;
      } catch (error) {
        fill(problem, errorPanel(error, markFields(form, error.fields ?? {})));
      }
      file.value = "";
      changed();
    },
  });
  let known = stored;
  // Browsers edit texts with plain newlines; one that was stored with others keeps them.
  const newline = stored?.prompt.includes("\r\n") ? "\r\n" : "\n";
  const isDirty = () => text.value !== (known?.prompt ?? "").replace(/\r\n?/g, "\n") || (!known && name.value !== "");
  const save = h("button", { type: "submit", class: "primary", id: "prompt-save" }, "Save");
  const changed = () => {
    size.textContent = `${bytes(new Blob([text.value]).size)}${isDirty() ? " · not saved" : ""}`;
  };
  text.addEventListener("input", changed);
  const form = h(
    "form",
    {
      novalidate: true,
      onsubmit: (event) => {
        event.preventDefault();
        busy(save, store);
      },
    },
    fixedName ? null : h("div", { class: "field" }, h("label", { for: "prompt-name" }, "File name"), name),
    h(
      "div",
      { class: "field" },
      h("label", { for: "prompt-text" }, "Text"),
      text,
      h(
        "span",
        { class: "hint", id: "prompt-hint" },
        "The whole file. Description and argument hint are read from its front matter: ",
        h("code", null, "description:"),
        " and ",
        h("code", null, "argument-hint:"),
        " between two lines ",
        h("code", null, "---"),
        ".",
      ),
    ),
    problem,
    h(
      "div",
      { class: "toolbar" },
      save,
      h("button", { type: "button", onclick: () => file.click() }, "Take from a file"),
      file,
      size,
    ),
  );
  guard(isDirty);
  changed();

  async function store(force = false) {
    fill(problem);
    markFields(form, {});
    const filename = fixedName ?? name.value.trim();
    try {
      if (!force && (await othersHaveChanged(filename, known, () => busy(save, () => store(true))))) return;
      const sent = text.value; // who goes on writing meanwhile has more to save
      const answer = await post("slash-commands/store", { filename, prompt: sent.replaceAll("\n", newline) });
      known = { filename, prompt: sent, sha256: answer.sha256 };
      changed();
      tell(
        `${answer.filename} was ${answer.status === "unchanged" ? "the same already" : answer.status}; hosts get it at their next run`,
      );
      if (fixedName && stored) await saved();
      else openStored(answer.filename);
    } catch (error) {
      fill(problem, errorPanel(error, markFields(form, error.fields ?? {})));
    }
  }
  return card(stored ? "Edit" : "Write", { body: form });
}

/** Whether somebody has stored another text since `known` was read; then it asks what to do, and `overwrite` goes on. */
async function othersHaveChanged(filename, known, overwrite) {
  const there = await find(filename);
  if ((there?.sha256 ?? null) === (known?.sha256 ?? null)) return false;
  const what = !there
    ? `${filename} was deleted meanwhile.`
    : known
      ? `${filename} was changed by somebody else meanwhile.`
      : `There is a prompt ${filename} already.`;
  openDialog({
    title: "Overwrite?",
    body: [
      h("p", null, what),
      there ? [h("h3", null, "What is stored now"), h("pre", { class: "text", tabindex: "0" }, there.prompt)] : null,
    ],
    actions: [
      { label: "Cancel" },
      {
        label: "Store mine",
        danger: true,
        run: (dialog) => {
          dialog.close();
          overwrite();
        },
      },
    ],
  });
  return true;
}

function askDelete(stored) {
  confirm({
    title: "Delete the prompt",
    label: "Delete",
    danger: true,
    body: h(
      "p",
      null,
      h("strong", null, stored.filename),
      " is deleted from the server, and from the hosts at their next run. Its texts stay in its history.",
    ),
    run: async () => {
      await remove(path(stored.filename));
      tell(`${stored.filename} was deleted`);
      location.hash = "#/prompts";
    },
  });
}

function factsCard(stored) {
  return card("Stored", {
    body: facts([
      ["Description", stored.description ?? "none"],
      ["Argument", stored.argument_hint ?? "none"],
      ["Changed", time(stored.updated_at, { style: "full" })],
      ["SHA-256", shortDigest(stored.sha256)],
    ]),
  });
}

/** Who stored a text, where that is known. */
const by = (row) => (row.source ? actorText(row.source) : "somebody");

function historyCard(name, now, history) {
  const columns = [
    { title: "Time", head: true, className: "nowrap", cell: (row) => time(row.stored_at, { style: "short" }) },
    { title: "By", cell: (row) => h("span", { title: row.source }, by(row)) },
    {
      title: "",
      className: "actions",
      cell: (row) => actionButton("View", () => showVersion(name, now, row), "quiet", `version-${row.id}`),
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

async function showVersion(name, now, row) {
  const { prompt } = await get(`${path(name)}/history/${row.id}`);
  const take = {
    label: "Put it into the editor",
    primary: true,
    run: (dialog) => {
      dialog.close();
      const text = document.getElementById("prompt-text");
      text.value = prompt;
      text.dispatchEvent(new Event("input"));
      text.focus();
      tell("The text is in the editor; it is stored when you save it");
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

/** Open the page of a prompt that is there now, also where its address is the one that is open. */
function openStored(filename) {
  if (location.hash === promptAddress(filename)) window.dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = promptAddress(filename);
}
