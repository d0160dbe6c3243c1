"""`python -m cdxsync`: the same as the `cdxsync` command."""

from cdxsync.cli.main import run

if __name__ == "__main__":
    run()
