"""`manage.py list_images`: the images that containers can start from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandParser

from catalog.architectures import HostArchitecture, judge_image
from catalog.management.recipes import size_words, unbuilt_recipes
from catalog.models import Image
from catalog.services.hosts import read_host_architecture
from catalog.uses import find_users
from ds01portal.management.base import PortalCommand, find_user
from ds01portal.models import Person


class Command(PortalCommand):
    help = "List images: catalogue, custom and local, where they fit, whether they are here."

    json_help = "print the list as JSON"

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("--all", action="store_true", help="retired and hidden ones too")
        parser.add_argument(
            "--user", default="", help="only custom images: this person's, and those shared with it"
        )

    def act(self, options: dict[str, Any]) -> None:
        person = find_user(options["user"]) if options["user"] else None
        images = find_images(person, everything=options["all"])
        host = read_host_architecture()
        users = find_users([image.pk for image in images if image.is_custom])
        rows = [describe(image, host, users.get(image.pk, [])) for image in images]
        unbuilt = unbuilt_recipes(person) if person else []
        if options["json"]:
            data = {"host": host.message, "images": rows}
            names = [f"{recipe.owner.username}/{recipe.name}" for recipe in unbuilt]
            self.write_json({**data, "not_built": names} if person else data)
            return
        for row in rows:
            self.say(image_line(row))
        for recipe in unbuilt:
            self.say(f"{recipe.owner.username}/{recipe.name}: not built yet")


def find_images(person: Person | None, *, everything: bool) -> Sequence[Image]:
    """Return the images to list; of a person the versions that they may see."""
    images = Image.objects.in_order().select_related("owner", "recipe")
    if person is not None:
        images = images.custom().visible_to(person)
        if not everything:
            images = images.active()
        own_first = images.order_by("owner__username", "recipe__name", "-number")
        return sorted(own_first, key=lambda image: image.owner_id != person.pk)
    return list(images if everything else images.launchable())


def describe(image: Image, host: HostArchitecture, containers: Sequence[str]) -> dict[str, Any]:
    """Return the JSON form of an image."""
    judgement = judge_image(
        architectures=image.architecture_list, reference=image.reference, host=host
    )
    return {
        "id": image.pk,
        "kind": image.kind,
        "framework": image.framework,
        "version": image.version,
        "architectures": image.architecture_list,
        "image": image.reference,
        "on_this_machine": image.is_on_engine,
        "size_bytes": image.size_bytes,
        "retired": image.is_retired,
        "fit": str(judgement.fit),
        "fit_reason": judgement.reason,
        "owner": image.owner.username if image.owner else None,
        "name": image.recipe.name if image.recipe else None,
        "number": image.number,
        "base": image.base_reference or None,
        "own_size_bytes": image.own_bytes if image.is_custom else None,
        "containers": list(containers),
    }


def image_line(row: dict[str, Any]) -> str:
    """Return one line for people."""
    here = "here" if row["on_this_machine"] else "-"
    architectures = ";".join(row["architectures"])
    name = f"{row['framework']} {row['version']}"
    if row["number"] is not None:
        name = f"{row['owner']}/{row['name']}:{row['number']}"
    line = f"{name:<28}{architectures:<26}{here:<6}{row['image']}"
    if row["number"] is None:
        return line
    sizes = f"{size_words(row['size_bytes'])}, own {size_words(row['own_size_bytes'])}"
    used = f"  used by {', '.join(row['containers'])}" if row["containers"] else ""
    return f"{line}  {sizes}{used}"
