"""What is known about the machine: its driver, its engine. One row, written by who asks them."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from catalog.architectures import CudaVersion, parse_cuda_version


class HostFacts(models.Model):
    """Driver and engine as they were last seen. Empty texts mean: not found, or not known."""

    SINGLETON = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=SINGLETON, editable=False)
    driver_version = models.CharField(_("NVIDIA driver"), max_length=40, blank=True)
    driver_cuda = models.CharField(_("CUDA of the driver"), max_length=10, blank=True)
    engine_root = models.CharField(_("engine's folder"), max_length=300, blank=True)
    runc_version = models.CharField(_("runc"), max_length=60, blank=True)
    toolkit_version = models.CharField(_("NVIDIA container toolkit"), max_length=60, blank=True)
    updated_at = models.DateTimeField(_("seen"))

    class Meta:
        verbose_name = _("host facts")
        verbose_name_plural = _("host facts")
        constraints = [models.CheckConstraint(name="host_facts_one_row", condition=Q(id=1))]

    def __str__(self) -> str:
        return self.driver_version or str(_("no NVIDIA driver"))

    @property
    def cuda_version(self) -> CudaVersion | None:
        """Return (major, minor), None without a driver."""
        return parse_cuda_version(self.driver_cuda)
