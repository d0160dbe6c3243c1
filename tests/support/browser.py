"""A real Chromium with an admin's certificate, driven by Playwright, and what it complains of."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright

from tests.support.fleet import Fleet

AXE = Path(sys.prefix) / "codex" / "node_modules" / "axe-core" / "axe.min.js"
"""Where `.ci/run` installs it."""
WIDE = (1280, 800)
PHONE = (360, 740)

expect.set_options(timeout=30_000)  # a busy machine is no mistake of a page


def chromium() -> str:
    """The path of the program; skips the test where there is none."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no chromium is installed")
    return found


def axe_source() -> str:
    """The accessibility checker; skips the test where it is not installed."""
    if not AXE.exists():
        pytest.skip(f"axe-core is not installed: npm install --prefix {AXE.parents[2]} axe-core")
    return AXE.read_text()


@contextlib.contextmanager
def started(fleet: Fleet) -> Iterator[Browser]:
    """A browser that believes the fleet's CA: Playwright makes the TLS connections, with the client certificate."""
    before = os.environ.get("NODE_EXTRA_CA_CERTS")
    program = chromium()
    os.environ["NODE_EXTRA_CA_CERTS"] = str(fleet.ca_file)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            yield browser
            browser.close()
    finally:
        if before is None:
            del os.environ["NODE_EXTRA_CA_CERTS"]
        else:
            os.environ["NODE_EXTRA_CA_CERTS"] = before


@contextlib.contextmanager
def context(
    browser: Browser, fleet: Fleet, *, certificate: bool = True, size: tuple[int, int] = WIDE, **options: Any
) -> Iterator[BrowserContext]:
    """A profile of its own."""
    if certificate:
        pki = fleet.home / "pki"
        shown = {"origin": fleet.url, "certPath": str(pki / "admin.pem"), "keyPath": str(pki / "admin.key")}
        options["client_certificates"] = [shown]
    else:
        options["ignore_https_errors"] = True  # the browser itself connects, and does not know the CA
    viewport: ViewportSize = {"width": size[0], "height": size[1]}
    opened = browser.new_context(viewport=viewport, reduced_motion="reduce", **options)
    opened.set_default_timeout(30_000)
    try:
        yield opened
    finally:
        opened.close()


class Watcher:
    """A tab, and all that went wrong in it: console errors, which tell of CSP too, exceptions, failed requests."""

    def __init__(self, opened: BrowserContext, url: str) -> None:
        self.page: Page = opened.new_page()
        self.url = url
        self.problems: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        self.page.on("response", self._response)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text} ({message.location.get('url')})")

    def _response(self, response: Any) -> None:
        if response.status >= 400:
            self.problems.append(f"{response.status}: {response.url}")

    def go(self, address: str) -> Page:
        """Open a page of the dashboard, such as `hosts/1`, and wait until it stands."""
        if self.page.url.startswith(f"{self.url}/admin/"):
            # The heading of the page before must not count as that of the next.
            self.page.evaluate(
                """hash => {
                    document.querySelector("main h1")?.setAttribute("data-old", "");
                    if (location.hash === hash) location.reload(); else location.hash = hash;
                }""",
                f"#/{address}",
            )
        else:
            self.page.goto(f"{self.url}/admin/#/{address}")
        self.settle()
        return self.page

    def settle(self) -> None:
        """Wait until nothing is being loaded."""
        expect(self.page.locator("main h1:not([data-old])")).to_be_visible()
        expect(self.page.locator("main .loading")).to_have_count(0)
        assert self.page.locator("main .panel-error").all_inner_texts() == [], self.page.url
