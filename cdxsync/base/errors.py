"""The exceptions of the package, their codes, and what each means at every door. No message may hold a secret.

    CdxsyncError
    ├── Failed               the work could not be done
    │   └── ServiceError     a service outside the fleet did not answer as needed
    ├── Malformed            the body is not JSON text
    ├── Invalid              fields are wrong; `errors` names all of them
    ├── Unauthenticated      no key, or one that is not known
    ├── Refused              known, but not allowed
    │   └── Foreign          another web page made the browser send the request
    ├── NotFound             no such host, document, prompt, job, key or certificate
    ├── Gone                 it was there once
    ├── Conflict             it contradicts what is there
    ├── TooLarge             the body exceeds the limit
    ├── UnsupportedMedia     the body is plainly not JSON
    ├── TooManyRequests      above a limit; `retry_after` says when to come back
    ├── Unavailable          switched off, not installed, or not ready
    ├── DatabaseAway         the database cannot be used now
    └── SettingError         a setting is unknown or has a bad value

`message` is for people, `code` for programs; `KINDS` declares all codes. A class with a default code may be raised
without one; the others need a code at each place.
"""

from collections.abc import Mapping
from typing import NamedTuple


class CdxsyncError(Exception):
    """Base of all errors that a user may see; `message` is complete and safe to print, `code` stable."""

    default_code = ""
    """Of a subclass without a row of its own in `KINDS`: its default, one of the codes of its ancestor."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code or kind_of(type(self)).default

    @property
    def http_status(self) -> int:
        """The status of an answer with this error."""
        return kind_of(type(self)).http_status

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ends with this error."""
        return kind_of(type(self)).exit_code

    def explain(self) -> str:
        """The whole error on one line."""
        return self.message


class _Coded(CdxsyncError):
    """An error without a default code: each place names the one that fits."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message, code=code)


class Failed(CdxsyncError):
    """The work could not be done: a file, a certificate or a service is not as needed."""


class ServiceError(Failed):
    """A service outside the fleet did not give what was asked for.

    `status` is its HTTP status, if it answered; `wait` how many seconds it has asked us to wait, if it has; `sent` is
    False when the request cannot have reached it.
    """

    def __init__(
        self, message: str, *, status: int | None = None, wait: float | None = None, sent: bool = True
    ) -> None:
        super().__init__(message)
        self.status = status
        self.wait = wait
        self.sent = sent


class Malformed(CdxsyncError):
    """A body that is not JSON text, or does not arrive whole."""


class Invalid(CdxsyncError):
    """Input with wrong fields.

    `errors` maps each field's name to its messages, all wrong fields at once (`docs/protocol.md 1.2`).
    """

    def __init__(self, errors: Mapping[str, list[str]], message: str = "Validation failed", *, code: str = "") -> None:
        super().__init__(message, code=code)
        self.errors = dict(errors)

    def explain(self) -> str:
        """The message with every field's texts, on one line."""
        fields = "; ".join(f"{name} {text}" for name, texts in self.errors.items() for text in texts)
        return f"{self.message}: {fields}"


class Unauthenticated(_Coded):
    """No key, or one that is not known."""


class Refused(_Coded):
    """Known, but not allowed."""


class Foreign(Refused):
    """A request that another page than the dashboard made the browser send."""


class NotFound(CdxsyncError):
    """No such host, certificate, token or document."""


class Gone(_Coded):
    """It was there once: a used or expired installer."""


class Conflict(_Coded):
    """It contradicts what is there already."""


class TooLarge(CdxsyncError):
    """More than there may be: a body, or what is to be stored."""


class UnsupportedMedia(CdxsyncError):
    """A body that is plainly not JSON."""


