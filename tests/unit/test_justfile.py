"""The recipes of `justfile` are the commands of README.md and `.ci/run`."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]


def recipes() -> dict[str, list[str]]:
    """The commands of each recipe, without its parameters."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in (ROOT / "justfile").read_text().splitlines():
        if head := re.fullmatch(r"([a-z-]+)[^:]*:", line):
            name = head[1]
            found[name] = []
        elif line.startswith("    "):
            found[name].append(re.sub(r" \{\{ \w+ \}\}$", "", line.strip()))
    return found


def variables() -> dict[str, str]:
    """The plain variables of `.ci/run`."""
    lines = re.findall(r'^([A-Z_]+)=("[^"]*"|\S+)$', (ROOT / ".ci/run").read_text(), re.MULTILINE)
    return {name: value.strip('"') for name, value in lines}


def test_set_up_and_test_are_the_commands_of_readme() -> None:
    readme, script = (ROOT / "README.md").read_text(), variables()
    assert recipes()["set-up"][0] == script["SET_UP"]
    assert recipes()["test"] == [script["TEST"]]
    assert script["SET_UP"] in readme
    assert script["TEST"] in readme
    assert recipes()["bench"][0] in readme


def test_npm_brings_the_versions_of_ci() -> None:
    script = variables()
    wanted = [
        f"{package}@{script[name]}"
        for package, name in (
            ("@openai/codex", "CODEX_VERSION"),
            ("axe-core", "AXE_VERSION"),
            ("typescript", "TYPESCRIPT_VERSION"),
            ("@openai/codex", "OLDER_CODEX_VERSION"),
        )
    ]
    commands = shlex.split(" ".join(recipes()["set-up-npm"]))
    assert [word for word in commands if "@" in word] == wanted


def test_ci_runs_the_lint_recipe() -> None:
    assert ".venv/bin/just lint" in (ROOT / ".ci/run").read_text()


def test_docs_runs_all_generators() -> None:
    scripts = {f".venv/bin/python docs/{path.name}" for path in (ROOT / "docs").glob("generate_*.py")}
    assert scripts <= set(recipes()["docs"])


def test_contributing_names_the_recipes() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert {name for name in recipes() if name != "default" and f"just {name}" not in text} <= {"set-up"}
