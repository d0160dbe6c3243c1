"""The dashboard when answers come late, or not at all, and when its user goes on meanwhile; in a real Chromium."""

import json
from pathlib import Path

import pytest

from tests.support.fleet import Fleet, running_fleet
from tests.support.provider import running_provider

pytest.importorskip("playwright")

from playwright.sync_api import Browser, Page, Route, expect

from tests.support import browser, lived_in

pytestmark = pytest.mark.slow

HOST = lived_in.name("web1")


class Held:
    """Requests that the network keeps until they are released; `method` and the path's end say which."""

    def __init__(self, page: Page, method: str, path: str) -> None:
        self.routes: list[Route] = []
        self._page, self._method, self._pattern = page, method, f"**/admin/{path}"
        page.route(self._pattern, self._take)

    def _take(self, route: Route) -> None:
        if route.request.method == self._method and not self.routes:
            self.routes.append(route)
        else:
            route.fallback()

    def wait(self) -> Route:
        """The request, once the page has made it."""
        while not self.routes:
            self._page.wait_for_timeout(20)
        return self.routes[0]


def fail(route: Route) -> None:
    """Answer as a server does that fails."""
    body = {"status": "error", "code": "unexpected", "message": "The disk is on fire", "request_id": "0123456789abcdef"}
    route.fulfill(status=500, content_type="application/json", body=json.dumps(body))


def alert(page: Page, text: str) -> None:
    """Wait until it is said as something that went wrong."""
    expect(page.locator("#notices-alert").get_by_text(text).first).to_be_visible()


def host_page(used: Fleet, tab: browser.Watcher) -> Page:
    return tab.go(f"hosts/{host_id(used)}")


def host_id(used: Fleet) -> int:
    return int(used.rows("SELECT id FROM hosts WHERE fqdn = ?", HOST)[0][0])


def key_of(used: Fleet) -> str:
    return str(used.rows("SELECT api_key_sha256 FROM hosts WHERE fqdn = ?", HOST)[0][0])


def test_what_was_read_first_is_not_shown_over_what_was_read_later(used: Fleet, tab: browser.Watcher) -> None:
    page = host_page(used, tab)
    held = Held(page, "GET", f"hosts/{host_id(used)}/auth")
    page.locator("#permit-roaming").check()
    first = held.wait()
    page.locator("#permit-auth").uncheck()
    expect(page.locator("#notices-polite")).to_contain_text("may not store credentials")
    expect(page.locator("#permit-auth")).not_to_be_checked()
    with page.expect_response(lambda response: response.url.endswith("/auth")):
        first.continue_()
    page.evaluate("new Promise(done => setTimeout(done))")
    expect(page.locator("#permit-auth")).not_to_be_checked()
    assert page.locator("#permit-roaming").is_checked()


def test_what_is_written_while_a_prompt_is_stored_counts_as_not_saved(used: Fleet, tab: browser.Watcher) -> None:
    page = tab.go("prompts/plan.md")
    held = Held(page, "POST", "slash-commands/store")
    page.locator("#prompt-text").fill("The first half.\n")
    page.locator("#prompt-save").click()
    store = held.wait()
    page.locator("#prompt-text").fill("The first half.\nThe second.\n")
    store.continue_()
    expect(page.locator("#notices-polite")).to_contain_text("plan.md was updated")
    expect(page.locator("main form")).to_contain_text("not saved")
    page.locator("#prompt-save").click()
    expect(page.locator("#notices-polite").get_by_text("plan.md was updated")).to_have_count(2)
    assert used.cli("prompts", "show", "plan.md").stdout == "The first half.\nThe second.\n"


def test_what_was_written_is_replaced_only_after_a_question(tab: browser.Watcher) -> None:
    page = tab.go("prompts/review.md")
    editor = page.locator("#prompt-text")
    editor.fill("An hour's work.\n")
    page.get_by_role("button", name="View").last.click()
    page.get_by_role("button", name="Put it into the editor").click()
    expect(page.get_by_role("dialog")).to_contain_text("unsaved text will be lost")
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert editor.input_value() == "An hour's work.\n"
    page.locator("#prompt-file").set_input_files({"name": "a.md", "mimeType": "text/plain", "buffer": b"Of a file.\n"})
    page.get_by_role("dialog").get_by_role("button", name="Replace").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert editor.input_value() == "Of a file.\n"


