"""With `--json` a command that fails says so as JSON on standard error."""

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
