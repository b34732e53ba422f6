"""When and from where the catalogue was last read, and what could not be read. One row."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class CatalogueState(models.Model):
    """The last synchronisation. The row is also the lock that two of them take in turn."""

    SINGLETON = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=SINGLETON, editable=False)
    source = models.CharField(_("source"), max_length=500, blank=True)
    synced_at = models.DateTimeField(_("synchronised"), null=True)
    problems = models.JSONField(_("bad lines"), default=list)  # [{line, reason, text}]

    class Meta:
        verbose_name = _("state of the catalogue")
        verbose_name_plural = _("state of the catalogue")
        constraints = [models.CheckConstraint(name="catalogue_state_one_row", condition=Q(id=1))]

    def __str__(self) -> str:
        return self.source or str(_("never synchronised"))
