"""The two admin pages about images that are not about one row: synchronise, allow a local one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from catalog.forms import AllowLocalImageForm
from catalog.models import CatalogueState
from catalog.services.hosts import read_host_architecture
from catalog.services.images import allow_local_image
from catalog.services.sync import sync_catalog
from ds01portal.exceptions import PortalError, RefusedError
from ds01portal.models import Person

if TYPE_CHECKING:
    from catalog.admin.images import ImageAdmin

CHANGELIST = "admin:catalog_image_changelist"


@require_http_methods(["GET", "HEAD", "POST"])
def sync_page(request: HttpRequest, model_admin: ImageAdmin) -> HttpResponse:
    """Show the dry run; a POST does it."""
    actor = _admin(request, model_admin)
    context = _context(request, model_admin, _("Synchronise the catalogue"))
    try:
        if request.method == "POST":
            report = sync_catalog(actor=actor, allow_shrink="allow_shrink" in request.POST)
            text = _(
                "Read %(source)s: %(added)d added, %(changed)d changed, %(restored)d restored, "
                "%(retired)d retired, %(unchanged)d unchanged, %(bad)d bad lines."
            )
            counts = {
                "source": report.source,
                "unchanged": report.unchanged,
                **{name: len(getattr(report, name)) for name in COUNTED},
            }
            messages.success(request, text % counts)
            return redirect(CHANGELIST)
        context["report"] = sync_catalog(dry_run=True)
    except RefusedError as error:
        context["error"] = error
    context["state"] = CatalogueState.objects.filter(pk=CatalogueState.SINGLETON).first()
    context["host"] = read_host_architecture()
    return render(request, "catalog/admin_sync.html", context)


COUNTED = ("added", "changed", "restored", "retired", "bad")


@require_http_methods(["GET", "HEAD", "POST"])
def allow_local_page(request: HttpRequest, model_admin: ImageAdmin) -> HttpResponse:
    """Ask for a reference; a valid POST offers the image."""
    actor = _admin(request, model_admin)
    form = AllowLocalImageForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            image = allow_local_image(actor=actor, **form.cleaned_data)
        except PortalError as error:
            form.add_error("reference", f"{error.message} {error.hint}")
        else:
            messages.success(request, _("%(image)s is offered now.") % {"image": image.reference})
            return redirect(CHANGELIST)
    context = _context(request, model_admin, _("Allow a local image"))
    return render(request, "catalog/admin_allow_local.html", {**context, "form": form})


def _admin(request: HttpRequest, model_admin: ImageAdmin) -> Person:
    if not isinstance(request.user, Person) or not model_admin.has_manage_permission(request):
        raise PermissionDenied
    return request.user


def _context(request: HttpRequest, model_admin: ImageAdmin, title: str) -> dict[str, Any]:
    return {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.model._meta,
        "title": title,
    }
