"""`manage.py show_container`: one container with its history."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from ds01portal.management.base import PortalCommand, find_user
from ds01portal.models import Event
from workspaces.management.describing import (
    container_line,
    describe_container,
    describe_operation,
    devices_of,
    latest_operation,
)
from workspaces.models import Container
from workspaces.services.containers import find_container

MOST_EVENTS = 200


class Command(PortalCommand):
    help = "Print a container: state, image, GPUs, what is under way, and its history."

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="whose: username, login on the host, or uid")
        parser.add_argument("name", help="name of the container")

    def act(self, options: dict[str, Any]) -> None:
        container = find_container(person=find_user(options["user"]), name=options["name"])
        events = Event.objects.filter(
            subject_kind="container", subject_id=str(container.pk)
        ).select_related("actor")
        history = list(events[:MOST_EVENTS])[::-1]
        if options["json"]:
            self.write_json(
                {
                    **describe_container(container),
                    "operation": describe_operation(latest_operation(container)),
                    "events": [event.as_dict() for event in history],
                }
            )
            return
        self._print(container, history)

    def _print(self, container: Container, history: list[Event]) -> None:
        self.say(container_line(container, devices_of([container])[container.pk]))
        self.say(f"  on the engine  {container.engine_name} {container.engine_id[:12]}")
        self.say(f"  image          {container.image_reference}")
        self.say(f"  workspace      {container.workspace_path or '-'}")
        for note in container.notes:
            self.say(f"  note           {note}")
        for event in history:
            who = event.actor.username if event.actor else "portal"
            when = timezone.localtime(event.created_at)
            self.say(f"  {when:%Y-%m-%d %H:%M:%S}  {event.verb} ({who}) {event.reason}".rstrip())
