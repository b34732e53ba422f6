"""Devices in the admin: facts from the inventory, and drain."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext_lazy as _

from ds01portal.admin_base import NOTHING, VerbAdmin, actor_of
from ds01portal.exceptions import PortalError, RefusedError
from ds01portal.models import Person
from workspaces.models import Assignment, Device
from workspaces.services.devices import drain_device, sync_devices, undrain_device

CHANGELIST = "admin:workspaces_device_changelist"


class DrainForm(forms.Form):
    """Why a device is not to be given out."""

    reason = forms.CharField(
        label=_("Reason"), max_length=200, help_text=_("People read it on the machine page.")
    )


@admin.register(Device)
class DeviceAdmin(VerbAdmin):
    """GPUs and MIG instances, as the inventory shows them."""

    change_list_template = "workspaces/admin_device_list.html"
    list_display = ("label", "model", "profile", "memory", "share", "status", "holder", "seen_at")
    list_display_links = ("label",)
    list_filter = ("kind", "drained", "usable", "present", "simulated")
    search_fields = ("uuid", "model", "profile")
    actions = ("drain_devices", "undrain_devices")
    fields = (
        "uuid",
        "label",
        "kind",
        "model",
        "profile",
        "memory",
        "share",
        "parent",
        "status",
        "holder",
        "simulated",
        "seen_at",
    )

    @admin.display(description=_("GPU-equivalents"), ordering="gpueq")
    def share(self, device: Device) -> str:
        """Return 0.43 for three of seven slices."""
        return f"{device.gpueq:.2f}".rstrip("0").rstrip(".")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Device]:
        live = Assignment.objects.live().select_related("container__owner")
        rows: QuerySet[Device] = super().get_queryset(request)
        return rows.prefetch_related(
            Prefetch("assignments", live, to_attr="live_assignments"), "foreign_uses"
        )

    @admin.display(description=_("device"), ordering="index")
    def label(self, device: Device) -> str:
        return device.label

    @admin.display(description=_("memory"), ordering="memory_bytes")
    def memory(self, device: Device) -> str:
        return filesizeformat(device.memory_bytes)

    @admin.display(description=_("state"))
    def status(self, device: Device) -> str:
        if not device.present:
            return str(_("gone"))
        if not device.usable:
            return str(_("not usable: %s") % device.unusable_reason)
        if device.drained:
            return str(_("drained: %s") % device.drain_reason)
        return str(_("free") if self.holder(device) == NOTHING else _("in use"))

    @admin.display(description=_("held by"))
    def holder(self, device: Device) -> str:
        names = [str(row.container) for row in getattr(device, "live_assignments", ())]
        names += [str(_("%s (not ours)") % use.engine_name) for use in device.foreign_uses.all()]
        return ", ".join(names) or NOTHING

    # Verbs.

    @admin.action(permissions=["manage"], description=_("Drain: give out no longer"))
    def drain_devices(self, request: HttpRequest, queryset: QuerySet[Device]) -> Any:
        form = DrainForm(request.POST if "reason" in request.POST else None)
        if not form.is_valid():
            context = self.page_context(
                request, _("Drain devices"), form=form, devices=queryset, action="drain_devices"
            )
            return TemplateResponse(request, "workspaces/admin_drain.html", context)
        reason = form.cleaned_data["reason"]

        def drain_one(device: Device, actor: Person | None) -> str:
            if device.drained:
                raise RefusedError(str(_("it is drained already.")))
            drain_device(device=device, reason=reason, actor=actor)
            text = _("%(device)s is given out no longer; who holds it keeps it.")
            return str(text % {"device": device})

        return self.for_each(request, queryset, drain_one)

    @admin.action(permissions=["manage"], description=_("Undrain: give out again"))
    def undrain_devices(self, request: HttpRequest, queryset: QuerySet[Device]) -> Any:
        def undrain_one(device: Device, actor: Person | None) -> str:
            if not device.drained:
                raise RefusedError(str(_("it is not drained.")))
            undrain_device(device=device, actor=actor)
            return str(_("%(device)s is given out again.") % {"device": device})

        return self.for_each(request, queryset, undrain_one)

    # The page that reads the inventory.

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.sync_page)
        return [path("sync/", view, name="workspaces_device_sync"), *super().get_urls()]

    def sync_page(self, request: HttpRequest) -> HttpResponse:
        """Show what the inventory would change; a POST does it."""
        if not self.has_manage_permission(request):
            raise PermissionDenied
        try:
            if request.method == "POST":
                done = sync_devices(actor=actor_of(request))
                counts = {
                    "added": len(done.added),
                    "changed": len(done.changed),
                    "gone": len(done.vanished),
                }
                text = _("%(added)d added, %(changed)d changed, %(gone)d gone.") % counts
                self.message_user(request, text, messages.SUCCESS)
                return redirect(CHANGELIST)
            context = self.page_context(request, _("Read the GPUs"))
            context["report"] = sync_devices(dry_run=True)
        except PortalError as error:
            self.message_user(request, f"{error.message} {error.hint}", messages.ERROR)
            return redirect(CHANGELIST)
        return TemplateResponse(request, "workspaces/admin_sync_gpus.html", context)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {"can_manage": self.has_manage_permission(request), **(extra_context or {})}
        return super().changelist_view(request, context)
