"""`cdxsync top` on a terminal: what it shows, how it follows, and how it ends."""

import contextlib
import json
import os
import signal
import sqlite3
import termios

import pytest

from tests.support.documents import make_auth
from tests.support.fleet import Fleet
from tests.support.terminal import Watched, on_terminal, plain, width


@pytest.fixture(scope="module")
def lively(fleet: Fleet) -> Fleet:
    fleet.upload(make_auth())
    with fleet.client(fleet.key("a.example.net")) as host:
        host.call("POST", "/usage", json={"usages": [{"total": 1234567, "input": 1234567, "model": "gpt-5.1"}]})
    fleet.register("b.example.net")
    return fleet


def test_it_follows_and_q_ends_it(lively: Fleet) -> None:
    watched = Watched(lively, "top", "--interval", "0.2")
    shown = watched.wait_for("2  0 in sync", "1 never seen", "1,234,567 today", "retention", "Log", "token.usage")
    assert shown[0].startswith("cdxsync top   20")
    assert all(len(line) <= 80 for line in shown)
    lively.admin_call("POST", "/admin/hosts/1/disable")
    watched.wait_for("1 disabled", "admin.host")
    lively.admin_call("POST", "/admin/hosts/1/enable")
    watched.wait_for("0 disabled")
    watched.type(b"\x1b[A")  # an arrow does not end it
    lively.register("c.example.net")
    watched.wait_for("3  0 in sync")
    watched.type(b"q")
    assert watched.end() == 0
    assert watched.raw.endswith(b"\x1b[?25h\x1b[?1049l")  # the cursor is back, and what the screen had before


def test_it_takes_the_size_of_the_window(lively: Fleet) -> None:
    watched = Watched(lively, "top", "--interval", "1", columns=120, lines=40)
    wide = watched.wait_for("retention", "Log")
    watched.resize(60, 12)
    small = watched.wait_for("Hosts", "Log", absent="retention")
    assert len(small) == 12
    assert any(line.endswith("…") for line in small)
    watched.resize(120, 40)
    watched.wait_for(*[line for line in wide[1:] if line])
    os.kill(watched.pid, signal.SIGTERM)
    assert watched.end() == 0


def test_control_c_ends_it_quietly(lively: Fleet) -> None:
    watched = Watched(lively, "top")
    watched.wait_for("Hosts")
    watched.type(b"\x03")
    assert watched.end() == 0
    assert b"Traceback" not in watched.raw
    assert b"Aborted" not in watched.raw


def test_control_z_gives_the_terminal_back_until_it_goes_on(lively: Fleet) -> None:
    watched = Watched(lively, "top", "--interval", "0.2")
    watched.wait_for("Hosts", "q quits")
    modes = termios.ECHO | termios.ICANON
    assert termios.tcgetattr(watched.descriptor)[3] & modes == 0
    watched.type(b"\x1a")
    watched.wait_until_stopped()
    assert watched.raw.endswith(b"\x1b[?25h\x1b[?1049l")
    assert termios.tcgetattr(watched.descriptor)[3] & modes == modes
    lively.register("meanwhile.example.net")
    os.kill(watched.pid, signal.SIGCONT)
    watched.wait_for("q quits", "fqdn=meanwhile")
    assert termios.tcgetattr(watched.descriptor)[3] & modes == 0
    watched.type(b"q")
    assert watched.end() == 0


@pytest.mark.slow
def test_what_cannot_be_read_is_said_and_goes_on(lively: Fleet) -> None:
    watched = Watched(lively, "top", "--interval", "0.2")
    watched.wait_for("Hosts", "q quits")
    with contextlib.closing(sqlite3.connect(lively.home / "cdxsync.db", timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        watched.wait_for("locked", "Hosts", absent="q quits")
        other.rollback()
    watched.wait_for("q quits")
    watched.type(b"q")
    assert watched.end() == 0


def test_without_a_terminal_it_prints_once(lively: Fleet) -> None:
    done = lively.cli("top")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Hosts")
    assert "\x1b" not in done.stdout
    assert [line for line in lines if line.startswith("Canonical")]
    assert "token.usage" in done.stdout
    shown, code = on_terminal(lively, ["top", "--once"])
    assert code == 0
    assert width(shown) <= 80
    assert "Hosts" in plain(shown)
    assert "\x1b[?1049h" not in shown


def test_what_anyone_asks_for_moves_no_terminal(lively: Fleet) -> None:
    with lively.client() as anyone:
        assert anyone.call("GET", "/admin/%1b]0;owned%07%1b[2J").status_code == 403
    for command in ("top", "logs"):
        printed = lively.cli(command).stdout
        assert "owned" in printed
        assert "\x1b" not in printed
        shown, code = on_terminal(lively, [command, *(["--once"] if command == "top" else [])])
        assert code == 0
        assert [part for part in ("\x1b]", "\x1b[2J", "\x07") if part in shown] == []


def test_json_has_what_it_shows(lively: Fleet) -> None:
    data = json.loads(lively.cli("--json", "top").stdout)
    assert set(data) == {"overview", "tokens_today", "logs"}
    assert data["tokens_today"]["total"] == 1234567
    assert data["overview"]["totals"]["hosts"] >= 2
