"""Write `man/`: a page for the whole program, one for each noun and command, and one for the settings.

    python docs/generate_man.py           write the pages
    python docs/generate_man.py --check   change nothing; fail when a page is not as it would be written

What the pages say comes from the Typer app, from `cdxsync/base/settings.py`, and, where neither knows it, from
`manual.toml`. `man/cdx.1` is written by hand.
"""

import argparse
import dataclasses
import inspect
import re
import sys
import tomllib
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import roff
from typer.main import get_command
from typer.utils import get_params_from_function

import cdxsync
from cdxsync.base import settings
from cdxsync.cli.main import app

ROOT = Path(__file__).parent.parent
MANUAL = tomllib.loads((ROOT / "docs" / "manual.toml").read_text())
PROGRAM = "cdxsync"
BY_HAND = {"cdx.1"}
COMPLETION_OPTIONS = {"install_completion", "show_completion"}  # in the section on completion; their help is Typer's


def _page(name: str, section: int, summary: str) -> roff.Page:
    text = (ROOT / "CHANGELOG.md").read_text()
    released = re.search(rf"^## \[{re.escape(cdxsync.__version__)}\] - (\S+)$", text, re.MULTILINE)
    return roff.Page(
        name,
        section,
        date=released[1] if released else "",
        source=f"cdxsync {cdxsync.__version__}",
        manual="User Commands" if section == 1 else "File Formats",
        summary=_as_part(summary),
    )


def _as_part(sentence: str) -> str:
    """A sentence as the part of a line: "Issue it." is "issue it"; "GitHub." is "GitHub"."""
    text = sentence.strip().rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def _children(group: Any) -> dict[str, Any]:
    return {name: child for name, child in getattr(group, "commands", {}).items() if not child.hidden}


def _aliases(root: Any, name: str) -> list[str]:
    """Hidden names of the same group."""
    own = root.commands[name]
    return [
        other
        for other, child in root.commands.items()
        if child.hidden and child.help == own.help and list(getattr(child, "commands", {})) == list(_children(own))
    ]


@dataclasses.dataclass(frozen=True)
class Parameter:
    """An option or argument: how it is written, and what is said of it."""

    tag: str
    usage: str
    text: str
    is_option: bool


def _parameters(command: Any) -> list[Parameter]:
    described = get_params_from_function(inspect.unwrap(command.callback)) if command.callback else {}
    shown = [param for param in command.params if param.name not in COMPLETION_OPTIONS and param.name in described]
    return [_parameter(param, described[param.name]) for param in shown if not described[param.name].default.hidden]


def _parameter(param: Any, described: Any) -> Parameter:
    info = described.default
    many = param.multiple or param.nargs == -1
    is_option = param.param_type_name == "option"
    value = (
        "" if getattr(param, "is_flag", False) else roff.italic(info.metavar or _metavar(param, described.annotation))
    )
    names = sorted([*param.opts, *param.secondary_opts], key=len) if is_option else []
    tag = ", ".join(roff.bold(name) for name in names) + (f" {value}" if names and value else value)
    longest = [max(spelt, key=len) for spelt in (param.opts, param.secondary_opts) if spelt]
    long = "|".join(map(roff.bold, longest)) + (f" {value}" if value else "") if is_option else value
    usage = long if param.required else f"[{long}]"
    return Parameter(tag, usage + ("..." if many else ""), _help(param, info, many and is_option), is_option)


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(choice.value) for choice in annotation]
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def _metavar(param: Any, annotation: Any) -> str:
    if choices := _choices(annotation):
        return "|".join(choices)
    if param.param_type_name == "argument":
        return str(param.name).upper()
    types = {annotation, *get_args(annotation)}
    return "N" if types & {int, float} else "PATH" if Path in types else "TEXT"


