"""The queue of write work: what shares a commit, what fails alone, and what is current within it."""

import contextlib
import functools
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdxsync.base.errors import DatabaseAway, Refused
from cdxsync.store import keyring_file, migrations, named_values, writer
from cdxsync.store.caches import GenerationCache
from cdxsync.store.database import Database, after_commit, current, write
from cdxsync.store.keyring_file import KeyringFile
from cdxsync.store.tables import proxy
from tests.support.together import at_once, until


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("writer")
    keyring_file.create(home / "keyring.json", rows_have_macs=False)
    database = Database.open("", home, make=True)
    database.find_keyring = lambda: KeyringFile(home / "keyring.json")
    with database.scope():
        migrations.migrate()
        yield home
    database.close()


def stored(home: Path) -> dict[str, str]:
    """The named values as another process sees them."""
    with contextlib.closing(sqlite3.connect(home / "cdxsync.db")) as other:
        return dict(other.execute("SELECT name, version FROM versions"))


def put(name: str, value: str, fail: bool = False) -> str:
    named_values.put(name, value)
    if fail:
        raise Refused(value, code="host_disabled")
    return value


@settings(max_examples=25)
@given(st.lists(st.lists(st.booleans(), max_size=6), min_size=1, max_size=6))
def test_each_work_succeeds_or_fails_alone(folder: Path, threads: list[list[bool]]) -> None:
    write(lambda: proxy.execute_sql("DELETE FROM versions"))

    def run(number: int, fails: list[bool]) -> None:
        for turn, fail in enumerate(fails):
            value = f"{number}/{turn}"
            work = functools.partial(put, value, value, fail)
            if fail:
                with pytest.raises(Refused, match=value):
                    write(work)
            else:
                assert write(work) == value
                assert stored(folder)[value] == value, "returned before the commit"
        current().disconnect()

    at_once([functools.partial(run, number, fails) for number, fails in enumerate(threads)])
    good = {f"{number}/{turn}" for number, fails in enumerate(threads) for turn, fail in enumerate(fails) if not fail}
    assert stored(folder).keys() == good


