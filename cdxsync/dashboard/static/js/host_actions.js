/** What an admin can do with a host: each asks where something would be lost, and says what happened. */

import { get, post, remove } from "./api.js";
import { copyButton } from "./clipboard.js";
import { confirm, openDialog } from "./dialog.js";
import { time } from "./clock.js";
import { fill, h } from "./dom.js";
import { every } from "./polling.js";
import { tell } from "./notices.js";

const LOOK_SECONDS = 2;

/**
 * Register a host by a name that is asked for, and show its installer once. With `fqdn` it is a known host, whose key
 * is rotated by that; so is that of a name for which `isKnown`, after a further question.
 *
 * @param {{fqdn?: string, isKnown?: (name: string) => boolean, done: () => any}} options `done` is called when
 *   something has changed
 */
export function registerDialog({ fqdn, isKnown = () => false, done }) {
  const end = new AbortController();
  const input = h("input", {
    name: "fqdn",
    id: "fqdn",
    type: "text",
    autocomplete: "off",
    spellcheck: "false",
    autocapitalize: "off",
    placeholder: "web1.example.net",
  });
  const mint = async (dialog, name, rotates) => {
    const answer = await post("hosts/register", { fqdn: name });
    const said = rotates ? `The key of ${name} was rotated` : `${answer.host.fqdn} was registered`;
    tell(dialog.element.open ? said : `${said}. Its installer was not shown: the dialog was closed. Rotate the key.`);
    done();
    if (dialog.element.open) dialog.show(installerView(answer, end.signal));
  };
  const submit = (dialog) => {
    const name = fqdn ?? input.value.trim().toLowerCase().replace(/\.$/, "");
    if (fqdn || !isKnown(name)) return mint(dialog, name, Boolean(fqdn));
    return dialog.show({
      title: "Rotate the key",
      body: [h("p", null, "The host is registered already."), whatRotatingDoes(name)],
      actions: [{ label: "Cancel" }, { label: "Rotate", danger: true, run: () => mint(dialog, name, true) }],
    });
  };
  const body = fqdn
    ? whatRotatingDoes(fqdn)
    : h(
        "div",
        { class: "field" },
        h("label", { for: "fqdn" }, "Host name"),
        input,
        h(
          "span",
          { class: "hint" },
          "The full name (FQDN). A name that is registered already gets a new key, and its old key is revoked at once.",
        ),
      );
  openDialog({
    title: fqdn ? "Rotate the key" : "Register a host",
    body,
    actions: [
      { label: "Cancel" },
      { label: fqdn ? "Rotate" : "Register", primary: !fqdn, danger: Boolean(fqdn), run: submit },
    ],
    onClose: () => {
      end.abort();
      done();
    },
  });
}

const whatRotatingDoes = (fqdn) =>
  h(
    "p",
    null,
    h("strong", null, fqdn),
    " gets a new key and a new installer. Its old key, unused installers and address binding are revoked at once: its calls are refused until the new installer has run on it.",
  );

/** The one view of the command; nothing of it stays when the dialog is closed. */
function installerView({ host, installer }, signal) {
  const command = h(
    "pre",
    { class: "secret", id: "installer-command", tabindex: "0", "aria-label": "Installer command" },
    installer.command,
  );
  const waiting = h("p", { class: "live", role: "status", id: "installer-state" }, "Waiting for the host to call");
  every(
    LOOK_SECONDS,
    async () => {
      const found = (await get(`hosts/${host.id}`, {}, signal)).host;
      if (!found.ip) return; // Registering has ended the binding, so an address means a call with the new key.
      waiting.classList.add("on");
      fill(waiting, `${found.fqdn} has called from ${found.ip}${found.authed ? ", and holds credentials" : ""}.`);
    },
    signal,
  );
  return {
    title: `Install cdx on ${host.fqdn}`,
    body: [
      h(
        "p",
        null,
        "Run this once, in a shell of ",
        h("strong", null, host.fqdn),
        ". It installs ",
        h("code", null, "cdx"),
        " and fetches the credentials.",
      ),
      command,
      h(
        "p",
        null,
        copyButton(() => installer.command, "The installer command", "Copy the command"),
      ),
      h(
        "div",
        { class: "callout" },
        "Shown only now. It holds the host's key, works once, and ends ",
        time(installer.expires_at),
        ". If it is lost, rotate the key.",
      ),
      waiting,
    ],
    actions: [{ label: "Close" }],
  };
}

