"""Look at a recipe before anything is made: all findings at once, its plan, its Dockerfile.

The same checks serve the form while it is filled, `build_image --dry-run`, the saving of a
recipe and the build itself, which stop at the first refusal. Not in charge of: room on the disk
and the queue (`builds`), which are no fault of a recipe.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from catalog.models import BuildPolicy, Recipe
from catalog.recipes.apt import check_apt_packages
from catalog.recipes.content import Base, RecipeContent, content_problems
from catalog.recipes.dockerfile import write_dockerfile
from catalog.recipes.names import check_image_name
from catalog.recipes.plan import BaseFacts, PackageLists, Plan, PlanPolicy, make_plan
from catalog.services.engine_facts import known_escapes
from catalog.services.image_quota import check_free_disk, check_image_quota
from catalog.services.policies import (
    load_package_lists,
    may_post_install,
    requirements_policy,
)
from catalog.services.recipe_bases import ResolvedBase, check_not_circular, resolve_base
from catalog.services.recipe_findings import OK, WARNING, Finding, Look, RecipeCheck
from catalog.services.recipe_sizes import estimate_addition
from ds01portal.exceptions import InvalidInput, PolicyRefused, RefusedError
from ds01portal.limits import format_bytes
from ds01portal.models import Person
from ds01portal.services.quotas import EffectiveLimits, check_limit, resolve_limits

__all__ = [
    "Finding",
    "RecipeCheck",
    "ResolvedBase",
    "check_image_count",
    "check_recipe",
    "ensure_buildable",
    "ensure_name_is_new",
    "resolve_base",
]


def check_recipe(
    *, content: Mapping[str, Any], name: str, owner: Person, recipe: Recipe | None = None
) -> RecipeCheck:
    """Return all findings about a recipe as its owner would build it; raise nothing for bad ones.

    `recipe` is the row when there is one: its own name is free, and a base must not need it.
    """
    if not isinstance(content, Mapping):
        content = {}  # something else from a script: a recipe without anything
    look = Look(data=content, name=name, owner=owner, recipe=recipe, policy=BuildPolicy.current())
    _check_name(look)
    base = _check_base(look)
    parsed = _check_content(look)
    lists = load_package_lists()
    plan = _check_plan(look, parsed, base, lists) if parsed else None
    estimate = _estimate(look, parsed, plan, base, lists) if parsed and plan and base else None
    _look_at_machine(look)
    return RecipeCheck(
        findings=tuple(look.findings),
        content=parsed,
        plan=plan if base else None,
        dockerfile=write_dockerfile(plan) if plan and base else "",
        base=base,
        estimate_bytes=estimate,
    )


def ensure_buildable(
    *,
    recipe: Recipe | None = None,
    content: Mapping[str, Any] | None = None,
    name: str = "",
    owner: Person | None = None,
) -> RecipeCheck:
    """Return the check of a recipe, or of a content for it; raise the first refusal."""
    owner = owner or (recipe.owner if recipe else None)
    if owner is None:
        raise ValueError("Name a recipe or an owner.")
    check = check_recipe(
        content=recipe.content if content is None and recipe else content or {},
        name=name or (recipe.name if recipe else ""),
        owner=owner,
        recipe=recipe,
    )
    for error in check.refusals:
        raise error
    return check


def ensure_name_is_new(*, name: str, owner: Person, recipe: Recipe | None = None) -> None:
    """Raise InvalidInput when the owner has another image of that name."""
    taken = Recipe.objects.owned_by(owner).filter(name=name)
    if recipe is not None:
        taken = taken.exclude(pk=recipe.pk)
    if taken.exists():
        raise InvalidInput(
            f"You have an image named {name} already.",
            hint="Choose another name, or change and build that one.",
            field="name",
            value=name,
        )


def check_image_count(*, owner: Person, limits: EffectiveLimits | None = None) -> None:
    """Raise QuotaExceeded when the owner may not have one image more."""
    check_limit(
        limits=limits or resolve_limits(person=owner),
        name="images",
        used=Recipe.objects.owned_by(owner).count(),
        requested=1,
        hint="Delete an image that you do not need, or ask an admin for more.",
    )


def _check_name(look: Look) -> None:
    before = len(look.findings)
    look.attempt("name", lambda: check_image_name(look.name))
    if len(look.findings) == before:
        look.attempt(
            "name",
            lambda: ensure_name_is_new(name=look.name, owner=look.owner, recipe=look.recipe),
        )
    if look.recipe is None:
        look.attempt("name", lambda: check_image_count(owner=look.owner))
    if len(look.findings) == before:
        look.note(OK, "name", f"The image will be called {look.name}.")


def _check_base(look: Look) -> ResolvedBase | None:
    try:
        base: Base = RecipeContent.from_dict({"base": look.data.get("base")}).base
    except InvalidInput:
        return None  # said by the check of the content
    try:
        found = resolve_base(base=base, person=look.owner)
        if look.recipe is not None:
            check_not_circular(recipe=look.recipe, base=found)
    except RefusedError as error:
        # A look-up names its own fields; on the form they are all the base.
        error.fields["field"] = "base"
        look.refuse(error, "base")
        return None
    size = f", {format_bytes(found.size_bytes)}" if found.size_bytes else ""
    look.note(OK, "base", f"The base is {found.reference}{size}.")
    if found.note:
        look.note(WARNING, "base", f"{found.note[:1].upper()}{found.note[1:]}.".replace("..", "."))
    if not found.engine_asked:
        look.note(
            WARNING, "base", "Docker Engine does not answer: the base was not looked at.",
            "A build waits until it is back.",
        )  # fmt: skip
    return found


def _check_content(look: Look) -> RecipeContent | None:
    rules = requirements_policy(policy=look.policy)
    problems = content_problems(look.data, policy=rules)
    for problem in problems:
        look.refuse(problem, "content")
    look.attempt("apt", lambda: _check_apt(look))
    return None if problems else RecipeContent.from_dict(look.data, policy=rules)


def _check_apt(look: Look) -> None:
    names = look.data.get("apt")
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return
    try:
        problems = check_apt_packages(names, pattern=look.policy.apt_pattern)
    except re.error as error:
        raise PolicyRefused(
            "The site's rule for system packages cannot be read, so none are installed.",
            hint="Tell an admin: the pattern of the build policy is not a regular expression.",
            field="apt",
            value=look.policy.apt_pattern,
        ) from error
    for problem in problems:
        look.refuse(problem, "apt")


def _check_plan(
    look: Look, content: RecipeContent, base: ResolvedBase | None, lists: PackageLists
) -> Plan | None:
    if content.post_install and not may_post_install(policy=look.policy, person=look.owner):
        look.refuse(
            PolicyRefused(
                "Shell lines of one's own are not allowed for you on this site.",
                hint="Remove them, or ask an admin.",
                field="post_install",
                value=len(content.post_install),
            ),
            "post_install",
        )
    try:
        plan = make_plan(
            content,
            name=look.name,
            owner_uid=look.owner.uid or 0,
            # Without a base the rest is looked at all the same: everything is said at once.
            base=base.facts if base else BaseFacts(reference="base"),
            lists=lists,
            policy=PlanPolicy(
                requirements=requirements_policy(policy=look.policy), allow_post_install=True
            ),
        )
    except InvalidInput as error:
        look.refuse(error, "content")
        return None
    for note in plan.notes:
        look.note(WARNING, note.field, note.text, line=note.line)
    return plan


def _estimate(
    look: Look,
    content: RecipeContent,
    plan: Plan,
    base: ResolvedBase,
    lists: PackageLists,
) -> int:
    added = estimate_addition(content=content, plan=plan)
    known = base.size_bytes or 0
    text = f"About {format_bytes(added)} on top of the base"
    text += f", {format_bytes(known + added)} in all" if known else ", whose size is not known yet"
    look.note(OK, "estimate", f"{text}. This is an estimate: pip decides what else is needed.")
    return known + added


def _look_at_machine(look: Look) -> None:
    """Warn of what is no fault of the recipe: no room, and, for admins only, known ways out."""
    try:
        check_image_quota(owner=look.owner)
        if unknown := check_free_disk(policy=look.policy):
            look.note(WARNING, "disk", unknown)
    except RefusedError as error:
        look.note(WARNING, "disk", f"No build is possible now: {error.message}", error.hint)
    if look.owner.is_staff:
        for escape in known_escapes():
            look.note(WARNING, "machine", escape.message)
