"""What each host has of the canonical login: its grant, what it was given last, and whether it holds the real token."""

ADDITIVE = True
STATEMENTS = (
    """CREATE TABLE host_grants (
        host_id {integer} NOT NULL PRIMARY KEY REFERENCES hosts (id) ON DELETE CASCADE,
        grant_sha256 VARCHAR(64) NOT NULL,
        api_key_sha256 VARCHAR(64) NOT NULL,
        holds VARCHAR(16) NOT NULL,
        payload_id {integer},
        given_at VARCHAR(32) NOT NULL
    )""",
    "CREATE INDEX host_grants_grant_sha256 ON host_grants (grant_sha256)",
)
