"""Carry out claimed operations: which handler, and what becomes of its errors.

Not in charge of: what a verb does, and of when to look for work (`worker`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator

from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from catalog.services.building import abandon_build, carry_out_build
from catalog.services.pulls import carry_out_pull
from ds01portal.exceptions import EngineError, EngineTimeout, EngineUnreachable, PortalError
from ds01portal.models import Operation
from ds01portal.services.operations import (
    LEASE,
    Cancelled,
    LostLease,
    Work,
    claim_operation,
    timeout_error,
)
from workspaces.models import Container
from workspaces.services.launches import abandon_launch, carry_out_launch
from workspaces.services.machine import note_unreachable
from workspaces.services.snapshot_making import abandon_snapshot, carry_out_snapshot
from workspaces.services.transitions import STEPS, carry_out_transition

logger = logging.getLogger(__name__)

MOST_MISTAKES = 5  # failures for no known reason before an operation is ended

Handler = Callable[[Work], None]


def carry_out_image_pull(work: Work) -> None:
    """Carry out a pull that an admin asked for, to its end."""
    try:
        carry_out_pull(work)
    except Cancelled:
        work.operation.refresh_from_db(fields=["cancel_requested"])
        if work.operation.cancel_requested:
            work.cancel()
        else:
            work.fail(timeout_error(work.operation))
    except (EngineUnreachable, EngineTimeout):
        raise
    except PortalError as error:
        work.fail(error)
    else:
        work.finish()


HANDLERS: dict[str, Handler] = {
    "launch": carry_out_launch,
    "pull": carry_out_image_pull,
    "build": carry_out_build,
    "snapshot": carry_out_snapshot,
    **dict.fromkeys(STEPS, carry_out_transition),
}
ABANDON: dict[str, Callable[[Work, EngineError], None]] = {
    "build": abandon_build,
    "snapshot": abandon_snapshot,
}


def worker_name() -> str:
    """Return a name that tells host and process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def carry_out(operation: Operation) -> None:
    """Carry out one claimed operation; never raises, whatever the handler does."""
    work = Work(operation)
    try:
        HANDLERS[operation.kind](work)
    except LostLease:
        logger.warning("%s was taken over by another worker", operation)
    except (EngineUnreachable, EngineTimeout) as error:
        note_unreachable(error=error)
        _give_back(work, error)
    except Exception as error:
        logger.exception("%s failed", operation)
        _give_back(work, EngineError("The portal made a mistake.", cause=repr(error)))


def _give_back(work: Work, error: EngineError) -> None:
    """Try again later; after the fifth internal mistake end it, so that every state has an exit."""
    try:
        if error.code == EngineError.code and work.count_mistake() >= MOST_MISTAKES:
            _end(work, error)
        else:
            work.postpone(error)
    except (EngineUnreachable, EngineTimeout) as away:
        work.postpone(away)
    except (LostLease, DatabaseError):
        logger.exception("%s could not be given back", work.operation)


def _end(work: Work, error: EngineError) -> None:
    """End what went wrong again and again; what was made is undone, as far as that can be done."""
    if abandon := ABANDON.get(work.operation.kind):
        abandon(work, error)
        return
    if work.operation.kind != "launch":
        work.fail(error)
        return
    try:
        abandon_launch(work, error)
    except (LostLease, EngineUnreachable, EngineTimeout):
        raise
    except Exception:
        # What is left on the engine is unknown, so its devices stay taken until it is removed.
        logger.exception("%s could not be undone", work.operation)
        with transaction.atomic():
            work.fail(error)
            Container.objects.filter(pk=work.operation.subject_id).update(
                state=Container.State.FAILED, error=error.as_dict(), request_key=None
            )


def carry_out_due(*, worker: str = "") -> int:
    """Carry out what is due, one after the other, in this thread; return how many."""
    count = 0
    while operation := claim_operation(worker=worker or worker_name()):
        with _leased(operation):
            carry_out(operation)
        count += 1
    return count


@contextlib.contextmanager
def _leased(operation: Operation) -> Iterator[None]:
    """Extend the lease from a thread beside the work, so that nobody else takes it over."""
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(LEASE.total_seconds() / 3):
            try:
                Work(operation).keep()
            except LostLease:
                break
            except DatabaseError:
                logger.warning("the lease of %s could not be extended now", operation)
        connection.close()

    thread = threading.Thread(target=keep, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def release_dead_workers() -> int:
    """Let operations of dead workers on this host be claimed at once; return how many."""
    host = socket.gethostname()
    dead = []
    running = Operation.objects.filter(state=Operation.State.RUNNING)
    for name in running.values_list("worker", flat=True).distinct():
        where, _, pid = name.partition(":")
        if where == host and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            dead.append(name)
    past = timezone.now() - dt.timedelta(seconds=1)
    return running.filter(worker__in=dead).update(lease_until=past)
