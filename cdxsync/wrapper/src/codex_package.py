"""Codex as its releases have it: downloaded, verified, and unpacked."""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.parse
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.baked import GITHUB_API_URL, WRAPPER_VERSION
from cdxsync.wrapper.src.codex_wanted import MANIFEST
from cdxsync.wrapper.src.errors import SyncError
from cdxsync.wrapper.src.files import file_sha256, read_json, sha256_of
from cdxsync.wrapper.src.server import reach, system_trust
from cdxsync.wrapper.src.versions import VERSION

if TYPE_CHECKING:
    import tarfile
    from typing import Any, BinaryIO, Dict

    # The files of a release, as GitHub describes them, by name.
    Assets = Dict[str, Dict[str, Any]]

TARGETS = {
    ("Linux", "x86_64"): "x86_64-unknown-linux-musl",
    ("Linux", "amd64"): "x86_64-unknown-linux-musl",
    ("Linux", "aarch64"): "aarch64-unknown-linux-musl",
    ("Linux", "arm64"): "aarch64-unknown-linux-musl",
    ("Darwin", "x86_64"): "x86_64-apple-darwin",
    ("Darwin", "arm64"): "aarch64-apple-darwin",
}
CHECKSUMS = "codex-package_SHA256SUMS"
PROGRAM = "bin/codex"
MAX_ARCHIVE_BYTES = 1 << 30
# A package has about 60 members and 450 MB.
MAX_PACKAGE_BYTES = 4 << 30
MAX_MEMBERS = 20000


def install_release(folder: str, version: str) -> None:
    """Release. Installs Codex from its GitHub release, with the checksum verified.

    The whole package, or of a release that has none the one program.
    """
    target, assets = release_target(), release("tags/rust-v%s" % version)[1]
    name = "codex-package-%s.tar.gz" % target
    if name in assets:
        unpack_package(fetch_asset(assets, name, folder, package_checksums(assets, name)), folder)
        check_package(folder, version, target)
        return
    name = "codex-%s.tar.gz" % target
    archive = fetch_asset(assets, name, folder, digests_of(assets, name))
    os.makedirs(os.path.join(folder, "bin"))
    unpack_program(archive, name[: -len(".tar.gz")], os.path.join(folder, PROGRAM))
    os.unlink(archive)


def release_target() -> str:
    """The name under which releases have the programs for this machine. Raises SyncError."""
    system = os.uname()
    target = TARGETS.get((system.sysname, system.machine))
    if target is None:
        raise SyncError("no release for %s on %s" % (system.sysname, system.machine))
    return target


def latest_version() -> str:
    """The version of the newest release. Raises SyncError."""
    tag = release("latest")[0]
    match = re.match(r"rust-v(.*)", tag)
    if not match or not re.match(VERSION, match.group(1)):
        raise SyncError("the newest release has no version, but the tag %r" % tag[:64])
    return match.group(1)


def release(which: str) -> tuple[str, Assets]:
    """(tag, files) of a release, as GitHub describes it. Raises SyncError."""
    import io

    if not api_base():
        raise SyncError("the server's github_api_url is empty, so no release is looked up")
    url = "%s/repos/openai/codex/releases/%s" % (api_base(), which)
    description = io.BytesIO()
    download(url, 4 << 20, description)
    try:
        found = json.loads(description.getvalue().decode("utf-8"))
        assets = {str(asset["name"]): asset for asset in found["assets"]}
    except (ValueError, TypeError, LookupError):
        raise SyncError("%s does not describe a release" % url) from None
    return str(found.get("tag_name")), assets


def api_base() -> str:
    """Where releases are looked up; empty for nowhere."""
    return "https://api.github.com" if GITHUB_API_URL.startswith("__") else GITHUB_API_URL.rstrip("/")


def digests_of(assets: Assets, name: str) -> set[str]:
    """The SHA-256 that GitHub has of a file, as a set of one or none."""
    match = re.match(r"sha256:([0-9a-f]{64})\Z", str(assets.get(name, {}).get("digest")))
    return {match.group(1)} if match else set()


