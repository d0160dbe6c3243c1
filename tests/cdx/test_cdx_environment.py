"""The user's environment: nothing of it becomes part of cdx, no trouble of a library stops a run, and Codex gets it."""

import os
import ssl
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from cdxsync.wrapper.src import files, server, update
from tests.support.documents import make_auth
from tests.support.fleet import Fleet
from tests.support.machines import Machine, host, write_program
from tests.support.traps import plant

# Its environment goes into a file, as it is.
PROBE = """#!/bin/sh
[ "$1" = --version ] && echo "codex-cli 0.171.0" && exit
[ -n "$REPORT" ] && cat /proc/$$/environ >"$REPORT"
exit 7
"""
COMMANDS = ("exec", "--wrapper-sync", "--status", "--doctor", "--wrapper-version", "--wrapper-self-test", "--update")


@pytest.fixture(scope="module")
def machine(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A host in step with its fleet."""
    fleet.upload(make_auth())
    made = host(fleet, tmp_path_factory.mktemp("machine"), codex=PROBE)
    assert made.run_cdx("--wrapper-sync").returncode == 0
    return made


def in_folder(machine: Machine, folder: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a working folder."""
    return subprocess.run(
        command, cwd=folder, env=machine.env | env, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


@pytest.fixture
def traps(tmp_path: Path) -> Path:
    """A folder of modules that leave a file when they are loaded, and whose loading fails."""
    plant(tmp_path / "folder")
    return tmp_path / "folder"


@pytest.mark.parametrize("path", [":/opt/x", ".", "FOLDER"])
@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_of_the_users_is_imported(machine: Machine, traps: Path, command: str, path: str) -> None:
    variables = {"PYTHONPATH": path.replace("FOLDER", str(traps)), "PYTHONSTARTUP": str(traps / "json.py")}
    done = in_folder(machine, traps, str(machine.cdx), command, **variables)
    assert not (traps.parent / "folder.loaded").exists()
    assert (done.returncode, done.stderr) == (7 if command == "exec" else 0, done.stderr)
    assert "Traceback" not in done.stderr


def test_neither_where_python_is_given_the_file(machine: Machine, traps: Path) -> None:
    """As on a system whose `env` takes no options. What Python loads by itself comes before any line of ours."""
    for path in traps.iterdir():
        if path.stem not in ("json", "ssl", "hashlib"):
            path.unlink()
    python = str(machine.bin / "python3")
    done = in_folder(machine, traps, python, str(machine.cdx), "exec", PYTHONPATH=str(traps), SSLKEYLOGFILE="/no/x")
    assert (done.returncode, done.stderr) == (7, "")
    assert not (traps.parent / "folder.loaded").exists()


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONHOME": "/nonexistent"},
        {"PYTHONHASHSEED": "nonsense"},
        {"PYTHONMALLOC": "nonsense"},
        {"PYTHONUTF8": "nonsense"},
        {"PYTHONIOENCODING": "nonsense", "PYTHONINSPECT": "1", "PYTHONUNBUFFERED": "x", "PYTHONWARNINGS": "error"},
        {"PYTHONTRACEMALLOC": "nonsense", "PYTHONVERBOSE": "1", "PYTHONPROFILEIMPORTTIME": "1", "PYTHONDEBUG": "1"},
        {"SSLKEYLOGFILE": "/nonexistent/keys"},
        {"SSLKEYLOGFILE": "/"},
        {"SSL_CERT_FILE": "/nonexistent", "SSL_CERT_DIR": "/nonexistent", "OPENSSL_CONF": "/nonexistent"},
        {"OPENSSL_CONF": "CONF", "OPENSSL_MODULES": "/nonexistent", "OPENSSL_ENGINES": "/nonexistent"},
        {"LANG": "xx_YY.nonsense", "LC_ALL": "", "LANGUAGE": "xx", "TZ": ":/nonexistent", "TZDIR": "/nonexistent"},
        {"LC_ALL": "xx_YY.nonsense", "TZ": "\udcff", "TERM": "\udcff", "LS_COLORS": "x" * 100_000},
        {"TMPDIR": "/nonexistent", "TMP": "/dev/null", "TEMP": "", "XDG_CACHE_HOME": "/dev/null"},
        {"COLUMNS": "-1", "LINES": "many", "NO_COLOR": "1", "CLICOLOR_FORCE": "1"},
        {"MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "7", "MALLOC_ARENA_MAX": "x", "GLIBC_TUNABLES": "x"},
        {"HOSTALIASES": "/nonexistent", "RES_OPTIONS": "nonsense", "LOCALDOMAIN": "x"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_no_library_stops_a_run(machine: Machine, tmp_path: Path, variables: dict[str, str]) -> None:
    if "CONF" in variables.values():
        # It takes the providers away on which TLS stands.
        conf = tmp_path / "openssl.cnf"
        conf.write_text("openssl_conf = x\n[x]\nproviders = p\n[p]\nlegacy = l\n[l]\nactivate = 1\n")
        variables = {**variables, "OPENSSL_CONF": str(conf)}
    report = tmp_path / "report"
    done = machine.run_cdx("exec", REPORT=str(report), **variables)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    assert entries(report) == expected(machine, REPORT=str(report), **variables)
    if "LANG" in variables or "SSLKEYLOGFILE" in variables:
        for command in ("--status", "--doctor", "--wrapper-sync"):
            assert machine.run_cdx(command, **variables).returncode == 0


def entries(report: Path) -> dict[bytes, bytes]:
    """The environment that a Codex had."""
    parts = (entry.partition(b"=") for entry in report.read_bytes().rstrip(b"\0").split(b"\0"))
    return {name: value for name, _, value in parts if not name.startswith(b"CDX_")}


def expected(machine: Machine, **env: str) -> dict[bytes, bytes]:
    """The environment of a program on a machine."""
    return {os.fsencode(name): os.fsencode(value) for name, value in (machine.env | env).items()}


@pytest.mark.parametrize("locale", [{}, {"LC_CTYPE": "POSIX"}, {"LC_CTYPE": "C.UTF-8"}, {"LC_ALL": "C"}])
def test_codex_gets_the_environment_unchanged(machine: Machine, tmp_path: Path, locale: dict[str, str]) -> None:
    """In the C locale Python sets a variable for itself. Shells drop names that they cannot use."""
    report = str(tmp_path / "report")
    env = {name: value for name, value in machine.env.items() if name != "LANG" and not name.startswith("LC_")}
    env |= {"REPORT": report, "BASH_FUNC_module%%": "() { :; }", "a.b-c": "\udcff", "PWD": "/elsewhere", **locale}
    env |= {"PYTHONPATH": "/opt/x", "PYTHONDONTWRITEBYTECODE": "1", "OPENSSL_CONF": "/opt/openssl.cnf"}
    done = subprocess.run(
        [machine.cdx, "exec"], env=env, stdin=subprocess.DEVNULL, capture_output=True, cwd=tmp_path, text=True
    )
    assert (done.returncode, done.stderr) == (7, "")
    assert entries(Path(report)) == {os.fsencode(name): os.fsencode(value) for name, value in env.items()}


def test_an_entry_without_a_name_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """No program can be given one."""
    monkeypatch.setattr(os, "environ", {"": "x", "HOME": "/root"})
    assert "" not in files.child_environment()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest.mark.parametrize("place", ["/nonexistent", "/dev/null"])
def test_the_roots_of_the_system_are_trusted_whatever_a_variable_says(
    monkeypatch: pytest.MonkeyPatch, pki_folder: Path, variable: str, place: str
) -> None:
    usual = SimpleNamespace(openssl_cafile=str(pki_folder / "ca.pem"), openssl_capath="/nonexistent")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: usual)
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    monkeypatch.setenv("SSL_CERT_DIR", "")
    monkeypatch.setenv(variable, place)
    assert server.system_trust().cert_store_stats()["x509_ca"] == 1


def test_the_roots_that_a_variable_names_are_trusted(monkeypatch: pytest.MonkeyPatch, pki_folder: Path) -> None:
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: pytest.fail("the variable decides"))
    monkeypatch.setenv("SSL_CERT_FILE", str(pki_folder / "ca.pem"))
    assert server.system_trust().cert_store_stats()["x509_ca"] == 1


@pytest.mark.parametrize("home", ["", "relative", "/nonexistent", "/dev/null", "/proc"])
def test_a_home_that_is_none_is_replaced_by_the_users(machine: Machine, tmp_path: Path, home: str) -> None:
    own = tmp_path / "codex"
    done = machine.run_cdx("exec", HOME=home, CODEX_HOME=str(own))
    assert (done.returncode, done.stderr) == (7, "")
    assert (own / "auth.json").exists()


def test_the_compiled_code_is_kept_unless_python_is_told_not_to(fleet: Fleet, tmp_path: Path) -> None:
    made = host(fleet, tmp_path, codex=PROBE)
    made.run_cdx("exec", PYTHONDONTWRITEBYTECODE="1")
    assert not list(made.home.glob(".cache/cdx/*"))
    made.run_cdx("exec", PYTHONDONTWRITEBYTECODE="")
    assert list(made.home.glob(".cache/cdx/*"))


def test_the_installer_imports_nothing_of_the_users(fleet: Fleet, traps: Path, tmp_path: Path) -> None:
    made = Machine(tmp_path / "m", codex=PROBE)
    command = fleet.register("trapped.example.net")["installer"]["command"]
    done = in_folder(made, traps, "sh", "-c", command, PYTHONPATH=str(traps))
    assert done.returncode == 0, done.stderr
    assert not (traps.parent / "folder.loaded").exists()
    assert made.cdx.exists()


def test_an_installed_cdx_starts_where_env_takes_no_options(fleet: Fleet, tmp_path: Path) -> None:
    """BusyBox has such an `env`. An update that is not asked for finds nothing to do."""
    made = host(fleet, tmp_path, codex=PROBE)
    served = made.cdx.read_bytes()
    assert served.startswith(update.ISOLATING_LINE)
    made.cdx.write_bytes(served.replace(update.ISOLATING_LINE, update.PLAIN_LINE, 1))
    before = made.cdx.read_bytes()
    for variables in ({}, {"PYTHONPATH": "/opt/x"}):
        done = made.run_cdx("exec", CODEX_DEBUG="1", **variables)
        assert done.returncode == 7
        assert "/wrapper/download" not in done.stderr
    assert made.cdx.read_bytes() == before
    # Here there is an env that does.
    assert made.run_cdx("--update").returncode == 0
    assert made.cdx.read_bytes() == served


def test_an_update_keeps_the_first_line_that_the_system_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(update, "env_takes_options", lambda: False)
    monkeypatch.setattr(update, "check_wrapper", lambda *_: None)
    own = tmp_path / "cdx"
    own.write_bytes(update.PLAIN_LINE + b"old")
    update.install_wrapper(str(own), update.ISOLATING_LINE + b"new", "1")
    assert own.read_bytes() == update.PLAIN_LINE + b"new"


def test_the_installer_sees_to_the_first_line(fleet: Fleet, tmp_path: Path) -> None:
    url = fleet.register("busybox.example.net")["installer"]["url"]
    with fleet.client() as client:
        script = client.call("GET", url.removeprefix(fleet.url)).text
    env = write_program(tmp_path / "env", '#!/bin/sh\n[ "$1" = -S ] && exit 1\nexec /usr/bin/env "$@"\n')
    assert "/usr/bin/env -S 'true -x'" in script
    path = tmp_path / "install.sh"
    path.write_text(script.replace("/usr/bin/env -S 'true -x'", f"{env} -S 'true -x'"))
    made = Machine(tmp_path / "m", codex=PROBE)
    assert made.run("bash", str(path)).returncode == 0
    assert made.cdx.read_bytes().startswith(update.PLAIN_LINE)
