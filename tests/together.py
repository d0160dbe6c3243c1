"""Running functions at the same time, and waiting for what others do."""

import threading
import time
from collections.abc import Callable, Iterable


def at_once(functions: Iterable[Callable[[], None]]) -> None:
    """Run each in a thread of its own and wait for all; what one raises is raised here."""
    failures: list[BaseException] = []

    def run(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds; after a minute it fails."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
