"""Audit rows have the caller's address, and each is linked to the one before; an older server leaves all that empty."""

ADDITIVE = True
STATEMENTS = (
    "ALTER TABLE logs ADD COLUMN ip VARCHAR(64)",
    "ALTER TABLE logs ADD COLUMN seq {bigint}",
    "ALTER TABLE logs ADD COLUMN host_ref {integer}",
    "ALTER TABLE logs ADD COLUMN hash VARCHAR(64)",
    "ALTER TABLE logs ADD COLUMN mac VARCHAR(255)",
    "CREATE INDEX logs_seq ON logs (seq)",
    """CREATE TABLE log_checkpoints (
        name VARCHAR(32) NOT NULL PRIMARY KEY,
        seq {bigint} NOT NULL,
        hash VARCHAR(64) NOT NULL,
        last_id {bigint} NOT NULL,
        kept {bigint} NOT NULL,
        created_at VARCHAR(32) NOT NULL,
        mac VARCHAR(255) NOT NULL
    )""",
)
