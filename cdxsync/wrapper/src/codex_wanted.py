"""Whether a run has a Codex to install: looked at by each, so that what installs it is loaded by few."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.versions import VERSION, version_key

if TYPE_CHECKING:
    from typing import Any

    from cdxsync.wrapper.src.codex import Build

MANIFEST = "codex-package.json"
# The first bytes of programs for Linux and macOS.
PROGRAM_MAGICS = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")


def named_version(versions: dict[str, Any]) -> str | None:
    """The version of Codex that the server names, or None."""
    named = versions.get("client_version")
    return named if isinstance(named, str) and re.match(VERSION, named) else None


def may_want_codex(build: Build, versions: dict[str, Any]) -> bool:
    """Whether the server names a version that may have to be installed; `wanted_codex` says which."""
    named = named_version(versions)
    if named is None:
        return False
    if not build.program:
        return True
    return version_key(build.version) < version_key(named) or is_single(build.program)


def is_single(program: str) -> bool:
    """Whether a program is Codex alone, without the package that its full-screen program needs."""
    real = os.path.realpath(program)
    if os.path.exists(os.path.join(os.path.dirname(os.path.dirname(real)), MANIFEST)):
        return False
    try:
        with open(real, "rb") as file:
            return file.read(4) in PROGRAM_MAGICS
    except OSError:
        return False
