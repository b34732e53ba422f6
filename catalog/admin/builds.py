"""Builds in the admin: seen, never edited; cancelled here or on their owner's page."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from catalog.models import Build
from catalog.services.builds import cancel_build
from ds01portal.admin_base import NOTHING, VerbAdmin
from ds01portal.models import Person


@admin.register(Build)
class BuildAdmin(VerbAdmin):
    """Everybody's builds; the log is on the build's own page."""

    list_display = ("name", "owner", "state", "base_reference", "created_at", "seconds", "why")
    list_filter = ("state",)
    search_fields = ("recipe__name", "recipe__owner__username", "base_reference")
    list_select_related = ("recipe__owner",)
    actions = ("cancel_builds",)
    fields = (
        "name",
        "owner",
        "state",
        "why",
        "page",
        "base_reference",
        "fresh",
        "created_at",
        "started_at",
        "finished_at",
        "dockerfile",
    )
    readonly_fields = fields

    @admin.display(description=_("image"), ordering="recipe__name")
    def name(self, build: Build) -> str:
        return str(build)

    @admin.display(description=_("owner"), ordering="recipe__owner__username")
    def owner(self, build: Build) -> str:
        return build.recipe.owner.username

    @admin.display(description=_("seconds"), empty_value=NOTHING)
    def seconds(self, build: Build) -> int | None:
        if build.started_at is None or build.finished_at is None:
            return None
        return round((build.finished_at - build.started_at).total_seconds())

    @admin.display(description=_("reason"), empty_value=NOTHING)
    def why(self, build: Build) -> str | None:
        return str(build.error["message"]) if build.error else None

    @admin.display(description=_("log"))
    def page(self, build: Build) -> str:
        return format_html('<a href="{}">{}</a>', build.get_absolute_url(), _("Open the build"))

    @admin.action(permissions=["manage"], description=_("Cancel"))
    def cancel_builds(self, request: HttpRequest, queryset: QuerySet[Build]) -> Any:
        rows = queryset.select_related("recipe__owner", "operation")
        return self.for_each(request, rows, self._cancel_one)

    def _cancel_one(self, build: Build, actor: Person | None) -> str:
        if cancel_build(build=build, actor=actor):
            return str(_("The build of %(name)s is being cancelled.") % {"name": build})
        return str(_("The build of %(name)s has ended already.") % {"name": build})
