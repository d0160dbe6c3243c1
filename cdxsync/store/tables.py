"""The tables as Peewee models. `cdxsync.store.migrations` creates the schema; a test compares the two.

Moments are texts as `clock.stamp` writes them; they sort in order of time.
"""

import peewee
from peewee import AutoField, BigIntegerField, BooleanField, CharField, ForeignKeyField, IntegerField, TextField

from cdxsync.store.table import Guarded
from cdxsync.store.table import Table as Table
from cdxsync.store.table import proxy as proxy


class Host(Guarded):
    """A registered machine. Only the SHA-256 of its API key is stored."""

    RIGHTS = (
        "fqdn",
        "api_key_sha256",
        "status",
        "allow_roaming_ips",
        "ip",
        "allow_store_auth",
        "allow_store_prompts",
        "allow_keep_auth",
        "other_account",
    )

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
    """Total of tokens that the host reported."""
    latest_usage_id = IntegerField(null=True)
    """The host's newest row in `token_usages`; that row may be deleted by now."""
    allow_store_auth = BooleanField(default=True)
    """Whether the host may store auth documents for the fleet."""
    allow_store_prompts = BooleanField(default=True)
    blocked_at = CharField(32, null=True)
    """When it was last refused for its address (`hosts.admission`)."""
    allow_keep_auth = BooleanField(default=True)
    """Whether `cdx` keeps the credentials there after a run."""
    other_account = CharField(8, null=True)
    """What becomes of a login of another account that it stores: `once`, `always` or `never`; by default, it is
    refused and offered to admins."""
    background_by = CharField(16, null=True)
    """What starts its background sync: `systemd`, `launchd` or `cron`."""
    background_at = CharField(32, null=True)
    """When that last called."""
    mac = CharField(255, null=True)

    class Meta:
        table_name = "hosts"


class AuthPayload(Guarded):
    """An accepted auth document; never changed once written. `body` is sealed."""

    RIGHTS = ("last_refresh", "last_refresh_us", "sha256", "source", "created_at", "rank_us", "credential_sha256")

    id = AutoField()
    last_refresh = TextField()
    last_refresh_us = BigIntegerField(index=True)
    sha256 = CharField(64, index=True)
    source = CharField(32)
    source_host = ForeignKeyField(Host, null=True, on_delete="SET NULL")
    body = TextField()
    created_at = CharField(32, index=True)
    rank_us = BigIntegerField(null=True)
    """Its place in the order of documents (`auth.sights`); NULL in rows of programs that did not know it."""
    credential_sha256 = CharField(64, null=True, index=True)
    """Of its tokens (`auth.account.credential_of`)."""
    mac = CharField(255, null=True)

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
    """The canonical document that a host had when it last called."""

    host = ForeignKeyField(Host, primary_key=True, on_delete="CASCADE")
    payload = ForeignKeyField(AuthPayload, on_delete="CASCADE")
    seen_digest = CharField(64)
    seen_at = CharField(32)

    class Meta:
        table_name = "host_auth_states"


class HostGrant(Guarded):
    """A host's grant, which stands for the canonical login's refresh token, and what of that login the host has.

    The grant is kept as a SHA-256 only. It is good while `api_key_sha256` is still that of the host's key.
    """

    RIGHTS = ("grant_sha256", "api_key_sha256")

    host = ForeignKeyField(Host, primary_key=True, on_delete="CASCADE")
    host_id: int
    grant_sha256 = CharField(64, index=True)
    api_key_sha256 = CharField(64)
    holds = CharField(16)
    """`grant`, or `login` when the host was last given the real token."""
    payload_id = IntegerField(null=True)
    """The document that the host was given last; the row may have been dropped since."""
    given_at = CharField(32)
    mac = CharField(255, null=True)

    class Meta:
        table_name = "host_grants"


class LoginOffer(Guarded):
    """The newest login of another account that a host has offered; the document itself is not kept."""

    RIGHTS = ("account", "account_sha256", "digest", "digests")

    host = ForeignKeyField(Host, primary_key=True, on_delete="CASCADE")
    host_id: int
    account = CharField(255)
    """The account in words."""
    account_sha256 = CharField(64)
    digest = CharField(64)
    digests = TextField()
    """All those under which the host may name it, with blanks between."""
    first_seen_at = CharField(32)
    seen_at = CharField(32)
    mac = CharField(255, null=True)

    class Meta:
        table_name = "login_offers"


