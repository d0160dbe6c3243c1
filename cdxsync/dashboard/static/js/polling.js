/** Doing something again and again while its page is open and in view. */

import { isAbort } from "./api.js";

/**
 * Run `work` every `seconds` until `signal`; never twice at a time, and not while the tab is hidden, but at once when it
 * is shown again. `failed` gets each error, and null after a run that went well.
 *
 * @param {number} seconds
 * @param {() => Promise<any>} work
 * @param {AbortSignal} signal
 * @param {(error: Error | null) => void} [failed]
 */
export function every(seconds, work, signal, failed = () => {}) {
  if (signal.aborted) return;
  let running = false;
  let missed = false;

  async function run() {
    if (running || signal.aborted) return;
    if (document.hidden) {
      missed = true;
      return;
    }
    running = true;
    missed = false;
    try {
      await work();
      failed(null);
    } catch (error) {
      if (!isAbort(error) && !signal.aborted) failed(error);
    } finally {
      running = false;
    }
  }

  const timer = setInterval(run, seconds * 1000);
  const shown = () => {
    if (!document.hidden && missed) run();
  };
  document.addEventListener("visibilitychange", shown);
  signal.addEventListener("abort", () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", shown);
  });
}
