"""Builds: one row per attempt to make a version of a recipe, with what it printed."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from catalog.models.image import Image
from catalog.models.recipe import Recipe
from ds01portal.models import Operation

if TYPE_CHECKING:
    from ds01portal.models import Person


class BuildQuerySet(models.QuerySet["Build"]):
    """Reads of builds. A log may tell more than an image: sharing a recipe does not share it."""

    def visible_to(self, person: Person) -> BuildQuerySet:
        """Return those a person may see: of their own recipes, and all for an admin."""
        return self if person.is_staff else self.filter(recipe__owner=person)

    def live(self) -> BuildQuerySet:
        """Return those that wait or run."""
        return self.filter(state__in=Build.LIVE_STATES)


class Build(models.Model):
    """One attempt. `content` and `dockerfile` are frozen copies of what was asked for.

    `number` is the version it makes; a failed build leaves its number to the next one. `steps`
    is a list of {title, command, state, image, bytes, seconds}; sizes are bytes.
    """

    class State(models.TextChoices):
        QUEUED = "queued", _("Waiting")  # nobody has begun
        RUNNING = "running", _("Building")
        DONE = "done", _("Built")  # `image` is the version
        FAILED = "failed", _("Failed")  # `error` says why; nothing is left of it
        CANCELLED = "cancelled", _("Cancelled")

    LIVE_STATES = (State.QUEUED, State.RUNNING)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    recipe = models.ForeignKey(Recipe, models.CASCADE, related_name="builds")
    number = models.PositiveIntegerField(_("version"))
    content = models.JSONField(_("recipe"), default=dict)
    dockerfile = models.TextField(blank=True)
    # What the finished image gets beside its layers: {environment, labels}.
    plan = models.JSONField(default=dict)
    # Do not take layers of earlier builds: fetch everything anew.
    fresh = models.BooleanField(_("everything anew"), default=False)
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.QUEUED)
    steps = models.JSONField(_("steps"), default=list)
    base_reference = models.CharField(_("base"), max_length=300, blank=True)
    base_engine_id = models.CharField(max_length=80, blank=True)
    image = models.OneToOneField(
        Image, models.SET_NULL, null=True, blank=True, related_name="build"
    )
    operation = models.ForeignKey(
        Operation, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    error = models.JSONField(default=dict)
    log_bytes = models.PositiveBigIntegerField(default=0)
    dropped_bytes = models.PositiveBigIntegerField(default=0)  # left out of the middle of the log
    created_at = models.DateTimeField(_("asked"), auto_now_add=True)
    started_at = models.DateTimeField(_("begun"), null=True)
    finished_at = models.DateTimeField(_("ended"), null=True)

    objects = BuildQuerySet.as_manager()

    class Meta:
        verbose_name = _("build")
        verbose_name_plural = _("builds")
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["recipe", "-created_at"], name="build_of_recipe")]
        constraints = [
            models.UniqueConstraint(
                fields=["recipe"],
                condition=Q(state__in=["queued", "running"]),
                name="build_one_live_per_recipe",
            )
        ]

    def __str__(self) -> str:
        return f"{self.recipe.name}:{self.number}"

    def get_absolute_url(self) -> str:
        return reverse("build-detail", args=[self.pk])

    @property
    def is_live(self) -> bool:
        """Say whether it has not ended."""
        return self.state in self.LIVE_STATES

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "id": str(self.pk),
            "recipe": self.recipe.name,
            "owner": self.recipe.owner.username,
            "version": self.number,
            "state": self.state,
            "image": self.image.reference if self.image else None,
            "base": self.base_reference,
            "steps": self.steps,
            "error": self.error or None,
            "created_at": self.created_at,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
        }


class BuildOutput(models.Model):
    """A piece of a build's log: whole lines, masked. The ids tell the order."""

    build = models.ForeignKey(Build, models.CASCADE, related_name="output")
    step = models.PositiveSmallIntegerField(default=0)  # from 1; 0 is about the build itself
    at = models.DateTimeField()
    text = models.TextField()
    bytes = models.PositiveIntegerField()

    class Meta:
        verbose_name = _("build output")
        verbose_name_plural = _("build output")
        ordering = ["pk"]
        indexes = [models.Index(fields=["build", "id"], name="output_of_build")]

    def __str__(self) -> str:
        return self.text[:80]
