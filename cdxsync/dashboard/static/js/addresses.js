/** Addresses within the page: `#/hosts/12?tab=log` to the name of a page, its parameters and its query. */

/**
 * Read an address. Pure.
 *
 * @param {string} hash
 * @param {string[]} patterns such as `hosts/:id`
 * @returns {{pattern: string | null, path: string, params: Record<string, string>, query: URLSearchParams}}
 */
export function readAddress(hash, patterns) {
  const [path, query = ""] = hash.replace(/^#?\/?/, "").split(/\?(.*)/s);
  const parts = path.split("/").filter(Boolean);
  for (const pattern of patterns) {
    const params = match(pattern.split("/").filter(Boolean), parts);
    if (params) return { pattern, path, params, query: new URLSearchParams(query) };
  }
  return { pattern: null, path, params: {}, query: new URLSearchParams(query) };
}

function match(pattern, parts) {
  if (pattern.length !== parts.length) return null;
  /** @type {Record<string, string>} */
  const params = {};
  for (const [index, name] of pattern.entries()) {
    if (!name.startsWith(":")) {
      if (name !== parts[index]) return null;
      continue;
    }
    try {
      params[name.slice(1)] = decodeURIComponent(parts[index]);
    } catch {
      return null;
    }
  }
  return params;
}

/** The address of a page with the values of a query that are not empty. Pure. */
export function address(path, query = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "" && value !== false) search.set(name, String(value));
  }
  const text = search.toString();
  return `#/${path}${text ? `?${text}` : ""}`;
}

/** Put a filter into the address, so that it can be kept and shared, without a step in the history. */
export function keepInAddress(path, query) {
  history.replaceState(null, "", address(path, query));
}
