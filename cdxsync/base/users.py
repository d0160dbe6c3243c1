"""Users of this machine, by their numbers."""

import pwd


def name_of(uid: int) -> str:
    """The name of a user, or `#` and the number, which `sudo -u` takes too, of one without an entry."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"
