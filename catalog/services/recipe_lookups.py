"""Find recipes and their versions by the names people write; strangers find nothing.

A name is `thesis` (one's own), `alice/thesis` or `ds01-1001/thesis`; a version adds `:3` or
`:latest`. Not in charge of: whether a version can be launched or built on (`recipe_bases`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from catalog.models import Image, Recipe
from ds01portal.exceptions import NotFound, RefusedError
from ds01portal.models import Person

__all__ = [
    "RecipeName",
    "ensure_changeable",
    "find_changeable_recipe",
    "find_named_recipe",
    "find_own_recipe",
    "find_recipe",
    "find_version",
    "latest_version",
    "parse_recipe_name",
]

LATEST = "latest"
_REPOSITORY = re.compile(r"ds01-([0-9]{1,10})")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
SHOWN = 100  # characters of what somebody typed


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeName:
    """The parts of a written name. `owner` empty is who asks; `number` None the latest."""

    owner: str
    name: str
    number: int | None = None


def parse_recipe_name(text: str) -> RecipeName:
    """Return the parts. Raise NotFound for what can be nobody's image."""
    owner, slash, rest = text.strip().rpartition("/")
    name, colon, version = rest.partition(":")
    if colon and version != LATEST and not _NUMBER.fullmatch(version):
        raise _missing(text, "A version is a number or “latest”.")
    if not name or (slash and not owner) or not text.isprintable():
        raise _missing(text)
    number = int(version) if colon and version != LATEST else None
    return RecipeName(owner=owner, name=name, number=number)


def find_named_recipe(*, name: RecipeName, person: Person | None) -> Recipe | None:
    """Return the live recipe of that name, whoever may see it; `person` is who asks."""
    rows = Recipe.objects.live().select_related("owner", "shared_group").filter(name=name.name)
    if not name.owner:
        return rows.filter(owner=person).first() if person else None
    # The engine's name comes first: nobody may call themselves another's `ds01-1001`.
    if match := _REPOSITORY.fullmatch(name.owner):
        return rows.filter(owner__uid=int(match[1])).first()
    return rows.filter(owner__username=name.owner).first()


def find_own_recipe(*, person: Person, name: str) -> Recipe | None:
    """Return a person's own live recipe of exactly this name, None without one."""
    rows = Recipe.objects.owned_by(person).select_related("owner", "shared_group")
    return rows.filter(name=name).first() if name.isprintable() else None


def find_recipe(*, person: Person, name: str) -> Recipe:
    """Return a recipe that a person may see; raise NotFound, also for strangers."""
    recipe = find_named_recipe(name=parse_recipe_name(name), person=person)
    if recipe is None or not Recipe.objects.visible_to(person).filter(pk=recipe.pk).exists():
        raise _missing(name)
    return recipe


def find_changeable_recipe(*, person: Person, name: str) -> Recipe:
    """Return a recipe that a person may change; raise RefusedError for one that is only shared."""
    recipe = find_recipe(person=person, name=name)
    ensure_changeable(recipe=recipe, actor=person)
    return recipe


def ensure_changeable(*, recipe: Recipe, actor: Person | None) -> None:
    """Raise NotFound or RefusedError unless the actor may change it; None is the portal itself."""
    if actor is None or Recipe.objects.changeable_by(actor).filter(pk=recipe.pk).exists():
        if recipe.deleted_at is None:
            return
        raise _missing(recipe.name)
    if not Recipe.objects.visible_to(actor).filter(pk=recipe.pk).exists():
        raise _missing(recipe.name)
    raise RefusedError(
        f"{recipe.name} belongs to {recipe.owner.username}: "
        "you may use and copy it, and not change it.",
        hint="Fork it, and change your copy.",
        field="name",
        value=recipe.name,
    )


def find_version(*, person: Person, reference: str) -> Image:
    """Return a version, not retired, of a recipe that a person may see.

    Without a number it is the latest. Raise NotFound; whose image may be seen is told which
    versions there are. It may be missing on the engine: see `Image.is_launchable`.
    """
    wanted = parse_recipe_name(reference)
    recipe = find_recipe(person=person, name=reference)
    rows = recipe.images.active().select_related("owner", "recipe__owner").order_by("-number")
    image = rows.filter(number=wanted.number).first() if wanted.number else rows.first()
    if image is not None:
        return image
    numbers = list(rows.values_list("number", flat=True)[:10])
    if not numbers:
        raise NotFound(
            f"{recipe.name} has no version yet.",
            hint="Build it first.",
            field="image",
            value=reference[:SHOWN],
            available=[],
        )
    raise NotFound(
        f"There is no version {wanted.number} of {recipe.name}.",
        hint=f"There is: {', '.join(str(number) for number in numbers)}.",
        field="image",
        value=reference[:SHOWN],
        available=numbers,
    )


def latest_version(*, recipe: Recipe) -> Image | None:
    """Return the version that `latest` names, None before the first."""
    return recipe.images.active().order_by("-number").first()


def _missing(text: str, hint: str = "") -> NotFound:
    return NotFound(
        f"There is no image “{text[:SHOWN]}”.",
        hint=hint or "list_images shows what there is.",
        field="name",
        value=text[:SHOWN],
    )
