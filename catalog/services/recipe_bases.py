"""What a recipe's base means today: which image, seen by whom, and what is known of it.

A look-up of the catalogue is exactly that of a launch. What is outside of the catalogue needs an
image that is offered here, or a pattern of the admin. Not in charge of: pulling the base, and
what goes on top of it (`recipe_checks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from catalog.models import BuildPolicy, Image, ImagePackages, Recipe
from catalog.recipes.content import Base
from catalog.recipes.plan import BaseFacts
from catalog.references import ImageReference, parse_reference
from catalog.services.lookups import lookup_image
from catalog.services.policies import check_base_reference
from catalog.services.pulls import find_image_on_engine
from catalog.services.recipe_lookups import (
    find_named_recipe,
    find_version,
    parse_recipe_name,
)
from ds01portal.engine.base import ImageDetails
from ds01portal.exceptions import EngineError, ImageRefused, NotFound, PolicyRefused
from ds01portal.models import Person

__all__ = ["ResolvedBase", "check_not_circular", "resolve_base"]

OWN_REPOSITORIES = "ds01-"  # the first part of what the portal calls custom images
# They load code into every program, the host's own helpers of a start included.
LOADER_VARIABLES = ("LD_PRELOAD", "LD_AUDIT")


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedBase:
    """A base that may be built on. `image` is None when no row is about it.

    `engine_image_id` is empty and `size_bytes` None while it is not on this machine and nobody
    has seen it; `engine_asked` is False when the engine did not answer.
    """

    reference: str
    image: Image | None
    framework: str
    version: str
    architecture: str
    engine_image_id: str
    size_bytes: int | None
    facts: BaseFacts
    note: str = ""
    engine_asked: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class _Choice:
    reference: str
    image: Image | None
    framework: str = ""
    version: str = ""
    architecture: str = ""
    note: str = ""


def resolve_base(*, base: Base, person: Person) -> ResolvedBase:
    """Return what the base is for this person now.

    Raise ImageRefused (with what there is) for one that is unknown, retired or not here,
    NotFound for what the person may not see, InvalidInput and PolicyRefused for references. An
    engine that does not answer is no refusal: what rows know of the image counts then.
    """
    if base.kind == "catalog":
        chosen = _choose_from_catalogue(base)
    elif base.kind == "custom":
        chosen = _choose_custom(base.image, person)
    else:
        chosen = _choose_reference(base.reference, person)
    details, asked = _ask_engine(chosen)
    if details is not None:
        check_base_variables(reference=chosen.reference, environment=details.environment)
    row = chosen.image
    image_id = details.id if details else (row.engine_image_id if row and not asked else "")
    size = details.size if details else (row.size_bytes if row else None)
    return ResolvedBase(
        reference=chosen.reference,
        image=row,
        framework=chosen.framework,
        version=chosen.version,
        architecture=chosen.architecture,
        engine_image_id=image_id,
        size_bytes=size,
        facts=_read_facts(chosen, image_id),
        note=chosen.note,
        engine_asked=asked,
    )


def _choose_from_catalogue(base: Base) -> _Choice:
    found = lookup_image(
        framework=base.framework, version=base.version, architecture=base.architecture
    )
    note = found.judgement.reason
    if found.is_fallback:
        note = f"The catalogue has none for {found.architecture}: {found.reference} is taken."
    return _Choice(
        reference=found.reference,
        image=found.image,
        framework=found.framework,
        version=found.version,
        architecture=found.architecture,
        note=note,
    )


def _choose_custom(reference: str, person: Person) -> _Choice:
    image = find_version(person=person, reference=reference)
    if not image.is_launchable:
        raise ImageRefused(
            f"{image.reference} is not on this machine.",
            hint="Choose another version, or let its owner build it again.",
            field="base",
            value=reference,
        )
    return _from_row(image)


def _from_row(image: Image) -> _Choice:
    architectures = image.architecture_list
    return _Choice(
        reference=image.reference,
        image=image,
        framework=image.framework,
        version=image.version,
        architecture=architectures[0] if architectures else "",
    )


def _choose_reference(reference: str, person: Person) -> _Choice:
    parsed = parse_reference(reference)
    if not parsed.registry and parsed.path.startswith(OWN_REPOSITORIES):
        # Somebody's custom image, however it is spelled: who may not see it finds nothing.
        return _choose_custom(f"{parsed.path}:{parsed.tag or 'latest'}", person)
    if offered := _find_offered(parsed, person):
        return _from_row(offered)
    check_base_reference(policy=BuildPolicy.current(), reference=str(parsed))
    # Without a tag the engine would take the name for the beginning of an image's id, too.
    full = str(parsed) if parsed.tag or parsed.digest else str(parsed.with_tag("latest"))
    return _Choice(reference=full, image=None, version=parsed.tag[:64])


def _find_offered(parsed: ImageReference, person: Person) -> Image | None:
    """Return the row of an image that the person may launch and that is called so."""
    spellings = {str(parsed)}
    if parsed.tag in ("", "latest") and not parsed.digest:
        spellings |= {parsed.name, f"{parsed.name}:latest"}
    rows = Image.objects.launchable().visible_to(person).exclude(kind=Image.Kind.CUSTOM)
    return rows.filter(reference__in=spellings).in_order().first()


def _ask_engine(chosen: _Choice) -> tuple[ImageDetails | None, bool]:
    try:
        details = find_image_on_engine(reference=chosen.reference)
    except EngineError:
        return None, False
    row = chosen.image
    if details is None and row is not None and row.kind != Image.Kind.CATALOG:
        raise ImageRefused(
            f"{chosen.reference} is not on this machine any more, and cannot be pulled.",
            hint="Choose another base, or let its owner build it again.",
            field="base",
            value=chosen.reference,
        )
    return details, True


def check_base_variables(*, reference: str, environment: Mapping[str, str]) -> None:
    """Raise PolicyRefused when an image brings a variable that loads code into every program.

    The container toolkit's hook runs on the host with it (CVE-2025-23266).
    """
    for name in LOADER_VARIABLES:
        if environment.get(name):
            raise PolicyRefused(
                f"The image {reference} sets {name}, which loads code into every program.",
                hint="Choose another one, or tell an admin.",
                field="base",
                value=name,
            )


def _read_facts(chosen: _Choice, image_id: str) -> BaseFacts:
    known = ImagePackages.objects.filter(pk=image_id).first() if image_id else None
    return BaseFacts(
        reference=chosen.reference,
        image_id=image_id,
        packages=known.pip if known else None,
        framework=chosen.framework,
        version=chosen.version,
    )


def check_not_circular(*, recipe: Recipe, base: ResolvedBase) -> None:
    """Raise ImageRefused when the base stands, through whatever images, on the recipe itself.

    Both count: what a version was really built on, and what the recipes below say now.
    """
    waiting = [base.image] if base.image and base.image.is_custom else []
    seen: set[int] = set()
    while waiting:
        image = waiting.pop()
        if image.recipe_id == recipe.pk:
            raise ImageRefused(
                f"{recipe.name} cannot stand on itself: {base.reference} is built from it.",
                hint="Choose a base that does not need this image.",
                field="base",
                value=base.reference,
            )
        if image.pk not in seen:
            seen.add(image.pk)
            waiting += _below(image)


def _below(image: Image) -> list[Image]:
    """Return the custom images that one stands on, and those its recipe names now."""
    below = list(Image.objects.custom().filter(reference=image.base_reference))
    recipe = image.recipe
    if recipe is None or recipe.deleted_at is not None:
        return below
    target = _named_base(recipe.content)
    if target is not None and target.pk != recipe.pk:
        newest = target.images.order_by("-number").first()
        if newest is not None:
            below.append(newest)
    return below


def _named_base(content: Mapping[str, Any]) -> Recipe | None:
    base = content.get("base") or {}
    if base.get("kind") != "custom":
        return None
    try:
        return find_named_recipe(name=parse_recipe_name(str(base.get("image", ""))), person=None)
    except NotFound:
        return None
