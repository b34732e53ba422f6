"""What admin pages share: rows that are only looked at, verbs on them, one message per object."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from ds01portal.exceptions import PortalError
from ds01portal.models import Person

NOTHING = "–"
BACK = "_back"  # posted by an object's own page, so that its verbs lead back to it


def actor_of(request: HttpRequest) -> Person | None:
    """Return who is signed in."""
    return request.user if isinstance(request.user, Person) else None


class ReadOnlyAdmin(admin.ModelAdmin[Any]):
    """Rows that are written by services and only looked at here."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class VerbAdmin(ReadOnlyAdmin):
    """Rows that are not edited; verbs on them need the right to change them."""

    list_per_page = 50
    show_full_result_count = False

    def has_manage_permission(self, request: HttpRequest) -> bool:
        """Say whether the verbs are for this person."""
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        """Go to the events: they tell what happened, whoever did it."""
        events = reverse("admin:ds01portal_event_changelist")
        return redirect(f"{events}?{urlencode({'q': unquote(object_id)})}")

    def for_each(
        self,
        request: HttpRequest,
        rows: Iterable[Any],
        verb: Callable[[Any, Person | None], str],
    ) -> HttpResponse | None:
        """Do the verb on every row and say of each what came of it."""
        last: Any = None
        for last in rows:
            try:
                self.message_user(request, verb(last, actor_of(request)), messages.SUCCESS)
            except PortalError as error:
                text = f"{last}: {error.message} {error.hint}".strip()
                self.message_user(request, text, messages.ERROR)
        return self.go_back(request, last)

    def go_back(self, request: HttpRequest, row: Any) -> HttpResponse | None:
        """Return the way to the object's page when the verb was asked for there."""
        if row is None or BACK not in request.POST:
            return None
        return redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", row.pk)

    def page_context(self, request: HttpRequest, title: Any, **more: Any) -> dict[str, Any]:
        """Return what an own page of this admin needs."""
        return {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": title,
            "back": BACK in request.POST,
            **more,
        }
