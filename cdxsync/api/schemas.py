"""What answers say of the server itself."""

from msgspec import Struct


class Alive(Struct, frozen=True, kw_only=True):
    """The process answers."""

    alive: bool


class Ready(Struct, frozen=True, kw_only=True):
    """The server can serve."""

    ready: bool
