/** Start: the navigation, and one page at a time. */

import { get, isAbort } from "./api.js";
import { confirm } from "./dialog.js";
import { byId, fill, h, loading } from "./dom.js";
import { complain, errorPanel } from "./notices.js";
import { readAddress } from "./addresses.js";
import { authPage } from "./pages/auth.js";
import { certificatesPage } from "./pages/certificates.js";
import { hostPage } from "./pages/host.js";
import { hostsPage } from "./pages/hosts.js";
import { logPage } from "./pages/log.js";
import { overviewPage } from "./pages/overview.js";
import { promptPage } from "./pages/prompt.js";
import { promptsPage } from "./pages/prompts.js";
import { systemPage } from "./pages/system.js";
import { usagePage } from "./pages/usage.js";

/** Pages by the pattern of their address: what draws them, their title, and the entry of the navigation. */
const PAGES = {
  "": [overviewPage, "Overview", ""],
  hosts: [hostsPage, "Hosts", "hosts"],
  "hosts/:id": [hostPage, "Host", "hosts"],
  usage: [usagePage, "Usage", "usage"],
  prompts: [promptsPage, "Prompts", "prompts"],
  "prompts/:name": [promptPage, "Prompt", "prompts"],
  log: [logPage, "Log", "log"],
  auth: [authPage, "Credentials", "auth"],
  certificates: [certificatesPage, "Certificates", "certificates"],
  system: [systemPage, "System", "system"],
};
const NAVIGATION = ["", "hosts", "usage", "prompts", "log", "auth", "certificates", "system"];

const main = byId("main");
let leave = new AbortController();
/** Whether the page has something that would be lost; each page sets it. */
let hasUnsaved = () => false;

async function open() {
  const first = !main.dataset.page;
  const { pattern, params, query, path } = readAddress(location.hash, Object.keys(PAGES));
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  hasUnsaved = () => false;
  const guard = (unsaved) => {
    hasUnsaved = unsaved;
  };
  const [page, title, entry] = PAGES[pattern] ?? [unknownPage, "Not found", null];
  main.dataset.page = pattern ?? "unknown";
  markCurrent(entry);
  closeDialogs();

  const heading = h("h1", { tabindex: "-1" }, title);
  const head = h("div", { class: "page-head" }, heading);
  const body = h("div", { class: "page" }, loading());
  fill(main, head, body);
  const setTitle = (text) => {
    heading.textContent = text;
    document.title = `${text} · cdxsync`;
  };
  setTitle(title);
  window.scrollTo(0, 0);
  if (!first) heading.focus();
  try {
    await page({ head, body, params, query, path, signal, setTitle, guard });
  } catch (error) {
    if (isAbort(error) || signal.aborted) return;
    fill(body, errorPanel(error), h("p", null, h("button", { type: "button", onclick: open }, "Try again")));
  }
}

function askToLeave(run) {
  confirm({
    title: "Leave without saving?",
    label: "Leave",
    danger: true,
    body: h("p", null, "What you have changed here is lost."),
    run,
  });
}

/** What a dialog shows is gone with its page, installers above all. */
function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) if (dialog.open) dialog.close();
}

function unknownPage({ body, path }) {
  fill(body, h("p", null, "There is no page ", h("code", null, path), ". ", h("a", { href: "#/" }, "To the overview")));
}

function markCurrent(entry) {
  const nav = byId("nav"); // on a phone it scrolls sideways
  for (const link of nav.querySelectorAll("a")) {
    if (link.dataset.entry === entry) {
      link.setAttribute("aria-current", "page");
      nav.scrollLeft = link.offsetLeft - (nav.clientWidth - link.offsetWidth) / 2;
    } else link.removeAttribute("aria-current");
  }
}

function drawNavigation() {
  fill(
    byId("nav"),
    h(
      "ul",
      null,
      NAVIGATION.map((entry) => h("li", null, h("a", { href: `#/${entry}`, "data-entry": entry }, PAGES[entry][1]))),
    ),
  );
}

/** Who the server takes the person for: the subject of the certificate. */
async function showWho() {
  const { mtls } = await get("overview");
  const subject = mtls?.subject ?? "a certificate that the proxy has checked";
  fill(byId("who"), "You are ", h("strong", null, subject.replace(/^CN=/, "")));
}

byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
/** Errors that were not caught are shown as well. */
window.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  complain(event.reason);
});
window.addEventListener("pagehide", closeDialogs); // a browser may keep the page for its back button
drawNavigation();
window.addEventListener("hashchange", (event) => {
  if (!hasUnsaved()) return open();
  const wanted = location.hash;
  history.replaceState(null, "", event.oldURL);
  return askToLeave(() => {
    hasUnsaved = () => false;
    location.hash = wanted;
  });
});
window.addEventListener("beforeunload", (event) => {
  if (hasUnsaved()) event.preventDefault();
});
open();
showWho().catch(() => {});
