"""Usage that waits on disk: bounded, kept when it cannot be sent, and never sent twice."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdxsync.wrapper.src.api import Api
from cdxsync.wrapper.src.errors import Offline, Refused
from cdxsync.wrapper.src.files import locked
from cdxsync.wrapper.src.server import Server
from cdxsync.wrapper.src.spool import Spool
from tests.support.stub_server import StubServer

ENTRIES = [{"total": 5, "input": 3, "output": 2}]
_opened: list[Api] = []


@pytest.fixture
def spool(tmp_path: Path) -> Any:
    return Spool(str(tmp_path))


@pytest.fixture(autouse=True)
def opened() -> Iterator[list[Api]]:
    """What `api` has made; a run of cdx closes it by its end."""
    _opened.clear()
    yield _opened
    for one in _opened:
        one.close()


def api(stub: StubServer) -> Api:
    _opened.append(Api(Server(stub.url, "cdx_key", "", "")))
    return _opened[-1]


def names(spool: Any) -> list[str]:
    return sorted(path.name.partition(".")[2] for path in Path(spool.folder).iterdir())


def test_a_call_is_sent_with_its_key_until_it_is_acknowledged(spool: Any, stub: StubServer) -> None:
    spool.add("run-1", ENTRIES)
    stub.answers["POST", "/usage"] = (500, b"oops")
    for _ in range(2):
        with pytest.raises(Offline):
            spool.send(api(stub))
    stub.answer("POST", "/usage", {"recorded": 1})
    spool.send(api(stub))
    spool.send(api(stub))
    assert len(stub.calls) == 3
    assert {headers["Idempotency-Key"] for headers in stub.headers} == {"run-1"}
    assert len(set(stub.bodies)) == 1
    assert json.loads(stub.bodies[0]) == {"usages": ENTRIES}
    assert spool.paths() == []


def test_one_that_is_refused_is_kept_aside_and_holds_nothing_up(spool: Any, stub: StubServer) -> None:
    told: list[str] = []
    spool.add("bad", ENTRIES)
    spool.add("good", ENTRIES)
    answers = [(422, b'{"message":"Validation failed","errors":{"usages.0.total":["is odd"]}}')]
    stub.answers["POST", "/usage"] = lambda _: answers.pop() if answers else (200, b'{"data":{"recorded":1}}')
    spool.send(api(stub), told.append)
    assert names(spool) == ["json.refused"]
    assert "usages.0.total is odd" in told[0]


def test_what_comes_while_another_run_sends_is_sent_too(spool: Any, stub: StubServer) -> None:
    """By the run that is sending, when that sees it; else by the one that waits for it."""
    second = Spool(str(Path(spool.folder).parent.parent))
    answered = threading.Event()

    def answer(_: bytes) -> tuple[int, bytes]:
        if not answered.is_set():
            answered.set()
            second.add("run-2", ENTRIES)
        return 200, b'{"data":{"recorded":1}}'

    stub.answers["POST", "/usage"] = answer
    spool.add("run-1", ENTRIES)
    spool.send(api(stub))
    assert [headers["Idempotency-Key"] for headers in stub.headers] == ["run-1", "run-2"]
    second.add("run-3", ENTRIES)
    with locked(spool.folder + ".lock"):
        waiting = threading.Thread(target=second.send, args=(api(stub),))
        waiting.start()
    waiting.join(30)
    assert second.paths() == []
    assert len(stub.calls) == 3


@pytest.mark.parametrize("status", [401, 403])
def test_a_host_that_is_refused_keeps_its_usage(spool: Any, stub: StubServer, status: int) -> None:
    spool.add("run-1", ENTRIES)
    stub.answers["POST", "/usage"] = (status, b'{"message":"Host is disabled"}')
    with pytest.raises(Refused):
        spool.send(api(stub))
    assert spool.holds("run-1")


def test_one_that_was_asked_about_too_long_ago_is_not_sent_again(spool: Any, stub: StubServer) -> None:
    spool.add("run-1", ENTRIES)
    (path,) = map(Path, spool.paths())
    path.write_text(json.dumps({"key": "run-1", "usages": ENTRIES, "asked_at": time.time() - 7 * 86400}))
    told: list[str] = []
    spool.send(api(stub), told.append)
    assert stub.calls == []
    assert names(spool) == ["json.doubtful"]
    assert "reported already" in told[0]


@pytest.mark.parametrize("content", ["", "{torn", "[]", '{"key": 1}'])
def test_a_torn_file_is_kept_aside(spool: Any, stub: StubServer, content: str) -> None:
    (Path(spool.folder) / "000000000000001-x.json").write_text(content)
    spool.send(api(stub))
    assert stub.calls == []
    assert names(spool) == ["json.unreadable"]


def test_it_is_bounded(spool: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("cdxsync.wrapper.src.spool.MAX_SPOOL_FILES", 3)
    for number in range(5):
        spool.add(f"run-{number}", ENTRIES)
    assert [spool.holds(f"run-{number}") for number in range(5)] == [False, False, True, True, True]
    assert "the oldest is dropped" in capsys.readouterr().err
    assert {Path(path).stat().st_mode & 0o777 for path in spool.paths()} == {0o600}


def test_usage_that_the_server_takes_later_waits_however_long(spool: Any, stub: StubServer) -> None:
    """A host that has reported as much as it may in a day loses nothing, and asks once a run."""
    for number in range(3):
        spool.add(f"run-{number}", ENTRIES)
    stub.answers["POST", "/usage"] = (429, json.dumps({"status": "error", "code": "daily_bound_reached"}).encode())
    with pytest.raises(Offline):
        spool.send(api(stub))
    assert len(stub.calls) == 1
    first = Path(spool.paths()[0])
    assert "asked_at" not in json.loads(first.read_text())  # it will never count as one that may have arrived
    stub.answer("POST", "/usage", {"recorded": 1})
    spool.send(api(stub))
    assert (len(stub.calls), spool.paths()) == (4, [])
