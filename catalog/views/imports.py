"""Files with dependencies that people upload into the builder: read at once, kept nowhere."""

from __future__ import annotations

from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from catalog.models import BuildPolicy
from catalog.recipes.dependency_files import read_dependency_file
from catalog.recipes.imported import Imported
from catalog.recipes.requirements import MAX_BYTES
from catalog.services.policies import requirements_policy
from ds01portal.exceptions import InvalidInput
from ds01portal.models import Person
from ds01portal.pages import members_only, signed_in

FIELD = "requirements_file"


def read_upload(request: HttpRequest, owner: Person) -> tuple[QueryDict, list[str], bool]:
    """Return what was sent with the file's lines in the requirements, and remarks.

    The last value is False when there is a file that could not be read, or of which lines were
    refused; the remarks say why, and nothing is to be made of it before they were seen.
    """
    data = request.POST.copy()
    if not request.FILES.get(FIELD):
        return data, [], True
    try:
        found = _read(request)
    except InvalidInput as error:
        return data, [f"{error.message} {error.hint}".strip()], False
    data["requirements"] = join_texts(data.get("requirements", ""), found.text)
    return data, describe_import(found), not found.problems


@require_POST
@members_only
@never_cache
def recipe_import(request: HttpRequest) -> HttpResponse:
    """Answer what a file asks for: {text, notes}, or with 422 {error}.

    The file comes as an upload, or as `text` with its `filename`. Nothing is kept.
    """
    try:
        found = _read(request)
    except InvalidInput as error:
        words = f"{error.message} {error.hint}".strip()
        return JsonResponse({"error": words}, status=422)
    text = join_texts(request.POST.get("requirements", ""), found.text)
    return JsonResponse({"text": text, "notes": describe_import(found)})


def describe_import(found: Imported) -> list[str]:
    """Return what a person should know of a file that was read."""
    problems = [
        (_("Line %(number)d of the file: ") % {"number": problem.number} if problem.number else "")
        + f"{problem.text} – {problem.reason}."
        for problem in found.problems
    ]
    return [*problems, *found.notes]


def join_texts(before: str, new: str) -> str:
    """Return the requirements with those of a file added; equal texts are not doubled."""
    if not before.strip() or before.strip() == new.strip():
        return new
    return f"{before.rstrip()}\n{new}"


def _read(request: HttpRequest) -> Imported:
    person: Any = signed_in(request)
    assert isinstance(person, Person)
    rules = requirements_policy(policy=BuildPolicy.current())
    file = request.FILES.get(FIELD)
    if isinstance(file, UploadedFile):
        # One byte more than is allowed is enough to be refused for its size.
        return read_dependency_file(file.name or "", file.read(MAX_BYTES + 1), policy=rules)
    text = request.POST.get("text", "")
    name = request.POST.get("filename", "")
    return read_dependency_file(name, text[: MAX_BYTES + 1].encode(), policy=rules)
