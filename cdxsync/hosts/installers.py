"""Single-use installers: minting one with a host's key, and handing out its script once (`docs/protocol.md 10`)."""

import functools
import importlib.resources
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, overload

from msgspec import structs

from cdxsync.base import clock
from cdxsync.base.errors import Failed, Gone, NotFound
from cdxsync.base.names import check_values
from cdxsync.hosts import registry
from cdxsync.hosts.schemas import HostRegistered, HostSummary, Installer, Registered
from cdxsync.security import apikeys
from cdxsync.store import audit, rights, sealed_values
from cdxsync.store.database import write
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import Host, InstallToken
from cdxsync.wrapper import baking

TOKEN = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PREVIEWERS = re.compile(r"mozilla/|bot\b|bot/|crawl|spider|preview|facebookexternalhit|whatsapp|slack", re.IGNORECASE)

_NEW_ONE = "then ask your admin for a new installer: cdxsync hosts register %s"


@dataclass(frozen=True)
class Registration:
    """The outcome of registering a host: whether it is new, and the answer with its key and installer."""

    created: bool
    answer: Registered


@overload
def register(fleet: Fleet, fqdn: object, *, actor: str) -> Registration: ...
@overload
def register(fleet: Fleet, fqdn: object, *, actor: str, spare_in_use: bool) -> Registration | None: ...
def register(fleet: Fleet, fqdn: object, *, actor: str, spare_in_use: bool = False) -> Registration | None:
    """Register a host, or rotate the key of a registered one, and mint its installer, in one transaction.

    Older installers of the host become invalid. With `spare_in_use` a registered host that may be working with its key
    keeps it, and the result is None. Raises `Invalid` on `fqdn`, `Failed` without a `public_url`.
    """
    name = registry.checked_fqdn(fqdn)
    settings = fleet.settings
    if not settings.public_url:
        raise Failed(
            "public_url is not set, so hosts would not know where to call. Set it in config.toml",
            code="public_url_missing",
        )
    token = apikeys.mint_installer_token()
    expires_at = clock.stamp(clock.now() + timedelta(seconds=settings.install_token_ttl_seconds))

    def work() -> registry.MintedKey | None:
        registered = Host.get_or_none(Host.fqdn == name) if spare_in_use else None
        if registered is not None and registry.in_use(registered):
            return None
        minted = registry.mint_key(name, actor)
        at = clock.stamp(clock.now())
        InstallToken.delete().where(InstallToken.host == minted.host.id).execute()
        token_sha256 = apikeys.fingerprint(token)
        rights.insert(
            InstallToken,
            token_sha256=token_sha256,
            host=minted.host.id,
            fqdn=name,
            api_key=fleet.keyring.seal(minted.api_key.encode(), sealed_values.installer_key(token_sha256)),
            base_url=settings.public_url,
            expires_at=expires_at,
            used_at=None,
            created_at=at,
        )
        audit.record(
            "admin.install_token.create",
            actor=actor,
            host=minted.host,
            fqdn=name,
            expires_at=expires_at,
            token=apikeys.shortened(token),
        )
        return minted

    minted = write(work)
    if minted is None:
        return None
    url = f"{settings.public_url}/install/{token}"
    summary = structs.asdict(HostSummary.of(minted.host))
    answer = Registered(
        host=HostRegistered(**summary, id=minted.host.id, api_key=minted.api_key),
        installer=Installer(token=token, url=url, command=command(url, fleet.host_ca_pem), expires_at=expires_at),
    )
    return Registration(minted.created, answer)


def command(url: str, ca_pem: str) -> str:
    """The one line that an admin pastes on the host; `url` is the installer's.

    It fetches the script that checks the host first, so that it can be pasted again when that finds something.
    With a private CA the line carries it, so that the very first call is verified too; `pipefail` makes a failed
    download the line's exit status.

    No list of processes shows the address, which is a secret: it goes from `echo`, which every shell runs itself, into
    bash, and from there into curl, through pipes. There is no backslash in it, which some shells' `echo` would replace,
    and within the quotes nothing that bash, zsh, dash, fish or tcsh read.
    """
    scheme = url.partition(":")[0]
    # A redirect is an error: with -L and no hop allowed curl says so, without -L it would give its text to bash.
    options = f'-q --proto "={scheme}" -fsSL --max-redirs 0'
    if scheme == "http":
        options += ' --noproxy "*"'
    if ca_pem:
        lines = " ".join(f'"{line}"' for line in _certificate_lines(ca_pem))
        options += f' --cacert <(for line in {lines}; do echo "$line"; done)'
    return f"echo 'set -o pipefail; echo url = \"{url}/begin\" | curl {options} -K - | bash' | bash"


def _certificate_lines(pem: str) -> list[str]:
    """The lines of the certificates in a PEM text, without what stands around them."""
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", pem)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


def is_preview(headers: Mapping[str, str]) -> bool:
    """Whether a GET comes from a browser or a link preview, which must not consume the installer.

    `headers` by lower-case name. Such programs say so: they ask for HTML, send fetch metadata or a known name.
    """
    return (
        "text/html" in headers.get("accept", "")
        or any(name in headers for name in ("sec-fetch-mode", "sec-purpose", "purpose", "x-purpose"))
        or bool(_PREVIEWERS.search(headers.get("user-agent", "")))
    )


def _again(fqdn: str) -> str:
    return f"Ask your admin for a new one: cdxsync hosts register {fqdn}"


