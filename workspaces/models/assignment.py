"""Assignments: which container holds which device, and what foreign containers use."""

from __future__ import annotations

import datetime as dt

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from workspaces.models.container import Container
from workspaces.models.device import Device


class AssignmentQuerySet(models.QuerySet["Assignment"]):
    """Reads of assignments."""

    def live(self) -> AssignmentQuerySet:
        """Return those that hold their device."""
        return self.filter(state__in=Assignment.LIVE_STATES)

    def expired(self, now: dt.datetime) -> AssignmentQuerySet:
        """Return the held ones whose hold time after a stop has passed."""
        return self.live().filter(hold_until__lte=now)


class Assignment(models.Model):
    """One device held by one container. Never more than one live row per device.

    A trigger in the database refuses a live row for a card while one of its MIG instances is
    held, and the other way round.
    """

    class State(models.TextChoices):
        RESERVED = "reserved", _("reserved")  # the container is being made
        BOUND = "bound", _("bound")  # the container exists with this device
        RELEASED = "released", _("released")  # history

    LIVE_STATES = (State.RESERVED, State.BOUND)

    device = models.ForeignKey(Device, models.PROTECT, related_name="assignments")
    container = models.ForeignKey(Container, models.CASCADE, related_name="assignments")
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.RESERVED)
    reserved_at = models.DateTimeField(_("reserved"))
    bound_at = models.DateTimeField(_("bound"), null=True, blank=True)
    hold_until = models.DateTimeField(_("held until"), null=True, blank=True)
    released_at = models.DateTimeField(_("released"), null=True, blank=True)
    release_reason = models.CharField(_("why released"), max_length=200, blank=True)

    objects = AssignmentQuerySet.as_manager()

    class Meta:
        verbose_name = _("GPU assignment")
        verbose_name_plural = _("GPU assignments")
        ordering = ["-reserved_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["device"],
                condition=Q(state__in=["reserved", "bound"]),
                name="assignment_device_held_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.device_id} → {self.container}"


class ForeignUse(models.Model):
    """A device that a running container uses which the portal did not start.

    Observed, never desired: reconcile rewrites these rows from what the engine shows.
    """

    device = models.ForeignKey(Device, models.CASCADE, related_name="foreign_uses")
    engine_id = models.CharField(max_length=64)
    engine_name = models.CharField(_("container"), max_length=255)
    container = models.ForeignKey(
        Container, models.CASCADE, null=True, blank=True, related_name="foreign_uses"
    )
    seen_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("foreign use")
        verbose_name_plural = _("foreign uses")
        constraints = [
            models.UniqueConstraint(fields=["device", "engine_id"], name="foreign_use_once")
        ]

    def __str__(self) -> str:
        return f"{self.device_id} used by {self.engine_name}"
