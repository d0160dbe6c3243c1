"""The auth document: validation, canonical form, digests and date (`docs/protocol.md 3.1 to 3.6`)."""

import functools
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cdxsync.auth.account import Account, Kind, account_of, credential_of, kind_of
from cdxsync.base import jsontext, texts
from cdxsync.base.clock import Instant, check_document_date, rfc3339
from cdxsync.base.errors import Invalid

DEFAULT_TARGET = "api.openai.com"
NO_DATE = "2000-01-01T00:00:00Z"
"""What a host claims as the date of a document that has none."""
BEDROCK_TARGET = "bedrock-runtime.amazonaws.com"
MAX_TARGET_LENGTH = 255
MAX_VALUES = 10_000
"""Members and items in all: each is written into a dozen digests. A login has about fifty."""
_BLANKS = " \t\n\r\0\x0b"
_INTEGER_KEY = re.compile(r"-?(?:0|[1-9][0-9]*)")
_PLACEHOLDERS = frozenset(
    ["token", "newer-token", "placeholder", "changeme", "dummy", "test", "example", "example-token"]
)
_ALIASES = {
    "organization": ("organization", "org", "default_organization", "default_org"),
    "project": ("project", "default_project"),
    "api_base": ("api_base", "base_url"),
}
_CONSUMED = frozenset(["token", "token_type", "type", *(name for names in _ALIASES.values() for name in names)])


@dataclass(frozen=True)
class AuthDocument:
    """A valid auth document in canonical form.

    `body` is its compact JSON as hosts get it; `digest` the one of the protocol; `digests` all those under
    which a host may hold this same document: also as Python re-serialises it, and without a synthesised `auths`,
    which Codex drops when it rewrites its file. `instant` is its date; `rank` its place in the order of documents:
    its date, or when the server first saw it if that is earlier.
    """

    content: Mapping[str, Any] = field(repr=False)
    last_refresh: str
    instant: Instant
    rank: Instant
    body: bytes = field(repr=False)
    digest: str
    digests: frozenset[str]

    @property
    def entries(self) -> Mapping[str, Mapping[str, Any]]:
        """The map target -> entry, normalised."""
        auths: Mapping[str, Mapping[str, Any]] = self.content["auths"]
        return auths

    @functools.cached_property
    def account(self) -> Account | None:
        """Whose login it is."""
        return account_of(self.content)

    @functools.cached_property
    def credential(self) -> str:
        """The SHA-256 of its tokens."""
        return credential_of(self.content)

    def same_content(self, other: "AuthDocument") -> bool:
        """Whether both hold the same values, whatever the order of their keys."""
        return self.content == other.content


def digest_of(value: Any) -> str:
    """Lower-case hex SHA-256 of the reference's compact JSON of `value` (`docs/protocol.md 3.4`)."""
    return hashlib.sha256(jsontext.reference(value)).hexdigest()


def canonicalise(document: object, *, at: datetime, token_min_length: int) -> AuthDocument:
    """The canonical form of `document` as decoded from JSON; `at` is the server's time.

    Raises `Invalid` with all wrong fields: `auth`, `auth.last_refresh`, `auth.auths`, `auth.auths.<target>`,
    `auth.auths.<target>.token`; for a login that cannot be shared with the code `login_not_shareable`.
    """
    if not isinstance(document, dict):
        raise Invalid({"auth": ["is required: the auth.json document, a JSON object"]})
    if jsontext.has_more_than(MAX_VALUES, document):
        raise Invalid({"auth": [f"has more than {MAX_VALUES} values: not an auth.json"]})
    if kind_of(document) is Kind.AGENT_IDENTITY:
        raise Invalid(
            {"auth": ["is an agent identity, which is of one machine and cannot be shared; log in another way"]},
            code="login_not_shareable",
        )
    errors: dict[str, list[str]] = {}
    instant = Instant(0)
    try:
        instant = check_document_date(document.get("last_refresh"), at)
    except ValueError as error:
        errors["auth.last_refresh"] = [str(error)]

    content = dict(document)
    synthesised = _synthesise(document)
    given = document.get("auths")
    if not given or not isinstance(given, dict | list):
        if synthesised is None:
            errors["auth.auths"] = [
                "is required, or tokens.access_token, OPENAI_API_KEY, personal_access_token or bedrock_api_key to make"
                " it from: not a logged-in auth.json"
            ]
        given = synthesised or {}
    content["auths"] = _normalise_entries(given, token_min_length, errors)
    try:
        digest = digest_of(content)
    except ValueError as error:
        errors["auth"] = [str(error)]
    if errors:
        raise Invalid(errors)
    body = jsontext.plain(content)
    return AuthDocument(
        content=content,
        last_refresh=document["last_refresh"],
        instant=instant,
        rank=instant,
        body=body,
        digest=digest,
        digests=frozenset(_equivalent_digests(content, synthesised)),
    )


def with_refresh_token(document: AuthDocument, refresh_token: str) -> AuthDocument:
    """The document with another `tokens.refresh_token`, in the same place; for one that has a refresh token."""
    content = {**document.content, "tokens": {**document.content["tokens"], "refresh_token": refresh_token}}
    return AuthDocument(
        content=content,
        last_refresh=document.last_refresh,
        instant=document.instant,
        rank=document.rank,
        body=jsontext.plain(content),
        digest=digest_of(content),
        digests=frozenset(_equivalent_digests(content, _synthesise(content))),
    )


