"""One line of a pre-flight list: what was looked at and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ds01portal.exceptions import PortalError


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of the pre-flight list. `level` is ok, warning or refused."""

    check: str
    level: str
    message: str
    hint: str = ""
    error: PortalError | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "check": self.check,
            "level": self.level,
            "message": self.message,
            "hint": self.hint,
            "error": self.error.as_dict() if self.error else None,
        }


def warn(check: str, message: str, hint: str = "") -> Finding:
    """Return a finding that does not stand in the way."""
    return Finding(check=check, level="warning", message=message, hint=hint)
