"""What a person sees: colours, tables that fit, bars, questions, progress; and lists that grow while they are read."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import Fleet
from tests.support.terminal import on_terminal, plain, width, write_list

LONG = "a-rather-long-name-of-a-host.in-some-department.of-a-large-company.example.net"


@pytest.fixture(scope="module")
def peopled(fleet: Fleet) -> Fleet:
    """A fleet with something to show, in names that are too long for a line."""
    key = fleet.key(LONG)
    with fleet.client(key) as host:
        host.auth(last_refresh="2026-01-01T00:00:00Z", digest="0" * 64, client_version="0.169.0")
        entries = [{"total": 1234567, "model": "gpt-5.1-codex-max-preview"}, {"line": "Token usage: total=1 " * 9}]
        host.call("POST", "/usage", json={"usages": entries})
    fleet.admin_call("POST", "/admin/slash-commands/store", json={"filename": "a" * 60, "prompt": "x " * 99})
    return fleet


@pytest.mark.parametrize(
    "arguments",
    [
        ["hosts", "list"],
        ["hosts", "--help"],
        ["logs"],
        ["usage", "list"],
        ["usage", "tokens"],
        ["usage", "month"],
        ["prompts", "list"],
        ["pki", "list"],
        ["overview"],
    ],
    ids=" ".join,
)
def test_everything_fits_80_columns(peopled: Fleet, arguments: list[str]) -> None:
    shown, code = on_terminal(peopled, arguments)
    assert code == 0
    assert width(shown) <= 80, shown
    if arguments == ["hosts", "list"]:
        lines = [line for line in plain(shown).splitlines() if line.strip()]
        start, end = lines[0].index("Host"), lines[0].index("Status")
        assert LONG in "".join(line[start:end].strip() for line in lines)
        assert "Last seen" in lines[0]


def test_colours_and_no_color(peopled: Fleet) -> None:
    shown, _ = on_terminal(peopled, ["usage", "month"])
    assert "\x1b[36;49m█" in shown
    bleak, _ = on_terminal(peopled, ["usage", "month"], env={"NO_COLOR": "1"})
    assert "\x1b[36" not in bleak
    assert plain(shown) == plain(bleak)
    assert "\x1b" not in peopled.cli("hosts", "list").stdout
    assert "\x1b" not in peopled.cli("usage", "month").stdout


def test_a_month_is_drawn(fresh_fleet: Fleet) -> None:
    for name, total in (("big.example.net", 1000), ("half.example.net", 500), ("none.example.net", 0)):
        with fresh_fleet.client(fresh_fleet.key(name)) as host:
            host.call("POST", "/usage", json={"usages": [{"total": total}, {"total": total, "model": "m"}]})
    shown, _ = on_terminal(fresh_fleet, ["usage", "month"])
    lines = {name: next(x for x in plain(shown).splitlines() if name in x) for name in ("big", "half", "none", "Sum")}
    assert lines["big"].count("█") == 2 * lines["half"].count("█") > 0
    assert lines["none"].count("█") == 0
    assert "2,000" in lines["big"]
    assert "3,000" in lines["Sum"]
    empty, code = on_terminal(fresh_fleet, ["usage", "month", "2020-01"])
    assert "No usage in 2020-01" in empty
    assert code == 0


def test_destructive_commands_ask(fleet: Fleet) -> None:
    fleet.register("gone.example.net")
    done = fleet.cli("hosts", "delete", "gone.example.net", check=False)
    assert done.returncode == 4
    assert "--yes" in done.stderr
    assert fleet.cli("hosts", "clear", "gone.example.net", check=False).returncode == 4
    for command, question in (("delete", "Delete host"), ("clear", "Clear what is known")):
        shown, code = on_terminal(fleet, ["hosts", command, "gone.example.net"], b"n\n")
        assert question in shown
        assert code == 4
        assert "Nothing was changed" in shown
    assert fleet.host("gone.example.net")["fqdn"] == "gone.example.net"
    shown, code = on_terminal(fleet, ["hosts", "delete", "gone.example.net"], b"y\n")
    assert "Deleted gone.example.net" in shown
    assert code == 0
    assert fleet.cli("hosts", "show", "gone.example.net", check=False).returncode == 3


def test_registering_a_list(fresh_fleet: Fleet, tmp_path: Path) -> None:
    fleet = fresh_fleet
    hosts = write_list(
        tmp_path / "hosts.txt", "# web", "Web1.example.net", "", "web2.example.net  # spare", "web1.example.net"
    )
    done = fleet.cli("hosts", "register", "--file", str(hosts))
    assert len(done.stdout.splitlines()) == 2
    assert all("/install/" in line for line in done.stdout.splitlines())
    assert "Registered 2 of 2 hosts" in done.stderr
    # Nothing has called yet: a second run replaces the installers, and the first ones are void.
    lines = fleet.cli("--json", "hosts", "register", "--file", str(hosts)).stdout.splitlines()
    registered = [json.loads(line) for line in lines]
    assert [row["host"]["fqdn"] for row in registered] == ["web1.example.net", "web2.example.net"]
    with fleet.client(registered[0]["host"]["api_key"]) as host:
        assert host.call("GET", "/wrapper").status_code == 200
    # web1 is at work now, and keeps its key; the new name is added.
    text = hosts.read_text() + "web3.example.net\n"
    done = fleet.cli("--json", "hosts", "register", "--file", "-", input=text)
    third = [json.loads(line) for line in done.stdout.splitlines()]
    assert [bool(row["installer"]) for row in third] == [False, True, True]
    assert third[0]["host"]["fqdn"] == "web1.example.net"
    assert "1 in use keep their keys" in done.stderr
    with fleet.client(registered[0]["host"]["api_key"]) as host:
        assert host.call("GET", "/wrapper").status_code == 200
    rotated = fleet.cli("--json", "hosts", "register", "--rotate", "--file", "-", input="web1.example.net")
    with fleet.client(registered[0]["host"]["api_key"]) as host:
        assert host.call("GET", "/wrapper").status_code == 401
    with fleet.client(json.loads(rotated.stdout)["host"]["api_key"]) as host:
        assert host.call("GET", "/wrapper").status_code == 200


def test_a_host_whose_installer_was_run_counts_as_in_use(fresh_fleet: Fleet) -> None:
    import requests

    installer = fresh_fleet.register("a.example.net")["installer"]
    requests.get(installer["url"], verify=str(fresh_fleet.ca_file), headers={"User-Agent": "curl/8"}, timeout=30)
    done = fresh_fleet.cli("hosts", "register", "--file", "-", input="a.example.net\n")
    assert done.stdout == ""
    assert "1 in use keep their keys" in done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("good.example.net\nb_d\n\n-x\n", ["line 2: must be a host name", "line 4: must be a host name"]),
        ("", ["file: has no host names"]),
        ("# only comments\n", ["file: has no host names"]),
    ],
)
def test_lists_that_are_not_good_register_nothing(fleet: Fleet, text: str, says: list[str]) -> None:
    before = len(fleet.admin_call("GET", "/admin/hosts")["hosts"])
    done = fleet.cli("hosts", "register", "--file", "-", input=text, check=False)
    assert done.returncode == 2
    assert "Nothing was registered" in done.stderr
    for line in says:
        assert line in done.stderr
    assert len(fleet.admin_call("GET", "/admin/hosts")["hosts"]) == before


def test_register_needs_one_of_name_and_file(fleet: Fleet, tmp_path: Path) -> None:
    for arguments in ([], ["a.example.net", "--file", "x"], ["a.example.net", "--rotate"]):
        done = fleet.cli("hosts", "register", *arguments, check=False)
        assert done.returncode == 2
    done = fleet.cli("hosts", "register", "--file", str(tmp_path / "none.txt"), check=False)
    assert done.returncode == 1
    assert f"Cannot read {tmp_path}/none.txt: No such file" in done.stderr


def test_a_list_shows_its_progress(fleet: Fleet, tmp_path: Path) -> None:
    hosts = write_list(tmp_path / "hosts.txt", *(f"p{number}.example.net" for number in range(5)))
    shown, code = on_terminal(fleet, ["hosts", "register", "--file", str(hosts)])
    assert code == 0
    assert "Registering" in plain(shown)
    assert "5/5" in plain(shown)
    assert "Registered 5 of 5 hosts" in shown


def test_following_the_log(fleet: Fleet) -> None:
    fleet.register("first.example.net")
    command = [sys.executable, "-m", "cdxsync", "--home", str(fleet.home), "logs", "--follow", "--json", "--limit", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=fleet.env) as process:
        assert process.stdout is not None
        first: list[dict[str, Any]] = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert [row["action"] for row in first] == ["register", "admin.install_token.create"]
        fleet.register("second.example.net")
        more = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert [row["id"] for row in more] == [first[1]["id"] + 1, first[1]["id"] + 2]
        assert {row["fqdn"] for row in more} == {"second.example.net"}
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    done = fleet.cli("logs", "--follow", "--before", "5", check=False)
    assert done.returncode == 2
    assert "Give --follow without --before and --after" in done.stderr


def test_logs_of_one_host(fleet: Fleet) -> None:
    fleet.register("logged.example.net")
    done = fleet.cli("logs", "--host", "logged.example.net", "--limit", "1")
    assert len(done.stdout.splitlines()) == 1
    assert "admin.install_token.create" in done.stdout
    cursor = done.stderr.strip().removeprefix("Older rows: cdxsync logs --before ")
    older = fleet.cli("logs", "--host", "logged.example.net", "--before", cursor)
    assert "\tregister\t" in older.stdout
    assert older.stderr == ""
    assert fleet.cli("logs", "--host", "nobody", check=False).returncode == 3


HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m\x07\x7f\b\u202eevil\u2066\r over\x00"[:-1]


def test_words_of_others_do_not_steer_the_terminal(fleet: Fleet) -> None:
    """A prompt is stored as it is, by any host that may: it is shown escaped, and goes into a pipe as it is."""
    text = f"---\ndescription: x\n---\n{HOSTILE}\n\tindented\r\nlast\n"
    with fleet.client(fleet.key("hostile.example.net")) as client:
        stored = client.call("POST", "/slash-commands/store", json={"filename": "evil.md", "prompt": text})
        assert stored.status_code == 200
    for command in (["prompts", "show", "evil.md"], ["--json", "prompts", "show", "evil.md"]):
        shown, status = on_terminal(fleet, command)
        assert status == 0
        assert not set(shown.replace("\r\n", "\n")) & set("\x1b\x07\x08\x7f\x9b\u202e\u2066\r")
        assert "\\u202eevil\\u2066" in shown
        assert shown.count("\n") >= 4
        assert "[2J" in shown
    assert fleet.cli("prompts", "show", "evil.md").stdout == text.replace("\r\n", "\n").replace("\r", "\n"), "as it is"
    missing = "no\x1b[2Jsuch\u202e.md"
    shown, status = on_terminal(fleet, ["prompts", "show", missing])
    assert status == 3
    assert not set(shown) & set("\x1b\u202e")
