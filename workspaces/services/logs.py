"""A container's log, as text that a page can show.

Terminals write colours and cursor moves; they are taken out. Not in charge of: following (a
page asks again), or who may read it (the view starts from `visible_to`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ds01portal.engine import get_engine
from ds01portal.engine.base import ContainerEngine
from ds01portal.exceptions import EngineError, MissingOnEngine
from workspaces.models import Container

__all__ = ["LONGEST", "ContainerLog", "read_log"]

LONGEST = 20_000  # lines, also for a download
# CSI (colours, cursor), OSC (window titles), other escapes; then control characters but \t \n.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_=>]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerLog:
    """Lines of a log, oldest first. `total` counts those read, before the search.

    `trouble` says why there are none: "" | "missing" (nothing on the engine) | "engine".
    """

    lines: list[str]
    total: int = 0
    trouble: str = ""

    @property
    def text(self) -> str:
        """All lines as one text."""
        return "\n".join(self.lines)


def read_log(
    *,
    container: Container,
    tail: int = 500,
    words: str = "",
    engine: ContainerEngine | None = None,
) -> ContainerLog:
    """Return the last `tail` lines, those that hold every word where words are given.

    Raises nothing: trouble of the engine is said in the answer.
    """
    if not container.engine_id:
        return ContainerLog(lines=[], trouble="missing")
    try:
        raw = (engine or get_engine()).read_logs(
            container.engine_name, tail=max(1, min(tail, LONGEST))
        )
    except MissingOnEngine:
        return ContainerLog(lines=[], trouble="missing")
    except EngineError:
        return ContainerLog(lines=[], trouble="engine")
    lines = clean_text(raw).splitlines()
    wanted = words.lower().split()
    found = [line for line in lines if all(word in line.lower() for word in wanted)]
    return ContainerLog(lines=found, total=len(lines))


def clean_text(raw: bytes) -> str:
    """Return readable text: a line that was written over (progress bars) shows its last state."""
    text = _ESCAPES.sub("", raw.decode("utf-8", errors="replace")).replace("\r\n", "\n")
    last_states = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return _CONTROLS.sub("", "\n".join(last_states))
