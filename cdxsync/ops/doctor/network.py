"""Whether hosts can reach the server at `public_url`, and trust it."""

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from cdxsync.base.settings import Settings
from cdxsync.ops import homes
from cdxsync.ops.doctor.model import Finding, Subject, fail, ok, warn
from cdxsync.services import probe

TIMEOUT_SECONDS = 5.0
_SKIP = "   (--skip public-url, if this machine cannot call that URL)"


def public_url(subject: Subject) -> Iterator[Finding]:
    """`GET <public_url>/versions` answers, over TLS that hosts trust."""
    settings = subject.settings
    url = settings.public_url
    if not url:
        yield fail("public_url is not set", "set it in config.toml")
        return
    try:
        status, body = _get(settings)
    except ssl.SSLCertVerificationError as error:
        yield fail(
            f"{url} shows a certificate that hosts do not trust: {error.verify_message}",
            "reload cdxsync serve (SIGHUP); behind a proxy, or with your own certificate, check the setting host_ca",
        )
    except ssl.SSLError as error:
        yield fail(f"{url} refuses the TLS handshake: {error.reason or error}", f"check what listens there{_SKIP}")
    except socket.gaierror as error:
        yield fail(
            f"the name in {url} cannot be resolved: {error.strerror}",
            f"correct DNS, or public_url in config.toml{_SKIP}",
        )
    except ConnectionRefusedError:
        yield fail(f"nothing listens at {url}", f"cdxsync serve{_SKIP}")
    except TimeoutError:
        yield fail(f"{url} did not answer within {TIMEOUT_SECONDS:.0f} seconds", f"check firewall and routes{_SKIP}")
    except (OSError, http.client.HTTPException) as error:
        yield fail(f"{url} cannot be called: {error}", f"check what listens there{_SKIP}")
    else:
        if status == 200 and _is_ours(body):
            yield ok(f"{url} answers" + (", with a certificate that hosts trust" if url.startswith("https:") else ""))
        else:
            yield fail(f"{url}/versions answers {status}: not a cdxsync server", f"check what listens there{_SKIP}")


def token_endpoint(subject: Subject) -> Iterator[Finding]:
    """Something that speaks HTTP answers at `token_url`; a request without a token spends nothing."""
    settings = subject.settings
    if not settings.token_url:
        if settings.refresh == "server":
            yield warn(
                "token_url is empty, so hosts refresh, and can lose the login to each other",
                'remove token_url from the settings, or say that it is meant: refresh = "hosts"',
            )
        else:
            yield ok("not tried: hosts refresh, and token_url is empty")
        return
    problem = probe.problem(settings.token_url)
    if settings.server_refreshes and problem is None:
        yield ok(f"{settings.token_url} can be reached, and this server refreshes there")
    elif settings.server_refreshes:
        yield fail(
            str(problem),
            "let this server reach it: firewall, proxy (HTTPS_PROXY), CA (REQUESTS_CA_BUNDLE). Only for a server that"
            ' must not: refresh = "hosts", with which hosts can lose the login to each other',
        )
    elif problem is None:
        yield warn(
            f"hosts refresh, and can lose the login to each other, although this server can reach {settings.token_url}",
            'remove refresh = "hosts" from the settings, so that the server refreshes',
        )
    else:
        yield ok(f"hosts refresh, and can lose the login to each other: {problem}")


def _get(settings: Settings) -> tuple[int, bytes]:
    parts = urlsplit(settings.public_url)
    host = str(parts.hostname)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        pinned = homes.host_ca_pem(settings)
        context = ssl.create_default_context(cadata=pinned) if pinned else ssl.create_default_context()
        connection = http.client.HTTPSConnection(host, parts.port, timeout=TIMEOUT_SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", f"{settings.base_path}/versions")
        response = connection.getresponse()
        return response.status, response.read(65536)
    finally:
        connection.close()


def _is_ours(body: bytes) -> bool:
    try:
        return "wrapper_version" in json.loads(body)["data"]
    except (ValueError, KeyError, TypeError):
        return False
