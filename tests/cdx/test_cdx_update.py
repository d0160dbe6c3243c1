"""cdx replaces itself, and installs and updates Codex, without ever standing in the way of a run."""

import hashlib
import io
import json
import os
import platform
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from cdxsync.wrapper import baking
from cdxsync.wrapper.src.versions import version_key
from tests.support.documents import make_auth
from tests.support.machines import (
    STUB_CODEX,
    STUB_KEY,
    Machine,
    everyday_programs,
    only_its_own_codex,
    stub_cdx,
    write_program,
)
from tests.support.stub_server import StubServer
from tests.support.together import until

ASSET = f"codex-{platform.machine()}-unknown-linux-musl"


def baked(stub: StubServer, version: str = "0.1.0") -> bytes:
    body = stub_cdx(stub.url, github=stub.url)
    return body.replace(f'WRAPPER_VERSION="{baking.version()}"'.encode(), f'WRAPPER_VERSION="{version}"'.encode())


@pytest.fixture
def machine(stub: StubServer, tmp_path: Path) -> Machine:
    """A machine whose cdx calls the stub, where nothing of the real world's programs is on PATH."""
    made = Machine(tmp_path / "m", path=str(everyday_programs(tmp_path)))
    write_program(made.bin / "npm", "#!/bin/sh\necho no network >&2\nexit 1\n")
    made.put_cdx(baked(stub))
    made.put_auth(make_auth())
    stub.valid()
    return made


@pytest.mark.parametrize("mode", [0o700, 0o750])
def test_a_newer_cdx_is_taken_and_the_run_goes_on(machine: Machine, stub: StubServer, mode: int) -> None:
    machine.cdx.chmod(mode)
    new = baked(stub, "0.2.0")
    stub.serves_wrapper(new, "0.2.0")
    done = machine.run_cdx("exec", "hi", CODEX_EXIT="3")
    assert (done.returncode, done.stdout) == (3, "ran with: exec hi\n")
    assert done.stderr == "cdx: cdx is updated to 0.2.0\n"
    assert machine.cdx.read_bytes() == new
    assert machine.cdx.stat().st_mode & 0o777 == mode
    assert [path.name for path in machine.cdx.parent.iterdir()] == ["cdx"]
    downloads = stub.calls.count(("GET", "/wrapper/download"))
    assert machine.run_cdx("exec", "again").stderr == ""
    assert stub.calls.count(("GET", "/wrapper/download")) == downloads


def test_the_same_version_made_anew_is_taken(machine: Machine, stub: StubServer) -> None:
    """So that hosts learn of a new CA or another address of the server."""
    new = baked(stub) + b"# made anew\n"
    stub.serves_wrapper(new, "0.1.0")
    assert machine.run_cdx("exec").returncode == 0
    assert machine.cdx.read_bytes() == new


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda body: b"#!/bin/sh\nexit 1\n", "fails its self-test"),
        (lambda body: b"\x00 no program", "fails its self-test"),
        (lambda body: body.replace(b"import sys\n", b"import sys, nonsense\n", 1), "fails its self-test"),
        (lambda body: body.replace(b'"0.2.0"', b'"0.2.1"'), "fails its self-test"),
        (lambda body: body.replace(STUB_KEY.encode(), b"__CODEX_SYNC_API_KEY__"), "fails its self-test"),
    ],
)
def test_a_broken_cdx_is_not_taken(machine: Machine, stub: StubServer, change: Any, says: str) -> None:
    old = machine.cdx.read_bytes()
    stub.serves_wrapper(change(baked(stub, "0.2.0")), "0.2.0")
    done = machine.run_cdx("exec", "hi")
    assert (done.returncode, done.stdout) == (0, "ran with: exec hi\n")
    assert says in done.stderr
    assert machine.cdx.read_bytes() == old
    assert [path.name for path in machine.cdx.parent.iterdir()] == ["cdx"]
    assert machine.run_cdx("--update").returncode == 1


def test_a_cdx_that_works_only_elsewhere_is_taken_back(machine: Machine, stub: StubServer) -> None:
    old = machine.cdx.read_bytes()
    new = f'#!/bin/sh\ncase "$0" in {machine.cdx}) exit 1;; esac\necho "cdx wrapper 0.2.0"\n'.encode()
    stub.serves_wrapper(new, "0.2.0")
    done = machine.run_cdx("exec", "hi")
    assert (done.returncode, done.stdout) == (0, "ran with: exec hi\n")
    assert "fails its self-test" in done.stderr
    assert machine.cdx.read_bytes() == old
    assert machine.cdx.stat().st_mode & 0o777 == 0o700


def test_a_wrong_checksum_is_refused(machine: Machine, stub: StubServer) -> None:
    old = machine.cdx.read_bytes()
    stub.serves_wrapper(baked(stub, "0.2.0"), "0.2.0", sha256="0" * 64)
    done = machine.run_cdx("exec")
    assert done.returncode == 0
    assert "checksum" in done.stderr
    assert machine.cdx.read_bytes() == old


