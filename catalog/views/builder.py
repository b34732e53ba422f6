"""The builder: one page that writes a recipe, new or again, with everything said beside it.

Not in charge of: building (`builds`), the page of an image (`recipe_page`).
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from catalog.browsing import ImageFilter, arrange_images
from catalog.forms.bases import image_key, read_base
from catalog.forms.recipes import RecipeForm, initial_from_content
from catalog.models import BuildPolicy, Image, PackageList, Recipe
from catalog.services.builds import request_build
from catalog.services.hosts import read_host_architecture
from catalog.services.policies import may_post_install
from catalog.services.recipes import change_recipe, create_recipe
from catalog.views.bases import default_base, offer_bases
from catalog.views.imports import read_upload
from catalog.views.previews import Preview, add_refusals, make_preview
from catalog.views.starts import list_starts, start_content, with_additions
from ds01portal.exceptions import PortalError, RefusedError
from ds01portal.models import Person
from ds01portal.pages import members_only, signed_in

Kind = PackageList.Kind


def find_changeable(request: HttpRequest, pk: int) -> Recipe:
    """Return an image that the asking person may change; raise Http404 for all others."""
    rows = Recipe.objects.changeable_by(signed_in(request)).select_related("owner", "shared_group")
    recipe = rows.filter(pk=pk).first()
    if recipe is None:
        raise Http404
    return recipe


def make_form(owner: Person, recipe: Recipe | None, data: Any = None, **kwargs: Any) -> RecipeForm:
    """Return the form with what the policy lets the owner fill in."""
    allowed = may_post_install(policy=BuildPolicy.current(), person=owner)
    return RecipeForm(data, has_name=recipe is not None, post_install_allowed=allowed, **kwargs)


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
@never_cache
def recipe_new(request: HttpRequest) -> HttpResponse:
    """Show the builder for a new image, or save what was written."""
    person = signed_in(request)
    if request.method == "POST":
        return _receive(request, person, None)
    content = _first_content(request, person)
    form = make_form(person, None, initial=initial_from_content(content))
    form.initial["name"] = request.GET.get("name", "")[:60]
    return _show(request, form, person, None)


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
@never_cache
def recipe_edit(request: HttpRequest, pk: int) -> HttpResponse:
    """Show the builder for an image that is there, or save what was changed."""
    recipe = find_changeable(request, pk)
    if request.method == "POST":
        return _receive(request, recipe.owner, recipe)
    content = with_additions(
        recipe.content, packages=request.GET.getlist("add"), apt=request.GET.getlist("apt")
    )
    form = make_form(recipe.owner, recipe, initial=initial_from_content(content))
    form.initial["description"] = recipe.description
    return _show(request, form, recipe.owner, recipe)


@require_POST
@members_only
@never_cache
def recipe_preview(request: HttpRequest, pk: int | None = None) -> HttpResponse:
    """Answer the side column for the form as it is filled now; makes nothing."""
    recipe = find_changeable(request, pk) if pk is not None else None
    owner = recipe.owner if recipe else signed_in(request)
    form = make_form(owner, recipe, request.POST)
    preview = look(form, owner, recipe)
    return render(request, "catalog/_recipe_preview.html", {"preview": preview})


def look(form: RecipeForm, owner: Person, recipe: Recipe | None) -> Preview:
    """Return what the checks say of the form now."""
    return make_preview(
        form=form,
        content=content_of(form, recipe),
        name=recipe.name if recipe else form.typed("name").strip(),
        owner=owner,
        recipe=recipe,
    )


def content_of(form: RecipeForm, recipe: Recipe | None) -> dict[str, Any]:
    """Return what is typed, with what the form does not ask as it was."""
    return form.to_content(fresh=bool(recipe and recipe.content.get("fresh")))


def _first_content(request: HttpRequest, person: Person) -> dict[str, Any]:
    """Return what the link asks for: a template, an image to stand on, packages to add."""
    host = read_host_architecture()
    wanted = request.GET.get("from", "")
    image = None
    if wanted.isdecimal() and len(wanted) < 19:
        rows = Image.objects.visible_to(person).launchable().select_related("recipe__owner")
        image = rows.filter(pk=int(wanted)).first()
    if image is not None:
        base: dict[str, Any] = read_base(image_key(image, host), "")
    else:
        images = Image.objects.visible_to(person).launchable().in_order()
        base = default_base(arrange_images(images, host=host, wanted=ImageFilter()))
    starts = list_starts(list(PackageList.objects.filter(active=True)))
    content = start_content(request.GET.get("start", ""), base=base, starts=starts)
    return with_additions(
        content, packages=request.GET.getlist("add"), apt=request.GET.getlist("apt")
    )


def _receive(request: HttpRequest, owner: Person, recipe: Recipe | None) -> HttpResponse:
    data, notes, was_read = read_upload(request, owner)
    form = make_form(owner, recipe, data)
    if request.POST.get("action") == "upload" or not was_read:
        # Only the file was to be read, or it could not be: the page comes back as it was filled.
        for words in notes if not was_read else ():
            form.add_refusal("requirements", words)
        status = 200 if was_read else 422
        return _show(request, form, owner, recipe, notes=notes if was_read else [], status=status)
    form.is_valid()
    preview = look(form, owner, recipe)
    add_refusals(form, preview)
    if form.errors:
        return _show(request, form, owner, recipe, preview=preview, status=422)
    try:
        saved = _save(request, form, owner, recipe)
    except RefusedError as error:
        place, _line = form.place_of(str(error.fields.get("field", "")))
        form.add_refusal(place, f"{error.message} {error.hint}".strip())
        return _show(request, form, owner, recipe, preview=preview, status=422)
    return _go_on(request, saved)


def _save(request: HttpRequest, form: RecipeForm, owner: Person, recipe: Recipe | None) -> Recipe:
    actor = signed_in(request)
    content, description = content_of(form, recipe), form.typed("description").strip()
    if recipe is None:
        return create_recipe(
            owner=owner,
            name=form.typed("name").strip(),
            content=content,
            description=description,
            actor=actor,
        )
    change_recipe(recipe=recipe, content=content, description=description, actor=actor)
    return recipe


def _go_on(request: HttpRequest, recipe: Recipe) -> HttpResponse:
    """Lead to the build that was asked for too, else to the image."""
    if request.POST.get("action") != "build":
        messages.success(request, _("%(name)s is saved.") % {"name": recipe.name})
        return redirect(recipe)
    try:
        fresh = bool(recipe.content.get("fresh"))
        return redirect(request_build(recipe=recipe, actor=signed_in(request), fresh=fresh))
    except PortalError as error:
        words = _("%(name)s is saved, but it is not being built: %(why)s")
        why = f"{error.message} {error.hint}".strip()
        messages.error(request, words % {"name": recipe.name, "why": why})
        return redirect(recipe)


def _show(
    request: HttpRequest,
    form: RecipeForm,
    owner: Person,
    recipe: Recipe | None,
    *,
    preview: Preview | None = None,
    notes: list[str] | None = None,
    status: int = 200,
) -> HttpResponse:
    lists = list(PackageList.objects.filter(active=True))
    chosen, start = form.typed("base"), request.GET.get("start", "")
    offer = offer_bases(
        person=owner,
        host=read_host_architecture(),
        chosen=chosen,
        reference=form.typed("base_reference"),
        recipe=recipe,
    )
    context = {
        "form": form,
        "owner": owner,
        "recipe": recipe,
        "offer": offer,
        "chosen": offer.chosen,
        "start": start,
        "starts": list_starts(lists),
        "wants_upload": start == "requirements",
        "layers": [_layer(form, "jupyter", lists), _layer(form, "data_science", lists)],
        "use_cases": [row for row in lists if row.kind == Kind.USE_CASE],
        "chosen_use_case": form.typed("use_case"),
        "post_install_allowed": may_post_install(policy=BuildPolicy.current(), person=owner),
        "preview": preview or look(form, owner, recipe),
        "is_first": not form.is_bound and recipe is None,
        "notes": notes or [],
    }
    return render(request, "catalog/recipe_form.html", context, status=status)


def _layer(form: RecipeForm, name: str, lists: list[PackageList]) -> dict[str, Any]:
    """Return a ready-made layer with its three choices."""
    row = next((one for one in lists if one.kind == name), None)
    return {
        "name": name,
        "field": form[name],
        "packages": form[f"{name}_packages"],
        "chosen": form.typed(name) or "none",
        "default": ", ".join(row.names) if row else "",
    }
