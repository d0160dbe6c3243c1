import assert from "node:assert/strict";
import { test } from "node:test";

import { address, readAddress } from "./js/addresses.js";
import { costSeries, daysShort, partsOf, stack, tokenSeries } from "./js/usage_model.js";

const PATTERNS = ["", "hosts", "hosts/:id", "prompts/:name"];

test("an address names a page, its parameters and its query", () => {
  assert.deepEqual(readAddress("#/hosts/12", PATTERNS).params, { id: "12" });
  assert.equal(readAddress("", PATTERNS).pattern, "");
  assert.equal(readAddress("#/", PATTERNS).pattern, "");
  const { pattern, query } = readAddress("#/hosts?q=a%26b&state=behind", PATTERNS);
  assert.equal(pattern, "hosts");
  assert.equal(query.get("q"), "a&b");
  assert.equal(readAddress("#/prompts/a%2Fb.md", PATTERNS).params.name, "a/b.md");
});

test("what is no page is none, also when it is not written well", () => {
  assert.equal(readAddress("#/nowhere", PATTERNS).pattern, null);
  assert.equal(readAddress("#/hosts/1/2", PATTERNS).pattern, null);
  assert.equal(readAddress("#/hosts/%", PATTERNS).pattern, null);
});

test("an address is read as it was written; empty values are left out", () => {
  assert.equal(address("hosts", { q: "", state: null, trait: undefined, x: false }), "#/hosts");
  const text = address("hosts", { q: "a b&c#d?e" });
  assert.equal(readAddress(text, PATTERNS).query.get("q"), "a b&c#d?e");
});

test("the parts of a total are told apart, and never less than nothing", () => {
  assert.deepEqual(partsOf({ total: 64_880, input: 6_200, output: 560, cached: 58_120 }), {
    fresh: 6_200,
    cached: 58_120,
    output: 560,
    other: 0,
  });
  assert.deepEqual(partsOf({ total: 50, input: 0, output: 0, cached: 0 }), {
    fresh: 0,
    cached: 0,
    output: 0,
    other: 50,
  });
  assert.deepEqual(partsOf({ total: 5, input: 10, output: 0, cached: 20 }), {
    fresh: 10,
    cached: 20,
    output: 0,
    other: 0,
  });
});

test("series have a value for each day, and leave out what is nothing", () => {
  const rows = [{ day: "2026-11-02", total: 12, input: 10, output: 2, cached: 0, cost: 0.5 }];
  const days = ["2026-11-01", "2026-11-02"];
  assert.deepEqual(
    tokenSeries(rows, days).map(({ name, values }) => [name, values]),
    [
      ["Output", [0, 2]],
      ["Input", [0, 10]],
    ],
  );
  assert.deepEqual(
    tokenSeries([], days).map(({ name }) => name),
    ["Output"],
  );
  assert.deepEqual(costSeries(rows, days)[0].values, [0, 0.5]);
});

test("stacked values are cumulative, the highest first", () => {
  assert.deepEqual(
    stack(
      [
        [1, 2],
        [10, 20],
      ],
      2,
    ),
    [
      [0, 1],
      [11, 22],
      [1, 2],
    ],
  );
  assert.equal(daysShort("2026-11-07"), "7");
  assert.equal(daysShort(undefined), "");
});
