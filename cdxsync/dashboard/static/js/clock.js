/** `<time>` elements: the local time or the age, the exact UTC on hover; ages go on while the page is open. */

import { h } from "./dom.js";
import { instant, local, localShort, relative, utc } from "./times.js";

const EVERY_MS = 10_000;

/**
 * A stamp as an element, or `none` as text where there is no stamp.
 *
 * @param {string | number | null | undefined} stamp
 * @param {{style?: "age" | "full" | "short", none?: string}} [options]
 */
export function time(stamp, { style = "age", none = "never" } = {}) {
  const at = instant(stamp);
  if (Number.isNaN(at)) return none;
  const title = style === "age" ? `${local(stamp)} (${utc(stamp)})` : utc(stamp);
  const written = style === "age" ? relative(stamp, Date.now()) : style === "full" ? local(stamp) : localShort(stamp);
  const datetime = new Date(at).toISOString();
  return h("time", { datetime, title, "data-age": style === "age" }, written);
}

/** The full local time with its age behind it. */
export function fullTime(stamp, none = "never") {
  if (Number.isNaN(instant(stamp))) return none;
  return h("span", null, time(stamp, { style: "full" }), " ", h("span", { class: "nowrap" }, "(", time(stamp), ")"));
}

setInterval(() => {
  const now = Date.now();
  for (const element of document.querySelectorAll("time[data-age]")) {
    const written = relative(element.getAttribute("datetime"), now);
    if (element.textContent !== written) element.textContent = written;
  }
}, EVERY_MS);
