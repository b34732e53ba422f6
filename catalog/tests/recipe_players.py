"""Recipes for tests: what people write, and versions as a build leaves them."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from catalog.models import Build, Image, Recipe
from ds01portal.engine.fake import FakeEngine
from ds01portal.models import Event, Operation, Person, Update

BASE = {"kind": "catalog", "framework": "alpha", "version": "2.1.0"}
BASE_REFERENCE = "lab/alpha-2.1.0-cuda11.8.0"
MIB = 1024**2


def write_content(**parts: Any) -> dict[str, Any]:
    """Return a recipe's content as a script sends it, on a base of the sample catalogue."""
    return {"base": dict(BASE), **parts}


def on_custom(image: str) -> dict[str, Any]:
    """Return a content that stands on a custom image."""
    return {"base": {"kind": "custom", "image": image}}


def on_reference(reference: str) -> dict[str, Any]:
    """Return a content that stands on any image."""
    return {"base": {"kind": "reference", "reference": reference}}


def make_recipe(owner: Person, name: str = "thesis", **values: Any) -> Recipe:
    """Make a recipe's row as it is, unchecked."""
    values.setdefault("content", write_content())
    return Recipe.objects.create(owner=owner, name=name, **values)


def make_version(
    recipe: Recipe,
    engine: FakeEngine | None = None,
    *,
    base_reference: str = BASE_REFERENCE,
    environment: dict[str, str] | None = None,
    size: int = 900 * MIB,
) -> Image:
    """Make the next version of a recipe, as a build leaves it: rows, and tags on the engine."""
    recipe.last_number += 1
    recipe.save(update_fields=["last_number"])
    number, reference = recipe.last_number, recipe.reference(recipe.last_number)
    image_id = ""
    if engine is not None:
        image_id = engine.add_image(reference, size, environment=environment)
        engine.tag_image(reference, recipe.reference("latest"))
    image = Image.objects.create(
        kind=Image.Kind.CUSTOM,
        owner=recipe.owner,
        recipe=recipe,
        number=number,
        framework="Alpha",
        framework_slug="alpha",
        version="2.1.0",
        architectures=";CUDA_ADA;",
        reference=reference,
        base_reference=base_reference,
        layers=[{"id": f"layer-{recipe.pk}-{number}", "bytes": 100 * MIB}],
        engine_image_id=image_id,
        size_bytes=size if image_id else None,
    )
    Build.objects.create(
        recipe=recipe,
        number=number,
        content=recipe.content,
        state=Build.State.DONE,
        image=image,
        base_reference=base_reference,
        finished_at=timezone.now(),
    )
    return image


def count_everything() -> dict[str, Any]:
    """Return what a refusal must leave as it is."""
    recipes = Recipe.objects.order_by("pk")
    return {
        "recipes": list(recipes.values_list("pk", "name", "content", "sharing", "deleted_at")),
        "images": list(Image.objects.order_by("pk").values_list("pk", "reference", "retired_at")),
        "builds": Build.objects.count(),
        "events": Event.objects.count(),
        "updates": Update.objects.count(),
        "operations": Operation.objects.count(),
    }
