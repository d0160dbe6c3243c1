"""Write `docs/errors.md` from `cdxsync.base.errors`.

python docs/generate_errors.py           write it
python docs/generate_errors.py --check   change nothing; fail when it is not as it would be written
"""

import argparse
import sys
from pathlib import Path

from cdxsync.base import errors

PAGE = Path(__file__).with_name("errors.md")
INTRODUCTION = """# Errors

Made from `cdxsync/base/errors.py` by `docs/generate_errors.py`.

Every error has a `code`, which is stable: programs decide by it, and never by the words of `message`. The API answers

```json
{"status":"error","code":"host_not_found","message":"No host with id 7; …","request_id":"0f6d…"}
```

with `errors` when fields are wrong. A command with `--json` writes the same, without `request_id`, on one line of
standard error. An installer's error is a shell script with the line `# code: …`.

| code | HTTP status | exit code | meaning |
|---|---|---|---|
"""


def page() -> str:
    """What the page holds."""
    rows = (
        f"| `{row.code}` | {row.http_status or '–'} | {row.exit_code or '–'} | {row.meaning} |"
        for row in errors.declared()
    )
    return INTRODUCTION + "\n".join(rows) + "\n"


def main() -> None:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description="Write the table of error codes.")
    parser.add_argument("--check", action="store_true", help="fail when the page is stale; change nothing")
    stale = not PAGE.exists() or PAGE.read_text() != page()
    if parser.parse_args().check and stale:
        sys.exit("stale: errors.md; run: python docs/generate_errors.py")
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
