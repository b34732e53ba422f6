"""The machine: what is known of the engine and of the GPU inventory, in one row."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Machine(models.Model):
    """One row. Says since when the engine is unreachable; that never changes a container."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    reachable = models.BooleanField(_("engine answers"), default=True)
    unreachable_since = models.DateTimeField(null=True, blank=True)
    outage_from = models.DateTimeField(_("last outage from"), null=True, blank=True)
    outage_until = models.DateTimeField(_("last outage until"), null=True, blank=True)
    error = models.TextField(_("engine error"), blank=True)
    engine_version = models.CharField(_("engine version"), max_length=60, blank=True)
    api_version = models.CharField(max_length=20, blank=True)
    cpus = models.PositiveIntegerField(_("CPU cores"), default=0)
    memory_bytes = models.BigIntegerField(_("memory"), default=0)
    engine_root = models.CharField(max_length=500, blank=True)
    live_restore = models.BooleanField(default=False)
    security_options = models.JSONField(default=list)
    # Learned by doing: None until a launch has shown it.
    takes_devices = models.BooleanField(_("engine hands devices over"), null=True, blank=True)
    takes_memlock = models.BooleanField(_("engine raises memlock"), null=True, blank=True)

    gpu_source = models.CharField(_("GPU inventory"), max_length=12, blank=True)
    gpu_message = models.CharField(max_length=300, blank=True)
    driver_version = models.CharField(_("driver"), max_length=40, blank=True)
    reconciled_at = models.DateTimeField(_("last reconciled"), null=True, blank=True)
    worker_seen_at = models.DateTimeField(_("worker last seen"), null=True, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = _("machine")
        verbose_name_plural = _("machine")
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="machine_is_one_row")]

    def __str__(self) -> str:
        return str(_("this machine"))

    @classmethod
    def current(cls) -> Machine:
        """Return the row, made when it is missing."""
        return cls.objects.get_or_create(pk=1)[0]

    @property
    def is_simulated(self) -> bool:
        """Whether the GPU inventory is simulated."""
        return self.gpu_source == "simulated"
