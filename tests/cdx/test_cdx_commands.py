"""cdx's own commands: --status, --doctor, --uninstall, the quota bars; and the homes in which it works."""

import json
import os
import pwd
import re
import shutil
import subprocess
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdxsync.wrapper.src.document import format_time, parse_time
from cdxsync.wrapper.src.quota import quota_lines
from cdxsync.wrapper.src.spool import Spool
from tests.support.documents import make_auth, with_auths
from tests.support.fleet import Fleet, running_fleet
from tests.support.machines import (
    CDX,
    STUB_CODEX,
    Terminal,
    everyday_programs,
    host,
    machine_key,
    only_its_own_codex,
    write_program,
)
from tests.support.stub_server import StubServer

NOW = 1_800_000_000


def snapshot(primary: Any, secondary: Any = None, **more: Any) -> dict[str, Any]:
    return {"primary_window": primary, "secondary_window": secondary, **more}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, []),
        ({}, []),
        (snapshot({"used_percent": None}), []),
        (
            snapshot({"used_percent": 37, "reset_at": str(NOW + 9000)}, {"used_percent": 81}),
            [
                "5h quota   [#########...............]  37%  resets in 2 h 30 min",
                "week quota [###################.....]  81%",
            ],
        ),
        (snapshot({"used_percent": 100}), ["5h quota   [########################] 100%"]),
        (snapshot({"used_percent": 250}), ["5h quota   [########################] 250%"]),
        (snapshot({"used_percent": 2.6}), ["5h quota   [#.......................]   3%"]),
        # Two minutes have passed since the span was fetched.
        (
            snapshot({"used_percent": 0, "reset_after_seconds": 3720}, fetched_at=format_time(NOW - 120)),
            ["5h quota   [........................]   0%  resets in 1 h ("],
        ),
        (snapshot({"used_percent": True}, "text"), []),
    ],
)
def test_quota_lines(usage: Any, expected: list[str]) -> None:
    lines = quota_lines(usage, NOW, False)
    assert len(lines) == len(expected)
    for line, wanted in zip(lines, expected, strict=True):
        assert line.startswith(wanted)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
windows = st.fixed_dictionaries(
    {"used_percent": json_values}, optional={"reset_at": json_values, "reset_after_seconds": json_values}
)


@given(st.fixed_dictionaries({"primary_window": windows | json_values}, optional={"fetched_at": json_values}))
def test_no_snapshot_stops_a_run(usage: dict[str, Any]) -> None:
    for line in quota_lines(usage, NOW, True):
        assert "\n" not in line


@pytest.mark.parametrize(("percent", "colour"), [(79, 32), (80, 33), (95, 31)])
def test_the_quota_is_shown_on_terminals_alone(
    fleet: Fleet, tmp_path: Path, stub: StubServer, percent: int, colour: int
) -> None:
    machine = host(fleet, tmp_path)
    machine.put_auth(make_auth())
    reset = str(int(time.time()) + 7200)
    stub.valid(chatgpt_usage=snapshot({"used_percent": percent, "reset_at": reset}, {"used_percent": 1}))
    env = {"CODEX_SYNC_BASE_URL": stub.url, "TERM": "xterm"}
    terminal = Terminal(machine, "exec", **env)
    terminal.wait()
    assert re.search(rf"5h quota +\[\x1b\[{colour}m#+\.*\x1b\[0m\] +{percent}%  resets in 2 h", terminal.seen)
    assert terminal.seen.index("week quota") < terminal.seen.index("ran with")
    plain = Terminal(machine, "exec", NO_COLOR="1", **env)
    plain.wait()
    assert "\x1b" not in plain.seen
    assert "5h quota" in plain.seen
    quiet = Terminal(machine, "exec", CDX_QUIET="1", **env)
    quiet.wait()
    assert quiet.seen == "ran with: exec\r\n"
    done = machine.run_cdx("exec", **env)
    assert (done.stdout, done.stderr) == ("ran with: exec\n", "")


