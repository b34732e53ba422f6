"""The build policy in the admin: one page, sizes and times as people write them."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext_lazy as _

from catalog.models import BuildPolicy
from ds01portal.admin_base import actor_of
from ds01portal.exceptions import InvalidInput
from ds01portal.limits import Special, Unit, format_exactly, parse_limit
from ds01portal.services.events import record_event

MIB = 1024**2
# The least that makes sense: with less, no step of a build could even begin.
LEAST = {"memory_bytes": 64 * MIB, "disk_bytes": 16 * MIB}


class AmountField(forms.CharField):
    """A size such as `8 GB` or a duration such as `45m`, kept as bytes or seconds."""

    def __init__(self, *, unit: Unit, least: int = 0, **kwargs: Any) -> None:
        self.unit, self.least = unit, least
        super().__init__(**kwargs)

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            amount = parse_limit(text, self.unit, field=str(self.label or ""))
        except InvalidInput as error:
            raise forms.ValidationError(f"{error.message} {error.hint}") from error
        if isinstance(amount, Special):
            raise forms.ValidationError(_("A number is needed here."))
        if amount < self.least:
            raise forms.ValidationError(
                _("At least %(least)s.") % {"least": format_exactly(self.least, self.unit)}
            )
        return int(amount)

    def prepare_value(self, value: Any) -> Any:
        return format_exactly(value, self.unit) if isinstance(value, int) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(parse_limit(data or "", self.unit) != initial)
        except InvalidInput:
            return True


class BuildPolicyForm(forms.ModelForm[BuildPolicy]):
    """The policy; patterns that no name could match are refused here, not at a build."""

    class Meta:
        model = BuildPolicy
        fields = "__all__"  # noqa: DJ007 - every rule is the admin's

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, unit in (
            ("memory_bytes", Unit.BYTES),
            ("disk_bytes", Unit.BYTES),
            ("log_bytes", Unit.BYTES),
            ("free_disk_floor_bytes", Unit.BYTES),
            ("timeout_seconds", Unit.SECONDS),
        ):
            plain = self.fields[name]
            least = LEAST.get(name, 0) or {"log_bytes": 16_384, "timeout_seconds": 10}.get(name, 0)
            self.fields[name] = AmountField(
                unit=unit, least=least, label=plain.label, help_text=plain.help_text
            )

    def clean_apt_pattern(self) -> str:
        pattern = str(self.cleaned_data["apt_pattern"])
        try:
            re.compile(pattern)
        except re.error as error:
            raise forms.ValidationError(
                _("This is not a regular expression: %(why)s.") % {"why": error}
            ) from error
        return pattern

    def clean_registries(self) -> str:
        lines = [line.strip() for line in str(self.cleaned_data["registries"]).splitlines()]
        for line in lines:
            if line in ("*", "*/*") or any(sign in line for sign in " ,\"'"):
                raise forms.ValidationError(
                    _("“%(line)s” is too wide or no pattern; write such as nvcr.io/nvidia/*.")
                    % {"line": line}
                )
        return "\n".join(line for line in lines if line)


@admin.register(BuildPolicy)
class BuildPolicyAdmin(admin.ModelAdmin[BuildPolicy]):
    """What recipes may ask for, and how much of the machine builds may take."""

    form = BuildPolicyForm
    fieldsets = (
        (
            _("What recipes may ask for"),
            {
                "fields": (
                    "registries",
                    "apt_pattern",
                    "allow_urls",
                    "allow_index_options",
                    "allow_editable",
                    "post_install",
                    "host_network",
                    "snapshots",
                )
            },
        ),
        (
            _("What a build may take"),
            {
                "fields": (
                    "builds_per_person",
                    "builds_in_all",
                    "cpus",
                    "memory_bytes",
                    "pids",
                    "timeout_seconds",
                    "disk_bytes",
                    "log_bytes",
                )
            },
        ),
        (
            _("What is kept"),
            {
                "fields": (
                    "versions_kept",
                    "unused_days",
                    "notice_days",
                    "free_disk_floor_bytes",
                    "disk_alarm_percent",
                )
            },
        ),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Go to the one page there is."""
        policy, _created = BuildPolicy.objects.get_or_create(pk=BuildPolicy.SINGLETON)
        return redirect("admin:catalog_buildpolicy_change", policy.pk)

    def save_model(self, request: HttpRequest, obj: BuildPolicy, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        changed = list(form.changed_data)
        if changed:
            record_event(
                verb="change",
                subject_kind="build policy",
                subject_id=str(obj.pk),
                subject_label=str(obj),
                actor=actor_of(request),
                before={name: form.initial.get(name) for name in changed},
                after={name: getattr(obj, name) for name in changed},
            )
