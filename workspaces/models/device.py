"""Devices: allocatable GPU units with a UUID, whole GPUs and MIG instances alike."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class DeviceQuerySet(models.QuerySet["Device"]):
    """Reads of devices."""

    def offered(self) -> DeviceQuerySet:
        """Return those that may be given out when free: present, usable, not drained."""
        return self.filter(present=True, usable=True, drained=False)

    def free(self) -> DeviceQuerySet:
        """Return the offered devices that nobody holds or uses.

        A whole GPU and the MIG instances of its card exclude each other. Assignments and the
        observed use by foreign containers both count as taken.
        """
        live = Q(assignments__state__in=("reserved", "bound"))
        taken = live | Q(foreign_uses__isnull=False)
        parents = Device.objects.filter(taken, parent__isnull=False).values("parent_id")
        cards = Device.objects.filter(taken, parent__isnull=True).values("pk")
        own = Device.objects.filter(taken).values("pk")
        return (
            self.offered()
            .exclude(pk__in=own)
            .exclude(Q(parent__isnull=True) & Q(pk__in=parents))
            .exclude(parent_id__in=cards)
        )


class Device(models.Model):
    """One whole GPU or one MIG instance. The UUID is its identity; indexes are for display."""

    class Kind(models.TextChoices):
        GPU = "gpu", _("GPU")  # a whole card
        MIG = "mig", _("MIG instance")  # a slice of a card

    uuid = models.CharField(_("UUID"), max_length=120, primary_key=True)
    kind = models.CharField(_("kind"), max_length=4, choices=Kind)
    parent = models.ForeignKey(
        "self", models.CASCADE, null=True, blank=True, related_name="instances"
    )
    index = models.PositiveSmallIntegerField(_("number"))
    mig_index = models.PositiveSmallIntegerField(null=True, blank=True)
    model = models.CharField(_("model"), max_length=100)
    profile = models.CharField(_("MIG profile"), max_length=40, blank=True)
    memory_bytes = models.BigIntegerField(_("memory"))
    gpueq = models.FloatField(_("GPU-equivalents"))
    usable = models.BooleanField(_("usable"), default=True)
    unusable_reason = models.CharField(_("why not usable"), max_length=200, blank=True)
    present = models.BooleanField(_("present"), default=True)
    simulated = models.BooleanField(_("simulated"), default=False)
    drained = models.BooleanField(_("drained"), default=False)
    drain_reason = models.CharField(_("why drained"), max_length=200, blank=True)
    seen_at = models.DateTimeField(_("last seen"))

    objects = DeviceQuerySet.as_manager()

    class Meta:
        verbose_name = _("device")
        verbose_name_plural = _("devices")
        # Databases disagree on where the cards themselves (no mig_index) come.
        ordering = ["index", models.F("mig_index").asc(nulls_first=True)]

    def __str__(self) -> str:
        return f"{self.label} ({self.model})"

    @property
    def slot(self) -> str:
        """Number for people and for `mlc`: "2" or "1.0"."""
        return str(self.index) if self.mig_index is None else f"{self.index}.{self.mig_index}"

    @property
    def order(self) -> tuple[int, int]:
        """Sort key: numeric, a card before its instances."""
        return self.index, -1 if self.mig_index is None else self.mig_index

    @property
    def label(self) -> str:
        """Short name for people."""
        return f"GPU {self.slot}" if self.kind == self.Kind.GPU else f"MIG {self.slot}"

    @property
    def card_uuid(self) -> str:
        """UUID of the physical card."""
        return self.parent_id or self.uuid
