"""The verbs on recipes that pages and commands call: make, change, fork, share, rename, find.

Each is one short transaction with its event. What is kept is always buildable at that time; a
build looks again. Not in charge of: building (`builds`), deleting and versions (`image_care`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.db.models import Max

from catalog.models import Image, Recipe
from catalog.recipes.content import RecipeContent
from catalog.recipes.differences import compare_contents
from catalog.recipes.names import MAX_NAME
from catalog.services.newer_bases import newer_bases
from catalog.services.recipe_checks import (
    RecipeCheck,
    check_image_count,
    ensure_buildable,
    ensure_name_is_new,
)
from catalog.services.recipe_lookups import (
    ensure_changeable,
    find_changeable_recipe,
    find_recipe,
    find_version,
    latest_version,
    parse_recipe_name,
)
from catalog.services.recipe_renames import rename_recipe
from ds01portal.exceptions import InvalidInput, NotFound, RefusedError
from ds01portal.models import Person
from ds01portal.services.events import announce_update, record_event
from ds01portal.services.linux_identities import ensure_identity
from ds01portal.services.quotas import resolve_limits

__all__ = [
    "change_recipe",
    "create_recipe",
    "find_changeable_recipe",
    "find_recipe",
    "find_version",
    "fork_recipe",
    "latest_version",
    "newer_bases",
    "preview_change",
    "rename_recipe",
    "share_recipe",
]

LONGEST_DESCRIPTION = 300
Sharing = Recipe.Sharing


def create_recipe(
    *,
    owner: Person,
    name: str,
    content: Mapping[str, Any],
    actor: Person | None,
    description: str = "",
    forked_from: Image | None = None,
) -> Recipe:
    """Make a recipe; nothing is built. Raise what `ensure_buildable` refuses, and QuotaExceeded."""
    _ensure_may_act_for(owner, actor)
    description = _check_description(description)
    ensure_identity(person=owner)
    check = ensure_buildable(content=content, name=name, owner=owner)
    try:
        with transaction.atomic():
            # The owner's row makes two requests of one person wait for each other: quotas hold.
            Person.objects.select_for_update(no_key=True).get(pk=owner.pk)
            ensure_name_is_new(name=name, owner=owner)
            check_image_count(owner=owner, limits=resolve_limits(person=owner))
            recipe = Recipe.objects.create(
                owner=owner,
                name=name,
                description=description,
                content=_storable(check),
                forked_from=forked_from,
                last_number=_last_number(owner, name),
            )
            source = forked_from.reference if forked_from else None
            _record(recipe, "fork" if source else "create", actor, after={"source": source})
    except IntegrityError:
        ensure_name_is_new(name=name, owner=owner)  # a twin of this request was faster
        raise
    return recipe


def change_recipe(
    *,
    recipe: Recipe,
    actor: Person | None,
    content: Mapping[str, Any] | None = None,
    description: str | None = None,
) -> Recipe:
    """Keep another content or description; a build under way goes on with the old one.

    Raise NotFound and RefusedError for who may not, and what `ensure_buildable` refuses.
    """
    ensure_changeable(recipe=recipe, actor=actor)
    values: dict[str, Any] = {}
    if description is not None:
        values["description"] = _check_description(description)
    if content is not None:
        values["content"] = _storable(ensure_buildable(recipe=recipe, content=content))
    with transaction.atomic():
        row = Recipe.objects.live().select_for_update(of=("self",)).filter(pk=recipe.pk).first()
        if row is None:
            raise NotFound(f"There is no image {recipe.name} any more.", field="name")
        changed = [key for key, value in values.items() if getattr(row, key) != value]
        if changed:
            words = _change_words(row, values)
            for key in changed:
                setattr(row, key, values[key])
            row.save(update_fields=[*changed, "changed_at"])
            _record(row, "change", actor, after={"changes": words})
    recipe.refresh_from_db()
    return recipe


def share_recipe(
    *, recipe: Recipe, sharing: str, actor: Person | None, group: Group | None = None
) -> Recipe:
    """Let nobody, the members of a group, or everybody see, use and fork the image.

    Builds and logs stay the owner's. Raise InvalidInput for a group that is missing, or that
    the owner is not in.
    """
    ensure_changeable(recipe=recipe, actor=actor)
    if sharing not in Sharing.values:
        raise InvalidInput(
            f"“{sharing[:40]}” is not a way to share.",
            hint=f"One of: {', '.join(Sharing.values)}.",
            field="sharing",
        )
    chosen = _check_group(recipe, group, actor) if sharing == Sharing.GROUP else None
    with transaction.atomic():
        row = Recipe.objects.live().select_for_update(of=("self",)).filter(pk=recipe.pk).first()
        if row is None:
            raise NotFound(f"There is no image {recipe.name} any more.", field="name")
        if (row.sharing, row.shared_group_id) != (sharing, chosen.pk if chosen else None):
            before = _sharing_words(row)
            row.sharing, row.shared_group = sharing, chosen
            row.save(update_fields=["sharing", "shared_group", "changed_at"])
            _record(row, "share", actor, before=before, after=_sharing_words(row))
            announce_update(subject="catalog", owner_id=None)
    recipe.refresh_from_db()
    return recipe


def fork_recipe(
    *,
    source: Recipe,
    owner: Person,
    actor: Person | None,
    name: str = "",
    number: int | None = None,
) -> Recipe:
    """Copy what a version was built from into a recipe of the owner's own, shared with nobody.

    Without `number` the latest version; before the first, what is written now. Raise NotFound
    for what the owner may not see, else as `create_recipe`.
    """
    for person in {owner, actor} - {None}:
        assert person is not None
        find_recipe(person=person, name=f"{source.owner.username}/{source.name}")
    if number is None:
        image = latest_version(recipe=source)
    else:
        reference = f"{source.owner.username}/{source.name}:{number}"
        image = find_version(person=owner, reference=reference)
    build = getattr(image, "build", None)
    return create_recipe(
        owner=owner,
        name=name or _free_name(owner, source.name),
        content=build.content if build else source.content,
        actor=actor,
        description=source.description,
        forked_from=image,
    )


def preview_change(*, recipe: Recipe, content: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what another content would change, a line each. Raise InvalidInput for a bad one."""
    return compare_contents(
        RecipeContent.from_stored(recipe.content), RecipeContent.from_stored(content)
    )


