"""Verbs on images of one's own, each a POST: build, share, rename, fork, delete.

What is refused is said on the page of the image, with the dialog open again and what was typed.
"""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from catalog.forms.recipe_verbs import BuildForm, ForkForm, RenameForm, ShareForm
from catalog.models import Recipe
from catalog.services.builds import request_build
from catalog.services.image_care import delete_image, delete_version
from catalog.services.recipes import (
    change_recipe,
    fork_recipe,
    newer_bases,
    rename_recipe,
    share_recipe,
)
from catalog.views.builder import find_changeable
from catalog.views.recipe_page import find_visible, newer_base_content, render_recipe
from ds01portal.exceptions import PortalError, RefusedError
from ds01portal.pages import members_only, signed_in

Verb = Callable[[HttpRequest, Recipe], HttpResponse]


@require_POST
@members_only
def recipe_verb(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Do what is asked, or say on the page why not."""
    if verb not in VERBS:
        raise Http404
    # Whoever may see an image may copy it; everything else is its owner's.
    recipe = find_visible(request, pk) if verb == "fork" else find_changeable(request, pk)
    try:
        return VERBS[verb](request, recipe)
    except PortalError as error:
        recipe.refresh_from_db()
        status = 422 if isinstance(error, RefusedError) else 503
        return render_recipe(
            request,
            recipe,
            refusal=error.message,
            hint=error.hint,
            opened=verb,
            typed={"name": request.POST.get("name", "")[:200]},
            status=status,
        )


@require_POST
@members_only
def version_delete(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    """Delete one version, or say on the page why not."""
    recipe = find_changeable(request, pk)
    image = get_object_or_404(recipe.images.active(), number=number)
    try:
        delete_version(image=image, actor=signed_in(request))
    except PortalError as error:
        return render_recipe(request, recipe, refusal=error.message, hint=error.hint, status=422)
    words = _("%(image)s is deleted; its disk space is free in a moment.")
    messages.success(request, words % {"image": f"{recipe.name}:{number}"})
    return redirect(recipe)


def _build(request: HttpRequest, recipe: Recipe) -> HttpResponse:
    form = BuildForm(request.POST)
    form.is_valid()
    wanted = form.cleaned_data.get("base_version", "")
    if wanted:
        image = next((one for one in newer_bases(recipe=recipe) if str(one.pk) == wanted), None)
        if image is None:
            raise RefusedError(
                _("This base is not offered any more."), hint=_("Choose another, or none.")
            )
        content = {**recipe.content, "base": newer_base_content(recipe, image)}
        change_recipe(recipe=recipe, content=content, actor=signed_in(request))
    fresh = bool(form.cleaned_data.get("fresh") or recipe.content.get("fresh"))
    return redirect(request_build(recipe=recipe, actor=signed_in(request), fresh=fresh))


def _share(request: HttpRequest, recipe: Recipe) -> HttpResponse:
    form = ShareForm(request.POST, person=recipe.owner)
    if not form.is_valid():
        words = " ".join(str(word) for errors in form.errors.values() for word in errors)
        raise RefusedError(words)
    data = form.cleaned_data
    share_recipe(
        recipe=recipe, sharing=data["sharing"], group=data["group"], actor=signed_in(request)
    )
    messages.success(request, _("Who may use %(name)s is changed.") % {"name": recipe.name})
    return redirect(recipe)


def _rename(request: HttpRequest, recipe: Recipe) -> HttpResponse:
    form = RenameForm(request.POST)
    form.is_valid()
    before = recipe.name
    rename_recipe(recipe=recipe, name=form.cleaned_data.get("name", ""), actor=signed_in(request))
    recipe.refresh_from_db()
    words = _("%(before)s is called %(name)s now.")
    messages.success(request, words % {"before": before, "name": recipe.name})
    return redirect(recipe)


def _fork(request: HttpRequest, recipe: Recipe) -> HttpResponse:
    form = ForkForm(request.POST)
    form.is_valid()
    person = signed_in(request)
    made = fork_recipe(
        source=recipe,
        owner=person,
        actor=person,
        name=form.cleaned_data.get("name", ""),
        number=form.cleaned_data.get("number"),
    )
    words = _("%(name)s is yours: change what you like, then build it.")
    messages.success(request, words % {"name": made.name})
    return redirect("recipe-edit", pk=made.pk)


def _delete(request: HttpRequest, recipe: Recipe) -> HttpResponse:
    delete_image(recipe=recipe, actor=signed_in(request))
    messages.success(request, _("%(name)s is deleted.") % {"name": recipe.name})
    return redirect("image-list")


VERBS: dict[str, Verb] = {
    "build": _build,
    "share": _share,
    "rename": _rename,
    "fork": _fork,
    "delete": _delete,
}
