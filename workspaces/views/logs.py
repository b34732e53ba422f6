"""The log of a container: page, lines for following, download."""

from __future__ import annotations

import uuid

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from workspaces.services.logs import LONGEST, read_log
from workspaces.views.common import members_only
from workspaces.views.detail import find_card, page_context

TAIL = 500  # lines on the page
WORDS_LENGTH = 100


def _words(request: HttpRequest) -> str:
    return request.GET.get("q", "").strip()[:WORDS_LENGTH]


@require_safe
@members_only
@never_cache
def container_logs(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Show the end of the log; it is followed unless `follow=0`."""
    card = find_card(request, pk)
    words = _words(request)
    context = {
        **page_context(card, "logs"),
        "log": read_log(container=card.container, tail=TAIL, words=words),
        "words": words,
        "follow": request.GET.get("follow") != "0",
        "tail": TAIL,
    }
    return render(request, "workspaces/container_logs.html", context)


@require_safe
@members_only
@never_cache
def container_log_lines(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Answer the lines alone, for a page that follows."""
    card = find_card(request, pk)
    words = _words(request)
    log = read_log(container=card.container, tail=TAIL, words=words)
    return render(request, "workspaces/_log_lines.html", {"log": log, "words": words})


@require_safe
@members_only
@never_cache
def container_log_download(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Answer the log as a text file."""
    card = find_card(request, pk)
    log = read_log(container=card.container, tail=LONGEST)
    response = HttpResponse(
        log.text + "\n",
        content_type="text/plain; charset=utf-8",
        status=503 if log.trouble == "engine" else 200,
    )
    # Names hold letters, digits, - _ and # only: nothing that would end the header.
    safe = "".join(sign for sign in card.container.name if sign.isalnum() or sign in "-_")
    response["Content-Disposition"] = f'attachment; filename="{safe or "container"}.log"'
    return response
