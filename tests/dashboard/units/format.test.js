import assert from "node:assert/strict";
import { test } from "node:test";

import { bytes, compact, count, counted, detailPairs, digest, money, percent, price, share } from "./js/format.js";

test("whole numbers have separators, and what is no number is a dash", () => {
  assert.equal(count(1234567), "1,234,567");
  assert.equal(count(0), "0");
  for (const none of [null, undefined, NaN, Infinity, "7"]) assert.equal(count(none), "–");
});

test("a number agrees with its noun", () => {
  assert.equal(counted(1, "host"), "1 host");
  assert.equal(counted(0, "host"), "0 hosts");
  assert.equal(counted(2000, "entry", "entries"), "2,000 entries");
});

test("large numbers are short", () => {
  assert.equal(compact(950), "950");
  assert.equal(compact(1_250_000), "1.3M");
  assert.equal(compact(null), "–");
});

test("money keeps the digits that tell small amounts from nothing", () => {
  assert.equal(money(1234.5, "USD"), "$1,234.50");
  assert.equal(money(0.0123, "USD"), "$0.0123");
  assert.equal(money(0, "USD"), "$0.00");
  assert.equal(money(3, null), "3.00");
  assert.equal(money(3, "no currency"), "3.00 no currency");
  assert.equal(money(null, "USD"), "–");
});

test("prices have all their digits", () => {
  assert.equal(price(0.000125, "USD"), "0.000125 USD");
  assert.equal(price(0.01, "EUR"), "0.01 EUR");
  assert.equal(price(undefined, "USD"), "–");
});

test("shares stay between 0 and 100, also of nothing", () => {
  assert.equal(percent(1, 4), 25);
  assert.equal(percent(5, 0), 0);
  assert.equal(percent(9, 3), 100);
  assert.equal(share(1, 3), "33.3 %");
});

test("sizes have units", () => {
  assert.equal(bytes(512), "512 B");
  assert.equal(bytes(1536), "1.5 KiB");
  assert.equal(bytes(3 * 1024 * 1024), "3.0 MiB");
});

test("digests are cut", () => {
  assert.equal(digest("0123456789abcdef"), "0123456789ab");
  assert.equal(digest(null), "–");
});

test("details are pairs; what is no object, or no JSON, is one text", () => {
  assert.deepEqual(detailPairs('{"a":1,"b":"x","c":null,"d":{"e":[]}}'), [
    ["a", "1"],
    ["b", "x"],
    ["c", "null"],
    ["d", '{"e":[]}'],
  ]);
  assert.deepEqual(detailPairs("[1]"), [["", "[1]"]]);
  assert.deepEqual(detailPairs("null"), [["", "null"]]);
  assert.deepEqual(detailPairs("<b>not json"), [["", "<b>not json"]]);
  assert.deepEqual(detailPairs(null), []);
});
