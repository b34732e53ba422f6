"""`manage.py show_installed`: what was installed in a running container on top of its image."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from ds01portal.exceptions import EngineError, IllegalTransition, PortalError
from ds01portal.management.base import PortalCommand, find_user
from workspaces.models import Container
from workspaces.services.containers import find_container
from workspaces.services.installed import Difference, find_installed


class Command(PortalCommand):
    help = "Print the pip and apt packages of a running container that its image has not."

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="whose: username, login on the host, or uid")
        parser.add_argument("name", help="name of the container")

    def act(self, options: dict[str, Any]) -> None:
        container = find_container(person=find_user(options["user"]), name=options["name"])
        found = find_installed(container=container)
        data = {"container": container.engine_name, "image": container.image_reference}
        if found.trouble:
            raise self.refuse(explain(container, found), as_json=options["json"], data=data)
        if options["json"]:
            self.write_json({**data, **found.as_dict()})
            return
        for change in found.changes:
            what = f"{change.before or '-'} -> {change.after or '-'}"
            note = "" if change.requested else "  (came with another)"
            self.say(f"{change.kind:<9}{change.manager:<5}{change.name:<32}{what}{note}")
        if not found.changes:
            self.say(f"{container.name} has the packages of {container.image_reference}.")


def explain(container: Container, found: Difference) -> PortalError:
    """Return the error that a trouble means; exit code 1 when the container is not running."""
    if found.trouble in ("stopped", "missing"):
        return IllegalTransition(
            f"{container.name} does not run, so nothing can be asked inside.",
            hint="Start it first.",
            state=container.state,
        )
    return EngineError(
        f"What is installed in {container.name} could not be read ({found.trouble}).",
        hint="Try again; tell an admin if it happens twice.",
    )
