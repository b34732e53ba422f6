"""The verbs on builds that pages and commands call: ask for one, cancel one, who is next.

Each is one short transaction; the worker does the rest (`building`). Not in charge of: what a
recipe may hold (`recipe_checks`).
"""

from __future__ import annotations

import datetime as dt

from django.db import transaction

from catalog.models import Build, BuildPolicy, Recipe
from catalog.services.image_care import use_image
from catalog.services.image_quota import check_free_disk, check_image_quota
from catalog.services.recipe_checks import ensure_buildable
from catalog.services.recipe_lookups import ensure_changeable
from ds01portal.exceptions import Busy, NotFound
from ds01portal.models import Operation, Person
from ds01portal.services.events import announce_update, record_event
from ds01portal.services.operations import (
    cancel_operation,
    find_live_operation,
    request_operation,
)

__all__ = ["admitted_builds", "cancel_build", "queue_position", "request_build"]

QUEUE_LIMIT = dt.timedelta(days=1)  # a build that nobody began by then is given up
KIND = "build"
QUEUE = "queue"  # the phase of a build that waits for its turn


def request_build(*, recipe: Recipe, actor: Person | None, fresh: bool = False) -> Build:
    """Ask for the next version of a recipe; asked twice it is the build that is under way.

    `fresh` takes no layer of earlier builds. Raise what `ensure_buildable` refuses,
    QuotaExceeded, Busy, RefusedError when the disk is nearly full.
    """
    ensure_changeable(recipe=recipe, actor=actor)
    if live := _live_build(recipe):
        return live
    check = ensure_buildable(recipe=recipe)
    assert check.plan is not None and check.base is not None and check.content is not None
    policy = BuildPolicy.current()
    check_free_disk(policy=policy)
    with transaction.atomic(durable=True):
        # The owner's row makes two requests of one person wait for each other: quotas hold.
        owner = Person.objects.select_for_update(no_key=True).get(pk=recipe.owner_id)
        fresh_recipe = Recipe.objects.live().filter(pk=recipe.pk).first()
        if fresh_recipe is None:
            raise NotFound(f"There is no image {recipe.name} any more.", field="name")
        if live := _live_build(fresh_recipe):
            return live
        check_image_quota(owner=owner)
        if check.base.image is not None:
            use_image(image=check.base.image)
        build = Build.objects.create(
            recipe=fresh_recipe,
            number=fresh_recipe.last_number + 1,
            content=check.content.as_dict(),
            dockerfile=check.dockerfile,
            plan={
                "environment": dict(check.plan.environment),
                "labels": dict(check.plan.labels),
                "framework": check.base.framework,
                "version": check.base.version,
                "architecture": check.base.architecture,
            },
            fresh=fresh,
            steps=[
                {"title": step.title, "command": step.command, "state": "waiting"}
                for step in check.plan.steps
            ],
            base_reference=check.base.reference,
            actor=actor,
        )
        _ask(build, owner, actor)
    return build


def _live_build(recipe: Recipe) -> Build | None:
    return Build.objects.live().filter(recipe=recipe).select_related("recipe__owner").first()


def _ask(build: Build, owner: Person, actor: Person | None) -> None:
    subject = build.recipe.subject
    other = find_live_operation(
        subject_kind=subject["subject_kind"], subject_id=subject["subject_id"]
    )
    if other is not None:
        raise Busy(
            f"{build.recipe.name} is busy: {other.kind} is under way.",
            hint="Wait until it has ended.",
            operation=other.kind,
        )
    build.operation = request_operation(
        kind=KIND,
        owner=owner,
        actor=actor,
        params={"build": str(build.pk)},
        deadline=QUEUE_LIMIT,
        **subject,
    )
    build.save(update_fields=["operation"])
    record_event(
        verb="build",
        **subject,
        owner=owner,
        actor=actor,
        after={"version": build.number, "base": build.base_reference, "fresh": build.fresh},
    )
    announce_update(
        subject=f"recipe:{build.recipe_id}",
        owner_id=owner.pk,
        state=build.state,
        build=str(build.pk),
        operation=KIND,
    )


def cancel_build(*, build: Build, actor: Person | None) -> bool:
    """Ask for a cancel; return False when it has ended already. The worker ends it at once.

    Raise NotFound for who may not change the recipe.
    """
    ensure_changeable(recipe=build.recipe, actor=actor)
    if build.operation is None or not build.is_live:
        return False
    with transaction.atomic():
        asked = cancel_operation(operation=build.operation, actor=actor)
        if asked:
            record_event(
                verb="cancel build",
                **build.recipe.subject,
                owner=build.recipe.owner,
                actor=actor,
                after={"version": build.number},
            )
    return asked


def admitted_builds(*, policy: BuildPolicy) -> tuple[list[str], list[str]]:
    """Return the ids of the build operations that may run now, and of those that wait.

    Oldest first; who has as many as a person may have lets others pass.
    """
    running: list[str] = []
    waiting: list[str] = []
    per_person: dict[int | None, int] = {}
    rows = Operation.objects.live().filter(kind=KIND).order_by("created_at", "pk")
    live = [
        (pk, owner, phase not in ("", QUEUE))
        for pk, owner, phase in rows.values_list("pk", "owner_id", "phase")
    ]
    # What has begun keeps its place, whatever the policy was then.
    for pk, owner_id, has_begun in sorted(live, key=lambda row: not row[2]):
        mine = per_person.get(owner_id, 0)
        if has_begun or (len(running) < policy.builds_in_all and mine < policy.builds_per_person):
            running.append(str(pk))
            per_person[owner_id] = mine + 1
        else:
            waiting.append(str(pk))
    return running, waiting


def queue_position(*, build: Build) -> int:
    """Return how many are served before, plus one; 0 when it runs, is next, or has ended."""
    if not build.is_live or build.operation_id is None:
        return 0
    _running, waiting = admitted_builds(policy=BuildPolicy.current())
    mine = str(build.operation_id)
    return waiting.index(mine) + 1 if mine in waiting else 0
