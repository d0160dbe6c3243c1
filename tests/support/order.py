"""The order of test files: those that take longest begin first."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
LONGEST = (
    "engines/test_several_servers.py",
    "dashboard/test_dashboard.py",
    "release/test_packaging.py",
    "engines/test_rolling_upgrade.py",
    "dashboard/test_dashboard_troubles.py",
    "engines/test_engines_agree.py",
    "release/test_ansible.py",
    "cdx/test_real_codex.py",
    "codex_facts/test_daemon.py",
    "cdx/test_real_codex_full_screen.py",
    "cdx/test_cdx_update.py",
    "cdx/test_cdx_prompts.py",
)
"""Of several processes, each with whole files, one would else be left with one of these when the others have ended."""


def longest_first(items: list[pytest.Item]) -> None:
    """Sort what was collected; every process gets the same order."""
    places = {TESTS / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
