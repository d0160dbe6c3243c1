"""Prompts on hosts: pulled before a run, pushed after it, and nothing else touched."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdxsync.wrapper.src.prompts import plan_prompts
from tests.support.documents import make_auth
from tests.support.fleet import Fleet
from tests.support.machines import Machine, host
from tests.support.stub_server import StubServer

# What a Codex run does to the folder: a shell command in $DO.
CODEX = """#!/bin/sh
case "$1" in --version) echo "codex-cli 0.169.0"; exit 0;; esac
cd "$HOME/.codex/prompts" 2>/dev/null || { mkdir -p "$HOME/.codex/prompts"; cd "$HOME/.codex/prompts"; }
eval "$DO"
"""


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Prompts:
    """A fleet's prompts, and hosts that use them."""

    def __init__(self, fleet: Fleet, root: Path) -> None:
        self.fleet = fleet
        self.root = root
        fleet.upload(make_auth())

    def host(self) -> Machine:
        machine = host(self.fleet, self.root, codex=CODEX)
        assert machine.run_cdx("--wrapper-sync").returncode == 0
        return machine

    def put(self, name: str, data: bytes) -> None:
        path = self.root / "upload"
        path.write_bytes(data)
        self.fleet.cli("prompts", "store", str(path), "--name", name)

    def listed(self) -> dict[str, str]:
        prompts = json.loads(self.fleet.cli("--json", "prompts", "list").stdout)["commands"]
        return {prompt["filename"]: prompt["sha256"] for prompt in prompts}


@pytest.fixture
def prompts(fresh_fleet: Fleet, tmp_path: Path) -> Prompts:
    return Prompts(fresh_fleet, tmp_path)


def folder(machine: Machine) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((machine.home / ".codex" / "prompts").glob("*"))}


def run(machine: Machine, do: str = ":") -> str:
    done = machine.run_cdx("exec", DO=do)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_life_of_a_prompt_on_two_hosts(prompts: Prompts) -> None:
    one, two = prompts.host(), prompts.host()
    exact = b"---\r\ndescription: Review\r\n---\r\nZo\xc3\xab \xf0\x9f\x98\x80\r\nno end of line"
    (prompts.root / "exact").write_bytes(exact)
    assert run(one, f"cp {prompts.root}/exact review.md") == ""
    assert prompts.listed() == {"review.md": sha(exact)}
    assert run(two) == ""
    assert folder(two) == {"review.md": exact}
    # An edit on one host arrives on the other.
    assert run(two, "echo more >>review.md") == ""
    assert run(one) == ""
    assert folder(one) == folder(two) == {"review.md": exact + b"more\n"}
    # A file that was removed on a host comes back: hosts do not delete for the fleet.
    assert run(one, "rm review.md") == ""
    assert run(one) == ""
    assert folder(one) == folder(two)
    # One that the admin deleted goes from the hosts, and does not come back from any.
    prompts.fleet.cli("prompts", "delete", "review.md", "--yes", check=False)
    assert prompts.listed() == {}
    for machine in (one, two, one):
        assert run(machine) == ""
        assert folder(machine) == {}
    assert prompts.listed() == {}


def test_files_from_before_the_first_sync_are_not_published(prompts: Prompts) -> None:
    machine = host(prompts.fleet, prompts.root, codex=CODEX)
    (machine.home / ".codex" / "prompts").mkdir(parents=True)
    (machine.home / ".codex" / "prompts" / "private.md").write_text("mine")
    for _ in range(2):
        run(machine)
        assert prompts.listed() == {}
        assert folder(machine) == {"private.md": b"mine"}
    run(machine, "echo new >new.md")
    assert prompts.listed() == {"new.md": sha(b"new\n")}
    run(machine, "echo changed >private.md")
    assert set(prompts.listed()) == {"new.md", "private.md"}
    baseline = json.loads((machine.home / ".codex" / ".prompt-baseline.json").read_text())
    assert baseline == prompts.listed()