def package_checksums(assets: Assets, name: str) -> set[str]:
    """The SHA-256 of a package, as the release's own list and GitHub have it. Raises SyncError."""
    import io

    found = digests_of(assets, name)
    if CHECKSUMS in assets:
        listed = io.BytesIO()
        download(str(assets[CHECKSUMS].get("browser_download_url")), 1 << 20, listed)
        expected = digests_of(assets, CHECKSUMS)
        if expected and sha256_of(listed.getvalue()) not in expected:
            raise SyncError("the checksum of %s is wrong" % CHECKSUMS)
        for line in listed.getvalue().decode("utf-8", "replace").splitlines():
            match = re.match(r"([0-9a-fA-F]{64}) [ *](\S+)\Z", line.strip())
            if match and match.group(2) == name:
                found.add(match.group(1).lower())
    if len(found) > 1:
        raise SyncError("the release has two checksums for %s" % name)
    return found


def fetch_asset(assets: Assets, name: str, folder: str, checksums: set[str]) -> str:
    """Download a file of a release into a folder; returns its path. Raises SyncError, also for a wrong checksum."""
    if name not in assets or not checksums:
        raise SyncError("the release has no %s with a checksum" % name)
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        download(str(assets[name].get("browser_download_url")), MAX_ARCHIVE_BYTES, file)
    if file_sha256(path) not in checksums:
        raise SyncError("the checksum of %s is wrong" % name)
    return path


def download(url: str, limit: int, file: BinaryIO) -> None:
    """Write the content of a URL, at most `limit` bytes, to an open file. Raises SyncError.

    It, and each address that it leads on to, must be good (`check_address`). Nothing secret is sent. What the file
    system says is raised as it is, as OSError.
    """
    from urllib.request import (
        HTTPHandler,
        HTTPRedirectHandler,
        HTTPSHandler,
        ProxyHandler,
        Request,
        build_opener,
    )

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = reach("http", self.host, self.port, float(self.timeout or 30))

    class SecureConnection(http.client.HTTPSConnection):
        def connect(self) -> None:
            raw = reach("https", self.host, self.port, float(self.timeout or 30))
            self.sock = system_trust().wrap_socket(raw, server_hostname=self.host)

    class Plain(HTTPHandler):
        def http_open(self, request: Any) -> Any:
            return self.do_open(Connection, request)

    class Secure(HTTPSHandler):
        def https_open(self, request: Any) -> Any:
            return self.do_open(SecureConnection, request)

    class Redirects(HTTPRedirectHandler):
        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            check_address(newurl)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    check_address(url)
    request = Request(url, headers={"User-Agent": "cdx/%s" % WRAPPER_VERSION})
    # Proxies are taken by `reach`.
    opener = build_opener(ProxyHandler({}), Plain, Secure, Redirects)
    try:
        with opener.open(request, timeout=30) as response:
            while True:
                block = response.read(1 << 20)
                if not block:
                    return
                limit -= len(block)
                if limit < 0:
                    raise SyncError("%s is too large" % url)
                try:
                    file.write(block)
                except OSError as error:
                    raise Unwritten(error) from None
    except Unwritten as error:
        raise error.cause from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error if hasattr(error, "code") else getattr(error, "reason", "") or error
        raise SyncError("%s cannot be fetched (%s)" % (url, reason)) from None


