"""The runner on this machine: the real Codex in a temporary home inside the server's, mode 0700.

Codex gets no secret but the document, an empty folder to work in, and a time limit for it and all that it starts. A
lock on each home lives as long as its Codex, so that a later run finds what a killed server left, and does not touch it
while Codex still writes there.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cdxsync.auth import runner
from cdxsync.auth.refresh import tokens_of
from cdxsync.auth.runner import Verdict
from cdxsync.base import jsontext, texts
from cdxsync.base.errors import Failed, Malformed
from cdxsync.base.files import lock_folder, write_private
from cdxsync.base.settings import Settings
from cdxsync.services.secrecy import redact
from cdxsync.store.fleet import Fleet

FOLDER = "runner"
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_PROMPT = "Answer with the one word: ok"
_INTENT_PREFIX = "refresh-"
_GROUP = "group"
_ORPHAN_SECONDS = 60.0
_MAX_OUTPUT = 64 * 1024
_REFUSED = re.compile(
    r"\b401\b|\bunauthorized\b|\b(?:log|sign) ?in again\b|\bnot logged in\b|\balready used\b|\brevoked\b", re.IGNORECASE
)
"""What Codex says when the login is refused. Anything else, such as a network that is away, tells nothing of it."""


class CodexFailed(Failed):
    """Codex could not be started, or left nothing that can be read."""

    default_code = "codex_failed"


class Home:
    """A temporary home: `path` with `.codex/auth.json` and an empty folder `work`.

    `precious` when Codex may refresh the document there.
    """

    def __init__(self, path: Path, lock: int, *, precious: bool = True) -> None:
        self.path = path
        self.lock = lock
        self.precious = precious

    @property
    def auth_file(self) -> Path:
        """The document, as written there or as Codex rewrote it."""
        return self.path / ".codex" / "auth.json"

    def document(self) -> Any:
        """What the file holds now. Raises `CodexFailed` when it cannot be read."""
        try:
            return jsontext.decode(self.auth_file.read_bytes())
        except (OSError, Malformed) as error:
            reason = error.message if isinstance(error, Malformed) else error.strerror
            raise CodexFailed(f"Codex left an auth.json that cannot be read: {reason}") from None


@contextlib.contextmanager
def home_for(fleet: Fleet, laid: dict[str, Any], intent_id: int | None) -> Iterator[Home]:
    """A home with the document `laid`, deleted at the end.

    With an intent it stays when the block raises: what Codex wrote there must not be lost to a fault of ours, such as
    a full disk.
    """
    folder = fleet.settings.home / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    prefix = f"{_INTENT_PREFIX}{intent_id}-" if intent_id is not None else "check-"
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
    lock = lock_folder(path)
    if lock is None:
        raise CodexFailed(f"{path}: another process has locked it; end that process first")
    home = Home(path, lock, precious=intent_id is not None)
    kept = intent_id is not None
    try:
        home.auth_file.parent.mkdir(mode=0o700)
        (path / "work").mkdir(mode=0o700)
        write_private(home.auth_file, jsontext.plain(laid))
        write_private(home.auth_file.with_name("config.toml"), _config(fleet.settings).encode())
        yield home
        kept = False
    except CodexFailed:
        kept = False
        raise
    finally:
        if not kept:
            wipe(path)
        os.close(lock)


def _config(settings: Settings) -> str:
    """Codex's settings: the model, and its address. JSON strings are TOML strings."""
    lines = ["history.persistence = 'none'"]
    if settings.runner_model:
        lines.append(f"model = {json.dumps(settings.runner_model)}")
    if settings.runner_model_url:
        lines += [
            'model_provider = "cdxsync"',
            "[model_providers.cdxsync]",
            'name = "cdxsync"',
            f"base_url = {json.dumps(settings.runner_model_url)}",
            'wire_api = "responses"',
            "requires_openai_auth = true",
        ]
    return "\n".join(lines) + "\n"


def _environment(settings: Settings, home: Path) -> dict[str, str]:
    given = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    for name in _PROXIES:
        given |= {form: os.environ[form] for form in (name, name.lower()) if form in os.environ}
    if settings.runner_token_url:
        given["CODEX_REFRESH_TOKEN_URL_OVERRIDE"] = settings.runner_token_url
    return given | {"HOME": str(home), "CODEX_HOME": str(home / ".codex"), "TMPDIR": str(home), "NO_COLOR": "1"}


