"""Lists of packages that recipes offer by name: Jupyter, data science, use cases, the base."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class PackageList(models.Model):
    """One list, edited by admins. `packages` has one requirement a line."""

    class Kind(models.TextChoices):
        JUPYTER = "jupyter", _("Jupyter")
        DATA_SCIENCE = "data_science", _("data science")
        USE_CASE = "use_case", _("use case")
        BASE = "base", _("in every base")  # recognised and left out of what is installed

    kind = models.CharField(_("kind"), max_length=12, choices=Kind)
    key = models.SlugField(_("key"), max_length=20)
    label = models.CharField(_("name"), max_length=60)
    packages = models.TextField(_("packages"), blank=True, help_text=_("One a line."))
    estimate_bytes = models.PositiveBigIntegerField(
        _("estimated size"), default=0, help_text=_("Bytes; for the estimate beside the form.")
    )
    position = models.PositiveSmallIntegerField(_("position"), default=0)
    active = models.BooleanField(_("offered"), default=True)

    class Meta:
        verbose_name = _("package list")
        verbose_name_plural = _("package lists")
        ordering = ["kind", "position", "key"]
        constraints = [
            models.UniqueConstraint(fields=["kind", "key"], name="package_list_one_key"),
            models.UniqueConstraint(
                fields=["kind"],
                condition=~Q(kind="use_case"),
                name="package_list_several_use_cases_only",
            ),
        ]

    def __str__(self) -> str:
        return self.label

    @property
    def names(self) -> tuple[str, ...]:
        """Return the requirements, without comments and empty lines."""
        lines = (line.split("#", 1)[0].strip() for line in self.packages.splitlines())
        return tuple(line for line in lines if line)
