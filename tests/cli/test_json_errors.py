"""How a command that fails says so on standard error: for people, and with `--json`."""

import json

import pytest

from tests.support.fleet import Fleet


@pytest.mark.parametrize(
    ("words", "exit_code", "code"),
    [
        (["hosts", "show", "nothing"], 3, "host_not_found"),
        (["hosts", "register", "not a name"], 2, "validation_failed"),
        (["hosts", "show"], 2, "usage"),
        (["nothing"], 2, "usage"),
    ],
)
def test_a_command_with_json_ends_with_json(fleet: Fleet, words: list[str], exit_code: int, code: str) -> None:
    ended = fleet.cli("--json", *words, check=False)
    told = json.loads(ended.stderr.splitlines()[-1])
    assert (ended.returncode, told["status"], told["code"], ended.stdout) == (exit_code, "error", code, "")
    assert ("errors" in told) == (code == "validation_failed")


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["usage", "month", "2020"], ["cdxsync: month must be YYYY-MM, such as 2026-01"]),
        (
            ["auth", "upload", "-"],
            ["cdxsync: Invalid input:", "  auth.last_refresh: is required: ", "  auth.auths: is required"],
        ),
        (
            ["prompts", "store", "-", "--name", "../a"],
            ["cdxsync: -: not a prompt", "  filename: must be "],
        ),
        (
            ["hosts", "register", "a.example.net", "--file", "x"],
            ["Usage: ", "Try ", "", "Error: Give a host name or --file FILE, not both."],
        ),
        (["hosts", "delete", "nothing"], ["cdxsync: No host 'nothing'; cdxsync hosts list shows all"]),
    ],
)
def test_a_command_says_what_is_wrong(fleet: Fleet, words: list[str], lines: list[str]) -> None:
    ended = fleet.cli(*words, check=False, input="{}")
    shown = ended.stderr.splitlines()
    assert len(shown) == len(lines)
    for said, begins in zip(shown, lines, strict=True):
        assert said.startswith(begins)
