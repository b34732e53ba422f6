"""Give a recipe another name, on the engine and in all rows that say the old one.

First the new tags, then the rows in one transaction, then the old tags go: whenever it is cut
off, no version is without a name, and `image_care` removes tags that no row names. Containers
keep the image they started from. Not in charge of: the other verbs (`recipes`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from django.db import IntegrityError, transaction
from django.utils import timezone

from catalog.models import Build, Image, Recipe
from catalog.recipes.names import check_image_name
from catalog.services.recipe_checks import ensure_name_is_new
from catalog.services.recipe_lookups import ensure_changeable, latest_version, parse_recipe_name
from ds01portal.engine import get_engine
from ds01portal.engine.base import ContainerEngine
from ds01portal.exceptions import Busy, EngineError, MissingOnEngine, NotFound
from ds01portal.models import Person
from ds01portal.services.events import announce_update, record_event
from ds01portal.services.operations import find_live_operation

__all__ = ["rename_recipe"]


def rename_recipe(
    *,
    recipe: Recipe,
    name: str,
    actor: Person | None,
    engine: ContainerEngine | None = None,
) -> Recipe:
    """Call the recipe and all its versions otherwise; recipes that stand on it follow.

    Raise InvalidInput for a name that is malformed or taken, Busy during a build, NotFound and
    RefusedError for who may not change it, and EngineError; nothing is changed then.
    """
    ensure_changeable(recipe=recipe, actor=actor)
    check_image_name(name)
    if name == recipe.name:
        return recipe
    ensure_name_is_new(name=name, owner=recipe.owner, recipe=recipe)
    _refuse_while_busy(recipe)
    _refuse_while_swept(recipe, name)
    chosen = engine or get_engine()
    old, new = recipe.repository, Recipe(owner=recipe.owner, name=name).repository
    tags = _tags_of(recipe)
    try:
        made = _tag(chosen, tags, new)
        _write_rows(recipe, name, actor)
    except BaseException:
        _put_back(chosen, recipe.owner, name, tags)
        raise
    # Once more: a sweep may have taken new tags for left-overs before rows named them.
    _tag(chosen, made, new)
    _untag(chosen, (f"{old}:{tag}" for tag in tags))
    return recipe


def _refuse_while_busy(recipe: Recipe) -> None:
    operation = find_live_operation(subject_kind="recipe", subject_id=str(recipe.pk))
    if operation is not None or Build.objects.live().filter(recipe=recipe).exists():
        kind = operation.kind if operation else "build"
        raise Busy(
            f"{recipe.name} is busy: {kind} is under way.",
            hint="Wait until it has ended, or cancel it.",
            operation=kind,
        )


def _refuse_while_swept(recipe: Recipe, name: str) -> None:
    """Refuse a name whose deleted images are on the engine still: their tags are to go."""
    others = Image.objects.custom().on_engine().filter(owner=recipe.owner).exclude(recipe=recipe)
    if others.filter(reference__startswith=f"{Recipe(owner=recipe.owner, name=name).repository}:"):
        raise Busy(
            f"Deleted images named {name} are being removed still.",
            hint="Try again in a few minutes, or choose another name.",
            operation="delete",
        )


def _tags_of(recipe: Recipe) -> dict[str, str]:
    """Return tag → id on the engine, of the versions that are there."""
    rows = recipe.images.on_engine()
    tags = {str(image.number): image.engine_image_id for image in rows}
    newest = latest_version(recipe=recipe)
    if newest is not None and newest.engine_image_id:
        tags["latest"] = newest.engine_image_id
    return tags


def _tag(engine: ContainerEngine, tags: dict[str, str], repository: str) -> dict[str, str]:
    """Put tags on images and return those that could be: what is gone needs no name."""
    made = {}
    for tag, image_id in tags.items():
        with contextlib.suppress(MissingOnEngine):
            engine.tag_image(image_id, f"{repository}:{tag}")
            made[tag] = image_id
    return made


def _untag(engine: ContainerEngine, references: Iterable[str]) -> None:
    # What cannot be removed now is removed by the next sweep: no row names it.
    with contextlib.suppress(EngineError):
        for reference in references:
            engine.untag_image(reference)


def _put_back(engine: ContainerEngine, owner: Person, name: str, tags: dict[str, str]) -> None:
    """Take the new tags away, unless another image got that name meanwhile: it gets its own."""
    other = Recipe.objects.owned_by(owner).filter(name=name).first()
    kept = _tags_of(other) if other else {}
    repository = Recipe(owner=owner, name=name).repository
    with contextlib.suppress(EngineError):
        _tag(engine, kept, repository)
    _untag(engine, (f"{repository}:{tag}" for tag in tags if tag not in kept))


def _write_rows(recipe: Recipe, name: str, actor: Person | None) -> None:
    try:
        with transaction.atomic():
            # As a request for a build does: neither happens in the middle of the other.
            Person.objects.select_for_update(no_key=True).get(pk=recipe.owner_id)
            locked = Recipe.objects.live().select_for_update(of=("self",)).filter(pk=recipe.pk)
            before = locked.values_list("name", flat=True).first()
            if before is None:
                raise NotFound(f"There is no image {recipe.name} any more.", field="name")
            _refuse_while_busy(recipe)
            ensure_name_is_new(name=name, owner=recipe.owner, recipe=recipe)
            old = recipe.repository
            Recipe.objects.filter(pk=recipe.pk).update(name=name, changed_at=timezone.now())
            recipe.refresh_from_db()
            _rename_versions(recipe, old)
            _rename_in_contents(recipe, before)
            record_event(
                verb="rename",
                **recipe.subject,
                owner=recipe.owner,
                actor=actor,
                before={"name": before},
                after={"name": name},
            )
            announce_update(subject=f"recipe:{recipe.pk}", owner_id=recipe.owner_id, name=name)
            announce_update(subject="catalog", owner_id=None)
    except IntegrityError:
        # A twin of this request, or a new image of that name, was faster.
        ensure_name_is_new(name=name, owner=recipe.owner, recipe=recipe)
        raise


def _rename_versions(recipe: Recipe, old: str) -> None:
    for image in recipe.images.all():
        assert image.number is not None
        before, after = f"{old}:{image.number}", recipe.reference(image.number)
        Image.objects.filter(pk=image.pk).update(reference=after)
        Image.objects.custom().filter(base_reference=before).update(base_reference=after)


def _rename_in_contents(recipe: Recipe, before: str) -> None:
    """Let the recipes that name it as their base name it as it is called now."""
    owner = recipe.owner.username
    for other in Recipe.objects.live().filter(content__base__kind="custom").select_related("owner"):
        wanted = parse_recipe_name(str(other.content["base"].get("image", "")))
        if (wanted.owner, wanted.name) != (owner, before):
            continue
        number = f":{wanted.number}" if wanted.number else ""
        content = {
            **other.content,
            "base": {**other.content["base"], "image": f"{owner}/{recipe.name}{number}"},
        }
        Recipe.objects.filter(pk=other.pk).update(content=content)
        record_event(
            verb="change",
            **other.subject,
            owner=other.owner,
            actor=None,
            before={"base": other.content["base"]},
            after={"base": content["base"]},
            reason="its base was renamed",
        )
        announce_update(subject=f"recipe:{other.pk}", owner_id=other.owner_id)
