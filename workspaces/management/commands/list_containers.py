"""`manage.py list_containers`: containers, whoever made them."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from ds01portal.management.base import PortalCommand, find_user
from workspaces.management.describing import (
    container_line,
    describe_container,
    describe_engine,
    devices_of,
)
from workspaces.models import Container


class Command(PortalCommand):
    help = "List containers: owner, name, state, image and GPUs, as they were last seen."
    json_help = "print the list as JSON"

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("--user", default="", help="only this person's")
        parser.add_argument("--all", action="store_true", help="removed ones too")

    def act(self, options: dict[str, Any]) -> None:
        rows = Container.objects.all() if options["all"] else Container.objects.live()
        if options["user"]:
            rows = rows.filter(owner=find_user(options["user"]))
        containers = list(rows.select_related("owner").order_by("owner__username", "name"))
        devices = devices_of(containers)
        engine = describe_engine()
        if options["json"]:
            found = [describe_container(row, devices[row.pk]) for row in containers]
            self.write_json({"engine": engine, "containers": found})
            return
        if not engine["reachable"]:
            since = engine["unreachable_since"]
            self.stderr.write(f"Docker Engine has not answered since {since}: states are older.")
        for container in containers:
            self.say(container_line(container, devices[container.pk]))
