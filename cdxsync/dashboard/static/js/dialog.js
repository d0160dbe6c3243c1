/** Modal dialogs: made for one question, gone when it is answered; the focus returns to where it was. */

import { fill, h, uniqueId } from "./dom.js";
import { complain, errorPanel, moveNotices } from "./notices.js";

/**
 * Open a dialog. Each action's `run` gets the dialog's handle; what it throws is shown in the dialog, with the texts
 * of wrong fields beside the inputs whose `name` is the field, or as a notice when the dialog was closed meanwhile.
 * Enter in a field runs the primary action.
 *
 * @param {object} options
 * @param {string} options.title
 * @param {any} options.body
 * @param {{label: string, run?: Function, primary?: boolean, danger?: boolean, id?: string}[]} options.actions an action without `run` closes
 * @param {boolean} [options.wide]
 * @param {boolean} [options.dismissable] whether Escape closes it
 * @param {() => void} [options.onClose]
 */
export function openDialog({ title, body, actions, wide = false, dismissable = true, onClose }) {
  const opener = document.activeElement;
  const titleId = uniqueId("dialog");
  const problem = h("div");
  const heading = h("h2", { id: titleId, tabindex: "-1" }, title);
  const content = h("div", { class: "body" });
  const bar = h("div", { class: "actions" });
  const form = h("form", { novalidate: true }, heading, content, bar);
  const element = h("dialog", { "aria-labelledby": titleId, class: wide ? "wide" : "" }, form);
  const handle = { element, close: () => element.close(), show };

  function show(next) {
    if (next.title) heading.textContent = next.title;
    fill(problem);
    fill(content, problem, next.body);
    fill(bar, next.actions.map(button));
    const first = content.querySelector("input, textarea, select") ?? bar.querySelector("button.primary") ?? heading;
    first.focus();
  }

  function button({ label, run, primary, danger, id }) {
    const kind = [primary ? "primary" : "", danger ? "danger" : ""].join(" ").trim();
    return h(
      "button",
      {
        type: primary || danger ? "submit" : "button",
        class: kind,
        id,
        onclick: async (event) => {
          event.preventDefault();
          if (!run) return handle.close();
          await busy(event.currentTarget, () => attempt(run));
        },
      },
      label,
    );
  }

  async function attempt(run) {
    markFields(content, {});
    fill(problem);
    try {
      await run(handle);
    } catch (error) {
      if (!element.open) return complain(error);
      const left = markFields(content, error.fields ?? {});
      fill(problem, errorPanel(error, left));
    }
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  element.addEventListener("cancel", (event) => {
    if (!dismissable) event.preventDefault();
  });
  element.addEventListener("close", () => {
    moveNotices([...document.querySelectorAll("dialog")].filter((dialog) => dialog.open).at(-1));
    element.remove();
    onClose?.();
    giveFocusBack(opener);
  });
  document.body.append(element);
  element.showModal();
  moveNotices(element);
  show({ body, actions });
  return handle;
}

/** To what had the focus, or to what was drawn in its place meanwhile, or else to the page's heading. */
function giveFocusBack(opener) {
  const same = opener?.isConnected ? opener : opener?.id ? document.getElementById(opener.id) : null;
  (same ?? document.querySelector("h1"))?.focus();
}

/** Run something while a button is disabled and says that it is busy. */
export async function busy(button, run) {
  if (button.disabled) return;
  button.disabled = true;
  button.setAttribute("aria-busy", "true");
  const focused = document.activeElement === button;
  try {
    await run();
  } finally {
    button.disabled = false;
    button.removeAttribute("aria-busy");
    if (focused && button.isConnected && document.activeElement === document.body) button.focus();
  }
}

/**
 * Say at the inputs what is wrong with them; returns the fields for which there is no input.
 *
 * @param {HTMLElement} root
 * @param {Record<string, string[]>} fields
 */
export function markFields(root, fields) {
  for (const old of root.querySelectorAll(".wrong")) {
    const input = root.querySelector(`[aria-describedby~="${old.id}"]`);
    if (input) describe(input, old.id, false);
    input?.removeAttribute("aria-invalid");
    old.remove();
  }
  /** @type {Record<string, string[]>} */
  const left = {};
  /** @type {HTMLElement | null} */
  let first = null;
  for (const [name, texts] of Object.entries(fields)) {
    const input = /** @type {HTMLElement | null} */ (root.querySelector(`[name="${CSS.escape(name)}"]`));
    if (!input) {
      left[name] = texts;
      continue;
    }
    const id = uniqueId("wrong");
    input.setAttribute("aria-invalid", "true");
    describe(input, id, true);
    (input.closest(".field") ?? input.parentElement ?? root).append(
      h("span", { class: "wrong", id }, `${name} ${texts.join("; ")}`),
    );
    first ??= input;
  }
  first?.focus();
  return left;
}

/** Let a text describe an input, beside others that do, or no longer. */
function describe(input, id, on) {
  const ids = new Set((input.getAttribute("aria-describedby") ?? "").split(" ").filter(Boolean));
  if (on) ids.add(id);
  else ids.delete(id);
  if (ids.size) input.setAttribute("aria-describedby", [...ids].join(" "));
  else input.removeAttribute("aria-describedby");
}

/**
 * Ask before something is done. With `typed` the person has to type that text first. `done` then reads again what has
 * changed; its failure is not one of what was done, which must not be done again for it.
 *
 * @param {object} options
 * @param {string} options.title
 * @param {any} options.body
 * @param {string} options.label of the button that does it
 * @param {string} [options.typed]
 * @param {boolean} [options.danger]
 * @param {() => any} options.run
 * @param {() => any} [options.done]
 */
export function confirm({ title, body, label, typed, danger = false, run, done }) {
  const input = typed
    ? h("input", {
        type: "text",
        name: "confirmation",
        id: "confirmation",
        autocomplete: "off",
        spellcheck: "false",
        autocapitalize: "off",
      })
    : null;
  openDialog({
    title,
    body: [
      body,
      input
        ? h(
            "div",
            { class: "field" },
            h("label", { for: "confirmation" }, "Type ", h("code", null, typed), " to confirm"),
            input,
          )
        : null,
    ],
    actions: [
      { label: "Cancel" },
      {
        label,
        primary: !danger,
        danger,
        run: async (dialog) => {
          if (input && input.value.trim() !== typed) {
            throw Object.assign(new Error("Nothing was done."), { fields: { confirmation: [`must be ${typed}`] } });
          }
          await run();
          try {
            await done?.();
          } catch (error) {
            complain(error);
          }
          dialog.close();
        },
      },
    ],
  });
}
