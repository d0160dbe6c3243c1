"""The source of `cdx`, a module for each of its parts; `join.py` makes the one file of them that hosts run.

These modules run on Python 3.8 and use its standard library alone. They are not needed by a server, and not installed.
"""
