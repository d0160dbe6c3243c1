/** Pages that are read again and again: what has changed is redrawn, and how fresh it is stands in the head. */

import { time } from "./clock.js";
import { fill, h } from "./dom.js";
import { every } from "./polling.js";

/**
 * Places for the parts of a page. `draw` fills one when `data`, which it shows, is not what it showed before; so the
 * focus, and what is selected, stay where nothing has changed.
 *
 * @param {string[]} names
 * @returns {{places: Record<string, HTMLElement>, draw: (name: string, data: any, make: () => any) => void}}
 */
export function makePlaces(names) {
  const places = Object.fromEntries(names.map((name) => [name, h("div", { class: "stack" })]));
  const shown = new Map();
  const draw = (name, data, make) => {
    const text = JSON.stringify(data);
    if (shown.get(name) === text) return;
    shown.set(name, text);
    fill(places[name], make());
  };
  return { places, draw };
}

/**
 * Keeps what was read from being shown over what was read later: readings overlap when an action reads again while the
 * page does. Called when a reading begins, it returns what tells at its end whether it is still to be shown. Pure.
 *
 * @returns {() => () => boolean}
 */
export function inTurn() {
  let begun = 0;
  let shown = 0;
  return () => {
    const mine = ++begun;
    return () => {
      if (mine < shown) return false;
      shown = mine;
      return true;
    };
  };
}

/**
 * Load now, and then every `seconds` when it is `wanted`, and say in the head of when it is, or why it is not up to
 * date. Returns what loads at once. Throws what the first load does.
 *
 * @param {HTMLElement} head
 * @param {number} seconds
 * @param {() => Promise<any>} load
 * @param {AbortSignal} signal
 * @param {() => boolean} [wanted]
 */
export async function keepFresh(head, seconds, load, signal, wanted = () => true) {
  const freshness = h("span", { class: "about small" });
  const say = (error) => {
    if (error) fill(freshness, h("span", { class: "bad" }, `not up to date: ${error.message}`));
    else fill(freshness, "as of ", time(new Date().toISOString()));
  };
  const read = async () => {
    await load();
    say(null);
  };
  await read();
  head.querySelector("h1")?.after(freshness);
  const again = async () => {
    if (wanted()) await read();
  };
  every(seconds, again, signal, (error) => {
    if (error) say(error);
  });
  return read;
}
