"""`cdx --doctor`: checks each step from this file to the server and Codex."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import stat
import sys
import time

from cdxsync.wrapper.src.baked import WRAPPER_VERSION
from cdxsync.wrapper.src.clock import (
    CLOCK_BROKEN_SECONDS,
    SET_CLOCK,
    blames_date,
    clock_ahead,
    clock_ahead_unverified,
    clock_before,
    clock_text,
)
from cdxsync.wrapper.src.codex import complaint_of
from cdxsync.wrapper.src.codex_install import CodexPlace, notes_path, wanted_codex
from cdxsync.wrapper.src.codex_settings import other_logins
from cdxsync.wrapper.src.context import Context, own_fqdn
from cdxsync.wrapper.src.daemon import daemon_findings
from cdxsync.wrapper.src.document import LocalDocument
from cdxsync.wrapper.src.errors import NEW_KEY, Refused, SyncError
from cdxsync.wrapper.src.file_trouble import Unreadable, folder_trouble, write_trouble
from cdxsync.wrapper.src.files import own_folder, read_json
from cdxsync.wrapper.src.messages import show
from cdxsync.wrapper.src.proxy import ProxyTrouble
from cdxsync.wrapper.src.quota import shown_time, span
from cdxsync.wrapper.src.server import Server
from cdxsync.wrapper.src.signatures import signing_keys
from cdxsync.wrapper.src.status import certificate_expiry, document_text, login_text, overdue_text, spool_text
from cdxsync.wrapper.src.sync import remedy
from cdxsync.wrapper.src.watch import watch_state


class Doctor:
    """Checks each step of the way, in its order."""

    def __init__(self) -> None:
        self.failed = False

    def report(self, mark: str, text: str, fix: str | None = None) -> None:
        """A line for a check: `ok`, `warn` or `FAIL`, with how to fix it."""
        self.failed = self.failed or mark == "FAIL"
        show("%-5s %s\n" % (mark, text))
        if fix:
            show("      -> %s\n" % fix)

    def run(self) -> int:
        """All checks; returns the exit code."""
        self.check_wrapper()
        try:
            context = Context()
        except SyncError as error:
            self.report("FAIL", str(error))
            return 1
        self.check_home(context)
        if self.check_connection(context.server):
            self.check_key(context)
            self.check_clock(context)
        self.check_login(context)
        self.check_document(context)
        self.check_codex(context)
        for mark, text, fix in daemon_findings(context.home, context.build.version):
            self.report(mark, text, fix)
        self.check_spool(context)
        self.check_watch(context)
        return 1 if self.failed else 0

    def check_wrapper(self) -> None:
        """This file and its Python."""
        own = os.path.realpath(__file__)
        self.report("ok", "cdx %s on Python %d.%d.%d" % (WRAPPER_VERSION, *sys.version_info[:3]))
        mode = stat.S_IMODE(os.stat(own).st_mode)
        if mode & 0o007:
            self.report("FAIL", "%s holds this host's key and is readable by every user" % own, "chmod o-rwx %s" % own)
        else:
            self.report("ok", "%s has mode %04o" % (own, mode))
        if clock_before(own):
            self.report("FAIL", clock_before(own), SET_CLOCK)
        try:
            keys = sorted(signing_keys()[1])
        except SyncError as error:
            self.report("FAIL", str(error), NEW_KEY % own_fqdn())
        else:
            if keys:
                self.report("ok", "cdx and prompts are taken only when key %s has signed them" % " or ".join(keys))
            else:
                self.report("warn", "it has no signing key: cdx and prompts are taken unsigned", "cdx --update")
        if not os.access(own, os.W_OK):
            self.report("warn", "%s belongs to another user, who must update it" % own, "sudo cdx --update")

    def check_home(self, context: Context) -> None:
        """The folder of auth.json."""
        if os.access(context.home, os.R_OK | os.W_OK | os.X_OK):
            self.report("ok", "%s is writable" % context.home)
        else:
            cause, fix = folder_trouble(context.home)
            self.report("FAIL", "%s is not writable: %s" % (context.home, cause), fix or None)
        own = own_folder(context.home)
        if not os.path.isdir(own):
            self.report("FAIL", "%s is no folder: cdx remembers nothing" % own, "mv %s %s.moved" % (own, own))

    def check_connection(self, server: Server) -> bool:
        """Name, address, TLS; returns whether the server can be called."""
        place = "%s:%d" % (server.host, server.port)
        direct = "correct it, or go there without it: NO_PROXY=%s" % server.host
        try:
            proxy = server.proxy()
        except ProxyTrouble as error:
            self.report("FAIL", str(error), direct)
            return False
        if proxy:
            self.report("ok", "%s is reached through the proxy of %s" % (place, proxy.shown()))
            if proxy.kind.startswith("socks"):
                text = "Codex itself does not speak SOCKS, and takes that proxy for one of HTTP"
                self.report("warn", text, "HTTPS_PROXY=http://HOST:PORT with a proxy that speaks HTTP")
        try:
            addresses = {
                str(item[4][0]) for item in socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
            }
            self.report("ok", "%s is %s" % (server.host, ", ".join(sorted(addresses))))
        except OSError as error:
            if not proxy:
                self.report("FAIL", "%s cannot be resolved: %s" % (server.host, error), "check DNS or /etc/hosts")
                return False
        try:
            expiry = certificate_expiry(server)
        except ssl.SSLError as error:
            self.report_certificate(server, error)
            return False
        except SyncError as error:
            self.report("FAIL", str(error))
            return False
        except ProxyTrouble as error:
            self.report("FAIL", "%s cannot be reached: %s" % (place, error), direct)
            return False
        except OSError as error:
            fix = "check that `cdxsync serve` is running, and that no firewall blocks %s" % place
            self.report("FAIL", "%s cannot be reached: %s" % (place, error), fix)
            return False
        self.report_expiry(expiry)
        return True

    def report_certificate(self, server: Server, error: ssl.SSLError) -> None:
        """Why the server's certificate is not believed: often it is this machine's clock that is wrong."""
        reason = getattr(error, "verify_message", "") or str(error)
        text = "the certificate of %s:%d cannot be verified: %s" % (server.host, server.port, reason)
        ahead = clock_ahead_unverified(server)
        if ahead is not None and abs(ahead) >= CLOCK_BROKEN_SECONDS:
            self.report("FAIL", "%s; %s" % (text, clock_text(ahead)), SET_CLOCK)
        elif blames_date(error):
            fix = "look at this machine's clock, which says %s; is it right: cdxsync pki renew   on the server"
            self.report("FAIL", text, fix % shown_time(time.time()))
        else:
            fix = "if the server has a new CA, run on the server: cdxsync hosts register %s   and install cdx again"
            self.report("FAIL", text, fix % own_fqdn())

    def report_expiry(self, expiry: float | None) -> None:
        """The certificate's end."""
        if expiry is None:
            self.report("ok", "the server is on this machine, over plain HTTP")
        elif expiry - time.time() < 14 * 86400:
            self.report("warn", "the server's certificate expires %s" % shown_time(expiry), "cdxsync pki renew")
        else:
            self.report("ok", "the server's certificate is good until %s" % shown_time(expiry))

    def check_key(self, context: Context) -> None:
        """Whether the server knows this host, and has the same time."""
        try:
            answered = context.sync.look()
        except Refused as error:
            self.report("FAIL", "the server refuses this host: %s" % error, remedy(error, own_fqdn()))
            return
        except Unreadable:
            return  # it is told below
        except SyncError as error:
            self.report("FAIL", str(error), "check the server's log")
            return
        self.report("ok", "the server knows this host as %s" % own_fqdn())
        note = context.sync.note
        away = context.sync.current() is None and (note.logged_out or not note.keeps)
        if answered in ("outdated", "upload_required") and (away or note.own):
            pass  # as it is meant to be; the login is told below
        elif answered in ("outdated", "upload_required"):
            self.report("warn", "auth.json is %s" % document_text(context.sync, answered), "cdx --wrapper-sync")
        elif answered == "missing":
            self.report(
                "warn", "the fleet has no auth.json yet", "cdx login, or on the server: cdxsync auth upload FILE"
            )

    def check_clock(self, context: Context) -> None:
        """The server's date against ours."""
        with contextlib.suppress(SyncError):
            _, headers, _ = context.api.request("GET", "/versions")
            ahead = clock_ahead(headers) or 0.0
            if clock_text(ahead):
                self.report("FAIL" if abs(ahead) >= CLOCK_BROKEN_SECONDS else "warn", clock_text(ahead), SET_CLOCK)

    def check_login(self, context: Context) -> None:
        """Whose login Codex uses."""
        sync, text = context.sync, login_text(context.sync)
        others = other_logins(context.home, sync.note.file_store)
        if sync.login.get("state") == "dead":
            self.report("warn", text, "cdx login")
        elif sync.note.own or sync.note.logged_out:
            self.report(
                "warn", "the login is %s" % text, "cdx logout, then cdx --wrapper-sync" if sync.note.own else None
            )
        elif others:
            self.report("warn", "the login is %s; but it is not what Codex uses:" % text)
        else:
            self.report("ok", "the login is %s" % text)
        for text, fix in others:
            self.report("warn", text, fix)

    def check_document(self, context: Context) -> None:
        """auth.json."""
        path = context.sync.path
        try:
            local = LocalDocument(path)
            hindered = write_trouble(path)
        except Unreadable as error:
            self.report("FAIL", str(error), error.fix or None)
            return
        if hindered:
            self.report("FAIL", str(hindered), hindered.fix or None)
        if local.document is None:
            text = "is not a JSON object" if local.unreadable else "holds no credentials"
            if not context.sync.note.keeps and not local.unreadable:
                self.report("ok", "%s %s between runs: this host keeps none" % (path, text))
            else:
                self.report("warn", "%s %s" % (path, text), "cdx --wrapper-sync, or cdx login")
            return
        if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
            self.report("FAIL", "%s is readable by other users" % path, "chmod 600 %s" % path)
        problem, overdue = context.sync.offline_problem(), overdue_text(local.document)
        if overdue:
            self.report("warn", overdue, "an admin runs on the server: cdxsync doctor")
        elif problem:
            self.report("ok", "without the server Codex would not start now: %s" % problem)
        else:
            left = span(context.sync.offline_seconds())
            self.report("ok", "%s can be used without the server for another %s" % (path, left))

    def check_codex(self, context: Context) -> None:
        """The program, and whether it is kept up to date."""
        build = context.build
        wanted = wanted_codex(context.home, build, context.sync.versions())
        if not build.program:
            self.report("FAIL", "Codex is not installed", "npm install -g @openai/codex")
        elif not build.version:
            said = complaint_of(build.program)
            text = "%s does not report its version" % build.program
            self.report("warn", "%s: %s" % (text, said) if said else text, "%s --version" % build.program)
        else:
            self.report("ok", "Codex %s is %s" % (build.version, build.program))
        if wanted and build.program:
            problem = CodexPlace(build.program).problem()
            text = "the server offers Codex %s" % wanted
            if wanted == build.version:
                text = "%s is Codex alone, and cannot open the full-screen program" % build.program
            self.report("warn", text, problem or "cdx --update")
        last = read_json(notes_path(context.home))
        if last.get("problem") and (wanted or not build.program):
            self.report(
                "warn", "Codex %s could not be installed: %s" % (last.get("version"), last["problem"]), "cdx --update"
            )

    def check_watch(self, context: Context) -> None:
        """The background sync, where there is one."""
        mark, text, fix = watch_state(context.home)
        if mark == "none":
            self.report("ok", "no background sync: plain codex, IDEs and daemons have a fresh login with %s" % fix)
        else:
            self.report(mark, "the background sync: %s" % text, fix or None)

    def check_spool(self, context: Context) -> None:
        """What waits to be sent."""
        waiting = len(context.spool.paths())
        self.report(
            "warn" if waiting > 20 else "ok", spool_text(context.spool), "cdx --wrapper-sync" if waiting else None
        )
