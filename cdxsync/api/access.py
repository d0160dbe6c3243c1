"""Who calls: the client's address, the host's key, the admin's certificate."""

import functools
import hmac
import logging
import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from bottle import request

from cdxsync.api import access_log, bodies, dashboard, same_origin
from cdxsync.api.observing import ACTOR
from cdxsync.auth import grants
from cdxsync.base import texts
from cdxsync.base.errors import CdxsyncError, NotFound, Refused, TooManyRequests, Unauthenticated
from cdxsync.hosts import admission
from cdxsync.hosts.admission import Caller
from cdxsync.security import addresses
from cdxsync.security.revocation import Revocations
from cdxsync.security.throttle import Throttle, source_of
from cdxsync.store import audit
from cdxsync.store.fleet import Fleet
from cdxsync.store.tables import Host
from cdxsync.views.schemas import ClientCertificate

_log = logging.getLogger("cdxsync.api")
Answer = TypeVar("Answer")
CERTIFICATE = "cdxsync.client_certificate"
_TRUE = ("1", "true", "yes", "on", "success")


def client_address(fleet: Fleet) -> addresses.Address:
    """The address of the request's client."""
    forwarded_for = request.environ.get("HTTP_X_FORWARDED_FOR", "")
    return addresses.client_address(request.environ["REMOTE_ADDR"], forwarded_for, fleet.settings.trusted_proxies)


def public_path() -> str:
    """The request's path for logs."""
    return access_log.public_path(request.path)


def actor() -> str:
    """Who makes this admin request, for the audit log. `AdminGate` has told."""
    return str(request.environ[ACTOR])


def mtls() -> ClientCertificate:
    """The client certificate of this admin request; of one that a trusted proxy has vouched for, what that says."""
    certificate = request.environ.get(CERTIFICATE)
    if certificate is not None:
        return ClientCertificate(
            subject=certificate.subject,
            issuer=certificate.issuer,
            serial=f"{certificate.serial:x}",
            fingerprint=certificate.fingerprint,
        )
    return ClientCertificate(
        subject=_proxy_header("subject"),
        issuer=_proxy_header("issuer"),
        serial=_proxy_header("serial"),
        fingerprint=_proxy_header("fingerprint"),
    )


def _serial_numbers(text: str) -> set[int]:
    """What a serial number may be as proxies write it: hexadecimal, some with colons, or decimal.

    They are too long for one to be another's by chance.
    """
    digits = text.replace(":", "").lower().removeprefix("0x")
    if not re.fullmatch(r"[0-9a-f]{1,64}", digits):
        return set()
    return {int(digits, 16)} | ({int(digits)} if digits.isdecimal() else set())


def _proxy_header(name: str) -> str | None:
    return texts.clean(request.environ.get(f"HTTP_X_MTLS_{name.upper()}", "")) or None


def api_key() -> str | None:
    """The key that the request carries, from `X-API-Key` or a Bearer token.

    Raises `Unauthenticated` for two that differ.
    """
    header = request.environ.get("HTTP_X_API_KEY")
    bearer = _bearer()
    if header and bearer and header != bearer:
        raise Unauthenticated("X-API-Key and Authorization carry different keys", code="keys_differ")
    return header or bearer


def _bearer() -> str | None:
    scheme, _, token = request.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _admin_key() -> bytes:
    """The admin key that the request carries, as it was sent: UTF-8, where it is more than ASCII."""
    given: str = request.environ.get("HTTP_X_ADMIN_KEY") or _bearer() or ""
    return given.encode("latin-1")  # how WSGI has the bytes of a header (PEP 3333)


class Guard:
    """Throttles callers whose authentication fails, and writes the audit rows about refused calls."""

    def __init__(self, fleet: Fleet, throttle: Throttle) -> None:
        self.fleet = fleet
        self.throttle = throttle

    def failed(self, error: Unauthenticated | NotFound) -> CdxsyncError:
        """Count a failed authentication; returns what to answer: the error, or that there were too many."""
        address = client_address(self.fleet)
        self.refused(error.message, None)
        wait = self.throttle.failed(address)
        if wait is None:
            return error
        return TooManyRequests(
            "Too many failed authentications from this address; wait and try again", wait, code="too_many_failures"
        )

    def refused(self, reason: str, host: audit.HostLike | None) -> None:
        """Write an audit row about a refused call, unless there are too many (`Throttle.may_audit`)."""
        address = client_address(self.fleet)
        known: str | None = request.environ.get(ACTOR)
        if self.throttle.may_audit(reason, source_of(address), known or ""):
            audit.note("access.refused", host=host, actor=known, reason=reason, ip=str(address), path=public_path())


