"""Codex's command line, read as Codex reads it: which of its commands a run is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Iterator, Tuple

    # Where a word stands, and the word.
    Word = Tuple[int, str]

# Options that take the word after them, or all words up to the next option. `login` has some that its help hides.
WITH_VALUE = (
    *("-c", "--config", "--enable", "--disable", "--remote", "--remote-auth-token-env", "-m", "--model"),
    *("--local-provider", "-p", "--profile", "-s", "--sandbox", "-C", "--cd", "--add-dir", "-a", "--ask-for-approval"),
    *("--api-key", "--experimental_issuer", "--experimental_client-id"),
)
WITH_VALUES = ("-i", "--image")
# All commands that Codex has, or had, but those that open the full-screen program: `resume`, `fork` and `agents`.
OTHER_COMMANDS = (
    *("exec", "e", "review", "login", "logout", "mcp", "mcp-server", "plugin", "app-server", "remote-control", "app"),
    *("completion", "update", "doctor", "sandbox", "debug", "execpolicy", "apply", "a", "queue", "archive", "delete"),
    *("unarchive", "migrate-rollouts", "migrate-nfs-db", "cloud", "cloud-tasks", "exec-server", "features", "help"),
    *("proto", "generate-ts", "responses", "responses-api-proxy", "stdio-to-uds"),
)
FULL_SCREEN_COMMANDS = ("resume", "fork", "agents")
# Codex answers these by itself.
ANSWERED = ("--help", "-h", "--version", "-V")
ANSWERED_COMMANDS = ("help", "completion")


def words_of(arguments: list[str]) -> Iterator[Word]:
    """The words that are neither options nor their values, before a `--`."""
    value = ""
    for index, word in enumerate(before_dashes(arguments)):
        if value in WITH_VALUES and (word == "-" or not word.startswith("-")):
            continue
        if word.startswith("-") and word != "-":
            value = word if word in WITH_VALUE + WITH_VALUES else ""
        elif value:
            value = ""
        else:
            yield index, word


def command_index(arguments: list[str]) -> int | None:
    """Where Codex's command stands among its arguments, or its prompt; None without one.

    A command may come after a prompt: `codex hello login` is a login.
    """
    words = words_of(arguments)
    first = next(words, None)
    if first is None:
        return None
    second = next(words, None)
    if second is not None and not is_command(first[1]) and is_command(second[1]):
        return second[0]
    return first[0]


def is_command(word: str) -> bool:
    """Whether a word names a command of Codex."""
    return word in OTHER_COMMANDS or word in FULL_SCREEN_COMMANDS


def command_of(arguments: list[str]) -> str:
    """The name of Codex's command; empty when it is a prompt, or there is none."""
    index = command_index(arguments)
    return arguments[index] if index is not None and is_command(arguments[index]) else ""


def login_command(arguments: list[str]) -> str:
    """`login` or `logout` when that is what Codex is to do; else an empty text. `login status` changes nothing."""
    name, index = command_of(arguments), command_index(arguments)
    if name not in ("login", "logout") or index is None:
        return ""
    after = next(words_of(arguments[index + 1 :]), None)
    return "" if name == "login" and after is not None and after[1] == "status" else name


def answers_by_itself(arguments: list[str]) -> bool:
    """Whether Codex only prints what it knows by itself: no credentials are needed, and none may be waited for."""
    if command_of(arguments) in ANSWERED_COMMANDS:
        return True
    asked = next((word for word in before_dashes(arguments) if word in ANSWERED), None)
    return asked is not None and command_of(arguments) != "sandbox"


def before_dashes(arguments: list[str]) -> list[str]:
    """The arguments before a `--`."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments
