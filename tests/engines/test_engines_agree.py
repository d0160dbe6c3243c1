"""The same calls of the API on SQLite, PostgreSQL and MariaDB get the same answers, whatever texts are in them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cdxsync.security import signing
from tests.support import SUPPORT
from tests.support.documents import make_auth
from tests.support.engines import NAMES, Servers
from tests.support.fleet import BASE_ENVIRONMENT
from tests.support.several import LONG_AGO

HOSTS = ("web1.example.net", "web2.example.net", "a-b.example.net")


def different(one: Any, other: Any, place: str = "") -> str:
    """Where two answers differ first."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        parts: Any = one
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        parts = range(len(one))
    else:
        return f"{place or 'all'}: {one!r} and not {other!r}" if one != other else ""
    return next(filter(None, (different(one[part], other[part], f"{place}.{part}") for part in parts)), "")


class Trio:
    """A worker (`engine_worker`) on each engine."""

    def __init__(self, folder: Path, servers: Servers) -> None:
        self.workers: dict[str, subprocess.Popen[str]] = {}
        signing.write(folder / "signing.json", signing.first())
        for name in NAMES:
            env = BASE_ENVIRONMENT | servers.engine(name).environment()
            env |= {"CDXSYNC_TRUSTED_PROXIES": "127.0.0.0/8", "CDXSYNC_CALLS_PER_MINUTE": "0"}
            command = [sys.executable, str(SUPPORT / "engine_worker.py"), str(folder / name)]
            with (folder / f"{name}.log").open("w") as log:
                self.workers[name] = subprocess.Popen(
                    command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
                )
        self.folder = folder
        assert [self._line(name) for name in NAMES] == ["ready"] * len(NAMES)

    def _line(self, name: str) -> str:
        out = self.workers[name].stdout
        assert out is not None
        line = out.readline().rstrip("\n")
        assert line, f"the worker on {name} has ended:\n" + (self.folder / f"{name}.log").read_text()[-3000:]
        return line

    def ask(self, call: Any) -> Any:
        """The answer on which all agree."""
        for worker in self.workers.values():
            assert worker.stdin is not None
            worker.stdin.write(json.dumps(call) + "\n")
            worker.stdin.flush()
        answers = {name: json.loads(self._line(name)) for name in NAMES}
        expected = answers["sqlite"]
        for name, answer in answers.items():
            assert answer == expected, f"{name} answers {call} differently: {different(answer, expected)}"
        return expected

    def stop(self) -> None:
        for worker in self.workers.values():
            worker.communicate(timeout=30)


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory, database_servers: Servers) -> Iterator[Trio]:
    started = Trio(tmp_path_factory.mktemp("trio"), database_servers)
    yield started
    started.stop()


# What databases tell apart or not: case, accents, width, blanks at the end, wildcards, quotes, beyond 16 bits.
PIECES = [
    "a",
    "A",
    "ä",
    "Ä",
    "a\u0308",
    "ß",
    "ss",
    "İ",
    "ı",
    "é",
    "e",
    " ",
    "\u00a0",
    "%",
    "_",
    "\\",
    "'",
    '"',
    "?",
    "😀",
]
PIECES += ["\x00", "\n", "\u200b", "ﬁ", "fi", "Ａ", "𝔸", "0", "-", "{", "$1", "%s", ":x"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
NUMBERS = st.none() | st.sampled_from([0, 1, 2**31, 10**10]) | st.integers(0, 5)
NAMES_OF_HOSTS = st.sampled_from(HOSTS)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "total": NUMBERS,
        "input": NUMBERS,
        "output": NUMBERS,
        "cached": NUMBERS,
        "reasoning": NUMBERS,
        "model": TEXTS,
        "line": TEXTS,
    },
)
FILES = st.sampled_from(["a.md", "A.md", "b.md", "B-2.md", "a_b.md", "aXb.md"])
DOCUMENTS = st.builds(
    make_auth,
    st.sampled_from([f"2026-0{month}-01T00:00:00.{part}Z" for month in range(1, 5) for part in (1, 12)]),
    st.sampled_from("xyz"),
)


def post(path: str, **body: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"method": st.just("POST"), "path": st.just(path), "body": st.fixed_dictionaries(body)}
    )


