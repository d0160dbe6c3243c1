"""What the server fills in for one host.

The lines keep this form because other tools read them with grep.
"""

# fmt: off
WRAPPER_VERSION="__WRAPPER_VERSION__"
CODEX_SYNC_BASE_URL_DEFAULT="__CODEX_SYNC_BASE_URL__"
CODEX_SYNC_API_KEY="__CODEX_SYNC_API_KEY__"
CODEX_SYNC_FQDN="__CODEX_SYNC_FQDN__"
CODEX_SYNC_CA_PEM="__CODEX_SYNC_CA_PEM__"
GITHUB_API_URL="__GITHUB_API_URL__"
CODEX_SYNC_SIGNING_KEYS="__CODEX_SYNC_SIGNING_KEYS__"
# fmt: on
