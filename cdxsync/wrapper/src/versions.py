"""The order of versions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Tuple

    VersionKey = Tuple[Tuple[int, ...], int, Tuple[Any, ...]]

# What is longer is no version, and its numbers would be too large for Python.
MAX_LENGTH = 128
VERSION = r"\d{1,9}(?:\.\d{1,9}){1,3}(?:[-.+][0-9A-Za-z.+-]{1,40})?\Z"


def version_key(text: str) -> VersionKey:
    """A key that orders versions: by their numbers, a pre-release before its release."""
    match = re.match(r"\D*(\d+(?:\.\d+)*)(.*)", text[:MAX_LENGTH])
    if not match:
        return ((), 0, ())
    numbers = [int(number) for number in match.group(1).split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    rest = match.group(2).split("+")[0].strip("-. ")
    parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"\d+|[A-Za-z]+", rest))
    return (tuple(numbers), 0 if parts else 1, parts)
