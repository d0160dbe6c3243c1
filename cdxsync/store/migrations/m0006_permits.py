"""What a host may store for the whole fleet: auth documents, and prompts."""

STATEMENTS = (
    "ALTER TABLE hosts ADD COLUMN allow_store_auth {bool} NOT NULL DEFAULT {true}",
    "ALTER TABLE hosts ADD COLUMN allow_store_prompts {bool} NOT NULL DEFAULT {true}",
)
