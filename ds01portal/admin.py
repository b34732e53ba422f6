"""Admin of the ground floor: people, quotas, and the read-only record of what happened."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.db import models
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from ds01portal.admin_base import ReadOnlyAdmin, actor_of
from ds01portal.exceptions import RefusedError
from ds01portal.forms import PersonChangeForm, PersonCreationForm, QuotaForm
from ds01portal.limits import LIMITS, format_limit
from ds01portal.models import Event, Operation, Person, Quota
from ds01portal.services.operations import cancel_operation
from ds01portal.services.people import ensure_identity, follow_admin_form
from ds01portal.services.quotas import LimitChange, delete_limits, preview_limits, set_limits

PREVIEW_ROWS = 200  # a page shows so many; the count says how many there are
IDENTITY = ("uid", "gid", "linux_name", "system_login", "home")
MAIN_LIMITS = ("gpueq", "devices_per_container", "containers", "cpus", "memory", "max_runtime")


@admin.register(Person)
class PersonAdmin(UserAdmin[Person]):
    """People and their Linux identities. They are deactivated, never deleted."""

    form = PersonChangeForm
    add_form = PersonCreationForm
    list_display = ("username", "email", "group_names", "uid", "linux_name", "is_active")
    list_filter = ("groups", "is_active", "is_staff")
    search_fields = ("username", "email", "first_name", "last_name", "linux_name")
    readonly_fields = (*IDENTITY, "last_login", "date_joined")
    # Checkboxes: the two-list widget fails accessibility and needs inline styles.
    filter_horizontal = ()
    formfield_overrides = {
        models.ManyToManyField: {"widget": forms.CheckboxSelectMultiple},
    }
    actions = ("allocate_identity",)
    add_fieldsets = (
        (None, {"fields": ("username", "email", "usable_password", "password1", "password2")}),
    )
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_("Person"), {"fields": ("first_name", "last_name", "email")}),
        (_("Linux identity"), {"fields": IDENTITY}),
        (_("Rights"), {"fields": ("groups", "is_active", "is_staff", "is_superuser")}),
        (_("Dates"), {"fields": ("last_login", "date_joined")}),
    )

    @admin.display(description=_("groups"))
    def group_names(self, person: Person) -> str:
        return ", ".join(group.name for group in person.groups.all())

    def get_queryset(self, request: HttpRequest) -> QuerySet[Person]:
        return super().get_queryset(request).prefetch_related("groups")

    def has_delete_permission(self, request: HttpRequest, obj: Person | None = None) -> bool:
        return False

    def save_model(
        self, request: HttpRequest, obj: Person, form: ModelForm[Person], change: bool
    ) -> None:
        super().save_model(request, obj, form, change)
        if change:
            return
        try:
            ensure_identity(person=obj, actor=actor_of(request))
        except RefusedError as error:
            self.message_user(request, f"{error.message} {error.hint}", messages.ERROR)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        person = form.instance
        before = list(person.groups.values_list("name", flat=True))
        super().save_related(request, form, formsets, change)
        follow_admin_form(
            person=person,
            groups_before=before,
            rights_before={name: form.initial.get(name) for name in ("is_staff", "is_superuser")},
            changed=form.changed_data,
            created=not change,
            actor=actor_of(request),
        )

    @admin.action(description=_("Find or allocate the Linux identity"), permissions=["change"])
    def allocate_identity(self, request: HttpRequest, queryset: QuerySet[Person]) -> None:
        for person in queryset:
            try:
                ensure_identity(person=person, actor=actor_of(request))
            except RefusedError as error:
                text = f"{person.username}: {error.message} {error.hint}"
                self.message_user(request, text, messages.ERROR)
            else:
                text = _("%(person)s: uid %(uid)s, gid %(gid)s, Linux name %(name)s") % {
                    "person": person.username,
                    "uid": person.uid,
                    "gid": person.gid,
                    "name": person.linux_name,
                }
                self.message_user(request, text, messages.SUCCESS)


@admin.register(Quota)
class QuotaAdmin(admin.ModelAdmin[Quota]):
    """Layers of limits. Saving shows first what changes for whom."""

    form = QuotaForm
    list_display = ("name", "layer", "priority", *MAIN_LIMITS, "expires_at")
    list_display_links = ("name",)
    list_filter = ("layer", "group")
    list_select_related = ("group", "person")
    search_fields = ("person__username", "group__name", "reason")
    autocomplete_fields = ("person",)
    fieldsets = (
        (None, {"fields": ("group", "person", "priority", "reason", "expires_at", "version")}),
        (_("Limits"), {"fields": [spec.name for spec in LIMITS]}),
        (_("Idle thresholds"), {"fields": ("policies",)}),
    )

    @admin.display(description=_("whose"))
    def name(self, quota: Quota) -> str:
        return str(quota)

    def get_readonly_fields(
        self, request: HttpRequest, obj: Quota | None = None
    ) -> tuple[str, ...]:
        return ("group", "person") if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Quota | None = None) -> bool:
        if obj is not None and obj.layer == Quota.Layer.DEFAULTS:
            return False
        return super().has_delete_permission(request, obj)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show what would change before the form is saved."""
        if request.method == "POST" and "_confirmed" not in request.POST:
            preview = self._preview(request, object_id)
            if preview is not None:
                return preview
        return super().changeform_view(request, object_id, form_url, extra_context)

    def _preview(self, request: HttpRequest, object_id: str | None) -> HttpResponse | None:
        """Return the page to confirm, or None when the form has to be shown again anyway."""
        quota = self.get_object(request, object_id) if object_id else None
        allowed = (
            self.has_change_permission(request, quota)
            if object_id
            else self.has_add_permission(request)
        )
        if not allowed or (object_id and quota is None):
            return None
        form_class = self.get_form(request, quota, change=bool(object_id))
        form: Any = form_class(request.POST, request.FILES, instance=quota)
        if not form.is_valid():
            return None
        changes = preview_limits(subject=form.subject, values=form.values)
        context = {
            **self.admin_site.each_context(request),
            "title": _("What changes for whom"),
            "subtitle": str(form.instance),
            "opts": self.opts,
            "object_id": object_id,
            "people": len({change.person.pk for change in changes}),
            "count": len(changes),
            "rows": [describe_change(change) for change in changes[:PREVIEW_ROWS]],
            "posted": [
                (key, value)
                for key, values in request.POST.lists()
                if key != "csrfmiddlewaretoken"
                for value in values
            ],
        }
        return TemplateResponse(request, "ds01portal/admin_quota_preview.html", context)

    def save_model(self, request: HttpRequest, obj: Quota, form: Any, change: bool) -> None:
        quota = set_limits(
            subject=form.subject,
            values=form.values,
            actor=actor_of(request),
            reason=obj.reason,
            expires_at=obj.expires_at,
            priority=obj.priority,
            policies=obj.policies,
        )
        obj.pk = quota.pk

    def delete_model(self, request: HttpRequest, obj: Quota) -> None:
        delete_limits(quota=obj, actor=actor_of(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Quota]) -> None:
        for quota in queryset:
            delete_limits(quota=quota, actor=actor_of(request))


