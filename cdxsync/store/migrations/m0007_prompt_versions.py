"""The texts that prompts have had."""

ADDITIVE = True
STATEMENTS = (
    """CREATE TABLE prompt_versions (
        id {id},
        filename VARCHAR(255) NOT NULL,
        filename_key VARCHAR(255) NOT NULL,
        status VARCHAR(32) NOT NULL,
        sha256 VARCHAR(64) NOT NULL,
        prompt {longtext},
        actor VARCHAR(255) NOT NULL,
        created_at VARCHAR(32) NOT NULL
    )""",
    "CREATE INDEX prompt_versions_filename_key ON prompt_versions (filename_key)",
)
