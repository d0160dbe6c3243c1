"""The rules are in the repository: citations lead to sections that exist, and what the protocol quotes is so."""

import ast
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cdxsync.auth import documents
from cdxsync.base import errors, jsontext

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "setup.cfg").exists())
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
HEADING = re.compile(r"^(##|###) (\d+(?:\.\d+)?)\.? (.+)$", re.MULTILINE)
NUMBER = r"\d+(?:\.\d+)?"
CITED = re.compile(rf"docs/(protocol|decisions)\.md ({NUMBER}(?:(?:, | and | to ){NUMBER})*)")
NEAR_MISS = re.compile(r"docs/(?:protocol|decisions)\.md[`'\"]*(?:[,:#§]+ ?| {2,}|(?<!md) )(?:section |decision )?\d")
FORMER = re.compile(r"\b(?:contract(?:-head)?|design|interface-api|codex-facts)\.md")
NO_SOURCE = re.compile(r"^(?:\.(?!ci$|github$)|build$|dist$|node_modules$|__pycache__$)|\.egg-info$")


def texts(folder: Path = ROOT) -> Iterator[tuple[str, str]]:
    """Path below the root and content of each text file of the repository."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if not NO_SOURCE.search(path.name):
                yield from texts(path)
            continue
        try:
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue


def sections(name: str) -> list[str]:
    """The numbers of a document's sections, in their order."""
    return [match[2] for match in HEADING.finditer((ROOT / "docs" / f"{name}.md").read_text())]


@pytest.mark.parametrize("name", ["protocol", "decisions"])
def test_sections_are_numbered_in_order(name: str) -> None:
    found = sections(name)
    assert found
    assert found == sorted(set(found), key=lambda number: [int(part) for part in number.split(".")])


def test_citations_lead_to_sections() -> None:
    known = {name: set(sections(name)) for name in ("protocol", "decisions")}
    cited, wrong = 0, []
    for path, text in texts():
        for match in CITED.finditer(text):
            for number in re.findall(NUMBER, match[2]):
                cited += 1
                if number not in known[match[1]]:
                    wrong.append(f"{path}: docs/{match[1]}.md has no section {number}")
    assert wrong == []
    assert cited > 60


def test_citations_have_one_form() -> None:
    """`docs/protocol.md 4.2`, so that this test sees it; links of documents have their own test."""
    wrong = [
        f"{path}: {match[0]}"
        for path, text in texts()
        for match in NEAR_MISS.finditer(text)
        if not (path.endswith(".md") and match[0].partition("#")[1])
    ]
    assert wrong == []


def test_nothing_cites_what_is_not_here() -> None:
    assert [f"{path}: {match[0]}" for path, text in texts() for match in FORMER.finditer(text)] == []


def test_the_protocol_refers_to_its_own_sections() -> None:
    known = set(sections("protocol"))
    referred = re.findall(r"\((\d{1,2}(?:\.\d{1,2})?(?:, \d{1,2}(?:\.\d{1,2})?)*)[),;]", PROTOCOL)
    assert {number for found in referred for number in found.split(", ")} <= known


def vectors() -> list[str]:
    """The parts of the section with worked digests that have an input and its hashed bytes."""
    section = PROTOCOL.partition("\n### 3.5 ")[2].partition("\n### ")[0]
    return [part for part in re.split(r"^(?=\*\*)", section, flags=re.MULTILINE) if "```json" in part]


@pytest.mark.parametrize("part", vectors(), ids=lambda part: part.partition(".")[0].strip("*"))
def test_the_vectors_are_right(part: str) -> None:
    given, hashed = re.findall(r"```json\n(.+)\n```", part)
    document = documents.canonicalise(json.loads(given), at=datetime(2026, 1, 31, tzinfo=UTC), token_min_length=24)
    digests = re.findall(r"`([0-9a-f]{64})`", part)
    assert jsontext.reference(document.content).decode() == hashed
    assert digests[0] == document.digest
    assert set(digests) == document.digests


def literals() -> set[str]:
    """All texts in the package's sources, with an ellipsis for each value that is put into one."""
    found = set()
    for path in (ROOT / "cdxsync").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.add("".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values))
    return found


def test_quoted_messages_are_the_code_s() -> None:
    section = PROTOCOL.partition("\n## 18. ")[2]
    quoted = {
        text
        for row in re.findall(r"^\| .+ \|$", section, re.MULTILINE)
        for text in re.findall(r"`([^`]+)`", row.rpartition(" | ")[2])
        if " " in text
    }
    assert len(quoted) > 60
    assert sorted(quoted - literals()) == []


def test_quoted_codes_are_declared_with_their_status() -> None:
    declared = {(row.http_status, row.code) for row in errors.declared()}
    section = PROTOCOL.partition("\n### 18.1 ")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| (\d{3}) \| (`.+?`) \| ", section, re.MULTILINE)
    quoted = {(int(status), code) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)}
    assert len(quoted) > 30
    assert quoted - declared == set()
