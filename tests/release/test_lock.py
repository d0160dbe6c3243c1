"""What is installed besides the program: bounds without known faults, and locks that pin all of it by hashes."""

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROGRAM, EVERYTHING = "requirements.lock", "requirements-dev.lock"
FIRST_WITHOUT_KNOWN_FAULTS = {
    "ansible-core": "2.18.1",
    "cryptography": "46.0.5",
    "pymysql": "1.1.1",
    "pynacl": "1.6.2",
    "pytest": "9.0.3",
    "requests": "2.33",
    "setuptools": "78.1.1",
    "urllib3": "2.6.3",
    "uv": "0.9.6",
}


def declared() -> dict[str, list[Requirement]]:
    """The requirements of `setup.cfg`, by extra; those of the program itself are under an empty name."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    texts = {"": parser["options"]["install_requires"], **parser["options.extras_require"]}
    return {extra: [Requirement(line) for line in text.split("\n") if line] for extra, text in texts.items()}


def pinned(name: str) -> dict[str, set[Version]]:
    """The versions in a lock by package: several where Pythons need their own."""
    found: dict[str, set[Version]] = {}
    for line in re.findall(r"^([a-z0-9][^ ]+==[^ ]+) ", (ROOT / name).read_text(), re.MULTILINE):
        package, _, version = line.partition("==")
        found.setdefault(package, set()).add(Version(version))
    return found


@pytest.mark.parametrize("name", [PROGRAM, EVERYTHING])
def test_all_of_a_lock_is_pinned_by_hashes(name: str) -> None:
    text = re.sub(r"^ *#.*\n", "", (ROOT / name).read_text(), flags=re.MULTILINE)
    for entry in text.replace("\\\n", " ").strip().split("\n"):
        assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[^ ]+( ; [^-]+?)?( +--hash=sha256:[0-9a-f]{64})+", entry), entry[
            :200
        ]


@pytest.mark.parametrize("extra", list(declared()))
def test_the_locks_fit_what_is_declared(extra: str) -> None:
    for name in (PROGRAM, EVERYTHING) if extra in ("", "postgres", "mysql", "reference") else (EVERYTHING,):
        lock = pinned(name)
        for requirement in declared()[extra]:
            versions = lock[canonicalize_name(requirement.name)]
            assert all(version in requirement.specifier for version in versions), (
                f"{name}: {requirement}; run: just lock"
            )


def test_both_locks_have_the_same_versions() -> None:
    everything = pinned(EVERYTHING)
    assert {package: everything.get(package) for package in pinned(PROGRAM)} == pinned(PROGRAM)


def test_no_bound_allows_what_has_known_faults() -> None:
    seen = set()
    requirements = [requirement for each in declared().values() for requirement in each]
    for requirement in requirements:
        first = FIRST_WITHOUT_KNOWN_FAULTS.get(canonicalize_name(requirement.name))
        if first is not None:
            seen.add(canonicalize_name(requirement.name))
            (lower,) = [part.version for part in requirement.specifier if part.operator == ">="]
            assert Version(lower) >= Version(first), requirement
    assert seen == set(FIRST_WITHOUT_KNOWN_FAULTS)
    assert 'requires = ["setuptools>=78.1.1"]' in (ROOT / "pyproject.toml").read_text()


def test_the_image_and_ci_install_by_hashes() -> None:
    assert f"--require-hashes -r {PROGRAM}" in (ROOT / "examples/container/Containerfile").read_text()
    script = (ROOT / ".ci/run").read_text()
    assert f"--require-hashes -r {EVERYTHING}" in script
    assert script.count("$SET_UP --quiet --no-build-isolation") == 2
    assert ".ci/audit" in script
    assert "bandit" in (ROOT / "justfile").read_text()
