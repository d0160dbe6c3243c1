"""Whether a request of the admin API was made by the dashboard, or by another page that the browser has open.

Browsers show a client certificate on any site's request, so a certificate alone does not say that its owner wanted
this. What a browser does not let a page forge does: `Origin` (RFC 6454) and `Sec-Fetch-Site` (Fetch Metadata), and a
header of our own, which other sites cannot send without a permission (CORS) that this server never gives. Clients
that are no browsers send none of these, and nothing changes for them.

Which origins are our own is never learnt from `Host`: with DNS rebinding, that of a foreign page would be one.
"""

from collections.abc import Collection, Iterable, Mapping
from urllib.parse import urlsplit

from cdxsync.base.errors import Foreign

HEADER = "X-Cdxsync-Request"
HEADER_VALUE = "dashboard"
_SAFE = ("GET", "HEAD")
_OWN_SITES = ("same-origin", "none")
_PORTS = {"http": 80, "https": 443}
_SIGNS = ("Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Sec-Fetch-User")


def origin_of(url: str) -> str | None:
    """Scheme, host and port of a URL as browsers write an origin: lower case, no default port. None for other texts."""
    try:
        parts = urlsplit(url.strip())
        port, host = parts.port, parts.hostname
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or not host:
        return None
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}" if port in (None, _PORTS[scheme]) else f"{scheme}://{host}:{port}"


def own(public_url: str, further: Iterable[str], names: Iterable[str], port: str) -> frozenset[str]:
    """The origins of a server that hosts call at `public_url`, and admins at `further` ones besides.

    `names` are those of the certificate that it shows itself, `port` is where it listens. Each name counts at that port
    and at that of `public_url`, which may be another where ports are mapped.
    """
    ports = {port, str(urlsplit(public_url).port or _PORTS["https"])}
    hosts = [f"[{name}]" if ":" in name else name for name in names]
    urls = [public_url, *further, *(f"https://{host}:{number}" for host in hosts for number in ports)]
    return frozenset(origin for origin in map(origin_of, urls) if origin is not None)


def refusal(
    method: str,
    headers: Mapping[str, str],
    own_origins: Collection[str],
    *,
    called: str | None = None,
    is_page: bool = False,
) -> Foreign | None:
    """Why a request of `/admin/*` is refused; None when it may pass.

    `headers` has those that the request carries of the above, by the names written there; `own_origins` the origins
    of this server, as `origin_of` gives them. `called` is the URL under which the browser has called it, or None where
    that is not known. `is_page` is for the dashboard's own page, which any site may link to.
    """
    if is_page and method in _SAFE and _is_navigation(headers):
        return None
    from_browser = any(name in headers for name in _SIGNS)
    if called is not None and from_browser and origin_of(called) not in own_origins:
        return Foreign("The server was called by a name that is not its own; use its public_url", code="cross_origin")
    origin = headers.get("Origin")
    if origin is not None and origin_of(origin) not in own_origins:
        return Foreign("Requests of pages of other origins are refused", code="cross_origin")
    if headers.get("Sec-Fetch-Site", _OWN_SITES[0]).strip().lower() not in _OWN_SITES:
        return Foreign("Requests of pages of other sites are refused", code="cross_origin")
    if method not in _SAFE and from_browser and headers.get(HEADER) != HEADER_VALUE:
        return Foreign(f"A change by a browser needs the header {HEADER}: {HEADER_VALUE}", code="header_missing")
    return None


def _is_navigation(headers: Mapping[str, str]) -> bool:
    """Whether the answer becomes a page of its own: by a link or the address bar, and not within another page."""
    return headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"


def signs(environ: Mapping[str, str]) -> dict[str, str]:
    """The headers that count here, of a WSGI environment."""
    names = {name: "HTTP_" + name.upper().replace("-", "_") for name in (*_SIGNS, HEADER)}
    return {name: environ[key] for name, key in names.items() if key in environ}
