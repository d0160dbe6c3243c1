"""How Codex reads its command line: cdx must know which command a run is, and which word is an option's value."""

import re

import pytest

from cdxsync.wrapper.src.codex_command import (
    FULL_SCREEN_COMMANDS,
    OTHER_COMMANDS,
    WITH_VALUE,
    WITH_VALUES,
    answers_by_itself,
    command_of,
)
from tests.support.codex_home import CodexHome

pytestmark = [pytest.mark.codex, pytest.mark.every_codex]


def test_its_help_names_no_command_that_is_not_known(home: CodexHome) -> None:
    commands = home.run("--help").stdout.split("Commands:\n")[1].split("\n\n")[0]
    names = set(re.findall(r"^  ([a-z][a-z-]*) ", commands, re.MULTILINE))
    assert {"exec", "login", "logout", "resume"} <= names
    assert names - {*OTHER_COMMANDS, *FULL_SCREEN_COMMANDS} == set()


@pytest.mark.parametrize("command", [(), ("login",), ("logout",)], ids=["", "login", "logout"])
def test_its_help_names_the_options_that_take_a_value(home: CodexHome, command: tuple[str, ...]) -> None:
    options = home.run(*command, "--help").stdout.split("Options:\n")[1]
    takes: set[str] = set()
    takes_none: set[str] = set()
    for short, long, value in re.findall(r"^  +(?:(-\w), +)?(--[a-z][a-z-]*)( <.*)?$", options, re.MULTILINE):
        (takes if value else takes_none).update({short, long} - {""})
    assert {"-c", "--config"} <= takes
    assert takes - {*WITH_VALUE, *WITH_VALUES} == set()
    assert takes_none & {*WITH_VALUE, *WITH_VALUES} == set()


@pytest.mark.parametrize(
    "words",
    [
        "login",
        "-c a=b login",
        "--config=a=b -mx -C=/tmp --image=a.png -ib.png login",
        "hello login",
        "hello -m x login",
        "- login",
        "-i a.png b.png --search login",
        "-i a.png b.png - login",
        "-- login",
        "-- hello login",
        "hello -- login",
        "hello there login",
        "mcp login",
    ],
)
def test_a_command_may_come_after_options_and_after_a_prompt(home: CodexHome, words: str) -> None:
    arguments = [*words.split(), "status"]
    done = home.run(*arguments)
    assert ("Not logged in" in done.stderr) is (command_of(arguments) == "login"), done


@pytest.mark.parametrize("words", ["-c a=b --version", "-m x help", "hello --help", "exec --help", "--search -h"])
def test_help_and_versions_are_printed_wherever_they_are_asked_for(home: CodexHome, words: str) -> None:
    done = home.run(*words.split())
    assert answers_by_itself(words.split())
    assert done.returncode == 0
    assert "codex" in done.stdout.lower()


def test_login_has_options_with_values_that_its_help_hides(home: CodexHome) -> None:
    for option in ("--experimental_client-id", "--experimental_issuer", "--api-key"):
        done = home.run("login", option, "status", "--help")
        assert "--with-access-token" in done.stdout, done
        assert "Not logged in" in home.run("login", option, "x", "status").stderr
