"""`manage.py delete_image`: delete a custom image with all versions, or one version."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from catalog.management.recipes import add_target, read_number, size_words
from catalog.models import Image, Recipe
from catalog.services.image_care import Deletion, delete_image, delete_version, describe_deletion
from catalog.services.recipes import find_changeable_recipe, find_version
from ds01portal.exceptions import ImageInUse
from ds01portal.management.base import PortalCommand, find_user


class Command(PortalCommand):
    help = "Delete an image with all its versions, or one version; refused while it is used."

    def add_options(self, parser: CommandParser) -> None:
        add_target(parser, "NAME for all of it, NAME:N for one version")
        parser.add_argument(
            "--dry-run", action="store_true", help="only say what would go, and what forbids it"
        )

    def act(self, options: dict[str, Any]) -> None:
        person = find_user(options["user"])
        recipe = find_changeable_recipe(person=person, name=options["name"])
        image: Image | None = None
        # With `latest` one version is meant, never all of it.
        if read_number(options["name"]) is not None:
            image = find_version(person=person, reference=options["name"])
        if options["dry_run"]:
            number = image.number if image else None
            self._report(recipe, describe_deletion(recipe=recipe, number=number), options)
            return
        deletion = (
            delete_version(image=image, actor=None)
            if image
            else delete_image(recipe=recipe, actor=None)
        )
        self._print(deletion, options, f"{image or recipe} is deleted.")

    def _report(self, recipe: Recipe, deletion: Deletion, options: dict[str, Any]) -> None:
        if deletion.blockers:
            error = ImageInUse(
                f"{recipe.name} cannot be deleted: {' '.join(deletion.blockers)}",
                hint="Remove those containers first, or wait until it has ended.",
                containers=list(deletion.containers),
                image=recipe.name,
            )
            data = {"deletion": deletion.as_dict()}
            raise self.refuse(error, as_json=options["json"], data=data)
        self._print(deletion, options, "Nothing was deleted.")

    def _print(self, deletion: Deletion, options: dict[str, Any], last: str) -> None:
        if options["json"]:
            data = {"deletion": deletion.as_dict(), "dry_run": options["dry_run"], "error": None}
            self.write_json(data)
            return
        for image in deletion.versions:
            self.say(f"  {image.reference}")
        self.say(
            f"Versions: {len(deletion.versions)}, {size_words(deletion.own_bytes)} of their own."
        )
        if deletion.recipes:
            self.say(f"Built on it, and not buildable any more: {', '.join(deletion.recipes)}.")
        self.say(last)
