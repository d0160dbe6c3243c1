"""`POST /usage`: a host reports the tokens that Codex has used."""

from bottle import request

from cdxsync.api import bodies
from cdxsync.api.routes import Caller, Context, Group, Parameter, Routes
from cdxsync.hosts import admission
from cdxsync.usage import idempotency, recording
from cdxsync.usage.schemas import Entry, Recorded, UsageBody

ROUTES = Routes(Group.HOSTS, Caller.HOST)
_KEY = Parameter(idempotency.HEADER, str, "A repeated call with the same key and body is counted once.")


@ROUTES.post("/usage", "Report tokens, all entries or none", headers=(_KEY,), body=Entry | UsageBody, errors=(422,))
def report(context: Context) -> Recorded:
    """Store the entries of the body."""

    def run(caller: admission.Caller, raw: bytes) -> Recorded:
        key = request.environ.get("HTTP_IDEMPOTENCY_KEY")
        body = bodies.object_of(raw)
        return recording.record(context.fleet.settings, caller, body, raw, key)

    return context.hosts.run(run)
