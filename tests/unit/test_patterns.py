"""Every regular expression of the program takes a number of steps that grows as its text does, whatever the text is."""

import ast
import builtins
import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.pattern_steps import Counter, TooManySteps, hostile_texts

PACKAGE = Path(__file__).parents[2] / "cdxsync"
METHODS = ("search", "match", "fullmatch", "findall", "finditer", "sub", "subn", "split")
ANCHORED = {"match", "fullmatch"}
TIMES = (16, 32, 64)
SLACK = 250
"""Steps more than linear that a short text may take."""


OTHERWISE_BOUNDED = {
    r"(\w+) [^,\n]*?( REFERENCES \w+ \(\w+\) ON DELETE (?:SET NULL|CASCADE))": "texts of our own migrations",
    rb"\s*DELIMITER\s+;\s*$": "matched at the beginning of a line alone, by a function that it is given to",
}


class Pattern(NamedTuple):
    """A regular expression: the module, what it says, its flags, and whether a text is searched for it."""

    module: str
    text: str | bytes
    flags: int
    scanning: bool


class Names(dict[str, Any]):
    """What a function has at run time is some word; all else comes from its module."""

    def __init__(self, module: Mapping[str, Any]) -> None:
        super().__init__()
        self.module = module

    def __missing__(self, name: str) -> Any:
        if name in self.module or hasattr(builtins, name):
            raise KeyError(name)
        return "word"


@cache
def sources() -> str:
    """The text of all modules, to see how a pattern is used."""
    return "\n".join(path.read_text() for path in sorted(PACKAGE.rglob("*.py")))


def patterns_of(path: Path) -> Iterator[Pattern]:
    """The patterns in a module, those that are put together as well."""
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    tree = ast.parse(path.read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            either = [node.value.body, node.value.orelse] if isinstance(node.value, ast.IfExp) else [node.value]
            named.update({id(value): node.targets[0] for value in either})
    for call in calls:
        function = call.func
        if not (isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)):
            continue
        if function.value.id != "re" or function.attr not in (*METHODS, "compile"):
            continue
        module = vars(importlib.import_module(name))
        text = value_of(call.args[0], module)
        place = {"compile": 1, "sub": 4, "subn": 4, "split": 3}.get(function.attr, 2)
        given = [keyword.value for keyword in call.keywords if keyword.arg == "flags"] or call.args[place : place + 1]
        used = {function.attr}
        if function.attr == "compile":
            used = uses(named.get(id(call)), path)
        yield Pattern(name, text, int(value_of(given[0], module)) if given else 0, not used or not used <= ANCHORED)


def uses(target: ast.expr | None, path: Path) -> set[str]:
    """The methods that are called of a compiled pattern: in its own module, else in others."""
    if not isinstance(target, ast.Name):
        return set()
    calls = rf"\b{target.id}\.(\w+)\("
    return set(re.findall(calls, path.read_text())) or set(re.findall(calls, sources()))


def value_of(node: ast.expr, module: Mapping[str, Any]) -> Any:
    """What an expression is in a module."""
    code = compile(ast.Expression(node), "pattern", "eval")
    return eval(code, dict(module), Names(module))


def found() -> list[Pattern]:
    """All of them."""
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if re.search(r"\bre\.(\w+)\(", path.read_text())]
    every = {pattern for path in paths for pattern in patterns_of(path)}
    return sorted((pattern for pattern in every if pattern.text not in OTHERWISE_BOUNDED), key=repr)


PATTERNS = found()


@pytest.fixture(autouse=True)
def deep() -> Iterator[None]:
    """The matcher calls itself for each round of a repetition."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    yield
    sys.setrecursionlimit(before)


def growth(pattern: Pattern) -> str:
    """The text for which a pattern takes more and more steps for each piece of it; empty where there is none."""
    counter = Counter(pattern.text, pattern.flags)
    for before, piece, after in hostile_texts(counter):
        try:
            steps = [counter.over(before + piece * n + after, scanning=pattern.scanning) for n in TIMES]
        except TooManySteps:
            return f"{before!r} {piece!r} {after!r}"
        if steps[2] - steps[1] > 2.4 * (steps[1] - steps[0]) + SLACK:
            return f"{before!r} {piece!r} {after!r}: {steps}"
    return ""


@pytest.mark.parametrize(
    "pattern", PATTERNS, ids=[f"{p.module.removeprefix('cdxsync.')}-{n}" for n, p in enumerate(PATTERNS)]
)
def test_no_text_takes_more_than_linear_time(pattern: Pattern) -> None:
    assert growth(pattern) == "", pattern


@pytest.mark.parametrize(
    ("text", "scanning"),
    [
        (r"(?i)(?:^|\n)(?:\[[^\]\n]*\]\s*)?tokens\s+used:?\s*\n?\s*(\d[\d,]{0,30})\s*(?=\n|$)", True),
        (r"\d+\.\d+\S*", True),
        (r"(?m)^\s+--option", True),
        (r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", True),
        (r'(?s)"""(?:\\.|[^\\])*?"""|"(?:\\.|[^"\\\n])*"|[^\s"]+', True),
        (r"(?m)^KEY=(.*?)\s*$", True),
        (r"(a+)+b", False),
        (r"(a|aa)*b", False),
        (r"\s*,\s*", True),
        (r"([!-9;-~]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)\r\n", False),
    ],
)
def test_patterns_that_were_slow_are_found(text: str, scanning: bool) -> None:
    assert growth(Pattern("", text, 0, scanning)) != ""


def test_the_matcher_counts_what_re_matches() -> None:
    for text, subject in (
        (r"a*?b|c", "aab"),
        (r"(?<!\d)\d{1,3}\.\d", "x12.3"),
        (r"(?i)[^A]+\b", "bcd "),
        (r"^(?:x|xy)z$", "xyz"),
    ):
        match = re.search(text, subject)
        assert match is not None
        counter = Counter(text)
        counter.limit = 10_000
        assert next(counter._sequence(counter.items, 0, subject, match.start())) == match.end()


def test_all_patterns_are_looked_at() -> None:
    assert len(PATTERNS) > 80
    assert {"cdxsync.wrapper.src.printed_usage", "cdxsync.base.texts"} <= {pattern.module for pattern in PATTERNS}
