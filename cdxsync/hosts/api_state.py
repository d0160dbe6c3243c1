"""The flag `api_disabled`: kept and shown, and enforced nowhere (`docs/protocol.md 11.6`, `docs/decisions.md 12`)."""

from cdxsync.hosts.schemas import ApiState
from cdxsync.store import audit, named_values
from cdxsync.store.database import write

NAME = "api_disabled"


def get() -> ApiState:
    """The flag, as `GET /admin/api/state` answers."""
    return ApiState(disabled=named_values.get(NAME) == "1")


def put(disabled: bool, *, actor: str) -> ApiState:
    """Set the flag; returns what `get` does."""

    def work() -> None:
        named_values.put(NAME, "1" if disabled else "0")
        audit.record("admin.api.state", actor=actor, disabled=disabled)

    write(work)
    return ApiState(disabled=disabled)
