"""Usage entries of `POST /usage`: validation, and numbers from Codex's printed line.

The rules: `docs/protocol.md 6.1 and 6.2`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cdxsync.base import texts
from cdxsync.base.errors import Invalid
from cdxsync.usage.schemas import Entry, UsageBody

MAX_ENTRIES = 1000
MAX_TOKENS = 10**10
"""The limit of an entry: more than any run counts, and so low that no host, at its highest rate and with full calls,
brings a day's totals beyond 2**63, where they would fail or be inexact for all hosts."""
MAX_MODEL_LENGTH = 128
MAX_LINE_BYTES = 65535
_MAX_DIGITS = 400
NUMBERS = ("total", "input", "output", "cached", "reasoning")
_NUMERIC = re.compile(r"\s*[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?\s*")
_COUNT = r"([0-9][0-9,]*)"
_NAMED = re.compile(rf"\b(total|input|output|cached|reasoning)\s*(?:[=:]\s*|\s(?=[0-9])){_COUNT}", re.IGNORECASE)
_CACHED = re.compile(rf"\(\+\s*{_COUNT}\s+cached", re.IGNORECASE)


def read_body(body: Mapping[str, Any]) -> UsageBody:
    """The entries of a body: those of `usages`, or the one at the top.

    Raises `Invalid` with every wrong field of every entry, as `usages.<index>.<field>` or `<field>`.
    """
    given = body.get("usages")
    errors: dict[str, list[str]] = {}
    if not isinstance(given, list | dict):
        entries = [read_entry(body, "", errors)]
    else:
        items = list(given.values()) if isinstance(given, dict) else given
        if not items:
            errors["usages"] = ["must hold at least one entry"]
        if len(items) > MAX_ENTRIES:
            raise Invalid({"usages": [f"must hold at most {MAX_ENTRIES} entries; send the rest in further calls"]})
        entries = [read_entry(item, f"usages.{index}", errors) for index, item in enumerate(items)]
    if errors:
        raise Invalid(errors)
    return UsageBody(usages=entries)


def read_entry(value: object, where: str, errors: dict[str, list[str]]) -> Entry:
    """One entry; what is wrong with it is added to `errors` under its place `where`."""
    if not isinstance(value, Mapping):
        errors[where] = ["must be an object"]
        return Entry()
    prefix = f"{where}." if where else ""
    fields: dict[str, Any] = {}
    readers = dict.fromkeys(NUMBERS, _read_count) | {"model": _read_model, "line": _read_line, "outside": _read_flag}
    before = len(errors)
    for name, read in readers.items():
        try:
            fields[name] = read(value.get(name))
        except ValueError as error:
            errors[prefix + name] = [str(error)]
    if len(errors) > before:
        return Entry()
    if all(fields[name] is None for name in (*NUMBERS, "line")):
        place = where or "usages"
        errors[place] = ["needs at least one of total, input, output, cached, reasoning, or line"]
    if fields["line"] is not None and all(fields[name] is None for name in NUMBERS):
        fields |= parse_line(fields["line"])
    return Entry(**fields)


def _read_count(value: object) -> int | None:
    if value is None or value == "":
        return None
    problem = f"must be a whole number from 0 to {MAX_TOKENS}"
    if isinstance(value, str) and len(value) <= _MAX_DIGITS and _NUMERIC.fullmatch(value):
        value = float(value) if re.search(r"[.eE]", value) else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(problem)
    if not 0 <= value <= MAX_TOKENS:  # no NaN is, nor an infinity
        raise ValueError(problem)
    return int(value)


def _read_model(value: object) -> str | None:
    model = _read_text(value)
    if len(model) > MAX_MODEL_LENGTH:
        raise ValueError(f"must have at most {MAX_MODEL_LENGTH} characters")
    return model or None


def _read_line(value: object) -> str | None:
    line = _read_text(value)
    if len(line.encode()) > MAX_LINE_BYTES:
        raise ValueError(f"must have at most {MAX_LINE_BYTES} bytes")
    return line or None


def _read_flag(value: object) -> bool:
    if not isinstance(value, bool | None):
        raise ValueError("must be true or false")
    return bool(value)


def _read_text(value: object) -> str:
    if not isinstance(value, str | None):
        raise ValueError("must be a text")
    return texts.clean(value or "")


def parse_line(line: str) -> dict[str, int]:
    """The counts in a line that Codex prints, `Token usage: total=4,880 input=4,200 (+ 120 cached) output=560 …`.

    Empty for any other line, which is stored unchanged. A count beyond `MAX_TOKENS` does not count.
    """
    if "token usage" not in line.lower():
        return {}
    return dict(_counts(line))


def _counts(line: str) -> Iterator[tuple[str, int]]:
    seen = set()
    matches = [(match[1].lower(), match[2]) for match in _NAMED.finditer(line)]
    matches += [("cached", match[1]) for match in _CACHED.finditer(line)]
    for name, digits in matches:
        count = int(digits.replace(",", "")) if len(digits) < 30 else MAX_TOKENS + 1
        if name not in seen and count <= MAX_TOKENS:
            seen.add(name)
            yield name, count
