"""Reading the fields of a body, with everything that is wrong told at once."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from cdxsync.base.errors import Invalid
from cdxsync.base.setting_values import read_bool

Value = TypeVar("Value")


class Fields:
    """The fields of a JSON object, and what is wrong with them."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.errors: dict[str, list[str]] = {}

    def read(self, name: str, reader: Callable[[Any], Value], instead: Value) -> Value:
        """What `reader` makes of a field, or `instead` when it raises ValueError with the text for the field."""
        try:
            return reader(self.given.get(name))
        except ValueError as error:
            self.errors[name] = [str(error)]
            return instead

    def check(self) -> None:
        """Raise `Invalid` when anything was wrong."""
        if self.errors:
            raise Invalid(self.errors)


def boolean(given: Mapping[str, Any], name: str, default: bool | None = None) -> bool:
    """A field that must say yes or no: a JSON boolean, 1 or 0, or a word for one of them (`docs/protocol.md 1.5`).

    `default` is for a body without the field; without a default that is an error. Raises `Invalid`.
    """
    value = given.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    try:
        return read_bool(value)
    except ValueError:
        raise Invalid({name: ["must be true or false"]}) from None
