"""What is installed in an image, read from it once per image id."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class ImagePackages(models.Model):
    """Packages by name and version. `pip` has PEP 503 names; `apt` those of dpkg."""

    engine_image_id = models.CharField(max_length=80, primary_key=True)
    pip = models.JSONField(default=dict)
    apt = models.JSONField(default=dict)
    read_at = models.DateTimeField()

    class Meta:
        verbose_name = _("packages of an image")
        verbose_name_plural = _("packages of images")

    def __str__(self) -> str:
        return self.engine_image_id[:19]
