"""Write `docs/img/`: pictures of the dashboard's pages, from a real server with a fleet that has been in use.

    python -m docs.make_screenshots

Needs chromium, as the tests of the dashboard do, and takes the fleet from them.
"""

import tempfile
from pathlib import Path

from tests.support import browser, lived_in
from tests.support.fleet import running_fleet
from tests.support.upstream import Upstream, run_job

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "img"
PAGES = {
    "overview": "",
    "hosts": "hosts",
    "host": "hosts/1",
    "usage": "usage",
    "prompts": "prompts/review.md",
    "log": "log",
    "credentials": "auth",
    "certificates": "certificates",
    "system": "system",
}
DARK = ("overview",)
PHONE = ("hosts",)
MOST_BYTES = 150_000


def main() -> None:
    """Make all pictures again."""
    FOLDER.mkdir(exist_ok=True)
    services = Upstream()
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            running_fleet(Path(folder) / "home", env=services.environment()) as fleet,
        ):
            lived_in.fill(fleet)
            for job in ("versions", "chatgpt", "pricing", "runner"):
                run_job(fleet, job)
            with browser.started(fleet) as started:
                _take(started, fleet, list(PAGES), "light", browser.WIDE, "")
                _take(started, fleet, DARK, "dark", browser.WIDE, "-dark")
                _take(started, fleet, PHONE, "light", browser.PHONE, "-phone")
    finally:
        services.stop()


def _take(started, fleet, names, scheme, size, suffix) -> None:  # type: ignore[no-untyped-def]
    with browser.context(started, fleet, size=size, color_scheme=scheme) as opened:
        watcher = browser.Watcher(opened, fleet.url)
        for name in names:
            page = watcher.go(PAGES[name])
            path = FOLDER / f"dashboard-{name}{suffix}.png"
            page.screenshot(path=path)
            if path.stat().st_size > MOST_BYTES:
                raise SystemExit(f"{path} has {path.stat().st_size} bytes, more than {MOST_BYTES}")
        if watcher.problems:
            raise SystemExit("\n".join(watcher.problems))


if __name__ == "__main__":
    main()
