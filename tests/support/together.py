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


def until(condition: Callable[[], object], *, every: float = 0.02) -> None:
    """Wait until a condition holds, looking so often, in seconds; after a minute it fails."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(every)
