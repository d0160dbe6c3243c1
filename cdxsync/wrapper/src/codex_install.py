"""Installs Codex, and updates it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import sys
import time
import urllib.parse
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.baked import GITHUB_API_URL, WRAPPER_VERSION
from cdxsync.wrapper.src.codex import Build, find_codex, version_of
from cdxsync.wrapper.src.errors import SyncError
from cdxsync.wrapper.src.files import (
    child_environment,
    codex_home,
    file_sha256,
    find_program,
    locked,
    own_folder,
    read_json,
    remove,
    user_home,
    write_json,
)
from cdxsync.wrapper.src.messages import debug, say
from cdxsync.wrapper.src.versions import VERSION, version_key

if TYPE_CHECKING:
    import subprocess
    from typing import Any, BinaryIO

INSTALL_SECONDS = 900.0
RETRY_INSTALL_SECONDS = 6 * 3600
TARGETS = {
    ("Linux", "x86_64"): "x86_64-unknown-linux-musl",
    ("Linux", "amd64"): "x86_64-unknown-linux-musl",
    ("Linux", "aarch64"): "aarch64-unknown-linux-musl",
    ("Linux", "arm64"): "aarch64-unknown-linux-musl",
    ("Darwin", "x86_64"): "x86_64-apple-darwin",
    ("Darwin", "arm64"): "aarch64-apple-darwin",
}


def version_folders(user: str) -> tuple[str, str]:
    """Where versions of Codex are installed: for a user, and for the whole machine."""
    return (os.path.join(user, ".local/share/cdx"), "/usr/local/lib/cdx")


class CodexPlace:
    """Where Codex is to be installed: the link `codex` on PATH, and the folder with the versions beside each other.

    Versions lie in folders of their own and the link is switched in one step, so that a running Codex keeps its
    files and a failed installation changes nothing.
    """

    def __init__(self, program: str | None) -> None:
        own = os.path.dirname(os.path.realpath(__file__))
        local = os.path.join(user_home(), ".local/bin")
        self.link = program or os.path.join(own if os.access(own, os.W_OK) else local, "codex")
        # What root installs for the machine must not lie in root's home, which others cannot enter.
        system = os.geteuid() == 0 and self.link.startswith(("/usr/", "/opt/"))
        self.versions = version_folders(user_home())[system]

    def problem(self) -> str | None:
        """Why cdx does not install Codex here, or None."""
        folder, real = os.path.dirname(self.link), os.path.realpath(self.link)
        if "/Cellar/" in real or "/Caskroom/" in real:
            return "it is Homebrew's; update it with: brew upgrade codex"
        if folder.endswith("/node_modules/.bin"):
            return "it belongs to an npm project"
        if os.path.isdir(folder) and not os.access(folder, os.W_OK):
            return "%s belongs to another user" % folder
        return None

    def install(self, version: str) -> None:
        """Install a version and switch to it. Raises SyncError; the old one stays then."""
        import shutil
        import tempfile

        staged = os.path.join(self.versions, "codex-%s" % version)
        os.makedirs(self.versions, exist_ok=True)
        os.makedirs(os.path.dirname(self.link), exist_ok=True)
        work = tempfile.mkdtemp(dir=self.versions, prefix=".installing-")
        try:
            os.chmod(work, 0o755)
            self._fill(work, version)
            if os.path.lexists(staged):
                shutil.rmtree(staged)
            os.rename(work, staged)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        before = os.path.realpath(self.link)
        self._switch(os.path.join(staged, "bin", "codex"))
        self._tidy(staged, before)

    def _fill(self, work: str, version: str) -> None:
        problems = []
        for way in (install_by_npm, install_release):
            try:
                way(work, version)
                found = version_of(os.path.join(work, "bin", "codex"))
                if found == version:
                    return
                raise SyncError("the installed program reports version %s" % (found or "none"))
            except (SyncError, OSError) as error:
                problems.append("%s: %s" % ((way.__doc__ or "").split(".")[0], error))
                for entry in os.listdir(work):
                    remove(os.path.join(work, entry))
        raise SyncError("; ".join(problems))

    def _switch(self, target: str) -> None:
        temporary = os.path.join(os.path.dirname(self.link), ".codex-%d" % os.getpid())
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        os.symlink(target, temporary)
        os.replace(temporary, self.link)

    def _tidy(self, staged: str, before: str) -> None:
        import shutil

        for name in os.listdir(self.versions):
            path = os.path.join(self.versions, name)
            if name.startswith("codex-") and path != staged and not before.startswith(path + os.sep):
                shutil.rmtree(path, ignore_errors=True)


def install_by_npm(folder: str, version: str) -> None:
    """npm. Installs Codex under a prefix."""
    import subprocess

    npm = find_program("npm", os.environ.get("PATH", os.defpath))
    if not npm:
        raise SyncError("is not installed")
    try:
        done = subprocess.run(
            [npm, "install", "--global", "--no-fund", "--no-audit", "--prefix", folder, "@openai/codex@%s" % version],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=INSTALL_SECONDS,
            env=child_environment(),
        )
    except subprocess.TimeoutExpired:
        raise SyncError("timed out") from None
    if done.returncode != 0:
        lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
        raise SyncError("failed (%s)" % (lines[0][:200] if lines else "exit code %d" % done.returncode))


def install_release(folder: str, version: str) -> None:
    """Release. Installs Codex from its GitHub release, with the checksum verified."""
    import io

    system = os.uname()
    target = TARGETS.get((system.sysname, system.machine))
    if target is None:
        raise SyncError("no release for %s on %s" % (system.sysname, system.machine))
    name = "codex-%s.tar.gz" % target
    base = "https://api.github.com" if GITHUB_API_URL.startswith("__") else GITHUB_API_URL.rstrip("/")
    url = "%s/repos/openai/codex/releases/tags/rust-v%s" % (base, version)
    description = io.BytesIO()
    download(url, 4 << 20, description)
    try:
        assets = json.loads(description.getvalue().decode("utf-8")).get("assets")
    except (ValueError, AttributeError):
        raise SyncError("%s does not describe a release" % url) from None
    for asset in filter(lambda item: isinstance(item, dict), assets if isinstance(assets, list) else []):
        checksum = re.match(r"sha256:([0-9a-f]{64})\Z", str(asset.get("digest")))
        if asset.get("name") == name and checksum:
            archive = os.path.join(folder, name)
            with open(archive, "wb") as file:
                download(str(asset.get("browser_download_url")), 1 << 30, file)
            if file_sha256(archive) != checksum.group(1):
                raise SyncError("the checksum of %s is wrong" % name)
            os.makedirs(os.path.join(folder, "bin"))
            unpack_program(archive, name[: -len(".tar.gz")], os.path.join(folder, "bin", "codex"))
            os.unlink(archive)
            return
    raise SyncError("the release has no %s with a checksum" % name)


def download(url: str, limit: int, file: BinaryIO) -> None:
    """Write the content of an https URL, at most `limit` bytes, to an open file. Raises SyncError."""
    from urllib.request import Request, urlopen

    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise SyncError("%s is not encrypted" % url)
    request = Request(url, headers={"User-Agent": "cdx/%s" % WRAPPER_VERSION})
    try:
        with urlopen(request, timeout=30) as response:
            for block in iter(lambda: response.read(1 << 20), b""):
                limit -= len(block)
                if limit < 0:
                    raise SyncError("%s is too large" % url)
                file.write(block)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SyncError("%s cannot be fetched (%s)" % (url, error)) from None


def unpack_program(archive: str, name: str, target: str) -> None:
    """Write the one program of an archive to `target`."""
    import shutil
    import tarfile

    try:
        with tarfile.open(archive) as members:
            files = [member for member in members if member.isfile() and member.name.split("/")[-1] in (name, "codex")]
            if len(files) != 1:
                raise SyncError("the archive does not hold exactly one program")
            source = members.extractfile(files[0])
            assert source is not None  # it is a regular file
            with source, open(target, "wb") as file:
                shutil.copyfileobj(source, file)
    except (tarfile.TarError, EOFError) as error:
        raise SyncError("the archive cannot be read: %s" % error) from None
    os.chmod(target, 0o755)


def wanted_codex(build: Build, versions: dict[str, Any]) -> str | None:
    """The version of Codex to install: what the server names when it is newer than ours, or None."""
    named = versions.get("client_version")
    if not isinstance(named, str) or not re.match(VERSION, named):
        return None
    if build.program and (not build.version or version_key(build.version) >= version_key(named)):
        return None
    return named


def update_codex(home: str, build: Build, versions: dict[str, Any], seconds: float) -> bool:
    """Install the server's version of Codex when ours is older or missing; wait for it at most `seconds`.

    It goes on by itself after that, and the next run has it. Returns whether it is there now.
    """
    version = wanted_codex(build, versions)
    if version is None:
        return False
    place = CodexPlace(build.program)
    problem = place.problem()
    if problem:
        debug("Codex %s is available, but %s: %s" % (version, place.link, problem))
        return False
    notes = os.path.join(own_folder(home), "install.json")
    last = read_json(notes)
    if last.get("version") == version and time.time() - last.get("failed_at", 0) < RETRY_INSTALL_SECONDS:
        debug("Codex %s could not be installed: %s" % (version, last.get("problem")))
        return False
    import subprocess

    say("%s Codex %s" % ("updating to" if build.program else "installing", version))
    worker = start_installer(version, build.program or "")
    try:
        worker.wait(seconds)
    except subprocess.TimeoutExpired:
        say("the installation continues in the background")
        return False
    if worker.returncode != 0:
        say("Codex %s could not be installed: %s" % (version, read_json(notes).get("problem") or "no reason was given"))
        say("cdx tries again later. To try now, run: cdx --update")
    return worker.returncode == 0


def start_installer(version: str, program: str) -> subprocess.Popen[bytes]:
    """Start the installation as a process of its own, which outlives this one."""
    import subprocess

    return subprocess.Popen(
        [sys.executable, os.path.realpath(__file__), "--wrapper-install-codex", version, program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
        env=child_environment(),
    )


def install_codex_now(arguments: list[str]) -> int:
    """`--wrapper-install-codex VERSION PROGRAM`, the process that `update_codex` starts; returns the exit code."""
    version, program = arguments
    # Codex is no secret; whoever may start cdx must be able to start it.
    os.umask(0o022)
    folder = own_folder(codex_home())
    notes = os.path.join(folder, "install.json")
    # Another run may be at it already: then this one waits, and finds it done.
    with locked(os.path.join(folder, "install.lock")):
        program = program or find_codex() or ""
        if program and version_of(program) == version:
            return 0
        try:
            CodexPlace(program or None).install(version)
        except (SyncError, OSError) as error:
            write_json(notes, {"version": version, "failed_at": time.time(), "problem": str(error)})
            return 1
        write_json(notes, {"version": version, "installed_at": time.time()})
    return 0
