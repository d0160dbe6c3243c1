"""Reports of the service's state to systemd, as sd_notify(3) has them."""

import contextlib
import os
import socket
import time

_SOCKET, _WATCHDOG, _WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


class Notifier:
    """Reports to systemd, or does nothing when systemd has not asked for reports.

    It takes the variables out of the environment, so that no child process can report in the name of the service.
    """

    def __init__(self) -> None:
        self._address = os.environ.pop(_SOCKET, "")
        interval, process = os.environ.pop(_WATCHDOG, ""), os.environ.pop(_WATCHDOG_PID, "")
        self.interval = float("inf")
        """Seconds within which `alive` is to be called: a third of the watchdog's time."""
        if self._address and interval.isdigit() and process in ("", str(os.getpid())):
            self.interval = int(interval) / 3e6
        self._alive_at = 0.0

    def ready(self, status: str) -> None:
        """The service takes requests."""
        self._send(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def reloading(self) -> None:
        """Settings and certificates are being read again; `ready` ends that."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={microseconds}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1\nSTATUS=Finishing requests")

    def alive(self) -> None:
        """The service runs. Sends one report per interval, however often it is called."""
        now = time.monotonic()
        if now - self._alive_at >= self.interval:
            self._alive_at = now
            self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        # A systemd that does not listen must not end the service.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out,
        ):
            out.settimeout(1)
            out.sendto(text.encode(), address)
