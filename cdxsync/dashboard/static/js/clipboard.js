/** A button that copies a text. */

import { h } from "./dom.js";
import { complain, tell } from "./notices.js";

/**
 * @param {() => string} text
 * @param {string} what for the message: "The installer command"
 */
export function copyButton(text, what, label = "Copy") {
  return h(
    "button",
    {
      type: "button",
      onclick: async () => {
        try {
          await navigator.clipboard.writeText(text());
          tell(`${what} was copied`);
        } catch {
          complain(new Error("The browser does not let this page copy. Select the text and copy it by hand."));
        }
      },
    },
    label,
  );
}
