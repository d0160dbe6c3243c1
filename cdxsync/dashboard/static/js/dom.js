/** Making elements. Text is always set as text nodes, so data can never become markup. */

/**
 * An element with properties and children.
 *
 * `class`, `data-*`, `aria-*` and other names are attributes; `on…` names are listeners; null and false are left out;
 * true is an attribute without a value. Children are elements, texts, numbers, or lists of them; null is left out.
 *
 * @param {string} tag
 * @param {Record<string, any> | null} [attributes]
 * @param {...any} children
 * @returns {any}
 */
export function h(tag, attributes, ...children) {
  /** @type {any} */
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

/** Add children as `h` takes them. */
export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/**
 * Put other children into an element; what had the focus keeps it, when an element with the same id is among them.
 *
 * @param {any} element
 * @param {...any} children
 */
export function fill(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement?.id : "";
  element.replaceChildren();
  append(element, children);
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

let counter = 0;

/** An id that no other element has. */
export function uniqueId(prefix) {
  counter += 1;
  return `${prefix}-${counter}`;
}

/**
 * An element of the page's frame, which is always there.
 *
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`The page has no element ${id}`);
  return element;
}

/**
 * A card: a section with a heading, and actions at its right.
 *
 * @param {any} title
 * @param {{actions?: any[], body?: any, flush?: boolean, footer?: any, className?: string}} [parts]
 */
export function card(title, { actions = [], body = [], flush = false, footer = null, className = "" } = {}) {
  const id = uniqueId("card");
  return h(
    "section",
    { class: `card ${className}`, "aria-labelledby": id },
    h("header", null, h("h2", { id }, title), actions.length ? h("div", { class: "push" }, actions) : null),
    h("div", { class: flush ? "body flush" : "body" }, body),
    footer ? h("footer", null, footer) : null,
  );
}

/** A list of terms and what is said of each; pairs whose second is null are left out. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined);
  return h(
    "dl",
    { class: "facts" },
    shown.map(([term, value]) => [h("dt", null, term), h("dd", null, value)]),
  );
}

/** A word on a coloured ground; `tone` is good, warn, bad, off or "". */
export function badge(text, tone = "") {
  return h("span", { class: `badge ${tone}` }, text);
}

/** What stands in place of a list that is empty. */
export function empty(...text) {
  return h("div", { class: "empty" }, text);
}

/** What stands in place of something that is being read. */
export function loading(text = "Loading") {
  return h("div", { class: "loading" }, text);
}
