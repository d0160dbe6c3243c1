"""Fixtures of the tests of the API."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engines import Engine
from tests.support.fleet import Fleet, running_fleet
from tests.support.provider import Provider


@pytest.fixture
def served(tmp_path: Path, provider: Provider, engine: Engine) -> Iterator[Fleet]:
    """A server that refreshes at the provider; no document yet."""
    with running_fleet(tmp_path / "home", env=engine.environment() | provider.environment()) as started:
        yield started