def describe_change(change: LimitChange) -> dict[str, Any]:
    """Return one row of the preview."""
    unit = change.spec.unit
    return {
        "person": change.person,
        "label": change.spec.label,
        "before": format_limit(change.before, unit) or _("not set"),
        "after": format_limit(change.after, unit) or _("not set"),
    }


class SubjectKindFilter(admin.SimpleListFilter):
    """Kinds by name: asking the table for them would read all of it."""

    title = _("kind")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        kinds = ("container", "device", "folder", "image", "machine", "person", "quota")
        return [(kind, _(kind)) for kind in kinds]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(subject_kind=self.value()) if self.value() else queryset


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """History, as it was written."""

    list_display = ("created_at", "verb", "subject_kind", "subject_label", "owner", "actor", "why")
    list_filter = (SubjectKindFilter,)
    list_select_related = ("owner", "actor")
    search_fields = ("=subject_id", "^subject_label", "=owner__username", "=actor__username")
    show_full_result_count = False
    ordering = ("-id",)

    @admin.display(description=_("reason"))
    def why(self, event: Event) -> str:
        return event.reason[:120]


@admin.register(Operation)
class OperationAdmin(ReadOnlyAdmin):
    """What was asked for and how far it is; a forced way out is to cancel."""

    list_display = (
        "created_at",
        "kind",
        "subject_label",
        "owner",
        "state",
        "phase",
        "attempt",
        "worker",
        "cancel_requested",
    )
    list_filter = ("state",)
    list_select_related = ("owner", "actor")
    search_fields = ("subject_label", "=subject_id", "=owner__username")
    show_full_result_count = False
    ordering = ("-created_at",)
    actions = ("cancel_operations",)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Who may change operations may cancel them, and nothing else."""
        return request.user.has_perm("ds01portal.change_operation")

    @admin.action(description=_("Cancel"), permissions=["cancel"])
    def cancel_operations(self, request: HttpRequest, queryset: QuerySet[Operation]) -> None:
        for operation in queryset:
            if cancel_operation(operation=operation, actor=actor_of(request)):
                text = _("%s: asked to cancel.") % operation
                self.message_user(request, text, messages.SUCCESS)
            else:
                text = _("%s: has ended already.") % operation
                self.message_user(request, text, messages.WARNING)
