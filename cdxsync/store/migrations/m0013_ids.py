"""Ids of deleted rows are given to no other: they stand in audit rows, addresses, answers and other tables."""

ADDITIVE = True
STATEMENTS = ()
ENGINE_STEP = "never_reuse_ids"
