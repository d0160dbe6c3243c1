"""The ledger of migrations says which of them older programs tolerate."""

ADDITIVE = True
STATEMENTS = ("ALTER TABLE schema_migrations ADD COLUMN additive INTEGER NOT NULL DEFAULT 0",)
