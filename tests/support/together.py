"""Running functions at the same time, and waiting for what others do."""

import contextvars
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor


def at_once(functions: Iterable[Callable[[], None]]) -> None:
    """Run each in a thread of its own and wait for all; what one raises is raised here.

    They run in copies of this context, and so in the scope of the same database.
    """
    waiting = list(functions)
    with ThreadPoolExecutor(max(1, len(waiting))) as threads:
        running = [threads.submit(contextvars.copy_context().run, function) for function in waiting]
    for one in running:
        one.result()


def until(condition: Callable[[], object], *, every: float = 0.1) -> None:
    """Wait until a condition holds; after a minute it fails.

    It looks often at first, and then every so many seconds: a look may be a call, which takes time from what it waits
    for.
    """
    begun = time.monotonic()
    while not condition():
        waited = time.monotonic() - begun
        assert waited < 60, "waited in vain"
        time.sleep(min(every, 0.01 + waited / 4))