class HostGate:
    """Lets an active host pass that calls with its key, from its address, within its rate."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._memory = admission.Memory()

    def admit(self, *, anywhere: bool = False) -> Caller:
        """The calling host, by its row. A HEAD request binds no address.

        With `anywhere` the address does not matter, and is not bound.
        Raises `Unauthenticated`, `Refused` or `TooManyRequests`.
        """
        try:
            key = api_key()
            host = admission.authenticate(key)
        except Unauthenticated as error:
            raise self._guard.failed(error) from None
        return self._admit(host, str(key), anywhere=anywhere, memory=self._memory)

    def admit_grant(self, grant: str) -> Caller:
        """The host that calls with its grant, by the rules of `admit`; it has shown no key. Raises as that does."""
        try:
            host = grants.authenticate(grant)
        except Unauthenticated as error:
            raise self._guard.failed(error) from None
        return self._admit(host, "", anywhere=False, memory=None)

    def _admit(self, host: Host, key: str, *, anywhere: bool, memory: admission.Memory | None) -> Caller:
        guard = self._guard
        address = client_address(guard.fleet)
        request.environ[ACTOR] = audit.host_actor(host)
        is_elsewhere = not anywhere and admission.is_elsewhere(host, address)
        wait = guard.throttle.called(host.id, refused_from=address if is_elsewhere else None)
        if wait is not None:
            guard.refused("Too many calls", host)
            raise TooManyRequests("This host calls too often; wait and try again", wait, code="rate_limited")
        try:
            admission.check_active(host)
            if not anywhere:
                admission.admit_address(host, address, bind=request.method != "HEAD")
        except Refused as error:
            guard.refused(error.message, host)
            admission.note_blocked(host)
            raise
        return Caller(host.id, host.fqdn, key, host.api_key_sha256, str(address), memory)

    def run(self, work: Callable[[Caller, bytes], Answer]) -> Answer:
        """Let the host pass, read the body, and do `work`, which writes and begins that with `Caller.row`.

        A host that is recalled from an earlier call passes without a look at its row before the body is read: `row`
        looks at it anyway. When that finds that the row has changed, nothing of the work is kept, and the call is
        admitted by the row as any other, with the answers of `admit`; then the work is done for the first time.
        """
        caller = self._recalled() or self.admit()
        body = bodies.body_bytes(self._guard.fleet.settings.max_body_bytes)
        while True:
            try:
                return work(caller, body)
            except admission.RowChanged as changed:
                if not caller.recalled:  # the row has changed within this call
                    raise changed.answer from None
            self._memory.forget(caller)
            caller = self.admit()

    def _recalled(self) -> Caller | None:
        """The calling host by its last call, when its rate allows one more; None leaves all answers to `admit`."""
        try:
            key = api_key()
        except Unauthenticated:
            return None
        caller = self._memory.recall(key or "", str(client_address(self._guard.fleet)))
        if caller is None or self._guard.throttle.called(caller.id) is not None:
            return None
        request.environ[ACTOR] = audit.host_actor(caller)
        return caller


class AdminGate:
    """Lets a request to `/admin/*` pass with a verified client certificate, and with the admin key where one is set."""

    def __init__(self, guard: Guard, revocations: Revocations | None, names: tuple[str, ...] = ()) -> None:
        """`names` are those of the certificate that this server shows itself."""
        self._guard = guard
        self._settings = guard.fleet.settings
        self._revocations = revocations
        self._told_of_serial = False
        self._own_origins = functools.lru_cache(maxsize=2)(functools.partial(self._find_origins, names))

    def admit(self, *, is_page: bool = False) -> str:
        """The actor for the audit log. Raises `Refused`, `Unauthenticated` or `TooManyRequests`.

        `is_page` is for the dashboard's page and files, which need no admin key (`http.dashboard`).
        """
        try:
            return self._admit(is_page)
        except (Unauthenticated, Refused) as error:
            self._guard.refused(error.message, None)
            raise

    def check_certificate(self) -> None:
        """Let pass with a certificate alone, for what shows no more than counts. Raises `Refused`."""
        try:
            request.environ[ACTOR] = self._actor()
        except Refused as error:
            self._guard.refused(error.message, None)
            raise

    def _actor(self) -> str:
        actor = self._certificate() or self._vouched_by_proxy()
        if actor is None:
            raise Refused(
                "A client certificate is required; make one with: cdxsync pki issue NAME", code="certificate_required"
            )
        return actor

    def _admit(self, is_page: bool) -> str:
        actor = request.environ[ACTOR] = self._actor()
        # Before the key: a foreign page must not be able to guess it, or to have the admin throttled.
        self._check_origin(is_page)
        expected = "" if is_page else self._settings.dashboard_admin_key
        if expected:
            self._check_key(expected, actor)
        return actor

    def _check_key(self, expected: str, actor: str) -> None:
        """Compare the admin key, unless this certificate has shown too many wrong ones from this source."""
        given = _admin_key()
        wrong = Unauthenticated("The admin key is missing or wrong; send it as X-Admin-Key", code="admin_key_wrong")
        if not given:  # Nothing is guessed by a browser's first calls, before its page asks for the key.
            raise wrong
        throttle, address = self._guard.throttle, client_address(self._guard.fleet)
        wait = throttle.guesses_left(actor, address)
        if wait is not None:
            self._guard.refused("Too many wrong admin keys", None)
            raise TooManyRequests(
                "Too many wrong admin keys with this certificate from this address; wait and try again",
                wait,
                code="too_many_failures",
            )
        if not hmac.compare_digest(given, expected.encode()):
            throttle.guessed(actor, address)
            raise wrong

    def _check_origin(self, is_page: bool) -> None:
        signs = same_origin.signs(request.environ)
        if not signs:
            return
        environ = request.environ
        # A proxy may write its own name for us there, or pass on what the client has.
        called = None if self._is_proxy() else f"{environ['wsgi.url_scheme']}://{environ.get('HTTP_HOST', '')}"
        own = self._own_origins(environ["SERVER_PORT"])
        may_be_linked = is_page and request.path == dashboard.PAGE
        found = same_origin.refusal(request.method, signs, own, called=called, is_page=may_be_linked)
        if found is not None:
            raise found

    def _find_origins(self, names: tuple[str, ...], port: str) -> frozenset[str]:
        return same_origin.own(self._settings.public_url, self._settings.dashboard_origins, names, port)

    def _is_proxy(self) -> bool:
        return addresses.is_proxy(request.environ["REMOTE_ADDR"], self._settings.trusted_proxies)

    def _certificate(self) -> str | None:
        certificate = request.environ.get(CERTIFICATE)
        if certificate is None:
            return None
        self._refuse_revoked({certificate.serial})
        return f"cert:{certificate.subject}#{certificate.serial:x}"

    def _refuse_revoked(self, serials: Iterable[int]) -> None:
        revocations = self._revocations
        if revocations is not None and any(map(revocations.is_revoked, serials)):
            raise Refused(
                "This client certificate has been revoked; make another with: cdxsync pki issue NAME",
                code="certificate_revoked",
            )

    def _refuse_unnumbered(self) -> None:
        """Refuse, by setting, a certificate of which a proxy does not say the serial number, where some are revoked."""
        revocations = self._revocations
        if revocations is None or (self._told_of_serial and not self._settings.proxy_serial_required):
            return
        if not self._settings.proxy_serial_required:
            self._told_of_serial = True
            _log.warning("a proxy sends no X-mTLS-Serial: revoked certificates pass there. See proxy_serial_required")
        elif revocations.any():
            raise Refused(
                "The proxy sends no X-mTLS-Serial, so it cannot be told whether this client certificate is revoked;"
                " configure the proxy to send it",
                code="certificate_unverifiable",
            )

    def _vouched_by_proxy(self) -> str | None:
        if not self._is_proxy():
            return None
        if request.environ.get("HTTP_X_MTLS_PRESENT", "").strip().lower() not in _TRUE:
            return None
        serial = _proxy_header("serial")
        numbers = _serial_numbers(serial or "")
        self._refuse_revoked(numbers)
        if not numbers:
            self._refuse_unnumbered()
        return f"proxy:{_proxy_header('subject') or 'unnamed'}" + (f"#{serial}" if serial else "")
