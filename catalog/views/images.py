"""Pages of the catalogue: all images, one image. They change nothing."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_safe

from catalog.architectures import format_cuda
from catalog.browsing import arrange_images, judge, local_images
from catalog.forms import ImageFilterForm
from catalog.models import CatalogueState, Image, Recipe
from catalog.services.hosts import read_host_architecture
from catalog.services.image_quota import read_image_quota
from catalog.views.cards import load_recipe_cards
from catalog.views.previews import quota_text
from ds01portal.pages import members_only, signed_in
from ds01portal.services.operations import find_live_operation


@require_safe
@members_only
def image_list(request: HttpRequest) -> HttpResponse:
    """Show the images a container can start from, by framework."""
    person = signed_in(request)
    rows = Image.objects.visible_to(person).launchable().exclude(kind=Image.Kind.CUSTOM)
    images = list(rows.in_order())
    host = read_host_architecture()
    form = ImageFilterForm(request.GET or None, images=images)
    wanted = ImageFilterForm(request.GET, images=images).wanted()
    shelves = arrange_images(images, host=host, wanted=wanted)
    local = local_images(images, host=host, wanted=wanted)
    context = {
        "form": form,
        "wanted": wanted,
        "host": host,
        "shelves": shelves,
        "local": local,
        "total": len(images),
        "shown": sum(shelf.count for shelf in shelves) + len(local),
        "mine": load_recipe_cards(Recipe.objects.owned_by(person), person),
        "shared": load_recipe_cards(Recipe.objects.shared_with(person), person),
        "quota": quota_text(read_image_quota(owner=person), is_new=False),
        "here": sum(image.is_on_engine for image in images),
        "state": CatalogueState.objects.filter(pk=CatalogueState.SINGLETON).first(),
    }
    return render(request, "catalog/image_list.html", context)


@require_safe
@members_only
def image_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one image: what it is, whether it runs here, what else there is."""
    image = get_object_or_404(
        Image.objects.visible_to(signed_in(request)).select_related("recipe__owner"), pk=pk
    )
    if image.recipe is not None:
        # A version of somebody's image is shown on the page of that image.
        if image.recipe.deleted_at is None:
            return redirect(image.recipe)
        return render(request, "catalog/image_gone.html", {"image": image}, status=410)
    host = read_host_architecture()
    siblings = [
        judge(row, host)
        for row in Image.objects.visible_to(signed_in(request))
        .launchable()
        .filter(kind=image.kind, framework_slug=image.framework_slug)
        .exclude(pk=image.pk)
        .in_order()
    ]
    context = {
        "judged": judge(image, host),
        "image": image,
        "host": host,
        "cuda": format_cuda(image.cuda_version),
        "same_version": [item for item in siblings if item.image.version == image.version],
        "other_versions": [
            item for item in siblings if item.image.version != image.version and item.fits
        ],
        "pull": find_live_operation(subject_kind="image", subject_id=str(image.pk)),
    }
    return render(request, "catalog/image_detail.html", context)
