/** Asking for the admin key of a server that wants one beside the certificate. */

import { h } from "./dom.js";
import { openDialog } from "./dialog.js";

/**
 * One question at a time, however many calls wait for the answer.
 *
 * @type {Promise<string> | null}
 */
let asking = null;

/**
 * The key that the person typed. Many callers at once get the same answer.
 *
 * @param {string} reason the server's message
 * @param {boolean} again whether a key was sent already
 * @returns {Promise<string>}
 */
export function askAdminKey(reason, again) {
  asking ??= new Promise((resolve) => ask(resolve, again ? reason : "")).finally(() => {
    asking = null;
  });
  return asking;
}

function ask(resolve, reason) {
  const input = h("input", { type: "password", id: "admin-key", autocomplete: "off", required: true });
  let given = "";
  openDialog({
    title: "Admin key",
    dismissable: false,
    body: [
      h("p", null, "This server needs its admin key (DASHBOARD_ADMIN_KEY) besides your certificate."),
      reason ? h("p", { class: "bad", role: "alert" }, reason) : null,
      h(
        "div",
        { class: "field" },
        h("label", { for: "admin-key" }, "Key"),
        input,
        h("span", { class: "hint" }, "Kept in this tab's memory, until it is closed or reloaded."),
      ),
    ],
    actions: [
      {
        label: "Continue",
        primary: true,
        run: (dialog) => {
          given = input.value;
          dialog.close();
        },
      },
    ],
    onClose: () => resolve(given),
  });
}
