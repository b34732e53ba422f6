"""Carry out a launch: find, pull, prepare, create, start, verify; undo all of it on failure.

Every step may be repeated, so a worker that was killed anywhere is followed by one that goes
on. Success is what `inspect` shows afterwards. Not in charge of: whether the launch is
allowed; that was decided, and devices reserved, when it was asked for.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction

from catalog.services.pulls import ensure_image
from ds01portal.engine import get_engine
from ds01portal.engine.base import (
    ContainerDetails,
    ContainerEngine,
    ImageDetails,
    Observed,
    PullProgress,
)
from ds01portal.exceptions import (
    EngineConflict,
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    MissingOnEngine,
    PortalError,
    RefusedError,
)
from ds01portal.services.events import record_event
from ds01portal.services.operations import Cancelled, Work, timeout_error
from workspaces.models import Container, Machine
from workspaces.services import assignments, observations
from workspaces.services.creation import (
    add_note,
    create_container,
    discard,
    prepare_spec,
    start_or_adapt,
)
from workspaces.services.machine import note_learned
from workspaces.services.mounts import put_identity
from workspaces.services.networks import ensure_network
from workspaces.services.specs import LABEL_ID, run_reference
from workspaces.services.verification import verify_container

State = Container.State

PHASES = ("find", "pull", "prepare", "create", "start", "verify")
UNDO = "undo"


def carry_out_launch(work: Work, *, engine: ContainerEngine | None = None) -> None:
    """Bring the container of the operation up, or leave nothing behind and say why."""
    container = Container.objects.select_related("owner", "image", "data", "models_folder").get(
        pk=work.operation.subject_id
    )
    chosen = engine or get_engine()
    if work.operation.phase == UNDO:
        undo_launch(work, container, chosen, work.operation.error)
        return
    try:
        bring_up(work, container, chosen)
    except (EngineUnreachable, EngineTimeout):
        raise  # nothing is decided: the operation is given back and goes on later
    except Cancelled:
        error = _cancel_error(work)
        undo_launch(work, container, chosen, error)
    except PortalError as error:
        if error.fields.get("cancelled"):
            undo_launch(work, container, chosen, _cancel_error(work))
        else:
            undo_launch(work, container, chosen, {**error.as_dict(), "cause": error.cause})


def abandon_launch(work: Work, error: EngineError) -> None:
    """Undo a launch that fails again and again for no known reason."""
    container = Container.objects.select_related("owner").get(pk=work.operation.subject_id)
    undo_launch(work, container, get_engine(), {**error.as_dict(), "cause": error.cause})


def _cancel_error(work: Work) -> dict[str, Any]:
    if work.operation.cancel_requested or _was_cancelled(work):
        return {**RefusedError("The launch was cancelled.").as_dict(), "code": "cancelled"}
    return timeout_error(work.operation).as_dict()


def _was_cancelled(work: Work) -> bool:
    work.operation.refresh_from_db(fields=["cancel_requested"])
    return work.operation.cancel_requested


def bring_up(work: Work, container: Container, engine: ContainerEngine) -> None:
    """Go through the phases; raise what stopped it."""
    work.enter_phase("find")
    existing = _find_own(container, engine)
    if existing is None or existing.state is Observed.CREATED:
        image = _get_image(work, container, engine)
        _create_and_start(work, container, engine, image, existing)
    work.enter_phase("verify")
    details = engine.inspect_container(container.engine_name)
    verify_container(container=container, details=details, engine=engine)
    complete_start(work, container, details, "launched")


def _find_own(container: Container, engine: ContainerEngine) -> ContainerDetails | None:
    """Return what an earlier attempt made; raise EngineConflict for somebody else's."""
    try:
        details = engine.inspect_container(container.engine_name)
    except MissingOnEngine:
        return None
    if details.labels.get(LABEL_ID) != str(container.pk):
        raise EngineConflict(
            f"Docker has a container named {container.engine_name} already.",
            hint="Choose another name, or remove that container with mlc or docker.",
        )
    if details.state in (Observed.EXITED, Observed.DEAD):
        engine.remove_container(details.id, force=True)
        return None
    return details


def _get_image(work: Work, container: Container, engine: ContainerEngine) -> ImageDetails:
    work.enter_phase("pull")

    def report(progress: PullProgress) -> None:
        work.report(progress.percent, progress.message)

    image = ensure_image(
        reference=container.source_reference,
        on_progress=report,
        is_cancelled=work.is_cancelled,
        engine=engine,
    )
    Container.objects.filter(pk=container.pk).update(image_engine_id=image.id)
    return image


def _create_and_start(
    work: Work,
    container: Container,
    engine: ContainerEngine,
    image: ImageDetails,
    existing: ContainerDetails | None,
) -> None:
    work.enter_phase("prepare")
    ensure_network(container=container, engine=engine)
    engine.tag_image(image.id, run_reference(container.image_reference, container.engine_name))
    spec = prepare_spec(container, engine, image)
    if existing is None:
        work.enter_phase("create")
        create_container(container, engine, spec, image)
    else:
        # A worker killed between creating and this would leave a container without its person.
        put_identity(container=container, engine=engine, image=image, engine_id=existing.id)
    work.enter_phase("start")
    start_or_adapt(container, engine, spec, image)


def complete_start(work: Work, container: Container, details: ContainerDetails, verb: str) -> None:
    """Record in one transaction that it runs, with its devices bound."""
    machine = Machine.current()
    if machine.takes_memlock is False:
        add_note(container, "This machine does not let containers lock memory (memlock).")
    if details.devices and machine.takes_devices is None:
        note_learned(takes_devices=True)
    with transaction.atomic():
        assignments.bind_devices(container=container)
        observations.store_running(container=container, details=details)
        record_event(
            verb=verb,
            **container.subject,
            owner=container.owner,
            actor=work.operation.actor,
            after={"state": State.RUNNING, "devices": list(container.spec.get("devices", []))},
        )
        work.finish()
    observations.announce(container)


def undo_launch(
    work: Work, container: Container, engine: ContainerEngine, error: dict[str, Any]
) -> None:
    """Undo what was made, free what was reserved, and end with the error.

    The error is stored first: when the engine goes away meanwhile, the undo goes on later.
    """
    if work.operation.phase != UNDO:
        work.begin_undo(error)
    discard(container, engine)
    is_cancel = error.get("code") == "cancelled"
    with transaction.atomic():
        assignments.release_devices(container=container, reason="the launch did not succeed")
        state = State.REMOVED if is_cancel else State.FAILED
        observations.store_ended(container=container, state=state, error=error)
        record_event(
            verb="launch cancelled" if is_cancel else "launch failed",
            **container.subject,
            owner=container.owner,
            after={"state": state},
            reason=error.get("message", ""),
            evidence={key: error.get(key) for key in ("code", "family", "fields", "cause")},
        )
        work.end_undone(cancelled=is_cancel)
    observations.announce(container)
