"""What tests of the dashboard are given: a fleet that has been in use, and a browser that looks at it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support import lived_in
from tests.support.fleet import Fleet, running_fleet

if TYPE_CHECKING:  # not every test here needs a browser, or Playwright
    from playwright.sync_api import Browser, BrowserContext

    from tests.support.browser import Watcher


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A server of a fleet that has been in use; skips the test where there is no browser."""
    from tests.support import browser

    browser.chromium()
    with running_fleet(tmp_path_factory.mktemp("dashboard") / "home") as fleet:
        lived_in.fill(fleet)
        yield fleet


@pytest.fixture(scope="module")
def chromium(used: Fleet) -> "Iterator[Browser]":
    """A browser with the certificate of the fleet's admin."""
    from tests.support import browser

    with browser.started(used) as started:
        yield started


@pytest.fixture(scope="module")
def profile(used: Fleet, chromium: "Browser") -> "Iterator[BrowserContext]":
    """What the tabs of a module share: its connections, and the files that it has read."""
    from tests.support import browser

    with browser.context(chromium, used) as opened:
        yield opened


@pytest.fixture
def tab(used: Fleet, profile: "BrowserContext") -> "Iterator[Watcher]":
    """A tab of its own, that finds nothing stored."""
    from tests.support import browser

    watcher = browser.Watcher(profile, used.url)
    yield watcher
    watcher.page.close()
    profile.clear_cookies()
