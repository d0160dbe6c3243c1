"""All tables as JSON lines, to move a fleet from one database to another, whatever their engines.

    {"format": "cdxsync-export-1", "program_version": …, "schema": "<last migration>", "key_ids": […], "rows": {…}}
    {"keyring": {…}}                                         only with `--with-keyring`, and "signing" then
    {"table": "hosts", "row": {"id": 1, …}}                  one a line; tables and rows in a fixed order
    {"end": true, "sha256": "<of all bytes before this line>"}

Sealed values stay sealed: each is bound to its row, and ids do not change. The same content always gives the same
bytes.
"""
