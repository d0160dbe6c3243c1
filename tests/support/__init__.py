"""What tests share: fleets and hosts on this machine, and stand-ins for what is outside."""

import os
import sys
from pathlib import Path

SUPPORT = Path(__file__).parent
DATA = SUPPORT / "data"

# Programs that tests start some thousand times are compiled once.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
