"""Who holds which device, and who held it: read-only, from what services wrote."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from ds01portal.admin_base import ReadOnlyAdmin
from ds01portal.models import Person
from workspaces.models import Assignment, ForeignUse


@admin.register(Assignment)
class AssignmentAdmin(ReadOnlyAdmin):
    """One device held by one container."""

    list_display = (
        "device",
        "container",
        "owner",
        "state",
        "reserved_at",
        "bound_at",
        "hold_until",
        "released_at",
        "release_reason",
    )
    list_filter = ("state",)
    list_select_related = ("device", "container__owner")
    list_per_page = 50
    show_full_result_count = False
    search_fields = ("device__uuid", "container__engine_name", "container__owner__username")

    @admin.display(description=_("owner"), ordering="container__owner__username", empty_value="–")
    def owner(self, assignment: Assignment) -> Person | None:
        return assignment.container.owner


@admin.register(ForeignUse)
class ForeignUseAdmin(ReadOnlyAdmin):
    """A device used by a container that the portal did not start."""

    list_display = ("device", "engine_name", "container", "seen_at")
    list_select_related = ("device", "container")
    search_fields = ("device__uuid", "engine_name")
    ordering = ("device", "engine_name")
