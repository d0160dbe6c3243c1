"""Fixtures of the facts: a home of Codex whose requests go to a provider on this machine."""

from pathlib import Path

import pytest

from tests.support.codex_home import CodexHome
from tests.support.provider import Provider
from tests.support.real_codex import RealCodex


@pytest.fixture
def home(codex: RealCodex, provider: Provider, tmp_path: Path) -> CodexHome:
    """A home without a login."""
    return CodexHome(codex, tmp_path, provider)
