"""The names that the server's certificate must cover."""

import contextlib
import ipaddress
from urllib.parse import urlsplit

from cryptography import x509

from cdxsync.base.errors import Failed

_ALWAYS = ("localhost", "127.0.0.1", "::1")


def wanted(public_url: str, listen_host: str) -> list[str]:
    """The names that the server's certificate must cover, for hosts and for calls from this machine."""
    names = []
    for candidate in (urlsplit(public_url).hostname or "", listen_host, *_ALWAYS):
        name = candidate.strip("[]").rstrip(".").lower()
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address(name.partition("%")[0])
            name = "" if address.is_unspecified else str(address)
        if name:
            names.append(name)
    return list(dict.fromkeys(names))


def general_name(name: str) -> x509.GeneralName:
    """A name or address in the form that certificates use. Raises `Failed`."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise Failed(
            f"{name!r}: not allowed in a certificate; write it in its ASCII form (xn--…)", code="certificate_unusable"
        ) from None
