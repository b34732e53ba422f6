"""The page of one container: overview, terminal, connection help, settings.

Strangers get 404 on each of them. Not in charge of: verbs (containers), log and figures.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, cast

from csp.constants import NONCE
from csp.decorators import csp_update
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from workspaces.models import Container
from workspaces.views.cards import Card, load_cards
from workspaces.views.common import View, members_only, signed_in
from workspaces.views.story import tell_story

# xterm.js adds style elements, which carry the nonce; no other page needs one.
with_style_nonce = cast(
    Callable[[View[[uuid.UUID]]], View[[uuid.UUID]]], csp_update({"style-src": [NONCE]})
)


def find_card(request: HttpRequest, pk: uuid.UUID) -> Card:
    """Return a container that the asking person may see; raise Http404 for all others."""
    person = signed_in(request)
    rows = Container.objects.visible_to(person).select_related(
        "owner", "image", "data", "models_folder"
    )
    container = rows.filter(pk=pk).first()
    if container is None:
        raise Http404
    return load_cards(containers=[container], viewer=person)[0]


def page_context(card: Card, tab: str) -> dict[str, Any]:
    """Return what every tab shows: header and tabs."""
    container = card.container
    tabs = [
        ("overview", _("Overview"), "container-detail"),
        ("terminal", _("Terminal"), "container-terminal"),
        ("logs", _("Logs"), "container-logs"),
        ("connect", _("Connect"), "container-connect"),
        ("settings", _("Settings"), "container-settings"),
    ]
    return {"card": card, "container": container, "tab": tab, "tabs": tabs}


def render_overview(
    request: HttpRequest, card: Card, *, refusal: str = "", hint: str = "", status: int = 200
) -> HttpResponse:
    """Show the overview, with what was refused on top."""
    context = {
        **page_context(card, "overview"),
        "story": tell_story(container=card.container, viewer=card.viewer),
        "refusal": refusal,
        "hint": hint,
    }
    return render(request, "workspaces/container_detail.html", context, status=status)


@require_safe
@members_only
def container_detail(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Show what it is, how it does, and what happened to it."""
    return render_overview(request, find_card(request, pk))


@require_safe
@members_only
@with_style_nonce
def container_terminal(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Show terminals in the container, or why there are none now."""
    card = find_card(request, pk)
    context = {
        **page_context(card, "terminal"),
        "ws_url": f"/ws/containers/{card.container.pk}/terminal",
    }
    return render(request, "workspaces/container_terminal.html", context)


@require_safe
@members_only
def container_connect(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Show how to get into the container from one's own computer."""
    card = find_card(request, pk)
    owner = card.container.owner
    login, host = owner.login if owner else "", settings.DS01_SSH_HOST
    context = {
        **page_context(card, "connect"),
        "host": host,
        "login": login,
        "ssh_command": f"ssh {login}@{host}",
        "open_command": f"mlc open {card.container.name}",
        "one_line": f"ssh -t {login}@{host} mlc open {card.container.name}",
        "ssh_config": f"Host {host}\n    User {login}\n    ServerAliveInterval 30",
    }
    return render(request, "workspaces/container_connect.html", context)


@require_safe
@members_only
def container_settings(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Show what is fixed, and the way to remove it."""
    card = find_card(request, pk)
    return render(request, "workspaces/container_settings.html", page_context(card, "settings"))
