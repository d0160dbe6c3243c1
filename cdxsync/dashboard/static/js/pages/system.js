/** The server: the API's flag, versions, the runner, the jobs, and all that `doctor` says. */

import { get, post } from "../api.js";
import { fullTime, time } from "../clock.js";
import { badge, card, facts, fill, h } from "../dom.js";
import { confirm } from "../dialog.js";
import { count } from "../format.js";
import { complain, errorPanel, tell } from "../notices.js";
import { actionButton, findingsList, jobBadge, shortDigest } from "../parts.js";
import { table } from "../table.js";
import { span } from "../times.js";
import { inTurn, keepFresh, makePlaces } from "../live.js";
import { offReason, runJob, versionsButton } from "../jobs.js";

const EVERY_SECONDS = 15;

/** Draw the page. */
export async function systemPage({ head, body, signal }) {
  const { places, draw } = makePlaces(["state", "versions", "runner", "jobs", "doctor"]);
  const begin = inTurn();
  const load = async () => {
    const isNewest = begin();
    const [{ versions, jobs }, state, runner] = await Promise.all([
      get("overview", {}, signal),
      get("api/state", {}, signal),
      get("runner", {}, signal),
    ]);
    if (!isNewest()) return;
    const off = offReason(jobs, "versions");
    draw("state", state, () => stateCard(state, load));
    draw("versions", [versions, off], () => versionsCard(versions, off, load));
    draw("runner", runner, () => runnerCard(runner, load));
    draw("jobs", jobs, () => jobsCard(jobs, load));
  };
  const examine = async () => {
    const doctor = await get("doctor", {}, signal);
    draw("doctor", doctor, () => doctorCard(findingsList(doctor.checks, "Nothing was examined."), examine));
  };
  await keepFresh(head, EVERY_SECONDS, load, signal);
  fill(
    body,
    h(
      "div",
      { class: "grid" },
      h("div", { class: "w7 stack" }, places.jobs, places.doctor),
      h("div", { class: "w5 stack" }, places.versions, places.runner, places.state),
    ),
  );
  try {
    await examine();
  } catch (error) {
    if (!signal.aborted) draw("doctor", error.message, () => doctorCard(errorPanel(error), examine));
  }
}

function doctorCard(body, examine) {
  const again = async () => {
    await examine();
    tell("The server was examined");
  };
  return card("Doctor", {
    flush: true,
    actions: [actionButton("Examine again", again, "quiet", "doctor-again")],
    body,
    footer: "What the server can examine by itself. More on the server: cdxsync doctor",
  });
}

function stateCard({ disabled }, load) {
  const set = async () => {
    await post("api/state", { disabled: !disabled });
    tell(`The flag api_disabled was ${disabled ? "cleared" : "set"}`);
  };
  const change = () =>
    confirm({
      title: disabled ? "Clear the flag" : "Set the flag",
      label: disabled ? "Clear" : "Set",
      body: h(
        "p",
        null,
        "The flag api_disabled is kept and shown to programs that ask for it. Hosts can call, whatever it says.",
      ),
      run: set,
      done: load,
    });
  return card("API", {
    actions: [actionButton(disabled ? "Clear the flag" : "Set the flag", change, "quiet", "api-flag")],
    body: h(
      "p",
      null,
      "api_disabled: ",
      badge(disabled ? "set" : "not set", disabled ? "warn" : "good"),
      h("span", { class: "muted small" }, " Kept and shown; hosts can call either way."),
    ),
  });
}

function versionsCard(versions, off, load) {
  return card("Versions", {
    actions: off ? [] : [versionsButton(load)],
    body: facts([
      ["Not read", off || null],
      ["Newest Codex", versions.client_version ?? "unknown"],
      ["Checked", fullTime(versions.client_version_checked_at)],
      ["From", versions.client_version_source],
      ["Highest on a host", versions.reported_client_version ?? "none yet"],
      ["cdx", versions.wrapper_version],
      ["SHA-256 of cdx", shortDigest(versions.wrapper_sha256)],
    ]),
  });
}

const VERDICTS = { ok: "good", fail: "bad", unknown: "warn" };

function runnerCard(runner, load) {
  const run = actionButton(
    "Check the login now",
    async () => {
      const answer = await post("runner/run");
      const verdict = answer.validation;
      if (answer.pending) tell("The check goes on; it takes longer than usual");
      else if (verdict?.status === "ok") tell(`The login works${answer.applied ? ", and was refreshed" : ""}`);
      else if (verdict?.status === "unknown")
        complain(new Error(`The check could not tell whether the login works: ${verdict.reason}`));
      else complain(new Error(`The login was not accepted: ${verdict?.reason ?? "no verdict"}`));
      await load();
    },
    "quiet",
    "runner-run",
  );
  const verdict = runner.latest_validation;
  return card("Runner", {
    actions: runner.enabled ? [run] : [],
    body: facts([
      [
        "Backend",
        runner.enabled ? `${runner.backend}${runner.check ? `, by ${runner.check}` : ""}` : `off: ${runner.off_reason}`,
      ],
      ["Remote", runner.runner_url],
      [
        "Last check",
        verdict
          ? [
              badge(verdict.status, VERDICTS[verdict.status]),
              " ",
              time(verdict.created_at),
              verdict.reason ? `: ${verdict.reason}` : "",
            ]
          : "none yet",
      ],
      [
        "In 24 h",
        `${count(runner.counts.validations_24h)} checks, ${count(runner.counts.runner_store_24h)} documents brought back`,
      ],
      ["Refreshed by", runner.refresh.by],
      ["Token ends", runner.refresh.expires_at ? fullTime(runner.refresh.expires_at) : "not told"],
      ["Refresh due", runner.refresh.due_at ? fullTime(runner.refresh.due_at) : null],
    ]),
  });
}

function jobsCard(jobs, load) {
  const columns = [
    { title: "Job", head: true, cell: (job) => [job.name, h("div", { class: "muted small" }, job.help)] },
    { title: "State", cell: jobBadge },
    { title: "Every", className: "nowrap", cell: (job) => (job.interval_seconds ? span(job.interval_seconds) : "–") },
    {
      title: "Last run",
      cell: (job) => [
        time(job.last_finished_at),
        job.last_duration_ms !== null ? h("span", { class: "muted" }, ` · ${count(job.last_duration_ms)} ms`) : null,
        h("div", { class: job.last_error ? "bad small" : "muted small" }, job.last_error ?? job.last_result ?? ""),
      ],
    },
    {
      title: "Next",
      className: "nowrap",
      cell: (job) => (job.state === "off" ? "–" : time(job.next_run, { none: "when asked for" })),
    },
    {
      title: "",
      className: "actions",
      cell: (job) =>
        job.state === "off"
          ? h("span", { class: "visually-hidden" }, job.off_reason)
          : actionButton("Run", () => runJob(job.name, load), "quiet", `run-${job.name}`),
    },
  ];
  return card("Jobs", { flush: true, body: table({ label: "Background jobs", columns, rows: jobs }) });
}
