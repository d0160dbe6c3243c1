"""Syncs prompts with the server's."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.api import Api
from cdxsync.wrapper.src.errors import NotPermitted, Offline, Rejected, SyncError
from cdxsync.wrapper.src.files import (
    file_sha256,
    own_folder,
    read_json,
    read_regular,
    replace_file,
    sha256_of,
    write_json,
)
from cdxsync.wrapper.src.messages import debug, say
from cdxsync.wrapper.src.signatures import Unsigned, is_signed, prompts_text, signing_keys
from cdxsync.wrapper.src.threads import started

if TYPE_CHECKING:
    from typing import Any, Dict

    # SHA-256 by file name.
    Shas = Dict[str, str]

MAX_PROMPT_BYTES = 1 << 20
PROMPT_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}\Z")
HEX_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def prompt_name(value: str) -> bool:
    """Whether a name from the server, or of a file, is one that stays in the prompts' folder."""
    return PROMPT_NAME.match(value) is not None and ".." not in value


def plan_prompts(
    local: Shas, baseline: Shas | None, before: Shas, now: Shas
) -> tuple[list[str], list[str], list[str], Shas]:
    """What a pull has to do: (to fetch, of these to keep aside first, to delete, baseline without these).

    All four are objects of file name to SHA-256: the files of the folder, those at the last sync (None before the
    first), what the server had then and what it has now. The server wins, but an edit is pushed when only it is new.
    """
    if baseline is None:
        # Files that were there before the first sync are their owner's, and are not published.
        baseline, before = {name: sha for name, sha in local.items() if name not in now}, {}
    base = dict(baseline)
    fetch, aside, delete = [], [], []
    for name, sha in sorted(now.items()):
        mine = local.get(name)
        if mine == sha:
            base[name] = sha
        elif mine is None or mine == base.get(name):
            fetch.append(name)
        elif base.get(name) != sha:
            fetch.append(name)
            aside.append(name)
    for name in sorted(before):
        if name not in now and name in base:
            if local.get(name) == base[name]:
                delete.append(name)
            del base[name]
    return fetch, aside, delete, base


