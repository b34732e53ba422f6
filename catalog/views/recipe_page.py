"""The page of an image that somebody built: versions, recipe, builds, who may use it.

Strangers get 404. Not in charge of: verbs (`recipe_verbs`), writing the recipe (`builder`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from catalog.dockerfile_html import render_dockerfile
from catalog.forms.bases import describe_base
from catalog.forms.recipe_verbs import groups_for
from catalog.models import Build, Image, PackageList, Recipe
from catalog.services.image_care import describe_deletion
from catalog.services.recipe_checks import RecipeCheck, check_recipe
from catalog.services.recipes import newer_bases, preview_change
from catalog.views.builds import dockerfile_response
from catalog.views.cards import RecipeCard, load_recipe_card
from ds01portal.exceptions import InvalidInput
from ds01portal.limits import format_bytes
from ds01portal.pages import members_only, signed_in

BUILDS = 20  # builds in the history
MOST_BASES = 5  # newer bases that are offered


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """One built version for a reader. `own` is what its own layers take, `shared` the rest."""

    image: Image
    is_latest: bool
    size: str
    own: str
    shared: str
    users: list[str]
    launchable: bool

    @property
    def key(self) -> str:
        """Return the number as text, for ids of elements."""
        return str(self.image.number)


@dataclass(frozen=True, kw_only=True, slots=True)
class NewerBase:
    """A base that the recipe could stand on, and what would change."""

    image: Image
    key: str
    changes: tuple[str, ...]


def find_visible(request: HttpRequest, pk: int) -> Recipe:
    """Return an image that the asking person may see; raise Http404 for all others."""
    rows = Recipe.objects.visible_to(signed_in(request)).select_related(
        "owner", "shared_group", "forked_from__recipe__owner"
    )
    recipe = rows.filter(pk=pk).first()
    if recipe is None:
        raise Http404
    return recipe


@require_safe
@members_only
@never_cache
def recipe_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """Show an image by name with its versions and its recipe."""
    return render_recipe(request, find_visible(request, pk))


@require_safe
@members_only
def recipe_dockerfile(request: HttpRequest, pk: int) -> HttpResponse:
    """Answer the Dockerfile of the recipe as it is now."""
    recipe = find_visible(request, pk)
    text = look_at(recipe).dockerfile
    if not text:
        raise Http404
    return dockerfile_response(text)


def look_at(recipe: Recipe) -> RecipeCheck:
    """Return what the checks say of the recipe as its owner would build it."""
    return check_recipe(content=recipe.content, name=recipe.name, owner=recipe.owner, recipe=recipe)


def render_recipe(
    request: HttpRequest,
    recipe: Recipe,
    *,
    refusal: str = "",
    hint: str = "",
    opened: str = "",
    typed: dict[str, str] | None = None,
    status: int = 200,
) -> HttpResponse:
    """Show the page, with what was refused on top; `opened` is the dialog to come back to."""
    viewer = signed_in(request)
    card = load_recipe_card(recipe, viewer)
    check = look_at(recipe)
    context: dict[str, Any] = {
        "card": card,
        "recipe": recipe,
        "versions": [_version(card, image) for image in card.versions],
        "check": check,
        "dockerfile": render_dockerfile(check.dockerfile),
        "warnings": [one for one in check.findings if one.level == "refused"],
        "left_out": check.plan.left_out if check.plan else (),
        "estimate": format_bytes(check.estimate_bytes) if check.estimate_bytes else "",
        "facts": recipe_facts(recipe),
        "forked_from": _source(recipe, viewer),
        "refusal": refusal,
        "hint": hint,
        "opened": opened,
        "typed": typed or {},
        "fork_name": recipe.name,
    }
    if card.can_change:
        context |= _owner_context(recipe, viewer)
    return render(request, "catalog/recipe_detail.html", context, status=status)


def _owner_context(recipe: Recipe, viewer: Any) -> dict[str, Any]:
    builds = recipe.builds.select_related("image", "actor").defer("content", "dockerfile", "plan")
    deletion = describe_deletion(recipe=recipe)
    return {
        "builds": [_build_line(build) for build in builds[:BUILDS]],
        "deletion": deletion,
        "freed": format_bytes(deletion.own_bytes),
        "newer": list_newer(recipe),
        "sharings": Recipe.Sharing.choices,
        "groups": groups_for(viewer if viewer == recipe.owner else recipe.owner),
    }


def list_newer(recipe: Recipe) -> list[NewerBase]:
    """Return the newer bases with what changes, newest first."""
    found = []
    for image in newer_bases(recipe=recipe)[:MOST_BASES]:
        base = newer_base_content(recipe, image)
        try:
            changes = preview_change(recipe=recipe, content={**recipe.content, "base": base})
        except InvalidInput:
            changes = ()
        found.append(NewerBase(image=image, key=str(image.pk), changes=changes))
    return found


def newer_base_content(recipe: Recipe, image: Image) -> dict[str, Any]:
    """Return the recipe's base with another image in its place; the architecture stays."""
    base = dict(recipe.content.get("base") or {})
    if image.is_custom and image.recipe is not None:
        full = f"{image.recipe.owner.username}/{image.recipe.name}:{image.number}"
        return {"kind": "custom", "image": full}
    return {**base, "version": image.version}


def _version(card: RecipeCard, image: Image) -> Version:
    size, own = image.size_bytes, image.own_bytes
    return Version(
        image=image,
        is_latest=image == card.latest,
        size=format_bytes(size) if size is not None else "",
        own=format_bytes(own),
        shared=format_bytes(max(size - own, 0)) if size is not None else "",
        users=card.users.get(image.pk, []),
        launchable=image.is_launchable,
    )


def _build_line(build: Build) -> dict[str, Any]:
    pills = {"done": "ready", "failed": "failed", "queued": "queued", "running": "busy"}
    return {"build": build, "pill": pills.get(build.state, build.state)}


def _source(recipe: Recipe, viewer: Any) -> dict[str, str] | None:
    """Return what it was copied from, as far as the viewer may know of it."""
    image = recipe.forked_from
    if image is None or image.recipe is None:
        return None
    if not Recipe.objects.visible_to(viewer).filter(pk=image.recipe.pk).exists():
        return {"label": _("another image"), "url": ""}
    label = f"{image.recipe.owner.username}/{image.recipe.name}:{image.number}"
    return {"label": label, "url": image.recipe.get_absolute_url()}


def recipe_facts(recipe: Recipe) -> list[tuple[str, str]]:
    """Return the recipe in words, what is empty left out."""
    content = recipe.content
    facts = [(_("Base"), describe_base(content.get("base") or {}))]
    for name, label in (("jupyter", _("Jupyter")), ("data_science", _("Data science"))):
        layer = content.get(name) or {}
        if layer.get("choice") == "default":
            facts.append((label, _("the usual packages")))
        elif layer.get("choice") == "own":
            facts.append((label, ", ".join(layer.get("packages", ()))))
    use_case = content.get("use_case", "")
    if use_case == "custom":
        facts.append((_("Use case"), ", ".join(content.get("use_case_packages", ()))))
    elif use_case:
        row = PackageList.objects.filter(kind=PackageList.Kind.USE_CASE, key=use_case).first()
        facts.append((_("Use case"), row.label if row else use_case))
    facts += [
        (_("Packages"), content.get("requirements", "").strip()),
        (_("System packages"), " ".join(content.get("apt", ()))),
        (_("Variables"), ", ".join(content.get("environment", {}))),
        (_("Own shell lines"), "\n".join(content.get("post_install", ()))),
    ]
    return [(label, value) for label, value in facts if value]
