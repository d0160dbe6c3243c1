import assert from "node:assert/strict";
import { test } from "node:test";

import { TRAITS, countStates, haystack, isLate, isSilent, matching, stateOf } from "./js/fleet_state.js";
import { compare, sorted } from "./js/sorting.js";
import { windowOf } from "./js/window_rows.js";

const seen = { status: "active", last_seen_at: "2026-11-24T12:00:00+00:00", canonical_digest: "aa" };

test("each host has one state", () => {
  assert.equal(stateOf(seen, "aa"), "in_sync");
  assert.equal(stateOf(seen, "bb"), "behind");
  assert.equal(stateOf(seen, null), "behind");
  assert.equal(stateOf({ ...seen, last_seen_at: null }, "aa"), "never_seen");
  assert.equal(stateOf({ ...seen, blocked_at: "2026-11-24T13:00:00Z" }, "aa"), "blocked");
  assert.equal(stateOf({ ...seen, status: "disabled", blocked_at: "2026-11-24T13:00:00Z" }, "aa"), "disabled");
  assert.deepEqual(countStates([seen, seen, { ...seen, status: "disabled" }], "aa"), {
    in_sync: 2,
    behind: 0,
    blocked: 0,
    never_seen: 0,
    disabled: 1,
  });
});

test("every word of a search has to be found; state and trait narrow it", () => {
  const hosts = [
    {
      id: 1,
      fqdn: "web1.example.net",
      ip: "10.0.0.1",
      client_version: "0.169.0",
      allow_roaming_ips: true,
      state: "in_sync",
    },
    { id: 2, fqdn: "web2.example.net", ip: null, client_version: "0.168.0", allow_roaming_ips: false, state: "behind" },
  ].map((host) => ({ ...host, haystack: haystack(host) }));
  const found = (filter) => matching(hosts, filter).map((host) => host.id);
  assert.deepEqual(found({}), [1, 2]);
  assert.deepEqual(found({ search: "WEB 0.168" }), [2]);
  assert.deepEqual(found({ search: "#1" }), [1]);
  assert.deepEqual(found({ search: "web3" }), []);
  assert.deepEqual(found({ state: "behind" }), [2]);
  assert.deepEqual(found({ trait: "roaming" }), [1]);
  assert.deepEqual(found({ trait: "unbound", state: "in_sync" }), []);
  assert.deepEqual(found({ trait: "nothing known" }), []);
  assert.ok(Object.values(TRAITS).every(({ name, test: has }) => name && typeof has(hosts[0]) === "boolean"));
});

test("a host that never called is not silent", () => {
  const now = Date.parse("2026-11-24T12:00:00Z");
  assert.ok(isSilent({ last_seen_at: "2026-11-01T12:00:00Z" }, now));
  assert.ok(!isSilent({ last_seen_at: "2026-11-20T12:00:00Z" }, now));
  assert.ok(!isSilent({ last_seen_at: null }, now));
});

test("a background sync that has not called for an hour is late", () => {
  const now = Date.parse("2026-11-24T12:00:00Z");
  assert.ok(isLate({ by: "cron", at: "2026-11-24T10:59:59Z" }, now));
  assert.ok(!isLate({ by: "cron", at: "2026-11-24T11:56:00Z" }, now));
});

test("rows are in the order of their numbers, with none at the end either way", () => {
  const names = ["web10", "web2", null, "Web1"];
  assert.deepEqual(
    sorted(names, (name) => name),
    ["Web1", "web2", "web10", null],
  );
  assert.deepEqual(
    sorted(names, (name) => name, true),
    ["web10", "web2", "Web1", null],
  );
  assert.ok(compare(2, 10) < 0);
  assert.equal(compare(null, undefined), 0);
});

test("rows that are equal stay as they stand", () => {
  const rows = [
    { key: 1, name: "a" },
    { key: 1, name: "b" },
    { key: 0, name: "c" },
  ];
  assert.deepEqual(
    sorted(rows, (row) => row.key).map((row) => row.name),
    ["c", "a", "b"],
  );
  assert.deepEqual(
    sorted(rows, (row) => row.key, true).map((row) => row.name),
    ["a", "b", "c"],
  );
});

test("a window has the rows in view and a few beside them, however many there are", () => {
  assert.deepEqual(windowOf(10_000, 0, 360, 36, 5), { first: 0, last: 15 });
  assert.deepEqual(windowOf(10_000, 3600, 360, 36, 5), { first: 95, last: 115 });
  assert.deepEqual(windowOf(10_000, 359_640, 360, 36, 5), { first: 9985, last: 10_000 });
  assert.deepEqual(windowOf(3, 0, 360, 36, 5), { first: 0, last: 3 });
  assert.deepEqual(windowOf(0, 0, 360, 36, 5), { first: 0, last: 0 });
  assert.deepEqual(windowOf(3, 100_000, 360, 36, 5), { first: 3, last: 3 }); // scrolled beyond a list that got short
});
