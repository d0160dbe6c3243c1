"""The dashboard in a real Chromium, with a client certificate over TLS, on a server of a fleet that has been in use."""

import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import make_auth, with_auths
from tests.support.fleet import Fleet
from tests.support.machines import Machine, host, machine_key
from tests.support.quiet_http import QuietHandler
from tests.support.sessions import SESSIONS, count, meta, model, usage

pytest.importorskip("playwright")

from playwright.sync_api import Browser, Page, expect

from tests.support import browser, lived_in

pytestmark = pytest.mark.slow

ADDRESSES = [
    "",
    "hosts",
    "hosts/1",
    "usage",
    "prompts",
    "prompts/review.md",
    "log",
    "auth",
    "certificates",
    "system",
]


@pytest.fixture
def tab(tab: browser.Watcher) -> Iterator[browser.Watcher]:
    """A tab in which nothing may go wrong."""
    yield tab
    assert tab.problems == []


def told(page: Page, text: str) -> None:
    """Wait until a live region says it."""
    expect(page.locator("#notices").get_by_text(text).first).to_be_visible()


def test_every_page_has_a_title_and_nothing_goes_wrong(tab: browser.Watcher) -> None:
    titles = []
    for address in ADDRESSES:
        page = tab.go(address)
        titles.append(page.title())
        assert page.locator("h1").inner_text() == page.title().removesuffix(" · cdxsync")
        assert page.locator("main").inner_text().strip() != page.locator("h1").inner_text()
    assert len(set(titles)) == len(ADDRESSES)
    assert all(title.endswith("· cdxsync") for title in titles)


def test_the_overview_is_that_of_the_api(used: Fleet, tab: browser.Watcher) -> None:
    page = tab.go("")
    data = used.admin_call("GET", "/admin/overview")
    shown = {
        row.locator(".name").inner_text(): row.locator(".value").inner_text()
        for row in page.locator("#host-states li").all()
    }
    totals = data["totals"]
    names = {"In sync": "in_sync", "Behind": "behind", "Blocked": "blocked", "Never seen": "never_seen"}
    assert shown == {title: str(totals[name]) for title, name in (names | {"Disabled": "disabled"}).items()}
    assert all(int(value) > 0 for value in shown.values())
    text = page.locator("main").inner_text()
    assert f"{data['tokens_month']['total']:,}" in text
    assert f"{data['pricing_month_cost']:.2f}" in text
    moments = page.locator("time[datetime]")
    assert moments.count() > 3
    assert all(re.search(r"UTC|Z$", moment.get_attribute("title") or "") for moment in moments.all())


def test_from_registering_to_deleting(used: Fleet, tab: browser.Watcher, tmp_path: Path) -> None:
    """Register a host, install it with the shown command, see it in sync, its usage, and delete it."""
    page = tab.go("hosts")
    page.locator("#register").click()
    page.locator("#fqdn").fill("new.example.net")
    page.get_by_role("dialog").get_by_role("button", name="Register").click()
    command = page.locator("#installer-command").inner_text()
    assert "/install/" in command
    machine = Machine(tmp_path / "machine")
    done = machine.shell(command)
    assert done.returncode == 0, done.stderr
    expect(page.locator("#installer-state")).to_contain_text("holds credentials")
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    assert machine.shell(command).returncode != 0  # it works once
    token = re.search(r"/install/([^\s\"']+)", command)
    assert token is not None
    assert token[1] not in page.content()
    assert page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})") == "{}"

    assert machine.run_cdx("exec", "hello").returncode == 0
    page.locator("#host-search").fill("new.example")
    row = page.get_by_role("row", name=re.compile("new.example.net"))
    page.get_by_role("button", name="Reload").click()
    expect(row).to_contain_text("In sync")
    row.get_by_role("link", name="new.example.net").click()
    expect(page.locator("h1")).to_have_text("new.example.net")
    tab.settle()
    expect(page.locator("main")).to_contain_text("No usage reported this month.")

    with used.client(machine_key(machine)) as host:
        report = {"total": 1234567, "input": 1234567, "model": "gpt-5.1"}
        assert host.call("POST", "/usage", json={"usages": [report]}).status_code == 200
    number = next(host["id"] for host in used.admin_call("GET", "/admin/hosts")["hosts"] if "new." in host["fqdn"])
    tab.go(f"hosts/{number}")
    expect(page.locator("main")).to_contain_text("1,234,567 tokens")
    expect(page.locator("main .chart canvas")).to_have_count(1)
    page.locator("main .chart summary").click()
    expect(page.locator("main .chart table")).to_contain_text("1,234,567")

    page.locator("#do-active").click()
    page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    told(page, "new.example.net was disabled")
    assert used.host("new.example.net")["status"] == "disabled"
    page.locator("#do-delete").click()
    dialog = page.get_by_role("dialog")
    dialog.locator("#confirmation").fill("new.example")
    dialog.get_by_role("button", name="Delete").click()
    expect(dialog).to_contain_text("must be new.example.net")
    assert used.host("new.example.net")["status"] == "disabled"
    dialog.locator("#confirmation").fill("new.example.net")
    dialog.get_by_role("button", name="Delete").click()
    told(page, "new.example.net was deleted")
    assert used.cli("hosts", "show", "new.example.net", check=False).returncode == 3


