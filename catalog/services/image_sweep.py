"""Remove from the engine what no row wants any more: versions, old tags, layers of nothing.

May be repeated and interrupted anywhere. Three guards keep what is in use: rows say who stands
on an image, the engine's own list of containers names those that no row knows, and the engine
refuses to remove what a container stands on. Nothing that was not built by the portal is
touched, so bases stay. Not in charge of: deciding that a version goes (`image_care`).
"""

from __future__ import annotations

import datetime as dt
import logging
import re
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from django.utils import timezone

from catalog.models import Build, Image, Recipe
from catalog.services.build_end import UNFINISHED
from catalog.services.build_layers import BUILDER_LABEL, LAYER_LABEL, STEP_PREFIX
from catalog.services.image_care import record_image_event
from catalog.services.package_facts import FACTS_PREFIX
from catalog.uses import find_engine_users, find_users
from ds01portal.engine import get_engine
from ds01portal.engine.base import ContainerEngine, ImageDetails
from ds01portal.exceptions import EngineConflict, MissingOnEngine
from ds01portal.models import Event

__all__ = ["sweep_images"]

logger = logging.getLogger(__name__)

OWN_TAG = re.compile(r"(?P<repository>ds01-[0-9]+/[^:/@]+):(?P<tag>[^:/@]+)")
GONE = (Image.RetiredCause.DELETED, Image.RetiredCause.PRUNED)
UNFINISHED_LIFE = dt.timedelta(days=1)  # from the end of the build that failed
YOUNG = dt.timedelta(hours=1)  # a layer without a name may be somebody's next step
# Seconds for which a tag must have been seen without a row: renames and launches make their
# tags a moment before their rows say so.
SUSPECT_FOR = 600.0


@dataclass(slots=True)
class _Suspects:
    """Tags that no row names, and since when this process has seen them so (monotonic)."""

    since: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ripe(self, tags: set[str], now: float) -> list[str]:
        """Return those that are old enough; forget those that are no longer suspect."""
        with self.lock:
            self.since = {tag: self.since.get(tag, now) for tag in tags}
            return sorted(tag for tag, seen in self.since.items() if now - seen >= SUSPECT_FOR)


_suspects = _Suspects()


def sweep_images(*, engine: ContainerEngine | None = None, now: dt.datetime | None = None) -> int:
    """Remove what is no longer wanted and not in use; return how many tags and layers went.

    Raise EngineError when the engine fails; what went until then stays gone and recorded.
    """
    chosen = engine or get_engine()
    removed = _remove_retired(chosen)
    _remove_strays(chosen, now or timezone.now())
    removed += _untag_leftovers(chosen, now or timezone.now())
    if not Build.objects.filter(state=Build.State.RUNNING).exists():
        # A running build may be about to stand on a layer that has no name yet.
        removed += _remove_dangling(chosen, now or timezone.now())
    return removed


# Containers that a killed worker left


def _remove_strays(engine: ContainerEngine, now: dt.datetime) -> None:
    """Remove containers of steps whose build has ended, and of looks that must have ended."""
    steps, looks = [], []
    for summary in engine.list_containers():
        if summary.name.startswith(STEP_PREFIX) and summary.labels.get(BUILDER_LABEL):
            steps.append(summary)
        elif summary.name.startswith(FACTS_PREFIX) and now - summary.created_at > YOUNG:
            looks.append(summary)
    # Asked after the list: a build that begins in between has no container in it.
    live = {str(pk) for pk in Build.objects.live().values_list("pk", flat=True)} if steps else set()
    for summary in [*looks, *(one for one in steps if one.labels[BUILDER_LABEL] not in live)]:
        logger.info("removed %s, which a worker had left", summary.name)
        engine.remove_container(summary.id, force=True)


# Versions whose rows are retired


def _remove_retired(engine: ContainerEngine) -> int:
    rows = list(
        Image.objects.custom()
        .on_engine()
        .filter(retired_cause__in=GONE)
        .select_related("recipe__owner")
        .order_by("pk")
    )
    if not rows:
        return 0
    seen = _containers_by_image(engine)
    return sum(_remove_version(engine, image, seen) for image in rows)


