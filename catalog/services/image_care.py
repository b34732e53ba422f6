"""Versions of custom images from their making to their end: note their use, delete, keep N.

An image ends in two parts. Its row is retired here, in one transaction that looks at who uses
it under lock; what is on the engine goes later (`image_sweep`), which looks once more. Not in
charge of: images that nobody uses (`image_prune`), sizes and quotas (`image_quota`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from catalog.models import BuildPolicy, Image, Recipe
from catalog.services.image_holders import Holders, find_holders
from catalog.services.image_quota import bytes_freed
from catalog.services.recipe_lookups import ensure_changeable
from ds01portal.exceptions import Busy, ImageInUse, ImageRefused, NotFound
from ds01portal.models import Event, Person
from ds01portal.services.events import announce_update, record_event
from ds01portal.services.operations import find_live_operation

__all__ = [
    "Deletion",
    "delete_image",
    "delete_version",
    "describe_deletion",
    "prune_evidence",
    "prune_versions",
    "record_image_event",
    "retire_version",
    "use_image",
]

Cause = Image.RetiredCause


@dataclass(frozen=True, kw_only=True, slots=True)
class Deletion:
    """What a deletion would take. `own_bytes` is what becomes free: layers of nothing else.

    `blockers` are sentences; with any of them the deletion is refused. `recipes` stay and keep
    working, but cannot be built again on what is gone.
    """

    versions: tuple[Image, ...]
    own_bytes: int
    containers: tuple[str, ...]
    recipes: tuple[str, ...]
    blockers: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "versions": [image.reference for image in self.versions],
            "own_bytes": self.own_bytes,
            "containers": list(self.containers),
            "recipes": list(self.recipes),
            "blockers": list(self.blockers),
        }


def use_image(*, image: Image) -> None:
    """Note that a container or a build begins to stand on a custom image.

    Call it inside the transaction that writes the container or the build: the row stays locked
    until then, so that a deletion at the same moment waits and sees who uses it, or came first
    and is seen here. Raise ImageRefused when the image has been retired. Other kinds of images
    are never removed by the portal and pass.
    """
    if not image.is_custom:
        return
    used = (
        Image.objects.active()
        .filter(pk=image.pk)
        .update(last_used_at=timezone.now(), unused_notice_at=None)
    )
    if not used:
        raise ImageRefused(
            f"The image {image} has just been deleted.",
            hint="Choose another version or another image.",
            field="image",
            value=image.reference,
        )


def describe_deletion(*, recipe: Recipe, number: int | None = None) -> Deletion:
    """Return what deleting a whole recipe, or one version of it, would take and what forbids it."""
    rows = recipe.images.custom().active().order_by("-number")
    versions = list(rows if number is None else rows.filter(number=number))
    return _describe(recipe, versions, find_holders(versions))


def _describe(recipe: Recipe, versions: list[Image], holders: dict[int, Holders]) -> Deletion:
    containers = sorted({name for one in holders.values() for name in one.containers})
    builds = sorted({name for one in holders.values() for name in one.builds})
    blockers = []
    if containers:
        blockers.append(f"Containers stand on it: {', '.join(containers)}.")
    if builds:
        blockers.append(f"Images are being built on it: {', '.join(builds)}.")
    subject = recipe.subject
    live = find_live_operation(
        subject_kind=subject["subject_kind"], subject_id=subject["subject_id"]
    )
    if live is not None:
        blockers.append(f"{recipe.name} is busy: {live.kind} is under way.")
    return Deletion(
        versions=tuple(versions),
        own_bytes=bytes_freed(images=versions),
        containers=tuple(containers),
        recipes=tuple(sorted({name for one in holders.values() for name in one.images})),
        blockers=tuple(blockers),
    )


def delete_image(*, recipe: Recipe, actor: Person | None, reason: str = "") -> Deletion:
    """Delete a recipe with all its versions; the layers go with the next sweep.

    Raise ImageInUse while a container or a build stands on one of them, Busy while something
    is under way, NotFound when it is deleted already, and RefusedError when it is another's.
    """
    ensure_changeable(recipe=recipe, actor=actor)
    with transaction.atomic():
        locked = Recipe.objects.select_for_update().filter(pk=recipe.pk, deleted_at=None).first()
        if locked is None:
            raise _gone(recipe.name)
        deletion = _refuse_if_used(locked, _lock_versions(locked))
        for image in deletion.versions:
            retire_version(image=image, cause=Cause.DELETED, reason=reason or "deleted")
        locked.deleted_at = timezone.now()
        locked.save(update_fields=["deleted_at"])
        _record_deletion(locked, "delete", actor, deletion, reason)
    recipe.deleted_at = locked.deleted_at
    return deletion


def delete_version(*, image: Image, actor: Person | None, reason: str = "") -> Deletion:
    """Delete one version; `latest` will name the newest that is left. Raise as `delete_image`."""
    if image.recipe is None:
        raise ImageRefused(
            f"{image} is not a custom image.",
            hint="Images of the catalogue are retired by an admin.",
            image=image.reference,
        )
    ensure_changeable(recipe=image.recipe, actor=actor)
    with transaction.atomic():
        recipe = Recipe.objects.select_for_update().get(pk=image.recipe.pk)
        versions = [row for row in _lock_versions(recipe) if row.pk == image.pk]
        if not versions:
            raise _gone(str(image))
        deletion = _refuse_if_used(recipe, versions)
        retire_version(image=versions[0], cause=Cause.DELETED, reason=reason or "deleted")
        _record_deletion(recipe, "delete version", actor, deletion, reason)
    image.refresh_from_db()
    return deletion


def _gone(name: str) -> NotFound:
    return NotFound(f"There is no image {name} any more.", hint="Reload the page.", field="image")


def _lock_versions(recipe: Recipe) -> list[Image]:
    """Return the live versions, newest first. A launch that has begun is waited for here."""
    rows = Image.objects.custom().active().filter(recipe=recipe)
    return list(rows.select_for_update(of=("self",)).order_by("-number"))


def _refuse_if_used(recipe: Recipe, versions: list[Image]) -> Deletion:
    deletion = _describe(recipe, versions, find_holders(versions))
    if not deletion.blockers:
        return deletion
    if not deletion.containers and len(deletion.blockers) == 1 and "busy" in deletion.blockers[0]:
        raise Busy(deletion.blockers[0], hint="Wait until it has ended, or cancel it.")
    raise ImageInUse(
        f"{recipe.name} cannot be deleted: " + " ".join(deletion.blockers),
        hint="Remove those containers first, or wait until the builds have ended.",
        containers=list(deletion.containers),
        recipes=list(deletion.recipes),
        image=recipe.name,
    )


def _record_deletion(
    recipe: Recipe, verb: str, actor: Person | None, deletion: Deletion, reason: str
) -> None:
    record_image_event(
        recipe=recipe,
        verb=verb,
        actor=actor,
        after={"versions": [image.number for image in deletion.versions]},
        reason=reason,
        evidence=deletion.as_dict(),
    )
    announce_update(subject="catalog", owner_id=None)


def retire_version(*, image: Image, cause: Image.RetiredCause, reason: str) -> bool:
    """Offer a version no longer; return False when that has happened already. No event."""
    now = timezone.now()
    changed = (
        Image.objects.active()
        .filter(pk=image.pk)
        .update(retired_at=now, retired_cause=cause, retired_reason=reason[:300], updated_at=now)
    )
    return bool(changed)


def prune_versions(
    *, recipe: Recipe, dry_run: bool = False, policy: BuildPolicy | None = None
) -> list[Image]:
    """Retire old versions beyond the number that the policy keeps; return them, newest first.

    An older version that a container, a build or another recipe's image stands on stays in
    addition; a later run takes it when that has ended.
    """
    kept = (policy or BuildPolicy.current()).versions_kept
    with transaction.atomic():
        versions = _lock_versions(recipe)
        old = versions[kept:]
        holders = find_holders(old)
        free = [image for image in old if not holders[image.pk].any]
        if dry_run or not free:
            return free
        reason = f"older than the {kept} newest versions"
        for image in free:
            retire_version(image=image, cause=Cause.PRUNED, reason=reason)
        record_image_event(
            recipe=recipe,
            verb="prune",
            after={"versions": [image.number for image in free]},
            reason=f"Pruned: {reason}, and nothing stands on them.",
            evidence=prune_evidence(free, kept=kept, newest=versions[0].number),
        )
        announce_update(subject="catalog", owner_id=None)
    return free


def prune_evidence(images: Sequence[Image], **facts: Any) -> dict[str, Any]:
    """Return what an event says of images that were pruned."""
    return {
        "images": [
            {
                "reference": image.reference,
                "engine_image_id": image.engine_image_id,
                "built": image.created_at.isoformat(),
                "last_used": image.last_used_at.isoformat() if image.last_used_at else None,
                "own_bytes": image.own_bytes,
            }
            for image in images
        ],
        **facts,
    }


def record_image_event(*, recipe: Recipe, verb: str, **values: Any) -> Event:
    """Write to the history that the owner reads on the image's page, and tell live pages."""
    event = record_event(verb=verb, **recipe.subject, owner=recipe.owner, **values)
    announce_update(subject=f"recipe:{recipe.pk}", owner_id=recipe.owner_id)
    return event
