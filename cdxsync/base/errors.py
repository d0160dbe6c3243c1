"""The exceptions that the domain raises.

They say what went wrong in words for people. What they mean on each door (HTTP status, exit code) stands in one
table, `cdxsync.base.error_codes`. No message may hold a secret.
"""

from collections.abc import Mapping


class CdxsyncError(Exception):
    """Base of all errors that a user may see; `message` is complete and safe to print."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def explain(self) -> str:
        """The whole error on one line."""
        return self.message


class Failed(CdxsyncError):
    """The work could not be done: a file, a certificate or a service is not as needed."""


class ServiceError(Failed):
    """A service outside the fleet did not give what was asked for.

    `status` is its HTTP status, if it answered; `wait` how many seconds it has asked us to wait, if it has; `sent` is
    False when the request cannot have reached it.
    """

    def __init__(
        self, message: str, *, status: int | None = None, wait: float | None = None, sent: bool = True
    ) -> None:
        super().__init__(message)
        self.status = status
        self.wait = wait
        self.sent = sent


class Malformed(CdxsyncError):
    """A body that is not JSON text at all."""


class Invalid(CdxsyncError):
    """Input with wrong fields.

    `errors` maps each field's name to its messages, all wrong fields at once (`docs/protocol.md 1.2`).
    """

    def __init__(self, errors: Mapping[str, list[str]], message: str = "Validation failed") -> None:
        super().__init__(message)
        self.errors = dict(errors)

    def explain(self) -> str:
        """The message with every field's texts, on one line."""
        fields = "; ".join(f"{name} {text}" for name, texts in self.errors.items() for text in texts)
        return f"{self.message}: {fields}"


class Unauthenticated(CdxsyncError):
    """No key, or one that is not known."""


class Refused(CdxsyncError):
    """Known, but not allowed."""


class Foreign(Refused):
    """A request that another page than the dashboard has had the browser make; `code` is for programs."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class NotFound(CdxsyncError):
    """No such host, certificate, token or document."""


class Gone(CdxsyncError):
    """It was there once: a used or expired installer."""


class Conflict(CdxsyncError):
    """It clashes with what is there already."""


class TooLarge(CdxsyncError):
    """A body above the limit."""


class UnsupportedMedia(CdxsyncError):
    """A body that is plainly not JSON."""


class TooManyRequests(CdxsyncError):
    """Above a limit; `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(CdxsyncError):
    """What would do it is switched off or not installed here."""


class DatabaseAway(CdxsyncError):
    """The database cannot be reached or is locked by others for too long."""


class SettingError(CdxsyncError):
    """An unknown setting or a bad value; the message names the setting and where it stands."""
