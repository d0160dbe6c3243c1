"""The front matter of prompts: what it says, in every form in which YAML writes a text, and what hostile ones cost."""

import sys
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cdxsync.base import texts
from cdxsync.prompts import front_matter

NESTED = "- " + "[" * 100_000 + "]" * 100_000
MERGES = "\n".join(f"a{number}: &a{number}\n  <<: [{', '.join([f'*a{number - 1}'] * 9)}]" for number in range(1, 30))


@pytest.mark.parametrize(
    ("text", "matter"),
    [
        ("no front matter", {}),
        ("---\ndescription: never closed\n", {}),
        ("---\ndescription: D\nargument-hint: A\nother: 5\n---\nx", {"description": "D", "argument_hint": "A"}),
        ("---\r\ndescription: D\r\n---\r\nx", {"description": "D"}),
        ('---\ndescription: "quoted: text" # not this\n---\nx', {"description": "quoted: text"}),
        ("---\ndescription: 'it''s one'\n---\nx", {"description": "it's one"}),
        ("---\ndescription: a text # not this\n---\nx", {"description": "a text"}),
        (
            "---\ndescription: two\n  lines\nargument-hint: A\n---\nx",
            {"description": "two lines", "argument_hint": "A"},
        ),
        ("---\ndescription: |\n  two\n  lines\n---\nx", {"description": "two lines"}),
        (
            "---\ndescription: >-\n  two\n  lines\nargument-hint: A\n---\n",
            {"description": "two lines", "argument_hint": "A"},
        ),
        ("---\nDescription: D\n---\n", {"description": "D"}),
        ("---\nmeta:\n  description: not this\n---\nx", {}),
        ("---\ndescription:\n---\nx", {"description": ""}),
        # What YAML refuses, or reads as something else than a text, counts as written.
        ("---\nargument-hint: [FILE] [--all]\n---\nx", {"argument_hint": "[FILE] [--all]"}),
        ("---\nargument-hint: [FILE]\n---\nx", {"argument_hint": "[FILE]"}),
        ("---\ndescription: a: b\n---\nx", {"description": "a: b"}),
        ("---\ndescription: 5\n---\nx", {"description": "5"}),
        ("---\ndescription: 2024-13-45\n---\nx", {"description": "2024-13-45"}),
        ('---\ndescription: "never closed\n---\nx', {"description": '"never closed'}),
        ('---\ndescription: "two" texts\n---\nx', {"description": '"two" texts'}),
        (
            "---\ndescription: !!python/object/apply:os.system [id]\n---\nx",
            {"description": "!!python/object/apply:os.system [id]"},
        ),
    ],
)
def test_what_it_says(text: str, matter: dict[str, str]) -> None:
    assert front_matter.read(text) == matter


def flat(text: str) -> str:
    return " ".join(texts.clean(text).split())


WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufeff")
) | st.text("ab \n'\"\\:#-[]{}>|&*!%@`,?~=", max_size=40)


@given(WORDS, st.sampled_from([None, "'", '"', "|", ">"]), st.booleans(), st.sampled_from([20, 80, 10_000]))
def test_it_reads_what_yaml_writes(text: str, style: Any, is_readable: bool, width: int) -> None:
    key, value = (
        yaml.ScalarNode("tag:yaml.org,2002:str", given, style=how)
        for given, how in (("description", None), (text, style))
    )
    written = yaml.serialize(
        yaml.MappingNode("tag:yaml.org,2002:map", [(key, value)]),
        Dumper=yaml.SafeDumper,
        allow_unicode=is_readable,
        width=width,
    )
    found = front_matter.read(f"---\nother: 1\n{written}---\nprompt\n")
    assert flat(found["description"]) == flat(text)


@given(st.text() | st.text().map(lambda text: f"---\ndescription: {text}\n---\n"))
def test_it_never_fails(text: str) -> None:
    assert set(front_matter.read(text)) <= set(front_matter.NAMES)


@pytest.mark.parametrize(
    "block",
    [
        NESTED,
        MERGES,
        "a: " + "9" * 5000,
        "description: " + "[" * 200_000,
        "description: " + "# " * 100_000,
        "x:\n" * 100_000,
    ]
    + [
        f"description: {quote}{filling * 100_000}"
        for quote in ("'", '"', "")
        for filling in ("'", "\\", " ", "\n  ", ":", "#", "\t#")
    ],
)
def test_a_hostile_one_costs_no_more_than_its_length(block: str) -> None:
    """Counted in lines of Python, which no machine changes; what is left to patterns is bounded by the length."""
    steps = 0

    def count(frame: Any, event: str, argument: object) -> Any:
        nonlocal steps
        steps += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        front_matter.read(f"---\n{block}\n---\nx")
    finally:
        sys.settrace(before)
    assert steps < 20_000
