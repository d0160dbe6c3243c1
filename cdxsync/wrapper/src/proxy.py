"""The proxy that the environment names, and the way through it."""

from __future__ import annotations

import base64
import os
import re
import socket
import sys
import urllib.parse
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.messages import debug

if TYPE_CHECKING:
    from typing import Callable

# How proxies are spoken to, and the port where the URL names none. `socks` is what desktops write for SOCKS 5.
PROXY_PORTS = {
    "http": 3128,
    "https": 443,
    "socks": 1080,
    "socks4": 1080,
    "socks4a": 1080,
    "socks5": 1080,
    "socks5h": 1080,
}
SOCKS5_TROUBLES = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "the network is unreachable",
    4: "the host is unreachable",
    5: "the connection is refused",
    6: "the time to live has expired",
    7: "the command is not supported",
    8: "the kind of address is not supported",
}


class ProxyTrouble(OSError):
    """A proxy cannot be used; the text says which, and why, without the user's name and password in its URL."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return self.text


class Proxy:
    """A proxy: its kind, host and port, who we are to it, and the variable or place that names it.

    Raises ProxyTrouble for what is no URL of a proxy, or names one that cannot be used.
    """

    def __init__(self, text: str, named_by: str) -> None:
        self.named_by = named_by
        text = text.strip()
        try:
            parts = urllib.parse.urlsplit(text if "://" in text else "http://" + text.lstrip("/"))
            if "@" in parts.path + parts.query + parts.fragment:
                raise self._malformed("write / ? # and @ in the user's name or password as %2F %3F %23 and %40")
            kind, host, port = parts.scheme.lower(), parts.hostname, parts.port
        except ValueError as error:
            raise self._malformed("its port is no number from 1 to 65535" if "Port" in str(error) else "") from None
        if kind not in PROXY_PORTS:
            raise ProxyTrouble(
                "%s names a proxy of the unknown kind %s://; cdx can use http://, https:// and socks5h://"
                % (named_by, re.sub(r"[^a-z0-9+.-]", "?", kind)[:20])
            )
        if not host or re.search(r"[\s\x00-\x1f]", host):
            raise self._malformed("it names no host")
        if port == 0:
            raise self._malformed("its port is no number from 1 to 65535")
        self.kind, self.host, self.port = kind, host, port or PROXY_PORTS[kind]
        self.user = urllib.parse.unquote(parts.username) if parts.username is not None else None
        self.password = urllib.parse.unquote(parts.password or "")

    def _malformed(self, why: str) -> ProxyTrouble:
        return ProxyTrouble(
            "%s is not the URL of a proxy%s; write http://HOST:PORT, or unset it"
            % (self.named_by, " (%s)" % why if why else "")
        )

    def shown(self) -> str:
        """Which one it is, for people."""
        host = "[%s]" % self.host if ":" in self.host else self.host
        return "%s, %s://%s:%d" % (self.named_by, self.kind, host, self.port)

    def trouble(self, text: str) -> ProxyTrouble:
        """What to raise for a failure of it."""
        return ProxyTrouble("the proxy %s (%s)" % (text, self.shown()))

    def open_tunnel(self, raw: socket.socket, host: str, port: int, resolve: Callable[[str, int], str]) -> None:
        """Have a connection to it lead on to a host. Raises OSError.

        `resolve` gives the address of a host, for the kinds of proxies that do not look it up themselves.
        """
        try:
            if self.kind in ("http", "https"):
                self._connect(raw, host, port)
            elif self.kind in ("socks4", "socks4a"):
                self._socks4(raw, host if self.kind == "socks4a" else resolve(host, port), port)
            else:
                self._socks5(raw, resolve(host, port) if self.kind == "socks5" else host, port)
        except socket.timeout:
            raise self.trouble("does not answer in time") from None
        except ValueError:
            raise self.trouble("cannot be told such a name or password") from None

    def _connect(self, raw: socket.socket, host: str, port: int) -> None:
        """CONNECT. The answer is read byte by byte: what follows it belongs to TLS."""
        place = "%s:%d" % ("[%s]" % host if ":" in host else host, port)
        lines = ["CONNECT %s HTTP/1.1" % place, "Host: %s" % place]
        if self.user is not None:
            login = base64.b64encode(("%s:%s" % (self.user, self.password)).encode("utf-8", "surrogateescape"))
            lines.append("Proxy-Authorization: Basic %s" % login.decode())
        raw.sendall("".join(line + "\r\n" for line in [*lines, ""]).encode("utf-8", "replace"))
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            byte = raw.recv(1)
            if not byte or len(answer) > 16384:
                raise self.trouble("hung up")
            answer += byte
        status = answer.split(b"\r\n")[0].split(b" ")
        if not status[0].startswith(b"HTTP/") or len(status) < 2:
            raise self.trouble("does not speak HTTP")
        if status[1] != b"200":
            raise self.trouble("answered %s" % b" ".join(status[1:]).decode("latin-1"))

    def _socks4(self, raw: socket.socket, host: str, port: int) -> None:
        address, name = packed(host), b""
        if address is None:
            address, name = b"\0\0\0\1", host.encode("idna") + b"\0"
        if len(address) != 4:
            raise self.trouble("is one of SOCKS 4, which knows no IPv6")
        user = (self.user or "").encode().replace(b"\0", b"")
        raw.sendall(b"\4\1" + port.to_bytes(2, "big") + address + user + b"\0" + name)
        answer = self._read(raw, 8)
        if answer[:1] != b"\0":
            raise self.trouble("does not speak SOCKS 4")
        if answer[1] != 0x5A:
            raise self.trouble("refuses the connection")

    def _socks5(self, raw: socket.socket, host: str, port: int) -> None:
        raw.sendall(b"\5\1\0" if self.user is None else b"\5\2\0\2")
        version, method = self._read(raw, 2)
        if version != 5:
            raise self.trouble("does not speak SOCKS 5")
        if method == 2 and self.user is not None:
            user, password = self.user.encode(), self.password.encode()
            if not 0 < len(user) < 256 or len(password) > 255:
                raise self.trouble("cannot be told a user's name or password of this length")
            raw.sendall(b"\1" + bytes([len(user)]) + user + bytes([len(password)]) + password)
            if self._read(raw, 2)[1] != 0:
                raise self.trouble("refuses the user's name or password")
        elif method != 0:
            raise self.trouble("wants a user's name and password" if method == 0xFF else "wants an unknown login")
        address = packed(host)
        if address is None:
            name = host.encode("idna")
            kind, address = 3, bytes([len(name)]) + name
        else:
            kind = 1 if len(address) == 4 else 4
        raw.sendall(b"\5\1\0" + bytes([kind]) + address + port.to_bytes(2, "big"))
        _, answer, _, kind = self._read(raw, 4)
        if answer != 0:
            raise self.trouble("cannot connect: %s" % SOCKS5_TROUBLES.get(answer, "answer %d" % answer))
        # The address that it connects from, which is of no use.
        self._read(raw, {1: 4, 4: 16}.get(kind) or self._read(raw, 1)[0])
        self._read(raw, 2)

    def _read(self, raw: socket.socket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = raw.recv(count - len(data))
            if not more:
                raise self.trouble("hung up")
            data += more
        return data


def packed(host: str) -> bytes | None:
    """The bytes of an IP address; None for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
    return None


