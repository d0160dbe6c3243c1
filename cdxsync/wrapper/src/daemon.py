"""Codex's daemon in a home: the background server and its updater are found, asked for their login, and ended.

A full-screen run of plain Codex leaves both behind. Codex notes them in `app-server-daemon` with the moment at which
they started; a note that was copied along with a home, or whose number is another process's by now, is no daemon.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.accounts import MODES, account_of, kind_of, same_account, text_of
from cdxsync.wrapper.src.document import LocalDocument
from cdxsync.wrapper.src.errors import SyncError
from cdxsync.wrapper.src.files import read_json
from cdxsync.wrapper.src.messages import say
from cdxsync.wrapper.src.processes import command_line, has_proc, stat_fields

if TYPE_CHECKING:
    from typing import Any, Iterator

# In the order in which they are ended: the updater would start the server again.
DAEMON_NOTES = (("daemon-updater.pid", "updater"), ("daemon.pid", "background server"))
DAEMON_SOCKET = "app-server-control/app-server-control.sock"
# The server waits for the answer that it is reading; after that it is killed.
DAEMON_END_SECONDS = 10.0
DAEMON_ANSWER_SECONDS = 3.0
DAEMON_RESTART = "cdx app-server daemon restart"
DAEMON_STOP = "cdx app-server daemon stop"
# The kinds of login that the server names when it has one.
DAEMON_KINDS = ("chatgpt", "api_key", "access_token")


def daemon_process(home: str, name: str) -> int | None:
    """The number of a process of this user that Codex has noted in this home, and that belongs to it."""
    note = read_json(os.path.join(home, "app-server-daemon", name))
    pid = note.get("pid")
    if isinstance(pid, bool) or not isinstance(pid, int) or pid <= 1:
        return None
    folder = os.path.realpath(home)
    mine = in_proc(pid, note, folder) if has_proc() else by_ps(pid, note, folder)
    return pid if mine else None


def in_proc(pid: int, note: dict[str, Any], folder: str) -> bool:
    """Whether a process is the one of a note, by /proc."""
    place = "/proc/%d" % pid
    try:
        if os.stat(place).st_uid != os.geteuid():
            return False
        program = os.readlink(place + "/exe")
        with open(place + "/environ", "rb") as file:
            home = os.fsencode("CODEX_HOME=" + folder) in file.read().split(b"\0")
    except OSError:
        return False
    fields = stat_fields(pid)
    identity = note.get("processIdentity")
    ticks = identity.get("startTicks") if isinstance(identity, dict) else None
    same = ticks is None or fields[19:20] == [str(ticks)]
    runs = same and fields[:1] not in ([], ["Z"]) and "app-server" in command_line(pid)
    return runs and (home or program.startswith(folder + os.sep))


def by_ps(pid: int, note: dict[str, Any], folder: str) -> bool:
    """Whether a process is the one of a note, where there is no /proc: `ps` tells its user, start and program."""
    import subprocess

    command = ["ps", "-ww", "-p", str(pid), "-o", "uid=", "-o", "lstart=", "-o", "command="]
    try:
        printed = subprocess.run(
            command, env=dict(os.environ, LC_ALL="C"), stdin=subprocess.DEVNULL, capture_output=True, timeout=10
        ).stdout.decode("utf-8", "replace")
    except (OSError, subprocess.SubprocessError):
        return False
    words = printed.split(None, 6)
    if len(words) < 7 or words[0] != str(os.geteuid()) or "app-server" not in words[6]:
        return False
    started = note.get("processStartTime")
    same = not isinstance(started, str) or started.split() == words[1:6]
    return same and words[6].startswith(folder + os.sep)


def daemon_processes(home: str) -> list[tuple[int, str]]:
    """(number, what it is) of the daemon's processes in a home."""
    found = [(daemon_process(home, name), what) for name, what in DAEMON_NOTES]
    return [(pid, what) for pid, what in found if pid is not None]


def end_daemon(home: str) -> bool:
    """End Codex's daemon in a home, and say so; returns whether one of its processes is still there."""
    left = False
    for name, what in DAEMON_NOTES:
        pid = daemon_process(home, name)
        if pid is None:
            continue
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + DAEMON_END_SECONDS
            with contextlib.suppress(OSError):
                os.kill(pid, number)
            while daemon_process(home, name) == pid and time.monotonic() < deadline:
                time.sleep(0.05)
            if daemon_process(home, name) != pid:
                say("Codex's %s of this home has ended (process %d)" % (what, pid))
                break
        else:
            left = True
            say("Codex's %s of this home cannot be ended (process %d); end it yourself" % (what, pid))
    return left


