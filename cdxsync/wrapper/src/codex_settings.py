"""What makes Codex use another login than the one in auth.json."""

from __future__ import annotations

import contextlib
import os
import re

# Codex takes these before its file.
OVERRIDING_VARIABLES = ("CODEX_API_KEY", "CODEX_ACCESS_TOKEN")
STORE_SETTING = "cli_auth_credentials_store"
STORE_LINE = re.compile(r"""\s*(["']?)%s\1\s*=\s*(["'])([^"']*)\2\s*(?:#.*)?$""" % STORE_SETTING)


def credentials_store(home: str) -> str:
    """Where Codex keeps its login by config.toml: `file`, unless that names another place."""
    store, within = "file", ""
    with contextlib.suppress(OSError), open(
        os.path.join(home, "config.toml"), encoding="utf-8", errors="replace"
    ) as file:
        for line in file:
            if within:
                if line.count(within) % 2:
                    within = ""
                continue
            if line.lstrip().startswith("["):
                break  # what follows belongs to a table
            found = STORE_LINE.match(line)
            if found:
                store = found.group(3)
            # A text of several lines may look like anything.
            within = next((mark for mark in ('"' * 3, "'" * 3) if line.count(mark) % 2), "")
    return store


def other_logins(home: str, file_store: bool) -> list[tuple[str, str]]:
    """What is set, and what to do, for each setting by which Codex does not use the login in auth.json."""
    found = [
        ("%s is set: Codex uses that instead of the login in auth.json" % name, "unset %s" % name)
        for name in OVERRIDING_VARIABLES
        if os.environ.get(name, "").strip()
    ]
    store = credentials_store(home)
    if store != "file" and not file_store:
        text = "%s is %s in config.toml: Codex may not use the login in auth.json" % (STORE_SETTING, store)
        found.append((text, 'set %s = "file" in %s' % (STORE_SETTING, os.path.join(home, "config.toml"))))
    return found
