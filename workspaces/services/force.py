"""The forced ways out, for admins: end what hangs, take the GPU of a stopped container.

Unknown stays unknown: while the engine does not answer nothing is forced. Not in charge of:
the ordinary verbs (`containers`), and of deadlines, which end most things by themselves.
"""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from ds01portal.engine import get_engine
from ds01portal.engine.base import ContainerDetails, ContainerEngine
from ds01portal.exceptions import (
    Busy,
    EngineError,
    IllegalTransition,
    MissingOnEngine,
    RefusedError,
)
from ds01portal.models import Operation, Person
from ds01portal.services.events import record_event
from workspaces.models import Container
from workspaces.services import assignments, creation, observations

State = Container.State
# Nothing runs in these, so a device can be taken without harm.
IDLE_STATES = (State.STOPPED, State.CREATED, State.FAILED)
FORCED = "An admin ended this by force."


def force_settle_container(
    *, container: Container, actor: Person | None, engine: ContainerEngine | None = None
) -> Container:
    """End what is under way as failed and bring the row in line with one look at the engine.

    A launch that was never verified is undone as a whole. Raise IllegalTransition when nothing
    is under way, EngineError when the engine cannot be asked: then nothing is changed.
    """
    container.refresh_from_db()
    if not container.is_busy:
        raise IllegalTransition(
            f"{container.name} is {container.get_state_display().lower()}; "
            "there is nothing to end by force.",
            hint="Use the ordinary verbs.",
            state=container.state,
            verb="force",
        )
    chosen = engine or get_engine()
    # The question comes before the change: an engine that is away decides nothing.
    _look(container, chosen)
    before = container.state
    operation = _end_operation(container)
    if before == State.LAUNCHING:
        _undo_launch(container, chosen)
    else:
        _settle(container, chosen)
    container.refresh_from_db()
    record_event(
        verb="forced",
        **container.subject,
        owner=container.owner,
        actor=actor,
        before={"state": before},
        after={"state": container.state},
        reason=FORCED,
        evidence=operation,
    )
    observations.announce(container)
    return container


def _look(container: Container, engine: ContainerEngine) -> ContainerDetails | None:
    try:
        return engine.inspect_container(container.engine_name)
    except MissingOnEngine:
        return None


def _end_operation(container: Container) -> dict[str, str]:
    """End the live operation; return what it was. Its worker loses the fence with that."""
    live = container.live_operation()
    if live is None:
        return {}
    error = EngineError(FORCED, hint="Look at the container's state, and try again.")
    error.code = "forced"
    Operation.objects.live().filter(pk=live.pk).update(
        state=Operation.State.FAILED,
        error=error.as_dict(),
        finished_at=timezone.now(),
        lease_until=None,
        percent=None,
    )
    return {"operation": live.kind, "phase": live.phase, "worker": live.worker}


def _undo_launch(container: Container, engine: ContainerEngine) -> None:
    creation.discard(container, engine)
    with transaction.atomic():
        assignments.release_devices(container=container, reason=FORCED)
        error = EngineError(FORCED, hint="Launch it again.").as_dict()
        observations.store_ended(
            container=container, state=State.FAILED, error={**error, "code": "forced"}
        )


def _settle(container: Container, engine: ContainerEngine) -> None:
    details = _look(container, engine)
    if details is None:
        creation.discard_leftovers(container, engine)
        with transaction.atomic():
            assignments.release_devices(container=container, reason=FORCED)
            observations.store_ended(container=container, state=State.REMOVED)
        return
    observations.observe(container=container, details=details, reason=FORCED)
    container.refresh_from_db()
    if container.state in (State.RUNNING, State.PAUSED):
        assignments.bind_devices(container=container)
    if container.is_busy:
        raise EngineError(
            f"Docker itself is still busy with {container.name} ({details.state}).",
            hint="Try again in a minute; if it stays so, Docker needs to be restarted.",
        )


def release_container_devices(*, container: Container, actor: Person | None) -> list[str]:
    """Free the devices of a container that does not run; return their UUIDs.

    A later start is given devices again. Raise IllegalTransition while it runs or is busy,
    RefusedError when it holds none.
    """
    with transaction.atomic(durable=True):
        # The row is locked: a start asked for meanwhile waits, and finds the devices free.
        locked = Container.objects.select_for_update(of=("self",)).get(pk=container.pk)
        if locked.live_operation() is not None:
            raise Busy(f"{locked.name} is busy.", hint="Wait until that has ended.")
        if locked.state not in IDLE_STATES:
            raise IllegalTransition(
                f"{locked.name} is {locked.get_state_display().lower()}; "
                "its GPU cannot be taken while it runs.",
                hint="Stop it first.",
                state=locked.state,
                verb="release",
            )
        reason = "An admin released the GPU of the stopped container."
        uuids = assignments.release_devices(container=locked, reason=reason, actor=actor)
        if not uuids:
            raise RefusedError(f"{locked.name} holds no GPU.", hint="Nothing needs to be done.")
    return uuids