def test_what_a_run_has_used_is_shown_as_codex_counted_it(used: Fleet, tab: browser.Watcher, tmp_path: Path) -> None:
    machine = host(used, tmp_path, codex=SESSIONS)
    counted = {"input_tokens": 64_320, "cached_input_tokens": 58_120, "output_tokens": 560}
    steps = [["open", "a-1"], meta("a-1"), model("gpt-5.1"), count(usage(0) | counted | {"total_tokens": 64_880})]
    assert machine.run_cdx("exec", json.dumps(steps)).returncode == 0
    number = used.host(machine.env["NAME"])["id"]
    page = tab.go(f"hosts/{number}")
    expect(page.locator("main")).to_contain_text("64,880 tokens")
    page.locator("main .chart summary").click()
    # No more than that, and each token in one part.
    assert chart(page) == {"Output": 560, "Input": 6_200, "Cached input": 58_120, "Total": 64_880}
    page = tab.go("usage")
    totals = used.admin_call("GET", "/admin/usage/summary")["totals"]
    tiles = {
        tile.locator(".name").inner_text(): tile.locator(".value").inner_text() for tile in page.locator(".tile").all()
    }
    shown = {"tokens": "total", "input": "input", "cached input": "cached", "output": "output"}
    assert {name: tiles[name] for name in shown} == {name: f"{totals[key]:,}" for name, key in shown.items()}
    assert totals["total"] >= totals["input"] + totals["cached"] + totals["output"]
    used.cli("hosts", "delete", machine.env["NAME"], "--yes")


def chart(page: Page) -> dict[str, int]:
    """The sums of a chart's series, from the table below it."""
    table = page.locator("main .chart table")
    names = table.locator("thead th").all_inner_texts()[1:]
    rows = [row.locator("td").all_inner_texts() for row in table.locator("tbody tr").all()]
    columns = zip(*(row[-len(names) :] for row in rows), strict=True)
    return {name: sum(int(text.replace(",", "")) for text in texts) for name, texts in zip(names, columns, strict=True)}


def test_credentials_are_uploaded_and_rolled_back(used: Fleet, tab: browser.Watcher, tmp_path: Path) -> None:
    before = used.canonical()
    newest = used.admin_call("GET", "/admin/auth")
    document = make_auth("2099-01-01T00:00:00Z", "wrong")
    file = tmp_path / "auth.json"
    file.write_text(json.dumps(document))
    page = tab.go("auth")
    page.locator("#auth-upload").click()
    page.locator("#auth-file").set_input_files(file)
    page.get_by_role("dialog").get_by_role("button", name="Upload").click()
    expect(page.get_by_role("dialog")).to_contain_text("in the future")
    assert [problem for problem in tab.problems if "422" in problem]
    tab.problems.clear()
    document = make_auth(newest["canonical_last_refresh"][:10] + "T23:59:59Z", "wrong")
    file.write_text(json.dumps(document))
    page.locator("#auth-file").set_input_files(file)
    page.locator("#auth-force").check()
    page.get_by_role("dialog").get_by_role("button", name="Upload").click()
    told(page, "auth.json is canonical now")
    assert used.canonical() == with_auths(document)
    assert document["tokens"]["access_token"] not in page.content()
    older = used.admin_call("GET", "/admin/auth/history")["history"][1]["id"]
    page.locator(f"#rollback-{older}").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    told(page, "Rolled back")
    canonical = used.canonical()
    assert canonical is not None
    assert before is not None
    assert canonical["tokens"] == before["tokens"]


