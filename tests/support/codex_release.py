"""Releases of Codex on a stub of GitHub: the whole package with its list of checksums, or one program as of old."""

import hashlib
import io
import json
import platform
import tarfile
from typing import Any

from tests.support.machines import STUB_CODEX
from tests.support.stub_server import StubServer

TARGET = f"{platform.machine()}-unknown-linux-musl"
PACKAGE = f"codex-package-{TARGET}.tar.gz"
CHECKSUMS = "codex-package_SHA256SUMS"
Member = tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]


def file(name: str, content: str | bytes = b"", mode: int = 0o644) -> Member:
    """A file of an archive."""
    info = tarfile.TarInfo(name)
    data = content.encode() if isinstance(content, str) else content
    info.size, info.mode = len(data), mode
    return info, data


def special(name: str, kind: bytes, target: str = "") -> Member:
    """Anything else: a folder, link, device."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, 0o755
    return info


def archive(members: list[Member]) -> bytes:
    """The bytes of an archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as made:
        for member in members:
            if isinstance(member, tuple):
                made.addfile(member[0], io.BytesIO(member[1]))
            else:
                made.addfile(member)
    return buffer.getvalue()


def package(version: str, /, **manifest: Any) -> list[Member]:
    """The members of a package, laid out as the real one."""
    described = {
        "layoutVersion": 1,
        "version": version,
        "target": TARGET,
        "variant": "codex",
        "entrypoint": "bin/codex",
        "resourcesDir": "codex-resources",
        "pathDir": "codex-path",
    } | manifest
    return [
        special("bin", tarfile.DIRTYPE),
        file("bin/codex", STUB_CODEX.replace("0.169.0", version), 0o755),
        file("bin/codex-code-mode-host", "#!/bin/sh\n", 0o755),
        file("codex-package.json", json.dumps(described)),
        special("codex-path", tarfile.DIRTYPE),
        file("codex-path/rg", "#!/bin/sh\n", 0o755),
        file("codex-resources/voice/manifest.json", "{}", 0o600),
    ]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class CodexRelease:
    """A release on a stub, of any files; changed in place by tests."""

    def __init__(self, stub: StubServer, version: str, members: list[Member] | None = None) -> None:
        self.stub = stub
        self.version = version
        self.tag = f"rust-v{version}"
        self.files: dict[str, bytes] = {}
        self.digests: dict[str, str | None] = {}
        self.put(PACKAGE, archive(package(version) if members is None else members))
        self.put(CHECKSUMS, f"{'0' * 64}  codex-package-other.tar.gz\n{self.sha256(PACKAGE)}  {PACKAGE}\n".encode())
        for path in (f"tags/{self.tag}", "latest"):
            stub.answers["GET", f"/repos/openai/codex/releases/{path}"] = lambda _: (200, self.described())

    def sha256(self, name: str) -> str:
        """The checksum of a file."""
        return sha256(self.files[name])

    def put(self, name: str, content: bytes) -> None:
        """Have a file in it, with the checksum that GitHub adds."""
        self.files[name] = content
        self.digests[name] = f"sha256:{sha256(content)}"
        self.stub.answers["GET", f"/{self.version}/{name}"] = lambda _: (200, self.files[name])

    def fetched(self, name: str = PACKAGE) -> int:
        """How many times a file was fetched."""
        return self.stub.calls.count(("GET", f"/{self.version}/{name}"))

    def described(self) -> bytes:
        """What GitHub says of it."""
        assets = [
            {
                "name": name,
                "size": len(content),
                "browser_download_url": f"{self.stub.url}/{self.version}/{name}",
                "digest": self.digests[name],
            }
            for name, content in self.files.items()
        ]
        return json.dumps({"tag_name": self.tag, "assets": [{"name": "other"}, *assets]}).encode()
