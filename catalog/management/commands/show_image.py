"""`manage.py show_image`: one custom image with its versions, builds and history."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from catalog.management.recipes import (
    add_target,
    build_line,
    describe_build,
    describe_recipe,
    size_words,
)
from catalog.models import Build, Recipe
from catalog.services.recipes import find_recipe, newer_bases
from ds01portal.management.base import PortalCommand, find_user
from ds01portal.models import Event, Person

MOST_BUILDS = 20
MOST_EVENTS = 200


class Command(PortalCommand):
    help = "Print a custom image: recipe, versions, who may use it; for its owner also builds."

    def add_options(self, parser: CommandParser) -> None:
        add_target(parser, "name of the image, or OWNER/NAME of one that is shared")

    def act(self, options: dict[str, Any]) -> None:
        person = find_user(options["user"])
        recipe = find_recipe(person=person, name=options["name"])
        data = describe_recipe(recipe)
        newer = newer_bases(recipe=recipe)
        builds = builds_of(recipe, person)
        events = events_of(recipe, person)
        if options["json"]:
            self.write_json(
                {
                    **data,
                    "newer_bases": [image.reference for image in newer],
                    "builds": [describe_build(build) for build in builds],
                    "events": [event.as_dict() for event in events],
                }
            )
            return
        self._print(recipe, data)
        if newer:
            self.say(f"  newer base     {newer[0].reference}")
        for build in builds:
            self.say(f"  build          {build_line(build)}")
        for event in events:
            who = event.actor.username if event.actor else "portal"
            when = timezone.localtime(event.created_at)
            self.say(f"  {when:%Y-%m-%d %H:%M:%S}  {event.verb} ({who}) {event.reason}".rstrip())

    def _print(self, recipe: Recipe, data: dict[str, Any]) -> None:
        group = f" {data['shared_group']}" if data["shared_group"] else ""
        self.say(f"{data['owner']}/{data['name']}  {data['description']}".rstrip())
        self.say(f"  on the engine  {data['repository']}")
        self.say(f"  shared with    {recipe.get_sharing_display()}{group}")
        if data["forked_from"]:
            self.say(f"  copied from    {data['forked_from']}")
        for version in data["versions"]:
            used = ", ".join(version["containers"])
            self.say(
                f"  version {version['version']:<7}{size_words(version['size_bytes'])}, own "
                f"{size_words(version['own_size_bytes'])}, on {version['base']}"
                + (f", used by {used}" if used else "")
                + ("" if version["on_this_machine"] else ", not on this machine")
            )


def builds_of(recipe: Recipe, person: Person) -> list[Build]:
    """Return the newest builds, if the person may see them."""
    rows = Build.objects.visible_to(person).filter(recipe=recipe)
    return list(rows.select_related("recipe__owner", "image")[:MOST_BUILDS])


def events_of(recipe: Recipe, person: Person) -> list[Event]:
    """Return the history, oldest first: the owner's and the admins' to read."""
    if recipe.owner != person and not person.is_staff:
        return []
    subject = recipe.subject
    rows = Event.objects.filter(
        subject_kind=subject["subject_kind"], subject_id=subject["subject_id"]
    )
    return list(rows.select_related("actor").order_by("-created_at", "-pk")[:MOST_EVENTS])[::-1]
