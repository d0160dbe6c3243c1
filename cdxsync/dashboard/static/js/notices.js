/** What was done and what went wrong, said in live regions: seen in the corner, and read out by screen readers. */

import { byId, h } from "./dom.js";

const STAY_MS = 12_000;
const MOST = 4;

/** Say that something was done. It goes after a while. */
export function tell(...text) {
  const notice = show("notices-polite", "notice good", h("div", null, text));
  setTimeout(() => notice.remove(), STAY_MS);
}

/**
 * Say that something failed: the server's message, the fields, the request's id. It stays until it is closed. That a
 * page was left while it was reading is no failure.
 */
export function complain(error) {
  if (error.name === "AbortError") return;
  show("notices-alert", "notice bad", h("div", null, errorText(error)));
}

function show(regionId, kind, content) {
  const region = byId(regionId);
  const notice = h("div", { class: kind }, content);
  notice.append(
    h("button", { type: "button", class: "quiet", "aria-label": "Dismiss", onclick: () => notice.remove() }, "✕"),
  );
  region.append(notice);
  while (region.children.length > MOST) region.firstElementChild?.remove();
  return notice;
}

/** Move the regions into an open dialog, as all else is inert then; or back, before that is taken away. */
export function moveNotices(home = document.body) {
  home.append(byId("notices"));
}

/** A panel with an error, for the place where the content would stand. */
export function errorPanel(error, fields = error.fields ?? {}) {
  return h("div", { class: "panel-error", role: "alert" }, errorText(error, fields));
}

function errorText(error, fields = error.fields ?? {}) {
  const wrong = Object.entries(fields);
  return [
    h("strong", null, error.message || String(error)),
    wrong.length
      ? h(
          "ul",
          null,
          wrong.map(([name, texts]) => h("li", null, h("code", null, name), ` ${texts.join("; ")}`)),
        )
      : null,
    error.requestId ? h("div", { class: "id muted small" }, "Request ", h("code", null, error.requestId)) : null,
  ];
}
