"""The checks of `cdxsync doctor`: small ones over one home, whatever its state.

A check is a function from the `Subject` to findings, with a name and the checks that it needs. To add one, write it in
the module of its subject and list it in `CHECKS`.
"""

from collections.abc import Collection, Sequence

from cdxsync.ops.doctor import audit, certificates, documents, home, hosts, jobs, network, storage
from cdxsync.ops.doctor.model import Check, Finding, Level, Subject, examine_with, worst
from cdxsync.ops.doctor.schemas import CheckFinding, Report

CHECKS: Sequence[Check] = (
    Check("settings", home.settings),
    Check("home", home.directory),
    Check("files", home.files, ("home",)),
    Check("leftovers", home.leftovers, ("home",)),
    Check("disk", home.disk, ("home",)),
    Check("database", storage.database, ("settings", "home")),
    Check("database-tls", storage.tls, ("database",)),
    Check("migrations", storage.schema, ("database",)),
    Check("keyring", storage.keyring, ("migrations",)),
    Check("audit-log", audit.rows, ("keyring",)),
    Check("audit-sinks", audit.sinks, ("settings", "migrations")),
    Check("rights", storage.rows, ("keyring",)),
    Check("signing", storage.signing_keys, ("migrations",)),
    Check("certificates", certificates.certificates, ("settings", "home")),
    Check("revocation", certificates.revocation_list, ("home",)),
    Check("clock", home.clock_of_files, ("home",)),
    Check("clock-database", storage.clock_of_rows, ("migrations",)),
    Check("public-url", network.public_url, ("settings", "home")),
    Check("token-endpoint", network.token_endpoint, ("settings",)),
    Check("canonical", documents.canonical_document, ("keyring",)),
    Check("access-token", documents.access_token, ("canonical",)),
    Check("jobs", jobs.jobs, ("keyring",)),
    Check("hosts", hosts.silent, ("migrations",)),
    Check("installers", hosts.expired_installers, ("migrations",)),
)
NOT_IN_A_SERVER = ("database", "public-url", "token-endpoint")
"""Checks that a running server skips: one opens the database again and reads all of it, two call servers."""


def names() -> list[str]:
    """The names of all checks."""
    return [check.name for check in CHECKS]


def examine(subject: Subject, skip: Collection[str] = ()) -> list[Finding]:
    """Run all checks except those to `skip`, in order; a failing one does not stop the others."""
    given = subject.database
    try:
        return examine_with(CHECKS, subject, skip)
    finally:
        if subject.database is not None and subject.database is not given:
            subject.database.close()


def report(findings: Sequence[Finding]) -> Report:
    """What `GET /admin/doctor` answers."""
    return Report(level=worst(findings), checks=[CheckFinding.of(finding) for finding in findings])


__all__ = ["CHECKS", "NOT_IN_A_SERVER", "Check", "Finding", "Level", "Subject", "examine", "names", "report"]
