"""Events: who did what to which thing, append-only, and the ticker that live pages follow."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class Event(models.Model):
    """One change, written in the same transaction as the change itself.

    `actor` empty means the portal itself (worker or cron); `reason` is a sentence for the
    owner; `evidence` holds the numbers behind an automatic decision.
    """

    id = models.BigAutoField(primary_key=True)
    created_at = models.DateTimeField(_("time"), auto_now_add=True, db_index=True)
    verb = models.CharField(_("verb"), max_length=40)
    subject_kind = models.CharField(_("kind"), max_length=20)
    subject_id = models.CharField(_("id"), max_length=200)
    subject_label = models.CharField(_("name"), max_length=200, blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        related_name="events",
        verbose_name=_("owner"),
    )
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        related_name="+",
        verbose_name=_("actor"),
    )
    before = models.JSONField(_("before"), default=dict)
    after = models.JSONField(_("after"), default=dict)
    reason = models.TextField(_("reason"), blank=True)
    evidence = models.JSONField(_("evidence"), default=dict)

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["subject_kind", "subject_id", "-id"], name="event_by_subject"),
            models.Index(fields=["owner", "-id"], name="event_by_owner"),
        ]

    def __str__(self) -> str:
        return f"{self.verb} {self.subject_kind} {self.subject_label or self.subject_id}"

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form of one line of history."""
        return {
            "time": self.created_at.isoformat(),
            "verb": self.verb,
            "actor": self.actor.username if self.actor else None,
            "before": self.before,
            "after": self.after,
            "reason": self.reason,
            "evidence": self.evidence,
        }


class Update(models.Model):
    """A tick that says “this changed”: what live pages listen to. Short-lived, not history."""

    id = models.BigAutoField(primary_key=True)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    subject = models.CharField(max_length=220)  # "container:<uuid>", "machine", "catalog"
    owner_id = models.BigIntegerField(null=True)  # null: everybody may hear it
    data = models.JSONField(default=dict)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.id} {self.subject}"
