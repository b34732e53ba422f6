"""What a limits file of DS01 says: layers of limits, and a note on every key.

Pure data. Not in charge of: reading it (ds01_limits) and putting it to use
(services.limits_import).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ds01portal.limits import Limit
from ds01portal.strict_yaml import Branch


class Fate(Enum):
    """What the import does with a key."""

    USED = "used"  # became a limit, or a setting that counts
    STORED = "stored"  # kept with the quota, for the idle rules
    IGNORED = "ignored"  # no use for it here; the detail says why


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyNote:
    """One key of the file and what became of it."""

    path: str
    line: int
    fate: Fate
    detail: str

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "path": self.path,
            "line": self.line,
            "fate": self.fate.value,
            "detail": self.detail,
        }


@dataclass(kw_only=True, slots=True)
class Layer:
    """Limits of everybody, of one group or of one person; names not in the file are UNSET."""

    line: int
    limits: dict[str, Limit] = field(default_factory=dict)
    policies: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    expires_at: dt.datetime | None = None


@dataclass(kw_only=True, slots=True)
class Ds01Limits:
    """The whole file. Groups are in the order that decides for somebody in several."""

    defaults: Layer
    groups: dict[str, Layer] = field(default_factory=dict)
    people: dict[str, Layer] = field(default_factory=dict)
    default_group: str = ""
    notes: list[KeyNote] = field(default_factory=list)

    def note(self, path: str, branch: Branch, fate: Fate, detail: str) -> None:
        """Say what became of a key."""
        self.notes.append(KeyNote(path=path, line=branch.line, fate=fate, detail=detail))
