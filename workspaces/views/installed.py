"""What did I install? Shown, added to a recipe; and keeping a container as an image."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import HttpResponseClientRedirect

from catalog.models import BuildPolicy, Recipe
from catalog.recipes.names import suggest_image_name
from catalog.services.recipes import change_recipe, create_recipe
from ds01portal.exceptions import RefusedError
from ds01portal.models import Person
from workspaces.services.installed import Difference, Offer, find_installed, offer_addition
from workspaces.services.installed import own_recipe as find_own_recipe
from workspaces.services.snapshots import find_secrets, snapshot_container
from workspaces.views.cards import Card
from workspaces.views.common import is_fragment, members_only, signed_in
from workspaces.views.detail import find_card, page_context


@require_safe
@members_only
@never_cache
def container_installed(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Show what differs from the image; it is asked inside, which takes a few seconds."""
    card = find_card(request, pk)
    if is_fragment(request) and not _wants_part(request):
        # Only the page's head is fetched again: nothing is asked inside for that.
        return _show(request, card, Difference(read_at=timezone.now()))
    return _show(request, card, find_installed(container=card.container))


@require_POST
@members_only
def container_installed_add(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Put what was chosen into the recipe of the image, or into a new one."""
    card = find_card(request, pk)
    person = signed_in(request)
    found = find_installed(container=card.container)  # what the form shows may be old
    chosen = {"pip": request.POST.getlist("pip"), "apt": request.POST.getlist("apt")}
    name = request.POST.get("name", "").strip()
    try:
        offer = offer_addition(container=card.container, person=person, difference=found, **chosen)
        recipe = _keep(offer, person, name)
    except RefusedError as error:
        ticked = {f"{manager}:{one}" for manager, names in chosen.items() for one in names}
        return _show(request, card, found, refusal=error, ticked=ticked, name=name)
    count = len(offer.added)
    text = ngettext(
        "%(count)d package was added to %(name)s. Build it to have it.",
        "%(count)d packages were added to %(name)s. Build it to have them.",
        count,
    )
    messages.success(request, text % {"count": count, "name": recipe.name})
    return _go(request, recipe.get_absolute_url())


def _keep(offer: Offer, person: Person, name: str) -> Recipe:
    if offer.recipe is not None:
        return change_recipe(recipe=offer.recipe, actor=person, content=offer.content)
    return create_recipe(owner=person, name=name or offer.name, content=offer.content, actor=person)


@require_POST
@members_only
def container_snapshot(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Ask for an image of the container as it is."""
    card = find_card(request, pk)
    name = request.POST.get("image", "").strip()
    try:
        snapshot_container(container=card.container, name=name, actor=signed_in(request))
    except RefusedError as error:
        found = find_installed(container=card.container)
        return _show(request, card, found, refusal=error, image_name=name)
    words = {"name": card.container.name, "image": name}
    messages.success(request, _("%(name)s is being kept as the image %(image)s.") % words)
    return _go(request, card.container.get_absolute_url())


def _wants_part(request: HttpRequest) -> bool:
    return is_fragment(request) and request.headers.get("HX-Target") == "installed"


def _go(request: HttpRequest, url: str) -> HttpResponse:
    return HttpResponseClientRedirect(url) if is_fragment(request) else redirect(url)


def _show(
    request: HttpRequest,
    card: Card,
    found: Difference,
    *,
    refusal: RefusedError | None = None,
    ticked: set[str] | None = None,
    name: str = "",
    image_name: str = "",
) -> HttpResponse:
    container = card.container
    rows = [
        {
            "change": change,
            "id": f"{change.manager}-{number}",
            "ticked": (
                change.requested if ticked is None else f"{change.manager}:{change.name}" in ticked
            ),
        }
        for number, change in enumerate(found.changes)
    ]
    suggestion = suggest_image_name(container.name)
    context: dict[str, Any] = {
        **page_context(card, "settings"),
        "found": found,
        "rows": rows,
        "addable": any(change.can_add for change in found.changes),
        "recipe": find_own_recipe(container=container, person=signed_in(request)),
        "refusal": refusal,
        "name": name or suggestion,
        "image_name": image_name or suggestion,
        "snapshots": BuildPolicy.current().snapshots and container.origin == "portal",
    }
    if context["snapshots"]:
        context["secrets"] = find_secrets(container=container).names
    template = "_installed.html" if _wants_part(request) else "container_installed.html"
    status = 422 if refusal else 200
    return render(request, f"workspaces/{template}", context, status=status)
