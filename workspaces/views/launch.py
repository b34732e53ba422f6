"""The launch page: one form, its pre-flight list, and the command that does the same."""

from __future__ import annotations

import shlex
import uuid
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from catalog.browsing import ImageFilter, local_images
from catalog.models import Image
from catalog.services.hosts import read_host_architecture
from catalog.services.lookups import lookup_image
from ds01portal.exceptions import RefusedError
from ds01portal.models import Person
from workspaces.forms import LaunchForm
from workspaces.models import Container, Machine, SharedFolder
from workspaces.services.containers import launch_container
from workspaces.services.findings import Finding
from workspaces.services.preflight import check_launch
from workspaces.services.requests import LaunchRequest
from workspaces.views.bars import Usage, load_usage
from workspaces.views.common import contact, members_only, signed_in
from workspaces.views.first import default_device_count, default_image
from workspaces.views.shelves import custom_shelves, make_shelves
from workspaces.views.sizes import offer_presets, offer_tiles, size_hint
from workspaces.views.tiles import Board, load_board

STATUS = {"ok": "ok", "warning": "warn", "refused": "failed"}


def make_form(person: Person, data: Any = None) -> LaunchForm:
    """Return the form with what the person may choose from."""
    rows = Image.objects.visible_to(person).launchable().select_related("recipe__owner")
    images = list(rows.in_order())
    folders = SharedFolder.objects.visible_to(person)
    return LaunchForm(data, owner=person, images=images, folders=folders)


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
@never_cache
def container_launch(request: HttpRequest) -> HttpResponse:
    """Show the form, or launch; everything that stands in the way is said at once."""
    person = signed_in(request)
    if request.method != "POST":
        return _show_form(request, make_form(person))
    form = make_form(person, request.POST)
    if not form.is_valid():
        return _show_form(request, form, status=422)
    wish = form.to_request()
    try:
        container = launch_container(request=wish, actor=person)
    except RefusedError as error:
        findings = check_launch(request=wish)
        _add_refusals(form, findings, error)
        checked = preflight_context(wish, findings)
        return _show_form(request, form, checked=checked, status=422)
    return redirect(container)


def _add_refusals(form: LaunchForm, findings: list[Finding], error: RefusedError) -> None:
    """Put each refusal beside its field; the launch's own when the checks have none any more."""
    refused = [(one.check, one.error) for one in findings if one.error is not None]
    for check, one in refused or [("", error)]:
        field = one.fields.get("field") or one.fields.get("resource") or check
        form.add_refusal(field, f"{one.message} {one.hint}".strip())


@require_POST
@members_only
@never_cache
def launch_preflight(request: HttpRequest) -> HttpResponse:
    """Answer the pre-flight list for the form as it is filled now; makes nothing."""
    form = make_form(signed_in(request), request.POST)
    if not form.is_valid():
        checks = [
            {"status": "failed", "label": str(words), "detail": ""}
            for errors in form.errors.values()
            for words in errors
        ]
        return render(request, "workspaces/_preflight.html", {"checks": checks})
    wish = form.to_request()
    context = preflight_context(wish, check_launch(request=wish))
    return render(request, "workspaces/_preflight.html", context)


def preflight_context(wish: LaunchRequest, findings: list[Finding]) -> dict[str, Any]:
    """Return the findings for the check list, the sentence above it, and the command."""
    checks = [
        {"status": STATUS[one.level], "label": one.message, "detail": one.hint} for one in findings
    ]
    return {
        "checks": checks,
        "refused": sum(one.level == "refused" for one in findings),
        "ready": not any(one.level == "refused" for one in findings),
        "command": equivalent_command(wish),
    }


def equivalent_command(wish: LaunchRequest) -> str:
    """Return the command line that asks for the same."""
    words = ["manage.py", "create_container", wish.owner.username, wish.name or "NAME"]
    image = wish.image
    if image is not None and image.kind == Image.Kind.CATALOG:
        words += ["--framework", image.framework_slug, "--version", image.version]
    else:
        words += ["--image", wish.reference]
    count = wish.device_count
    words += ["--gpus", str(count)] if count else ["--cpu-only"]
    for option, folder in (("--data", wish.data), ("--models", wish.models)):
        words += [option, folder.name] if folder else []
    return shlex.join(words)


