"""The page of a build: steps, log, what went wrong. Only the owner and admins see it.

Not in charge of: the live log (`catalog.streams`), building (`services.building`).
"""

from __future__ import annotations

import uuid
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from catalog.build_progress import describe_progress
from catalog.log_html import plain_text, render_lines
from catalog.models import Build
from catalog.services.builds import cancel_build
from ds01portal.limits import format_bytes
from ds01portal.pages import members_only, signed_in, with_notice

SHOWN_ROWS = 2000  # pieces of the log that are on the page from the start; the rest is streamed
TAIL = 12  # lines in the failure's box


def find_build(request: HttpRequest, pk: uuid.UUID) -> Build:
    """Return a build that the asking person may see; raise Http404 for all others."""
    rows = Build.objects.visible_to(signed_in(request)).select_related(
        "recipe__owner", "operation", "image", "actor"
    )
    build = rows.filter(pk=pk).first()
    if build is None:
        raise Http404
    return build


@require_safe
@members_only
@never_cache
def build_detail(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Show how far it is, or how it ended, with its log."""
    build = find_build(request, pk)
    rows = list(build.output.order_by("pk").values_list("pk", "step", "text")[:SHOWN_ROWS])
    context = {
        **head_context(build),
        "pieces": [{"step": step, "html": render_lines(text)} for _pk, step, text in rows],
        "last_id": rows[-1][0] if rows else 0,
        "dropped": format_bytes(build.dropped_bytes) if build.dropped_bytes else "",
    }
    return render(request, "catalog/build_detail.html", context)


@require_safe
@members_only
@never_cache
def build_head(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Answer the page without its log, for a page that follows."""
    return render(request, "catalog/_build_head.html", head_context(find_build(request, pk)))


@require_POST
@members_only
def build_cancel(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Ask for a cancel; the worker ends it at once."""
    build = find_build(request, pk)
    cancel_build(build=build, actor=signed_in(request))
    if request.headers.get("HX-Request") == "true":
        build.refresh_from_db()
        answer = render(request, "catalog/_build_head.html", head_context(build))
        return with_notice(answer, "info", _("The build is being cancelled."))
    return redirect(build)


@require_safe
@members_only
def build_log_download(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Answer the log as a text file, without colours."""
    build = find_build(request, pk)
    rows = build.output.order_by("pk").values_list("text", flat=True)
    text = "".join(f"{plain_text(piece)}\n" for piece in rows)  # bounded by the policy
    response = HttpResponse(text, content_type="text/plain; charset=utf-8")
    name = f"{build.recipe.name}-{build.number}.log"
    response["Content-Disposition"] = f'attachment; filename="{safe_name(name)}"'
    response["X-Content-Type-Options"] = "nosniff"
    return response


@require_safe
@members_only
def build_dockerfile(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Answer the Dockerfile that this build carried out."""
    return dockerfile_response(find_build(request, pk).dockerfile)


def dockerfile_response(text: str) -> HttpResponse:
    """Return a Dockerfile to be kept as a file."""
    response = HttpResponse(text, content_type="text/plain; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="Dockerfile"'
    response["X-Content-Type-Options"] = "nosniff"
    return response


def safe_name(name: str) -> str:
    """Return a file name with nothing in it that would end a header."""
    return "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_.") else "_"
                   for sign in name)  # fmt: skip


def head_context(build: Build) -> dict[str, Any]:
    """Return what stands above the log."""
    progress = describe_progress(build=build)
    image = build.image
    return {
        "build": build,
        "recipe": build.recipe,
        "progress": progress,
        "phases": build_phases(progress),
        "answer": build_answer(build, progress),
        "trouble": explain_build(build),
        "size": format_bytes(image.size_bytes) if image and image.size_bytes else "",
        "own_size": format_bytes(image.own_bytes) if image else "",
        "can_launch": bool(image and image.is_launchable),
    }


def build_phases(progress: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the steps for the page, with a colour's word for each state."""
    colour = {"done": "done", "cached": "done", "running": "now", "failed": "failed"}
    return [{**step, "status": colour.get(step["state"], "todo")} for step in progress["steps"]]


def build_answer(build: Build, progress: dict[str, Any]) -> str:
    """Return how it is, in one sentence."""
    if progress["cancelling"]:
        return _("It is being cancelled.")
    if build.state == Build.State.QUEUED:
        before = progress["position"]
        return (
            _("Number %(number)d in the queue.") % {"number": before}
            if before > 1
            else _("It is the next one.")
        )
    if build.state == Build.State.RUNNING:
        total = len(progress["steps"])
        running = next((one for one in progress["steps"] if one["state"] == "running"), None)
        if running is None:
            return str(progress["message"])
        return _("Step %(number)d of %(total)d: %(title)s") % {
            "number": running["number"],
            "total": total,
            "title": running["title"],
        }
    words = {
        Build.State.DONE: _("It is ready: start a container from it."),
        Build.State.FAILED: _("Nothing was made. Earlier versions are as they were."),
        Build.State.CANCELLED: _("Nothing was made. Earlier versions are as they were."),
    }
    return words[Build.State(build.state)]


def explain_build(build: Build) -> dict[str, Any] | None:
    """Return what the failure's box says, None when nothing failed."""
    error = build.error
    if build.state != Build.State.FAILED or not error:
        return None
    fields = error.get("fields") or {}
    tail = fields.get("tail") or []
    return {
        "title": error.get("message") or _("The build failed."),
        "hint": error.get("hint") or "",
        "turn": "admin" if error.get("family") in ("engine", "timeout") else "you",
        "step": fields.get("step"),
        "step_title": fields.get("title", ""),
        "exit_code": fields.get("exit_code"),
        "tail": render_lines("\n".join(str(line) for line in tail[-TAIL:])) if tail else "",
        "code": error.get("code", ""),
        "cause": error.get("cause", ""),
    }
