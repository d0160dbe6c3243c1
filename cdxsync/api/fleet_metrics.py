"""What `/metrics` tells beside the counts: the fleet as the database has it, and certificates, read when asked."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cdxsync.auth import canonical, grants, login
from cdxsync.background import definitions
from cdxsync.base import clock, metrics
from cdxsync.base.errors import CdxsyncError, DatabaseAway
from cdxsync.jobs import lease
from cdxsync.ops import homes
from cdxsync.security import pki
from cdxsync.store import driver_errors
from cdxsync.store.database import write
from cdxsync.store.driver_errors import translated
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import Job
from cdxsync.views import overview

if TYPE_CHECKING:
    from prometheus_client import Metric

_log = logging.getLogger("cdxsync.api")
_MICROSECOND = timedelta(microseconds=1)
_STATES = ("in_sync", "behind", "blocked", "never_seen", "disabled")


def exposition(fleet: Fleet, accept: str) -> tuple[bytes, str]:
    """All metrics, in the form that the header `Accept` asks for, and their content type."""
    from prometheus_client import CollectorRegistry, exposition

    encode, content_type = exposition.choose_encoder(accept)
    registry = CollectorRegistry()
    registry.register(metrics.registry())
    registry.register(_Fleet(fleet))
    return bytes(encode(registry)), content_type


class _Fleet:
    """A collector of `prometheus_client`."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def collect(self) -> Iterator["Metric"]:
        """The metrics. What the database holds is left out while that is away; `cdxsync_database_up` says so."""
        from prometheus_client.core import GaugeMetricFamily

        up = 1
        try:
            with translated():
                yield from [*self._hosts(), *self._canonical(), *self._login(), *self._jobs()]
        except (DatabaseAway, *driver_errors.known) as error:  # type: ignore[misc]  # mypy does not see a tuple of types
            _log.error("the fleet's metrics cannot be read: %s", error)
            up = 0
        yield GaugeMetricFamily("cdxsync_database_up", "Whether the database can be read.", value=up)
        yield self._certificates()

    def _hosts(self) -> Iterator["Metric"]:
        from prometheus_client.core import GaugeMetricFamily

        document = canonical.pointed()
        counts = overview.host_totals(document.digest if document else None)
        hosts = GaugeMetricFamily("cdxsync_hosts", "Hosts, each in one state.", labels=["state"])
        for state in _STATES:
            hosts.add_metric([state], getattr(counts, state))
        yield hosts

    def _canonical(self) -> Iterator["Metric"]:
        from prometheus_client.core import GaugeMetricFamily

        document = canonical.pointed()
        if document is not None:
            refreshed = clock.parse_rfc3339(document.last_refresh).microseconds
            age = (clock.Instant.of(clock.now()).microseconds - refreshed) * _MICROSECOND
            yield GaugeMetricFamily(
                "cdxsync_canonical_age_seconds", "Time since the canonical document was refreshed.", age.total_seconds()
            )

    def _login(self) -> Iterator["Metric"]:
        from prometheus_client.core import GaugeMetricFamily

        found = write(lambda: canonical.current(self._fleet))
        dead = found is not None and login.dead(found[1].content) is not None
        yield GaugeMetricFamily("cdxsync_login_dead", "Whether the provider has ended the login.", value=int(dead))
        holders = GaugeMetricFamily("cdxsync_login_holders", "Active hosts by what they hold.", labels=["holds"])
        for holds, count in grants.counts().items():
            holders.add_metric([holds], count)
        yield holders

    def _jobs(self) -> Iterator["Metric"]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        succeeded = GaugeMetricFamily(
            "cdxsync_job_last_success_timestamp_seconds", "When a job last succeeded.", labels=["job"]
        )
        failures = GaugeMetricFamily("cdxsync_job_failures", "Failures of a job in a row.", labels=["job"])
        runs = CounterMetricFamily("cdxsync_job_runs", "Runs of a job, in all servers.", labels=["job"])
        rows = lease.all_rows()
        for spec in definitions.specs(self._fleet.settings):
            row = rows.get(spec.name) or Job(name=spec.name)
            if row.last_succeeded_at is not None:
                succeeded.add_metric([spec.name], clock.read_stamp(row.last_succeeded_at).timestamp())
            failures.add_metric([spec.name], row.failures)
            runs.add_metric([spec.name], row.runs)
        yield from (succeeded, failures, runs)

    def _certificates(self) -> "Metric":
        from prometheus_client.core import GaugeMetricFamily

        settings = self._fleet.settings
        directory = settings.home / homes.PKI_NAME
        paths: dict[pki.Kind, Path] = {"ca": directory / "ca.pem"}
        if not settings.plain_http:
            paths["server"] = settings.tls_certificate or directory / "server.pem"
        family = GaugeMetricFamily(
            "cdxsync_certificate_expiry_timestamp_seconds", "When a certificate expires.", labels=["certificate"]
        )
        for name, path in paths.items():
            try:
                family.add_metric([name], pki.describe(name, path).not_after.timestamp())
            except CdxsyncError:
                continue  # its absence is what an alert can see
        return family