def test_what_fails_after_its_dialog_was_closed_is_said(used: Fleet, tab: browser.Watcher) -> None:
    page = host_page(used, tab)
    held = Held(page, "POST", "hosts/*/disable")
    page.locator("#do-active").click()
    page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    disable = held.wait()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    fail(disable)
    alert(page, "The disk is on fire")
    alert(page, "0123456789abcdef")


def test_what_was_done_is_not_asked_for_again_when_the_page_cannot_be_read(used: Fleet, tab: browser.Watcher) -> None:
    page = host_page(used, tab)
    page.locator("#do-clear").click()
    page.route("**/admin/hosts/*/auth", fail)
    page.get_by_role("dialog").get_by_role("button", name="Clear", exact=True).click()
    alert(page, "The disk is on fire")
    expect(page.locator("#notices-polite")).to_contain_text("Cleared the record")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_leaving_a_page_is_no_failure_of_what_was_done_on_it(tab: browser.Watcher) -> None:
    page = tab.go("system")
    held = Held(page, "GET", "api/state")
    page.locator("#run-retention").click()
    held.wait()
    tab.go("prompts")
    expect(page.locator("#notices-polite")).to_contain_text("The job retention has run")
    assert page.locator("#notices-alert").inner_text() == ""


def test_older_rows_of_a_filter_that_was_changed_are_not_shown(used: Fleet, tab: browser.Watcher) -> None:
    used.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 150)"
        " INSERT INTO logs (actor, action, created_at) SELECT 'anyone', 'auth.seen', '2020-01-01T00:00:00Z' FROM n"
    )
    page = tab.go("log")
    held = Held(page, "GET", "logs?limit=100&before=*")
    page.get_by_role("button", name="Older rows").click()
    older = held.wait()
    page.locator("#log-action").select_option("slash.")
    rows = page.locator("#log-rows tr")
    expect(rows.first).to_contain_text("slash.")
    with page.expect_response(lambda response: "before=" in response.url):
        older.continue_()
    page.evaluate("new Promise(done => setTimeout(done))")
    assert all("slash." in text for text in rows.all_inner_texts())


@pytest.mark.parametrize(("address", "shown"), [("", "#host-states"), ("system", "#run-retention")])
def test_what_cannot_be_examined_does_not_take_the_page_away(tab: browser.Watcher, address: str, shown: str) -> None:
    tab.page.route("**/admin/doctor", fail)
    tab.page.goto(f"{tab.url}/admin/#/{address}")
    expect(tab.page.locator("main").get_by_text("The disk is on fire")).to_be_visible()
    expect(tab.page.locator(shown)).to_be_visible()


def test_the_list_of_hosts_says_when_it_is_not_up_to_date(tab: browser.Watcher) -> None:
    tab.page.clock.install()
    page = tab.go("hosts")
    expect(page.locator(".page-head")).to_contain_text("as of")
    page.route("**/admin/hosts", fail)
    page.clock.fast_forward(20_000)
    expect(page.locator(".page-head")).to_contain_text("not up to date: The disk is on fire")
    page.unroute("**/admin/hosts")
    page.clock.fast_forward(20_000)
    expect(page.locator(".page-head")).to_contain_text("as of")


def test_a_name_that_is_registered_does_not_lose_its_key_by_a_slip(used: Fleet, tab: browser.Watcher) -> None:
    before = key_of(used)
    page = tab.go("hosts")
    page.locator("#register").click()
    page.locator("#fqdn").fill(HOST.upper())
    page.get_by_role("dialog").get_by_role("button", name="Register").click()
    expect(page.get_by_role("dialog")).to_contain_text("is registered already")
    assert key_of(used) == before
    page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
    expect(page.locator("#installer-command")).to_contain_text("/install/")
    expect(page.locator("#notices-polite")).to_contain_text(f"The key of {HOST} was rotated")
    assert key_of(used) != before


