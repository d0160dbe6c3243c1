"""Makes `cdx`, the one file that hosts run, of the modules beside this one.

`python -m cdxsync.wrapper.src.join` writes `cdxsync/wrapper/cdx`, and `modules.txt` beside it: what of the standard
library `cdx` cannot do without. With `--check` it says whether these files are stale.

The modules become parts of one namespace: their imports of the standard library are merged, those of each other and
what is for type checkers alone is left out, and each part begins with a line that names its module. All but the
beginning of the file are two texts that `boot` compiles, so that they are compiled once and not at every start, and the
second one only where it is used.
"""

import argparse
import ast
import sys
from pathlib import Path
from typing import Dict, List, Set

FOLDER = Path(__file__).parent
PACKAGE = "cdxsync.wrapper.src"
FILE = FOLDER.parent / "cdx"
MODULES = FOLDER.parent / "modules.txt"
# A module may use those before it. The first two are not part of the text that is compiled.
BEGINNING = ("baked", "boot")
PARTS = (
    "messages",
    "errors",
    "files",
    "file_trouble",
    "accounts",
    "compiled",
    "document",
    "login_note",
    "threads",
    "proxy",
    "server",
    "api",
    "sync",
    "signatures",
    "prompts",
    "session_files",
    "printed_usage",
    "claims",
    "spool",
    "processes",
    "signals",
    "codex_command",
    "owners",
    "run_notes",
    "sweep",
    "runs",
    "keeping",
    "versions",
    "taps",
    "handover",
    "loops",
    "codex",
    "codex_wanted",
    "login_home",
    "context",
    "full_screen",
    "watcher",
    "update",
    "quota",
)
# What a plain run does without is a text of its own, which `boot.later` compiles.
LATE = (
    "daemon",
    "codex_settings",
    "login_command",
    "codex_package",
    "codex_install",
    "watch_job",
    "schedulers",
    "background",
    "watch",
    "clock",
    "status",
    "doctor",
    "uninstall",
)
# It may use all of them: those that are late after a call of `later`.
LAST = ("command",)
HEAD = '''\
#!/usr/bin/env -S python3 -IS
"""cdx: run Codex with the credentials of the fleet.

Before the run auth.json and the prompts are synced with the cdxsync server; while Codex runs a changed
auth.json is sent at once and a newer one is fetched; after the run changed prompts and the used tokens are sent. Codex
itself gets its arguments, terminal, signals and exit code untouched. Python 3.8 or later, standard library only.

This file is made by cdxsync/wrapper/src/join.py from the modules beside that; change them, and not this file.
"""

import _signal
import posix
import sys

if __name__ == "__main__":
    # What lies in PYTHONPATH, in the working folder or beside this file is never a part of this program: -I and -S see
    # to that before anything could be imported. Where it was started without them, and it matters, it starts again.
    if not sys.flags.isolated:
        if any(name.startswith(b"PYTHON") or name == b"SSLKEYLOGFILE" for name in posix.environ) and sys.executable:
            posix.execve(sys.executable, [sys.executable, "-IS", __file__, *sys.argv[1:]], posix.environ)
        if not getattr(sys.flags, "safe_path", False):
            del sys.path[0]
    # A stream that is closed stays so for Codex; a file of ours must not take its place.
    for descriptor in (0, 1, 2):
        try:
            posix.fstat(descriptor)
        except OSError:
            posix.open("/dev/null", posix.O_RDWR)
    # OpenSSL reads these when it is loaded. `os.environ`, from which Codex gets its own, keeps them.
    for name in (b"OPENSSL_CONF", b"OPENSSL_MODULES", b"OPENSSL_ENGINES"):
        if name in posix.environ:
            posix.unsetenv(name)
    # Until there is something to tidy up, Ctrl-C just ends this.
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

'''
TAIL = """\
exec(load(BODY, %d), globals())

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


class Part:
    """A module: its text without imports, and what it imports and defines."""

    def __init__(self, name: str, folder: Path = FOLDER) -> None:
        self.name = name
        text = (folder / (name + ".py")).read_text(encoding="utf-8")
        tree = ast.parse(text, feature_version=(3, 8))
        self.title = (ast.get_docstring(tree) or "").split("\n")[0]
        # Of the standard library; and by module of ours, the names.
        self.imports: Set[str] = set()
        self.uses: Dict[str, Set[str]] = {}
        self.names: List[str] = []
        lines = text.split("\n")
        for node in tree.body:
            if self._take(node):
                lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or 0) - node.lineno + 1)
        for node in tree.body:
            for inner in ast.walk(node):
                ours = isinstance(inner, ast.ImportFrom) and str(inner.module).startswith(PACKAGE)
                if ours and node is not inner and not is_typing(node):
                    raise ValueError("%s.py: a module is imported within a function" % name)
        self.text = squeezed(lines)
        if "'''" in self.text or "\r" in self.text:
            raise ValueError("%s.py: ''' cannot be part of the file" % name)

    def _take(self, node: ast.stmt) -> bool:
        """Note what a statement means; returns whether it is left out of the file."""
        if isinstance(node, ast.Import):
            if any(alias.asname for alias in node.names):
                raise ValueError("%s.py, line %d: an import with another name" % (self.name, node.lineno))
            self.imports.update(alias.name for alias in node.names)
            return True
        if isinstance(node, ast.ImportFrom):
            module = str(node.module)
            if module.startswith(PACKAGE + "."):
                self.uses[module[len(PACKAGE) + 1 :]] = {alias.name for alias in node.names}
            elif module not in ("__future__", "typing"):
                raise ValueError("%s.py, line %d: write `import %s`" % (self.name, node.lineno, module))
            return True
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            self.names.append(node.name)
        elif isinstance(node, ast.Assign):
            self.names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            self.names.append(node.target.id)
        elif not is_typing(node) and not isinstance(node, ast.Expr):
            raise ValueError("%s.py, line %d: only definitions can be joined" % (self.name, node.lineno))
        return is_typing(node) or isinstance(node, ast.Expr)


def is_typing(node: ast.AST) -> bool:
    """Whether a statement is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def squeezed(lines: List[str]) -> str:
    """Lines without what is empty at the beginning and the end, and with at most two empty ones between."""
    kept: List[str] = []
    for line in lines:
        if line or kept[-2:] != ["", ""]:
            kept.append(line)
    return "\n".join(kept).strip("\n") + "\n"


