"""What answers say of the findings of `cdxsync doctor`."""

from msgspec import Struct

from cdxsync.ops.doctor.model import Finding, Level


class CheckFinding(Struct, frozen=True, kw_only=True):
    """What a check has found."""

    check: str
    level: Level
    text: str
    mend: str | None
    """The command, or what else to do, that solves it."""

    @classmethod
    def of(cls, finding: Finding) -> "CheckFinding":
        """A finding as answers have it."""
        return cls(check=finding.check, level=finding.level, text=finding.text, mend=finding.mend or None)


class Report(Struct, frozen=True, kw_only=True):
    """All findings, and the worst level of them."""

    level: Level
    checks: list[CheckFinding]
