"""The versions of Codex: the table for hosts, what is installed for tests, and a release that breaks a fact."""

import re
from pathlib import Path

import pytest

from tests.support import facts, real_codex

ROOT = Path(__file__).parents[2]


def test_the_table_of_versions_says_what_is_run() -> None:
    table = re.findall(r"^\| (0\.[\d.]+) \|(.*)\|$", (ROOT / "docs" / "hosts.md").read_text(), re.MULTILINE)
    script = (ROOT / ".ci" / "run").read_text()
    pinned = [re.search(rf"^{name}=(\S+)$", script, re.MULTILINE) for name in ("CODEX_VERSION", "OLDER_CODEX_VERSION")]
    versions = [found[1] for found in pinned if found]
    assert [version for version, what in table if "at each change" in what] == versions
    assert ".".join(map(str, real_codex.OLDEST)) == versions[-1]


@pytest.mark.parametrize("name", real_codex.NAMES)
def test_what_is_installed_is_what_the_table_says(name: str) -> None:
    found = real_codex.find(name)
    if found is None:
        pytest.skip(real_codex.missing(name))
    if found.folder.startswith(str(real_codex.PLACES[name])):
        assert f"| {found.version} | each fact" in (ROOT / "docs" / "hosts.md").read_text()


def test_a_broken_fact_is_named_with_its_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_codex, "find", lambda _name: real_codex.RealCodex("/", "0.172.0"))

    def failed(place: str) -> pytest.TestReport:
        return pytest.TestReport(place, ("", 0, ""), {}, "failed", None, "call")

    reports = [
        failed("tests/codex_facts/test_sessions.py::test_version_is_printed_alone[newest]"),
        failed("tests/codex_facts/test_login_files.py::test_a_login_works[older-key]"),
        failed("tests/cdx/test_wrapper.py::test_own_options"),
    ]
    assert list(facts.broken(reports)) == [
        f"FACT BROKEN BY CODEX 0.172.0: version is printed alone ({reports[0].nodeid})",
        f"FACT BROKEN BY CODEX 0.172.0: a login works ({reports[1].nodeid})",
    ]