/** Let a host call from any address, or not. */
export async function setRoaming(host, allow) {
  await post(`hosts/${host.id}/roaming`, { allow });
  tell(
    allow
      ? `${host.fqdn} may call from any address now`
      : `${host.fqdn} may call only from the address that it is bound to`,
  );
}

/** Refuse all calls of a host, after a question; or take them again. */
export function setActive(host, active, done) {
  const run = async () => {
    await post(`hosts/${host.id}/${active ? "enable" : "disable"}`);
    tell(active ? `${host.fqdn} was enabled` : `${host.fqdn} was disabled`);
  };
  if (active) return run().then(done);
  return confirm({
    title: "Disable the host",
    label: "Disable",
    danger: true,
    run,
    done,
    body: h(
      "p",
      null,
      "All calls of ",
      h("strong", null, host.fqdn),
      " are refused until it is enabled. Its key stays.",
    ),
  });
}

const PERMITTED = {
  store_auth: "store credentials for the fleet",
  store_prompts: "store prompts for the fleet",
  keep_auth: "keep its credentials after a run",
};

/** Let a host do what one of `PERMITTED` names, or not. */
export async function setPermit(host, permit, allow) {
  await post(`hosts/${host.id}/permit`, { [permit]: allow });
  tell(`${host.fqdn} may ${allow ? "" : "not "}${PERMITTED[permit]}`);
}

/** Say what becomes of logins of other accounts of a host; asks before the fleet's account may change. */
export function takeLogin(host, offer, rule, done) {
  const run = async () => {
    await post(`hosts/${host.id}/auth/accept`, { rule });
    const said = {
      once: "Its login is taken when it calls",
      always: "Its logins are always taken",
      never: "Its logins of other accounts are never taken",
      ask: "Its logins of other accounts are taken only when you say so",
    };
    tell(`${host.fqdn}: ${said[rule]}`);
  };
  if (rule === "never" || rule === "ask") return run().then(done);
  return confirm({
    title: "Change the fleet's account",
    label: rule === "once" ? "Take it" : "Always take them",
    danger: true,
    run,
    done,
    body: h(
      "p",
      null,
      rule === "once" ? "The login " : "Every login of another account, now ",
      h("strong", null, offer ? offer.account : "none"),
      ", becomes that of all hosts when ",
      h("strong", null, host.fqdn),
      " calls.",
    ),
  });
}

/** Forget the address of a host. */
export function unbind(host, done) {
  confirm({
    title: "Forget the address",
    label: "Forget it",
    body: h(
      "p",
      null,
      h("strong", null, host.fqdn),
      " is bound to ",
      h("code", null, host.ip ?? "no address"),
      ". Its next call binds the address from which it comes.",
    ),
    run: async () => {
      await post(`hosts/${host.id}/unbind`);
      tell(`${host.fqdn} is not bound to an address any more; its next call binds it`);
    },
    done,
  });
}

/** Forget what a host was known to hold. */
export function clear(host, done) {
  confirm({
    title: "Clear what is known",
    label: "Clear",
    body: h(
      "p",
      null,
      "The server forgets which document ",
      h("strong", null, host.fqdn),
      " holds, and its recent digests. Its key, its address and the fleet's document stay; its next call reports them again.",
    ),
    run: async () => {
      const { cleared } = await post(`hosts/${host.id}/clear`);
      tell(`Cleared the record of ${host.fqdn}: ${cleared.digests} digests`);
    },
    done,
  });
}

/** Delete a host, after its name was typed. */
export function deleteHost(host, done) {
  confirm({
    title: "Delete the host",
    label: "Delete",
    danger: true,
    typed: host.fqdn,
    body: h(
      "p",
      null,
      "The key, digests and installers of ",
      h("strong", null, host.fqdn),
      " are deleted, and its calls are refused. The fleet's document and the totals of its usage stay.",
    ),
    run: async () => {
      await remove(`hosts/${host.id}`);
      tell(`${host.fqdn} was deleted`);
    },
    done,
  });
}
