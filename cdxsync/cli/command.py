"""How a command runs: it reads its arguments, calls the work with the opened home, and prints what that returns.

    state_of(ctx).run(call, show)

`call(fleet)` returns a result and `show(result)` prints it for people. With --json it is printed as what the admin API
returns in `data`: as it is, or as `data(result)` makes it. Only here a home is opened, its database entered, and an
error made an exit code. The exceptions: `hosts register --file`, `logs --follow`, `top` and `keys export -` print while
they work, within `State.opened`; commands that work on a home as a whole, such as `db restore`, leave the opening to
that work and print by `State.answer`; `serve` opens and closes the home by its own rules.
"""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer

from cdxsync.base import errors
from cdxsync.base.errors import CdxsyncError, Failed, Invalid, Refused, SettingError
from cdxsync.base.users import name_of
from cdxsync.cli import output

if TYPE_CHECKING:
    from cdxsync.base.settings import Settings
    from cdxsync.store.fleet import Fleet

Result = TypeVar("Result")
_ClickUsageError: Any = typer.BadParameter.__bases__[0]
"""Click's, wherever this version of Typer has it."""


def _itself(result: object) -> object:
    return result


@dataclass
class State:
    """The options given before, or after, a command, and the run that they lead to."""

    home: Path | None = None
    config: Path | None = None
    json: bool = False
    quiet: bool = False
    _failure: str | None = field(default=None, init=False)

    def settings(self, flags: Mapping[str, object] | None = None) -> "Settings":
        """The settings, with `flags` from the command line. Raises `SettingError`."""
        from cdxsync.base import settings

        return settings.load(self.home_directory(), config=self.config, flags=flags)

    def home_directory(self) -> Path:
        """The home, whether there is one yet or not. Raises `SettingError` for another user's."""
        from cdxsync.base import settings

        try:
            home = (self.home or settings.default_home()).expanduser().absolute()
        except RuntimeError:
            raise SettingError(
                f"The user {name_of(os.getuid())} has no home directory, so give --home DIR or set CDXSYNC_HOME"
            ) from None
        settings.check_readable(home)
        return home

    @contextlib.contextmanager
    def opened(self) -> Iterator["Fleet"]:
        """The fleet of the home, within the scope of its database. Raises `Failed` when it is not initialised."""
        from cdxsync.ops import homes
        from cdxsync.store import rights

        fleet = homes.open_fleet(self.settings())
        with contextlib.closing(fleet.database), fleet.database.scope():
            try:
                yield fleet
            finally:
                rights.audit_altered()

    def run(
        self,
        call: Callable[["Fleet"], Result],
        show: Callable[[Result], None],
        *,
        data: Callable[[Result], object] = _itself,
    ) -> Result:
        """Open the home, call the work, print its result, and return it for an exit code that depends on it.

        Raises what `call` raises, and `Failed` after printing when it called `fail_after_printing`.
        """
        with self.opened() as fleet:
            result = call(fleet)
        self.answer(result, show, data=data)
        return result

    def answer(
        self, result: Result, show: Callable[[Result], None], *, data: Callable[[Result], object] = _itself
    ) -> None:
        """Print a result: its `data` as JSON with --json, else by `show`. For commands that need no opened fleet."""
        if self.json:
            output.json_data(data(result))
        else:
            show(result)
        if self._failure is not None:
            raise Failed(self._failure, code="job_failed")

    def fail_after_printing(self, error: str | None) -> None:
        """Let the command fail with `error`, if there is one, once its result is printed."""
        self._failure = error

    def note(self, text: str) -> None:
        """Tell a person something beside the result, on stderr, unless --quiet."""
        if not self.quiet:
            sys.stderr.write(output.for_stream(text, sys.stderr) + "\n")

    def progress(self, title: str) -> contextlib.AbstractContextManager[Callable[[int, int], None]]:
        """A progress bar on stderr, unless --quiet; yields a function that is told what is done, and of how much."""
        return output.progress(title, quiet=self.quiet)