def test_an_older_cdx_comes_only_when_asked_for(machine: Machine, stub: StubServer) -> None:
    machine.cdx.write_bytes(baked(stub, "0.10.0"))
    old = baked(stub, "0.9.0")
    stub.serves_wrapper(old, "0.9.0")
    assert machine.run_cdx("exec").stderr == ""
    assert b'"0.10.0"' in machine.cdx.read_bytes()
    done = machine.run_cdx("--update", "--debug")
    assert (done.returncode, done.stdout) == (0, "")
    assert "cdx is the server's version 0.9.0" in done.stderr
    assert "GET /wrapper/download" in done.stderr
    assert machine.cdx.read_bytes() == old


def test_settings_from_the_environment_do_not_change_the_program(machine: Machine, stub: StubServer) -> None:
    stub.serves_wrapper(baked(stub, "0.2.0"), "0.2.0")
    assert machine.run_cdx("exec", CODEX_SYNC_BASE_URL=stub.url).stderr == ""
    assert b'WRAPPER_VERSION="0.1.0"' in machine.cdx.read_bytes()


def test_update_without_a_server_fails(machine: Machine, stub: StubServer) -> None:
    stub.stop()
    done = machine.run_cdx("--update")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr


# --- Codex itself


def names_codex(stub: StubServer, version: str | None) -> None:
    stub.valid(versions={"client_version": version})


def npm(machine: Machine, then: str = "") -> Path:
    """A fake npm that installs a Codex of the version that it is asked for, and logs its arguments."""
    log = machine.root / "npm.log"
    text = f"""#!/bin/sh
echo "$*" >>"{log}"
env | grep -q cdx_5 && exit 9
{then}
while [ $# -gt 0 ]; do
    case "$1" in --prefix) prefix=$2;; @openai/codex@*) version=${{1#@openai/codex@}};; esac
    shift
done
mkdir -p "$prefix/bin" "$prefix/lib/node_modules/@openai/codex/bin"
program="$prefix/lib/node_modules/@openai/codex/bin/codex.js"
cat >"$program" <<CODEX
#!/bin/sh
[ "\\$1" = --version ] && echo "codex-cli $version" && exit
echo "$version ran with: \\$*"
CODEX
chmod +x "$program"
ln -s ../lib/node_modules/@openai/codex/bin/codex.js "$prefix/bin/codex"
"""
    write_program(machine.bin / "npm", text)
    return log


def test_codex_is_updated_by_npm_before_the_run(machine: Machine, stub: StubServer) -> None:
    log = npm(machine)
    names_codex(stub, "0.170.0")
    done = machine.run_cdx("exec", "hi")
    assert (done.returncode, done.stdout) == (0, "0.170.0 ran with: exec hi\n")
    assert done.stderr == "cdx: updating to Codex 0.170.0\n"
    assert "@openai/codex@0.170.0" in log.read_text()
    assert machine.run_cdx("exec", "again").stderr == ""
    names_codex(stub, "0.171.0")
    assert machine.run_cdx("exec", "hi").stdout == "0.171.0 ran with: exec hi\n"
    names_codex(stub, "0.172.0")
    assert machine.run_cdx("exec", "hi").stdout == "0.172.0 ran with: exec hi\n"
    # The version before stays for those who run it; older ones go.
    kept = sorted(path.name for path in (machine.home / ".local/share/cdx").iterdir())
    assert kept == ["codex-0.171.0", "codex-0.172.0"]


@pytest.mark.parametrize(
    "named", ["0.169.0", "0.168.9", "0.9.0", "0.169.0-alpha.1", None, "nonsense", "1; rm -rf", "99"]
)
def test_codex_is_never_downgraded(machine: Machine, stub: StubServer, named: str | None) -> None:
    log = npm(machine)
    names_codex(stub, named)
    assert machine.run_cdx("exec", "hi").stdout == "ran with: exec hi\n"
    assert not log.exists()


def test_codex_is_installed_where_there_is_none(machine: Machine, stub: StubServer) -> None:
    npm(machine)
    (machine.bin / "codex").unlink()
    names_codex(stub, "0.170.0")
    done = only_its_own_codex(machine).run_cdx("exec", "hi")
    assert (done.returncode, done.stdout) == (0, "0.170.0 ran with: exec hi\n")
    assert (machine.home / ".local/bin/codex").is_symlink()


class Release:
    """A release of Codex on the stub, for this machine."""

    def __init__(self, stub: StubServer, version: str) -> None:
        program = STUB_CODEX.replace("0.169.0", version).encode()
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            info = tarfile.TarInfo(ASSET)
            info.size, info.mode = len(program), 0o755
            archive.addfile(info, io.BytesIO(program))
        self.archive = buffer.getvalue()
        self.asset: dict[str, Any] = {
            "name": f"{ASSET}.tar.gz",
            "browser_download_url": f"{stub.url}/asset",
            "digest": f"sha256:{hashlib.sha256(self.archive).hexdigest()}",
        }
        stub.answers["GET", "/asset"] = lambda _: (200, self.archive)
        stub.answers["GET", f"/repos/openai/codex/releases/tags/rust-v{version}"] = lambda _: (
            200,
            json.dumps({"assets": [{"name": "other"}, self.asset]}).encode(),
        )


