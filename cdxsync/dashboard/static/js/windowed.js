/** A table of any length, of which only the rows in view exist. */

import { bodyRow, headRow } from "./table.js";
import { fill, h, uniqueId } from "./dom.js";
import { ROW_PX, windowOf } from "./window_rows.js";

/**
 * The table; `show(rows, order)` gives it other rows, which have an `id` each, in the order in which they are shown.
 *
 * @param {object} options
 * @param {string} options.label
 * @param {import("./table.js").Column[]} options.columns
 * @param {(order: {column: number, descending: boolean}) => void} options.onSort
 */
export function windowedTable({ label, columns, onSort }) {
  const id = uniqueId("table");
  const head = h("thead", { role: "rowgroup" });
  const body = h("tbody", { role: "rowgroup" });
  const above = spacer();
  const below = spacer();
  const element = h(
    "table",
    { role: "table", class: "data", "aria-rowcount": "0" },
    h("caption", { id, class: "visually-hidden" }, label),
    head,
    body,
  );
  const box = h("div", { class: "windowed table-box", role: "region", "aria-labelledby": id, tabindex: "0" }, element);
  /** Rows that are there, by id, so that the focus stays in them while others come and go. */
  let present = new Map();
  let rows = [];
  let planned = 0;

  function draw() {
    planned = 0;
    const { first, last } = windowOf(rows.length, box.scrollTop, box.clientHeight || 600);
    const focused = [...present].find(([, { line }]) => line.contains(document.activeElement))?.[0];
    const kept = new Map();
    for (let index = first; index < last; index += 1) {
      const row = rows[index];
      const known = present.get(row.id);
      const line = known?.row === row ? known.line : bodyRow(columns, row);
      line.setAttribute("aria-rowindex", String(index + 2));
      kept.set(row.id, { row, line });
    }
    const lines = [...kept.values()].map((entry) => entry.line);
    above.firstChild.style.height = `${first * ROW_PX}px`;
    below.firstChild.style.height = `${(rows.length - last) * ROW_PX}px`;
    place(body, [above, ...lines, below]);
    present = kept;
    if (focused !== undefined && document.activeElement === document.body) {
      kept.get(focused)?.line.querySelector("a")?.focus({ preventScroll: true });
    }
  }

  function plan() {
    planned ||= requestAnimationFrame(draw);
  }

  box.addEventListener("scroll", plan, { passive: true });
  const sizes = new ResizeObserver(plan);
  sizes.observe(box);

  return {
    element: box,
    show(next, order) {
      rows = next;
      element.setAttribute("aria-rowcount", String(rows.length + 1));
      fill(head, headRow(columns, order, onSort));
      head.firstChild.setAttribute("aria-rowindex", "1");
      draw();
    },
    toTop() {
      box.scrollTop = 0;
    },
    dispose() {
      sizes.disconnect();
      cancelAnimationFrame(planned);
    },
  };
}

function spacer() {
  return h("tr", { class: "space", "aria-hidden": "true" }, h("td"));
}

/** Make `wanted` the children, moving none that stands right already: a moved element loses the focus. */
function place(parent, wanted) {
  const keep = new Set(wanted);
  for (const child of [...parent.children]) {
    if (!keep.has(child)) child.remove();
  }
  let next = parent.firstChild;
  for (const child of wanted) {
    if (child === next) next = next.nextSibling;
    else parent.insertBefore(child, next);
  }
}
