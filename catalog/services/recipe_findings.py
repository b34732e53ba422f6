"""What a look at a recipe finds: lines that are fine, warnings and refusals, and what came of it.

Not in charge of: looking (`recipe_checks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from catalog.models import BuildPolicy, Recipe
from catalog.recipes.content import RecipeContent
from catalog.recipes.plan import Plan
from catalog.services.recipe_bases import ResolvedBase
from ds01portal.exceptions import PortalError, RefusedError
from ds01portal.models import Person

__all__ = ["OK", "REFUSED", "WARNING", "Finding", "Look", "RecipeCheck"]

OK, WARNING, REFUSED = "ok", "warning", "refused"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line about a recipe. `field` is a dotted path of its content, or `name`.

    `line` is that of the requirements text, from 1; 0 is none.
    """

    level: str
    field: str
    message: str
    hint: str = ""
    line: int = 0
    error: PortalError | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "level": self.level,
            "field": self.field,
            "message": self.message,
            "hint": self.hint,
            "line": self.line,
            "error": self.error.as_dict() if self.error else None,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeCheck:
    """What came of a look. Content, plan and base are None where a refusal hides them.

    `estimate_bytes` is a rough size of the image, base included when its size is known.
    """

    findings: tuple[Finding, ...]
    content: RecipeContent | None
    plan: Plan | None
    dockerfile: str
    base: ResolvedBase | None
    estimate_bytes: int | None

    @property
    def refusals(self) -> list[PortalError]:
        """Return the errors, in the order of the form."""
        return [finding.error for finding in self.findings if finding.error is not None]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "allowed": not self.refusals,
            "findings": [finding.as_dict() for finding in self.findings],
            "base": self.base.reference if self.base else None,
            "estimate_bytes": self.estimate_bytes,
            "dockerfile": self.dockerfile,
        }


@dataclass(kw_only=True)
class Look:
    """A look under way: what is asked, and what was found so far."""

    data: Mapping[str, Any]
    name: str
    owner: Person
    recipe: Recipe | None
    policy: BuildPolicy
    findings: list[Finding] = field(default_factory=list)

    def refuse(self, error: PortalError, otherwise: str) -> None:
        """Add a refusal, once."""
        found = Finding(
            level=REFUSED,
            field=str(error.fields.get("field") or otherwise),
            message=error.message,
            hint=error.hint,
            line=int(error.fields.get("line") or 0),
            error=error,
        )
        if found.message not in {one.message for one in self.findings if one.error}:
            self.findings.append(found)

    def note(self, level: str, about: str, message: str, hint: str = "", line: int = 0) -> None:
        """Add a line that stops nothing."""
        self.findings.append(
            Finding(level=level, field=about, message=message, hint=hint, line=line)
        )

    def attempt(self, about: str, check: Callable[[], object]) -> None:
        """Run a check; what it refuses is a finding."""
        try:
            check()
        except RefusedError as error:
            self.refuse(error, about)
