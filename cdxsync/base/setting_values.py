"""Readers of settings: the value of what was written.

A reader raises ValueError with what the value must be; `settings.load` adds the setting's name.
"""

import ipaddress
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

MIN_ADMIN_KEY_BYTES = 16
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Listen(NamedTuple):
    """A host name or address, without brackets, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect to it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_wildcard(self) -> bool:
        """Whether it means every address of the machine."""
        return self.host in ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound


def read_text(value: object) -> str:
    """A text, trimmed."""
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value.strip()


def read_admin_key(value: object) -> str:
    """A text that cannot be guessed in a lifetime, or none."""
    key = read_text(value)
    if key and len(key.encode()) < MIN_ADMIN_KEY_BYTES:
        raise ValueError(
            f"must have at least {MIN_ADMIN_KEY_BYTES} bytes, as a shorter one can be guessed; make one with:"
            " openssl rand -base64 24"
        )
    return key


def read_syslog(value: object) -> str:
    """A socket's path, or HOST:PORT; empty is none."""
    text = read_text(value)
    if text and not text.startswith("/"):
        try:
            listen = read_listen(text)
        except ValueError:
            listen = Listen("", 0)
        if listen.is_wildcard or not listen.port:
            raise ValueError("must be the path of a socket, such as /dev/log, or HOST:PORT")
    return text


def read_bool(value: object) -> bool:
    """True or false, or one of the words that the environment uses for them."""
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if isinstance(value, str) and value.strip().lower() in words:
        return words[value.strip().lower()]
    raise ValueError("must be true or false")


def read_int(low: int, high: int) -> Callable[[object], int]:
    """A reader of whole numbers from `low` to `high`."""

    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return read


def read_listen(value: object) -> Listen:
    """`HOST:PORT`, `[IPv6]:PORT` or `:PORT`."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([A-Za-z0-9._-]*)):([0-9]{1,5})", read_text(value))
    if match is None or int(match[3]) > 65535:
        raise ValueError("must be HOST:PORT, for example 0.0.0.0:8443 or [::]:8443")
    return Listen(match[1] or match[2] or "0.0.0.0", int(match[3]))  # noqa: S104 - what `:PORT` means


def read_base_url(value: object) -> str:
    """An http(s) URL of host, optional port and path, without trailing slash, query or credentials."""
    text = read_text(value).rstrip("/")
    if not text:
        return ""
    problem = "must be a URL such as https://cdx.example.net:8443"
    try:
        parts = urlsplit(text)
        port = parts.port
        host = parts.hostname or ""
        if ":" in host:
            ipaddress.IPv6Address(host)
    except ValueError:
        raise ValueError(problem) from None
    clean = re.fullmatch(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]+)?(/[A-Za-z0-9._~/-]*)?", text)
    if not clean or not host or port == 0 or ".." in parts.path:
        raise ValueError(problem)
    return text


def read_private_url(value: object) -> str:
    """A base URL to which secrets may be sent: https, or http to this machine."""
    url = read_base_url(value)
    parts = urlsplit(url)
    if url and parts.scheme != "https" and not Listen(parts.hostname or "", 0).is_loopback:
        raise ValueError("must be an https URL, or http on loopback: credentials are sent there")
    return url


def read_networks(value: object) -> tuple[Network, ...]:
    """CIDRs as a list, or as a text with commas. An address alone is a network of one."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ValueError("must be a list of networks such as 10.0.0.0/8")
    networks: list[Network] = []
    for item in items:
        text = read_text(item)
        if text:
            try:
                networks.append(ipaddress.ip_network(text))
            except ValueError as error:
                raise ValueError(f"{text!r} is not a network such as 10.0.0.0/8: {error}") from None
    return tuple(networks)


def read_origins(value: object) -> tuple[str, ...]:
    """Origins of pages as a list, or as a text with commas: URLs of scheme, host and port alone."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ValueError("must be a list of origins such as https://admin.example.net")
    origins = [origin for origin in map(read_base_url, items) if origin]
    if any(urlsplit(origin).path for origin in origins):
        raise ValueError("must be URLs without a path, such as https://admin.example.net")
    return tuple(origins)


def read_path(value: object) -> Path | None:
    """A path; empty means none."""
    text = read_text(value)
    try:
        return Path(text).expanduser() if text else None
    except RuntimeError:  # a user without a home directory, or none of that name
        raise ValueError(f"{text!r} cannot be found: there is no such home directory") from None


def read_seconds(value: object) -> float:
    """A number of seconds from 0.1 to 600."""
    try:
        seconds = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else 0.0
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 600:
        raise ValueError("must be a number of seconds from 0.1 to 600")
    return seconds


def read_price(value: object) -> Decimal:
    """A price: a decimal number from 0 to 1,000,000 with at most 12 digits after the point."""
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
            raise InvalidOperation
        price = Decimal(str(value).strip())
        if not price.is_finite() or not 0 <= price <= 1_000_000 or price != round(price, 12):
            raise InvalidOperation
    except InvalidOperation:
        raise ValueError("must be a price such as 0.00125: not negative, at most 12 digits after the point") from None
    return price


def read_choice(*words: str) -> Callable[[object], str]:
    """A reader of one of `words`."""

    def read(value: object) -> str:
        word = value.strip().lower() if isinstance(value, str) else ""
        if word not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return word

    return read
