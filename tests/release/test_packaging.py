"""The wheel and the source archive: what is in them, that they can be made again, and that they install."""

import importlib.metadata
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cdxsync
from tests.support.fleet import BASE_ENVIRONMENT
from tests.support.serving import starts_and_stops

ROOT = Path(__file__).parents[2]
NAME = f"cdxsync-{cdxsync.__version__}"
SHELL_IS_NAMED = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}
UNNEEDED = shutil.ignore_patterns(
    ".git", ".venv*", ".*_cache", ".hypothesis", "*.egg-info", "build", "dist", "__pycache__"
)


def run(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=BASE_ENVIRONMENT | dict(env or {}),
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def build(kind: str, source: Path, folder: Path) -> Path:
    """A `wheel` or `sdist` of `source`, made as `pip` and `build` have it made, with what is installed here."""
    folder.mkdir()
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    run(sys.executable, "-c", code, folder, cwd=source, env=EPOCH)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the project, `source`."""
    folder = tmp_path_factory.mktemp("packaging")
    shutil.copytree(ROOT, folder / "source", ignore=UNNEEDED)
    return folder


@pytest.fixture(scope="module")
def sdist(folder: Path) -> Path:
    return build("sdist", folder / "source", folder / "sdist")


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    return build("wheel", folder / "source", folder / "wheel")


@pytest.fixture(scope="module")
def unpacked(sdist: Path, folder: Path) -> Path:
    (folder / "unpacked").mkdir()
    run("tar", "--extract", "--file", sdist, "--directory", folder / "unpacked")
    return folder / "unpacked" / NAME


def test_the_source_archive_makes_the_same_wheel(wheel: Path, unpacked: Path, folder: Path) -> None:
    """Byte by byte, from another folder and with files of another age."""
    again = build("wheel", unpacked, folder / "again")
    assert again.name == wheel.name == f"{NAME}-py3-none-any.whl"
    assert again.read_bytes() == wheel.read_bytes()


def test_the_source_archive_is_whole(unpacked: Path, folder: Path) -> None:
    """All that is in the project, so that its tests run there too."""
    source = folder / "source"
    files = {path.relative_to(source) for path in source.glob("*/**/*") if path.is_file()}
    assert {file for file in files if not (unpacked / file).exists() and file.parts[0] != "build"} == set()
    assert {"CHANGELOG.md", "LICENSE", "cli.py", "setup.cfg"} <= {path.name for path in unpacked.iterdir()}


def test_what_is_in_the_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    shared = {name.partition(".data/data/share/")[2] for name in names}
    assert {f"man/man{page.suffix[1:]}/{page.name}" for page in (ROOT / "man").iterdir()} <= shared
    examples = [path for path in (ROOT / "examples").rglob("*") if path.is_file()]
    assert {f"doc/cdxsync/examples/{path.relative_to(ROOT / 'examples')}" for path in examples} <= shared
    assert {f"doc/cdxsync/docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= shared
    assert {
        "bash-completion/completions/cdxsync",
        "zsh/site-functions/_cdxsync",
        "fish/vendor_completions.d/cdxsync.fish",
        "doc/cdxsync/examples/cdxsync.service",
    } <= shared
    code = {str(path.relative_to(ROOT)) for path in (ROOT / "cdxsync").rglob("*.py")}
    source = {name for name in code if name.startswith("cdxsync/wrapper/src/")}
    assert source & set(names) == set(), "only the joined file is installed"
    scripts = {f"cdxsync/wrapper/{name}" for name in ("cdx", "modules.txt", "checks.sh", "begin.sh", "install.sh")}
    assert {*(code - source), "cdxsync/py.typed", *scripts} <= set(names)
    static = {str(path.relative_to(ROOT)) for path in (ROOT / "cdxsync/dashboard/static").rglob("*") if path.is_file()}
    assert {*static, "cdxsync/dashboard/certificate.html"} <= set(names)
    assert f"{NAME}.dist-info/licenses/LICENSE" in names
    assert not [name for name in names if name.startswith(("tests", "benchmarks")) or "__pycache__" in name]


def test_the_metadata(wheel: Path) -> None:
    told = message_from_bytes(zipfile.ZipFile(wheel).read(f"{NAME}.dist-info/METADATA"))
    assert (told["License-Expression"], told["Requires-Python"]) == ("MIT", ">=3.11")
    assert told["Description-Content-Type"] == "text/markdown"
    classifiers = told.get_all("Classifier") or []
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= set(classifiers)
    pytest.importorskip("twine", reason="twine is not installed")
    run(sys.executable, "-m", "twine", "check", "--strict", wheel)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_are_those_of_the_program(shell: str) -> None:
    """What is installed calls the program as its own `--show-completion` says."""
    files = {"bash": "cdxsync", "zsh": "_cdxsync", "fish": "cdxsync.fish"}
    shown = run(Path(sys.executable).with_name("cdxsync"), "--show-completion", shell, env=SHELL_IS_NAMED)
    calls = [line for line in shown.splitlines() if "_COMPLETE=" in line]
    assert calls
    assert set(calls) <= set((ROOT / "completions" / files[shell]).read_text().splitlines())


@pytest.fixture(scope="module")
def house(wheel: Path, folder: Path) -> Path:
    """A folder with the wheel and all that it needs, from where pip gets it."""
    house = folder / "house"
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--prefer-binary", "--wheel-dir", house, wheel)
    return house


def uv(*arguments: str | Path, env: Mapping[str, str] | None = None) -> None:
    """uv, without a network and without its own idea of where packages are."""
    alone = {"UV_OFFLINE": "1", "UV_NO_CONFIG": "1", "UV_NO_INDEX": "1"}
    run(sys.executable, "-m", "uv", *arguments, env=alone | dict(env or {}))


def works(program: Path, folder: Path) -> None:
    """Make a home, start the server, and stop it."""
    assert run(program, "--version") == f"cdxsync {cdxsync.__version__}\n"
    options = ["--listen", "127.0.0.1:0", "--public-url", "https://x"]
    starts_and_stops([program, "--home", folder / "home", "serve", *options], BASE_ENVIRONMENT)


@pytest.mark.slow
def test_it_installs_with_pipx(wheel: Path, house: Path, tmp_path: Path) -> None:
    """That is pip in a new environment."""
    pytest.importorskip("pipx", reason="pipx is not installed")
    env = {name: str(tmp_path / name) for name in ("PIPX_HOME", "PIPX_BIN_DIR", "PIPX_MAN_DIR")}
    arguments = f"--pip-args=--no-index --no-compile --find-links {house}"
    run(sys.executable, "-m", "pipx", "install", "--python", sys.executable, arguments, wheel, env=env)
    works(tmp_path / "PIPX_BIN_DIR" / "cdxsync", tmp_path)
    assert (tmp_path / "PIPX_MAN_DIR" / "man1" / "cdxsync.1").exists()


@pytest.fixture(scope="module")
def tool(wheel: Path, house: Path, folder: Path) -> Path:
    """The environment of cdxsync as a tool of uv."""
    pytest.importorskip("uv", reason="uv is not installed")
    env = {"UV_TOOL_DIR": str(folder / "tools"), "UV_TOOL_BIN_DIR": str(folder / "bin")}
    uv("tool", "install", "--python", sys.executable, "--find-links", house, wheel, env=env)
    return folder / "tools" / "cdxsync"


@pytest.mark.slow
def test_it_installs_as_a_tool_of_uv(tool: Path, folder: Path, tmp_path: Path) -> None:
    assert (folder / "bin" / "cdxsync").resolve() == tool / "bin" / "cdxsync"
    works(folder / "bin" / "cdxsync", tmp_path)


def python(minor: int) -> Path:
    """A Python of this version, or a skip."""
    named = shutil.which(f"python3.{minor}")
    found = [Path(named)] if named else []
    found += Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3.{minor}")
    for candidate in found:
        if subprocess.run([candidate, "-c", ""], capture_output=True).returncode == 0:
            return candidate
    pytest.skip(f"no Python 3.{minor} here")


@pytest.mark.parametrize("minor", [minor for minor in (11, 12, 13) if minor != sys.version_info.minor])
@pytest.mark.slow
def test_it_works_with_another_python(wheel: Path, tmp_path: Path, minor: int) -> None:
    """Every module loads, also those that few commands need; and the server starts."""
    pytest.importorskip("uv", reason="uv is not installed")
    interpreter = python(minor)
    whole = f"{wheel}[mysql,postgres,reference]"
    only = ("--only-binary=:all:", f"--python-version=3.{minor}")
    run(sys.executable, "-m", "pip", "download", "--quiet", *only, "--dest", tmp_path / "house", whole)
    uv("venv", "--quiet", "--python", interpreter, tmp_path / "venv")
    programs = tmp_path / "venv" / "bin"
    uv("pip", "install", "--python", programs / "python", "--find-links", tmp_path / "house", whole)
    works(programs / "cdxsync", tmp_path)
    code = (
        "import importlib, pkgutil, cdxsync\n"
        "for found in pkgutil.walk_packages(cdxsync.__path__, 'cdxsync.'):\n"
        "    if not found.name.endswith('__main__'): importlib.import_module(found.name)\n"
    )
    run(programs / "python", "-W", "error::SyntaxWarning", "-c", code, cwd=tmp_path)


def test_a_bill_of_materials_names_what_it_needs(tool: Path, tmp_path: Path) -> None:
    """CycloneDX, made as CONTRIBUTING.md says, of an environment that has the wheel alone."""
    pytest.importorskip("cyclonedx_py", reason="cyclonedx-bom is not installed")
    made = tmp_path / "cdxsync.cdx.json"
    run(sys.executable, "-m", "cyclonedx_py", "environment", "--of", "JSON", "-o", made, tool / "bin" / "python")
    bill = json.loads(made.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    versions = {canonicalize_name(part["name"]): part["version"] for part in bill["components"]}
    needed = {
        canonicalize_name(Requirement(line).name)
        for line in importlib.metadata.requires("cdxsync") or ()
        if "extra" not in line
    }
    assert needed <= versions.keys()
    assert versions[canonicalize_name("cdxsync")] == cdxsync.__version__
