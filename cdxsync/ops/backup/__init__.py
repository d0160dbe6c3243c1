"""Backups: a live database, and what belongs to it, in one file; and restoring it.

A backup is a ZIP file with `manifest.json` (see `cdxsync.ops.backup.archive`), `cdxsync.db`, and, unless it holds the
database only, `keyring.json`, `signing.json`, `config.toml` and `pki/`. With a password the whole file is encrypted
(`cdxsync.ops.backup.encryption`).
"""
