"""Shell completion of the names of hosts, prompts and certificates."""

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from cdxsync.base.settings import Settings
    from cdxsync.store.database import Database

Names = Callable[["Settings", str], Iterable[str]]


def completer(names: Names) -> Callable[[typer.Context, str], list[str]]:
    """An `autocompletion` that offers those of `names(settings, prefix)` that begin with `prefix`.

    `names` is called in the scope of the home's database. Anything printed would appear in the line that is being
    typed, so an error offers nothing and prints nothing. No home is made and no database migrated.
    """

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        import logging

        logging.disable()
        try:
            settings = _settings(ctx)
            database = _open(settings)
            if database is None:
                return []
            with contextlib.closing(database), database.scope():
                return list(names(settings, incomplete))
        except Exception:
            return []

    return complete


def _settings(ctx: typer.Context) -> "Settings":
    # The options before the command are parsed, but the callback that puts them into `State` does not run here.
    from cdxsync.cli.command import State

    given = ctx.find_root().params
    home, config = given.get("home"), given.get("config")
    return State(home=home and Path(home), config=config and Path(config)).settings()


def _open(settings: "Settings") -> "Database | None":
    from cdxsync.ops import homes
    from cdxsync.store.engines import engine_of

    file = engine_of(settings.database_url, settings.home).path
    if not homes.is_initialised(settings.home) or (file is not None and not file.exists()):
        return None
    return homes.open_database(settings)


def host_names(settings: "Settings", prefix: str) -> list[str]:
    """The FQDNs of registered hosts."""
    from cdxsync.hosts import registry

    return registry.names(prefix)


def prompt_names(settings: "Settings", prefix: str) -> list[str]:
    """The file names of stored prompts."""
    from cdxsync.prompts import catalog

    return [row.filename for row in catalog.list_all().commands]


def certificate_names(settings: "Settings", prefix: str) -> list[str]:
    """The names of client certificates that are not revoked."""
    from cdxsync.ops import homes
    from cdxsync.security import pki

    certificates = pki.list_certificates(settings.home / homes.PKI_NAME)
    return [info.name for info in certificates if info.kind == "client" and info.status != "revoked"]