def test_a_login_of_another_account_is_taken_or_not(used: Fleet, tab: browser.Watcher) -> None:
    fqdn = "private.example.net"
    private = make_auth("2026-01-01T00:00:00Z", "private", account="acc-2", user="me")
    before = used.canonical()
    with used.client(used.key(fqdn)) as host:
        host.auth(command="store", auth=private)
        page = tab.go(f"hosts/{used.host(fqdn)['id']}")
        expect(page.locator("main")).to_contain_text("ChatGPT me@example.net")
        page.locator("#login-never").click()
        told(page, "are never taken")
        expect(page.locator("#login-rule")).to_contain_text("nothing warns of it")
        page.locator("#login-once").click()
        page.get_by_role("dialog").get_by_role("button", name="Take it").click()
        told(page, "is taken when it calls")
        expect(page.locator("#login-once")).to_have_count(0)
        page.locator("#permit-keep").click()
        told(page, "may not keep its credentials after a run")
        page = tab.go("auth")
        expect(page.locator("main")).to_contain_text(f"{fqdn} has ChatGPT me@example.net")
        assert host.auth(command="store", auth=private).json()["data"]["status"] == "updated"
    tab.go("auth")
    expect(page.locator("main")).to_contain_text("ChatGPT me@example.net")
    used.admin_call("POST", "/admin/auth/upload", json={"auth": before, "force": True})
    used.admin_call("DELETE", f"/admin/hosts/{used.host(fqdn)['id']}")


def test_a_background_sync_is_shown(used: Fleet, tab: browser.Watcher) -> None:
    fqdn = "watched.example.net"
    key, number = used.key(fqdn), used.host(fqdn)["id"]
    page = tab.go(f"hosts/{number}")
    expect(page.locator("main")).to_contain_text("none; on the host: cdx --watch install")
    with used.client(key) as host:
        host.auth(last_refresh="2026-01-01T00:00:00Z", digest="0" * 64, background="cron")
    page.reload()
    expect(page.locator("main")).to_contain_text("by cron, last ")
    page = tab.go("hosts")
    page.locator("#host-trait").select_option("background")
    assert page.locator("main tbody th a").all_inner_texts() == [fqdn]
    used.admin_call("DELETE", f"/admin/hosts/{number}")


def test_a_prompt_is_edited_and_its_earlier_text_taken_back(used: Fleet, tab: browser.Watcher) -> None:
    page = tab.go("prompts/plan.md")
    editor = page.locator("#prompt-text")
    assert editor.input_value() == lived_in.PROMPTS["plan.md"]
    editor.fill("Another text\n")
    page.locator("#prompt-save").click()
    told(page, "plan.md was updated")
    page.get_by_role("button", name="View").last.click()
    expect(page.get_by_role("dialog")).to_contain_text("First try.")
    page.get_by_role("dialog").get_by_role("button", name="Put it into the editor").click()
    page.locator("#prompt-save").click()
    expect(page.locator("#notices").get_by_text("plan.md was updated")).to_have_count(2)
    assert used.cli("prompts", "show", "plan.md").stdout == "First try.\n"


