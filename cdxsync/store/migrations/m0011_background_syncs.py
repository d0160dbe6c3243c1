"""Which hosts sync in the background, by what, and when they last did."""

ADDITIVE = True
STATEMENTS = (
    "ALTER TABLE hosts ADD COLUMN background_by VARCHAR(16)",
    "ALTER TABLE hosts ADD COLUMN background_at VARCHAR(32)",
)