def _show_form(
    request: HttpRequest,
    form: LaunchForm,
    *,
    checked: dict[str, Any] | None = None,
    status: int = 200,
) -> HttpResponse:
    person = form.owner
    usage, board = load_usage(person=person), load_board(viewer=person)
    images, machine = list(form.images.values()), Machine.current()
    if not form.is_bound:
        form.initial = initial_values(request, person, images, usage, board)
    chosen = str(form["image"].value() or "")
    picked = form.picked_devices if form.is_bound else form.initial["picked"]
    host = read_host_architecture()
    hint = size_hint(usage, machine)
    mine, shared = custom_shelves(images, host, chosen, person)
    form.fields["cpus"].widget.attrs["placeholder"] = hint.default_cpus
    form.fields["memory"].widget.attrs["placeholder"] = hint.default_memory.removesuffix(" GB")
    context: dict[str, Any] = {
        "form": form,
        "chosen": chosen,
        "chosen_label": form.images.get(chosen, ""),
        "shelves": make_shelves(images, host, chosen),
        "mine": mine,
        "shared": shared,
        "local": local_images(images, host=host, wanted=ImageFilter()),
        "host": host,
        "tiles": offer_tiles(board, usage, picked),
        "presets": offer_presets(board, usage, len(picked)),
        "most": most_devices(usage),
        "size_hint": hint,
        "answer": launch_answer(usage, board),
        "contact": contact(),
        "has_folders": bool(form.folders),
    }
    context |= checked or {}
    return render(request, "workspaces/container_launch.html", context, status=status)


def most_devices(usage: Usage) -> int:
    """Return how many devices one container of this person may have; 64 stands for any number."""
    return int(min(usage.left("devices_per_container"), 64))


def initial_values(
    request: HttpRequest, person: Person, images: list[Image], usage: Usage, board: Board
) -> dict[str, Any]:
    """Return the sensible start: what the link asks for, else what fits and is free."""
    image = _wanted_image(request, person, images)
    count = default_device_count(board, usage)
    tiles = offer_tiles(board, usage, set())
    free = [slot for tile in tiles for slot in (tile.slices or [tile]) if not slot.disabled]
    values: dict[str, Any] = {
        "image": image.pk if image else "",
        "name": suggest_name(person, image),
        "request_key": str(uuid.uuid4()),
        "picked": {slot.device.uuid for slot in free[:count]},
    }
    again = _earlier(request, person)
    if again is not None:
        values |= {"name": again.name, "workspace": again.spec.get("workspace", "")}
        values |= {
            "data_folder": again.data_id or "",
            "models_folder": again.models_folder_id or "",
        }
    return values


def _earlier(request: HttpRequest, person: Person) -> Container | None:
    """Return the failed launch that is to be tried again, if it is the person's own."""
    try:
        pk = uuid.UUID(request.GET.get("again", ""))
    except ValueError:
        return None
    return Container.objects.filter(owner=person, pk=pk).first()


def _wanted_image(request: HttpRequest, person: Person, images: list[Image]) -> Image | None:
    """Return the image that the link names (`image`, `framework` and `version`, `again`)."""
    by_key = {str(image.pk): image for image in images}
    asked = request.GET.get("image", "")
    framework = request.GET.get("framework", "")[:64]
    again = _earlier(request, person)
    if again is not None:
        asked = str(again.image_id)
    elif not asked and framework:
        try:
            version = request.GET.get("version", "")[:64]
            found = lookup_image(framework=framework, version=version).image
        except RefusedError:
            found = None
        asked = str(found.pk) if found else ""
    return by_key.get(asked) or default_image(images)


def suggest_name(person: Person, image: Image | None) -> str:
    """Return a name that the person has not used yet, such as pytorch-2."""
    own = image.recipe.name if image and image.recipe else ""
    base = own or (image.framework_slug if image else "") or "container"
    base = "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in base)[:40]
    taken = set(Container.objects.live().filter(owner=person).values_list("name", flat=True))
    number = 1
    while f"{base}-{number}" in taken:
        number += 1
    return f"{base}-{number}"


def launch_answer(usage: Usage, board: Board) -> str:
    """Say first what is free and what the limits leave."""
    left = usage.left("containers")
    parts = [board.answer]
    if left == 0:
        parts.append(_("your limit leaves no further container"))
    elif left != float("inf"):
        parts.append(
            ngettext(
                "your limit leaves %(count)d more container",
                "your limit leaves %(count)d more containers",
                int(left),
            )
            % {"count": left}
        )
    sentence = " · ".join(parts)
    return sentence[:1].upper() + sentence[1:]
