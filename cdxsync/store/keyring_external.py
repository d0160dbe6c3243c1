"""A keyring that comes from outside the home: from a systemd credential, or from the setting `keyring`.

It has the format of `keyring.json` and is never written. The home then has a `keyring.json` that holds only the mark
that the keys come from outside, so that an initialised home always has that file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cdxsync.base.errors import Failed

CREDENTIAL = "cdxsync-keyring"
"""Name of the systemd credential (`LoadCredential=`, `LoadCredentialEncrypted=`)."""
MARK = b'{"keyring": "outside"}\n'
"""Content of `keyring.json` in a home whose keyring comes from outside."""
MARK_WITH_MACS = b'{"keyring": "outside", "rows_have_macs": true}\n'
"""The same, once every row that gives rights has a MAC."""
PLACES = f"the systemd credential {CREDENTIAL}, or CDXSYNC_KEYRING"


@dataclass(frozen=True)
class ExternalKeyring:
    """Where a keyring comes from: a read-only file, or a text."""

    name: str
    path: Path | None = None
    text: str | None = field(default=None, repr=False)

    def read(self) -> bytes:
        """The text of the keyring. Raises `Failed`."""
        if self.path is None:
            return (self.text or "").encode()
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise Failed(
                f"{self.name}: {self.path} cannot be read: {error.strerror}", code="keyring_unusable"
            ) from None


def find(setting: str, environ: Mapping[str, str]) -> ExternalKeyring | None:
    """The keyring from outside: that of the setting `keyring`, or else the systemd credential; None without either."""
    if setting:
        return ExternalKeyring("the setting keyring (CDXSYNC_KEYRING)", text=setting)
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    path = Path(directory) / CREDENTIAL
    if directory and path.exists():
        return ExternalKeyring(f"the systemd credential {CREDENTIAL}", path=path)
    return None