def test_an_edit_between_runs_is_kept_and_pushed(prompts: Prompts) -> None:
    prompts.put("a.md", b"one")
    machine = prompts.host()
    (machine.home / ".codex" / "prompts" / "a.md").write_text("edited")
    assert run(machine, "grep -q edited a.md || echo lost >lost.md") == ""
    assert prompts.listed() == {"a.md": sha(b"edited")}


def test_of_two_edits_the_servers_wins_and_the_other_is_kept(prompts: Prompts) -> None:
    prompts.put("a.md", b"one")
    machine = prompts.host()
    (machine.home / ".codex" / "prompts" / "a.md").write_text("mine")
    prompts.put("a.md", b"theirs")
    told = run(machine)
    assert "a.md was changed here and on the server" in told
    assert folder(machine) == {"a.md": b"theirs"}
    (kept,) = (machine.home / ".codex" / ".cdx" / "kept").iterdir()
    assert kept.read_bytes() == b"mine"
    assert str(kept) in told
    assert prompts.listed() == {"a.md": sha(b"theirs")}


def test_an_edit_during_a_run_does_not_overwrite_one_on_the_server(prompts: Prompts) -> None:
    prompts.put("a.md", b"one")
    machine = prompts.host()
    other = prompts.host()
    start = f'env -i HOME="{other.home}" PATH="{other.env["PATH"]}" DO="echo theirs >a.md" {other.cdx} exec'
    run(machine, f"echo mine >a.md; {start}")
    assert prompts.listed() == {"a.md": sha(b"theirs\n")}
    assert folder(machine) == {"a.md": b"mine\n"}
    run(machine)
    assert folder(machine) == {"a.md": b"theirs\n"}
    assert [path.read_bytes() for path in (machine.home / ".codex" / ".cdx" / "kept").iterdir()] == [b"mine\n"]


def test_what_is_no_prompt_is_left_alone(prompts: Prompts) -> None:
    machine = prompts.host()
    secret = prompts.root / "secret"
    secret.write_text("secret")
    told = run(
        machine,
        f"ln -s {secret} link.md; mkdir folder.md; echo x >.hidden; echo x >'a b.md'; echo x >a..b; echo ok >ok.md;"
        " printf '\\377' >binary.md; printf '  \\n' >blank.md; head -c 300000 /dev/zero | tr '\\0' x >large.md",
    )
    assert prompts.listed() == {"ok.md": sha(b"ok\n")}
    assert "binary.md is not shared: it is not UTF-8" in told
    assert "blank.md is not shared" in told
    assert "large.md is not shared" in told
    # It is said once, until the file changes.
    assert run(machine) == ""
    # A link of the user's is not replaced either.
    prompts.put("link.md", b"fleet")
    run(machine)
    assert (machine.home / ".codex" / "prompts" / "link.md").is_symlink()
    assert secret.read_text() == "secret"


@pytest.mark.parametrize(
    "name", ["../evil.md", "/tmp/evil.md", "a/b.md", "..", ".", ".hidden", "", "a\x00b", "x" * 300, 7, None, "a..b"]
)
def test_names_from_the_server_stay_in_the_folder(fleet: Fleet, tmp_path: Path, stub: StubServer, name: Any) -> None:
    machine = host(fleet, tmp_path, codex=CODEX)
    machine.put_auth(make_auth())
    stub.valid()
    stub.answer("GET", "/slash-commands", {"commands": [{"filename": name, "sha256": sha(b"x")}, None]})
    stub.answer("POST", "/slash-commands/retrieve", {"status": "updated", "prompt": "x", "sha256": sha(b"x")})

    def others() -> list[Path]:
        return sorted(path for path in tmp_path.rglob("*") if not {".codex", ".cache"} & set(path.parts))

    before = others()
    assert machine.run_cdx("exec", DO=":", CODEX_SYNC_BASE_URL=stub.url).returncode == 0
    assert folder(machine) == {}
    assert others() == before
    assert ("POST", "/slash-commands/retrieve") not in stub.calls


