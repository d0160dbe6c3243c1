"""What the Structs of answers and bodies are made of: types that say what a text is, and care for secrets.

Each noun's package has its Structs in `schemas`. `Struct.of(row)` makes one of a database row, and `Struct.read(given)`
of a request's body. A text under a field describes it in the documents, where its name does not. A member that may be
missing is `UNSET` by default; one that is None is null.
"""

from typing import Annotated, Any

import msgspec

Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$", description="SHA-256, 64 hexadecimal digits.")]
Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""A date with time, in RFC 3339."""
Day = Annotated[str, msgspec.Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
Month = Annotated[str, msgspec.Meta(pattern="^[0-9]{4}-[0-9]{2}$", description="`2026-11`, in UTC.")]
_DOCUMENT = msgspec.Meta(
    description="An auth.json. It may have more members than those that Codex writes today; all are kept.",
    extra_json_schema={
        "type": "object",
        "properties": {
            "last_refresh": {
                "type": "string",
                "format": "date-time",
                "description": "When Codex got the tokens; the newest document wins.",
            },
            "tokens": {"type": ["object", "null"], "description": "What Codex got at its login."},
            "OPENAI_API_KEY": {"type": ["string", "null"]},
            "auths": {
                "type": "object",
                "description": "Tokens by service; made from `tokens` or `OPENAI_API_KEY` where missing.",
            },
        },
        "required": ["last_refresh"],
        "additionalProperties": True,
    },
)
Document = Annotated[msgspec.Raw, _DOCUMENT]
"""An auth document as it is sent: its text."""
GivenDocument = Annotated[Any, _DOCUMENT]
"""An auth document as it came: any JSON value, until `auth.documents` has checked it."""
Anything = Annotated[Any, msgspec.Meta(description="Any JSON value.")]


class Secret(msgspec.Struct, frozen=True):
    """Base of Structs that carry secrets: none of their values is in their `repr`, which logs may have."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
