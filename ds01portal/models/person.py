"""People: who signs in, and who they are to Linux."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils.translation import gettext_lazy as _


class Person(AbstractUser):
    """A user of the portal with a Linux identity.

    `uid` and `gid` are numbers on the host; `linux_name` is safe inside a container;
    `system_login` is the name the host's user database knows (empty when it knows none).
    """

    uid = models.PositiveBigIntegerField(
        _("uid"), unique=True, null=True, blank=True, help_text=_("Empty: found or allocated.")
    )
    gid = models.PositiveBigIntegerField(_("gid"), null=True, blank=True)
    linux_name = models.CharField(_("Linux name"), max_length=32, unique=True, null=True)
    system_login = models.CharField(_("login on the host"), max_length=255, blank=True)
    home = models.CharField(_("home on the host"), max_length=500, blank=True)

    class Meta:
        verbose_name = _("person")
        verbose_name_plural = _("people")
        constraints = [
            models.CheckConstraint(condition=models.Q(uid__gte=1000), name="person_uid_not_system"),
            models.CheckConstraint(condition=models.Q(gid__gte=1), name="person_gid_not_root"),
        ]

    @property
    def login(self) -> str:
        """Name that `mlc` uses for this person on the host."""
        return self.system_login or self.linux_name or self.username

    @property
    def display_name(self) -> str:
        """Name shown to other people."""
        return self.get_full_name() or self.username

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form used by commands."""
        return {
            "username": self.username,
            "email": self.email,
            "uid": self.uid,
            "gid": self.gid,
            "linux_name": self.linux_name,
        }
