"""`manage.py snapshot_container`: keep a container as an image, where an admin allows it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from ds01portal.management.base import find_user, read_timeout
from workspaces.management.verbs import ContainerCommand
from workspaces.services.containers import find_container
from workspaces.services.snapshots import WARNING, find_secrets, snapshot_container


class Command(ContainerCommand):
    help = "Keep a container as a new version of a custom image, whatever is in it."

    def add_options(self, parser: CommandParser) -> None:
        super().add_options(parser)
        parser.add_argument("image", help="name of the image; one that exists gets a new version")

    def act(self, options: dict[str, Any]) -> None:
        read_timeout(options)
        container = find_container(person=find_user(options["user"]), name=options["name"])
        operation = snapshot_container(container=container, name=options["image"], actor=None)
        self.stderr.write(WARNING)
        for name in find_secrets(container=container).names:
            self.stderr.write(f"  looks like a secret: {name}")
        self.finish(container, operation, options)
