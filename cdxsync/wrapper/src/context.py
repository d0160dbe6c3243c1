"""What the commands work with: the server, the home, and what syncs the two."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.api import Api
from cdxsync.wrapper.src.baked import (
    CODEX_SYNC_API_KEY,
    CODEX_SYNC_BASE_URL_DEFAULT,
    CODEX_SYNC_CA_PEM,
    CODEX_SYNC_FQDN,
)
from cdxsync.wrapper.src.codex import Build
from cdxsync.wrapper.src.files import codex_home, own_folder, read_json, write_json
from cdxsync.wrapper.src.messages import debug
from cdxsync.wrapper.src.prompts import Prompts
from cdxsync.wrapper.src.server import Server
from cdxsync.wrapper.src.spool import Spool
from cdxsync.wrapper.src.sync import Sync

if TYPE_CHECKING:
    from typing import Callable

IMPATIENT_SECONDS = 120


def own_fqdn() -> str:
    """The name under which the server knows this host."""
    return os.environ.get("CODEX_SYNC_FQDN") or CODEX_SYNC_FQDN


class Context:
    """What the commands work with: the server, the home, and what syncs the two."""

    def __init__(self) -> None:
        self.home = codex_home()
        self.contact_path = os.path.join(own_folder(self.home), "contact.json")
        failed = read_json(self.contact_path).get("failed_at")
        self.impatient = isinstance(failed, (int, float)) and 0 <= time.time() - failed < IMPATIENT_SECONDS
        self.server = Server(
            os.environ.get("CODEX_SYNC_BASE_URL") or CODEX_SYNC_BASE_URL_DEFAULT,
            os.environ.get("CODEX_SYNC_API_KEY") or CODEX_SYNC_API_KEY,
            CODEX_SYNC_CA_PEM,
            os.environ.get("CODEX_SYNC_CA_FILE", ""),
            impatient=self.impatient,
        )
        self.api = Api(self.server)
        self.build = Build(self.home)
        self.sync = Sync(self.api, self.home, self.build.version)
        self.prompts = Prompts(self.api.clone(), self.home)
        self.spool = Spool(self.home)

    def note_contact(self) -> None:
        """Remember that the server answered, or that it could not be reached."""
        self.sync.note.change()  # whether this home was ever in step is not to be told from the contact
        if not self.api.unreachable:
            write_json(self.contact_path, {"synced_at": time.time()})
        elif not self.impatient:
            write_json(self.contact_path, dict(read_json(self.contact_path), failed_at=time.time()))

    def quietly(self, work: Callable[[], object]) -> None:
        """Do something beside the credentials, which never fails a run."""
        try:
            work()
        except Exception as error:
            debug("%s: %s" % (type(error).__name__, error))
