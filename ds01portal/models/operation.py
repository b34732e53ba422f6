"""Operations: what was asked for, who carries it out, how far it is. The row is the queue."""

from __future__ import annotations

import datetime as dt
import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class OperationQuerySet(models.QuerySet["Operation"]):
    """Reads of operations."""

    def live(self) -> OperationQuerySet:
        """Return those that have not ended."""
        return self.filter(state__in=Operation.LIVE_STATES)

    def due(self, now: dt.datetime) -> OperationQuerySet:
        """Return those a worker may claim: queued, or left behind by a dead worker."""
        return self.filter(not_before__lte=now).filter(
            Q(state=Operation.State.QUEUED) | Q(state=Operation.State.RUNNING, lease_until__lt=now)
        )


class Operation(models.Model):
    """One verb on one subject. Claimed by compare-and-set with a lease and a fence.

    `attempt` is the fence: every write of a worker is filtered on worker and attempt, so a
    revived zombie cannot write the end. Execution is at-least-once; steps are repeatable.
    """

    class State(models.TextChoices):
        QUEUED = "queued", _("waiting")  # nobody works on it yet
        RUNNING = "running", _("in progress")  # a worker holds the lease
        DONE = "done", _("done")
        FAILED = "failed", _("failed")  # error_* say why; everything made was undone
        CANCELLED = "cancelled", _("cancelled")  # by a person; everything made was undone

    LIVE_STATES = (State.QUEUED, State.RUNNING)
    FINAL_STATES = (State.DONE, State.FAILED, State.CANCELLED)
    TRANSITIONS = {
        State.QUEUED: (State.RUNNING, State.CANCELLED, State.FAILED),
        State.RUNNING: (State.RUNNING, State.QUEUED, State.DONE, State.FAILED, State.CANCELLED),
    }

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(_("kind"), max_length=20)
    subject_kind = models.CharField(max_length=20)
    subject_id = models.CharField(max_length=300)
    subject_label = models.CharField(max_length=300, blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, related_name="operations"
    )
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    params = models.JSONField(default=dict)
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.QUEUED)
    phase = models.CharField(_("phase"), max_length=20, blank=True)
    percent = models.FloatField(null=True)
    message = models.CharField(max_length=300, blank=True)
    cancel_requested = models.BooleanField(default=False)

    worker = models.CharField(max_length=100, blank=True)
    attempt = models.PositiveIntegerField(default=0)
    # Failures for no known reason; an engine that is away does not count.
    mistakes = models.PositiveSmallIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    not_before = models.DateTimeField()  # a retry waits until then
    deadline_at = models.DateTimeField()  # past it the operation ends as a timeout

    error = models.JSONField(default=dict)
    created_at = models.DateTimeField(_("asked"))
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(_("ended"), null=True)

    objects = OperationQuerySet.as_manager()

    class Meta:
        verbose_name = _("operation")
        verbose_name_plural = _("operations")
        ordering = ["created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["subject_kind", "subject_id"],
                condition=Q(state__in=["queued", "running"]),
                name="operation_one_live_per_subject",
            )
        ]
        indexes = [
            models.Index(fields=["state", "not_before"], name="operation_due"),
            models.Index(fields=["subject_kind", "subject_id", "-created_at"], name="op_subject"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject_label or self.subject_id} ({self.state})"

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.state in self.LIVE_STATES
