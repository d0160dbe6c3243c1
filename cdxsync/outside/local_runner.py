"""The runner on this machine: the real Codex in a throw-away home that lies in the server's own, mode 0700.

Codex gets no secret but the document, an empty folder to work in, and a time limit for it and all that it starts. A
lock on each home lives as long as its Codex, so that what a killed server left behind is found, and not touched while
Codex still writes there.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cdxsync.domain import jsontext, runner, texts
from cdxsync.domain.fleet import Fleet
from cdxsync.domain.refresh import tokens_of
from cdxsync.domain.runner import Verdict
from cdxsync.errors import Failed, Malformed
from cdxsync.files import write_private
from cdxsync.outside.secrecy import redact
from cdxsync.settings import Settings

FOLDER = "runner"
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_PROMPT = "Answer with the one word: ok"
_INTENT_PREFIX = "refresh-"
_MAX_OUTPUT = 64 * 1024


class Home:
    """A throw-away home: `path` with `.codex/auth.json` and an empty folder `work`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.lock = lock

    @property
    def auth_file(self) -> Path:
        """The document, as laid or as Codex has rewritten it."""
        return self.path / ".codex" / "auth.json"

    def document(self) -> Any:
        """What the file holds now. Raises `Failed` when Codex has left it unreadable."""
        try:
            return jsontext.decode(self.auth_file.read_bytes())
        except (OSError, Malformed) as error:
            reason = error.message if isinstance(error, Malformed) else error.strerror
            raise Failed(f"Codex left an auth.json that cannot be read: {reason}") from None


@contextlib.contextmanager
def home_for(fleet: Fleet, laid: dict[str, Any], intent_id: int | None) -> Iterator[Home]:
    """A home with the document `laid`, wiped at the end.

    With an intent it is wiped only when the block ends well: what Codex wrote must not be lost to our own fault.
    """
    folder = fleet.settings.home / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    prefix = f"{_INTENT_PREFIX}{intent_id}-" if intent_id is not None else "check-"
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
    lock = _locked(path)
    if lock is None:
        raise Failed(f"{path}: is locked by another process")
    home = Home(path, lock)
    kept = intent_id is not None
    try:
        home.auth_file.parent.mkdir(mode=0o700)
        (path / "work").mkdir(mode=0o700)
        write_private(home.auth_file, jsontext.plain(laid))
        write_private(home.auth_file.with_name("config.toml"), _config(fleet.settings).encode())
        yield home
        kept = False
    finally:
        if not kept:
            wipe(path)
        os.close(lock)


def _config(settings: Settings) -> str:
    """Codex's settings: the model, and where it is asked. JSON strings are TOML strings."""
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
    """Have Codex answer one word with the document in `home`. Raises `Failed` when Codex cannot be started."""
    settings = fleet.settings
    codex = runner.codex_path(settings)
    if codex is None:
        raise Failed(f"there is no {settings.runner_codex!r} on this server")
    begun = time.monotonic()
    status, reason = _run(
        [codex, "exec", "--skip-git-repo-check", "--sandbox", "read-only", _PROMPT],
        home,
        _environment(settings, home.path),
        settings.auth_runner_timeout,
    )
    latency = round((time.monotonic() - begun) * 1000)
    after = home.document()
    changed = tokens_of(after if isinstance(after, dict) else {}) != tokens_of(laid)
    if reason is not None:
        reason = texts.clean(redact(reason, laid, after))[-400:]
    return Verdict(status=status, reason=reason, latency_ms=latency, updated_auth=after if changed else None)


def _run(command: list[str], home: Home, environment: dict[str, str], timeout: float) -> tuple[str, str | None]:
    """Run in a process group of its own, which ends with the time limit at the latest; output goes to files."""
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
            raise Failed(f"{command[0]} cannot be started: {error.strerror}") from None
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            return runner.FAIL, f"Codex did not answer within {timeout:g} s"
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code == 0:
        return runner.OK, None
    return runner.FAIL, _last_words(home.path / "err") or _last_words(home.path / "out") or f"Codex ended with {code}"


def _last_words(path: Path) -> str:
    """The end of what a program printed, preferably the line that says what went wrong."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _MAX_OUTPUT))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or [""])[-1]


def wipe(path: Path) -> None:
    """Delete a throw-away home; files that held credentials are overwritten first."""
    for name in ("auth.json",):
        with contextlib.suppress(OSError):
            found = path / ".codex" / name
            with found.open("r+b") as file:
                file.write(b"\0" * found.stat().st_size)
                file.flush()
                os.fsync(file.fileno())
    shutil.rmtree(path, ignore_errors=True)


def leftovers(fleet: Fleet) -> Iterator[tuple[Path, int | None]]:
    """The homes that nobody uses any more, each with its intent's id, if it was for a refresh. Locked meanwhile."""
    folder = fleet.settings.home / FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        lock = _locked(path)
        if lock is None:
            continue
        try:
            number = path.name.removeprefix(_INTENT_PREFIX).partition("-")[0]
            yield path, int(number) if path.name.startswith(_INTENT_PREFIX) and number.isdigit() else None
        finally:
            os.close(lock)


def busy(fleet: Fleet) -> bool:
    """Whether a Codex of a server that was cut off still runs in its home."""
    folder = fleet.settings.home / FOLDER
    for path in folder.iterdir() if folder.is_dir() else []:
        lock = _locked(path)
        if lock is None:
            return True
        os.close(lock)
    return False


def _locked(path: Path) -> int | None:
    """Lock the folder; None when another holds it or it has gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
