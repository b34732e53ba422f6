"""Containers: one row per session, from the request until long after its removal."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, TypedDict

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from catalog.models import Image
from ds01portal.models import Operation
from workspaces.models.folder import SharedFolder

if TYPE_CHECKING:
    from ds01portal.models import Person


class Subject(TypedDict):
    """What events and operations call the thing they are about."""

    subject_kind: str
    subject_id: str
    subject_label: str


class ContainerQuerySet(models.QuerySet["Container"]):
    """Reads of containers; what depends on who asks starts from `visible_to`."""

    def visible_to(self, person: Person) -> ContainerQuerySet:
        """Return what a person may see: their own, and everything for an admin."""
        return self if person.is_staff else self.filter(owner=person)

    def live(self) -> ContainerQuerySet:
        """Return those that exist or are being made."""
        return self.exclude(state__in=Container.FINAL_STATES)

    def counted(self) -> ContainerQuerySet:
        """Return those that count against the owner's number of containers."""
        return self.exclude(state__in=[*Container.FINAL_STATES, Container.State.FAILED])

    def active(self) -> ContainerQuerySet:
        """Return those that use processor and memory, or are about to."""
        return self.filter(state__in=Container.ACTIVE_STATES)


class Container(models.Model):
    """One user's session. Rows say what is desired and what was last observed.

    Memory sizes in `spec` are bytes, cpus cores. `devices_requested` is how many devices it
    is entitled to; which ones is in the assignments.
    """

    class State(models.TextChoices):
        LAUNCHING = "launching", _("Starting")  # asked for; nothing or half of it on the engine
        CREATED = "created", _("Created")  # on the engine, never started
        STARTING = "starting", _("Starting")  # start asked for
        RUNNING = "running", _("Running")  # observed running
        STOPPING = "stopping", _("Stopping")  # stop asked for
        RESTARTING = "restarting", _("Restarting")  # restart asked for
        PAUSING = "pausing", _("Pausing")  # pause asked for
        PAUSED = "paused", _("Paused")  # observed paused; holds memory and devices
        RESUMING = "resuming", _("Resuming")  # resume asked for
        STOPPED = "stopped", _("Stopped")  # observed stopped, with evidence
        REMOVING = "removing", _("Removing")  # remove asked for
        FAILED = "failed", _("Failed")  # the launch failed; nothing is left of it
        REMOVED = "removed", _("Removed")  # gone from the engine

    class Origin(models.TextChoices):
        PORTAL = "portal", _("portal")  # launched here
        MLC = "mlc", _("mlc")  # made by AIME's mlc
        DS01 = "ds01", _("DS01")  # made by the older shell system
        DOCKER = "docker", _("docker")  # made by any other Docker client

    FINAL_STATES = (State.REMOVED,)
    ACTIVE_STATES = (
        State.LAUNCHING,
        State.STARTING,
        State.RUNNING,
        State.STOPPING,
        State.RESTARTING,
        State.PAUSING,
        State.PAUSED,
        State.RESUMING,
    )
    TRANSIENT_STATES = (
        State.LAUNCHING,
        State.STARTING,
        State.STOPPING,
        State.RESTARTING,
        State.PAUSING,
        State.RESUMING,
        State.REMOVING,
    )
    # verb → (states it may be asked in, state while it is under way)
    TRANSITIONS: dict[str, tuple[tuple[State, ...], State]] = {
        "start": ((State.STOPPED, State.CREATED), State.STARTING),
        "stop": ((State.RUNNING, State.PAUSED), State.STOPPING),
        "restart": ((State.RUNNING,), State.RESTARTING),
        "pause": ((State.RUNNING,), State.PAUSING),
        "resume": ((State.PAUSED,), State.RESUMING),
        "remove": (
            (State.RUNNING, State.PAUSED, State.STOPPED, State.CREATED, State.FAILED),
            State.REMOVING,
        ),
    }

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="containers",
        verbose_name=_("owner"),
    )
    name = models.CharField(_("name"), max_length=128)
    engine_name = models.CharField(_("name on the engine"), max_length=255)
    engine_id = models.CharField(_("id on the engine"), max_length=64, blank=True, db_index=True)
    origin = models.CharField(_("made by"), max_length=10, choices=Origin, default=Origin.PORTAL)
    state = models.CharField(_("state"), max_length=12, choices=State, default=State.LAUNCHING)

    image = models.ForeignKey(
        Image, models.SET_NULL, null=True, blank=True, related_name="containers"
    )
    image_reference = models.CharField(_("image"), max_length=300)
    image_engine_id = models.CharField(max_length=80, blank=True)
    framework = models.CharField(_("framework"), max_length=100, blank=True)
    version = models.CharField(_("version"), max_length=100, blank=True)
    architecture = models.CharField(max_length=40, blank=True)

    # Token of the form or script that asked: the same request twice gives the same container.
    request_key = models.CharField(max_length=64, null=True, blank=True)
    devices_requested = models.PositiveSmallIntegerField(_("devices"), default=0)
    simulated = models.BooleanField(_("simulated devices"), default=False)
    spec = models.JSONField(_("size"), default=dict)
    notes = models.JSONField(_("notes"), default=list)
    workspace_path = models.CharField(_("workspace"), max_length=500, blank=True)
    data = models.ForeignKey(SharedFolder, models.SET_NULL, null=True, blank=True, related_name="+")
    models_folder = models.ForeignKey(
        SharedFolder, models.SET_NULL, null=True, blank=True, related_name="+"
    )

    created_at = models.DateTimeField(_("asked for"), auto_now_add=True)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    stopped_at = models.DateTimeField(_("stopped"), null=True, blank=True)
    removed_at = models.DateTimeField(_("removed"), null=True, blank=True)
    exit_code = models.IntegerField(_("exit code"), null=True, blank=True)
    stop_reason = models.CharField(_("why it stopped"), max_length=300, blank=True)
    error = models.JSONField(_("error"), default=dict, blank=True)

    objects = ContainerQuerySet.as_manager()

    class Meta:
        verbose_name = _("container")
        verbose_name_plural = _("containers")
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["engine_name"],
                condition=~Q(state__in=["removed", "failed"]),
                name="container_name_live_once",
            ),
            models.UniqueConstraint(fields=["owner", "request_key"], name="container_request_once"),
        ]
        indexes = [models.Index(fields=["owner", "state"], name="container_by_owner")]

    def __str__(self) -> str:
        return self.engine_name

    def get_absolute_url(self) -> str:
        """Return the container's page."""
        return reverse("container-detail", args=[self.pk])

    @property
    def source_reference(self) -> str:
        """Return what its image is called now: a custom image may have been renamed."""
        if self.image is not None and self.image.is_custom:
            return self.image.reference
        return self.image_reference

    @property
    def is_busy(self) -> bool:
        """Whether a verb is under way."""
        return self.state in self.TRANSIENT_STATES

    @property
    def subject(self) -> Subject:
        """Return what events and operations call this container."""
        return {
            "subject_kind": "container",
            "subject_id": str(self.pk),
            "subject_label": self.name,
        }

    @property
    def image_label(self) -> str:
        """Image in people's words."""
        if self.framework and self.version:
            return f"{self.framework} {self.version}"
        return self.framework or self.image_reference

    def live_operation(self) -> Operation | None:
        """Return the operation under way, if any."""
        return (
            Operation.objects.live()
            .filter(subject_kind="container", subject_id=str(self.pk))
            .first()
        )

    def offered_verbs(self) -> tuple[str, ...]:
        """Return the verbs that the state allows now."""
        return tuple(verb for verb, (states, _) in self.TRANSITIONS.items() if self.state in states)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form used by commands (devices are added by the service)."""
        return {
            "id": str(self.pk),
            "name": self.name,
            "engine_name": self.engine_name,
            "engine_id": self.engine_id,
            "owner": self.owner.username if self.owner else None,
            "origin": self.origin,
            "state": self.state,
            "image": self.image_reference,
            "framework": self.framework,
            "version": self.version,
            "simulated": self.simulated,
            "spec": self.spec,
            "notes": self.notes,
            "created_at": self.created_at.isoformat(),
            "started_at": self.started_at.isoformat() if self.started_at else None,
            "stopped_at": self.stopped_at.isoformat() if self.stopped_at else None,
            "exit_code": self.exit_code,
            "stop_reason": self.stop_reason,
            "error": self.error or None,
        }
