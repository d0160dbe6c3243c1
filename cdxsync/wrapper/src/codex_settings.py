"""What makes Codex use another login than the one in auth.json, or none."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.accounts import tokens_of
from cdxsync.wrapper.src.document import LocalDocument
from cdxsync.wrapper.src.errors import SyncError
from cdxsync.wrapper.src.files import paths_in, read_regular

if TYPE_CHECKING:
    from typing import Iterator, List, Tuple

    # The texts of a setting's value, and the file that sets it.
    Setting = Tuple[List[str], str]
    # What is set, and what to do about it.
    Finding = Tuple[str, str]

# Codex takes these before its file. OPENAI_API_KEY it does not take, nor any of them from its `.env`.
OVERRIDING_VARIABLES = ("CODEX_API_KEY", "CODEX_ACCESS_TOKEN")
STORE_SETTING = "cli_auth_credentials_store"
# Codex deletes a login that does not fit these.
METHOD_SETTING = "forced_login_method"
WORKSPACE_SETTING = "forced_chatgpt_workspace_id"
SYSTEM_SETTINGS = "/etc/codex/config.toml"
# What a company sets; no argument changes it.
MANAGED_SETTINGS = ("/etc/codex/managed_config.toml", "/etc/codex/requirements.toml")
MAX_SETTINGS_BYTES = 1 << 20
NOT_SET: Setting = ([], "")
# A text that is not closed goes to the end of the file or line: each is looked through once.
TOML_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?(?:"""|\\?\Z)|' + r"'{3}.*?(?:'{3}|\Z)|"
    r'"(?:\\[^\n]|[^"\\\n])*(?:"|\\?(?=\n|\Z))|' + r"'[^'\n]*'?|#[^\n]*|[\[\]{}=\n]|"
    r"""[^\s"'#\[\]{}=]+""",
    re.DOTALL,
)


def settings_in(path: str) -> dict[str, list[str]]:
    """The settings before the first table of a TOML file: the texts of each value. Empty for a file that is none."""
    found: dict[str, list[str]] = {}
    text = settings_text(path)
    name, depth = "", 0
    values: list[str] | None = None
    for piece in [*TOML_TOKEN.findall(text), "\n"]:
        if piece == "\n":
            if depth == 0:
                if name and values:
                    found[name] = values
                name, values = "", None
        elif piece == "[" and depth == 0 and not name and values is None:
            break  # what follows belongs to a table
        elif piece in ("[", "{"):
            depth += 1
        elif piece in ("]", "}"):
            depth = max(0, depth - 1)
        elif piece == "=" and depth == 0 and values is None:
            values = []
        elif piece.startswith("#"):
            continue
        elif values is None:
            name += piece.strip("\"'")
        else:
            values.append(piece.strip("\"'").strip("\n"))
    return found


def settings_text(path: str) -> str:
    """The text of a file; empty for one that cannot be read."""
    with contextlib.suppress(OSError):
        return read_regular(path)[0][:MAX_SETTINGS_BYTES].decode("utf-8", "replace").replace("\r\n", "\n")
    return ""


def settings_files(home: str) -> Iterator[str]:
    """The files of settings that count for a run in the working folder; a later one decides."""
    yield SYSTEM_SETTINGS
    own = os.path.join(home, "config.toml")
    yield own
    trusted = settings_text(own)
    folder = ""
    with contextlib.suppress(OSError):
        folder = os.getcwd()
    folders = []
    while folder and folder != os.path.dirname(folder):
        folders.append(folder)
        folder = os.path.dirname(folder)
    # A project counts that the user has called trusted; that names its uppermost folder.
    named = [folder for folder in folders if '"%s"' % folder in trusted]
    for folder in reversed(folders[: folders.index(named[-1]) + 1] if named else []):
        path = os.path.join(folder, ".codex", "config.toml")
        if os.path.realpath(path) != os.path.realpath(own):
            yield path
    yield from MANAGED_SETTINGS


def settings_of(home: str) -> dict[str, Setting]:
    """The settings that count for a run in the working folder."""
    found: dict[str, Setting] = {}
    for path in settings_files(home):
        found.update({name: (values, path) for name, values in settings_in(path).items()})
    return found


def credentials_store(home: str) -> str:
    """Where Codex keeps its login by its settings: `file`, unless they name another place."""
    values, _ = settings_of(home).get(STORE_SETTING, NOT_SET)
    return values[0] if values else "file"


def other_logins(home: str, file_store: bool) -> list[Finding]:
    """What is set, and what to do, for each setting by which Codex does not use the login in auth.json.

    `file_store`: cdx tells Codex to use the file.
    """
    found = [
        ("%s is set: Codex uses that instead of the login in auth.json" % name, "unset %s" % name)
        for name in OVERRIDING_VARIABLES
        if os.environ.get(name, "").strip()
    ]
    settings = settings_of(home)
    values, place = settings.get(STORE_SETTING, NOT_SET)
    if values and values[0] != "file" and (not file_store or place in MANAGED_SETTINGS):
        text = "%s is %s in %s: Codex may not use the login in auth.json" % (STORE_SETTING, values[0], place)
        found.append((text, 'set %s = "file" in %s' % (STORE_SETTING, place)))
    # Of profiles: each counts for runs with `--profile` alone.
    for path in paths_in(home, ".config.toml"):
        values = settings_in(path).get(STORE_SETTING, [])
        if values and values[0] != "file" and not file_store:
            profile = os.path.basename(path)[: -len(".config.toml")]
            text = "%s is %s in %s: with --profile %s Codex may not use the login in auth.json"
            found.append((text % (STORE_SETTING, values[0], path, profile), "set it to file, or leave it out"))
    return found + forced_logins(home, settings)


def forced_logins(home: str, settings: dict[str, Setting]) -> list[Finding]:
    """The settings by which Codex deletes the login that is in auth.json now."""
    try:
        document = LocalDocument(os.path.join(home, "auth.json")).document
    except SyncError:
        document = None
    if document is None:
        return []
    tokens = tokens_of(document)
    found = []
    values, place = settings.get(METHOD_SETTING, NOT_SET)
    kind = "chatgpt" if tokens.get("access_token") else "api" if document.get("OPENAI_API_KEY") else ""
    if values and kind and values[0] != kind:
        text = "%s is %s in %s: Codex deletes this login, which is of another kind" % (METHOD_SETTING, values[0], place)
        found.append((text, "take %s out of %s" % (METHOD_SETTING, place)))
    values, place = settings.get(WORKSPACE_SETTING, NOT_SET)
    if values and kind == "chatgpt" and tokens.get("account_id") not in values:
        text = "%s in %s is not this login's account: Codex deletes the login" % (WORKSPACE_SETTING, place)
        found.append((text, "take %s out of %s" % (WORKSPACE_SETTING, place)))
    return found
