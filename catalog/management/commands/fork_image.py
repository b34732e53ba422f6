"""`manage.py fork_image`: copy somebody's recipe into one of a person's own."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from catalog.management.recipes import describe_recipe, read_number
from catalog.services.recipes import find_recipe, fork_recipe
from ds01portal.management.base import PortalCommand, find_user


class Command(PortalCommand):
    help = "Copy the recipe of an image that a person may see; build_image builds the copy."

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="whose the copy is: username, login on the host, or uid")
        parser.add_argument("source", help="OWNER/NAME, or OWNER/NAME:N for an older version")
        parser.add_argument("--name", default="", help="name of the copy (default: the same)")

    def act(self, options: dict[str, Any]) -> None:
        person = find_user(options["user"])
        source = find_recipe(person=person, name=options["source"])
        number = read_number(options["source"])
        recipe = fork_recipe(
            source=source,
            owner=person,
            actor=None,
            name=options["name"],
            number=number if isinstance(number, int) else None,
        )
        if options["json"]:
            self.write_json(describe_recipe(recipe))
            return
        self.say(
            f"{recipe.owner.username}/{recipe.name}: a copy of "
            f"{source.owner.username}/{source.name}, not built yet"
        )