def proxy_for(scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy for a host, or None. Raises ProxyTrouble.

    `http` is spoken with this machine alone: what is not encrypted goes to no proxy. A variable in lower case counts
    before the one in upper case, and an empty one is none. Without any variable macOS is asked.
    """
    if scheme != "https":
        return None
    if any(name.lower().endswith("_proxy") for name in os.environ):
        named_by = "https_proxy" if variable("https_proxy") else "all_proxy"
        found = variable(named_by)
        if not found or os.environ.get("https_proxy") == "" or is_bypassed(variable("no_proxy"), host, port):
            return None
        return Proxy(found, named_by if os.environ.get(named_by, "").strip() else named_by.upper())
    if sys.platform == "darwin":
        from urllib.request import getproxies, proxy_bypass

        found = getproxies().get(scheme) or ""
        if found and not proxy_bypass(host):
            return Proxy(found, "the system's settings")
    return None


def variable(name: str) -> str:
    """The value of a variable, in lower or upper case; an empty text without one."""
    values = [os.environ.get(form, "").strip() for form in (name, name.upper())]
    return values[0] or values[1]


def is_bypassed(listed: str, host: str, port: int) -> bool:
    """Whether a host, by name or address, is among those of NO_PROXY.

    Its entries are `*`, names, which stand for all below them too, addresses, and networks such as 10.0.0.0/8; names
    and addresses with or without a port. Networks hold for hosts that are given by address: no name is looked up.
    """
    entries = [entry for entry in re.split(r"[,\s]+", listed.lower()) if entry]
    if "*" in entries:
        return True
    host = host.lower().rstrip(".")
    own = packed(host)
    for entry in entries:
        if "/" in entry:
            if own is not None and in_network(own, entry):
                return True
            continue
        name, wanted = entry_parts(entry)
        if wanted not in ("", str(port)):
            continue
        address = packed(name)
        if address is not None or own is not None:
            if address == own:
                return True
        elif name and (host == name or host.endswith("." + name)):
            return True
    return False


def entry_parts(entry: str) -> tuple[str, str]:
    """(name or address, port or an empty text) of an entry of NO_PROXY."""
    match = re.match(r"\[(.*)\](?::(\d+))?\Z", entry) or re.match(r"([^:]*)(?::(\d+))?\Z", entry)
    name, port = match.groups() if match else (entry, None)
    return re.sub(r"\A\*?\.", "", str(name)).rstrip("."), port or ""


def in_network(address: bytes, entry: str) -> bool:
    """Whether an address, as bytes, lies in a network such as 10.0.0.0/8."""
    text, _, length = entry.partition("/")
    network = packed(text.strip("[]"))
    if network is None or not length.isdigit() or int(length) > 8 * len(network):
        debug("NO_PROXY: %s is no network, such as 10.0.0.0/8" % entry)
        return False
    rest = 8 * len(network) - int(length)
    return len(network) == len(address) and (
        int.from_bytes(network, "big") >> rest == int.from_bytes(address, "big") >> rest
    )