def test_hosts_are_filtered_and_sorted(tab: browser.Watcher) -> None:
    page = tab.go("hosts")
    names = page.locator("main tbody th a")
    everything = sorted(map(lived_in.name, lived_in.HOSTS))
    assert names.all_inner_texts() == everything
    page.locator("#sort-host").click()
    expect(page.get_by_role("columnheader", name="Host")).to_have_attribute("aria-sort", "descending")
    assert names.all_inner_texts() == everything[::-1]
    page.locator("#host-state").select_option("disabled")
    assert names.all_inner_texts() == [lived_in.name("laptop-bo")]
    page.locator("#host-search").fill("web")
    expect(page.locator("main")).to_contain_text("No host matches.")
    page.locator("#host-state").select_option("")
    assert names.all_inner_texts() == [lived_in.name("web2"), lived_in.name("web1")]
    page.reload()
    tab.settle()
    assert names.all_inner_texts() == [lived_in.name("web2"), lived_in.name("web1")]


def test_the_log_is_live_and_filtered(used: Fleet, tab: browser.Watcher) -> None:
    page = tab.go("log")
    rows = page.locator("#log-rows tr")
    used.admin_call("POST", "/admin/hosts/1/roaming", json={"allow": True})
    expect(rows.first).to_contain_text("admin.host.roaming")
    page.locator("#log-action").select_option("slash.")
    expect(rows.first).to_contain_text("slash.")
    assert all("slash." in text for text in rows.all_inner_texts())