def test_an_installer_that_nobody_saw_is_said_to_be_lost(used: Fleet, tab: browser.Watcher) -> None:
    page = tab.go("hosts")
    held = Held(page, "POST", "hosts/register")
    page.locator("#register").click()
    page.locator("#fqdn").fill("closed.example.net")
    page.keyboard.press("Enter")
    registering = held.wait()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    registering.continue_()
    expect(page.locator("#notices-polite")).to_contain_text("closed.example.net was registered. Its installer was not")
    assert used.rows("SELECT 1 FROM hosts WHERE fqdn = 'closed.example.net'")


def test_a_file_that_is_no_text_is_not_taken(tab: browser.Watcher, tmp_path: Path) -> None:
    file = tmp_path / "latin1.json"
    file.write_bytes('{"tokens": "fähig"}'.encode("latin-1"))
    page = tab.go("prompts/plan.md")
    before = page.locator("#prompt-text").input_value()
    page.locator("#prompt-file").set_input_files(file)
    expect(page.locator("main form")).to_contain_text("prompt must be text in UTF-8")
    assert page.locator("#prompt-text").input_value() == before
    page = tab.go("auth")
    page.locator("#auth-upload").click()
    page.locator("#auth-file").set_input_files(file)
    page.get_by_role("dialog").get_by_role("button", name="Upload").click()
    expect(page.get_by_role("dialog")).to_contain_text("auth must be text in UTF-8")


def test_any_admin_key_can_be_typed(chromium: Browser, tmp_path: Path) -> None:
    env = {"DASHBOARD_ADMIN_KEY": "schlüssel – 鍵"}
    with (
        running_fleet(tmp_path / "home", env=env) as fleet,
        browser.context(chromium, fleet, ignore_https_errors=True) as opened,  # it believes another fleet's CA
    ):
        page = opened.new_page()
        page.goto(f"{fleet.url}/admin/")
        page.locator("#admin-key").fill("falsch – 鍵")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_contain_text("missing or wrong")
        page.locator("#admin-key").fill("schlüssel – 鍵")
        page.keyboard.press("Enter")
        expect(page.locator("#host-states")).to_be_visible()


def test_a_filter_whose_rows_could_not_be_read_is_tried_again(tab: browser.Watcher) -> None:
    page = tab.go("log")
    page.route("**/admin/logs?*action=slash.*", fail)
    page.locator("#log-action").select_option("slash.")
    alert(page, "The disk is on fire")
    page.unroute("**/admin/logs?*action=slash.*")
    rows = page.locator("#log-rows tr")
    expect(rows.first).to_contain_text("slash.")
    assert all("slash." in text for text in rows.all_inner_texts())


def test_a_login_is_revoked_and_seen_to_be_dead_until_there_is_another(chromium: Browser, tmp_path: Path) -> None:
    with (
        running_provider() as provider,
        running_fleet(tmp_path / "home", env=provider.environment()) as fleet,
        browser.context(chromium, fleet, ignore_https_errors=True) as opened,  # it believes another fleet's CA
    ):
        login = provider.login()
        fleet.upload(login)
        page = opened.new_page()
        page.goto(f"{fleet.url}/admin/#/auth")
        page.locator("#auth-revoke").click()
        page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        expect(page.locator("body")).to_contain_text("The login is revoked. Log in again on one host: cdx login")
        assert not provider.is_alive(login["tokens"]["refresh_token"])
        page.goto(f"{fleet.url}/admin/#/")
        expect(page.locator("main")).to_contain_text("An admin has revoked the fleet's login")
        with fleet.client(fleet.key("old.example.net")) as host:
            host.auth(last_refresh="2025-01-01T00:00:00Z", digest="0" * 64)
        page.goto(f"{fleet.url}/admin/#/hosts/1")
        expect(page.locator("main")).to_contain_text("the real login, with its refresh token")
        fleet.upload(provider.login())
        page.goto(f"{fleet.url}/admin/#/")
        expect(page.locator("main")).to_contain_text("1 host holds the real refresh token")
        expect(page.locator("main")).not_to_contain_text("revoked the fleet's login")
