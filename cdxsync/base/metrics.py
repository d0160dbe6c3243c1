"""What a server counts for `GET /metrics`: requests, handshakes, connections, commits.

    from cdxsync.base import metrics
    metrics.commits.inc()                     # a write transaction was committed
    metrics.batch_size.observe(len(batch))    # how many requests' writes were in it

Until `start` is called, as in every command but `serve`, metrics do nothing and load nothing. After it a call costs
about a microsecond; all are thread-safe. Values of labels are bounded: routes, not paths; no names of hosts.

One process keeps its values in memory. Of several (`serve --workers`) each has files in a folder of the home, named by
its place and not by its process, so that a restarted one goes on counting.
"""

import fcntl
import importlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_PREFIX = "cdxsync_"
_FOLDER = "metrics-"
_FILE_BYTES = 512 << 10
_FILES = ("counter", "histogram", "gauge_sum")
_made: list["_Instrument"] = []


class _Instrument:
    """A metric with its labels; `start` makes it count."""

    def __init__(self, name: str, text: str, labels: Sequence[str] = (), **options: Any) -> None:
        self.name, self.text, self.labels, self.options = _PREFIX + name, text, tuple(labels), options
        self._real: Any = None
        _made.append(self)

    def _of(self, values: tuple[str, ...]) -> Any:
        return self._real.labels(*values) if values else self._real

    def bind(self, registry: "CollectorRegistry | None") -> None:
        """Count from now on, in `registry`, or in files without one."""
        import prometheus_client

        kind = getattr(prometheus_client, type(self).__name__)
        self._real = kind(self.name, self.text, self.labels, registry=registry, **self.options)


class Counter(_Instrument):
    """A number that grows."""

    def inc(self, *labels: str, amount: float = 1) -> None:
        """Add to it, under the values of its labels."""
        if self._real is not None:
            self._of(labels).inc(amount)


class Gauge(_Instrument):
    """A number that goes up and down; over processes it is their sum."""

    def set(self, value: float, *labels: str) -> None:
        """Set it, under the values of its labels."""
        if self._real is not None:
            self._of(labels).set(value)


class Histogram(_Instrument):
    """How often values were below each of some bounds."""

    def observe(self, value: float, *labels: str) -> None:
        """Record a value, under the values of its labels."""
        if self._real is not None:
            self._of(labels).observe(value)


requests = Counter("requests", "Requests, by method, route and status of the answer.", ("method", "route", "status"))
request_seconds = Histogram(
    "request_seconds",
    "Time from a request's head to its answer, by route.",
    ("route",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
handshakes = Counter("handshakes", "TLS handshakes: ok, resumed, or failed (given up by the client too).", ("outcome",))
connections_refused = Counter("connections_refused", "Connections closed at once: a limit was reached.", ("limit",))
connections_open = Gauge("connections_open", "Connections that are open.", multiprocess_mode="sum")
queue_length = Gauge("queue_length", "Connections with work that wait for a thread.", multiprocess_mode="sum")
threads = Gauge("threads", "Threads that answer requests.", multiprocess_mode="sum")
commits = Counter("commits", "Committed write transactions.")
batch_size = Histogram(
    "batch_size",
    "Writes of requests that shared one commit.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
log_lines_left_out = Counter("log_lines_left_out", "Log lines dropped because standard error was not read.")
worker_starts = Counter("worker_starts", "Starts of worker processes, restarts included.")

_registry: "CollectorRegistry | None" = None


def load() -> None:
    """Load what `start` needs, before processes are forked, so that they share it."""
    importlib.import_module("prometheus_client.multiprocess")


def start(directory: Path | None = None, place: int = 0) -> None:
    """Start counting; with `directory` in files there, as the worker of that place."""
    global _registry
    import prometheus_client
    from prometheus_client import multiprocess, values

    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    _registry = prometheus_client.CollectorRegistry()
    if directory is None:
        for instrument in _made:
            instrument.bind(_registry)
        return
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]
    for instrument in _made:
        instrument.bind(None)
    multiprocess.MultiProcessCollector(_registry, path=str(directory))  # type: ignore[no-untyped-call]


def make_folder(home: Path, places: int) -> Path:
    """Make a folder for the files of that many workers, and remove those of killed servers. Raises OSError.

    It is locked as long as one of its processes lives: two servers may use one home. Their space is allocated at once:
    on a full disk, a write into a mapped file would kill the process.
    """
    for old in home.glob(f"{_FOLDER}*"):
        if (lock := _lock(old)) is not None:
            shutil.rmtree(old)
            os.close(lock)
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER, dir=home))
    _lock(folder)
    for place in range(places):
        for kind in _FILES:
            file = os.open(folder / f"{kind}_{place}.db", os.O_CREAT | os.O_RDWR, 0o600)
            try:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file, 0, _FILE_BYTES)
            finally:
                os.close(file)
    return folder


def _lock(folder: Path) -> int | None:
    """Lock a folder until this process and those forked from it have ended; None when another has."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def registry() -> "CollectorRegistry":
    """What `start` has made; with its collectors for all processes."""
    if _registry is None:
        raise RuntimeError("metrics have not been started")
    return _registry
