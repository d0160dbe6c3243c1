"""The names that the server's certificate must cover, and those that it has."""

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


def of_certificate(pem: bytes) -> tuple[str, ...]:
    """The names and addresses in a certificate (PEM, the first of a chain) that mean one server each.

    A wildcard is left out: it means other servers too. Raises ValueError when it is no certificate.
    """
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    names = [name.rstrip(".").lower() for name in alternatives.get_values_for_type(x509.DNSName)]
    addresses = map(str, alternatives.get_values_for_type(x509.IPAddress))
    return (*(name for name in names if "*" not in name), *addresses)
