"""A host deregisters itself (`docs/protocol.md 2.6`)."""

from cdxsync.hosts import registry
from cdxsync.hosts.admission import Caller
from cdxsync.store import audit
from cdxsync.store.database import write


def deregister(caller: Caller, *, anywhere: bool) -> None:
    """Delete the host that calls; whether it may is decided in the same transaction.

    With `anywhere` also from another address than the bound one, which this does not bind. Raises `RowChanged`.
    """
    actor = audit.host_actor(caller)

    def work() -> None:
        host = caller.row(anywhere=anywhere)
        if host.ip and host.ip != caller.address and not host.allow_roaming_ips:
            audit.record("auth.force_ip_override", actor=actor, host=None, previous_ip=host.ip, ip=caller.address)
        registry.remove(host, actor=actor, action="host.delete", initiator="host_api")

    write(work)
