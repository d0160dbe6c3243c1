/** Parts that several pages show: states, gauges, jobs, findings, digests. */

import { busy } from "./dialog.js";
import { badge, empty, h } from "./dom.js";
import { STATES } from "./fleet_state.js";
import { digest, percent } from "./format.js";
import { time } from "./clock.js";
import { instant, span } from "./times.js";
import { complain } from "./notices.js";

/**
 * A button that does something over the network; errors become notices.
 *
 * @param {any} label
 * @param {() => any} run
 * @param {string} [kind]
 * @param {string | null} [id]
 */
export function actionButton(label, run, kind = "", id = null) {
  return h(
    "button",
    {
      type: "button",
      class: kind,
      id,
      onclick: (event) =>
        busy(event.currentTarget, async () => {
          try {
            await run();
          } catch (error) {
            complain(error);
          }
        }),
    },
    label,
  );
}

/** A host's state as a badge. */
export function stateBadge(state) {
  return badge(STATES[state].name, STATES[state].tone);
}

/** A digest's beginning; all of it on hover and for copying. */
export function shortDigest(value) {
  return value ? h("code", { title: value }, digest(value)) : "–";
}

/**
 * A bar that is filled in parts of a whole.
 *
 * @param {{fill: string, part: number}[]} parts
 * @param {number} total
 */
export function meter(parts, total) {
  return h(
    "div",
    { class: "meter", "aria-hidden": "true" },
    parts
      .filter(({ part }) => part > 0)
      .map(({ fill, part }) => {
        const bar = h("i", { class: fill });
        bar.style.width = `${percent(part, total)}%`;
        return bar;
      }),
  );
}

/** How full a quota window is, and when it resets. */
export function quotaGauge(name, window) {
  const used = window?.used_percent;
  if (typeof used !== "number") return h("div", { class: "gauge muted" }, `${name}: not told`);
  const tone = used >= 90 ? "bad" : used >= 70 ? "warn" : "good";
  const reset = Number.isNaN(instant(window.reset_at)) ? null : h("span", null, "resets ", time(window.reset_at));
  return h(
    "div",
    { class: "gauge" },
    h(
      "div",
      { class: "line" },
      h(
        "span",
        null,
        name,
        window.limit_seconds ? h("span", { class: "muted" }, ` · ${span(window.limit_seconds)}`) : null,
      ),
      h("strong", { class: tone }, `${used} %`),
    ),
    meter([{ fill: `fill-${tone}`, part: used }], 100),
    h("div", { class: "muted small" }, `${Math.max(0, 100 - used)} % left`, reset ? [" · ", reset] : null),
  );
}

/** The two windows of a quota row, whose columns are named `primary_used_percent` and so on. */
export function quotaGauges(row) {
  const window = (name) => ({
    used_percent: row[`${name}_used_percent`],
    limit_seconds: row[`${name}_limit_seconds`],
    reset_at: row[`${name}_reset_at`],
  });
  return [quotaGauge("Short window", window("primary")), quotaGauge("Long window", window("secondary"))];
}

const JOB_TONES = { running: "good", due: "", idle: "", held: "warn", off: "off" };

/** A job's state; one whose last run failed says so. */
export function jobBadge(job) {
  if (job.failures && job.state !== "off") return badge(`failed ${job.failures} ×`, "bad");
  return badge(job.state, JOB_TONES[job.state] ?? "");
}

const LEVELS = { ok: ["OK", "good"], warn: ["Warning", "warn"], fail: ["Failed", "bad"] };

/** What `doctor` has found: a level, the text, and the remedy (`mend`). */
export function findingsList(findings, none) {
  if (!findings.length) return empty(none);
  return h(
    "ul",
    { class: "findings" },
    findings.map(({ level, text, mend, check }) => {
      const [name, tone] = LEVELS[level] ?? [level, ""];
      return h(
        "li",
        null,
        badge(name, tone),
        h("div", null, check ? h("span", { class: "muted" }, `${check}: `) : null, text),
        mend ? h("div", { class: "mend" }, mend) : null,
      );
    }),
  );
}
