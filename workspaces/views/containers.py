"""My containers, each as a card that is fetched again when something moves, and the verbs."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Case, IntegerField, QuerySet, Value, When
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from ds01portal.exceptions import Busy, IllegalTransition, RefusedError
from ds01portal.models import Person
from workspaces.models import Container, Machine
from workspaces.services import containers as services
from workspaces.services.machine import is_worker_alive
from workspaces.views.bars import Usage, load_usage, make_bar
from workspaces.views.cards import Card, load_cards
from workspaces.views.common import (
    contact,
    is_fragment,
    members_only,
    next_url,
    signed_in,
    with_notice,
)
from workspaces.views.detail import find_card, render_overview
from workspaces.views.first import first_steps
from workspaces.views.tiles import Board, load_board

State = Container.State
PAGE_SIZE = 30
DONE = {
    "start": gettext_lazy("%(name)s is being started."),
    "stop": gettext_lazy("%(name)s is being stopped."),
    "restart": gettext_lazy("%(name)s is being restarted."),
    "pause": gettext_lazy("%(name)s is being paused."),
    "resume": gettext_lazy("%(name)s goes on."),
    "remove": gettext_lazy("%(name)s is being removed. The workspace stays."),
    "cancel": gettext_lazy("The launch of %(name)s is being cancelled."),
}


def own_containers(person: Person) -> QuerySet[Container]:
    """Return a person's own live containers: what moves or runs first, failures before the rest."""
    rank = Case(
        When(state__in=Container.TRANSIENT_STATES, then=Value(0)),
        When(state__in=(State.RUNNING, State.PAUSED), then=Value(1)),
        When(state=State.FAILED, then=Value(2)),
        default=Value(3),
        output_field=IntegerField(),
    )
    rows = Container.objects.visible_to(person).live().filter(owner=person)
    return rows.select_related("owner", "image").order_by(rank, "-created_at", "pk")


@require_safe
@members_only
@never_cache
def container_list(request: HttpRequest) -> HttpResponse:
    """Show the person's containers, the answer first."""
    person = signed_in(request)
    page = Paginator(own_containers(person), PAGE_SIZE).get_page(request.GET.get("page"))
    cards = load_cards(containers=list(page.object_list), viewer=person)
    usage, board = load_usage(person=person), load_board(viewer=person)
    context: dict[str, Any] = {
        "page": page,
        "cards": cards,
        "answer": home_answer(usage, board),
        "next_free": board.next_free if board.units and not board.count("free") else None,
        "board": board,
        "bars": [make_bar(name, usage) for name in ("gpueq", "containers")],
        "times": [make_bar(name, usage) for name in ("max_runtime", "idle_timeout")],
        "contact": contact(),
        "ssh_host": settings.DS01_SSH_HOST,
        "example": next(
            (c.container.name for c in cards if c.container.state == State.RUNNING), ""
        ),
        "worker_alive": is_worker_alive(Machine.current()),
    }
    if not cards:
        context["first"] = first_steps(person, board, usage)
    return render(request, "workspaces/container_list.html", context)


def home_answer(usage: Usage, board: Board) -> str:
    """Say how many containers are in use and how full the machine is."""
    bar = make_bar("containers", usage)
    if bar.fraction is None:
        count = _("%(count)d containers") % {"count": usage.used["containers"]}
    else:
        count = _("%(used_of_limit)s in use") % {"used_of_limit": bar.text}
    return f"{count} · {board.answer}"


@require_safe
@members_only
@never_cache
def container_card(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Show one card; nothing once the container is gone, so that it leaves the page."""
    return render_card(request, find_card(request, pk))


@require_safe
@members_only
@never_cache
def container_progress(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Show the steps of a launch alone, with an estimate; asked every few seconds."""
    return render(request, "workspaces/_progress.html", {"card": find_card(request, pk)})


def render_card(request: HttpRequest, card: Card, status: int = 200) -> HttpResponse:
    """Return a card as a fragment."""
    if card.container.state == State.REMOVED:
        return HttpResponse("")
    return render(request, "workspaces/_card.html", {"card": card}, status=status)


@require_POST
@members_only
def container_verb(request: HttpRequest, pk: uuid.UUID, verb: str) -> HttpResponse:
    """Carry out a verb; what is refused is shown word for word and changes nothing."""
    if verb not in DONE:
        raise Http404
    card = find_card(request, pk)
    try:
        text = run_verb(card.container, verb, signed_in(request))
    except RefusedError as error:
        return _show_refusal(request, pk, error)
    if is_fragment(request):
        return with_notice(render_card(request, find_card(request, pk)), "success", text)
    messages.success(request, text)
    home = reverse("container-list")
    return redirect(
        home if verb == "remove" else next_url(request, card.container.get_absolute_url())
    )


def run_verb(container: Container, verb: str, person: Person) -> str:
    """Call the service of a verb; return what to tell the person. Raise RefusedError."""
    if verb != "cancel":
        services.VERBS[verb](container=container, actor=person)
    elif not services.cancel_launch(container=container, actor=person):
        raise IllegalTransition(
            _("There is no launch of %(name)s to cancel any more.") % {"name": container.name},
            state=container.state,
            verb=verb,
        )
    return str(DONE[verb]) % {"name": container.name}


def _show_refusal(request: HttpRequest, pk: uuid.UUID, error: RefusedError) -> HttpResponse:
    card = find_card(request, pk)  # as it is now: the refusal tells that it moved on
    if is_fragment(request):
        words = f"{error.message} {error.hint}".strip()
        return with_notice(render_card(request, card, status=422), "error", words)
    status = 409 if isinstance(error, Busy | IllegalTransition) else 422
    return render_overview(request, card, refusal=error.message, hint=error.hint, status=status)