def test_a_prompt_with_a_wrong_digest_is_not_written(fleet: Fleet, tmp_path: Path, stub: StubServer) -> None:
    machine = host(fleet, tmp_path, codex=CODEX)
    machine.put_auth(make_auth())
    stub.valid()
    stub.answer("GET", "/slash-commands", {"commands": [{"filename": "a.md", "sha256": sha(b"x")}]})
    stub.answer("POST", "/slash-commands/retrieve", {"status": "updated", "prompt": "y", "sha256": sha(b"x")})
    machine.run_cdx("exec", DO=":", CODEX_SYNC_BASE_URL=stub.url)
    assert folder(machine) == {}


def test_a_hundred_prompts_arrive_before_the_run(prompts: Prompts) -> None:
    many = prompts.root / "many"
    many.mkdir()
    for number in range(100):
        (many / f"p{number}.md").write_text(f"prompt {number}\r\n" * 20, newline="")
    prompts.fleet.cli("prompts", "import", str(many))
    machine = host(prompts.fleet, prompts.root, codex=CODEX)
    run(machine, 'ls | wc -l >"$HOME/count"')
    assert (machine.home / "count").read_text().strip() == "100"
    assert folder(machine) == {path.name: path.read_bytes() for path in sorted(many.iterdir())}
    log = json.loads(prompts.fleet.cli("--json", "prompts", "list").stdout)
    assert len(log["commands"]) == 100


def test_nothing_changed_costs_one_round_trip(fleet: Fleet, tmp_path: Path, stub: StubServer) -> None:
    machine = host(fleet, tmp_path, codex=CODEX)
    machine.put_auth(make_auth())
    stub.valid()
    done = machine.run_cdx("exec", DO=":", CODEX_SYNC_BASE_URL=stub.url)
    assert (done.returncode, done.stderr) == (0, "")
    # The two are asked at the same time, each on a connection of its own, and nothing after the run.
    assert sorted(stub.calls) == [("GET", "/slash-commands"), ("POST", "/auth")]
    assert len(stub.connections) == 2


def test_the_list_is_asked_for_with_its_tag(prompts: Prompts) -> None:
    prompts.put("a.md", b"one")
    machine = prompts.host()
    assert machine.note("prompts.json")["etag"].startswith('"')
    (machine.home / ".codex" / "prompts" / "a.md").unlink()
    # The list did not change, so it is not sent again; the missing file is seen all the same.
    run(machine)
    assert folder(machine) == {"a.md": b"one"}


hashes = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["1", "2", "3"]))


@given(hashes, st.none() | hashes, hashes, hashes)
def test_no_edit_is_lost_and_no_private_file_is_removed(
    local: dict[str, str], baseline: dict[str, str] | None, before: dict[str, str], now: dict[str, str]
) -> None:
    fetch, aside, delete, base = plan_prompts(local, baseline, before, now)
    known = baseline if baseline is not None else {}
    for name in fetch:
        # Overwritten is only what the baseline knows; all else is kept aside first.
        assert name in now
        assert name not in local or name in aside or known.get(name) == local[name]
    for name in delete:
        assert name in before
        assert name not in now
        assert known.get(name) == local[name]
    for name, mine in local.items():
        if baseline is None and name not in now:
            assert base[name] == mine  # not published
        elif name not in fetch and name not in delete and mine != base.get(name):
            assert mine != now.get(name)  # an edit, to be pushed
    assert not set(fetch) & set(delete)


def test_a_folder_that_cannot_be_written_does_not_stop_a_run(fleet: Fleet, tmp_path: Path, stub: StubServer) -> None:
    machine = host(fleet, tmp_path, codex="#!/bin/sh\necho ran\n")
    machine.put_auth(make_auth())
    (machine.home / ".codex" / "prompts").write_text("a file")
    stub.valid()
    stub.answer("GET", "/slash-commands", {"commands": [{"filename": "a.md", "sha256": sha(b"x")}]})
    stub.answer("POST", "/slash-commands/retrieve", {"status": "updated", "prompt": "x", "sha256": sha(b"x")})
    done = machine.run_cdx("exec", CODEX_SYNC_BASE_URL=stub.url)
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert (machine.home / ".codex" / "prompts").read_text() == "a file"
    assert machine.spooled() == []
