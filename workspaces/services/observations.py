"""Write down what was observed of a container.

Three answers: running, stopped with evidence, unknown. Unknown writes nothing. Every change of
state is a compare-and-set; a row that moved on meanwhile is left alone.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from ds01portal.engine.base import ContainerDetails, Observed
from ds01portal.services.events import announce_update, record_event
from workspaces.models import Container, Machine
from workspaces.services import assignments

State = Container.State
OUTAGE_MARGIN = dt.timedelta(seconds=90)
STOPPED_OUTSIDE = "It was stopped outside of the portal."
MAIN_PROCESS_ENDED = "Its main process ended"

STATE_OF = {
    Observed.CREATED: State.CREATED,
    Observed.RUNNING: State.RUNNING,
    Observed.RESTARTING: State.RUNNING,
    Observed.PAUSED: State.PAUSED,
    Observed.EXITED: State.STOPPED,
    Observed.DEAD: State.STOPPED,
}


def announce(container: Container) -> None:
    """Tell live pages the state of a container."""
    announce_update(
        subject=f"container:{container.pk}", owner_id=container.owner_id, state=container.state
    )


def store_running(*, container: Container, details: ContainerDetails) -> None:
    """Store that it runs (or is paused), since when, and under which id."""
    paused = details.state is Observed.PAUSED
    container.state = State.PAUSED if paused else State.RUNNING
    container.engine_id = details.id
    container.image_engine_id = details.image_id
    container.started_at = details.started_at or timezone.now()
    container.stopped_at, container.exit_code, container.stop_reason = None, None, ""
    container.error = {}
    container.save(
        update_fields=[
            "state",
            "engine_id",
            "image_engine_id",
            "started_at",
            "stopped_at",
            "exit_code",
            "stop_reason",
            "error",
        ]
    )


def store_stopped(*, container: Container, details: ContainerDetails, reason: str) -> None:
    """Store that it stopped, when and with which exit code; the hold of its devices begins."""
    container.state = STATE_OF.get(details.state, State.STOPPED)
    container.engine_id = details.id
    container.stopped_at = details.finished_at or timezone.now()
    container.exit_code = details.exit_code
    container.stop_reason = reason[:300]
    container.save(update_fields=["state", "engine_id", "stopped_at", "exit_code", "stop_reason"])
    assignments.hold_devices(container=container)


def store_ended(
    *, container: Container, state: Container.State, error: dict[str, Any] | None = None
) -> None:
    """Store that it is gone from the engine (removed), or never came to be (failed)."""
    container.state = state
    container.removed_at = timezone.now() if state == State.REMOVED else None
    container.error = error or {}
    # The form's token has done its work: the same page may be sent again after a failure.
    container.request_key = None
    container.save(update_fields=["state", "removed_at", "error", "request_key"])


def explain_stop(details: ContainerDetails) -> str:
    """Return why a container that nobody here stopped has stopped, in the owner's words."""
    machine = Machine.current()
    since, until = machine.outage_from, machine.outage_until or timezone.now()
    ended = details.finished_at
    if since and ended and since - OUTAGE_MARGIN <= ended <= until + OUTAGE_MARGIN:
        return "Docker Engine was stopped or restarted, and its containers with it."
    if details.oom_killed:
        return "It ran out of memory."
    if details.exit_code in (129, 137, 143):
        return STOPPED_OUTSIDE
    return f"{MAIN_PROCESS_ENDED} (exit code {details.exit_code})."


def observe(*, container: Container, details: ContainerDetails, reason: str = "") -> bool:
    """Bring a row in line with what `inspect` shows; return True when it changed.

    `reason` explains a stop; without one it is read from the evidence.
    """
    seen = STATE_OF.get(details.state)
    if seen is None or (seen == container.state and container.engine_id == details.id):
        return False
    before = container.state
    with transaction.atomic():
        moved = Container.objects.filter(pk=container.pk, state=before).update(state=seen)
        if not moved:
            return False
        if seen in (State.RUNNING, State.PAUSED):
            store_running(container=container, details=details)
        elif seen == State.STOPPED:
            reason = reason or explain_stop(details)
            store_stopped(container=container, details=details, reason=reason)
        else:
            container.state, container.engine_id = seen, details.id
            container.save(update_fields=["state", "engine_id"])
        if before != seen:
            record_event(
                verb=f"seen {seen}",
                **container.subject,
                owner=container.owner,
                before={"state": before},
                after={"state": seen, "exit_code": details.exit_code},
                reason=reason,
            )
    announce(container)
    return True


def explain_outage_stops() -> int:
    """Give containers that stopped around the last outage that reason; return how many.

    While the engine shuts down, containers are seen stopping before it is seen to be away.
    Only a guess is replaced: who was stopped by a person or for memory keeps that reason.
    """
    machine = Machine.current()
    if machine.outage_from is None:
        return 0
    reason = "Docker Engine was stopped or restarted, and its containers with it."
    until = (machine.outage_until or timezone.now()) + OUTAGE_MARGIN
    guessed = Q(stop_reason=STOPPED_OUTSIDE) | Q(stop_reason__startswith=MAIN_PROCESS_ENDED)
    rows = Container.objects.filter(
        guessed,
        state=State.STOPPED,
        stopped_at__gte=machine.outage_from - OUTAGE_MARGIN,
        stopped_at__lte=until,
    ).select_related("owner")
    count = 0
    for container in rows:
        with transaction.atomic():
            Container.objects.filter(pk=container.pk).update(stop_reason=reason)
            record_event(
                verb="explained", **container.subject, owner=container.owner, reason=reason
            )
        announce(container)
        count += 1
    return count
