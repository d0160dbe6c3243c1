#!/usr/bin/env python3
"""Run cdxsync from a checkout, without installing it: `./cli.py COMMAND`."""

from cdxsync.cli.main import run

run()