def test_codex_comes_from_its_release_when_npm_cannot(machine: Machine, stub: StubServer) -> None:
    Release(stub, "0.170.0")
    names_codex(stub, "0.170.0")
    done = machine.run_cdx("exec", "hi")
    assert (done.returncode, done.stdout) == (0, "ran with: exec hi\n")
    assert machine.note("state.json")["codex_version"] == "0.170.0"
    assert STUB_KEY not in json.dumps(
        [stub.headers[index] for index, call in enumerate(stub.calls) if "asset" in call[1]]
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"digest": "sha256:" + "0" * 64}, "checksum"),
        ({"digest": None}, "no codex-"),
        ({"browser_download_url": "http://example.net/x"}, "not encrypted"),
        ({"name": "codex-other.tar.gz"}, "no codex-"),
    ],
)
def test_a_doubtful_release_is_not_installed(
    machine: Machine, stub: StubServer, change: dict[str, Any], says: str
) -> None:
    Release(stub, "0.170.0").asset.update(change)
    names_codex(stub, "0.170.0")
    done = machine.run_cdx("exec", "hi")
    assert (done.returncode, done.stdout) == (0, "ran with: exec hi\n")
    assert "could not be installed" in done.stderr
    assert says in done.stderr
    assert "no network" in done.stderr  # npm's own word
    assert not (machine.bin / "codex").is_symlink()
    # It is not tried again with every run; the doctor tells.
    calls = len(stub.calls)
    assert machine.run_cdx("exec", "hi").stderr == ""
    assert ("GET", "/asset") not in stub.calls[calls:]
    assert "could not be installed" in machine.run_cdx("--doctor").stdout


def test_an_archive_of_something_else_is_not_installed(machine: Machine, stub: StubServer) -> None:
    release = Release(stub, "0.170.0")
    release.archive = b"no archive"
    release.asset["digest"] = f"sha256:{hashlib.sha256(release.archive).hexdigest()}"
    names_codex(stub, "0.170.0")
    done = machine.run_cdx("exec", "hi")
    assert (done.returncode, done.stdout) == (0, "ran with: exec hi\n")
    assert "archive cannot be read" in done.stderr


def test_a_slow_installation_goes_on_in_the_background(machine: Machine, stub: StubServer) -> None:
    go = machine.root / "go"
    os.mkfifo(go)
    npm(machine, then=f'read -r _ <"{go}"')
    names_codex(stub, "0.170.0")
    machine.cdx.write_bytes(machine.cdx.read_bytes().replace(b"UPDATE_SECONDS = 30.0", b"UPDATE_SECONDS = 0.2"))
    done = machine.run_cdx("exec", "hi")
    assert (done.returncode, done.stdout) == (0, "ran with: exec hi\n")
    assert "continues in the background" in done.stderr
    # A second run does not start a second installation of its own beside the first.
    assert machine.run_cdx("exec", "hi").returncode == 0
    go.write_text("\n")
    until((machine.bin / "codex").is_symlink)
    assert machine.run_cdx("exec", "hi").stdout == "0.170.0 ran with: exec hi\n"


@pytest.mark.parametrize("place", ["node_modules/.bin", "Cellar/codex/bin"])
def test_a_codex_of_another_manager_is_left_to_it(machine: Machine, stub: StubServer, place: str) -> None:
    log = npm(machine)
    (machine.bin / "codex").unlink()
    write_program(machine.root / place / "codex", STUB_CODEX)
    machine.env["PATH"] = f"{machine.root / place}:{machine.env['PATH']}"
    names_codex(stub, "0.170.0")
    done = machine.run_cdx("exec", "hi")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran with: exec hi\n", "")
    assert not log.exists()
    assert "the server offers Codex 0.170.0" in machine.run_cdx("--doctor").stdout


parts = st.lists(st.integers(0, 30), min_size=2, max_size=4)


@given(
    parts, st.sampled_from(["", "-alpha.1", "-alpha.10", "-beta.2"]), parts, st.sampled_from(["", "-alpha.2", "-rc.1"])
)
def test_versions_are_ordered(one: list[int], suffix: str, other: list[int], other_suffix: str) -> None:
    texts = [".".join(map(str, one)) + suffix, ".".join(map(str, other)) + other_suffix]
    ours = [version_key(text) for text in texts]
    theirs = [Version(text) for text in texts]
    assert (ours[0] < ours[1], ours[0] == ours[1]) == (theirs[0] < theirs[1], theirs[0] == theirs[1])


def test_versions_with_prefixes() -> None:
    assert version_key("rust-v0.63.0") == version_key("codex-cli 0.63") == version_key("0.63.0")
    assert version_key("") < version_key("0.0.1")
    # More digits than Python turns into a number.
    assert version_key("0.1") < version_key("1" * 5000)
