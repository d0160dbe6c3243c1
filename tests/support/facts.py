"""The facts of Codex that cdx and the server rely on: each is a test in `tests/codex_facts`, named for the fact."""

import re
from collections.abc import Iterable, Iterator

import pytest

from tests.support import real_codex

FOLDER = "tests/codex_facts/"


def broken(reports: Iterable[pytest.TestReport]) -> Iterator[str]:
    """A line for each fact among tests that have failed: which it is, and which release of Codex has broken it."""
    for report in reports:
        found = re.fullmatch(r".*::test_(\w+)(?:\[(\w+).*\])?", report.nodeid)
        if not report.nodeid.startswith(FOLDER) or found is None:
            continue
        codex = real_codex.find(found[2]) if found[2] in real_codex.NAMES else None
        release = codex.version if codex is not None else "of this machine"
        yield f"FACT BROKEN BY CODEX {release}: {found[1].replace('_', ' ')} ({report.nodeid})"
