"""Recipes in the admin: seen, built, unshared, deleted; what is in one is changed on its page."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from catalog.models import Image, Recipe
from catalog.services.builds import request_build
from catalog.services.image_care import delete_image
from catalog.services.recipes import share_recipe
from ds01portal.admin_base import VerbAdmin
from ds01portal.models import Person


@admin.register(Recipe)
class RecipeAdmin(VerbAdmin):
    """Everybody's recipes."""

    list_display = ("name", "owner", "sharing", "versions", "last_number", "changed_at", "page")
    list_filter = ("sharing", ("deleted_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "owner__username", "description")
    list_select_related = ("owner",)
    actions = ("build_recipes", "unshare_recipes", "delete_images")
    fields = (
        "name",
        "owner",
        "description",
        "sharing",
        "shared_group",
        "forked_from",
        "last_number",
        "page",
        "content",
        "created_at",
        "changed_at",
        "deleted_at",
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Recipe]:
        kept = Count("images", filter=Q(images__retired_cause=Image.RetiredCause.NONE))
        rows: QuerySet[Recipe] = super().get_queryset(request)
        return rows.annotate(kept=kept)

    @admin.display(description=_("versions"), ordering="kept")
    def versions(self, recipe: Recipe) -> int:
        return int(getattr(recipe, "kept", 0))

    @admin.display(description=_("page"))
    def page(self, recipe: Recipe) -> str:
        if recipe.deleted_at is not None:
            return str(_("deleted"))
        return format_html('<a href="{}">{}</a>', recipe.get_absolute_url(), _("Open"))

    @admin.action(permissions=["manage"], description=_("Build"))
    def build_recipes(self, request: HttpRequest, queryset: QuerySet[Recipe]) -> Any:
        return self.for_each(request, queryset, self._build_one)

    @admin.action(permissions=["manage"], description=_("Stop sharing"))
    def unshare_recipes(self, request: HttpRequest, queryset: QuerySet[Recipe]) -> Any:
        return self.for_each(request, queryset, self._unshare_one)

    @admin.action(permissions=["manage"], description=_("Delete with all versions"))
    def delete_images(self, request: HttpRequest, queryset: QuerySet[Recipe]) -> Any:
        return self.for_each(request, queryset, self._delete_one)

    def _build_one(self, recipe: Recipe, actor: Person | None) -> str:
        build = request_build(recipe=recipe, actor=actor)
        return str(_("%(name)s will be built.") % {"name": build})

    def _unshare_one(self, recipe: Recipe, actor: Person | None) -> str:
        share_recipe(recipe=recipe, sharing=Recipe.Sharing.PRIVATE, actor=actor)
        return str(_("%(name)s is its owner's alone now.") % {"name": recipe})

    def _delete_one(self, recipe: Recipe, actor: Person | None) -> str:
        delete_image(recipe=recipe, actor=actor)
        return str(_("%(name)s is deleted.") % {"name": recipe})
