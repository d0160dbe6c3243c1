"""Whatever the interleaving of runs, sessions outside cdx, forks, sub-agents and crashes, each token counts once."""

import contextlib
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdxsync.wrapper.src import claims, files, runs, spool, sweep
from cdxsync.wrapper.src.api import Api
from cdxsync.wrapper.src.document import format_time
from cdxsync.wrapper.src.errors import Offline, SyncError
from cdxsync.wrapper.src.runs import Run
from cdxsync.wrapper.src.spool import Spool
from tests.support.sessions import usage

PLACES = ("sessions/2026/11/29", "sessions/linked", "sessions")
PARENTS = ("forked_from_id", "parent_thread_id", "source", "all")
KINDS = ("exec", "screen", "other")
ARGUMENTS: tuple[list[str], ...] = (
    ["exec", "hi"],
    ["exec", "-C", "/two", "resume", "--last"],
    [],
    ["--cd=/one", "resume"],
    ["exec", "--ephemeral", "hi"],
)
_ids = itertools.count(1)


class Killed(BaseException):
    """The process ends here."""


def timed_id() -> str:
    """An identifier as Codex makes them: later ones sort after earlier ones."""
    number = next(_ids)
    stamp = f"{0x19A000000000 + number * 1000:012x}"
    return f"{stamp[:8]}-{stamp[8:]}-7000-8000-{number:012x}"


class Server:
    """What a server records of usage: a call with a key that it knows is not recorded again."""

    def __init__(self) -> None:
        self.bodies: dict[str, Any] = {}
        self.lose_answer = False

    def post(self, path: str, body: Any, headers: dict[str, str]) -> dict[str, Any]:
        key = headers["Idempotency-Key"]
        assert path == "/usage"
        assert self.bodies.setdefault(key, body) == body, "one key for two reports"
        if self.lose_answer:
            raise Offline("the answer was lost")
        return {}

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [entry for body in self.bodies.values() for entry in body["usages"]]

    @property
    def total(self) -> int:
        return sum(entry["total"] for entry in self.entries)


class Session:
    """A session file as Codex writes it: `records` as since 0.169, or running totals alone."""

    def __init__(self, path: Path, cwd: str, kind: str, parent: "Session | None" = None, named: str = "all") -> None:
        self.path = path
        self.thread = timed_id()
        self.cwd = cwd
        self.originator = {"exec": "codex_exec", "screen": "codex-tui", "other": "codex_vscode"}[kind]
        self.total: int = parent.total if parent else 0
        self.recorded = False
        meta: dict[str, Any] = {"id": self.thread, "cwd": cwd, "originator": self.originator, "timestamp": now()}
        if parent:
            if named in ("forked_from_id", "parent_thread_id"):
                meta[named] = parent.thread
            else:
                meta["source"] = {"subagent": {"thread_spawn": {"parent_thread_id": parent.thread, "depth": 1}}}
            if named == "all":
                meta |= {"forked_from_id": parent.thread, "parent_thread_id": parent.thread}
        self.path = path / f"rollout-2026-11-29T10-00-00-{self.thread}.jsonl"
        self.write("session_meta", meta)

    def write(self, kind: str, payload: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"timestamp": now(), "type": kind, "payload": payload}) + "\n")

    def copy_history(self, parent: "Session") -> None:
        """As older versions do: all that the parent's file has, dated now."""
        for line in parent.path.read_text().splitlines():
            record = json.loads(line)
            self.write(record["type"], record["payload"])

    def answer(self, tokens: int, records: bool) -> None:
        self.total += tokens
        # Once it has records, an older version does not go on with it.
        self.recorded = self.recorded or records
        self.write("turn_context", {"turn_id": timed_id(), "model": "m", "cwd": self.cwd})
        if self.recorded:
            self.write("token_usage_record", {"thread_id": self.thread, "usage": usage(tokens)})
        info = {"total_token_usage": usage(self.total), "last_token_usage": usage(tokens)}
        for _ in range(2):
            self.write("event_msg", {"type": "token_count", "info": info})

    def rewrite(self) -> None:
        """As `codex migrate-rollouts` does: another file with the same name, whose lines are longer."""
        lines = [json.dumps(json.loads(line) | {"ordinal": "7" * 400}) for line in self.path.read_text().splitlines()]
        new = self.path.with_suffix(".new")
        new.write_text("".join(line + "\n" for line in lines))
        new.replace(self.path)


def now() -> str:
    return format_time(time.time())


