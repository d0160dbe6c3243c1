"""A home directory: creating one, and opening it with its settings, keyring, certificates and database."""

import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path

from cdxsync.base import settings as settings_module
from cdxsync.base.errors import Conflict, Failed, SettingError
from cdxsync.base.files import write_private
from cdxsync.base.settings import CONFIG_NAME, Settings
from cdxsync.ops import home_lock, home_owner, keys, signing
from cdxsync.security import pki, server_names
from cdxsync.security.signing import SigningKeys
from cdxsync.store import audit_chain, keyring_external, keyring_file, migrations, rights
from cdxsync.store.database import RESTORE, Database, current
from cdxsync.store.fleet import Fleet
from cdxsync.store.keyring_external import ExternalKeyring
from cdxsync.store.keyring_file import KeyringFile
from cdxsync.store.sealing import Keyring

KEYRING_NAME = "keyring.json"
PKI_NAME = "pki"


@dataclass(frozen=True)
class Initialised:
    """What `initialise` made."""

    settings: Settings
    made: tuple[Path, ...]
    admin_certificate: Path
    admin_key: Path
    ca: Path


def is_initialised(home: Path) -> bool:
    """Whether `home` is initialised: its keyring file exists, which is made last. It holds the keys, or says that they
    come from outside.
    """
    return (home / KEYRING_NAME).exists()


def keyring_of(settings: Settings) -> KeyringFile:
    """The keyring of a home, from its file or from outside. Raises `Failed` or `Conflict`."""
    external = keyring_external.find(settings.keyring, os.environ)
    return KeyringFile(settings.home / KEYRING_NAME, external, keys.key_to_seal_with)


def fleet_of(settings: Settings, keyring: KeyringFile, database: Database) -> Fleet:
    """A fleet of these parts, and the signing keys of the home, for work that bakes nothing for hosts."""
    signing_keys = SigningKeys(settings.home / signing.NAME)
    return Fleet(settings=settings, keyring=keyring, database=database, host_ca_pem="", signing=signing_keys)


def make_home(home: Path) -> None:
    """Create the directory, for its owner only. Raises `Failed`, `Conflict` for one that another user could replace."""
    made = not home.exists()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            home_owner.check_place(home)
        except Conflict:
            if made:
                home.rmdir()
            raise
        home.chmod(0o700)
    except OSError as error:
        raise Failed(
            f"{home}: cannot be used as the home: {error.strerror}. Give another --home, or run this"
            " as the user that owns it",
            code="file_unusable",
        ) from None


def initialise(settings: Settings) -> Initialised:
    """Create the home: directory 0700, configuration, certificates, database, signing key, and last the keyring.

    After an interrupted run it continues, and keeps what exists.
    Raises `Conflict` when the home is initialised already, or it, or a file in it, is another user's.
    """
    home = settings.home
    if home.is_dir():  # first: what another user has laid there must not be taken for a home of ours
        home_owner.check_place(home)
        home_owner.check_content(home)
    if is_initialised(home):
        raise Conflict(
            f"{home} is initialised already. To serve it: cdxsync serve; for another home: --home DIR",
            code="home_initialised",
        )
    make_home(home)
    home_lock.share(home)
    database = open_database(settings, make=True)
    try:
        with database.scope():
            return _make(settings)
    finally:
        database.close()


def _make(settings: Settings) -> Initialised:
    home = settings.home
    external = keyring_external.find(settings.keyring, os.environ)
    _refuse_lost_keyring(home, external)
    settings = settings if settings.public_url else replace(settings, public_url=default_public_url(settings))
    config = home / CONFIG_NAME
    if not config.exists():
        write_private(config, _config_text(settings).encode())
    directory = home / PKI_NAME
    if not (directory / "ca.pem").exists():
        pki.create(directory, server_names.wanted(settings.public_url, settings.listen.host))
    _refuse_exposed()
    migrations.migrate()
    has_macs = rights.is_empty()
    signing.make_first(home / signing.NAME)
    if external is None:
        keyring_file.create(home / KEYRING_NAME, rows_have_macs=has_macs)
    else:
        has_macs |= keyring_file.decode(external.read(), external.name).rows_have_macs
        keyring_file.mark(home / KEYRING_NAME, rows_have_macs=has_macs)
    made = [config, directory, home / KEYRING_NAME]
    if (home / signing.NAME).exists():
        made.append(home / signing.NAME)
    if not settings.database_url:
        made.append(home / "cdxsync.db")
    return Initialised(
        settings=settings,
        made=tuple(made),
        admin_certificate=directory / "admin.pem",
        admin_key=directory / "admin.key",
        ca=directory / "ca.pem",
    )


def _refuse_lost_keyring(home: Path, external: ExternalKeyring | None) -> None:
    """Raise `Failed` when the database holds sealed values but the keyring is missing: a new one cannot open them."""
    if external is not None:
        content = keyring_file.decode(external.read(), external.name)
        if not migrations.is_empty():
            keys.check(Keyring(content.active, content.keys), external.name)
        return
    if migrations.is_empty():
        return
    wanted = sorted(keys.needed())
    if wanted:
        raise Failed(
            f"{home / KEYRING_NAME} is missing, and the database holds values sealed with key {', '.join(wanted)}."
            " Nothing was changed. Restore the keyring from a backup",
            code="keyring_missing",
        )