def check(parts: List[Part]) -> None:
    """Raise ValueError unless the modules can share a namespace and use only those before them."""
    defined: Dict[str, str] = {}
    for part in parts:
        for module, names in part.uses.items():
            for name in names:
                if defined.get(name) != module:
                    raise ValueError("%s.py: %s is not defined by %s.py, or comes later" % (part.name, name, module))
        for name in part.names:
            if name in defined or name in part.imports:
                raise ValueError("%s.py: %s is defined by %s.py too" % (part.name, name, defined.get(name)))
            defined[name] = part.name


def titled(part: Part) -> str:
    """A module's text under the line that names it."""
    line = "# --- src/%s.py: %s " % (part.name, part.title)
    return line + "-" * max(3, 120 - len(line)) + "\n\n" + part.text


def imports_of(parts: List[Part]) -> str:
    """The import statements of modules, each once."""
    return "".join("import %s\n" % name for name in sorted({name for part in parts for name in part.imports}))


def body_of(parts: List[Part]) -> str:
    """The text of parts that are compiled together."""
    return imports_of(parts) + "\n\n" + "\n\n".join(titled(part) for part in parts)


def joined(folder: Path = FOLDER) -> str:
    """The text of the one file. Raises ValueError when the modules do not fit together."""
    beginning, parts, late, last = ([Part(name, folder) for name in names] for names in (BEGINNING, PARTS, LATE, LAST))
    check([*beginning, *parts, *late, *last])
    head = HEAD + imports_of(beginning).replace("import sys\n", "") + "\n"
    text = head + "\n\n".join(titled(part) for part in beginning) + "\n\n"
    line = text.count("\n") + 1
    body, later = body_of([*parts, *last]), body_of(late)
    text += "BODY = r'''\n%s'''\n\n" % body
    text += "LATER = (%d, r'''\n%s''')\n\n" % (text.count("\n") + 1, later) + TAIL % line
    for program in (text, body, later):
        ast.parse(program, feature_version=(3, 8))
    return text


def needed_by(text: str) -> List[str]:
    """The modules that a program imports anywhere, but for those that it can do without, sorted."""
    found: Set[str] = set()
    nodes: List[ast.AST] = [ast.parse(text)]
    for node in nodes:
        if isinstance(node, ast.With) and "ImportError" in ast.dump(node.items[0].context_expr):
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("\nimport "):
            nodes.append(ast.parse(node.value))  # all but the beginning are texts within it
        nodes += ast.iter_child_nodes(node)
    return sorted(found)


def main(arguments: List[str]) -> int:
    """Write the file, or with `--check` compare it; returns the exit code."""
    parser = argparse.ArgumentParser(description="Make cdxsync/wrapper/cdx of the modules in cdxsync/wrapper/src.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the file is stale")
    options = parser.parse_args(arguments)
    text = joined()
    stale = False
    for file, content in ((FILE, text), (MODULES, "\n".join(needed_by(text)) + "\n")):
        if not options.check:
            file.write_text(content, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != content:
            sys.stderr.write("%s is stale. Run: python -m %s.join\n" % (file, PACKAGE))
            stale = True
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
