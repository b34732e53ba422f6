"""`manage.py rebuild_image`: build the next version of a custom image, maybe on another base."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from catalog.management.recipes import add_target, add_wait_options, finish_build
from catalog.models import Recipe
from catalog.services.builds import request_build
from catalog.services.recipes import change_recipe, find_changeable_recipe, preview_change
from ds01portal.management.base import PortalCommand, find_user, read_timeout

NEWEST = "newest"


class Command(PortalCommand):
    help = (
        "Build an image again. Packages are fetched anew unless --cached says to take layers "
        "of earlier builds."
    )

    def add_options(self, parser: CommandParser) -> None:
        add_target(parser)
        add = parser.add_argument
        add(
            "--base-version",
            default="",
            metavar="V",
            help=f"version of the same base, or {NEWEST}; it stays so in the recipe",
        )
        either = parser.add_mutually_exclusive_group()
        either.add_argument("--fresh", action="store_true", help="fetch all anew (the default)")
        either.add_argument("--cached", action="store_true", help="take layers of earlier builds")
        add_wait_options(parser)

    def act(self, options: dict[str, Any]) -> None:
        read_timeout(options)
        person = find_user(options["user"])
        recipe = find_changeable_recipe(person=person, name=options["name"])
        if version := options["base_version"]:
            content = {**recipe.content, "base": other_base(recipe, version)}
            changes = preview_change(recipe=recipe, content=content)
            change_recipe(recipe=recipe, content=content, actor=None)
            if not options["json"]:
                for line in changes:
                    self.say(line)
        build = request_build(recipe=recipe, actor=None, fresh=not options["cached"])
        finish_build(self, build, options)


def other_base(recipe: Recipe, version: str) -> dict[str, str]:
    """Return the base in another version; whether there is one is looked at when it is kept."""
    base = dict(recipe.content["base"])
    newest = version == NEWEST
    if base["kind"] == "catalog":
        return {**base, "version": "" if newest else version}
    key = "image" if base["kind"] == "custom" else "reference"
    head, slash, last = base[key].partition("@")[0].rpartition("/")
    name = last.partition(":")[0]
    return {**base, key: f"{head}{slash}{name}" + ("" if newest else f":{version}")}