def is_undated(document: object) -> bool:
    """Whether a document has no date, as Codex writes all logins that it does not refresh."""
    date = document.get("last_refresh") if isinstance(document, dict) else ""
    return date is None or (isinstance(document, dict) and isinstance(date, str) and not date.strip())


def dated(document: Mapping[str, Any], instant: Instant) -> dict[str, Any]:
    """A copy of a document with another date; where it has none, the date comes last."""
    return {**document, "last_refresh": rfc3339(instant)}


def names_of(document: Mapping[str, Any]) -> frozenset[str]:
    """The digests by which a host may name a document as it was sent: with its date, without, or with `NO_DATE`."""
    bare = {key: value for key, value in document.items() if key != "last_refresh"}
    forms = [dict(document), bare, {**bare, "last_refresh": NO_DATE}, {**document, "last_refresh": NO_DATE}]
    forms += [{key: value for key, value in form.items() if key != "auths"} for form in forms]
    return frozenset(
        hashlib.sha256(write(form)).hexdigest() for form in forms for write in (jsontext.reference, jsontext.plain)
    )


def _equivalent_digests(content: dict[str, Any], synthesised: dict[str, Any] | None) -> list[str]:
    forms = [content]
    if content["auths"] == synthesised:
        forms.append({key: value for key, value in content.items() if key != "auths"})
    return [hashlib.sha256(write(form)).hexdigest() for form in forms for write in (jsontext.reference, jsontext.plain)]


def _synthesise(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The `auths` that a document without one stands for, or None when it has no token to make it from."""
    tokens, bedrock = document.get("tokens"), document.get("bedrock_api_key")
    candidates = [
        tokens.get("access_token") if isinstance(tokens, dict) else None,
        document.get("OPENAI_API_KEY"),
        document.get("personal_access_token"),
    ]
    for candidate in candidates:
        token = _text(candidate)
        if token:
            return {DEFAULT_TARGET: {"token": token, "token_type": "bearer"}}
    token = _text(bedrock.get("api_key")) if isinstance(bedrock, dict) else ""
    return {BEDROCK_TARGET: {"token": token, "token_type": "bearer"}} if token else None


def _normalise_entries(
    auths: dict[str, Any] | list[Any], token_min_length: int, errors: dict[str, list[str]]
) -> dict[str, dict[str, Any]]:
    if isinstance(auths, list):
        errors["auth.auths"] = ["must be an object that maps a target such as api.openai.com to its entry"]
        return {}
    entries = {}
    problems: dict[str, None] = {}
    for raw_target, entry in auths.items():
        target = raw_target.strip(_BLANKS)
        if not target or _INTEGER_KEY.fullmatch(target):
            problems["a target must be a non-empty name, not a number"] = None
        elif "\0" in target:
            problems[f"a target {texts.NUL_PROBLEM}"] = None
        elif len(target) > MAX_TARGET_LENGTH:
            problems[f"a target has at most {MAX_TARGET_LENGTH} characters"] = None
        elif not isinstance(entry, dict):
            errors[f"auth.auths.{target}"] = ["must be an object with a token"]
        else:
            entries[target] = _normalise_entry(entry)
            problem = token_problem(entries[target]["token"], token_min_length)
            if problem:
                errors[f"auth.auths.{target}.token"] = [problem]
            for name in ("token_type", *_ALIASES):
                if "\0" in entries[target].get(name, ""):
                    errors[f"auth.auths.{target}.{name}"] = [texts.NUL_PROBLEM]
    if problems:  # each once, of however many targets
        errors["auth.auths"] = [*errors.get("auth.auths", []), *problems]
    return dict(sorted(entries.items()))


def _normalise_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    normal: dict[str, Any] = {
        key: value for key, value in entry.items() if key not in _CONSUMED and not isinstance(value, dict | list)
    }
    normal["token"] = _text(entry.get("token"))
    normal["token_type"] = _text(entry.get("token_type")) or _text(entry.get("type")) or "bearer"
    for name, aliases in _ALIASES.items():
        value = next(filter(None, (_text(entry.get(alias)) for alias in aliases)), None)
        if value:
            normal[name] = value
    return dict(sorted(normal.items()))


def _text(value: object) -> str:
    return value.strip(_BLANKS) if isinstance(value, str) else ""


def token_problem(token: str, token_min_length: int) -> str | None:
    """What is wrong with a token, in the order of `docs/protocol.md 3.2`; None for a valid one."""
    octets = token.encode()
    minimum = max(8, token_min_length)
    if not token:
        return "is required: a non-blank string"
    if any(character.isspace() for character in token):
        return "must not contain white space"
    if len(octets) < minimum:
        return f"is too short: at least {minimum} bytes"
    if token.lower() in _PLACEHOLDERS:
        return "is a placeholder, not a real token"
    if len(set(octets)) == 1:
        return "is one character repeated, not a real token"
    if len(set(octets)) < 6:
        return "has too few different characters to be a real token"
    return None
