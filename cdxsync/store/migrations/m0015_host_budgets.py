"""What each host has stored today, for the bounds on it; what an older server takes is not counted."""

ADDITIVE = True
STATEMENTS = (
    """CREATE TABLE host_budgets (
        host_id {integer} NOT NULL PRIMARY KEY REFERENCES hosts (id) ON DELETE CASCADE,
        day VARCHAR(10) NOT NULL,
        usage_rows {bigint} NOT NULL DEFAULT 0,
        usage_bytes {bigint} NOT NULL DEFAULT 0,
        prompt_bytes {bigint} NOT NULL DEFAULT 0
    )""",
)