class DocumentSight(Table):
    """When the server first saw a document that was dated ahead of its clock."""

    id = AutoField()
    sha256 = CharField(64, unique=True)
    """A digest of the document, or of its tokens."""
    host = ForeignKeyField(Host, null=True, on_delete="SET NULL")
    host_id: int | None
    dated_us = BigIntegerField()
    seen_us = BigIntegerField()

    class Meta:
        table_name = "document_sights"


class HostAuthDigest(Table):
    """A recent digest of a host; for display."""

    id = AutoField()
    host = ForeignKeyField(Host, on_delete="CASCADE")
    host_id: int
    digest = CharField(64)
    last_seen = CharField(32)
    created_at = CharField(32)

    class Meta:
        table_name = "host_auth_digests"
        indexes = ((("host", "digest"), True),)


class InstallToken(Guarded):
    """A single-use installer. Of its token only the SHA-256 is stored; the sealed API key goes on use or expiry."""

    RIGHTS = ("token_sha256", "host", "fqdn", "base_url", "expires_at", "used_at")

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
    mac = CharField(255, null=True)

    class Meta:
        table_name = "install_tokens"


class LogEntry(Table):
    """An audit row: who (`actor`) did what (`action`), with JSON details that hold no secret, in which HTTP request."""

    id = AutoField()
    host = ForeignKeyField(Host, null=True, on_delete="SET NULL")
    host_id: int | None
    actor = CharField(255)
    action = CharField(64)
    details = TextField(null=True)
    created_at = CharField(32, index=True)
    request_id = CharField(64, null=True)
    ip = CharField(64, null=True)
    """The address from which the request came."""
    seq = BigIntegerField(null=True, index=True)
    """Its place in the chain (`store.audit_chain`); this and the three below are NULL in rows that are not in it."""
    host_ref = IntegerField(null=True)
    """The host's id, also after the host was deleted."""
    hash = CharField(64, null=True)
    mac = CharField(255, null=True)

    class Meta:
        table_name = "logs"


class LogCheckpoint(Table):
    """The one row that says where the chain of the audit log begins (`store.audit_chain`)."""

    name = CharField(32, primary_key=True)
    seq = BigIntegerField()
    """The row before the first that is to be there."""
    hash = CharField(64)
    last_id = BigIntegerField()
    """Rows up to this id are not checked."""
    kept = BigIntegerField()
    """How many those were at most."""
    created_at = CharField(32)
    mac = CharField(255)

    class Meta:
        table_name = "log_checkpoints"


class Version(Guarded):
    """Named values of the whole fleet: the canonical payload's id, the known Codex release and the like."""

    RIGHTS = ("version",)

    name = CharField(191, primary_key=True)
    version = CharField(191)
    updated_at = CharField(32)
    mac = CharField(255, null=True)

    class Meta:
        table_name = "versions"


class Counters(Table):
    """Base of the roll-ups: sums over usage rows, updated in the transaction that stores them."""

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
    """Token totals of the whole fleet by day and model; deleted hosts are included."""

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
    """One reported use of tokens: the given numbers, or a line without readable numbers."""

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
    outside = BooleanField(default=False)
    """Whether Codex was not started by `cdx`."""

    class Meta:
        table_name = "token_usages"


class IdempotencyKey(Table):
    """The answer to a call with an `Idempotency-Key`, for its repetition."""

    id = AutoField()
    host = ForeignKeyField(Host, on_delete="CASCADE")
    key_sha256 = CharField(64)
    body_sha256 = CharField(64)
    answer = TextField()
    created_at = CharField(32, index=True)

    class Meta:
        table_name = "idempotency_keys"
        indexes = ((("host", "key_sha256"), True),)


class HostBudget(Table):
    """What a host has stored on its newest day (`hosts.budgets`)."""

    host = ForeignKeyField(Host, primary_key=True, on_delete="CASCADE")
    host_id: int
    day = CharField(10)
    usage_rows = BigIntegerField(default=0)
    usage_bytes = BigIntegerField(default=0)
    prompt_bytes = BigIntegerField(default=0)

    class Meta:
        table_name = "host_budgets"


class SlashCommand(Guarded):
    """A slash-command prompt. `filename_key` is the lower-cased name: names are unique in any case."""

    RIGHTS = ("filename", "filename_key", "sha256", "description", "argument_hint", "stored_by")

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
    stored_by = CharField(255, null=True)
    """The actor who stored the text."""
    mac = CharField(255, null=True)

    class Meta:
        table_name = "slash_commands"