class World:
    """A home, what is done in it, and the server. Steps take two numbers that say which and how."""

    def __init__(self, patched: pytest.MonkeyPatch, root: Path) -> None:
        self.home = root / "home"
        elsewhere = root / "elsewhere"
        for folder in (*(self.home / place for place in PLACES[::2]), self.home / "archived_sessions", elsewhere):
            folder.mkdir(parents=True, exist_ok=True)
        (self.home / "sessions" / "linked").symlink_to(elsewhere)
        (elsewhere / "loop").symlink_to(self.home / "sessions")
        self.server = Server()
        self.used = 0
        self.sessions: list[Session] = []
        self.runs: list[Run] = []
        self.full = False
        self.steps_left: int | None = None
        real = files.replace_file

        def replace(path: str, *arguments: Any, **options: Any) -> Any:
            if self.full:
                raise OSError(28, "No space left on device")
            self._step()
            done = real(path, *arguments, **options)
            self._step()
            return done

        for module in (claims, spool, files):
            patched.setattr(module, "replace_file", replace)
        patched.setattr(os, "fsync", lambda _: None)
        write = Run.write
        patched.setattr(Run, "write", lambda run: None if self.full else write(run))

    def _step(self) -> None:
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                raise Killed

    @contextlib.contextmanager
    def _killed_after(self, number: int) -> Iterator[None]:
        """Killed before or after one of the files that it writes; more often not."""
        self.steps_left = number % 10 if number % 10 < 6 else None
        with contextlib.suppress(SyncError, OSError):
            yield

    def _session(self, number: int) -> "Session | None":
        return self.sessions[number % len(self.sessions)] if self.sessions else None

    def _run(self, number: int) -> Run | None:
        return self.runs[number % len(self.runs)] if self.runs else None

    def begin(self, one: int, two: int) -> None:
        """A session begins."""
        place, cwd = self.home / PLACES[one % 3], ("/one", "/two")[two % 2]
        self.sessions.append(Session(place, cwd, KINDS[two % 3]))
        self.answer(-1, one)

    def answer(self, one: int, two: int) -> None:
        """The model answers."""
        if session := self._session(one):
            tokens = 1 + two % 9
            session.answer(tokens, records=two % 4 > 0)
            self.used += tokens

    def child(self, one: int, two: int) -> None:
        """A fork or a sub-agent, with a copy of its parent's history or without."""
        if parent := self._session(one):
            kind = {"codex_exec": "exec", "codex-tui": "screen"}.get(parent.originator, "other")
            child = Session(self.home / PLACES[two % 3], parent.cwd, kind, parent, PARENTS[two % 4])
            if two % 5 < 3:
                child.copy_history(parent)
            self.sessions.append(child)
            self.answer(-1, two)

    def archive(self, one: int, _two: int) -> None:
        """A session is archived, or comes back."""
        if session := self._session(one):
            there = "archived_sessions" if "archived" not in str(session.path) else PLACES[0]
            session.path = session.path.rename(self.home / there / session.path.name)

    def rewrite(self, one: int, _two: int) -> None:
        """Codex migrates a session."""
        if session := self._session(one):
            time.sleep(0.001)  # what comes later has a later date
            session.rewrite()

    def begin_run(self, one: int, _two: int) -> None:
        """A run of cdx begins."""
        run = Run(str(self.home), ARGUMENTS[one % len(ARGUMENTS)])
        run.begin()
        run.started(2**22 + 1)
        self.runs.append(run)

    def see(self, one: int, two: int) -> None:
        """A run sees which file its Codex has open."""
        run, session = self._run(one), self._session(two)
        if run and session:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(runs, "open_sessions", lambda _: {os.path.realpath(session.path)})
                run.look()

    def end(self, one: int, two: int) -> None:
        """A run ends, or is killed while it does."""
        if run := self._run(one):
            self.runs.remove(run)
            try:
                with self._killed_after(two):
                    run.collect(Spool(str(self.home)), list)
            except Killed:
                self._forget(run)
            else:
                run.end()

    def kill(self, one: int, _two: int) -> None:
        """A run is killed."""
        if run := self._run(one):
            self.runs.remove(run)
            self._forget(run)

    def _forget(self, run: Run) -> None:
        if run.descriptor is not None:
            os.close(run.descriptor)

    def recover(self, one: int, two: int) -> None:
        """A run looks after those that were killed."""
        if run := self._run(one):
            with contextlib.suppress(Killed), self._killed_after(two):
                run.recover(Spool(str(self.home)))

    def sweep(self, _one: int, two: int) -> None:
        """What no run has used is counted."""
        context = cast("Any", SimpleNamespace(home=str(self.home), spool=Spool(str(self.home))))
        with contextlib.suppress(Killed), self._killed_after(two):
            sweep.sweep(context)

    def send(self, one: int, two: int) -> None:
        """What waits is sent; the answer may be lost."""
        self.server.lose_answer = one % 4 == 0
        with contextlib.suppress(Killed), self._killed_after(two):
            Spool(str(self.home)).send(cast("Api", self.server), lambda _: None)
        assert self.server.total <= self.used

    def fill_disk(self, one: int, _two: int) -> None:
        """The disk is full, or has room again."""
        self.full = not self.full and one % 2 == 0

    def settle(self) -> None:
        """All ends, and all is sent."""
        self.full = False
        while self.runs:
            self.kill(0, 0)
        for _ in range(2):
            self.sweep(0, 9)
            self.send(1, 9)


STEPS = (
    *("begin", "answer", "child", "begin_run", "end", "sweep", "send") * 3,
    *("answer", "archive", "rewrite", "see", "kill", "recover", "fill_disk", "fill_disk"),
)


@settings(deadline=None, max_examples=150)
@given(
    before=st.integers(0, 50),
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 59), st.integers(0, 59)), min_size=10, max_size=40),
)
def test_each_token_counts_once(before: int, steps: list[tuple[str, int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory() as root:
        world = World(patched, Path(root))
        if before:
            Session(world.home / PLACES[0], "/one", "exec").answer(before, records=before % 2 == 0)
        world.sweep(0, 9)
        assert world.server.total == 0
        for name, one, two in steps:
            getattr(world, name)(one, two)
        world.settle()
        assert world.server.total == world.used
        assert not list((world.home / ".cdx" / "runs").iterdir())
