"""Package lists in the admin: what recipes offer by name."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext_lazy as _

from catalog.models import PackageList
from catalog.recipes.requirements import RequirementsPolicy, parse_requirements
from ds01portal.admin_base import actor_of
from ds01portal.services.events import record_event


class PackageListForm(forms.ModelForm[PackageList]):
    """A list whose every line must be a requirement that a build can install."""

    class Meta:
        model = PackageList
        fields = ("kind", "key", "label", "packages", "estimate_bytes", "position", "active")
        widgets = {"packages": forms.Textarea(attrs={"rows": 12, "spellcheck": "false"})}

    def clean_packages(self) -> str:
        text = str(self.cleaned_data["packages"]).replace("\r\n", "\n")
        # A list is the site's own: what people may not write, an admin may not by accident either.
        problems = parse_requirements(text, policy=RequirementsPolicy()).problems
        if problems:
            raise forms.ValidationError([str(problem) for problem in problems])
        return text.strip()


@admin.register(PackageList)
class PackageListAdmin(admin.ModelAdmin[PackageList]):
    """Jupyter, data science, use cases, and what every base has."""

    form = PackageListForm
    list_display = ("label", "kind", "key", "summary", "estimate", "position", "active")
    list_filter = ("kind", "active")
    search_fields = ("label", "key", "packages")

    @admin.display(description=_("packages"))
    def summary(self, row: PackageList) -> str:
        return ", ".join(row.names[:8]) + (" …" if len(row.names) > 8 else "")

    @admin.display(description=_("estimated size"), ordering="estimate_bytes")
    def estimate(self, row: PackageList) -> str:
        return filesizeformat(row.estimate_bytes)

    def save_model(self, request: HttpRequest, obj: PackageList, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if form.changed_data:
            self._record(request, obj, "change" if change else "create")

    def delete_model(self, request: HttpRequest, obj: PackageList) -> None:
        self._record(request, obj, "remove")
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[PackageList]) -> None:
        for row in queryset:
            self._record(request, row, "remove")
        super().delete_queryset(request, queryset)

    def _record(self, request: HttpRequest, row: PackageList, verb: str) -> None:
        record_event(
            verb=verb,
            subject_kind="package list",
            subject_id=str(row.pk),
            subject_label=str(row),
            actor=actor_of(request),
            after={} if verb == "remove" else {"packages": list(row.names), "active": row.active},
        )
