"""Shared folders in the admin: what an operator allowed, offered to whom.

Not in charge of: mounting; a launch checks the path once more.
"""

from __future__ import annotations

import os
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _

from ds01portal.admin_base import actor_of
from ds01portal.exceptions import FolderRefused
from ds01portal.services.events import record_event
from workspaces.models import SharedFolder
from workspaces.services.folders import check_shared_folder


class SharedFolderForm(forms.ModelForm[SharedFolder]):
    """A folder whose path must be below one of DS01_SHARED_ROOTS, links resolved."""

    class Meta:
        model = SharedFolder
        fields = ("name", "purpose", "path", "read_only", "groups", "enabled", "description")
        widgets = {"groups": forms.CheckboxSelectMultiple}

    def clean_path(self) -> str:
        path = str(self.cleaned_data["path"]).strip()
        if not path.startswith("/") or ".." in path.split("/"):
            raise forms.ValidationError(
                _("Write the whole path, such as /srv/data/imagenet, without “..”.")
            )
        folder = SharedFolder(name=str(self.data.get("name", "")), path=path)
        try:
            check_shared_folder(folder=folder)
        except FolderRefused as error:
            raise forms.ValidationError(explain_refusal(path)) from error
        return os.path.normpath(path)


def explain_refusal(path: str) -> str:
    """Return which rule a refused path breaks, for an admin who may know the host's paths."""
    roots = ", ".join(settings.DS01_SHARED_ROOTS)
    if not roots:
        return _("No folder may be shared yet: the operator names roots in DS01_SHARED_ROOTS.")
    if not os.path.isdir(path):
        return _("There is no folder %(path)s on this machine.") % {"path": path}
    words = {"path": path, "real": os.path.realpath(path), "roots": roots}
    return _("%(path)s (really %(real)s) is not below what may be shared: %(roots)s.") % words


@admin.register(SharedFolder)
class SharedFolderAdmin(admin.ModelAdmin[SharedFolder]):
    """Data sets and models that containers may mount."""

    form = SharedFolderForm
    list_display = ("name", "purpose", "path", "read_only", "enabled", "for_groups")
    list_filter = ("purpose", "enabled", "groups")
    search_fields = ("name", "path", "description")

    def get_queryset(self, request: HttpRequest) -> QuerySet[SharedFolder]:
        return super().get_queryset(request).prefetch_related("groups")

    @admin.display(description=_("for groups"))
    def for_groups(self, folder: SharedFolder) -> str:
        names = ", ".join(group.name for group in folder.groups.all())
        return names or _("everybody")

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if form.changed_data:
            self._record(request, form.instance, "change" if change else "create")

    def delete_model(self, request: HttpRequest, obj: SharedFolder) -> None:
        self._record(request, obj, "remove")
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[SharedFolder]) -> None:
        for folder in queryset:
            self._record(request, folder, "remove")
        super().delete_queryset(request, queryset)

    def _record(self, request: HttpRequest, folder: SharedFolder, verb: str) -> None:
        groups = list(folder.groups.values_list("name", flat=True))
        facts = {
            "path": folder.path,
            "read_only": folder.read_only,
            "enabled": folder.enabled,
            "groups": groups,
        }
        record_event(
            verb=verb,
            subject_kind="folder",
            subject_id=str(folder.pk),
            subject_label=folder.name,
            actor=actor_of(request),
            before=facts if verb == "remove" else {},
            after={} if verb == "remove" else facts,
        )
