"""Which usage was not of a run of `cdx`: of plain Codex, an IDE or a daemon, in the home that `cdx` looks after."""

ADDITIVE = True
STATEMENTS = ("ALTER TABLE token_usages ADD COLUMN outside {bool} NOT NULL DEFAULT {false}",)
