"""Measurements of speed and size, each against a baseline of the same run: `python -m benchmarks`.

Every other module here is a case. Its first docstring line says what it measures; its `run()` returns a list of
results, dicts of `name`, `value`, `unit` and `ratio` (`value` over that of the baseline, whose own ratio is 1.0).
"""
