"""Writing manual pages in the `man` macro language (man(7) of groff)."""

import re
import textwrap

_SPECIAL = {
    "\\": "\\e",
    "-": "\\-",  # a plain one may become a typographic hyphen, which cannot be pasted into a shell
    "'": "\\(aq",
    '"': "\\(dq",
    "`": "\\(ga",
    "^": "\\(ha",
    "~": "\\(ti",
}


def plain(text: str) -> str:
    """`text` so that it is printed as it is; a leading dot or quote starts no macro."""
    escaped = "".join(_SPECIAL.get(char) or (char if char.isascii() else f"\\[u{ord(char):04X}]") for char in text)
    return "\\&" + escaped if escaped.startswith(".") else escaped


def bold(text: str) -> str:
    """`text` as it is, in bold: what is to be typed so."""
    return f"\\fB{plain(text)}\\fR"


def italic(text: str) -> str:
    """`text` as it is, in italics: what is to be replaced, and names of files."""
    return f"\\fI{plain(text)}\\fR"


def prose(text: str) -> str:
    """A paragraph on one line, with what stands in backquotes in bold."""
    parts = re.split(r"`([^`]+)`", " ".join(text.split()))
    return "".join(bold(part) if number % 2 else plain(part) for number, part in enumerate(parts))


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a help text; what follows a form feed is not for users (a convention of Click)."""
    cleaned = textwrap.dedent(text.partition("\f")[0]).replace("\b\n", "")
    return [part for part in re.split(r"\n\s*\n", cleaned.strip()) if part]


class Page:
    """One manual page, built from top to bottom."""

    def __init__(self, name: str, section: int, *, date: str, source: str, manual: str, summary: str) -> None:
        self.name = name
        self.section = section
        self._lines = [
            '.\\" Made by docs/generate_man.py; changes here are lost.',
            f'.TH {plain(name.upper())} {section} "{date}" "{source}" "{manual}"',
            ".nh",  # names of commands and options must not be broken
            ".ad l",
        ]
        self._headed = False
        self.heading("NAME")
        self._lines.append(f"{plain(name)} \\- {prose(summary)}")

    @property
    def file_name(self) -> str:
        """Such as `cdxsync.1`."""
        return f"{self.name}.{self.section}"

    def heading(self, title: str) -> None:
        """Begin a section."""
        self._lines.append(f".SH {title}")
        self._headed = True

    def subheading(self, title: str) -> None:
        """Begin a part of a section; `title` is roff."""
        self._lines += [".SS", title]
        self._headed = True

    def synopsis(self, command: str, arguments: str) -> None:
        """How a command is called; `arguments` is roff."""
        self._add(f'.SY "{plain(command)}"', arguments or "\\&", ".YS")

    def paragraph(self, text: str) -> None:
        """A paragraph of prose."""
        self._add(".PP", prose(text))

    def text(self, text: str) -> None:
        """A help text of any number of paragraphs."""
        for part in paragraphs(text):
            self.paragraph(part)

    def entry(self, tag: str, text: str) -> None:
        """An entry of a list; `tag` is roff, `text` is prose of any number of paragraphs."""
        first, *rest = paragraphs(text) or [""]
        self._add(".TP", tag, prose(first) or "\\&")
        for part in rest:
            self._add(".IP", prose(part))

    def code(self, text: str) -> None:
        """Lines as they are, indented."""
        lines = [plain(line) or "\\&" for line in text.strip("\n").split("\n")]
        self._add(".PP", ".RS 4", ".EX", *lines, ".EE", ".RE")

    def see_also(self, pages: list[tuple[str, int]]) -> None:
        """The last section: other pages, by name and section."""
        self.heading("SEE ALSO")
        *most, (name, section) = pages
        self._lines += [f".BR {plain(other)} ({number})," for other, number in most]
        self._lines.append(f".BR {plain(name)} ({section})")

    def _add(self, *lines: str) -> None:
        # A heading makes its own space; a paragraph macro right after it is an error.
        self._lines += lines[1:] if self._headed and lines[0] == ".PP" else lines
        self._headed = False

    def source(self) -> str:
        """The page's source text."""
        return "\n".join(self._lines) + "\n"
