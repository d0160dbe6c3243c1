"""How many steps a regular expression takes over a text: a matcher that goes back as `re` does, and counts.

It knows what patterns of the program are made of, and has none of the short cuts of `re`, which change a factor only.
"""

import re
import string
from collections.abc import Iterator
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

_ALPHABET = " \t\n0a A,.-:;=/*\\\"'`[](){}#<>_+\x1b\x07!%$@|e?&"
Items = list[tuple[Any, Any]]


class TooManySteps(Exception):
    """More than the limit: the growth is no question any more."""


class Counter:
    """A pattern, and the steps that it takes."""

    def __init__(self, pattern: str | bytes, flags: int = 0) -> None:
        text = pattern.decode("latin-1") if isinstance(pattern, bytes) else pattern
        tree = parser.parse(text, flags)
        self.items: Items = list(tree)
        self.flags = tree.state.flags
        self.steps = 0
        self.limit = 0

    def over(self, text: str, *, scanning: bool, limit: int = 200_000) -> int:
        """The steps of one match at the beginning, or of all matches that are searched for."""
        self.steps, self.limit = 0, limit
        place = 0
        while place <= len(text):
            end = next(self._sequence(self.items, 0, text, place), None)
            if not scanning:
                break
            place = place + 1 if end is None or end == place else end
        return self.steps

    def _step(self) -> None:
        self.steps += 1
        if self.steps > self.limit:
            raise TooManySteps

    def _sequence(self, items: Items, index: int, text: str, place: int) -> Iterator[int]:
        if index == len(items):
            yield place
            return
        for end in self._item(items[index], text, place):
            yield from self._sequence(items, index + 1, text, end)

    def _item(self, item: tuple[Any, Any], text: str, place: int) -> Iterator[int]:
        self._step()
        op, value = item
        if op in (ops.LITERAL, ops.NOT_LITERAL, ops.ANY, ops.IN):
            if place < len(text) and self.fits(item, text[place]):
                yield place + 1
        elif op is ops.AT:
            if self._is_at(value, text, place):
                yield place
        elif op is ops.SUBPATTERN:
            yield from self._sequence(list(value[3]), 0, text, place)
        elif op is ops.BRANCH:
            for branch in value[1]:
                yield from self._sequence(list(branch), 0, text, place)
        elif op is ops.ATOMIC_GROUP:
            yield from self._first(self._sequence(list(value), 0, text, place))
        elif op is ops.POSSESSIVE_REPEAT:
            yield from self._first(self._repeat(value, text, place, lazy=False))
        elif op in (ops.MAX_REPEAT, ops.MIN_REPEAT):
            yield from self._repeat(value, text, place, lazy=op is ops.MIN_REPEAT)
        elif op in (ops.ASSERT, ops.ASSERT_NOT):
            direction, inner = value
            start = place if direction > 0 else place - inner.getwidth()[0]
            found = start >= 0 and next(self._sequence(list(inner), 0, text, start), None) is not None
            if found is (op is ops.ASSERT):
                yield place
        else:
            raise NotImplementedError(op)

    @staticmethod
    def _first(ends: Iterator[int]) -> Iterator[int]:
        for end in ends:
            yield end
            return

    def _repeat(self, value: tuple[Any, Any, Any], text: str, place: int, *, lazy: bool) -> Iterator[int]:
        low, high, items = int(value[0]), value[1], list(value[2])
        most = len(text) + 1 if high is ops.MAXREPEAT else int(high)
        if len(items) == 1 and items[0][0] in (ops.LITERAL, ops.NOT_LITERAL, ops.ANY, ops.IN):
            ends = [place]
            while not lazy and len(ends) <= most and ends[-1] < len(text) and self.fits(items[0], text[ends[-1]]):
                self._step()
                ends.append(ends[-1] + 1)
            if lazy:
                while len(ends) <= low and ends[-1] < len(text) and self.fits(items[0], text[ends[-1]]):
                    ends.append(ends[-1] + 1)
            if len(ends) <= low:
                return
            if not lazy:
                for end in reversed(ends[low:]):
                    self._step()
                    yield end
                return
            end, count = ends[low], low
            while True:
                self._step()
                yield end
                if count == most or end >= len(text) or not self.fits(items[0], text[end]):
                    return
                end, count = end + 1, count + 1
        yield from self._rounds(0, low, most, items, text, place, lazy)

    def _rounds(self, done: int, low: int, most: int, items: Items, text: str, place: int, lazy: bool) -> Iterator[int]:
        if lazy and done >= low:
            yield place
        if done < most:
            for end in self._sequence(items, 0, text, place):
                if end > place:
                    yield from self._rounds(done + 1, low, most, items, text, end, lazy)
                elif done + 1 >= low:
                    yield end
        if not lazy and done >= low:
            yield place

    def fits(self, item: tuple[Any, Any], letter: str) -> bool:
        """Whether an item that stands for one letter stands for this one."""
        op, value = item
        forms = {letter, letter.lower(), letter.upper()} if self.flags & re.IGNORECASE else {letter}
        if op is ops.LITERAL:
            return any(ord(form) == value for form in forms if len(form) == 1)
        if op is ops.NOT_LITERAL:
            return all(ord(form) != value for form in forms if len(form) == 1)
        if op is ops.ANY:
            return letter != "\n" or bool(self.flags & re.DOTALL)
        negated = value[0][0] is ops.NEGATE
        return negated is not any(_is_in(part, form) for part in value[int(negated) :] for form in forms)

    def _is_at(self, where: Any, text: str, place: int) -> bool:
        if where is ops.AT_BEGINNING_STRING or (where is ops.AT_BEGINNING and not self.flags & re.MULTILINE):
            return place == 0
        if where is ops.AT_BEGINNING:
            return place == 0 or text[place - 1] == "\n"
        if where is ops.AT_END_STRING:
            return place == len(text)
        if where is ops.AT_END:
            return place == len(text) or (text[place] == "\n" and (self._multiline or place + 1 == len(text)))
        words = [0 <= at < len(text) and _is_word(text[at]) for at in (place - 1, place)]
        return (words[0] != words[1]) is (where is ops.AT_BOUNDARY)

    @property
    def _multiline(self) -> bool:
        return bool(self.flags & re.MULTILINE)


