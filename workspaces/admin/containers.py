"""Containers in the admin: seen, never edited; the same verbs as on their owner's page.

Not in charge of: what a verb does and when it is refused; the services say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.contrib import admin, messages
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _

from ds01portal.admin_base import NOTHING, VerbAdmin
from ds01portal.limits import format_bytes
from ds01portal.models import Person
from workspaces.models import Assignment, Container
from workspaces.services.containers import VERBS
from workspaces.services.force import (
    IDLE_STATES,
    force_settle_container,
    release_container_devices,
)

State = Container.State
MOST_AT_ONCE = 200  # a page to confirm lists every one by name
# verb → the admin action that does it, and its button
BUTTONS = {
    "start": ("start_containers", _("Start")),
    "stop": ("stop_containers", _("Stop")),
    "restart": ("restart_containers", _("Restart")),
    "pause": ("pause_containers", _("Pause")),
    "resume": ("resume_containers", _("Resume")),
    "release": ("release_gpus", _("Release GPU")),
    "force": ("force_end", _("End by force…")),
    "remove": ("remove_containers", _("Remove…")),
}


class StateFilter(admin.SimpleListFilter):
    """By state; what is removed is history and not shown unless asked for."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("all", _("all, removed ones too")), *((one.value, one.value) for one in State)]

    def choices(self, changelist: Any) -> Iterator[Any]:
        yield {
            "selected": self.value() is None,
            "query_string": changelist.get_query_string(remove=[self.parameter_name]),
            "display": _("not removed"),
        }
        for value, title in self.lookup_choices:
            yield {
                "selected": self.value() == value,
                "query_string": changelist.get_query_string({self.parameter_name: value}),
                "display": title,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Container]) -> QuerySet[Container]:
        if self.value() is None:
            return queryset.exclude(state__in=Container.FINAL_STATES)
        return queryset if self.value() == "all" else queryset.filter(state=self.value())