class Prompts:
    """Syncs the prompts' folder with the server's list."""

    def __init__(self, api: Api, home: str) -> None:
        self.api = api
        self.home = home
        self.folder = os.path.join(home, "prompts")
        self.baseline_path = os.path.join(home, ".prompt-baseline.json")
        self.notes_path = os.path.join(own_folder(home), "prompts.json")
        self.notes: dict[str, Any] = {}
        self.errors: list[SyncError] = []
        # Why the server's list was not taken.
        self.distrust = ""

    def pull(self, deadline: float | None = None) -> int:
        """Fetch what is new on the server, and remove what was deleted there. Raises SyncError.

        Raises Unsigned, and changes nothing, when the list is not the fleet's.
        """
        self.errors = []
        before = self._load_notes()
        now = self._list(trusted=True)
        local = self.local()
        fetch, aside, delete, base = plan_prompts(local, self._baseline(), before, now)
        for name in aside:
            self._keep_aside(name)
        for name in delete:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self.folder, name))
        fetched = self._fetch(fetch, local, now, deadline)
        base.update(fetched)
        self.notes["server"] = now
        self._save(base)
        if len(fetched) < len(fetch):
            debug("%d prompts could not be fetched; the next run tries again" % (len(fetch) - len(fetched)))
        return len(fetched)

    def push(self) -> None:
        """Publish files that are new or changed since the last sync. Raises SyncError."""
        base, mine = self._baseline(), self.unsent()
        if base is None or not mine:
            return
        known = self._load_notes()
        refused = dict(self.notes.get("refused") or {})
        now = self._list()
        for name, sha in sorted(mine.items()):
            if now.get(name) not in (known.get(name), sha):
                debug("%s was changed on the server as well; the next run settles it" % name)
                continue
            try:
                self._store(name, sha)
                base[name] = known[name] = sha
            except NotPermitted as error:
                # Not noted as refused: an admin may allow it tomorrow.
                say("new and changed prompts stay on this host: %s" % error)
                break
            except (Rejected, ValueError) as error:
                say("the prompt %s is not shared: %s" % (name, error))
                refused[name] = sha
        self.notes.update(server=known, refused=refused, etag="")
        self._save(base)

    def unsent(self) -> Shas:
        """Files that are new or changed since the last sync, and that the server has not refused for what they are."""
        base = self._baseline()
        self._load_notes()
        refused = self.notes.get("refused") or {}
        if base is None:
            return {}
        return {name: sha for name, sha in self.local().items() if sha not in (base.get(name), refused.get(name))}

    def is_current(self, tag: str) -> bool:
        """Whether a pull of the list with this entity tag would change nothing here."""
        before = self._load_notes()
        if not tag or self._etag(trusted=True) != tag or self._baseline() is None:
            return False
        return not any(plan_prompts(self.local(), self._baseline(), before, before)[:3])

    def _load_notes(self) -> Shas:
        """What the server had at the last sync: an object of file name to SHA-256."""
        self.notes = read_json(self.notes_path)
        if self.notes.get("url") != self.api.server.base_url:
            self.notes = {"url": self.api.server.base_url}
        server = self.notes.get("server")
        return dict(server) if isinstance(server, dict) else {}

    def _list(self, trusted: bool = False) -> Shas:
        """What the server has. A `trusted` list, and no other, says what files come here and go."""
        etag = self._etag(trusted)
        status, headers, text = self.api.request(
            "GET", "/slash-commands", None, {"If-None-Match": etag} if etag else None
        )
        if status == 304:
            known = dict(self.notes.get("server") or {})
            if known and trusted and not self._is_checked():
                raise Unsigned("the server says that nothing has changed, but was not asked; prompts stay as they are")
            return known
        answer = self.api.data(status, text)
        commands = answer.get("commands")
        if not isinstance(commands, list):
            raise Offline("the server sent an unknown list of prompts")
        listed = {}
        for command in commands:
            name, sha = (command.get("filename"), command.get("sha256")) if isinstance(command, dict) else (None, None)
            if isinstance(name, str) and prompt_name(name) and isinstance(sha, str) and HEX_SHA256.match(sha):
                listed[name] = sha
            else:
                debug("the server lists a prompt named %r; it is ignored" % (name,))
        if trusted and signing_keys()[1]:
            self.notes["sequence"] = self._checked(answer, listed, len(commands))
        self.notes["etag"] = headers.get("ETag", "")
        return listed

    def _etag(self, trusted: bool) -> str:
        """The entity tag of the list in the notes; none where that was taken without a look at its signature."""
        etag = self.notes.get("etag")
        return etag if isinstance(etag, str) and (not trusted or self._is_checked()) else ""

    def _is_checked(self) -> bool:
        """Whether the list in the notes is one whose signature was looked at, or signatures do not count here."""
        return not signing_keys()[1] or isinstance(self.notes.get("sequence"), int)

    def _checked(self, answer: dict[str, Any], listed: Shas, count: int) -> int:
        """The sequence of a list that is signed by a key that is known here, and not older than the last one."""
        sequence, last = answer.get("sequence"), self.notes.get("sequence")
        if not isinstance(sequence, int) or isinstance(sequence, bool) or sequence < 0 or len(listed) != count:
            sequence = -1
        if sequence < 0 or not is_signed(prompts_text(sequence, listed.items()), answer.get("signature")):
            raise Unsigned(
                "the server's prompts are not signed by a key that this cdx knows; those here stay as they are. Ask"
                " your admin to run: cdxsync doctor"
            )
        if isinstance(last, int) and sequence < last:
            raise Unsigned(
                "the server's prompts are older than those that this host had from it; those here stay as they are. If"
                " your admin has restored an older database, any change of a prompt ends this"
            )
        return sequence

    def _baseline(self) -> Shas | None:
        try:
            value = json.loads(read_regular(self.baseline_path)[0].decode("utf-8"))
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def _save(self, base: Shas) -> None:
        for path, value in ((self.baseline_path, base), (self.notes_path, self.notes)):
            if value != read_json(path) or not os.path.exists(path):
                write_json(path, value)

    def local(self) -> Shas:
        """The regular files of the folder by name; links are their owner's business."""
        found = {}
        with contextlib.suppress(OSError):
            for entry in sorted(os.scandir(self.folder), key=lambda entry: entry.name):
                if prompt_name(entry.name) and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(OSError):
                        found[entry.name] = file_sha256(entry.path)
        return found

    def _fetch(self, names: list[str], local: Shas, now: Shas, deadline: float | None) -> Shas:
        """Retrieve prompts of the list `now`, several at a time; returns those that were written, by name."""
        todo = list(reversed(names))
        done: dict[str, str | None] = {}

        def work(api: Api) -> None:
            while todo and (deadline is None or time.monotonic() < deadline):
                try:
                    name = todo.pop()
                except IndexError:
                    return
                try:
                    done[name] = self._fetch_one(api, name, local, now)
                except SyncError as error:
                    self.errors.append(error)
                    if isinstance(error, Offline):
                        return

        helpers = [self.api.clone() for _ in range(min(3, len(names) // 4))]
        threads = [threading.Thread(target=work, args=(api,), daemon=True) for api in helpers]
        threads = [thread for thread in threads if started(thread)]
        work(self.api)
        for thread in threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        for api in helpers:
            api.close()
        return {name: sha for name, sha in dict(done).items() if sha}

    def _fetch_one(self, api: Api, name: str, local: Shas, now: Shas) -> str | None:
        answer = api.post("/slash-commands/retrieve", {"filename": name})
        text, sha = answer.get("prompt"), answer.get("sha256")
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else b""
        if not data or sha256_of(data) != sha:
            debug("the server sent a damaged prompt %s" % name)
            return None
        if sha != now[name] and signing_keys()[1]:
            debug("the prompt %s is not the one of the signed list, as when it has changed since" % name)
            return None
        return sha if self._write(name, data, local) else None

    def _write(self, name: str, data: bytes, local: Shas) -> bool:
        path = os.path.join(self.folder, name)
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            if os.path.lexists(path) and name not in local:
                debug("%s is not a regular file; it is ignored" % path)
                return False
            return replace_file(path, data, 0o644) is not None
        except OSError as error:
            raise SyncError("cannot write %s: %s" % (path, error.strerror)) from None

    def _keep_aside(self, name: str) -> None:
        with open(os.path.join(self.folder, name), "rb") as file:
            data = file.read()
        kept = os.path.join(own_folder(self.home, "kept"), "%s.%s" % (sha256_of(data)[:8], name))
        replace_file(kept, data)
        say("the prompt %s was changed here and on the server; yours is kept as %s" % (name, kept))

    def _store(self, name: str, sha: str) -> None:
        with open(os.path.join(self.folder, name), "rb") as file:
            data = file.read(MAX_PROMPT_BYTES + 1)
        if len(data) > MAX_PROMPT_BYTES:
            raise ValueError("it is larger than %d bytes" % MAX_PROMPT_BYTES)
        if sha256_of(data) != sha:
            raise SyncError("%s keeps changing; try again" % name)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError("it is not UTF-8") from None
        self.api.post("/slash-commands/store", {"filename": name, "prompt": text, "sha256": sha})
        debug("shared the prompt %s" % name)
