import assert from "node:assert/strict";
import { test } from "node:test";

import {
  about,
  daysOf,
  instant,
  local,
  localShort,
  monthName,
  monthOf,
  relative,
  shiftMonth,
  span,
  utc,
} from "./js/times.js";

const NOW = Date.parse("2026-11-24T12:00:00Z");

test("stamps are read with any fraction, with an offset, and as seconds", () => {
  assert.equal(instant("2026-11-24T12:00:00+00:00"), NOW);
  assert.equal(instant("2026-11-24T13:00:00+01:00"), NOW);
  assert.equal(instant("2026-11-24T12:00:00.123456789Z"), NOW + 123);
  assert.equal(instant(NOW / 1000), NOW);
  assert.equal(instant(String(NOW / 1000)), NOW);
  for (const none of [null, undefined, "", "soon"]) assert.ok(Number.isNaN(instant(none)));
});

test("UTC is exact to the digits of the stamp", () => {
  assert.equal(utc("2026-11-24T12:00:00.123456789Z"), "2026-11-24 12:00:00.123456789 UTC");
  assert.equal(utc("2026-11-24T13:00:00+01:00"), "2026-11-24 12:00:00 UTC");
  assert.equal(utc(NOW / 1000), "2026-11-24 12:00:00 UTC");
  assert.equal(utc("soon"), "");
});

test("local times are of the zone", () => {
  assert.match(local("2026-11-24T23:30:00Z", "Europe/Berlin"), /25 Nov 2026.*00:30:00/);
  assert.match(localShort("2026-07-01T23:30:00Z", "America/New_York"), /1 Jul.*19:30/);
  assert.equal(local(null), "–");
});

test("spans have one unit or two", () => {
  const texts = {
    0: "0 s",
    59: "59 s",
    60: "1 min",
    3599: "59 min",
    3600: "1 h",
    3900: "1 h 5 min",
    86399: "23 h 59 min",
    90000: "1 d 1 h",
    1209600: "14 d",
    1300000: "15 d",
    63072000: "2 y",
  };
  for (const [seconds, text] of Object.entries(texts)) assert.equal(span(Number(seconds)), text);
  assert.equal(span(-5), "0 s");
  assert.equal(about(3900), "1 h");
});

test("ages and what is to come are told apart", () => {
  assert.equal(relative("2026-11-24T11:59:58Z", NOW), "just now");
  assert.equal(relative("2026-11-24T09:55:00Z", NOW), "2 h ago");
  assert.equal(relative("2026-11-24T14:05:00Z", NOW), "in 2 h 5 min");
  assert.equal(relative(null, NOW), "–");
});

test("months go on over the year, and have their days", () => {
  assert.equal(shiftMonth("2026-12", 1), "2027-01");
  assert.equal(shiftMonth("2026-01", -1), "2025-12");
  assert.equal(daysOf("2028-02").length, 29);
  assert.deepEqual(daysOf("2026-11", "2026-11-03"), ["2026-11-01", "2026-11-02", "2026-11-03"]);
  assert.equal(daysOf("2026-10", "2026-11-03").length, 31);
  assert.equal(monthOf(Date.parse("2026-12-01T00:30:00+01:00")), "2026-11");
  assert.equal(monthName("2026-11"), "November 2026");
});
