"""The units in `examples/`: what stands in them, and what systemd says of them."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"
CDXSYNC = Path(sys.executable).with_name("cdxsync")
INSTALLED = "/usr/local/lib/cdxsync"
SERVER = "cdxsync.service"
UNITS = sorted(path.name for path in EXAMPLES.glob("*.service") if path.name != SERVER)


def unit(name: str) -> Any:
    """A unit file; of an option that is there twice the last value."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(EXAMPLES / name)
    return parser


def verify(folder: Path, *names: str, commented: bool = False) -> None:
    """Let systemd, where there is one, look at units whose programs are there, with what is commented out too."""
    if shutil.which("systemd-analyze") is None:
        return
    files = []
    for name in names:
        files.append(folder / name.replace("@", "@build1.example.net"))
        text = (EXAMPLES / name).read_text().replace(INSTALLED, str(EXAMPLES))
        text = re.sub(r"^#(?=\w+=)", "", text, flags=re.MULTILINE) if commented else text
        files[-1].write_text(text.replace("/usr/local/bin/cdxsync", str(CDXSYNC)))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
