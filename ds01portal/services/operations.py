"""The queue: ask for an operation, claim it, keep the lease, end it.

`Work` is what a worker's handler gets: every write through it is fenced on worker and
attempt. Not in charge of: what an operation does; the handlers live with their nouns.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from ds01portal.exceptions import Busy, PortalError, RefusedError
from ds01portal.models import Operation, Person
from ds01portal.models.operation import OperationQuerySet
from ds01portal.services.events import announce_update

LEASE = dt.timedelta(seconds=15)
RETRY_DELAY = dt.timedelta(seconds=3)
REPORT_INTERVAL = 0.25  # seconds between two stored progress reports
DEFAULT_DEADLINE = dt.timedelta(minutes=15)
State = Operation.State


class LostLease(Exception):
    """Another worker has taken over; stop touching the operation."""


class Cancelled(Exception):
    """A person asked to cancel; undo and end."""


class Postponed(Exception):
    """The engine is away: give the operation back and try again later."""

    def __init__(self, cause: PortalError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def request_operation(
    *,
    kind: str,
    subject_kind: str,
    subject_id: str,
    owner: Person | None,
    actor: Person | None,
    params: dict[str, Any],
    subject_label: str = "",
    deadline: dt.timedelta | None = None,
) -> Operation:
    """Write what is desired. Raise Busy when something else is under way on the subject.

    The same verb asked twice gives the operation that is under way: a double click does no
    harm. Call it inside the transaction of the state change.
    """
    now = timezone.now()
    pull_deadline = dt.timedelta(seconds=settings.DS01_PULL_TIMEOUT)
    limit = deadline or (pull_deadline if kind in ("launch", "pull") else DEFAULT_DEADLINE)
    try:
        with transaction.atomic():
            return Operation.objects.create(
                kind=kind,
                subject_kind=subject_kind,
                subject_id=subject_id,
                subject_label=subject_label,
                owner=owner,
                actor=actor,
                params=params,
                created_at=now,
                not_before=now,
                deadline_at=now + limit,
            )
    except IntegrityError as error:
        live = find_live_operation(subject_kind=subject_kind, subject_id=subject_id)
        if live is None:
            raise
        if live.kind == kind:
            return live
        raise Busy(
            f"{subject_label or subject_id} is busy: {live.kind} is under way.",
            hint="Wait until it has ended, or cancel it.",
            operation=live.kind,
        ) from error


def find_live_operation(*, subject_kind: str, subject_id: str) -> Operation | None:
    """Return what is under way on a subject."""
    return Operation.objects.live().filter(subject_kind=subject_kind, subject_id=subject_id).first()


def cancel_operation(*, operation: Operation, actor: Person | None) -> bool:
    """Ask for a cancel; return False when it has ended already. The worker undoes and ends."""
    changed = (
        Operation.objects.live()
        .filter(pk=operation.pk)
        .update(cancel_requested=True, not_before=timezone.now())
    )
    return bool(changed)


def claim_operation(*, worker: str) -> Operation | None:
    """Take the oldest operation that is due, or None. A cheap look comes before the lock."""
    if not _is_anything_live():
        return None
    now = timezone.now()
    if not Operation.objects.due(now).exists():
        return None
    with transaction.atomic():
        operation = (
            Operation.objects.due(now)
            .select_for_update(skip_locked=True, of=("self",))
            .order_by("created_at")
            .first()
        )
        if operation is None:
            return None
        operation.state = State.RUNNING
        operation.worker = worker
        operation.attempt += 1
        operation.lease_until = now + LEASE
        operation.started_at = operation.started_at or now
        operation.save(update_fields=["state", "worker", "attempt", "lease_until", "started_at"])
    return operation


def _is_anything_live() -> bool:
    """Tell whether the queue is worth a look. Asked fifty times a second, so past the ORM."""
    table = connection.ops.quote_name(Operation._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT 1 FROM {table} WHERE state IN (%s, %s) LIMIT 1",  # noqa: S608
            [State.QUEUED.value, State.RUNNING.value],
        )
        return cursor.fetchone() is not None


class Work:
    """A claimed operation in the hands of a worker. Every write is fenced."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self._last_report = 0.0
        self._last_percent = -1.0

    def _fence(self) -> OperationQuerySet:
        return Operation.objects.filter(
            pk=self.operation.pk,
            worker=self.operation.worker,
            attempt=self.operation.attempt,
            state=State.RUNNING,
        )

    def _write(self, **values: Any) -> None:
        if self._fence().update(**values) != 1:
            raise LostLease(str(self.operation))
        self._keep_in_mind(values)

    def _keep_in_mind(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(self.operation, name, value)

    def enter_phase(self, phase: str, message: str = "") -> None:
        """Persist the phase that begins now; raise Cancelled when a person asked to stop."""
        values = {"phase": phase, "percent": None, "message": message[:300]}
        # One statement asks whether to go on and writes: a launch passes here six times.
        wanted = self._fence().filter(cancel_requested=False, deadline_at__gt=timezone.now())
        if wanted.update(**values) != 1:
            self.check_cancelled()
            raise LostLease(str(self.operation))
        self._keep_in_mind(values)
        self._announce()

    def report(self, percent: float | None, message: str) -> None:
        """Persist progress within the phase, at most four times a second."""
        now = time.monotonic()
        if now - self._last_report < REPORT_INTERVAL and percent != 100:
            return
        self._last_report = now
        self._write(percent=percent, message=message[:300])
        self._announce()

    def is_cancelled(self) -> bool:
        """Tell whether a person asked to cancel, or the deadline has passed."""
        if timezone.now() > self.operation.deadline_at:
            return True
        return Operation.objects.filter(pk=self.operation.pk, cancel_requested=True).exists()

    def check_cancelled(self) -> None:
        """Raise Cancelled when a person asked to cancel."""
        if self.is_cancelled():
            raise Cancelled

    def keep(self) -> None:
        """Extend the lease; raise LostLease when somebody else has it."""
        self._write(lease_until=timezone.now() + LEASE)

    def set_deadline(self, deadline: dt.datetime) -> None:
        """Set when it ends as a timeout: waiting in a queue does not count as work."""
        self._write(deadline_at=deadline)

    def begin_undo(self, error: dict[str, Any]) -> None:
        """Persist why it failed before anything is undone; no cancel is heard from here on."""
        self._write(phase="undo", percent=None, error=error, message=error.get("message", "")[:300])
        self._announce()

    def end_undone(self, *, cancelled: bool) -> None:
        """End after an undo, with the error that began it."""
        self._end(State.CANCELLED if cancelled else State.FAILED, self.operation.error)

    def finish(self) -> None:
        """End as done."""
        self._end(State.DONE, {})

    def fail(self, error: PortalError) -> None:
        """End as failed, with the error that the owner reads."""
        self._end(State.FAILED, {**error.as_dict(), "cause": error.cause})

    def cancel(self) -> None:
        """End as cancelled."""
        self._end(State.CANCELLED, {})

    def count_mistake(self) -> int:
        """Store one more failure for no known reason; return how many there were."""
        self._write(mistakes=self.operation.mistakes + 1)
        return self.operation.mistakes

    def postpone(self, cause: PortalError, delay: dt.timedelta = RETRY_DELAY) -> None:
        """Give it back: nothing is decided, it is tried again after the delay."""
        self._write(
            state=State.QUEUED,
            lease_until=None,
            not_before=timezone.now() + delay,
            message=cause.message[:300],
        )
        self._announce()

    def _end(self, state: Operation.State, error: dict[str, Any]) -> None:
        self._write(
            state=state, error=error, finished_at=timezone.now(), lease_until=None, percent=None
        )
        self._announce()

    def _announce(self) -> None:
        operation = self.operation
        announce_update(
            subject=f"{operation.subject_kind}:{operation.subject_id}",
            owner_id=operation.owner_id,
            state=str(operation.state),
            phase=operation.phase,
            percent=operation.percent,
            message=operation.message,
            operation=operation.kind,
        )


def timeout_error(operation: Operation) -> RefusedError:
    """Return the error of an operation whose deadline has passed."""
    error = RefusedError(
        f"The {operation.kind} took too long and was given up.",
        hint="Try again; tell an admin if it happens twice.",
        phase=operation.phase,
    )
    error.code, error.family = "timeout", "timeout"
    return error
