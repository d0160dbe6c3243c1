"""What commands that work on a home as a whole print with `--json`: keys, checks, backups, exports and imports."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from cdxsync.base.schema import Moment


class KeyItem(Struct, frozen=True, kw_only=True):
    """A key of the keyring, or one that stored values need."""

    id: str
    state: Literal["active", "old", "missing"]
    created_at: Moment | None
    sealed: dict[str, int]
    """How many values it has sealed, by column."""
    macs: int
    """How many rows have a MAC of it."""


class KeyList(Struct, frozen=True, kw_only=True):
    """The keys, and where they come from."""

    source: str
    keys: list[KeyItem]
    resealing: bool
    """Whether a change of keys is under way, or was cut off."""


class Rotation(Struct, frozen=True, kw_only=True):
    """What a change of keys did."""

    active: str
    """The key that all is sealed with now."""
    added: bool
    """False when it went on with a change that had been cut off."""
    resealed: int
    """How many values."""
    macs: int
    """How many rows have a MAC of that key now."""
    unreadable: list[str]
    """What could not be opened, and stays as it is."""


class KeyringExport(Struct, frozen=True, kw_only=True):
    """A keyring that was written, without its keys."""

    file: str
    active: str
    keys: list[str]
    """Their ids."""


class KeyRetired(Struct, frozen=True, kw_only=True):
    """The id of a key that was removed."""

    retired: str


class SigningKeyItem(Struct, frozen=True, kw_only=True):
    """A key with which the home signs what hosts run, without its secret half."""

    id: str
    created_at: Moment


class SigningKeyList(Struct, frozen=True, kw_only=True):
    """The signing keys, all of which sign."""

    file: str
    keys: list[SigningKeyItem]
    problem: str | None
    """What is wrong with them."""


class SigningKeyRetired(Struct, frozen=True, kw_only=True):
    """The id of a signing key that was removed."""

    retired: str


class Migrated(Struct, frozen=True, kw_only=True):
    """The migrations that were run."""

    applied: list[str]


class Damage(Struct, frozen=True, kw_only=True):
    """Something wrong: which check found it, and what; without secrets."""

    check: str
    problem: str


class Checked(Struct, kw_only=True):
    """How much was looked at; what was not reached is missing."""

    documents: int | UnsetType = UNSET
    installers: int | UnsetType = UNSET
    prompts: int | UnsetType = UNSET
    usage_days_since: str | UnsetType | None = UNSET
    usage_days: int | UnsetType = UNSET
    audit_rows: int | UnsetType = UNSET
    rows: int | UnsetType = UNSET


class AlteredRow(Struct, frozen=True, kw_only=True):
    """A row that gives rights and has no good MAC."""

    table: str
    id: int | str
    name: str
    has_mac: bool
    """False when it has none: it was inserted by others, or is of a version that wrote none."""
    values: dict[str, int | bool | str | None]
    """Its id and the columns that give rights. Keys of hosts are there by their SHA-256 only."""


class AlteredRows(Struct, frozen=True, kw_only=True):
    """All such rows."""

    required: bool
    """Whether they are refused; False until all rows had a MAC once."""
    rows: list[AlteredRow]


class RowsAccepted(Struct, frozen=True, kw_only=True):
    """Rows that were accepted as they are, by `TABLE:ID`."""

    required: bool
    accepted: list[str]
    changed_meanwhile: list[str]
    """Rows that are no longer as they were shown, and stay refused."""


class ConsistencyReport(Struct, frozen=True, kw_only=True):
    """All that is wrong, and how much was looked at."""

    ok: bool
    findings: list[Damage]
    checked: Checked


class Backup(Struct, frozen=True, kw_only=True):
    """A backup that was written."""

    file: str
    size_bytes: int
    created_at: Moment
    contents: str
    """`full` or `database`."""
    encrypted: bool
    schema: list[str]
    key_ids: list[str]
    """The keys that its values are sealed with."""
    files: list[str]
    keyring: bool
    """Whether it holds the keys."""


class Restored(Struct, frozen=True, kw_only=True):
    """A backup that was put into a home."""

    home: str
    created_at: Moment
    contents: str
    program_version: str
    files: list[str]
    kept: str | None
    """Where that is which it replaced."""


class Export(Struct, frozen=True, kw_only=True):
    """An export that was written."""

    file: str
    schema: str
    key_ids: list[str]
    with_keyring: bool
    rows: dict[str, int]
    """By table."""


class Import(Struct, frozen=True, kw_only=True):
    """An export that was read into a home."""

    home: str
    rows: dict[str, int]
    """By table."""
    total: int
    schema: str
    with_keyring: bool


class Skipped(Struct, frozen=True, kw_only=True):
    """Rows that were left out for one reason."""

    table: str
    reason: str
    count: int
    examples: list[str]


class ReferenceImport(Struct, frozen=True, kw_only=True):
    """What was taken over from the reference implementation, or would be."""

    dry_run: bool
    imported: dict[str, int]
    """By table."""
    skipped: list[Skipped]
    notes: list[str]
    other_tables: list[str]
    """Tables that were not read."""
