"""Images of the catalogue and of this machine: retire, restore, allow, see what is here.

Not in charge of: reading the catalogue file (`sync`), looking images up (`lookups`), pulling
(`pulls`).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from catalog.frameworks import normalise_framework
from catalog.models import Image
from catalog.references import canonical_reference, parse_reference
from ds01portal.engine import get_engine
from ds01portal.engine.base import ContainerEngine, ImageDetails
from ds01portal.exceptions import ImageRefused, InvalidInput, MissingOnEngine
from ds01portal.models import Person
from ds01portal.services.events import announce_update, record_event

__all__ = [
    "EngineRefresh",
    "allow_local_image",
    "record_image_on_engine",
    "refresh_engine_images",
    "restore_image",
    "retire_image",
]

LOCAL_FRAMEWORK = "Local"


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineRefresh:
    """What a look at the engine's images changed: primary keys of image rows."""

    present: tuple[int, ...]
    arrived: tuple[int, ...]
    gone: tuple[int, ...]


def retire_image(*, image: Image, actor: Person | None, reason: str = "") -> Image:
    """Offer the image no longer, whatever the catalogue says; running containers keep it."""
    return _set_retired(
        image=image,
        actor=actor,
        cause=Image.RetiredCause.ADMIN,
        at=timezone.now(),
        reason=reason.strip()[:300],
    )


def restore_image(*, image: Image, actor: Person | None) -> Image:
    """Offer a retired image again."""
    return _set_retired(image=image, actor=actor, cause=Image.RetiredCause.NONE, at=None, reason="")


def allow_local_image(
    *,
    reference: str,
    actor: Person | None,
    framework: str = "",
    version: str = "",
    visible: bool = True,
    engine: ContainerEngine | None = None,
) -> Image:
    """Offer an image that is on this machine; framework and version are only words for it.

    With `visible` off only admins see it.

    Allowed again, it is changed and restored. Raise InvalidInput for a malformed value,
    ImageRefused when it is not on the engine or is in the catalogue, and EngineError.
    """
    parsed = parse_reference(reference.strip())
    framework = framework.strip() or LOCAL_FRAMEWORK
    version = version.strip() or parsed.tag or "latest"
    _check_label("framework", framework)
    _check_label("version", version)
    name = str(parsed)
    details = _inspect_local(name, engine or get_engine())
    _refuse_catalogue_row(parsed.canonical, name)
    values = {
        "framework": framework,
        "framework_slug": normalise_framework(framework),
        "version": version,
        "visible": visible,
        "retired_at": None,
        "retired_cause": Image.RetiredCause.NONE,
        "retired_reason": "",
        "engine_image_id": details.id,
        "size_bytes": details.size,
        "last_seen_on_engine_at": timezone.now(),
    }
    with transaction.atomic():
        image, created = Image.objects.update_or_create(
            kind=Image.Kind.LOCAL, reference=name, defaults=values
        )
        _record(image, "allow", actor, after={"reference": name, "new": created})
        announce_update(subject="catalog", owner_id=None)
    return image


def record_image_on_engine(*, image: Image, details: ImageDetails) -> None:
    """Store that an image is on this machine now, such as after a pull."""
    Image.objects.filter(pk=image.pk).update(
        engine_image_id=details.id, size_bytes=details.size, last_seen_on_engine_at=timezone.now()
    )


def refresh_engine_images(*, engine: ContainerEngine | None = None) -> EngineRefresh:
    """Note which images are on this machine, with one listing; EngineError changes nothing."""
    listed = (engine or get_engine()).list_images()
    by_reference = {canonical_reference(tag): details for details in listed for tag in details.tags}
    now = timezone.now()
    present: list[int] = []
    arrived: list[int] = []
    gone: list[int] = []
    with transaction.atomic():
        for image in Image.objects.only("reference", "engine_image_id", "size_bytes"):
            details = by_reference.get(canonical_reference(image.reference))
            if details is None:
                if image.engine_image_id:
                    gone.append(image.pk)
                continue
            present.append(image.pk)
            if not image.engine_image_id:
                arrived.append(image.pk)
            _store_if_changed(image, details)
        _store_seen(present=present, gone=gone, now=now)
        if arrived or gone:
            announce_update(subject="catalog", owner_id=None)
    return EngineRefresh(present=tuple(present), arrived=tuple(arrived), gone=tuple(gone))


def _store_if_changed(image: Image, details: ImageDetails) -> None:
    if (image.engine_image_id, image.size_bytes) != (details.id, details.size):
        Image.objects.filter(pk=image.pk).update(
            engine_image_id=details.id, size_bytes=details.size
        )


def _store_seen(*, present: list[int], gone: list[int], now: dt.datetime) -> None:
    # The size of an image that is gone stays: pages say what a pull will take.
    Image.objects.filter(pk__in=present).update(last_seen_on_engine_at=now)
    Image.objects.filter(pk__in=gone).update(engine_image_id="")


def _set_retired(
    *,
    image: Image,
    actor: Person | None,
    cause: Image.RetiredCause,
    at: dt.datetime | None,
    reason: str,
) -> Image:
    retiring = at is not None
    with transaction.atomic():
        changed = Image.objects.filter(pk=image.pk, retired_at__isnull=retiring).update(
            retired_at=at, retired_cause=cause, retired_reason=reason, updated_at=timezone.now()
        )
        if not changed:
            state = "retired already" if retiring else "not retired"
            raise ImageRefused(f"{image} is {state}.", hint="Reload the page.", image=image.pk)
        image.refresh_from_db()
        _record(image, "retire" if retiring else "restore", actor, reason=reason)
        announce_update(subject="catalog", owner_id=None)
    return image


def _record(
    image: Image,
    verb: str,
    actor: Person | None,
    *,
    after: dict[str, object] | None = None,
    reason: str = "",
) -> None:
    record_event(
        verb=verb,
        subject_kind="image",
        subject_id=str(image.pk),
        subject_label=f"{image} ({image.reference})",
        actor=actor,
        after=after or {"retired_cause": image.retired_cause},
        reason=reason,
    )


def _check_label(field: str, value: str) -> None:
    if len(value) > 64 or not value.isprintable() or "," in value:
        raise InvalidInput(
            f"'{value[:40]}' cannot be the {field} of an image.",
            hint="Use up to 64 printable characters without a comma.",
            field=field,
        )


def _inspect_local(name: str, engine: ContainerEngine) -> ImageDetails:
    try:
        return engine.inspect_image(name)
    except MissingOnEngine as error:
        raise ImageRefused(
            f"There is no image {name} on this machine.",
            hint="Build or load it on this machine first, then allow it.",
            image=name,
        ) from error


def _refuse_catalogue_row(canonical: str, name: str) -> None:
    references = Image.objects.catalogue().active().values_list("reference", flat=True)
    if canonical in {canonical_reference(reference) for reference in references}:
        raise ImageRefused(
            f"{name} is in the catalogue already.",
            hint="It is offered as it is; nothing needs to be done.",
            image=name,
        )
