"""The end of a build: a new version, or nothing left on the engine and the reason stored.

Not in charge of: making layers (`build_layers`).
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from django.db import transaction
from django.utils import timezone

from catalog.frameworks import normalise_framework
from catalog.models import Build, Image, Recipe
from catalog.models.image import write_architectures
from catalog.services.build_layers import step_name
from catalog.services.image_care import prune_versions
from ds01portal.engine.base import ContainerEngine, ImageDetails
from ds01portal.exceptions import EngineConflict, EngineError, MissingOnEngine
from ds01portal.models import Operation
from ds01portal.services.events import announce_update, record_event
from ds01portal.services.operations import Work

__all__ = ["UNFINISHED", "complete_build", "undo_build"]

logger = logging.getLogger(__name__)

UNFINISHED = "_unfinished"  # tag of the last good layer, so that the next try goes on from it
# Endings that no better recipe can change: nothing is kept for a next try.
NOT_THE_RECIPE = ("cancelled", "timeout", "too-large", "out-of-memory")


def complete_build(
    work: Work,
    build: Build,
    *,
    details: ImageDetails,
    layers: list[dict[str, Any]],
    engine: ContainerEngine,
) -> None:
    """Record the version and the end of the operation in one transaction."""
    recipe, plan, now = build.recipe, build.plan, timezone.now()
    with transaction.atomic():
        image = Image.objects.create(
            kind=Image.Kind.CUSTOM,
            owner=recipe.owner,
            recipe=recipe,
            number=build.number,
            framework=plan["framework"] or "Custom",
            framework_slug=normalise_framework(plan["framework"] or "Custom"),
            version=plan["version"],
            architectures=write_architectures(
                [plan["architecture"]] if plan["architecture"] else []
            ),
            reference=recipe.reference(build.number),
            base_reference=build.base_reference,
            base_engine_id=build.base_engine_id,
            layers=layers,
            engine_image_id=details.id,
            size_bytes=details.size,
            last_seen_on_engine_at=now,
            last_used_at=now,
        )
        Recipe.objects.filter(pk=recipe.pk).update(last_number=build.number)
        _end(work, build, Build.State.DONE, {}, image=image)
        work.finish()
    _announce(build)
    _forget_unfinished(build, engine)
    with contextlib.suppress(EngineError):  # the sweep does it later
        prune_versions(recipe=recipe)


def undo_build(work: Work, build: Build, engine: ContainerEngine) -> None:
    """Remove what was made, and end with the stored error."""
    error = work.operation.error
    for number in range(1, len(build.steps) + 2):
        engine.end_step(step_name(build, number))
    _settle_layers(build, engine, keep=error.get("code") not in NOT_THE_RECIPE)
    cancelled = error.get("code") == "cancelled"
    with transaction.atomic():
        state = Build.State.CANCELLED if cancelled else Build.State.FAILED
        for step in build.steps:
            if step["state"] == "running":
                step["state"] = "failed"
        _end(work, build, state, error)
        work.end_undone(cancelled=cancelled)
    _announce(build)


def _settle_layers(build: Build, engine: ContainerEngine, *, keep: bool) -> None:
    """Keep the last good layer for the next try, or remove all that this build made."""
    made = [step["image"] for step in build.steps if step["state"] == "done"]
    if keep and made:
        _keep_for_next_try(build, engine, made[-1])
    # `latest` first: an image goes with its last name, and its parents with it.
    _restore_latest(build, engine)
    engine.remove_image(build.recipe.reference(build.number))
    if made and not keep:
        with contextlib.suppress(EngineConflict):  # something else stands on it
            engine.remove_image(made[-1])


def _keep_for_next_try(build: Build, engine: ContainerEngine, layer: str) -> None:
    name = build.recipe.reference(UNFINISHED)
    try:
        earlier = engine.inspect_image(name).id
    except MissingOnEngine:
        earlier = ""
    engine.tag_image(layer, name)
    if earlier not in ("", layer):
        with contextlib.suppress(EngineConflict):
            engine.remove_image(earlier)


def _restore_latest(build: Build, engine: ContainerEngine) -> None:
    """Let `latest` name the newest version again, when the build got that far."""
    newest = Image.objects.custom().active().filter(recipe=build.recipe).order_by("-number").first()
    name = build.recipe.reference("latest")
    if newest is None:
        engine.remove_image(name)
    elif newest.engine_image_id:
        with contextlib.suppress(MissingOnEngine):
            engine.tag_image(newest.engine_image_id, name)


def _forget_unfinished(build: Build, engine: ContainerEngine) -> None:
    try:
        engine.remove_image(build.recipe.reference(UNFINISHED))
    except EngineError as error:
        logger.info("%s keeps an unfinished layer for now: %s", build, error.cause)


def _end(
    work: Work,
    build: Build,
    state: Build.State,
    error: dict[str, Any],
    *,
    image: Image | None = None,
) -> None:
    build.state, build.error, build.finished_at = state, error, timezone.now()
    build.image = image
    build.save(update_fields=["state", "error", "finished_at", "image", "steps"])
    verbs = {
        Build.State.DONE: "built",
        Build.State.FAILED: "build failed",
        Build.State.CANCELLED: "build cancelled",
    }
    record_event(
        verb=verbs[state],
        **build.recipe.subject,
        owner=build.recipe.owner,
        actor=work.operation.actor,
        after={"version": build.number, "image": image.reference if image else None},
        reason=error.get("message", ""),
        evidence={key: error.get(key) for key in ("code", "family", "cause") if error.get(key)},
    )
    # Who waits for a turn looks at once.
    waiting = Operation.objects.filter(state=Operation.State.QUEUED, kind="build", phase="queue")
    waiting.update(not_before=timezone.now())


def _announce(build: Build) -> None:
    announce_update(
        subject=f"recipe:{build.recipe_id}",
        owner_id=build.recipe.owner_id,
        state=str(build.state),
        build=str(build.pk),
        operation="build",
    )
