"""Audit rows name the request in which they were written."""

STATEMENTS = ("ALTER TABLE logs ADD COLUMN request_id VARCHAR(64)",)