class TooManyRequests(_Coded):
    """Above a limit; `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: int, *, code: str) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class Unavailable(_Coded):
    """It is switched off, not installed here, or not ready."""


class DatabaseAway(CdxsyncError):
    """The database cannot be reached, or others have it locked for too long."""


class SettingError(CdxsyncError):
    """An unknown setting or a bad value; the message names the setting and where it stands."""


class Kind(NamedTuple):
    """How errors of a class leave: HTTP status, exit code, default code ("" for none), and the meaning of each code."""

    http_status: int
    exit_code: int
    default: str
    codes: Mapping[str, str]


KINDS: dict[type[CdxsyncError], Kind] = {
    Failed: Kind(
        500,
        1,
        "failed",
        {
            "failed": "The work could not be done; the message says why.",
            "backup_damaged": "The backup file is damaged or cut off.",
            "certificate_unusable": "A certificate or its key is missing, or cannot be used.",
            "codex_failed": "Codex could not be started, or left nothing that can be read.",
            "database_damaged": "The database is damaged.",
            "database_missing": "The database of the home is gone, or it is an empty one.",
            "database_unsuitable": "The database server is too old, or the database is not set up as needed.",
            "encryption_key_unusable": "The old server's AUTH_ENCRYPTION_KEY is missing or wrong.",
            "file_unusable": "A file or directory cannot be read, written or used.",
            "home_not_initialised": "The home has not been initialised.",
            "import_failed": "The file or database cannot be imported; nothing was.",
            "job_failed": "The run of the job failed.",
            "keyring_missing": "The keyring is missing.",
            "keyring_unusable": "The keyring cannot be read or written, or is not a keyring.",
            "listen_failed": "The server cannot listen on the address.",
            "public_url_missing": "The setting public_url is needed and not set.",
            "revocation_list_unusable": "The revocation list cannot be read, or is not of this CA.",
            "signing_keys_unusable": "The signing keys cannot be read or written, or are none.",
            "sealed_value_unusable": "A stored value cannot be opened: it was altered, or the key is wrong.",
            "stored_value_unusable": "A stored name or address is not what it must be, so nothing is made of it.",
            "version_differs": "Database, backup or export are of another version of cdxsync.",
        },
    ),
    ServiceError: Kind(
        500, 1, "service_failed", {"service_failed": "A service outside the fleet did not answer as needed."}
    ),
    Malformed: Kind(
        400,
        2,
        "malformed",
        {
            "malformed": "The body is not JSON, or not the form that it says it is; or the path is not UTF-8.",
            "body_incomplete": "The body ended early, or is not chunked as it says.",
        },
    ),
    Invalid: Kind(
        422,
        2,
        "validation_failed",
        {
            "validation_failed": "Fields are wrong; `errors` names all of them.",
            "idempotency_key_reused": "The Idempotency-Key was used for another body.",
            "login_not_shareable": "The login is of one machine, and cannot be shared.",
            "other_account": "The login is of another account than the fleet's; an admin can take it.",
        },
    ),
    Unauthenticated: Kind(
        401,
        4,
        "",
        {
            "key_missing": "The request has no API key.",
            "key_invalid": "No host has this API key.",
            "keys_differ": "X-API-Key and Authorization have different keys.",
            "admin_key_wrong": "The admin key is missing or wrong.",
            "grant_invalid": "The refresh token is not a grant of a host of this fleet, or the grant has ended.",
            "login_dead": "The provider has ended the fleet's login; somebody must log in again.",
            "login_missing": "The fleet has no login that has an access token.",
        },
    ),
    Refused: Kind(
        403,
        4,
        "",
        {
            "host_disabled": "The host is disabled.",
            "address_not_bound": "The API key is bound to another address.",
            "store_not_permitted": "The host has no permit to store auth documents.",
            "prompts_not_permitted": "The host has no permit to store prompts.",
            "grant_required": "The client takes no grant, and the fleet gives nothing else (setting grants_only).",
            "certificate_required": "The request has no client certificate.",
            "certificate_revoked": "The client certificate is revoked.",
            "certificate_unverifiable": "The revocation list cannot be used, so no client certificate is accepted.",
            "not_confirmed": "The command asks before it changes anything, and was not told yes.",
            "password_required": "A password is needed and was not given.",
            "password_unusable": "The password is empty, or not UTF-8.",
            "password_wrong": "The password is wrong, or the encrypted backup is damaged.",
        },
    ),
    Foreign: Kind(
        403,
        4,
        "",
        {
            "cross_origin": "A page of another origin made the browser send the request.",
            "header_missing": "A change by a browser lacks the header X-Cdxsync-Request: dashboard.",
        },
    ),
    NotFound: Kind(
        404,
        3,
        "not_found",
        {
            "not_found": "It is not there; the message says what.",
            "canonical_missing": "The fleet has no canonical document yet.",
            "certificate_not_found": "No such client certificate.",
            "document_not_found": "No such document is kept.",
            "host_not_found": "No such host.",
            "installer_unknown": "No such installer.",
            "job_not_found": "No such job.",
            "keyring_key_not_found": "The keyring has no such key.",
            "signing_key_not_found": "The home has no such signing key.",
            "prompt_not_found": "No such prompt, or no such earlier text of it.",
        },
    ),
    Gone: Kind(
        410,
        3,
        "",
        {
            "installer_used": "The installer has been used already.",
            "installer_expired": "The installer has expired.",
        },
    ),
    Conflict: Kind(
        409,
        4,
        "",
        {
            "certificate_exists": "There is an active certificate of that name, or a CA already.",
            "document_is_canonical": "The document is the canonical one already.",
            "document_spent": "The refresh token of the document was spent in a refresh.",
            "document_not_newer": "The fleet has a newer document, or another one of the same date.",
            "file_exists": "The file exists already.",
            "home_in_use": "Another process works on the home.",
            "home_initialised": "The home is initialised already.",
            "home_not_own": "The home, or a file in it, belongs to another user, who could replace what is made there.",
            "home_not_empty": "The home or its database is not empty.",
            "login_not_revocable": "The fleet's login has no refresh token that could be revoked.",
            "login_not_offered": "The host has offered no login of another account.",
            "keyring_ambiguous": "There are two keyrings, or two different keys of one name.",
            "keyring_key_in_use": "The key is the active one, or stored values are sealed with it.",
            "keyring_outdated": "The keyring lacks the key that the fleet seals with now.",
            "keyring_read_only": "The keyring comes from outside the home; cdxsync cannot write it.",
            "signing_key_in_use": "It is the last signing key, or there are as many as hosts can know.",
            "signing_keys_lost": "The home lacks the signing keys that the fleet's hosts know.",
            "restore_incomplete": "A restore was cut off; run it again.",
            "restore_running": "The home is being restored from a backup.",
            "schema_outdated": "The database lacks migrations.",
            "service_holds_off": "The job waits: it failed, or the service asked not to be called yet.",
        },
    ),
    TooLarge: Kind(
        413,
        2,
        "body_too_large",
        {
            "body_too_large": "The body exceeds max_body_bytes.",
            "over_daily_bound": "The call alone has more than its host may store in a day.",
            "too_many_prompts": "There would be more prompts, or more bytes of them, than there may be.",
        },
    ),
    UnsupportedMedia: Kind(
        415,
        2,
        "media_type_unsupported",
        {"media_type_unsupported": "The body says that it is not JSON, or has a Content-Encoding."},
    ),
    TooManyRequests: Kind(
        429,
        4,
        "",
        {
            "daily_bound_reached": "The host has stored as much as it may in a day.",
            "rate_limited": "The host calls too often.",
            "too_many_failures": "Too many authentications from the address failed, or too many admin keys were wrong.",
        },
    ),
    Unavailable: Kind(
        503,
        1,
        "",
        {
            "backup_unsupported": "A backup file cannot hold a database of this kind.",
            "driver_missing": "A Python package that this needs is not installed.",
            "grant_repeated": "The host has the newest access token, and asks for another one again and again.",
            "keyring_key_missing": "The keyring lacks a key that values are sealed with.",
            "job_off": "The settings switch the job off.",
            "not_ready": "The database or the keyring cannot be used.",
            "refresh_pending": "The access token has expired, and could not be refreshed yet.",
            "refresh_running": "The login is being refreshed; try again.",
            "row_altered": "A row that gives rights was changed in the database past cdxsync, and is not used.",
            "runner_off": "The settings switch the runner off.",
            "stopping": "The server is stopping.",
        },
    ),
    DatabaseAway: Kind(
        503,
        5,
        "database_away",
        {
            "database_away": "The database cannot be used now.",
            "database_busy": "All connections are in use, or another server migrates the database.",
            "commit_unknown": "The connection was lost during commit: the change may not be saved. Retrying is safe.",
        },
    ),
    SettingError: Kind(
        500,
        2,
        "setting_invalid",
        {"setting_invalid": "A setting is unknown, missing, or has a bad value."},
    ),
}
"""One table: class, HTTP status, exit code and codes. A class without a row has its nearest ancestor's.

Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused, 5 database away.
"""

USAGE = "usage"
"""The code of a command line that cannot be read; exit code 2."""
_BY_STATUS: dict[int, tuple[str, str]] = {
    400: ("request_malformed", "The request line, a header or the framing is malformed or ambiguous."),
    404: ("route_not_found", "No such route."),
    405: ("method_not_allowed", "The route exists, but not with this method; see `Allow`."),
    406: ("installer_preview", "A browser or a link preview asked for an installer, which stays unused."),
    408: ("request_timeout", "The request did not arrive in time."),
    413: ("headers_too_large", "The headers exceed 32 KiB."),
    414: ("uri_too_long", "The request line exceeds 32 KiB."),
    500: ("internal_error", "A fault of the server; its log has the request's id."),
    501: ("coding_unsupported", "The Transfer-Encoding is not supported."),
    503: ("overloaded", "The server has too much to do."),
    505: ("http_version_unsupported", "The version of HTTP is not supported."),
}
"""Codes of answers that no exception of these makes: no route, or a request that does not reach the application."""


class Declared(NamedTuple):
    """A code as documents show it; `http_status` or `exit_code` is None where it is never seen."""

    code: str
    http_status: int | None
    exit_code: int | None
    meaning: str


def declared() -> list[Declared]:
    """All codes there are, by status and name."""
    found = [
        Declared(code, kind.http_status, kind.exit_code, meaning)
        for kind in KINDS.values()
        for code, meaning in kind.codes.items()
    ]
    found += [Declared(code, status, None, meaning) for status, (code, meaning) in _BY_STATUS.items()]
    found.append(Declared(USAGE, None, 2, "The command line cannot be read: an unknown command, option or value."))
    return sorted(found, key=lambda row: (row.http_status or 0, row.code))


def kind_of(cls: type[CdxsyncError]) -> Kind:
    """The row of a class, or of its nearest ancestor that has one."""
    return next(KINDS[known] for known in cls.__mro__ if known in KINDS)


def code_of_status(status: int) -> str:
    """The code of an answer that the server gives without one of these exceptions."""
    return _BY_STATUS.get(status, _BY_STATUS[500])[0]
