"""The commands of `cdxsync`, found in its Typer application."""

from typing import Any


def commands(command: Any, path: str = "") -> list[str]:
    """The names of all commands that do something, such as `hosts list`."""
    children = getattr(command, "commands", None)
    if children is None:
        return [path]
    shown = {name: child for name, child in children.items() if not child.hidden}
    return [found for name, child in shown.items() for found in commands(child, f"{path} {name}".strip())]
