"""Hosts, auth documents and their states, installers, audit log, named values, daily usage totals."""

STATEMENTS = (
    """CREATE TABLE hosts (
        id {id},
        fqdn VARCHAR(255) NOT NULL UNIQUE,
        api_key_sha256 VARCHAR(64) NOT NULL UNIQUE,
        status VARCHAR(32) NOT NULL,
        allow_roaming_ips {bool} NOT NULL,
        last_refresh TEXT,
        auth_digest VARCHAR(64),
        ip VARCHAR(64),
        client_version VARCHAR(64),
        wrapper_version VARCHAR(64),
        api_calls {integer} NOT NULL,
        last_seen_at VARCHAR(32),
        created_at VARCHAR(32) NOT NULL,
        updated_at VARCHAR(32) NOT NULL
    )""",
    "CREATE INDEX hosts_updated_at ON hosts (updated_at)",
    """CREATE TABLE auth_payloads (
        id {id},
        last_refresh TEXT NOT NULL,
        last_refresh_us {bigint} NOT NULL,
        sha256 VARCHAR(64) NOT NULL,
        source VARCHAR(32) NOT NULL,
        source_host_id {integer} REFERENCES hosts (id) ON DELETE SET NULL,
        body {longtext} NOT NULL,
        created_at VARCHAR(32) NOT NULL
    )""",
    "CREATE INDEX auth_payloads_last_refresh_us ON auth_payloads (last_refresh_us)",
    "CREATE INDEX auth_payloads_created_at ON auth_payloads (created_at)",
    "CREATE INDEX auth_payloads_source_host_id ON auth_payloads (source_host_id)",
    """CREATE TABLE auth_entries (
        id {id},
        payload_id {integer} NOT NULL REFERENCES auth_payloads (id) ON DELETE CASCADE,
        target VARCHAR(255) NOT NULL,
        token {longtext} NOT NULL,
        token_type TEXT NOT NULL,
        organization TEXT,
        project TEXT,
        api_base TEXT,
        meta {longtext},
        created_at VARCHAR(32) NOT NULL,
        UNIQUE (payload_id, target)
    )""",
    """CREATE TABLE host_auth_states (
        host_id {integer} NOT NULL PRIMARY KEY REFERENCES hosts (id) ON DELETE CASCADE,
        payload_id {integer} NOT NULL REFERENCES auth_payloads (id) ON DELETE CASCADE,
        seen_digest VARCHAR(64) NOT NULL,
        seen_at VARCHAR(32) NOT NULL
    )""",
    "CREATE INDEX host_auth_states_payload_id ON host_auth_states (payload_id)",
    """CREATE TABLE host_auth_digests (
        id {id},
        host_id {integer} NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
        digest VARCHAR(64) NOT NULL,
        last_seen VARCHAR(32) NOT NULL,
        created_at VARCHAR(32) NOT NULL,
        UNIQUE (host_id, digest)
    )""",
    """CREATE TABLE install_tokens (
        id {id},
        token_sha256 VARCHAR(64) NOT NULL UNIQUE,
        host_id {integer} NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
        fqdn VARCHAR(255) NOT NULL,
        api_key TEXT,
        base_url VARCHAR(255) NOT NULL,
        expires_at VARCHAR(32) NOT NULL,
        used_at VARCHAR(32),
        created_at VARCHAR(32) NOT NULL
    )""",
    "CREATE INDEX install_tokens_host_id ON install_tokens (host_id)",
    "CREATE INDEX install_tokens_expires_at ON install_tokens (expires_at)",
    """CREATE TABLE logs (
        id {id},
        host_id {integer} REFERENCES hosts (id) ON DELETE SET NULL,
        actor VARCHAR(255) NOT NULL,
        action VARCHAR(64) NOT NULL,
        details {longtext},
        created_at VARCHAR(32) NOT NULL
    )""",
    "CREATE INDEX logs_host_id ON logs (host_id)",
    "CREATE INDEX logs_created_at ON logs (created_at)",
    """CREATE TABLE versions (
        name VARCHAR(191) NOT NULL PRIMARY KEY,
        version VARCHAR(191) NOT NULL,
        updated_at VARCHAR(32) NOT NULL
    )""",
    """CREATE TABLE usage_days (
        id {id},
        host_id {integer} REFERENCES hosts (id) ON DELETE SET NULL,
        day VARCHAR(10) NOT NULL,
        model VARCHAR(128) NOT NULL,
        total {bigint} NOT NULL,
        input_tokens {bigint} NOT NULL,
        output_tokens {bigint} NOT NULL,
        cached_tokens {bigint} NOT NULL,
        reasoning_tokens {bigint} NOT NULL,
        events {bigint} NOT NULL,
        UNIQUE (host_id, day, model)
    )""",
    "CREATE INDEX usage_days_day ON usage_days (day)",
)
