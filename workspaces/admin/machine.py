"""The machine in the admin: one read-only page."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext_lazy as _

from ds01portal.admin_base import ReadOnlyAdmin
from workspaces.models import Machine


@admin.register(Machine)
class MachineAdmin(ReadOnlyAdmin):
    """What is known of the engine and of the GPU inventory."""

    fieldsets = (
        (
            _("Engine"),
            {"fields": ("reachable", "unreachable_since", "error", "engine_version")},
        ),
        (_("Host"), {"fields": ("cpus", "memory", "engine_root", "live_restore")}),
        (_("Learned by launches"), {"fields": ("takes_devices", "takes_memlock")}),
        (_("GPUs"), {"fields": ("gpu_source", "gpu_message", "driver_version")}),
        (_("Last"), {"fields": ("worker_seen_at", "reconciled_at", "outage_from", "outage_until")}),
    )

    @admin.display(description=_("memory"))
    def memory(self, machine: Machine) -> str:
        return filesizeformat(machine.memory_bytes)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Go to the one page there is."""
        return redirect("admin:workspaces_machine_change", Machine.current().pk)
