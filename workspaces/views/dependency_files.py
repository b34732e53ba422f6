"""Lists of packages in the workspace of who asks, for the form of a recipe."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from ds01portal.exceptions import RefusedError
from ds01portal.pages import members_only, signed_in
from workspaces.services.dependency_files import find_dependency_files, read_dependency_text


@require_safe
@members_only
@never_cache
def dependency_files(request: HttpRequest) -> HttpResponse:
    """Answer a list of buttons, one for each file."""
    files = find_dependency_files(person=signed_in(request))
    return render(request, "workspaces/_dependency_files.html", {"files": files})


@require_safe
@members_only
@never_cache
def dependency_file(request: HttpRequest) -> JsonResponse:
    """Answer {name, text} of the file `?path=`; with 422 {error}."""
    path = request.GET.get("path", "")
    try:
        content = read_dependency_text(person=signed_in(request), path=path)
        text = content.decode()
    except RefusedError as error:
        return JsonResponse({"error": f"{error.message} {error.hint}".strip()}, status=422)
    except UnicodeDecodeError:
        words = _("“%(path)s” is not text in UTF-8.") % {"path": path[:80]}
        return JsonResponse({"error": words}, status=422)
    return JsonResponse({"name": path.rpartition("/")[2], "text": text})
