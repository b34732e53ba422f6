"""`manage.py share_image`: who else may see, use and copy a custom image."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group
from django.core.management.base import CommandParser

from catalog.management.recipes import add_target, describe_recipe
from catalog.models import Recipe
from catalog.services.recipes import find_changeable_recipe, share_recipe
from ds01portal.management.base import PortalCommand, find_user

WORDS = {"nobody": Recipe.Sharing.PRIVATE, "everybody": Recipe.Sharing.EVERYBODY}


class Command(PortalCommand):
    help = "Let nobody, everybody or a group of the owner's see, use and copy an image."

    def add_options(self, parser: CommandParser) -> None:
        add_target(parser)
        parser.add_argument(
            "--with", required=True, metavar="WHOM", help="nobody, everybody, or a group's name"
        )

    def act(self, options: dict[str, Any]) -> None:
        recipe = find_changeable_recipe(person=find_user(options["user"]), name=options["name"])
        whom = options["with"]
        recipe = share_recipe(
            recipe=recipe,
            sharing=WORDS.get(whom, Recipe.Sharing.GROUP),
            group=None if whom in WORDS else Group.objects.filter(name=whom).first(),
            actor=None,
        )
        if options["json"]:
            self.write_json(describe_recipe(recipe))
            return
        group = f" {recipe.shared_group}" if recipe.shared_group else ""
        self.say(f"{recipe.owner.username}/{recipe.name}: {recipe.get_sharing_display()}{group}")