class Unwritten(Exception):
    """What was downloaded could not be written; not to be taken for trouble of the network."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def check_address(url: str) -> None:
    """Raise SyncError for an address without TLS.

    One of this machine may be without, where releases are looked up on this machine and without TLS, too.
    """
    if not is_https(url) and not (is_local(url) and is_local(api_base())):
        raise SyncError("%s is not encrypted" % url)


def is_https(url: str) -> bool:
    """Whether a URL is one of HTTPS."""
    return url[:8].lower() == "https://"


def is_local(url: str) -> bool:
    """Whether a URL leads to this machine by plain HTTP."""
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    except ValueError:
        return False


def unpack_package(archive: str, folder: str) -> None:
    """Unpack a package into a folder of ours, and remove the archive. Raises SyncError and OSError.

    Members have relative paths within the folder and are written where nothing is yet: folders, and files with the mode
    0644 or 0755. Links within the package come last, so that nothing is written through one, and must lead to something
    in it. Anything else is refused.
    """
    import tarfile
    import zlib

    links: dict[str, str] = {}
    left, count = MAX_PACKAGE_BYTES, 0
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                count, left = count + 1, left - member.size
                if count > MAX_MEMBERS or left < 0:
                    raise SyncError("the archive is too large")
                path = os.path.join(folder, member_path(member))
                if member.isdir():
                    os.makedirs(path, mode=0o755, exist_ok=True)
                    continue
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                if member.isreg():
                    write_member(members, member, path)
                elif member.issym():
                    links[path] = member.linkname
                else:
                    raise SyncError("the archive has a member that is no file: %s" % member.name)
        os.unlink(archive)
        for path, target in links.items():
            os.symlink(target, path)
    except FileExistsError as error:
        raise SyncError("the archive has two members of one name: %s" % error.filename) from None
    except (tarfile.TarError, EOFError, zlib.error, UnicodeError, ValueError) as error:
        raise SyncError("the archive cannot be read: %s" % error) from None
    root = os.path.realpath(folder)
    for path, target in links.items():
        led_to = os.path.realpath(path)
        if os.path.isabs(target) or not led_to.startswith(root + os.sep) or not os.path.exists(led_to):
            raise SyncError("the archive has a link that leads out of it, or nowhere: %s" % path[len(folder) + 1 :])


def member_path(member: tarfile.TarInfo) -> str:
    """The path of a member below the folder that it is unpacked into. Raises SyncError for one that leads elsewhere."""
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if member.name.startswith("/") or ".." in parts or "\0" in member.name or (not parts and not member.isdir()):
        raise SyncError("the archive has a member with the path %r" % member.name[:200])
    return os.path.join(*parts) if parts else ""


def write_member(members: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    """Write a file of an archive to where nothing is yet, onto the disk. Raises OSError."""
    import shutil

    source = members.extractfile(member)
    assert source is not None  # it is a regular file
    mode = 0o755 if member.mode & 0o111 else 0o644
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    with source, os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
        file.flush()
        if os.fstat(descriptor).st_size != member.size:
            raise SyncError("the archive ends within %s" % member.name)
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)


def check_package(folder: str, version: str, target: str) -> None:
    """Raise SyncError unless a folder holds the package of this version for this machine."""
    manifest = read_json(os.path.join(folder, MANIFEST))
    if not manifest:
        raise SyncError("the package has no %s" % MANIFEST)
    for name, expected in (("version", version), ("target", target), ("entrypoint", PROGRAM)):
        if manifest.get(name) != expected:
            raise SyncError("the package's %s is %r, and not %s" % (name, manifest.get(name), expected))
    program = os.path.join(folder, PROGRAM)
    if os.path.islink(program) or not os.access(program, os.X_OK):
        raise SyncError("the package has no program %s" % PROGRAM)


def unpack_program(archive: str, name: str, target: str) -> None:
    """Write the one program of an archive to `target`. Raises SyncError and OSError."""
    import tarfile
    import zlib

    try:
        with tarfile.open(archive) as members:
            files = [member for member in members if member.isfile() and member.name.split("/")[-1] in (name, "codex")]
            if len(files) != 1:
                raise SyncError("the archive does not hold exactly one program")
            write_member(members, files[0], target)
    except (tarfile.TarError, EOFError, zlib.error, UnicodeError, ValueError) as error:
        raise SyncError("the archive cannot be read: %s" % error) from None
    os.chmod(target, 0o755)


def package_version(folder: str) -> str:
    """The version of the package in a folder; empty where none is."""
    version = read_json(os.path.join(folder, MANIFEST)).get("version")
    return version if isinstance(version, str) and re.match(VERSION, version) else ""


def fetched_daemon_version(home: str) -> str:
    """The version of the package that Codex's own updater has for its daemon; empty without one."""
    return package_version(os.path.join(home, "packages/app-server-daemon/current"))
