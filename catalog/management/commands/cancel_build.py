"""`manage.py cancel_build`: cancel the build of a custom image that waits or runs."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from catalog.management.recipes import add_target, build_line, describe_build
from catalog.models import Build
from catalog.services.builds import cancel_build
from catalog.services.recipes import find_changeable_recipe
from ds01portal.management.base import PortalCommand, find_user


class Command(PortalCommand):
    help = "Cancel the build of an image; without one under way nothing happens."

    def add_options(self, parser: CommandParser) -> None:
        add_target(parser)

    def act(self, options: dict[str, Any]) -> None:
        recipe = find_changeable_recipe(person=find_user(options["user"]), name=options["name"])
        rows = Build.objects.live().filter(recipe=recipe)
        build = rows.select_related("recipe__owner", "image", "operation").first()
        asked = build is not None and cancel_build(build=build, actor=None)
        if options["json"]:
            data = describe_build(build) if build else None
            self.write_json({"cancelled": asked, "build": data})
            return
        if build is None or not asked:
            self.say(f"No build of {recipe.name} is under way.")
            return
        self.say(f"{build_line(build)}\n  It is being cancelled.")
