"""Completion by the shell: commands, and the names that the database knows."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fleet import BASE_ENVIRONMENT, run_cli

CDXSYNC = Path(sys.executable).with_name("cdxsync")
HOSTS = ("db1.example.net", "web1.example.net", "web2.example.net")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with hosts, a prompt and a revoked certificate; no server."""
    home = tmp_path_factory.mktemp("completion") / "home"
    run_cli("--home", str(home), "init", "--public-url", "https://cdx.example.net")
    for name in HOSTS:
        run_cli("--home", str(home), "hosts", "register", name)
    run_cli("--home", str(home), "prompts", "store", "-", "--name", "review.md", input="Review it")
    for name in ("alice", "mallory"):
        run_cli("--home", str(home), "pki", "issue", name)
    run_cli("--home", str(home), "pki", "revoke", "mallory", "--yes")
    return home


def complete(shell: str, words: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    """What the completion function of `shell` runs when the last of `words` is to be completed."""
    line = " ".join(["cdxsync", *words])
    protocol = {"COMP_WORDS": line, "COMP_CWORD": str(len(words))} if shell == "bash" else {}
    if shell != "bash":
        protocol = {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    return subprocess.run(
        [str(CDXSYNC)],
        env=BASE_ENVIRONMENT | protocol | {"_CDXSYNC_COMPLETE": f"complete_{shell}"} | env,
        capture_output=True,
        text=True,
        timeout=60,
    )


def offers(words: list[str], **env: str) -> list[str]:
    done = complete("bash", words, **env)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["hosts", "show", ""], [*HOSTS]),
        (["hosts", "show", "we"], ["web1.example.net", "web2.example.net"]),
        (["hosts", "rotate", "%"], []),
        (["auth", "upload", "--host", "db"], ["db1.example.net"]),
        (["prompts", "delete", "re"], ["review.md"]),
        (["pki", "revoke", ""], ["admin", "alice"]),
    ],
    ids=" ".join,
)
def test_names_of_the_database_are_offered(home: Path, words: list[str], offered: list[str]) -> None:
    assert offers(["--home", str(home), *words]) == offered
    assert offers(words, CDXSYNC_HOME=str(home)) == offered


def test_commands_are_offered() -> None:
    assert {"hosts", "serve", "pki"} <= set(offers([""]))
    assert offers(["hosts", "dis"]) == ["disable"]
    assert offers(["auth", "upload", "--fo"]) == ["--force"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_offered_the_same(home: Path, shell: str) -> None:
    done = complete(shell, ["hosts", "show", "web"], CDXSYNC_HOME=str(home))
    assert done.stderr == ""
    assert "web1.example.net" in done.stdout
    assert "db1" not in done.stdout


def test_no_home_is_no_offer(tmp_path: Path) -> None:
    assert offers(["hosts", "show", ""], CDXSYNC_HOME=str(tmp_path / "none")) == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("broken", ["database", "settings", "keyring only"])
def test_errors_are_silent(home: Path, tmp_path: Path, broken: str) -> None:
    copy = tmp_path / "home"
    copy.mkdir()
    shutil.copy(home / "keyring.json", copy)
    if broken == "database":
        (copy / "cdxsync.db").write_bytes(b"This is no database." * 500)
    if broken == "settings":
        (copy / "config.toml").write_text("nonsense = [")
    assert offers(["hosts", "show", ""], CDXSYNC_HOME=str(copy)) == []


def test_bash_completes_with_the_script_that_is_shown(home: Path) -> None:
    """The real bash: the script of the program, then the function as bash calls it."""
    script = (
        'eval "$(_CDXSYNC_COMPLETE=source_bash cdxsync)"\n'
        "COMP_WORDS=(cdxsync hosts show web2)\nCOMP_CWORD=3\n"
        "_cdxsync_completion cdxsync\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    env = BASE_ENVIRONMENT | {"PATH": f"{CDXSYNC.parent}:{os.environ['PATH']}", "CDXSYNC_HOME": str(home)}
    done = subprocess.run(["bash", "--norc", "-c", script], env=env, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout == "web2.example.net\n"


def test_completion_is_installed_for_the_shell_that_asks(tmp_path: Path) -> None:
    env = BASE_ENVIRONMENT | {"HOME": str(tmp_path), "PATH": f"{CDXSYNC.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        # Two commands, so that bash stays and is seen as the parent.
        ["bash", "--norc", "-c", "cdxsync --install-completion; exit $?"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "complete -o default -F" in (tmp_path / ".bash_completions" / "cdxsync.sh").read_text()
    assert ".bash_completions/cdxsync.sh" in (tmp_path / ".bashrc").read_text()