def _containers_by_image(engine: ContainerEngine) -> Mapping[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for summary in engine.list_containers():
        found[summary.image_id].append(summary.name)
        found[summary.image].append(summary.name)
    return found


def _remove_version(engine: ContainerEngine, image: Image, seen: Mapping[str, list[str]]) -> bool:
    """Remove one retired version; return False when it is kept for now, which is recorded."""
    recipe = image.recipe
    assert recipe is not None
    if Build.objects.live().filter(recipe=recipe).exists():
        return False  # it moves the recipe's tags, and may take this version's layers
    if Image.objects.active().filter(reference=image.reference).exists():
        return False  # the name was given to a new image; the old one has no name of its own
    users = {
        *find_users([image.pk]).get(image.pk, ()),
        *find_engine_users([image.engine_image_id]).get(image.engine_image_id, ()),
        *seen.get(image.engine_image_id, ()),
        *seen.get(image.reference, ()),
    }
    if users:
        _note_kept(image, recipe, sorted(users), "containers stand on it")
        return False
    _settle_latest(engine, recipe)
    try:
        engine.remove_image(image.reference)
    except EngineConflict as conflict:
        _note_kept(image, recipe, [], conflict.cause or conflict.message)
        return False
    Image.objects.filter(pk=image.pk).update(engine_image_id="")
    record_image_event(
        recipe=recipe,
        verb="removed from the engine",
        before={"version": image.number},
        reason=f"{image}: {image.retired_reason}"[:300],
        evidence={
            "image": image.pk,
            "reference": image.reference,
            "engine_image_id": image.engine_image_id,
            "own_bytes": image.own_bytes,
            "retired": image.retired_at.isoformat() if image.retired_at else None,
            "cause": image.retired_cause,
        },
    )
    return True


def _note_kept(image: Image, recipe: Recipe, users: list[str], why: str) -> None:
    """Say once per image that its layers stay, and because of what."""
    told = Event.objects.filter(
        verb="kept on the engine",
        subject_kind="recipe",
        subject_id=str(recipe.pk),
        evidence__image=image.pk,
    )
    if told.exists():
        return
    record_image_event(
        recipe=recipe,
        verb="kept on the engine",
        after={"version": image.number},
        reason=f"{image} is no longer offered, but its layers stay: {why}.",
        evidence={"image": image.pk, "reference": image.reference, "containers": users, "why": why},
    )


def _settle_latest(engine: ContainerEngine, recipe: Recipe) -> None:
    """Let `latest` name the newest version that is left; without one the tag goes."""
    same_name = Recipe.objects.live().filter(owner=recipe.owner, name=recipe.name).first()
    holder = same_name or recipe  # a new recipe may have taken the name of a deleted one
    newest = Image.objects.custom().active().filter(recipe=holder).order_by("-number").first()
    if newest is None:
        engine.remove_image(holder.reference("latest"))
    elif newest.engine_image_id:
        try:
            engine.tag_image(newest.engine_image_id, holder.reference("latest"))
        except MissingOnEngine:
            logger.warning("%s is not on the engine", newest.reference)


# Tags that no row names


def _untag_leftovers(engine: ContainerEngine, now: dt.datetime) -> int:
    """Remove tags that renames, deletions and failed builds left behind."""
    tags = {
        tag: match
        for image in engine.list_images()
        if image.labels.get(LAYER_LABEL)
        for tag in image.tags
        if (match := OWN_TAG.fullmatch(tag))
    }
    if not tags:
        return 0
    wanted = _wanted_references()
    names = {summary.name for summary in engine.list_containers()}
    names |= {summary.image for summary in engine.list_containers()}
    busy, unfinished = _repositories(now)
    suspects = {
        tag
        for tag, match in tags.items()
        if tag not in wanted
        and tag not in names
        and match["tag"] not in names  # a container's own tag is called like the container
        and match["repository"] not in busy
        and not (match["tag"] == UNFINISHED and match["repository"] in unfinished)
    }
    ripe = _suspects.ripe(suspects, time.monotonic())
    return sum(_untag(engine, tag) for tag in ripe)


def _wanted_references() -> set[str]:
    wanted = set()
    rows = Image.objects.custom().select_related("recipe__owner")
    for image in rows.filter(retired_at=None) | rows.filter(retired_cause__in=GONE).on_engine():
        wanted.add(image.reference)
        if image.recipe is not None and not image.is_retired:
            wanted.add(image.recipe.reference("latest"))
    # What an admin retired, or what vanished, is kept as it is.
    others = rows.exclude(retired_at=None).exclude(retired_cause__in=GONE)
    wanted.update(others.values_list("reference", flat=True))
    return wanted


def _repositories(now: dt.datetime) -> tuple[set[str], set[str]]:
    """Return repositories with a build under way, and those whose unfinished layer is kept."""
    working = set(Build.objects.live().values_list("recipe_id", flat=True))
    fresh = set(
        Build.objects.filter(finished_at__gt=now - UNFINISHED_LIFE).values_list(
            "recipe_id", flat=True
        )
    )
    recipes = Recipe.objects.live().select_related("owner")
    busy = {recipe.repository for recipe in recipes if recipe.pk in working}
    unfinished = {recipe.repository for recipe in recipes if recipe.pk in fresh}
    return busy, unfinished


def _untag(engine: ContainerEngine, tag: str) -> bool:
    try:
        gone = engine.remove_image(tag)
    except EngineConflict as conflict:
        logger.info("%s stays: %s", tag, conflict.cause)
        return False
    logger.info("removed the tag %s, which no image has any more", tag)
    return gone


# Layers without a name


def _remove_dangling(engine: ContainerEngine, now: dt.datetime) -> int:
    """Remove layers of builds that have neither a tag nor an image made on them."""
    count = 0
    found = engine.list_dangling_images(label=LAYER_LABEL)
    wanted = dict(
        Image.objects.custom()
        .active()
        .filter(engine_image_id__in=[image.id for image in found])
        .values_list("engine_image_id", "reference")
    )
    for image in found:
        if image.id in wanted:
            # Somebody took its name away by hand: it is a version still.
            engine.tag_image(image.id, wanted[image.id])
        elif not _is_young(image, now) and not find_engine_users([image.id]):
            count += _remove_layer(engine, image)
    return count


def _is_young(image: ImageDetails, now: dt.datetime) -> bool:
    return image.created_at is not None and now - image.created_at < YOUNG


def _remove_layer(engine: ContainerEngine, image: ImageDetails) -> bool:
    try:
        return engine.remove_image(image.id)
    except EngineConflict as conflict:
        logger.info("%s stays: %s", image.id, conflict.cause)
        return False