def by_host(call: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(call, NAMES_OF_HOSTS).map(lambda pair: {**pair[0], "host": pair[1]})


def about_host(method: str, path: str, **body: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "method": st.just(method),
            "path": NAMES_OF_HOSTS.map(lambda name: f"/admin/hosts/{{{name}}}{path}"),
            "body": st.fixed_dictionaries(body),
        }
    )


CHANGES = st.one_of(
    post("/admin/hosts/register", fqdn=NAMES_OF_HOSTS),
    by_host(post("/usage", usages=st.lists(ENTRIES, min_size=1, max_size=4))),
    by_host(post("/usage", total=NUMBERS, line=TEXTS).map(lambda call: {**call, "once": "the same key"})),
    by_host(post("/auth", command=st.just("store"), auth=DOCUMENTS)),
    by_host(post("/auth", **{name: st.just(value) for name, value in LONG_AGO.items()})),
    by_host(post("/slash-commands/store", filename=FILES, prompt=TEXTS, description=TEXTS, argument_hint=TEXTS)),
    by_host(post("/slash-commands/retrieve", filename=FILES)),
    post("/admin/slash-commands/store", filename=FILES, prompt=TEXTS),
    FILES.map(lambda name: {"method": "DELETE", "path": f"/admin/slash-commands/{name}"}),
    about_host("POST", "/roaming", allow=st.booleans()),
    about_host("POST", "/permit", store_auth=st.booleans(), store_prompts=st.booleans(), keep_auth=st.booleans()),
    about_host("POST", "/auth/accept", rule=st.sampled_from(["ask", "once", "always", "never"])),
    about_host("POST", "/disable"),
    about_host("POST", "/enable"),
    about_host("POST", "/unbind"),
    about_host("POST", "/clear"),
    about_host("DELETE", ""),
    post("/admin/api/state", disabled=st.booleans()),
    post("/admin/auth/rollback", id=st.just("previous")),
)  # fmt: skip


def looks() -> list[dict[str, Any]]:
    """Everything that admins can look at."""
    paths = ["/admin/overview", "/admin/hosts", "/admin/auth", "/admin/auth/diff", "/admin/api/state", "/admin/jobs"]
    paths += ["/admin/tokens", "/admin/tokens?limit=2", "/admin/slash-commands", "/admin/runner", "/admin/usage/month"]
    paths += [f"/admin/slash-commands/{name}" for name in ("a.md", "A.MD", "a_b.md")]
    paths += [f"/admin/hosts/{{{name}}}{more}" for name in HOSTS for more in ("", "/auth?include_body=1")]
    paths += [f"/admin/usage/month?host_id={{{name}}}" for name in HOSTS]
    calls: list[dict[str, Any]] = [{"method": "GET", "path": path} for path in paths]
    for name, path in [("logs", "/admin/logs"), ("usages", "/admin/usage"), ("history", "/admin/auth/history")]:
        calls.append({"method": "GET", "path": f"{path}?limit=3", "pages": name})
    calls += [{"method": "GET", "path": f"/admin/logs?limit=4&host_id={{{name}}}", "pages": "logs"} for name in HOSTS]
    return calls


def used(name: str, total: int) -> dict[str, Any]:
    return {"method": "POST", "path": "/usage", "body": {"total": total}, "host": name}


def deleted(name: str) -> dict[str, Any]:
    return {"method": "DELETE", "path": f"/admin/hosts/{{{name}}}", "body": {}}


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@example([used(HOSTS[1], 1), deleted(HOSTS[1]), used(HOSTS[0], 2), deleted(HOSTS[0])])
@given(st.lists(CHANGES, min_size=5, max_size=25))
@pytest.mark.slow
def test_the_same_calls_get_the_same_answers(trio: Trio, changes: list[dict[str, Any]]) -> None:
    trio.ask("reset")
    for name in HOSTS[:2]:
        status, _ = trio.ask({"method": "POST", "path": "/admin/hosts/register", "body": {"fqdn": name}})
        assert status == 200
    for change in changes:
        status, answer = trio.ask(change)
        assert status < 500, answer
    for look in looks():
        answer = trio.ask(look)
        assert answer[0] in (200, 404) or "pages" in look, answer