def _is_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_"


def _is_in(part: tuple[Any, Any], letter: str) -> bool:
    op, value = part
    if op is ops.LITERAL:
        return bool(ord(letter[0]) == value)
    if op is ops.RANGE:
        return bool(value[0] <= ord(letter[0]) <= value[1])
    kinds = {
        ops.CATEGORY_DIGIT: letter.isdigit(),
        ops.CATEGORY_NOT_DIGIT: not letter.isdigit(),
        ops.CATEGORY_SPACE: letter.isspace(),
        ops.CATEGORY_NOT_SPACE: not letter.isspace(),
        ops.CATEGORY_WORD: _is_word(letter),
        ops.CATEGORY_NOT_WORD: not _is_word(letter),
    }
    return bool(kinds[value])


def hostile_texts(counter: Counter) -> Iterator[tuple[str, str, str]]:
    """(before, piece, after) of texts that are bad for a pattern: the piece is to be repeated.

    For each repetition: what comes before it, and what it repeats, in several forms; and the beginnings of the pattern
    themselves, which a search may try again and again.
    """
    seen = set()
    for before, body in _repetitions(counter, counter.items, ""):
        pieces = [piece for piece in _forms(counter, body) if piece]
        mixed = ["".join(pieces[:4])] if len(pieces) > 1 else []
        for piece in [*pieces, *mixed]:
            starts = [before, ""] if before else [""]
            for start in starts:
                seen.add((start, piece))
            seen.add(("", before + piece))
        for lead in ("\\", "x\\", "\n"):
            seen.add(("", lead + before))
            seen.add((before, lead + before))
        seen.add(("", before))
    for before, piece in sorted(seen):
        if piece:
            for after in ("", "\x00"):
                yield before, piece, after


def _repetitions(counter: Counter, items: Items, before: str) -> Iterator[tuple[str, Items]]:
    """The repetitions without an end, each with a text that leads to it."""
    for item in items:
        op, value = item
        if op in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT):
            low, high, body = value
            if high is ops.MAXREPEAT:
                yield before, list(body)
            yield from _repetitions(counter, list(body), before)
            before += (_forms(counter, list(body)) or [""])[0] * max(low, 1)
            continue
        if op is ops.SUBPATTERN:
            yield from _repetitions(counter, list(value[3]), before)
        elif op is ops.ATOMIC_GROUP:
            yield from _repetitions(counter, list(value), before)
        elif op is ops.BRANCH:
            for branch in value[1]:
                yield from _repetitions(counter, list(branch), before)
        before += (_forms(counter, [item]) or [""])[0]


def _forms(counter: Counter, items: Items) -> list[str]:
    """Some short texts that items stand for."""
    found = [""]
    for item in items:
        op, value = item
        if op in (ops.LITERAL, ops.NOT_LITERAL, ops.ANY, ops.IN):
            letters = [chr(value)] if op is ops.LITERAL else [c for c in _ALPHABET if counter.fits(item, c)]
            more = letters or [c for c in string.printable if counter.fits(item, c)][:1] or ["\u2028"]
        elif op is ops.SUBPATTERN:
            more = _forms(counter, list(value[3]))
        elif op is ops.ATOMIC_GROUP:
            more = _forms(counter, list(value))
        elif op is ops.BRANCH:
            more = [form for branch in value[1] for form in _forms(counter, list(branch))[:4]]
        elif op in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT):
            more = [form * max(value[0], 1) for form in _forms(counter, list(value[2]))[:6]]
        else:
            continue
        found = [start + end for start in found[:3] for end in more[:12]]
    return found[:16]
