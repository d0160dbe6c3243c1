"""The commands of `cdxsync`, found in its Typer application, and words with which each can be run."""

from pathlib import Path
from typing import Any


def commands(command: Any, path: str = "") -> list[str]:
    """The names of all commands that do something, such as `hosts list`."""
    children = getattr(command, "commands", None)
    if children is None:
        return [path]
    shown = {name: child for name, child in children.items() if not child.hidden}
    own = [path] if path and command.invoke_without_command else []
    return own + [found for name, child in shown.items() for found in commands(child, f"{path} {name}".strip())]


EXAMPLES: dict[str, str] = {
    "init": "",
    "serve": "--listen 127.0.0.1:0",
    "overview": "",
    "top": "",
    "logs": "",
    "logs verify": "",
    "doctor": "",
    "hosts list": "",
    "hosts show": "web.example.net",
    "hosts auth": "web.example.net",
    "hosts register": "new.example.net",
    "hosts rotate": "web.example.net",
    "hosts delete": "web.example.net --yes",
    "hosts roaming": "web.example.net on",
    "hosts permit": "web.example.net --store-auth on",
    "hosts clear": "web.example.net --yes",
    "hosts purge": "web.example.net --prompts --usage --yes",
    "hosts unbind": "web.example.net",
    "hosts disable": "web.example.net",
    "hosts enable": "web.example.net",
    "auth show": "",
    "auth upload": "-",
    "auth accept": "web.example.net",
    "auth history": "",
    "auth diff": "1",
    "auth rollback": "previous --yes",
    "auth revoke": "--yes",
    "usage list": "",
    "usage tokens": "",
    "usage month": "",
    "usage summary": "",
    "usage quota": "",
    "prompts list": "",
    "prompts show": "a.md",
    "prompts history": "a.md",
    "prompts store": "- --name a.md",
    "prompts import": "@folder",
    "prompts delete": "a.md --yes",
    "versions show": "",
    "versions check": "",
    "state show": "",
    "state disable": "",
    "state enable": "",
    "runner status": "",
    "runner run": "",
    "jobs list": "",
    "jobs run": "versions",
    "wrapper show": "",
    "wrapper cat": "",
    "pki list": "",
    "pki issue": "second",
    "pki revoke": "admin --yes",
    "pki export": "admin --password-file @password --out @new",
    "pki renew": "",
    "keys list": "",
    "keys rotate": "",
    "keys export": "@new",
    "keys retire": "nothing --yes",
    "keys signing list": "",
    "keys signing rotate": "",
    "keys signing retire": "nothing --yes",
    "db migrate": "",
    "db accept": "--list",
    "db check": "",
    "db backup": "@new",
    "db restore": "@file --yes",
    "db export": "@new",
    "db import": "@file",
    "db import-reference": "@file",
}
"""Words that each command takes; `words_of` replaces those with an @."""


def words_of(path: str, folder: Path) -> list[str]:
    """A command with the words that it needs; its files are made in `folder`, or would be."""
    (folder / "folder").mkdir(exist_ok=True)
    for name, text in (("folder/a.md", "A prompt"), ("password", "a password of some length\n"), ("file", "{}")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    return path.split() + [str(folder / word[1:]) if word.startswith("@") else word for word in EXAMPLES[path].split()]
