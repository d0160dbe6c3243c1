/** Numbers, money, sizes and digests as people read them. Pure functions. */

const LOCALE = "en-GB";
const whole = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

/** A whole number with separators, or a dash for none. */
export function count(value) {
  return typeof value === "number" && Number.isFinite(value) ? whole.format(value) : "–";
}

/** A number with its noun, in the right number: `1 host`, `2,000 hosts`. */
export function counted(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** A large number in few characters: `1.2M`. */
export function compact(value) {
  return typeof value === "number" && Number.isFinite(value) ? short.format(value) : "–";
}

/** A share of a whole in percent, from 0 to 100; 0 of nothing. */
export function percent(part, total) {
  return total > 0 ? Math.min(100, Math.max(0, (100 * part) / total)) : 0;
}

/**
 * An amount of money; small amounts keep the digits that tell them from nothing.
 *
 * @param {number | null | undefined} value
 * @param {string | null} [currency] an ISO 4217 code; one that is unknown is written behind the number
 */
export function money(value, currency) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "–";
  const digits = value !== 0 && Math.abs(value) < 0.1 ? 4 : 2;
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  if (!currency) return new Intl.NumberFormat(LOCALE, options).format(value);
  try {
    return new Intl.NumberFormat("en-US", { ...options, style: "currency", currency }).format(value);
  } catch {
    return `${new Intl.NumberFormat(LOCALE, options).format(value)} ${currency}`;
  }
}

/** The price of something small: as many digits as it has, up to six. */
export function price(value, currency) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "–";
  return `${new Intl.NumberFormat(LOCALE, { minimumFractionDigits: 2, maximumFractionDigits: 6 }).format(value)} ${currency}`;
}

/** A share for people: `12.3 %`. */
export function share(part, total) {
  return `${percent(part, total).toFixed(1)} %`;
}

/** A number of bytes: `512 B`, `1.5 KiB`. */
export function bytes(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "–";
  const units = ["B", "KiB", "MiB", "GiB"];
  let rest = value;
  let unit = 0;
  while (rest >= 1024 && unit < units.length - 1) {
    rest /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? rest : rest.toFixed(1)} ${units[unit]}`;
}

/** The beginning of a digest, enough to tell two apart. */
export function digest(value) {
  return value ? value.slice(0, 12) : "–";
}

/**
 * The details of an audit row as pairs of name and text; what is no JSON object is one pair without a name.
 *
 * @param {string | null} details
 * @returns {[string, string][]}
 */
export function detailPairs(details) {
  if (!details) return [];
  let parsed;
  try {
    parsed = JSON.parse(details);
  } catch {
    return [["", details]];
  }
  if (parsed === null || typeof parsed !== "object" || Array.isArray(parsed)) return [["", JSON.stringify(parsed)]];
  return Object.entries(parsed).map(([name, value]) => [
    name,
    typeof value === "string" ? value : JSON.stringify(value),
  ]);
}
