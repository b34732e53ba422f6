"""The first container: which image and size to suggest to somebody who never had one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _

from catalog.browsing import judge
from catalog.models import Image
from catalog.services.hosts import read_host_architecture
from ds01portal.models import Person
from workspaces.views.bars import Usage
from workspaces.views.tiles import Board


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstSteps:
    """What the empty page teaches, and the image it leads to."""

    image: Image | None
    steps: list[dict[str, str]]

    @property
    def key(self) -> str:
        """Id of the image as text, for the link."""
        return str(self.image.pk) if self.image else ""


def default_image(images: Sequence[Image]) -> Image | None:
    """Return the sensible start: made for this machine and newest, else one that is here."""
    host = read_host_architecture()
    judged = [judge(image, host) for image in images]
    catalogue = [one.image for one in judged if one.fits and one.image.kind == Image.Kind.CATALOG]
    here = [one.image for one in judged if one.image.is_on_engine and not one.cannot_run]
    ready = [image for image in catalogue if image.is_on_engine]
    return next(iter([*ready, *catalogue, *here]), None)


def default_device_count(board: Board, usage: Usage) -> int:
    """Return 1 when a GPU is free and within the limits, else 0."""
    left = usage.left("gpueq")
    fits = any(unit.state == "free" and unit.device.gpueq <= left + 1e-9 for unit in board.units)
    return int(fits and usage.left("devices_per_container") >= 1)


def first_steps(person: Person, board: Board, usage: Usage) -> FirstSteps:
    """Return the three steps with what is chosen for each."""
    images = list(Image.objects.visible_to(person).launchable().in_order())
    image = default_image(images)
    gpu = default_device_count(board, usage)
    chosen = _("%(image)s is chosen for you.") % {"image": image} if image else ""
    if image and not image.is_on_engine:
        chosen += " " + _("It is fetched once, which takes a few minutes.")
    size = (
        _("1 GPU is chosen for you.")
        if gpu
        else _("CPU only is chosen for you: no GPU is free within your limits.")
    )
    return FirstSteps(
        image=image,
        steps=[
            {
                "title": _("Choose what to start from"),
                "text": f"{_('An image brings the framework, ready to use.')} {chosen}",
            },
            {"title": _("Choose the size"), "text": size},
            {
                "title": _("Open the terminal"),
                "text": _("Right here in the browser. What you keep in /workspace stays for good."),
            },
        ],
    )
