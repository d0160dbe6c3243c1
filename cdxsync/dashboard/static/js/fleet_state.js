/** What a host's state is, and which hosts a filter lets through. Pure functions. */

/** The states, in the order in which they are shown: their name, tone and what they mean. */
export const STATES = {
  in_sync: { name: "In sync", tone: "good", fill: "fill-good", help: "holds the canonical document" },
  behind: { name: "Behind", tone: "warn", fill: "fill-warn", help: "pulls the canonical document at its next run" },
  blocked: { name: "Blocked", tone: "bad", fill: "fill-bad", help: "called from an address that it is not bound to" },
  never_seen: { name: "Never seen", tone: "", fill: "fill-idle", help: "registered, and has not called yet" },
  disabled: { name: "Disabled", tone: "off", fill: "fill-off", help: "all its calls are refused" },
};

/**
 * The state of a host of `GET /admin/hosts`. Each host has one, as in the overview's totals.
 *
 * @param {any} host
 * @param {string | null | undefined} canonical the digest of the canonical document
 * @returns {keyof typeof STATES}
 */
export function stateOf(host, canonical) {
  if (host.status !== "active") return "disabled";
  if (host.blocked_at) return "blocked";
  if (!host.last_seen_at) return "never_seen";
  return canonical && host.canonical_digest === canonical ? "in_sync" : "behind";
}

/** How many hosts are in each state. */
export function countStates(hosts, canonical) {
  const counts = Object.fromEntries(Object.keys(STATES).map((state) => [state, 0]));
  for (const host of hosts) counts[stateOf(host, canonical)] += 1;
  return counts;
}

/** What is searched in for a host. */
export function haystack(host) {
  return [host.fqdn, host.ip, host.client_version, host.wrapper_version, host.canonical_digest, `#${host.id}`]
    .filter(Boolean)
    .join(" ")
    .toLowerCase();
}

/**
 * The hosts that match: every word of `search` occurs in the name, address, versions or digest.
 *
 * @param {any[]} hosts with `state` and `haystack`
 * @param {{search?: string, state?: string, trait?: string}} filter
 */
export function matching(hosts, { search = "", state = "", trait = "" }) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return hosts.filter(
    (host) =>
      (!state || host.state === state) &&
      (!trait || TRAITS[trait]?.test(host)) &&
      words.every((word) => host.haystack.includes(word)),
  );
}

/** What a host has of the fleet's login. */
export const HOLDS = {
  grant: "a grant of its own, which ends with its key",
  login: "the real login, with its refresh token",
  nothing: "nothing yet",
};

/** Traits that hosts of any state can have, to filter by. */
export const TRAITS = {
  roaming: { name: "Roaming", test: (host) => Boolean(host.allow_roaming_ips) },
  unbound: { name: "Bound to no address", test: (host) => !host.ip },
  no_auth: { name: "May not store credentials", test: (host) => host.allow_store_auth === false },
  no_prompts: { name: "May not store prompts", test: (host) => host.allow_store_prompts === false },
  no_keep: { name: "Keeps no credentials", test: (host) => host.allow_keep_auth === false },
  holds_login: { name: "Holds the real login", test: (host) => host.holds === "login" },
  background: { name: "Syncs in the background", test: (host) => Boolean(host.background_sync) },
  no_background: { name: "No background sync", test: (host) => !host.background_sync },
  late: {
    name: "Background sync is late",
    test: (host) => Boolean(host.background_sync) && isLate(host.background_sync, Date.now()),
  },
  silent: { name: "Silent for 7 days", test: (host) => isSilent(host, Date.now()) },
};

const SILENT_MS = 7 * 86_400_000;
/** A background sync calls every few minutes while its machine is awake. */
const LATE_MS = 3_600_000;

/** Whether a host's background sync should have called again by the time `now` in milliseconds. */
export function isLate(sync, now) {
  return now - Date.parse(sync.at) > LATE_MS;
}

/** Whether a host that has called before has not for a week, at the time `now` in milliseconds. */
export function isSilent(host, now) {
  return Boolean(host.last_seen_at) && now - Date.parse(host.last_seen_at) > SILENT_MS;
}
