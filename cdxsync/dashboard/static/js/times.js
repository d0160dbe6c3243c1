/** Points in time and spans: reading the server's stamps, and writing them for people. Pure, but for the zone. */

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86400;
const YEAR = 365 * DAY;

/**
 * The milliseconds of a stamp: RFC 3339 with any fraction, or seconds since 1970 as the quota has them; NaN for others.
 *
 * @param {string | number | null | undefined} stamp
 */
export function instant(stamp) {
  if (stamp === null || stamp === undefined || stamp === "") return NaN;
  if (typeof stamp === "number" || /^\d+(\.\d+)?$/.test(stamp)) return Number(stamp) * 1000;
  return Date.parse(stamp.replace(/(\.\d{3})\d+/, "$1"));
}

const LONG = { dateStyle: "medium", timeStyle: "medium" };
const SHORT = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" };
/** Made once for each form and zone: making one takes longer than a whole row of a table. */
const formatters = new Map();

function formatter(form, timeZone) {
  const key = `${form === LONG ? "long" : "short"} ${timeZone}`;
  if (!formatters.has(key)) formatters.set(key, new Intl.DateTimeFormat("en-GB", { ...form, timeZone }));
  return formatters.get(key);
}

/** The exact time in UTC, with the fraction that the stamp has: `2026-11-24 09:12:33.123456789 UTC`. */
export function utc(stamp) {
  const at = instant(stamp);
  if (Number.isNaN(at)) return "";
  const fraction = typeof stamp === "string" ? (/\.\d+/.exec(stamp)?.[0] ?? "") : "";
  return `${new Date(at).toISOString().slice(0, 19).replace("T", " ")}${fraction} UTC`;
}

/** The time in a zone, the browser's own by default: `24 Nov 2026, 10:12:33`. */
export function local(stamp, timeZone) {
  const at = instant(stamp);
  if (Number.isNaN(at)) return "–";
  return formatter(LONG, timeZone).format(at);
}

/** The same without the year and seconds, for narrow places: `24 Nov, 10:12`. */
export function localShort(stamp, timeZone) {
  const at = instant(stamp);
  if (Number.isNaN(at)) return "–";
  return formatter(SHORT, timeZone).format(at);
}

/** A span of seconds in its largest unit or two: `45 s`, `3 min`, `2 h 5 min`, `4 d 3 h`. */
export function span(seconds) {
  const rest = Math.max(0, Math.round(seconds));
  if (rest < MINUTE) return `${rest} s`;
  if (rest < HOUR) return `${Math.floor(rest / MINUTE)} min`;
  if (rest < DAY) return two(rest, HOUR, "h", MINUTE, "min");
  if (rest < 14 * DAY) return two(rest, DAY, "d", HOUR, "h");
  return rest < 2 * YEAR ? `${Math.floor(rest / DAY)} d` : `${Math.floor(rest / YEAR)} y`;
}

function two(seconds, large, largeName, small, smallName) {
  const first = Math.floor(seconds / large);
  const second = Math.floor((seconds % large) / small);
  return second ? `${first} ${largeName} ${second} ${smallName}` : `${first} ${largeName}`;
}

/** A span of seconds in its largest unit alone: `4 h`. */
export function about(seconds) {
  return span(seconds).split(" ").slice(0, 2).join(" ");
}

/** How long ago or ahead a stamp is of `now` (milliseconds): `just now`, `3 h ago`, `in 2 h 5 min`. */
export function relative(stamp, now) {
  const at = instant(stamp);
  if (Number.isNaN(at)) return "–";
  const seconds = (now - at) / 1000;
  if (Math.abs(seconds) < 5) return "just now";
  return seconds > 0 ? `${about(seconds)} ago` : `in ${span(-seconds)}`;
}

/** The month before or after one, as `YYYY-MM`. */
export function shiftMonth(month, by) {
  const [year, number] = month.split("-").map(Number);
  return new Date(Date.UTC(year, number - 1 + by, 1)).toISOString().slice(0, 7);
}

/** The days of a month, as `YYYY-MM-DD`, up to and with `last` when that lies in it. */
export function daysOf(month, last) {
  const [year, number] = month.split("-").map(Number);
  const length = new Date(Date.UTC(year, number, 0)).getUTCDate();
  const days = Array.from({ length }, (_, day) => `${month}-${String(day + 1).padStart(2, "0")}`);
  return last ? days.filter((day) => day <= last) : days;
}

/** The UTC month of a time in milliseconds, as `YYYY-MM`: usage is counted by UTC days. */
export function monthOf(now) {
  return new Date(now).toISOString().slice(0, 7);
}

/** A month for people: `November 2026`. */
export function monthName(month) {
  /** @type {Intl.DateTimeFormatOptions} */
  const form = { month: "long", year: "numeric", timeZone: "UTC" };
  return new Intl.DateTimeFormat("en-GB", form).format(Date.parse(`${month}-01T00:00:00Z`));
}
