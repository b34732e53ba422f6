"""`manage.py rename_image`: give a custom image another name."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from catalog.management.recipes import add_target, describe_recipe
from catalog.services.recipes import find_changeable_recipe, rename_recipe
from ds01portal.management.base import PortalCommand, find_user


class Command(PortalCommand):
    help = "Rename an image with all its versions; containers keep what they started from."

    def add_options(self, parser: CommandParser) -> None:
        add_target(parser)
        parser.add_argument("new_name", help="the name from now on")

    def act(self, options: dict[str, Any]) -> None:
        recipe = find_changeable_recipe(person=find_user(options["user"]), name=options["name"])
        recipe = rename_recipe(recipe=recipe, name=options["new_name"], actor=None)
        if options["json"]:
            self.write_json(describe_recipe(recipe))
            return
        self.say(f"{recipe.owner.username}/{recipe.name}: {recipe.repository} on the engine")
