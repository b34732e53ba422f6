"""Which newer bases a recipe could be rebuilt on.

Newer is what the catalogue lists before, for the same framework and architecture, or a later
version of the same custom image. Not in charge of: what would change (`recipes.preview_change`).
"""

from __future__ import annotations

from catalog.frameworks import normalise_framework
from catalog.models import Image, Recipe
from catalog.recipes.content import Base, RecipeContent
from catalog.services.hosts import read_host_architecture
from catalog.services.recipe_lookups import find_named_recipe, latest_version, parse_recipe_name
from ds01portal.exceptions import InvalidInput, NotFound

__all__ = ["newer_bases"]


def newer_bases(*, recipe: Recipe) -> list[Image]:
    """Return the bases that are newer than the recipe's, newest first; the owner may use all.

    A recipe that takes the newest anyway is compared by what its latest version stands on.
    """
    try:
        base = RecipeContent.from_stored(recipe.content).base
    except InvalidInput:
        return []
    built = latest_version(recipe=recipe)
    stands_on = built.base_reference if built else ""
    if base.kind == "catalog":
        return _newer_in_catalogue(base, stands_on)
    if base.kind == "custom":
        return _newer_versions(base, stands_on, recipe)
    return []


def _newer_in_catalogue(base: Base, stands_on: str) -> list[Image]:
    architecture = read_host_architecture(explicit=base.architecture).arch
    if architecture is None:
        return []
    slug = normalise_framework(base.framework)
    same = Image.objects.catalogue().filter(framework_slug=slug).for_architecture(architecture)
    # Retired rows too: what the recipe stands on may have gone from the catalogue.
    if base.version:
        current = same.filter(version__iexact=base.version).in_order().first()
    else:
        current = same.filter(reference=stands_on).in_order().first() if stands_on else None
    if current is None:
        return []
    offered = list(same.active().in_order())
    if current.is_retired:
        return [row for row in offered if row.reference != current.reference]
    return [row for row in offered if row.position < current.position]


def _newer_versions(base: Base, stands_on: str, recipe: Recipe) -> list[Image]:
    try:
        wanted = parse_recipe_name(base.image)
    except NotFound:
        return []
    below = find_named_recipe(name=wanted, person=recipe.owner)
    if below is None:
        return []
    number = wanted.number
    if number is None:
        now = below.images.filter(reference=stands_on).first() if stands_on else None
        number = now.number if now else None
    if number is None:
        return []
    rows = Image.objects.launchable().visible_to(recipe.owner).filter(recipe=below)
    return list(rows.filter(number__gt=number).order_by("-number"))
