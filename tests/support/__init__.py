"""What tests share: fleets and hosts on this machine, and stand-ins for what is outside."""

from pathlib import Path

SUPPORT = Path(__file__).parent
DATA = SUPPORT / "data"
