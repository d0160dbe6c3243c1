"""cdx installs Codex from a release: the whole package, safely unpacked, switched in one step."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from cdxsync.wrapper import baking
from cdxsync.wrapper.src import codex_package
from cdxsync.wrapper.src.errors import SyncError
from tests.support.codex_release import (
    CHECKSUMS,
    PACKAGE,
    TARGET,
    CodexRelease,
    Member,
    archive,
    file,
    package,
    special,
)
from tests.support.documents import make_auth
from tests.support.machines import (
    STUB_CODEX,
    STUB_KEY,
    Machine,
    everyday_programs,
    only_its_own_codex,
    seeing_mounts,
    stub_cdx,
    write_program,
)
from tests.support.stub_server import StubServer
from tests.support.together import at_once


@pytest.fixture
def machine(stub: StubServer, tmp_path: Path) -> Machine:
    """A machine whose cdx calls the stub, for its server and for GitHub, and where npm cannot install."""
    made = Machine(tmp_path / "m", path=str(everyday_programs(tmp_path)))
    write_program(made.bin / "npm", "#!/bin/sh\necho no network >&2\nexit 1\n")
    made.put_cdx(stub_cdx(stub.url, github=stub.url))
    made.put_auth(make_auth())
    names(stub, "0.170.0")
    return made


def names(stub: StubServer, version: str | None) -> None:
    """Have the server name a version of Codex."""
    stub.valid(versions={"client_version": version})


def versions(machine: Machine) -> list[str]:
    """What is in the folder of versions."""
    folder = machine.home / ".local/share/cdx"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_the_whole_package_is_installed(machine: Machine, stub: StubServer) -> None:
    members = [*package("0.170.0"), file("./codex-resources/bwrap", "#!/bin/sh\n", 0o4755)]
    members.append(special("codex-resources/lib.so", tarfile.SYMTYPE, "voice/manifest.json"))
    release = CodexRelease(stub, "0.170.0", members)
    done = machine.run_cdx("exec", "hi")
    assert (done.returncode, done.stdout) == (0, "ran with: exec hi\n")
    assert done.stderr == "cdx: updating to Codex 0.170.0\n"
    root = machine.home / ".local/share/cdx/codex-0.170.0"
    assert (machine.bin / "codex").readlink() == root / "bin/codex"
    modes = {str(path.relative_to(root)): path.lstat().st_mode & 0o7777 for path in root.rglob("*") if path.is_file()}
    assert modes == {
        "bin/codex": 0o755,
        "bin/codex-code-mode-host": 0o755,
        "codex-package.json": 0o644,
        "codex-path/rg": 0o755,
        "codex-resources/bwrap": 0o755,
        "codex-resources/voice/manifest.json": 0o644,
        "codex-resources/lib.so": 0o777,
    }
    assert root.stat().st_mode & 0o777 == 0o755
    assert (release.fetched(), release.fetched(CHECKSUMS)) == (1, 1)
    assert STUB_KEY not in json.dumps(
        [h for h, call in zip(stub.headers, stub.calls, strict=True) if "0.170" in call[1]]
    )
    assert machine.run_cdx("exec", "again").stderr == ""


@pytest.mark.parametrize("known", ["github", "list", "both"])
def test_one_checksum_is_enough(machine: Machine, stub: StubServer, known: str) -> None:
    release = CodexRelease(stub, "0.170.0")
    if known == "github":
        del release.files[CHECKSUMS]
    elif known == "list":
        release.digests = dict.fromkeys(release.digests)
    assert machine.run_cdx("exec", "hi").stderr == "cdx: updating to Codex 0.170.0\n"
    assert machine.note("state.json")["codex_version"] == "0.170.0"


def refused(machine: Machine, says: str) -> None:
    """Codex stays as it is, and cdx says why."""
    before = sorted(str(path) for path in machine.root.rglob("*") if ".codex" not in path.parts)
    done = machine.run_cdx("exec", "hi")
    assert (done.returncode, done.stdout) == (0, "ran with: exec hi\n")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (machine.bin / "codex").is_symlink()
    assert versions(machine) == []
    after = sorted(str(path) for path in machine.root.rglob("*") if ".codex" not in path.parts)
    new = {Path(path).name for path in set(after) - set(before)}
    assert new <= {"share", "cdx", ".cache"} | {name for name in new if name.endswith(".code")}, new


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({PACKAGE: "sha256:" + "0" * 64}, "the release has two checksums"),
        ({CHECKSUMS: "sha256:" + "0" * 64}, f"the checksum of {CHECKSUMS} is wrong"),
    ],
)
def test_checksums_that_do_not_agree(machine: Machine, stub: StubServer, change: dict[str, str], says: str) -> None:
    release = CodexRelease(stub, "0.170.0")
    release.digests.update(change)
    refused(machine, says)
    assert release.fetched() == 0


def test_a_package_without_a_checksum(machine: Machine, stub: StubServer) -> None:
    release = CodexRelease(stub, "0.170.0")
    release.put(CHECKSUMS, b"nothing\n")
    release.digests[PACKAGE] = None
    refused(machine, f"no {PACKAGE} with a checksum")
    assert release.fetched() == 0


def test_each_address_of_a_download_must_be_good(machine: Machine, stub: StubServer) -> None:
    """Not only the first and the last one."""
    release = CodexRelease(stub, "0.170.0")
    between = StubServer("127.0.0.2")  # another machine, as far as cdx can know
    try:
        path = f"/{release.version}/{PACKAGE}"
        stub.redirects[path] = between.url + path
        between.redirects[path] = f"{stub.url}/package"
        stub.answers["GET", "/package"] = (200, release.files[PACKAGE])
        done = machine.run_cdx("exec", "hi")
        assert f"{between.url}{path} is not encrypted" in done.stderr
        assert between.calls == []
        assert versions(machine) == []
    finally:
        between.stop()


def test_a_download_is_led_on_where_the_addresses_are_good(machine: Machine, stub: StubServer) -> None:
    release = CodexRelease(stub, "0.170.0")
    stub.redirects[f"/{release.version}/{PACKAGE}"] = f"{stub.url}/package"
    stub.answers["GET", "/package"] = (200, release.files[PACKAGE])
    assert machine.run_cdx("exec", "hi").returncode == 0
    assert versions(machine) == ["codex-0.170.0"]


@pytest.mark.parametrize(
    ("base", "address", "good"),
    [
        ("https://api.github.com", "https://objects.example.net/x", True),
        ("https://api.github.com", "HTTPS://objects.example.net/x", True),
        ("https://api.github.com", "http://localhost/x", False),
        ("https://api.github.com", "http://127.0.0.1:8080/x", False),
        ("https://api.github.com", "ftp://objects.example.net/x", False),
        ("https://api.github.com", "file:///etc/passwd", False),
        ("https://api.github.com", "http://[::1/x", False),
        ("http://localhost:8080", "http://127.0.0.1:8081/x", True),
        ("http://localhost:8080", "https://objects.example.net/x", True),
        ("http://localhost:8080", "http://objects.example.net/x", False),
        ("http://mirror.example.net", "http://mirror.example.net/x", False),
        ("http://mirror.example.net", "http://localhost/x", False),
    ],
)
def test_addresses_of_releases(monkeypatch: pytest.MonkeyPatch, base: str, address: str, good: bool) -> None:
    monkeypatch.setattr(codex_package, "GITHUB_API_URL", base)
    if good:
        codex_package.check_address(address)
    else:
        with pytest.raises(SyncError, match="is not encrypted"):
            codex_package.check_address(address)


def test_a_package_that_was_changed_on_the_way(machine: Machine, stub: StubServer) -> None:
    release = CodexRelease(stub, "0.170.0")
    release.files[PACKAGE] = archive([*package("0.170.0"), file("more")])
    refused(machine, f"the checksum of {PACKAGE} is wrong")


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([file("../evil", "x")], "a member with the path '../evil'"),
        ([file("bin/../../evil", "x")], "a member with the path"),
        ([file("/tmp/evil", "x")], "a member with the path '/tmp/evil'"),
        ([special("out", tarfile.SYMTYPE, "../..")], "a link that leads out of it, or nowhere: out"),
        ([special("out", tarfile.SYMTYPE, "/etc/passwd")], "a link that leads out"),
        ([special("x", tarfile.SYMTYPE, "."), special("bin/y", tarfile.SYMTYPE, "../x/../../..")], "a link that leads"),
        ([special("gone", tarfile.SYMTYPE, "nothing")], "or nowhere: gone"),
        ([special("out", tarfile.SYMTYPE, "../.."), file("out/evil", "x")], "two members of one name"),
        ([special("hard", tarfile.LNKTYPE, "bin/codex")], "a member that is no file: hard"),
        ([special("pipe", tarfile.FIFOTYPE)], "a member that is no file: pipe"),
        ([special("disk", tarfile.BLKTYPE)], "a member that is no file: disk"),
        ([file("bin/codex", "other", 0o755)], "two members of one name"),
        ([file("bin", "x")], "two members of one name"),
    ],
)
def test_members_that_lead_elsewhere(machine: Machine, stub: StubServer, members: list[Member], says: str) -> None:
    CodexRelease(stub, "0.170.0", [*package("0.170.0"), *members])
    refused(machine, says)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        (
            [member for member in package("0.170.0") if "json" not in str(member)],
            "the package has no codex-package.json",
        ),
        (package("0.170.0", version="0.171.0"), "the package's version is '0.171.0', and not 0.170.0"),
        (package("0.170.0", target="sparc"), f"the package's target is 'sparc', and not {TARGET}"),
        (package("0.170.0", entrypoint="../sh"), "the package's entrypoint is '../sh'"),
        (package("0.170.0")[2:], "the package has no program bin/codex"),
        ([*package("0.170.0")[2:], file("bin/codex", "no program")], "the package has no program bin/codex"),
        (
            [*package("0.170.0")[2:], special("bin/codex", tarfile.SYMTYPE, "codex-code-mode-host")],
            "the package has no program bin/codex",
        ),
        (
            [*package("0.170.0")[2:], file("bin/codex", STUB_CODEX, 0o755)],
            "the installed program reports version 0.169.0",
        ),
        ([], "the package has no codex-package.json"),
    ],
)
def test_packages_of_something_else(machine: Machine, stub: StubServer, members: list[Member], says: str) -> None:
    CodexRelease(stub, "0.170.0", members)
    refused(machine, says)


@pytest.mark.parametrize("broken", ["cut", "noise", "damaged"])
def test_archives_that_cannot_be_read(machine: Machine, stub: StubServer, broken: str) -> None:
    release = CodexRelease(stub, "0.170.0")
    whole = archive([*package("0.170.0"), file("big", bytes(range(256)) * 4000)])
    damaged = {
        "cut": whole[: len(whole) // 2],
        "noise": b"no archive",
        "damaged": whole[:300] + b"\xff" * 64 + whole[364:],
    }
    release.put(PACKAGE, damaged[broken])
    release.put(CHECKSUMS, f"{release.sha256(PACKAGE)}  {PACKAGE}\n".encode())
    refused(machine, "Release: ")


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (("MAX_ARCHIVE_BYTES = 1 << 30", "MAX_ARCHIVE_BYTES = 100"), "is too large"),
        (("MAX_PACKAGE_BYTES = 4 << 30", "MAX_PACKAGE_BYTES = 100"), "the archive is too large"),
        (("MAX_MEMBERS = 20000", "MAX_MEMBERS = 3"), "the archive is too large"),
    ],
)
def test_more_than_a_package_can_have(machine: Machine, stub: StubServer, limit: tuple[str, str], says: str) -> None:
    CodexRelease(stub, "0.170.0")
    text = machine.cdx.read_text()
    assert limit[0] in text
    machine.cdx.write_text(text.replace(*limit))
    refused(machine, says)


def test_an_empty_github_api_url_is_named(machine: Machine, stub: StubServer) -> None:
    machine.cdx.write_bytes(stub_cdx(stub.url))
    refused(machine, "the server's github_api_url is empty, so no release is looked up")


def native(machine: Machine, by: str = "cdx") -> str:
    """Put a Codex that is a program of its own, and no script, where cdx or its installer did; returns its version.

    It is a copy of Python, which prints a version too.
    """
    real = Path(sys.executable).resolve()
    version = subprocess.run([real, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    link = machine.home / ".local/bin/codex"
    program = machine.home / f".local/share/cdx/codex-{version}/bin/codex" if by == "cdx" else link
    program.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(real, program)
    (machine.bin / "codex").unlink()
    only_its_own_codex(machine)
    if by == "cdx":
        link.symlink_to(program)
    machine.env["PATH"] = f"{machine.home}/.local/bin:{machine.env['PATH']}"
    return version


@pytest.mark.parametrize(("by", "named"), [("cdx", "the same"), ("cdx", "0.170.0"), ("the installer", "the same")])
def test_a_single_program_is_replaced_by_its_package(machine: Machine, stub: StubServer, by: str, named: str) -> None:
    """The one of the same version, and while it may be running: it keeps its place."""
    version = native(machine, by)
    names(stub, version if named == "the same" else named)
    CodexRelease(stub, version)
    assert "codex is Codex alone" in machine.run_cdx("--doctor").stdout
    done = machine.run_cdx("exec", "hi")
    assert (done.returncode, done.stdout) == (0, "ran with: exec hi\n")
    assert done.stderr == f"cdx: fetching the whole of Codex {version}\n"
    assert versions(machine) == [f"codex-{version}", f"codex-{version}.2"][: 2 if by == "cdx" else 1]
    assert ((machine.home / ".local/bin/codex").resolve().parents[1] / "codex-path/rg").exists()
    assert machine.run_cdx("exec", "hi").stderr == ""
    assert "Codex alone" not in machine.run_cdx("--doctor").stdout


def test_a_single_program_of_an_old_release_stays(machine: Machine, stub: StubServer) -> None:
    version = native(machine)
    names(stub, version)
    release = CodexRelease(stub, version)
    program = (machine.home / ".local/bin/codex").read_bytes()
    release.files = {}
    name = f"codex-{TARGET}.tar.gz"
    release.put(name, archive([file(f"codex-{TARGET}", program, 0o755)]))
    assert "fetching the whole of Codex" in machine.run_cdx("--version-of-python").stderr
    assert machine.note("install.json")["single"] is True
    for _ in range(2):
        assert "Codex" not in machine.run_cdx("--version-of-python").stderr
    assert release.fetched(name) == 1


def test_two_at_once_fetch_it_once(machine: Machine, stub: StubServer) -> None:
    """Also for two homes: what is shared is the folder of versions."""
    release = CodexRelease(stub, "0.170.0")
    codes: list[int] = []

    def install(home: str) -> None:
        command = ("--wrapper-install-codex", "0.170.0", str(machine.bin / "codex"))
        codes.append(machine.run_cdx(*command, CODEX_HOME=str(machine.root / home)).returncode)

    at_once([lambda: install("one"), lambda: install("two")])
    assert codes == [0, 0]
    assert release.fetched() == 1
    assert versions(machine) == ["codex-0.170.0"]


def test_what_a_killed_installation_left_goes(machine: Machine, stub: StubServer) -> None:
    CodexRelease(stub, "0.170.0")
    (machine.home / ".local/share/cdx/.installing-old/bin").mkdir(parents=True)
    assert machine.run_cdx("exec", "hi").returncode == 0
    assert versions(machine) == ["codex-0.170.0"]


def test_a_full_disk_changes_nothing(machine: Machine, stub: StubServer) -> None:
    small = machine.home / ".local/share/cdx"
    small.mkdir(parents=True)
    mounted = seeing_mounts(f"mount -t tmpfs -o size=64k t {shlex.quote(str(small))}")
    noise = b"".join(i.to_bytes(4, "big") for i in range(100_000))
    CodexRelease(stub, "0.170.0", [*package("0.170.0"), file("big", noise)])
    done = machine.run(*mounted, str(machine.cdx), "exec", "hi")
    assert (done.returncode, done.stdout) == (0, "ran with: exec hi\n")
    assert f"Release: there is not enough space in {small}" in done.stderr
    assert not (machine.bin / "codex").is_symlink()


def test_an_update_that_another_has_overtaken_is_given_up(machine: Machine, stub: StubServer) -> None:
    release = CodexRelease(stub, "0.170.0")

    def slow(_: bytes) -> tuple[int, bytes]:
        write_program(machine.bin / "codex", STUB_CODEX.replace("0.169.0", "0.172.0"))
        return 200, release.files[PACKAGE]

    stub.answers["GET", f"/0.170.0/{PACKAGE}"] = slow
    done = machine.run_cdx("exec", "hi")
    assert (done.returncode, done.stdout) == (0, "ran with: exec hi\n")
    assert "the update to Codex 0.170.0 is given up: 0.172.0 is here by now, and runs" in done.stderr
    assert not (machine.bin / "codex").is_symlink()
    assert versions(machine) == []
    done = machine.run_cdx("--doctor")
    assert "Codex 0.172.0 is" in done.stdout
    assert "0.170.0" not in done.stdout


def test_what_failed_is_no_matter_when_it_was_overtaken(machine: Machine, stub: StubServer) -> None:
    assert "could not be installed" in machine.run_cdx("exec").stderr
    assert "could not be installed" in machine.run_cdx("--doctor").stdout
    write_program(machine.bin / "codex", STUB_CODEX.replace("0.169.0", "0.172.0"))
    assert "could not be installed" not in machine.run_cdx("--doctor").stdout


def test_the_daemon_of_another_version_is_shown(machine: Machine, stub: StubServer) -> None:
    """Codex's own updater has fetched it; under cdx the fleet's version runs all the same."""
    CodexRelease(stub, "0.170.0")
    packages = machine.home / ".codex/packages/app-server-daemon"
    (packages / "releases/0.172.0").mkdir(parents=True)
    (packages / "releases/0.172.0/codex-package.json").write_text('{"version": "0.172.0"}')
    (packages / "current").symlink_to(packages / "releases/0.172.0")
    assert machine.run_cdx("exec", "hi").stderr == "cdx: updating to Codex 0.170.0\n"
    shown = machine.run_cdx("--status").stdout
    assert f"0.170.0 (server: 0.170.0) {machine.bin}/codex; its daemon, outside cdx: 0.172.0\n" in shown


def test_a_newer_codex_is_named_by_an_update(machine: Machine, stub: StubServer) -> None:
    write_program(machine.bin / "codex", STUB_CODEX.replace("0.169.0", "0.172.0"))
    stub.serves_wrapper(machine.cdx.read_bytes(), baking.version())
    data: dict[str, Any] = json.loads(stub.answers["POST", "/auth"][1])["data"]  # type: ignore[index]
    stub.valid(versions=data["versions"] | {"client_version": "0.170.0"})
    done = machine.run_cdx("--update")
    assert done.returncode == 0
    assert "Codex 0.172.0 runs here: it is newer than the server's 0.170.0, and stays" in done.stderr


def test_the_package_of_codex_s_own_updater_is_left_alone(machine: Machine, stub: StubServer) -> None:
    release = CodexRelease(stub, "0.170.0")
    place = machine.home / ".codex/packages/standalone/releases/0.169.0/bin"
    write_program(place / "codex", STUB_CODEX)
    machine.env["PATH"] = f"{place}:{machine.env['PATH']}"
    assert machine.run_cdx("exec", "hi").stderr == ""
    assert release.fetched() == 0
    assert "it is kept up to date by Codex's own updater" in machine.run_cdx("--doctor").stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root installs for a whole machine")
def test_root_keeps_versions_beside_a_cdx_that_lies_elsewhere(machine: Machine, stub: StubServer) -> None:
    """Where /usr cannot be written to; `--uninstall` finds them."""
    CodexRelease(stub, "0.170.0")
    prefix = machine.root / "elsewhere"
    cdx = prefix / "bin/cdx"
    cdx.parent.mkdir(parents=True)
    cdx.write_bytes(machine.cdx.read_bytes())
    cdx.chmod(0o700)
    (machine.bin / "codex").unlink()
    done = machine.run(str(cdx), "--wrapper-install-codex", "0.170.0", str(prefix / "bin/codex"))
    assert (done.returncode, done.stderr) == (0, "")
    assert (prefix / "bin/codex").readlink() == prefix / "lib/cdx/codex-0.170.0/bin/codex"
    stub.answer("DELETE", "/auth?force=1", {})
    done = machine.run(str(cdx), "--uninstall", "--yes", PATH=f"{machine.bin}:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert [path for path in prefix.rglob("*") if not path.is_dir()] == []
