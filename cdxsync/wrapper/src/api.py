"""Calls to the server over one kept connection."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from typing import TYPE_CHECKING

from cdxsync.wrapper.src.errors import Offline, failure
from cdxsync.wrapper.src.messages import debug
from cdxsync.wrapper.src.server import Server

if TYPE_CHECKING:
    from email.message import Message
    from typing import Any, Tuple

    # HTTP status, headers, body.
    Answer = Tuple[int, Message, bytes]

# Of OpenSSL: a certificate that is not good yet, or not any more.
DATE_CODES = (9, 10)
MAX_ANSWER_BYTES = 16 << 20


class Api:
    """Calls to the server over one kept connection. For one thread at a time."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.connection: http.client.HTTPConnection | None = None
        self.unreachable = False

    def clone(self) -> Api:
        """The same server over a connection of its own."""
        return Api(self.server)

    def post(self, path: str, body: object, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """POST a JSON body; returns `data` of a good answer. Raises SyncError."""
        return self.data(*self.request("POST", path, json.dumps(body).encode(), headers)[::2])

    @staticmethod
    def data(status: int, text: bytes) -> dict[str, Any]:
        """`data` of an answer's body. Raises SyncError for any answer but a good one."""
        try:
            answer = json.loads(text.decode("utf-8"))
        except ValueError:
            answer = None
        answer = answer if isinstance(answer, dict) else {}
        data = answer.get("data")
        if status == 200 and isinstance(data, dict):
            return data
        raise failure(status, answer)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One call; returns (status, headers, body). Raises Offline without an answer.

        On a kept connection that the server has closed meanwhile it is made once more on a new one: every call of ours
        may arrive twice without harm.
        """
        kept = self.connection is not None
        try:
            return self._exchange(method, self.server.path + path, body, headers)
        except ssl.SSLCertVerificationError as error:
            self._fail()
            reason = error.verify_message
            if error.verify_code in DATE_CODES:
                reason += " by this machine's clock"
            raise Offline("the server's certificate cannot be verified (%s)" % reason) from None
        except socket.timeout:
            self._fail()
            raise Offline("the server at %s does not answer in time" % self.server.netloc) from None
        except (OSError, http.client.HTTPException) as error:
            self._fail()
            if kept:
                return self.request(method, path, body, headers)
            raise Offline("the server at %s cannot be reached (%s)" % (self.server.netloc, error)) from None

    def _exchange(self, method: str, path: str, body: bytes | None, headers: dict[str, str] | None) -> Answer:
        if self.connection is None:
            self.connection = self.server.connect()
        self.unreachable = False
        debug("%s %s" % (method, path))
        sent = {"Content-Type": "application/json", "X-API-Key": self.server.api_key}
        self.connection.request(method, path, body, dict(sent, **(headers or {})))
        response = self.connection.getresponse()
        text = response.read(MAX_ANSWER_BYTES + 1)
        if response.will_close or len(text) > MAX_ANSWER_BYTES:
            self.close()
        return response.status, response.headers, text

    def _fail(self) -> None:
        self.unreachable = True
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None
