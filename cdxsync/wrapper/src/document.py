"""auth.json as it is on disk: its content, date and digest."""

from __future__ import annotations

import datetime
import json
import re
import time
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.accounts import NO_LOGIN, holds_grant, is_login, tokens_of
from cdxsync.wrapper.src.file_trouble import Unreadable
from cdxsync.wrapper.src.files import identity_of, read_regular, sha256_of
from cdxsync.wrapper.src.messages import debug

if TYPE_CHECKING:
    from typing import Any

    from cdxsync.wrapper.src.files import Identity

# The date of what has none: older than every login that has one.
UNDATED = "2000-01-01T00:00:00Z"
NO_DOCUMENT: dict[str, Any] = {"last_refresh": UNDATED, "auths": {}}
RFC_3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(\.\d+)?(?:[Zz]|([+-])(\d\d):(\d\d))\Z", re.ASCII)


class LocalDocument:
    """auth.json as it is on disk: its content (None when there is no usable one) and what identifies that file.

    Raises Unreadable for one that is there and cannot be read.
    """

    def __init__(self, path: str) -> None:
        self.document: dict[str, Any] | None = None
        self.unreadable = False
        self.dated = False
        self.identity: Identity | None = None
        try:
            text, status = read_regular(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise Unreadable(path, error) from None
        self.identity = identity_of(status)
        try:
            document = json.loads(text.decode("utf-8"))
        except ValueError:
            document = None
        if isinstance(document, dict) and not holds_credentials(document):
            debug("%s holds no credentials" % path)
        elif isinstance(document, dict):
            self.dated = parse_time(document.get("last_refresh")) is not None
            if not self.dated:
                # The file's own date would make an old copy the newest.
                document = dict(document, last_refresh=UNDATED)
            self.document = document
        else:
            self.unreadable = bool(text.strip())

    def claim(self, newest: bool = True) -> dict[str, str]:
        """What the server is told of this document. Not `newest`: that it is older than any other."""
        document = NO_DOCUMENT if self.document is None else self.document
        # A grant is never to be stored, whatever its date: that is this host's where Codex has rewritten the file.
        date = document["last_refresh"] if newest and not holds_grant(self.document) else UNDATED
        return {"last_refresh": date, "digest": document_digest(document)}


def holds_credentials(document: dict[str, Any]) -> bool:
    """Whether there is a login of any kind in a document: an empty one must not pass for the newest."""
    if tokens_of(document).get("access_token") or document.get("OPENAI_API_KEY") or document.get("auths"):
        return True
    return any(is_login(value) for name, value in document.items() if name not in NO_LOGIN)


def document_digest(document: dict[str, Any]) -> str:
    """SHA-256 of the compact document, in its own key order."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return sha256_of(text.encode("utf-8", "surrogatepass"))


def format_time(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + ".%06dZ" % (seconds % 1 * 1e6)


def parse_time(text: object) -> float | None:
    """Seconds since the epoch of an RFC 3339 text, or None."""
    match = isinstance(text, str) and RFC_3339.match(text)
    if not match:
        return None
    try:
        year, month, day, hour, minute, second = map(int, match.groups()[:6])
        at = datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.timezone.utc)
    except ValueError:
        return None
    offset = int(match.group(9) or 0) * 3600 + int(match.group(10) or 0) * 60
    return at.timestamp() - (-offset if match.group(8) == "-" else offset) + float(match.group(7) or 0)
