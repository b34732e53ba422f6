"""`manage.py list_images`: the images that containers can start from."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from catalog.architectures import HostArchitecture, judge_image
from catalog.models import Image
from catalog.services.hosts import read_host_architecture
from ds01portal.management.base import PortalCommand


class Command(PortalCommand):
    help = "List images: catalogue and local, where they fit, whether they are on this machine."

    json_help = "print the list as JSON"

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("--all", action="store_true", help="retired and hidden ones too")

    def act(self, options: dict[str, Any]) -> None:
        images = Image.objects.in_order()
        if not options["all"]:
            images = images.launchable()
        host = read_host_architecture()
        rows = [describe(image, host) for image in images]
        if options["json"]:
            self.write_json({"host": host.message, "images": rows})
            return
        for row in rows:
            here = "here" if row["on_this_machine"] else "-"
            name = f"{row['framework']} {row['version']}"
            architectures = ";".join(row["architectures"])
            self.say(f"{name:<28}{architectures:<26}{here:<6}{row['image']}")


def describe(image: Image, host: HostArchitecture) -> dict[str, Any]:
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
    }
