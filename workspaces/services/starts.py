"""Start what was stopped: as it is, or made anew on other devices.

A container's devices are fixed when it is created. When its hold time has passed and another
one has its GPU, it is removed and created again; a worker that dies in between is followed by
one that goes on. Not in charge of: which devices, which was decided when it was asked for.
"""

from __future__ import annotations

from django.db import transaction

from ds01portal.engine.base import ContainerDetails, ContainerEngine, ImageDetails
from ds01portal.exceptions import (
    EngineConflict,
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    MissingOnEngine,
    PortalError,
)
from ds01portal.services.events import record_event
from ds01portal.services.operations import Work
from workspaces.models import Container
from workspaces.services import assignments, creation, guard, launches
from workspaces.services.networks import ensure_network
from workspaces.services.specs import LABEL_ID, run_reference
from workspaces.services.verification import verify_container

RECREATE = "recreate"  # the phase in which the old container is gone and the new one not there


def start(work: Work, container: Container, engine: ContainerEngine) -> None:
    """Start a stopped container; what other clients made only on devices that are free."""
    if container.origin == Container.Origin.PORTAL:
        _start_own(work, container, engine)
    else:
        guard.check_foreign_start(details=engine.inspect_container(container.engine_name))
        engine.start_container(container.engine_name)
    details = inspect_started(container, engine)
    launches.complete_start(work, container, details, "started")


def _start_own(work: Work, container: Container, engine: ContainerEngine) -> None:
    """Start it; make it anew when it got another device than it was created with.

    A container's devices are fixed when it is created. What lives outside of the mounts is
    lost by that, and the page says so.
    """
    existing = _find_existing(work, container, engine)
    ensure_network(container=container, engine=engine)
    image = _ensure_image_tag(container, engine)
    # Everything that can be refused is asked before anything is removed.
    spec = creation.prepare_spec(container, engine, image)
    if existing is None or set(existing.devices) != set(spec.devices):
        _make_anew(work, container, engine, existing)
        creation.create_container(container, engine, spec, image)
    creation.start_or_adapt(container, engine, spec, image)


def _find_existing(
    work: Work, container: Container, engine: ContainerEngine
) -> ContainerDetails | None:
    """Return the row's own container; None when this operation has removed it to make it anew."""
    try:
        details = engine.inspect_container(container.engine_name)
    except MissingOnEngine:
        if work.operation.phase == RECREATE:
            return None
        raise
    if details.labels.get(LABEL_ID) != str(container.pk):
        raise EngineConflict(
            f"Docker's {container.engine_name} is not the container that was made here.",
            hint="Somebody made another one of that name. Remove this one, and launch anew.",
        )
    return details


def _ensure_image_tag(container: Container, engine: ContainerEngine) -> ImageDetails:
    """Return the container's image under its own tag, which somebody may have removed."""
    own = run_reference(container.image_reference, container.engine_name)
    try:
        return engine.inspect_image(own)
    except MissingOnEngine:
        pass
    try:
        engine.tag_image(container.image_engine_id or container.image_reference, own)
        return engine.inspect_image(own)
    except MissingOnEngine as error:
        raise EngineError(
            "The container's image is not on this machine any more.",
            hint="Launch a new container; the workspace is the same.",
            cause=error.cause,
        ) from error


def _make_anew(
    work: Work,
    container: Container,
    engine: ContainerEngine,
    existing: ContainerDetails | None,
) -> None:
    """Remove the old container. From here on a missing one is this operation's own doing."""
    devices = container.spec.get("devices", [])
    if work.operation.phase != RECREATE:
        before = list(existing.devices) if existing else []
        with transaction.atomic():
            work.enter_phase(RECREATE)
            record_event(
                verb="recreate",
                **container.subject,
                owner=container.owner,
                reason="Its GPU had gone to somebody else, so it was made anew on another one."
                if before and set(before) != set(devices)
                else "The engine hands GPUs over in another way now, so it was made anew.",
                before={"devices": before},
                after={"devices": devices},
            )
    if existing is not None:
        engine.remove_container(existing.id, force=True)


def inspect_started(container: Container, engine: ContainerEngine) -> ContainerDetails:
    """Return what runs now. What is not as it was asked for does not go on running."""
    details = engine.inspect_container(container.engine_name)
    if container.origin != Container.Origin.PORTAL:
        return details
    try:
        verify_container(container=container, details=details, engine=engine)
    except (EngineUnreachable, EngineTimeout):
        raise
    except PortalError:
        engine.stop_container(container.engine_name)
        raise
    return details


def settle_devices(container: Container, details: ContainerDetails) -> None:
    """Hold the devices for the hold time; give those back that the container was not made with."""
    held = {device.uuid for device in assignments.held_devices(container=container)}
    if container.origin == Container.Origin.PORTAL and set(details.devices) - held:
        assignments.release_devices(container=container, reason="the start did not succeed")
        container.spec = {**container.spec, "devices": list(details.devices)}
        container.save(update_fields=["spec"])
    else:
        assignments.hold_devices(container=container)
