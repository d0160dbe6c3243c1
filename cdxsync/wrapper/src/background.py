"""The background sync: so that whatever uses auth.json has a fresh login, without a run of cdx."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.accounts import expiry_of, holds_grant, tokens_of
from cdxsync.wrapper.src.compiled import keep_compiled
from cdxsync.wrapper.src.context import Context, own_fqdn
from cdxsync.wrapper.src.document import LocalDocument
from cdxsync.wrapper.src.errors import NoCredentials, NotPermitted, NotTaken, Offline, Refused, SyncError
from cdxsync.wrapper.src.files import codex_home_path, locked, read_json, write_json
from cdxsync.wrapper.src.keeping import drop_credentials
from cdxsync.wrapper.src.login_home import recover_logins
from cdxsync.wrapper.src.messages import debug, say
from cdxsync.wrapper.src.quota import shown_time
from cdxsync.wrapper.src.runs import Run
from cdxsync.wrapper.src.server import CONNECT_TIMEOUT, READ_TIMEOUT
from cdxsync.wrapper.src.sweep import sweep
from cdxsync.wrapper.src.sync import remedy
from cdxsync.wrapper.src.update import update_wrapper

if TYPE_CHECKING:
    from typing import Any, Callable

# The server has another access token from 10 minutes before the end of the one that is here.
RENEW_SECONDS = 600
# It waits that long for the provider.
RENEW_TIMEOUT = 30.0
# A run that hangs, as on a file system that is away, must not be the last one.
WATCH_LIMIT_SECONDS = 300
WATCH_PROMPTS_SECONDS = 60.0
# A document that the server has refused from this host is offered again after that.
REFUSED_PAUSE_SECONDS = 3600
# What a shell has and a scheduler has not, and which the way to the server depends on.
KEPT_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")


def watch_path(home: str, name: str = "watch.json") -> str:
    """A file of the background sync: what was installed, or of `watch-last.json`: what came of the last run."""
    return os.path.join(home, ".cdx", name)


def run_watch(after: float) -> int:
    """One sync, after so many seconds, unless one is under way; returns the exit code."""
    home = codex_home_path()
    time.sleep(after)
    note = read_json(watch_path(home))
    if not note:
        # The folder may have been removed on purpose: it is not made.
        say("there is no background sync for %s. Install it with: cdx --watch install" % home)
        return 1
    kept = note.get("environment")
    for name, value in (kept if isinstance(kept, dict) else {}).items():
        if name.lower() in KEPT_VARIABLES and isinstance(value, str):
            os.environ.setdefault(name, value)
    signal.alarm(WATCH_LIMIT_SECONDS)
    try:
        with locked(watch_path(home, "watch.lock"), wait=False) as held:
            if not held:
                debug("another one is under way")
                return 0
            return run_alone(home, str(note.get("by")))
    finally:
        signal.alarm(0)


def run_alone(home: str, by: str) -> int:
    """One sync, while the lock is held; notes what came of it, and returns the exit code."""
    path = watch_path(home, "watch-last.json")
    last = read_json(path)
    problem = ""
    try:
        problem = "; ".join(BackgroundSync(by, last).run())
    except Exception as error:
        problem = str(error) if isinstance(error, SyncError) else "%s: %s" % (type(error).__name__, error)
    now = time.time()
    before = last.get("problem")
    last.update(ran_at=now)
    if problem:
        last.update(problem=problem, failed_at=now, since=last.get("since") if before else now)
    else:
        last.update(problem=None, ok_at=now, since=None)
    write_json(path, last)
    if problem and (problem != before or (sys.stderr is not None and sys.stderr.isatty())):
        # Every few minutes the same line would be all that a log holds.
        say("the background sync failed: %s" % problem)
    keep_compiled()
    return 1 if problem else 0


class BackgroundSync:
    """One sync; `last` is what earlier ones have noted, for the next."""

    def __init__(self, by: str, last: dict[str, Any]) -> None:
        self.last = last
        use_known_codex()
        self.context = Context()
        self.context.server.connect_timeout, self.context.server.read_timeout = CONNECT_TIMEOUT, READ_TIMEOUT
        self.context.prompts.api = self.context.api
        self.context.sync.background = by
        self.problems: list[str] = []

    def run(self) -> list[str]:
        """All of it; returns what did not go well. Raises SyncError when the server cannot be asked, or refuses."""
        context = self.context
        recover_logins(context.home)
        try:
            self.sync_login()
        except Refused as error:
            raise SyncError("the server refuses this host: %s. %s" % (error, remedy(error, own_fqdn()))) from None
        except Offline:
            raise
        except SyncError as error:
            self.problems.append(str(error))  # it is auth.json here: what else there is can be done
        finally:
            context.note_contact()
            drop_credentials(context.home, context.sync.note)
        for work in (self.renew, self.sync_prompts, self.send_usage, self.update):
            self.attempt(work)
        context.api.close()
        return self.problems

    def attempt(self, work: Callable[[], object]) -> None:
        """Do a part; what goes wrong does not keep the others from being done."""
        try:
            work()
        except (SyncError, OSError) as error:
            self.problems.append(str(error))

    def sync_login(self) -> None:
        """Sync auth.json as a run does before Codex starts, but beside runs that are going on."""
        sync, last = self.context.sync, self.last
        now = sync.current()
        if not sync.note.keeps or (sync.note.logged_out and now is None):
            # What a run of such a host fetches is for that run.
            sync.look()
            return
        paused = time.time() - (last.get("refused_at") or 0) < REFUSED_PAUSE_SECONDS
        if last.get("refused") and last["refused"] == now and paused and sync.look() != "outdated":
            return
        self.look_for_runs()
        try:
            sync.run()
            if sync.server_is_behind:
                sync.run()
        except NoCredentials:
            debug("neither the fleet nor this host has a login")
        except NotPermitted as error:
            debug(str(error))
            last.update(refused=now, refused_at=time.time())
        except NotTaken as error:
            debug(str(error))

    def look_for_runs(self) -> None:
        """A Codex that cdx runs keeps its account, and gets no grant that it was not told where to exchange."""
        sync = self.context.sync
        sync.quiet = bool(Run(self.context.home, []).others())
        sync.takes_grants = not sync.quiet or holds_grant(LocalDocument(sync.path).document)

    def renew(self) -> None:
        """Have the server refresh an access token that is about to end, and take the new one.

        The server does so by itself, earlier. This is for when it was away then.
        """
        sync, context = self.context.sync, self.context
        document = LocalDocument(sync.path).document
        ends = expiry_of(document) if document is not None and holds_grant(document) else None
        if document is None or ends is None or ends - time.time() > RENEW_SECONDS or not sync.note.keeps:
            return
        if sync.login.get("state") == "dead":
            raise SyncError(str(sync.login.get("message") or "OpenAI has ended the fleet's login"))
        context.api.close()
        context.server.read_timeout = RENEW_TIMEOUT
        body = {"grant_type": "refresh_token", "refresh_reason": "proactive_expiry"}
        grant = tokens_of(document).get("refresh_token")
        status, _, text = context.api.request(
            "POST", "/oauth/token", json.dumps(dict(body, refresh_token=grant)).encode()
        )
        context.api.close()
        context.server.read_timeout = READ_TIMEOUT
        if status != 200:
            code = ""
            with contextlib.suppress(ValueError, AttributeError):
                code = str(json.loads(text.decode("utf-8")).get("code") or "")
            raise SyncError(
                "the access token ends at %s, and the server has no newer one (%s)"
                % (shown_time(ends), code or "HTTP status %d" % status)
            )
        sync.run()

    def sync_prompts(self) -> None:
        """Prompts, which are only asked for when the server says that they have changed, or does not say."""
        prompts, tag = self.context.prompts, self.context.sync.answer.get("prompts_etag")
        if not isinstance(tag, str) or not prompts.is_current(tag):
            prompts.pull(time.monotonic() + WATCH_PROMPTS_SECONDS)
        unsent = prompts.unsent()
        if unsent and unsent != self.last.get("unsent"):
            prompts.push()
            unsent = prompts.unsent()
        # What the server does not take is offered again when it has changed, or by a run.
        self.last["unsent"] = unsent

    def send_usage(self) -> None:
        """What runs could not send, and what was used outside them."""
        context = self.context
        sweep(context)
        context.spool.send(context.api, debug)

    def update(self) -> None:
        """A newer cdx, as with a run: where only plain Codex is used there is none."""
        versions = self.context.sync.versions()
        sha = versions.get("wrapper_sha256")
        if sha and sha == self.last.get("not_installed"):
            return
        try:
            if update_wrapper(self.context.api, versions):
                debug("cdx is updated to %s" % versions.get("wrapper_version"))
        except SyncError:
            # Not every few minutes; a run tries again.
            self.last["not_installed"] = sha
            raise


def use_known_codex() -> None:
    """Let the Codex be found that runs of cdx have found: a scheduler's PATH is another one."""
    known = read_json(os.path.join(codex_home_path(), ".cdx", "state.json")).get("program")
    if isinstance(known, str) and os.access(known, os.X_OK):
        os.environ["PATH"] = os.pathsep.join([os.path.dirname(known), os.environ.get("PATH", os.defpath)])
