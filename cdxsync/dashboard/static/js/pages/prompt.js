/** One prompt: its text to edit, the deletion of it, and what was done with it. */

import { get, post, remove } from "../api.js";
import { time } from "../clock.js";
import { confirm, busy, markFields, openDialog } from "../dialog.js";
import { card, facts, fill, h } from "../dom.js";
import { textOf } from "../files.js";
import { bytes } from "../format.js";
import { errorPanel, tell } from "../notices.js";
import { actionButton, shortDigest } from "../parts.js";
import { historyCard, promptPath } from "../prompt_history.js";
import { promptAddress } from "./prompts.js";

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
    const { history } = await get(`${promptPath(name)}/history`, {}, signal);
    const now = await find(name, signal);
    fill(
      side,
      now
        ? factsCard(now)
        : h("div", { class: "callout" }, "It was deleted. Take a text from its history to store it again."),
      historyCard(name, now, history, editor.put),
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
  const wide = h("div", { class: "w8 stack" }, editor.element);
  fill(body, isNew ? editor.element : h("div", { class: "grid" }, wide, side));
}

/** The prompt with its text, or null when there is none of that name. */
async function find(name, signal) {
  const { commands } = await get("slash-commands", {}, signal);
  const listed = commands.find((row) => row.filename.toLowerCase() === name.toLowerCase());
  return listed ? get(promptPath(listed.filename), {}, signal) : null;
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
        const content = await textOf(chosen, "prompt");
        put(content, () => {
          if (!fixedName && !name.value) name.value = chosen.name;
        });
      } catch (error) {
        fill(problem, errorPanel(error, markFields(form, error.fields ?? {})));
      }
      file.value = "";
    },
  });
  let known = stored;
  // Browsers edit texts with plain newlines; one that was stored with others keeps them.
  const newline = stored?.prompt.includes("\r\n") ? "\r\n" : "\n";
  const isWritten = () => text.value !== (known?.prompt ?? "").replace(/\r\n?/g, "\n");
  const isDirty = () => isWritten() || (!known && name.value !== "");
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

  /** Put a text into the editor; it asks before it replaces unsaved text. */
  function put(content, then = () => {}) {
    const run = () => {
      text.value = content;
      then();
      changed();
    };
    if (!isWritten()) return run();
    const lost = h("p", null, "Your unsaved text will be lost.");
    return confirm({ title: "Replace your text?", label: "Replace", danger: true, body: lost, run });
  }

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
        `${answer.filename} was ${answer.status === "unchanged" ? "not changed" : answer.status}; hosts get it at their next run`,
      );
      if (fixedName && stored) await saved();
      else openStored(answer.filename);
    } catch (error) {
      fill(problem, errorPanel(error, markFields(form, error.fields ?? {})));
    }
  }
  return { element: card(stored ? "Edit" : "Write", { body: form }), put };
}

/** Whether another text was stored since `known` was read; then it asks what to do, and `overwrite` goes on. */
async function othersHaveChanged(filename, known, overwrite) {
  const there = await find(filename);
  if ((there?.sha256 ?? null) === (known?.sha256 ?? null)) return false;
  const what = !there
    ? `${filename} was deleted meanwhile.`
    : known
      ? `${filename} was changed by another admin or host meanwhile.`
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
      await remove(promptPath(stored.filename));
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

/** Open the page of a prompt that is there now, also where its address is the one that is open. */
function openStored(filename) {
  if (location.hash === promptAddress(filename)) window.dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = promptAddress(filename);
}
