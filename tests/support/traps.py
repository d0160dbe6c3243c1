"""Modules of Python that lie where a program of ours runs, and tell when one of them is loaded."""

import sys
from pathlib import Path


def plant(folder: Path) -> Path:
    """Put a module of each name that the standard library has into a folder; returns the file that loading one leaves.

    Loading one ends the program, too.
    """
    loaded = folder.with_name(f"{folder.name}.loaded")
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*sys.stdlib_module_names, "sitecustomize", "usercustomize", "cdxsync", "yaml", "pip"):
        note = f"import posix\ndone = posix.open({str(loaded)!r}, posix.O_CREAT | posix.O_WRONLY | posix.O_APPEND)\n"
        (folder / f"{name}.py").write_text(f"{note}posix.write(done, b'{name} ')\nposix._exit(99)\n")
    return loaded