def _help(param: Any, info: Any, repeatable: bool) -> str:
    sentences = [(info.help or "").strip()]
    if repeatable and "repeatable" not in sentences[0]:
        sentences.append("May be given several times.")
    if info.min is not None and info.max is not None:
        sentences.append(f"From {info.min} to {info.max}.")
    elif info.min is not None or info.max is not None:
        sentences.append(f"At least {info.min}." if info.max is None else f"At most {info.max}.")
    default = param.default.value if isinstance(param.default, Enum) else param.default
    if info.show_default is True and param.secondary_opts and isinstance(default, bool):
        sentences.append(f"Default: `{(param.opts if default else param.secondary_opts)[0]}`.")
    elif (
        info.show_default is True and isinstance(default, str | int | float) and default is not False and default != ""
    ):
        sentences.append(f"Default: {default}.")
    elif isinstance(info.show_default, str):
        sentences.append(f"Default: {info.show_default}.")
    for variable in [info.envvar] if isinstance(info.envvar, str) else info.envvar or []:
        sentences.append(f"Environment: `{variable}`.")
    return " ".join(sentence for sentence in sentences if sentence)


def _usage(command: Any) -> str:
    parameters = _parameters(command)
    return " ".join(part.usage for part in sorted(parameters, key=lambda part: part.is_option))


def _describe(page: roff.Page, command: Any, known: list[Parameter]) -> None:
    page.text(command.help or "")
    for parameter in sorted(_parameters(command), key=lambda part: part.is_option):
        if parameter not in known:
            page.entry(parameter.tag, parameter.text)
    page.text(command.epilog or "")


def _leaves(command: Any, path: str) -> list[tuple[str, Any]]:
    children = _children(command)
    own = [(path, command)] if not children or command.invoke_without_command else []
    return own + [leaf for name, child in children.items() for leaf in _leaves(child, f"{path} {name}")]


def _examples(page: roff.Page, name: str) -> None:
    examples = [example for example in MANUAL["example"] if example["page"] == name]
    if examples:
        page.heading("EXAMPLES")
    for example in examples:
        page.paragraph(example["text"])
        page.code(example["run"])


def command_page(root: Any, name: str) -> roff.Page:
    """The page of a noun with its commands, or of a command that stands alone."""
    command = root.commands[name]
    first = roff.paragraphs(command.help or "")[0]
    known = _parameters(root)
    page = _page(f"{PROGRAM}-{name}", 1, re.split(r"(?<=\.)\s", first)[0])
    page.heading("SYNOPSIS")
    leaves = _leaves(command, f"{PROGRAM} {name}")
    for path, leaf in leaves:
        page.synopsis(path, _usage(leaf))
    page.heading("DESCRIPTION")
    _describe(page, command, known)
    for alias in _aliases(root, name):
        page.paragraph(f"`{PROGRAM} {alias}` is another name of `{PROGRAM} {name}`.")
    page.paragraph(
        f"The options of `{PROGRAM}` itself, such as `--home`, stand before the command; `--json` may also follow it."
        f" See {PROGRAM}(1) for them and for the exit status."
    )
    verbs = [(path, leaf) for path, leaf in leaves if leaf is not command]
    if verbs:
        page.heading("COMMANDS")
        for path, leaf in verbs:
            page.subheading(" ".join(filter(None, [roff.bold(path), _usage(leaf)])))
            _describe(page, leaf, known)
    _examples(page, name)
    page.see_also([(PROGRAM, 1), (f"{PROGRAM}.toml", 5)])
    return page


