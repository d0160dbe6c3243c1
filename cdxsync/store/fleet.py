"""What the rules work with: one server's settings, keys and database, and the CA that its hosts trust."""

from dataclasses import dataclass, field

from cdxsync.base.settings import Settings
from cdxsync.security.signing import SigningKeys
from cdxsync.store.database import Database
from cdxsync.store.keyring_file import KeyringFile


@dataclass(frozen=True, eq=False)
class Fleet:
    """An opened deployment.

    `host_ca_pem` is the CA that hosts pin when they call `settings.public_url`, or "" for their own trust store.
    """

    settings: Settings
    keyring: KeyringFile = field(repr=False)
    database: Database = field(repr=False)
    host_ca_pem: str
    signing: SigningKeys = field(repr=False)