@admin.register(Container)
class ContainerAdmin(VerbAdmin):
    """Everybody's containers."""

    change_form_template = "workspaces/admin_container.html"
    list_per_page = 50
    list_display = ("name", "owner", "status", "image_name", "devices", "since", "origin")
    list_display_links = ("name",)
    list_filter = (StateFilter, "origin", "simulated")
    list_select_related = ("owner",)
    search_fields = ("name", "engine_name", "owner__username", "engine_id", "image_reference")
    actions = tuple(action for action, _label in BUTTONS.values())
    fieldsets = (
        (None, {"fields": ("name", "owner", "status", "since", "why")}),
        (_("What it is"), {"fields": ("image_name", "image_reference", "origin", "size")}),
        (_("GPUs"), {"fields": ("devices", "devices_requested", "simulated")}),
        (_("Folders"), {"fields": ("workspace_path", "data", "models_folder")}),
        (_("On the engine"), {"fields": ("engine_name", "engine_id", "exit_code")}),
        (_("Times"), {"fields": ("created_at", "started_at", "stopped_at", "removed_at")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Container]:
        live = Assignment.objects.live().select_related("device")
        rows: QuerySet[Container] = super().get_queryset(request)
        return rows.prefetch_related(Prefetch("assignments", live, to_attr="live_assignments"))

    # What is shown.

    @admin.display(description=_("state"), ordering="state")
    def status(self, container: Container) -> str:
        return container.get_state_display()

    @admin.display(description=_("framework"), ordering="framework")
    def image_name(self, container: Container) -> str:
        return container.image_label

    @admin.display(description=_("GPUs"))
    def devices(self, container: Container) -> str:
        held = [row.device for row in getattr(container, "live_assignments", ())]
        held.sort(key=lambda device: device.order)
        return ", ".join(device.label for device in held) or NOTHING

    @admin.display(description=_("since"))
    def since(self, container: Container) -> str:
        moment = container.removed_at or container.created_at
        if container.state in (State.RUNNING, State.PAUSED):
            moment = container.started_at or moment
        elif container.state == State.STOPPED:
            moment = container.stopped_at or moment
        return date_format(timezone.localtime(moment), "SHORT_DATETIME_FORMAT")

    @admin.display(description=_("why"))
    def why(self, container: Container) -> str:
        return container.error.get("message") or container.stop_reason or NOTHING

    @admin.display(description=_("size"))
    def size(self, container: Container) -> str:
        cpus, memory = container.spec.get("cpus", 0), int(container.spec.get("memory", 0))
        return _("%(cpus)g cores, %(memory)s") % {"cpus": cpus, "memory": format_bytes(memory)}

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        container = self.get_object(request, object_id)
        offered = (
            offered_buttons(container)
            if isinstance(container, Container) and self.has_manage_permission(request)
            else []
        )
        context = {"verbs": offered, **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)

    # Verbs.

    @admin.action(permissions=["manage"], description=_("Start"))
    def start_containers(self, request: HttpRequest, queryset: QuerySet[Container]) -> Any:
        return self.for_each(request, queryset, ask("start"))

    @admin.action(permissions=["manage"], description=_("Stop"))
    def stop_containers(self, request: HttpRequest, queryset: QuerySet[Container]) -> Any:
        return self.for_each(request, queryset, ask("stop"))

    @admin.action(permissions=["manage"], description=_("Restart"))
    def restart_containers(self, request: HttpRequest, queryset: QuerySet[Container]) -> Any:
        return self.for_each(request, queryset, ask("restart"))

    @admin.action(permissions=["manage"], description=_("Pause"))
    def pause_containers(self, request: HttpRequest, queryset: QuerySet[Container]) -> Any:
        return self.for_each(request, queryset, ask("pause"))

    @admin.action(permissions=["manage"], description=_("Resume"))
    def resume_containers(self, request: HttpRequest, queryset: QuerySet[Container]) -> Any:
        return self.for_each(request, queryset, ask("resume"))

    @admin.action(permissions=["manage"], description=_("Release the GPU of stopped ones"))
    def release_gpus(self, request: HttpRequest, queryset: QuerySet[Container]) -> Any:
        return self.for_each(request, queryset, release_one)

    @admin.action(permissions=["manage"], description=_("End by force what hangs"))
    def force_end(self, request: HttpRequest, queryset: QuerySet[Container]) -> Any:
        title = _("End by force?")
        return self._confirm(request, queryset, "force", title) or self.for_each(
            request, queryset, force_one
        )

    @admin.action(permissions=["manage"], description=_("Remove"))
    def remove_containers(self, request: HttpRequest, queryset: QuerySet[Container]) -> Any:
        title = _("Remove these containers?")
        return self._confirm(request, queryset, "remove", title) or self.for_each(
            request, queryset, ask("remove")
        )

    def _confirm(
        self, request: HttpRequest, queryset: QuerySet[Container], verb: str, title: Any
    ) -> HttpResponse | None:
        """Return the page that says what goes and what stays; None when it was agreed to."""
        if "confirmed" in request.POST:
            return None
        rows = list(queryset[: MOST_AT_ONCE + 1])
        if len(rows) > MOST_AT_ONCE:
            text = _("At most %(count)d at once: choose fewer.") % {"count": MOST_AT_ONCE}
            self.message_user(request, text, messages.ERROR)
            return redirect(request.get_full_path())
        possible = [row for row in rows if verb in offered_verbs(row)]
        refused = [row for row in rows if row not in possible]
        action, _label = BUTTONS[verb]
        context = self.page_context(
            request, title, verb=verb, action=action, containers=possible, refused=refused
        )
        return TemplateResponse(request, "workspaces/admin_confirm.html", context)


def offered_verbs(container: Container) -> list[str]:
    """Return the verbs that are possible now, the forced ones included."""
    verbs = list(container.offered_verbs())
    held = getattr(container, "live_assignments", ())  # loaded with the admin's rows
    if container.state in IDLE_STATES and held:
        verbs.append("release")
    if container.is_busy:
        verbs.append("force")
    return verbs


def offered_buttons(container: Container) -> list[dict[str, Any]]:
    """Return action and label of the buttons on the object's page."""
    verbs = offered_verbs(container)
    return [
        {"action": action, "label": label}
        for verb, (action, label) in BUTTONS.items()
        if verb in verbs
    ]


def ask(verb: str) -> Callable[[Container, Person | None], str]:
    """Return what asks for a verb and says that the worker carries it out."""

    def ask_one(container: Container, actor: Person | None) -> str:
        VERBS[verb](container=container, actor=actor)
        words = {"container": container, "state": container.get_state_display().lower()}
        return str(_("%(container)s: %(state)s.") % words)

    return ask_one


def release_one(container: Container, actor: Person | None) -> str:
    uuids = release_container_devices(container=container, actor=actor)
    words = {"container": container, "devices": ", ".join(uuids)}
    return str(_("%(container)s: %(devices)s is free again.") % words)


def force_one(container: Container, actor: Person | None) -> str:
    settled = force_settle_container(container=container, actor=actor)
    words = {"container": settled, "state": settled.get_state_display().lower()}
    return str(_("%(container)s: ended by force; it is %(state)s now.") % words)
