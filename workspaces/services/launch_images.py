"""Which image a launch starts from, and whether it may and can.

A custom image bypasses the catalogue: it must be on the engine and visible to the person.
Not in charge of: pulling (`catalog.services.pulls`), the launch itself.
"""

from __future__ import annotations

from typing import Any

from catalog.architectures import Fit, judge_image
from catalog.models import Image
from catalog.services.hosts import read_host_architecture
from catalog.services.image_care import use_image
from catalog.services.lookups import LookupResult, lookup_image
from catalog.services.pulls import find_image_on_engine
from catalog.services.recipe_bases import check_base_variables
from catalog.services.recipe_lookups import find_version
from ds01portal.engine.base import ContainerEngine
from ds01portal.exceptions import EngineError, ImageRefused, NotFound
from ds01portal.limits import format_bytes
from ds01portal.models import Person
from workspaces.services.findings import Finding, warn

__all__ = ["check_image", "choose_image", "image_fields", "lock_image"]


def image_fields(image: Image) -> dict[str, Any]:
    """Return the part of a request that an image row decides."""
    local = image.kind == Image.Kind.LOCAL
    return {
        "image": image,
        "reference": image.reference,
        "framework": "" if local and not image.framework else image.framework,
        "version": image.version,
        "architecture": image.architecture_list[0] if image.architecture_list else "",
    }


def choose_image(
    *,
    person: Person,
    framework: str = "",
    version: str = "",
    architecture: str = "",
    reference: str = "",
) -> dict[str, Any]:
    """Return the image part of a request by look-up, by reference, or by a custom image's name.

    Raise ImageRefused for an image that is unknown, retired, not offered, or not fit.
    """
    if reference:
        return image_fields(_find_named(person, reference))
    found: LookupResult = lookup_image(
        framework=framework, version=version, architecture=architecture
    )
    if found.image is not None:
        return {**image_fields(found.image), "architecture": found.architecture}
    return {
        "image": None,
        "reference": found.reference,
        "framework": found.framework,
        "version": found.version,
        "architecture": found.architecture,
    }


def _find_named(person: Person, reference: str) -> Image:
    rows = Image.objects.launchable().visible_to(person).filter(reference=reference)
    image = rows.in_order().first()
    if image is not None:
        return image
    try:
        image = find_version(person=person, reference=reference)
    except NotFound:
        image = None
    if image is None or not image.is_launchable:
        raise ImageRefused(
            f"The image “{reference[:200]}” is not offered here.",
            hint="Choose one from the catalogue or of your own, or ask an admin to allow it.",
            field="image",
            value=reference[:200],
        )
    return image


def check_image(*, image: Image | None, reference: str, engine: ContainerEngine) -> str | Finding:
    """Return what is to be said of the image; raise ImageRefused when it cannot be launched."""
    if image is not None:
        _check_offered(image)
    try:
        details = find_image_on_engine(reference=reference, engine=engine)
    except EngineError:
        return warn("image", "Whether the image is on this machine cannot be seen now.")
    if details is not None:
        if image is not None and image.is_custom:
            check_base_variables(reference=reference, environment=details.environment)
        return f"The image is on this machine ({format_bytes(details.size)})."
    if image is not None and image.kind != Image.Kind.CATALOG:
        raise ImageRefused(
            f"{image} is not on this machine.",
            hint="Build it again." if image.is_custom else "Ask an admin to load it again.",
            field="image",
            value=image.reference,
        )
    return warn("image", "The image will be pulled first.", "The first time takes minutes.")


def _check_offered(image: Image) -> None:
    if not image.is_launchable:
        raise ImageRefused(
            f"{image} is not offered any more.",
            hint="Choose another image.",
            field="image",
            value=image.reference,
        )
    judgement = judge_image(
        architectures=image.architecture_list,
        reference=image.base_reference or image.reference,
        host=read_host_architecture(),
    )
    if judgement.fit is Fit.CANNOT:
        raise ImageRefused(
            f"{image} {judgement.reason}.",
            hint="Choose a version for this machine.",
            field="image",
            value=image.reference,
        )


def lock_image(*, image: Image | None, owner: Person) -> None:
    """Hold a custom image until the launch is written, and note that it is used.

    Deleting it waits for that and then finds the container. Raise ImageRefused when it was
    deleted, or is shared with the owner no more, since it was looked at.
    """
    if image is None or not image.is_custom:
        return
    if not Image.objects.launchable().visible_to(owner).filter(pk=image.pk).exists():
        raise ImageRefused(
            f"{image} is not offered any more.",
            hint="Choose another image.",
            field="image",
            value=image.reference,
        )
    use_image(image=image)
