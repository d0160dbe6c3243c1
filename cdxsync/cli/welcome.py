"""What `cdxsync` says without a command: what to type first."""

from pathlib import Path

from cdxsync.base import settings

_ABOUT = "cdxsync keeps one canonical Codex auth.json for a fleet of hosts."
_FIRST = f"""{_ABOUT} There is no server in {{home}} yet.

First, on a machine that all hosts can reach:
  cdxsync serve                            make all that is needed, and serve
  cdxsync serve --public-url URL           the same, when hosts call it by another name than this machine's

Then, in another shell there:
  cdxsync auth upload ~/.codex/auth.json   give the fleet a login, or log in later on a host: cdx login
  cdxsync hosts register NAME              print the line that sets a host up
"""
_AGAIN = f"""{_ABOUT} Its home is {{home}}.

  cdxsync serve                 serve it, unless it runs as a service already
  cdxsync overview              how the fleet is
  cdxsync doctor                what is wrong, and what mends it
  cdxsync hosts register NAME   print the line that sets a host up
  cdxsync hosts list            all hosts
  cdxsync logs --follow         what happens
"""
_MORE = "\nAll commands: cdxsync --help; manual: man cdxsync\n"


def text(home: Path, *, is_initialised: bool) -> str:
    """What to type in a home, be it new or made already."""
    if is_initialised:
        return _AGAIN.format(home=home) + _MORE
    elsewhere = settings.hint_of_service(home)
    return _FIRST.format(home=home) + (f"\n{elsewhere}\n" if elsewhere else "") + _MORE
