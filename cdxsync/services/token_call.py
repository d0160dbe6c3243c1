"""A call of the token endpoint in a process of its own, which goes on when the server is killed.

The process gets all that it needs by standard input: secrets stand in no argument and in no variable. It makes the one
call, as any other of the server, writes what came of it into the call's folder (`auth/answers.py`), and ends.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec

from cdxsync.auth import answers
from cdxsync.auth.answers import Call, Given, Note
from cdxsync.base.errors import Failed, ServiceError
from cdxsync.base.files import write_private
from cdxsync.services import client

TIMEOUT_SECONDS = 20.0
"""For the call itself."""
WAIT_SECONDS = 27.0
"""How long the server waits for the process, which has to start, too. What comes later is stored by the next run."""
_ALARM_SECONDS = 40
_STORE_SECONDS = 600.0
"""How long the process tries to write the answer, where the disk is full."""
_KEPT_HEADERS = ("Retry-After", "X-RateLimit-Remaining", "X-RateLimit-Reset")


class StillCalling(Failed):
    """The process of a call has not ended in time; it brings the answer later."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is to do."""

    url: str
    body: dict[str, Any]
    timeout: float
    folder: str
    intent: int
    key: bytes


def make(url: str, body: Mapping[str, Any], call: Call, note: Note, key: bytes) -> None:
    """Have a process POST `body` to `url`; returns when it has ended. What came of it is in the folder of `call`.

    Raises `Failed` when it cannot be started, `StillCalling` when it takes too long.
    """
    task = Task(url=url, body=dict(body), timeout=TIMEOUT_SECONDS, folder=str(call.path), intent=note.intent, key=key)
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=call.path,
            env=_environment(os.environ),
            start_new_session=True,
            pass_fds=(call.lock,),
        )
    except OSError as error:
        raise Failed(f"{sys.executable} cannot be started: {error.strerror}") from None
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as given:
        given.write(msgspec.json.encode(task))
    try:
        process.wait(WAIT_SECONDS)
    except subprocess.TimeoutExpired:
        threading.Thread(target=process.wait, name="token call", daemon=True).start()  # it leaves no zombie
        raise StillCalling(f"{client.place(url)} has not answered yet") from None


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """Of the server's variables, those that are no settings of cdxsync: proxies and CA bundles are among them."""
    from cdxsync.base.settings import ENV_PREFIX, Settings

    ours = {spec.metadata["env"] for spec in fields(Settings) if spec.metadata}
    kept = {name: value for name, value in given.items() if name not in ours and not name.startswith(ENV_PREFIX)}
    return kept | {"PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path)}


def _outcome(task: Task) -> Given:
    try:
        answer = client.post_json(task.url, task.body, timeout=task.timeout, headers={})
    except ServiceError as error:
        return Given(status=error.status, problem=error.message, sent=error.sent)
    except _TooLong:
        return Given(problem=f"{client.place(task.url)} did not answer in time")
    headers = {name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers}
    return Given(status=answer.status, headers=headers, body=answer.body)


class _TooLong(Exception):
    """The time limit of the client does not cover looking up a name."""


def _give_up(*_: object) -> None:
    raise _TooLong


def main() -> None:
    """The process: reads its task from standard input."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are meant for the server, which may be stopped meanwhile
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(_ALARM_SECONDS)
    given = _outcome(task)
    signal.alarm(0)
    keep(task, given)


def keep(task: Task, given: Given) -> None:
    """Put what came of the call into its folder; where the disk is full, once there is room."""
    sealed = answers.seal(given, task.key, task.intent)
    until = time.monotonic() + _STORE_SECONDS
    while True:
        try:
            write_private(Call(Path(task.folder), -1).answer_file, sealed)
            return
        except OSError:  # there is no other copy of the answer
            if time.monotonic() > until:
                raise
            time.sleep(1.0)


if __name__ == "__main__":
    main()
