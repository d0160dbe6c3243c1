"""Token usage rows, remembered answers to retried calls, and slash-command prompts."""

STATEMENTS = (
    """CREATE TABLE token_usages (
        id {id},
        host_id {integer} REFERENCES hosts (id) ON DELETE SET NULL,
        total {bigint},
        input_tokens {bigint},
        output_tokens {bigint},
        cached_tokens {bigint},
        reasoning_tokens {bigint},
        model VARCHAR(128),
        line TEXT,
        created_at VARCHAR(32) NOT NULL
    )""",
    "CREATE INDEX token_usages_host_id ON token_usages (host_id)",
    "CREATE INDEX token_usages_created_at ON token_usages (created_at)",
    """CREATE TABLE idempotency_keys (
        id {id},
        host_id {integer} NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
        key_sha256 VARCHAR(64) NOT NULL,
        body_sha256 VARCHAR(64) NOT NULL,
        answer {longtext} NOT NULL,
        created_at VARCHAR(32) NOT NULL,
        UNIQUE (host_id, key_sha256)
    )""",
    "CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at)",
    """CREATE TABLE slash_commands (
        id {id},
        filename VARCHAR(255) NOT NULL,
        filename_key VARCHAR(255) NOT NULL UNIQUE,
        sha256 VARCHAR(64) NOT NULL,
        description TEXT,
        argument_hint VARCHAR(255),
        prompt {longtext} NOT NULL,
        source_host_id {integer} REFERENCES hosts (id) ON DELETE SET NULL,
        created_at VARCHAR(32) NOT NULL,
        updated_at VARCHAR(32) NOT NULL
    )""",
    "CREATE INDEX slash_commands_source_host_id ON slash_commands (source_host_id)",
)
