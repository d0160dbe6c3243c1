"""JSON text: strict decoding, and the two byte forms that digests are made of.

The plain form is what Python's `json` writes and what `cdx` hashes. The reference form is what the
reference implementation's language (PHP) gives for the same value; `docs/protocol.md 3.4` lists where the two differ.
For every document that Codex writes they are the same bytes.
"""

import json
import math
import re
from typing import Any

import msgspec

from cdxsync.base.errors import Malformed

MAX_DEPTH = 512
"""The deepest nesting of a body (`docs/protocol.md 1.4`)."""

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_BRACKETS_OUTSIDE_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|([\[{])|([\]}])', re.DOTALL)
"""A string that is not closed ends with the text: to look for its end from each quote would take quadratic time."""


def decode(body: bytes) -> Any:
    """The value of the JSON text `body` (UTF-8). Of duplicate keys the last one wins, at the place of the first.

    Raises `Malformed` when it is not JSON: also for a lone surrogate, invalid UTF-8, NaN, or nesting over `MAX_DEPTH`.
    A number beyond a double's range becomes an infinity, so that the caller can refuse it by the field's name.
    """
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        raise Malformed(f"not valid JSON: nested deeper than {MAX_DEPTH} levels")
    try:
        return msgspec.json.decode(body)
    except msgspec.ValidationError:
        return _decode_out_of_range(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise Malformed(f"not valid JSON: {reason}") from None


def _decode_out_of_range(body: bytes) -> Any:
    """Decode what msgspec refuses for a number's size only, so that the error can name the field."""
    try:
        return json.loads(body, parse_int=_int_or_infinity)
    except ValueError as error:  # pragma: no cover - msgspec has accepted the syntax already
        raise Malformed(f"not valid JSON: {error}") from None


def _int_or_infinity(digits: str) -> float | int:
    return int(digits) if len(digits) <= 400 else math.copysign(math.inf, -1 if digits[0] == "-" else 1)


def _depth(body: bytes) -> int:
    depth = deepest = 0
    for match in _BRACKETS_OUTSIDE_STRINGS.finditer(body):
        if match[1]:
            depth += 1
            deepest = max(deepest, depth)
        elif match[2]:
            depth -= 1
    return deepest


def has_more_than(limit: int, value: Any) -> bool:
    """Whether a JSON value has more than `limit` members and items in all; looks at no more than those."""
    count, within = 0, [value]
    while within:
        container = within.pop()
        count += len(container)
        if count > limit:
            return True
        items = container.values() if isinstance(container, dict) else container
        within += [item for item in items if isinstance(item, dict | list)]
    return False


def plain(value: Any) -> bytes:
    """`value` as compact UTF-8 JSON in the given key order, as Python's `json` writes it.

    Raises ValueError for an infinity or NaN.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode()


def reference(value: Any) -> bytes:
    """`value` as the compact UTF-8 JSON that the reference implementation hashes (`docs/protocol.md 3.4`).

    An empty object becomes `[]`, as does one keyed exactly 0..n-1 an array; floats drop a zero fraction and take
    the form 1.0e+25 from 1e17 on and below 1e-4; integers past 64 bits become floats; U+2028 and U+2029 are escaped.
    Raises ValueError for a number beyond a double's range.
    """
    parts: list[str] = []
    _write_reference(value, parts.append)
    return "".join(parts).encode()


def _write_reference(value: Any, write: Any) -> None:
    match value:
        case str():
            write(_reference_string(value))
        case bool():
            write("true" if value else "false")
        case None:
            write("null")
        case int():
            write(str(value) if _INT64_MIN <= value <= _INT64_MAX else reference_float(_to_float(value)))
        case float():
            write(reference_float(value))
        case dict() if not all(key == str(index) for index, key in enumerate(value)):
            write("{")
            for index, (key, item) in enumerate(value.items()):
                write(("," if index else "") + _reference_string(key) + ":")
                _write_reference(item, write)
            write("}")
        case list() | dict():
            # Here, and not in a function of its own: with two calls a level, `MAX_DEPTH` is too deep for Python.
            write("[")
            for index, item in enumerate(value if isinstance(value, list) else value.values()):
                if index:
                    write(",")
                _write_reference(item, write)
            write("]")
        case _:
            raise TypeError(f"not a JSON value: {type(value).__name__}")


def _reference_string(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return quoted.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _to_float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        raise ValueError("a number is out of range") from None


def reference_float(number: float) -> str:
    """A double as the reference writes it: the shortest digits that give it back, 17 places before an exponent.

    Raises ValueError for what is not finite.
    """
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    if number == 0:
        return "-0" if math.copysign(1, number) < 0 else "0"
    sign = "-" if number < 0 else ""
    mantissa, _, exponent_text = repr(abs(number)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent_text or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if point > 17 or point < -3:
        exponent = point - 1
        return f"{sign}{digits[0]}.{digits[1:] or '0'}e{'-' if exponent < 0 else '+'}{abs(exponent)}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if point >= len(digits):
        return sign + digits + "0" * (point - len(digits))
    return f"{sign}{digits[:point]}.{digits[point:]}"