def check(token: str, at: datetime) -> InstallToken:
    """The row of an installer that could be used now. Raises `NotFound` or `Gone`, changes nothing."""
    row = InstallToken.get_or_none(InstallToken.token_sha256 == apikeys.fingerprint(token.lower()))
    if row is None or not rights.is_good(row):
        raise NotFound(f"This installer is not known. {_again('NAME')}", code="installer_unknown")
    if row.used_at is not None:
        raise Gone(f"This installer has been used already. {_again(row.fqdn)}", code="installer_used")
    if clock.read_stamp(row.expires_at) <= at:
        raise Gone(f"This installer has expired. {_again(row.fqdn)}", code="installer_expired")
    return row


@dataclass(frozen=True)
class Script:
    """An installer script, which holds a host's key."""

    body: bytes = field(repr=False)
    expires_at: str


def consume(fleet: Fleet, token: str) -> Script:
    """The script of an installer; consumes it. Raises `NotFound` or `Gone`.

    Write work, of which one is done after the other, decides among concurrent callers: exactly one gets the script.
    """
    row = check(token, clock.now())
    # Everything that can fail comes before the token is consumed.
    sealed_key = fleet.keyring.open(row.api_key, sealed_values.installer_key(row.token_sha256)) if row.api_key else b""
    script = Script(body=_render(fleet, row, sealed_key.decode()), expires_at=row.expires_at)

    def work() -> bool:
        now = clock.stamp(clock.now())
        good = (InstallToken.id == row.id) & InstallToken.used_at.is_null() & (InstallToken.expires_at > now)
        spent = InstallToken.select(InstallToken.id).where(good).exists()
        if spent:
            rights.update(InstallToken, row.id, used_at=now, api_key=None)
            host = Host.get_by_id(row.host_id)
            audit.record(
                "install.token.consume", actor=audit.ANYONE, host=host, token=apikeys.shortened(token), fqdn=row.fqdn
            )
        return bool(spent)

    if not write(work):
        check(token, clock.now())
        raise Gone(f"This installer has been used already. {_again(row.fqdn)}", code="installer_used")
    return script


def wipe_expired(at: datetime) -> int:
    """Wipe the keys of installers that have expired by the time `at`; returns their number."""
    if not InstallToken.select().where(_has_expired_key(at)).exists():
        return 0
    return write(lambda: drop_expired_keys(at))


def drop_expired_keys(at: datetime) -> int:
    """The same within a write transaction, or in a copy of the database. The rows stay, to say why they do not work."""
    return int(InstallToken.update(api_key=None).where(_has_expired_key(at)).execute())


def _has_expired_key(at: datetime) -> Any:
    return (InstallToken.expires_at <= clock.stamp(at)) & InstallToken.api_key.is_null(False)


def begin(fleet: Fleet, token: str) -> Script:
    """The script that checks a host and then fetches its installer, which stays good. Raises `NotFound` or `Gone`."""
    row = check(token, clock.now())
    values = {
        "TITLE": f"Checks what cdx needs on {row.fqdn}, and then fetches its installer",
        "AGAIN": f"then paste the same line again. It is good until {row.expires_at}; {_NEW_ONE % row.fqdn}",
        "INSTALL_URL": f"{row.base_url}/install/{token.lower()}",
    }
    return Script(body=_filled(("checks.sh", "begin.sh"), fleet, row, values), expires_at=row.expires_at)


def _render(fleet: Fleet, row: InstallToken, api_key: str) -> bytes:
    rest = (row.fqdn, fleet.host_ca_pem, fleet.settings.github_api_url, fleet.signing.public)
    baked = baking.bake(row.base_url, api_key, *rest)
    values = {
        "TITLE": f"Installing Codex for {row.fqdn} via {row.base_url}. It works once",
        "AGAIN": _NEW_ONE % row.fqdn,
        "WRAPPER_SHA256": baked.sha256,
        "WRAPPER_VERSION": baking.version(),
        "API_KEY_TEXT": api_key,
    }
    return _filled(("checks.sh", "install.sh"), fleet, row, values)


@functools.cache
def _template(names: tuple[str, ...]) -> str:
    folder = importlib.resources.files("cdxsync.wrapper")
    return "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)


def _filled(names: tuple[str, ...], fleet: Fleet, row: InstallToken, more: Mapping[str, str]) -> bytes:
    """Parts of a script joined, and their `@@NAME@@` filled in."""
    check_values(row.base_url, row.fqdn)
    values = {"BASE_URL": row.base_url, "FQDN": row.fqdn, "CA_PEM": fleet.host_ca_pem.strip(), **more}
    values["MODULES"] = " ".join(baking.modules())
    # `check_values` has checked those that are not quoted.
    raw = {"TITLE", "API_KEY_TEXT", "MODULES"}
    quoted = {name: value if name in raw else shlex.quote(value) for name, value in values.items()}
    quoted["BASE_URL_TEXT"] = row.base_url
    return re.sub(r"@@([A-Z0-9_]+)@@", lambda match: quoted[match[1]], _template(names)).encode()


def error_script(message: str, code: str) -> bytes:
    """A shell script that prints `message` and fails: what an installer URL answers when it cannot install.

    A comment holds the `code` for programs.
    """
    return f"#!/bin/sh\n# code: {code}\nprintf '%s\\n' {shlex.quote('cdxsync: ' + message)} >&2\nexit 1\n".encode()
