"""cdxsync keeps one canonical Codex `auth.json` for a fleet of hosts."""

__version__ = "0.1.0"
