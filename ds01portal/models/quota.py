"""Quotas: one row per layer (defaults, group, person), each limit unset, unlimited or a number."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from ds01portal.exceptions import InvalidInput
from ds01portal.limits import (
    LIMITS,
    UNSET,
    Limit,
    Special,
    Unit,
    format_exactly,
    format_limit,
    from_stored,
    parse_limit,
    to_stored,
)


class LimitFormField(forms.CharField):
    """Text such as `32g`, `0.5h`, `unlimited`, or nothing to inherit."""

    def __init__(self, *, unit: Unit, **kwargs: Any) -> None:
        kwargs.setdefault("required", False)
        self.unit = unit
        super().__init__(**kwargs)

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            return parse_limit(text, self.unit, field=str(self.label or ""))
        except InvalidInput as error:
            raise ValidationError(f"{error.message} {error.hint}", code=error.code) from error

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, str) or value is None:
            return value
        return format_exactly(value, self.unit)

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            before = UNSET if initial is None else initial
            return bool(parse_limit(data or "", self.unit) != before)
        except InvalidInput:
            return True


class LimitField(models.FloatField[Any, Any]):
    """A limit in the database: NULL inherits, -1 is unlimited, else the number."""

    def __init__(self, *args: Any, unit: Unit = Unit.COUNT, **kwargs: Any) -> None:
        self.unit = unit
        kwargs.update(null=True, blank=True, default=UNSET)
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        for key in ("null", "blank", "default"):
            kwargs.pop(key, None)
        kwargs["unit"] = self.unit
        return name, path, args, kwargs

    def from_db_value(self, value: float | None, *_args: object) -> Limit:
        if value is not None and value == int(value) and self.unit not in (Unit.GPUEQ, Unit.CORES):
            return from_stored(int(value))
        return from_stored(value)

    def to_python(self, value: Any) -> Any:
        if isinstance(value, Special):
            return value
        if isinstance(value, str):
            return parse_limit(value, self.unit, field=self.name)
        return from_stored(value)

    def get_prep_value(self, value: Any) -> Any:
        return to_stored(self.to_python(value))

    def value_to_string(self, obj: models.Model) -> str:
        return format_limit(self.value_from_object(obj), self.unit) or "unset"

    def formfield(self, **kwargs: Any) -> Any:
        return LimitFormField(unit=self.unit, label=self.verbose_name, help_text=self.help_text)

    def validate(self, value: Any, model_instance: Any) -> None:
        if not isinstance(value, Special) and value < 0:
            raise ValidationError(_("A limit is never negative; write “unlimited”."))


class QuotaQuerySet(models.QuerySet["Quota"]):
    """Reads of quota layers."""

    def current(self, now: dt.datetime) -> QuotaQuerySet:
        """Return the layers that count at this time."""
        return self.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now))


class Quota(models.Model):
    """One layer of limits. `expires_at` is for personal overrides."""

    class Layer(models.TextChoices):
        DEFAULTS = "defaults", _("everybody")  # exactly one row
        GROUP = "group", _("group")  # one per group; the lowest priority number wins
        PERSON = "person", _("person")  # one per person, possibly until a date

    layer = models.CharField(_("layer"), max_length=10, choices=Layer)
    group = models.OneToOneField(
        Group, models.CASCADE, null=True, blank=True, related_name="quota", verbose_name=_("group")
    )
    person = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="quota",
        verbose_name=_("person"),
    )
    priority = models.PositiveSmallIntegerField(
        _("priority"), default=100, help_text=_("Of several groups the lowest number counts.")
    )
    reason = models.CharField(_("reason"), max_length=300, blank=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    policies = models.JSONField(_("idle thresholds"), default=dict, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    gpueq = LimitField(_("GPUs"), unit=Unit.GPUEQ)
    devices_per_container = LimitField(_("devices per container"))
    containers = LimitField(_("containers"))
    cpus = LimitField(_("CPU cores per container"), unit=Unit.CORES)
    memory = LimitField(_("memory per container"), unit=Unit.BYTES)
    swap = LimitField(_("swap per container"), unit=Unit.BYTES)
    shm = LimitField(_("shared memory per container"), unit=Unit.BYTES)
    pids = LimitField(_("processes per container"))
    total_cpus = LimitField(_("CPU cores in all"), unit=Unit.CORES)
    total_memory = LimitField(_("memory in all"), unit=Unit.BYTES)
    max_runtime = LimitField(_("longest run"), unit=Unit.SECONDS)
    idle_timeout = LimitField(_("idle limit"), unit=Unit.SECONDS)
    gpu_hold = LimitField(_("GPU hold after stop"), unit=Unit.SECONDS)
    container_hold = LimitField(_("container hold after stop"), unit=Unit.SECONDS)
    images = LimitField(_("own images"))
    disk = LimitField(_("disk"), unit=Unit.BYTES)

    objects = QuotaQuerySet.as_manager()

    class Meta:
        verbose_name = _("quota")
        verbose_name_plural = _("quotas")
        ordering = ["layer", "priority", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["layer"], condition=Q(layer="defaults"), name="quota_one_defaults"
            ),
            models.CheckConstraint(
                name="quota_layer_has_its_subject",
                condition=(
                    Q(layer="defaults", group=None, person=None)
                    | Q(layer="group", group__isnull=False, person=None)
                    | Q(layer="person", group=None, person__isnull=False)
                ),
            ),
        ]

    def __str__(self) -> str:
        if self.layer == self.Layer.GROUP:
            return str(_("group %s") % self.group)
        return str(self.person) if self.layer == self.Layer.PERSON else str(_("everybody"))

    def limits(self) -> dict[str, Limit]:
        """Return limit name → value of this layer."""
        return {spec.name: getattr(self, spec.name) for spec in LIMITS}
