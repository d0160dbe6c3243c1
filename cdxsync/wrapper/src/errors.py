"""What goes wrong with the server, and what each of its error codes means for cdx."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


class SyncError(Exception):
    """The sync could not be done; the text says why."""

    # What the user can do about it; %s is the host's name.
    remedy = ""


class Offline(SyncError):
    """The server could not be asked: cached credentials may do for a while."""


class Later(Offline):
    """The server has taken nothing of the call, and takes it later."""


class Refused(SyncError):
    """The server knows this host, or its key, as one that may not have the credentials."""

    remedy = "Ask your admin to look at: cdxsync hosts show %s"


class Rejected(SyncError):
    """The server found the request wrong."""


class NotTaken(Rejected):
    """The server does not take this host's document; the fleet has none that is newer."""


class NotPermitted(NotTaken):
    """An admin has forbidden this host to store documents, or prompts, for the fleet."""


class OtherAccount(NotTaken):
    """The login here is of another account than the fleet's."""


class NotShareable(NotTaken):
    """The login here is of a kind that hosts cannot share."""


class NoCredentials(SyncError):
    """Neither the fleet nor this host has an auth.json."""


NEW_KEY = "Ask your admin to run: cdxsync hosts register %s   and install cdx again with what it prints"
NEW_ADDRESS = "The address of this machine has changed. Ask your admin to run: cdxsync hosts unbind %s"
ENABLE = "Ask your admin to run: cdxsync hosts enable %s"
# Error codes that mean more than their HTTP status: what is raised, and its remedy.
DECISIONS = {
    "key_missing": (Refused, NEW_KEY),
    "key_invalid": (Refused, NEW_KEY),
    "address_not_bound": (Refused, NEW_ADDRESS),
    "host_disabled": (Refused, ENABLE),
    "store_not_permitted": (NotPermitted, ""),
    "prompts_not_permitted": (NotPermitted, ""),
}
# Codes of a document that stays on its host; why is said of its fields.
KEPT_LOGINS = {"other_account": OtherAccount, "login_not_shareable": NotShareable}
# Servers before error codes: the texts by which cdx knows them. No other place decides by the words of a message.
TEXTS_OF_OLDER_SERVERS = (
    (401, "API key missing", "key_missing"),
    (401, "Invalid API key", "key_invalid"),
    (403, "API key not allowed from this IP", "address_not_bound"),
    (403, "Host is disabled", "host_disabled"),
    (403, "may not store", "store_not_permitted"),
)


def code_of(status: int, answer: dict[str, Any]) -> str:
    """The error code of an answer, or an empty text."""
    code = answer.get("code")
    if isinstance(code, str):
        return code
    message = answer.get("message")
    for expected, text, known in TEXTS_OF_OLDER_SERVERS:
        if status == expected and isinstance(message, str) and text in message:
            return known
    return ""


def failure(status: int, answer: dict[str, Any]) -> SyncError:
    """What to raise for an answer that is not a good one: decided by its code, and else by its HTTP status."""
    message = answer.get("message")
    reason = message if isinstance(message, str) else "HTTP status %d" % status
    fields = answer.get("errors")
    texts: list[tuple[object, object]] = []
    if isinstance(fields, dict):
        texts = [(name, text) for name, found in fields.items() if isinstance(found, list) for text in found]
    kept = KEPT_LOGINS.get(code_of(status, answer))
    if kept is not None:
        return kept("; ".join("auth.json %s" % text for _, text in texts) or reason)
    kind, remedy = DECISIONS.get(code_of(status, answer), (None, ""))
    if kind is not None:
        error = kind(reason)
        error.remedy = remedy
        return error
    if status in (401, 403):
        return Refused(reason)
    if status == 429:
        return Later("the server cannot answer now: %s" % reason)
    if status >= 500 or status < 400:
        return Offline("the server cannot answer now: %s" % reason)
    if texts:
        reason = "%s: %s" % (reason, "; ".join("%s %s" % pair for pair in texts))
    return Rejected("the server refuses the request: %s" % reason)
