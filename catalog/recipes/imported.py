"""What came of a file that names dependencies. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from catalog.recipes.requirements import LineProblem


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """Lines for the requirements text, remarks, and what could not be taken over.

    `problems` have the line of the file, 0 where it is not known.
    """

    requirements: tuple[str, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[LineProblem, ...] = ()

    @property
    def text(self) -> str:
        """Return the requirements text."""
        return "\n".join([*self.requirements, ""]) if self.requirements else ""
