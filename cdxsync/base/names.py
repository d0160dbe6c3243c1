"""Names of hosts, by RFC 1123; and names and addresses once more where they become part of a script."""

import re

from cdxsync.base.errors import Failed
from cdxsync.base.setting_values import read_base_url

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def check_fqdn(value: object) -> str:
    """A host name by RFC 1123, lower-cased, without a trailing dot; not an IP address.

    Raises ValueError with the text for the field.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError("is required: the host's name, such as web1.example.net")
    name = value.strip().lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("must be a host name: letters, digits and hyphens in parts joined by dots (RFC 1123)")
    if labels[-1].isdigit():
        raise ValueError("must be a name, not an address or a number")
    return name


def check_values(base_url: str, fqdn: str) -> None:
    """Raise `Failed` for an address or a name that is none: what is in the database may not be as it was stored.

    They were checked when they came in. In a script and on the terminals of a host they could be more than names.
    """
    try:
        good = read_base_url(base_url) == base_url and check_fqdn(fqdn) == fqdn
    except ValueError:
        good = False
    if not good:
        raise Failed(
            "The host's name or the server's address is not as it was stored, so no script is made of it. On the"
            " server, run: cdxsync db check",
            code="stored_value_unusable",
        )
