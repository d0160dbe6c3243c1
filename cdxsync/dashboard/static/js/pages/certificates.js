/** The certificates that the server has made: what for, how long they are valid, and which are revoked. */

import { get } from "../api.js";
import { fullTime, time } from "../clock.js";
import { badge, card, fill, h } from "../dom.js";
import { table } from "../table.js";
import { instant, span } from "../times.js";

const SOON_DAYS = 30;

/** A certificate's state at the time `now`, as a word and a tone. Pure. */
export function certificateState(certificate, now) {
  if (certificate.status === "revoked") return ["Revoked", "off"];
  const left = (instant(certificate.not_after) - now) / 1000;
  if (left <= 0) return ["Expired", "bad"];
  return left < SOON_DAYS * 86400 ? [`Ends in ${span(left)}`, "warn"] : ["Valid", "good"];
}

const KINDS = { ca: "CA", server: "Server", client: "Client" };

/** Draw the page. */
export async function certificatesPage({ body, signal }) {
  const [{ certificates }, { mtls }] = await Promise.all([
    get("certificates", {}, signal),
    get("overview", {}, signal),
  ]);
  const now = Date.now();
  const columns = [
    {
      title: "Name",
      head: true,
      sort: (row) => row.name,
      cell: (row) =>
        mtls?.fingerprint && row.fingerprint === mtls.fingerprint ? [row.name, " ", badge("yours", "plain")] : row.name,
    },
    { title: "Purpose", sort: (row) => row.kind, cell: (row) => KINDS[row.kind] ?? row.kind },
    {
      title: "State",
      sort: (row) => certificateState(row, now)[0],
      cell: (row) => badge(...certificateState(row, now)),
    },
    { title: "Ends", className: "nowrap", sort: (row) => row.not_after, cell: (row) => fullTime(row.not_after) },
    { title: "From", className: "nowrap", cell: (row) => time(row.not_before, { style: "full" }) },
    { title: "Serial", cell: (row) => h("code", null, row.serial) },
  ];
  fill(
    body,
    h(
      "div",
      { class: "stack" },
      card("Issued by this server", {
        flush: true,
        body: table({
          label: "Certificates",
          columns,
          rows: certificates,
          order: { column: 3, descending: false },
          none: "The server issued none; it uses those of the settings.",
        }),
      }),
      h(
        "p",
        { class: "muted small" },
        "Issue, renew and revoke them on the server: ",
        h("code", null, "cdxsync pki issue NAME"),
        ", ",
        h("code", null, "pki renew"),
        ", ",
        h("code", null, "pki revoke NAME"),
        ". For a browser: ",
        h("code", null, "cdxsync pki export NAME"),
        ".",
      ),
    ),
  );
}
