/** Tables of moderate length: real heads, sort buttons with `aria-sort`, in a box that scrolls by itself. */

import { fill, h, uniqueId } from "./dom.js";
import { sorted } from "./sorting.js";

/**
 * @typedef {object} Column
 * @property {string} title
 * @property {(row: any) => any} cell a text or an element
 * @property {(row: any) => any} [sort] the value to sort by; without it the column cannot be sorted
 * @property {boolean} [number] set to the right
 * @property {boolean} [head] the cell names the row
 * @property {string} [className]
 * @property {boolean} [descendingFirst]
 */

/**
 * The head's row; `onSort` is called with the wanted order.
 *
 * @param {Column[]} columns
 * @param {{column: number, descending: boolean}} [order]
 * @param {(wanted: {column: number, descending: boolean}) => void} [onSort]
 */
export function headRow(columns, order, onSort) {
  return h(
    "tr",
    { role: "row" },
    columns.map((column, index) => {
      const active = order?.column === index;
      const direction = !column.sort ? null : active ? (order?.descending ? "descending" : "ascending") : "none";
      const kind = [column.number ? "number" : "", column.className ?? ""].join(" ").trim();
      const wanted = () =>
        onSort?.({ column: index, descending: active ? !order?.descending : Boolean(column.descendingFirst) });
      return h(
        "th",
        { role: "columnheader", scope: "col", class: kind, "aria-sort": direction },
        column.sort
          ? h(
              "button",
              { type: "button", class: "sort", id: `sort-${slug(column.title)}`, onclick: wanted },
              column.title,
            )
          : column.title || h("span", { class: "visually-hidden" }, "Actions"),
      );
    }),
  );
}

function slug(text) {
  return text.toLowerCase().replace(/[^a-z0-9]+/g, "-");
}

/** A row of cells. The roles are told, as a phone shows rows as cards, and browsers then forget what they are. */
export function bodyRow(columns, row, attributes = {}) {
  return h(
    "tr",
    { role: "row", ...attributes },
    columns.map((column) => {
      const kind = [column.number ? "number" : "", column.className ?? ""].join(" ").trim();
      const head = column.head ? { role: "rowheader", scope: "row" } : { role: "cell", "data-label": column.title };
      return h(column.head ? "th" : "td", { class: kind, ...head }, column.cell(row));
    }),
  );
}

/**
 * A table in its box. `label` names it; `order` is the first order, where the rows are to be sorted here.
 *
 * @param {object} options
 * @param {string} options.label
 * @param {Column[]} options.columns
 * @param {any[]} options.rows
 * @param {{column: number, descending: boolean}} [options.order]
 * @param {any} [options.none] stands there when there are no rows
 * @param {boolean} [options.cards] whether a phone shows rows as cards; else the box scrolls sideways
 * @param {boolean} [options.tall] whether it scrolls by itself when it has many rows
 */
export function table({ label, columns, rows, order, none = "Nothing yet.", tall = false, cards = true }) {
  if (!rows.length) return h("div", { class: "empty" }, none);
  const id = uniqueId("table");
  const head = h("thead", { role: "rowgroup" });
  const body = h("tbody", { role: "rowgroup" });
  const draw = () => {
    const value = order && columns[order.column].sort;
    const shown = order && value ? sorted(rows, value, order.descending) : rows;
    fill(
      head,
      headRow(columns, order, (wanted) => {
        order = wanted;
        draw();
      }),
    );
    fill(
      body,
      shown.map((row) => bodyRow(columns, row)),
    );
  };
  draw();
  return h(
    "div",
    { class: tall ? "table-box tall" : "table-box", role: "region", "aria-labelledby": id, tabindex: "0" },
    h(
      "table",
      { role: "table", class: cards ? "data cards" : "data" },
      h("caption", { id, class: "visually-hidden" }, label),
      head,
      body,
    ),
  );
}
