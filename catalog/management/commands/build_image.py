"""`manage.py build_image`: make or change a custom image, and build its next version."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from catalog.management.contents import add_content_options, is_anything_asked, read_content
from catalog.management.recipes import add_target, add_wait_options, finish_build
from catalog.models import Recipe
from catalog.services.builds import request_build
from catalog.services.recipe_checks import RecipeCheck, check_recipe
from catalog.services.recipe_lookups import find_own_recipe
from catalog.services.recipes import change_recipe, create_recipe
from ds01portal.management.base import PortalCommand, find_user, read_timeout
from ds01portal.models import Person


class Command(PortalCommand):
    help = (
        "Make an image for a person, or change the one of that name, and build its next version. "
        "What is named replaces that part of an existing recipe; the rest stays."
    )

    def add_options(self, parser: CommandParser) -> None:
        add_target(parser, "name of the image, such as thesis")
        add_content_options(parser)
        add = parser.add_argument
        add("--fresh", action="store_true", help="take no layer of earlier builds")
        add("--dry-run", action="store_true", help="print all findings, make nothing")
        add("--dockerfile", action="store_true", help="print the Dockerfile, make nothing")
        add_wait_options(parser)

    def act(self, options: dict[str, Any]) -> None:
        read_timeout(options)
        person = find_user(options["user"])
        name = options["name"]
        recipe = find_own_recipe(person=person, name=name)
        notes: list[str] = []
        content = read_content(person, options, recipe, notes)
        for note in notes:
            self.stderr.write(note)
        if options["dry_run"] or options["dockerfile"]:
            check = check_recipe(content=content, name=name, owner=person, recipe=recipe)
            self._report(check, options)
            return
        recipe = self._keep(person, recipe, content, options)
        fresh = options["fresh"] or bool(recipe.content.get("fresh"))
        finish_build(self, request_build(recipe=recipe, actor=None, fresh=fresh), options)

    def _keep(
        self,
        person: Person,
        recipe: Recipe | None,
        content: dict[str, Any],
        options: dict[str, Any],
    ) -> Recipe:
        if recipe is None:
            return create_recipe(owner=person, name=options["name"], content=content, actor=None)
        if is_anything_asked(options):
            return change_recipe(recipe=recipe, content=content, actor=None)
        return recipe

    def _report(self, check: RecipeCheck, options: dict[str, Any]) -> None:
        refusals = check.refusals
        data = check.as_dict()
        as_json, findings = options["json"], options["dry_run"]
        if not as_json and findings:
            for finding in check.findings:
                text = f"{finding.message} {finding.hint}".strip()
                self.say(f"{finding.level:<8} {finding.field:<13} {text}")
        if refusals:
            raise self.refuse(refusals[0], as_json=as_json, data=data)
        if as_json:
            self.write_json({**data, "error": None})
            return
        if options["dockerfile"]:
            self.stdout.write(check.dockerfile, ending="")
        if findings:
            self.say("The build would be accepted. Nothing was made.")