def overview_page(root: Any) -> roff.Page:
    """cdxsync(1)."""
    page = _page(PROGRAM, 1, MANUAL["summary"])
    page.heading("SYNOPSIS")
    page.synopsis(PROGRAM, f"{_usage(root)} {roff.italic('COMMAND')} ...")
    page.heading("DESCRIPTION")
    page.text(MANUAL["description"])
    page.heading("OPTIONS")
    for parameter in _parameters(root):
        page.entry(parameter.tag, parameter.text)
    page.paragraph("`--help` or `-h` stands after any command.")
    page.heading("COMMANDS")
    for name, child in _children(root).items():
        verbs = _children(child)
        tag = roff.bold(f"{PROGRAM} {name}") + (" " + "|".join(roff.bold(verb) for verb in verbs) if verbs else "")
        page.entry(tag, f"{roff.paragraphs(child.help or '')[0]} See cdxsync-{name}(1).")
    page.heading("ENVIRONMENT")
    page.paragraph("Each setting has a variable: see cdxsync.toml(5). Beside them:")
    for param in root.params:
        if isinstance(param.envvar, str):
            page.entry(roff.bold(param.envvar), f"Stands for `{param.opts[0]}`.")
    for variable, text in MANUAL["environment"].items():
        page.entry(roff.bold(variable), text)
    page.heading("EXIT STATUS")
    for code, text in MANUAL["exit_status"].items():
        page.entry(roff.bold(code), text)
    page.paragraph(MANUAL["json_errors"])
    page.heading("FILES")
    page.paragraph(MANUAL["files_intro"])
    for name, text in MANUAL["files"].items():
        page.entry(roff.italic(name), text)
    page.heading("SHELL COMPLETION")
    page.text(MANUAL["completion"])
    _examples(page, PROGRAM)
    pages = [(f"{PROGRAM}-{name}", 1) for name in sorted(_children(root))]
    page.see_also([("cdx", 1), *pages, (f"{PROGRAM}.toml", 5)])
    return page


def settings_page() -> roff.Page:
    """cdxsync.toml(5)."""
    page = _page(f"{PROGRAM}.toml", 5, MANUAL["settings_summary"])
    page.heading("DESCRIPTION")
    page.text(MANUAL["settings_description"])
    page.heading("SETTINGS")
    for spec in dataclasses.fields(settings.Settings):
        if not spec.metadata:
            continue
        facts = [f"Value: {_kind(spec)}.", *_default(spec), f"Environment: `{spec.metadata['env']}`."]
        page.entry(roff.bold(spec.name), f"{spec.metadata['help'].rstrip('.')}.\n\n{' '.join(facts)}")
    page.heading("EXAMPLE")
    page.code((ROOT / "examples" / "config.toml").read_text())
    page.see_also([(PROGRAM, 1), (f"{PROGRAM}-init", 1), (f"{PROGRAM}-serve", 1)])
    return page


def _kind(spec: Any) -> str:
    """What a setting takes, in the words with which its reader refuses anything else."""
    if Path in get_args(spec.type):
        return "a path"
    text = ""
    for wrong in (object(), "\0"):
        try:
            spec.metadata["read"](wrong)
        except ValueError as error:
            if str(error).startswith("must be "):
                text = str(error).removeprefix("must be ")
        if text != "a text":
            break
    return text


def _default(spec: Any) -> list[str]:
    value = spec.default
    if value in ("", None, ()):
        return [] if "default:" in spec.metadata["help"].lower() else ["Default: none."]
    return [f"Default: {str(value).lower() if isinstance(value, bool) else value}."]


def pages() -> dict[str, str]:
    """The source of every generated page, by file name."""
    root = get_command(app)
    made = [overview_page(root), settings_page(), *(command_page(root, name) for name in _children(root))]
    return {page.file_name: page.source() for page in made}


def main() -> None:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description="Write the manual pages.")
    parser.add_argument("--check", action="store_true", help="fail when a page is stale; change nothing")
    check = parser.parse_args().check
    folder, wanted = ROOT / "man", pages()
    present = {path.name: path.read_text() for path in folder.iterdir() if path.name not in BY_HAND}
    stale = sorted(name for name in {*wanted, *present} if wanted.get(name) != present.get(name))
    if check and stale:
        sys.exit(f"stale: {', '.join(stale)}; run: python docs/generate_man.py")
    for name in stale:
        if name in wanted:
            (folder / name).write_text(wanted[name])
        else:
            (folder / name).unlink()


if __name__ == "__main__":
    main()