class Held:
    """Write work that holds the writer until it is let go, with others queued behind it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.go_on, self.entered = threading.Event(), threading.Event()
        monkeypatch.setattr(writer, "_committed", self.sizes.append)
        monkeypatch.setattr(writer, "BATCH_SECONDS", 60.0)

    def run(self, works: Sequence[Callable[[], object]]) -> list[object]:
        """The outcomes of `works`, which have all been queued before the writer goes on; errors as values."""
        outcomes: list[object] = [None] * len(works)

        def hold() -> None:
            self.entered.set()
            assert self.go_on.wait(60)

        def run(number: int) -> None:
            assert self.entered.wait(60)
            try:
                outcomes[number] = write(works[number])
            except Exception as error:
                outcomes[number] = error

        def let_go() -> None:
            assert self.entered.wait(60)
            the_writer = current().writer()
            until(lambda: the_writer._queue.qsize() == len(works))
            self.go_on.set()

        def hold_the_writer() -> None:
            with contextlib.suppress(DatabaseAway):  # when its batch is lost
                write(hold)

        at_once([hold_the_writer, let_go, *(functools.partial(run, number) for number in range(len(works)))])
        return outcomes


def test_what_waits_shares_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    works = [functools.partial(put, f"shared {number}", "x", fail=number == 3) for number in range(8)]
    outcomes = held.run(works)
    assert max(held.sizes) >= 8
    assert isinstance(outcomes.pop(3), Refused)
    assert outcomes == ["x"] * 7


def test_when_the_whole_transaction_goes_all_of_the_batch_are_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite rolls back by itself when the disk is full, also what others of the batch had written."""

    def lose() -> None:
        proxy.execute_sql("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    held = Held(monkeypatch)
    refuse = functools.partial(put, "lost 0", "x", fail=True)
    outcomes = held.run([refuse, functools.partial(put, "lost 1", "x"), lose, functools.partial(put, "lost 2", "x")])
    kinds = sorted(type(outcome).__name__ for outcome in outcomes)
    assert kinds.count("DatabaseAway") >= 1
    for name, outcome in zip(("lost 1", "lost 2"), (outcomes[1], outcomes[3]), strict=True):
        assert (name in stored(folder)) == (outcome == "x"), "told what became of it"
    assert isinstance(outcomes[2], DatabaseAway)
    assert write(lambda: put("after", "x")) == "x"


def test_who_waits_for_a_commit_is_told_after_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not told of work that was rolled back."""
    seen: dict[str, bool] = {}

    def ask(name: str, fail: bool) -> None:
        after_commit(lambda: seen.update({name: name in stored(folder)}))
        put(name, "x", fail)

    outcomes = Held(monkeypatch).run([functools.partial(ask, f"told {number}", number == 1) for number in range(3)])
    assert isinstance(outcomes[1], Refused)
    write(lambda: None)  # those of the batch before it were told
    assert seen == {"told 0": True, "told 2": True}


def test_writes_must_not_be_nested(folder: Path) -> None:
    def nested() -> None:
        put("nested", "x")
        write(lambda: put("nested", "y"))

    with pytest.raises(RuntimeError, match="within a write"):
        write(nested)
    assert "nested" not in stored(folder)


def test_what_is_out_of_the_ordinary_stops_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        write(end)

    def broken(size: int) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(writer.Writer, "_perform", lambda *given: broken(1))
        with pytest.raises(DatabaseAway):
            write(lambda: put("x", "x"))
    assert write(lambda: put("y", "y")) == "y"


def test_cached_values_follow_every_change(folder: Path) -> None:
    reads: list[str | None] = []

    def read() -> str | None:
        reads.append(named_values.get("standing"))
        return reads[-1]

    standing = GenerationCache(read)
    write(lambda: put("standing", "one"))
    assert [write(standing.get) for _ in range(3)] == ["one"] * 3
    assert len(reads) == 1, "read once"
    assert standing.get() == "one"  # outside of write work it is read each time
    with pytest.raises(Refused):
        write(lambda: (put("standing", "two"), standing.get(), put("standing", "two", fail=True)))
    assert write(standing.get) == "one"
    assert write(lambda: (put("standing", "three"), standing.get())[1]) == "three"
    with contextlib.closing(sqlite3.connect(folder / "cdxsync.db")) as other, other:
        other.execute("UPDATE versions SET version = 'four' WHERE name = 'standing'")
    assert write(standing.get) == "four"
    write(lambda: named_values.drop("standing"))
    assert write(standing.get) is None


COUNT = """
import sys, threading
from pathlib import Path
from cdxsync.store import named_values
from cdxsync.store.database import Database, write
from cdxsync.store.keyring_file import KeyringFile
database = Database.open("", Path(sys.argv[1]), make=True)
database.find_keyring = lambda: KeyringFile(Path(sys.argv[1]) / "keyring.json")
def add():
    def work():
        named_values.put("count", str(int(named_values.get("count") or 0) + 1))
    with database.scope():
        for _ in range(40):
            write(work)
threads = [threading.Thread(target=add) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_nothing_is_lost_between_threads_of_many_processes(folder: Path) -> None:
    write(lambda: named_values.put("count", "0"))
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, str(folder)]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0] * 3
    assert stored(folder)["count"] == str(3 * 4 * 40)


FORK = """
import os, sys
from pathlib import Path
from cdxsync.store import named_values
from cdxsync.store.database import Database, write
from cdxsync.store.keyring_file import KeyringFile
database = Database.open("", Path(sys.argv[1]), make=True)
database.find_keyring = lambda: KeyringFile(Path(sys.argv[1]) / "keyring.json")
with database.scope():
    write(lambda: named_values.put("parent", "x"))
    child = os.fork()
    write(lambda: named_values.put("child" if child == 0 else "parent again", "x"))
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_a_writer_of_its_own(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK, str(folder)], timeout=60)
    assert done.returncode == 0
    assert {"parent", "child", "parent again"} <= stored(folder).keys()