def check(fleet: Fleet, home: Home, laid: dict[str, Any]) -> Verdict:
    """Ask Codex for one word with the document in `home`. Raises `CodexFailed` when Codex cannot be started."""
    settings = fleet.settings
    codex = runner.codex_path(settings)
    if codex is None:
        raise CodexFailed(f"no program {settings.runner_codex!r} on this server (setting runner_codex)")
    begun = time.monotonic()
    reason, cut_off = _run(
        [codex, "exec", "--skip-git-repo-check", "--sandbox", "read-only", _PROMPT],
        home,
        _environment(settings, home.path),
        settings.auth_runner_timeout,
    )
    latency = round((time.monotonic() - begun) * 1000)
    try:
        after = home.document()
    except CodexFailed:
        if reason is None:
            raise
        after = laid  # Codex's own words about its failure say more
    changed = tokens_of(after if isinstance(after, dict) else {}) != tokens_of(laid)
    status = runner.OK
    if reason is not None:
        status = runner.FAIL if _REFUSED.search(reason) else runner.UNKNOWN
        reason = texts.clean(redact(reason, laid, after))[-400:]
    return Verdict(
        status=status,
        reason=reason,
        latency_ms=latency,
        updated_auth=after if changed else None,
        cut_off=cut_off,
    )


def _run(command: list[str], home: Home, environment: dict[str, str], timeout: float) -> tuple[str | None, bool]:
    """Run in a process group of its own, which ends with the time limit at the latest; output goes to files.

    Returns why it failed (None if it did not), and whether it was cut off.
    """
    with (home.path / "out").open("wb") as out, (home.path / "err").open("wb") as err:
        try:
            process = subprocess.Popen(
                command,
                cwd=home.path / "work",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                pass_fds=(home.lock,),
            )
        except OSError as error:
            raise CodexFailed(f"{command[0]} cannot be started: {error.strerror}") from None
        (home.path / _GROUP).write_text(str(process.pid))
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            _kill_group(process.pid)
            process.wait()
            return f"Codex did not answer within {timeout:g} s", True
        except BaseException:
            # An admin's Ctrl-C: a refresh continues on its own, and the next run finds its result.
            if not home.precious:
                _kill_group(process.pid)
            raise
        _kill_group(process.pid)
    if code == 0:
        return None, False
    words = _last_words(home.path / "err") or _last_words(home.path / "out")
    return words or f"Codex ended with {code}", False


def _kill_group(number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(number, signal.SIGKILL)


def _last_words(path: Path) -> str:
    """The end of a program's output, preferably the line that says what went wrong."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _MAX_OUTPUT))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or [""])[-1]


def wipe(path: Path) -> None:
    """Delete a temporary home; the file with the credentials is overwritten first."""
    with contextlib.suppress(OSError):
        found = path / ".codex" / "auth.json"
        with found.open("r+b") as file:
            file.write(b"\0" * found.stat().st_size)
            file.flush()
            os.fsync(file.fileno())
    shutil.rmtree(path, ignore_errors=True)


def leftovers(fleet: Fleet) -> Iterator[tuple[Path, int | None]]:
    """The homes that no process uses, each with its intent's id, if it was for a refresh. Locked meanwhile."""
    folder = fleet.settings.home / FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        lock = lock_folder(path)
        if lock is None:
            continue
        try:
            number = path.name.removeprefix(_INTENT_PREFIX).partition("-")[0]
            yield path, int(number) if path.name.startswith(_INTENT_PREFIX) and number.isdigit() else None
        finally:
            os.close(lock)


def busy(fleet: Fleet) -> bool:
    """Whether a Codex that a killed server started still runs; one over its time limit is ended here."""
    folder = fleet.settings.home / FOLDER
    found = False
    for path in folder.iterdir() if folder.is_dir() else []:
        lock = lock_folder(path)
        if lock is not None:
            os.close(lock)
        if lock is not None or not path.is_dir():
            continue
        found = True
        with contextlib.suppress(OSError, ValueError):
            begun = (path / _GROUP).stat().st_mtime
            if time.time() - begun > fleet.settings.auth_runner_timeout + _ORPHAN_SECONDS:
                _kill_group(int((path / _GROUP).read_text()))
    return found
