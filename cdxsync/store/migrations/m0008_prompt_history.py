"""What prompts said before, and when a host was last refused for its address."""

ADDITIVE = True
STATEMENTS = (
    """CREATE TABLE slash_command_versions (
        id {id},
        filename VARCHAR(255) NOT NULL,
        filename_key VARCHAR(255) NOT NULL,
        sha256 VARCHAR(64) NOT NULL,
        prompt {longtext} NOT NULL,
        source VARCHAR(255),
        stored_at VARCHAR(32) NOT NULL
    )""",
    "CREATE INDEX slash_command_versions_filename_key ON slash_command_versions (filename_key)",
    "ALTER TABLE slash_commands ADD COLUMN stored_by VARCHAR(255)",
    "ALTER TABLE hosts ADD COLUMN blocked_at VARCHAR(32)",
)