def test_status(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    assert machine.run_cdx("exec").returncode == 0
    done = machine.run_cdx("--status")
    assert (done.returncode, done.stderr) == (0, "")
    shown = dict(line.split(None, 1) for line in done.stdout.replace("last sync", "last_sync").splitlines())
    assert shown["host"] == machine.env["NAME"]
    assert shown["server"] == synced.url
    assert shown["certificate"].startswith("expires 20")
    assert shown["last_sync"].startswith("20")
    assert "in sync with the server" in shown["auth.json"]
    assert shown["cdx"].startswith("0.1.0 (server: 0.1.0)")
    assert shown["codex"].startswith("0.169.0 (server: ")
    assert shown["spool"] == "0 runs to report"
    synced_at = machine.note("contact.json")["synced_at"]
    away = machine.run_cdx("--status", CODEX_SYNC_BASE_URL="https://localhost:1")
    assert away.returncode == 1
    assert "cannot be reached" in away.stdout
    assert machine.note("contact.json")["synced_at"] == synced_at
    assert machine_key(machine) not in done.stdout + away.stdout


def test_the_doctor_finds_nothing(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    assert machine.run_cdx("exec").returncode == 0
    done = machine.run_cdx("--doctor")
    assert done.returncode == 0
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok"}, done.stdout
    assert machine_key(machine) not in done.stdout


def test_the_doctor_says_what_mends(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)

    def findings(**env: str) -> str:
        done = machine.run_cdx("--doctor", **env)
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stderr
        return done.stdout

    machine.cdx.chmod(0o755)
    assert f"chmod o-rwx {machine.cdx}" in findings()
    machine.cdx.chmod(0o700)
    assert "check that `cdxsync serve` is running" in findings(CODEX_SYNC_BASE_URL="https://localhost:1")
    assert "cannot be resolved" in findings(CODEX_SYNC_BASE_URL="https://no-such-host.invalid")
    assert f"cdxsync hosts register {machine.env['NAME']}" in findings(CODEX_SYNC_API_KEY="cdx_wrong")
    with running_fleet(tmp_path / "other") as other:
        assert "cannot be verified" in findings(CODEX_SYNC_BASE_URL=other.url)
    machine.run_cdx("--wrapper-sync")
    machine.auth_file.chmod(0o644)
    assert f"chmod 600 {machine.auth_file}" in findings()
    machine.auth_file.chmod(0o600)
    (machine.bin / "codex").unlink()
    machine.env["PATH"] = f"{machine.bin}:{everyday_programs(tmp_path)}"
    only_its_own_codex(machine)
    assert "Codex is not installed" in findings()


def test_uninstalling_asks_first(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    machine.run_cdx("exec")
    done = machine.run_cdx("--uninstall")
    assert done.returncode == 1
    assert "add --yes" in done.stderr
    assert str(machine.cdx) in done.stderr
    terminal = Terminal(machine, "--uninstall")
    terminal.read_until("[y/N]")
    terminal.type(b"n\n")
    assert os.waitstatus_to_exitcode(terminal.wait()) == 1
    assert machine.cdx.exists()
    assert machine.auth_file.exists()
    assert machine.run_cdx("exec").returncode == 0


def test_uninstalling(fresh_fleet: Fleet, tmp_path: Path) -> None:
    fresh_fleet.upload(make_auth())
    machine = host(fresh_fleet, tmp_path, path="/usr/bin:/bin")
    other = write_program(machine.cdx.with_name("codex"), STUB_CODEX)
    versions = machine.home / ".local/share/cdx/codex-0.169.0/bin/codex"
    write_program(versions, STUB_CODEX)
    elsewhere = machine.root / "elsewhere" / "codex"
    elsewhere.parent.mkdir()
    elsewhere.symlink_to(versions)
    machine.env["PATH"] = f"{elsewhere.parent}:{machine.env['PATH']}"
    machine.run_cdx("exec")
    (machine.home / "precious").write_text("x")
    terminal = Terminal(machine, "--uninstall")
    terminal.read_until("[y/N]")
    terminal.type(b"y\n")
    assert os.waitstatus_to_exitcode(terminal.wait()) == 0, terminal.seen
    assert not machine.cdx.exists()
    assert not other.exists()
    assert not (machine.home / ".codex").exists()
    assert not versions.exists()
    assert not elsewhere.is_symlink()
    assert (machine.home / "precious").exists()
    assert (machine.bin / "codex").exists()  # not in a place of ours
    assert json.loads(fresh_fleet.cli("--json", "hosts", "list").stdout) == {"hosts": []}


def test_uninstalling_sends_no_login(fresh_fleet: Fleet, tmp_path: Path) -> None:
    """What is newer here than on the server is neither sent nor lost."""
    fresh_fleet.upload(make_auth())
    machine = host(fresh_fleet, tmp_path)
    machine.run_cdx("exec")
    newest = make_auth("2026-05-01T00:00:00Z", "newest")
    machine.put_auth(newest)
    done = machine.run_cdx("--uninstall", "--yes")
    assert done.returncode == 0
    assert "it is newer than the server's; to share it, on the server: cdxsync auth upload FILE" in done.stderr
    assert [path.name for path in machine.auth_file.parent.iterdir()] == ["auth.json"]
    assert machine.auth() == newest
    assert fresh_fleet.canonical() == with_auths(make_auth())


def test_uninstalling_without_a_server_says_what_is_left(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    machine.run_cdx("--wrapper-sync")
    Spool(str(machine.home / ".codex")).add("key", [{"total": 5}])
    done = machine.run_cdx("--uninstall", "--yes", CODEX_SYNC_BASE_URL="https://localhost:1")
    assert done.returncode == 1
    assert f"cdxsync hosts delete {machine.env['NAME']}" in done.stderr
    assert "cdx: 1 runs wait to be reported: without the server their usage is lost\n" in done.stderr
    assert "cdx: the usage of 1 runs could not be reported, and is lost: " in done.stderr
    assert not machine.cdx.exists()
    assert not machine.auth_file.exists()


def test_a_home_that_holds_more_is_not_removed(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    (machine.home / "precious").write_text("x")
    machine.run_cdx("--wrapper-sync", CODEX_HOME=str(machine.home))
    assert machine.run_cdx("--uninstall", "--yes", CODEX_HOME=str(machine.home)).returncode == 0
    assert not (machine.home / "auth.json").exists()
    assert not (machine.home / ".cdx").exists()
    assert (machine.home / "precious").exists()


# --- homes


SHOW_HOME = '#!/bin/sh\n[ "$1" = --version ] && exit\necho "${CODEX_HOME:-$HOME/.codex}"\n'


def test_codex_home_is_where_everything_lies(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path, codex=SHOW_HOME)
    other = tmp_path / "other home"
    assert machine.run_cdx("exec", CODEX_HOME=str(other)).stdout == f"{other}\n"
    assert (other / "auth.json").exists()
    assert (other / ".cdx").stat().st_mode & 0o777 == 0o700
    assert not (machine.home / ".codex").exists()


@pytest.mark.parametrize("home", ["", "relative", "/gone", "/root"])
def test_another_users_home_is_not_used(home: str) -> None:
    """As under `sudo -u`, which may leave HOME as it was, and cron, which may leave it out."""
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    code = f"""
import os, sys, types
if os.geteuid() == 0:
    os.setgid({user.pw_gid}); os.setuid({user.pw_uid})
module = types.ModuleType("cdx_script")
module.__file__ = "/usr/local/bin/cdx"
exec(compile(sys.stdin.read(), "cdx", "exec"), vars(module))
print(module.user_home(), module.child_environment().get("CODEX_HOME"))
"""
    env = {"PATH": os.environ["PATH"]} | ({"HOME": home} if home else {})
    done = subprocess.run(
        ["/usr/bin/python3", "-c", code], env=env, input=CDX.read_text(), capture_output=True, text=True, cwd="/"
    )
    assert done.stdout == f"{user.pw_dir} {user.pw_dir}/.codex\n", done.stderr


def test_cron_has_a_short_path(synced: Fleet, tmp_path: Path) -> None:
    """Codex lies in a folder that only the login shell has on PATH, with its interpreter beside it."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "env", "python3"):
        (tools / tool).symlink_to(Path("/usr/bin") / tool)
    machine = only_its_own_codex(host(synced, tmp_path, codex=None, path=str(tools)))
    nvm = machine.root / "nvm"
    write_program(nvm / "node", '#!/bin/sh\necho "node ran: $2"\n')
    write_program(nvm / "codex", '#!/bin/sh\nif [ "$1" = --version ]; then echo 1.2.3; else exec node x "$1"; fi\n')
    long = {"PATH": f"{nvm}:{machine.env['PATH']}"}
    assert machine.run_cdx("exec", **long).stdout == "node ran: exec\n"
    assert machine.run_cdx("exec").stdout == "node ran: exec\n"


SHELLS = [shell for shell in ("sh", "bash", "zsh", "fish") if shutil.which(shell)]


@pytest.mark.parametrize("shell", SHELLS)
def test_any_shell_starts_it(synced: Fleet, tmp_path: Path, shell: str) -> None:
    machine = host(synced, tmp_path)
    done = machine.run(shell, "-c", f"'{machine.cdx}' exec 'a b' | cat")
    assert (done.returncode, done.stdout) == (0, "ran with: exec a b\n")


def test_modules_beside_the_program_are_not_loaded(synced: Fleet, tmp_path: Path) -> None:
    machine = host(synced, tmp_path)
    machine.cdx.with_name("json.py").write_text("raise SystemExit('loaded')")
    done = machine.run_cdx("exec")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran with: exec\n", "")


@given(st.datetimes(), st.integers(0, 999_999_999), st.integers(-23 * 60, 23 * 60))
def test_times_are_read_as_python_reads_them(at: datetime, nanoseconds: int, offset: int) -> None:
    at = at.replace(microsecond=0, year=max(2, min(9998, at.year)))
    zone = timezone(timedelta(minutes=offset))
    text = at.replace(tzinfo=zone).strftime(f"%Y-%m-%dT%H:%M:%S.{nanoseconds:09d}%z")
    text = f"{at.year:04d}" + text[text.index("-") :][:-2] + ":" + text[-2:]
    expected = at.replace(tzinfo=zone).timestamp() + nanoseconds / 1e9
    assert parse_time(text) == pytest.approx(expected, abs=1e-3)
    assert parse_time(text + "x") is None


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-13-01T00:00:00Z", "2026-01-01 00:00:00Z", "2026-01-01T00:00:61Z", None, 7]
)
def test_other_texts_are_no_times(text: object) -> None:
    assert parse_time(text) is None