def test_the_keyboard_is_enough(used: Fleet, tab: browser.Watcher) -> None:
    page = tab.go("")
    page.reload()
    tab.settle()
    focused: Callable[[], Any] = lambda: page.evaluate("document.activeElement.id || document.activeElement.tagName")  # noqa: E731
    page.keyboard.press("Tab")
    assert focused() == "skip"
    page.keyboard.press("Enter")
    assert focused() == "main"
    tab.go("hosts")

    def tab_to(wanted: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if focused() == wanted:
                return
        raise AssertionError(f"Tab does not lead to {wanted}")

    tab_to("register")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Enter")
    assert focused() == "fqdn"
    page.keyboard.type("not a name")
    page.keyboard.press("Enter")
    expect(page.locator("#fqdn")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("dialog")).to_contain_text("must be a host name")
    expect(page.get_by_role("dialog")).to_contain_text("Request")
    assert [problem for problem in tab.problems if "422" in problem]
    tab.problems.clear()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert focused() == "register"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_anyones_way(used: Fleet, chromium: Browser, scheme: str) -> None:
    source = browser.axe_source()
    found = {}

    def examine(page: Page) -> list[tuple[str, str]]:
        page.evaluate(source)
        result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert result["passes"]
        serious = [entry for entry in result["violations"] if entry["impact"] in ("serious", "critical")]
        return [(entry["id"], entry["nodes"][0]["html"]) for entry in serious]

    with browser.context(chromium, used, color_scheme=scheme) as opened:
        watcher = browser.Watcher(opened, used.url)
        for address in ADDRESSES:
            found[address] = examine(watcher.go(address))
        watcher.go("hosts").locator("#register").click()
        found["dialog"] = examine(watcher.page)
        assert watcher.problems == []
    assert found == {address: [] for address in [*ADDRESSES, "dialog"]}


def test_a_phone_scrolls_in_one_direction(used: Fleet, chromium: Browser) -> None:
    with browser.context(chromium, used, size=browser.PHONE) as opened:
        watcher = browser.Watcher(opened, used.url)
        widths = {}
        for address in ADDRESSES:
            page = watcher.go(address)
            widths[address] = page.evaluate("document.documentElement.scrollWidth")
        assert watcher.problems == []
    assert widths == dict.fromkeys(ADDRESSES, browser.PHONE[0])


def test_ten_thousand_hosts_are_a_bounded_number_of_rows(used: Fleet, tab: browser.Watcher) -> None:
    lived_in.crowd(used, 10_000)
    try:
        page = tab.go("hosts")
        total = 10_000 + len(lived_in.HOSTS)
        expect(page.locator("main")).to_contain_text(f"{total:,} hosts")
        assert page.locator("main table").get_attribute("aria-rowcount") == str(total + 1)
        rows = page.locator("main tbody tr")
        assert 10 < rows.count() < 150
        nodes = page.evaluate("document.querySelectorAll('*').length")
        assert nodes < 4000
        box = page.locator("main .table-box")
        box.evaluate("box => { box.scrollTop = box.scrollHeight / 2; }")
        expect(page.get_by_role("link", name="crowd05000.example.org")).to_have_count(1)
        box.evaluate("box => { box.scrollTop = box.scrollHeight; }")
        expect(page.get_by_role("link", name=lived_in.name("web2"))).to_have_count(1)
        assert 10 < rows.count() < 150
        page.locator("#host-search").fill("crowd0777")
        expect(page.locator("main")).to_contain_text(f"10 of {total:,} hosts")
        expect(page.get_by_role("link", name="crowd07775.example.org")).to_be_visible()
    finally:
        lived_in.disperse(used)


def test_pages_of_others_change_nothing(used: Fleet, chromium: Browser) -> None:
    """Another origin has the browser post a form and fetch, with the certificate that it shows to whoever asks."""
    attack = f"""<!doctype html><title>other</title><body><script>
      const form = (path, fields) => {{
        const frame = document.createElement("iframe"); frame.name = "f" + Math.random(); document.body.append(frame);
        const form = document.createElement("form"); form.method = "post"; form.target = frame.name;
        form.enctype = "text/plain"; form.action = "{used.url}/admin/" + path;
        for (const [name, value] of Object.entries(fields)) {{
          const input = document.createElement("input"); input.name = name; input.value = value; form.append(input);
        }}
        document.body.append(form);
        return new Promise(done => {{ frame.onload = done; form.submit(); }});
      }};
      const attempt = (path, options) => fetch("{used.url}/admin/" + path, options).then(
        answer => answer.type === "opaque" ? "opaque" : "read " + answer.status, () => "refused");
      const json = JSON.stringify({{disabled: true}});
      window.attack = async () => [
        await form("api/state", {{'{{"disabled":true,"x":"': '"}}'}}).then(() => "sent"),
        await attempt("api/state", {{method: "POST", mode: "no-cors", credentials: "include", body: json}}),
        await attempt("api/state", {{method: "POST", credentials: "include", body: json,
          headers: {{"X-Cdxsync-Request": "dashboard"}}}}),
        await attempt("hosts/1", {{method: "DELETE", credentials: "include"}}),
        await attempt("hosts", {{credentials: "include"}}),
      ];
    </script>"""

    class Other(QuietHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(attack.encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Other)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(used.home / "pki" / "server.pem", used.home / "pki" / "server.key")
    server.socket = server_context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    before = [used.admin_call("GET", path) for path in ("/admin/api/state", "/admin/hosts/1")]
    try:
        with browser.context(chromium, used, ignore_https_errors=True) as opened:
            page = opened.new_page()
            page.goto(f"https://127.0.0.1:{server.server_address[1]}/")
            assert page.evaluate("window.attack()") == ["sent", "opaque", "refused", "refused", "refused"]
    finally:
        server.shutdown()
        server.server_close()
    assert [used.admin_call("GET", path) for path in ("/admin/api/state", "/admin/hosts/1")] == before
    refused = used.admin_call("GET", "/admin/logs?action=access.refused&limit=20")["logs"]
    assert any("pages of other" in row["details"] and "/admin/api/state" in row["details"] for row in refused)


def test_without_a_certificate_the_browser_shows_how_to_get_one(used: Fleet, chromium: Browser) -> None:
    with browser.context(chromium, used, certificate=False) as opened:
        watcher = browser.Watcher(opened, used.url)
        watcher.page.goto(f"{used.url}/admin/")
        expect(watcher.page.locator("h1")).to_have_text("The dashboard needs a client certificate")
        expect(watcher.page.locator("main")).to_contain_text("cdxsync pki export alice")
        assert watcher.page.evaluate("getComputedStyle(document.body).maxWidth") == "672px"  # its style is not refused
        assert [problem for problem in watcher.problems if "403" not in problem and "favicon.ico" not in problem] == []
