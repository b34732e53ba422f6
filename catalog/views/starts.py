"""What a new recipe can start from: nothing, a notebook, a use case, a requirements file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from catalog.models import PackageList

CUSTOM = "custom"
NOTEBOOK, REQUIREMENTS, EMPTY = "notebook", "requirements", "empty"
MOST_ADDED = 200  # packages that a link may bring along


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """One template, as a link."""

    key: str
    label: str
    icon: str


def list_starts(lists: Sequence[PackageList]) -> list[Start]:
    """Return the templates, the plain ones first."""
    return [
        Start(key=EMPTY, label=_("Nothing"), icon="file-earmark"),
        Start(key=NOTEBOOK, label=_("A notebook"), icon="journal-code"),
        Start(key=REQUIREMENTS, label=_("A requirements file"), icon="file-earmark-text"),
        *(
            Start(key=row.key, label=row.label, icon="boxes")
            for row in lists
            if row.kind == PackageList.Kind.USE_CASE
        ),
    ]


def start_content(key: str, *, base: dict[str, Any], starts: Sequence[Start]) -> dict[str, Any]:
    """Return the content of a template; an unknown one is the empty one."""
    known = {start.key for start in starts}
    use_case = key if key in known - {EMPTY, NOTEBOOK, REQUIREMENTS} else ""
    packaged = key == NOTEBOOK or bool(use_case)
    return {
        "base": base,
        "jupyter": {"choice": "default" if packaged else "none", "packages": []},
        "data_science": {"choice": "default" if packaged else "none", "packages": []},
        "use_case": use_case,
        "use_case_packages": [],
        "requirements": "",
        "apt": [],
        "environment": {},
        "post_install": [],
        "fresh": False,
    }


def with_additions(
    content: dict[str, Any], *, packages: Sequence[str], apt: Sequence[str]
) -> dict[str, Any]:
    """Return the content with lines that a link brought along; they are checked like all others."""
    lines = [line for line in packages[:MOST_ADDED] if line.strip() and "\n" not in line]
    if not lines and not apt:
        return content
    text = str(content.get("requirements", ""))
    if text and not text.endswith("\n"):
        text += "\n"
    have = list(content.get("apt", ()))
    new = [name for name in apt[:MOST_ADDED] if name and name not in have]
    return {**content, "requirements": text + "\n".join(lines), "apt": [*have, *new]}
