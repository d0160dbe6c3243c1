"""Safe retries: a repeated call with the same `Idempotency-Key` gets the same answer."""

import hashlib
from collections.abc import Callable

import msgspec

from cdxsync.base.errors import Invalid
from cdxsync.security import apikeys
from cdxsync.store.tables import Host, IdempotencyKey
from cdxsync.usage.schemas import Recorded

HEADER = "Idempotency-Key"
MAX_LENGTH = 255


def check_key(value: str | None) -> str | None:
    """The header's value, or None when it was not sent. Raises `Invalid`."""
    if value is None:
        return None
    if not value.strip() or len(value) > MAX_LENGTH or not value.isascii() or not value.isprintable():
        raise Invalid({HEADER: [f"must be 1 to {MAX_LENGTH} printable ASCII characters"]})
    return value.strip()


def once(
    host: Host, key: str | None, body: bytes, work: Callable[[], Recorded], again: Callable[[str], Recorded]
) -> Recorded:
    """The result of `work`, or the answer to an earlier call of the host with the same key and body.

    Of that no more is kept than when it was: the call that asks has the entries, of which `again` makes the answer.

    Within the caller's write transaction, so that the second of two concurrent calls finds the first's answer.
    Raises `Invalid` when the key was used for another body.
    """
    if key is None:
        return work()
    body_sha256 = hashlib.sha256(body).hexdigest()
    key_sha256 = apikeys.fingerprint(key)
    mine = (IdempotencyKey.host == host.id) & (IdempotencyKey.key_sha256 == key_sha256)
    remembered = IdempotencyKey.get_or_none(mine)
    if remembered is not None:
        if remembered.body_sha256 != body_sha256:
            raise Invalid(
                {HEADER: ["was used for another body; a new call needs a new key"]}, code="idempotency_key_reused"
            )
        answer = msgspec.json.decode(remembered.answer, type=Recorded)
        return answer if answer.usages else again(remembered.created_at)  # earlier versions have kept all of it
    answer = work()
    IdempotencyKey.insert(
        host=host.id,
        key_sha256=key_sha256,
        body_sha256=body_sha256,
        # An earlier version beside this one answers this, when it is asked.
        answer=msgspec.json.encode(Recorded(host_id=host.id, recorded=answer.recorded, usages=[])).decode(),
        created_at=answer.usages[0].recorded_at,
    ).execute()
    return answer
