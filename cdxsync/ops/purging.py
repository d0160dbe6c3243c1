"""Undoing what one host has done: its prompts, its usage."""

from cdxsync.hosts import registry
from cdxsync.hosts.schemas import HostBrief, HostPurged, PurgeBody
from cdxsync.prompts import purging as prompts
from cdxsync.store import audit
from cdxsync.store.database import write
from cdxsync.store.tables import Host
from cdxsync.usage import purging as usage


def purge(host: Host, wanted: PurgeBody, *, actor: str) -> HostPurged:
    """Undo what is `wanted` of a host, all or none; its key and its documents stay. Raises `NotFound`."""

    def work() -> HostPurged:
        found = registry.by_id(host.id)
        restored, deleted = prompts.purge(found.id, audit.host_actor(found)) if wanted.prompts else (0, 0)
        rows = usage.purge(found.id) if wanted.usage else 0
        audit.record(
            "admin.host.purge",
            actor=actor,
            host=found,
            fqdn=found.fqdn,
            prompts=wanted.prompts,
            usage=wanted.usage,
            prompts_restored=restored,
            prompts_deleted=deleted,
            usage_rows=rows,
        )
        return HostPurged(
            host=HostBrief.of(registry.by_id(found.id)),
            prompts_restored=restored,
            prompts_deleted=deleted,
            usage_rows=rows,
        )

    return write(work)
