"""Logins of other accounts that hosts offer, the order of documents apart from their dates, and the permit keep_auth.

`rank_us` and `credential_sha256` stay empty in older rows: `auth.canonical` computes them when it opens one.
"""

ADDITIVE = True
STATEMENTS = (
    "ALTER TABLE hosts ADD COLUMN allow_keep_auth {bool} NOT NULL DEFAULT {true}",
    "ALTER TABLE hosts ADD COLUMN other_account VARCHAR(8)",
    "ALTER TABLE auth_payloads ADD COLUMN rank_us {bigint}",
    "ALTER TABLE auth_payloads ADD COLUMN credential_sha256 VARCHAR(64)",
    "CREATE INDEX auth_payloads_credential_sha256 ON auth_payloads (credential_sha256)",
    "CREATE INDEX auth_payloads_sha256 ON auth_payloads (sha256)",
    """CREATE TABLE login_offers (
        host_id {integer} NOT NULL PRIMARY KEY REFERENCES hosts (id) ON DELETE CASCADE,
        account VARCHAR(255) NOT NULL,
        account_sha256 VARCHAR(64) NOT NULL,
        digest VARCHAR(64) NOT NULL,
        digests TEXT NOT NULL,
        first_seen_at VARCHAR(32) NOT NULL,
        seen_at VARCHAR(32) NOT NULL
    )""",
    """CREATE TABLE document_sights (
        id {id},
        sha256 VARCHAR(64) NOT NULL UNIQUE,
        host_id {integer} REFERENCES hosts (id) ON DELETE SET NULL,
        dated_us {bigint} NOT NULL,
        seen_us {bigint} NOT NULL
    )""",
    "CREATE INDEX document_sights_host_id ON document_sights (host_id)",
)
