"""Fixtures of the tests of cdx."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documents import make_auth
from tests.support.fleet import Fleet, running_fleet
from tests.support.provider import Provider


@pytest.fixture
def served(tmp_path: Path, provider: Provider) -> Iterator[Fleet]:
    """A server that refreshes at the provider; no document yet."""
    with running_fleet(tmp_path / "home", env=provider.environment()) as started:
        yield started


@pytest.fixture(scope="module")
def synced(fleet: Fleet) -> Fleet:
    """The server of a module, with a document."""
    fleet.upload(make_auth())
    return fleet