class DaemonSocket:
    """A connection to the background server of a home: JSON messages in frames of WebSocket. Raises OSError."""

    def __init__(self, home: str) -> None:
        path = os.path.realpath(os.path.join(home, DAEMON_SOCKET))
        if os.stat(path).st_uid != os.geteuid():
            raise OSError("%s belongs to another user" % path)
        self.deadline = time.monotonic() + DAEMON_ANSWER_SECONDS
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DAEMON_ANSWER_SECONDS)
        try:
            self.socket.connect(path)
            key = "Y2R4IGFza3MgYSBkYWVtb24="  # 16 bytes; what they are has no meaning here
            self.socket.sendall(
                (
                    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n" % key
                ).encode()
            )
            head = b""
            while not head.endswith(b"\r\n\r\n") and len(head) < 8192:
                head += self._read(1)
            if not head.startswith(b"HTTP/1.1 101"):
                raise OSError("the background server speaks another protocol")
        except BaseException:
            self.socket.close()
            raise

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise OSError("the background server does not answer")
            self.socket.settimeout(left)
            block = self.socket.recv(size - len(data))
            if not block:
                raise OSError("the background server has hung up")
            data += block
        return data

    def send(self, message: dict[str, Any]) -> None:
        """Send a message, masked with zeros: it stays on this machine."""
        data = json.dumps(message).encode()
        size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
        self.socket.sendall(b"\x81" + size + b"\0\0\0\0" + data)

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the server says; ends when it hangs up."""
        whole = b""
        while True:
            first, size = self._read(2)
            length = size & 0x7F
            if length > 125:
                length = int.from_bytes(self._read(2 if length == 126 else 8), "big")
            data, kind = self._read(length), first & 0x0F
            if kind == 8:
                return
            if kind in (0, 1):
                whole += data
                if first & 0x80:
                    message, whole = json.loads(whole.decode("utf-8", "replace")), b""
                    if isinstance(message, dict):
                        yield message

    def ask(self, number: int, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """The result of a call; empty when it is refused."""
        self.send({"id": number, "method": method, "params": parameters})
        for message in self.messages():
            if message.get("id") == number and ("result" in message or "error" in message):
                result = message.get("result")
                return result if isinstance(result, dict) else {}
        return {}


def ask_daemon(home: str) -> tuple[str, str, str] | None:
    """(version, kind of login, its access token or key) of the background server; None when it does not answer.

    The last two are empty where it does not tell: it names no login for Bedrock, and does not show an access token
    that was made for hosts.
    """
    try:
        with contextlib.closing(DaemonSocket(home)) as server:
            client = {"clientInfo": {"name": "cdx", "version": "1"}}
            agent = server.ask(1, "initialize", client).get("userAgent")
            server.send({"method": "initialized"})
            said = server.ask(2, "getAuthStatus", {"includeToken": True, "refreshToken": False})
    except (OSError, ValueError):
        return None
    version = str(agent).partition("/")[2].split(" ")[0]
    method = text_of(said.get("authMethod")).lower()
    return version, MODES.get(method, method), text_of(said.get("authToken"))


def has_another_login(kind: str, token: str, document: dict[str, Any]) -> bool:
    """Whether a background server has another login than a document, as far as it tells."""
    if kind != kind_of(document):
        return True
    told = {"OPENAI_API_KEY": token} if kind == "api_key" else {"tokens": {"access_token": token}}
    return bool(token) and not same_account(account_of(told), account_of(document))


def daemon_troubles(home: str, version: str) -> list[tuple[str, str]]:
    """What is wrong with the background server of a home, each with what to do. `version` is what is installed."""
    pid = daemon_process(home, "daemon.pid")
    if pid is None:
        return []
    it = "Codex's background server (process %d)" % pid
    answer = ask_daemon(home)
    if answer is None:
        return [("%s does not answer" % it, DAEMON_RESTART)]
    runs, kind, token = answer
    local = LocalDocument(os.path.join(home, "auth.json")).document
    found = []
    if version and runs and version != runs:
        found.append(("%s is version %s, not %s" % (it, runs, version), DAEMON_RESTART))
    if local is None and kind:
        found.append(("%s has a login, and auth.json has none" % it, DAEMON_STOP))
    elif local is not None and not kind and kind_of(local) in DAEMON_KINDS:
        found.append(("%s has no login, and auth.json has one" % it, DAEMON_RESTART))
    elif local is not None and kind and has_another_login(kind, token, local):
        found.append(("%s has another login than auth.json" % it, DAEMON_RESTART))
    return found


def daemon_findings(home: str, version: str) -> list[tuple[str, str, str | None]]:
    """(mark, text, what to do) for `--doctor`: about the background server of a home, if there is one."""
    pid = daemon_process(home, "daemon.pid")
    found: list[tuple[str, str, str | None]] = [("warn", *trouble) for trouble in daemon_troubles(home, version)]
    if pid is not None and not found:
        text = "Codex's background server (process %d) has no other login than auth.json; cdx runs without it" % pid
        found.append(("ok", text, None))
    return found


def tell_of_daemon(home: str) -> None:
    """Say that the background server goes on with the login that was here before, where it does."""
    with contextlib.suppress(SyncError):
        for text, what_to_do in daemon_troubles(home, ""):
            say("%s. Run: %s" % (text, what_to_do))