def _refuse_exposed() -> None:
    """Raise `SettingError` for a new database whose URL leaves TLS open, where others are on the way to it.

    Those that are there already go on, with warnings: their way may be guarded, and an update must not stop them.
    """
    database = current()
    if database.engine.tls_is_chosen or not migrations.is_empty():
        return
    found = database.engine.exposure(database.peewee)
    if found is not None:
        raise SettingError(
            f"database_url: {found.text}. For a new fleet, {found.remedy}; {found.meant} says it is meant"
        )


def _config_text(settings: Settings) -> str:
    lines = [
        "# cdxsync; command-line flags and environment variables override this file.",
        f'public_url = "{settings.public_url}"',
        f'listen = "{settings.listen}"',
    ]
    if settings.plain_http:
        lines.append("plain_http = true")
    return "\n".join(lines) + "\n"


def default_public_url(settings: Settings) -> str:
    """The default of `public_url` for a server that listens as `settings` says: this machine's name.

    Raises `SettingError` for port 0, which becomes a different port at each start.
    """
    listen = settings.listen
    if listen.port == 0:
        raise SettingError("port 0 needs public_url, or hosts do not know where to call. Add --public-url URL")
    host = socket.gethostname().lower() if listen.is_wildcard else listen.host
    scheme = "http" if settings.plain_http else "https"
    return settings_module.read_base_url(f"{scheme}://[{host}]" if ":" in host else f"{scheme}://{host}") + (
        "" if listen.port == (80 if settings.plain_http else 443) else f":{listen.port}"
    )


def open_fleet(settings: Settings, *, check_keys: bool = False) -> Fleet:
    """Open an initialised home: keyring, database (migrated when needed), and the CA that hosts pin.

    With `check_keys`, as a server does, the keyring must open the stored values, which is checked before any change;
    then the signing keys are made or checked.
    Raises `Failed` when it is not initialised or a part of it is missing: a home that had a database makes no other.
    """
    fleet = open_unmigrated(settings)
    try:
        with fleet.database.scope():
            if check_keys:
                keys.check(fleet.keyring, fleet.keyring.where)
                fleet.keyring.content()
            migrations.migrate()
            if check_keys:
                signing.begin(fleet)
        return replace(fleet, host_ca_pem=host_ca_pem(settings))
    except BaseException:
        fleet.database.close()
        raise


def open_unmigrated(settings: Settings) -> Fleet:
    """Open keyring and database of an initialised home as they are; the home stays shared until the process ends.

    Raises `Failed` when it is not initialised, or its database is missing or empty; `Conflict` during a restore.
    """
    _share(settings.home)
    keyring = keyring_of(settings)
    database = open_database(settings)
    try:
        with database.scope():
            if migrations.is_empty():
                raise Failed(
                    f"The database {database.engine.shown} is empty, and this home had one with tables. If database_url"
                    f" is right, run: {RESTORE}",
                    code="database_missing",
                )
    except BaseException:
        database.close()
        raise
    return fleet_of(settings, keyring, database)


def _share(home: Path) -> None:
    """Hold an initialised home until the process ends. Raises `Failed` and `Conflict`."""
    if is_initialised(home) or home_lock.exists(home):
        home_lock.share(home)
    if not is_initialised(home):
        hint = settings_module.hint_of_service(home)
        raise Failed(
            f"{home} is not initialised. Run: cdxsync init   (or give another --home)" + (f"\n{hint}" if hint else ""),
            code="home_not_initialised",
        )


def open_database(settings: Settings, *, make: bool = False) -> Database:
    """The database of the settings, a new one with `make`; the caller closes it.

    Raises `SettingError`, `DatabaseAway`, or `Failed` when it is missing.
    """
    database = Database.open(settings.database_url, settings.home, settings.database_pool_size, make=make)
    database.find_keyring = lambda: keyring_of(settings)
    database.witness = settings.home / audit_chain.WITNESS_NAME
    return database


def migrate(settings: Settings) -> list[str]:
    """Run the pending migrations, on an empty database too; returns their names."""
    _share(settings.home)
    keyring_of(settings)
    database = open_database(settings, make=True)
    try:
        with database.scope():
            return migrations.migrate()
    finally:
        database.close()


def host_ca_pem(settings: Settings) -> str:
    """The CA that hosts pin when they call `public_url`, or "" for their own trust store. Raises `Failed`."""
    if settings.host_ca is not None:
        path = settings.host_ca
    elif settings.plain_http or settings.tls_certificate is not None or settings.public_url.startswith("http:"):
        return ""
    else:
        path = settings.home / PKI_NAME / "ca.pem"
    try:
        return path.read_text(encoding="ascii").strip() + "\n"
    except (OSError, UnicodeDecodeError) as error:
        advice = "restore it from a backup" if settings.host_ca is None else "correct the setting host_ca"
        reason = error.strerror if isinstance(error, OSError) else "not PEM"
        raise Failed(
            f"{path}: the CA certificate for hosts cannot be read ({reason}); {advice}", code="certificate_unusable"
        ) from None
