"""What the side of the builder says: findings, Dockerfile, size, quota, the same as a command.

Not in charge of: the checks themselves (`services.recipe_checks`).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from catalog.dockerfile_html import render_dockerfile
from catalog.forms.bases import describe_base
from catalog.forms.recipes import RecipeForm, split_lines
from catalog.models import Recipe
from catalog.services.image_quota import ImageQuota, read_image_quota
from catalog.services.recipe_checks import Finding, RecipeCheck, check_recipe
from ds01portal.limits import Limit, Special, format_bytes
from ds01portal.models import Person

STATUS = {"ok": "ok", "warning": "warn", "refused": "failed"}
MOST_PIP = 8  # packages that the command names by themselves
QUIET = ("estimate",)  # said in a line of its own


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A finding with the place on the form that it is about; `place` is empty for none."""

    status: str
    label: str
    detail: str
    place: str = ""
    number: int = 0
    refused: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """Everything at the side."""

    lines: list[Line]
    check: RecipeCheck
    quota: str
    command: str
    left_out: list[dict[str, str]]

    @property
    def refused(self) -> int:
        """Number of things that stand in the way."""
        return sum(line.refused for line in self.lines)

    @property
    def ready(self) -> bool:
        """Whether it could be saved and built."""
        return not self.refused

    @property
    def dockerfile(self) -> SafeString:
        """Return the Dockerfile for reading, empty while something cannot be read."""
        return render_dockerfile(self.check.dockerfile)

    @property
    def only_name_missing(self) -> bool:
        """Whether a name is all that is left to do."""
        return [line.status for line in self.lines if line.refused] == ["todo"]

    @property
    def size(self) -> str:
        """Return the estimated size."""
        size = self.check.estimate_bytes
        return _("about %(size)s") % {"size": format_bytes(size)} if size else ""


def make_preview(
    *, form: RecipeForm, content: Mapping[str, Any], name: str, owner: Person, recipe: Recipe | None
) -> Preview:
    """Return the side column for what is typed now. Nothing is changed."""
    check = check_recipe(content=content, name=name, owner=owner, recipe=recipe)
    lines = [_line(form, one) for one in check.findings if one.field not in QUIET]
    lines += [
        Line(
            status="failed",
            label=_("Line %(number)d of the variables: %(words)s")
            % {"number": number, "words": words},
            detail="",
            place="environment",
            number=number,
            refused=True,
        )
        for number, words in form.environment_problems()
    ]
    order = {"failed": 0, "todo": 1, "warn": 2, "ok": 3}
    lines.sort(key=lambda line: order[line.status])
    plan = check.plan
    return Preview(
        lines=lines,
        check=check,
        quota=quota_text(read_image_quota(owner=owner), is_new=recipe is None),
        command=equivalent_command(content, name=name, owner=owner),
        left_out=[{"name": one.name, "reason": one.reason} for one in plan.left_out]
        if plan
        else [],
    )


def _line(form: RecipeForm, finding: Finding) -> Line:
    fields = finding.error.fields if finding.error else {}
    index = fields.get("index")
    place, number = form.place_of(
        finding.field, finding.line, index if isinstance(index, int) else None
    )
    status = STATUS[finding.level]
    nameless = "name" in form.fields and not form.typed("name").strip()
    if place == "name" and nameless and status == "failed" and not fields.get("resource"):
        return Line(status="todo", label=_("Give it a name."), detail="", place=place, refused=True)
    return Line(
        status=status,
        label=finding.message,
        detail=finding.hint,
        place=place,
        number=number,
        refused=status == "failed",
    )


def add_refusals(form: RecipeForm, preview: Preview) -> None:
    """Put every refusal beside its field."""
    for line in preview.lines:
        if line.refused and line.status != "todo":  # a missing name is the form's own word
            form.add_refusal(line.place, f"{line.label} {line.detail}".strip())


def quota_text(quota: ImageQuota, *, is_new: bool) -> str:
    """Return what the person has of what they may have, the image of the form included."""
    count = quota.images + is_new
    return " · ".join(
        (
            ngettext("%(share)s image", "%(share)s images", count)
            % {"share": _share(str(count), quota.images_limit, str)},
            _("disk %(share)s")
            % {"share": _share(format_bytes(quota.bytes), quota.bytes_limit, format_bytes)},
        )
    )


def _share(used: str, limit: Limit, write: Any) -> str:
    if limit is Special.UNLIMITED:
        return used
    bound = write(0) if isinstance(limit, Special) else write(int(limit))
    return _("%(used)s of %(limit)s") % {"used": used, "limit": bound}


def equivalent_command(content: Mapping[str, Any], *, name: str, owner: Person) -> str:
    """Return the command line that asks for the same; a longer text stands for a file."""
    words = ["manage.py", "build_image", owner.username, name or "NAME"]
    words += _base_words(content["base"])
    for layer, option in (("jupyter", "--jupyter"), ("data_science", "--data-science")):
        choice = content[layer]["choice"]
        if choice != "none":
            words += [option, *(content[layer]["packages"] if choice == "own" else [choice])]
    if content["use_case"]:
        words += ["--use-case", content["use_case"], *content["use_case_packages"]]
    lines = split_lines(content["requirements"])
    if len(lines) > MOST_PIP or any("#" in line or line.startswith("-") for line in lines):
        words += ["--requirements", "requirements.txt"]
    elif lines:
        words += ["--pip", *lines]
    variables = [f"{key}={value}" for key, value in content["environment"].items()]
    for option, values in (
        ("--apt", content["apt"]),
        ("--env", variables),
        ("--post-install", content["post_install"]),
    ):
        words += [option, *values] if values else []
    return shlex.join(words)


def _base_words(base: Mapping[str, Any]) -> list[str]:
    if base.get("kind") != "catalog":
        return ["--base", describe_base(base)]
    words = ["--framework", str(base.get("framework", ""))]
    for key, option in (("version", "--version"), ("architecture", "--arch")):
        words += [option, str(base[key])] if base.get(key) else []
    return words
