"""The client's address: the rightmost hop that is not a trusted proxy."""

import functools
import ipaddress
from collections.abc import Collection, Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


MAX_LENGTH = 100
"""Of an address as text, with zone, port and brackets."""


def parse(text: str) -> Address:
    """An address without its zone, port or brackets; an IPv4-mapped IPv6 address is its IPv4 address.

    Raises ValueError for anything else.
    """
    text = text.strip()
    if len(text) > MAX_LENGTH:
        raise ValueError("too long for an address")
    return _parse(text)


@functools.lru_cache(maxsize=4096)
def _parse(text: str) -> Address:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def is_trusted(address: Address, proxies: Iterable[Network]) -> bool:
    """Whether `address` is in one of the networks."""
    return any(address in network for network in proxies)


def is_proxy(peer: str, proxies: Collection[Network]) -> bool:
    """Whether the TCP peer is a trusted proxy."""
    return bool(proxies) and is_trusted(parse(peer), proxies)


def client_address(peer: str, forwarded_for: str, proxies: Iterable[Network]) -> Address:
    """The address of the client, from the TCP peer and the `X-Forwarded-For` header ("" for none).

    The header counts only behind trusted proxies, and is read from the right: a hop counts as long as a trusted proxy
    named it. A hop that is not an address ends the walk at the proxy that named it.
    """
    proxies = tuple(proxies)
    address = parse(peer)
    for hop in reversed(forwarded_for.split(",")):
        if not is_trusted(address, proxies):
            break
        try:
            address = parse(hop)
        except ValueError:
            break
    return address