def _change_words(recipe: Recipe, values: Mapping[str, Any]) -> list[str]:
    """Return what a change changes, for the history: values of variables are not in it."""
    words = []
    if values.get("description", recipe.description) != recipe.description:
        words.append(f"Description: {values['description']}")
    if "content" in values:
        try:
            words += preview_change(recipe=recipe, content=values["content"])
        except InvalidInput:  # the old one is from before a rule that holds now
            words.append("Everything written anew")
    return words


def _storable(check: RecipeCheck) -> dict[str, Any]:
    """Return the content as rows keep it: a custom base by its owner's name and its own."""
    assert check.content is not None and check.base is not None
    content, image = check.content, check.base.image
    if image is not None and image.is_custom and image.recipe is not None:
        written = parse_recipe_name(content.base.image or content.base.reference)
        name = f"{image.recipe.owner.username}/{image.recipe.name}"
        number = f":{written.number}" if written.number else ""
        base = replace(content.base, kind="custom", image=f"{name}{number}", reference="")
        content = replace(content, base=base)
    return content.as_dict()


def _last_number(owner: Person, name: str) -> int:
    """Return the number to go on from: those of deleted images of that name are not used again."""
    rows = Recipe.objects.filter(owner=owner, name=name)
    return rows.aggregate(last=Max("last_number"))["last"] or 0


def _free_name(owner: Person, name: str) -> str:
    taken = set(Recipe.objects.owned_by(owner).values_list("name", flat=True))
    candidates = (f"{name[: MAX_NAME - 4].rstrip('._-')}-{n}" for n in range(2, 1000))
    return next((one for one in (name, *candidates) if one not in taken), name)


def _ensure_may_act_for(owner: Person, actor: Person | None) -> None:
    if actor is not None and actor != owner and not actor.is_staff:
        raise RefusedError("You can make images for yourself only.", field="owner")


def _check_description(text: str) -> str:
    text = " ".join(text.split())
    if len(text) > LONGEST_DESCRIPTION or not text.isprintable():
        raise InvalidInput(
            "The description is too long, or has characters that cannot be seen.",
            hint=f"Write one line of up to {LONGEST_DESCRIPTION} characters.",
            field="description",
        )
    return text


def _check_group(recipe: Recipe, group: Group | None, actor: Person | None) -> Group:
    own = recipe.owner.groups.order_by("name")
    if group is not None and ((actor and actor.is_staff) or own.filter(pk=group.pk).exists()):
        return group
    names = ", ".join(own.values_list("name", flat=True))
    raise InvalidInput(
        "An image can be shared with a group of its owner's.",
        hint=f"Groups: {names}." if names else "The owner is in no group; share with everybody.",
        field="group",
    )


def _sharing_words(recipe: Recipe) -> dict[str, Any]:
    group = recipe.shared_group
    return {"sharing": str(recipe.sharing), "group": group.name if group else None}


def _record(
    recipe: Recipe,
    verb: str,
    actor: Person | None,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    record_event(
        verb=verb,
        **recipe.subject,
        owner=recipe.owner,
        actor=actor,
        before=before,
        after={"name": recipe.name, **(after or {})},
    )
    announce_update(subject=f"recipe:{recipe.pk}", owner_id=recipe.owner_id, verb=verb)
