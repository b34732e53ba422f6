"""Images in Django admin: see, synchronise, retire, restore, pull ahead of time.

Rows are read-only here: the catalogue file decides what they say, and what is no longer wanted
is retired, not deleted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import CharField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Cast
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from import_export.admin import ImportExportModelAdmin
from import_export.formats import base_formats

from catalog.admin import pages
from catalog.models import Image
from catalog.resources import ImageExport, ImageImport
from catalog.services.images import refresh_engine_images, restore_image, retire_image
from catalog.services.pulls import request_pull
from ds01portal.exceptions import PortalError
from ds01portal.models import Operation, Person


class OnEngineFilter(admin.SimpleListFilter):
    """Images that are on this machine, or are not."""

    title = _("on this machine")
    parameter_name = "here"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Yes")), ("no", _("No"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Image]) -> QuerySet[Image]:
        if self.value() == "yes":
            return queryset.exclude(engine_image_id="")
        return queryset.filter(engine_image_id="") if self.value() == "no" else queryset


@admin.register(Image)
class ImageAdmin(ImportExportModelAdmin):  # type: ignore[misc]  # the base has no types
    """The catalogue for admins."""

    import_export_change_list_template = "catalog/admin_change_list.html"
    # The export form needs inline handlers, which the content security policy forbids: the
    # button gives the table at once, with the filters of the list.
    skip_export_form = True
    formats = (base_formats.CSV,)
    list_display = (
        "name",
        "architectures_text",
        "on_this_machine",
        "size",
        "pull",
        "status",
        "reference",
    )
    list_display_links = ("name",)
    list_filter = ("kind", "framework_slug", OnEngineFilter, "retired_cause")
    search_fields = ("framework", "version", "reference", "architectures")
    list_per_page = 200
    actions = ("pull_images", "retire_images", "restore_images", "look_at_engine")
    fields = (
        "name",
        "kind",
        "reference",
        "architectures_text",
        "visible",
        "status",
        "retired_at",
        "on_this_machine",
        "size",
        "last_seen_on_engine_at",
        "engine_image_id",
        "pull",
        "created_at",
        "updated_at",
    )
    readonly_fields = fields

    # Permissions: nothing is typed in here, verbs need the right to change images.

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_manage_permission(self, request: HttpRequest) -> bool:
        """Say whether the verbs on images are for this person."""
        return bool(request.user.has_perm("catalog.change_image"))

    def has_import_permission(self, request: HttpRequest) -> bool:
        return self.has_manage_permission(request)

    def has_export_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("catalog.view_image"))

    def get_import_resource_classes(self, request: HttpRequest) -> list[type]:
        return [ImageImport]

    def get_export_resource_classes(self, request: HttpRequest) -> list[type]:
        return [ImageExport]

    # What is shown.

    def get_queryset(self, request: HttpRequest) -> QuerySet[Image]:
        latest = Operation.objects.filter(
            kind="pull", subject_kind="image", subject_id=Cast(OuterRef("pk"), CharField())
        ).order_by("-created_at")
        rows: QuerySet[Image] = super().get_queryset(request)
        return rows.annotate(
            pull_state=Subquery(latest.values("state")[:1]),
            pull_percent=Subquery(latest.values("percent")[:1]),
            pull_error=Subquery(latest.values("error__message")[:1]),
        )

    @admin.display(description=_("image"), ordering="position")
    def name(self, image: Image) -> str:
        return str(image)

    @admin.display(description=_("architectures"), ordering="architectures")
    def architectures_text(self, image: Image) -> str:
        return image.architectures_text

    @admin.display(description=_("here"), boolean=True, ordering="engine_image_id")
    def on_this_machine(self, image: Image) -> bool:
        return image.is_on_engine

    @admin.display(description=_("size"), ordering="size_bytes", empty_value="–")
    def size(self, image: Image) -> str | None:
        return filesizeformat(image.size_bytes) if image.size_bytes is not None else None

    @admin.display(description=_("state"), ordering="retired_at")
    def status(self, image: Image) -> str:
        cause = str(Image.RetiredCause(image.retired_cause).label)
        return f"{cause}: {image.retired_reason}" if image.retired_reason else cause

    @admin.display(description=_("pull"), empty_value="–")
    def pull(self, image: Image) -> str | None:
        state = getattr(image, "pull_state", None)
        if state is None:
            return None
        label = str(Operation.State(state).label)
        percent = getattr(image, "pull_percent", None)
        error = getattr(image, "pull_error", None)
        if percent is not None:
            return f"{label}, {percent:.0f} %"
        return f"{label}: {error}" if error else label

    # Verbs.

    @admin.action(permissions=["manage"], description=_("Pull onto this machine"))
    def pull_images(self, request: HttpRequest, queryset: QuerySet[Image]) -> None:
        self._for_each(request, queryset, self._pull_one)

    @admin.action(permissions=["manage"], description=_("Retire: offer no longer"))
    def retire_images(self, request: HttpRequest, queryset: QuerySet[Image]) -> None:
        self._for_each(request, queryset, self._retire_one)

    @admin.action(permissions=["manage"], description=_("Restore: offer again"))
    def restore_images(self, request: HttpRequest, queryset: QuerySet[Image]) -> None:
        self._for_each(request, queryset, self._restore_one)

    @admin.action(permissions=["manage"], description=_("Look which images are on this machine"))
    def look_at_engine(self, request: HttpRequest, queryset: QuerySet[Image]) -> None:
        try:
            found = len(refresh_engine_images().present)
        except PortalError as error:
            self.message_user(request, f"{error.message} {error.hint}", messages.ERROR)
            return
        text = ngettext(
            "%(found)d image is on this machine.", "%(found)d images are on this machine.", found
        )
        self.message_user(request, text % {"found": found}, messages.SUCCESS)

    def _pull_one(self, image: Image, actor: Person) -> str:
        if image.is_on_engine:
            return str(_("%(image)s is on this machine already.") % {"image": image})
        request_pull(image=image, actor=actor)
        return str(_("%(image)s will be pulled; this list shows how far it is.") % {"image": image})

    def _retire_one(self, image: Image, actor: Person) -> str:
        retire_image(image=image, actor=actor)
        return str(_("%(image)s is no longer offered.") % {"image": image})

    def _restore_one(self, image: Image, actor: Person) -> str:
        restore_image(image=image, actor=actor)
        return str(_("%(image)s is offered again.") % {"image": image})

    def _for_each(
        self,
        request: HttpRequest,
        queryset: QuerySet[Image],
        verb: Callable[[Image, Person], str],
    ) -> None:
        assert isinstance(request.user, Person)  # nobody else gets in here
        for image in queryset:
            try:
                self.message_user(request, verb(image, request.user), messages.SUCCESS)
            except PortalError as error:
                text = f"{image}: {error.message} {error.hint}"
                self.message_user(request, text, messages.ERROR)

    # Pages of its own.

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("sync/", wrap(self.sync_page), name="catalog_image_sync"),
            path("allow-local/", wrap(self.allow_local_page), name="catalog_image_allow_local"),
            *super().get_urls(),
        ]

    def sync_page(self, request: HttpRequest) -> HttpResponse:
        """Show what a synchronisation would change, and do it."""
        return pages.sync_page(request, self)

    def allow_local_page(self, request: HttpRequest) -> HttpResponse:
        """Ask for an image of this machine and offer it."""
        return pages.allow_local_page(request, self)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {"can_manage": self.has_manage_permission(request), **(extra_context or {})}
        response: HttpResponse = super().changelist_view(request, context)
        return response
