"""Shared folders: data sets and models that an admin offers as mounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from ds01portal.models import Person


class SharedFolderQuerySet(models.QuerySet["SharedFolder"]):
    """Reads of shared folders."""

    def visible_to(self, person: Person) -> SharedFolderQuerySet:
        """Return what a person may mount: offered to everybody or to one of their groups."""
        everybody = Q(groups__isnull=True)
        return self.filter(
            everybody | Q(groups__in=person.groups.values("pk")), enabled=True
        ).distinct()


class SharedFolder(models.Model):
    """A host folder that containers may mount at /data or /models."""

    class Purpose(models.TextChoices):
        DATA = "data", _("data")  # mounted at /data
        MODELS = "models", _("models")  # mounted at /models

    name = models.SlugField(_("name"), max_length=60, unique=True)
    purpose = models.CharField(_("mounted as"), max_length=10, choices=Purpose)
    path = models.CharField(_("path on the host"), max_length=500)
    read_only = models.BooleanField(_("read only"), default=True)
    groups = models.ManyToManyField(
        Group, blank=True, verbose_name=_("for groups"), help_text=_("None: for everybody.")
    )
    enabled = models.BooleanField(_("offered"), default=True)
    description = models.CharField(_("description"), max_length=200, blank=True)

    objects = SharedFolderQuerySet.as_manager()

    class Meta:
        verbose_name = _("shared folder")
        verbose_name_plural = _("shared folders")
        ordering = ["purpose", "name"]

    def __str__(self) -> str:
        return self.name

    @property
    def target(self) -> str:
        """Path inside the container."""
        return f"/{self.purpose}"
