"""Installs Codex, and updates it."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.codex import Build, find_codex, version_of
from cdxsync.wrapper.src.codex_package import install_release, latest_version
from cdxsync.wrapper.src.codex_wanted import is_single, named_version
from cdxsync.wrapper.src.errors import SyncError
from cdxsync.wrapper.src.file_trouble import FULL_DISK
from cdxsync.wrapper.src.files import (
    child_environment,
    codex_home,
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
    from typing import Any, Callable

INSTALL_SECONDS = 900.0
RETRY_INSTALL_SECONDS = 6 * 3600
WORK_PREFIX = ".installing-"


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
        beside = os.path.dirname(self.link) == own and not own.startswith(
            (user_home().rstrip(os.sep) + os.sep, "/usr/")
        )
        if os.geteuid() == 0 and beside:
            # cdx lies elsewhere, as where /usr cannot be written to, and so do the versions.
            self.versions = os.path.join(os.path.dirname(own), "lib/cdx")
        else:
            system = os.geteuid() == 0 and self.link.startswith(("/usr/", "/opt/"))
            self.versions = version_folders(user_home())[system]

    def problem(self) -> str | None:
        """Why cdx does not install Codex here, or None."""
        folder, real = os.path.dirname(self.link), os.path.realpath(self.link)
        if "/Cellar/" in real or "/Caskroom/" in real:
            return "it is Homebrew's; update it with: brew upgrade codex"
        if folder.endswith("/node_modules/.bin"):
            return "it belongs to an npm project"
        if os.path.realpath(folder).startswith(os.path.realpath(os.path.join(codex_home(), "packages")) + os.sep):
            return "it is kept up to date by Codex's own updater"
        if os.path.isdir(folder) and not os.access(folder, os.W_OK):
            return "%s belongs to another user" % folder
        return None

    def install(self, version: str, ways: tuple[Callable[[str, str], None], ...]) -> str:
        """Install a version in the first of `ways` that works, and switch to it; returns the version that is there now.

        That is a newer one when somebody else, such as Codex's own updater, was faster. Raises SyncError and OSError;
        the old one stays then.
        """
        import shutil
        import tempfile

        os.makedirs(self.versions, exist_ok=True)
        os.makedirs(os.path.dirname(self.link), exist_ok=True)
        # One at a time, for all homes that share the folder: the second one finds it done.
        with locked(self.versions):
            self._sweep()
            there = self._there(version)
            if there:
                return there
            work = tempfile.mkdtemp(dir=self.versions, prefix=WORK_PREFIX)
            try:
                os.chmod(work, 0o755)
                self._fill(work, version, ways)
                # It may have taken minutes.
                there = self._there(version)
                if there:
                    return there
                staged = self._free_folder(version)
                os.rename(work, staged)
            finally:
                shutil.rmtree(work, ignore_errors=True)
            before = os.path.realpath(self.link)
            self._switch(os.path.join(staged, "bin", "codex"))
            self._tidy(staged, before)
        return version

    def _there(self, version: str) -> str:
        """The version that is installed when it makes this one unnecessary; else an empty text."""
        found = version_of(self.link) if os.path.exists(self.link) else ""
        if not found or version_key(found) < version_key(version):
            return ""
        return "" if found == version and self.may_complete() else found

    def may_complete(self) -> bool:
        """Whether the program is Codex alone, put there by cdx or its installer: the package may take its place."""
        own = os.path.dirname(os.path.realpath(__file__))
        ours = os.path.realpath(self.link).startswith(os.path.realpath(self.versions) + os.sep)
        return (ours or os.path.dirname(os.path.abspath(self.link)) == own) and is_single(self.link)

    def _free_folder(self, version: str) -> str:
        """Where a version is to lie. One that is there may be running, so it keeps its place."""
        staged = os.path.join(self.versions, "codex-%s" % version)
        number = 1
        while os.path.lexists(staged):
            number += 1
            staged = os.path.join(self.versions, "codex-%s.%d" % (version, number))
        return staged

    def _fill(self, work: str, version: str, ways: tuple[Callable[[str, str], None], ...]) -> None:
        problems = []
        for way in ways:
            try:
                way(work, version)
                found = version_of(os.path.join(work, "bin", "codex"))
                if found == version:
                    return
                raise SyncError("the installed program reports version %s" % (found or "none"))
            except (SyncError, OSError) as error:
                full = isinstance(error, OSError) and error.errno in FULL_DISK
                reason = "there is not enough space in %s" % self.versions if full else str(error)
                problems.append("%s: %s" % ((way.__doc__ or "").split(".")[0], reason))
                for entry in os.listdir(work):
                    remove(os.path.join(work, entry))
        raise SyncError("; ".join(problems))

    def _sweep(self) -> None:
        """Remove what installations that were killed have left."""
        for name in os.listdir(self.versions):
            if name.startswith(WORK_PREFIX):
                remove(os.path.join(self.versions, name))

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


def wanted_codex(home: str, build: Build, versions: dict[str, Any]) -> str | None:
    """The version of Codex to install, or None.

    It is what the server names when that is newer than ours; a program without its package is replaced by the whole
    package of the same version, unless its release was found to have none.
    """
    named = named_version(versions)
    if named is None or not build.program:
        return named
    if not build.version:
        return None
    if version_key(build.version) < version_key(named):
        return named
    if not re.match(VERSION, build.version) or not CodexPlace(build.program).may_complete():
        return None
    last = read_json(notes_path(home))
    return None if last.get("single") and last.get("version") == build.version else build.version


def notes_path(home: str) -> str:
    """The note on the last installation: its version, and when it was done or failed, and why."""
    return os.path.join(own_folder(home), "install.json")


def update_codex(home: str, build: Build, versions: dict[str, Any], seconds: float) -> bool:
    """Install the server's version of Codex when ours is older or missing; wait for it at most `seconds`.

    It goes on by itself after that, and the next run has it. Returns whether it is there now.
    """
    version = wanted_codex(home, build, versions)
    if version is None:
        return False
    place = CodexPlace(build.program)
    problem = place.problem()
    if problem:
        debug("Codex %s is available, but %s: %s" % (version, place.link, problem))
        return False
    last = read_json(notes_path(home))
    if last.get("version") == version and time.time() - last.get("failed_at", 0) < RETRY_INSTALL_SECONDS:
        debug("Codex %s could not be installed: %s" % (version, last.get("problem")))
        return False
    import subprocess

    completes = version == build.version
    say(
        "%s Codex %s"
        % ("fetching the whole of" if completes else "updating to" if build.program else "installing", version)
    )
    worker = start_installer(version, build.program or "")
    try:
        worker.wait(seconds)
    except subprocess.TimeoutExpired:
        say("the installation continues in the background")
        return False
    last = read_json(notes_path(home))
    if worker.returncode != 0:
        say("Codex %s could not be installed: %s" % (version, last.get("problem") or "no reason was given"))
        say("cdx tries again later. To try now, run: cdx --update")
    elif last.get("overtaken_by"):
        say("the update to Codex %s is given up: %s is here by now, and runs" % (version, last["overtaken_by"]))
    return worker.returncode == 0


def say_newer(build: Build, versions: dict[str, Any]) -> None:
    """Say which version runs when it is newer than the server's, as Codex's own updater may have made it."""
    named = versions.get("client_version")
    if isinstance(named, str) and build.version and version_key(build.version) > version_key(named):
        say("Codex %s runs here: it is newer than the server's %s, and stays" % (build.version, named))


def start_installer(version: str, program: str) -> subprocess.Popen[bytes]:
    """Start the installation as a process of its own, which outlives this one."""
    import subprocess

    return subprocess.Popen(
        [sys.executable, "-IS", os.path.realpath(__file__), "--wrapper-install-codex", version, program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
        env=child_environment(),
    )


def install_codex_now(arguments: list[str]) -> int:
    """`--wrapper-install-codex VERSION PROGRAM`, the process that `update_codex` starts; returns the exit code.

    With `latest` in place of the version, as the installer calls it, the newest release is taken.
    """
    version, program = arguments
    # Codex is no secret; whoever may start cdx must be able to start it.
    os.umask(0o022)
    home = codex_home()
    ways: tuple[Callable[[str, str], None], ...] = (install_by_npm, install_release)
    # Another run may be at it already: then this one waits, and finds it done.
    with locked(os.path.join(own_folder(home), "install.lock")):
        try:
            if version == "latest":
                version, ways = latest_version(), (install_release,)
            place = CodexPlace(program or find_codex())
            there = place.install(version, ways)
        except (SyncError, OSError) as error:
            write_json(notes_path(home), {"version": version, "failed_at": time.time(), "problem": str(error)})
            say("Codex cannot be installed: %s" % error)
            return 1
        note: dict[str, object] = {"version": version, "installed_at": time.time()}
        if there != version:
            note["overtaken_by"] = there
        elif is_single(place.link):
            note["single"] = True
        write_json(notes_path(home), note)
    return 0