def state_of(ctx: typer.Context) -> State:
    """The state of this run."""
    return ctx.ensure_object(State)


def actor() -> str:
    """Who runs the command, for the audit log: the operating-system user, and who became it by sudo."""
    user = name_of(os.getuid())
    became = os.environ.get("SUDO_USER", "")
    return f"os-user:{user} (sudo {became})" if became and became != user else f"os-user:{user}"


def confirm(question: str, yes: bool) -> None:
    """Ask on the terminal, unless `yes`. Raises `Refused` without a terminal to ask on, and on a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused(f"{question} No terminal to confirm on; add --yes.", code="not_confirmed")
    if not typer.confirm(question, err=True):
        raise Refused("Nothing was changed", code="not_confirmed")


class UsageError(typer.BadParameter):
    """Arguments that do not go together; printed below the command's usage line."""

    def format_message(self) -> str:
        """The message without the prefix "Invalid value"."""
        return self.message


def exit_after(app: typer.Typer) -> NoReturn:
    """Run the command line, and exit: with 0, what `typer.Exit` has, or the code of an error, printed on stderr."""
    state = State()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error is, whatever the locale can say
    try:
        try:
            ended = app(obj=state, standalone_mode=False)
            sys.exit(ended if isinstance(ended, int) else 0)  # a number when it was a `typer.Exit`
        except CdxsyncError as error:
            _print_error(state, error)
            sys.exit(error.exit_code)
        except _ClickUsageError as error:
            # The words before the one that is wrong may not have been read yet.
            if state.json or "--json" in sys.argv[1:]:
                output.json_error(errors.USAGE, error.format_message())
            else:
                error.show()
            sys.exit(error.exit_code)
        except UnicodeEncodeError:
            wrong = next((given for given in sys.argv[1:] if _is_no_text(given)), None)
            if wrong is None:
                raise
            no_text = SettingError(f"{wrong!a} is not UTF-8 text")
            _print_error(state, no_text)
            sys.exit(no_text.exit_code)
        except typer.Abort:
            sys.stderr.write("Aborted!\n")
            sys.exit(1)
        finally:
            if sys.stdout is not None:  # it was closed from the start
                sys.stdout.flush()  # while an error of it can still be handled
    except BrokenPipeError:
        # The reader of our output has gone.
        _drop_output()
        sys.exit(1)
    except OSError as error:
        # Files are named by what writes them (`files.replacing`); a stream is not.
        unwritten = _drop_output() or (error.filename is None and error.errno in _FULL)
        what = "standard output" if unwritten else error.filename
        reason = error.strerror or str(error)
        _print_error(state, Failed(f"{what}: {reason}" if what else reason, code="file_unusable"))
        sys.exit(1)


def _is_no_text(given: str) -> bool:
    """Whether an argument holds bytes that are not UTF-8; only names of files may."""
    return any("\udc80" <= character <= "\udcff" for character in given)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _drop_output() -> bool:
    """Let what is still buffered not fail once more at exit; returns whether it cannot be written."""
    if sys.stdout is None:
        return False
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _print_error(state: State, error: CdxsyncError) -> None:
    """As JSON, or as text: one wrong field on one line, several below a heading."""
    wrong = error.errors if isinstance(error, Invalid) else {}
    if state.json:
        output.json_error(error.code, error.message, wrong)
        return
    listed = [(name, text) for name, texts in wrong.items() for text in texts]
    heading = "" if wrong and error.message == Invalid({}).message else error.message
    if len(listed) == 1 and not heading:
        heading, listed = " ".join(listed[0]), []
    lines = [f"cdxsync: {heading or 'Invalid input:'}\n", *(f"  {name}: {text}\n" for name, text in listed)]
    sys.stderr.writelines(output.for_stream(text, sys.stderr) for text in lines)
