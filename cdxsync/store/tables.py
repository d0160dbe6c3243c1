"""The tables as Peewee models. The schema itself is made by `cdxsync.store.migrations`; a test compares the two.

Moments are texts as `clock.stamp` writes them; they sort as the moments do.
"""

from peewee import (
    AutoField,
    BigIntegerField,
    BooleanField,
    CharField,
    DatabaseProxy,
    ForeignKeyField,
    IntegerField,
    Model,
    TextField,
)

proxy = DatabaseProxy()


class Table(Model):
    """Base of all tables."""

    class Meta:
        database = proxy
        legacy_table_names = False


class Host(Table):
    """A registered machine. Its API key is kept as a SHA-256 only."""

    id = AutoField()
    fqdn = CharField(255, unique=True)
    api_key_sha256 = CharField(64, unique=True)
    status = CharField(32, default="active")
    allow_roaming_ips = BooleanField(default=False)
    last_refresh = TextField(null=True)
    auth_digest = CharField(64, null=True)
    ip = CharField(64, null=True)
    client_version = CharField(64, null=True)
    wrapper_version = CharField(64, null=True)
    api_calls = IntegerField(default=0)
    last_seen_at = CharField(32, null=True)
    created_at = CharField(32)
    updated_at = CharField(32, index=True)
    usage_total = BigIntegerField(default=0, index=True)
    """All tokens that the host has reported."""
    latest_usage_id = IntegerField(null=True)
    """The host's newest row in `token_usages`; that row may have been pruned since."""

    class Meta:
        table_name = "hosts"


class AuthPayload(Table):
    """An accepted auth document; never changed once written. `body` is sealed."""

    id = AutoField()
    last_refresh = TextField()
    last_refresh_us = BigIntegerField(index=True)
    sha256 = CharField(64)
    source = CharField(32)
    source_host = ForeignKeyField(Host, null=True, on_delete="SET NULL")
    body = TextField()
    created_at = CharField(32, index=True)

    class Meta:
        table_name = "auth_payloads"


class AuthEntry(Table):
    """One target of an auth document. `token` is sealed."""

    id = AutoField()
    payload = ForeignKeyField(AuthPayload, on_delete="CASCADE")
    target = CharField(255)
    token = TextField()
    token_type = TextField()
    organization = TextField(null=True)
    project = TextField(null=True)
    api_base = TextField(null=True)
    meta = TextField(null=True)
    created_at = CharField(32)

    class Meta:
        table_name = "auth_entries"
        indexes = ((("payload", "target"), True),)


class HostAuthState(Table):
    """Which canonical document a host was last known to hold."""

    host = ForeignKeyField(Host, primary_key=True, on_delete="CASCADE")
    payload = ForeignKeyField(AuthPayload, on_delete="CASCADE")
    seen_digest = CharField(64)
    seen_at = CharField(32)

    class Meta:
        table_name = "host_auth_states"


class HostAuthDigest(Table):
    """A digest lately seen with a host; for display."""

    id = AutoField()
    host = ForeignKeyField(Host, on_delete="CASCADE")
    host_id: int
    digest = CharField(64)
    last_seen = CharField(32)
    created_at = CharField(32)

    class Meta:
        table_name = "host_auth_digests"
        indexes = ((("host", "digest"), True),)


class InstallToken(Table):
    """A single-use installer. The token is kept as a SHA-256; the API key is sealed, and wiped on use or expiry."""

    id = AutoField()
    token_sha256 = CharField(64, unique=True)
    host = ForeignKeyField(Host, on_delete="CASCADE")
    host_id: int
    fqdn = CharField(255)
    api_key = TextField(null=True)
    base_url = CharField(255)
    expires_at = CharField(32, index=True)
    used_at = CharField(32, null=True)
    created_at = CharField(32)

    class Meta:
        table_name = "install_tokens"


class LogEntry(Table):
    """An audit row: who (`actor`) did what (`action`), with JSON details that hold no secret."""

    id = AutoField()
    host = ForeignKeyField(Host, null=True, on_delete="SET NULL")
    host_id: int | None
    actor = CharField(255)
    action = CharField(64)
    details = TextField(null=True)
    created_at = CharField(32, index=True)

    class Meta:
        table_name = "logs"


class Version(Table):
    """Named values of the whole fleet: the canonical payload's id, the known Codex release and the like."""

    name = CharField(191, primary_key=True)
    version = CharField(191)
    updated_at = CharField(32)

    class Meta:
        table_name = "versions"


class Counters(Table):
    """Base of the roll-ups: sums over usage rows, kept in the transaction that stores them."""

    id = AutoField()
    total = BigIntegerField(default=0)
    input_tokens = BigIntegerField(default=0)
    output_tokens = BigIntegerField(default=0)
    cached_tokens = BigIntegerField(default=0)
    reasoning_tokens = BigIntegerField(default=0)
    events = BigIntegerField(default=0)


class UsageDay(Counters):
    """Token totals of a host, day (`YYYY-MM-DD`, UTC) and model, so that totals never scan usage rows."""

    host = ForeignKeyField(Host, null=True, on_delete="SET NULL")
    host_id: int | None
    day = CharField(10, index=True)
    model = CharField(128, default="")

    class Meta:
        table_name = "usage_days"
        indexes = ((("host", "day", "model"), True),)


class UsageFleetDay(Counters):
    """Token totals of the whole fleet by day and model; hosts that were deleted since are in it."""

    day = CharField(10)
    model = CharField(128, default="")

    class Meta:
        table_name = "usage_fleet_days"
        indexes = ((("day", "model"), True),)


class UsageLine(Counters):
    """Token totals of each printed line, by its SHA-256."""

    line_sha256 = CharField(64, unique=True)
    line = TextField()
    last_used_at = CharField(32, index=True)

    class Meta:
        table_name = "usage_lines"


class TokenUsage(Table):
    """One reported use of tokens: the numbers that were given, or a line that could not be read as numbers."""

    id = AutoField()
    host = ForeignKeyField(Host, null=True, on_delete="SET NULL")
    host_id: int | None
    total = BigIntegerField(null=True)
    input_tokens = BigIntegerField(null=True)
    output_tokens = BigIntegerField(null=True)
    cached_tokens = BigIntegerField(null=True)
    reasoning_tokens = BigIntegerField(null=True)
    model = CharField(128, null=True)
    line = TextField(null=True)
    created_at = CharField(32, index=True)

    class Meta:
        table_name = "token_usages"


class IdempotencyKey(Table):
    """The answer that a call with an `Idempotency-Key` got, for when it is sent again."""

    id = AutoField()
    host = ForeignKeyField(Host, on_delete="CASCADE")
    key_sha256 = CharField(64)
    body_sha256 = CharField(64)
    answer = TextField()
    created_at = CharField(32, index=True)

    class Meta:
        table_name = "idempotency_keys"
        indexes = ((("host", "key_sha256"), True),)


class SlashCommand(Table):
    """A slash-command prompt. `filename_key` is the lower-cased name: names are unique without regard to case."""

    id = AutoField()
    filename = CharField(255)
    filename_key = CharField(255, unique=True)
    sha256 = CharField(64)
    description = TextField(null=True)
    argument_hint = CharField(255, null=True)
    prompt = TextField()
    source_host = ForeignKeyField(Host, null=True, on_delete="SET NULL")
    created_at = CharField(32)
    updated_at = CharField(32)

    class Meta:
        table_name = "slash_commands"
