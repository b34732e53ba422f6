"""Carry out start, stop, restart, pause, resume and remove.

Each does its engine call, looks at the container, and writes what was observed. When the
engine refuses, the row goes back to what is observed and the operation says why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from django.db import transaction

from ds01portal.engine import get_engine
from ds01portal.engine.base import ContainerDetails, ContainerEngine
from ds01portal.exceptions import (
    EngineConflict,
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    MissingOnEngine,
    PortalError,
)
from ds01portal.services.events import record_event
from ds01portal.services.operations import Cancelled, Work, timeout_error
from workspaces.models import Container
from workspaces.services import assignments, creation, observations
from workspaces.services.specs import own_image_tag
from workspaces.services.starts import RECREATE, inspect_started, settle_devices, start

State = Container.State
GRACE = 10  # seconds for processes to end after SIGTERM
END_SCRIPT = (
    "sh",
    "-c",
    "kill -TERM -1; i=0; while [ $i -lt 50 ]; do n=0; for f in /proc/[0-9]*/comm; do "
    "c=; read -r c <$f 2>/dev/null; case $c in ''|bash|sh|dash|ash|zsh|fish|tmux*|sleep|"
    "docker-init|tini|busybox) ;; *) n=1 ;; esac; done; [ $n = 0 ] && exit 0; sleep 0.2; "
    "i=$((i+1)); done",
)
Step = Callable[[Work, Container, ContainerEngine], None]


def carry_out_transition(work: Work, *, engine: ContainerEngine | None = None) -> None:
    """Carry out the verb of the operation on its container."""
    container = Container.objects.select_related("owner", "image", "data", "models_folder").get(
        pk=work.operation.subject_id
    )
    chosen = engine or get_engine()
    step = STEPS[work.operation.kind]
    try:
        if work.operation.phase != RECREATE:
            work.enter_phase(work.operation.kind)
        work.check_cancelled()
        step(work, container, chosen)
    except (EngineUnreachable, EngineTimeout):
        raise
    except Cancelled:
        give_up(work, container, chosen, timeout_error(work.operation))
    except PortalError as error:
        give_up(work, container, chosen, error)


def _stop(work: Work, container: Container, engine: ContainerEngine) -> None:
    if container.origin == Container.Origin.PORTAL:
        _ask_processes_to_end(container, engine)
    engine.stop_container(container.engine_name)
    details = engine.inspect_container(container.engine_name)
    actor = work.operation.actor
    reason = work.operation.params.get("reason") or (
        "It was stopped by its owner."
        if actor is not None and actor == container.owner
        else f"It was stopped by {actor.display_name if actor else 'the portal'}."
    )
    _store(work, container, details, "stopped", reason)


def _ask_processes_to_end(container: Container, engine: ContainerEngine) -> None:
    """Send SIGTERM to what the owner runs and wait for it, so that training can save.

    Docker signals the main process only; everything else would be killed at once. Best effort:
    a container that is paused or broken is stopped without it.
    """
    with contextlib.suppress(EngineError):
        engine.run_command(container.engine_name, END_SCRIPT, timeout=GRACE + 5)


def _restart(work: Work, container: Container, engine: ContainerEngine) -> None:
    if container.origin == Container.Origin.PORTAL:
        _ask_processes_to_end(container, engine)
    engine.restart_container(container.engine_name)
    _store(work, container, inspect_started(container, engine), "restarted", "")


def _pause(work: Work, container: Container, engine: ContainerEngine) -> None:
    engine.pause_container(container.engine_name)
    _store(work, container, engine.inspect_container(container.engine_name), "paused", "")


def _resume(work: Work, container: Container, engine: ContainerEngine) -> None:
    engine.resume_container(container.engine_name)
    _store(work, container, engine.inspect_container(container.engine_name), "resumed", "")


def _remove(work: Work, container: Container, engine: ContainerEngine) -> None:
    if container.origin == Container.Origin.PORTAL:
        creation.discard_container(container, engine)
    else:
        engine.remove_container(container.engine_id or container.engine_name, force=True)
        if tag := own_image_tag(container):
            # Somebody may have started a container from it meanwhile; then it stays.
            with contextlib.suppress(EngineConflict):
                engine.untag_image(tag)
    store_removed(work, container, engine, work.operation.params.get("reason", ""))


STEPS: dict[str, Step] = {
    "start": start,
    "stop": _stop,
    "restart": _restart,
    "pause": _pause,
    "resume": _resume,
    "remove": _remove,
}


def _store(
    work: Work, container: Container, details: ContainerDetails, verb: str, reason: str
) -> None:
    with transaction.atomic():
        if observations.STATE_OF.get(details.state) in (State.RUNNING, State.PAUSED):
            observations.store_running(container=container, details=details)
        else:
            observations.store_stopped(container=container, details=details, reason=reason)
        record_event(
            verb=verb,
            **container.subject,
            owner=container.owner,
            actor=work.operation.actor,
            after={"state": container.state},
            reason=reason,
        )
        work.finish()
    observations.announce(container)


def store_removed(work: Work, container: Container, engine: ContainerEngine, reason: str) -> None:
    """Record that it is gone, its devices free."""
    creation.discard_leftovers(container, engine)
    with transaction.atomic():
        assignments.release_devices(
            container=container, reason="the container was removed", actor=work.operation.actor
        )
        observations.store_ended(container=container, state=State.REMOVED)
        record_event(
            verb="removed",
            **container.subject,
            owner=container.owner,
            actor=work.operation.actor,
            after={"state": State.REMOVED},
            reason=reason,
        )
        work.finish()
    observations.announce(container)


def give_up(work: Work, container: Container, engine: ContainerEngine, error: PortalError) -> None:
    """End the operation as failed; the row goes back to what the engine shows."""
    try:
        details = engine.inspect_container(container.engine_name)
    except MissingOnEngine:
        _end_missing(work, container, engine, error)
        return
    container.refresh_from_db(fields=["state"])
    observations.observe(container=container, details=details, reason=error.message)
    container.refresh_from_db()
    if container.state in assignments.IDLE_STATES and work.operation.kind in ("start", "restart"):
        settle_devices(container, details)
    with transaction.atomic():
        _record_failure(work, container, error)
    observations.announce(container)


def _end_missing(
    work: Work, container: Container, engine: ContainerEngine, error: PortalError
) -> None:
    """Record that nothing is there: somebody removed it, or making it anew failed."""
    if work.operation.phase != RECREATE:
        store_removed(work, container, engine, "It had been removed outside of the portal.")
        return
    creation.discard_leftovers(container, engine)
    with transaction.atomic():
        assignments.release_devices(container=container, reason="it could not be made anew")
        observations.store_ended(
            container=container,
            state=State.FAILED,
            error={**error.as_dict(), "cause": error.cause},
        )
        _record_failure(work, container, error)
    observations.announce(container)


def _record_failure(work: Work, container: Container, error: PortalError) -> None:
    record_event(
        verb=f"{work.operation.kind} failed",
        **container.subject,
        owner=container.owner,
        reason=error.message,
        evidence={"code": error.code, "cause": error.cause, "fields": error.fields},
    )
    work.fail(error)
