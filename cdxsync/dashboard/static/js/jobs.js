/** Background jobs: having one run, and saying how it ended. */

import { post } from "./api.js";
import { complain, tell } from "./notices.js";
import { actionButton } from "./parts.js";

/** A button that looks for the newest Codex and says what it found. */
export function versionsButton(refresh) {
  return actionButton(
    "Check now",
    async () => {
      const answer = await post("versions/check");
      if (answer.error) complain(new Error(`The newest release could not be read: ${answer.error}`));
      else
        tell(
          answer.pending
            ? "The check is still running; it takes longer than usual"
            : `The newest Codex is ${answer.available_client.version}`,
        );
      await refresh();
    },
    "quiet",
    "versions-check",
  );
}

/** Why a job is off, or "". */
export function offReason(jobs, name) {
  return jobs.find((job) => job.name === name)?.off_reason ?? "";
}

/** Run a job and say how it ended. */
export async function runJob(name, refresh) {
  const { job, pending } = await post(`jobs/${encodeURIComponent(name)}/run`);
  if (pending) tell(`The job ${name} is still running`);
  else if (job.last_error) complain(new Error(`The job ${name} failed: ${job.last_error}`));
  else tell(`The job ${name} has run: ${job.last_result ?? "done"}`);
  await refresh();
}