class SlashCommandVersion(Guarded):
    """An earlier text of a prompt, which `source` stored at `stored_at`."""

    RIGHTS = ("filename", "filename_key", "sha256", "source", "stored_at")

    id = AutoField()
    filename = CharField(255)
    filename_key = CharField(255, index=True)
    sha256 = CharField(64)
    prompt = TextField()
    source = CharField(255, null=True)
    stored_at = CharField(32)
    mac = CharField(255, null=True)

    class Meta:
        table_name = "slash_command_versions"


class Job(Table):
    """A background job of the whole fleet of servers: its lease, when it is due, how it last ended.

    `wanted` is why it shall run at once; `not_before` is until when a service asked us to wait.
    """

    name = CharField(64, primary_key=True)
    owner = CharField(255, null=True)
    lease_until = CharField(32, null=True)
    wanted = CharField(32, null=True)
    next_run = CharField(32, null=True)
    not_before = CharField(32, null=True)
    last_started_at = CharField(32, null=True)
    last_finished_at = CharField(32, null=True)
    last_succeeded_at = CharField(32, null=True)
    last_duration_ms = BigIntegerField(null=True)
    last_result = TextField(null=True)
    last_error = TextField(null=True)
    failures = IntegerField(default=0)
    runs = IntegerField(default=0)

    class Meta:
        table_name = "jobs"


class ChatGptSnapshot(Table):
    """One attempt to read the ChatGPT quota, good (`status` ok) or not (error); columns of `docs/protocol.md 12.3`."""

    id = AutoField()
    host = ForeignKeyField(Host, null=True, on_delete="SET NULL")
    host_id: int | None
    status = CharField(16)
    plan_type = CharField(64, null=True)
    rate_allowed = BooleanField(null=True)
    rate_limit_reached = BooleanField(null=True)
    primary_used_percent = BigIntegerField(null=True)
    primary_limit_seconds = BigIntegerField(null=True)
    primary_reset_after_seconds = BigIntegerField(null=True)
    primary_reset_at = CharField(64, null=True)
    secondary_used_percent = BigIntegerField(null=True)
    secondary_limit_seconds = BigIntegerField(null=True)
    secondary_reset_after_seconds = BigIntegerField(null=True)
    secondary_reset_at = CharField(64, null=True)
    has_credits = BooleanField(null=True)
    unlimited = BooleanField(null=True)
    credit_balance = CharField(64, null=True)
    approx_local_messages = TextField(null=True)
    approx_cloud_messages = TextField(null=True)
    raw_body = TextField(null=True, column_name="raw")
    error = TextField(null=True)
    http_status = IntegerField(null=True)
    fetched_at = CharField(32, index=True)
    next_eligible_at = CharField(32)
    created_at = CharField(32)

    class Meta:
        table_name = "chatgpt_usage_snapshots"


class PricingSnapshot(Table):
    """The prices of a model as fetched at one time, in `currency` per 1,000 tokens, as exact decimal texts."""

    id = AutoField()
    model = CharField(128, index=True)
    currency = CharField(16)
    input_price_per_1k = CharField(40)
    output_price_per_1k = CharField(40)
    cached_price_per_1k = CharField(40)
    source_url = TextField()
    raw_body = TextField(null=True, column_name="raw")
    fetched_at = CharField(32, index=True)
    created_at = CharField(32)

    class Meta:
        table_name = "pricing_snapshots"


class RunnerEvent(Table):
    """A check of the canonical document (`auth.validate`), or the outcome of a refresh in it."""

    id = AutoField()
    action = CharField(64)
    status = CharField(16)
    reason = TextField(null=True)
    cause = CharField(32)
    backend = CharField(16)
    digest = CharField(64, null=True)
    last_refresh = TextField(null=True)
    latency_ms = BigIntegerField(null=True)
    created_at = CharField(32, index=True)

    class Meta:
        table_name = "runner_events"


class RefreshIntent(Table):
    """Written before Codex may use up the refresh token of the document `digest`, closed with the outcome.

    An open one while no process holds the runner's lease is from a killed server.
    """

    id = AutoField()
    digest = CharField(64)
    owner = CharField(255)
    started_at = CharField(32)
    finished_at = CharField(32, null=True)
    outcome = CharField(16, null=True, index=True)
    error = TextField(null=True)

    class Meta:
        table_name = "refresh_intents"


def insertion_order() -> list[type[Table]]:
    """All tables, in an order for inserting rows: they refer only to rows of earlier tables."""
    bases = (Table, Guarded, Counters)
    models = [model for base in bases for model in base.__subclasses__() if model not in bases]
    return list(peewee.sort_models(models))  # type: ignore[attr-defined]
