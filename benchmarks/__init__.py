"""Measurements of speed and size, each against a baseline of the same run: `python -m benchmarks`.

Every other module here whose name has no underscore in front is a case. Its first docstring line says what it measures;
its `run()` returns a list of results, dicts of `name`, `value`, `unit` and `ratio` (`value` over that of the baseline,
whose own ratio is 1.0).
"""

full = False
"""Whether to measure all sizes (`--full`) or those that take a short while."""


class Missing(Exception):
    """What a case needs is not installed; the text says what to install. The case is left out with a note."""
