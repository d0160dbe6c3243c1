"""Updates cdx itself."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.api import Api
from cdxsync.wrapper.src.baked import (
    CODEX_SYNC_API_KEY,
    CODEX_SYNC_BASE_URL_DEFAULT,
    CODEX_SYNC_CA_PEM,
    CODEX_SYNC_FQDN,
    CODEX_SYNC_SIGNING_KEYS,
    WRAPPER_VERSION,
)
from cdxsync.wrapper.src.context import own_fqdn
from cdxsync.wrapper.src.errors import SyncError
from cdxsync.wrapper.src.files import child_environment, file_sha256, replace_file, sha256_of
from cdxsync.wrapper.src.messages import debug, say
from cdxsync.wrapper.src.prompts import HEX_SHA256
from cdxsync.wrapper.src.server import Server
from cdxsync.wrapper.src.signatures import (
    SIGNATURE_HEADER,
    Unsigned,
    cdx_text,
    is_signed,
    keys_changed_in,
    keys_in,
    signing_keys,
)
from cdxsync.wrapper.src.versions import version_key

if TYPE_CHECKING:
    from typing import Any


# How the system starts cdx: with no part of the user's Python, and where its `env` cannot give Python options. That cdx
# starts itself again when there is something of the user's to be kept out.
ISOLATING_LINE = b"#!/usr/bin/env -S python3 -IS\n"
PLAIN_LINE = b"#!/usr/bin/env python3\n"


def replaced_settings() -> list[str]:
    """The variables of the environment that replace settings which were installed."""
    names = ("BASE_URL", "API_KEY", "FQDN", "CA_FILE", "SIGNING_KEYS")
    return ["CODEX_SYNC_" + name for name in names if os.environ.get("CODEX_SYNC_" + name)]


def update_wrapper(api: Api, versions: dict[str, Any], forced: bool = False) -> bool:
    """Take the server's cdx when it is newer, or another build of the same version. Returns whether it was installed.

    Raises SyncError when it should have been and could not, and Unsigned for one that is not the fleet's. An older one
    is installed only when asked for, and none with older keys.
    """
    own = os.path.realpath(__file__)
    sha, version = versions.get("wrapper_sha256"), versions.get("wrapper_version")
    if not (isinstance(sha, str) and HEX_SHA256.match(sha) and isinstance(version, str)):
        if forced:
            raise SyncError("the server offers no cdx; ask your admin to run: cdxsync wrapper show")
        return False
    if not forced:
        older = version_key(version) < version_key(WRAPPER_VERSION)
        if older or replaced_settings() or is_served(own, sha):
            return False
        if not os.access(own, os.W_OK) or not os.access(os.path.dirname(own), os.W_OK):
            debug("%s belongs to another user, who can update it with: cdx --update" % own)
            return False
    status, headers, new = api.request("GET", "/wrapper/download")
    if status != 200:
        Api.data(status, new)
        raise SyncError("the server did not send cdx; ask your admin to run: cdxsync wrapper show")
    if sha256_of(new) != sha:
        raise SyncError("the checksum of the downloaded cdx is wrong; it is not installed. Try again: cdx --update")
    check_signed(new, version, sha, headers.get(SIGNATURE_HEADER))
    if version_key(version) < version_key(WRAPPER_VERSION):
        say("cdx %s is older than this one, %s; it is installed because you ask for it" % (version, WRAPPER_VERSION))
    install_wrapper(own, new, version)
    return True


def check_signed(new: bytes, version: str, sha: str, signatures: object) -> None:
    """Raise Unsigned unless a cdx is signed for this host by a key that is known here, and has no older keys.

    Without a known key, as after an update of a cdx from before signatures, there is nothing to compare with.
    """
    changed, keys = signing_keys()
    if not keys:
        return
    if not is_signed(cdx_text(own_fqdn(), version, sha), signatures):
        raise Unsigned(
            "cdx %s from the server is not signed by a key that this cdx knows; it is not installed, and the current"
            " one stays. Ask your admin to run: cdxsync doctor" % version
        )
    if keys_changed_in(new) < changed:
        raise Unsigned(
            "cdx %s from the server has older signing keys than this one; it is not installed, and the current one"
            " stays. Ask your admin to run: cdxsync doctor" % version
        )


def is_served(own: str, sha: str) -> bool:
    """Whether a file is the server's, but for the first line that this system may need."""
    if file_sha256(own) == sha:
        return True
    with open(own, "rb") as file:
        data = file.read()
    return data.startswith(PLAIN_LINE) and sha256_of(ISOLATING_LINE + data[len(PLAIN_LINE) :]) == sha


def install_wrapper(own: str, new: bytes, version: str) -> None:
    """Put a new cdx in place of this one, with its owner and mode, and take it back when it does not work."""
    import shutil
    import tempfile

    with open(own, "rb") as file:
        old = file.read()
    if old.startswith(PLAIN_LINE) and new.startswith(ISOLATING_LINE) and not env_takes_options():
        new = PLAIN_LINE + new[len(ISOLATING_LINE) :]
    status = os.stat(own)
    try:
        folder = tempfile.mkdtemp(dir=os.path.dirname(own), prefix=".cdx-update.")
        try:
            candidate = os.path.join(folder, "cdx")
            replace_file(candidate, new, 0o700)
            check_wrapper(candidate, version)
            own_as(candidate, status)
            os.replace(candidate, own)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        try:
            check_wrapper(own, version)
        except SyncError:
            replace_file(own, old, stat.S_IMODE(status.st_mode))
            raise
    except OSError as error:
        raise SyncError("cannot install cdx %s as %s: %s" % (version, own, error.strerror)) from None


def env_takes_options() -> bool:
    """Whether this system can start a program by `ISOLATING_LINE`; BusyBox cannot."""
    import subprocess

    try:
        done = subprocess.run(
            ["/usr/bin/env", "-S", "true -x"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def own_as(path: str, status: os.stat_result) -> None:
    """Give a file the owner and mode of another."""
    with contextlib.suppress(OSError):
        os.chown(path, status.st_uid, status.st_gid)
    os.chmod(path, stat.S_IMODE(status.st_mode))


def check_wrapper(program: str, version: str) -> None:
    """Let a new cdx test itself. Raises SyncError when it does not work, or is another version."""
    import subprocess

    for option, expected in (("--wrapper-version", "cdx wrapper %s\n" % version), ("--wrapper-self-test", None)):
        try:
            done = subprocess.run(
                [program, option],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=20,
                env=child_environment(),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise SyncError("cdx %s fails its self-test (%s); the current one stays" % (version, error)) from None
        if done.returncode != 0 or (expected and done.stdout.decode("utf-8", "replace") != expected):
            raise SyncError("cdx %s fails its self-test; the current one stays" % version)


def self_test() -> int:
    """`--wrapper-self-test`: whether this file can do its work here; returns the exit code."""
    constants = (WRAPPER_VERSION, CODEX_SYNC_BASE_URL_DEFAULT, CODEX_SYNC_API_KEY, CODEX_SYNC_FQDN)
    if any(value.startswith("__") or not value for value in constants):
        say("this cdx was not made for a host; an admin makes one with: cdxsync hosts register NAME")
        return 1
    keys_in(CODEX_SYNC_SIGNING_KEYS)
    Server(CODEX_SYNC_BASE_URL_DEFAULT, CODEX_SYNC_API_KEY, CODEX_SYNC_CA_PEM, "").context()
    return 0
