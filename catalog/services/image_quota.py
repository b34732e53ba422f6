"""How much custom images take: of a person's quota, and of the engine's disk.

A layer that several versions share counts once. Sizes are bytes. Not in charge of: freeing any
of it (`image_prune`, `image_sweep`), or the number of images at their making (`recipes`).
"""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils import timezone

from catalog.models import BuildPolicy, HostFacts, Image, Recipe
from ds01portal.exceptions import QuotaExceeded, RefusedError
from ds01portal.limits import Limit, Special, format_bytes, to_json
from ds01portal.models import Person
from ds01portal.services.quotas import resolve_limits

__all__ = [
    "DiskAlarm",
    "ImageQuota",
    "bytes_freed",
    "check_free_disk",
    "check_image_quota",
    "disk_alarm",
    "image_bytes",
    "is_engine_local",
    "read_image_quota",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageQuota:
    """What a person has and may have."""

    images: int
    images_limit: Limit
    bytes: int
    bytes_limit: Limit

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "images": self.images,
            "images_limit": to_json(self.images_limit),
            "bytes": self.bytes,
            "bytes_limit": to_json(self.bytes_limit),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskAlarm:
    """The engine's disk is nearly full. `blocks`: so full that nothing is built any more."""

    folder: str
    free_bytes: int
    total_bytes: int
    used_percent: int
    blocks: bool
    at: dt.datetime

    @property
    def text(self) -> str:
        """Return it in one sentence."""
        return (
            f"The engine's disk is {self.used_percent} % full: {format_bytes(self.free_bytes)} "
            f"of {format_bytes(self.total_bytes)} are free in {self.folder}."
        )


def _layers(images: Iterable[Image]) -> dict[str, int]:
    return {
        str(layer["id"]): int(layer["bytes"]) for image in images for layer in image.layers or ()
    }


def image_bytes(*, owner: Person) -> int:
    """Return the bytes of the layers that a person's live versions added to their bases."""
    rows = Image.objects.custom().active().filter(owner=owner).only("layers")
    return sum(_layers(rows).values())


def bytes_freed(*, images: Iterable[Image]) -> int:
    """Return what becomes free without these: their layers that no other live version has."""
    going = list(images)
    rows = Image.objects.custom().active().exclude(pk__in=[image.pk for image in going])
    staying = _layers(rows.only("layers")) if going else {}
    return sum(size for key, size in _layers(going).items() if key not in staying)


def read_image_quota(*, owner: Person) -> ImageQuota:
    """Return how many images and bytes a person has, and the limits of both."""
    limits = resolve_limits(person=owner)
    return ImageQuota(
        images=Recipe.objects.owned_by(owner).count(),
        images_limit=limits.value("images"),
        bytes=image_bytes(owner=owner),
        bytes_limit=limits.value("disk"),
    )


def check_image_quota(*, owner: Person) -> ImageQuota:
    """Raise QuotaExceeded when a person's images fill their disk already; return the numbers.

    How much a build will add is known at its end only: it is let begin while there is room.
    """
    quota = read_image_quota(owner=owner)
    limit = quota.bytes_limit
    if limit is Special.UNLIMITED:
        return quota
    bound = 0 if isinstance(limit, Special) else int(limit)
    if quota.bytes < bound:
        return quota
    raise QuotaExceeded(
        f"Your images take {format_bytes(quota.bytes)}; your limit is {format_bytes(bound)}.",
        hint="Delete versions or images that you no longer need, or ask an admin for more.",
        resource="disk",
        limit=bound,
        used=quota.bytes,
        requested=0,
        field="disk",
    )


def is_engine_local() -> bool:
    """Tell whether the engine's folder is on this host's disk."""
    return str(settings.DOCKER_HOST).startswith(("unix://", "/"))


def _engine_disk() -> tuple[str, int, int] | None:
    """Return folder, total and free bytes; None when that cannot be seen from here."""
    facts = HostFacts.objects.filter(pk=HostFacts.SINGLETON).first()
    if facts is None or not facts.engine_root or not is_engine_local():
        return None
    try:
        usage = shutil.disk_usage(facts.engine_root)
    except OSError:
        return None
    return facts.engine_root, usage.total, usage.free


def disk_alarm(
    *, now: dt.datetime | None = None, policy: BuildPolicy | None = None
) -> DiskAlarm | None:
    """Return an alarm when the engine's disk is fuller than the policy allows, else None.

    None also when nothing is known of the disk: an engine on another host.
    """
    disk = _engine_disk()
    if disk is None:
        return None
    folder, total, free = disk
    rules = policy or BuildPolicy.current()
    percent = round(100 * (total - free) / total) if total else 0
    blocks = free < rules.free_disk_floor_bytes
    if percent < rules.disk_alarm_percent and not blocks:
        return None
    return DiskAlarm(
        folder=folder,
        free_bytes=free,
        total_bytes=total,
        used_percent=percent,
        blocks=blocks,
        at=now or timezone.now(),
    )


def check_free_disk(*, policy: BuildPolicy) -> str:
    """Raise RefusedError below the policy's floor of free disk; return a warning or nothing.

    When the disk cannot be seen from here, that is the warning: nothing is refused for it.
    """
    disk = _engine_disk()
    if disk is None:
        return "How much disk is free where the engine keeps its images is not known here."
    _folder, _total, free = disk
    if free >= policy.free_disk_floor_bytes:
        alarm = disk_alarm(policy=policy)
        return alarm.text if alarm else ""
    error = RefusedError(
        f"Nothing is built now: {format_bytes(free)} are free on this machine's disk, and "
        f"{format_bytes(policy.free_disk_floor_bytes)} must stay free.",
        hint="Delete images that you no longer need, or ask an admin to make room.",
        free=free,
        floor=policy.free_disk_floor_bytes,
    )
    error.code, error.family = "disk-full", "quota"
    raise error
