"""What Codex is given for a run: where it exchanges a grant, whom it trusts there, and where its login lies."""

from __future__ import annotations

import os

from cdxsync.wrapper.src.files import child_environment, own_folder, replace_file
from cdxsync.wrapper.src.login_note import LoginNote
from cdxsync.wrapper.src.messages import say
from cdxsync.wrapper.src.server import Server

FILE_STORE = ["-c", 'cli_auth_credentials_store="file"']
BUNDLE_NAME = "ca.pem"


def codex_environment(server: Server, home: str, grant: bool) -> dict[str, str]:
    """The environment for Codex. With a grant in auth.json the server is Codex's token endpoint.

    A real refresh token must never be sent there: without a grant nothing of this is set.
    """
    env = child_environment()
    if not grant:
        return env
    env["CODEX_REFRESH_TOKEN_URL_OVERRIDE"] = server.base_url + "/oauth/token"
    # The address of this one would come before that of the token endpoint, and get the grant.
    env.pop("CODEX_REVOKE_TOKEN_URL_OVERRIDE", None)
    bundle = trusted_bundle(server, home, env.get("CODEX_CA_CERTIFICATE", ""))
    if bundle:
        env["CODEX_CA_CERTIFICATE"] = bundle
    return env


def trusted_bundle(server: Server, home: str, users: str) -> str | None:
    """A file with the server's CA, and those of the user's own file; None where there is nothing to add.

    Codex adds what is in it to the roots that it trusts anyway: those of the system, or of SSL_CERT_FILE and
    SSL_CERT_DIR, which keep their meaning.
    """
    try:
        certificates = server.ca_certificates()
        if server.scheme != "https" or not certificates:
            return None
        if users:
            with open(users, "rb") as file:
                certificates = file.read().rstrip(b"\n") + b"\n" + certificates
    except OSError as error:
        # Codex tells the user of it too, in its own words.
        say("%s cannot be read (%s), so Codex cannot verify the server" % (error.filename, error.strerror))
        return None
    path = os.path.abspath(os.path.join(own_folder(home), BUNDLE_NAME))
    try:
        if not has_content(path, certificates):
            replace_file(path, certificates)
    except OSError as error:
        say("%s cannot be written (%s), so Codex cannot verify the server" % (path, error.strerror))
        return None
    return path


def has_content(path: str, data: bytes) -> bool:
    """Whether a file of our own has this content, and no other can read it."""
    try:
        with open(path, "rb") as file:
            return os.fstat(file.fileno()).st_mode & 0o077 == 0 and file.read() == data
    except OSError:
        return False


def codex_arguments(note: LoginNote, arguments: list[str]) -> list[str]:
    """The arguments for Codex: as they are, unless the fleet wants its login to be the one that is used."""
    return [*FILE_STORE, *arguments] if note.file_store else arguments
