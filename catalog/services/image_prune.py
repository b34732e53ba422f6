"""Free the engine's disk by rule: old versions, and images that nobody has used for long.

An owner reads a notice first; the image goes days later, never in the same run. Cron runs it.
Not in charge of: what the owner deletes (`image_care`), removing layers (`image_sweep`).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.utils import timezone

from catalog.models import BuildPolicy, Image, Recipe
from catalog.services.image_care import (
    prune_evidence,
    prune_versions,
    record_image_event,
    retire_version,
)
from catalog.services.image_holders import Holders, find_holders
from catalog.services.image_quota import bytes_freed
from catalog.services.image_sweep import sweep_images
from ds01portal.engine.base import ContainerEngine
from ds01portal.exceptions import EngineError
from ds01portal.services.events import announce_update

__all__ = ["PruneReport", "last_use", "prune_images"]


@dataclass(kw_only=True, slots=True)
class PruneReport:
    """What a run did, or with `dry_run` would do. `freed_bytes` are layers of nothing else.

    `error` is the engine's, when layers could not be removed now; the next run does it.
    """

    dry_run: bool
    old: list[str] = field(default_factory=list)
    noticed: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    freed_bytes: int = 0
    swept: int = 0
    error: EngineError | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "dry_run": self.dry_run,
            "old_versions": self.old,
            "noticed": self.noticed,
            "unused": self.unused,
            "kept": self.kept,
            "freed_bytes": self.freed_bytes,
            "swept": self.swept,
        }


def last_use(image: Image) -> dt.datetime:
    """Return when it was last launched, built on or made."""
    return image.last_used_at or image.created_at


def prune_images(
    *,
    dry_run: bool = False,
    now: dt.datetime | None = None,
    engine: ContainerEngine | None = None,
) -> PruneReport:
    """Retire old and long unused versions, give notice of others, and remove what is retired.

    Raises nothing for an engine that is away: the report says so.
    """
    moment = now or timezone.now()
    policy = BuildPolicy.current()
    report = PruneReport(dry_run=dry_run)
    going: list[Image] = []
    for recipe in Recipe.objects.live().select_related("owner"):
        old = prune_versions(recipe=recipe, dry_run=dry_run, policy=policy)
        report.old += [image.reference for image in old]
        going += old
        going += _care_for_unused(recipe, policy, moment, report, {image.pk for image in old})
    report.freed_bytes = bytes_freed(images=going)
    if not dry_run:
        try:
            report.swept = sweep_images(engine=engine, now=moment)
        except EngineError as error:
            report.error = error
    return report


def _care_for_unused(
    recipe: Recipe,
    policy: BuildPolicy,
    now: dt.datetime,
    report: PruneReport,
    taken: set[int],
) -> list[Image]:
    """Give notice of, or retire, what nobody has used for long; return what was retired."""
    if not policy.unused_days:
        return []
    border = now - dt.timedelta(days=policy.unused_days)
    with transaction.atomic():
        rows = Image.objects.custom().active().filter(recipe=recipe).exclude(pk__in=taken)
        versions = list(rows.select_for_update(of=("self",)).order_by("-number"))
        unused = [image for image in versions if last_use(image) < border]
        holders = find_holders(unused)
        retired = []
        for image in unused:
            if holders[image.pk].any:
                _keep(image, holders[image.pk], now, report)
            elif image.unused_notice_at is None:
                _give_notice(recipe, image, policy, now, report)
            elif now >= image.unused_notice_at + dt.timedelta(days=policy.notice_days):
                _retire_unused(recipe, image, policy, report)
                retired.append(image)
    return retired


def _keep(image: Image, holders: Holders, now: dt.datetime, report: PruneReport) -> None:
    """Being in use counts as use, however long ago that began."""
    report.kept[image.reference] = holders.explain()
    if not report.dry_run:
        Image.objects.filter(pk=image.pk).update(last_used_at=now, unused_notice_at=None)


def _give_notice(
    recipe: Recipe, image: Image, policy: BuildPolicy, now: dt.datetime, report: PruneReport
) -> None:
    report.noticed.append(image.reference)
    if report.dry_run:
        return
    goes = now + dt.timedelta(days=policy.notice_days)
    Image.objects.filter(pk=image.pk).update(unused_notice_at=now)
    record_image_event(
        recipe=recipe,
        verb="unused",
        after={"version": image.number, "goes_at": goes.isoformat()},
        reason=(
            f"Nobody has used {image} since {last_use(image):%Y-%m-%d}. It will be removed on "
            f"{goes:%Y-%m-%d} unless a container or a build uses it before; its recipe stays."
        ),
        evidence=prune_evidence([image], unused_days=policy.unused_days),
    )


def _retire_unused(recipe: Recipe, image: Image, policy: BuildPolicy, report: PruneReport) -> None:
    report.unused.append(image.reference)
    if report.dry_run:
        return
    assert image.unused_notice_at is not None
    reason = f"unused for more than {policy.unused_days} days"
    retire_version(image=image, cause=Image.RetiredCause.PRUNED, reason=reason)
    record_image_event(
        recipe=recipe,
        verb="prune",
        after={"versions": [image.number]},
        reason=f"Pruned: {reason}; the notice was {image.unused_notice_at:%Y-%m-%d}.",
        evidence=prune_evidence(
            [image],
            unused_days=policy.unused_days,
            notice=image.unused_notice_at.isoformat(),
        ),
    )
    announce_update(subject="catalog", owner_id=None)
