"""Registering many hosts from a list, so that the same list can be run again."""

from collections.abc import Iterator
from dataclasses import dataclass

from cdxsync.base.errors import Invalid
from cdxsync.hosts import installers, registry
from cdxsync.hosts.installers import Registration
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import Host

MAX_NAMES = 100_000


def read_names(text: str) -> list[str]:
    """The host names of a list: one a line, blank lines and what follows a `#` left out, each name once.

    Raises `Invalid` with every wrong line, so that nothing of a faulty list is registered.
    """
    names: dict[str, None] = {}
    errors: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        try:
            names[registry.check_fqdn(entry)] = None
        except ValueError as error:
            errors[f"line {number}"] = [str(error)]
    if errors:
        raise Invalid(errors, "Nothing was registered: these lines are wrong")
    if not names:
        raise Invalid({"file": ["has no host names: one a line"]}, "Nothing was registered")
    if len(names) > MAX_NAMES:
        raise Invalid({"file": [f"has more than {MAX_NAMES} host names"]}, "Nothing was registered")
    return list(names)


@dataclass(frozen=True)
class Enrolled:
    """The outcome for one name: a registration, or the host that keeps its key because it is in use."""

    name: str
    registration: Registration | None
    spared: Host | None


def enrol(fleet: Fleet, names: list[str], *, actor: str, rotate: bool) -> Iterator[Enrolled]:
    """Register the names one by one, each in a transaction of its own.

    A host that is in use keeps its key, unless `rotate`: an interrupted list can be run again without cutting off the
    hosts that were installed meanwhile.
    """
    for name in names:
        registration = installers.register(fleet, name, actor=actor, spare_in_use=not rotate)
        spared = None if registration is not None else registry.find(name)
        yield Enrolled(name, registration, spared)
